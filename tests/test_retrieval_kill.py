"""Kill -9 at random moments: the runs that follow end where a run that was never killed ends."""

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter

import pytest
from standin import Box, Sky, StandIn

from galmorph.cutout import read_cutout

WORKERS, RATE, KILLS, TARGETS = 4, 60, 20, 500
SKY = Sky(
    off=(Box(0, 360, -90, -70), Box(20, 24, -10, 10)),
    holes=((Box(40, 45, -10, 10), "g"), (Box(60, 62, -10, 10), "griz")),
)
CODE = """
import json, sys
from galmorph.retrieval import fetch
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
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_kills_change_nothing(tmp_path):
    dice = random.Random(20261121)
    targets = [(f"g{row}", round(row / 5 + 0.1, 1), row % 7) for row in range(TARGETS)]
    table, out = tmp_path / "t.csv", tmp_path / "out"
    table.write_text("name,ra,dec\n" + "".join(f"{name},{ra},{dec}\n" for name, ra, dec in targets))
    doomed = {f"ra={ra:.8f}&dec={dec:.8f}" for row, (_, ra, dec) in enumerate(targets) if row % 97 == 5}
    with StandIn(SKY, latency=0.02) as server:
        server.inject("503", times=None, when=lambda request: any(text in request.target for text in doomed))
        kills = 0
        while kills < KILLS:
            with start(table, out, server) as process:
                process.stdout.readline()
                time.sleep(dice.uniform(0.0, 0.5))
                if process.poll() is not None:
                    break
                process.send_signal(signal.SIGKILL)
                kills += 1
        assert kills == KILLS, "the run ended before it was killed often enough"
        with start(table, out, server) as process:
            process.stdout.readline()
            summary = json.loads(process.stdout.readline())
        good = {row[2] for row in paths(out) if row[1] in ("ok", "partial")}
        repeats = sum(n - 1 for target, n in server.seen.served.items() if "fits-cutout" in target)
        asked = [request.target for request in server.seen.requests if "fits-cutout" in request.target]
        counts = Counter(target for target in asked if not any(text in target for text in doomed))
        asked_again = sum(counts.values()) - len(counts)
    assert {name: status for name, status, _ in paths(out)} == {
        name: truth(ra, row) for row, (name, ra, _) in enumerate(targets)
    }
    assert summary["targets"] == TARGETS
    # Every file is whole, is the target's, and has a row in the manifest; nothing else is there.
    assert {path.relative_to(out).as_posix() for path in out.glob("??/*")} == good
    for name, status, path in paths(out):
        if status in ("ok", "partial"):
            assert read_cutout(out / path).target_id == name
    assert not list(out.rglob("*.part"))
    assert repeats <= KILLS * WORKERS
    # Off the footprint a 500 is asked for twice and looked into; those are no repeats of good targets.
    assert asked_again <= KILLS * WORKERS + 2 * sum(20 <= ra < 24 for _, ra, _ in targets) + KILLS
    assert server.seen.most_in_flight <= WORKERS
    assert server.seen.most_in_a_second() <= RATE + 1


def paths(out):
    db = sqlite3.connect(out / "manifest.sqlite")
    try:
        return db.execute("SELECT id, status, path FROM manifest").fetchall()
    finally:
        db.close()
