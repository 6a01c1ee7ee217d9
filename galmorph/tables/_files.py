"""Files for tables: input that may be compressed, and output that appears only when it is complete."""

from __future__ import annotations

import bz2
import errno
import glob
import gzip
import io
import os
import shutil
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypeVar, cast

from galmorph.errors import CannotContinue, CatalogError, OutputError

COMPRESSIONS = (".gz", ".bz2")
CHUNK = 1 << 20
# Of lines: as objects they take some twenty times the memory of their text.
LINES = 1 << 17

# From a file that is complete but has not its name yet: the place and content of a small file that describes it.
Companion = Callable[[Path], tuple[Path, bytes]]

_T = TypeVar("_T")


class Input:
    """A file that is read forward; gzip and bzip2 are seen through by their content.

    Parameters
    ----------
    path : Path
        The file.
    content : bytes, optional
        What to read in place of the file.

    Raises
    ------
    CatalogError
        Here and from every method, if the file cannot be read or is damaged.
    """

    def __init__(self, path: Path, content: bytes | None = None) -> None:
        self.path = path
        self._file: BinaryIO = io.BytesIO(content) if content is not None else self._try(lambda: path.open("rb"))
        magic = self.read(3)
        self.compressed = magic[:2] == b"\x1f\x8b" or magic == b"BZh"
        self._file.seek(0)
        self._plain = self._file
        if magic[:2] == b"\x1f\x8b":
            self._file = cast(BinaryIO, gzip.GzipFile(fileobj=self._plain))
        elif magic == b"BZh":
            self._file = cast(BinaryIO, bz2.BZ2File(self._plain))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        self._plain.close()

    def _try(self, read: Callable[[], _T]) -> _T:
        try:
            return read()
        except (OSError, EOFError, zlib.error) as error:
            raise CatalogError(f"{self.path} cannot be read: {error}") from error

    def read(self, n_bytes: int) -> bytes:
        """Return the next bytes: fewer than `n_bytes` only at the end of the file."""
        return self._try(lambda: self._file.read(n_bytes))

    def exactly(self, n_bytes: int) -> bytes:
        """Return the next `n_bytes` bytes; a file that ends before is an error."""
        data = self.read(n_bytes)
        if len(data) < n_bytes:
            raise CatalogError(f"{self.path} is truncated: it ends {n_bytes - len(data)} bytes too early")
        return data

    def chunks(self, n_bytes: int | None = None) -> Iterator[bytes]:
        """Iterate over the next `n_bytes` bytes (default: all that is left) by the MiB."""
        left = n_bytes
        while left is None or left > 0:
            data = self.read(CHUNK) if left is None else self.exactly(min(CHUNK, left))
            if not data:
                return
            left = None if left is None else left - len(data)
            yield data

    def lines(self) -> list[bytes]:
        """Return the next lines, some thousand of them; none at the end of the file."""
        return self._try(lambda: self._file.readlines(LINES))

    def line(self) -> bytes:
        """Return the next line; empty at the end of the file."""
        return self._try(lambda: self._file.readline())

    def seek(self, offset: int) -> None:
        """Go to a byte (of the decompressed file)."""
        self._try(lambda: self._file.seek(offset))


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
