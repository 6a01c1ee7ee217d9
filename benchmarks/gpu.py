"""What one GPU makes of it, in three minutes: classification, training steps, memory, and the tests marked ``gpu``.

    python benchmarks/gpu.py [--device cuda] [--small] [--parts planes,cutouts,same,train,tests,...] [--json FILE]

Data are made here. ``--small --device cpu`` tries it where there is no GPU; its figures mean nothing. The parts, none
of which takes longer than its share of the time (``LIMITS``):

- ``planes``: the network alone, as trained and as it is folded, channels last or not, with and without CUDA graphs;
  then stamps cut from planes that lie on the device, to probabilities, batches of 256 to 2,048: without graphs, with
  the network as one, with all behind the stamps as one, and with the next stamps cut on a stream of their own. The
  share is that of the fastest of both. Then the milliseconds of each step, and the kernels that take most of the time;
- ``cutouts``: `galmorph classify` of FITS cubes with 1 to 16 readers, processes and threads;
- ``same``: probabilities against the CPU's float32 (bound: 0.02), and the bytes of two runs;
- ``train``: steps a second at 192 px of MobileNet V2 and ResNet50 with autocast;
- ``tests``: the tests marked ``gpu``;
- ``compiled``: the network and the training steps with torch.compile.

Each part prints the most memory that it took on the device. What fails or takes too long is printed and stops no other
part. With ``$OUT`` set, the table of kernels is written to ``$OUT/kernels.txt`` too.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests" / "support")]
MODEL = "galaxyzoo2-mobilenet_v2"
LIMITS = {"planes": 50, "cutouts": 100, "same": 25, "train": 25, "tests": 50, "compiled": 40}
Figures = dict[str, Any]


def rate(call: Callable[[], Any], n: int, device: torch.device, seconds: float) -> float:
    """Return how many things a second a call does that does `n`, over about so many seconds, waiting at the end."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    for _ in range(2):
        call()
    wait()
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for _ in range(4):
            call()
        wait()
        done += 4
    return done * n / (time.perf_counter() - began)


