"""The processor time of this process, and the peak of its memory.

The peak is its own, where ``ru_maxrss`` begins with that of the process that started it.
"""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path

_STATUS = Path("/proc/self/status")


def processor_s() -> float:
    """Return the processor time of this process and of those it has ended, all threads, user and system."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def forget_peak() -> None:
    """Let the peak of this process's memory begin anew, where the system can (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float:
    """Return the peak of this process's memory in MB, since :func:`forget_peak` where the system can."""
    lines = _STATUS.read_text().splitlines() if _STATUS.exists() else []
    since = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return (since or [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss])[0] / 1024
