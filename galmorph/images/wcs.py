"""Astrometry: from the pixels of an image to the sky and back, and how far inside the image a pixel is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.images.fits_file import quiet

Array = NDArray[Any]


def sky(wcs: Any, x: Array, y: Array) -> tuple[Array, Array]:
    """Return right ascension and declination (ICRS degrees) of pixels from 0."""
    with quiet():
        places = wcs.pixel_to_world(x, y).icrs
    return places.ra.deg, places.dec.deg


def pixels(wcs: Any, shape: tuple[int, int], ra: Array, dec: Array) -> tuple[Array, Array]:
    """Return the pixels, from 0, of positions (ICRS degrees) in an image of a shape (y, x); NaN far from it."""
    from astropy.coordinates import SkyCoord

    height, width = shape
    x, y = np.full(len(ra), np.nan), np.full(len(ra), np.nan)
    with quiet():
        centre, corner = (wcs.pixel_to_world(*place).icrs for place in (((width - 1) / 2, (height - 1) / 2), (0, 0)))
        near = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
        places = SkyCoord(ra[near], dec[near], unit="deg")
        # Beyond, a projection may put the other side of the sky into the image.
        inside = places.separation(centre) < 1.2 * centre.separation(corner)
        near = near[inside]
        if len(near):
            x[near], y[near] = wcs.world_to_pixel(places[inside])
    return x, y


def side_arcsec(wcs: Any) -> float:
    """Return the side of a pixel at the reference point, as a square of its area has it."""
    from astropy.wcs.utils import proj_plane_pixel_area

    return math.sqrt(float(proj_plane_pixel_area(wcs))) * 3600


def edge_distance(x: Array, y: Array, shape: tuple[int, int]) -> Array:
    """Return how far inside the edge of an image of a shape (y, x) pixels are, px; negative outside."""
    height, width = shape
    return np.minimum(np.minimum(x, width - 1 - x), np.minimum(y, height - 1 - y))
