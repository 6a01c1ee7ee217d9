"""The made-up sky that the stand-in services take pictures of."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

LS_PIXEL = 0.262  # arcsec; the unit of `Sky.flux` is nanomaggies per pixel of this size
_NOISE = np.random.default_rng(1).standard_normal((1024, 1024)).astype(np.float32)


@dataclass(frozen=True)
class Box:
    """A piece of sky between two right ascensions and two declinations (degrees, no wrap)."""

    ra_low: float
    ra_high: float
    dec_low: float
    dec_high: float

    def contains(self, ra, dec):
        return (ra >= self.ra_low) & (ra < self.ra_high) & (dec >= self.dec_low) & (dec < self.dec_high)


@dataclass(frozen=True)
class Galaxy:
    """An exponential disc with two spiral arms; `flux` is the total in r, nanomaggies."""

    ra: float
    dec: float
    flux: float = 400.0
    radius_arcsec: float = 5.0
    axis_ratio: float = 0.7
    angle_deg: float = 30.0
    arms: float = 0.4


COLOURS = {"u": 0.2, "g": 0.55, "r": 1.0, "i": 1.3, "z": 1.6, "y": 1.7}


@dataclass(frozen=True)
class Sky:
    """What is in the sky, and which part of it was observed.

    Attributes
    ----------
    galaxies : sequence of Galaxy
    off : sequence of Box
        Outside the footprint: no survey brick, no catalogued object.
    holes : sequence of (Box, str)
        Observed, but without the bands in the text: planes of exact zeros.
    real : sequence of Path
        Cubes of the Legacy Surveys or SDSS that are shown at their true positions.
    noise : float
        Standard deviation of the sky, nanomaggies per 0.262 arcsec pixel.
    """

    galaxies: Sequence[Galaxy] = ()
    off: Sequence[Box] = (Box(0, 360, -90, -70),)
    holes: Sequence[tuple[Box, str]] = ()
    real: Sequence[Path] = ()
    noise: float = 0.003
    _cubes: dict = field(default_factory=dict, compare=False, repr=False)

    def covered(self, ra, dec):
        """Tell whether positions (degrees; scalars or arrays) lie inside the footprint."""
        inside = np.ones(np.shape(ra), bool)
        for box in self.off:
            inside &= ~box.contains(ra, dec)
        return inside

    def observed(self, band: str, ra, dec):
        """Tell whether positions were observed in one band."""
        seen = self.covered(ra, dec)
        for box, bands in self.holes:
            if band in bands:
                seen &= ~box.contains(ra, dec)
        return seen

    def flux(self, band: str, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
        """Return the noiseless sky at positions, nanomaggies per 0.262 arcsec pixel."""
        total = np.zeros(ra.shape)
        middle = (float(ra.flat[ra.size // 2]), float(dec.flat[dec.size // 2]))
        reach = math.hypot(np.ptp(dec), np.ptp(dec)) * 3600 + 3600
        for galaxy in self.galaxies:
            if _apart_arcsec(galaxy.ra, galaxy.dec, *middle) < reach:
                near = abs(dec - galaxy.dec) < 12 * galaxy.radius_arcsec / 3600
                near &= abs((ra - galaxy.ra + 180) % 360 - 180) * math.cos(math.radians(galaxy.dec)) * 300 < (
                    galaxy.radius_arcsec
                )
                total[near] += _disc(galaxy, ra[near], dec[near]) * COLOURS[band]
        shown = np.zeros(ra.shape, bool)
        for path in self.real:  # where cubes overlap, the first is shown
            flux = self._real(path, band, ra, dec)
            new = np.isfinite(flux) & ~shown
            total[new] += flux[new]
            shown |= new
        return total

    def noise_plane(self, shape: tuple[int, int], *seed: object) -> np.ndarray:
        """Return sky noise (y, x) around a centre; the same seed gives the same noise, whatever the shape."""
        start = int.from_bytes(hashlib.blake2b(repr(seed).encode(), digest_size=4).digest(), "big")
        rows, columns = (
            (np.arange(n) - n // 2 + offset) % 1024 for n, offset in zip(shape, divmod(start, 1024), strict=True)
        )
        return _NOISE[np.ix_(rows, columns)] * np.float32(self.noise)

    def _real(self, path: Path, band: str, ra, dec) -> np.ndarray:
        """Return a cube's flux per 0.262 arcsec pixel, NaN beyond it. Where it lacks z or i it shows the other one."""
        from astropy.io import fits
        from astropy.wcs import WCS
        from scipy.ndimage import map_coordinates

        if path not in self._cubes:
            with fits.open(path) as hdus:
                header = hdus[0].header
                scale = (LS_PIXEL / header.get("PIXNATIV", LS_PIXEL)) ** 2
                wcs = WCS(header, naxis=2, fix=False)
                self._cubes[path] = (header["BANDS"], scale * hdus[0].data.astype(np.float64), wcs)
        bands, cube, wcs = self._cubes[path]
        if band not in bands:
            band = {"z": "i", "i": "z"}.get(band, band)
        if band not in bands or _apart_arcsec(*wcs.wcs.crval, float(ra.flat[0]), float(dec.flat[0])) > 7200:
            return np.full(ra.shape, np.nan)
        x, y = wcs.all_world2pix(ra, dec, 0)
        return map_coordinates(cube[bands.index(band)], [y, x], order=1, mode="constant", cval=np.nan)


def _apart_arcsec(ra1, dec1, ra2, dec2) -> float:
    dra = (ra1 - ra2 + 180) % 360 - 180
    return 3600 * math.hypot(dra * math.cos(math.radians(dec2)), dec1 - dec2)


def _disc(galaxy: Galaxy, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    x = ((ra - galaxy.ra + 180) % 360 - 180) * np.cos(np.radians(galaxy.dec)) * 3600
    y = (dec - galaxy.dec) * 3600
    angle = math.radians(galaxy.angle_deg)
    major = x * math.sin(angle) + y * math.cos(angle)
    minor = (x * math.cos(angle) - y * math.sin(angle)) / galaxy.axis_ratio
    scale = galaxy.radius_arcsec / 1.678
    r = np.sqrt(major**2 + minor**2 + 0.6**2)  # the last term stands for the seeing
    with np.errstate(under="ignore"):
        profile = np.exp(-r / scale) * galaxy.flux * LS_PIXEL**2 / (2 * math.pi * scale**2 * galaxy.axis_ratio)
    swirl = np.cos(2 * np.arctan2(minor, major) - 6 * np.log(r / scale))
    return profile * (1 + galaxy.arms * swirl * (1 - np.exp(-((r / scale) ** 2))))
