"""CDS hips2fits and the MocServer: one band a call, blank outside the coverage, several kinds of errors."""

from __future__ import annotations

import io
import json
import re

import numpy as np

from standin.answers import Answer, html
from standin.sky import LS_PIXEL, Sky
from standin.viewer import grey_jpeg, tangent_grid

LIMIT = 50_000_000
SURVEYS = {"CDS/P/DESI-Legacy-Surveys/DR10": ("griz", LS_PIXEL), "CDS/P/SDSS9": ("ugriz", 0.396)}


class Hips:
    def __init__(self, sky: Sky):
        self.sky = sky

    def answer(self, request, path: str) -> Answer:
        if path.startswith("/query"):
            return self._moc(request.query)
        return self._image(request.query) if path.startswith("/hips2fits") else html(404, "Not Found")

    def _moc(self, query: dict[str, str]) -> Answer:
        hips = query.get("expr", "").removeprefix("ID=")
        there = bool(self.sky.observed(hips[-1], np.float64(query["RA"]), np.float64(query["DEC"])))
        return Answer(200, {"Content-Type": "text/plain"}, f"{hips}\n".encode() if there else b"")

    def _image(self, query: dict[str, str]) -> Answer:
        from astropy.io import fits

        hips = query.get("hips", "")
        match = re.fullmatch(r"(.*)/(\w+)", hips)
        bands, native = SURVEYS.get(match[1] if match else "", ("", 0.0))
        colour = match is not None and match[2] == "color" and bool(bands)
        if match is None or not (colour or (match[2] in bands and len(match[2]) == 1)):
            return _error(404, "Not found", f"Hips {hips} does not exist")
        width, height = int(query.get("width", 1200)), int(query.get("height", 700))
        if width * height > LIMIT:
            return _error(400, "Bad request", "width * height must be at most 50 million")
        if query.get("format", "fits") != "fits":
            return grey_jpeg(width, height, 0)
        ra, dec = float(query["ra"]), float(query["dec"])
        pixscale = float(query["fov"]) * 3600 / max(width, height)
        if colour:
            data = np.full((4, height, width), 20, np.uint8)
        else:
            grid = tangent_grid(ra, dec, width, height, pixscale)
            data = self.sky.noise_plane((height, width), round(ra, 6), round(dec, 6), hips).copy()
            if self.sky.galaxies:
                data += (self.sky.flux(match[2], *grid) * (native / LS_PIXEL) ** 2).astype(np.float32)
            data[~self.sky.observed(match[2], grid[0] % 360, grid[1])] = np.nan
        hdu = fits.PrimaryHDU(data)
        hdu.header.update({"CRPIX1": width / 2 + 0.5, "CRPIX2": height / 2 + 0.5, "CRVAL1": ra, "CRVAL2": dec})
        hdu.header.update({"CDELT1": -pixscale / 3600, "CDELT2": pixscale / 3600, "CUNIT1": "deg", "CUNIT2": "deg"})
        hdu.header.update({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "RADESYS": "ICRS", "LONPOLE": 180.0})
        out = io.BytesIO()
        hdu.writeto(out)
        return Answer(200, {"Content-Type": "application/fits"}, out.getvalue())


def _error(status: int, title: str, description: str) -> Answer:
    body = json.dumps({"title": title, "description": description}).encode()
    return Answer(status, {"Content-Type": "application/json"}, body)
