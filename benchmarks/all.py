"""Everything that galmorph is timed by, in one table for the machine it runs on.

    python benchmarks/all.py [--quick] [--zoobot .venv-zoobot/bin/python]

It takes up to ten minutes on two quiet cores; ``--quick`` less than one, with figures that only show that it runs. Each
line is measured in a process of its own (``--quick``: all in one, whose memory they share), by the clock and by the
processor time of all threads: on a busy machine only the latter says what the program takes. The network alone, the
plain loop and the training step run on one thread, as threads that wait for each other take processor time too. What
the lines are:

- ``network as trained``, ``folded``: the default network alone, on tensors that lie ready in memory, batches of 64, in
  the dtype that ``--dtype auto`` takes and in float32; as it was trained, and with batch normalisation folded into its
  convolutions;
- ``plain loop``: what one would write first: astropy for each file, a NumPy composite, eager float32 in batches;
- ``classify``: `galmorph classify` of cubes of 256 px, each named by four rows, from the catalog to the written table;
  the model is loaded and processes are started within that time, Python is not (``start``);
- ``survey image``: the same from planes, with detection;
- ``start``: the command for ten cutouts, with starting Python;
- ``fetch``: without the network's latency; ``append``: columns to a FITS table of 30 columns; ``open``: a CSV table of
  4,000 columns, with its first rows; ``journal``: what keeps the results of a run, checksums and syncs included;
  ``HATS``: the same galaxies on one and on two Dask workers; ``training step``: images of batches of 32; ``report``:
  rows of a report with its pictures;
- ``Zoobot``: what ``benchmarks/zoobot.py`` measures, where ``--zoobot`` names a Python that has it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parent / "tests" / "support")]

from usage import forget_peak, peak_mb, processor_s  # noqa: E402

SIDE_PX = 256
TIMES = 4  # rows that name the same cube
MODEL = "galaxyzoo2-mobilenet_v2"


@dataclass(frozen=True)
class Line:
    """A measurement: so many things took so many seconds of the clock and of the processor."""

    what: str
    unit: str
    n: float
    seconds: float
    processor_s: float
    peak_mb: float = 0.0

    def __str__(self) -> str:
        memory = f"{self.peak_mb:7.0f}" if self.peak_mb else ""
        rates = f"{self.n / self.seconds:11.1f} {self.n / self.processor_s:14.1f}"
        return f"{self.what:32s} {self.unit:9s} {rates} {memory:>9s}".rstrip()


def timed(what: str, unit: str, n: float, call: Callable[[], Any]) -> Line:
    """Measure a call."""
    forget_peak()
    used, began = processor_s(), time.perf_counter()
    call()
    seconds, used = time.perf_counter() - began, processor_s() - used
    return Line(what, unit, n, seconds, used, peak_mb())


def survey(folder: Path, n: int) -> None:
    """Write the cubes, with their catalog, with and without a radius, and a catalog that repeats its rows."""
    from astropy.table import Table, vstack
    from classify import made_survey

    for radius in (True, False):
        (folder / f"radius-{radius}").mkdir()
        table = Table.read(made_survey(folder / f"radius-{radius}", n, SIDE_PX, radius=radius))
        vstack([table] * TIMES, metadata_conflicts="silent").write(folder / f"radius-{radius}" / "repeated.fits")


def networks(n: int) -> list[Line]:
    """Time the network alone."""
    import torch
    from classify import BATCH_SIZE

    from galmorph.models.model import load
    from galmorph.models.predictor import Predictor

    torch.set_num_threads(1)
    model = load(MODEL)
    predictor, exact = Predictor(model, "cpu"), Predictor(model, "cpu", "float32")
    size = model.card.input_size
    images = torch.rand(BATCH_SIZE, 3, size, size).contiguous(memory_format=torch.channels_last)
    trained = model.network.to(predictor.dtype).to(memory_format=torch.channels_last)
    lines = []
    with torch.inference_mode():
        for what, network, batch in (
            ("network as trained", trained, images.to(predictor.dtype)),
            ("network folded", predictor.network, images),
            ("network folded, float32", exact.network, images),
        ):
            network(batch)
            call = lambda network=network, batch=batch: [network(batch) for _ in range(max(1, n // BATCH_SIZE))]  # noqa: E731
            lines.append(timed(what, "images", max(1, n // BATCH_SIZE) * BATCH_SIZE, call))
    return lines


def plain(folder: Path, n: int) -> Line:
    """Time the plain loop."""
    import torch
    from classify import BATCH_SIZE, plain_rate, warm_model

    torch.set_num_threads(1)
    warm_model()
    n = max(BATCH_SIZE, n // 4 // BATCH_SIZE * BATCH_SIZE)
    return timed("plain loop, float32", "galaxies", n, lambda: plain_rate(folder / "radius-True" / "targets.fits", n))


def classified(what: str, table: Path, n: int, **options: Any) -> Line:
    """Time `classify`, after a first short run that imports everything."""
    from galmorph import classify

    few = table.parent / "00" / "0.fits"
    classify(few, out=table.parent / "few.fits", overwrite=True, device="cpu")
    out = table.parent / "out.fits"
    return timed(what, "galaxies", n, lambda: classify(table, out=out, overwrite=True, device="cpu", **options))


def survey_image(folder: Path, side: int) -> Line:
    """Time `classify` of a survey image."""
    from fields import made_field, write_cube

    from galmorph import classify

    n = side**2 // 20_000
    small = write_cube(folder / "small.fits", made_field(300, 4, 6, seed=2))
    path = write_cube(folder / "field.fits", made_field(side, n, n // 4, seed=1))
    classify(small, kind="field", out=folder / "small-out.fits", device="cpu")
    summaries: list[Any] = []
    run = lambda: summaries.append(classify(path, kind="field", out=folder / "field-out.fits", device="cpu"))  # noqa: E731
    line = timed(f"classify, survey image {side} px", "galaxies", n, run)
    return replace(line, n=summaries[0].targets)


def start(folder: Path) -> Line:
    """Time the command for ten cutouts."""
    ten = folder / "ten"
    ten.mkdir()
    for i in range(10):
        (ten / f"{i}.fits").symlink_to(folder / "radius-True" / f"{i:02d}" / f"{i}.fits")
    noted = folder / "peak.txt"
    code = f"import atexit, pathlib, sys; sys.path.append({str(FOLDER)!r}); from usage import peak_mb; "
    code += f"atexit.register(lambda: pathlib.Path({str(noted)!r}).write_text(str(peak_mb()))); "
    command = [sys.executable, "-c", code + "from galmorph.cli import main; main()"]
    command += ["classify", str(ten), "--device", "cpu"]
    line = timed("start, ten cutouts", "runs", 1, lambda: subprocess.run(command, check=True, capture_output=True))
    return replace(line, peak_mb=float(noted.read_text()))


def fetched(n: int) -> Line:
    """Time `fetch` against the stand-in, whose own processor time is another process's."""
    import fetch

    forget_peak()
    with tempfile.TemporaryDirectory() as name, fetch.stand_in(0.0) as (url, _):
        table = fetch.catalog(Path(name, "targets.csv"), n)
        done = fetch.fetch_once(str(table), str(Path(name, "out")), f"{url}/viewer", "8", str(SIDE_PX))
    return Line("fetch, 256 px", "targets", n, done["seconds"], done["cpu_s"], done["peak_mb"])


