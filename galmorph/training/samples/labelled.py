"""A folder of pictures or FITS cutouts with ``labels.csv``: a column ``file`` and columns of labels.

The columns are those of a catalog (:mod:`galmorph.training.samples.catalog`); empty cells are unknown. In a
decision tree the name of an answer means that most people gave it, which bounds fractions. ``labels.toml`` beside it,
or the command line, gives the width of the pictures and the schema of the labels (:mod:`galmorph.training.reading`);
without it they are framed like Kaggle's (8.48 radii wide). Unlike in a catalog, all rows must be usable.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from galmorph.classification.reading.rows import Row
from galmorph.errors import SampleError
from galmorph.images.framing import Framing
from galmorph.schemas import LabelSchema
from galmorph.tables.catalog import Catalog, open_catalog
from galmorph.training.samples import Layout, Sample, with_bounds
from galmorph.training.samples._classes import column_named, find_label_column, labels_in, read_labels
from galmorph.training.samples._pictures import FRAMING, picture_folder

LABELS = "labels.csv"
# Columns that may identify a galaxy, the first that is there; ``GalaxyID`` is that of the Galaxy Zoo challenge.
IDENTIFIERS = ("GalaxyID", "id", "name", "file")
_BLOCK_ROWS = 16384


def read(
    path: Path,
    schema: LabelSchema,
    *,
    framing: Framing = FRAMING,
    label_column: str = "",
    cutout_column: str = "",
    id_column: str = "",
) -> Sample:
    """Read a folder with ``labels.csv``.

    Parameters
    ----------
    framing : Framing
        Width of the pictures.
    label_column, cutout_column, id_column : str
        Columns; default by the usual names.

    Raises
    ------
    SampleError
        If the table has no column of files or none of the schema's, a row is wrong, or files are missing.
    """
    catalog, column = _opened(path, cutout_column, id_column)
    labels = read_labels(catalog, schema, label_column)
    if labels.wrong:
        row, reason = next(iter(sorted(labels.wrong.items())))
        named = find_label_column(catalog, label_column, (schema.class_column,), (schema.questions[0].name,))
        what = ""
        if schema.has_classes and named and " is none of the classes " in reason:
            what = f"the column {named!r} holds more than the classes 0 to {len(schema.questions[0].answers) - 1}. "
        raise SampleError(f"{catalog.path}: {what}{f'Row {row + 1}: ' if what else ''}{reason}")
    rows, identifiers = [], []
    for block in catalog.blocks(_BLOCK_ROWS):
        values = (getattr(block, name).tolist() for name in ("cutout", "radius_arcsec", "ra", "dec"))
        rows += [Row(path / file, *numbers) for file, *numbers in zip(*values, strict=True)]
        identifiers += block.id.tolist()
    sample = picture_folder(path, path / LABELS, column, identifiers, rows, labels.fractions, framing)
    votes = labels.votes if np.isfinite(labels.votes).any() else None
    return with_bounds(dataclasses.replace(sample, votes=votes), schema, labels.lower)


def _opened(path: Path, cutout_column: str = "", id_column: str = "") -> tuple[Catalog, str]:
    """Return the table with its columns of files and identifiers, and the name of the latter."""
    catalog = open_catalog(path / LABELS, needs_position=False)
    names = catalog.column_names
    files = column_named(catalog, cutout_column, "cutout_column") if cutout_column else catalog.cutout_column
    if not cutout_column and "file" in names:
        files = "file"
    if files is None:
        raise SampleError(
            f"{path / LABELS} has no column 'file' that names the pictures; it has {', '.join(names[:12])}."
        )
    column = next((name for name in IDENTIFIERS if name in names), files)
    if id_column:
        column = column_named(catalog, id_column, "id_column")
    return open_catalog(catalog.path, needs_position=False, id_column=column, cutout_column=files), column


def labels_of(path: Path, *, label_column: str = "", **_: str) -> str | tuple[str, ...]:
    """Return what the labels are; see `galmorph.training.samples._classes.labels_in`."""
    return labels_in(open_catalog(path / LABELS, needs_position=False), label_column)


SAMPLE = Layout(
    name="labelled",
    description=f"folder with {LABELS} (columns 'file' and labels) and pictures or FITS cutouts",
    matches=lambda path: (path / LABELS).is_file(),
    read=read,
    before=("classes",),
    labels_of=labels_of,
    options=("label_column", "cutout_column", "id_column"),
)
