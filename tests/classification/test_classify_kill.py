"""Kill -9 at random moments and before each file operation, resumed: the bytes of a run that was never killed, and
nothing left over."""

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
from galmorph import classify

table, model, whole, out = map(Path, sys.argv[1:5])
kills, batches = 20, 100

def run(destination, pipe):
    classify(table, model=model, out=destination, device="cpu", dtype="float32", batch_size=2, workers=2,
             on_progress=lambda done, total: os.write(pipe, b"."))

def start(destination):
    pipe, tell = os.pipe()
    child = os.fork()
    if child:
        os.close(tell)
        return child, pipe
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

child, pipe = start(whole)
os.waitpid(child, 0)
expected = whole.read_bytes()
dice = random.Random(20261122)
killed = 0
while killed < kills:
    child, pipe = start(out)
    # Most kills between two batches or in the midst of one, the last ones while the table is written.
    for _ in range(dice.randrange(8) if killed < kills - 5 else batches):
        if not os.read(pipe, 1):
            break
    time.sleep(dice.uniform(0, 0.02))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(pipe)
    killed += os.WIFSIGNALED(status)
    if out.exists():
        assert out.read_bytes() == expected, ("a table that has its name is whole", differences())
        out.unlink()
    print(killed, left(), flush=True)
child, pipe = start(out)
os.waitpid(child, 0)
assert out.read_bytes() == expected, differences()
assert left() == [], left()
"""

# Here a run kills itself before its nth operation on a file of the output's folder, for each n until it ends.
AT_EACH_STEP = """
import os, signal, sys
from pathlib import Path
from galmorph import classify
from galmorph.models.predictor import Predictor
from galmorph.models.model import load

table, model, out = map(Path, sys.argv[1:4])
predictor = Predictor(load(model), "cpu", "float32")

def run(destination, die_at=None):
    seen = 0

    def count(event, args):
        nonlocal seen
        # Removals within a folder name no path.
        ours = event == "open" and str(args[0]).startswith(str(out.parent))
        if ours or event in ("os.rename", "os.link", "os.truncate", "os.remove", "os.rmdir", "os.mkdir"):
            seen += 1
            if seen == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if not child:
        sys.addaudithook(count)
        try:
            classify(table, model=predictor, out=destination, batch_size=2, workers=1)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1]

def record(path):
    return path.with_name(path.name + ".prov.json")

assert run(out) == 0
expected, described = out.read_bytes(), record(out).read_bytes()
out.unlink(), record(out).unlink()
steps = 0
while True:
    status = run(out, steps + 1)
    if out.exists():
        assert out.read_bytes() == expected, steps
        assert record(out).read_bytes() == described, (steps, "no table without its record")
    if status == 0:
        break
    assert os.WIFSIGNALED(status), status
    steps += 1
    journal = out.with_name(".out.fits.galmorph")
    # Only once the journal is being taken away is there nothing to tell the run's table from another's.
    whole = {"rows.bin", "state.json", "output.json"}
    left = {p.name for p in journal.glob("*") if p.stat().st_size} if journal.exists() else set()
    put_away = out.exists() and not left >= whole
    assert (run(out) == 0) != put_away, (steps, put_away)
    assert (out.read_bytes(), record(out).read_bytes()) == (expected, described), steps
    left = sorted(p.name for p in out.parent.iterdir())
    assert left == [out.name, record(out).name], (steps, left)
    out.unlink(), record(out).unlink()
print(steps)
"""


def output_of(code, folder, n_cutouts, n_rows, *outputs):
    """What a program prints that classifies a table of so many rows, which share cutouts."""
    cutout_folder(folder, n=n_cutouts)
    table = Table({"id": range(n_rows), "cutout": [f"g{i % n_cutouts}.fits" for i in range(n_rows)]})
    table.write(folder / "t.fits")
    (folder / "out").mkdir()
    paths = [folder / "t.fits", model_file(folder / "m.safetensors"), *outputs]
    env = os.environ | {"SOURCE_DATE_EPOCH": "0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *map(str, paths)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_kill_before_any_file_operation_changes_nothing(tmp_path):
    assert int(output_of(AT_EACH_STEP, tmp_path, 3, 5, tmp_path / "out" / "out.fits")) >= 10


@pytest.mark.slow
def test_kills_change_nothing(tmp_path):
    lines = output_of(CODE, tmp_path, 10, 200, tmp_path / "whole.fits", tmp_path / "out" / "out.fits").splitlines()
    assert len(lines) >= 20
    assert any(".out.fits.galmorph" in line for line in lines), "there was something to go on with"
    assert any(".part" in line for line in lines), "some were killed while the table was written"
