"""What no fuzzer may exceed."""

import resource
from pathlib import Path

import pytest

MOST_BYTES = 2 << 30


@pytest.fixture(autouse=True)
def bounded_memory():
    """Let the process take no more than `MOST_BYTES` beside what it has: more is a MemoryError, which fails a test."""
    kept = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MOST_BYTES, kept[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, kept)
