"""HATS catalogs: two workers against one, and both against a plain run, on the same rows in one run.

``python benchmarks/hats_workers.py [--targets 1024] [--rounds 3]`` starts clusters of one and of two workers (processes
of one thread), and has the same catalog of about 50 partitions classified by each in turn. It prints the galaxies a
second of each, their ratio, the processor time of the workers and of the client's thread, the machine's load, the
medians, and the largest difference of a probability from a plain run over the same rows as one Parquet file. A busy
machine changes the workers' time too: Dask's heartbeats go on while they wait.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
from distributed import Client, LocalCluster
from pyarrow import parquet as pq

from galmorph.classification.classify import classify
from galmorph.classification.hats import classify_hats

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "support"))

N_CUTOUTS = 100
OPTIONS = {"device": "cpu"}


def made_survey(folder: Path, n_targets: int) -> Path:
    """Write cutouts of 160 px, a HATS catalog whose rows share them, and the same rows as one Parquet file."""
    from hatsmaking import targets, write_hats
    from made import cutout_folder

    cutout_folder(folder / "cutouts", n=N_CUTOUTS, side=160, wcs=False)  # they stand for any position
    table = targets(n_targets, cutout=[f"cutouts/g{i % N_CUTOUTS}.fits" for i in range(n_targets)])
    pq.write_table(table, folder / "plain.parquet")
    return write_hats(folder / "galaxies", table, order=3)


def probabilities(path: Path) -> np.ndarray:
    """Return the probabilities of a file or folder of Parquet, by identifier."""
    table = pq.read_table(path)
    names = [name for name in table.column_names if name.startswith("p_")]
    order = np.argsort(table["objid"].to_numpy())
    return np.stack([table[name].to_numpy() for name in names], axis=1)[order]


def timed_run(client: Client, catalog: Path, folder: Path) -> tuple[float, float, list[float]]:
    """Classify a catalog; return seconds, and processor seconds of this thread and of each worker."""
    before, own, started = client.run(time.process_time), time.thread_time(), time.perf_counter()
    classify_hats(catalog, out=folder / "out", cutouts=folder, client=client, overwrite=True, **OPTIONS)
    seconds, own = time.perf_counter() - started, time.thread_time() - own
    after = client.run(time.process_time)
    return seconds, own, [after[worker] - before[worker] for worker in after]


@contextmanager
def clusters() -> Iterator[tuple[Client, Client]]:
    """Start a cluster of one worker and one of two; yield their clients."""
    shape = {"threads_per_worker": 1, "memory_limit": None, "dashboard_address": "127.0.0.1:0"}
    with (
        LocalCluster(n_workers=1, **shape) as one,
        LocalCluster(n_workers=2, **shape) as two,
        Client(one) as a,
        Client(two) as b,
    ):
        yield a, b


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        catalog = made_survey(folder, options.targets)
        ratios, shares = [], []
        with clusters() as (a, b):
            for client in (a, b):  # torch and the model are loaded by every worker before the clock runs
                timed_run(client, catalog, folder)
            for _ in range(options.rounds):
                (seconds, own, alone), (seconds_of_two, _, both) = (timed_run(c, catalog, folder) for c in (a, b))
                ratios.append(seconds / seconds_of_two)
                shares.append(sum(alone) / sum(both))
                rates = f"one worker {options.targets / seconds:.0f}/s, two {options.targets / seconds_of_two:.0f}/s"
                used = f"{sum(alone):.1f} s of one worker, {sum(both):.1f} s of two, {own:.1f} s of the client"
                print(f"{rates}, ratio {ratios[-1]:.2f}; {used}; load {os.getloadavg()[0]:.1f}", flush=True)
        print(f"two workers against one: {median(ratios):.2f} (asked: 1.7 where two cores are free)")
        print(f"of linear, by the processor time of the workers: {median(shares):.2f} (asked: 0.9)")
        plain = classify(folder / "plain.parquet", workers=2, **OPTIONS)
        difference = np.abs(probabilities(Path(plain.out)) - probabilities(folder / "out" / "dataset")).max()
        print(f"plain run {plain.rate:.0f}/s; largest difference of a probability {difference:.1e}")


if __name__ == "__main__":
    main()
