"""Input files stay as they are while a run reads them: what identifies a file, and whether it still holds."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from galmorph.errors import CannotContinue


@dataclass(frozen=True)
class Unchanged:
    """A file as it was at one moment.

    Parameters
    ----------
    path : Path
    stamp : tuple of int
        Device, inode, size in bytes and time of change in nanoseconds.
    """

    path: Path
    stamp: tuple[int, int, int, int]

    @classmethod
    def of(cls, path: Path) -> Unchanged:
        """Return a file as it is now."""
        return cls(path, _stamp(path))

    def check(self) -> None:
        """Return if the file is still the same.

        Raises
        ------
        CannotContinue
            If it was replaced, written or removed.
        """
        try:
            same = _stamp(self.path) == self.stamp
        except OSError:
            same = False
        if not same:
            raise CannotContinue(
                f"{self.path} was changed while the run was reading it, so its rows may be other targets now. "
                "What is done is kept; run the same command again when it is complete."
            )


def _stamp(path: Path) -> tuple[int, int, int, int]:
    state = os.stat(path)  # noqa: PTH116 - the same for a file and for a link to it
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns
