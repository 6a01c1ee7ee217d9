"""A user's own table: a column of paths (``cutout``, ``file``, ...), relative to its folder, and columns of labels.

Fractions are in columns named as :meth:`galmorph.schemas.LabelSchema.from_columns` says; classes in one column of
numbers or names (``label``, ``class``, the name of the schema's first question, ...). Columns that galmorph wrote are
its own predictions and not read. FITS cutouts become pictures as `galmorph classify` makes them (radius of the
catalog's size column, else of the cutout's card, else measured), pictures (JPEG, PNG) are taken as they are, framed
like Kaggle's by default. A row that cannot be used is left out, with a warning, and counted.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from galmorph.classification.matching import CutoutFiles
from galmorph.classification.opening import kind_of
from galmorph.classification.sources import CatalogSource
from galmorph.errors import CatalogError, SampleError
from galmorph.schemas import LabelSchema
from galmorph.tables.catalog import Catalog, open_catalog
from galmorph.tables.contents import parquet_folder
from galmorph.training.samples import Layout, Sample, galaxy_keys, sky_groups, with_bounds
from galmorph.training.samples._classes import labels_in, read_labels, unusable
from galmorph.training.samples._pictures import FRAMING, read_rows

# Rows closer than this are the same galaxy.
SAME_GALAXY_ARCSEC = 5.0
_BLOCK_ROWS = 16384


def _matches(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        return kind_of(path) == "catalog" and open_catalog(path, needs_position=False).cutout_column is not None
    except CatalogError:
        return False


def why_no_catalog(path: Path) -> str:
    """Return the reason why a file is not such a catalog, in brackets after a blank; '' for a folder."""
    if path.is_dir():
        return f" ({why})" if (why := parquet_folder(path)) else ""
    try:
        catalog = open_catalog(path, needs_position=False)
    except CatalogError as error:
        return f" ({error})"
    has = ", ".join(catalog.column_names[:12])
    return f" (as a catalog it lacks a column cutout; it has {has}; name it with PATH:cutout_column=NAME)"


def read(
    path: Path,
    schema: LabelSchema,
    *,
    label_column: str = "",
    cutout_column: str | None = None,
    id_column: str | None = None,
    cutouts: str = "",
) -> Sample:
    """Read a catalog.

    Parameters
    ----------
    label_column, cutout_column, id_column : str, optional
        Columns; default by the usual names.
    cutouts : str
        The folder that paths are relative to and may not leave; default the catalog's.

    Raises
    ------
    SampleError
        If it has no column of the schema's, or no row that can be used.
    """
    catalog = open_catalog(path, needs_position=False, cutout_column=cutout_column, id_column=id_column)
    labels = read_labels(catalog, schema, label_column)
    reasons = unusable(labels, schema)
    source = CatalogSource(catalog, CutoutFiles(Path(cutouts or path.parent), follows_links=bool(cutouts)))
    rows = [row for block in source.blocks(_BLOCK_ROWS, 0) for row in block]
    whole = hashlib.sha256(labels.fractions.tobytes() + labels.votes.tobytes())
    read = read_rows(rows, whole.update, refused=reasons, with_radii=True)
    if not read.rows:
        first = next(iter(read.skipped), "there are none")
        first = first.replace("name its folder with --cutouts", f"allow it with --data {path}:cutouts=/")
        raise SampleError(f"No row of {path} can be used; first: {first}")
    sample = read.sample(
        path.name.partition(".")[0],
        _galaxies(catalog, path),
        labels.fractions,
        whole.hexdigest(),
        FRAMING,
        votes=labels.votes[read.numbers],
    )
    return with_bounds(sample, schema, None if labels.lower is None else labels.lower[read.numbers])


def _galaxies(catalog: Catalog, path: Path) -> NDArray[np.object_]:
    """Return the key of each row: its identifier or position, one for all rows at one position."""
    blocks = list(catalog.blocks(_BLOCK_ROWS))
    ra, dec = (np.concatenate([getattr(block, axis) for block in blocks] or [np.empty(0)]) for axis in ("ra", "dec"))
    names = [name for block in blocks for name in block.id]
    first = sky_groups(ra, dec, SAME_GALAXY_ARCSEC)
    by_position = catalog.id_column is None and catalog.has_positions
    keys = [f"{x:.5f}{y:+.5f}" if by_position and x == x else name for x, y, name in zip(ra, dec, names, strict=True)]
    return galaxy_keys(path.name.partition(".")[0], [keys[row] for row in first], {})


def labels_of(path: Path, *, label_column: str = "", **_: str) -> str | tuple[str, ...]:
    """Return what the labels are; see `galmorph.training.samples._classes.labels_in`."""
    return labels_in(open_catalog(path, needs_position=False), label_column)


SAMPLE = Layout(
    name="catalog",
    description="table (CSV, FITS, ECSV, VOTable, Parquet) with a column 'cutout' or 'file' and columns of labels",
    matches=_matches,
    read=read,
    labels_of=labels_of,
    options=("label_column", "cutout_column", "id_column", "cutouts"),
)
