"""Scores of predicted probabilities against votes or classes, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import SampleError
from galmorph.models import conformal
from galmorph.schemas import LabelSchema, confusion, squared_errors

N_BOOTSTRAP = 1000
N_BINS = 15  # equal bins of the expected calibration error
N_DRAWS = 1000  # draws of labels from the predictions, for the error by chance
# Question 1 counts as answered where its largest vote fraction reaches this: a majority.
MAJORITY = 0.5

# Answers whose shares are reported with bias and rmse, where a sample has them.
SHARES = ("smooth_or_featured_featured_or_disk", "disk_edge_on_no", "has_spiral_arms_yes")

Array = NDArray[np.floating[Any]]


def scores(
    schema: LabelSchema, truth: Array, predicted: Array, seed: int = 0, *, set_threshold: float | None = None
) -> dict[str, float | int]:
    """Score predictions: class scores for classes, errors of the vote fractions for a tree.

    Where the first question has one true answer, both hold ``coverage`` and ``set_size`` of the conformal sets.

    Parameters
    ----------
    truth, predicted : ndarray, shape (n, n_labels)
        ``truth`` is NaN where unknown.
    seed : int
        Seed of the bootstrap over galaxies.
    set_threshold : float, optional
        Threshold of the conformal sets (:meth:`galmorph.models.card.ModelCard.set_threshold`).

    Raises
    ------
    SampleError
        If there are no galaxies or none has a label.
    """
    if not len(truth) or np.isnan(truth).all():
        raise SampleError("There are no labelled galaxies in this part of the data.")
    result = (class_scores if schema.is_classes else fraction_scores)(schema, truth, predicted, seed)
    if set_threshold is not None:
        result |= conformal.set_scores(schema, truth, predicted, set_threshold)
    return result


def fraction_scores(schema: LabelSchema, truth: Array, predicted: Array, seed: int = 0) -> dict[str, float | int]:
    """Score vote fractions over the columns that have labels.

    ``rmse`` pools all labelled fractions of all galaxies, as the Galaxy Zoo Challenge does; ``rmse_low`` and
    ``rmse_high`` bound it at 95 % under resampling of galaxies. ``accuracy`` is that of the first question's most
    probable answer where its largest fraction is at least 0.5; ``ece`` and ``ece_95`` are those of its probabilities,
    where the question asks for a class.
    """
    has_label = ~np.isnan(truth)
    per_galaxy = np.stack([squared_errors(truth, predicted).sum(axis=1), has_label.sum(axis=1)], axis=1)

    def rmse(rows: NDArray[np.int64]) -> dict[str, float]:
        total, count = per_galaxy[rows].sum(axis=0)
        return {"rmse": float(np.sqrt(total / max(count, 1)))}

    first = schema.slices[0]
    answered = has_label[:, first].all(axis=1) & (np.nan_to_num(truth[:, first]).max(axis=1) >= MAJORITY)
    right = predicted[answered, first].argmax(axis=1) == truth[answered, first].argmax(axis=1)
    n_labelled = int(has_label.any(axis=1).sum())
    result: dict[str, float | int] = {"n": n_labelled, **with_intervals(rmse, len(truth), seed)}
    result["mse"] = float(result["rmse"]) ** 2
    result["n_columns"] = int(has_label.any(axis=0).sum())
    if answered.any():
        result["accuracy"] = float(right.mean())
    if answered.any() and schema.has_classes:
        confidence = predicted[answered, first].max(axis=1)
        result["ece"] = calibration_error(confidence, right)
        result["ece_95"] = chance_calibration_error(confidence, seed)
    return result


def class_scores(schema: LabelSchema, truth: Array, predicted: Array, seed: int = 0) -> dict[str, float | int]:
    """Score classes: accuracy, macro averages over the classes present, and calibration errors."""
    true, best = truth.argmax(axis=1), predicted.argmax(axis=1)
    n_labels = len(schema.labels)

    def rates(rows: NDArray[np.int64]) -> dict[str, float]:
        matrix = confusion(true[rows], best[rows], n_labels)
        hits, truths, claims = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
        present = truths > 0
        recall = hits[present] / truths[present]
        precision = hits[present] / np.maximum(claims[present], 1)
        f1 = 2 * hits[present] / (truths + claims)[present]
        return {
            "accuracy": float(hits.sum() / len(rows)),
            "balanced_accuracy": float(recall.mean()),
            "precision": float(precision.mean()),
            "recall": float(recall.mean()),
            "f1": float(f1.mean()),
        }

    chosen = predicted[np.arange(len(true)), true]
    return {
        "n": len(true),
        **with_intervals(rates, len(true), seed),
        "nll": float(-np.log(np.clip(chosen, 1e-12, None)).mean()),
        "brier": float(((predicted - truth) ** 2).sum(axis=1).mean()),
        "ece": calibration_error(predicted.max(axis=1), best == true),
        "ece_95": chance_calibration_error(predicted.max(axis=1), seed),
    }


def with_intervals(
    score: Callable[[NDArray[np.int64]], Mapping[str, float]], n_galaxies: int, seed: int
) -> dict[str, float | int]:
    """Return scores of all galaxies and their 95 % bootstrap intervals, as ``<score>_low`` and ``<score>_high``.

    Parameters
    ----------
    score : callable
        ``score(rows)`` gives named scores of some galaxies.
    """
    generator = np.random.default_rng(seed)
    draws = [score(generator.integers(n_galaxies, size=n_galaxies)) for _ in range(N_BOOTSTRAP)]
    result: dict[str, float | int] = {}
    for name, value in score(np.arange(n_galaxies)).items():
        low, high = np.quantile([draw[name] for draw in draws], [0.025, 0.975])
        result |= {name: value, f"{name}_low": float(low), f"{name}_high": float(high)}
    return result


def calibration_error(confidence: Array, right: NDArray[np.bool_]) -> float:
    """Return the expected calibration error over 15 equal bins (Guo et al. 2017, eq. 3)."""
    bins = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
    gaps = [abs(right[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    return float(sum(gaps))


def chance_calibration_error(confidence: Array, seed: int = 0) -> float:
    """Return the calibration error that perfectly calibrated predictions stay below in 95 of 100 samples of this size.

    It is the 95th percentile of :func:`calibration_error` where the labels are drawn from the predictions themselves:
    an error below it may be chance.

    Parameters
    ----------
    confidence : ndarray, shape (n,)
        Probability of the predicted class.
    """
    generator = np.random.default_rng(seed)
    bins = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
    claimed = np.bincount(bins, confidence, N_BINS)
    right = (generator.random(len(confidence)) < confidence for _ in range(N_DRAWS))
    errors = [np.abs(np.bincount(bins, draw, N_BINS) - claimed).sum() / len(confidence) for draw in right]
    return float(np.quantile(errors, 0.95))


def share_errors(schema: LabelSchema, truth: Array, predicted: Array) -> dict[str, dict[str, float]]:
    """Return bias and rmse of some answers' shares among those who were asked, where the truth is known.

    Parameters
    ----------
    truth, predicted : ndarray, shape (n, n_labels)
        Cumulative form; ``truth`` is NaN where unknown.

    Returns
    -------
    dict
        By label of :data:`SHARES`: ``n``, ``bias``, ``rmse`` and ``truth_std``, the spread of the true shares.
    """
    errors = {}
    true_shares, shares = schema.answers(truth), schema.answers(predicted)
    for label in SHARES:
        index = schema.labels.index(label) if label in schema.labels else None
        if index is None or np.isnan(true_shares[:, index]).all():
            continue
        has_share = np.isfinite(true_shares[:, index])
        error = shares[has_share, index] - true_shares[has_share, index]
        errors[label] = {
            "n": int(has_share.sum()),
            "bias": float(error.mean()),
            "rmse": float(np.sqrt((error**2).mean())),
            "truth_std": float(true_shares[has_share, index].std()),
        }
    return errors