def appended(n: int) -> Line:
    """Time the last step of a run, as ``benchmarks/scale.py append`` does."""
    from scale import append

    forget_peak()
    with contextlib.redirect_stdout(io.StringIO()):
        done = append(n)
    return Line("append, 30 columns", "rows", n, done["seconds"], done["processor_s"], peak_mb())


def opened(folder: Path, n_columns: int) -> Line:
    """Time the opening of a wide table, with its first rows."""
    import pyarrow as pa
    from pyarrow import csv

    from galmorph.classification.opening import open_source

    numbers = {f"FLUX_{i}": [1.5] * 100 for i in range(n_columns - 2)}
    table = pa.table({"id": range(100), "cutout": ["none.fits"] * 100, **numbers})
    path, small = folder / "wide.csv", folder / "small.csv"
    csv.write_csv(table, path)
    csv.write_csv(table.select(range(2)), small)

    def first_rows(path: Path) -> None:
        source = open_source(path)
        source.open()
        next(iter(source.blocks(16, 0)))

    first_rows(small)
    return timed(f"open, {n_columns} columns", "tables", 1, lambda: first_rows(path))


def journalled(folder: Path, n: int) -> Line:
    """Time the journal of a run: opened, written batch by batch with checksums and syncs, noted, removed."""
    import numpy as np

    from galmorph.classification.output_columns import record_dtype
    from galmorph.files.journal import Journal
    from galmorph.models.cpu_fusion import CPU_BATCH
    from galmorph.models.model import load

    record = record_dtype(load(MODEL).schema, 0)
    out = folder / "out.fits"
    out.write_bytes(b"content")

    def run() -> None:
        with Journal.open(out, record, {}, resume=False, step=CPU_BATCH, n_rows=n) as journal:
            for _ in range(n // CPU_BATCH):
                journal.append(np.zeros(CPU_BATCH, record))
            deque(journal.blocks(), maxlen=0)
            journal.note_output(out)
            journal.remove()

    return timed("journal", "rows", n // CPU_BATCH * CPU_BATCH, run)


def on_clusters(n: int) -> list[Line]:
    """Time `classify` of a HATS catalog on one Dask worker and on two; processor time is that of the workers."""
    import hats_workers

    with tempfile.TemporaryDirectory() as name, hats_workers.clusters() as clients:
        folder = Path(name)
        catalog = hats_workers.made_survey(folder, n)
        for client in clients:  # torch and the model are loaded before the clock runs
            hats_workers.timed_run(client, catalog, folder)
        runs = [hats_workers.timed_run(client, catalog, folder) for client in clients]
    whats = "HATS, one Dask worker", "HATS, two Dask workers"
    return [Line(what, "galaxies", n, run[0], sum(run[2])) for what, run in zip(whats, runs, strict=True)]


def training(steps: int) -> Line:
    """Time steps of training on tensors that lie ready."""
    import torch
    from train import SCHEMA, Stepper, ready_batch

    from galmorph import registry
    from galmorph.models.predictor import pick_dtype

    torch.manual_seed(0)
    torch.set_num_threads(1)
    device, n, size = torch.device("cpu"), 32, 192
    network = registry.load("backbones", "mobilenet_v2").build(len(SCHEMA.labels))
    step = Stepper(network.to(memory_format=torch.channels_last).train(), device, pick_dtype("auto", device))
    batch = ready_batch(n, size, device)
    step(batch)
    return timed("training step, MobileNet 192 px", "images", n * steps, lambda: [step(batch) for _ in range(steps)])


def reported(folder: Path, n: int) -> Line:
    """Time a report of what was classified."""
    from galmorph.reports.catalog import report

    result = folder / "radius-True" / "out.fits"
    out = folder / "report.html"
    return timed("report", "rows", n, lambda: report(result, out, cutouts=result.parent))


def zoobot(python: str, n: int) -> str:
    """Return what the comparison with Zoobot prints."""
    command = [sys.executable, str(FOLDER / "zoobot.py"), "--targets", str(n), "--zoobot", python]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def machine() -> Iterator[str]:
    """Yield what galmorph finds of the machine, and the processor's features."""
    import torch

    from galmorph.cli.doctor import examine

    wanted = ("galmorph", "platform", "torch", "device", "bfloat16")
    for finding in examine():
        if finding.name in wanted:
            yield f"{finding.name}: {finding.found.partition(' in /')[0]}"
    names = {line.partition(":")[2].strip() for line in _cpu_lines() if line.startswith("model name")}
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "")
    yield f"processor: {', '.join(sorted(names))} {torch.backends.cpu.get_cpu_capability()} {limit}".rstrip()


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def ratios(lines: list[Line]) -> Iterator[str]:
    """Yield what matters: `classify` against the networks and the plain loop."""
    each = {line.what: line.processor_s / line.n for line in lines}
    clock = {line.what: line.seconds / line.n for line in lines}
    plain = "plain loop, float32"
    for what, folded in (
        ("classify, radius given", "network folded"),
        ("classify, float32", "network folded, float32"),
    ):
        by_clock = f"{clock[plain] / clock[what]:.2f} by the clock"
        yield f"{what}: {each[plain] / each[what]:.2f} times the plain loop by the processor's time, {by_clock}"
        yield f"{what}: {each[folded] / each[what]:.2f} of the {folded}, by the processor's time"
    ours = each["classify, radius given"]
    yield f"classify, radius given: {each['network as trained'] / ours:.2f} times the network as trained"
    yield f"journal: {100 * each['journal'] / ours:.1f} % of the time of classify, radius given"
    linear = each["HATS, one Dask worker"] / each["HATS, two Dask workers"]
    yield f"two Dask workers: {linear:.2f} of linear, by the workers' processor time"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="A minute, to see that it runs.")
    parser.add_argument("--zoobot", help="A Python that has zoobot.")
    options = parser.parse_args()
    n = 64 if options.quick else 1024
    scale = 1 if options.quick else 10
    lines: list[Line] = []
    for text in machine():
        print(text)
    print(f"\n{'':32s} {'':9s} {'a second':>11s} {'a processor s':>14s} {'peak MB':>9s}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given, measured = (folder / f"radius-{radius}" / "repeated.fits" for radius in (True, False))
        rows = TIMES * n
        tasks: list[tuple[Any, ...]] = [
            (networks, n),
            (plain, folder, n),
            (classified, "classify, radius given", given, rows, {}),
            (classified, "classify, radius measured", measured, rows, {}),
            (classified, "classify, --tta 8", given.with_name("targets.fits"), n, {"tta": 8}),
            (classified, "classify, float32", given, rows, {"dtype": "float32"}),
            (survey_image, folder, 600 if options.quick else 3600),
            (start, folder),
            (fetched, 20 * scale),
            (appended, 100_000 * scale),
            (opened, folder, 4000),
            (journalled, folder, n),
            (on_clusters, n),
            (training, scale),
            (reported, folder, rows),
        ]
        each_alone = None if options.quick else 1  # a quick one shares a process: imports take longer than all else
        context = get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=each_alone) as pool:
            pool.submit(survey, folder, n).result()
            for function, *arguments in tasks:
                keywords = arguments.pop() if arguments and isinstance(arguments[-1], dict) else {}
                done = pool.submit(function, *arguments, **keywords).result()
                for line in done if isinstance(done, list) else [done]:
                    lines.append(line)
                    print(line, flush=True)
    print()
    for text in ratios(lines):
        print(text)
    if options.zoobot:
        print(f"\nResNet50 beside Zoobot:\n{zoobot(options.zoobot, 64 if options.quick else 512)}")


if __name__ == "__main__":
    main()
