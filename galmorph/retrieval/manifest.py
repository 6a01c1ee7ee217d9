"""The manifest of a folder of cutouts: its requests and their states, always on disk (SQLite, WAL).

A request defines the pixels of one file: survey, layer, bands, position, size, scale. Its key is the hash of its text,
so that the same request in a later run, another row or another list uses the same file. The
table ``requests`` keeps them all; the table ``targets`` has a row for each row of the catalog of the last run, and the
view ``manifest`` joins the two.
"""

from __future__ import annotations

import errno
import json
import math
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from galmorph.errors import CannotContinue, OutputError
from galmorph.files.lock import locked
from galmorph.retrieval.enrolment import PENDING, STATES, Entry, enrol
from galmorph.retrieval.request import Request

NAME = "manifest.sqlite"
# Format 1 had no times of files.
FORMAT = 2
# A killed run loses at most this much of the manifest; its finished files are adopted by the next run.
_COMMIT_EVERY_S = 1.0

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE requests (
    key TEXT PRIMARY KEY, first_row INTEGER, target_id TEXT, ra REAL, dec REAL, size INTEGER, pixscale REAL,
    radius REAL, place TEXT, request TEXT, path TEXT, status TEXT NOT NULL DEFAULT 'pending',
    attempts INTEGER NOT NULL DEFAULT 0, bytes INTEGER, sha256 TEXT, coverage TEXT, error TEXT, note TEXT, time TEXT,
    mtime_ns INTEGER
) WITHOUT ROWID;
CREATE INDEX pending ON requests (place, first_row) WHERE status = 'pending';
CREATE TABLE targets (row INTEGER PRIMARY KEY, id TEXT, key TEXT, problem TEXT NOT NULL DEFAULT '');
CREATE VIEW manifest AS
    SELECT t.row, t.id, CASE WHEN t.problem <> '' THEN 'invalid' ELSE r.status END AS status, r.ra, r.dec, r.request,
        r.path, r.attempts, r.bytes, r.sha256, r.coverage, COALESCE(NULLIF(t.problem, ''), r.error, r.note) AS error,
        r.time
    FROM targets AS t LEFT JOIN requests AS r ON r.key = t.key;
