"""Kill -9 at random moments: the runs that follow end where a run that was never killed ends."""

import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter

import pytest
from standin import Box, Sky, StandIn

WORKERS, RATE, KILLS, TARGETS = 4, 60, 20, 500
SKY = Sky(
    off=(Box(0, 360, -90, -70), Box(20, 24, -10, 10)),
    holes=((Box(40, 45, -10, 10), "g"), (Box(60, 62, -10, 10), "griz")),
)
CODE = """
import json, sys
from galmorph.retrieval.fetch import fetch
table, out, url, workers, rate = sys.argv[1:]
print("ready", flush=True)
summary = fetch(table, out=out, base_url=url, workers=int(workers), rate=float(rate), size=24, backoff_s=0.05,
                retries=3, timeout_s=60.0)
print(json.dumps(summary.as_dict()), flush=True)
"""


def truth(ra, row):
    if row % 97 == 5:
        return "failed"
    if 20 <= ra < 24 or 60 <= ra < 62:
        return "no_coverage"
    return "partial" if 40 <= ra < 45 else "ok"


def start(table, out, server):
    command = [sys.executable, "-c", CODE, table, out, f"{server.url}/viewer", WORKERS, RATE]
    # Files made at different times are the same bytes.
    environment = os.environ | {"SOURCE_DATE_EPOCH": "1763769600"}
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True, env=environment)


def finish(table, out, server):
    """Let a run come to its end; return its summary, the states, and the files with their bytes."""
    with start(table, out, server) as process:
        *_, summary = process.stdout
    db = sqlite3.connect(out / "manifest.sqlite")
    states = dict(db.execute("SELECT id, status FROM manifest"))
    db.close()
    files = {
        path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*.*") if path.suffix != ".sqlite"
    }
    return json.loads(summary), states, files


@pytest.mark.slow
def test_kills_change_nothing(tmp_path):
    dice = random.Random(20261121)
    targets = [(f"g{row}", round(row / 5 + 0.1, 1), row % 7) for row in range(TARGETS)]
    table, out = tmp_path / "t.csv", tmp_path / "out"
    table.write_text("name,ra,dec\n" + "".join(f"{name},{ra},{dec}\n" for name, ra, dec in targets))
    states = {name: truth(ra, row) for row, (name, ra, _) in enumerate(targets)}
    where = {name: f"ra={ra:.8f}&dec={dec:.8f}&" for name, ra, dec in targets}
    doomed = {where[name] for name, state in states.items() if state == "failed"}
    good = {where[name] for name, state in states.items() if state in ("ok", "partial")}
    with StandIn(SKY, latency=0.02) as server:
        server.inject("503", times=None, when=lambda request: place(request) in doomed)
        never_killed = finish(table, tmp_path / "whole", server)
        server.forget()
        # Moments all over the run, some of them while the next one is still starting.
        for moment in sorted(dice.sample(range(TARGETS), KILLS)):
            with start(table, out, server) as process:
                process.stdout.readline()
                while len(server.seen.requests) < moment and process.poll() is None:
                    time.sleep(0.001)
                time.sleep(dice.uniform(0.0, 0.3))
                assert process.poll() is None, "the run ended before it was killed often enough"
                process.kill()
        in_time = len(server.seen.requests)
        summary, found, files = finish(table, out, server)
        seen = server.seen
    assert in_time > TARGETS / 2
    assert found == states
    assert summary["targets"] == TARGETS
    # The same states, and the same files with the same bytes: none is partial, wrong, missing or left over.
    assert (found, files) == never_killed[1:]
    assert sum(name.endswith(".fits") for name in files) == len(good)
    asked = Counter(place(request) for request in seen.requests if place(request) in good)
    assert set(asked) == good
    assert sum(asked.values()) - len(good) <= KILLS * WORKERS
    assert seen.most_in_flight <= WORKERS
    assert seen.most_in_a_second() <= RATE + 1


def place(request):
    return request.target.partition("?")[2].partition("layer")[0]
