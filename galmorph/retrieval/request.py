"""Request: one cutout to be fetched, and its grid on the sky."""

from __future__ import annotations

import math
from dataclasses import dataclass

from galmorph.files.fits import tangent_cards


@dataclass(frozen=True)
class Request:
    """One cutout to be fetched.

    Parameters
    ----------
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

    @property
    def wcs_cards(self) -> str:
        """The celestial WCS of the grid, as FITS cards."""
        return tangent_cards(self.ra, self.dec, self.size, self.pixscale)


def degrees(value: float) -> str:
    """Return a coordinate for services: 8 decimals, 0.04 milliarcsec."""
    return f"{value:.8f}"
