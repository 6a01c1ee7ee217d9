"""Optimisation: what is learnt when and how fast, and what a step of training is fed with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from galmorph.models.backbones import Backbone
from galmorph.schemas import LabelSchema
from galmorph.threads import ahead
from galmorph.training.config import TrainConfig
from galmorph.training.dataset import Dataset
from galmorph.training.processes import Processes


def parameter_groups(network: nn.Module, backbone: Backbone, config: TrainConfig) -> list[dict[str, Any]]:
    """Head and backbone at their own learning rates; no weight decay on vectors (biases, batch normalisation)."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((name.startswith(backbone.head), parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "peak_lr": config.head_lr if is_head else config.lr,
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (is_head, decays), parameters in sorted(groups.items())
    ]


def set_learning_rate(optimizer: torch.optim.Optimizer, config: TrainConfig, epoch: float) -> None:
    """Linear warm-up, then half a cosine down to nothing at the last epoch, or the same to the end."""
    rise = min(1.0, (epoch + 0.05) / max(config.warmup_epochs, 0.05))
    fall = 1.0 if config.schedule == "constant" else 0.5 * (1 + math.cos(math.pi * epoch / config.epochs))
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * rise * fall


def set_learning_parts(network: nn.Module, backbone: Backbone, config: TrainConfig, epoch: int) -> None:
    """Put the network into training mode, with the parts frozen that do not learn in an epoch.

    The head learns always; the rest never (not ``fine_tune``), from the start, or from its end to its beginning over
    ``unfreeze_epochs``. What is frozen keeps its batch statistics too.
    """
    network.train()
    below = [name for name, _ in network.named_parameters() if not name.startswith(backbone.head)]
    learnt = min(1.0, epoch / config.unfreeze_epochs) if config.unfreeze_epochs else 1.0
    frozen = set(below[: round(len(below) * (1 - learnt))]) if config.fine_tune else set(below)
    for name, parameter in network.named_parameters():
        parameter.requires_grad = name not in frozen
    if not config.fine_tune:
        network.eval()
    for module in network.modules():
        own = list(module.parameters(recurse=False))
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()


def epoch_order(
    taught: NDArray[np.int64], known: NDArray[np.bool_], size: int, generator: torch.Generator
) -> NDArray[np.int64]:
    """Return the rows of an epoch in random order.

    Parameters
    ----------
    taught : ndarray of int64
        Rows that may be learnt from.
    known : ndarray of bool
        Which rows of the dataset have labels that are known exactly; they come first where not all fit in.
    size : int
        Rows of an epoch; 0: all.
    generator : torch.Generator
    """
    order = taught[torch.randperm(len(taught), generator=generator).numpy()]
    if not size or size >= len(order):
        return order
    chosen = order[np.argsort(~known[order], kind="stable")][:size]
    return chosen[torch.randperm(size, generator=generator).numpy()]


def class_weights(schema: LabelSchema, fractions: Tensor, power: float) -> Tensor:
    """Return the weight of each answer of the first question: its rarity to a power, 1 on average over the galaxies.

    Parameters
    ----------
    schema : LabelSchema
    fractions : Tensor, shape (n, n_labels)
        Of the galaxies that are trained on; NaN where unknown.
    power : float
        0: all alike; 1: all classes have the same say together.

    Returns
    -------
    Tensor, float32, shape (n_answers,)
        1 for answers that no galaxy has.
    """
    counts = fractions[:, schema.slices[0]].nan_to_num().double().sum(dim=0)
    weights = torch.where(counts > 0, counts.clamp(min=1e-9) ** -power, 0.0)
    weights = weights * counts.sum() / (weights * counts).sum().clamp(min=1e-9)
    return torch.where(counts > 0, weights, 1.0).float()


def galaxy_weights(schema: LabelSchema, fractions: Tensor, weights: Tensor) -> Tensor:
    """Return the weight of each galaxy, shape (n,), by its classes; 1 where nothing is known of them."""
    first = fractions[:, schema.slices[0]]
    return torch.where(first.isnan().any(dim=1), 1.0, first.nan_to_num() @ weights)


