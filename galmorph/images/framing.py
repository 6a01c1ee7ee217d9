"""Framing: squares of sky around galaxies, cut out and resampled to a network's input.

One by one from cutouts (`frame`), or many at a time from a survey image (`cut`): frames that are stretched, nearly
all, are then sampled together on the device that holds the planes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import ModelError
from galmorph.images.gpu.tensors import to_device

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[Any]

# A frame up to this many times as wide as the image, and up to this many pixels wide (twice the largest cutout), is
# padded with sky and then resampled. Wider frames come from placeholder radii (9999 arcsec). They would take gigabytes,
# so they are computed from the image's own pixels.
MAX_PADDING, MAX_PADDED_PX = 2.0, 6000
# A narrower frame holds nothing to resample.
MIN_FRAME_PX = 1.0


@dataclass(frozen=True)
class Framing:
    """How wide a piece of sky the model looks at: a multiple of the galaxy's radius, or a fixed angle.

    Attributes
    ----------
    radii : float
        Full width in radii (R90); 0 where the width is fixed.
    size_arcsec : float
        Fixed full width in arcsec; 0 where it follows from the radius.
    """

    radii: float = 0.0
    size_arcsec: float = 0.0

    def __post_init__(self) -> None:
        if (self.radii > 0) == (self.size_arcsec > 0):
            raise ModelError("A framing needs either 'radii' or 'size_arcsec', greater than 0.")

    def width_arcsec(self, radius_arcsec: float) -> float:
        """Return the full width in arcsec for a galaxy of this radius; NaN where the radius is needed and unknown."""
        return self.radii * radius_arcsec if self.radii else self.size_arcsec


def frame(
    flux: NDArray[np.float32] | Sequence[NDArray[np.float32]],
    width_pixels: float,
    n_out: int,
    centre: tuple[float, float] | None = None,
) -> NDArray[np.float32]:
    """Cut a square out of a cutout, to a fraction of a pixel, and resample it to the network's input size.

    Bilinear where it is stretched, a triangle of the output pixel's size where it shrinks (no aliasing).

    Parameters
    ----------
    flux : ndarray or sequence of ndarray, float32, shape (band, y, x)
    width_pixels : float
        Full width wanted, in pixels of the cutout; the part outside the cutout is filled with 0 (the sky).
    n_out : int
        Side of the result.
    centre : (x, y), optional
        In pixels from 0; default: the middle of the cutout.

    Returns
    -------
    ndarray, float32, shape (band, n_out, n_out)
        Surface brightness is kept.
    """
    from PIL import Image

    height, width = flux[0].shape
    x, y = ((width - 1) / 2, (height - 1) / 2) if centre is None else centre
    width_pixels = max(width_pixels, MIN_FRAME_PX)
    if width_pixels > min(MAX_PADDING * max(height, width), MAX_PADDED_PX):
        return _frame_by_weights(flux, width_pixels, n_out, (x, y))
    # Resizing weighs whole rows, so pass only the rows and columns within reach of its filter.
    reach = math.ceil(max(1.0, width_pixels / n_out))
    left, top = x + 0.5 - width_pixels / 2, y + 0.5 - width_pixels / 2
    x0, y0 = math.floor(left) - reach, math.floor(top) - reach
    x1, y1 = math.ceil(left + width_pixels) + reach, math.ceil(top + width_pixels) + reach
    inside = slice(max(0, y0), min(height, y1)), slice(max(0, x0), min(width, x1))
    framed = np.zeros((len(flux), n_out, n_out), np.float32)
    if min(part.stop - part.start for part in inside) <= 0:
        return framed
    margins = None
    if min(left, top, width - left - width_pixels, height - top - width_pixels) >= 0:
        x0, y0 = inside[1].start, inside[0].start
    else:  # sky around the cutout
        margins = (inside[0].start - y0, y1 - inside[0].stop), (inside[1].start - x0, x1 - inside[1].stop)
    box = (left - x0, top - y0, left - x0 + width_pixels, top - y0 + width_pixels)
    for result, plane in zip(framed, flux, strict=True):
        within = np.pad(plane[inside], margins) if margins else np.ascontiguousarray(plane[inside])
        result[:] = np.asarray(Image.fromarray(within).resize((n_out, n_out), Image.Resampling.BILINEAR, box))
    return framed


def _frame_by_weights(
    flux: NDArray[np.float32] | Sequence[NDArray[np.float32]],
    width_pixels: float,
    n_out: int,
    centre: tuple[float, float],
) -> NDArray[np.float32]:
    """Do what `frame` does with a matrix of weights an axis: the sky around the cutout takes no memory."""
    height, width = flux[0].shape
    across, down = (
        _triangle_weights(middle + 0.5 - width_pixels / 2, width_pixels / n_out, n_out, size).astype(np.float32)
        for middle, size in zip(centre, (width, height), strict=True)
    )
    return np.stack([down @ plane @ across.T for plane in flux])


def _triangle_weights(start: float, step: float, n_out: int, size: int) -> NDArray[np.float64]:
    """Return the weight of each of `size` pixels in each of `n_out` pixels, which begin at `start` and are `step` wide.

    The triangle of an output pixel reaches one step to each side. Its weights sum to 1 over all pixels, those outside
    the image too.
    """
    reach = max(1.0, step)
    centres = start + (np.arange(n_out) + 0.5) * step
    offsets = (np.arange(size) + 0.5)[None, :] - centres[:, None]
    weights = np.clip(1 - np.abs(offsets) / reach, 0, None)
    nearest = np.ceil(centres - 0.5) + 0.5 - centres  # from the centre to that of the next pixel, 0 to 1
    total = np.zeros(n_out)
    for first in (nearest, 1 - nearest):
        count = np.maximum(np.ceil(reach - first), 0)
        total += count - (count * first + count * (count - 1) / 2) / reach
    return weights / total[:, None]


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
    index = tuple(to_device(torch.from_numpy(axis), planes.device) for axis in near)
    return planes.unfold(1, size, 1).unfold(2, size, 1)[index]


def _sampled(patches: Tensor, down: Array, across: Array) -> Tensor:
    """Resample patches (n, band, size, size), bilinear.

    The centres of the output pixels, (n, n_out) along each axis, are pixels from 0 at the edge of the patch.
    """
    import torch

    n, n_out = down.shape
    grid = torch.empty(n, 2, n_out, n_out, device=patches.device)
    scale = np.float32(2 / patches.shape[-1])
    grid[:, 0] = to_device(torch.from_numpy(across * scale - 1), grid.device)[:, None, :]
    grid[:, 1] = to_device(torch.from_numpy(down * scale - 1), grid.device)[:, :, None]
    return torch.nn.functional.grid_sample(patches, grid.permute(0, 2, 3, 1), align_corners=False)
