"""Normalization: from flux in nanomaggies to the picture that a model was trained on.

Everything that a network must see the same way as in training is plain data in a :class:`Normalization`, which travels
inside the model's card: bands, colour mapping, framing, input size, mean and standard deviation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

# The softened minimum and the maximum of Galaxy Zoo DECaLS's arcsinh stretch, in units of the band's scale, and the
# colour contrast above which nothing is desaturated (zooniverse/decals, the code that made the pictures).
ZOO_LOW, ZOO_HIGH, ZOO_CONTRAST = -0.5, 300.0, 2.5
# A mapping works on so many: more fit no longer into a core's cache, fewer let threads wait for one another too often.
PICTURES_AT_ONCE = 8


@dataclass(frozen=True)
class Framing:
    """How wide a piece of sky the model looks at: a multiple of the galaxy's radius, or a fixed angle.

    Attributes
    ----------
    radii : float
        Full width in radii (R90); 0 where the width is fixed.
    size_arcsec : float
        Fixed full width in arcsec; 0 where it follows from the radius.
    """

    radii: float = 0.0
    size_arcsec: float = 0.0

    def __post_init__(self) -> None:
        if (self.radii > 0) == (self.size_arcsec > 0):
            raise ModelError("A framing needs either 'radii' or 'size_arcsec', greater than 0.")

    def width_arcsec(self, radius_arcsec: float) -> float:
        """Return the full width in arcsec for a galaxy of this radius; NaN where the radius is needed and unknown."""
        return self.radii * radius_arcsec if self.radii else self.size_arcsec


@dataclass(frozen=True)
class Normalization:
    """Preprocessing of a model for one survey.

    Attributes
    ----------
    kind : str
        ``lupton`` (viewers of the Legacy Surveys and SDSS) or ``galaxyzoo_decals`` (pictures of Galaxy Zoo DECaLS).
    bands : tuple of str
        The bands that become red, green and blue.
    scales : tuple of float
        Of each band: factor of the flux (``lupton``) or divisor (``galaxyzoo_decals``), for nanomaggies per pixel of
        ``flux_pixscale``.
    flux_pixscale : float
        Arcsec; the scales hold for flux per pixel of this size.
    framing : Framing
    input_size : int
        Side of the network's input in pixels.
    mean, std : tuple of float
        RGB in 0..1 is normalised by these.
    softening, offset : float
        Q and m of the ``lupton`` mapping.
    grey : bool
        Whether the network sees the mean of the three colours in all of them.
    """

    kind: str
    bands: tuple[str, ...]
    scales: tuple[float, ...]
    flux_pixscale: float
    framing: Framing
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    softening: float = 20.0
    offset: float = 0.0
    grey: bool = False

    def __post_init__(self) -> None:
        if self.kind not in MAPPINGS:
            raise ModelError(f"Unknown colour mapping {self.kind!r}; known: {', '.join(MAPPINGS)}.")
        if len(self.bands) != 3 or len(self.scales) != 3 or min(self.scales) <= 0:
            raise ModelError("A normalization needs three bands (red, green, blue) and three positive scales.")
        if self.input_size < 32 or self.flux_pixscale <= 0 or len(self.mean) != 3 or len(self.std) != 3:
            raise ModelError("A normalization needs an input size of 32 px or more, a pixel scale, mean and std.")

    def rgb(self, flux: Tensor | Sequence[Tensor]) -> Tensor:
        """Map flux to colours.

        Parameters
        ----------
        flux : Tensor, float32, shape (n, 3, y, x), or sequence of n Tensors (3, y, x)
            In the order of ``bands``, nanomaggies per pixel of ``flux_pixscale``.

        Returns
        -------
        Tensor, float32, shape (n, 3, y, x)
            Red, green, blue in 0..1, rows as they came (a published picture shows them flipped, north up).
        """
        import torch

        mapping = MAPPINGS[self.kind]
        factors = np.array([mapping.factor(scale) for scale in self.scales], np.float32)[:, None, None]
        if flux[0].device.type != "cpu":
            flux = flux if isinstance(flux, torch.Tensor) else torch.stack(list(flux))
            return mapping.colours(self, flux * torch.from_numpy(factors).to(flux.device), torch)
        # NumPy's operations take less time than torch's there, and less on what stays in the core's cache.
        result = np.empty((len(flux), *flux[0].shape), np.float32)
        for first in range(0, len(flux), PICTURES_AT_ONCE):
            part = result[first : first + PICTURES_AT_ONCE]
            for scaled, one in zip(part, flux[first : first + PICTURES_AT_ONCE], strict=True):
                np.multiply(one.numpy(), factors, out=scaled)
            mapping.colours(self, part, np)
        return torch.from_numpy(result)

    def network_input(self, rgb: Tensor) -> Tensor:
        """Normalise colours in 0..1, shape (n, 3, y, x), for the network."""
        if self.grey:
            rgb = rgb.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
        mean, std = rgb.new_tensor(self.mean).view(3, 1, 1), rgb.new_tensor(self.std).view(3, 1, 1)
        return (rgb - mean) / std


# The mappings take scaled flux (..., 3, y, x) as an array of NumPy or of torch, with the module that it is of, and work
# in place: their time is that of the memory.


def _lupton(normalization: Normalization, scaled: Any, xp: Any) -> Any:
    """Arcsinh of the mean intensity, colours kept (Lupton et al. 2004) as the Legacy Surveys viewer does it."""
    scaled += normalization.offset
    intensity = xp.clip(scaled, 0, None).mean(-3)
    q = normalization.softening
    stretched = _arcsinh(intensity * q, xp)
    stretched /= math.sqrt(q)
    # The viewer replaces a zero intensity by 1e-6; the numerator keeps negative values until the end.
    intensity[intensity == 0] = 1e-6
    stretched /= intensity
    scaled *= stretched[..., None, :, :]
    return xp.clip(scaled, 0, 1, out=scaled)


def _galaxyzoo_decals(normalization: Normalization, scaled: Any, xp: Any) -> Any:
    """Arcsinh of each band, then colours pulled to grey where they contrast little (noise): Galaxy Zoo DECaLS.

    A band is ``(arcsinh(flux / scale) - low) / (high - low)``; where the mean of the bands is negative, what comes out
    is black.
    """
    low, high = math.asinh(ZOO_LOW), math.asinh(ZOO_HIGH)
    slope, zero = 1 / (high - low), -low / (high - low)
    values = _arcsinh(scaled, xp)
    one, two, three = (values[..., i, :, :] for i in range(3))
    grey = one + two
    grey += three
    grey *= slope / 3
    grey += zero
    xp.clip(grey, 1e-30, None, out=grey)  # nothing is divided by 0
    colour = xp.maximum(one, two)
    xp.maximum(colour, three, out=colour)
    colour -= low
    colour /= grey
    colour *= slope / ZOO_CONTRAST * math.pi / 2
    xp.clip(colour, 0, math.pi / 2, out=colour)
    xp.cos(colour, out=colour)
    fade = 1 - colour
    grey *= fade
    fade *= grey
    colour += fade
    grey += colour * zero
    colour *= slope
    values *= colour[..., None, :, :]
    values += grey[..., None, :, :]
    return xp.clip(values, 0, 1, out=values)


def _arcsinh(values: Any, xp: Any) -> Any:
    """Arcsinh to within 3e-7, in place: by logarithm where the module's own is not vectorised, ten times slower."""
    if xp is np and _numpy_has_arcsinh():
        return np.arcsinh(values, out=values)
    size = abs(values)
    xp.clip(size, None, 1e18, out=size)  # whose square is finite; no flux comes near
    root = size * size
    root += 1
    xp.sqrt(root, out=root)
    root += size
    xp.log(root, out=root)
    return xp.copysign(root, values, out=values)


