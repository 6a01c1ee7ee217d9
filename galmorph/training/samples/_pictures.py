"""The pictures of labelled galaxies: picture files as they are, FITS cutouts as `galmorph classify` shows them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.classification.prepare import colour_picture, open_cutout
from galmorph.classification.reading.rows import Row
from galmorph.errors import CutoutError, SampleError, check_system
from galmorph.files.pictures import read_picture
from galmorph.files.reading import open_regular
from galmorph.images.flags import Flag
from galmorph.images.framing import Framing
from galmorph.images.headers import band_files
from galmorph.images.quality import signal_to_noise
from galmorph.images.radius import measure_r90
from galmorph.models.card import ModelCard, survey_inputs
from galmorph.training.samples import CHALLENGE, Sample, content_hash, galaxy_keys, own_keys, shared_galaxies

_FITS_MAGIC = (b"SIMPLE  =", b"\x1f\x8b", b"BZh")
# As in the Galaxy Zoo challenge on Kaggle.
FRAMING = Framing(radii=8.48)
SIDE_PX = 424
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff")
FITS_SUFFIXES = (".fits", ".fit", ".fts", *(f".fits.{packed}" for packed in ("gz", "bz2", "fz")), ".fit.gz")


def is_picture(path: Path) -> bool:
    """Return whether a file is a picture and no FITS file: by its suffix, else by its first bytes."""
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return True
    if path.name.lower().endswith(FITS_SUFFIXES) or "{band}" in path.name or not path.is_file():
        return False
    with path.open("rb") as stream:
        return not stream.read(9).startswith(_FITS_MAGIC)


def is_image(name: str) -> bool:
    """Return whether a file's name is that of a picture or of a FITS image."""
    return not name.startswith(".") and name.lower().endswith((*PICTURE_SUFFIXES, *FITS_SUFFIXES))


def picture_folder(
    path: Path,
    labels: Path,
    column: str,
    identifiers: Sequence[str],
    rows: Sequence[Row],
    fractions: NDArray[np.float32],
    framing: Framing,
) -> Sample:
    """Make the sample of a folder with one file a galaxy and a table of labels.

    Parameters
    ----------
    path, labels : Path
        The folder and its table of labels.
    column : str
        The table's column of identifiers, by which ``same_galaxies.csv`` knows them. In ``labels.csv`` a column
        ``GalaxyID`` holds the identifiers of the Galaxy Zoo challenge.
    identifiers : sequence of str, length n
    rows : sequence of Row, length n
        Pictures or FITS cutouts.
    fractions : ndarray, shape (n, n_labels)

    Raises
    ------
    SampleError
        If files are missing.
    """
    files = [Path(str(row.cutout)) for row in rows]
    missing = [file for file in files if "{band}" not in file.name and not file.is_file()]
    if missing:
        raise SampleError(f"{len(missing)} of {len(files)} pictures of {path} are missing, first {missing[0]}.")
    whole = hashlib.sha256(labels.read_bytes())
    contents = []
    for file in files:
        data = content(file)
        whole.update(data)
        contents.append(content_hash(data))
    name, shared = path.resolve().name, shared_galaxies(path, column)
    if labels.name == "labels.csv" and column == "GalaxyID":
        shared = {identifier: f"{CHALLENGE}:{identifier}" for identifier in identifiers} | shared
    return Sample(
        name=name,
        galaxies=galaxy_keys(name, identifiers, shared),
        fractions=fractions,
        image=partial(picture, rows),
        contents=np.array(contents, dtype=np.int64),
        sha256=whole.hexdigest(),
        framing=framing,
        twins=own_keys(name, shared),
        composed=not all(map(is_picture, files)),
    )


