"""The benchmarks that call into galmorph's inside still run."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_appending_to_a_table_is_timed(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "scale.py"), "append", "--rows", "2000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "ratio" in done.stdout.splitlines()[-1]


def test_one_gpu_is_tried_on_the_cpu(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--small", "--device", "cpu", "--parts", "same"]
    done = subprocess.run([*command, "--json", "out.json"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["largest change of a probability from the CPU's float32"] < 0.06
    assert figures["two runs give the same values"]


def test_the_cost_of_many_galaxies():
    command = [sys.executable, str(BENCHMARKS / "cost.py"), "--galaxies", "1e6", "--ms", "7.2", "--gpu-rate", "1000"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "from cutouts: 2 core-hours" in done.stdout
    assert "from planes: 0.3 GPU-hours" in done.stdout
