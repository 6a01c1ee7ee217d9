"""World coordinates: from the pixels of an image to the sky and back, and whether two images share a grid."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import memory_is_full
from galmorph.files.fits import parse_cards
from galmorph.images.fits_file import quiet

Array = NDArray[Any]

# Bands of one galaxy must agree on the sky to half a pixel, otherwise the colours are wrong.
GRID_TOLERANCE_PX = 0.5


def sky(wcs: Any, x: Array | float, y: Array | float) -> tuple[Array, Array]:
    """Return right ascension and declination (ICRS degrees) of pixels from 0."""
    with quiet():
        positions = _positions(wcs, x, y)
    return positions.ra.deg, positions.dec.deg


def _positions(wcs: Any, x: Any, y: Any) -> Any:
    from astropy.coordinates import SkyCoord

    world = wcs.pixel_to_world_values(x, y)
    return SkyCoord(world[wcs.wcs.lng], world[wcs.wcs.lat], unit="deg", frame=_frame(wcs)).icrs


def _frame(wcs: Any) -> Any:
    """Return the astropy frame of a celestial WCS, also those that astropy itself does not derive.

    Raises
    ------
    ValueError
        If its ``RADESYS`` is unknown.
    """
    from astropy import coordinates
    from astropy.time import Time
    from astropy.wcs.utils import wcs_to_celestial_frame

    axis = wcs.wcs.ctype[wcs.wcs.lng][:4]
    if axis == "ELON":
        equinox = wcs.wcs.equinox
        return coordinates.BarycentricMeanEcliptic(
            equinox=Time(2000.0 if math.isnan(equinox) else equinox, format="jyear")
        )
    return coordinates.Supergalactic() if axis == "SLON" else wcs_to_celestial_frame(wcs)


def pixels(wcs: Any, shape: tuple[int, int], ra: Array, dec: Array) -> tuple[Array, Array]:
    """Return the pixels, from 0, of positions (ICRS degrees) in an image of a shape (y, x); NaN far from it."""
    from astropy.coordinates import SkyCoord

    height, width = shape
    x, y = np.full(len(ra), np.nan), np.full(len(ra), np.nan)
    with quiet():
        centre, corner = (_positions(wcs, *pixel) for pixel in (((width - 1) / 2, (height - 1) / 2), (0, 0)))
        near = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
        positions = SkyCoord(ra[near], dec[near], unit="deg")
        # Farther away, a projection may put the other side of the sky into the image.
        inside = positions.separation(centre) < 1.2 * centre.separation(corner)
        near = near[inside]
        if len(near):
            there = positions[inside].transform_to(_frame(wcs)).spherical
            world = [there.lon.deg, there.lat.deg]
            x[near], y[near] = wcs.world_to_pixel_values(*(world if wcs.wcs.lng == 0 else world[::-1]))
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
    with suppress(ValueError, TypeError, OverflowError):  # a damaged card: astropy reads the rest
        cards = parse_cards(header_text)
        if _is_plain_tangent(cards):
            return _tangent_pixel(cards, ra, dec)
    wcs = celestial_wcs(header_text)
    if wcs is None:
        return None
    try:
        x, y = pixels(wcs, shape, np.array([ra]), np.array([dec]))
    except Exception as error:  # astropy raises errors of any kind for unsupported frames and projections
        if memory_is_full(error):
            raise
        return None
    return float(x[0]), float(y[0])


# Cards of projections other than a tangent plane in J2000 with a matrix (FK5 and ICRS differ by 0.03 arcsec).
_BEYOND_TANGENT = re.compile(r"(PV|CROTA)\d|PC00\d00\d|(A|B|AP|BP)_(ORDER|\d_\d)|(CQ|D)DIS\d|CPDIS\d|\w+[12][A-Z]$")
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


def near_pairs(ra: Array, dec: Array, radius_arcsec: float) -> NDArray[np.intp]:
    """Return the pairs of rows, shape (n, 2), whose positions (ICRS degrees, finite) are nearer than a radius."""
    from scipy.spatial import cKDTree

    if not len(ra):
        return np.empty((0, 2), np.intp)
    lon, lat = np.radians(np.asarray(ra, float)), np.radians(np.asarray(dec, float))
    vectors = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
    chord = 2 * math.sin(math.radians(radius_arcsec / 3600) / 2)
    return cKDTree(vectors).query_pairs(chord, output_type="ndarray")


def side_arcsec(wcs: Any) -> float:
    """Return the side of a square with the area of a pixel at the reference point."""
    from astropy.wcs.utils import proj_plane_pixel_area

    return math.sqrt(float(proj_plane_pixel_area(wcs))) * 3600


def edge_distance(x: Array, y: Array, shape: tuple[int, int]) -> Array:
    """Return how far inside the edge of an image of a shape (y, x) pixels are, px; negative outside."""
    height, width = shape
    return np.minimum(np.minimum(x, width - 1 - x), np.minimum(y, height - 1 - y))


def same_grid(one: str, other: str, shape: tuple[int, ...]) -> bool:
    """Return whether two headers put an image of that shape on the same sky; True if one of them has no WCS."""
    return not (np.abs(corners_in(one, other, shape) - corners(shape)) >= GRID_TOLERANCE_PX).any()


def corners_in(one: str, other: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the corners (x, y from 0) of an image with header `other` in pixels of `one`; NaN without a WCS."""
    first, second = celestial_wcs(one), celestial_wcs(other)
    if first is None or second is None:
        return np.full((4, 2), np.nan)
    with quiet():
        return np.asarray(first.wcs_world2pix(second.wcs_pix2world(corners(shape), 0), 0))