@dataclass(frozen=True)
class ReadRows:
    """Rows whose cutouts could be read.

    Attributes
    ----------
    rows : list of Row
    numbers : list of int
        Which they are of all rows.
    contents : ndarray of int64
        Hash of each cutout's bytes.
    skipped : tuple of str
        Why each of the others was left out.
    """

    rows: list[Row]
    numbers: list[int]
    contents: NDArray[np.int64]
    skipped: tuple[str, ...]

    def sample(
        self,
        name: str,
        galaxies: NDArray[np.object_],
        fractions: NDArray[np.float32],
        sha256: str,
        framing: Framing,
        **more: Any,
    ) -> Sample:
        """Return the sample of these rows; `galaxies` and `fractions` are those of all rows."""
        return Sample(
            name=name,
            galaxies=galaxies[self.numbers],
            fractions=fractions[self.numbers],
            image=partial(picture, self.rows),
            contents=self.contents,
            sha256=sha256,
            framing=framing,
            lenient=True,
            skipped=self.skipped,
            apparent=partial(apparent, self.rows),
            composed=self.composed,
            **more,
        )

    @property
    def composed(self) -> bool:
        """Whether some are FITS cutouts, not pictures."""
        return not all(is_picture(Path(str(row.cutout))) for row in self.rows)


def read_rows(
    rows: Iterable[Row],
    digest: Callable[[bytes], object],
    *,
    refused: Mapping[int, str] = MappingProxyType({}),
    with_radii: bool = False,
) -> ReadRows:
    """Read the cutouts of rows; those that cannot be read are left out.

    Parameters
    ----------
    rows : iterable of Row
    digest : callable
        Takes what the sample's hash is made of: the bytes of each cutout.
    refused : mapping of int to str
        Rows that are left out anyway, and why.
    with_radii : bool
        Whether the radii are in the hash too.
    """
    good: list[Row] = []
    numbers, contents, skipped = [], [], []
    for number, row in enumerate(rows):
        try:
            if not isinstance(row.cutout, Path) or number in refused:
                raise CutoutError(f"row {number + 1}: {refused.get(number) or row.cutout}")
            data = content(row.cutout)
        except (OSError, CutoutError) as error:
            check_system(error, f"row {number + 1}: {row.cutout}", "cutout")
            skipped.append(str(error))
            continue
        digest(data + repr(row.radius_arcsec).encode() if with_radii else data)
        good.append(row)
        numbers.append(number)
        contents.append(content_hash(data))
    return ReadRows(good, numbers, np.array(contents, dtype=np.int64), tuple(skipped))


def content(file: Path) -> bytes:
    """Return the bytes of a cutout, of all its bands where ``{band}`` stands for one file a band.

    CutoutError or OSError: there is none, or it is no regular file.
    """
    files = band_files(str(file)).values() if "{band}" in file.name else [file]
    return b"".join(_bytes(each) for each in files)


def _bytes(file: str | Path) -> bytes:
    with open_regular(file) as stream:
        return stream.readall()


def picture(rows: Sequence[Row], index: int) -> NDArray[np.uint8]:
    """Return a picture, uint8 (y, x, 3), north up; raise CutoutError or OSError if the file cannot be used."""
    path = Path(str(rows[index].cutout))
    return read_picture(path) if is_picture(path) else _composite(rows[index])


def _composite(row: Row) -> NDArray[np.uint8]:
    prepared = row.prepare(_card())
    if prepared.flux is None or prepared.flag & Flag.BLANK:
        raise CutoutError(f"{row.cutout}: {prepared.reason or 'there is no galaxy at its centre.'}")
    return np.ascontiguousarray((colour_picture(prepared) * 255).round().astype(np.uint8))


def apparent(rows: Sequence[Row], index: int) -> tuple[float, float]:
    """Return R90 in arcsec and the signal to noise; for a picture only the radius of the catalog."""
    path, radius = Path(str(rows[index].cutout)), rows[index].radius_arcsec
    if is_picture(path):
        return radius, math.nan
    opened = open_cutout(path, _card(), radius)
    radius = opened.radius_arcsec if math.isfinite(opened.radius_arcsec) else measure_r90(opened.cutout)
    if opened.entry is None:
        return radius, math.nan
    return radius, signal_to_noise(opened.cutout, opened.entry.normalization.bands, radius)


@cache
def _card() -> ModelCard:
    """Return the card that sets frame and colours of a sample's pictures; it has no network."""
    inputs = survey_inputs(SIDE_PX, FRAMING, (0.0,) * 3, (1.0,) * 3)
    return ModelCard("training sample", "", "", inputs)
