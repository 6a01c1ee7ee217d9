"""Writing: a file takes its name only when it is complete and synced to the disk."""

from __future__ import annotations

import bz2
import errno
import glob
import gzip
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

from galmorph.errors import CannotContinue, OutputError
from galmorph.files.reading import CHUNK

COMPRESSIONS = (".gz", ".bz2")

# From a file that is complete but has not its name yet: the place and content of a small file that describes it.
Companion = Callable[[Path], tuple[Path, bytes]]


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CannotContinue(f"no space left to write {path}; free some and run again") from error
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error


class Output:
    """A file that takes its name only when it is complete and on the disk; after an error it is not there.

    A name that ends in ``.gz`` or ``.bz2`` is compressed. A link is followed.

    Parameters
    ----------
    path : Path
        Where the file goes; an existing file is replaced.
    companion : callable, optional
        Gives a file that takes its name together with this one.

    Raises
    ------
    OutputError
        Here and from every method, if the file cannot be written.
    CannotContinue
        If the disk is full.
    """

    def __init__(self, path: Path, companion: Companion | None = None) -> None:
        self.path = Path(os.path.realpath(path))
        self._companion = companion
        self._parts: list[tuple[Path, Path]] = []
        with _writing(self.path):
            self._file = self._part(self.path)

    def _part(self, path: Path) -> BinaryIO:
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
        file = part.open("x+b")
        self._parts.append((part, path))
        return file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None:
                with _writing(self.path):
                    self._finish()
        finally:
            for part, _ in self._parts:
                part.unlink(missing_ok=True)
            with _writing(self.path):
                self._file.close()

    def write(self, data: bytes | memoryview) -> None:
        """Write at the end."""
        with _writing(self.path):
            self._file.write(data)

    def tell(self) -> int:
        """Return the number of bytes written."""
        return self._file.tell()

    def patch(self, offset: int, data: bytes) -> None:
        """Overwrite bytes that were written before."""
        with _writing(self.path):
            self._file.seek(offset)
            self._file.write(data)
            self._file.seek(0, os.SEEK_END)

    def beside(self, path: Path, data: bytes) -> None:
        """Write a second, small file that takes its name together with this one."""
        with _writing(path), self._part(path) as file:
            file.write(data)
            _sync(file)

    def _finish(self) -> None:
        if self.path.suffix in COMPRESSIONS:
            self._compress()
        _sync(self._file)
        if self.path.exists():
            shutil.copymode(self.path, self._parts[0][0])
        if self._companion is not None:
            self.beside(*self._companion(self._parts[0][0]))
        # The small files go first: a table whose description is missing would be worse than the reverse.
        for part, path in reversed(self._parts):
            part.replace(path)
        self._parts.clear()
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _compress(self) -> None:
        plain, (plain_part, _) = self._file, self._parts.pop(0)
        try:
            self._file = self._part(self.path)
            self._parts.insert(0, self._parts.pop())
            plain.seek(0)
            # No name and no time inside, so that the same table gives the same bytes.
            if self.path.suffix == ".gz":
                packed = cast(BinaryIO, gzip.GzipFile("", "wb", 6, self._file, mtime=0))
            else:
                packed = cast(BinaryIO, bz2.BZ2File(self._file, "wb"))
            with packed:
                shutil.copyfileobj(plain, packed, CHUNK)
        finally:
            plain.close()
            plain_part.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Remove what killed runs have left half written of an output; only for the run that holds the output's lock."""
    path = Path(os.path.realpath(path))
    for beside in ("", ".json", ".prov.json"):
        for part in path.parent.glob(f".{glob.escape(path.name + beside)}.{'?' * 8}.part"):
            part.unlink(missing_ok=True)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
