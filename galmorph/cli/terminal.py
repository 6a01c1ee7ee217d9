"""What the commands print: summaries and tables, progress, JSON. Messages go to stderr, results to stdout."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

# Wide enough for the tables where there is no terminal to measure.
_WIDTH = None if sys.stdout.isatty() else 120
stdout, stderr = Console(width=_WIDTH), Console(stderr=True, width=None if sys.stderr.isatty() else 120)

# Seconds between two events of progress at least.
_EVENT_S = 1.0

_COSTS = ("requests", "bytes", "seconds")


class Events(io.TextIOBase):
    """A stream for stderr whose every line is a JSON object: ``time``, ``event``, ``level``, and what belongs to it."""

    def write(self, text: str) -> int:
        """Write lines of text as messages."""
        for line in filter(None, map(str.strip, text.splitlines())):
            self.emit("message", message=line)
        return len(text)

    def emit(self, event: str, level: str = "info", **values: Any) -> None:
        """Write one event; of a quiet run only errors."""
        if stderr.quiet and level not in ("error", "critical"):
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"time": now, "event": event, "level": level, **values}
        print(json.dumps(line, default=str), file=sys.stderr, flush=True)


class EventHandler(logging.Handler):
    """Log records as events."""

    def __init__(self, events: Events) -> None:
        super().__init__()
        self._events = events

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        self._events.emit("log", record.levelname.lower(), logger=record.name, message=record.getMessage())


def write_events() -> logging.Handler:
    """Make JSON lines of all that goes to stderr, and return the handler that does it for the log."""
    events = Events()
    stderr.file = events  # type: ignore[assignment]
    stderr.width = 1_000_000  # a message is a line
    return EventHandler(events)


def show_error(error: Exception, exit_code: int) -> None:
    """Tell what went wrong."""
    if isinstance(stderr.file, Events):
        stderr.file.emit("error", "error", message=str(error), exit_code=exit_code)
        return
    stderr.quiet = False
    stderr.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)


def show_fetched(summary: Any, as_json: bool) -> None:
    """Tell how many targets have cutouts, and what it took."""
    states = ", ".join(f"{name} {count}" for name, count in summary.as_dict().items() if name not in _COSTS)
    stderr.print(f"{states}; {summary.requests} requests, {summary.bytes / 1e6:.1f} MB, {summary.seconds:.1f} s")
    _tell_done(summary.as_dict())
    print_json(summary.as_dict(), as_json)


def _tell_done(values: Mapping[str, Any]) -> None:
    if isinstance(stderr.file, Events):
        stderr.file.emit("done", **values)


def show_plan(plan: Any, as_json: bool) -> None:
    """Tell what each way of fetching would take."""
    for way in plan.ways:
        stderr.print(f"{way.way}: {way.requests} requests, {way.bytes / 1e6:.1f} MB")
    stderr.print(f"Chosen: {plan.chosen}")
    if plan.invalid:
        reasons = "; ".join(f"{count}: {reason}" for reason, count in plan.invalid.items())
        stderr.print(f"{sum(plan.invalid.values())} of {plan.targets} rows cannot be fetched. {reasons}.", markup=False)
    print_json(plan.as_dict(), as_json)


def show_summary(summary: Any, profile: bool) -> None:
    """Tell what a classification did."""
    stderr.print(
        f"{summary.classified} of {summary.targets} galaxies classified by {summary.model} in {summary.seconds:.1f} s "
        f"({_rate(summary.rate)}); {summary.flagged} flagged, {summary.failed} without a probability."
    )
    if summary.flags:
        stderr.print("Flags: " + ", ".join(f"{name} {count}" for name, count in summary.flags.items()))
    if profile:
        spent = {name: value for name, value in summary.profile.items() if name not in ("total", "peak_mb")}
        parts = ", ".join(f"{name} {value:.2f}" for name, value in spent.items())
        stderr.print(f"Seconds: {parts}, over all threads; {summary.profile['total']:.2f} by the clock.")
        each = 1000 * sum(spent.get(name, 0.0) for name in ("read", "network")) / max(summary.targets, 1)
        stderr.print(f"A galaxy: {each:.2f} ms of a thread. Memory: {summary.profile['peak_mb']:.0f} MB at most.")
    stderr.print(f"Output: {summary.out}")
    _tell_done(dataclasses.asdict(summary))


def show_epoch(line: Mapping[str, float]) -> None:
    """Tell of an epoch of training."""
    stderr.print(
        f"epoch {line['epoch']:.0f}: loss {line['train_loss']:.5f}, validation {line['val_loss']:.5f}, "
        f"rmse {line['val_rmse']:.4f}, {line['seconds']:.0f} s"
    )


def show_metrics(metrics: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Show the scores of parts and samples with their intervals."""
    table = Table("part", "data", "score", "value", "95 % interval", box=SIMPLE_HEAD)
    table.columns[3].justify = "right"
    for part, samples in metrics.items():
        for sample, scores in samples.items():
            told = (part, sample)
            for name, value in scores.items():
                if isinstance(value, int | float) and not name.endswith(("_low", "_high")):
                    low, high = scores.get(f"{name}_low"), scores.get(f"{name}_high")
                    interval = f"{low:.4f} .. {high:.4f}" if low is not None else ""
                    table.add_row(*told, name, f"{value:.4f}" if isinstance(value, float) else str(value), interval)
                    told = ("", "")
            table.add_section()
    stderr.print(table)


def print_json(result: Any, wanted: bool, leave_out: tuple[str, ...] = ()) -> None:
    """Print a mapping or a dataclass as one line of JSON on stdout, where it is wanted."""
    if wanted:
        values = (
            dataclasses.asdict(result) if dataclasses.is_dataclass(result) and not isinstance(result, type) else result
        )
        print(json.dumps({name: value for name, value in values.items() if name not in leave_out}, default=str))


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show progress: a bar on a terminal, a plain line for every tenth elsewhere, or events."""
    if isinstance(events := stderr.file, Events):
        told = -_EVENT_S

        def event(done: int, total: int) -> None:
            nonlocal told
            if done == total or time.monotonic() - told >= _EVENT_S:
                told = time.monotonic()
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

    def tell(done: int, total: int) -> None:
        nonlocal last
        tenth = 10 * done // max(total, 1)
        if tenth > last and not stderr.quiet:
            last = tenth
            speed = pace(done)
            left = f", {_rate(speed)}, {_span((total - done) / speed)} left" if speed and done < total else ""
            print(f"{what}: {done} of {total}{left}", file=sys.stderr, flush=True)

    yield tell


class _Pace:
    """How many are done a second, since the first that was told: a run that goes on begins with some."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def __call__(self, done: int) -> float:
        now = time.monotonic()
        if self._first is None:
            self._first = now, done
        since, before = self._first
        return (done - before) / (now - since) if now > since else 0.0


def _rate(per_second: float) -> str:
    if not per_second:
        return ""
    return f"{per_second:.0f} a second" if per_second >= 10 else f"{per_second:.2g} a second"


def _span(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
