"""World coordinates: from the pixels of an image to the sky and back, and whether two images share a grid."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.files.fits import parse_cards
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


def pixel_at(header_text: str, shape: tuple[int, int], ra: float, dec: float) -> tuple[float, float] | None:
    """Return the pixel, from 0, of a position in an image.

    Parameters
    ----------
    header_text : str
        The image's header, 80 characters a card.
    shape : (int, int)
        Its shape (y, x).
    ra, dec : float
        ICRS degrees.

    Returns
    -------
    (x, y) or None
        NaN far from the image; None where the header has no celestial WCS that works.
    """
    cards = parse_cards(header_text)
    if _is_plain_tangent(cards):
        return _tangent_pixel(cards, ra, dec)
    wcs = celestial_wcs(header_text)
    if wcs is None:
        return None
    try:
        x, y = pixels(wcs, shape, np.array([ra]), np.array([dec]))
    except Exception:  # frames and projections that astropy cannot transform raise almost anything
        return None
    return float(x[0]), float(y[0])


# What makes a projection more than a tangent plane in J2000 with a matrix (FK5 and ICRS differ by 0.03 arcsec).
_BEYOND_TANGENT = re.compile(r"(PV|CROTA)\d|(A|B|AP|BP)_(ORDER|\d_\d)|(CQ|D)DIS\d|CPDIS\d|\w+[12][A-Z]$")
_MATRIX = re.compile(r"(CD|PC)[12]_[12]")


def _is_plain_tangent(cards: Mapping[str, Any]) -> bool:
    numbers = [cards.get(f"{key}{axis}") for key in ("CRVAL", "CRPIX") for axis in (1, 2)]
    matrix = [key for key in cards if _MATRIX.fullmatch(key)]
    linear = [cards[key] for key in matrix] + [cards[k] for k in ("CDELT1", "CDELT2") if k in cards]
    return (
        (cards.get("CTYPE1"), cards.get("CTYPE2")) == ("RA---TAN", "DEC--TAN")
        and all(isinstance(value, int | float) for value in numbers + linear)
        and len({key[:2] for key in matrix}) < 2
        and (any(key.startswith("CD1") for key in matrix) or {"CDELT1", "CDELT2"} <= set(cards))
        and all(str(cards.get(f"CUNIT{axis}", "deg")).strip() == "deg" for axis in (1, 2))
        and cards.get("LONPOLE", 180.0) == 180.0
        and str(cards.get("RADESYS", cards.get("RADECSYS", "ICRS"))).strip() in ("ICRS", "FK5")
        and cards.get("EQUINOX", cards.get("EPOCH", 2000.0)) == 2000.0
        and not any(_BEYOND_TANGENT.match(key) for key in cards)
    )


def _tangent_pixel(cards: Mapping[str, Any], ra: float, dec: float) -> tuple[float, float]:
    ra0, dec0 = (math.radians(cards[f"CRVAL{axis}"]) for axis in (1, 2))
    east, north = math.radians(ra) - ra0, math.radians(dec)
    depth = math.sin(dec0) * math.sin(north) + math.cos(dec0) * math.cos(north) * math.cos(east)
    if depth <= 0:  # the other side of the sky
        return math.nan, math.nan
    xi = math.degrees(math.cos(north) * math.sin(east) / depth)
    eta = math.degrees((math.cos(dec0) * math.sin(north) - math.sin(dec0) * math.cos(north) * math.cos(east)) / depth)
    if "CD1_1" in cards or "CD1_2" in cards:
        a, b, c, d = (cards.get(f"CD{i}_{j}", 0.0) for i in (1, 2) for j in (1, 2))
    else:
        a, b, c, d = (cards[f"CDELT{i}"] * cards.get(f"PC{i}_{j}", float(i == j)) for i in (1, 2) for j in (1, 2))
    determinant = a * d - b * c
    if not determinant:
        return math.nan, math.nan
    x = (d * xi - b * eta) / determinant + cards["CRPIX1"] - 1
    y = (a * eta - c * xi) / determinant + cards["CRPIX2"] - 1
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
