"""Quality: faults of a cutout's pixels, as bits of `Flag`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from galmorph.images.cutout import Cutout
from galmorph.images.flags import Flag
from galmorph.images.radius import neighbour_share, sky_level
from galmorph.images.survey_image import Planes

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[Any]

# Services send exact zeros where a survey has no data; complete planes have fewer than one in a thousand.
PARTIAL_FRACTION = 0.01
# Single pixels (cosmic rays) do not change a picture; the saturated core of a galaxy is above this share.
BAD_FRACTION = 0.001
# Frames and cutouts are rounded to whole pixels; a strip of sky as thin as this does not matter.
FRAME_TOLERANCE = 0.02
# Below 5 sigma there may be no galaxy at all.
MIN_SIGNAL_TO_NOISE = 5.0
# Its aperture is a square that reaches this many R90 to each side, where any profile is brightest.
APERTURE_R90 = 0.5
# R90 in Galaxy Zoo 2 begins at 3 arcsec (Willett et al. 2013, MNRAS 435, 2835); for galaxies of unknown radius.
DEFAULT_RADIUS_ARCSEC = 3.0
# That limit divided by SDSS's median seeing in r, 1.32 arcsec: no volunteer has seen smaller galaxies.
MIN_R90_SEEING = 2.3
# An object with R90 below a pixel has no shape, for any seeing.
MIN_R90_PX = 1.0
# Larger frames are limited to this, so that their area in pixels fits into 64 bits.
_FAR_PX = 1e9
# Other objects within R90 with this share of the galaxy's light. Of 1,500 galaxies of the Galaxy Zoo challenge a tenth
# are above, and half of those that volunteers called mergers.
BLENDED_SHARE = 0.2
# The sky for the signal to noise comes from the border of a grid of about this many pixels a side.
SKY_SIDE_PX = 64


@np.errstate(over="ignore", invalid="ignore")
def quality(
    cutout: Cutout,
    bands: Iterable[str],
    width_arcsec: float = math.inf,
    radius_arcsec: float = math.nan,
    *,
    seeing_arcsec: float = math.nan,
) -> Flag:
    """Return the flags of a cutout in these bands, within a frame of this width around its centre.

    Parameters
    ----------
    cutout : Cutout
        The cutout.
    bands : iterable of str
        The bands that the model takes.
    width_arcsec : float
        Full width of the frame; infinity for the whole cutout.
    radius_arcsec : float
        The galaxy's R90, NaN where unknown.
    seeing_arcsec : float
        Full width at half maximum of a point source, NaN where unknown.

    Returns
    -------
    Flag
        ``MISSING_BAND``: a band is absent, or its plane holds one value. ``PARTIAL``: more than `PARTIAL_FRACTION` of
        the frame is exactly zero or masked, or the frame reaches beyond the cutout on one axis, where an image ended.
        ``LARGER_THAN_CUTOUT``: it does so on both. ``BAD_PIXELS``: a pixel in the frame is not finite, or more than
        `BAD_FRACTION` are masked. ``BLANK``: in no band is the centre `MIN_SIGNAL_TO_NOISE` above the noise.
        ``TOO_SMALL``: R90 is below `MIN_R90_SEEING` times the seeing, or below `MIN_R90_PX`.
    """
    wanted = tuple(bands)
    planes = [plane for band in wanted if band in cutout.bands and not _is_constant(plane := cutout.plane(band))]
    flag = Flag(0) if len(planes) == len(wanted) else Flag.MISSING_BAND
    width_px = width_arcsec / cutout.pixscale
    beyond = sum(width_px > side * (1 + FRAME_TOLERANCE) for side in cutout.flux.shape[1:] if width_px < math.inf)
    flag |= (Flag(0), Flag.PARTIAL, Flag.LARGER_THAN_CUTOUT)[beyond]
    frame = _square(cutout, width_px)
    for plane in planes:
        framed = plane[frame]
        if np.count_nonzero(framed == 0) > PARTIAL_FRACTION * framed.size:
            flag |= Flag.PARTIAL
        if not math.isfinite(framed.sum()):
            flag |= Flag.BAD_PIXELS
    if cutout.mask is not None:
        masked = float(cutout.mask[frame].mean())
        flag |= Flag.BAD_PIXELS if masked > BAD_FRACTION else Flag(0)
        flag |= Flag.PARTIAL if masked > PARTIAL_FRACTION else Flag(0)
    aperture_arcsec = _aperture_arcsec(radius_arcsec)
    if not any(_signal_to_noise(cutout, plane, aperture_arcsec) > MIN_SIGNAL_TO_NOISE for plane in planes):
        flag |= Flag.BLANK
    if radius_arcsec < MIN_R90_SEEING * seeing_arcsec or radius_arcsec < MIN_R90_PX * cutout.pixscale:
        flag |= Flag.TOO_SMALL
    return flag


def signal_to_noise(cutout: Cutout, bands: Iterable[str], radius_arcsec: float) -> float:
    """Return the signal to noise of the brightest of some bands within half of R90; NaN where there is none.

    Where R90 is NaN, `DEFAULT_RADIUS_ARCSEC` is used.
    """
    aperture_arcsec = _aperture_arcsec(radius_arcsec)
    ratios = [_signal_to_noise(cutout, cutout.plane(band), aperture_arcsec) for band in bands if band in cutout.bands]
    return float(np.fmax.reduce(ratios, initial=np.nan))


def is_blended(cutout: Cutout, radius_arcsec: float) -> bool:
    """Whether other objects within R90 have more than `BLENDED_SHARE` of the galaxy's light (see `neighbour_share`)."""
    return neighbour_share(cutout, radius_arcsec) > BLENDED_SHARE


