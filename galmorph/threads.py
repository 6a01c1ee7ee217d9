"""Helper threads: prepare items ahead, and let a run finish the batches it has started after a signal."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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
