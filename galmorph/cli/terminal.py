"""What the commands print: summaries and tables, progress, JSON."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from galmorph.cli.console import Events, say, stderr, table_of
from galmorph.errors import counted

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from galmorph.classification.summary import Summary
    from galmorph.progress import TrainingStep
    from galmorph.retrieval.fetch import FetchSummary, Plan

# Seconds between two events of progress at least.
_EVENT_S = 1.0
# Seconds from the first progress on until there is a rate.
_LEAST_S = 1.0
# Seconds between two lines within an epoch of training, in a log.
_LINE_S = 60.0

_COSTS = ("requests", "bytes", "seconds")


def show_fetched(summary: FetchSummary, as_json: bool) -> None:
    """Print how many targets have cutouts, and the costs."""
    states = ", ".join(f"{name} {count}" for name, count in summary.as_dict().items() if name not in _COSTS)
    say(f"{states}; {counted(summary.requests, 'request')}, {summary.bytes / 1e6:.1f} MB, {summary.seconds:.1f} s")
    _emit_done(summary.as_dict())
    print_json(summary.as_dict(), as_json)


def _emit_done(values: Mapping[str, Any]) -> None:
    if isinstance(stderr.file, Events):
        stderr.file.emit("done", **values)


def show_plan(plan: Plan, as_json: bool) -> None:
    """Print the costs of each way of fetching."""
    for way in plan.ways:
        say(f"{way.way}: {counted(way.requests, 'request')}, {way.bytes / 1e6:.1f} MB")
    say(f"Chosen: {plan.chosen}")
    if plan.invalid:
        reasons = "; ".join(f"{count}: {reason}" for reason, count in plan.invalid.items())
        say(f"{sum(plan.invalid.values())} of {plan.targets} rows cannot be fetched. {reasons}.")
    print_json(plan, as_json)


def show_summary(summary: Summary, profile: bool) -> None:
    """Print the summary of a classification."""
    galaxies = counted(summary.targets, "galaxy", "galaxies")
    say(
        f"{summary.classified} of {galaxies} classified by {summary.model} in {summary.seconds:.1f} s "
        f"({_rate(summary.rate)}); {summary.flagged} flagged, {summary.failed} without a probability."
    )
    if summary.flags:
        say("Flags: " + ", ".join(f"{name} {count}" for name, count in summary.flags.items()))
    if profile:
        spent = {name: value for name, value in summary.profile.items() if name not in ("total", "peak_mb")}
        seconds = ", ".join(f"{name} {value:.2f}" for name, value in spent.items())
        say(f"Seconds: {seconds}, over all threads; {summary.profile['total']:.2f} by the clock.")
        each = 1000 * sum(spent.get(name, 0.0) for name in ("read", "network")) / max(summary.targets, 1)
        say(f"A galaxy: {each:.2f} ms of a thread. Memory: {summary.profile['peak_mb']:.0f} MB at most.")
    say(f"Output: {summary.out}")
    _emit_done(dataclasses.asdict(summary))


def check_hub() -> None:
    """Raise a GalmorphError if no SAMP hub runs, before any work is done."""
    from galmorph.reports.samp import hub

    with hub():
        pass


def send_by_samp(path: str) -> None:
    """Send a table to the programs that are connected to the SAMP hub, and print their names."""
    from galmorph.reports.samp import send

    names = send(path)
    say(f"Sent to {', '.join(names)}." if names else "No program that takes tables is connected to the SAMP hub.")


def _show_epoch(line: Mapping[str, float], step: TrainingStep | None) -> None:
    """Print the scores of an epoch of training, and the time left."""
    of = f" of {step.epochs}" if step else ""
    left = f", {_span(step.seconds_left)} left" if step and step.epoch < step.epochs else ""
    say(
        f"epoch {line['epoch']:.0f}{of}: loss {line['train_loss']:.5f}, validation {line['val_loss']:.5f}, "
        f"rmse {line['val_rmse']:.4f}, {line['seconds']:.0f} s{left}"
    )


@contextmanager
def training_progress() -> Iterator[tuple[Callable[[Mapping[str, float]], None], Callable[[TrainingStep], None]]]:
    """Show a training run: a line an epoch, and within it a bar on a terminal, a line a minute elsewhere, or events.

    Yields
    ------
    on_epoch, on_step : callable
        As :func:`galmorph.training.train.train` calls them.
    """
    latest: TrainingStep | None = None
    last_s = time.monotonic()
    events = stderr.file if isinstance(stderr.file, Events) else None
    is_bar = events is None and stderr.is_terminal and not stderr.quiet
    texts = (
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rest]}"),
    )
    with Progress(*texts, console=stderr, transient=True, disable=not is_bar) as bar:
        task = bar.add_task("", total=None, epoch="", rest="", visible=False)

        def on_step(step: TrainingStep) -> None:
            nonlocal latest, last_s
            latest, now_s = step, time.monotonic()
            epoch, rest = f"{step.epoch}/{step.epochs}", f"loss {step.loss:.4f}, {_span(step.seconds_left)} left"
            bar.update(task, completed=step.batch, total=step.batches, epoch=epoch, rest=rest, visible=True)
            if is_bar or now_s - last_s < (_EVENT_S if events else _LINE_S):
                return
            last_s = now_s
            if events:
                events.emit(
                    "progress", what="training", done=step.batch, total=step.batches, **dataclasses.asdict(step)
                )
            else:
                say(f"epoch {step.epoch} of {step.epochs}, batch {step.batch} of {step.batches}: {rest}")

        yield lambda line: _show_epoch(line, latest), on_step


def show_metrics(metrics: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Print the scores of each part of the split and each sample, with their intervals."""
    table = table_of("part", "data", "score", "value", "95 % interval", numbers=("value",))
    for column in (0, 2, 3, 4):  # names of samples may be long and may wrap
        table.columns[column].no_wrap = True
    for part, samples in metrics.items():
        for sample, scores in samples.items():
            first = (part, sample)
            for name, value in scores.items():
                if isinstance(value, int | float) and not name.endswith(("_low", "_high")):
                    low, high = scores.get(f"{name}_low"), scores.get(f"{name}_high")
                    interval = f"{low:.4f} .. {high:.4f}" if low is not None else ""
                    table.add_row(*first, name, f"{value:.4f}" if isinstance(value, float) else str(value), interval)
                    first = ("", "")
            table.add_section()
    stderr.print(table)


