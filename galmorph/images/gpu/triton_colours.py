"""Flux to the network's input in one kernel of Triton: each pixel is read once and written once."""

# Triton reads the annotations of its functions, and has no types itself.
# ruff: noqa: ANN001, ANN202
# mypy: ignore-errors

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024


@triton.jit
def _arcsinh(value):
    size = tl.minimum(tl.abs(value), 1e18)
    root = tl.log(tl.sqrt(size * size + 1) + size)
    return tl.where(value < 0, -root, root)


@triton.jit
def _galaxyzoo_decals(
    flux,
    factors,
    mean,
    std,
    out,
    plane,
    total,
    low,
    slope,
    zero,
    steep,
    half_pi,
    block: tl.constexpr,
):
    pixel = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = pixel < total
    first = pixel // plane * 3 * plane + pixel % plane
    one = _arcsinh(tl.load(flux + first, inside) * tl.load(factors))
    two = _arcsinh(tl.load(flux + first + plane, inside) * tl.load(factors + 1))
    three = _arcsinh(tl.load(flux + first + 2 * plane, inside) * tl.load(factors + 2))
    grey = tl.maximum((one + two + three) * (slope / 3) + zero, 1e-30)
    colour = (tl.maximum(tl.maximum(one, two), three) - low) / grey * steep
    colour = tl.cos(tl.minimum(tl.maximum(colour, 0.0), half_pi))
    grey *= 1 - colour
    colour += (1 - colour) * grey
    grey += colour * zero
    colour *= slope
    to = out + pixel * 3
    one = tl.minimum(tl.maximum(one * colour + grey, 0.0), 1.0)
    tl.store(to, (one - tl.load(mean)) / tl.load(std), inside)
    two = tl.minimum(tl.maximum(two * colour + grey, 0.0), 1.0)
    tl.store(to + 1, (two - tl.load(mean + 1)) / tl.load(std + 1), inside)
    three = tl.minimum(tl.maximum(three * colour + grey, 0.0), 1.0)
    tl.store(to + 2, (three - tl.load(mean + 2)) / tl.load(std + 2), inside)


def galaxyzoo_decals(flux: Tensor, factors: Tensor, mean: Tensor, std: Tensor, **constants: Any) -> Tensor:
    """Return the network's input, channels last, of flux (n, 3, y, x), float32."""
    flux = flux.contiguous()
    out = torch.empty_like(flux, memory_format=torch.channels_last)
    plane = flux.shape[2] * flux.shape[3]
    total = len(flux) * plane
    with torch.cuda.device(flux.device):
        _galaxyzoo_decals[(triton.cdiv(total, BLOCK),)](
            flux, factors, mean, std, out, plane, total, **constants, block=BLOCK
        )
    return out