def celestial_wcs(header_text: str) -> Any:
    """Return the celestial WCS (2 axes) of a header as an astropy WCS; None if there is none, or if it is unusable."""
    return read_wcs(header_text)[0]


def read_wcs(header_text: str) -> tuple[Any, str]:
    """Return the celestial WCS of a header, or None and the reason why it cannot be used.

    Misspellings of ``CUNIT``, ``CTYPE``, ``RADESYS`` and ``EQUINOX`` that can only mean one thing are repaired.

    Parameters
    ----------
    header_text : str
        80 characters a card.

    Returns
    -------
    wcs : astropy.wcs.WCS or None
    problem : str
        ``''`` where there is a WCS, or where the header does not claim one.
    """
    from astropy.io import fits
    from astropy.wcs import WCS

    with quiet():
        problem, claimed = "", ""
        try:
            header = fits.Header.fromstring(header_text)
            claimed = ", ".join(f"{key} {header[key]!r}" for key in _WCS_TEXTS if key in header)
            _repair(header)
            kinds = [str(header.get(key, "")) for key in ("CTYPE1", "CTYPE2")]
            if not any(kind.startswith(CELESTIAL) or kind in ("RA", "DEC") for kind in kinds):
                return None, _in_another_form(header)
            if lacking := [key for key in _NEEDED if not isinstance(header.get(key), int | float)]:
                return None, f"its celestial coordinates lack numbers in {', '.join(lacking)}"
            wcs = WCS(header, naxis=2)
            if wcs.has_celestial:
                _frame(wcs)
                return wcs, ""
            problem = "they are not a longitude and a latitude"
        except Exception as error:  # wcslib and astropy raise errors of any kind for odd headers
            if memory_is_full(error):
                raise
            problem = str(error).strip().rpartition("\n")[2] or type(error).__name__
        return None, f"its celestial coordinates cannot be read ({claimed}): {problem.rstrip('.: ')}"


def _in_another_form(header: Any) -> str:
    """Return the reason why unsupported coordinates cannot be used; ``''`` if there are none."""
    letters = [
        letter for letter in string.ascii_uppercase if str(header.get(f"CTYPE1{letter}", "")).startswith(CELESTIAL)
    ]
    if letters:
        return f"its celestial coordinates stand only in a second description (CTYPE1{letters[0]}), which is not read"
    if "PLTRAH" in header:
        return "its celestial coordinates are a plate solution of the Digitized Sky Survey (PLTRAH), which is not read"
    return ""


