"""Errors, with messages for users. The command line turns them into exit codes."""

from __future__ import annotations

from collections.abc import Iterable


class GalmorphError(Exception):
    """Wrong usage or unusable input: nothing was written. The message says what, which file or target, and what to do.

    Attributes
    ----------
    exit_code : int
        The exit code of the command line (2 here; children override it).
    """

    exit_code = 2


class CatalogError(GalmorphError):
    """A table that cannot be read, understood or written without loss."""


class CutoutError(GalmorphError):
    """A file that is not a usable cutout of a galaxy: in a catalog a flag of one target, never the end of a run."""


class ModelError(GalmorphError):
    """Weights, a card or a backbone that cannot be used."""


class WeightsUnavailable(ModelError):
    """Pretrained weights that are not on the disk and cannot be fetched."""


class SampleError(GalmorphError):
    """Labelled data that cannot be used for training or evaluation."""


class OutputError(GalmorphError):
    """An output that exists already or cannot be written."""


class CannotContinue(GalmorphError):
    """The run cannot continue (service down, disk full); what is done is kept and the run can be resumed."""

    exit_code = 3


class Interrupted(GalmorphError):
    """SIGINT or SIGTERM; what is done is kept and the run can be resumed."""

    exit_code = 130


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, the name of its kind where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def counted(n: int, noun: str, plural: str = "") -> str:
    """Return a number with what it counts: ``1 galaxy``, ``2 galaxies``."""
    return f"{n} {noun if n == 1 else plural or noun + 's'}"


def listed(names: Iterable[str], n: int = 4) -> str:
    """Return the first names and how many more there are."""
    names = list(names)
    return ", ".join(names[:n]) + (f" and {len(names) - n} more" if len(names) > n else "")
