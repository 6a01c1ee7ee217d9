"""Made-up images of galaxies with known radii, and plain FITS files, for tests of cutouts."""

from __future__ import annotations

import math

import numpy as np
from astropy.io import fits

from galmorph.images.cutout import Cutout

NATIVE = 0.262  # arcsec


def sersic(
    side=256, pixscale=NATIVE, *, r50=3.0, n=1.0, axis_ratio=1.0, flux=200.0, x=0.0, y=0.0, seeing=1.2, oversample=3
):
    """A galaxy of a Sersic profile, (side, side), nanomaggies per native pixel; lengths in arcsec.

    r50 is that of the circle with the ellipse's area; x and y are off the centre.
    """
    fine = pixscale / oversample
    yy, xx = (np.mgrid[: side * oversample, : side * oversample] - (side * oversample - 1) / 2) * fine
    u, v = xx - x, yy - y
    u, v = (u + v) / math.sqrt(2), (v - u) / math.sqrt(2)
    radius = np.hypot(u * math.sqrt(axis_ratio), v / math.sqrt(axis_ratio))
    light = np.exp(-_b(n) * (np.maximum(radius, fine / 2) / r50) ** (1 / n))
    light = light.reshape(side, oversample, side, oversample).mean(axis=(1, 3))
    if seeing:
        light = blurred(light, seeing / 2.3548 / pixscale)
    total = 2 * math.pi * n * r50**2 * _b(n) ** (-2 * n) * math.gamma(2 * n)
    return light * (flux * NATIVE**2 / total)


def star(side=256, pixscale=NATIVE, *, flux=100.0, x=0.0, y=0.0, seeing=1.2):
    """A point source of that flux."""
    yy, xx = (np.mgrid[:side, :side] - (side - 1) / 2) * pixscale
    variance = (seeing / 2.3548) ** 2
    return flux * NATIVE**2 / (2 * math.pi * variance) * np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / (2 * variance))


def blurred(image, sigma_px):
    """Convolve with a Gaussian."""
    freq = np.fft.fftfreq(len(image))
    transfer = np.exp(-2 * (math.pi * sigma_px) ** 2 * (freq[:, None] ** 2 + np.fft.rfftfreq(len(image)) ** 2))
    return np.fft.irfft2(np.fft.rfft2(image) * transfer, s=image.shape)


def noise(side=256, pixscale=NATIVE, *, sigma=0.012, seed=0):
    """Noise as in a resampled image: independent in native pixels, shared by the smaller ones."""
    field = np.random.default_rng(seed).normal(size=(side, side))
    if pixscale < 0.9 * NATIVE:
        field = blurred(field, NATIVE / pixscale / 2.3)
    return sigma * field / field.std()


def petrosian_r90(n, axis_ratio=1.0):
    """R90 over r50 of a Sersic profile by the definition, in circles."""
    radii = np.linspace(0, 40, 8001)
    angle = (np.arange(180) + 0.5) * math.pi / 360
    stretch = np.hypot(np.cos(angle) * math.sqrt(axis_ratio), np.sin(angle) / math.sqrt(axis_ratio))
    light = np.exp(-_b(n) * (radii[:, None] * stretch) ** (1 / n)).mean(axis=1)
    growth = np.concatenate([[0], np.cumsum(math.pi * (radii[1:] + radii[:-1]) * (light[1:] + light[:-1]) / 2)])
    growth *= radii[1]
    trial = radii[(radii > 0.1) & (radii < 30)]
    annulus = (np.interp(1.25 * trial, radii, growth) - np.interp(0.8 * trial, radii, growth)) / (1.25**2 - 0.8**2)
    petrosian = trial[np.argmax(annulus < 0.2 * np.interp(trial, radii, growth))]
    return float(np.interp(0.9 * np.interp(2 * petrosian, radii, growth), growth, radii))


def _b(n):
    return 2 * n - 1 / 3 + 4 / (405 * n)


def cutout(planes, pixscale=NATIVE, bands="r", **values):
    """A cutout of these planes, (y, x) or (band, y, x)."""
    flux = np.ascontiguousarray(planes, np.float32).reshape(len(bands), *np.shape(planes)[-2:])
    return Cutout("galaxy", "decals", tuple(bands), flux, NATIVE, pixscale, **values)


def wcs_cards(side, pixscale=NATIVE, angle=0.0, ra=150.0, dec=2.0):
    """A header with a TAN WCS, turned by an angle (degrees)."""
    header = fits.Header()
    step, turn = pixscale / 3600, math.radians(angle)
    values = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": ra, "CRVAL2": dec}
    values |= {"CRPIX1": (side + 1) / 2, "CRPIX2": (side + 1) / 2, "CD1_1": -step * math.cos(turn)}
    values |= {"CD1_2": step * math.sin(turn), "CD2_1": step * math.sin(turn), "CD2_2": step * math.cos(turn)}
    header.update(values)
    return header