def graphed(call: Callable[[], Any]) -> Callable[[], Any]:
    """Return a call as a CUDA graph; its inputs and outputs stay where they are."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def tried(name: str, measure: Callable[[], float]) -> tuple[str, Any]:
    """Return a name with what is measured, or with why it cannot be."""
    try:
        return name, measure()
    except TimeoutError:
        raise
    except Exception as error:
        return name, f"failed: {type(error).__name__}: {error}"[:300]


class Planes:
    """Planes on a device, with positions in them, and what takes stamps to probabilities."""

    def __init__(self, device: torch.device, side: int) -> None:
        from galmorph.models.model import load
        from galmorph.models.predictor import Predictor

        self.device, self.side = device, side
        self.trained = load(MODEL).network.to(device, torch.bfloat16)
        self.predictor = Predictor(load(MODEL), str(device), "bfloat16")
        card = self.predictor.model.card
        self.normalization, self.size = card.inputs[0].normalization, card.input_size
        self.generator = np.random.default_rng(0)
        self.flux = self.generator.normal(0, 0.01, (3, side, side)).astype(np.float32)
        self.on_device = torch.from_numpy(self.flux).to(device)

    def stamps(self, batch: int) -> Callable[[], torch.Tensor]:
        """Return what cuts the stamps of a batch."""
        from galmorph.images.framing import cut

        x, y = self.generator.uniform(100, self.side - 100, (2, batch))
        width = self.generator.uniform(40, 120, batch)
        return lambda: torch.stack(cut(self.flux, x, y, width, self.size, planes=self.on_device))

    def pictures(self, stamps: torch.Tensor) -> torch.Tensor:
        """Return the network's inputs."""
        return self.normalization.network_inputs(stamps).contiguous(memory_format=torch.channels_last)

    def behind(self, stamps: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return probabilities and the like of stamps, without a graph."""
        return self.predictor._judge(self.pictures(stamps))


def bare(made: Planes, batch: int, seconds: float) -> Iterator[tuple[str, Any]]:
    """Yield the rates of the network alone."""
    device = made.device
    images = torch.rand(batch, 3, made.size, made.size, device=device)
    last = images.contiguous(memory_format=torch.channels_last)
    trained_last = made.trained.to(memory_format=torch.channels_last)
    calls = {
        "as trained, channels last": lambda: trained_last(last.bfloat16()),
        "folded, channels last": lambda: made.predictor.network(last),
        "folded": lambda: made.predictor.network(images),
    }
    for name, call in calls.items():
        if name != "folded":
            yield tried(f"network {name}, {batch}", lambda call=call: rate(call, batch, device, seconds))
        if device.type == "cuda":
            yield tried(
                f"network {name}, {batch}, CUDA graph", lambda call=call: rate(graphed(call), batch, device, seconds)
            )


def whole(made: Planes, batch: int, seconds: float) -> Iterator[tuple[str, Any]]:
    """Yield the rates from planes to probabilities."""
    from galmorph.models.cuda_graph import Graphs

    device, stamps = made.device, made.stamps(batch)
    name = f"planes to probabilities, {batch}"
    yield tried(name, lambda: rate(lambda: made.behind(stamps()), batch, device, seconds))
    judge = made.predictor.judge
    yield tried(
        f"{name}, as classify does", lambda: rate(lambda: judge(made.pictures(stamps())), batch, device, seconds)
    )
    if device.type != "cuda":
        return
    graphs = Graphs(made.behind, device)
    graphs.capture(stamps())
    yield tried(f"{name}, one graph", lambda: rate(lambda: graphs(stamps()), batch, device, seconds))
    aside, ready = torch.cuda.Stream(), [stamps()]

    def overlapped() -> Any:
        now = torch.cuda.current_stream()
        aside.wait_stream(now)
        result = graphs(ready.pop())
        with torch.cuda.stream(aside):
            ready.append(stamps())
            ready[0].record_stream(now)
        now.wait_stream(aside)
        return result[0].to("cpu", non_blocking=True)

    yield tried(f"{name}, one graph, next stamps on a stream", lambda: rate(overlapped, batch, device, seconds))


@torch.inference_mode()
def planes(device: torch.device, small: bool) -> Iterator[tuple[str, Any]]:
    """From planes to probabilities, and the network alone."""
    made = Planes(device, 600 if small else 3600)
    seconds = 0.1 if small else 0.4
    best = {"network": 0.0, "planes": 0.0}
    for batch in (16,) if small else (512, 256, 1024, 2048):
        for part in (bare, whole):
            for name, found in part(made, batch, seconds):
                kind = name.partition(" ")[0]
                best[kind] = max(best[kind], found if isinstance(found, float) else 0.0)
                yield name, found
        yield "share of the bare network, fastest of each so far", best["planes"] / best["network"]
    batch = 16 if small else 512
    stamps = made.stamps(batch)
    cut = stamps()
    pictures = made.pictures(cut)
    network = made.predictor.network
    one_by_one = made.normalization
    steps = {
        "stamps": stamps,
        "colours": lambda: made.pictures(cut),
        "colours, step by step": lambda: one_by_one.network_input(one_by_one.rgb(cut)),
        "network": lambda: network(pictures),
    }
    for name, call in steps.items():
        yield f"ms of {batch}: {name}", 1e3 / rate(call, 1, device, seconds)
    yield "kernels", kernels(lambda: made.behind(stamps()), device)


def kernels(call: Callable[[], Any], device: torch.device) -> str:
    """Return the table of what takes most of a call's time on the device."""
    from torch.profiler import ProfilerActivity, profile

    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=kinds) as profiler:
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
    key = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    events = sorted(profiler.key_averages(), key=lambda event: -getattr(event, key))[:24]
    table = "\n".join(f"{getattr(event, key):10.0f} us {event.count:5d} x {event.key[:150]}" for event in events)
    if folder := os.environ.get("OUT"):
        Path(folder, "kernels.txt").write_text(table + "\n")
    return "\n" + table


