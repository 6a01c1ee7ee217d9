"""Which answers a model can learn: those that at least one training galaxy has."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from galmorph.models.model import Model
from galmorph.schemas import LabelSchema
from galmorph.training.dataset import Dataset

log = logging.getLogger(__name__)


def learnt_labels(
    schema: LabelSchema, dataset: Dataset, rows: NDArray[np.int64], others: Sequence[Model] = ()
) -> tuple[str, ...]:
    """Return the labels that a model learns: those that at least one galaxy has, of questions that can be reached.

    Parameters
    ----------
    rows : ndarray of int64
        The galaxies from which it learns.
    others : sequence of Model
        Models that it starts or learns from; labels of the same schema that they have learnt count too.
    """
    values = [dataset.fractions[rows], *([] if dataset.lower is None else [dataset.lower[rows]])]
    had = np.any([(each > 0).any(dim=0).numpy() for each in values], axis=0)
    for model in others:
        if model.schema.labels == schema.labels:
            had |= ~np.isin(np.arange(len(had)), model.card.unlearnt)
    for columns, parents in zip(schema.slices, schema.parents, strict=True):
        had[columns] &= not parents or bool(had[list(parents)].any())
    return tuple(label for label, is_learnt in zip(schema.labels, had, strict=True) if is_learnt)


def warn_of_unlearnt(schema: LabelSchema, learnt: Sequence[str]) -> None:
    """Warn of the answers that a model cannot learn, before it is trained."""
    if missing := [label for label in schema.labels if label not in learnt]:
        log.warning(
            "No galaxy of the training part has %d of the %d answers: the model will not know them, and "
            "galmorph classify leaves their columns empty: %s.",
            *(len(missing), len(schema.labels), ", ".join(missing)),
        )
