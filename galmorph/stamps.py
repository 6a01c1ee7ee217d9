"""Stamps: galaxies cut out of a survey image and resampled to a network's input, many at a time, and their flags.

The same as `galmorph.normalize.frame` does to a cutout, for many galaxies in few operations on the device that holds
the planes: frames that are stretched are sampled; of those that shrink the triangle filter is two matrices a galaxy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from galmorph.cutout import Flag
from galmorph.planes import Planes
from galmorph.quality import (
    APERTURE_R90,
    BAD_FRACTION,
    BLENDED_SHARE,
    DEFAULT_RADIUS_ARCSEC,
    FRAME_TOLERANCE,
    MIN_R90_SEEING,
    MIN_SIGNAL_TO_NOISE,
    PARTIAL_FRACTION,
)

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[Any]

# Galaxies whose frames round up to the same number of pixels are cut together: of few sizes where they are stretched,
# which costs by the pixels that come out; of more where they shrink, which costs by those that go in.
STRETCHED_STEP_PX, SHRUNK_STEP_PX = 96, 32
# Frames beyond this are thinned before they are cut (every second pixel, averaged, and so on): as much as a device's
# memory should hold of one batch, and more than any network's input by far.
MAX_SIDE_PX = 1024


def cut(
    planes: Tensor, x: Array, y: Array, width_px: Array, n_out: int, bands: Sequence[int] | None = None
) -> list[Tensor]:
    """Cut squares out of planes and resample them.

    Bilinear where they are stretched, a triangle of the output pixel's size where they shrink (no aliasing). Beyond the
    edge of the planes is 0 (the sky).

    Parameters
    ----------
    planes : Tensor, float32, shape (band, y, x)
        Finite.
    x, y : ndarray (n,)
        Centres, pixels from 0.
    width_px : ndarray (n,)
        Full widths.
    n_out : int
        Side of the result.
    bands : sequence of int, optional
        The planes wanted, in their order; default: all.

    Returns
    -------
    list of Tensor, float32, shape (band, n_out, n_out)
        On the device of the planes. Surface brightness is kept.
    """
    chosen = range(len(planes)) if bands is None else bands
    stamps: list[Tensor] = [planes] * len(x)
    thinning = 2 ** np.maximum(0, np.ceil(np.log2(width_px / MAX_SIDE_PX))).astype(int)
    reach = np.maximum(1.0, width_px / n_out)
    side = np.ceil((width_px + 2 * reach) / thinning + 2)
    stretched = width_px <= n_out * thinning
    step = np.where(stretched, STRETCHED_STEP_PX, SHRUNK_STEP_PX)
    side = (np.ceil(side / step) * step).astype(int)
    left, top = (centre + 0.5 - width_px / 2 for centre in (x, y))
    x0, y0 = (np.floor(edge - reach).astype(int) for edge in (left, top))
    # Counted from the patch: float32 of a large field would move a stamp by a thousandth of a pixel.
    steps = (np.arange(n_out) + 0.5) * (width_px / n_out)[:, None]
    down, across = (
        ((start[:, None] + steps) / thinning[:, None]).astype(np.float32) for start in (top - y0, left - x0)
    )
    for size, factor, stretch in sorted(set(zip(side.tolist(), thinning.tolist(), stretched.tolist(), strict=True))):
        rows = np.flatnonzero((side == size) & (thinning == factor) & (stretched == stretch))
        resample = _sampled if stretch else _averaged
        patches = _patches(planes, chosen, x0[rows], y0[rows], size, factor)
        for row, stamp in zip(rows.tolist(), resample(patches, down[rows], across[rows]), strict=True):
            stamps[row] = stamp
    return stamps


def _patches(planes: Tensor, bands: Sequence[int], x0: Array, y0: Array, size: int, factor: int) -> Tensor:
    """Return whole pixels, (n, band, size, size), of which each is the mean of `factor` squared; 0 beyond the edge."""
    import torch

    if factor > 1:  # one after another: many frames as wide as that would not fit into the memory
        places = (slice(i, i + 1) for i in range(len(x0)))
        whole = (_patches(planes, bands, x0[place], y0[place], size * factor, 1) for place in places)
        return torch.cat([torch.nn.functional.avg_pool2d(patch, factor) for patch in whole])
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
        inside[:] = planes[list(bands), rows, columns]
    return patches


def _windows(planes: Tensor, size: int, near: tuple[Array, Array, Array]) -> Tensor:
    """Return the windows of planes that begin at bands, rows and columns, arrays that are broadcast."""
    import torch

    if planes.device.type == "cpu":  # several times faster than torch there
        windows = np.lib.stride_tricks.sliding_window_view(planes.numpy(), (size, size), axis=(1, 2))
        return torch.from_numpy(windows[near])
    places = [torch.from_numpy(index).to(planes.device) for index in near]
    return planes.unfold(1, size, 1).unfold(2, size, 1)[tuple(places)]


# Of the two ways to resample, `down` and `across` (n, n_out) say where the centres of the output pixels lie in patches
# (n, band, size, size): pixels, 0 at the first one's edge.


def _sampled(patches: Tensor, down: Array, across: Array) -> Tensor:
    """Resample patches at the centres of the output pixels, bilinear."""
    import torch

    n, n_out = down.shape
    grid = torch.empty(n, 2, n_out, n_out, device=patches.device)
    scale = np.float32(2 / patches.shape[-1])
    grid[:, 0] = torch.from_numpy(across * scale - 1)[:, None, :]
    grid[:, 1] = torch.from_numpy(down * scale - 1)[:, :, None]
    return torch.nn.functional.grid_sample(patches, grid.permute(0, 2, 3, 1), align_corners=False)


def _averaged(patches: Tensor, down: Array, across: Array) -> Tensor:
    """Resample patches by a triangle as wide as an output pixel to each side."""
    import torch

    n, n_bands, size, _ = patches.shape
    # Two batched products: bands side by side first, then below one another.
    beside = patches.permute(0, 2, 1, 3).reshape(n, size, n_bands * size)
    rows, columns = (_weights(torch.from_numpy(centres).to(patches.device), size) for centres in (down, across))
    below = (rows @ beside).view(n, -1, size) @ columns.transpose(1, 2)
    return below.view(n, -1, n_bands, below.shape[-1]).transpose(1, 2)


def _weights(centres: Tensor, size: int) -> Tensor:
    """Return the weights of `size` pixels in each output pixel, (n, n_out, size)."""
    import torch

    step = (centres[:, 1] - centres[:, 0])[:, None, None]
    pixel = torch.arange(size, device=centres.device) + 0.5
    weights = (1 - (pixel - centres[:, :, None]).abs_() / step.clamp(min=1)).clamp_(min=0)
    return weights / weights.sum(dim=2, keepdim=True)


def constant_bands(stamps: Sequence[Tensor]) -> Array:
    """Tell the stamps (band, y, x) of which a band holds one value."""
    import torch

    few = torch.stack([stamp[:, ::16, ::16] for stamp in stamps])  # settle it for nearly every stamp
    lacking = (few.amax(dim=(2, 3)) == few.amin(dim=(2, 3))).any(dim=1).cpu().numpy()
    for i in np.flatnonzero(lacking).tolist():
        lacking[i] = bool((stamps[i].amax(dim=(1, 2)) == stamps[i].amin(dim=(1, 2))).any())
    return lacking


class Flagger:
    """The flags of galaxies in a survey image, by the thresholds of `galmorph.quality`.

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
