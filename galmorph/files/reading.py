"""Reading files forward, in bounded memory, with decompression."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypeVar, cast

from galmorph.errors import CatalogError

CHUNK = 1 << 20
# Bytes of a block of lines, which as objects take some twenty times the memory of their text.
LINES = 1 << 17
# Bytes of a line; ten thousand columns of 1 kB have less. It keeps a damaged file from being read as a single line.
MAX_LINE = 1 << 24

_T = TypeVar("_T")


def open_regular(path: str | Path) -> io.FileIO:
    """Open a file for reading, unbuffered, without waiting for pipes and devices, which may never answer.

    Raises
    ------
    OSError
        If it cannot be opened, or is not a regular file.
    """
    # Without O_NONBLOCK opening a pipe waits until someone writes into it.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return io.FileIO(descriptor)
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", str(path))


def read_bounded(path: str | Path, most: int) -> bytes:
    """Return the content of a small file.

    Raises
    ------
    OSError
        If it cannot be read, is a pipe or a device, or has more than `most` bytes.
    """
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, f"it has more than {most >> 20} MiB, so it is none of galmorph's", str(path))
        return file.read(most) or b""


class Input:
    """A file that is read forward; gzip and bzip2 are detected by content and decompressed.

    Parameters
    ----------
    path : Path
        The file.
    content : bytes, optional
        Content to read instead of the file.

    Raises
    ------
    CatalogError
        Here and from every method, if the file cannot be read or is damaged.
    """

    def __init__(self, path: Path, content: bytes | None = None) -> None:
        self.path = path
        self._file: BinaryIO = (
            io.BytesIO(content) if content is not None else self._try(lambda: io.BufferedReader(open_regular(path)))
        )
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
        """Iterate over the next `n_bytes` bytes (default: all that is left) in chunks of 1 MiB."""
        left = n_bytes
        while left is None or left > 0:
            data = self.read(CHUNK) if left is None else self.exactly(min(CHUNK, left))
            if not data:
                return
            left = None if left is None else left - len(data)
            yield data

    def lines(self) -> list[bytes]:
        """Return the next lines, a few thousand; none at the end of the file."""
        data = self.read(LINES)
        if data and not data.endswith(b"\n"):
            data += self.line()
        return io.BytesIO(data).readlines()

    def line(self) -> bytes:
        """Return the next line; empty at the end of the file.

        Raises
        ------
        CatalogError
            If it is longer than `MAX_LINE`.
        """
        line = self._try(lambda: self._file.readline(MAX_LINE))
        if len(line) == MAX_LINE:
            raise CatalogError(f"{self.path} has a line of more than {MAX_LINE >> 20} MiB: it is damaged, or no table")
        return line

    def seek(self, offset: int) -> None:
        """Go to a byte (of the decompressed file)."""
        self._try(lambda: self._file.seek(offset))
