"""Processes: one training over several of them, started by torchrun, each with its share of every batch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from galmorph.models.predictor import pick_device

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """The processes of a training: all hold the same weights and sum their gradients; the first one writes.

    Attributes
    ----------
    rank : int
        Number of this process, from 0.
    n : int
        How many there are.
    """

    rank: int = 0
    n: int = 1

    @classmethod
    def joined(cls) -> Processes:
        """Return the processes that torchrun started, or only this one."""
        n = int(os.environ.get("WORLD_SIZE", "1"))
        if n == 1:
            return cls()
        if not distributed.is_initialized():
            distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        return cls(distributed.get_rank(), n)

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def leave(self) -> None:
        """End the process group."""
        if self.n > 1:
            distributed.destroy_process_group()

    def device(self, name: str) -> torch.device:
        """Return the device of a name; with several GPUs each process of a machine has its own."""
        if self.n > 1 and name in ("auto", "cuda") and torch.cuda.is_available():
            name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
            torch.cuda.set_device(name)
        return pick_device(name)

    def first_then_all(self, work: Callable[[], T]) -> T:
        """Return the result of some work; the first process does it before the others, which use its cache."""
        if self.n == 1:
            return work()
        result = work() if self.is_first else None
        distributed.barrier()
        return work() if result is None else result

    def shared(self, value: T) -> T:
        """Return the first process's value."""
        if self.n == 1:
            return value
        box: list[Any] = [value]
        distributed.broadcast_object_list(box)
        return box[0]

    def total(self, value: float, device: torch.device) -> float:
        """Return the sum of a number over the processes."""
        if self.n == 1:
            return value
        summed = torch.tensor(value, dtype=torch.float64, device=device)
        distributed.all_reduce(summed)
        return summed.item()

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum the gradients of the processes in one tensor; a process without a share of the batch adds nothing."""
        if self.n == 1:
            return
        learning = [p for p in parameters if p.requires_grad]
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in learning])
        distributed.all_reduce(flat)
        for parameter, gradient in zip(learning, flat.split([p.numel() for p in learning]), strict=True):
            parameter.grad = gradient.view_as(parameter)

    def average_statistics(self, *networks: nn.Module) -> None:
        """Average the statistics of batch normalisation, which each process gathered on its own pictures."""
        if self.n == 1:
            return
        statistics: list[Tensor] = [b for net in networks for b in net.buffers() if b.is_floating_point()]
        for statistic in statistics:
            distributed.all_reduce(statistic)
            statistic /= self.n
