"""A network's convolutions with what follows them as kernels of Triton: tried by gpu.py against those of cuDNN.

On a GPU a small network's speed is that of the memory. cuDNN writes a convolution's result, reads it for the activation
and writes it again; here the activation, or the addition, is computed before the result is written.
"""

# Triton reads the annotations of its functions.

from __future__ import annotations

import copy
import operator
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, nn


@triton.jit
def _pointwise(
    x, weight, bias, added, out, n_rows,
    k_all: tl.constexpr, n_all: tl.constexpr, six: tl.constexpr, adds: tl.constexpr,
    bm: tl.constexpr, bn: tl.constexpr, bk: tl.constexpr,
):  # fmt: skip
    blocks = tl.cdiv(n_all, bn)
    rows = (tl.program_id(0) // blocks).to(tl.int64) * bm + tl.arange(0, bm)
    columns = tl.program_id(0) % blocks * bn + tl.arange(0, bn)
    total = tl.zeros((bm, bn), tl.float32)
    for first in range(0, k_all, bk):
        inner = first + tl.arange(0, bk)
        a = tl.load(
            x + rows[:, None] * k_all + inner[None, :], (rows < n_rows)[:, None] & (inner < k_all)[None, :], 0.0
        )
        b = tl.load(weight + columns[None, :] * k_all + inner[:, None],
                    (columns < n_all)[None, :] & (inner < k_all)[:, None], 0.0)  # fmt: skip
        total = tl.dot(a, b, total)
    total += tl.load(bias + columns, columns < n_all, 0.0)[None, :]
    to = rows[:, None] * n_all + columns[None, :]
    inside = (rows < n_rows)[:, None] & (columns < n_all)[None, :]
    if adds:
        total += tl.load(added + to, inside, 0.0).to(tl.float32)
    if six:
        total = tl.minimum(tl.maximum(total, 0.0), 6.0)
    tl.store(out + to, total.to(out.dtype.element_ty), inside)


@triton.jit
def _depthwise(
    x, weight, bias, out, n_rows,
    n_channels: tl.constexpr, side: tl.constexpr, out_side: tl.constexpr, stride: tl.constexpr, six: tl.constexpr,
    bm: tl.constexpr, bc: tl.constexpr,
):  # fmt: skip
    blocks = tl.cdiv(n_channels, bc)
    rows = (tl.program_id(0) // blocks).to(tl.int64) * bm + tl.arange(0, bm)
    channels = tl.program_id(0) % blocks * bc + tl.arange(0, bc)
    picture = rows // (out_side * out_side)
    down = rows // out_side % out_side * stride - 1
    across = rows % out_side * stride - 1
    known = channels < n_channels
    total = tl.zeros((bm, bc), tl.float32)
    for tap in tl.static_range(9):
        y, z = down + tap // 3, across + tap % 3
        inside = (rows < n_rows) & (y >= 0) & (y < side) & (z >= 0) & (z < side)
        at = ((picture * side + y) * side + z) * n_channels
        value = tl.load(x + at[:, None] + channels[None, :], inside[:, None] & known[None, :], 0.0)
        factor = tl.load(weight + tap * n_channels + channels, known, 0.0)
        total += value.to(tl.float32) * factor[None, :]
    total += tl.load(bias + channels, known, 0.0)[None, :]
    if six:
        total = tl.minimum(tl.maximum(total, 0.0), 6.0)
    to = rows[:, None] * n_channels + channels[None, :]
    tl.store(out + to, total.to(out.dtype.element_ty), (rows < n_rows)[:, None] & known[None, :])


class Pointwise(nn.Module):
    """A convolution of single pixels, and what follows it."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.register_buffer("weight", layer.weight.detach().flatten(1).contiguous())
        self.register_buffer("bias", layer.bias.detach().float())
        self.six = False

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        n, k, height, width = x.shape
        wide = self.weight.shape[0]
        out = x.new_empty(n, height, width, wide).permute(0, 3, 1, 2)
        rows = n * height * width
        bm, bn, bk = 128, min(128, max(16, triton.next_power_of_2(wide))), min(64, max(16, triton.next_power_of_2(k)))
        added = None if added is None else added.contiguous(memory_format=torch.channels_last)
        grid = (triton.cdiv(rows, bm) * triton.cdiv(wide, bn),)
        _pointwise[grid](
            x, self.weight, self.bias, x if added is None else added, out, rows,
            k, wide, self.six, added is not None, bm, bn, bk, num_warps=8 if bn == 128 else 4, num_stages=3,
        )  # fmt: skip
        return out


class Depthwise(nn.Module):
    """A convolution of 3 by 3 pixels of each channel by itself, and what follows it."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.register_buffer("weight", layer.weight.detach().float().flatten(1).T.contiguous())
        self.register_buffer("bias", layer.bias.detach().float())
        self.stride, self.six = layer.stride[0], False

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        n, c, side, _ = x.shape
        after = (side - 1) // self.stride + 1
        out = x.new_empty(n, after, after, c).permute(0, 3, 1, 2)
        rows, bm, bc = n * after * after, 32, 32
        grid = (triton.cdiv(rows, bm) * triton.cdiv(c, bc),)
        _depthwise[grid](x, self.weight, self.bias, out, rows, c, side, after, self.stride, self.six, bm, bc)
        return out


def _kernel(layer: nn.Module | None) -> nn.Module | None:
    if not isinstance(layer, nn.Conv2d) or layer.bias is None or layer.dilation != (1, 1):
        return None
    if layer.kernel_size == (1, 1) and layer.stride == (1, 1) and layer.groups == 1:
        return Pointwise(layer)
    square = layer.kernel_size == (3, 3) and layer.padding == (1, 1) and layer.stride in ((1, 1), (2, 2))
    return Depthwise(layer) if square and layer.groups == layer.in_channels == layer.out_channels else None


def fused(network: Any) -> Any:
    """Return a copy of a traced network, batch normalisation folded, that runs by the kernels here where it can."""
    network = copy.deepcopy(network)
    graph = network.graph
    for node in list(graph.nodes):
        kernel = _kernel(network.get_submodule(node.target)) if node.op == "call_module" else None
        if kernel is None:
            continue
        network.set_submodule(node.target, kernel.to(next(network.get_submodule(node.target).parameters()).device))
        user = next(iter(node.users))
        if len(node.users) > 1:
            continue
        if user.op == "call_module" and isinstance(network.get_submodule(user.target), nn.ReLU6):
            kernel.six = True
        elif isinstance(kernel, Pointwise) and user.target in (operator.add, torch.add) and user.args[1] is node:
            node.args = (node.args[0], user.args[0])
        else:
            continue
        user.replace_all_uses_with(node)
        graph.erase_node(user)
    network.recompile()
    return network
