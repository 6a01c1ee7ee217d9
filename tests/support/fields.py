"""Made-up survey fields: galaxies and stars at known places, seeing and noise; for tests and benchmarks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from astropy.io import fits
from galaxies import wcs_cards

PIXSCALE = 0.262
BANDS = "grz"
# Noise of a pixel (nanomaggies) at the depth of DR9, and full widths of the stars (arcsec), as in galmorph.demo.
NOISE = {"g": 0.0035, "r": 0.0074, "z": 0.017, "i": 0.011}
SEEING = {"g": 1.29, "r": 1.18, "z": 1.11, "i": 1.15}
COLOURS = {"g": 0.5, "r": 1.0, "z": 1.5, "i": 1.3}
OVERSAMPLE = 3
SATURATION = 12.0  # nanomaggies in a pixel


@dataclass
class Field:
    """A made field: planes (band, y, x) in nanomaggies, and the truth."""

    flux: np.ndarray
    bands: str
    header: fits.Header
    galaxies: np.ndarray  # x, y, mag, flux (in r), r50 (arcsec), snr (in r), ratio, theta
    stars: np.ndarray


def made_field(
    side=600, n_galaxies=60, n_stars=40, seed=0, bands=BANDS, gap=12.0, edge=20, pixscale=PIXSCALE, faint=21.5
):
    """Galaxies of Sersic index 1 and 4, r = 16.5 to `faint`, and stars, `gap` px apart at least."""
    rng = np.random.default_rng(seed)
    places = apart(rng, n_galaxies + n_stars, side, gap, edge)
    record = [(name, "f8") for name in ("x", "y", "mag", "flux", "r50", "snr", "ratio", "theta")]
    galaxies, stars = np.zeros(n_galaxies, record), np.zeros(n_stars, record)
    galaxies["x"], galaxies["y"] = places[:n_galaxies].T
    stars["x"], stars["y"] = places[n_galaxies:].T
    # Number counts rise towards the faint; sizes fall.
    galaxies["mag"] = faint + np.log10(rng.uniform(10 ** (0.4 * (16.5 - faint)), 1, n_galaxies)) / 0.4
    galaxies["r50"] = 2.5 * 10 ** (-0.12 * (galaxies["mag"] - 18) + rng.normal(0, 0.1, n_galaxies))
    galaxies["ratio"], galaxies["theta"] = (
        rng.uniform(0.2, 1, n_galaxies),
        rng.uniform(-math.pi / 2, math.pi / 2, n_galaxies),
    )
    stars["mag"] = rng.uniform(16, 21, n_stars)
    for table in (galaxies, stars):
        table["flux"] = 10 ** (0.4 * (22.5 - table["mag"]))
        blurred = np.hypot(table["r50"], SEEING["r"] / 2) / pixscale
        table["snr"] = table["flux"] / 2 / (NOISE["r"] * math.sqrt(math.pi) * blurred)
    flux = np.zeros((len(bands), side, side), np.float32)
    light = np.zeros((side, side), np.float32)
    for galaxy, index in zip(galaxies, rng.choice([1.0, 1.0, 4.0], n_galaxies), strict=True):
        add(light, galaxy, profile(galaxy, index, pixscale))
    for plane, band in zip(flux, bands, strict=True):
        plane[:] = light * np.float32(COLOURS[band])
        for star in stars:
            add(plane, star, np.full((1, 1), star["flux"] * COLOURS[band]), point=True)
        plane[:] = seen(plane, SEEING[band] / pixscale)
        plane += rng.normal(0, NOISE[band], plane.shape).astype(np.float32)
    return Field(flux, bands, wcs_cards(side, pixscale), galaxies, stars)


def apart(rng, n, side, gap, edge):
    """Places (n, 2) that are at least a gap from one another."""
    from scipy.spatial import cKDTree

    places = rng.uniform(edge, side - 1 - edge, (20 * n, 2))
    taken = np.ones(len(places), bool)
    for i, j in sorted(cKDTree(places).query_pairs(gap)):
        if taken[i]:
            taken[j] = False
    places = places[taken]
    assert len(places) >= n, "too crowded"
    return places[:n]


def profile(galaxy, index, pixscale):
    """The light of a galaxy around the pixel next to its centre, (2 h + 1, 2 h + 1)."""
    half = int(min(6 * galaxy["r50"] / pixscale, 150)) + 3
    y, x = (np.mgrid[: (2 * half + 1) * OVERSAMPLE, : (2 * half + 1) * OVERSAMPLE] + 0.5) / OVERSAMPLE - 0.5 - half
    x, y = (
        (x - (galaxy["x"] - round(galaxy["x"]))).astype(np.float32),
        (y - (galaxy["y"] - round(galaxy["y"]))).astype(np.float32),
    )
    cos, sin, root = math.cos(galaxy["theta"]), math.sin(galaxy["theta"]), math.sqrt(galaxy["ratio"])
    radius = np.hypot((x * cos + y * sin) * root, (y * cos - x * sin) / root) * (pixscale / galaxy["r50"])
    b = 2 * index - 1 / 3 + 4 / (405 * index)
    light = np.exp(-b * np.maximum(radius, 0.02) ** (1 / index))
    light = light.reshape(2 * half + 1, OVERSAMPLE, 2 * half + 1, OVERSAMPLE).sum(axis=(1, 3))
    return light * (galaxy["flux"] / light.sum())


def add(plane, source, light, point=False):
    """Add light around a source; that of a point is shared by the four pixels next to it."""
    if point:
        x, y = math.floor(source["x"]), math.floor(source["y"])
        u, v = source["x"] - x, source["y"] - y
        light = light[0, 0] * np.outer([1 - v, v], [1 - u, u])
        top, left = y, x
    else:
        half = len(light) // 2
        top, left = round(source["y"]) - half, round(source["x"]) - half
    rows = slice(max(0, top), min(len(plane), top + len(light)))
    columns = slice(max(0, left), min(plane.shape[1], left + light.shape[1]))
    plane[rows, columns] += light[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]


def seen(plane, fwhm_px, beta=3.5):
    """Convolve with a Moffat profile."""
    from scipy.signal import oaconvolve

    half = int(8 * fwhm_px)
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    alpha = fwhm_px / 2 / math.sqrt(2 ** (1 / beta) - 1)
    kernel = (1 + (x**2 + y**2) / alpha**2) ** -beta
    return oaconvolve(plane, (kernel / kernel.sum()).astype(np.float32), mode="same")


def write_cube(path, field, **cards):
    """Write a field as a cube of the Legacy Surveys' form."""
    header = field.header.copy()
    header.update({"SURVEY": "LegacySurvey", "BANDS": field.bands, "BUNIT": "nanomaggy", **cards})
    fits.writeto(path, field.flux, header, overwrite=True)
    return path


