"""What the violation of a bound costs in training, beside the loss of what is known exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from galmorph.models.model import probabilities
from galmorph.schemas import LabelSchema


def violations(values: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Return by how much values lie outside their bounds (NaN: none), 0 inside, of their shape."""
    below = (lower - values).clamp(min=0)
    above = (values - upper).clamp(min=0)
    return torch.where(lower.isnan(), 0.0, below.nan_to_num()) + torch.where(upper.isnan(), 0.0, above.nan_to_num())


def clip(values: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Return values moved to the nearest ones within their bounds (NaN: none)."""
    values = torch.where(lower.isnan(), values, torch.maximum(values, lower.nan_to_num()))
    return torch.where(upper.isnan(), values, torch.minimum(values, upper.nan_to_num()))


def squared_hinge(predicted: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Return the squares of the violations: the squared error against the nearest value that is allowed."""
    return violations(predicted, lower, upper).square()


def binary_divergence(predicted: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of a probability from the nearest one that is allowed, 0 inside."""
    nearest = clip(predicted.detach(), lower, upper)
    p = predicted.clamp(1e-6, 1 - 1e-6)
    divergence = torch.special.xlogy(nearest, nearest / p) + torch.special.xlogy(1 - nearest, (1 - nearest) / (1 - p))
    return torch.where(violations(predicted.detach(), lower, upper) > 0, divergence, 0.0)


@dataclass(frozen=True)
class BoundedLoss:
    """A loss of what is known exactly, and of what is bounded.

    Beside squared errors a violation costs its square, and the mean is taken over all fractions that are known or
    bounded; beside a likelihood it costs a divergence, and the mean is taken over the galaxies.

    Attributes
    ----------
    loss : callable
        One of :data:`galmorph.models.model.LOSSES`.
    squares : bool
        Whether it is one of squared errors.
    weight : float
        Of the violations.
    """

    loss: Callable[..., Tensor]
    squares: bool
    weight: float = 1.0

    def __call__(
        self,
        schema: LabelSchema,
        logits: Tensor,
        fractions: Tensor,
        weights: Tensor | None = None,
        votes: Tensor | None = None,
        lower: Tensor | None = None,
        upper: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of a batch.

        Parameters
        ----------
        schema, logits, fractions, weights, votes
            As for :func:`galmorph.models.model.mse`.
        lower, upper : Tensor, shape (n, n_labels), optional
            Bounds on fractions, NaN where there is none.
        """
        known = self.loss(schema, logits, fractions, weights, votes)
        if lower is None or upper is None:
            return known
        penalty = squared_hinge if self.squares else binary_divergence
        each = penalty(probabilities(schema, logits), lower, upper).sum(dim=1)
        each = each if weights is None else each * weights
        if not self.squares:
            return known + self.weight * each.mean()
        n_known = (~fractions.isnan()).sum()
        n_bounded = (~(lower.isnan() & upper.isnan())).sum()
        return (known * n_known + self.weight * each.sum()) / (n_known + n_bounded).clamp(min=1)
