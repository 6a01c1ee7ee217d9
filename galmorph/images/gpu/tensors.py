"""Small tensors and batches on their way to a GPU, without a thread waiting for the work queued before them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def to_device(batch: Tensor, device: torch.device) -> Tensor:
    """Return a batch on a device; to a GPU it goes from page-locked memory, and the thread does not wait for it.

    A batch that is on a GPU already is not copied to the host.
    """
    if device.type != "cuda" or batch.device.type != "cpu":
        return batch.to(device)
    return batch.pin_memory().to(device, non_blocking=True)  # torch keeps the locked memory until the copy is done


def stacked(tensors: list[Tensor], device: torch.device) -> Tensor:
    """Return tensors of one shape as one on a device; those of the CPU are copied once, into page-locked memory."""
    import torch

    if device.type != "cuda" or tensors[0].device.type != "cpu":
        return to_device(torch.stack(tensors), device)
    locked = torch.empty(len(tensors), *tensors[0].shape, dtype=tensors[0].dtype, pin_memory=True)
    return torch.stack(tensors, out=locked).to(device, non_blocking=True)


def constant(values: Sequence[float], device: torch.device) -> Tensor:
    """Return numbers as float32 that are on a device from the first call on."""
    return _constant(tuple(map(float, values)), device)


def index(values: Sequence[int], device: torch.device) -> Tensor:
    """Return whole numbers as int64 that are on a device from the first call on."""
    return _constant(("index", *values), device)


@lru_cache(maxsize=256)
def _constant(values: tuple[Any, ...], device: torch.device) -> Tensor:
    import torch

    with torch.inference_mode(mode=False):  # gradients may pass it too
        if values[0] == "index":  # 1 and 1.0 are one key otherwise
            return torch.tensor(values[1:], dtype=torch.int64, device=device)
        return torch.tensor(values, dtype=torch.float32, device=device)
