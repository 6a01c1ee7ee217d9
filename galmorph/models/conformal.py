"""Conformal sets: the fewest classes that hold the true one with the promised frequency.

Split conformal prediction with the least ambiguous sets (Sadinle, Lei & Wasserman 2019, JASA 114, 223): a class is in
the set where its probability reaches a threshold, which is the largest one at which enough galaxies of the validation
part have their true class in the set. Of all sets with that coverage these are the smallest on average.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.schemas import LabelSchema

# How often the true class is in the set.
LEVEL = 0.9
SEPARATOR = "|"

Array = NDArray[np.floating[Any]]


def fit_threshold(probability: Array, level: float = LEVEL) -> float:
    """Return the probability from which on a class belongs to the set.

    Parameters
    ----------
    probability : ndarray, shape (n,)
        Probability of the true class, for galaxies outside the training data.
    level : float
        Wanted coverage for new galaxies, 0 to 1; the actual one is between this and ``level + 1 / (n + 1)``.

    Returns
    -------
    float
        0 where there are too few galaxies for the level (at least 9 for 0.9): then every class is in the set.
    """
    kept = math.ceil((len(probability) + 1) * level)
    if kept > len(probability):
        return 0.0
    return math.floor(float(np.sort(probability)[::-1][kept - 1]) * 1e6) / 1e6  # rounded so that no galaxy leaves


def in_set(probability: Array, threshold: float) -> NDArray[np.bool_]:
    """Return which classes are in each galaxy's set, shape (n, n_classes).

    The most probable class always is, so no set is empty; without a probability (NaN) there is no set.

    Parameters
    ----------
    probability : ndarray, shape (n, n_classes)
    """
    chosen = probability >= threshold
    has_value = ~np.isnan(probability).any(axis=1)
    best = np.nan_to_num(probability[has_value], nan=-1.0).argmax(axis=1)
    chosen[np.flatnonzero(has_value), best] = True
    chosen[~has_value] = False
    return chosen


def names(schema: LabelSchema, probability: Array, threshold: float) -> NDArray[np.object_]:
    """Return each galaxy's set as text: the classes joined by ``|``, the most probable first; ``""`` without any.

    Parameters
    ----------
    probability : ndarray, shape (n, n_labels)
    """
    first = probability[:, schema.slices[0]]
    order = np.argsort(-np.nan_to_num(first), axis=1, kind="stable")
    chosen = np.take_along_axis(in_set(first, threshold), order, axis=1)
    answers = np.array(schema.questions[0].answers, dtype=object)
    sets = [SEPARATOR.join(answers[row[keep]]) for row, keep in zip(order, chosen, strict=True)]
    return np.array(sets, dtype=object)


def name_width(schema: LabelSchema, threshold: float) -> int:
    """Return the length of the longest set: the probabilities of its classes add up to 1 at most."""
    lengths = sorted(map(len, schema.questions[0].answers), reverse=True)
    largest = min(len(lengths), max(1, int(1 / threshold + 1e-4))) if threshold > 0 else len(lengths)
    return sum(lengths[:largest]) + largest - 1


def set_scores(schema: LabelSchema, truth: Array, probability: Array, threshold: float) -> dict[str, float]:
    """Return ``coverage``, how often the true class is in the set, and ``set_size``, the mean number of classes in it.

    Parameters
    ----------
    truth, probability : ndarray, shape (n, n_labels)
        Galaxies without a class are left out; if no galaxy has one, there are no scores.
    """
    classes = schema.classes(truth)
    has_class = classes >= 0
    if not has_class.any():
        return {}
    chosen = in_set(probability[has_class][:, schema.slices[0]], threshold)
    return {
        "coverage": float(chosen[np.arange(len(chosen)), classes[has_class]].mean()),
        "set_size": float(chosen.sum(axis=1).mean()),
    }
