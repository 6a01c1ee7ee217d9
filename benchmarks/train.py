"""The data path of training: steps a second fed from the memory-mapped cache, against steps on tensors that lie ready.

``python benchmarks/train.py [--backbone mobilenet_v2] [--device auto] [--steps 12]`` takes the same steps (forward,
backward, optimizer) on two kinds of batches, by turns, and prints the rates, the ratio of the medians (the network
never waits where it is 1; wanted: at least 0.9), and the processor time of making a batch as a share of a whole step's:

- ``fed``: pictures from the cache, augmented, as `galmorph train` does it (on a GPU one batch ahead in a thread);
- ``ready``: random tensors of the same shape, in memory.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from galmorph import registry
from galmorph.images.framing import Framing
from galmorph.models.predictor import pick_dtype
from galmorph.training.batches import MicroBatch, micro_batches
from galmorph.training.config import configure
from galmorph.training.dataset import Dataset
from galmorph.training.losses import cross_entropy
from galmorph.training.processes import Processes

SCHEMA = registry.load("schemas", "galaxy10_sdss")


def made_dataset(n: int, side: int, folder: str) -> Dataset:
    """Return a dataset of random pictures in a memory-mapped file."""
    images = np.lib.format.open_memmap(f"{folder}/images.npy", "w+", np.uint8, (n, 3, side, side))
    generator = np.random.default_rng(0)
    for image in images:
        image[:] = generator.integers(0, 256, image.shape, dtype=np.uint8)
    images.flush()
    classes = generator.integers(0, len(SCHEMA.labels), n)
    return Dataset(
        images=np.load(f"{folder}/images.npy", mmap_mode="r"),
        fractions=torch.from_numpy(np.eye(len(SCHEMA.labels), dtype=np.float32)[classes]),
        galaxies=np.array([str(i) for i in range(n)], dtype=object),
        contents=np.arange(n),
        source=np.full(n, "made", dtype=object),
        sha256={"made": ""},
        view=5.12 / 8.48,
        framing=Framing(radii=5.12),
        votes=torch.full((n,), torch.nan),
        skipped={},
    )


class Stepper:
    """A network that takes steps and measures them."""

    def __init__(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        self.network, self.device, self.dtype = network, device, dtype
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)

    def __call__(self, piece: MicroBatch) -> float:
        """Take a step, to its end on the device; return the processor time of this thread."""
        began = time.thread_time()
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits = self.network(piece.rgb.contiguous(memory_format=torch.channels_last))
        loss = cross_entropy(SCHEMA, logits.float(), piece.targets)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        loss.item()
        return time.thread_time() - began


def ready_batch(n: int, size: int, device: torch.device) -> MicroBatch:
    """Return a batch of random pictures and classes that lies on a device."""
    targets = torch.eye(len(SCHEMA.labels), device=device)[torch.randint(len(SCHEMA.labels), (n,))]
    ones = torch.ones(n, device=device)
    return MicroBatch(torch.rand(n, 3, size, size, device=device), targets, ones, ones, None, None, 1.0, True)


def main() -> None:
    """Measure and print."""
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=12, help="steps of a turn")
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    config = configure("default", ["made"], SCHEMA.name, args.backbone, batch_size=args.batch_size)
    device = Processes().device(args.device)
    dtype = pick_dtype(args.dtype, device)
    network = registry.load("backbones", config.backbone).build(len(SCHEMA.labels)).to(device)
    step = Stepper(network.to(memory_format=torch.channels_last).train(), device, dtype)
    side = config.input_size + 2 * round(config.input_size * (8.48 / 5.12 - 1) / 2)
    rates: dict[str, list[float]] = {"fed": [], "ready": []}
    with tempfile.TemporaryDirectory() as folder:
        dataset = made_dataset(args.batch_size * args.steps, side, folder)
        rows = np.random.default_rng(1).permutation(len(dataset))

        def fed(epoch: int) -> Iterator[MicroBatch]:
            generator = torch.Generator().manual_seed(epoch)
            return micro_batches(dataset, dataset.fractions, rows, config, epoch, generator, device, Processes())

        began = time.process_time()
        ready = list(fed(0))
        making_s = (time.process_time() - began) / len(ready)
        for piece in ready[:3]:
            step(piece)
        step_s = []
        for turn in range(args.turns):
            for kind, batches in (("fed", fed(turn)), ("ready", ready)):
                began = time.perf_counter()
                spent = [step(piece) for piece in batches]
                rates[kind].append(args.steps / (time.perf_counter() - began))
                if kind == "ready":
                    step_s += spent
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"{config.backbone}, {config.input_size} px, batches of {args.batch_size}, {dtype}, {where}")
    for kind, values in rates.items():
        print(f"  {kind:6s} {np.median(values):8.2f} steps/s ({', '.join(f'{value:.2f}' for value in values)})")
    ratio = np.median([a / b for a, b in zip(rates["fed"], rates["ready"], strict=True)])
    print(f"  fed / ready, median of turns: {ratio:.3f}")
    print(f"  processor time: {1e3 * making_s:.1f} ms to make a batch, {1e3 * np.median(step_s):.1f} ms the step")


if __name__ == "__main__":
    main()