@dataclass(frozen=True)
class Piece:
    """What is worked through at once: a batch, or this process's part of it.

    Attributes
    ----------
    rgb : Tensor, float32, shape (n, 3, size, size)
        Augmented pictures, 0..1.
    targets : Tensor, float32, shape (n, n_labels)
    votes : Tensor, float32, shape (n,)
    weights : Tensor, float32, shape (n,)
        Of the galaxies: less than 1 where the targets are only what a model says.
    lower, upper : Tensor, float32, shape (n, n_labels), optional
        Bounds, NaN where there is none.
    share : float
        Its part of the galaxies of the batch; 0 for a process that the batch has no galaxy for.
    ends_batch : bool
    """

    rgb: Tensor
    targets: Tensor
    votes: Tensor
    weights: Tensor
    lower: Tensor | None
    upper: Tensor | None
    share: float
    ends_batch: bool


def pieces(
    dataset: Dataset,
    targets: Tensor,
    order: NDArray[np.int64],
    config: TrainConfig,
    epoch: int,
    generator: torch.Generator,
    device: torch.device,
    processes: Processes,
) -> Iterator[Piece]:
    """Return this process's pieces of an epoch's batches.

    For a GPU each is made in a thread while the one before is learnt from.

    Parameters
    ----------
    dataset : Dataset
    targets : Tensor, shape (n, n_labels)
        Of all its rows.
    order : ndarray of int64
        Rows in the order of the epoch.
    config : TrainConfig
    epoch : int
    generator : torch.Generator
        For the augmentation.
    device : torch.device
        Where pieces are augmented.
    processes : Processes
    """
    chosen: list[tuple[NDArray[np.int64], float, bool]] = []
    for start in range(0, len(order), config.batch_size):
        batch = order[start : start + config.batch_size]
        parts = np.array_split(batch, processes.n * config.accumulate)[processes.rank :: processes.n]
        kept = [part for part in parts if len(part)] or [parts[0]]
        for i, part in enumerate(kept):
            # Batch normalisation cannot learn from one galaxy alone: it is seen twice.
            twice = part.repeat(2) if len(part) == 1 else part
            chosen.append((twice, len(part) / len(batch), i == len(kept) - 1))

    def made(number: int) -> Piece:
        rows, share, ends_batch = chosen[number]
        images, _ = dataset.batch(rows)
        answers, votes = targets[rows].to(device), dataset.votes[rows].to(device)
        unlabelled = torch.from_numpy(dataset.unlabelled[rows]).to(device)
        weights = torch.where(unlabelled, config.unlabelled_weight, 1.0)
        lower, upper = (None if b is None else b[rows].to(device) for b in (dataset.lower, dataset.upper))
        if not len(rows):
            return Piece(images, answers, votes, weights, lower, upper, share, ends_batch)
        rgb = config.augmentation(images.to(device), dataset.view, config.input_size, generator)
        if unlabelled.any():
            plain = images[unlabelled.cpu()].to(device)
            rgb[unlabelled] = config.strong(plain, dataset.view, config.input_size, generator)
        if config.mixup:
            # Seeded by the piece, so that a resumed run draws the same.
            random = np.random.default_rng([config.seed, epoch, processes.rank, number])
            own = (rgb, answers, votes, weights, *(bound for bound in (lower, upper) if bound is not None))
            rgb, answers, votes, weights, *bounds = _mixed(random, config.mixup, *own)
            lower, upper = bounds or (None, None)
        return Piece(rgb, answers, votes, weights, lower, upper, share, ends_batch)

    made_pieces = map(made, range(len(chosen)))
    # On the CPU a thread would only take the cores from the network.
    return made_pieces if device.type == "cpu" else ahead(made_pieces)


def _mixed(random: np.random.Generator, mixup: float, *values: Tensor) -> tuple[Tensor, ...]:
    """Return each picture, its targets and its votes mixed with another's of the piece (Zhang et al. 2018)."""
    n = len(values[0])
    share = random.beta(mixup, mixup, n).astype(np.float32)
    share, other = np.maximum(share, 1 - share), random.permutation(n)
    result = []
    for value in values:
        own = torch.from_numpy(share).to(value.device).view(n, *[1] * (value.ndim - 1))
        result.append(own * value + (1 - own) * value[torch.from_numpy(other).to(value.device)])
    return tuple(result)
