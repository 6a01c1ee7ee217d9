"""Opening: what the user named (a catalog, cutouts, survey images) and the source of targets that it is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from galmorph import registry
from galmorph.classification.memory import memory_source
from galmorph.classification.sources import CatalogSource, CutoutRows, CutoutSource, Source, cutout_folder
from galmorph.classification.survey_images import FieldSource
from galmorph.errors import CatalogError, CutoutError, GalmorphError
from galmorph.images.cutout import FIELD_SIDE_PX, cutout_files
from galmorph.images.fits_file import quiet
from galmorph.images.headers import band_files
from galmorph.images.survey_image import ZeroPoint, image_templates
from galmorph.tables.catalog import open_catalog
from galmorph.tables.hats import is_hats

if TYPE_CHECKING:
    from astropy.table import Table

KINDS = ("catalog", "cutout", "field")
_COMPRESSED = (b"\x1f\x8b", b"BZh")  # how files that gzip and bzip2 wrote begin


def open_survey(
    survey: str | Path | Table | None,
    images: Sequence[str | Path] = (),
    *,
    kind: str | None = None,
    cutouts: str | Path | None = None,
    catalog: str | Path | None = None,
    hdu: int | None = None,
    size_column: str | None = None,
    zero_point: ZeroPoint = None,
) -> Source:
    """Open what the user named: survey images, or what `open_source` opens.

    Parameters
    ----------
    survey : path, astropy Table or None
    images : sequence of path
        Survey images, in the place of `survey`; ``{band}`` stands for one file a band.
    kind, cutouts, catalog, hdu, size_column, zero_point
        As for `galmorph.classify`.

    Raises
    ------
    GalmorphError
        If it is not clear what is meant, something is missing, or the catalog cannot be used.
    """
    if kind is not None and kind not in KINDS:
        raise GalmorphError(f"--as {kind}: one of {', '.join(KINDS)}.")
    if not isinstance(survey, str | os.PathLike | None):
        if images or kind not in (None, "catalog") or any(x is not None for x in (catalog, hdu, zero_point)):
            raise GalmorphError("A table in memory is a catalog: leave out what belongs to files and images.")
        return memory_source(survey, cutouts, size_column)
    if (survey is None) == (not images):
        raise GalmorphError("Name one of these: a catalog, a cutout, a folder, a survey image; or --images.")
    is_field = bool(images) or kind == "field"
    if survey is not None and kind is None and not Path(survey).is_dir():
        is_field = kind_of(Path(survey)) == "field"
    if not is_field:
        if catalog is not None:
            raise GalmorphError(
                f"--catalog goes with survey images. A catalog of cutouts is given alone: galmorph classify {catalog}; "
                "a small survey image needs --as field."
            )
        if zero_point is not None:
            raise GalmorphError("--zero-point is for survey images: give cutouts a card MAGZERO, or --as field.")
        return open_source(Path(str(survey)), kind=kind, cutouts=cutouts, hdu=hdu, size_column=size_column)
    if kind not in (None, "field") or cutouts is not None:
        raise GalmorphError("Survey images have no cutouts: leave out --cutouts and --as.")
    if catalog is None and size_column is not None:
        raise GalmorphError("--size-column is for a catalog: give one with --catalog.")
    table = open_catalog(catalog, size_column=size_column) if catalog is not None else None
    return FieldSource(image_templates([str(path) for path in images] or [str(survey)]), table, hdu, zero_point)


def open_source(
    path: Path,
    *,
    kind: str | None = None,
    cutouts: str | Path | None = None,
    hdu: int | None = None,
    size_column: str | None = None,
) -> CutoutRows:
    """Open what the user named: a catalog, a folder of cutouts, or one cutout; survey images are not opened here.

    Raises
    ------
    GalmorphError
        If it is missing, is none of these, or has no cutouts.
    """
    if path.is_dir():
        if is_hats(path):
            raise CatalogError(
                f"{path} is a HATS catalog: classify it with galmorph.classify_hats, or galmorph classify {path}."
            )
        files = [(name, Path(file)) for name, file in cutout_files(path)]
        if not files:
            raise CutoutError(
                f"There are no FITS cutouts in {path}: galmorph fetch --catalog TABLE --out {path} gets them."
            )
        return CutoutSource(path, files, hdu)
    if "{band}" not in path.name and not path.exists():
        raise CatalogError(registry.missing_file(path))
    kind = kind or kind_of(path)
    if kind == "cutout":
        return CutoutSource(path, [(path.name.split(".fit")[0], path)], hdu)
    catalog = open_catalog(path, hdu=hdu, size_column=size_column)
    folder = cutout_folder(catalog, cutouts, path.parent)
    return CatalogSource(catalog, folder, by_id=catalog.cutout_column is None)


def kind_of(path: Path) -> str:
    """Tell a FITS image from a catalog by the first HDU with data, and a survey image from a cutout by its size.

    Parameters
    ----------
    path : Path
        A file; ``{band}`` in it stands for one file a band.

    Returns
    -------
    str
        One of `KINDS`.
    """
    if "{band}" in str(path):
        try:
            path = Path(next(iter(band_files(str(path)).values())))
        except CutoutError:  # the reader of cutouts says what is missing
            return "cutout"
    if not path.is_file():
        return "catalog"
    with path.open("rb") as stream:
        if not stream.read(9).startswith((b"SIMPLE  =", *_COMPRESSED)):
            return "catalog"
    from astropy.io import fits

    try:
        with quiet(), fits.open(path, memmap=True, lazy_load_hdus=True) as hdus:
            for hdu in hdus:
                if hdu.is_image and hdu.shape:
                    return "field" if max(hdu.shape[-2:]) > FIELD_SIDE_PX else "cutout"
                if not hdu.is_image:
                    return "catalog"
    except Exception:  # astropy raises almost anything for a damaged file; the reader of cutouts says what is wrong
        return "catalog" if path.suffix in (".csv", ".ecsv", ".vot", ".xml") else "cutout"
    return "cutout"
