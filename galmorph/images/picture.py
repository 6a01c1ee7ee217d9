"""Pictures of galaxies (JPEG, PNG) as cutouts: their width on the sky, and the frame that a model sees."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from galmorph.images.framing import MAX_PADDED_PX, MIN_FRAME_PX, Framing


@dataclass(frozen=True)
class PictureWidth:
    """Width of the pictures of a run, as the user gives it; NaN if not given.

    Attributes
    ----------
    r90 : float
        Full width in radii (R90) of the galaxy, as of the Galaxy Zoo challenge (8.48).
    arcsec : float
        Full width on the sky.
    """

    r90: float = math.nan
    arcsec: float = math.nan

    def frame_px(self, framing: Framing, width_px: int, radius_arcsec: float) -> float:
        """Return the width of a model's frame in pixels of a picture, by the galaxy's R90; NaN if it is unknown."""
        if framing.radii and math.isfinite(self.r90):
            return framing.radii / self.r90 * width_px
        arcsec = self.arcsec if math.isfinite(self.arcsec) else self.r90 * radius_arcsec
        return framing.width_arcsec(radius_arcsec) / arcsec * width_px

    def __str__(self) -> str:
        if math.isfinite(self.r90):
            return f"{self.r90:g} R90"
        return f"{self.arcsec:g} arcsec" if math.isfinite(self.arcsec) else ""

    @classmethod
    def of(cls, text: str) -> PictureWidth:
        """Return the width of a text that `str` made."""
        number, _, unit = text.partition(" ")
        return cls(**{unit.lower(): float(number)}) if unit else cls()


def frame_picture(picture: NDArray[np.uint8], width_px: float, n_out: int) -> NDArray[np.float32]:
    """Cut a square out of the middle of a picture and resample it (bicubic) as the pictures of a training sample are.

    Parameters
    ----------
    picture : ndarray, uint8, shape (y, x, 3)
    width_px : float
        Full width wanted; beyond the picture is the median colour of its edge.
    n_out : int
        Side of the result.

    Returns
    -------
    ndarray, float32, shape (3, n_out, n_out)
        0 to 1.
    """
    from PIL import Image

    width_px = min(max(width_px, MIN_FRAME_PX), MAX_PADDED_PX)
    margins = [max(0, math.ceil((width_px - side) / 2)) for side in picture.shape[:2]]
    if any(margins):
        edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
        colour = np.median(edge, axis=0).astype(np.uint8)
        padded = np.empty((*(side + 2 * m for side, m in zip(picture.shape, margins, strict=False)), 3), np.uint8)
        padded[:] = colour
        inside = tuple(slice(m, m + side) for side, m in zip(picture.shape, margins, strict=False))
        padded[inside] = picture
        picture = padded
    middle = [side / 2 for side in picture.shape[1::-1]]
    box = (*(at - width_px / 2 for at in middle), *(at + width_px / 2 for at in middle))
    framed = Image.fromarray(picture).resize((n_out, n_out), Image.Resampling.BICUBIC, box)
    return np.asarray(framed, np.float32).transpose(2, 0, 1) / np.float32(255)
