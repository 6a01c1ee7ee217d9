"""Decoding: a sample's pictures as one memory-mapped array of equal squares, made once and kept in a cache."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.environment import cache_folder
from galmorph.errors import CutoutError, OutputError, SampleError, check_system
from galmorph.files.checked_json import read_json_file
from galmorph.files.writing import Output, write_errors
from galmorph.training.samples import Sample

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pictures:
    """Pictures of several samples as one array, without copying them.

    Attributes
    ----------
    samples : tuple of (ndarray, ndarray)
        For each sample its pictures, uint8 (n, 3, side, side), memory-mapped, and the rows that are used.
    """

    samples: tuple[tuple[NDArray[np.uint8], NDArray[np.int64]], ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of all pictures together."""
        return (sum(len(rows) for _, rows in self.samples), *self.samples[0][0].shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.uint8]:
        """Return all pictures, copied."""
        return self[np.arange(self.shape[0])]

    def __getitem__(self, rows: NDArray[np.int64] | int) -> NDArray[np.uint8]:
        """Return the pictures of some rows, or the picture of one, copied."""
        if not isinstance(rows, np.ndarray):
            return self[np.array([rows])][0]
        pictures = np.empty((len(rows), *self.shape[1:]), np.uint8)
        first = 0
        for images, used in self.samples:
            here = np.flatnonzero((rows >= first) & (rows < first + len(used)))
            pictures[here] = images[used[rows[here] - first]]
            first += len(used)
        return pictures


def decode(sample: Sample, side: int, width: float = 0.0) -> NDArray[np.uint8]:
    """Return a sample's pictures, uint8 (n, 3, side, side), memory-mapped; decoded once and kept in the cache.

    Pictures of a lenient sample that cannot be decoded are left out; their rows and the reasons are kept in a file.

    Parameters
    ----------
    side : int
        Side of a square in pixels.
    width : float
        Width in radii, for pictures that are framed by size: wider ones are cropped, narrower ones are mirrored at
        their edges; 0: the whole picture.

    Raises
    ------
    SampleError
        If a picture cannot be decoded; of a lenient sample, if no picture can.
    OutputError
        If the cache cannot be written.
    """
    path = _cached(sample, side, width)
    if not path.exists():
        log.info("Reading %d pictures of %s, once: they are kept in %s.", len(sample), sample.name, path.parent)
        try:
            with write_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
            with Output(path) as output:
                unreadable = _decode(sample, side, _share(sample, width), output)
                output.beside(_reasons(path), json.dumps(unreadable).encode())
        except OutputError as error:
            raise OutputError(f"{error} Choose another folder for the cache with GALMORPH_CACHE.") from error
    return np.load(path, mmap_mode="r")


def _share(sample: Sample, width: float) -> float:
    """Return the wanted width as a share of the width of the pictures."""
    return width / sample.framing.radii if width and sample.framing.radii else 1.0


def _cached(sample: Sample, side: int, width: float) -> Path:
    share = _share(sample, width)
    suffix = "" if share == 1 else f"-{share:.4f}"
    return cache_folder() / f"{sample.name}-{sample.sha256[:16]}-{side}{suffix}.npy"


def _reasons(path: Path) -> Path:
    return path.with_suffix(".unreadable.json")


def _decode(sample: Sample, side: int, share: float, output: Output) -> dict[int, str]:
    """Write the decoded pictures; return the rows of those that cannot be decoded, with the reasons."""
    unreadable: dict[int, str] = {}
    with ThreadPoolExecutor() as pool:
        output.write(_npy_header(len(sample), side))
        for index, image in enumerate(pool.map(lambda i: _resized(sample, i, side, share), range(len(sample)))):
            if isinstance(image, str):
                unreadable[index] = image
            else:
                output.write(image.tobytes())
            if isinstance(image, str) and not sample.lenient:
                raise SampleError(image)
        if len(unreadable) == len(sample):
            raise SampleError(f"No picture of {sample.name} can be used; first: {unreadable[0]}")
        # The header's length does not depend on the number of rows.
        output.patch(0, _npy_header(len(sample) - len(unreadable), side))
    return unreadable


def _npy_header(n: int, side: int) -> bytes:
    header = io.BytesIO()
    shape = (n, 3, side, side)
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue()


def _resized(sample: Sample, index: int, side: int, share: float) -> NDArray[np.uint8] | str:
    """Return a picture (3, side, side), or why it cannot be decoded."""
    from PIL import Image

    try:
        picture = Image.fromarray(sample.image(index))
        inner = side if share <= 1 else side - 2 * round(side * (1 - 1 / share) / 2)
        cut = tuple((1 - min(share, 1.0)) / 2 * extent for extent in picture.size)
        box = (cut[0], cut[1], picture.width - cut[0], picture.height - cut[1])
        small = np.asarray(picture.resize((inner, inner), Image.Resampling.BICUBIC, box)).transpose(2, 0, 1)
        edge = (side - inner) // 2
        return np.pad(small, ((0, 0), (edge, edge), (edge, edge)), "symmetric")
    except (OSError, ValueError, CutoutError) as error:
        check_system(error, f"{sample.name}: picture {sample.galaxies[index]}", "picture")
        return f"{sample.name}: picture {sample.galaxies[index]} cannot be decoded: {error}."


def without_unreadable(sample: Sample, side: int, width: float) -> Sample:
    """Return a lenient sample without the rows that could not be decoded, and log a warning about them."""
    if not sample.lenient:
        return sample
    unreadable = read_json_file(dict[str, str], _reasons(_cached(sample, side, width)), SampleError)
    skipped = (*sample.skipped, *unreadable.values())
    if skipped:
        n_rows = len(sample) + len(sample.skipped)
        log.warning("%s: %d of %d rows are left out; first: %s", sample.name, len(skipped), n_rows, skipped[0])
    good = np.setdiff1d(np.arange(len(sample)), [int(row) for row in unreadable])
    return dataclasses.replace(sample.take(good), skipped=skipped)
