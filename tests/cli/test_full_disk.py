"""Full disks, in every phase of the commands: one sentence, exit code 3, and the same command goes on to the same end.

The disk is a real one, a small tmpfs; that of `fetch` is in ``tests/retrieval/test_hostile_environment.py``.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parents[1] / "support"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root for a small file system")
def test_full_disks(tmp_path):
    pytest.importorskip("distributed", reason="the extra scale is not installed")
    environment = {"GALMORPH_CACHE": str(tmp_path / "disk" / "cache"), "SOURCE_DATE_EPOCH": "1763769600"}
    command = ["unshare", "-m", sys.executable, SUPPORT / "full_disk.py"]
    options = {"cwd": tmp_path, "env": os.environ | environment}
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if "permission denied" in done.stderr.lower():
        pytest.skip("this machine lets nobody mount")
    assert done.returncode == 0, done.stderr[-2000:]
    trials = [json.loads(line) for line in done.stdout.splitlines()]
    assert {trial["name"] for trial in trials} == {"classify", "features", "select", "report", "train", "hats"}
    for trial in trials:
        assert (trial["full"], trial["again"], trial["same"]) == (3, 0, True), trial
        assert len(trial["errors"]) == 1, trial
        assert "No space left on device" in trial["errors"][0]
        assert not [file for file in trial["left"] if file.endswith(".part")], trial
    left = {trial["name"]: trial["left"] for trial in trials if trial["name"] in ("select", "report")}
    assert left["select"] == []
