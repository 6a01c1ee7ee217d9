"""World coordinates: from the pixels of an image to the sky and back, and whether two images share a grid."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.images.fits_file import quiet

Array = NDArray[Any]

# Bands of one galaxy must agree on the sky to half a pixel, else colours come from displaced light.
GRID_TOLERANCE_PX = 0.5


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


def same_grid(one: str, other: str, shape: tuple[int, ...]) -> bool:
    """Whether two headers put an image of that shape at the same place of the sky, as far as they say."""
    return not (np.abs(corners_in(one, other, shape) - corners(shape)) >= GRID_TOLERANCE_PX).any()


def corners_in(one: str, other: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return where the corners (x, y from 0) of an image with header `other` fall in `one`; NaN if neither says."""
    first, second = celestial_wcs(one), celestial_wcs(other)
    if first is None or second is None:
        return np.full((4, 2), np.nan)
    with quiet():
        return np.asarray(first.wcs_world2pix(second.wcs_pix2world(corners(shape), 0), 0))


def celestial_wcs(header_text: str) -> Any:
    """Return the celestial WCS (2 axes) of a header as an astropy WCS; None where there is none, or none that works."""
    from astropy.io import fits
    from astropy.wcs import WCS

    with quiet():
        try:
            wcs = WCS(fits.Header.fromstring(header_text), naxis=2)
        except Exception:  # on odd headers wcslib and astropy raise almost anything
            return None
        return wcs if wcs.has_celestial else None


def corners(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the centres of the corner pixels (x, y from 0) of an image."""
    right, top = shape[-1] - 1, shape[-2] - 1
    return np.array([[0, 0], [right, 0], [0, top], [right, top]], float)
