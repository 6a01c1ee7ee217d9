"""From cutout to framed flux: one galaxy is read, framed and flagged for a model's card.

Classification, training samples and the pictures of reports all use this, so that they see the same.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import CannotContinue, CutoutError, system_failure
from galmorph.images.cutout import Cutout, read_cutout
from galmorph.images.flags import Flag
from galmorph.images.framing import frame
from galmorph.images.headers import band_files
from galmorph.images.inputs import ImageInput
from galmorph.images.quality import is_blended, quality
from galmorph.images.radius import measure_r90
from galmorph.images.sizes import MAX_SIDE_PX
from galmorph.images.surveys import typical_seeing
from galmorph.images.wcs import edge_distance, pixel_at
from galmorph.models.card import ModelCard

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)
T = TypeVar("T")

# With one of these there is no probability: a composite without one of its bands has colours that no model was trained
# on.
UNUSABLE = Flag.MISSING_BAND | Flag.UNREADABLE
# How often a cutout is read, with this first wait, which doubles each time, before the run ends with exit code 3.
READ_ATTEMPTS = 4
FIRST_WAIT_S = 0.5
# With an offset of more than this share of the frame's width, the cutout may show another galaxy (bit 1024).
MAX_OFFSET = 0.1
# Cutouts are cut to whole pixels on each axis: at a smaller offset the centre of the file is the position.
CENTRE_TOLERANCE_PX = 1.0


@dataclass(frozen=True)
class Prepared:
    """A target ready for the network, or the reason why it is not.

    Attributes
    ----------
    flux : ndarray or Tensor, float32, shape (3, size, size), or None
        Framed, bands in the order of the normalization, per its native pixel.
    entry : ImageInput or None
        The card's input that the image matched.
    ra, dec : float
        ICRS position of the cutout's centre in degrees, if the source wants it.
    reason : str
        Why there is no flux, or no position.
    state : int
        State of the cutout's file (:func:`cutout_state`); 0 if there is none.
    """

    flag: Flag
    flux: NDArray[np.float32] | Tensor | None = None
    entry: ImageInput | None = None
    ra: float = math.nan
    dec: float = math.nan
    reason: str = ""
    state: int = 0


@dataclass(frozen=True)
class Opened:
    """A cutout, the matching input of a model's card, and its radius.

    Attributes
    ----------
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


def patiently(path: object, read: Callable[[], T]) -> T:
    """Return the result of reading a cutout; if the system fails, not the file, try again, then end the run.

    Raises
    ------
    CutoutError
        If the file cannot be read.
    CannotContinue
        If the system fails.
    """
    wait_s = FIRST_WAIT_S
    for attempt in range(READ_ATTEMPTS):
        if attempt:
            time.sleep(wait_s)
            wait_s *= 2
        try:
            return read()
        except (CutoutError, OSError, MemoryError) as error:
            failure = system_failure(error)
            if failure is None:
                raise CutoutError(str(error)) from error
            last = error
    raise CannotContinue(
        f"{path} cannot be read ({failure}), {READ_ATTEMPTS} times in {wait_s - FIRST_WAIT_S:g} s. The system fails, "
        "not the cutout: what is done is kept; go on with the same command when it is mended."
    ) from last


def unexpected(what: str, error: Exception) -> Prepared:
    """Log an unexpected error with its traceback, and return the target as unreadable.

    Raises
    ------
    CannotContinue
        If the system fails, not the target.
    """
    if failure := system_failure(error):
        raise CannotContinue(
            f"{what}: {failure}. The system fails, not the target: what is done is kept; go on with the same command "
            "when it is mended."
        ) from error
    log.error("%s: an unexpected error; please report it.", what, exc_info=error)
    return Prepared(Flag.UNREADABLE, reason=f"{what}: unexpected {type(error).__name__}: {error}")


