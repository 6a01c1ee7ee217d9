"""Stamps: galaxies cut out of a survey image and resampled to a network's input, many at a time, and their flags.

The same as `galmorph.images.normalization.frame` does to a cutout. Frames that are stretched, nearly all, are sampled
together on the device that holds the planes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from galmorph.images.cutout import Flag
from galmorph.images.normalization import frame
from galmorph.images.quality import (
    APERTURE_R90,
    BAD_FRACTION,
    BLENDED_SHARE,
    DEFAULT_RADIUS_ARCSEC,
    FRAME_TOLERANCE,
    MIN_R90_SEEING,
    MIN_SIGNAL_TO_NOISE,
    PARTIAL_FRACTION,
)
from galmorph.images.survey_image import Planes

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[Any]


def cut(
    flux: NDArray[np.float32],
    x: Array,
    y: Array,
    width_px: Array,
    n_out: int,
    bands: Sequence[int] | None = None,
    planes: Tensor | None = None,
) -> list[Tensor]:
    """Cut squares out of planes and resample them.

    Bilinear where they are stretched, a triangle of the output pixel's size where they shrink (no aliasing). Beyond the
    edge of the planes is 0 (the sky).

    Parameters
    ----------
    flux : ndarray, float32, shape (band, y, x)
        The planes; finite.
    x, y : ndarray (n,)
        Centres, pixels from 0.
    width_px : ndarray (n,)
        Full widths.
    n_out : int
        Side of the result.
    bands : sequence of int, optional
        The planes wanted, in their order; default: all.
    planes : Tensor, float32, shape (band, y, x), optional
        The same on the device that the stamps are wanted on; default: the CPU.

    Returns
    -------
    list of Tensor, float32, shape (band, n_out, n_out)
        Surface brightness is kept.
    """
    import torch

    planes = torch.from_numpy(flux) if planes is None else planes
    chosen = list(range(len(flux)) if bands is None else bands)
    stamps: list[Tensor] = [planes] * len(x)
    stretched = width_px <= n_out
    for i in np.flatnonzero(~stretched).tolist():
        stamp = frame([flux[band] for band in chosen], float(width_px[i]), n_out, (float(x[i]), float(y[i])))
        stamps[i] = torch.from_numpy(stamp).to(planes.device)
    rows = np.flatnonzero(stretched)
    if not len(rows):
        return stamps
    # The others in patches that hold the widest of them, whatever else is in the batch.
    width_px = width_px[rows]
    left, top = (centre[rows] + 0.5 - width_px / 2 for centre in (x, y))
    x0, y0 = (np.floor(edge).astype(int) - 1 for edge in (left, top))
    # Counted from the patch: float32 of a large field would move a stamp by a thousandth of a pixel.
    steps = (np.arange(n_out) + 0.5) * (width_px / n_out)[:, None]
    down, across = ((start[:, None] + steps).astype(np.float32) for start in (top - y0, left - x0))
    patches = _patches(planes, chosen, x0, y0, n_out + 4)
    for row, sampled in zip(rows.tolist(), _sampled(patches, down, across), strict=True):
        stamps[row] = sampled
    return stamps


def _patches(planes: Tensor, bands: list[int], x0: Array, y0: Array, size: int) -> Tensor:
    """Return whole pixels, (n, band, size, size); 0 beyond the edge."""
    import torch

    height, width = planes.shape[1:]
    if size <= min(height, width):  # all in one operation, as if they lay inside
        near = np.array(bands), np.clip(y0, 0, height - size)[:, None], np.clip(x0, 0, width - size)[:, None]
        patches = _windows(planes, size, near)
    else:
        patches = torch.empty(len(x0), len(bands), size, size, device=planes.device)
    within = (np.minimum(y0, x0) >= 0) & (y0 <= height - size) & (x0 <= width - size)
    for i in np.flatnonzero(~within).tolist():
        top, left = int(y0[i]), int(x0[i])
        patches[i] = 0
        inside = patches[i, :, max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)]
        rows, columns = slice(max(0, top), max(0, top + size)), slice(max(0, left), max(0, left + size))
        inside[:] = planes[bands, rows, columns]
    return patches


def _windows(planes: Tensor, size: int, near: tuple[Array, Array, Array]) -> Tensor:
    """Return the windows of planes that begin at bands, rows and columns, arrays that are broadcast."""
    import torch

    if planes.device.type == "cpu":  # several times faster than torch there
        windows = np.lib.stride_tricks.sliding_window_view(planes.numpy(), (size, size), axis=(1, 2))
        return torch.from_numpy(windows[near])
    places = [torch.from_numpy(index).to(planes.device) for index in near]
    return planes.unfold(1, size, 1).unfold(2, size, 1)[tuple(places)]


def _sampled(patches: Tensor, down: Array, across: Array) -> Tensor:
    """Resample patches (n, band, size, size), bilinear.

    The centres of the output pixels, (n, n_out) along each axis, are pixels from 0 at the edge of the patch.
    """
    import torch

    n, n_out = down.shape
    grid = torch.empty(n, 2, n_out, n_out, device=patches.device)
    scale = np.float32(2 / patches.shape[-1])
    grid[:, 0] = torch.from_numpy(across * scale - 1).to(grid.device)[:, None, :]
    grid[:, 1] = torch.from_numpy(down * scale - 1).to(grid.device)[:, :, None]
    return torch.nn.functional.grid_sample(patches, grid.permute(0, 2, 3, 1), align_corners=False)


def constant_bands(stamps: Sequence[Tensor]) -> Array:
    """Tell the stamps (band, y, x) of which a band holds one value."""
    import torch

    few = torch.stack([stamp[:, ::16, ::16] for stamp in stamps])  # settle it for nearly every stamp
    lacking = (few.amax(dim=(2, 3)) == few.amin(dim=(2, 3))).any(dim=1).cpu().numpy()
    for i in np.flatnonzero(lacking).tolist():
        lacking[i] = bool((stamps[i].amax(dim=(1, 2)) == stamps[i].amin(dim=(1, 2))).any())
    return lacking


class Flagger:
    """The flags of galaxies in a survey image, by the thresholds of `galmorph.images.quality`.

    Parameters
    ----------
    planes : Planes
    noise, sky : ndarray (band,)
        Of a pixel, as `detect` measured them.
    seeing_px : float
        Full width at half maximum, NaN where unknown.
    """

    def __init__(self, planes: Planes, noise: Array, sky: Array, seeing_px: float) -> None:
        self._planes = planes
        self._noise, self._sky = noise, sky
        self._seeing_px = seeing_px
        empty = (planes.flux == 0).any(axis=0)
        self._bad = _box_counts(planes.bad)
        self._lost = _box_counts(planes.lost)
        self._void = _box_counts(empty if planes.bad is None else empty | planes.bad)

    def __call__(self, bands: Sequence[str], x: Array, y: Array, width_px: Array, r90_px: Array) -> NDArray[np.int16]:
        """Return the flags of frames: bits of `Flag`, less those for blends and measured radii.

        Parameters
        ----------
        bands : sequence of str
            The bands that the model takes.
        x, y, width_px, r90_px : ndarray (n,)
            Of each frame and its galaxy; R90 is NaN where unknown.
        """
        height, width = self._planes.shape
        half = width_px / 2
        left, right = (np.rint(edge).astype(int) for edge in (x + 0.5 - half, x + 0.5 + half))
        top, bottom = (np.rint(edge).astype(int) for edge in (y + 0.5 - half, y + 0.5 + half))
        box = [
            np.clip(edge, 0, size) for edge, size in ((top, height), (bottom, height), (left, width), (right, width))
        ]
        inside = (box[1] - box[0]) * (box[3] - box[2])
        area = np.maximum((right - left) * (bottom - top), 1)
        beyond = sum((width_px > side * (1 + FRAME_TOLERANCE)).astype(int) for side in (height, width))
        flag = np.where(beyond == 2, Flag.LARGER_THAN_CUTOUT, 0)
        void = _counted(self._void, box) + (area - inside) * (beyond < 2)
        masked = _counted(self._bad, box)
        flag |= np.where(void > PARTIAL_FRACTION * area, Flag.PARTIAL, 0)
        flag |= np.where((masked > BAD_FRACTION * area) | (_counted(self._lost, box) > 0), Flag.BAD_PIXELS, 0)
        flag |= np.where(r90_px < MIN_R90_SEEING * self._seeing_px, Flag.TOO_SMALL, 0)
        flag |= np.where(self._signal_to_noise(bands, x, y, r90_px) > MIN_SIGNAL_TO_NOISE, 0, Flag.BLANK)
        return flag.astype(np.int16)

    def _signal_to_noise(self, bands: Sequence[str], x: Array, y: Array, r90_px: Array) -> NDArray[np.float64]:
        """Return the best signal to noise of a band in a circle at the centre."""
        import sep

        pixscale = self._planes.pixscale
        default = DEFAULT_RADIUS_ARCSEC / pixscale if math.isfinite(pixscale) else 10.0
        radius = APERTURE_R90 * np.where(r90_px > 0, r90_px, default)
        best = np.full(len(x), -np.inf)
        for i, band in enumerate(self._planes.bands):
            if band in bands and self._noise[i] > 0:
                total, _, _ = sep.sum_circle(self._planes.flux[i], x, y, radius)
                area = np.pi * radius**2
                best = np.fmax(best, (total - self._sky[i] * area) / (self._noise[i] * np.sqrt(area)))
        return best


def _box_counts(mask: NDArray[np.bool_] | None) -> NDArray[np.int32] | None:
    """Return the counts of True above and to the left of each corner of a pixel; None where there is none."""
    if mask is None or not mask.any():
        return None
    counts = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int32)
    np.cumsum(mask, axis=0, out=counts[1:, 1:], dtype=np.int32)
    np.cumsum(counts[1:, 1:], axis=1, out=counts[1:, 1:])
    return counts


def _counted(counts: NDArray[np.int32] | None, box: Sequence[Array]) -> Array:
    if counts is None:
        return np.zeros(len(box[0]), int)
    top, bottom, left, right = box
    return counts[bottom, right] - counts[top, right] - counts[bottom, left] + counts[top, left]


def blended(objects: Array, x: Array, y: Array, r90_px: Array) -> NDArray[np.bool_]:
    """Tell where other objects within R90 have `BLENDED_SHARE` of the light of the one at the centre, or more.

    Parameters
    ----------
    objects : structured ndarray
        As of `Detection`; the one nearest to a position, within its half-light radius, is the galaxy itself.
    x, y, r90_px : ndarray (n,)
    """
    from scipy.spatial import cKDTree

    result = np.zeros(len(x), bool)
    known = np.flatnonzero(np.isfinite(x) & (r90_px > 0))
    if not len(objects) or not len(known):
        return result
    tree = cKDTree(np.column_stack([objects["x"], objects["y"]]))
    places = np.column_stack([x[known], y[known]])
    distance, own = tree.query(places)
    own = np.where(distance <= np.fmax(objects["r50"][own], 1.0), own, -1)
    for row, number, near in zip(known, own, tree.query_ball_point(places, r90_px[known]), strict=True):
        others = objects["light"][[i for i in near if i != number]].sum()
        light = objects["light"][number] if number >= 0 else 0.0
        result[row] = others > 0 and others >= BLENDED_SHARE * light
    return result
