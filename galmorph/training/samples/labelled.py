"""A folder of pictures with ``labels.csv``: a column ``file`` and columns of labels.

Label columns are named as :meth:`galmorph.schemas.LabelSchema.from_columns` says, or are one column of classes
(``label``, ``class``, or the first question's name) by number from 0 or by name; what a row does not give is unknown.
Of a decision tree the name of an answer says that most people gave it, which bounds fractions. ``labels.toml`` beside
it, or the command line, says how wide the pictures are and which schema its labels are of
(:mod:`galmorph.training.reading`); without it they are framed like Kaggle's (8.48 radii wide).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import SampleError
from galmorph.images.framing import Framing
from galmorph.schemas import LabelSchema
from galmorph.training.bounds import propagate
from galmorph.training.samples import TOTAL_VOTES, Layout, Sample, picture_folder
from galmorph.training.samples._classes import CLASS_COLUMNS, class_numbers, majorities

LABELS = "labels.csv"
FRAMING = Framing(radii=8.48)
# Columns that may identify a galaxy, the first that is there; ``GalaxyID`` is that of the Galaxy Zoo challenge.
IDENTIFIERS = ("GalaxyID", "id", "name", "file")


def read(path: Path, schema: LabelSchema, framing: Framing = FRAMING) -> Sample:
    """Read a folder with ``labels.csv``.

    Parameters
    ----------
    framing : Framing
        Of the pictures.

    Raises
    ------
    SampleError
        If the table has no column ``file`` or none of the schema's, or pictures are missing.
    """
    import pandas as pd

    column = next(name for name in (*IDENTIFIERS, "") if not name or name in pd.read_csv(path / LABELS, nrows=0))
    table = pd.read_csv(path / LABELS, dtype={column: str} if column else None)
    if "file" not in table.columns:
        raise SampleError(f"{path / LABELS} has no column 'file' that names the pictures.")
    numbers = table.select_dtypes("number")
    fractions, lower = _labels(path / LABELS, table, schema)
    sample = picture_folder(
        path,
        path / LABELS,
        column,
        table[column],
        [path / name for name in table["file"]],
        fractions,
        framing,
    )
    total = next((numbers[name].to_numpy(np.float32) for name in TOTAL_VOTES if name in numbers), None)
    sample = dataclasses.replace(sample, votes=total)
    if lower is None:
        return sample
    low, high = propagate(schema, lower, np.full_like(lower, np.nan))
    return dataclasses.replace(sample, lower=low, upper=high)


def _labels(path: Path, table: Any, schema: LabelSchema) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Return fractions and, where labels are names of a tree's answers, lower bounds of them."""
    unknown = np.full((len(table), len(schema.labels)), np.nan, np.float32)
    if not schema.learns:
        return unknown, None
    named = (schema.class_column, *CLASS_COLUMNS, schema.questions[0].name)
    column = next((name for name in named if name in table.columns), None)
    numbers = table.select_dtypes("number")
    columns = {name: numbers[name].to_numpy(float) for name in numbers.columns}
    if schema.has_classes and column is not None:
        columns[column], wrong = class_numbers(table[column].to_numpy(), schema)
        if wrong:
            n_classes = len(schema.questions[0].answers)
            row, reason = next(iter(wrong.items()))
            raise SampleError(
                f"{path}: the column {column!r} holds more than the classes 0 to {n_classes - 1}. Row {row + 1}: "
                f"{reason}"
            )
        schema = dataclasses.replace(schema, class_column=column)
    try:
        return schema.from_columns(columns), None
    except SampleError:
        if schema.has_classes or column is None or column in numbers.columns:
            raise
    try:
        return unknown, majorities(table[column].to_numpy(object), schema)
    except SampleError as error:
        raise SampleError(f"{path}: {error}") from error


SAMPLE = Layout(
    name="labelled",
    description=f"folder with {LABELS} (columns 'file' and labels) and pictures",
    matches=lambda path: (path / LABELS).is_file(),
    read=read,
)
