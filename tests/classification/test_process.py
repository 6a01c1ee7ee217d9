"""Memory that is freed is kept, also where the environment says otherwise."""

import os
import platform
import subprocess
import sys

import pytest

from galmorph.classification import classify as classification
from galmorph.errors import GalmorphError

# 90 MB in blocks, freed together ten times, by the main thread or by another: page faults after the first round.
LOOP = """
import resource, sys, threading
import numpy as np
from galmorph.classification.process import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def once():
    blocks = [np.ones(90_000_000 // int(sys.argv[3]), np.uint8) for _ in range(int(sys.argv[3]))]
def loop():
    once()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        once()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
if sys.argv[2] == "thread":
    thread = threading.Thread(target=loop)
    thread.start()
    thread.join()
else:
    loop()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
@pytest.mark.parametrize(
    "environment", [{}, {"MALLOC_TRIM_THRESHOLD_": "65536"}], ids=["plain", "as in Dask's workers"]
)
@pytest.mark.parametrize(("where", "blocks"), [("main", 3), ("thread", 9)])
def test_freed_memory_is_used_again(environment, where, blocks):
    def faults(how: str) -> int:
        command = [sys.executable, "-c", LOOP, how, where, str(blocks)]
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert faults("keep") < 0.02 * faults("leave")


def test_classify_keeps_freed_memory(monkeypatch, tmp_path):
    called = []
    monkeypatch.setattr(classification, "keep_freed_memory", lambda: called.append(True))
    with pytest.raises(GalmorphError):
        classification.classify(tmp_path / "none.csv")
    assert called
