"""Augmentation: random changes of pictures that do not change a galaxy's type."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

from galmorph.ranges import SHARE, Range, bounded


@dataclass(frozen=True)
class Augmentation:
    """Random changes that do not change a galaxy's type: the sky has no up or down, and surveys differ in colour.

    Attributes
    ----------
    rotate, reflect : bool
        Whether to rotate by any angle, and to mirror.
    shift : float
        Largest shift along an axis, as a share of the framed width.
    zoom : float
        Largest change of the framed width, as a factor minus 1 (log-uniform both ways).
    grey : float
        Probability of losing all colour.
    colour : float
        Largest change of each colour's brightness and of contrast, as a share: another survey's bands and stretch.
    noise : float
        Largest standard deviation of added noise; pictures range from 0 to 1.
    blur : float
        Largest loss of resolution: the picture is sampled up to this factor coarser.
    """

    rotate: bool = True
    reflect: bool = True
    shift: float = bounded(SHARE, 0.02)
    zoom: float = bounded(Range(0, 10), 0.12)
    grey: float = bounded(SHARE, 0.0)
    colour: float = bounded(SHARE, 0.0)
    noise: float = bounded(SHARE, 0.0)
    blur: float = bounded(Range(0, 100), 0.0)

    def __call__(self, images: Tensor, view: float, size: int, generator: torch.Generator) -> Tensor:
        """Augment a batch.

        Parameters
        ----------
        images : Tensor, uint8, shape (n, 3, side, side)
        view : float
            Framed width as a share of the side.
        size : int
            Side of the result in pixels.

        Returns
        -------
        Tensor, float32, shape (n, 3, size, size)
            Red, green, blue in 0..1.
        """
        n = len(images)

        def draw(low: float, high: float, *shape: int) -> Tensor:
            values = torch.rand(*(shape or (n,)), generator=generator) * (high - low) + low
            return values.to(images.device)

        angle = draw(-math.pi, math.pi) if self.rotate else torch.zeros(n, device=images.device)
        mirror = draw(0, 1).round() * 2 - 1 if self.reflect else torch.ones(n, device=images.device)
        scale = view * (draw(-1, 1) * math.log1p(self.zoom)).exp()
        offset = draw(-1, 1, n, 2) * (2 * self.shift * view)
        cos, sin = angle.cos() * scale, angle.sin() * scale
        theta = torch.stack(
            [torch.stack([cos * mirror, -sin, offset[:, 0]], 1), torch.stack([sin * mirror, cos, offset[:, 1]], 1)], 1
        )
        grid = functional.affine_grid(theta, [n, 3, size, size], align_corners=False)
        rgb = functional.grid_sample(images.float() / 255, grid, align_corners=False, padding_mode="reflection")
        if self.blur:
            rgb = self._blurred(rgb, draw)
        if self.grey:
            lost = (draw(0, 1) < self.grey).view(n, 1, 1, 1)
            rgb = rgb.where(~lost, rgb.mean(dim=1, keepdim=True))
        if self.colour:
            gain = draw(1 - self.colour, 1 + self.colour, n, 3, 1, 1) * draw(
                1 - self.colour, 1 + self.colour, n, 1, 1, 1
            )
            gamma = (draw(-1, 1, n, 1, 1, 1) * self.colour).exp()
            rgb = (rgb.clamp(min=1e-4) ** gamma) * gain + draw(-1, 1, n, 3, 1, 1) * (0.2 * self.colour)
        if self.noise:
            sigma = draw(0, self.noise, n, 1, 1, 1)
            rgb = rgb + sigma * torch.randn(rgb.shape, generator=generator).to(rgb.device)
        return rgb.clamp(0, 1)

    def _blurred(self, rgb: Tensor, draw: Callable[..., Tensor]) -> Tensor:
        size = rgb.shape[-1]
        coarse = max(8, int(size / float(draw(1, self.blur, 1))))
        small = functional.interpolate(rgb, size=coarse, mode="bilinear", antialias=True)
        again = functional.interpolate(small, size=size, mode="bilinear", align_corners=False)
        return again.where(draw(0, 1, len(rgb), 1, 1, 1) < 0.5, rgb)


PLAIN = Augmentation(rotate=False, reflect=False, shift=0, zoom=0)


def plain_view(images: Tensor, view: float, size: int) -> Tensor:
    """Return the framed part of pictures, uint8 (n, 3, side, side), as float32 (n, 3, size, size) in 0..1."""
    return PLAIN(images, view, size, torch.Generator())
