"""The running process: its times, its memory, and the memory that it keeps for the next batch."""

from __future__ import annotations

import ctypes
import platform
import resource
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

# Of glibc's malloc.h. Blocks up to the first limit, the largest that it takes, come from memory that is kept; so much
# of that may lie unused at its end.
_M_MMAP_THRESHOLD, _MMAP_BYTES = -3, 32 * 2**20
_M_TRIM_THRESHOLD, _TRIM_BYTES = -1, 256 * 2**20
# Threads have heaps of 64 MiB. A second one that is empty again is given back whole, unless so much is to be kept.
_M_TOP_PAD, _TOP_PAD_BYTES = -2, 64 * 2**20


class Clock:
    """Seconds by task, summed over the threads."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started = time.perf_counter()
        self._lock = threading.Lock()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the seconds spent inside a ``with`` block."""
        started = time.perf_counter()
        yield
        with self._lock:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    @property
    def elapsed(self) -> float:
        """Seconds since the clock was made."""
        return time.perf_counter() - self._started


def peak_memory_mb() -> float:
    """Return the peak memory of this process in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


@cache
def keep_freed_memory() -> bool:
    """Let this process keep freed memory, up to 256 MiB in each arena; return whether that works.

    Each batch needs tens of megabytes, and pages that come anew from the system must be cleared: that is a tenth of the
    network's time on the CPU, and half of it in the workers of a Dask cluster, whose nanny has them give back all but
    64 KiB (``MALLOC_TRIM_THRESHOLD_``). Other C libraries than glibc are left as they are.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    limits = (_M_MMAP_THRESHOLD, _MMAP_BYTES), (_M_TRIM_THRESHOLD, _TRIM_BYTES), (_M_TOP_PAD, _TOP_PAD_BYTES)
    taken = [mallopt(*limit) for limit in limits]
    return all(taken)
