"""How far the vote fractions of single galaxies scatter around those that a model predicts.

They follow a Dirichlet distribution around the expected fractions, with one concentration a question: a fraction
``p`` scatters by ``sqrt(p (1 - p) / (1 + concentration))``. It includes the scatter of the votes (some 40 people) and
the error of the model, both measured on the validation part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.schemas import LabelSchema, squared_errors

# A question that fewer galaxies have fractions of gets the concentration of all questions together.
MIN_GALAXIES = 30
# 90 % of a normal distribution is within this many standard deviations.
NORMAL_90 = 1.645

Array = NDArray[np.floating[Any]]


def fit_concentration(schema: LabelSchema, truth: Array, expected: Array) -> list[float]:
    """Return the concentration of each question that gives the observed mean square error.

    Parameters
    ----------
    truth, expected : ndarray, shape (n, n_labels)
        Fractions of galaxies outside the training data, NaN where unknown, and those that the model predicts.
    """
    has_label = np.isfinite(truth)
    squares = squared_errors(truth, expected)
    largest = np.where(has_label, expected * (1 - expected), 0.0)

    def fitted(columns: slice) -> float:
        ratio = squares[:, columns].sum() / max(float(largest[:, columns].sum()), 1e-9)
        return round(max(1 / max(float(ratio), 1e-9) - 1, 0.0), 4)

    counts = [int(has_label[:, columns].any(axis=1).sum()) for columns in schema.slices]
    return [
        fitted(columns if count >= MIN_GALAXIES else slice(None))
        for columns, count in zip(schema.slices, counts, strict=True)
    ]


def spread(schema: LabelSchema, expected: Array, concentration: Sequence[float]) -> Array:
    """Return the standard deviation of vote fractions around expected ones (cumulative, NaN stays)."""
    each = np.empty(len(schema.labels))
    for columns, value in zip(schema.slices, concentration, strict=True):
        each[columns] = value
    return np.sqrt(np.clip(expected * (1 - expected), 0, None) / (1 + each)).astype(expected.dtype)


def spread_scores(
    schema: LabelSchema, truth: Array, expected: Array, concentration: Sequence[float]
) -> dict[str, float]:
    """Score the spread.

    Returns
    -------
    dict
        ``spread_ratio``: the root mean square error over the root mean square spread, 1 where the spread is right.
        ``spread_coverage``: the share of the fractions within 1.645 spreads; 0.90 for a normal distribution.
    """
    has_label = np.isfinite(truth)
    errors, spreads = np.abs(expected - truth)[has_label], spread(schema, expected, concentration)[has_label]
    return {
        "spread_ratio": float(np.sqrt((errors**2).mean() / max((spreads**2).mean(), 1e-12))),
        "spread_coverage": float((errors <= NORMAL_90 * spreads).mean()),
    }
