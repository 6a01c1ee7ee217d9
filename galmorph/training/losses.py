"""Losses for exact fractions, and for fractions with bounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from galmorph import registry
from galmorph.errors import ModelError
from galmorph.models.model import probabilities, question_shares
from galmorph.schemas import LabelSchema

# About how many people classify a galaxy in Galaxy Zoo.
USUAL_VOTES = 40.0


def mse(
    schema: LabelSchema, logits: Tensor, fractions: Tensor, weights: Tensor | None = None, _: Tensor | None = None
) -> Tensor:
    """Mean squared error of the cumulative probabilities over the labelled fractions (NaN: no label).

    Parameters
    ----------
    logits, fractions : Tensor, shape (n, n_labels)
    weights : Tensor, shape (n,), optional
        Weights of the galaxies.
    """
    has_label = ~fractions.isnan()
    error = ((probabilities(schema, logits) - fractions.nan_to_num()) * has_label).square()
    if weights is not None:
        error = error * weights.unsqueeze(1)
    return error.sum() / has_label.sum().clamp(min=1)


def cross_entropy(
    schema: LabelSchema, logits: Tensor, fractions: Tensor, weights: Tensor | None = None, _: Tensor | None = None
) -> Tensor:
    """Cross-entropy of each question, weighted by how often it was asked; unknown answers (NaN) are left out.

    For classes this is exactly the usual cross-entropy. For a tree a fraction in cumulative form is the answer's share
    times how often the question was asked, so summing ``-fraction * log(share)`` weights the questions rightly.
    Parameters as for :func:`mse`.
    """
    log_shares = torch.cat([logits[:, columns].log_softmax(dim=1) for columns in schema.slices], dim=1)
    per_galaxy = -(fractions.nan_to_num() * log_shares).sum(dim=1)
    return (per_galaxy if weights is None else per_galaxy * weights).mean()


def dirichlet_multinomial(
    schema: LabelSchema,
    logits: Tensor,
    fractions: Tensor,
    weights: Tensor | None = None,
    votes: Tensor | None = None,
    *,
    concentration: float = 40.0,
) -> Tensor:
    """Minus the log likelihood of each question's votes under a Dirichlet-multinomial (Walmsley et al. 2022).

    Votes scatter more than those of a multinomial distribution where people disagree: their shares are drawn from a
    Dirichlet distribution around the predicted ones, narrower for a larger concentration. A question without a label is
    left out. The loss is divided by :data:`USUAL_VOTES`, so that with an infinite concentration and that many votes it
    is the cross-entropy, up to a constant.

    Parameters
    ----------
    schema, logits, fractions, weights
        As for :func:`mse`.
    votes : Tensor, shape (n,), optional
        Number of people who answered the first question; :data:`USUAL_VOTES` where unknown (NaN).
    concentration : float
        Sum of the parameters of each question's Dirichlet distribution.
    """
    total = fractions.new_full((len(fractions),), USUAL_VOTES) if votes is None else votes.nan_to_num(nan=USUAL_VOTES)
    shares = question_shares(schema, logits).clamp(min=1e-6)
    per_galaxy = torch.zeros_like(total)
    for columns in schema.slices:
        has_label = ~fractions[:, columns].isnan().any(dim=1)
        counts, prior = fractions[:, columns].nan_to_num() * total.unsqueeze(1), shares[:, columns] * concentration
        whole, sums = prior.sum(dim=1), counts.sum(dim=1)
        answers = (torch.lgamma(prior + counts) - torch.lgamma(prior)).sum(dim=1)
        per_galaxy = per_galaxy + has_label * (torch.lgamma(whole + sums) - torch.lgamma(whole) - answers)
    return (per_galaxy if weights is None else per_galaxy * weights).mean() / USUAL_VOTES


LOSSES: Mapping[str, Callable[..., Tensor]] = {
    "mse": mse,
    "cross_entropy": cross_entropy,
    "dirichlet_multinomial": dirichlet_multinomial,
}


def loss_named(name: str) -> Callable[..., Tensor]:
    """Return a loss by name; raise ModelError if there is none."""
    if name not in LOSSES:
        raise ModelError(registry.unknown("loss", name, LOSSES))
    return LOSSES[name]


def violations(values: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Return how far values are outside their bounds (NaN: none), 0 inside, of their shape."""
    below = (lower - values).clamp(min=0)
    above = (values - upper).clamp(min=0)
    return torch.where(lower.isnan(), 0.0, below.nan_to_num()) + torch.where(upper.isnan(), 0.0, above.nan_to_num())


def clip(values: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Return values moved to the nearest ones within their bounds (NaN: none)."""
    values = torch.where(lower.isnan(), values, torch.maximum(values, lower.nan_to_num()))
    return torch.where(upper.isnan(), values, torch.minimum(values, upper.nan_to_num()))


def binary_divergence(predicted: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of a probability from the nearest one that is allowed, 0 inside."""
    nearest = clip(predicted.detach(), lower, upper)
    p = predicted.clamp(1e-6, 1 - 1e-6)
    divergence = torch.special.xlogy(nearest, nearest / p) + torch.special.xlogy(1 - nearest, (1 - nearest) / (1 - p))
    return torch.where(violations(predicted.detach(), lower, upper) > 0, divergence, 0.0)


@dataclass(frozen=True)
class BoundedLoss:
    """A loss for exact fractions and for bounded ones.

    With squared errors a violation costs its square, and the mean is over all fractions that are exact or bounded. With
    a likelihood it costs a divergence, and the mean is over the galaxies.

    Attributes
    ----------
    loss : callable
        One of :data:`LOSSES`.
    squares : bool
        Whether it is a squared error.
    weight : float
        Weight of the violations.
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
            As for :func:`mse`.
        lower, upper : Tensor, shape (n, n_labels), optional
            Bounds on fractions, NaN where there is none.
        """
        loss = self.loss(schema, logits, fractions, weights, votes)
        if lower is None or upper is None:
            return loss
        expected = probabilities(schema, logits)
        bounds = expected, lower, upper
        each = (violations(*bounds).square() if self.squares else binary_divergence(*bounds)).sum(dim=1)
        each = each if weights is None else each * weights
        if not self.squares:
            return loss + self.weight * each.mean()
        n_exact = (~fractions.isnan()).sum()
        n_bounded = (~(lower.isnan() & upper.isnan())).sum()
        return (loss * n_exact + self.weight * each.sum()) / (n_exact + n_bounded).clamp(min=1)
