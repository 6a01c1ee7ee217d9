"""What one GPU makes of it, in three minutes: classification, training steps, memory, and the tests marked ``gpu``.

    python benchmarks/gpu.py [--device cuda] [--small] [--parts planes,cutouts,same,train,tests] [--json FILE]

Data are made here. ``--small --device cpu`` tries it where there is no GPU; its figures mean nothing. The parts:

- ``planes``: stamps cut from planes that lie on the device, to probabilities, batches of 256 to 2,048, with the batch's
  positions copied on a stream of their own, with and without CUDA graphs; and the network alone, as it was trained and
  folded, in bfloat16 and channels last: the share is that of the fastest of these;
- ``cutouts``: `galmorph classify` of FITS cubes with 1 to 16 threads that read;
- ``same``: probabilities against the CPU's float32 (bound: 0.02), and the bytes of two runs;
- ``train``: steps a second at 192 px of MobileNet V2 and ResNet50 with autocast, with and without torch.compile;
- ``tests``: the tests marked ``gpu``.

Each part prints the most memory that it took on the device. What fails is printed and stops no other part.
"""

from __future__ import annotations

import argparse
import json
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


@torch.inference_mode()
def planes(device: torch.device, small: bool) -> Iterator[tuple[str, Any]]:
    """From planes to probabilities, and the network alone."""
    from galmorph.images.framing import cut
    from galmorph.models.model import load
    from galmorph.models.predictor import Predictor

    model = load(MODEL)
    predictor = Predictor(model, str(device), "bfloat16")
    normalization = model.card.inputs[0].normalization
    side, size = (600, model.card.input_size) if small else (3600, model.card.input_size)
    generator = np.random.default_rng(0)
    flux = generator.normal(0, 0.01, (3, side, side)).astype(np.float32)
    on_device = torch.from_numpy(flux).to(device)
    seconds = 0.1 if small else 2.0
    bare = 0.0
    for batch in (16,) if small else (256, 512, 1024, 2048):
        images = torch.rand(batch, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
        trained = load(MODEL).network.to(device, torch.bfloat16, memory_format=torch.channels_last)
        half = images.bfloat16()
        alone = {"as trained": lambda net=trained, x=half: net(x), "folded": lambda x=images: predictor.network(x)}
        for name, call in alone.items():
            yield f"network {name}, {batch}", (found := rate(call, batch, device, seconds))
            bare = max(bare, found)
            if device.type == "cuda":
                yield f"network {name}, {batch}, CUDA graph", (found := rate(graphed(call), batch, device, seconds))
                bare = max(bare, found)
        x, y = generator.uniform(100, side - 100, (2, batch))
        width = generator.uniform(40, 120, batch)

        def whole(x: Any = x, y: Any = y, width: Any = width) -> Any:
            stamps = cut(flux, x, y, width, size, planes=on_device)
            return predictor.judge(normalization.network_input(normalization.rgb(stamps)))

        yield f"planes to probabilities, {batch}", (found := rate(whole, batch, device, seconds))
        yield f"share of the bare network, {batch}", found / bare
        if device.type == "cuda":
            aside = torch.cuda.Stream()

            def overlapped(aside: Any = aside, x: Any = x, y: Any = y, width: Any = width) -> Any:
                with torch.cuda.stream(aside):
                    stamps = cut(flux, x, y, width, size, planes=on_device)
                torch.cuda.current_stream().wait_stream(aside)
                return predictor.judge(normalization.network_input(normalization.rgb(stamps)))

            yield f"planes to probabilities, {batch}, stamps on a stream", rate(overlapped, batch, device, seconds)


def cutouts(device: torch.device, small: bool) -> Iterator[tuple[str, Any]]:
    """`classify` of cubes of 256 px, by the threads that read."""
    from classify import made_survey

    from galmorph import classify

    n = 64 if small else 4096
    with tempfile.TemporaryDirectory() as name:
        table = made_survey(Path(name), n, 256, radius=True)
        for workers in (1, 2) if small else (1, 4, 8, 16):
            options = {"device": str(device), "workers": workers, "overwrite": True}
            summary = classify(table, out=Path(name, "out.fits"), **options)
            yield f"cutouts to probabilities, {workers} threads", n / summary.profile["total"]
            yield f"seconds by step, {workers} threads", {k: round(v, 2) for k, v in summary.profile.items()}


def same(device: torch.device, small: bool) -> Iterator[tuple[str, Any]]:
    """Probabilities against the CPU's float32, and the bytes of two runs."""
    from astropy.io import fits
    from classify import made_survey

    from galmorph import classify

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = made_survey(folder, 32 if small else 512, 128, radius=True)
        runs = {"cpu.fits": ("cpu", "float32"), "a.fits": (str(device), "auto"), "b.fits": (str(device), "auto")}
        for out, (where, dtype) in runs.items():
            classify(table, out=folder / out, device=where, dtype=dtype, record_provenance=False)
        tables = [fits.getdata(folder / out) for out in runs]
        p = [np.column_stack([each[c] for c in each.names if c.startswith("p_")]) for each in tables]
        yield "largest change of a probability from the CPU's float32", float(np.nanmax(np.abs(p[0] - p[1])))
        yield "two runs give the same values", bool(tables[1].tobytes() == tables[2].tobytes())


def train(device: torch.device, small: bool) -> Iterator[tuple[str, Any]]:
    """Steps of training on tensors that lie ready."""
    from train import SCHEMA, Stepper, ready_batch

    from galmorph import registry

    n, size = (4, 64) if small else (128, 192)
    batch = ready_batch(n, size, device)
    for name in ("mobilenet_v2", "resnet50"):
        for compiled in (False,) if small else (False, True):
            network = registry.load("backbones", name).build(len(SCHEMA.labels)).to(device)
            network = network.to(memory_format=torch.channels_last).train()
            began = time.perf_counter()
            step = Stepper(torch.compile(network) if compiled else network, device, torch.bfloat16)
            step(batch)
            how = f"{name}, batches of {n}" + (", compiled" if compiled else "")
            yield f"first step, {how}, s", time.perf_counter() - began
            yield f"training steps, {how}", rate(lambda step=step: step(batch), 1, device, 0.1 if small else 4.0)


def tests(device: torch.device, small: bool) -> Iterator[tuple[str, Any]]:
    """The tests marked ``gpu``."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", str(ROOT / "tests" / "models")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    yield "tests marked gpu", done.stdout.strip().splitlines()[-1]


PARTS = {"planes": planes, "cutouts": cutouts, "same": same, "train": train, "tests": tests}


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="To see that it runs.")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--json", type=Path, help="Where the figures go.")
    options = parser.parse_args()
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
    print(f"torch {torch.__version__}, {name}", flush=True)
    figures: Figures = {"torch": torch.__version__, "device": name}
    for part in options.parts.split(","):
        began = time.perf_counter()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        try:
            for what, value in PARTS[part](device, options.small):
                figures[what] = value
                print(f"  {what}: {value:.4g}" if isinstance(value, float) else f"  {what}: {value}", flush=True)
        except Exception:
            figures[f"{part} failed"] = traceback.format_exc()
            traceback.print_exc()
        if device.type == "cuda":
            figures[f"{part}, peak memory MB"] = torch.cuda.max_memory_allocated() / 1e6
            print(f"  memory: {torch.cuda.max_memory_allocated() / 1e6:.0f} MB")
        print(f"{part}: {time.perf_counter() - began:.0f} s", flush=True)
        if options.json:
            options.json.write_text(json.dumps(figures, indent=1))
    sys.exit(any(key.endswith(" failed") for key in figures))


if __name__ == "__main__":
    main()
