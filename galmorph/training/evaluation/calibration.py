"""Calibration on the validation part: sizes of sets, spread of votes, threshold of unlikeness."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import SampleError
from galmorph.models import conformal, unlikeness
from galmorph.models.model import Model, load, save_with_card
from galmorph.models.predictor import Predictor
from galmorph.models.vote_spread import fit_concentration
from galmorph.schemas import LabelSchema
from galmorph.training import dataset as datasets
from galmorph.training.dataset import Dataset
from galmorph.training.evaluation import predicting
from galmorph.training.evaluation.evaluate import part_rows
from galmorph.training.evaluation.scores import MAJORITY

log = logging.getLogger(__name__)

# So many galaxies of the training part describe its features well; more would only take longer. It is the rare ones
# that need them: of 4,101 galaxies all or every other one, the threshold is 2.0 or 2.5 on one validation part.
MAX_GALAXIES = 10_000


def calibrate(
    model: Model, dataset: Dataset, train: NDArray[np.int64], val: NDArray[np.int64], device: str = "auto"
) -> Model:
    """Return a model with sets of classes or the spread of votes, and a score of unlikeness; temperatures stay.

    Parameters
    ----------
    model : Model
        Where it was trained on the validation part too (``--refit``), sets and spread are kept as they are:
        its probabilities are too good for galaxies that it was trained on.
    train, val : ndarray of int64
        Rows of the two parts.
    """
    calibration = {k: v for k, v in model.card.calibration.items() if k != "unlikeness"}
    predictor = Predictor(model, device, "float32")
    train, val = (rows[~_no_galaxy(model.schema, dataset, rows) & ~dataset.unlabelled[rows]] for rows in (train, val))
    if not model.card.training.get("refit"):
        with_class = val[model.schema.classes(dataset.fractions[val].numpy()) >= 0]
        if model.schema.has_classes and len(with_class):
            calibration["conformal"] = _conformal(model, dataset, with_class, device)
        if not model.schema.has_classes:
            truth, expected = dataset.fractions[val].numpy(), predicting.predict(predictor, dataset, val)
            concentration = fit_concentration(model.schema, truth, expected)
            calibration["spread"] = {"concentration": concentration, "n": len(val)}
    chosen = np.linspace(0, len(train) - 1, min(len(train), MAX_GALAXIES)).round().astype(int)
    features = predicting.features(predictor, dataset, train[chosen])
    described = None
    if features.shape[1] <= unlikeness.MAX_FEATURES:
        described = unlikeness.fit(features)
        distances = described(predicting.features(predictor, dataset, val))
        calibration["unlikeness"] = {
            "method": "Mahalanobis distance of the last layer's input",
            "components": len(described.basis),
            "n_train": len(features),
            "n_val": len(val),
            "quantile": unlikeness.QUANTILE,
            "threshold": unlikeness.fit_threshold(distances),
        }
    else:
        log.info("%d features are too many for a score of unlikeness in the model's file.", features.shape[1])
    card = dataclasses.replace(model.card, calibration=calibration)
    return Model(card, model.network, model.trained, unlikeness=described)


def _no_galaxy(schema: LabelSchema, dataset: Dataset, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which rows show no galaxy according to most people."""
    if not schema.artifact:
        return np.zeros(len(rows), dtype=bool)
    label = schema.labels.index(schema.artifact)
    said = [dataset.fractions] if dataset.lower is None else [dataset.fractions, dataset.lower]
    return np.any([values[rows, label].nan_to_num().numpy() >= MAJORITY for values in said], axis=0)


def _conformal(model: Model, dataset: Dataset, rows: NDArray[np.int64], device: str) -> dict[str, Any]:
    """Return the thresholds of the sets, one for each number of orientations averaged."""
    predictor = Predictor(model, device, "float32", tta=8)
    averaged = predicting.predict_by_views(predictor, dataset, rows)[:, :, model.schema.slices[0]]
    classes = model.schema.classes(dataset.fractions[rows].numpy())
    return {
        "method": "least ambiguous sets",
        "level": conformal.LEVEL,
        "n": len(rows),
        "thresholds": [conformal.fit_threshold(p[np.arange(len(rows)), classes]) for p in averaged],
    }


def recalibrate(
    name: str | Path,
    data: Sequence[str | Path],
    out: Path,
    device: str = "auto",
    *,
    exclude: Sequence[str | Path] = (),
) -> Model:
    """Give a trained model what :func:`calibrate` fits, and write it anew with its card beside it.

    Parameters
    ----------
    data : sequence of str or Path
        What it was trained on; samples without labels may be left out.
    out : Path
        The new weights file, ``.safetensors``; the card is written to the same name with ``.json``.
    exclude : sequence of str or Path
        The tables of galaxies that were left out then.

    Raises
    ------
    SampleError
        If the data are not those of the training, by hash, or a part of the split is empty.
    """
    model = load(name)
    normalization = model.card.inputs[0].normalization
    dataset = datasets.load(data, model.schema, normalization.input_size, normalization.framing.radii, exclude=exclude)
    trained = {entry["sha256"]: entry["name"] for entry in model.card.trained_on if entry.get("labelled", True)}
    excluded = {entry["sha256"]: entry["name"] for entry in model.card.training.get("excluded", ())}
    if {entry["sha256"] for entry in dataset.excluded} != set(excluded):
        names = ", ".join(excluded.values()) or "nothing"
        raise SampleError(f"{model.card.name} was trained with {names} excluded: give the same with --exclude.")
    if set(dataset.sha256.values()) != set(trained):
        names = ", ".join(trained.values()) or "data that its card does not name"
        raise SampleError(f"The model {model.card.name} was trained on {names}: give these, unchanged, with --data.")
    rows = {part: part_rows(model, dataset, part)[1] for part in ("train", "val")}
    for part, chosen in rows.items():
        if not len(chosen):
            raise SampleError(f"The {part} part of the split is empty: {len(dataset)} galaxies are too few.")
    calibrated = calibrate(model, dataset, rows["train"], rows["val"], device)
    save_with_card(calibrated, out)
    return calibrated
