"""From a picture (JPEG, PNG) to the network's input, framed as the training pictures."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from galmorph.classification.prepare import Prepared, patiently
from galmorph.errors import CutoutError
from galmorph.files.pictures import read_picture
from galmorph.images.colours import PICTURE
from galmorph.images.flags import Flag
from galmorph.images.inputs import ImageInput
from galmorph.images.picture import PictureWidth, frame_picture
from galmorph.images.quality import FRAME_TOLERANCE
from galmorph.models.card import ModelCard


def picture_input(card: ModelCard) -> ImageInput:
    """Return the input of a model for pictures: every network learns from pictures, in the frame of its card."""
    first = card.inputs[0]
    return replace(first, normalization=replace(first.normalization, kind=PICTURE, scales=(1.0, 1.0, 1.0)))


def prepare_picture(
    path: Path, card: ModelCard, radius_arcsec: float = math.nan, width: PictureWidth | None = None
) -> Prepared:
    """Read a picture and frame it as a model's card asks; faults of flux cannot be detected.

    Parameters
    ----------
    radius_arcsec : float
        The galaxy's R90, NaN where unknown.
    width : PictureWidth, optional
        Width of the picture on the sky. Without it the frame is the whole picture.
    """
    try:
        picture = patiently(path, lambda: read_picture(path))
    except CutoutError as error:
        return Prepared(Flag.UNREADABLE | Flag.PICTURE, reason=str(error))
    entry, flag = picture_input(card), Flag.PICTURE
    if (picture == picture[0, 0]).all(axis=(0, 1)).any():
        return Prepared(flag | Flag.MISSING_BAND, reason=f"{path}: a colour holds one value in all pixels.")
    height, width_px = picture.shape[:2]
    framing = entry.normalization.framing
    frame_px = (width or PictureWidth()).frame_px(framing, width_px, radius_arcsec)
    if not math.isfinite(frame_px):
        frame_px = min(height, width_px)
        flag |= Flag.RADIUS_MEASURED
    beyond = sum(frame_px > side * (1 + FRAME_TOLERANCE) for side in (height, width_px))
    flag |= (Flag(0), Flag.PARTIAL, Flag.LARGER_THAN_CUTOUT)[beyond]
    return Prepared(flag, frame_picture(picture, frame_px, entry.normalization.input_size), entry)
