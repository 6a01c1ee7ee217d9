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
    """How far a training run is: after a batch.

    Attributes
    ----------
    epoch, epochs : int
        The epoch, from 1, and how many there are.
    batch, batches : int
        The batch of the epoch, from 1, and how many there are.
    loss : float
        Mean loss of the epoch so far.
    seconds_left : float
        For the whole run, by the batches of this call; NaN where it is not known yet.
    """

    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float
    seconds_left: float


def in_notebook() -> bool:
    """Tell whether a notebook runs this, which shows bars and HTML."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def _bar(what: str, unit: str) -> Any:
    if in_notebook() and find_spec("ipywidgets") is None:
        from tqdm import tqdm

        # A bar of text, among what the cell prints: notebooks show standard error as a fault.
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
        Called too, with the same numbers.

    Yields
    ------
    callable or None
        To be called with the number done and the whole number; None where nobody wants to know.
    """
    if not (in_notebook() if wanted is None else wanted):
        yield on_progress
        return
    with _bar(what, unit) as bar:

        def update(done: int, total: int) -> None:
            if bar.total is None:  # a resumed run begins with some done: they are not of its rate
                bar.reset(total)
                bar.n = bar.initial = done
                bar.refresh()
            bar.total = total
            bar.update(done - bar.n)
            if on_progress:
                on_progress(done, total)

        yield update
