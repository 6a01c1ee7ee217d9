"""Writing: a file gets its name only when it is complete and synced to the disk.

`write_file` is for content in memory, `Output` for content that comes in blocks.
"""

from __future__ import annotations

import bz2
import csv
import errno
import glob
import gzip
import io
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

from galmorph.errors import CannotContinue, OutputError
from galmorph.files.reading import CHUNK

COMPRESSIONS = (".gz", ".bz2")

# The disk, a quota, or a limit on the size of files (``ulimit -f``) is used up.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)

# Called with a complete file before it gets its name. Returns path and content of a small file that describes it, and
# whether that may replace a file; or None.
Companion = Callable[[Path], tuple[Path, bytes, bool] | None]


def exists_already(path: Path) -> OutputError:
    """Return the error for an output that exists and may only be replaced with --overwrite."""
    return OutputError(f"The output {path} exists. Choose another --out, or --overwrite it.")


@contextmanager
def write_errors(path: Path, *, resumable: bool = False) -> Iterator[None]:
    """Turn errors of the operating system during writing into errors that name the path.

    Parameters
    ----------
    path : Path
        The file or folder that is written.
    resumable : bool
        Whether the run can be resumed after any error.

    Raises
    ------
    OutputError
        If the path cannot be written.
    CannotContinue
        If the disk is full, or the run can be resumed.
    """
    try:
        yield
    except OSError as error:
        reason = f"{path} cannot be written: {error.strerror or error}."
        if resumable:
            raise CannotContinue(f"{reason} What is done is kept; see to it and run the same command again.") from error
        if error.errno in _FULL:
            raise CannotContinue(f"{reason} Make room, then go on.") from error
        raise OutputError(reason) from error


def write_file(path: Path, *content: bytes | memoryview, resumable: bool = False) -> None:
    """Write a file; after a kill or a failure the path holds either the old or the new content.

    Parameters
    ----------
    path : Path
        The file. A link is replaced, not followed.
    *content : bytes
        The bytes, in order.
    resumable : bool
        Whether the file is one of many of a run that can be resumed. Then its folder is made, and its name is not
        synced: a file that a power cut loses is written again.

    Raises
    ------
    OutputError
        If the file cannot be written.
    CannotContinue
        If the disk is full, or the run can be resumed.
    """
    temporary = _temporary(path)
    with write_errors(path, resumable=resumable):
        try:
            if resumable:
                path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                file.writelines(content)
                _sync(file)
            temporary.replace(path)
            if not resumable:
                sync(path.parent)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a small CSV file as `write_file` does."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_file(path, text.getvalue().encode())


class Output:
    """A file that gets its name only when it is complete and on the disk; after an error there is no file.

    A name that ends in ``.gz`` or ``.bz2`` is compressed. A link is followed.

    Parameters
    ----------
    path : Path
        The file.
    companion : callable, optional
        Returns a second file that gets its name together with this one.
    replace : bool
        Whether to replace a file of this name.

    Raises
    ------
    OutputError
        Here and from every method, if the file cannot be written.
    CannotContinue
        If the disk is full, or a file that may not be replaced has the name.
    """

    def __init__(self, path: Path, companion: Companion | None = None, *, replace: bool = True) -> None:
        self.path = Path(os.path.realpath(path))
        self._companion = companion
        self._replace = replace
        # Temporary name, name, whether a file of that name is replaced.
        self._files: list[tuple[Path, Path, bool]] = []
        with write_errors(self.path):
            self._file = self._create(self.path, replace)

    def _create(self, path: Path, replace: bool) -> BinaryIO:
        temporary = _temporary(path)
        file = temporary.open("x+b")
        self._files.append((temporary, path, replace))
        return file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None:
                with write_errors(self.path):
                    self._finish()
        finally:
            for temporary, _, _ in self._files:
                temporary.unlink(missing_ok=True)
            with write_errors(self.path):
                self._file.close()

    def write(self, data: bytes | memoryview) -> None:
        """Write at the end."""
        with write_errors(self.path):
            self._file.write(data)

    def tell(self) -> int:
        """Return the number of bytes written."""
        return self._file.tell()

    def patch(self, offset: int, data: bytes) -> None:
        """Overwrite bytes that were written before."""
        with write_errors(self.path):
            self._file.seek(offset)
            self._file.write(data)
            self._file.seek(0, os.SEEK_END)

    def beside(self, path: Path, data: bytes, *, replace: bool = True) -> None:
        """Write a second, small file that gets its name together with this one."""
        with write_errors(path), self._create(path, replace) as file:
            file.write(data)
            _sync(file)

    def _finish(self) -> None:
        if self.path.suffix in COMPRESSIONS:
            self._compress()
        _sync(self._file)
        if self.path.exists():
            shutil.copymode(self.path, self._files[0][0])
        if self._companion is not None and (described := self._companion(self._files[0][0])):
            path, data, replace = described
            self.beside(path, data, replace=replace)
        # The small files go first: a table without its description would be worse than the reverse.
        new: list[Path] = []
        try:
            for temporary, path, replace in reversed(self._files):
                if replace:
                    temporary.replace(path)
                else:
                    _name_new(temporary, path)
                    new.append(path)
        except BaseException:
            for path in new:
                path.unlink(missing_ok=True)
            raise
        sync(self.path.parent)

    def _compress(self) -> None:
        plain, (plain_path, _, _) = self._file, self._files.pop(0)
        try:
            self._file = self._create(self.path, self._replace)
            self._files.insert(0, self._files.pop())
            plain.seek(0)
            # Without a name and a time inside, so that the same table gives the same bytes.
            if self.path.suffix == ".gz":
                packed = cast(BinaryIO, gzip.GzipFile("", "wb", 6, self._file, mtime=0))
            else:
                packed = cast(BinaryIO, bz2.BZ2File(self._file, "wb"))
            with packed:
                shutil.copyfileobj(plain, packed, CHUNK)
        finally:
            plain.close()
            plain_path.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Remove incomplete files of killed runs; only for the run that holds the output's lock."""
    path = Path(os.path.realpath(path))
    for beside in ("", ".json", ".prov.json"):
        for temporary in path.parent.glob(f".{glob.escape(path.name + beside)}.{'?' * 8}.part"):
            temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """Return a unique name for a file until it is complete."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")


def _name_new(temporary: Path, path: Path) -> None:
    """Give a file its name unless another file has it, without a race."""
    try:
        try:
            os.link(temporary, path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # On a file system without links an empty file takes the name first.
            path.open("xb").close()
            temporary.replace(path)
    except FileExistsError as error:
        raise CannotContinue(
            f"{path} appeared while the run was going on, and is not replaced: move it away, then go on."
        ) from error


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
