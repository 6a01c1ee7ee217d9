"""Memory that is freed is kept, also where the environment says otherwise."""

import os
import platform
import subprocess
import sys

import pytest

from galmorph.classification import classify as classification
from galmorph.errors import GalmorphError

# Three blocks of 30 MB, freed together ten times: page faults after the first round.
LOOP = """
import resource, sys
import numpy as np
from galmorph.classification.process import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def once():
    blocks = [np.ones(30_000_000, np.uint8) for _ in range(3)]
once()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    once()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
@pytest.mark.parametrize(
    "environment", [{}, {"MALLOC_TRIM_THRESHOLD_": "65536"}], ids=["plain", "as in Dask's workers"]
)
def test_freed_memory_is_used_again(environment):
    def faults(how: str) -> int:
        command = [sys.executable, "-c", LOOP, how]
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert faults("keep") < 0.02 * faults("leave")


def test_classify_keeps_freed_memory(monkeypatch, tmp_path):
    called = []
    monkeypatch.setattr(classification, "keep_freed_memory", lambda: called.append(True))
    with pytest.raises(GalmorphError):
        classification.classify(tmp_path / "none.csv")
    assert called
