"""The benchmarks that call into galmorph's inside still run."""

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_appending_to_a_table_is_timed(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "scale.py"), "append", "--rows", "2000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "ratio" in done.stdout.splitlines()[-1]
