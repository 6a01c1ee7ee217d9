"""Labelled samples by the layout they are published in: one file each, which defines ``SAMPLE``."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import SampleError
from galmorph.images.framing import Framing
from galmorph.images.wcs import near_pairs
from galmorph.schemas import LabelSchema
from galmorph.training.bounds import propagate

T = TypeVar("T")

# Galaxies of the Galaxy Zoo challenge have one key, that of this sample, in whichever sample they are.
CHALLENGE = "galaxyzoo_kaggle"
# Tables beside a sample that name the galaxies that it has in common with another one.
_TWINS = ("same_galaxies.csv", "twins_in_challenge.csv")
# Columns of the number of people who answered the first question, as Galaxy Zoo 2 and Galaxy Zoo DECaLS name it.
TOTAL_VOTES = ("total_votes", "smooth-or-featured_total-votes")


@dataclass(frozen=True)
class Sample:
    """Labelled galaxies: pictures and labels.

    Attributes
    ----------
    name : str
        Name of the folder or file.
    galaxies : ndarray of str, shape (n,)
        Key of each galaxy; pictures of the same galaxy share a key, and a split keeps them together.
    fractions : ndarray, float32, shape (n, n_labels)
        Fractions in cumulative form (one-hot for classes); NaN where unknown.
    image : callable
        ``image(i)`` returns picture i, uint8 (y, x, 3), RGB; any side may be up.
    contents : ndarray, int64, shape (n,)
        Hash of each picture's bytes, which identifies the same picture in another sample.
    sha256 : str
        Hash of labels and pictures.
    framing : Framing
        Width of the pictures on the sky.
    votes : ndarray, float32, shape (n,), optional
        Number of people who answered the first question; NaN where unknown.
    lenient : bool
        Whether pictures that cannot be read are left out, rather than an error.
    skipped : tuple of str
        The reason for each row that was left out already.
    apparent : callable, optional
        ``apparent(i)`` returns R90 in arcsec and the signal to noise of galaxy i, NaN where unknown.
    lower, upper : ndarray, float32, shape (n, n_labels), optional
        Bounds on fractions without an exact label; NaN where there is none.
    twins : mapping
        For galaxies with a twin in another sample: the key that they would have alone, to the key that they have.
    labelled : bool
        Whether the labels are used; if not, all are NaN.
    composed : bool
        Whether pictures are made of FITS cutouts, which are framed by the galaxies' radii.
    one_class : bool
        Whether it is the folder of one class, which is scored together with the folders of the others.
    parts : ndarray of str, shape (n,), optional
        The part of the split (``train``, ``val``, ``test``) that each galaxy is given to.
    """

    name: str
    galaxies: NDArray[np.object_]
    fractions: NDArray[np.float32]
    image: Callable[[int], NDArray[np.uint8]]
    contents: NDArray[np.int64]
    sha256: str
    framing: Framing
    votes: NDArray[np.float32] | None = None
    lenient: bool = False
    skipped: tuple[str, ...] = ()
    apparent: Callable[[int], tuple[float, float]] | None = None
    lower: NDArray[np.float32] | None = None
    upper: NDArray[np.float32] | None = None
    twins: Mapping[str, str] = field(default_factory=dict)
    labelled: bool = True
    composed: bool = False
    one_class: bool = False
    parts: NDArray[np.object_] | None = None

    def __len__(self) -> int:
        return len(self.galaxies)

    def take(self, rows: NDArray[np.int64]) -> Sample:
        """Return the sample of some rows, in their order."""
        each = ("galaxies", "fractions", "contents", "votes", "lower", "upper", "parts")
        arrays = {name: values[rows] for name in each if (values := getattr(self, name)) is not None}
        apparent = None if self.apparent is None else _of_rows(self.apparent, rows)
        return dataclasses.replace(self, **arrays, image=_of_rows(self.image, rows), apparent=apparent)


def _of_rows(function: Callable[[int], T], rows: NDArray[np.int64]) -> Callable[[int], T]:
    return lambda index: function(int(rows[index]))


@dataclass(frozen=True)
class Layout:
    """A kind of sample, by its files on disk.

    Attributes
    ----------
    name, description : str
        What users see.
    matches : callable
        ``matches(path) -> bool``: is it this layout? Looks at names only.
    read : callable
        ``read(path, schema, **options) -> Sample``; raises SampleError.
    before : tuple of str
        Names of more general layouts, over which this one is preferred.
    labels_of : callable, optional
        ``labels_of(path, **options)`` returns the kind of its labels, if the user names no schema: the name of a schema
        of galmorph, or the classes that occur; raises SampleError.
    options : tuple of str
        Names of the options that ``read`` and ``labels_of`` take.
    """

    name: str
    description: str
    matches: Callable[[Path], bool]
    read: Callable[..., Sample]
    before: tuple[str, ...] = ()
    labels_of: Callable[..., str | tuple[str, ...]] | None = None
    options: tuple[str, ...] = ()


def content_hash(data: bytes) -> int:
    """Return a 64-bit hash of a picture's bytes."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big", signed=True)


