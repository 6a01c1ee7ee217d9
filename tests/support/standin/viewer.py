"""The Legacy Surveys viewer: FITS and JPEG cutouts, with its silent clamps, ignored parameters and 200-that-mean-no."""

from __future__ import annotations

import email.utils
import io
import math
import re
import time

import numpy as np

from standin.answers import Answer, card, html, padded
from standin.bricks import brick_at
from standin.sky import LS_PIXEL, Sky

PAGE = "<!DOCTYPE html><html><head><title>Legacy Survey Sky Browser</title></head><body></body></html>"
CEILING = 3000


class Viewer:
    def __init__(self, sky: Sky):
        self.sky = sky

    def answer(self, request, path: str) -> Answer:
        """Route as the viewer does: unanchored prefixes, and a web page for everything else."""
        if request.method not in ("GET", "HEAD"):
            return html(405, "")
        route = path.lstrip("/")
        if route.startswith(("fits-cutout", "cutout.fits")):
            return self._cutout(request.query, jpeg=False)
        if route.startswith(("jpeg-cutout", "cutout.jpg")):
            return self._cutout(request.query, jpeg=True)
        if re.match(r"[^/]+/cat\.fits", route):
            return html(200, "No catalog sources in layer and RA,Dec box")
        return html(200, PAGE)

    def _cutout(self, query: dict[str, str], *, jpeg: bool) -> Answer:
        try:
            ra, dec = float(query["ra"]), float(query["dec"])
        except (KeyError, ValueError):
            return html(400, "Need ra,dec keywords")
        layer = layer_facts(query.get("layer", "ls-dr9").replace(" ", "+"))
        if layer is None:
            return html(200, "no such layer")
        name, version, default, allowed, native = layer
        try:
            if "pixscale" in query:
                pixscale = float(query["pixscale"])
            else:
                pixscale = native * 2.0 ** ((13 if native > 0.3 else 14) - int(query.get("zoom", 14)))
            size = int(query.get("size", 256))
            width = min(int(query.get("width", size)), CEILING)
            height = min(int(query.get("height", size)), CEILING)
            split = re.fullmatch(r"ls-dr\d+", query.get("layer", "ls-dr9"))
            if pixscale <= 0 or (split and float(query.get("rotate", 0))):
                raise ValueError
        except ValueError:
            return html(500, "<h1>Server Error (500)</h1>")
        bands = query.get("bands", default)
        if not bands or not set(bands) <= set(allowed):
            bands = default
        # The images are there where some brick touches the box, not only where its centre is covered.
        half = pixscale * max(width, height) / 7200
        corners_ra = ra + np.array([0, -half, half, -half, half]) / max(math.cos(math.radians(dec)), 1e-3)
        corners_dec = dec + np.array([0, -half, -half, half, half])
        if not np.any(self.sky.covered(corners_ra, corners_dec)):
            grey = 32 if native < 0.3 else 22
            return grey_jpeg(width, height, grey) if jpeg else html(500, "<h1>Server Error (500)</h1>")
        if jpeg:
            return rgb_jpeg(self._cube(ra, dec, bands, width, height, pixscale, native), bands)
        scaled = pixscale >= 2 * native
        body = self._fits(query, name, version, bands, (ra, dec, width, height, pixscale, native), scaled)
        now = time.time()
        return Answer(
            200,
            {
                "Content-Type": "image/fits",
                "Content-Disposition": f'attachment; filename="cutout_{ra:.4f}_{dec:.4f}.fits"',
                "Expires": email.utils.formatdate(now + 3600, usegmt=True),
                "Last-Modified": email.utils.formatdate(now, usegmt=True),
                "Access-Control-Allow-Origin": "*",
            },
            body,
        )

    def _fits(self, query, name: str, version: str, bands: str, grid: tuple, scaled: bool) -> bytes:
        if "subimage" in query:
            return self._subimage(name, version, bands, grid)
        cube = self._cube(*grid[:2], bands, *grid[2:])
        if len(bands) == 1:
            cube = cube[0]
        out = self._hdu(name, version, bands, "IMAGE", grid, cube)
        if "invvar" in query and not scaled:
            out += self._hdu(name, version, bands, "INVVAR", grid, np.where(cube != 0, 1 / self.sky.noise**2, 0.0))
        if "maskbits" in query and not scaled:
            out += self._hdu(name, version, bands, "MASKBITS", grid, np.zeros(cube.shape[-2:], ">i4"))
        return out

    def _hdu(self, name: str, version: str, bands: str, kind: str, grid: tuple, data: np.ndarray) -> bytes:
        ra, dec, width, height, pixscale, _ = grid
        integer = data.dtype.kind == "i"
        cards = [
            card("SIMPLE", True, "file does conform to FITS standard")
            if kind == "IMAGE"
            else card("XTENSION", "IMAGE", "IMAGE extension"),
            card("BITPIX", 32 if integer else -32, "number of bits per data pixel"),
            card("NAXIS", data.ndim, "number of data axes"),
            *(card(f"NAXIS{i + 1}", n, f"length of data axis {i + 1}") for i, n in enumerate(data.shape[::-1])),
        ]
        if kind == "IMAGE":
            cards += [
                card("EXTEND", True, "FITS dataset may contain extensions"),
                "COMMENT   FITS (Flexible Image Transport System) format is defined in 'Astronomy".ljust(80),
                "COMMENT   and Astrophysics', volume 376, page 359; bibcode: 2001A&A...376..359H".ljust(80),
            ]
        else:
            cards += [card("PCOUNT", 0, "required keyword; must = 0"), card("GCOUNT", 1, "required keyword; must = 1")]
        cards += [card("SURVEY", name)]
        cards += [card("VERSION", version)] if version else []
        cards += [card("IMAGETYP", kind), card("BANDS", bands)]
        cards += [card(f"BAND{i}", band) for i, band in enumerate(bands)]
        cards += [
            card("CTYPE1", "RA---TAN", "TANgent plane"),
            card("CTYPE2", "DEC--TAN", "TANgent plane"),
            card("CRVAL1", ra, "Reference RA"),
            card("CRVAL2", dec, "Reference Dec"),
            card("CRPIX1", (width + 1) / 2, "Reference x"),
            card("CRPIX2", (height + 1) / 2, "Reference y"),
            card("CD1_1", -pixscale / 3600, "CD matrix"),
            card("CD1_2", 0.0, "CD matrix"),
            card("CD2_1", 0.0, "CD matrix"),
            card("CD2_2", pixscale / 3600, "CD matrix"),
            card("IMAGEW", width, "Image width"),
            card("IMAGEH", height, "Image height"),
            "END".ljust(80),
        ]
        header = padded("".join(cards).encode(), b" ")
        return header + padded(np.ascontiguousarray(data, ">i4" if integer else ">f4").tobytes())

    def _cube(self, ra: float, dec: float, bands: str, width: int, height: int, pixscale: float, native: float):
        """Return float32 (band, y, x), in units of the native pixel whatever the pixel scale."""
        cube = np.empty((len(bands), height, width), np.float32)
        holes = self.sky.holes or any(box.dec_low > -90 or box.dec_high > -70 for box in self.sky.off)
        objects = self.sky.galaxies or self.sky.real
        if holes or objects:
            sky_ra, sky_dec = tangent_grid(ra, dec, width, height, pixscale)
        for plane, band in zip(cube, bands, strict=True):
            plane[:] = self._noise(plane.shape, pixscale / native, round(ra, 6), round(dec, 6), band)
            if objects:
                plane += self.sky.flux(band, sky_ra, sky_dec) * (native / LS_PIXEL) ** 2
            if holes:
                plane[~self.sky.observed(band, sky_ra % 360, sky_dec)] = 0.0
        return cube

    def _noise(self, shape: tuple[int, int], ratio: float, *seed: object) -> np.ndarray:
        """Return the noise of the native pixels, resampled as the images are."""
        from scipy.ndimage import map_coordinates

        if ratio == 1:
            return self.sky.noise_plane(shape, *seed)
        height, width = (math.ceil(n * ratio / 2) * 2 + 8 for n in shape)
        native = self.sky.noise_plane((height, width), *seed)
        y, x = ((np.arange(n) - (n - 1) / 2) * ratio + (m - 1) / 2 for n, m in zip(shape, (height, width), strict=True))
        return map_coordinates(native, np.meshgrid(y, x, indexing="ij"), order=3)

    def _subimage(self, name: str, version: str, bands: str, grid: tuple) -> bytes:
        from astropy.io import fits

        ra, dec, width, height, _, native = grid
        primary = fits.PrimaryHDU()
        primary.header.update({"BITPIX": 16, "SURVEY": name, "VERSION": version, "IMAGETYP": "IMAGE"})
        hdus = fits.HDUList([primary])
        brick = brick_at(ra, dec)
        for band in bands:
            for kind in ("image", "invvar"):
                data = self._cube(ra, dec, band, width, height, native, native)[0]
                hdu = fits.ImageHDU(data if kind == "image" else np.full_like(data, 1 / self.sky.noise**2))
                x = (brick.ra - ra) * math.cos(math.radians(dec)) * 3600 / native
                hdu.header.update({"SURVEY": name, "VERSION": version, "IMAGETYP": kind, "BRICK": brick.name})
                hdu.header.update({"BRICK_X0": int(1800 + x), "BRICK_Y0": 1800, "BAND": band})
                hdu.header.update({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": ra, "CRVAL2": dec})
                hdu.header.update({"CRPIX1": (width + 1) / 2, "CRPIX2": (height + 1) / 2})
                hdu.header.update({"CD1_1": -native / 3600, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": native / 3600})
                hdus.append(hdu)
        out = io.BytesIO()
        hdus.writeto(out)
        return out.getvalue()


def layer_facts(layer: str) -> tuple[str, str, str, str, float] | None:
    """Return (SURVEY, VERSION, default bands, allowed bands, native pixel) of a layer, None where there is none."""
    layer = {"dr8": "ls-dr8", "sdss2": "sdss", "sdssco": "sdss"}.get(layer, layer)
    if layer == "sdss":
        return "SDSS", "", "gri", "gri", 0.396
    if layer in ("decals-dr5", "decals-dr7"):
        return "DECaLS", f"DR{layer[-1]}", "grz", "grz", LS_PIXEL
    if layer == "mzls+bass-dr6":
        return "MzLS+BASS", "DR6", "grz", "grz", LS_PIXEL
    match = re.fullmatch(r"ls-dr(8|9|10|11)(-north|-south)?(-model|-resid)?(-grz|-gri)?", layer)
    if match is None:
        return None
    number, half, _, subset = match.groups()
    bands = (subset or "").lstrip("-") or ("griz" if number == "10" else "grz")
    survey = {"-south": "DECaLS", "-north": "BASS MzLS"}.get(half or "", "LegacySurvey")
    return survey, f"DR{number}{half or ''}", bands, bands, LS_PIXEL


def tangent_grid(ra: float, dec: float, width: int, height: int, pixscale: float, part=(slice(None), slice(None))):
    """Return the sky position (degrees) of the pixels of a TAN image (or of a part of it), each (height, width)."""
    x = np.radians(-(np.arange(width) - (width - 1) / 2) * pixscale / 3600)[part[1]][None, :]
    y = np.radians((np.arange(height) - (height - 1) / 2) * pixscale / 3600)[part[0]][:, None]
    d0 = math.radians(dec)
    below = math.cos(d0) - y * math.sin(d0)
    alpha = np.arctan2(x, below)
    delta = np.arctan2((y * math.cos(d0) + math.sin(d0)) * np.cos(alpha), below)
    return ra + np.degrees(alpha), np.degrees(delta) + 0 * x


def grey_jpeg(width: int, height: int, level: int) -> Answer:
    return _jpeg(np.full((height, width, 3), level, np.uint8))


def rgb_jpeg(cube: np.ndarray, bands: str) -> Answer:
    """Return the viewer's colour picture (``sdss_rgb`` with the constants of its ``dr2_rgb``)."""
    scales = {"g": 6.0, "r": 3.4, "i": 3.0, "z": 2.2}
    planes = [cube[bands.index(band)] * scales[band] for band in (bands[-1], bands[len(bands) // 2], bands[0])]
    mean = sum(np.maximum(0, plane + 0.03) for plane in planes) / len(planes)
    stretched = np.arcsinh(20 * mean) / math.sqrt(20)
    mean = np.where(mean == 0, 1e-6, mean)
    rgb = np.clip(np.stack([(plane + 0.03) * stretched / mean for plane in planes], -1), 0, 1)
    return _jpeg((rgb * 255).astype(np.uint8)[::-1])


def _jpeg(pixels: np.ndarray) -> Answer:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=90)
    return Answer(200, {"Content-Type": "image/jpeg"}, out.getvalue())