def cutouts(device: torch.device, small: bool) -> Iterator[tuple[str, Any]]:
    """`classify` of cubes of 256 px, by what reads them."""
    from astropy.table import Table, vstack
    from classify import made_survey

    from galmorph import classify
    from galmorph.classification.reading import readers

    chosen = [("processes", 2, 2), ("threads", 2, 1)]
    if not small:
        chosen = [("threads", 16, 8), ("processes", 16, 32), ("processes", 8, 16), ("threads", 4, 4), ("threads", 1, 2)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = Table.read(made_survey(folder, 32 if small else 256, 256, radius=True))
        for kind, workers, times in chosen:
            table = vstack([made] * times)
            table.write(folder / "repeated.fits", overwrite=True)
            readers.MIN_ROWS = 0 if kind == "processes" else len(table) + 1
            seen: list[tuple[float, int]] = []
            summary = classify(
                folder / "repeated.fits",
                out=folder / "out.fits",
                device=str(device),
                workers=workers,
                overwrite=True,
                on_progress=lambda done, _, seen=seen: seen.append((time.perf_counter(), done)),
            )
            how = f"{workers} {kind}"
            yield f"cutouts to probabilities, {how}, start to end", len(table) / summary.profile["total"]
            if len(seen) > 1 and seen[-1][1] > seen[0][1]:
                rates = (seen[-1][1] - seen[0][1]) / (seen[-1][0] - seen[0][0])
                yield f"cutouts to probabilities, {how}, from the first batch on", rates
            yield f"seconds by step, {how}", {k: round(v, 2) for k, v in summary.profile.items()}


def same(device: torch.device, small: bool) -> Iterator[tuple[str, Any]]:
    """Probabilities against the CPU's float32, and the bytes of two runs."""
    from astropy.io import fits
    from classify import made_survey

    from galmorph import classify

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = made_survey(folder, 32 if small else 256, 128, radius=True)
        runs = {"cpu.fits": ("cpu", "float32"), "a.fits": (str(device), "auto"), "b.fits": (str(device), "auto")}
        for out, (where, dtype) in runs.items():
            classify(table, out=folder / out, device=where, dtype=dtype, record_provenance=False)
        tables = [fits.getdata(folder / out) for out in runs]
        p = [np.column_stack([each[c] for c in each.names if c.startswith("p_")]) for each in tables]
        yield "largest change of a probability from the CPU's float32", float(np.nanmax(np.abs(p[0] - p[1])))
        yield "two runs give the same values", bool(tables[1].tobytes() == tables[2].tobytes())


def steps(device: torch.device, small: bool, *, compiled: bool) -> Iterator[tuple[str, Any]]:
    """Steps of training on tensors that lie ready."""
    from train import SCHEMA, Stepper, ready_batch

    from galmorph import registry

    n, size = (4, 64) if small else (128, 192)
    batch = ready_batch(n, size, device)
    for name in ("mobilenet_v2", "resnet50"):
        network = registry.load("backbones", name).build(len(SCHEMA.labels)).to(device)
        network = network.to(memory_format=torch.channels_last).train()
        began = time.perf_counter()
        step = Stepper(torch.compile(network) if compiled else network, device, torch.bfloat16)
        step(batch)
        how = f"{name}, batches of {n}" + (", compiled" if compiled else "")
        yield f"first step, {how}, s", time.perf_counter() - began
        yield f"training steps, {how}", rate(lambda step=step: step(batch), 1, device, 0.1 if small else 2.0)


def train(device: torch.device, small: bool) -> Iterator[tuple[str, Any]]:
    """Steps of training."""
    yield from steps(device, small, compiled=False)


def compiled(device: torch.device, small: bool) -> Iterator[tuple[str, Any]]:
    """The network and the steps of training, compiled; skipped where the trial is small."""
    if small:
        return
    with torch.inference_mode():
        made, batch = Planes(device, 600), 512
        images = torch.rand(batch, 3, made.size, made.size, device=device).contiguous(memory_format=torch.channels_last)
        began = time.perf_counter()
        network = torch.compile(made.predictor.network)
        network(images)
        yield "first batch, network compiled, s", time.perf_counter() - began
        yield tried(f"network compiled, {batch}", lambda: rate(lambda: network(images), batch, device, 0.6))
        if device.type == "cuda":
            graph = graphed(lambda: network(images))
            yield f"network compiled, {batch}, CUDA graph", rate(graph, batch, device, 0.6)
    yield from steps(device, small, compiled=True)


def tests(device: torch.device, small: bool) -> Iterator[tuple[str, Any]]:
    """The tests marked ``gpu``."""
    names = (
        "models/test_gpu_models.py",
        "models/test_predictor.py",
        "classification/test_gpu_classify.py",
        "training/test_gpu_training.py",
    )
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "--tb=short"]
    command += [str(ROOT / "tests" / name) for name in names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        yield "failed tests", "\n" + done.stdout[-6000:] + done.stderr[-1000:]
    yield "tests marked gpu", done.stdout.strip().splitlines()[-1]


PARTS = {
    "planes": planes,
    "cutouts": cutouts,
    "same": same,
    "train": train,
    "tests": tests,
    "compiled": compiled,
}


def too_long(*_: object) -> None:
    """End a part."""
    raise TimeoutError("the part took longer than its share of the time")


def written(path: Path | None, figures: Figures) -> None:
    """Write the figures so far."""
    if path:
        path.write_text(json.dumps(figures, indent=1))


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="To see that it runs.")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--json", type=Path, help="Where the figures go.")
    options = parser.parse_args()
    signal.signal(signal.SIGALRM, too_long)
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
    print(f"torch {torch.__version__}, {name}", flush=True)
    figures: Figures = {"torch": torch.__version__, "device": name}
    for part in options.parts.split(","):
        began = time.perf_counter()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        signal.alarm(0 if device.type == "cpu" else LIMITS[part])
        try:
            for what, value in PARTS[part](device, options.small):
                figures[what] = value
                written(options.json, figures)
                print(f"  {what}: {value:.4g}" if isinstance(value, float) else f"  {what}: {value}", flush=True)
        except Exception:
            figures[f"{part} failed"] = traceback.format_exc()
            traceback.print_exc(limit=-4)
        finally:
            signal.alarm(0)
        if device.type == "cuda":
            figures[f"{part}, peak memory MB"] = torch.cuda.max_memory_allocated() / 1e6
            print(f"  memory: {torch.cuda.max_memory_allocated() / 1e6:.0f} MB")
        print(f"{part}: {time.perf_counter() - began:.0f} s", flush=True)
        written(options.json, figures)
    sys.exit(any(key.endswith(" failed") for key in figures))


if __name__ == "__main__":
    main()
