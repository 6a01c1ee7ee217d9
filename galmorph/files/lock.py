"""Locks: only one run at a time writes an output."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path
from typing import BinaryIO, cast

from galmorph.errors import OutputError
from galmorph.files.writing import write_errors


def locked(path: Path, doing: str) -> BinaryIO:
    """Open a file to append and read, unbuffered, and lock it; the lock ends with the process, however that ends.

    Parameters
    ----------
    path : Path
        The file; it is made if it is not there, and its folder too. A link is not followed.
    doing : str
        What the run does, for the message of another run: ``'fetching into cutouts'``.

    Raises
    ------
    OutputError
        If the file cannot be written, or another run holds the lock.
    CannotContinue
        If the disk is full.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, flags, 0o666)
    except OutputError as error:
        raise OutputError(f"{error} Choose another --out.") from error
    stream = cast(BinaryIO, os.fdopen(descriptor, "a+b", buffering=0))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OutputError(f"{path} is not a file: move it away, or choose another --out.")
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(descriptor), os.lstat(path)):
            raise FileNotFoundError(path)  # another run removed it after it was opened
    except OSError as error:
        stream.close()
        raise OutputError(f"Another run is {doing}: wait for it, or choose another --out.") from error
    except OutputError:
        stream.close()
        raise
    return stream
