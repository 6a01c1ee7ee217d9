"""Schedule: which layers learn when and how fast, from which galaxies, with which weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from galmorph.models.backbones import Backbone
from galmorph.schemas import LabelSchema
from galmorph.training.config import TrainConfig


def parameter_groups(network: nn.Module, backbone: Backbone, config: TrainConfig) -> list[dict[str, Any]]:
    """Return groups with their own learning rates (head, backbone), without weight decay on vectors (biases, norms)."""
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
    """Set the learning rate: linear warm-up, then half a cosine down to 0 at the last epoch, or a constant."""
    rise = min(1.0, (epoch + 0.05) / max(config.warmup_epochs, 0.05))
    fall = 1.0 if config.schedule == "constant" else 0.5 * (1 + math.cos(math.pi * epoch / config.epochs))
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * rise * fall


def freeze_layers(network: nn.Module, backbone: Backbone, config: TrainConfig, epoch: int) -> None:
    """Put the network into training mode, with the layers frozen that do not learn in an epoch.

    The head always learns. The other layers never learn (not ``fine_tune``), learn from the start, or are unfrozen from
    the last to the first over ``unfreeze_epochs``. Frozen layers keep their batch statistics too.
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
    rows: NDArray[np.int64], exact: NDArray[np.bool_], size: int, generator: torch.Generator
) -> NDArray[np.int64]:
    """Return the rows of an epoch in random order.

    Parameters
    ----------
    rows : ndarray of int64
        Rows to learn from.
    exact : ndarray of bool
        Which rows of the dataset have exact labels; they come first where an epoch is smaller than the data.
    size : int
        Number of rows in an epoch; 0: all.
    """
    order = rows[torch.randperm(len(rows), generator=generator).numpy()]
    if not size or size >= len(order):
        return order
    chosen = order[np.argsort(~exact[order], kind="stable")][:size]
    return chosen[torch.randperm(size, generator=generator).numpy()]


def class_weights(schema: LabelSchema, fractions: Tensor, power: float) -> Tensor:
    """Return the weight of each answer of the first question: its rarity to a power, 1 on average over the galaxies.

    Parameters
    ----------
    fractions : Tensor, shape (n, n_labels)
        Of the galaxies that are trained on; NaN where unknown.
    power : float
        0: all alike; 1: each class has the same total weight.

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
    """Return the weight of each galaxy, shape (n,), by its classes; 1 where it has none."""
    first = fractions[:, schema.slices[0]]
    return torch.where(first.isnan().any(dim=1), 1.0, first.nan_to_num() @ weights)


def averaging(decay: float) -> Callable[[Any, Any, Any], None]:
    """Return the update of the moving average of the weights, for ``AveragedModel(multi_avg_fn=...)``.

    Parameters
    ----------
    decay : float
        Decay per step. Over the first steps it rises as ``(1 + n) / (10 + n)``, so that the average of a short run is
        not dominated by its first weights.
    """

    def update(averaged: Any, current: Any, n_averaged: Any) -> None:
        n = int(n_averaged)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averaged, current, n_averaged)

    return update
