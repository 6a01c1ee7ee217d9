"""Inputs: the kinds of images that a model takes."""

from __future__ import annotations

from dataclasses import dataclass

from galmorph.images.normalization import Normalization


@dataclass(frozen=True)
class ImageInput:
    """One kind of cutout that a model takes; the first of a card that matches a cutout is used.

    Attributes
    ----------
    survey : str
        Name of the survey; ``""`` matches cutouts whose header names none.
    bands : tuple of str
        The bands that a cutout must hold (it may hold more).
    pixscale_range : tuple of float
        Least and largest arcsec per pixel.
    normalization : Normalization
    """

    survey: str
    bands: tuple[str, ...]
    pixscale_range: tuple[float, float]
    normalization: Normalization

    def matches(self, survey: str, bands: tuple[str, ...], pixscale: float) -> bool:
        """Return whether a cutout of this survey, with these bands and arcsec per pixel, is such an input."""
        low, high = self.pixscale_range
        return survey == self.survey and set(self.bands) <= set(bands) and low <= pixscale <= high
