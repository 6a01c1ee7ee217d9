"""Progress of long runs in scripts and notebooks: a bar of tqdm. The command line has its own, of rich."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TrainingStep:
    """The state of a training run after a batch.

    Attributes
    ----------
    epoch, epochs : int
        The epoch, from 1, and how many there are.
    batch, batches : int
        The batch of the epoch, from 1, and how many there are.
    loss : float
        Mean loss of the epoch so far.
    seconds_left : float
        For the whole run, estimated from the batches of this call.
    """

    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float
    seconds_left: float


def in_notebook() -> bool:
    """Return whether this runs in a notebook, which can show bars and HTML."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def _bar(what: str, unit: str) -> Any:
    if in_notebook() and find_spec("ipywidgets") is None:
        from tqdm import tqdm

        # A bar of text on standard output: notebooks mark standard error as an error.
        return tqdm(desc=what, unit=f" {unit}", file=sys.stdout)
    from tqdm.auto import tqdm

    return tqdm(desc=what, unit=f" {unit}")


@contextmanager
def progress_bar(wanted: bool | None, what: str, unit: str, on_progress: Progress | None) -> Iterator[Progress | None]:
    """Show a bar while the context is open, if it is wanted.

    Parameters
    ----------
    wanted : bool or None
        None: in a notebook.
    what, unit : str
        Text before the bar; plural of what is counted.
    on_progress : callable, optional
        Also called, with the same numbers.

    Yields
    ------
    callable or None
        To be called with the number done and the total; None if there is nothing to update.
    """
    if not (in_notebook() if wanted is None else wanted):
        yield on_progress
        return
    with _bar(what, unit) as bar:

        def update(done: int, total: int) -> None:
            if bar.total is None:  # a resumed run starts with some done, which must not count in its rate
                bar.reset(total)
                bar.n = bar.initial = done
                bar.refresh()
            bar.total = total
            bar.update(done - bar.n)
            if on_progress:
                on_progress(done, total)

        yield update
