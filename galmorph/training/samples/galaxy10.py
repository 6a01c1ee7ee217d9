"""The HDF5 files of Galaxy10: ``images`` (n, y, x, 3) uint8 and ``ans`` (n,), and for DECaLS ``ra``, ``dec``.

Those of DECaLS have a fixed angular size. Those of SDSS are the middle 207 of the 424 px of Galaxy Zoo's pictures,
which are framed by the galaxy's radius, in 69 px (measured on galaxies of both samples: they correlate at 0.997, and
less for any other width). With positions, rows whose pictures may show the same sky share a key, so that a split keeps
them together: 59 pairs of Galaxy10 DECaLS are one galaxy with two labels, and more lie within a picture's
width of each other.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from galmorph.errors import SampleError
from galmorph.images.framing import Framing
from galmorph.schemas import LabelSchema
from galmorph.training.samples import Layout, Sample, content_hash, galaxy_keys, own_keys, shared_galaxies, sky_groups

# The pictures of SDSS give no pixel scale. A pixel of Galaxy Zoo's pictures is 0.02 radii (R90).
SDSS_FRAMING = Framing(radii=207 * 0.02)
# Two pictures of Galaxy10 DECaLS (256 px of 0.262 arcsec) overlap within the diagonal of one.
SAME_SKY_ARCSEC = 95.0
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def _matches(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(8) == _HDF5_MAGIC


def read(path: Path, schema: LabelSchema) -> Sample:
    """Read a Galaxy10 file.

    Raises
    ------
    SampleError
        If a data set is missing or the classes do not fit the schema.
    """
    import h5py

    try:
        with h5py.File(path) as file:
            images, classes = file["images"][:], file["ans"][:].astype(int)
            pixscale = float(np.median(file["pxscale"])) if "pxscale" in file else None
            positions = (file["ra"][:], file["dec"][:]) if "ra" in file and "dec" in file else None
    except (OSError, KeyError) as error:
        raise SampleError(f"{path} is not a Galaxy10 file with data sets 'images' and 'ans': {error}") from error
    n_labels = len(schema.labels)
    if schema.learns and (not schema.is_classes or classes.min(initial=0) < 0 or classes.max(initial=0) >= n_labels):
        raise SampleError(f"{path}: its classes do not fit the schema {schema.name!r} ({n_labels} labels).")
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or len(images) != len(classes):
        raise SampleError(f"{path}: 'images' is {images.dtype} {images.shape}, expected uint8 (n, y, x, 3).")
    if positions is None:
        identifiers = [str(row) for row in range(len(classes))]
    else:
        ra, dec = (axis[sky_groups(*positions, SAME_SKY_ARCSEC)] for axis in positions)
        identifiers = [f"{x:.5f}{y:+.5f}" for x, y in zip(ra, dec, strict=True)]
    shared = shared_galaxies(path.parent, "row")
    unlabelled = np.full((len(classes), n_labels), np.nan, np.float32)
    return Sample(
        name=path.stem,
        galaxies=galaxy_keys(path.stem, identifiers, shared),
        fractions=np.eye(n_labels, dtype=np.float32)[classes] if schema.learns else unlabelled,
        image=images.__getitem__,
        contents=np.array([content_hash(image.tobytes()) for image in images], dtype=np.int64),
        sha256=hashlib.sha256(images.tobytes() + classes.tobytes()).hexdigest(),
        framing=Framing(size_arcsec=images.shape[1] * pixscale) if pixscale else SDSS_FRAMING,
        twins=own_keys(path.stem, shared),
    )


def labels_of(path: Path, **_: str) -> str:
    """Return the schema of a file: DECaLS has positions, SDSS has none."""
    import h5py

    with h5py.File(path) as file:
        return "galaxy10_decals" if "ra" in file else "galaxy10_sdss"


SAMPLE = Layout(
    name="galaxy10",
    description="Galaxy10 HDF5 file with the data sets images and ans",
    matches=_matches,
    read=read,
    labels_of=labels_of,
)
