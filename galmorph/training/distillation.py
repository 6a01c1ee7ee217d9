"""Distillation: predictions of trained models as targets for the training of another (Hinton et al. 2015)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from galmorph.errors import ModelError
from galmorph.models.model import Model
from galmorph.models.predictor import Predictor
from galmorph.schemas import LabelSchema
from galmorph.training.dataset import Dataset
from galmorph.training.evaluation.predicting import predict
from galmorph.training.losses import clip
from galmorph.training.split import Split

# Orientations over which a teacher is averaged.
TEACHER_TTA = 4


def soft_targets(
    dataset: Dataset,
    schema: LabelSchema,
    teachers: Sequence[Model],
    share: float,
    split: Split,
    rows: NDArray[np.int64],
    at_size: Callable[[int], Dataset],
    device: str = "auto",
    dtype: str = "auto",
) -> Tensor:
    """Return training targets that mix the labels with the predictions of teachers.

    A teacher labels only the samples that it was trained on itself (it has learnt nothing about another survey's
    pictures) and unlabelled samples. Where there is a label, the target is
    ``(1 - share) * label + share * prediction``; else it is the prediction, moved into the bounds where there are some.

    Parameters
    ----------
    teachers : sequence of Model
        Of the same label schema.
    share : float
        Weight of the predictions, 0 to 1.
    split : Split
        That of the training and of the teachers: galaxies that they held out are held out here.
    rows : ndarray of int64
        Rows to make targets for.
    at_size : callable
        Gives the dataset with its pictures for an input size; each teacher gets them at its own.
    device, dtype : str
        Device and number format of the teachers.

    Returns
    -------
    Tensor, float32, shape (n, n_labels)
        For all rows of the dataset; the others keep their labels.

    Raises
    ------
    ModelError
        If a teacher has another schema or another split.
    """
    total, n_teachers = torch.zeros_like(dataset.fractions), torch.zeros(len(dataset), 1)
    for teacher in teachers:
        _check(teacher, schema, split)
        seen = {entry["sha256"] for entry in teacher.card.trained_on}
        own = np.array([dataset.sha256[sample] in seen for sample in dataset.source[rows]], dtype=bool)
        asked = rows[own | dataset.unlabelled[rows]]
        if not len(asked):
            continue
        predictor = Predictor(teacher, device, dtype, TEACHER_TTA)
        total[asked] += torch.from_numpy(predict(predictor, at_size(teacher.card.input_size), asked))
        n_teachers[asked] += 1
    predicted = total / n_teachers.clamp(min=1)
    if dataset.lower is not None and dataset.upper is not None:
        predicted = clip(predicted, dataset.lower, dataset.upper)
    labels = dataset.fractions
    mixed = torch.where(labels.isnan(), predicted, (1 - share) * labels + share * predicted)
    return torch.where(n_teachers > 0, mixed, labels)


def _check(teacher: Model, schema: LabelSchema, split: Split) -> None:
    card = teacher.card
    if teacher.schema.labels != schema.labels:
        raise ModelError(f"The teacher {card.name} answers {card.schema}, not {schema.name}.")
    if card.split != split.card():
        raise ModelError(
            f"The teacher {card.name} has another split ({card.split}), so it may have learnt what is held out here: "
            "train both with the same --seed, and those of classes on the same --data."
        )