def shared_galaxies(folder: Path, column: str) -> dict[str, str]:
    """Return the galaxies that are in another sample too, as a table beside the sample lists them.

    Parameters
    ----------
    folder : Path
        Folder that may hold ``same_galaxies.csv`` or ``twins_in_challenge.csv``, with ``column`` and one column
        ``<sample>_<column of that sample>``; the sample ``challenge`` is the Galaxy Zoo challenge.

    Returns
    -------
    dict
        This sample's identifier to ``<sample>:<identifier there>``; the first table has priority.
    """
    import pandas as pd

    shared: dict[str, str] = {}
    for name in _TWINS:
        if (folder / name).exists():
            table = pd.read_csv(folder / name, dtype=str)
            if column not in table.columns or len(table.columns) < 2:
                raise SampleError(f"{folder / name} needs a column {column!r} and one of another sample's identifiers.")
            other = next(name for name in table.columns if name != column)
            keys = sample_of(other) + ":" + table[other]
            shared = {**dict(zip(table[column], keys, strict=True)), **shared}
    return shared


def sample_of(column: str) -> str:
    """Return the sample whose identifiers a column holds: ``<sample>_<its column>``, or the challenge's GalaxyID."""
    sample = column.rpartition("_")[0]
    return sample if sample not in ("", "challenge") else CHALLENGE


def galaxy_keys(name: str, identifiers: Iterable[str], shared: Mapping[str, str]) -> NDArray[np.object_]:
    """Return the key of each galaxy: ``<sample>:<identifier>``, or the key that it has in another sample."""
    return np.array([shared.get(i, f"{name}:{i}") for i in identifiers], dtype=object)


def own_keys(name: str, shared: Mapping[str, str]) -> dict[str, str]:
    """Return ``<sample>:<identifier>`` of each galaxy that is in another sample too, to the key that it has there."""
    return {f"{name}:{identifier}": key for identifier, key in shared.items()}


def sky_groups(ra: NDArray[np.floating], dec: NDArray[np.floating], radius_arcsec: float) -> NDArray[np.int64]:
    """Return for each position the first one of its group; positions closer than a radius belong to one group.

    Parameters
    ----------
    ra, dec : ndarray, shape (n,)
        ICRS degrees; a position that is not finite is a group of its own.

    Returns
    -------
    ndarray of int64, shape (n,)
        Row numbers.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    pairs = rows[near_pairs(ra[rows], dec[rows], radius_arcsec)]
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(ra), len(ra)))
    _, first, group = np.unique(connected_components(links)[1], return_index=True, return_inverse=True)
    return first[group]


def with_bounds(sample: Sample, schema: LabelSchema, lower: NDArray[np.float32] | None) -> Sample:
    """Return a sample with minimum fractions, shape (n, n_labels), and the bounds that follow; itself without any."""
    if lower is None:
        return sample
    low, high = propagate(schema, lower, np.full_like(lower, np.nan))
    return dataclasses.replace(sample, lower=low, upper=high)
