"""Select: the rows of a classified catalog that fulfil a condition, as a catalog."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph import registry
from galmorph.classification.results import Results, read_results
from galmorph.classification.sources import output_beside
from galmorph.errors import GalmorphError, OutputError
from galmorph.files.writing import exists_already
from galmorph.schemas import LabelSchema
from galmorph.selection.cuts import CUTS
from galmorph.selection.expression import Condition
from galmorph.tables.frames import in_memory
from galmorph.tables.positions import to_float

Array = NDArray[Any]
_LISTED = 8


@dataclass(frozen=True)
class Selected:
    """What was selected.

    Attributes
    ----------
    rows : ndarray of int64
        Numbers of the rows, from 0.
    total : int
        Rows of the catalog.
    condition : str
        The condition in full, with the named cuts written out.
    out : str
        The catalog that was written, '' for none.
    """

    rows: NDArray[np.int64]
    total: int
    condition: str
    out: str = ""

    def __len__(self) -> int:
        return len(self.rows)


def select(
    catalog: Any,
    condition: str,
    *,
    out: str | Path | None = None,
    prefix: str | None = None,
    overwrite: bool = False,
    write: bool = True,
) -> Any:
    """Select rows of a classified catalog and write them as a catalog; or give them back, where it is in memory.

    Parameters
    ----------
    catalog : path, astropy Table or data frame
        What `galmorph classify` wrote, also at an address, or what `galmorph.classify` gave back.
    condition : str
        Such as ``spiral >= 0.5 and edge_on < 0.3``. A name is a column, a label (its ``p_`` column) or its word in
        ``morph_label``; ``share_`` before it means the share among those who are asked. A named cut
        (`galmorph.selection.cuts.CUTS`) is a condition too. A row where a value that the condition names is absent is
        never selected.
    out : path, optional
        Default: ``<stem>_selected.<suffix>`` beside the catalog, or here where that is at an address; no file for a
        result in memory. Another suffix writes another format, where nothing is lost.
    prefix : str, optional
        Of galmorph's columns; needed only where there are several.
    overwrite : bool
        Replace a file that has the name of `out`.
    write : bool
        Whether a catalog is written.

    Returns
    -------
    Selected, astropy Table or data frame
        The rows of a result in memory come back as its kind.

    Raises
    ------
    GalmorphError
        If the condition cannot be read, names something that is not there, or the catalog cannot be written.
    """
    results = read_results(catalog, prefix=prefix)
    parsed = Condition(_written_out(condition, results.schema))
    values = _values(results, parsed.names)
    keep = parsed(values)
    for value in values.values():
        keep = keep & (np.isfinite(value) if value.dtype.kind == "f" else np.ones(len(keep), bool))
    rows = np.flatnonzero(keep)
    memory = None if isinstance(catalog, str | os.PathLike) else in_memory(catalog)
    if write and not (memory is not None and out is None):
        beside = Path(results.remote.name) if results.remote else results.catalog.path
        destination = Path(out) if out is not None else output_beside(beside, "_selected")
        _check(destination, results.catalog.path, overwrite=overwrite)
        results.catalog.write_rows(destination, keep, overwrite=overwrite)
    else:
        destination = None
    if memory is not None:
        return memory.rows(rows.tolist())
    return Selected(rows, len(results), parsed.text, str(destination or ""))


def _check(destination: Path, catalog: Path, *, overwrite: bool) -> None:
    if not destination.absolute().parent.is_dir():
        raise OutputError(f"The folder {destination.parent} of the output does not exist: make it, or choose another.")
    if destination.exists() and catalog.exists() and destination.samefile(catalog):
        raise OutputError(f"The output {destination} is the catalog: choose another --out.")
    if destination.exists() and not overwrite:
        raise exists_already(destination)


def _written_out(condition: str, schema: LabelSchema) -> str:
    """Return a condition with the named cuts in it written out."""
    for name, cut in CUTS.items():
        pattern = rf"(?<![\w.'\"]){name}(?![\w.'\"])"
        if not re.search(pattern, condition):
            continue
        if cut.schema != schema.name:
            raise GalmorphError(f"The cut {name} is of the labels {cut.schema}; these are {schema.name}.")
        condition = re.sub(pattern, f"({cut.condition})", condition)
    return condition


def _values(results: Results, names: Sequence[str]) -> dict[str, Array]:
    """Return the values that the names in a condition mean; columns are read together."""
    columns = {column.lower(): column for column in results.catalog.column_names}
    forms = {name: (name.lower(), f"{results.prefix}{name}".lower()) for name in names}
    column_of = {name: next((columns[form] for form in forms[name] if form in columns), None) for name in names}
    labels = {name: _of_label(results, name) for name, column in column_of.items() if column is None}
    wanted = list(dict.fromkeys(filter(None, column_of.values())))
    cells = results.catalog.read(wanted) if wanted else {}
    return {name: labels[name] if column is None else _plain(cells[column]) for name, column in column_of.items()}


def _of_label(results: Results, name: str) -> Array:
    """Return the probabilities, or the shares, of the label that a name means."""
    kind, _, word = name.partition("_") if name.startswith(("p_", "share_")) else ("p", "", name)
    index = _label(results.schema, word)
    if index is None:
        raise GalmorphError(_unknown(results, name))
    return (results.schema.answers(results.p) if kind == "share" else results.p)[:, index]


def _plain(values: Array) -> Array:
    """Return a column as booleans, numbers (NaN where null) or text."""
    if values.dtype == object:
        words = {str(cell).lower() for cell in values}
        if words <= {"true", "false", "t", "f"} and words:
            return np.array([str(cell).lower().startswith("t") for cell in values], bool)
        return values
    return to_float(values) if np.ma.is_masked(values) else np.asarray(values)


def _label(schema: LabelSchema, word: str) -> int | None:
    """Return the label that a word means: itself, its word in names, its question (the answer yes), or its answer."""
    word = word.lower()
    if word in schema.labels:
        return schema.labels.index(word)
    for meanings in (_words(schema), _questions(schema), _answers(schema)):
        indices = [index for text, index in meanings if text == word]
        if len(indices) == 1:
            return indices[0]
    return None


def _words(schema: LabelSchema) -> list[tuple[str, int]]:
    pairs = zip(schema.questions, schema.slices, strict=True)
    return [(word, columns.start + i) for question, columns in pairs for i, word in enumerate(question.words) if word]


def _questions(schema: LabelSchema) -> list[tuple[str, int]]:
    pairs = zip(schema.questions, schema.slices, strict=True)
    return [(q.name, columns.start + q.answers.index("yes")) for q, columns in pairs if "yes" in q.answers]


def _answers(schema: LabelSchema) -> list[tuple[str, int]]:
    pairs = zip(schema.questions, schema.slices, strict=True)
    return [(answer, columns.start + i) for question, columns in pairs for i, answer in enumerate(question.answers)]


def _unknown(results: Results, name: str) -> str:
    schema = results.schema
    several = [schema.labels[i] for word, i in _answers(schema) if word == name.removeprefix("share_")]
    if len(several) > 1:
        return f"{name!r} may be {', '.join(several)}: say which."
    words = [word for word, _ in (*_words(schema), *_questions(schema))]
    usable: Sequence[str] = sorted({*results.catalog.column_names, *schema.labels, *words, *CUTS})
    shown = f"Labels: {', '.join(schema.labels[:_LISTED])}, ...; words: {', '.join(dict.fromkeys(words))}."
    if name.lower().startswith("gz2_"):
        shown = f"Cuts: {', '.join(CUTS)}."
    return f"{registry.unknown('column, label or cut', name, usable).partition(' There are:')[0]} {shown}"
