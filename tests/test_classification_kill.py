"""Kill -9 at random moments, resumed each time: the bytes of a run that was never killed, and nothing left over."""

import os
import subprocess
import sys

import pytest
from astropy.table import Table
from made import cutout_folder, model_file

# One process has everything imported and forks a run for each kill. A run tells of each batch through a pipe.
CODE = """
import os, random, signal, sys, time
import numpy
from pathlib import Path
from galmorph.classification import classify

table, model, whole, out = map(Path, sys.argv[1:5])
kills, batches = 20, 100

def run(destination, told):
    classify(table, model=model, out=destination, resume=True, device="cpu", dtype="float32", batch_size=2, workers=2,
             on_progress=lambda done, total: os.write(told, b"."))

def start(destination):
    told, tell = os.pipe()
    child = os.fork()
    if child:
        os.close(tell)
        return child, told
    try:
        run(destination, tell)
    finally:
        os._exit(0)

def differences():
    from astropy.table import Table
    one, other = Table.read(whole), Table.read(out)
    named = [(name, numpy.flatnonzero(one[name] != other[name]).tolist()) for name in one.colnames]
    return [(name, rows, [(one[name][i], other[name][i]) for i in rows[:4]]) for name, rows in named if rows]

def left():
    return sorted(p.name for p in out.parent.iterdir() if p.name.startswith("."))

child, told = start(whole)
os.waitpid(child, 0)
expected = whole.read_bytes()
dice = random.Random(20261122)
killed = 0
while killed < kills:
    child, told = start(out)
    # Most kills between two batches or in the midst of one, the last ones while the table is written.
    for _ in range(dice.randrange(8) if killed < kills - 5 else batches):
        if not os.read(told, 1):
            break
    time.sleep(dice.uniform(0, 0.02))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(told)
    killed += os.WIFSIGNALED(status)
    if out.exists():
        assert out.read_bytes() == expected, ("a table that has its name is whole", differences())
        out.unlink()
    print(killed, left(), flush=True)
child, told = start(out)
os.waitpid(child, 0)
assert out.read_bytes() == expected, differences()
assert left() == [], left()
"""


@pytest.mark.slow
def test_kills_change_nothing(tmp_path):
    cutout_folder(tmp_path, n=10)
    table = Table({"id": range(200), "cutout": [f"g{i % 10}.fits" for i in range(200)]})
    table.write(tmp_path / "t.fits")
    model = model_file(tmp_path / "m.safetensors")
    (tmp_path / "out").mkdir()
    paths = [tmp_path / "t.fits", model, tmp_path / "whole.fits", tmp_path / "out" / "out.fits"]
    env = os.environ | {"SOURCE_DATE_EPOCH": "0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CODE, *map(str, paths)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) >= 20
    assert any(".out.fits.galmorph" in line for line in lines), "there was something to go on with"
    assert any(".part" in line for line in lines), "some were killed while the table was written"
