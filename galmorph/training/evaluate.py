"""Evaluation: scores of predicted probabilities against votes or classes, with bootstrap intervals."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import SampleError
from galmorph.files.writing import write_file
from galmorph.models import conformal
from galmorph.models.model import TRAINED_CONTENTS, TRAINED_GALAXIES, Model
from galmorph.models.predictor import Predictor
from galmorph.models.vote_spread import spread_scores
from galmorph.schemas import LabelSchema, confusion, squared_errors
from galmorph.training.conditions import measured, score_by
from galmorph.training.dataset import Dataset, Split, galaxy_hashes, load
from galmorph.training.predicting import predict

N_BOOTSTRAP = 1000
# What a model is known by: of a tree the first, of classes the second.
MAIN_SCORES = ("rmse", "accuracy")
N_BINS = 15  # equal bins of the expected calibration error
N_DRAWS = 1000  # of labels from the predictions, for the error that chance alone gives
# Question 1 counts as answered where its largest vote fraction reaches this: a majority.
MAJORITY = 0.5

# Answers whose shares are reported with bias and rmse where a sample knows them.
SHARES = ("smooth_or_featured_featured_or_disk", "disk_edge_on_no", "has_spiral_arms_yes")

Array = NDArray[np.floating[Any]]


def evaluate(
    model: Model,
    data: Sequence[str | Path],
    *,
    part: str | None = None,
    tta: int = 1,
    device: str = "auto",
    dtype: str = "auto",
    batch_size: int = 64,
    exclude: Sequence[str | Path] = (),
    out: Path | None = None,
) -> dict[str, Any]:
    """Score a model on labelled data.

    Parameters
    ----------
    model : Model
    data : sequence of str or Path
        Labelled samples, joined.
    part : str, optional
        ``train``, ``val``, ``test`` or ``all``; default ``test`` where the model was trained on the data, else ``all``.
    tta : int
        Orientations averaged, 1 to 8.
    device, dtype : str
    batch_size : int
    exclude : sequence of str or Path
        Tables of galaxies to leave out (:func:`galmorph.training.reading.excluded_keys`).
    out : Path, optional
        Folder for ``scores.json``, ``predictions.csv`` and figures.

    Returns
    -------
    dict
        The scores, ``part``, ``n_overlap`` (galaxies that took part in training) and how they were computed.

    Raises
    ------
    SampleError
        If the data cannot be used or the part is empty.
    """
    normalization = model.card.inputs[0].normalization
    dataset = load(data, model.schema, normalization.input_size, normalization.framing.radii, exclude=exclude)
    part, rows = part_rows(model, dataset, part)
    predictor = Predictor(model, device, dtype, tta)
    if not len(rows):
        raise SampleError(f"The {part} part of the data is empty.")
    predicted = predict(predictor, dataset, rows, batch_size)
    truth = dataset.fractions[rows].numpy()
    result: dict[str, Any] = {
        **scores(model.schema, truth, predicted, set_threshold=model.card.set_threshold(tta)),
        "part": part,
        "n_overlap": overlap(model, dataset, rows),
        "model": model.card.name,
        "schema": model.card.schema,
        "sha256": model.sha256,
        "tta": tta,
        "dtype": str(predictor.dtype).removeprefix("torch."),
        "data": dict(dataset.sha256),
    }
    if exclude:
        result["excluded"] = [dict(entry) for entry in dataset.excluded]
    if model.card.concentration is not None:
        result |= spread_scores(model.schema, truth, predicted, model.card.concentration)
    if not model.schema.is_classes:
        result["shares"] = share_errors(model.schema, truth, predicted)
    conditions = measured(dataset, rows)
    labelled = np.isfinite(truth).any(axis=1)
    result["conditions"] = score_by(
        {name: np.where(labelled, values, np.nan) for name, values in conditions.items()},
        lambda group: _main_scores(model.schema, truth[group], predicted[group]),
    )
    if out is not None:
        _write(out, model.schema, dataset.galaxies[rows], truth, predicted, conditions, result)
    return result


def _main_scores(schema: LabelSchema, truth: Array, predicted: Array) -> dict[str, float | int]:
    """Return the score that a model is known by, with its interval."""
    found = scores(schema, truth, predicted)
    wanted = ("n", *(name + end for name in MAIN_SCORES for end in ("", "_low", "_high")))
    return {name: found[name] for name in wanted if name in found}


def _write(
    out: Path,
    schema: LabelSchema,
    galaxies: NDArray[np.object_],
    truth: Array,
    predicted: Array,
    conditions: Mapping[str, Array],
    result: Mapping[str, Any],
) -> None:
    from galmorph.training import figures

    out.mkdir(parents=True, exist_ok=True)
    write_file(out / "scores.json", (json.dumps(result, indent=1, sort_keys=True) + "\n").encode())
    labels = [f"{kind}_{label}" for kind in ("p", "true") for label in schema.labels]
    table = np.column_stack([predicted, truth, *conditions.values()])
    cells = np.char.mod("%.6g", table)
    cells[np.isnan(table)] = ""
    lines = [",".join([str(galaxy), *row]) for galaxy, row in zip(galaxies, cells, strict=True)]
    header = ",".join(["galaxy", *labels, *conditions])
    write_file(out / "predictions.csv", "\n".join([header, *lines, ""]).encode())
    figures.evaluation_figures(out, schema, truth, predicted)
    if result["conditions"]:
        figures.save(figures.by_condition(result["conditions"]), out / "conditions.png")


def scores(
    schema: LabelSchema, truth: Array, predicted: Array, seed: int = 0, *, set_threshold: float | None = None
) -> dict[str, float | int]:
    """Score predictions: class scores for classes, errors of the vote fractions for a tree.

    Where the first question has one true answer, both hold ``coverage`` and ``set_size`` of the conformal sets.

    Parameters
    ----------
    schema : LabelSchema
    truth, predicted : ndarray, shape (n, n_labels)
        ``truth`` is NaN where unknown.
    seed : int
        Of the bootstrap over galaxies.
    set_threshold : float, optional
        Of the conformal sets (:meth:`galmorph.models.card.ModelCard.set_threshold`).

    Raises
    ------
    SampleError
        If there are no galaxies or nothing is known of them.
    """
    if not len(truth) or np.isnan(truth).all():
        raise SampleError("There are no labelled galaxies in this part of the data.")
    result = (class_scores if schema.is_classes else fraction_scores)(schema, truth, predicted, seed)
    if set_threshold is not None:
        result |= conformal.set_scores(schema, truth, predicted, set_threshold)
    return result


def fraction_scores(schema: LabelSchema, truth: Array, predicted: Array, seed: int = 0) -> dict[str, float | int]:
    """Score vote fractions over the columns that are known.

    ``rmse`` pools all known fractions of all galaxies, as the Galaxy Zoo Challenge does; ``rmse_low`` and ``rmse_high``
    bound it at 95 % under resampling of galaxies. ``accuracy`` is that of the first question's most probable answer
    where its largest fraction is at least 0.5; ``ece`` and ``ece_95`` are those of its probabilities, where the
    question asks for a class.
    """
    known = ~np.isnan(truth)
    per_galaxy = np.stack([squared_errors(truth, predicted).sum(axis=1), known.sum(axis=1)], axis=1)

    def rmse(rows: NDArray[np.int64]) -> dict[str, float]:
        total, count = per_galaxy[rows].sum(axis=0)
        return {"rmse": float(np.sqrt(total / max(count, 1)))}

    first = schema.slices[0]
    answered = known[:, first].all(axis=1) & (np.nan_to_num(truth[:, first]).max(axis=1) >= MAJORITY)
    right = predicted[answered, first].argmax(axis=1) == truth[answered, first].argmax(axis=1)
    n_labelled = int(known.any(axis=1).sum())
    result: dict[str, float | int] = {"n": n_labelled, **with_intervals(rmse, len(truth), seed)}
    result["mse"] = float(result["rmse"]) ** 2
    result["n_columns"] = int(known.any(axis=0).sum())
    if answered.any():
        result["accuracy"] = float(right.mean())
    if answered.any() and schema.has_classes:
        confidence = predicted[answered, first].max(axis=1)
        result["ece"] = calibration_error(confidence, right)
        result["ece_95"] = chance_calibration_error(confidence, seed)
    return result


def class_scores(schema: LabelSchema, truth: Array, predicted: Array, seed: int = 0) -> dict[str, float | int]:
    """Score classes: accuracy, macro averages over the classes present, and how far the probabilities hold."""
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
    n_galaxies, seed : int
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
    an error below it is no evidence against the probabilities.

    Parameters
    ----------
    confidence : ndarray, shape (n,)
        Probability of the predicted class.
    seed : int
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
    schema : LabelSchema
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
        known = np.isfinite(true_shares[:, index])
        error = shares[known, index] - true_shares[known, index]
        errors[label] = {
            "n": int(known.sum()),
            "bias": float(error.mean()),
            "rmse": float(np.sqrt((error**2).mean())),
            "truth_std": float(true_shares[known, index].std()),
        }
    return errors


def part_rows(model: Model, dataset: Dataset, part: str | None) -> tuple[str, NDArray[np.int64]]:
    """Return the part of the data to score and its rows.

    Parameters
    ----------
    model : Model
    dataset : Dataset
    part : str or None
        ``train``, ``val``, ``test`` or ``all``; None is ``test`` where all the data are among what the model was
        trained on (by hash), else ``all``.
    """
    if part is None:
        trained = {entry["sha256"] for entry in model.card.trained_on}
        part = "test" if set(dataset.sha256.values()) <= trained else "all"
    if part == "all":
        return part, np.arange(len(dataset))
    if not model.card.split:
        raise SampleError("The model's card names no split: only --part all can be scored.")
    classes = model.schema.classes(dataset.fractions.numpy())
    parts = Split.from_card(model.card.split).parts(list(dataset.galaxies), classes)
    return part, np.flatnonzero(parts == part)


def overlap(model: Model, dataset: Dataset, rows: NDArray[np.int64]) -> int:
    """Return how many of the galaxies took part in training, known by their key or by their picture."""
    seen = np.zeros(len(rows), dtype=bool)
    for name, hashes in (
        (TRAINED_GALAXIES, galaxy_hashes(list(dataset.galaxies[rows]))),
        (TRAINED_CONTENTS, dataset.contents[rows]),
    ):
        if name in model.trained:
            seen |= np.isin(hashes, model.trained[name].numpy())
    return int(seen.sum())
