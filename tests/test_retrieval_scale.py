"""A hundred thousand targets: start, resume and status take seconds, and memory does not grow with the list."""

import json
import sqlite3
import subprocess
import sys

import pytest

N = 100_000
# Each step runs in a process of its own and prints the processor time and the peak memory that it took.
CODE = """
import json, resource, sys
from galmorph import retrieval
table, out, step = sys.argv[1:]
def used():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
before = used()
if step == "status":
    summary = retrieval.status(out)
else:
    limit = 0 if step == "start" else None
    summary = retrieval.fetch(table, out=out, base_url="http://127.0.0.1:9/viewer", size=8, limit=limit)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"cpu_s": used() - before, "peak_mb": peak, **summary.as_dict()}))
"""


def step(table, out, name):
    command = [sys.executable, "-c", CODE, str(table), str(out), name]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def prepared(folder, n):
    """Write a list, enrol it, and make its manifest and its files as if all had been fetched."""
    folder.mkdir()
    table, out = folder / "t.csv", folder / "out"
    with table.open("w") as file:
        file.write("name,ra,dec\n")
        file.writelines(f"g{i},{i * 137.50776405 % 360:.6f},{i * 0.618 % 80 - 40:.6f}\n" for i in range(n))
    started = step(table, out, "start")
    db = sqlite3.connect(out / "manifest.sqlite")
    db.execute("UPDATE requests SET status = 'ok', bytes = 1")
    db.commit()
    for (path,) in db.execute("SELECT path FROM requests"):
        (out / path).parent.mkdir(exist_ok=True)
        (out / path).write_bytes(b"x")
    db.close()
    return table, out, started


@pytest.mark.slow
def test_many_targets(tmp_path):
    few_table, few_out, few = prepared(tmp_path / "few", 1000)
    table, out, started = prepared(tmp_path / "many", N)
    resumed = step(table, out, "resume")
    asked = step(table, out, "status")
    assert (resumed["ok"], resumed["requests"]) == (N, 0)
    assert asked["ok"] == N
    assert max(started["cpu_s"], resumed["cpu_s"], asked["cpu_s"]) < 5
    assert started["peak_mb"] - few["peak_mb"] < 30
    assert resumed["peak_mb"] - step(few_table, few_out, "resume")["peak_mb"] < 30
