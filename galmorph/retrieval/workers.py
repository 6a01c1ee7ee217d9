"""A run: the pending requests of a manifest, done by as many tasks as there are slots."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from galmorph.errors import CannotContinue, GalmorphError, Interrupted, memory_is_full
from galmorph.progress import Progress
from galmorph.retrieval import store as storage
from galmorph.retrieval.addresses import Credentials, printable
from galmorph.retrieval.client import Client, Failure, Limits, Session
from galmorph.retrieval.enrolment import FAILED, NO_COVERAGE
from galmorph.retrieval.manifest import Manifest, Outcome, Recorded, Task
from galmorph.retrieval.store import Step
from galmorph.retrieval.surveys import Delivery, NoCoverage, Source

# How many requests are read from the manifest at a time, and how many targets are looked up in one request.
_PAGE = 256
_LOCATE_AT_ONCE = 100
# A cutout of more bytes, or one after a write that took longer, is checked and written in a thread, so that the others
# do not wait for it.
_LARGE_BYTES = 8_000_000
_SLOW_WRITE_S = 0.01

log = logging.getLogger(__name__)

_STOPPED = "Stopped. What is done is kept; run the same command again to go on."


class Run:
    """One run over a manifest's pending requests.

    Attributes
    ----------
    requests, bytes : int
        Requests made and bytes received.
    """

    def __init__(
        self,
        manifest: Manifest,
        source: Source,
        folder: Path,
        limits: Limits,
        on_progress: Progress | None,
        credentials: Credentials | None = None,
    ) -> None:
        self.manifest = manifest
        self.source = source
        self.folder = folder
        self.limits = limits
        self.on_progress = on_progress
        self.credentials = credentials
        self.requests = 0
        self.bytes = 0
        self._disk_is_slow = False
        self._done = 0
        self._total = manifest.n_pending()

    async def run(self) -> None:
        """Make all requests that can be made now."""
        if not self._total:
            return
        async with Client(self.limits, self.credentials) as client:
            try:
                for tasks in self.manifest.tasks(_LOCATE_AT_ONCE, located=False):
                    await self._locate(client, tasks)
                todo = (task for page in self.manifest.tasks(_PAGE, located=True) for task in page)
                # As many tasks as slots: a killed run loses at most that many answers.
                async with asyncio.TaskGroup() as group:
                    for _ in range(self.limits.workers):
                        group.create_task(self._work(client, todo))
            except BaseExceptionGroup as failures:
                raise failures.exceptions[0] from failures.exceptions[0].__cause__
            finally:
                self.requests, self.bytes = client.requests, client.bytes

    async def _locate(self, client: Client, tasks: list[Task]) -> None:
        """Look up from which images several targets are cut; those without an image are finished."""
        session = Session(client)
        try:
            images = await self.source.locate(session, [task.request for task in tasks])
        except Exception as error:
            reason = _reason(error)
            await client.confirm_alive(session.asked_at, self.source.control)
            for task in tasks:
                self._record(task, Outcome(FAILED, error=reason, attempts=session.attempts))
            return
        self.manifest.locate({task.key: names for task, names in zip(tasks, images, strict=True) if names is not None})
        for task, names in zip(tasks, images, strict=True):
            if names is None:
                self._record(task, Outcome(NO_COVERAGE, error="off the footprint", attempts=1))

    async def _work(self, client: Client, todo: Iterator[Task]) -> None:
        for task in todo:
            self._record(task, await self._fulfil(client, task))

    async def _fulfil(self, client: Client, task: Task) -> Outcome:
        path = self.folder / task.path
        if storage.decide(Recorded(), storage.stamp_of(path), retry_failed=False) is Step.ADOPT:
            adopted = await asyncio.to_thread(storage.adopt, path, task.request, self.source.bands)
            if adopted is not None:
                return adopted
        session = Session(client)
        try:
            delivery = await self.source.deliver(session, task.request)
        except NoCoverage as error:
            return Outcome(NO_COVERAGE, error=str(error), attempts=session.attempts)
        except Exception as error:
            reason = _reason(error)
            await client.confirm_alive(session.asked_at, self.source.control)
            return Outcome(FAILED, error=reason, attempts=session.attempts)
        # A thread only pays for a large cutout or a slow disk.
        if self._disk_is_slow or delivery.cutout.flux.nbytes > _LARGE_BYTES:
            outcome = await asyncio.to_thread(self._store, delivery, path)
        else:
            outcome = self._store(delivery, path)
        return replace(outcome, attempts=session.attempts)

    def _store(self, delivery: Delivery, path: Path) -> Outcome:
        outcome, chunks = storage.prepare(delivery)
        if chunks:
            start = time.monotonic()
            outcome = replace(outcome, mtime_ns=storage.write(path, chunks))
            self._disk_is_slow = time.monotonic() - start > _SLOW_WRITE_S
        return outcome

    def _record(self, task: Task, outcome: Outcome) -> None:
        self.manifest.record(task.key, outcome)
        self._done += 1
        if self.on_progress:
            self.on_progress(self._done, self._total)


def _reason(error: Exception) -> str:
    """Return why a target failed; raise errors of the run. Unexpected exceptions are logged with their traceback."""
    if memory_is_full(error):
        raise CannotContinue("Memory is full. What is done is kept; run the same command again with fewer --workers.")
    if isinstance(error, Failure):
        return str(error)
    if isinstance(error, GalmorphError):
        raise error
    log.error("An answer gave an unexpected error; please report it.", exc_info=error)
    return f"unexpected {type(error).__name__}: {printable(str(error))}"


def until_signal(work: Coroutine[Any, Any, None]) -> None:
    """Run asynchronous work to its end; SIGINT, SIGTERM and SIGHUP (the terminal is gone) stop it.

    Raises
    ------
    Interrupted
        If a signal came.
    """
    if threading.current_thread() is not threading.main_thread() or _in_event_loop():
        _in_a_thread(work)
        return

    async def stoppable() -> None:
        task = asyncio.current_task()
        for number in handlers:
            asyncio.get_running_loop().add_signal_handler(number, task.cancel if task else work.close)
        await work

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    handlers = {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}
    try:
        asyncio.run(stoppable())
    except asyncio.CancelledError:
        raise Interrupted(_STOPPED) from None
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _in_a_thread(work: Coroutine[Any, Any, None]) -> None:
    """Run asynchronous work in another thread: in a notebook this one has an event loop already."""
    started: concurrent.futures.Future[Callable[[], object]] = concurrent.futures.Future()

    async def stoppable() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        started.set_result(lambda: loop.call_soon_threadsafe(task.cancel if task else work.close))
        await work

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        done = pool.submit(asyncio.run, stoppable())
        try:
            done.result()
        except KeyboardInterrupt:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the work ended at the same moment
                started.result()()
            raise Interrupted(_STOPPED) from None


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
