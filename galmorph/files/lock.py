"""Locks: one run at a time writes into a place."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import BinaryIO

from galmorph.errors import OutputError


def locked(path: Path, doing: str) -> BinaryIO:
    """Open a file to append and read, and lock it; the lock goes with the process, however it ends.

    Parameters
    ----------
    path : Path
        Made if it is not there, and its folder too.
    doing : str
        What the run does, for the message to another one: ``'fetching into cutouts'``.

    Raises
    ------
    OutputError
        If the file cannot be written, or another run has it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a+b")
    except OSError as error:
        raise OutputError(f"{path.parent} cannot be written: {error.strerror}. Choose another --out.") from error
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        stream.close()
        raise OutputError(f"Another run is {doing}: wait for it, or choose another --out.") from error
    return stream
