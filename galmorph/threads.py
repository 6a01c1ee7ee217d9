"""Helper threads: how many, items prepared ahead, and the batches that a run has started finished after a signal."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# The processor time that a container may take, in microseconds, and of how many; "max": all.
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def cores() -> int:
    """Return the cores that this process may use, which a job of a cluster or a container may have fewer of."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text().split()
        return max(1, min(allowed, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):
        return allowed


@contextmanager
def stop_requested() -> Iterator[threading.Event]:
    """Give an event that SIGINT, SIGTERM or SIGHUP sets; a second signal has its usual effect.

    A signal with its default action (SIGTERM in a program that does not handle it) or an ignored one is left alone, and
    so are all signals outside the main thread, which gets none.
    """
    event = threading.Event()
    earlier = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in _SIGNALS}
        earlier = {number: handler for number, handler in handlers.items() if callable(handler)}

    def request(*_: object) -> None:
        event.set()
        restore()

    def restore() -> None:
        for number, handler in earlier.items():
            signal.signal(number, handler)

    for number in earlier:
        signal.signal(number, request)
    try:
        yield event
    finally:
        restore()


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield items; the next one is made in a thread while the current one is used."""
    nothing = object()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, nothing)
        while (item := coming.result()) is not nothing:
            coming = pool.submit(next, items, nothing)
            yield item  # type: ignore[misc]  # nothing is not an item
