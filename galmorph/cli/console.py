"""The two streams of a command: messages go to stderr, results to stdout. Control characters are made visible."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import sys
from collections.abc import Container, Iterable
from datetime import UTC, datetime
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType
from rich.logging import RichHandler
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

# Columns of text without a terminal, and the smallest width of a terminal that is used.
WIDTH, MIN_WIDTH = 80, 40
# Control characters (except line feed and tab), C1 controls, and those that change the direction of text.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """Return text with each control character replaced by a visible one.

    Names in tables, model cards, headers and answers of services come from elsewhere: an escape sequence in them could
    recolour, erase or rewrite text on the terminal.
    """
    return _CONTROLS.sub(lambda match: _picture(ord(match[0])), text)


def _picture(code: int) -> str:
    return "\u2421" if code == 0x7F else chr(0x2400 + code) if code < 0x20 else "\ufffd"


class SafeConsole(Console):
    """A rich console that prints text literally (no markup, no emoji codes) and shows control characters."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield what is drawn; only rich's own control codes stay what they are."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def _columns(isatty: bool) -> int | None:
    """Return the width of text: ``COLUMNS`` where it is a number, else `WIDTH`; None: rich measures the terminal."""
    for name in ("COLUMNS", "LINES", "TERMINAL_WIDTH"):
        # rich and typer read these too, and fail where they are not numbers.
        if not re.fullmatch("[0-9]{2,4}", text := os.environ.get(name, "")) or (
            name != "LINES" and int(text) < MIN_WIDTH
        ):
            os.environ.pop(name, None)
    columns = os.environ.get("COLUMNS")
    return int(columns) if columns else None if isatty else WIDTH


def open_closed_streams() -> None:
    """Open what is closed of the standard streams on nothing: else a file takes its number, and what is printed."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


stdout = SafeConsole(width=_columns(sys.stdout is not None and sys.stdout.isatty()))
stderr = SafeConsole(stderr=True, width=_columns(sys.stderr is not None and sys.stderr.isatty()))


def say(text: str) -> None:
    """Print a message to stderr without line breaks, so that a path in it can be copied."""
    stderr.print(Text(visible(text)), soft_wrap=True)


def table_of(*columns: str, numbers: Container[str] = (), **options: Any) -> Table:
    """Return an empty table: what is too long for a cell is wrapped, and nothing is cut.

    Parameters
    ----------
    *columns : str
        Their heads.
    numbers : container of str
        Which of them are set to the right.
    **options
        Of rich's table.
    """
    table = Table(box=SIMPLE_HEAD, **options)
    for name in columns:
        table.add_column(name, overflow="fold", justify="right" if name in numbers else "left")
    return table


class Events(io.TextIOBase):
    """A stream for stderr whose lines are JSON objects: ``time``, ``event``, ``level`` and values of the event."""

    def write(self, text: str) -> int:
        """Write lines of text as messages."""
        for line in filter(None, map(str.strip, text.splitlines())):
            self.emit("message", message=line)
        return len(text)

    def emit(self, event: str, level: str = "info", **values: object) -> None:
        """Write one event; a quiet run writes only errors."""
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


class _PlainFormatter(logging.Formatter):
    """Log records as lines of a file, which may be read on a terminal later."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def set_up_messages(*, quiet: bool, as_json: bool) -> None:
    """Configure stderr and the log for this run.

    Parameters
    ----------
    quiet : bool
        Only errors.
    as_json : bool
        Everything as JSON lines.
    """
    stderr.quiet = quiet
    handler: logging.Handler
    if as_json:
        events = Events()
        stderr.file = events  # type: ignore[assignment]
        stderr.width = 1_000_000  # a message is one line
        handler = EventHandler(events)
    elif stderr.is_terminal:
        handler = RichHandler(console=stderr, show_time=False, show_path=False)
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(_PlainFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("galmorph").setLevel(logging.ERROR if quiet else logging.INFO)
