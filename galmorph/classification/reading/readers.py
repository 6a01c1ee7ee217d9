"""Readers: processes that read and frame cutouts, as threads hold each other up.

A third of the work is Python, which one thread of a process may do at a time. Each reader has memory that it shares
with this process, without a name in any file system: it is freed however the run ends. A reader imports no torch, and
ends when the pipe from this process is closed.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from galmorph.classification.prepare import Prepared
from galmorph.classification.reading.rows import Row, RowReader
from galmorph.classification.reading.serving import Answer
from galmorph.errors import CannotContinue
from galmorph.files.remote import Remote

if TYPE_CHECKING:
    import torch

    from galmorph.models.card import ModelCard

log = logging.getLogger(__name__)

DEVICES = ("cpu", "cuda")
# For a process: of fewer rows it would take longer to start than to read.
MIN_ROWS = 256
# As many readers as cores: NumPy would start as many threads in each.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_SERVE = "from galmorph.classification.reading.serving import serve; serve({fd}, {n_bytes})"


class Rows(Protocol):
    """What has rows to be read, as a source has."""

    n_rows: int

    def row_reader(self, card: ModelCard) -> RowReader | None:
        """Return what reads and frames a row; None where that is not one file's own matter."""

    def prepare(self, rows: Sequence[Any], card: ModelCard, device: torch.device) -> list[Prepared]:
        """Read and frame rows in this thread."""


def wanted(n_rows: int, device: torch.device, workers: int) -> bool:
    """Return whether cutouts are read in processes: the device, the threads and the rows say so, no timing."""
    able = hasattr(os, "memfd_create") and bool(sys.executable) and device.type in DEVICES
    return able and workers > 1 and n_rows >= MIN_ROWS * workers


class Readers:
    """Reads the batches of a source: in processes where :func:`wanted` says so, else in the thread that asks.

    Parameters
    ----------
    source : Rows
    card : ModelCard
    device : torch.device
        Of the network.
    batch_size : int
        Rows in a batch, at most.
    workers : int
        Threads that ask.
    """

    def __init__(self, source: Rows, card: ModelCard, device: torch.device, batch_size: int, workers: int) -> None:
        self._source, self._card, self._batch_size = source, card, batch_size
        self._reader = source.row_reader(card) if wanted(source.n_rows, device, workers) else None
        self._idle: list[_Process] = []
        self._all: list[_Process] = []

    def __enter__(self) -> Readers:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._all:
            process.close()

    @contextmanager
    def read(self, rows: Sequence[Any], device: torch.device) -> Iterator[list[Prepared]]:
        """Give the rows read and framed; their flux may be overwritten after the ``with`` block."""
        # Threads wait for servers as well as processes do, and an address of memory is of this process alone.
        here = self._reader is None or any(isinstance(row.cutout, Remote) for row in rows)
        process = None if here else self._process()
        if process is None:
            yield self._source.prepare(rows, self._card, device)
            return
        yield process.read(rows)
        self._idle.append(process)

    def _process(self) -> _Process | None:
        """Return an idle process, else a new one (no more than threads that ask); None if the system allows none."""
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        if (reader := self._reader) is None:  # another thread has found that it is not allowed
            return None
        try:
            process = _Process(reader, self._batch_size)
        except OSError as error:
            log.info("Cutouts are read by threads, as no process can be started: %s.", error)
            self._reader = None
            return None
        self._all.append(process)
        return process


class _Process:
    """A reader's process, and the memory that both share."""

    def __init__(self, reader: RowReader, batch_size: int) -> None:
        size = reader.card.input_size
        self._shape = (3, size, size)
        n_bytes = batch_size * 4 * 3 * size * size
        fd = os.memfd_create("galmorph")
        try:
            os.truncate(fd, n_bytes)
            self._memory = mmap.mmap(fd, n_bytes)
            environment = {**os.environ, **_ONE_THREAD, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            # -P: files of the working directory are no modules.
            command = [sys.executable, "-P", "-c", _SERVE.format(fd=fd, n_bytes=n_bytes)]
            # Of a session of its own: Ctrl-C is for the program, which ends what has begun.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[fd],
                env=environment,
                start_new_session=True,
            )
        finally:
            os.close(fd)
        self._send(reader)

    def _send(self, message: object) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._ended() from error

    def _ended(self) -> CannotContinue:
        return CannotContinue(
            f"A process that reads cutouts ended (exit code {self._process.wait()}): what is done is kept; go on with "
            "the same command. If memory is full, give fewer --workers."
        )

    def read(self, rows: Sequence[Row]) -> list[Prepared]:
        """Return the rows read and framed; their flux is valid until the next call."""
        assert self._process.stdout is not None
        self._send(list(rows))
        try:
            answer: Answer = pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError) as error:
            raise self._ended() from error
        for name, level, text in answer.logged:
            logging.getLogger(name).log(level, "%s", text)
        if answer.error is not None:
            raise answer.error
        flux = np.frombuffer(self._memory, np.float32, len(answer.framed) * int(np.prod(self._shape)))
        targets = answer.targets
        for i, framed in zip(answer.framed, flux.reshape(-1, *self._shape), strict=True):
            targets[i] = replace(targets[i], flux=framed)
        return targets

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):  # what could not be written any more
                stream.close()
