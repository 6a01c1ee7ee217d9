"""Stars: the clump of point sources among the objects of a survey image, and which objects are galaxies."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.images.flags import DetectionFlag

Array = NDArray[Any]

# Below this signal to noise an object has no measurable shape: stars and galaxies look alike.
MIN_SIGNAL_TO_NOISE = 10.0
# Stars: the clump of the smallest objects that are brighter than this, in a window of half-light radii this wide.
# Seeing varies by a few percent over an image; sizes of galaxies by a factor of ten.
BRIGHT_SIGNAL_TO_NOISE, CLUMP_WIDTH, MIN_CLUMP = 40.0, 1.12, 5
# A clump consists of stars if it has this share of the bright objects, and this factor more than the next window. If
# the survey's seeing is known, the clump must also be within this range of it.
CLUMP_SHARE, CLUMP_CONTRAST, SEEING_RANGE = 0.1, 1.5, (0.6, 1.8)
# A galaxy is less concentrated than stars by at least this share and this many sigma. Stars scatter by 2 % if the point
# spread function is the same over the image, and by twice that if it varies.
MIN_EXTENT, EXTENT_SIGMA = 0.06, 2.5
# Radius of the outer circle of the concentration, in half-light radii of the stars; the inner one has 1.
OUTER_CIRCLE = 2.0
# A saturated object up to this many times the stars' half-light radius is a star whose core is cut off.
SATURATED_STAR = 4.0


def find_galaxies(
    objects: Array, image: Array, segmentation: NDArray[np.int32], expected_px: float
) -> tuple[NDArray[np.bool_], float]:
    """Separate galaxies from stars by their concentration, compared with that of the clump of stars.

    Parameters
    ----------
    objects : structured ndarray (n,)
        As of `galmorph.images.detection.Detection`.
    image : ndarray, float32, shape (y, x)
        The image in which they were detected, in units of its noise.
    segmentation : ndarray, int32, shape (y, x)
        The number of the object from 1, 0 for none.
    expected_px : float
        The survey's typical seeing in pixels, NaN where it is unknown.

    Returns
    -------
    galaxy : ndarray of bool (n,)
    seeing_px : float
        Full width at half maximum of the stars; `expected_px` where none stand out.
    """
    import sep

    strong = (objects["snr"] >= MIN_SIGNAL_TO_NOISE) & np.isfinite(objects["r50"])
    clean = strong & (objects["flag"] == 0) & (objects["snr"] > BRIGHT_SIGNAL_TO_NOISE)
    radius = _clump(objects["r50"][clean], expected_px / 2)
    if math.isnan(radius):
        return strong, expected_px
    numbers = np.arange(1, len(objects) + 1, dtype=np.int32)[:, None]
    circles = np.array([1.0, OUTER_CIRCLE]) * radius
    x, y = objects["x"][:, None], objects["y"][:, None]
    inner, outer = sep.sum_circle(image, x, y, circles, segmap=segmentation, seg_id=numbers)[0].T
    with np.errstate(divide="ignore", invalid="ignore"):
        concentration = np.nan_to_num(inner / outer)
        error = np.nan_to_num(math.sqrt(math.pi) * circles[1] / outer, posinf=1.0, neginf=1.0)
    near = clean & (objects["r50"] > radius / CLUMP_WIDTH) & (objects["r50"] < radius * CLUMP_WIDTH)
    of_stars = float(np.median(concentration[near]))
    extended = concentration < of_stars * (1 - np.maximum(MIN_EXTENT, EXTENT_SIGMA * np.abs(error)))
    saturated = objects["flag"] & DetectionFlag.SATURATED > 0
    star = saturated & (objects["r50"] < SATURATED_STAR * radius)
    # Half of the light of a Gaussian is within half of its full width at half maximum.
    return strong & extended & ~star, 2 * radius


def _clump(sizes: Array, expected: float) -> float:
    """Return the half-light radius (px) of the stars: the densest window among the smallest objects; NaN if none."""
    sizes = np.sort(sizes)
    n_bright = len(sizes)
    if math.isfinite(expected):
        low, high = SEEING_RANGE
        sizes = sizes[(sizes > low * expected) & (sizes < high * expected)]
    if len(sizes) < MIN_CLUMP:
        return math.nan
    counts = np.searchsorted(sizes, sizes * CLUMP_WIDTH, side="right") - np.arange(len(sizes))
    beside = np.searchsorted(sizes, sizes * CLUMP_WIDTH**2, side="right") - np.arange(len(sizes)) - counts
    good = (counts >= max(MIN_CLUMP, CLUMP_SHARE * n_bright)) & (counts >= CLUMP_CONTRAST * beside)
    if not good.any():
        return math.nan
    first = int(np.argmax(good))
    # The best of the windows that overlap the first one.
    best = first + int(np.argmax(counts[first : np.searchsorted(sizes, sizes[first] * CLUMP_WIDTH, side="right")]))
    return float(np.median(sizes[best : best + counts[best]]))
