"""CUDA graphs: all operations of a batch as one, so that the GPU does not wait for the threads that start them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

log = logging.getLogger(__name__)

Function = Callable[[Tensor], tuple[Tensor, ...]]
# Runs before the capture, in which libraries choose their kernels and take what memory they need.
_WARM_UP = 2


@dataclass(frozen=True)
class _Captured:
    graph: torch.cuda.CUDAGraph
    given: Tensor
    results: tuple[Tensor, ...]


class Graphs:
    """A function of a batch on a GPU, as a CUDA graph for the shapes of batch that were captured; others run as it is.

    The same kernels run each time, chosen by rule and never by a timing: equal batches give equal bytes.

    Parameters
    ----------
    function : callable
        Takes a batch and returns tensors; it does not wait for the device.
    device : torch.device
    """

    def __init__(self, function: Function, device: torch.device) -> None:
        self._function, self._device = function, device
        self._captured: dict[torch.Size, _Captured | None] = {}
        self._lock = threading.Lock()

    def capture(self, batch: Tensor) -> None:
        """Make the graph for batches like this one, once; it keeps the memory that such a batch takes."""
        with self._lock, torch.cuda.device(self._device):
            if batch.shape not in self._captured:
                self._captured[batch.shape] = self._capture(batch)

    def __call__(self, batch: Tensor) -> tuple[Tensor, ...]:
        """Return what the function does; threads may call it at a time."""
        with self._lock, torch.cuda.device(self._device):
            captured = self._captured.get(batch.shape)
            if captured is None:
                return self._run(batch)
            captured.given.copy_(batch)
            captured.graph.replay()
            return tuple(result.clone() for result in captured.results)

    def _run(self, batch: Tensor) -> tuple[Tensor, ...]:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
            return self._function(batch)

    def _capture(self, batch: Tensor) -> _Captured | None:
        try:
            given = batch.clone(memory_format=torch.preserve_format)
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(_WARM_UP):
                    self._run(given)
            torch.cuda.current_stream().wait_stream(aside)
            torch.cuda.synchronize()
            torch.cuda.empty_cache()  # the graph has memory of its own
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                results = self._run(given)
        except RuntimeError as error:
            log.debug("This network is not captured as a CUDA graph: %s", error)
            return None
        return _Captured(graph, given, results)