"""


_OBJECTS = {"meta", "requests", "pending", "targets", "manifest"}

_STATE = f"CASE WHEN t.problem <> '' THEN 'invalid' WHEN r.status IN {STATES} THEN r.status ELSE 'pending' END"


@dataclass(frozen=True)
class Task:
    """A request that is not done yet."""

    key: str
    path: str
    request: Request


class Recorded(NamedTuple):
    """The entry of a request in the manifest.

    Parameters
    ----------
    bytes, mtime_ns : int or None
        Size and modification time of the file.
    sha256 : str or None
        Hash of the file, in hexadecimal.
    """

    key: str = ""
    path: str = ""
    status: str = PENDING
    bytes: int | None = None
    mtime_ns: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Outcome:
    """The result of a request.

    Parameters
    ----------
    status : str
        One of `STATES`.
    url : str
        The request, without secrets.
    bytes : int
        Size of the file.
    sha256 : str
        Hash of the file, in hexadecimal.
    coverage : mapping from band to float
        The fraction of the pixels that have data.
    mtime_ns : int
        Modification time of the file, nanoseconds since 1970.
    """

    status: str
    url: str = ""
    attempts: int = 0
    bytes: int = 0
    sha256: str = ""
    coverage: Mapping[str, float] = field(default_factory=dict)
    error: str = ""
    mtime_ns: int = 0


class Manifest:
    """The manifest of a folder, open for one run at a time; a context manager.

    Parameters
    ----------
    folder : Path
        Made if it is not there.

    Raises
    ------
    OutputError
        If the folder cannot be written, another run uses it, or the manifest is not one that this galmorph can read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._committed_at = time.monotonic()
        for name in (".lock", NAME, f"{NAME}-wal", f"{NAME}-shm"):
            if (folder / name).is_symlink():
                raise OutputError(f"{folder / name} is a link, which galmorph never makes: remove it.")
        self._lock = locked(folder / ".lock", f"fetching into {folder}")
        try:
            with _explained(folder, OutputError):
                self._db = sqlite3.connect(folder / NAME, isolation_level=None, check_same_thread=False)
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = NORMAL")
                if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
                    self._db.executescript(f"BEGIN; {_SCHEMA} INSERT INTO meta VALUES ('format', '{FORMAT}'); COMMIT;")
                if _checked_format(self._db, folder) == 1:
                    self._db.executescript(
                        "BEGIN; ALTER TABLE requests ADD COLUMN mtime_ns INTEGER;"
                        f" UPDATE meta SET value = '{FORMAT}' WHERE name = 'format'; COMMIT;"
                    )
                self._db.execute("BEGIN")
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> Manifest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # On a full disk SQLite has rolled back, or the commit fails too; the next run adopts the files.
            with _explained(self.folder, CannotContinue):
                if self._db.in_transaction:
                    self._db.execute("COMMIT")
        except CannotContinue:
            if error is None:
                raise
        finally:
            self._db.close()
            self._lock.close()

    def commit(self) -> None:
        """Commit the records to disk."""
        with _explained(self.folder, CannotContinue):
            self._db.execute("COMMIT")
            self._db.execute("BEGIN")
        self._committed_at = time.monotonic()

    def enroll(self, blocks: Iterable[Iterable[Entry]], limit: int | None) -> None:
        """Replace the list of targets by the rows of a catalog; requests of earlier runs keep their state.

        Parameters
        ----------
        blocks : iterable of iterables of Entry
        limit : int, optional
            Requests of rows from this one on are not made in this run.
        """
        with _explained(self.folder, CannotContinue):
            try:
                enrol(self._db, blocks, limit)
            except BaseException:
                self._db.rollback()
                raise
            self.commit()

    def finished(self) -> Iterator[Recorded]:
        """Yield the entries of all requests of this run that are not pending."""
        query = "SELECT key, path, status, bytes, mtime_ns, sha256 FROM requests"
        for rows in self._pages(f"{query} WHERE status <> 'pending' AND first_row IS NOT NULL", 1000):
            yield from map(Recorded._make, rows)

    def _pages(self, query: str, n: int) -> Iterator[list[Any]]:
        """Yield the rows of a query, `n` at a time."""
        with _explained(self.folder, CannotContinue):
            cursor = self._db.execute(query)
            while rows := cursor.fetchmany(n):
                yield rows

    def renew(self, times: Mapping[str, int]) -> None:
        """Record the modification times of files that were compared with their hashes, by key."""
        with _explained(self.folder, CannotContinue):
            rows = [(mtime_ns, key) for key, mtime_ns in times.items()]
            self._db.executemany("UPDATE requests SET mtime_ns = ? WHERE key = ?", rows)

    def reopen(self, keys: Iterable[str]) -> None:
        """Make requests pending again."""
        with _explained(self.folder, CannotContinue):
            self._db.executemany("UPDATE requests SET status = 'pending' WHERE key = ?", [(key,) for key in keys])
            self.commit()

    def tasks(self, n: int, *, located: bool) -> Iterator[list[Task]]:
        """Yield this run's pending requests, at most `n` at a time, in the order of the images that they need.

        Parameters
        ----------
        located : bool
            True: requests whose images are known; False: those whose images `Source.locate` must look up.
        """
        last: tuple[str, int] = ("", -1)
        further = "(place, first_row) > (?, ?)" if located else "place IS NULL AND (?, first_row) > (?, ?)"
        while True:
            with _explained(self.folder, CannotContinue):
                rows = self._db.execute(
                    "SELECT place, first_row, key, path, target_id, ra, dec, size, pixscale, radius FROM requests"
                    f" WHERE status = 'pending' AND first_row IS NOT NULL AND {further}"
                    " ORDER BY place, first_row LIMIT ?",
                    (*(() if located else ("",)), *last, n),
                ).fetchall()
            if not rows:
                return
            last = (rows[-1][0] or "", rows[-1][1])
            yield [
                Task(key, path, Request(name, ra, dec, size, scale, math.nan if r is None else r, _text(place)))
                for place, _, key, path, name, ra, dec, size, scale, r in rows
            ]

    def n_pending(self) -> int:
        """Return how many requests of this run are pending."""
        return self._number("SELECT COUNT(*) FROM requests WHERE status = 'pending' AND first_row IS NOT NULL")

    def _number(self, query: str) -> int:
        with _explained(self.folder, CannotContinue):
            return int(self._db.execute(query).fetchone()[0])

    def locate(self, images: Mapping[str, str]) -> None:
        """Record from which images requests are cut, by key."""
        with _explained(self.folder, CannotContinue):
            self._db.executemany("UPDATE requests SET place = ? WHERE key = ?", [(v, key) for key, v in images.items()])
            self.commit()

    def record(self, key: str, outcome: Outcome) -> None:
        """Record the result of a request."""
        with _explained(self.folder, CannotContinue):
            self._db.execute(
                "UPDATE requests SET status = ?, request = COALESCE(NULLIF(?, ''), request), attempts = attempts + ?,"
                " bytes = ?, sha256 = ?, mtime_ns = ?, coverage = ?, error = ?, time = ? WHERE key = ?",
                (
                    outcome.status,
                    outcome.url,
                    outcome.attempts,
                    outcome.bytes or None,
                    outcome.sha256 or None,
                    outcome.mtime_ns or None,
                    json.dumps(outcome.coverage) if outcome.coverage else None,
                    outcome.error or None,
                    datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                    key,
                ),
            )
        if time.monotonic() - self._committed_at > _COMMIT_EVERY_S:
            self.commit()

    def add_totals(self, requests: int, n_bytes: int, seconds: float) -> None:
        """Add to the costs of all runs of the folder."""
        with _explained(self.folder, CannotContinue):
            for name, value in (("requests", requests), ("bytes", n_bytes), ("seconds", seconds)):
                self._db.execute(
                    "INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
                    (name, value),
                )

    def tally(self, limit: int | None) -> tuple[dict[str, int], int]:
        """Return how many rows of the catalog (the first `limit`) are in each state, and the longest path of all."""
        with _explained(self.folder, CannotContinue):
            return _tally(self._db, limit)

    def results(self, n: int) -> Iterator[list[tuple[str, str]]]:
        """Yield the path of the cutout and the state of all rows of the catalog, `n` at a time; '' where unknown."""
        yield from self._pages(
            "SELECT CASE WHEN r.status IN ('ok', 'partial') THEN r.path ELSE '' END,"
            f" CASE WHEN r.status = 'pending' THEN '' ELSE {_STATE} END"
            " FROM targets AS t LEFT JOIN requests AS r ON r.key = t.key ORDER BY t.row",
            n,
        )


