"""What `galmorph fetch` costs and how fast it is, against the stand-in server in a process of its own.

    python benchmarks/fetch.py [--targets 400] [--latency 0.2] [--workers 8] [--memory]

Prints, a line each: the rate with many workers as a part of the bound workers / latency and as a multiple of a
sequential loop; the processor time of a target; what start, resume and status take with 100,000 targets; with
``--memory`` the peak memory while 1,000 and 100,000 targets of 8 px are fetched (some ten minutes).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from galmorph.retrieval.fetch import FetchSummary

STAND_IN = Path(__file__).resolve().parents[1] / "tests" / "support" / "standin"


@contextmanager
def stand_in(latency: float) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run the stand-in; give its URL and its process."""
    command = [sys.executable, str(STAND_IN), "--latency", str(latency)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.stdin.close()


def seen(process: subprocess.Popen[str]) -> dict[str, float]:
    """Return what the stand-in has seen since the last call."""
    assert process.stdin
    assert process.stdout
    process.stdin.write("\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def catalog(path: Path, n: int) -> Path:
    """Write `n` positions spread over the stand-in's sky."""
    with path.open("w") as file:
        file.write("name,ra,dec\n")
        file.writelines(f"g{i},{i * 137.50776405 % 360:.6f},{i * 0.61803399 % 1 * 80 - 30:.6f}\n" for i in range(n))
    return path


def cpu_s() -> float:
    """Return the processor time of this process, all threads, user and system."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def child(task: str, *arguments: object) -> dict[str, float]:
    """Run one measurement in a fresh process and return what it prints."""
    command = [sys.executable, __file__, "--child", task, *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def fetch_once(table: str, out: str, url: str, workers: str, size: str) -> dict[str, float]:
    """Fetch a catalog; processor time is counted after a first small fetch has imported everything."""
    from galmorph.retrieval.fetch import fetch

    with tempfile.TemporaryDirectory() as folder:
        fetch(catalog(Path(folder, "t.csv"), 4), out=Path(folder, "o"), base_url=url, rate=1000)
    return timed(lambda: fetch(table, out=out, base_url=url, rate=100_000, workers=int(workers), size=int(size)))


def bare(table: str, url: str) -> dict[str, float]:
    """Ask for the same cutouts with httpx and do nothing with them: what the transport alone costs."""
    import asyncio

    import httpx

    from galmorph.retrieval.layout import Layout, entries
    from galmorph.retrieval.surveys import Imaging
    from galmorph.retrieval.surveys.decals import Viewer
    from galmorph.tables.catalog import open_catalog

    source = Viewer(Imaging(base_url=url))
    rows = [e for block in entries(open_catalog(table), "decals", source, Layout(256, 0.262)) for e in block]
    urls = iter([f"{url}/{row.request}" for row in rows])

    async def work(client: httpx.AsyncClient) -> None:
        for address in urls:
            (await client.get(address)).raise_for_status()

    async def run() -> float:
        async with httpx.AsyncClient() as client:
            await client.get(f"{url}/{rows[0].request}")
            start = cpu_s()
            await asyncio.gather(*(work(client) for _ in range(8)))
            return cpu_s() - start

    return {"cpu_s": asyncio.run(run())}


def speed(n: int, latency: float, workers: int) -> None:
    """Print the speed against the bound and against a sequential loop, and the processor time of a target."""
    with tempfile.TemporaryDirectory() as name, stand_in(latency) as (url, process):
        table = catalog(Path(name, "targets.csv"), n)
        few = catalog(Path(name, "few.csv"), max(10, n // 10))
        many = child("fetch", table, Path(name, "many"), f"{url}/viewer", workers, 256)
        counted = seen(process)
        one = child("fetch", few, Path(name, "one"), f"{url}/viewer", 1, 256)
        rate, bound = n / many["seconds"], workers / latency
        alone = max(10, n // 10) / one["seconds"]
        print(f"{rate:.1f} targets/s with {workers} workers and {latency:g} s of latency")
        print(f"{rate / bound:.3f} of the bound workers / latency ({bound:g}/s)")
        print(f"{rate / alone:.2f} times a sequential loop ({alone:.2f}/s)")
        print(f"{1000 * many['cpu_s'] / n:.2f} ms of processor time a target (256 px, 3 bands, all checks and writing)")
        print(f"{counted['most_in_flight']} requests in flight at most, {counted['connections']} connections")


def processor(n: int) -> None:
    """Print the processor time of a target without latency, and what of it is not the transport's."""
    with tempfile.TemporaryDirectory() as name, stand_in(0.0) as (url, _):
        table = catalog(Path(name, "targets.csv"), n)
        done = child("fetch", table, Path(name, "out"), f"{url}/viewer", 8, 256)
        transport = child("bare", table, f"{url}/viewer")
        total, floor = 1000 * done["cpu_s"] / n, 1000 * transport["cpu_s"] / n
        print(f"{total:.2f} ms of processor time a target without latency; {floor:.2f} ms are the transport's (httpx)")
        print(f"{total - floor:.2f} ms are added by galmorph: limits, checks, writing, the manifest")


def scale(n: int) -> None:
    """Print what start, resume and status take with many targets."""
    with tempfile.TemporaryDirectory() as name:
        table, out = catalog(Path(name, "targets.csv"), n), Path(name, "out")
        started = child("step", table, out, 0)
        pretend(out)
        resumed, asked = child("step", table, out, n), child("status", out)
        for what, took in (("start", started), ("resume", resumed), ("status", asked)):
            print(f"{took['seconds']:.2f} s to {what} with {n} targets ({took['cpu_s']:.2f} s of processor time)")


def pretend(out: Path) -> None:
    """Make a folder's manifest and files as if all of its targets had been fetched."""
    db = sqlite3.connect(out / "manifest.sqlite")
    db.execute("UPDATE requests SET status = 'ok', bytes = 1, first_row = SUBSTR(target_id, 2)")
    db.execute("CREATE INDEX by_path ON requests (path)")
    times = []
    for (path,) in db.execute("SELECT path FROM requests"):
        (out / path).parent.mkdir(exist_ok=True)
        (out / path).write_bytes(b"x")
        times.append(((out / path).stat().st_mtime_ns, path))
    db.executemany("UPDATE requests SET mtime_ns = ? WHERE path = ?", times)
    db.execute("DROP INDEX by_path")
    db.commit()
    db.close()
    os.sync()  # as every file of a real run is


def step(table: str, out: str, limit: str) -> dict[str, float]:
    """Enrol a list and ask for nothing that is not there; no server is needed."""
    from galmorph.retrieval.fetch import fetch

    return timed(lambda: fetch(table, out=out, base_url="http://127.0.0.1:9/viewer", size=8, limit=int(limit)))


def status(out: str) -> dict[str, float]:
    """Ask for the state of a folder."""
    from galmorph.retrieval.fetch import status

    return timed(lambda: status(out))


def timed(work: Callable[[], FetchSummary]) -> dict[str, float]:
    """Return how long something took, its processor time and the process's peak memory, and its own figures."""
    from usage import peak_mb  # beside this file, which a test loads from elsewhere

    start, begin = cpu_s(), time.perf_counter()
    figures = work().as_dict()
    return figures | {"seconds": time.perf_counter() - begin, "cpu_s": cpu_s() - start, "peak_mb": peak_mb()}


def memory() -> None:
    """Print the peak memory of a short and a long run."""
    with tempfile.TemporaryDirectory() as name, stand_in(0.0) as (url, _):
        for n in (1000, 100_000):
            table = catalog(Path(name, f"{n}.csv"), n)
            done = child("fetch", table, Path(name, str(n)), f"{url}/viewer", 8, 8)
            rate = n / done["seconds"]
            print(f"{done['peak_mb']:.0f} MB at most while {n} targets of 8 px are fetched ({rate:.0f}/s)")


CHILDREN = {"fetch": fetch_once, "bare": bare, "step": step, "status": status}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(CHILDREN[sys.argv[2]](*sys.argv[3:])))
        sys.exit()
    parser = argparse.ArgumentParser()
    parser.add_argument("--targets", type=int, default=400)
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    speed(options.targets, options.latency, options.workers)
    processor(options.targets)
    scale(100_000)
    if options.memory:
        memory()
