"""Bounds: labels with only a lower or an upper limit.

A class is often a threshold on vote fractions: it only tells on which side of the threshold the votes are. Other bounds
follow in the tree of questions: an answer has at most the votes of its parent, and the answers of a question share
them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from galmorph.schemas import LabelSchema

# A bound closer than this to 0 or 1 counts as no limit.
_TRIVIAL = 1e-6


def propagate(
    schema: LabelSchema, lower: NDArray[np.floating], upper: NDArray[np.floating]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the bounds that follow from given ones in the tree of questions.

    The answers of a question add up to their parents (:meth:`galmorph.schemas.LabelSchema.reached`).

    Parameters
    ----------
    lower, upper : ndarray, shape (n, n_labels)
        NaN where there is no bound.

    Returns
    -------
    tuple of ndarray, float32, shape (n, n_labels)
        Lower and upper bounds; NaN where nothing follows.
    """
    low, high = np.nan_to_num(lower.astype(float), nan=0.0), np.nan_to_num(upper.astype(float), nan=1.0)
    for _ in range(2 * len(schema.questions)):
        before = low.copy(), high.copy()
        for columns, parents in zip(schema.slices, schema.parents, strict=True):
            answers = list(range(columns.start, columns.stop))
            asked = list(parents)
            if asked:
                _limit(low, high, asked, low[:, answers].sum(axis=1), high[:, answers].sum(axis=1))
                _limit(low, high, answers, low[:, asked].sum(axis=1), high[:, asked].sum(axis=1))
            else:
                _limit(low, high, answers, np.ones(len(low)), np.ones(len(low)))
        if np.array_equal(before[0], low) and np.array_equal(before[1], high):
            break
    has_low, has_high = low > _TRIVIAL, high < 1 - _TRIVIAL
    return np.where(has_low, low, np.nan).astype(np.float32), np.where(has_high, high, np.nan).astype(np.float32)


def _limit(
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    terms: Sequence[int],
    least: NDArray[np.float64],
    largest: NDArray[np.float64],
) -> None:
    """Narrow the bounds of terms whose sum is between two values: a term is what the others leave of it."""
    for term in terms:
        others = [other for other in terms if other != term]
        high[:, term] = np.minimum(high[:, term], largest - low[:, others].sum(axis=1))
        low[:, term] = np.maximum(low[:, term], least - high[:, others].sum(axis=1))