def read_counts(folder: Path) -> tuple[dict[str, int], dict[str, float]]:
    """Return the states of a folder's targets and the costs of its runs; also while a run is going on.

    Raises
    ------
    OutputError
        If the folder has no manifest that can be read.
    """
    path = folder / NAME
    if not path.is_file():
        raise OutputError(f"{folder} has no {NAME}: nothing was fetched into it yet.")
    with _explained(folder, OutputError):
        # SQLite cannot create its shared memory in a read-only folder: read only the file.
        mode = "mode=ro" if os.access(folder, os.W_OK) else "immutable=1"
        db = sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True)
        try:
            _checked_format(db, folder)
            totals = db.execute("SELECT name, value FROM meta WHERE name <> 'format'").fetchall()
            return _tally(db, None)[0], {name: _number(value) for name, value in totals}
        finally:
            db.close()


def _tally(db: sqlite3.Connection, limit: int | None) -> tuple[dict[str, int], int]:
    """Return the number of rows before `limit` in each state, and the length of the longest path of all rows."""
    rows = db.execute(
        f"SELECT {_STATE} AS state, SUM(t.row < ?), MAX(LENGTH(r.path))"
        " FROM targets AS t LEFT JOIN requests AS r ON r.key = t.key GROUP BY state",
        (1 << 62 if limit is None else limit,),
    ).fetchall()
    counts = {state: n for state, n, _ in rows}
    return dict.fromkeys(STATES, 0) | counts, max((longest or 1 for *_, longest in rows), default=1)


def _checked_format(db: sqlite3.Connection, folder: Path) -> int:
    """Return the format of a manifest; a file with other views or triggers is refused before they are used."""
    advice = "move it away (cutouts that lie in the folder are taken up again) or choose another --out."
    if {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE sql IS NOT NULL")} != _OBJECTS:
        raise OutputError(f"{folder / NAME} is not a manifest of galmorph, or damaged: {advice}")
    row = db.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
    if row is None or row[0] not in map(str, range(1, FORMAT + 1)):
        raise OutputError(f"{folder / NAME} is damaged or of a newer galmorph: update galmorph, or {advice}")
    return int(row[0])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> float:
    """Return a total of earlier runs; 0 if it is damaged."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return 0.0
    return number if 0 <= number < 1e18 else 0.0


@contextmanager
def _explained(folder: Path, kind: type[OutputError] | type[CannotContinue]) -> Iterator[None]:
    """Turn errors of SQLite into messages for users. After a full disk or a device error the run can be resumed."""
    try:
        yield
    except (sqlite3.Error, OverflowError, UnicodeDecodeError) as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        text = os.strerror(errno.ENOSPC) if code == sqlite3.SQLITE_FULL else str(error)
        if isinstance(error, UnicodeDecodeError):
            code, text = sqlite3.SQLITE_CORRUPT, "a text in it is damaged"
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            kind, text = (
                OutputError,
                f"{text}. Move it away (cutouts that lie in the folder are taken up again) or choose another --out",
            )
        elif kind is CannotContinue or code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            kind, text = CannotContinue, f"{text}. What is done is kept; see to it and run the same command again"
        else:
            text += ". If it is not galmorph's, move it away or choose another --out"
        raise kind(f"{folder / NAME}: {text}.") from error
