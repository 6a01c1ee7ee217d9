"""The C library's memory: what one batch frees is kept for the next, not given back to the system."""

from __future__ import annotations

import ctypes
import platform
from functools import cache

# Of glibc's malloc.h. Blocks up to the first limit, the largest that it takes, come from memory that is kept; so much
# of that may lie unused at its end.
_M_MMAP_THRESHOLD, _MMAP_BYTES = -3, 32 * 2**20
_M_TRIM_THRESHOLD, _TRIM_BYTES = -1, 256 * 2**20


@cache
def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, up to 256 MiB in each arena; return whether it does.

    Each batch needs tens of megabytes, and pages that come anew from the system must be cleared: that is a tenth of the
    network's time on the CPU, and half of it in the workers of a Dask cluster, whose nanny has them give back all but
    64 KiB (``MALLOC_TRIM_THRESHOLD_``). Other C libraries than glibc are left as they are.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all([mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES), mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)])
