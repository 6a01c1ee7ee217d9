"""Errors, with messages for users. The command line turns them into exit codes."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator


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


# Errors of network file systems, limits and permissions: they are temporary, and the file is not damaged.
_FAILURES = ("EIO", "ESTALE", "EMFILE", "ENFILE", "ENOMEM", "EACCES", "EAGAIN", "ETIMEDOUT", "ENOTCONN", "EREMOTEIO")
_SYSTEM_FAILURES = frozenset(getattr(errno, name) for name in _FAILURES if hasattr(errno, name))
# What torch says where memory runs out, on the CPU and on a GPU.
_MEMORY_FULL = re.compile(
    "not enough memory|can(no|')t allocate|out of memory|bad_alloc|could not create a (memory|primitive)"
    "|can't start new thread|failed to map segment",
    re.IGNORECASE,
)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that it follows from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def memory_is_full(error: BaseException | None) -> bool:
    """Return whether memory was full, even if a later error hides that, such as one of a damaged file."""
    return any(
        isinstance(each, MemoryError)
        or (isinstance(each, OSError) and each.errno == errno.ENOMEM)
        or (not isinstance(each, GalmorphError) and _MEMORY_FULL.search(str(each)) is not None)
        for each in _causes(error)
    )


def system_failure(error: BaseException | None) -> str | None:
    """Return the message of an error of the machine or its file systems, or None for an error of the file or the code.

    What it befalls is not at fault: a run that ends with such an error goes on later, and records nothing.
    """
    for each in _causes(error):
        if isinstance(each, OSError) and each.errno in _SYSTEM_FAILURES:
            return each.strerror or str(each)
    return "out of memory" if memory_is_full(error) else None


def check_system(error: BaseException, what: str, thing: str) -> None:
    """Raise CannotContinue where an error is one of the machine, not of the `thing` that was read; `what` names it."""
    if failure := system_failure(error):
        raise CannotContinue(
            f"{what} cannot be read ({failure}). The system fails, not the {thing}: run the same command again when it "
            "is mended."
        ) from error


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