def print_json(result: Mapping[str, Any] | DataclassInstance, wanted: bool, leave_out: tuple[str, ...] = ()) -> None:
    """Print a mapping or a dataclass as one line of JSON on stdout, where it is wanted."""
    if wanted:
        values = result if isinstance(result, Mapping) else dataclasses.asdict(result)
        print(json.dumps({name: value for name, value in values.items() if name not in leave_out}, default=str))


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show progress: a bar on a terminal, a plain line for every tenth elsewhere, or events."""
    if isinstance(events := stderr.file, Events):
        last_s = -_EVENT_S

        def event(done: int, total: int) -> None:
            nonlocal last_s
            if done == total or time.monotonic() - last_s >= _EVENT_S:
                last_s = time.monotonic()
                events.emit("progress", what=what, done=done, total=total)

        yield event
        return
    pace = _Pace()
    if stderr.is_terminal:
        columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
        times = (TimeElapsedColumn(), TimeRemainingColumn(elapsed_when_finished=True))
        with Progress(*columns, *times, console=stderr, transient=True) as bar:
            task = bar.add_task(what, total=None, rate="")
            yield lambda done, total: bar.update(task, completed=done, total=total, rate=_rate(pace(done)))
        return
    last = -1

    def line(done: int, total: int) -> None:
        nonlocal last
        tenth = 10 * done // max(total, 1)
        if tenth > last and not stderr.quiet:
            last = tenth
            speed = pace(done)
            left = f", {_rate(speed)}, {_span((total - done) / speed)} left" if speed and done < total else ""
            print(f"{what}: {done} of {total}{left}", file=sys.stderr, flush=True)

    yield line


class _Pace:
    """The rate since the first call, because a resumed run starts with some done.

    Batches that several threads end at one moment are no rate: for a while there is none.
    """

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def __call__(self, done: int) -> float:
        now = time.monotonic()
        if self._first is None:
            self._first = now, done
        since, before = self._first
        return (done - before) / (now - since) if now - since >= _LEAST_S else 0.0


def _rate(per_second: float) -> str:
    if not per_second:
        return ""
    return f"{per_second:.0f} a second" if per_second >= 10 else f"{per_second:.2g} a second"


def _span(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
