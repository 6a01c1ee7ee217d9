"""Colours: the mappings of flux to red, green and blue of the pictures that models were trained on."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

# The softened minimum and the maximum of Galaxy Zoo DECaLS's arcsinh stretch, in units of the band's scale, and the
# colour contrast above which nothing is desaturated (zooniverse/decals, the code that made the pictures).
ZOO_LOW, ZOO_HIGH, ZOO_CONTRAST = -0.5, 300.0, 2.5
_SLOPE = 1 / (math.asinh(ZOO_HIGH) - math.asinh(ZOO_LOW))
# The mapping's numbers: where a band begins, its slope and zero, how fast contrast keeps colours, and where all colour
# is kept.
ZOO = {
    "low": math.asinh(ZOO_LOW),
    "slope": _SLOPE,
    "zero": -math.asinh(ZOO_LOW) * _SLOPE,
    "steep": _SLOPE / ZOO_CONTRAST * math.pi / 2,
    "half_pi": math.pi / 2,
}

# The mappings take scaled flux (..., 3, y, x) as an array of NumPy or of torch, with the module that it is of, and work
# in place, because memory traffic takes most of their time.


def _lupton(scaled: Any, xp: Any, softening: float, offset: float) -> Any:
    """Arcsinh of the mean intensity with its colours (Lupton et al. 2004), like the Legacy Surveys viewer."""
    scaled += offset
    intensity = xp.clip(scaled, 0, None).mean(-3)
    stretched = _arcsinh(intensity * softening, xp)
    stretched /= math.sqrt(softening)
    # The viewer replaces a zero intensity by 1e-6; the numerator keeps negative values until the end.
    intensity[intensity == 0] = 1e-6
    stretched /= intensity
    scaled *= stretched[..., None, :, :]
    return xp.clip(scaled, 0, 1, out=scaled)


def _galaxyzoo_decals(scaled: Any, xp: Any, *_: float) -> Any:
    """Arcsinh of each band, then colours pulled to grey where they contrast little (noise): Galaxy Zoo DECaLS.

    A band is ``(arcsinh(flux / scale) - low) / (high - low)``; where the mean of the bands is negative, what comes out
    is black.
    """
    low, slope, zero = (ZOO[name] for name in ("low", "slope", "zero"))
    values = _arcsinh(scaled, xp)
    one, two, three = (values[..., i, :, :] for i in range(3))
    grey = one + two
    grey += three
    grey *= slope / 3
    grey += zero
    xp.clip(grey, 1e-30, None, out=grey)  # avoids a division by 0
    colour = xp.maximum(one, two)
    xp.maximum(colour, three, out=colour)
    colour -= low
    colour /= grey
    colour *= ZOO["steep"]
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
    """Return whether NumPy's arcsinh is vectorised on this processor; unknown before NumPy 2."""
    try:
        from numpy.lib.introspect import opt_func_info
    except ImportError:
        return False
    kinds = opt_func_info(func_name="^arcsinh$", signature="float32").get("arcsinh", {})
    return any("baseline" not in kind["current"] for kind in kinds.values())


def _as_it_is(scaled: Any, *_: Any) -> Any:
    """Return colours unchanged."""
    return scaled


class ColourMapping(NamedTuple):
    """A mapping of flux to colours: how a band's scale multiplies its flux, and the mapping of scaled flux."""

    factor: Callable[[float], float]
    colours: Callable[..., Any]


# The mapping of pictures, 0 to 1.
PICTURE = "picture"
MAPPINGS = {
    "lupton": ColourMapping(lambda scale: scale, _lupton),
    "galaxyzoo_decals": ColourMapping(lambda scale: 1 / scale, _galaxyzoo_decals),
    PICTURE: ColourMapping(lambda scale: scale, _as_it_is),
}
