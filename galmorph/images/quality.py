"""Quality: what a cutout's pixels say against trusting the probabilities that come from it, as the bits of `Flag`."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from galmorph.images.cutout import Cutout, Flag
from galmorph.images.radius import measure_r90, neighbour_share, sky_level

__all__ = ["is_blended", "measure_r90", "quality", "signal_to_noise"]

# Where a survey has no data its services send exact zeros; complete planes hold fewer than one in a thousand.
PARTIAL_FRACTION = 0.01
# A pixel here and there (cosmic rays) changes no picture; the saturated core of a galaxy is above this share.
BAD_FRACTION = 0.001
# Frames and cutouts are rounded to whole pixels, and so thin a strip of sky tells nothing of the galaxy.
FRAME_TOLERANCE = 0.02
# Below 5 sigma there may be no galaxy at all.
MIN_SIGNAL_TO_NOISE = 5.0
# The aperture for it, as a square of so many R90 to each side: inside, the light of any profile is brightest.
APERTURE_R90 = 0.5
# R90 in Galaxy Zoo 2 begins at 3 arcsec (Willett et al. 2013, MNRAS 435, 2835); for galaxies of unknown radius.
DEFAULT_RADIUS_ARCSEC = 3.0
# That limit over SDSS's median seeing in r, 1.32 arcsec: of smaller galaxies no volunteer has been asked.
MIN_R90_SEEING = 2.3
# Other objects within R90 with this share of the galaxy's light. Of 1,500 galaxies of the Galaxy Zoo challenge a tenth
# are above, and half of those that volunteers called mergers.
BLENDED_SHARE = 0.2
# The sky for the signal to noise is taken from the border of a grid of so many pixels a side.
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
    """Return the flags of a cutout as it is used: in these bands, and in a frame of this width around its centre.

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
        `BAD_FRACTION` are masked. ``BLANK``: in no band does the centre stand out by `MIN_SIGNAL_TO_NOISE`.
        ``TOO_SMALL``: R90 is below `MIN_R90_SEEING` times the seeing.
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
    if radius_arcsec < MIN_R90_SEEING * seeing_arcsec:
        flag |= Flag.TOO_SMALL
    return flag


def signal_to_noise(cutout: Cutout, bands: Iterable[str], radius_arcsec: float) -> float:
    """Return the signal to noise of the brightest of some bands within half of R90; NaN where there is none.

    Parameters
    ----------
    cutout : Cutout
    bands : iterable of str
    radius_arcsec : float
        The galaxy's R90; where it is NaN, `DEFAULT_RADIUS_ARCSEC` stands for it.
    """
    aperture_arcsec = _aperture_arcsec(radius_arcsec)
    ratios = [_signal_to_noise(cutout, cutout.plane(band), aperture_arcsec) for band in bands if band in cutout.bands]
    return float(np.fmax.reduce(ratios, initial=np.nan))


def is_blended(cutout: Cutout, radius_arcsec: float) -> bool:
    """Whether other objects within R90 have more than `BLENDED_SHARE` of the galaxy's light (see `neighbour_share`)."""
    return neighbour_share(cutout, radius_arcsec) > BLENDED_SHARE


def _is_constant(plane: NDArray[np.float32]) -> bool:
    """Whether all pixels of a plane are equal, or all not finite."""
    # Few pixels settle it for nearly every plane.
    for pixels in (plane[::16, ::16], plane):
        finite = np.isfinite(pixels)
        if finite.any() and not (finite.all() and pixels.min() == pixels.max()):
            return False
    return True


def _square(cutout: Cutout, width_px: float) -> tuple[slice, slice]:
    """Return the part of the planes that a square of that width around the centre covers, a pixel at least."""
    margins = [int((side - max(1.0, min(width_px, side))) / 2) for side in cutout.flux.shape[1:]]
    rows, columns = (slice(cut, side - cut) for cut, side in zip(margins, cutout.flux.shape[1:], strict=True))
    return rows, columns


def _aperture_arcsec(radius_arcsec: float) -> float:
    return APERTURE_R90 * (radius_arcsec if radius_arcsec > 0 else DEFAULT_RADIUS_ARCSEC)


def _signal_to_noise(cutout: Cutout, plane: NDArray[np.float32], half_width_arcsec: float) -> float:
    """Return the signal to noise of a square at the centre; resampled pixels count as the native pixels they are of."""
    # A thousand pixels tell the sky well enough.
    step = max(1, min(plane.shape) // SKY_SIDE_PX)
    sky, sigma = sky_level(plane[::step, ::step])
    aperture = plane[_square(cutout, 2 * half_width_arcsec / cutout.pixscale)]
    aperture = aperture[np.isfinite(aperture)]
    if not (sigma > 0 and aperture.size):
        return math.nan
    independent = aperture.size * min(1.0, (cutout.pixscale / cutout.flux_pixscale) ** 2)
    return (float(aperture.mean()) - sky) * math.sqrt(independent) / sigma
