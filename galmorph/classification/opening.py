"""Opening: what the user named (a catalog, cutouts, survey images) and the source of targets that it is."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Any

from galmorph.classification.matching import cutouts_in, match
from galmorph.classification.options import ClassifyOptions
from galmorph.classification.sources import CatalogSource, CutoutRows, CutoutSource, Source, cutout_name
from galmorph.classification.survey_images import FieldSource
from galmorph.errors import CatalogError, CutoutError, GalmorphError
from galmorph.files.pictures import is_picture
from galmorph.files.remote import Remote, is_remote, local
from galmorph.images.cutout import FIELD_SIDE_PX, cutout_files
from galmorph.images.headers import band_files
from galmorph.images.survey_image import image_templates
from galmorph.tables.catalog import open_catalog
from galmorph.tables.contents import Contents, contents_of, format_of, holds_table, parquet_folder
from galmorph.tables.hats import is_hats

log = logging.getLogger(__name__)

KINDS = ("catalog", "cutout", "field")


def open_survey(survey: Any, options: ClassifyOptions) -> Source:
    """Open what the user named: a catalog, a folder of cutouts, one cutout, or survey images.

    Parameters
    ----------
    survey : path, table, data frame, list of paths, array or None
        None where the options name images.

    Raises
    ------
    GalmorphError
        If it is not clear what is meant, something is missing, or the catalog cannot be used.
    """
    kind = options.kind
    if kind is not None and kind not in KINDS:
        raise GalmorphError(f"--as {kind}: one of {', '.join(KINDS)}.")
    if not isinstance(survey, str | os.PathLike | None):
        of_files = (options.catalog, options.hdu, options.zero_point)
        if options.images or kind not in (None, "catalog") or any(x is not None for x in of_files):
            raise GalmorphError("What is in memory is no file: leave out what belongs to files and images.")
        from galmorph.classification.memory import memory_source  # it imports astropy.table

        given = memory_source(survey, options)
        return _with_pictures(given, options) if isinstance(given, CutoutRows) else given
    if options.radius_arcsec is not None:
        raise GalmorphError("radius_arcsec is that of an array of flux or a list of paths: name a size_column.")
    if options.bands or options.pixscale is not None:
        raise GalmorphError("bands and pixscale are those of an array of flux: files say them in their headers.")
    if any(is_remote(each) for each in (survey, options.catalog, *options.images)):
        return _open_remote(survey, options)
    if (survey is None) == (not options.images):
        raise GalmorphError("Name one of these: a catalog, a cutout, a folder, a survey image; or --images.")
    is_field = bool(options.images) or kind == "field"
    if survey is not None and kind is None and not Path(survey).is_dir():
        kind = kind_of(Path(survey), options.hdu, options.named_columns)
        is_field = kind == "field"
    if is_field:
        return _open_field(None if survey is None else str(survey), options)
    if options.catalog is not None:
        raise GalmorphError(
            "--catalog goes with survey images. A catalog of cutouts is given alone: galmorph classify "
            f"{options.catalog}; a small survey image needs --as field."
        )
    if options.zero_point is not None:
        raise GalmorphError("--zero-point is for survey images: give cutouts a card MAGZERO, or --as field.")
    source = open_source(
        Path(str(survey)),
        kind=kind,
        cutouts=options.cutouts,
        hdu=options.hdu,
        image_hdu=options.image_hdu,
        columns=options.catalog_columns,
    )
    return _with_pictures(source, options)


def _open_remote(survey: str | os.PathLike[str] | None, options: ClassifyOptions) -> Source:
    """Open what is named by addresses: folders as they are, files as copies in the cache."""
    catalog = options.catalog if options.catalog is None else local(options.catalog)
    options = replace(options, catalog=catalog, images=[local(path) for path in options.images])
    if survey is None or not is_remote(survey):
        return open_survey(survey, options)
    remote = Remote.of(survey)
    if remote.is_dir():
        return _with_pictures(CutoutSource(remote, _remote_cutouts(remote), options.image_hdu), options)
    if options.cutouts is None and options.kind != "field" and not is_picture(remote.name):
        options = replace(options, cutouts=remote.parent.url)
    copy = remote.kept()
    if kind_of(copy, options.hdu, options.named_columns) != "catalog":
        options = replace(options, cutouts=None)
    source = open_survey(copy, options)
    source.address = str(remote)
    return source


def _remote_cutouts(folder: Remote) -> Sequence[tuple[str, Path | Remote]]:
    cutouts = cutouts_in(folder)
    if not cutouts:
        raise CutoutError(f"There are no cutouts (FITS, JPEG or PNG) in {folder}.")
    return cutouts


def _with_pictures(source: CutoutRows, options: ClassifyOptions) -> CutoutRows:
    source.pictures = options.picture_width
    return source


def _open_field(survey: str | None, options: ClassifyOptions) -> FieldSource:
    if options.kind not in (None, "field") or options.cutouts is not None:
        raise GalmorphError("Survey images have no cutouts: leave out --cutouts and --as.")
    if str(options.picture_width):
        raise GalmorphError("--width-r90 and --width-arcsec are for pictures (JPEG, PNG), not for survey images.")
    if options.catalog is None and options.named_columns:
        raise GalmorphError("--size-column and other columns are those of a catalog: give one with --catalog.")
    images = image_templates([str(path) for path in options.images] or [str(survey)])
    hdu, image_hdu = _hdus(images, options)
    table = None
    if options.catalog is not None:
        table = open_catalog(options.catalog, hdu=hdu, needs_position=False, **options.catalog_columns)
    return FieldSource(images, table, image_hdu, options.zero_point)


def _hdus(images: Sequence[str], options: ClassifyOptions) -> tuple[int | None, int | str | None]:
    """Return the HDUs of the catalog and of the images: ``--hdu`` alone is of the one that has such an HDU.

    Raises
    ------
    CatalogError
        If both have one.
    """
    if options.catalog is None or options.hdu is None or options.image_hdu is not None:
        hdu = options.hdu if options.catalog is not None else None
        image_hdu = options.hdu if options.catalog is None and options.image_hdu is None else options.image_hdu
        return hdu, image_hdu
    of_catalog = of_images = False
    with suppress(CatalogError):
        open_catalog(options.catalog, hdu=options.hdu, needs_position=False)
        of_catalog = True
    with suppress(CatalogError, CutoutError):
        of_images = contents_of(_first_file(images[0]), options.hdu).kind == "image"
    if of_catalog and of_images:
        raise CatalogError(
            f"--hdu {options.hdu} is an HDU of the images and of {options.catalog}: give that of the images with "
            "--image-hdu, and that of the catalog with --hdu."
        )
    return (None, options.hdu) if of_images else (options.hdu, None)


def open_source(
    path: Path,
    *,
    kind: str | None = None,
    cutouts: str | Path | None = None,
    hdu: int | None = None,
    image_hdu: int | str | None = None,
    columns: Mapping[str, Any] | None = None,
) -> CutoutRows:
    """Open a catalog, a folder of cutouts, or one cutout; survey images are not opened here.

    Parameters
    ----------
    kind : {'catalog', 'cutout'}, optional
        What it is taken for; default: what its content is.
    cutouts : path, optional
        Folder of a catalog's cutouts.
    hdu : int, optional
        HDU of the table, or of the cutout where `image_hdu` is not given.
    image_hdu : int or str, optional
        HDU of the cutouts.
    columns : mapping, optional
        The options of columns of `galmorph.tables.catalog.open_catalog`.

    Raises
    ------
    GalmorphError
        If it is missing, is none of these, or has no cutouts.
    """
    hdu_of_cutout = hdu if image_hdu is None else image_hdu
    if path.is_dir():
        return CutoutSource(path, _folder_of_cutouts(path), hdu_of_cutout)
    columns = columns or {}
    kind = kind or kind_of(path, hdu, [name for key, name in columns.items() if key.endswith("_column") and name])
    if kind == "cutout":
        return CutoutSource(path, [(cutout_name(path), path)], hdu_of_cutout)
    catalog = open_catalog(path, hdu=hdu, needs_position=False, **columns)
    return CatalogSource(*match(catalog, cutouts, path.parent), image_hdu)


def _folder_of_cutouts(folder: Path) -> list[tuple[str, Path]]:
    """Return the cutouts of a folder without the tables that lie among them.

    Raises
    ------
    GalmorphError
        If there are none.
    """
    if is_hats(folder):
        raise CatalogError(
            f"{folder} is a HATS catalog: classify it with galmorph.classify_hats, or "
            f"galmorph classify {quote(str(folder))}"
        )
    cutouts = [(name, Path(file)) for name, file in cutout_files(folder)]
    tables = [file for _, file in cutouts if "{band}" not in file.name and not is_picture(file) and holds_table(file)]
    for table in tables:
        log.info("%s is a table, not a cutout, and left out. Its rows: galmorph classify %s", table, table)
    files = [(name, file) for name, file in cutouts if file not in set(tables)]
    if files:
        return files
    if joined := parquet_folder(folder):
        raise CatalogError(joined)
    tables = tables or [file for file in sorted(folder.iterdir()) if format_of(file) and file.is_file()]
    if tables:
        raise CutoutError(
            f"There are no FITS cutouts in {folder}, but a table: galmorph classify {quote(str(tables[0]))}"
        )
    raise CutoutError(
        f"There are no cutouts (FITS, JPEG or PNG) in {folder}: galmorph fetch --catalog TABLE --out "
        f"{quote(str(folder))} gets them."
    )


def kind_of(path: Path, hdu: int | None = None, named_columns: Sequence[str] = ()) -> str:
    """Return which of `KINDS` a file is by its content; a survey image is an image that is too large for a cutout.

    Parameters
    ----------
    path : Path
        A file; ``{band}`` in it stands for one file a band.
    hdu, named_columns
        What the user named.

    Raises
    ------
    CatalogError
        If it is none of these, or two readings are possible.
    """
    if is_picture(path):
        return "cutout"
    try:
        contents: Contents = contents_of(_first_file(str(path)), hdu, named=named_columns)
    except CutoutError:  # the reader of cutouts says which file is missing
        return "cutout"
    if contents.kind == "table":
        return "catalog"
    return "field" if contents.side_px > FIELD_SIDE_PX else "cutout"


def _first_file(path: str) -> Path:
    return Path(next(iter(band_files(path).values()))) if "{band}" in path else Path(path)