def cutout_state(path: Path) -> int:
    """Return a number that changes when the file of a cutout, or one of its files, changes; 0: there is none."""
    try:
        files = list(band_files(str(path)).values()) if "{band}" in path.name else [path]
        states = [Path(file).stat() for file in files]
    except (OSError, CutoutError):
        return 0
    # Programs can set st_mtime, as copying does, but not st_ctime.
    text = repr([(s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in states])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def prepare(
    path: Path,
    card: ModelCard,
    radius_arcsec: float,
    *,
    position: tuple[float, float] | None = None,
    hdu: int | str | None = None,
    locate: bool = False,
) -> Prepared:
    """Read one cutout and frame it as a model's card asks.

    Parameters
    ----------
    radius_arcsec : float
        The galaxy's radius (R90) in the catalog; NaN: the radius in the cutout's header, else a measured one.
    position : (ra, dec), optional
        ICRS degrees of the galaxy, where the frame is centred if the cutout has a WCS; default: the cutout's centre.
    hdu : int or str, optional
    locate : bool
        Whether to give the position of the cutout's centre.
    """
    try:
        opened = patiently(path, lambda: open_cutout(path, card, radius_arcsec, hdu=hdu))
    except CutoutError as error:
        return Prepared(Flag.UNREADABLE, reason=str(error))
    return prepare_opened(opened, str(path), card, position=position, locate=locate)


def prepare_opened(
    opened: Opened, path: str, card: ModelCard, *, position: tuple[float, float] | None = None, locate: bool = False
) -> Prepared:
    """Frame a cutout that is in memory as a model's card asks; `path` names it in messages, see `prepare`."""
    cutout, entry, radius = opened.cutout, opened.entry, opened.radius_arcsec
    ra, dec = cutout.centre if locate else (math.nan, math.nan)
    problem = cutout.wcs_problem if locate else ""
    if entry is None:
        lacks_band, reason = card.refusal(cutout.survey, cutout.bands, cutout.pixscale)
        flag = Flag.MISSING_BAND if lacks_band else Flag.UNREADABLE
        return Prepared(flag, ra=ra, dec=dec, reason=f"{cutout.target_id}: {reason}")
    normalization = entry.normalization
    centre = None
    if position is not None:
        centre, position_problem = _pixel_off_centre(cutout, position)
        problem = problem or position_problem
    flag = Flag.WCS_UNUSABLE if problem else Flag(0)
    flux = cutout.flux
    if centre is not None:
        x, y = np.array(centre)
        if not edge_distance(x, y, (flux.shape[1], flux.shape[2])) > -0.5:
            reason = f"{path}: the row's position {position} lies outside the image."
            return Prepared(Flag.OFF_CENTRE, ra=ra, dec=dec, reason=reason)
        # Measure around the galaxy, on the area of the cutout that has its position in the middle.
        cutout = _around(cutout, centre)
    if normalization.framing.radii and not math.isfinite(radius):
        flag |= Flag.RADIUS_MEASURED
        radius = measure_r90(cutout)
    width_arcsec = normalization.framing.width_arcsec(radius)
    if not math.isfinite(width_arcsec):  # no signal to measure a radius on: the whole cutout
        width_arcsec = min(cutout.flux.shape[1:]) * cutout.pixscale
    if centre is not None and _distance_px(centre, flux.shape) * cutout.pixscale > MAX_OFFSET * width_arcsec:
        flag |= Flag.OFF_CENTRE
    flag |= quality(cutout, normalization.bands, width_arcsec, radius, seeing_arcsec=typical_seeing(cutout.survey, "r"))
    if is_blended(cutout, radius):
        flag |= Flag.BLENDED
    if flag & UNUSABLE:
        return Prepared(flag, ra=ra, dec=dec, reason=f"{path} lacks a band of {''.join(sorted(entry.bands))}.")
    if flag & Flag.BAD_PIXELS:
        flux = np.nan_to_num(flux, nan=0.0, posinf=0.0, neginf=0.0)
    planes = [flux[cutout.bands.index(band)] for band in normalization.bands]
    framed = frame(planes, width_arcsec / cutout.pixscale, normalization.input_size, centre)
    # Surface brightness per native pixel of the composite's scales.
    framed *= (normalization.flux_pixscale / cutout.flux_pixscale) ** 2
    return Prepared(flag, framed, entry, ra, dec, f"{path}: {problem}." if problem else "")


def _pixel_off_centre(cutout: Cutout, position: tuple[float, float]) -> tuple[tuple[float, float] | None, str]:
    """Return the pixel (x, y) of a position, None if unknown or within a pixel of the centre; and the problem."""
    if not all(map(math.isfinite, position)) or not cutout.header_text:
        return None, ""
    pixel = pixel_at(cutout.header_text, (cutout.flux.shape[1], cutout.flux.shape[2]), *position)
    if pixel is None:
        compared = "" if cutout.wcs is None else "its celestial coordinates cannot be compared with the row's"
        return None, cutout.wcs_problem or compared
    return None if _distance_px(pixel, cutout.flux.shape) <= CENTRE_TOLERANCE_PX else pixel, ""


def _distance_px(pixel: tuple[float, float], shape: tuple[int, ...]) -> float:
    """Return how far a pixel is from the centre of an image."""
    return math.hypot(pixel[0] - (shape[-1] - 1) / 2, pixel[1] - (shape[-2] - 1) / 2)


def _around(cutout: Cutout, pixel: tuple[float, float]) -> Cutout:
    """Return the largest area of a cutout that has a pixel in its middle, to half a pixel."""
    area = []
    for at, side in zip(pixel[::-1], cutout.flux.shape[1:], strict=True):
        first, last = max(0, round(2 * at) - side + 1), min(side - 1, round(2 * at))
        area.append(slice(first, last + 1))
    mask = cutout.mask[tuple(area)] if cutout.mask is not None else None
    return replace(cutout, flux=cutout.flux[(slice(None), *area)], mask=mask)


def colour_picture(prepared: Prepared) -> NDArray[np.float32]:
    """Return the colour picture of a galaxy with flux: shape (y, x, 3), 0 to 1, the cutout's top row first."""
    import torch

    assert prepared.entry is not None
    flux = torch.as_tensor(prepared.flux)[None]
    rgb = prepared.entry.normalization.rgb(flux)[0].permute(1, 2, 0)
    return (rgb if prepared.flag & Flag.PICTURE else rgb.flip(0)).numpy()
