"""Temperatures: one a question, fitted on the validation part."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from galmorph.models.model import probabilities, question_shares
from galmorph.schemas import LabelSchema

# What good models of vote fractions reach (rmse), by which squared errors are weighed against a prior.
TYPICAL_ERROR = 0.1
# The 95 % quantile of chi squared of one degree of freedom.
LIKELIHOOD_RATIO_95 = 3.841
# TYPICAL_ERROR is too small, and the ratio too large, for questions that few galaxies have fractions of. A temperature
# far below 1 also multiplies the rounding errors of bfloat16.
MIN_VOTED = 100


def fit_temperature(schema: LabelSchema, logits: Tensor, fractions: Tensor, loss: str) -> dict[str, Any]:
    """Fit one temperature a question on the validation part: by squares, or by the likelihood of the votes.

    A question keeps 1 where the votes are compatible with that (likelihood ratio, 5 %), or where fewer than `MIN_VOTED`
    galaxies have fractions of it: a temperature of few galaxies is mostly chance, and makes other probabilities worse.
    """
    log_t = torch.zeros(len(schema.questions), requires_grad=True)
    optimizer = torch.optim.LBFGS([log_t], max_iter=100, line_search_fn="strong_wolfe")
    has_label, votes = ~fractions.isnan(), fractions.nan_to_num()

    def misfit(log_t: Tensor) -> Tensor:
        """Minus the log likelihood: of the votes, or of fractions with errors of TYPICAL_ERROR."""
        temperature = log_t.exp().unbind()
        if loss != "mse":
            return -(votes * question_shares(schema, logits, temperature).clamp(min=1e-9).log()).sum()
        return (((probabilities(schema, logits, temperature) - votes) * has_label) / TYPICAL_ERROR).square().sum() / 2

    def closure() -> Tensor:
        optimizer.zero_grad()
        # The weak prior keeps a question near 1 if few galaxies have votes on it.
        total = misfit(log_t) + log_t.square().sum()
        total.backward()
        return total

    optimizer.step(closure)
    fitted = log_t.detach()
    without = fitted * ~torch.eye(len(fitted), dtype=torch.bool)  # each question in turn at 1
    gain = torch.stack([misfit(each) for each in without]) - misfit(fitted)
    significant = 2 * gain > LIKELIHOOD_RATIO_95
    if loss == "mse":
        significant &= torch.stack([has_label[:, part].any(dim=1).sum() >= MIN_VOTED for part in schema.slices])
    fitted = fitted.where(significant, 0.0)
    temperature = [round(t, 4) for t in fitted.exp().tolist()]
    method = f"temperature of each question by {loss}"
    return {"method": method, "fitted_on": "val", "n": len(logits), "temperature": temperature}
