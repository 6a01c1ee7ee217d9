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


def pytest_collection_modifyitems(items):
    """Give a test that takes more examples as much more time."""
    from mutations import FACTOR  # not before the profile is loaded

    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(FACTOR * float(item.config.getini("timeout") or 300)))
