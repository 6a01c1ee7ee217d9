"""Helper threads: work prepared ahead, and signals that let a run finish the batches it has started."""

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
    """Give an event that SIGINT, SIGTERM or SIGHUP sets; a second signal does what it would have done without this.

    A signal that has its default action (SIGTERM in a program that does not handle it) or is ignored is left alone, as
    are all of them in a thread that is not the main one, which gets no signals.
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
    """Yield items, the next of which is made in a thread while the last one is used."""
    nothing = object()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, nothing)
        while (item := coming.result()) is not nothing:
            coming = pool.submit(next, items, nothing)
            yield item  # type: ignore[misc]  # nothing is no item
