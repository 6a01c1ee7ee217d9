"""FITS images as services send them: checked strictly, because damage is easy to miss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.files.fits import DamagedFits, Hdu, read_hdus
from galmorph.retrieval.client import FinalFailure, PassingFailure

# Largest difference between the requested position and that of the image, degrees.
_NEAR_DEG = 1e-6


def read_images(body: bytes) -> list[Hdu]:
    """Return all HDUs of a FITS file that a service has sent.

    Raises
    ------
    FinalFailure
        If it is not a FITS file.
    PassingFailure
        If it is empty, truncated, has data after its end or cannot be read: worth another attempt.
    """
    if not body:
        raise PassingFailure("the answer is empty.")
    if not body.startswith(b"SIMPLE  ="):
        raise FinalFailure("the answer is not FITS.")
    try:
        return read_hdus(body)
    except DamagedFits as error:
        raise PassingFailure(f"the answer is {error}.") from error


def check_grid(cards: Mapping[str, Any], ra: float, dec: float, size: int, pixscale: float) -> None:
    """Check that an image has the requested position, size and pixel scale.

    Parameters
    ----------
    cards : mapping
        Cards of the image's header.
    ra, dec : float
        The centre, ICRS degrees.
    size : int
        Width and height, px.
    pixscale : float
        arcsec per pixel.

    Raises
    ------
    PassingFailure
        If it shows another position.
    FinalFailure
        If it has another size or scale.
    """
    try:
        sides = (cards["NAXIS1"], cards["NAXIS2"])
        position = (float(cards["CRVAL1"]), float(cards["CRVAL2"]))
        step = abs(float(cards["CD1_1"] if "CD1_1" in cards else cards["CDELT1"])) * 3600
        centre = (float(cards["CRPIX1"]), float(cards["CRPIX2"]))
    except (KeyError, TypeError, ValueError) as error:
        raise PassingFailure(f"the answer lacks a WCS: {error}.") from error
    # Written so that NaN fails each test.
    off_ra = abs((position[0] - ra + 180) % 360 - 180)
    if not (off_ra <= _NEAR_DEG and abs(position[1] - dec) <= _NEAR_DEG):
        where = f"ra={position[0]:.6f} dec={position[1]:.6f}"
        raise PassingFailure(f"the answer is the image of another position, {where}.")
    if sides != (size, size):
        raise FinalFailure(f"the answer is {sides[0]} x {sides[1]} px instead of {size} x {size}.")
    if not abs(step / pixscale - 1) <= 1e-4:
        raise FinalFailure(f"the answer has {step:.4f} arcsec per pixel instead of {pixscale:g}.")
    if not all(abs(c - (size + 1) / 2) <= 0.01 for c in centre):
        raise PassingFailure(f"the answer is not centred: CRPIX is {centre[0]:g}, {centre[1]:g}.")


def float_planes(data: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return pixels as native float32, a plane each (band, y, x)."""
    return data.astype(np.float32).reshape(-1, *data.shape[-2:])
