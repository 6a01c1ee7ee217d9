"""Remote files: tables and cutouts on a server or in a bucket, through fsspec; each is copied before it is read."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from galmorph.environment import cache_folder
from galmorph.errors import CannotContinue, GalmorphError

# The fsspec protocols of remote data; never those of files of this machine.
SCHEMES = ("s3", "gs", "gcs", "https", "http", "memory")
# pathlib leaves one slash after the scheme.
_ADDRESS = re.compile(rf"({'|'.join(SCHEMES)}):/+(.*)", re.DOTALL)
# Fields that identify the content of a file, as servers name them.
_STATE = ("size", "ETag", "etag", "LastModified", "last_modified", "mtime", "md5Hash", "updated", "created")


def is_remote(path: object) -> bool:
    """Return whether a text or a path is an address that fsspec reads."""
    return isinstance(path, Remote) or bool(_ADDRESS.match(str(path)))


def local(path: str | os.PathLike[str] | Remote) -> Path:
    """Return a file of this machine: the one that is named, or a copy in the cache of one at an address."""
    return Remote.of(path).kept() if is_remote(path) else Path(str(path))


@dataclass(frozen=True)
class Remote:
    """A remote file or folder.

    Parameters
    ----------
    url : str
        Its address.
    """

    url: str

    @classmethod
    def of(cls, path: object) -> Remote:
        """Return the file of an address, which pathlib may have shortened."""
        if isinstance(path, Remote):
            return path
        match = _ADDRESS.match(str(path))
        if match is None:
            raise GalmorphError(f"{path} is no address that can be read: one of {', '.join(SCHEMES)}://.")
        return cls(f"{match[1]}://{match[2]}")

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(urlsplit(self.url).path or self.url.partition("://")[2]).name

    @property
    def parent(self) -> Remote:
        """The folder of the file."""
        parts = urlsplit(self.url)
        return Remote(urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/").rpartition("/")[0] + "/", "", "")))

    def __truediv__(self, path: str) -> Remote:
        return Remote(f"{self.url.rstrip('/')}/{path}")

    def __str__(self) -> str:
        """Return the address without a user's name and password."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    def holds(self, other: Remote) -> bool:
        """Return whether an address is below this one."""
        return other.url.startswith(self.url.rstrip("/") + "/") and ".." not in other.url.split("/")

    def relative_to(self, folder: Remote) -> str:
        """Return the path from a folder to a file below it."""
        return self.url.removeprefix(folder.url.rstrip("/") + "/")

    def is_dir(self) -> bool:
        """Return whether it is a folder; a web server is not asked, because it would send the file."""
        if self.url.startswith("http"):
            return self.url.endswith("/")
        with self._asking() as (files, path):
            return bool(files.isdir(path))

    def files(self) -> list[str]:
        """Return the paths of the files in a folder and its subfolders, relative to it."""
        with self._asking() as (files, path):
            root = files._strip_protocol(path).rstrip("/") + "/"
            return sorted(files._strip_protocol(name).removeprefix(root) for name in files.find(path))

    @contextmanager
    def copied(self) -> Iterator[Path]:
        """Copy the file while the context is open.

        Raises
        ------
        OSError
            If there is no such file (FileNotFoundError, PermissionError), or the server or network fails (EREMOTEIO).
        """
        with tempfile.TemporaryDirectory(prefix="galmorph-") as folder:
            copy = Path(folder) / (self.name or "file")
            self._get(copy)
            yield copy

    def kept(self) -> Path:
        """Return a copy in the cache, updated if the file has changed, so that a stopped run can be resumed.

        Raises
        ------
        GalmorphError
            If there is no such file.
        CannotContinue
            If the server or the network fails.
        """
        with self._asking() as (files, path):
            info: dict[str, Any] = files.info(path)
        if info.get("type") == "directory":
            raise GalmorphError(f"{self} is a folder, not a file.")
        state = json.dumps({key: info[key] for key in _STATE if info.get(key)}, default=str, sort_keys=True)
        folder = cache_folder() / "remote" / _digest(self.url)
        copy = folder / _digest(state) / self.name
        if not copy.exists():
            shutil.rmtree(folder, ignore_errors=True)
            copy.parent.mkdir(parents=True)
            with self._errors():
                self._get(copy.with_name(f"{copy.name}.part"))
                copy.with_name(f"{copy.name}.part").rename(copy)
        return copy

    def _get(self, copy: Path) -> None:
        files, path = self._system()
        try:
            files.get_file(path, str(copy))
        except Exception as error:  # each client raises its own kinds of errors
            if _is_absent(error) or isinstance(error, PermissionError):
                raise
            if getattr(error, "status", None) in (401, 403):
                raise PermissionError(errno.EACCES, "the server refuses it", str(self)) from error
            raise OSError(getattr(errno, "EREMOTEIO", errno.EIO), f"{type(error).__name__}: {error}") from error

    @contextmanager
    def _asking(self) -> Iterator[tuple[Any, str]]:
        with self._errors():
            yield self._system()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn errors with a file that the user named into GalmorphErrors."""
        try:
            yield
        except GalmorphError:
            raise
        except Exception as error:  # each client raises its own kinds of errors
            if _is_absent(error):
                raise GalmorphError(f"There is no file {self}.") from error
            why = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
            raise CannotContinue(f"{self} cannot be read: {type(why).__name__}: {why}. Try again.") from error

    def _system(self) -> tuple[Any, str]:
        try:
            from fsspec.core import url_to_fs

            files, path = url_to_fs(self.url)
        except ImportError as error:
            raise GalmorphError(
                f"{self} needs an extra ({error}): python -m pip install 'galmorph-survey[remote]'."
            ) from error
        return files, path


def _is_absent(error: BaseException) -> bool:
    """Return whether a file does not exist; fsspec reports that even if a server does not answer."""
    cause = error.__cause__
    fails = isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError)
    return isinstance(error, FileNotFoundError) and not fails and getattr(cause, "status", 404) < 500


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
