"""Small tensors and batches on their way to a GPU, such that no thread waits for the work that lies before them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def to_device(batch: Tensor, device: torch.device) -> Tensor:
    """Return a batch on a device; to a GPU it goes from page-locked memory, and the thread does not wait for it.

    A batch that lies on a GPU already is not copied to the host.
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


@lru_cache(maxsize=256)
def constant(values: tuple[float, ...] | tuple[int, ...], device: torch.device) -> Tensor:
    """Return a tensor of numbers (float32, or int64 of integers) that is on a device from the first call on."""
    import torch

    with torch.inference_mode(mode=False):  # gradients may pass it too
        return torch.tensor(values, device=device)
