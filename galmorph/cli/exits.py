"""Exit codes, and the one function that turns an error into one."""

from __future__ import annotations

import errno
import os
import platform
import re
import shlex
import sys
import tempfile
import traceback
from collections.abc import Mapping
from typing import Any

import typer
from rich.text import Text

import galmorph
from galmorph.cli.console import Events, stderr, visible
from galmorph.environment import Variable
from galmorph.errors import CannotContinue, GalmorphError, Interrupted, first_line, memory_is_full

UNEXPECTED = 70  # EX_SOFTWARE of sysexits.h

CODES: Mapping[int, str] = {
    0: "done; failures of single targets are in the output and the summary",
    1: "`--strict`, and some target failed; or no cutout at all could be read (`doctor`: something is wrong)",
    GalmorphError.exit_code: "wrong usage or unusable input; nothing was written",
    CannotContinue.exit_code: "cannot go on (service down, disk or memory full); run it again",
    UNEXPECTED: "an unexpected error inside galmorph; please report it with the file that the message names",
    Interrupted.exit_code: "stopped (SIGINT, SIGTERM); run it again",
}

# Typer has its own copy of click's classes.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Errors of a path that the user gave, and errors of the machine, its file systems or other programs.
_OF_PATHS = frozenset((errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST))
_OF_PATHS |= frozenset((errno.ENAMETOOLONG, errno.ELOOP, errno.EXDEV, errno.ENXIO))
_OF_MACHINE = frozenset((errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOENT, errno.ETIMEDOUT))


def exit_code_of(error: Exception) -> int:
    """Print an error, and return the exit code that it means.

    Parameters
    ----------
    error : Exception
        A GalmorphError has its own code. A full disk or memory is 3. Anything else is a bug: 70.
    """
    if isinstance(error, _UsageError):
        return _of_usage(error)
    expected = error if isinstance(error, CannotContinue | Interrupted) else _of_memory(error)
    expected = expected or (error if isinstance(error, GalmorphError) else _of_system(error))
    if expected is not None:
        show_error(str(expected), expected.exit_code)
        _show_traceback(error)
        return expected.exit_code
    where = "" if _show_traceback(error) else _log_file(error)
    show_error(
        f"galmorph failed unexpectedly ({_short(error)}). This is a fault of galmorph: please report it with "
        + (f"the file {where}." if where else f"what is printed where {Variable.DEBUG}=1 is set."),
        UNEXPECTED,
    )
    return UNEXPECTED


def show_error(text: str, exit_code: int) -> None:
    """Print what went wrong, even in a quiet run."""
    if isinstance(stderr.file, Events):
        stderr.file.emit("error", "error", message=text, exit_code=exit_code)
        return
    stderr.quiet = False
    stderr.print(Text.assemble(("error:", "bold red"), " ", visible(text)), soft_wrap=True)


def _of_usage(error: Any) -> int:
    """Print one line about a wrong command."""
    if type(error).__name__ != "NoArgsIsHelpError":  # its help is printed already
        command = error.ctx.command_path if error.ctx else "galmorph"
        text = error.format_message().rstrip(".")
        show_error(f"{text}{'' if text.endswith('?') else '.'} See {command} --help.", GalmorphError.exit_code)
    return GalmorphError.exit_code


def _of_memory(error: BaseException) -> GalmorphError | None:
    """Return the error to show if memory was full."""
    full = "Memory is full. Give a smaller --batch-size or fewer --workers, and run again."
    return CannotContinue(full) if memory_is_full(error) else None


def _of_system(error: Exception) -> GalmorphError | None:
    """Return the error to show if the machine or its environment is the cause, not the code."""
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return CannotContinue(f"No space left on the disk ({error}). Free some, and run the same command again.")
    if isinstance(error, OSError) and error.errno in _OF_PATHS | _OF_MACHINE and error.filename is not None:
        reason = f"{error.filename}: {error.strerror}."
        if error.errno in _OF_PATHS:
            return GalmorphError(reason)
        return CannotContinue(f"{reason} See to it, and run the same command again.")
    if isinstance(error, ValueError) and "for backend" in str(error) and (backend := os.environ.get("MPLBACKEND")):
        return GalmorphError(f"MPLBACKEND is {backend[:40]!r}, which matplotlib does not know: unset it.")
    return None


def _short(error: Exception) -> str:
    kind, first = type(error).__name__, first_line(error)[:200]
    return kind if first == kind else f"{kind}: {first}"


def _details(error: Exception) -> str:
    command = re.sub(r"//[^/@\s]*@", "//...@", shlex.join(sys.argv))  # no passwords of addresses
    system = f"galmorph {galmorph.__version__}, Python {platform.python_version()}, {platform.platform()}"
    return f"{system}\n{command}\n\n{''.join(traceback.format_exception(error))}"


def _show_traceback(error: Exception) -> bool:
    """Print the traceback where ``GALMORPH_DEBUG`` or ``--debug`` asks for it, and return whether it does."""
    if not Variable.DEBUG.is_on():
        return False
    if isinstance(stderr.file, Events):
        stderr.file.emit("traceback", "error", message=_details(error))
    else:
        stderr.print(Text(visible(_details(error))), soft_wrap=True)
    return True


def _log_file(error: Exception) -> str:
    """Write the traceback to a file of its own in the folder for temporary files, and return its name."""
    try:
        handle, path = tempfile.mkstemp(prefix="galmorph-error-", suffix=".log", text=True)
        with os.fdopen(handle, "w", errors="backslashreplace") as file:
            file.write(_details(error))
    except OSError:
        return ""
    return path
