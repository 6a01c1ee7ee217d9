"""Batches of augmented pictures with their targets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from galmorph.threads import ahead
from galmorph.training.config import TrainConfig
from galmorph.training.dataset import Dataset
from galmorph.training.processes import Processes


@dataclass(frozen=True)
class MicroBatch:
    """Galaxies that go through the network at once: a batch, or this process's share of a batch.

    Attributes
    ----------
    rgb : Tensor, float32, shape (n, 3, size, size)
        Augmented pictures, 0..1.
    targets : Tensor, float32, shape (n, n_labels)
    votes : Tensor, float32, shape (n,)
    weights : Tensor, float32, shape (n,)
        Weights of the galaxies; that of unlabelled ones is set by ``unlabelled_weight``.
    lower, upper : Tensor, float32, shape (n, n_labels), optional
        Bounds, NaN where there is none.
    share : float
        Its share of the galaxies of the batch; 0 for a process without galaxies of the batch.
    """

    rgb: Tensor
    targets: Tensor
    votes: Tensor
    weights: Tensor
    lower: Tensor | None
    upper: Tensor | None
    share: float
    ends_batch: bool


def micro_batches(
    dataset: Dataset,
    targets: Tensor,
    order: NDArray[np.int64],
    config: TrainConfig,
    epoch: int,
    generator: torch.Generator,
    device: torch.device,
    processes: Processes,
) -> Iterator[MicroBatch]:
    """Return this process's micro-batches of an epoch.

    For a GPU each one is made in a thread during the training step before.

    Parameters
    ----------
    targets : Tensor, shape (n, n_labels)
        Targets of all rows of the dataset.
    order : ndarray of int64
        Rows in the order of the epoch.
    generator : torch.Generator
        Random numbers of the augmentation.
    device : torch.device
        Where the pictures are augmented.
    """
    chosen: list[tuple[NDArray[np.int64], float, bool]] = []
    for start in range(0, len(order), config.batch_size):
        batch = order[start : start + config.batch_size]
        shares = np.array_split(batch, processes.n * config.accumulate)[processes.rank :: processes.n]
        kept = [share for share in shares if len(share)] or [shares[0]]
        for i, rows in enumerate(kept):
            # Batch normalisation cannot learn from a single galaxy: it is used twice.
            twice = rows.repeat(2) if len(rows) == 1 else rows
            chosen.append((twice, len(rows) / len(batch), i == len(kept) - 1))

    def made(number: int) -> MicroBatch:
        rows, share, ends_batch = chosen[number]
        images, _ = dataset.batch(rows)
        answers, votes = targets[rows].to(device), dataset.votes[rows].to(device)
        unlabelled = torch.from_numpy(dataset.unlabelled[rows]).to(device)
        weights = torch.where(unlabelled, config.unlabelled_weight, 1.0)
        lower, upper = (None if b is None else b[rows].to(device) for b in (dataset.lower, dataset.upper))
        if not len(rows):
            return MicroBatch(images, answers, votes, weights, lower, upper, share, ends_batch)
        rgb = config.augmentation(images.to(device), dataset.view, config.input_size, generator)
        if unlabelled.any():
            plain = images[unlabelled.cpu()].to(device)
            rgb[unlabelled] = config.strong(plain, dataset.view, config.input_size, generator)
        if config.mixup:
            # Seeded by the number, so that a resumed run draws the same numbers.
            random = np.random.default_rng([config.seed, epoch, processes.rank, number])
            own = (rgb, answers, votes, weights, *(bound for bound in (lower, upper) if bound is not None))
            rgb, answers, votes, weights, *bounds = _mixed(random, config.mixup, *own)
            lower, upper = bounds or (None, None)
        return MicroBatch(rgb, answers, votes, weights, lower, upper, share, ends_batch)

    made_batches = map(made, range(len(chosen)))
    # On the CPU a thread would only take the cores from the network.
    return made_batches if device.type == "cpu" else ahead(made_batches)


def _mixed(random: np.random.Generator, mixup: float, *values: Tensor) -> tuple[Tensor, ...]:
    """Return each picture, its targets and its votes mixed with another's of the micro-batch (Zhang et al. 2018)."""
    n = len(values[0])
    share = random.beta(mixup, mixup, n).astype(np.float32)
    share, other = np.maximum(share, 1 - share), random.permutation(n)
    result = []
    for value in values:
        own = torch.from_numpy(share).to(value.device).view(n, *[1] * (value.ndim - 1))
        result.append(own * value + (1 - own) * value[torch.from_numpy(other).to(value.device)])
    return tuple(result)
