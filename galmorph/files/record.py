"""Records: small JSON files with a checksum, with which a run can be resumed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from galmorph.errors import OutputError
from galmorph.files.writing import write_file

# Far more than any record has.
_MAX_BYTES = 1 << 28
# At most this many bytes of a file are hashed, which takes less than 0.1 s; of larger files, this many samples.
_WHOLE_BYTES, _SAMPLES = 1 << 26, 64


def write_record(path: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping as JSON (other types as text), synced; an older record is kept until it is complete."""
    plain = as_json(content)
    write_file(path, (json.dumps({"sha256": _digest(plain), "content": plain}) + "\n").encode())


def read_record(path: Path) -> dict[str, Any] | None:
    """Return the content of a record, None where there is no file; a link is not followed.

    Raises
    ------
    OutputError
        If the file is damaged or not a record of galmorph.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            document = json.loads(file.read(_MAX_BYTES))
            content = document["content"]
            if document["sha256"] == _digest(content) and isinstance(content, dict):
                return content
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise OutputError(
        f"{path} is damaged, of another version, or not galmorph's: move it away and begin anew with --restart."
    )


def is_continued(
    path: Path, state: Mapping[str, Any], *, resume: bool, anew: str = "discard it with --restart"
) -> bool:
    """Return whether a run resumes an earlier one.

    Parameters
    ----------
    path : Path
        The record of the earlier run's state.
    state : mapping
        What must be the same to resume a run: input, model, options, versions.
    resume : bool
        Whether the user wants to resume.
    anew : str
        The advice in the message on how to start again.

    Raises
    ------
    OutputError
        If the earlier run was started with another input or options, or its record is damaged or not galmorph's.
    """
    kept, given = read_record(path), as_json(state)
    if not resume or kept is None:
        return False
    changed = ", ".join(_differences(kept, given))
    if changed:
        raise OutputError(
            f"The unfinished run of this output had another {changed}: give the same input and options to go on with "
            f"it, or {anew}."
        )
    return True


def _differences(kept: Mapping[str, Any], given: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the names of values that differ (with dots inside mappings), with the values if they are short."""
    names: list[str] = []
    for name in sorted({*kept, *given}):
        old, new = kept.get(name), given.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            names += _differences(old, new, f"{prefix}{name}.")
        elif old != new:
            plain = all(isinstance(value, str | int | float | None) and len(str(value)) <= 40 for value in (old, new))
            names.append(f"{prefix}{name} ({old}, now {new})" if plain else f"{prefix}{name}")
    return names


def as_json(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping as it would be read from JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(content), default=str))
    return plain


def identity(path: Path) -> tuple[int, ...]:
    """Return inode, size and time of a file, which change with the file; () if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns


def content_digest(path: Path) -> str:
    """Return a hash of a file's content: all of it up to `_WHOLE_BYTES`, else evenly spaced samples with both ends."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        n_samples = 1 if size <= _WHOLE_BYTES else _SAMPLES
        length = size if n_samples == 1 else _WHOLE_BYTES // _SAMPLES
        for i in range(n_samples):
            file.seek(i * (size - length) // max(1, n_samples - 1))
            digest.update(file.read(length))
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