# By the standard a missing one is 0, which would silently put an image at the edge of the sky.
_NEEDED = ("CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2")
_WCS_TEXTS = ("CTYPE1", "CTYPE2", "CUNIT1", "CUNIT2", "RADESYS", "EQUINOX")
CELESTIAL = ("RA--", "DEC-", "GLON", "GLAT", "ELON", "ELAT", "SLON", "SLAT")
_CTYPE = re.compile(r"(RA|DEC|[GES]LON|[GES]LAT)[-_ ]+([A-Z]{2,3})(-SIP)?")
# Spellings of units of angle, lower case, and their arcsec.
_ANGLES = {
    **dict.fromkeys(("", "deg", "degs", "degree", "degrees"), 3600.0),
    **dict.fromkeys(("arcmin", "arcmins", "arcminute", "arcminutes", "amin"), 60.0),
    **dict.fromkeys(("arcsec", "arcsecs", "arcsecond", "arcseconds", "asec"), 1.0),
    "mas": 1e-3,
    **dict.fromkeys(("rad", "radian", "radians"), 648000 / math.pi),
}
_STANDARD = {3600.0: "deg", 60.0: "arcmin", 1.0: "arcsec", 1e-3: "mas", 648000 / math.pi: "rad"}


def arcsec_of(unit: str) -> float:
    """Return the arcsec of a unit of angle (``''``: degree) in any spelling; NaN for any other text."""
    return _ANGLES.get(unit.strip().lower(), math.nan)


def repaired_ctypes(first: str, second: str) -> tuple[str, str]:
    """Return both CTYPEs in upper case with the dashes of the standard, if they are clear."""
    given = [text.strip(" '\"").upper() for text in (first, second)]
    codes = [match[2] if (match := _CTYPE.fullmatch(text)) else "" for text in given]
    whole = max(codes, key=len)
    for i, text in enumerate(given):
        if (match := _CTYPE.fullmatch(text)) and whole.startswith(match[2]):  # the last of 8 letters may be cut off
            given[i] = f"{match[1]:-<4}-{whole}{match[3] or ''}"
    return given[0], given[1]


def _repair(header: Any) -> None:
    """Replace misspellings in the cards of a header's WCS."""
    if "CTYPE1" in header and "CTYPE2" in header:
        header["CTYPE1"], header["CTYPE2"] = repaired_ctypes(str(header["CTYPE1"]), str(header["CTYPE2"]))
    for keyword in ("CUNIT1", "CUNIT2"):
        if keyword in header and (scale := arcsec_of(str(header[keyword]))) in _STANDARD:
            header[keyword] = _STANDARD[scale]
    for keyword in _NEEDED:
        if isinstance(header.get(keyword), str):
            header[keyword] = float(header[keyword])
    for keyword in ("EQUINOX", "EPOCH"):
        if keyword in header and isinstance(header[keyword], str):
            text = header[keyword].strip().upper().lstrip("JB")
            header[keyword] = float(text)  # a text that is not a year is an error
    for keyword in ("RADESYS", "RADECSYS"):
        if keyword in header:
            words = re.findall(r"[A-Z0-9]+(?:-NO-E)?", str(header[keyword]).upper())
            system = next((word for word in words if word in ("ICRS", "FK5", "FK4", "FK4-NO-E")), "")
            if not system and ("J2000" in words or "B1950" in words):
                system = "FK5" if "J2000" in words else "FK4"
            header[keyword] = system or header[keyword]


def corners(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the centres of the corner pixels (x, y from 0) of an image."""
    right, top = shape[-1] - 1, shape[-2] - 1
    return np.array([[0, 0], [right, 0], [0, top], [right, top]], float)
