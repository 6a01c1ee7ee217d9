"""The columns of morphology: what classification appends to a table, by label schema and model."""

from __future__ import annotations

import numpy as np

from galmorph import conformal
from galmorph.card import ModelCard
from galmorph.cutout import Flag, bits_told
from galmorph.labels import LabelSchema
from galmorph.tables import Column


def output_columns(schema: LabelSchema, prefix: str = "", card: ModelCard | None = None) -> list[Column]:
    """Return the columns that classification appends, with UCDs and descriptions.

    ``morph_set`` and ``morph_ood`` are among them where the model's card has sets and a threshold of unlikeness.
    """
    columns = [
        Column(f"{prefix}p_{label}", "float32", ucd="stat.probability;src.morph.type", description=_told(schema, label))
        for label in schema.labels
    ]
    if schema.is_classes:
        name, entropy = "most probable class", "over all classes"
    else:
        name, entropy = "most probable answers, followed from the first question", "of the first question"
    fitted = []
    if card is not None and card.set_threshold() is not None:
        sets = card.calibration["conformal"]
        told = f"classes that hold the true one for {100 * sets['level']:g} % of galaxies"
        width = conformal.name_width(schema, min(sets["thresholds"]))
        fitted.append(Column(f"{prefix}morph_set", "str", ucd="src.morph.type", description=told, width=width))
    if card is not None and (threshold := card.unlikeness_threshold) is not None:
        told = f"unlikeness to the training data; flagged above {threshold:g}"
        fitted.append(Column(f"{prefix}morph_ood", "float32", unit="", ucd="stat.value", description=told))
    return [
        *columns,
        Column(f"{prefix}morph_label", "str", ucd="src.morph.type", description=name, width=schema.name_width),
        Column(f"{prefix}morph_entropy", "float32", unit="", ucd="stat", description=f"entropy {entropy}, nats"),
        *fitted,
        Column(f"{prefix}morph_flag", "int16", ucd="meta.code.qual", description=bits_told(Flag)),
    ]


def _told(schema: LabelSchema, label: str) -> str:
    code = schema.codes[schema.labels.index(label)]
    return f"probability of {label} ({schema.name} {code})"


def record_dtype(schema: LabelSchema) -> np.dtype[np.void]:
    """Return the journal's record of a galaxy: probabilities, unlikeness, flag, position."""
    return np.dtype(
        [("p", "<f4", (len(schema.labels),)), ("ood", "<f4"), ("flag", "<i2"), ("ra", "<f8"), ("dec", "<f8")]
    )