def _is_constant(plane: NDArray[np.float32]) -> bool:
    """Whether all pixels of a plane are equal, or all not finite."""
    # A few pixels decide nearly every plane.
    for pixels in (plane[::16, ::16], plane):
        finite = np.isfinite(pixels)
        if finite.any() and not (finite.all() and pixels.min() == pixels.max()):
            return False
    return True


def _square(cutout: Cutout, width_px: float) -> tuple[slice, slice]:
    """Return the area of the planes within a square of that width around the centre, at least a pixel."""
    margins = [int((side - max(1.0, min(width_px, side))) / 2) for side in cutout.flux.shape[1:]]
    rows, columns = (slice(cut, side - cut) for cut, side in zip(margins, cutout.flux.shape[1:], strict=True))
    return rows, columns


def _aperture_arcsec(radius_arcsec: float) -> float:
    return APERTURE_R90 * (radius_arcsec if radius_arcsec > 0 else DEFAULT_RADIUS_ARCSEC)


def _signal_to_noise(cutout: Cutout, plane: NDArray[np.float32], half_width_arcsec: float) -> float:
    """Return the signal to noise of a square at the centre; resampled pixels count as the native pixels they are of."""
    # A thousand pixels are enough for the sky.
    step = max(1, min(plane.shape) // SKY_SIDE_PX)
    sky, sigma = sky_level(plane[::step, ::step])
    aperture = plane[_square(cutout, 2 * half_width_arcsec / cutout.pixscale)]
    aperture = aperture[np.isfinite(aperture)]
    if not (sigma > 0 and aperture.size):
        return math.nan
    independent = aperture.size * min(1.0, (cutout.pixscale / cutout.flux_pixscale) ** 2)
    return (float(aperture.mean()) - sky) * math.sqrt(independent) / sigma


def constant_bands(stamps: Sequence[Tensor]) -> Array:
    """Return which stamps (band, y, x) have a band of one value."""
    import torch

    few = torch.stack([stamp[:, ::16, ::16] for stamp in stamps])  # these decide nearly every stamp
    lacking = (few.amax(dim=(2, 3)) == few.amin(dim=(2, 3))).any(dim=1).cpu().numpy()
    for i in np.flatnonzero(lacking).tolist():
        lacking[i] = bool((stamps[i].amax(dim=(1, 2)) == stamps[i].amin(dim=(1, 2))).any())
    return lacking


class Flagger:
    """The flags of galaxies in a survey image, with the same thresholds as for cutouts.

    Parameters
    ----------
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
        """Return the flags of frames: bits of `Flag`, without those for blends and measured radii.

        Parameters
        ----------
        bands : sequence of str
            The bands that the model takes.
        x, y, width_px, r90_px : ndarray (n,)
            Of each frame and its galaxy; R90 is NaN where unknown.
        """
        height, width = self._planes.shape
        half = width_px / 2
        edges = (x + 0.5 - half, x + 0.5 + half, y + 0.5 - half, y + 0.5 + half)
        left, right, top, bottom = (np.rint(np.clip(edge, -_FAR_PX, _FAR_PX)).astype(int) for edge in edges)
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
        small = (r90_px < MIN_R90_SEEING * self._seeing_px) | (r90_px < MIN_R90_PX)
        flag |= np.where(small, Flag.TOO_SMALL, 0)
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
    """Return the counts of True above and to the left of each corner of a pixel; None if there are none."""
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


def are_blended(objects: Array, x: Array, y: Array, r90_px: Array) -> NDArray[np.bool_]:
    """Return where other objects within R90 have `BLENDED_SHARE` of the light of the one at the centre, or more.

    Parameters
    ----------
    objects : structured ndarray
        As of `Detection`; the one nearest to a position, within its half-light radius, is the galaxy itself.
    x, y, r90_px : ndarray (n,)
    """
    from scipy.spatial import cKDTree

    result = np.zeros(len(x), bool)
    usable = np.flatnonzero(np.isfinite(x) & (r90_px > 0))
    if not len(objects) or not len(usable):
        return result
    tree = cKDTree(np.column_stack([objects["x"], objects["y"]]))
    centres = np.column_stack([x[usable], y[usable]])
    distance, own = tree.query(centres)
    own = np.where(distance <= np.fmax(objects["r50"][own], 1.0), own, -1)
    for row, number, near in zip(usable, own, tree.query_ball_point(centres, r90_px[usable]), strict=True):
        others = objects["light"][[i for i in near if i != number]].sum()
        light = objects["light"][number] if number >= 0 else 0.0
        result[row] = others > 0 and others >= BLENDED_SHARE * light
    return result
