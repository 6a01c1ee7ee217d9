"""Units: from the values of pixels to nanomaggies, by the unit and the zero point that a header gives.

``BUNIT`` is read by astropy.units, after the spellings of the field that astropy does not know are replaced. A flux
density or maggies are taken as they are; surface brightness is multiplied by the area of the native pixel. Counts, and
units that do not measure flux, need a zero point. Magnitudes are refused.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import CutoutError
from galmorph.images.fits_file import StoredImage, quiet
from galmorph.images.headers import comment, flux_pixscale, number, survey

# One nanomaggy is this many jansky: 1e-9 of the AB system's 3631 Jy.
NANOMAGGY_JY = 3.631e-6
# The unit of nearly every cutout, which need not be parsed.
_NANOMAGGIES = frozenset({"nanomaggy", "nanomaggies", "nmgy"})
# Spellings that astropy does not know, without regard to case.
_PREFIX = {
    "nano": "n",
    "n": "n",
    "micro": "u",
    "u": "u",
    "\N{MICRO SIGN}": "u",
    "\u03bc": "u",
    "milli": "m",
    "mega": "M",
    "": "",
}
_HABITS = (
    (re.compile(r"\b(nano|n|)m(?:agg(?:y|ies)|gy)\b", re.IGNORECASE), lambda m: _PREFIX[m[1].lower()] + "mgy"),
    (
        re.compile(
            r"(?<![a-z])(nano|micro|milli|mega|n|u|\u00b5|\u03bc|)(?:janskys?|jansky|jy)(?![a-z])", re.IGNORECASE
        ),
        lambda m: _PREFIX[m[1].lower()] + "Jy",
    ),
    (
        re.compile(r"(?:/|\bper)\s*(?:pixels?|pix|px)\b|\b(?:pixels?|pix|px)\s*\^?(?:\*\*)?-1", re.IGNORECASE),
        lambda _: "",
    ),
    (re.compile(r"\bcps\b", re.IGNORECASE), lambda _: "ct/s"),
    (re.compile(r"\b(?:counts?|cts?|dns?|adu|electrons?|e)(?:(?<=e)-(?!\d))?(?![\w+])", re.IGNORECASE), lambda _: "ct"),
    (re.compile(r"\b(?:seconds?|secs?|s)(?=\b|-1)", re.IGNORECASE), lambda _: "s"),
    (re.compile(r"\b(?:sq(?:uare)?\.?\s*)(arcsec|arcmin|deg)\w*", re.IGNORECASE), lambda m: m[1].lower() + "2"),
    (re.compile(r"\b(arcsec|arcmin)(?:onds?|s|utes?)\b", re.IGNORECASE), lambda m: m[1].lower()),
    (re.compile(r"\bper\b", re.IGNORECASE), lambda _: "/"),
)
# Megajansky or millijansky: which one is unclear unless it is spelt MJy or mJy.
_MEGA_OR_MILLI = re.compile(r"(?<![A-Za-z])(?:M(?!Jy)|m(?!Jy))[Jj][Yy](?![A-Za-z])")
# Magnitudes, logarithms and ratios to the noise, as headers write them: not flux, whatever zero point is given.
_NO_FLUX = re.compile(
    r"(?<![a-z])(ab|vega|asinh)?[ _-]?mag(s|nitudes?)?(?![a-z])|luptitude|s/n(?![a-z])|signal.to.noise"
    r"|(?<![a-z])(log|ln|a(rc)?sinh|dex|snr?|sigmas?)(10)?(?![a-z])",
    re.IGNORECASE,
)
# Cards of images of known surveys that are none in nanomaggies: asinh scaling (Pan-STARRS), counts (SDSS's fpC frames).
_NOT_CALIBRATED = frozenset({"BSOFTEN", "SOFTBIAS", "FLUX20"})
# Cards with the AB magnitude of a pixel value of 1, in the order in which they are looked for.
_ZERO_POINTS = ("MAGZERO", "MAGZP", "PHOTZP", "ZEROPNT", "ZP")
# Zero points outside are placeholders (0, 99).
_ZERO_POINT_RANGE = (10.0, 40.0)
# The magnitude of one unit of asinh scaling in its natural unit: Pan-STARRS's stacks, Waters et al. 2020 (ApJS 251, 4).
_POGSON = 2.5 / math.log(10)


class PixelUnit(NamedTuple):
    """The kind of a unit, and its size.

    Attributes
    ----------
    kind : str
        ``flux``, ``surface`` (flux per square arcsec), ``counts``, ``rate`` (counts per second), ``magnitude``,
        ``ambiguous``, ``none`` (no unit), or ``other``.
    factor : float
        Nanomaggies (per square arcsec), or counts (per second), of one such unit.
    """

    kind: str
    factor: float = 1.0


@lru_cache(maxsize=256)
def parse_unit(text: str) -> PixelUnit:
    """Return the unit that the text of a card ``BUNIT`` names."""
    text = text.strip()
    if not text:
        return PixelUnit("none")
    if text.lower() in _NANOMAGGIES:
        return PixelUnit("flux")
    if _NO_FLUX.search(text):
        return PixelUnit("magnitude")
    if _MEGA_OR_MILLI.search(text):
        return PixelUnit("ambiguous")
    from astropy import units as u

    spelt = text
    for pattern, replace in _HABITS:
        spelt = pattern.sub(replace, spelt)
    with quiet():
        try:
            unit = u.Unit(spelt.strip() or "1")
        except (ValueError, TypeError):
            return PixelUnit("other")
    if not isinstance(unit, u.UnitBase):  # mag(AB), dex(Jy)
        return PixelUnit("magnitude")
    if {"mag", "dex", "dB"} & {base.name for base in unit.decompose().bases}:
        return PixelUnit("magnitude")
    forms = (
        ("flux", u.Unit("nmgy")),
        ("flux", NANOMAGGY_JY * u.Jy),
        ("surface", u.Unit("nmgy") / u.arcsec**2),
        ("surface", NANOMAGGY_JY * u.Jy / u.arcsec**2),
        ("counts", u.ct),
        ("rate", u.ct / u.s),
    )
    for kind, form in forms:
        ratio = (unit / u.Unit(form)).decompose()
        if not ratio.bases:
            return PixelUnit(kind, float(f"{np.real(ratio.scale):.15g}"))
    return PixelUnit("other")


def nanomaggies(image: StoredImage) -> tuple[float, bool]:
    """Return the factor from (linear) pixel values to nanomaggies, and whether they are counts, which hold the sky too.

    Raises
    ------
    CutoutError
        If neither the unit nor a zero point gives it.
    """
    text = str(image.cards.get("BUNIT", "")).strip()
    unit = parse_unit(text)
    if unit.kind == "flux":
        return unit.factor, False
    if unit.kind == "surface":
        return unit.factor * flux_pixscale(image) ** 2, False
    calibrated = "NMGY" in image.cards or _NOT_CALIBRATED.isdisjoint(image.cards)
    if unit.kind == "none" and calibrated and ("BANDS" in image.cards or survey(image)):
        return 1.0, False
    check_linear(image)
    zero_point = _zero_point(image, unit.kind)
    if math.isfinite(zero_point) and (card := _of_vega(image)):
        raise CutoutError(
            f"{image.path}: its card {card} says that the zero point is in the Vega system. Write the AB magnitude "
            "of a pixel value of 1 into MAGZERO, and leave that card out."
        )
    low, high = _ZERO_POINT_RANGE
    if low < zero_point < high:
        return unit.factor * 10 ** (0.4 * (22.5 - zero_point)), True
    what = f"has pixels in {text!r}" if text else "does not say the unit of its pixels (BUNIT)"
    if unit.kind == "ambiguous":
        what += ", mega- or millijansky (write MJy or mJy)"
    held = f", for its zero point of {zero_point:g} is a placeholder" if math.isfinite(zero_point) else ""
    raise CutoutError(
        f"{image.path}: {what}, and has no card from which nanomaggies follow{held}. Add MAGZERO ({low:g} to "
        f"{high:g}), the AB magnitude of a pixel value of 1, or BUNIT='nanomaggy' if it is in that unit; for a "
        "survey image --zero-point says the same."
    )


def check_linear(image: StoredImage) -> None:
    """Raise CutoutError if an image is in magnitudes or in another quantity that is not flux."""
    text = str(image.cards.get("BUNIT", "")).strip()
    if parse_unit(text).kind == "magnitude":
        raise CutoutError(
            f"{image.path}: has pixels in {text!r}, which are no flux. Give an image that is linear in flux."
        )


def _zero_point(image: StoredImage, kind: str) -> float:
    """Return the AB magnitude of a pixel value of 1, NaN where no card says it."""
    values = [number(image, keyword) for keyword in _ZERO_POINTS]
    if (flux := number(image, "FLUXMAG0")) > 0:  # counts of magnitude 0: Hyper Suprime-Cam
        values.append(2.5 * math.log10(flux))
    if (flux := number(image, "FLUX20")) > 0:  # counts of magnitude 20: frames of SDSS up to DR7
        values.append(20 + 2.5 * math.log10(flux))
    seconds = 1.0 if kind == "rate" else number(image, "EXPTIME")
    exposure = 2.5 * math.log10(seconds) if seconds > 0 else math.nan
    if kind in ("counts", "rate"):
        # Of one count a second: NOIRLab's community pipeline, WFCAM.
        values.append(number(image, "MAGZPT") + exposure)
    if kind in ("counts", "rate", "none"):
        values.append(number(image, "FPA.ZP") + exposure)  # Pan-STARRS
    flam, pivot = number(image, "PHOTFLAM"), number(image, "PHOTPLAM")
    if kind == "rate" and flam > 0 and pivot > 0:
        # Hubble: https://www.stsci.edu/hst/instrumentation/acs/data-analysis/zeropoints
        values.append(-2.5 * math.log10(flam) - 5 * math.log10(pivot) - 2.408)
    return next((value for value in values if math.isfinite(value)), math.nan)


def _of_vega(image: StoredImage) -> str:
    """Return the card by which the zero point is one of the Vega system; ``''`` where none says so."""
    systems = [card for card in ("MAGSYS", "PHOTSYS", "ZPSYS") if "VEGA" in str(image.cards.get(card, "")).upper()]
    there = (card for card in (*_ZERO_POINTS, "MAGZPT") if math.isfinite(number(image, card)))
    commented = [card for card in there if "VEGA" in comment(image, card).upper()]
    return next(iter(systems + commented[:1]), "")


@np.errstate(over="ignore", invalid="ignore")
def make_linear(image: StoredImage, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Undo the asinh scaling of Pan-STARRS (cards ``BSOFTEN``, ``BOFFSET``) in place, and return the pixels."""
    softening, offset = number(image, "BSOFTEN"), number(image, "BOFFSET")
    if softening > 0 and math.isfinite(offset):
        pixels /= np.float32(_POGSON)
        np.sinh(pixels, out=pixels)
        pixels *= np.float32(2 * softening)
        pixels += np.float32(offset)
    return pixels


def zero_point_factor(zero_point: float) -> float:
    """Return nanomaggies of a pixel value of 1 by its AB magnitude."""
    return float(10 ** (0.4 * (22.5 - zero_point)))
