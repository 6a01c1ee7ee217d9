"""Request: one cutout to be fetched, and the grid on the sky that it stands for."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """One cutout to be fetched.

    Parameters
    ----------
    target_id : str
    ra, dec : float
        The centre, ICRS degrees.
    size : int
        Width and height in pixels.
    pixscale : float
        arcsec per pixel.
    radius_arcsec : float
        The galaxy's radius, NaN where there is none.
    images : str
        Names of the larger images that it is cut from, separated by blanks; ``''`` where the source serves cutouts.
    """

    target_id: str
    ra: float
    dec: float
    size: int
    pixscale: float
    radius_arcsec: float = math.nan
    images: str = ""


def tangent_cards(request: Request) -> str:
    """Return the celestial WCS of a request as FITS cards: TAN, north up, east left, centred on its position."""
    centre = (request.size + 1) / 2
    step = request.pixscale / 3600
    numbers = {"CRVAL1": request.ra, "CRVAL2": request.dec, "CRPIX1": centre, "CRPIX2": centre}
    numbers |= {"CD1_1": -step, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": step}
    texts = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg", "RADESYS": "ICRS"}
    cards = [f"{key:<8}= '{value:<8}'" for key, value in texts.items()]
    cards += [f"{key:<8}= {repr(float(value)).upper():>20}" for key, value in numbers.items()]
    return "".join(card.ljust(80) for card in cards)


def degrees(value: float) -> str:
    """Return a coordinate as the services get it: 8 decimals, 0.04 milliarcsec."""
    return f"{value:.8f}"
