"""Batches of rows: worker threads prepare them and run the network, and the results go into the journal in order.

The boundaries of batches depend only on the row number. Each thread computes whole batches: it reads and frames the
cutouts, itself or with a process of its own, and runs the network on one core, so that no core waits for another.
"""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from galmorph.classification.prepare import Prepared
from galmorph.classification.process import Clock
from galmorph.classification.reading.readers import Readers
from galmorph.classification.sources import Source
from galmorph.files.journal import BLOCK, Journal
from galmorph.images.flags import Flag
from galmorph.images.gpu.tensors import stacked
from galmorph.models.predictor import Predictor
from galmorph.threads import stop_requested

log = logging.getLogger(__name__)

# Batches that wait for a worker, so that no worker is idle.
BATCHES_AHEAD = 1
# The first failures are logged; the others are only counted.
LOGGED_FAILURES = 5


def classify_rows(
    source: Source,
    predictors: Sequence[Predictor],
    journal: Journal,
    batch_size: int,
    workers: int,
    clock: Clock,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    """Classify the rows that the journal does not hold yet.

    Parameters
    ----------
    predictors : sequence of Predictor
        Batches go to them in turn.
    batch_size : int
        Rows in a batch.
    workers : int
        Threads that take batches through.
    on_progress : callable, optional
        Called with the rows done and the number of rows, after each batch.

    Raises
    ------
    KeyboardInterrupt
        After a signal, when the started batches are in the journal.
    """

    def classify_batch(rows: Sequence[Any], predictor: Predictor) -> tuple[NDArray[np.void], list[str]] | None:
        if stop.is_set():  # no further batch is started
            return None
        with ExitStack() as reading:
            with clock("read"):
                targets = reading.enter_context(readers.read(rows, predictor.device))
            with clock("network"):
                records = predict_batch(targets, predictor, batch_size, journal.record)
                return records, [t.reason for t in targets if t.reason]

    logged = 0
    for predictor in predictors:
        predictor.warm_up(batch_size)
    with (
        single_threaded_operations(),
        Readers(source, predictors[0].model.card, predictors[0].device, batch_size, workers) as readers,
        ThreadPoolExecutor(workers, thread_name_prefix="galmorph") as pool,
        stop_requested() as stop,
    ):
        waiting: deque[Future[tuple[NDArray[np.void], list[str]] | None]] = deque()
        # The device of a batch depends on its rows too.
        turns = itertools.islice(itertools.cycle(predictors), len(journal) // batch_size % len(predictors), None)
        blocks = zip(source.blocks(batch_size, len(journal)), turns, strict=False)
        try:
            while True:
                if not stop.is_set():
                    for task in itertools.islice(blocks, workers + BATCHES_AHEAD - len(waiting)):
                        waiting.append(pool.submit(classify_batch, *task))
                done = waiting.popleft().result() if waiting else None
                if done is None:
                    break
                records, reasons = done
                source.verify()  # results of a changed input are not kept
                journal.append(records)
                for reason in reasons[: LOGGED_FAILURES - logged]:
                    log.warning("%s", reason)
                logged = min(LOGGED_FAILURES, logged + len(reasons))
                if on_progress:
                    on_progress(len(journal), source.n_rows)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if stop.is_set():
        raise KeyboardInterrupt


def keep_unchanged(source: Source, journal: Journal, batch_size: int) -> int:
    """Drop the results of a stopped run from the first batch on with a cutout that has changed; return their number."""
    first = 0
    for records, rows in zip(journal.blocks(), source.blocks(BLOCK, 0), strict=False):
        states = np.array(source.states(rows[: len(records)]), dtype=np.uint64)
        changed = np.flatnonzero(states != records["state"])
        if len(changed):
            kept = (first + int(changed[0])) // batch_size * batch_size
            dropped = len(journal) - kept
            journal.keep(kept)
            log.warning("Cutouts have changed since the run was stopped: %d results are computed again.", dropped)
            return dropped
        first += len(records)
    return 0


@contextmanager
def single_threaded_operations() -> Iterator[None]:
    """Let each torch operation use one thread: each worker computes its own batch on its own core.

    Preparing a model is faster with one thread too: with several threads its small tensors take several times as long.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def predict_batch(
    targets: Sequence[Prepared], predictor: Predictor, batch_size: int, record: np.dtype[np.void]
) -> NDArray[np.void]:
    """Return the journal's records of a batch; a target without flux has NaN for probabilities."""
    result = np.zeros(len(targets), record)
    result["p"] = result["ood"] = np.nan
    with_features = "features" in (record.names or ())
    if with_features:
        result["features"] = np.nan
    for name in ("flag", "ra", "dec", "state"):
        result[name] = [getattr(target, name) for target in targets]
    framed = {i: target.flux for i, target in enumerate(targets) if target.flux is not None}
    usable = list(framed)
    if not usable:
        return result
    # A batch always has the same shape: a last, short one would be computed in another order of sums.
    size = predictor.model.card.input_size
    inputs = torch.zeros(batch_size, size, size, 3, device=predictor.device).permute(0, 3, 1, 2)  # channels last
    for entry in {entry for target in targets if (entry := target.entry)}:
        rows = [i for i in usable if targets[i].entry == entry]
        flux: Any = [torch.as_tensor(framed[i]) for i in rows]
        if predictor.device.type != "cpu":
            flux = stacked(flux, predictor.device)
        if rows[-1] - rows[0] == len(rows) - 1:  # a view
            entry.normalization.fill(inputs[rows[0] : rows[-1] + 1], flux)
        else:
            pictures = torch.empty_like(inputs[: len(rows)])
            entry.normalization.fill(pictures, flux)
            inputs[rows] = pictures
    judged = predictor.judge_with_features(inputs) if with_features else predictor.judge(inputs)
    for name, values in zip(("p", "ood", "features"), judged, strict=False):
        result[name][usable] = values.cpu().numpy()[usable]
    broken = [i for i in usable if not np.isfinite(result["p"][i]).all()]
    if broken:  # a network can overflow; a row without probability has a flag
        result["p"][broken] = np.nan
        result["flag"][broken] |= Flag.UNREADABLE.value
    if (threshold := predictor.model.card.unlikeness_threshold) is not None:
        result["flag"][result["ood"] > threshold] |= Flag.UNLIKE_TRAINING.value
    return result
