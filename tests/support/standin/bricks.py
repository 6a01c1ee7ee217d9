"""Whole Legacy Surveys bricks as static files: ``dr9/south/coadd/AAA/BRICK/legacysurvey-BRICK-image-BAND.fits.fz``."""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass
from functools import cache

import numpy as np

from standin.answers import Answer, html
from standin.sky import LS_PIXEL, Sky

SIDE = 3600


@dataclass(frozen=True)
class Brick:
    name: str
    ra: float
    dec: float


@cache
def _rows() -> list[tuple[float, int]]:
    """Return (central declination, number of bricks) of every row of 0.25 degrees."""
    rows = []
    for dec in np.arange(-90, 90.125, 0.25):
        count = math.ceil(1440 * math.cos(math.radians(abs(dec) - 0.125)) / 2) * 2
        rows.append((float(dec), 1 if abs(dec) == 90 else count))
    return rows


def brick_at(ra: float, dec: float) -> Brick:
    """Return the brick that owns a position."""
    row_dec, count = min(_rows(), key=lambda row: abs(row[0] - dec))
    centre = (math.floor(ra % 360 / (360 / count)) + 0.5) * 360 / count
    return Brick(f"{int(centre * 10):04d}{'m' if row_dec < 0 else 'p'}{int(abs(row_dec) * 10):03d}", centre, row_dec)


@cache
def _by_name(name: str) -> Brick | None:
    sign = -1 if name[4] == "m" else 1
    for row_dec, count in _rows():
        if int(abs(row_dec) * 10) == int(name[5:]) and (row_dec < 0) == (sign < 0):
            for index in range(count):
                centre = (index + 0.5) * 360 / count
                if int(centre * 10) == int(name[:4]):
                    return Brick(name, centre, row_dec)
    return None


class Bricks:
    def __init__(self, sky: Sky):
        self.sky = sky
        self._files: dict[str, bytes] = {}

    def answer(self, request, path: str) -> Answer:
        match = re.fullmatch(
            r"/dr(?:8|9|10)/(north|south)/coadd/(\d{3})/(\d{4}[mp]\d{3})/legacysurvey-\3-image-([griz])\.fits\.fz", path
        )
        brick = _by_name(match[3]) if match and match[3].startswith(match[2]) else None
        if match is None or brick is None or (match[1] == "north") != (brick.dec > 32.375):
            return html(404, "<h1>Not Found</h1>")
        if not self.sky.observed(match[4], np.float64(brick.ra), np.float64(brick.dec)):
            return html(404, "<h1>Not Found</h1>")
        if path not in self._files:
            self._files[path] = self._render(brick, match[4])
        return Answer(200, {"Content-Type": "application/octet-stream"}, self._files[path])

    def _render(self, brick: Brick, band: str) -> bytes:
        from astropy.io import fits

        from standin.viewer import tangent_grid

        plane = self.sky.noise_plane((SIDE, SIDE), brick.name, band).copy()
        for galaxy in self.sky.galaxies:
            dx = ((galaxy.ra - brick.ra + 180) % 360 - 180) * math.cos(math.radians(galaxy.dec)) * 3600 / LS_PIXEL
            dy = (galaxy.dec - brick.dec) * 3600 / LS_PIXEL
            x, y, half = int(SIDE / 2 - dx), int(SIDE / 2 + dy), int(10 * galaxy.radius_arcsec / LS_PIXEL)
            part = (slice(max(0, y - half), max(0, y + half)), slice(max(0, x - half), max(0, x + half)))
            if plane[part].size:
                grid = tangent_grid(brick.ra, brick.dec, SIDE, SIDE, LS_PIXEL, part)
                plane[part] += Sky([galaxy]).flux(band, *grid)
        header = fits.Header()
        header.update({"SURVEY": "DECaLS", "BRICKNAM": brick.name, "FILTER": band, "BUNIT": "nanomaggy"})
        header.update({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": brick.ra, "CRVAL2": brick.dec})
        header.update({"CRPIX1": (SIDE + 1) / 2, "CRPIX2": (SIDE + 1) / 2})
        header.update({"CD1_1": -LS_PIXEL / 3600, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": LS_PIXEL / 3600})
        out = io.BytesIO()
        image = fits.CompImageHDU(
            plane, header, compression_type="RICE_1", quantize_level=16, quantize_method=2, dither_seed=1
        )
        fits.HDUList([fits.PrimaryHDU(), image]).writeto(out)
        return out.getvalue()
