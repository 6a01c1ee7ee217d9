"""Fetched cutouts on disk: which are missing, how much coverage they have, writing and adopting files."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from enum import Enum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import CannotContinue
from galmorph.files import fits as fitsbytes
from galmorph.files.record import file_sha256
from galmorph.files.writing import write_errors, write_file
from galmorph.images.cutout import cutout_chunks
from galmorph.retrieval.answers import check_grid, read_images
from galmorph.retrieval.client import Failure
from galmorph.retrieval.enrolment import FAILED, NO_COVERAGE, OK, PARTIAL, PENDING
from galmorph.retrieval.manifest import Outcome, Recorded
from galmorph.retrieval.request import Request
from galmorph.retrieval.surveys import Delivery

# A cutout with more zeros than this in a plane, or in the central half (by side) of a plane, is partial. Observed
# planes have hardly any pixel that is exactly zero.
_MOST_ZEROS = 0.01
_MOST_HEADERS_BYTES = 64 * 2880


class Step(Enum):
    """What to do about a request."""

    KEEP = "keep"
    ADOPT = "adopt"
    COMPARE = "compare"
    FETCH = "fetch"


def decide(recorded: Recorded, stamp: tuple[int, int] | None, *, retry_failed: bool, verify: bool = False) -> Step:
    """Return what to do about a request, by the manifest and the file on disk.

    Parameters
    ----------
    recorded : Recorded
        The request's state in the manifest.
    stamp : tuple of int or None
        Size in bytes and modification time in nanoseconds of the file under its final name, None where there is none.
    retry_failed : bool
        Whether to repeat failed requests.
    verify : bool
        Whether to read files even if size and time have not changed.

    Returns
    -------
    Step
        ADOPT: a killed run left the file without an entry; use it if it passes the checks.
        COMPARE: the file has its size, but another time; keep it if its content has the recorded hash.
    """
    if recorded.status in (OK, PARTIAL):
        if stamp is None or stamp[0] != recorded.bytes:
            return Step.FETCH
        return Step.COMPARE if verify or stamp[1] != recorded.mtime_ns else Step.KEEP
    if recorded.status == PENDING:
        return Step.FETCH if stamp is None else Step.ADOPT
    return Step.FETCH if recorded.status == FAILED and retry_failed else Step.KEEP


def stamp_of(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Return size in bytes and modification time in nanoseconds of a regular file, None for anything else."""
    try:
        state = os.lstat(path)  # a resumed run does this for every file; a Path takes three times as long
    except OSError:
        return None
    return (state.st_size, state.st_mtime_ns) if stat.S_ISREG(state.st_mode) else None


def has_digest(path: Path, sha256: str | None) -> bool:
    """Return whether a file's content has the recorded hash."""
    with suppress(OSError):
        return file_sha256(path) == sha256
    return False


def write(path: Path, chunks: Iterable[bytes | memoryview]) -> int:
    """Write a cutout's file, whole or not at all, and return its modification time in nanoseconds.

    Raises
    ------
    CannotContinue
        If it cannot be written, or its folder is a link to another one.
    """
    if path.parent.is_symlink():
        raise CannotContinue(f"{path.parent} is a link: galmorph writes into folders that it made. Remove the link.")
    with write_errors(path.parent, resumable=True):
        path.parent.mkdir(exist_ok=True)  # not its parents: the folder of the run may have been removed
    write_file(path, *chunks, resumable=True)
    return os.lstat(path).st_mtime_ns


def coverage_state(bands: tuple[str, ...], flux: NDArray[np.float32]) -> tuple[str, dict[str, float]]:
    """Return the state of a cutout by its coverage, and the fraction of pixels with data in each band.

    Parameters
    ----------
    flux : ndarray
        float32 (band, y, x), in either byte order; pixels without data are exactly 0, and a plane of one value has no
        data at all.

    Returns
    -------
    str
        ``'ok'``; ``'partial'``: a band is missing, or lacks more than 1 % of the plane or of its central half;
        ``'no_coverage'``: nothing has data.
    dict of str to float
    """
    quarter = [side // 4 for side in flux.shape[1:]]
    coverage, partial = {}, False
    # Counting integers is ten times as fast as counting floats, and only 0.0 has no bit set.
    for band, plane in zip(bands, flux.view(np.int32), strict=True):
        there = np.count_nonzero(plane) / plane.size
        if there and plane[0, 0] == plane[-1, -1] and (plane == plane[0, 0]).all():
            there = 0.0
        centre = plane[quarter[0] : -quarter[0] or None, quarter[1] : -quarter[1] or None]
        lacking = max(1 - there, 1 - np.count_nonzero(centre) / centre.size)
        partial |= lacking > _MOST_ZEROS
        coverage[band] = round(there, 4)
    if not any(coverage.values()):
        return NO_COVERAGE, coverage
    return PARTIAL if partial else OK, coverage


def prepare(delivery: Delivery) -> tuple[Outcome, list[bytes | memoryview]]:
    """Return the state of a cutout and its file, as chunks of bytes; none if it has no data."""
    cutout = delivery.cutout
    status, coverage = coverage_state(cutout.bands, cutout.flux)
    if status == NO_COVERAGE:
        return Outcome(status, delivery.url, coverage=coverage, error="the service has no data in any band"), []
    cards = [("RELEASE", delivery.release, "data release")] if delivery.release else []
    cards.append(("URL", delivery.url, "request"))
    if delivery.unit != "nanomaggy":
        cards.append(("BUNIT", delivery.unit, "of the pixel values"))
    chunks = cutout_chunks(cutout, cards=cards)
    for name, data in delivery.planes.items():
        chunks += fitsbytes.image("", data, extension=name)
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    n_bytes = sum(map(len, chunks))
    return Outcome(status, delivery.url, bytes=n_bytes, sha256=digest.hexdigest(), coverage=coverage), chunks


def adopt(path: Path, request: Request, bands: tuple[str, ...]) -> Outcome | None:
    """Adopt a file of a killed run; None if it is damaged or of another request."""
    stamp = stamp_of(path)
    # Image, inverse variance and mask, four bytes a pixel, and their headers.
    if stamp is None or stamp[0] > 4 * (2 * len(bands) + 1) * request.size**2 + _MOST_HEADERS_BYTES:
        return None
    try:
        content = path.read_bytes()
        primary, *others = read_images(content)
        check_grid(primary.cards, request.ra, request.dec, request.size, request.pixscale)
        named, url = str(primary.cards["BANDS"]), str(primary.cards["URL"])
    except (OSError, KeyError, Failure):
        return None
    intact = all(fitsbytes.is_intact(memoryview(content)[image.span]) for image in (primary, *others))
    if not intact or named != "".join(bands) or primary.data.shape != (len(bands), request.size, request.size):
        return None
    status, coverage = coverage_state(bands, np.asarray(primary.data, ">f4"))
    digest = hashlib.sha256(content).hexdigest()
    return Outcome(status, url, bytes=len(content), sha256=digest, mtime_ns=stamp[1], coverage=coverage)


def clean(folder: Path) -> None:
    """Remove incomplete files of killed runs; only for the run that holds the folder's lock."""
    for directory in folder.glob("[0-9a-f][0-9a-f]"):
        if directory.is_symlink():
            continue
        for part in directory.glob(f".*-{'[0-9a-f]' * 16}.fits.*.part"):
            part.unlink(missing_ok=True)
