"""Evaluation: a model on labelled galaxies."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import SampleError
from galmorph.files.writing import write_file
from galmorph.models.model import Model
from galmorph.models.model import load as load_model
from galmorph.models.predictor import Predictor
from galmorph.models.vote_spread import spread_scores
from galmorph.ranges import BATCH, ORIENTATIONS
from galmorph.schemas import LabelSchema
from galmorph.training.dataset import Dataset, load, n_seen
from galmorph.training.evaluation.conditions import measured, score_by
from galmorph.training.evaluation.predicting import predict
from galmorph.training.evaluation.scores import scores, share_errors
from galmorph.training.split import Split

# The main score of a model: the first for a tree, the second for classes.
MAIN_SCORES = ("rmse", "accuracy")

Array = NDArray[np.floating[Any]]


def evaluate(
    model: Model | str | os.PathLike[str],
    data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    part: str | None = None,
    tta: int = 1,
    device: str = "auto",
    dtype: str = "auto",
    batch_size: int = 64,
    exclude: Sequence[str | Path] = (),
    out: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """Score a model on labelled data.

    Parameters
    ----------
    model : Model, str or path
        A model, or its name, file or training folder.
    data : path or sequence of path
        Labelled samples, joined.
    part : str, optional
        ``train``, ``val``, ``test`` or ``all``; default ``test`` where the model was trained on the data, else ``all``.
    tta : int
        Orientations averaged, 1 to 8.
    device, dtype : str
    batch_size : int
    exclude : sequence of str or Path
        Tables of galaxies to leave out (:func:`galmorph.training.reading.excluded_keys`).
    out : path, optional
        Folder for ``scores.json``, ``predictions.csv`` and figures.

    Returns
    -------
    dict
        The scores, ``part``, ``n_overlap`` (galaxies that were in the training data) and how they were computed.

    Raises
    ------
    SampleError
        If the data cannot be used or the part is empty.
    """
    ORIENTATIONS.check("--tta ", tta)
    BATCH.check("--batch-size ", batch_size)
    model = model if isinstance(model, Model) else load_model(str(model))
    paths = [str(data)] if isinstance(data, str | os.PathLike) else [str(path) for path in data]
    normalization = model.card.inputs[0].normalization
    dataset = load(paths, model.schema, normalization.input_size, normalization.framing.radii, exclude=exclude)
    part, rows = part_rows(model, dataset, part)
    predictor = Predictor(model, device, dtype, tta)
    if not len(rows):
        raise SampleError(f"The {part} part of the data is empty.")
    predicted = predict(predictor, dataset, rows, batch_size)
    truth = dataset.fractions[rows].numpy()
    result: dict[str, Any] = {
        **scores(model.schema, truth, predicted, set_threshold=model.card.set_threshold(tta)),
        "part": part,
        "n_overlap": n_seen(model.trained, dataset.galaxies[rows], dataset.contents[rows]),
        "model": model.card.name,
        "schema": model.card.schema,
        "sha256": model.sha256,
        "tta": tta,
        "dtype": str(predictor.dtype).removeprefix("torch."),
        "data": dict(dataset.sha256),
    }
    if model.card.schema_definition:
        result["schema_definition"] = dict(model.card.schema_definition)
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
        _write(Path(out), model.schema, dataset.galaxies[rows], truth, predicted, conditions, result)
    return result


def _main_scores(schema: LabelSchema, truth: Array, predicted: Array) -> dict[str, float | int]:
    """Return the main score of a model, with its interval."""
    every = scores(schema, truth, predicted)
    wanted = ("n", *(name + end for name in MAIN_SCORES for end in ("", "_low", "_high")))
    return {name: every[name] for name in wanted if name in every}


def _write(
    out: Path,
    schema: LabelSchema,
    galaxies: NDArray[np.object_],
    truth: Array,
    predicted: Array,
    conditions: Mapping[str, Array],
    result: Mapping[str, Any],
) -> None:
    from galmorph.training.evaluation import figures

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


def part_rows(model: Model, dataset: Dataset, part: str | None) -> tuple[str, NDArray[np.int64]]:
    """Return the name of the part to score, and its rows.

    Parameters
    ----------
    part : str or None
        ``train``, ``val``, ``test`` or ``all``; None is ``test`` where the model was trained on all of
        the data (by hash), else ``all``.
    """
    if part is None:
        trained = {entry["sha256"] for entry in model.card.trained_on}
        part = "test" if set(dataset.sha256.values()) <= trained else "all"
    if part == "all":
        return part, np.arange(len(dataset))
    if not model.card.split:
        raise SampleError("The model's card names no split: only --part all can be scored.")
    classes = model.schema.classes(dataset.fractions.numpy())
    parts = dataset.parts(Split.from_card(model.card.split), classes)
    return part, np.flatnonzero(parts == part)
