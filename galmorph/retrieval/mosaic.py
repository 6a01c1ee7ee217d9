"""Cutouts from larger images: each image is downloaded once, and several images are joined on one grid."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import OutputError
from galmorph.files.writing import write_file
from galmorph.images.wcs import celestial_wcs, side_arcsec
from galmorph.retrieval.client import Answer, FinalFailure, PassingFailure, Session
from galmorph.retrieval.request import Request

# Margin in pixels around the area of an image that a cutout is resampled from, for the interpolation.
_MARGIN_PX = 8
# On coarser grids than this (in pixels of the image) the flux is averaged, so that none is lost between points.
_COARSE = 1.5


@dataclass(frozen=True)
class Plane:
    """A large image in one band.

    Parameters
    ----------
    data : ndarray
        float32 (y, x), finite, exactly 0 where there is no data.
    wcs : astropy.wcs.WCS
        Celestial, 2 axes.
    """

    data: NDArray[np.float32]
    wcs: Any

    @property
    def pixscale(self) -> float:
        """Side of a pixel, arcsec."""
        return side_arcsec(self.wcs)


async def compose(request: Request, images: Iterable[Callable[[], Awaitable[Plane | None]]]) -> NDArray[np.float32]:
    """Return one band of a cutout, float32 (y, x), 0 where no image has data.

    Parameters
    ----------
    images : iterable of coroutine functions
        Each returns an image, or None. They are called in turn, until the cutout is full. Images are not averaged,
        so that the noise is the survey's own wherever one image covers the position.
    """
    wcs = await asyncio.to_thread(celestial_wcs, request.wcs_cards)
    canvas = np.full((request.size, request.size), np.nan, np.float32)
    for image in images:
        plane = await image()
        if plane is not None:
            await asyncio.to_thread(_fill, canvas, wcs, plane)
        if not np.isnan(canvas).any():
            break
    return np.nan_to_num(canvas, copy=False, nan=0.0)


def _fill(canvas: NDArray[np.float32], wcs: Any, plane: Plane) -> None:
    """Fill the NaN of a canvas (y, x) from an image, resampled to its WCS; surface brightness is conserved."""
    from reproject import reproject_adaptive, reproject_interp

    overlap = _overlap(plane, wcs, canvas.shape)
    if overlap is None:
        return
    data, data_wcs = overlap
    if abs(wcs.wcs.cd[1, 1]) * 3600 > _COARSE * plane.pixscale:
        resampled, _ = reproject_adaptive(overlap, wcs, canvas.shape, kernel="gaussian", boundary_mode="strict")
    else:
        resampled, _ = reproject_interp(overlap, wcs, canvas.shape, order="bicubic")
    if not data.all():
        there, _ = reproject_interp(
            ((data != 0).astype(np.float32), data_wcs), wcs, canvas.shape, order="nearest-neighbor"
        )
        resampled[there == 0] = np.nan
    empty = np.isnan(canvas)
    canvas[empty] = resampled[empty]


def _overlap(plane: Plane, wcs: Any, shape: tuple[int, ...]) -> tuple[NDArray[np.float32], Any] | None:
    """Return the area of an image that a grid may need, with its WCS; None if they do not overlap."""
    height, width = shape
    x = np.linspace(-0.5, width - 0.5, 9)
    y = np.linspace(-0.5, height - 0.5, 9)
    edge_x = np.concatenate([x, x, np.full(9, x[0]), np.full(9, x[-1])])
    edge_y = np.concatenate([np.full(9, y[0]), np.full(9, y[-1]), y, y])
    px, py = plane.wcs.all_world2pix(*wcs.all_pix2world(edge_x, edge_y, 0), 0)
    if not np.isfinite([px, py]).all():
        return None
    rows, columns = (
        slice(max(0, math.floor(p.min()) - _MARGIN_PX), min(n, math.ceil(p.max()) + _MARGIN_PX + 1))
        for p, n in ((py, plane.data.shape[0]), (px, plane.data.shape[1]))
    )
    if rows.stop - rows.start <= 2 * _MARGIN_PX or columns.stop - columns.start <= 2 * _MARGIN_PX:
        return None
    return plane.data[rows, columns], plane.wcs[rows, columns]


class Downloads:
    """Files that several targets share: downloaded once, checked, kept until the end of the run.

    Parameters
    ----------
    folder : Path
        Made with the first file.
    most_on_disk : int
        Largest size of all files in bytes; beyond it the least recently used ones are dropped.
    most_decoded : int
        Images that are kept decoded in memory.
    """

    def __init__(self, folder: Path, most_on_disk: int, most_decoded: int) -> None:
        self.folder = folder
        self.most_on_disk = most_on_disk
        self.most_decoded = most_decoded
        self._decoded: OrderedDict[str, asyncio.Task[Plane | None]] = OrderedDict()
        # Files of a killed run; galmorph never makes links.
        if folder.is_symlink():
            raise OutputError(f"{folder} is a link: remove it, galmorph keeps files there only for a run.")
        left = sorted(folder.glob("[!.]*")) if folder.name else []
        self._on_disk = OrderedDict((path, path.stat().st_size) for path in left)

    async def plane(
        self, session: Session, url: str, decode: Callable[[bytes], Plane], *, at_most: int
    ) -> Plane | None:
        """Return an image; None if the server has no such file (404).

        Parameters
        ----------
        session : Session
            Of the target that needs it first.
        decode : callable
            Checks the file; raises PassingFailure if it is damaged, FinalFailure if it is not what it should be.
        at_most : int
            Bytes of the file at most.

        Raises
        ------
        Failure
            If it cannot be had.
        """
        task = self._decoded.get(url)
        if task is None:
            task = self._decoded[url] = asyncio.ensure_future(self._load(session, url, decode, at_most))
            while len(self._decoded) > self.most_decoded:
                self._decoded.popitem(last=False)
        else:
            self._decoded.move_to_end(url)
        try:
            return await asyncio.shield(task)
        except Exception:
            if self._decoded.get(url) is task:
                del self._decoded[url]
            raise

    async def _load(self, session: Session, url: str, decode: Callable[[bytes], Plane], at_most: int) -> Plane | None:
        name = f"{hashlib.blake2b(url.encode(), digest_size=6).hexdigest()}-{url.rpartition('/')[2]}"
        path = self.folder / name
        if path.is_file():
            try:
                plane = await asyncio.to_thread(lambda: decode(path.read_bytes()))
            except (PassingFailure, FinalFailure):
                path.unlink()
            else:
                self._keep(path)
                return plane

        def accept(answer: Answer) -> tuple[bytes, Plane] | None:
            if answer.status == 404:
                return None
            if answer.status != 200:
                raise FinalFailure(f"{url} answered {answer.status}: {answer.text}")
            return answer.body, decode(answer.body)

        downloaded = await session.get(url, accept=accept, at_most=at_most, heavy=True)
        if downloaded is None:
            return None
        body, plane = downloaded
        await asyncio.to_thread(write_file, path, body, resumable=True)
        self._keep(path)
        return plane

    def _keep(self, path: Path) -> None:
        self._on_disk[path] = path.stat().st_size
        self._on_disk.move_to_end(path)
        while sum(self._on_disk.values()) > self.most_on_disk and len(self._on_disk) > 1:
            oldest, _ = self._on_disk.popitem(last=False)
            oldest.unlink(missing_ok=True)