def write_bands(folder, field, name="legacysurvey-1m2-image-{band}.fits.fz", compressed=True):
    """Write a field as one file a band, as a brick of the Legacy Surveys; return the template."""
    for plane, band in zip(field.flux, field.bands, strict=True):
        header = field.header.copy()
        header.update({"SURVEY": "LegacySurvey", "BAND": band, "BUNIT": "nanomaggy", "IMAGETYP": "image"})
        hdu = fits.CompImageHDU(plane, header, quantize_level=16) if compressed else fits.ImageHDU(plane, header)
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(folder / name.replace("{band}", band), overwrite=True)
    return folder / name


def matched(truth, found, radius=5.0):
    """Return for each true source the number of the found one within a radius (px), -1 for none."""
    from scipy.spatial import cKDTree

    if not len(found):
        return np.full(len(truth), -1)
    distance, number = cKDTree(np.column_stack([found["x"], found["y"]])).query(
        np.column_stack([truth["x"], truth["y"]])
    )
    return np.where(distance < radius, number, -1)


# Real images by name: files, bands, and the full width of the stars in px.
REAL = {
    "kids": (["mosaic-kids-viking/g.fits", "mosaic-kids-viking/r.fits", "mosaic-kids-viking/Z.fits"], "grz", 2.5),
    "sdss": ([f"sdss-gri-reprojected/reprojected_sdss_{band}.fits.bz2" for band in "gri"], "gri", 1.6),
}


def real_planes(folder, name, part=slice(None)):
    """A square part of a real image as it is, whatever its units, and the full width of its stars (px)."""
    from galmorph.images.survey_image import Planes

    files, bands, fwhm_px = REAL[name]
    images = []
    for file in files:
        with fits.open(folder / file) as hdus:
            images.append(np.ascontiguousarray(hdus[-1].data[part, part], dtype=np.float32))
    return Planes(name, "", tuple(bands), np.stack(images)), fwhm_px


def refound(planes, fwhm_px, n):
    """Add up to n galaxies to an image and detect again; return them and the galaxies that are found then."""
    import dataclasses

    from galmorph.images.detection import detect

    before = detect(planes)
    # The same places and sizes in all bands, each at its own brightness.
    flux = planes.flux.copy()
    for i, plane in enumerate(planes.flux):
        flux[i], placed = injected(plane, np.random.default_rng(1), before, before.noise[i], fwhm_px, n)
    after = detect(dataclasses.replace(planes, flux=flux)).objects
    return placed, after[after["galaxy"]]


def injected(plane, rng, detection, noise, fwhm_px, n=60, snr=40.0):
    """Add galaxies 2 R90 or more away from everything detected; return the plane and their places."""
    objects, (height, width) = detection.objects, plane.shape
    record = [(name, "f8") for name in ("x", "y", "flux", "r50", "ratio", "theta")]
    taken, placed = np.stack([objects["x"], objects["y"]], axis=1), []
    r90 = np.nan_to_num(objects["r90"], nan=5.0)
    light = np.zeros_like(plane)
    for _ in range(20000):
        if len(placed) == n:
            break
        x, y = rng.uniform(40, width - 40), rng.uniform(40, height - 40)
        galaxy = np.zeros(1, record)[0]
        galaxy["x"], galaxy["y"], galaxy["r50"] = x, y, rng.uniform(1.0, 1.6) * fwhm_px
        if (np.hypot(taken[:, 0] - x, taken[:, 1] - y) < 2 * np.maximum(r90, 2.4 * galaxy["r50"])).any():
            continue
        if any(math.hypot(x - p["x"], y - p["y"]) < 60 for p in placed):
            continue
        galaxy["ratio"], galaxy["theta"] = rng.uniform(0.4, 1), rng.uniform(-1.5, 1.5)
        blurred = math.hypot(galaxy["r50"], fwhm_px / 2)
        galaxy["flux"] = 2 * snr * noise * math.sqrt(math.pi) * blurred
        stamp = profile(galaxy, 1.0, 1.0)
        half = len(stamp) // 2
        if min(x, y, width - x, height - y) < half + 2:
            continue
        top, left = round(y) - half, round(x) - half
        light[top : top + len(stamp), left : left + len(stamp)] += stamp
        placed.append(galaxy)
    return plane + seen(light, fwhm_px).astype(plane.dtype), np.array(placed)
