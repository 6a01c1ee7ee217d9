"""What a reader's process does. It imports little, since each process does it anew."""

from __future__ import annotations

import logging
import mmap
import os
import pickle
import sys
import traceback
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from galmorph.classification.prepare import Prepared
from galmorph.classification.reading.rows import Row, RowReader
from galmorph.errors import GalmorphError


@dataclass(frozen=True)
class Answer:
    """What a reader gives back of a batch: targets without flux, what it logged, and the error that ends the run."""

    targets: list[Prepared]
    framed: list[int]
    logged: list[tuple[str, int, str]]
    error: BaseException | None = None


class _Logged(logging.Handler):
    """Keeps what is logged, as text."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[tuple[str, int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append((record.name, record.levelno, self.format(record)))


def serve(fd: int, n_bytes: int) -> None:
    """Read batches until the other end closes the pipe: what a reader's process does."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # so that what a library prints does not get between
    requests = sys.stdin.buffer
    memory = np.frombuffer(mmap.mmap(fd, n_bytes), np.float32)
    reader: RowReader = pickle.load(requests)
    logged = _Logged()
    logging.getLogger("galmorph").addHandler(logged)
    logging.getLogger("galmorph").propagate = False
    while True:
        try:
            rows: list[Row] = pickle.load(requests)
        except (EOFError, OSError):
            return
        logged.records = []
        targets: list[Prepared] = []
        framed: list[int] = []
        error: Exception | None = None
        try:
            first = 0
            for target in map(reader, rows):
                if target.flux is not None:
                    flux: Any = target.flux
                    memory[first : first + flux.size] = flux.ravel()
                    first += flux.size
                    framed.append(len(targets))
                targets.append(replace(target, flux=None))
        except Exception as caught:
            error = caught if isinstance(caught, GalmorphError) else RuntimeError(traceback.format_exc())
        try:
            pickle.dump(Answer(targets, framed, logged.records, error), replies, pickle.HIGHEST_PROTOCOL)
            replies.flush()
        except BrokenPipeError:
            return
