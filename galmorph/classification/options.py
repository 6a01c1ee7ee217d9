"""The options of a classification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from galmorph.errors import GalmorphError
from galmorph.images.picture import PictureWidth
from galmorph.images.survey_image import ZeroPoint, zero_points
from galmorph.ranges import (
    BATCH,
    HDU,
    OPTION,
    ORIENTATIONS,
    PIXSCALE,
    WIDTH_ARCSEC,
    WIDTH_R90,
    WORKERS,
    bounded,
    check_fields,
)


@dataclass(frozen=True, kw_only=True)
class ClassifyOptions:
    """What to classify, how, and which columns to write.

    Attributes
    ----------
    kind : str, optional
        ``catalog``, ``cutout`` or ``field`` forces what the input is taken for.
    cutouts : path, optional
        Folder that the cutout paths are relative to, and may not leave; default: the catalog's folder, for a Table the
        current one. Without a ``cutout`` column the files are ``<id>.fits`` there.
    catalog : path, optional
        Targets in the survey images; without it galaxies are detected.
    images : path or sequence of paths
        Survey images, instead of the survey; ``{band}`` stands for one file a band.
    hdu : int, optional
        HDU of the catalog's table (of a VOTable the TABLE, from 0); of the cutout's or survey image, where there is no
        catalog and no ``image_hdu``.
    image_hdu : int or str, optional
        HDU (number or EXTNAME) of the cutouts or survey images.
    id_column, ra_column, dec_column, cutout_column : str, optional
        The catalog's columns of identifiers, positions and paths of cutouts; default: by UCD, else by the usual names.
    size_column : str, optional
        The catalog's column of radii (R90), arcsec unless it has a unit.
    frame : str, optional
        Frame of the positions, by astropy's name; default: as the file says, else ICRS.
    zero_point : float, str or mapping, optional
        AB magnitude of a pixel value of 1 in survey images, for all bands or by band (``g=25.1,r=24.9``).
    width_r90, width_arcsec : float, optional
        How wide cutouts that are pictures (JPEG, PNG) are, in radii (R90) of the galaxy or in arcsec; default: the
        whole picture is the galaxy's frame.
    bands : sequence of str, optional
        Of an array of flux: the bands of its planes (``"grz"``), in their order.
    pixscale : float, optional
        Of an array of flux: arcsec per pixel, that the flux is per too.
    radius_arcsec : float or sequence of float, optional
        Of an array of flux or a list of paths: R90 of each galaxy, NaN where unknown; default: measured.
    prefix : str
        Prefix of the new columns' names.
    replace : bool
        Whether columns of an earlier run are replaced.
    spread : bool
        Whether ``p_<label>_err`` is written too: how far vote fractions scatter around the expected ones.
    shares : bool
        Whether ``share_<label>`` is written too: of a decision tree, an answer's share among those who would be asked.
    columns : str or sequence of str
        The new columns to write, without the prefix, ``*`` for any text (``morph_*``); default: all.
    features : path, optional
        A file for the features that enter the network's last layer, in the order of the rows: ``.parquet``, ``.fits``
        or ``.npy``.
    tta : int
        Orientations averaged, 1 to 8.
    batch_size : int, optional
        Galaxies in a batch; default 16 on the CPU, 256 on a GPU.
    device : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:1``; several (``cuda:0,cuda:1``) take batches in turn.
    dtype : str
        ``auto``, ``float32`` or ``bfloat16``.
    workers : int, optional
        Threads that take batches through; default one a core. For a GPU of a machine with 8 cores or more each reads
        cutouts by a process of its own.

    Raises
    ------
    GalmorphError
        If a number is out of its range.
    """

    kind: str | None = None
    cutouts: str | Path | None = None
    catalog: str | Path | None = None
    images: Sequence[str | Path] = ()
    hdu: int | None = bounded(HDU, None)
    image_hdu: int | str | None = None
    id_column: str | None = None
    ra_column: str | None = None
    dec_column: str | None = None
    cutout_column: str | None = None
    size_column: str | None = None
    frame: str | None = None
    zero_point: ZeroPoint = None
    width_r90: float | None = bounded(WIDTH_R90, None)
    width_arcsec: float | None = bounded(WIDTH_ARCSEC, None)
    bands: Sequence[str] = ()
    pixscale: float | None = bounded(PIXSCALE, None)
    radius_arcsec: float | Sequence[float] | None = None
    prefix: str = ""
    replace: bool = False
    spread: bool = False
    shares: bool = False
    columns: Sequence[str] = ()
    features: str | Path | None = None
    tta: int = bounded(ORIENTATIONS, 1)
    batch_size: int | None = bounded(BATCH, None)
    device: str = "auto"
    dtype: str = "auto"
    workers: int | None = bounded(WORKERS, None)

    @property
    def catalog_columns(self) -> dict[str, Any]:
        """The columns and the frame of the catalog, as `galmorph.tables.catalog.open_catalog` takes them."""
        names = ("id_column", "ra_column", "dec_column", "cutout_column", "size_column", "frame")
        return {name: getattr(self, name) for name in names}

    @property
    def named_columns(self) -> list[str]:
        """The columns that the user named."""
        return [value for name, value in self.catalog_columns.items() if name != "frame" and value]

    @property
    def picture_width(self) -> PictureWidth:
        """How wide cutouts that are pictures are."""
        given = {"r90": self.width_r90, "arcsec": self.width_arcsec}
        return PictureWidth(**{name: value for name, value in given.items() if value is not None})

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_hdu", _hdu(self.image_hdu))
        zero_points(self.zero_point)
        for name, kind in (("frame", str | None), ("device", str), ("dtype", str), ("prefix", str)):
            if not isinstance(value := getattr(self, name), kind):
                raise GalmorphError(f"{OPTION.format(name)}{str(value)[:40]}: a text.")
        if isinstance(self.columns, str):
            object.__setattr__(self, "columns", [name for name in self.columns.split(",") if name])
        if isinstance(self.images, str | Path):
            object.__setattr__(self, "images", [self.images])
        if self.width_r90 is not None and self.width_arcsec is not None:
            raise GalmorphError("--width-r90 and --width-arcsec both say how wide the pictures are: give one.")
        check_fields(self, OPTION)


def _hdu(given: int | str | None) -> int | str | None:
    """Return an HDU as a number where it is one, else as the name that it is."""
    if isinstance(given, str):
        try:
            number = float(given)
        except ValueError:
            return given
        HDU.check("--image-hdu ", int(number) if number.is_integer() else number)
        return int(number)
    HDU.check("--image-hdu ", given)
    return given
