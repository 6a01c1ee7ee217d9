"""From cutout to framed flux: how one galaxy is read, framed and flagged for a model's card.

Classification, training samples and the pictures of reports all go through here, so that they see the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import CutoutError
from galmorph.images.cutout import MAX_SIDE_PX, Cutout, read_cutout
from galmorph.images.flags import Flag
from galmorph.images.framing import frame
from galmorph.images.inputs import ImageInput
from galmorph.images.quality import is_blended, quality
from galmorph.images.radius import measure_r90
from galmorph.images.surveys import typical_seeing
from galmorph.models.card import ModelCard

if TYPE_CHECKING:
    from torch import Tensor

# With one of these there is no probability: a composite without one of its bands has colours no model was shown.
UNUSABLE = Flag.MISSING_BAND | Flag.UNREADABLE


@dataclass(frozen=True)
class Prepared:
    """A target ready for the network, or the reason why it is not.

    Attributes
    ----------
    flag : Flag
    flux : ndarray or Tensor, float32, shape (3, size, size), or None
        Bands in the order of the normalization's, per its native pixel, framed.
    entry : ImageInput or None
        The card's input that the image matched.
    ra, dec : float
        ICRS position of the cutout's centre in degrees, where the source asks for it.
    reason : str
        Why there is no flux, or no position.
    """

    flag: Flag
    flux: NDArray[np.float32] | Tensor | None = None
    entry: ImageInput | None = None
    ra: float = math.nan
    dec: float = math.nan
    reason: str = ""


@dataclass(frozen=True)
class Opened:
    """A cutout with what a model's card makes of it.

    Attributes
    ----------
    cutout : Cutout
    entry : ImageInput or None
        The card's input that it matches.
    radius_arcsec : float
        R90 of the catalog, else of the cutout's header, else NaN.
    """

    cutout: Cutout
    entry: ImageInput | None
    radius_arcsec: float


def open_cutout(path: Path, card: ModelCard, radius_arcsec: float, *, hdu: int | str | None = None) -> Opened:
    """Read a cutout and match it to a card.

    Parameters
    ----------
    path : Path
    card : ModelCard
    radius_arcsec : float
        The galaxy's radius (R90) in the catalog, NaN where unknown.
    hdu : int or str, optional

    Raises
    ------
    CutoutError
        If it cannot be read.
    """
    cutout = read_cutout(path, hdu=hdu, max_side_px=MAX_SIDE_PX)
    entry = card.input_for(cutout.survey, cutout.bands, cutout.pixscale)
    return Opened(cutout, entry, radius_arcsec if math.isfinite(radius_arcsec) else cutout.radius_arcsec)


def prepare(
    path: Path, card: ModelCard, radius_arcsec: float, *, hdu: int | str | None = None, locate: bool = False
) -> Prepared:
    """Read one cutout and frame it as a model's card asks.

    Parameters
    ----------
    path : Path
    card : ModelCard
    radius_arcsec : float
        The galaxy's radius (R90) in the catalog; NaN: the radius in the cutout's header, else a measured one.
    hdu : int or str, optional
    locate : bool
        Whether to give the position of the cutout's centre.
    """
    try:
        opened = open_cutout(path, card, radius_arcsec, hdu=hdu)
    except CutoutError as error:
        return Prepared(Flag.UNREADABLE, reason=str(error))
    cutout, entry, radius = opened.cutout, opened.entry, opened.radius_arcsec
    ra, dec = cutout.centre if locate else (math.nan, math.nan)
    problem = cutout.wcs_problem if locate else ""
    if entry is None:
        lacks_band, reason = card.refusal(cutout.survey, cutout.bands, cutout.pixscale)
        flag = Flag.MISSING_BAND if lacks_band else Flag.UNREADABLE
        return Prepared(flag, ra=ra, dec=dec, reason=f"{cutout.target_id}: {reason}")
    normalization = entry.normalization
    flag = Flag.WCS_UNUSABLE if problem else Flag(0)
    if normalization.framing.radii and not math.isfinite(radius):
        flag |= Flag.RADIUS_MEASURED
        radius = measure_r90(cutout)
    width_arcsec = normalization.framing.width_arcsec(radius)
    if not math.isfinite(width_arcsec):  # no signal to measure a radius on: the whole cutout
        width_arcsec = min(cutout.flux.shape[1:]) * cutout.pixscale
    flag |= quality(cutout, normalization.bands, width_arcsec, radius, seeing_arcsec=typical_seeing(cutout.survey, "r"))
    if is_blended(cutout, radius):
        flag |= Flag.BLENDED
    if flag & UNUSABLE:
        return Prepared(flag, ra=ra, dec=dec, reason=f"{path} lacks a band of {''.join(sorted(entry.bands))}.")
    flux = cutout.flux
    if flag & Flag.BAD_PIXELS:
        flux = np.nan_to_num(flux, nan=0.0, posinf=0.0, neginf=0.0)
    planes = [flux[cutout.bands.index(band)] for band in normalization.bands]
    flux = frame(planes, width_arcsec / cutout.pixscale, normalization.input_size)
    # Surface brightness per the native pixel that the scales of the composite are for.
    flux *= (normalization.flux_pixscale / cutout.flux_pixscale) ** 2
    return Prepared(flag, flux, entry, ra, dec, f"{path}: {problem}." if problem else "")


def colour_picture(prepared: Prepared) -> NDArray[np.float32]:
    """Return the colour picture of a galaxy that has flux: shape (y, x, 3), 0 to 1, the cutout's top row first."""
    import torch

    assert prepared.entry is not None
    flux = torch.as_tensor(prepared.flux)[None]
    return prepared.entry.normalization.rgb(flux)[0].permute(1, 2, 0).flip(0).numpy()
