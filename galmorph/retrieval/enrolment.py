"""The rows of a catalog become targets and requests of a manifest."""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from galmorph.retrieval.request import Request

PENDING, OK, PARTIAL, NO_COVERAGE, FAILED, INVALID = "pending", "ok", "partial", "no_coverage", "failed", "invalid"
STATES = (OK, PARTIAL, NO_COVERAGE, FAILED, INVALID, PENDING)

_LONGEST_PATH = 100
# The path of a file is used from the manifest only if galmorph could have made it: the folder of the key's first
# digits, a safe name and the key. Everything else about a request comes from the catalog in each run.
_OWN_PATH = (
    "path LIKE substr(key, 1, 2) || '/%-' || key || '.fits' AND path NOT LIKE '%/%/%' AND path NOT GLOB '*/.*'"
    f" AND path NOT GLOB '*[^A-Za-z0-9._+/-]*' AND length(path) < {_LONGEST_PATH}"
)
_ENROLL = f"""
INSERT INTO requests
    (key, first_row, target_id, ra, dec, size, pixscale, radius, place, request, path, note)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET
    target_id = CASE WHEN first_row IS NULL THEN excluded.target_id ELSE target_id END,
    first_row = COALESCE(first_row, excluded.first_row),
    ra = excluded.ra, dec = excluded.dec, size = excluded.size, pixscale = excluded.pixscale,
    radius = excluded.radius, place = COALESCE(excluded.place, place), note = excluded.note,
    path = CASE WHEN {_OWN_PATH} THEN path ELSE excluded.path END
"""


@dataclass(frozen=True)
class Entry:
    """A row of the catalog and its request, if it has a usable position.

    Parameters
    ----------
    problem : str
        Why the row is invalid, else ``''``.
    key, identity, path : str
        Hash of the request, text of its pixels (see `galmorph.retrieval.surveys.Source.identity`), and path of its file
        relative to the folder.
    images : str or None
        See `galmorph.retrieval.surveys.Source.images`.
    request : Request or None
        None for an invalid row.
    note : str
        A remark about the request.
    refused : str
        Why the request is not needed: the position is outside the footprint.
    """

    row: int
    target_id: str
    problem: str = ""
    key: str = ""
    identity: str = ""
    path: str = ""
    images: str | None = ""
    request: Request | None = None
    note: str = ""
    refused: str = ""


def enrol(db: sqlite3.Connection, blocks: Iterable[Iterable[Entry]], limit: int | None) -> None:
    """Replace the list of targets by the rows of a catalog; requests of earlier runs keep their state.

    Rows that have not changed are not written again, up to the first that has: most runs continue the same list.

    Parameters
    ----------
    db : sqlite3.Connection
        A transaction has begun.
    blocks : iterable of iterables of Entry
    limit : int, optional
        Requests of the rows from this one on are not made in this run.
    """
    # Positions outside an earlier footprint were never requested; this run may use another footprint.
    db.execute(
        "UPDATE requests SET status = 'pending', error = NULL"
        " WHERE status = 'no_coverage' AND error LIKE 'outside the footprint %'"
        f" OR status NOT IN {STATES}"
    )
    end, same = 0, True
    for block in blocks:
        entries = list(block)
        if not entries:
            continue
        if same and not (same := _is_enrolled(db, entries, limit)):
            _forget(db, entries[0].row)
        if not same:
            _add(db, entries, limit)
        db.executemany(
            "UPDATE requests SET status = 'no_coverage', error = ? WHERE key = ? AND status = 'pending'",
            [(e.refused, e.key) for e in entries if e.refused],
        )
        end = entries[-1].row + 1
    if same:
        _forget(db, end)
    # In a damaged manifest.
    db.execute(
        "UPDATE requests SET first_row = NULL WHERE first_row IS NOT NULL AND NOT EXISTS"
        " (SELECT 1 FROM targets AS t WHERE t.row = first_row AND t.key = requests.key)"
    )


def _forget(db: sqlite3.Connection, row: int) -> None:
    """Remove the rows from this one on from the list; their requests keep their state."""
    db.execute("DELETE FROM targets WHERE row >= ? OR row < 0", (row,))
    db.execute("UPDATE requests SET first_row = NULL WHERE first_row >= ? OR first_row < 0", (row,))


def _is_enrolled(db: sqlite3.Connection, entries: list[Entry], limit: int | None) -> bool:
    """Return whether entries are already in the list as they would be written."""
    rows = db.execute(
        "SELECT t.row, t.id, t.key, t.problem, r.first_row, r.target_id, r.ra, r.dec, r.size, r.pixscale, r.radius,"
        " r.place, r.note, r.path FROM targets AS t LEFT JOIN requests AS r ON r.key = t.key"
        " WHERE t.row BETWEEN ? AND ? ORDER BY t.row",
        (entries[0].row, entries[-1].row),
    ).fetchall()
    return len(rows) == len(entries) and all(
        row[:4] == (e.row, e.target_id, e.key or None, e.problem)
        and (e.request is None or _is_kept(db, e, e.request, limit, row[4:]))
        for e, row in zip(entries, rows, strict=True)
    )


def _is_kept(db: sqlite3.Connection, entry: Entry, request: Request, limit: int | None, row: tuple[Any, ...]) -> bool:
    """Return whether a request is already as `_add` would write it."""
    first, target_id, ra, dec, size, pixscale, radius, place, note, path = row
    wanted = (request.ra, request.dec, request.size, request.pixscale, _number(request.radius_arcsec))
    if (ra, dec, size, pixscale, radius) != wanted or note != (entry.note or None):
        return False
    if path != entry.path and not _is_own(path, entry.key):
        return False
    if entry.images is not None and place != entry.images:
        return False
    if first == entry.row:
        return target_id == request.target_id and (limit is None or first < limit)
    if first is None:
        return limit is not None and entry.row >= limit
    # Another row of the same request comes before it.
    earlier = db.execute("SELECT key FROM targets WHERE row = ?", (first,)).fetchone()
    return bool(earlier == (entry.key,) and first < entry.row and (limit is None or first < limit))


def _is_own(path: object, key: str) -> bool:
    """Whether a path is one that galmorph gives; as `_OWN_PATH`."""
    name = rf"{key[:2]}/(?!\.)[A-Za-z0-9._+-]*-{key}\.fits"
    return isinstance(path, str) and len(path) < _LONGEST_PATH and re.fullmatch(name, path) is not None


def _add(db: sqlite3.Connection, entries: list[Entry], limit: int | None) -> None:
    db.executemany(
        "INSERT INTO targets (row, id, key, problem) VALUES (?, ?, ?, ?)",
        [(e.row, e.target_id, e.key or None, e.problem) for e in entries],
    )
    db.executemany(_ENROLL, [_request_row(e, e.request, limit) for e in entries if e.request is not None])


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _request_row(entry: Entry, request: Request, limit: int | None) -> tuple[Any, ...]:
    return (
        entry.key,
        entry.row if limit is None or entry.row < limit else None,
        request.target_id,
        request.ra,
        request.dec,
        request.size,
        request.pixscale,
        _number(request.radius_arcsec),
        entry.images,
        entry.identity,
        entry.path,
        entry.note or None,
    )
