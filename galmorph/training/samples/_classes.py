"""Labels that are one word or number a galaxy: classes, and answers that most people gave."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import SampleError
from galmorph.schemas import LabelSchema
from galmorph.tables.formats import Array
from galmorph.tables.positions import to_float

CLASS_COLUMNS = ("label", "class")
# Least fraction of an answer that is given without a fraction: a majority.
MAJORITY = 0.5
_UNKNOWN = ("", "nan", "--", "none", "null", "unknown")


def class_numbers(cells: Array, schema: LabelSchema) -> tuple[NDArray[np.float64], dict[int, str]]:
    """Return the numbers of classes that are written as numbers from 0 or as names, and what is wrong in which rows.

    Parameters
    ----------
    cells : ndarray, shape (n,)
    schema : LabelSchema
        Its first question has the classes.

    Returns
    -------
    ndarray, float64, shape (n,)
        NaN where unknown.
    dict
        Row to the reason why its cell is no class.
    """
    answers = schema.questions[0].answers
    words = _words(cells)
    if cells.dtype != object:
        numbers = to_float(cells)
    else:
        numbers = to_float(np.array(words, dtype=object))
        known = {answer: number for number, answer in enumerate(answers)}
        numbers = np.array([known.get(w, n) for w, n in zip(words, numbers, strict=True)], dtype=float)
    known_class = np.isin(numbers, np.arange(len(answers)))
    wrong = np.flatnonzero(~known_class & ~(numbers < 0) & ~np.isin(words, _UNKNOWN))
    classes = f"{', '.join(answers)} (0 to {len(answers) - 1})"
    reasons = {int(row): f"{cells[row]!s} is none of the classes {classes}." for row in wrong}
    return np.where(known_class, numbers, np.nan), reasons


def majorities(cells: Array, schema: LabelSchema) -> NDArray[np.float32]:
    """Return the lower bounds of fractions where a galaxy's label is the name of an answer: a majority gave it.

    Parameters
    ----------
    cells : ndarray of str objects, shape (n,)
        A label of the schema, its code, or an answer that only one question has (``artifact``); empty where unknown.

    Returns
    -------
    ndarray, float32, shape (n, n_labels)
        NaN where there is no bound.

    Raises
    ------
    SampleError
        If a cell is none of these.
    """
    names = [answer for question in schema.questions for answer in question.answers]
    known = {name: index for index, name in enumerate(names) if names.count(name) == 1}
    known |= {label: index for index, label in enumerate(schema.labels)}
    known |= {code.lower(): index for index, code in enumerate(schema.codes)}
    lower = np.full((len(cells), len(schema.labels)), np.nan, np.float32)
    for row, word in enumerate(_words(cells)):
        if word in known:
            lower[row, known[word]] = MAJORITY
        elif word not in _UNKNOWN:
            raise SampleError(
                f"{cells[row]!s} is no label of the schema {schema.name!r}, for example {schema.labels[0]!r}."
            )
    return lower


def _words(cells: Array) -> list[str]:
    return ["_".join(str(cell).strip().lower().split()) for cell in cells]