@cache
def _numpy_has_arcsinh() -> bool:
    """Tell whether NumPy's arcsinh is vectorised on this processor; before NumPy 2 it does not say."""
    try:
        from numpy.lib.introspect import opt_func_info
    except ImportError:
        return False
    kinds = opt_func_info(func_name="^arcsinh$", signature="float32").get("arcsinh", {})
    return any("baseline" not in kind["current"] for kind in kinds.values())


class Mapping(NamedTuple):
    """A mapping of flux to colours: what a band's scale means as a factor of its flux, and what is done then."""

    factor: Callable[[float], float]
    colours: Callable[[Normalization, Any, Any], Any]


MAPPINGS = {
    "lupton": Mapping(lambda scale: scale, _lupton),
    "galaxyzoo_decals": Mapping(lambda scale: 1 / scale, _galaxyzoo_decals),
}


def frame(
    flux: NDArray[np.float32] | Sequence[NDArray[np.float32]],
    width_pixels: float,
    n_out: int,
    centre: tuple[float, float] | None = None,
) -> NDArray[np.float32]:
    """Cut a square out of a cutout, to a fraction of a pixel, and resample it to the network's input size.

    Bilinear where it is stretched, a triangle of the output pixel's size where it shrinks (no aliasing).

    Parameters
    ----------
    flux : ndarray or sequence of ndarray, float32, shape (band, y, x)
    width_pixels : float
        Full width wanted, in pixels of the cutout; the part outside the cutout is filled with 0 (the sky).
    n_out : int
        Side of the result.
    centre : (x, y), optional
        In pixels from 0; default: the middle of the cutout.

    Returns
    -------
    ndarray, float32, shape (band, n_out, n_out)
        Surface brightness is kept.
    """
    from PIL import Image

    height, width = flux[0].shape
    x, y = ((width - 1) / 2, (height - 1) / 2) if centre is None else centre
    # The resize weighs whole rows: only the rows and columns that its filter reaches are handed to it.
    reach = math.ceil(max(1.0, width_pixels / n_out))
    left, top = x + 0.5 - width_pixels / 2, y + 0.5 - width_pixels / 2
    x0, y0 = math.floor(left) - reach, math.floor(top) - reach
    x1, y1 = math.ceil(left + width_pixels) + reach, math.ceil(top + width_pixels) + reach
    inside = slice(max(0, y0), min(height, y1)), slice(max(0, x0), min(width, x1))
    framed = np.zeros((len(flux), n_out, n_out), np.float32)
    if min(part.stop - part.start for part in inside) <= 0:
        return framed
    margins = None
    if min(left, top, width - left - width_pixels, height - top - width_pixels) >= 0:
        x0, y0 = inside[1].start, inside[0].start
    else:  # sky around the cutout
        margins = (inside[0].start - y0, y1 - inside[0].stop), (inside[1].start - x0, x1 - inside[1].stop)
    box = (left - x0, top - y0, left - x0 + width_pixels, top - y0 + width_pixels)
    for result, plane in zip(framed, flux, strict=True):
        piece = np.pad(plane[inside], margins) if margins else np.ascontiguousarray(plane[inside])
        result[:] = np.asarray(Image.fromarray(piece).resize((n_out, n_out), Image.Resampling.BILINEAR, box))
    return framed
