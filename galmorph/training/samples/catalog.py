"""A user's own catalog: a table with a column ``cutout`` of paths, relative to its folder, and columns of labels.

Fractions stand in columns named as :meth:`galmorph.schemas.LabelSchema.from_columns` says; classes in one column of
numbers or names (``label``, ``class``, or the name of the schema's first question). Columns that galmorph wrote are its
own predictions and not read. FITS cutouts become pictures as `galmorph classify` makes them (radius of the catalog's
size column, else of the cutout's card, else measured), pictures (JPEG, PNG) are taken as they are, framed like
Kaggle's. A row that cannot be used is left out, with a warning, and counted.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from galmorph.classification.matching import CutoutFiles
from galmorph.classification.opening import kind_of
from galmorph.classification.prepare import colour_picture, open_cutout
from galmorph.classification.sources import CatalogSource, Row
from galmorph.errors import CatalogError, CutoutError, SampleError
from galmorph.files.pictures import read_picture
from galmorph.files.reading import open_regular
from galmorph.images.flags import Flag
from galmorph.images.framing import Framing
from galmorph.images.headers import band_files
from galmorph.images.quality import signal_to_noise
from galmorph.images.radius import measure_r90
from galmorph.models.card import ModelCard, survey_inputs
from galmorph.schemas import LabelSchema
from galmorph.tables.catalog import Catalog, open_catalog
from galmorph.tables.contents import parquet_folder
from galmorph.tables.positions import to_float
from galmorph.training.samples import TOTAL_VOTES, Layout, Sample, content_hash, galaxy_keys, sky_groups
from galmorph.training.samples._classes import CLASS_COLUMNS, class_numbers

FRAMING = Framing(radii=8.48)
PICTURE_SIDE_PX = 424  # as Kaggle's
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")
# Rows closer than this are the same galaxy.
SAME_GALAXY_ARCSEC = 5.0
_BLOCK_ROWS = 16384
_ROUNDING = 1e-3


def _matches(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        return kind_of(path) == "catalog" and open_catalog(path, needs_position=False).cutout_column is not None
    except CatalogError:
        return False


def why_no_catalog(path: Path) -> str:
    """Return why a file is no such catalog, in brackets behind a blank; '' for a folder."""
    if path.is_dir():
        return f" ({why})" if (why := parquet_folder(path)) else ""
    try:
        catalog = open_catalog(path, needs_position=False)
    except CatalogError as error:
        return f" ({error})"
    return f" (as a catalog it lacks a column cutout; it has {', '.join(catalog.column_names[:12])})"


def read(path: Path, schema: LabelSchema) -> Sample:
    """Read a catalog.

    Raises
    ------
    SampleError
        If it has no column of the schema's, or no row that can be used.
    """
    catalog = open_catalog(path, needs_position=False)
    fractions, votes, reasons = _labels(catalog, schema)
    source = CatalogSource(catalog, CutoutFiles(path.parent))
    rows = [row for block in source.blocks(_BLOCK_ROWS, 0) for row in block]
    whole = hashlib.sha256(fractions.tobytes() + votes.tobytes())
    used: list[Row] = []
    contents, kept, skipped = [], [], []
    for number, (row, reason) in enumerate(zip(rows, reasons, strict=True)):
        try:
            if not isinstance(row.cutout, Path) or reason:
                raise CutoutError(f"row {number + 1}: {reason or row.cutout}")
            data = b"".join(_content(part) for part in _parts(row.cutout))
        except (OSError, CutoutError) as error:
            skipped.append(str(error))
            continue
        whole.update(data + repr(row.radius_arcsec).encode())
        used.append(row)
        contents.append(content_hash(data))
        kept.append(number)
    if not kept:
        raise SampleError(f"No row of {path} can be used; first: {skipped[0] if skipped else 'there are none'}")
    return Sample(
        name=path.name.partition(".")[0],
        galaxies=_galaxies(catalog, path)[kept],
        fractions=fractions[kept],
        image=partial(_picture, used),
        contents=np.array(contents, dtype=np.int64),
        sha256=whole.hexdigest(),
        framing=FRAMING,
        votes=votes[kept],
        lenient=True,
        skipped=tuple(skipped),
        apparent=partial(_apparent, used),
    )


def _content(file: str | Path) -> bytes:
    with open_regular(file) as stream:
        return stream.readall()


def _parts(file: Path) -> Sequence[str | Path]:
    return list(band_files(str(file)).values()) if "{band}" in file.name else [file]


def _galaxies(catalog: Catalog, path: Path) -> NDArray[np.object_]:
    """Return the key of each row: its identifier or position, the same for all rows at one position."""
    blocks = list(catalog.blocks(_BLOCK_ROWS))
    ra, dec = (np.concatenate([getattr(block, axis) for block in blocks] or [np.empty(0)]) for axis in ("ra", "dec"))
    names = [name for block in blocks for name in block.id]
    first = sky_groups(ra, dec, SAME_GALAXY_ARCSEC)
    placed = catalog.id_column is None and catalog.has_positions
    keys = [f"{x:.5f}{y:+.5f}" if placed and x == x else name for x, y, name in zip(ra, dec, names, strict=True)]
    return galaxy_keys(path.name.partition(".")[0], [keys[row] for row in first], {})


def _labels(catalog: Catalog, schema: LabelSchema) -> tuple[NDArray[np.float32], NDArray[np.float32], list[str]]:
    """Return fractions, total votes (NaN where unknown), and for each row why its labels cannot be used, or ''."""
    if not schema.learns:
        unknown = np.full((catalog.n_rows, len(schema.labels)), np.nan, np.float32)
        return unknown, unknown[:, 0].copy(), [""] * catalog.n_rows
    own = {name.lower() for name in catalog.galmorph_columns}
    given = {name.lower(): name for name in catalog.column_names if name.lower() not in own}
    wanted = [*(form for label in schema.labels for form in (label, f"p_{label}")), *schema.codes, *schema.conditional]
    found = {name: given[name.lower()] for name in wanted if name.lower() in given}
    question = schema.questions[0].name
    column = next((given[n] for n in (schema.class_column, *CLASS_COLUMNS, question) if n and n in given), None)
    total = next((given[name] for name in TOTAL_VOTES if name in given), None)
    cells = catalog.read([*found.values(), *filter(None, (column, total))])
    columns = {name: to_float(cells[at]) for name, at in found.items()}
    reasons = [""] * catalog.n_rows
    if column is not None:
        columns[column], wrong = class_numbers(cells[column], schema)
        reasons = [wrong.get(row, "") for row in range(catalog.n_rows)]
        schema = dataclasses.replace(schema, class_column=column)
    for name in found.keys() - schema.conditional.keys():
        outside = (columns[name] < 0) | (columns[name] > 1 + _ROUNDING)
        for row in np.flatnonzero(outside):
            reasons[row] = f"{name} is {columns[name][row]:g}, not a fraction."
        columns[name] = np.where(outside, np.nan, columns[name])
    try:
        fractions = schema.from_columns(columns)
    except SampleError as error:
        raise SampleError(f"{catalog.path}: {error}") from error
    for row in np.flatnonzero(np.isnan(fractions).all(axis=1)):
        reasons[row] = reasons[row] or "no label is known."
    votes = np.full(catalog.n_rows, np.nan) if total is None else to_float(cells[total])
    return fractions, np.where(votes > 0, votes, np.nan).astype(np.float32), reasons


def _picture(rows: Sequence[Row], index: int) -> NDArray[np.uint8]:
    """Return a picture, uint8 (y, x, 3), north up.

    Raises
    ------
    CutoutError, OSError
        If the file cannot be used.
    """
    path = Path(str(rows[index].cutout))
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return read_picture(path)
    return _composite(rows[index])


def _composite(row: Row) -> NDArray[np.uint8]:
    prepared = row.prepare(_card())
    if prepared.flux is None or prepared.flag & Flag.BLANK:
        raise CutoutError(f"{row.cutout}: {prepared.reason or 'there is no galaxy at its centre.'}")
    return np.ascontiguousarray((colour_picture(prepared) * 255).round().astype(np.uint8))


def _apparent(rows: Sequence[Row], index: int) -> tuple[float, float]:
    """Return R90 in arcsec and the signal to noise; of a picture only what the catalog says."""
    path, radius = Path(str(rows[index].cutout)), rows[index].radius_arcsec
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return radius, math.nan
    opened = open_cutout(path, _card(), radius)
    radius = opened.radius_arcsec if math.isfinite(opened.radius_arcsec) else measure_r90(opened.cutout)
    if opened.entry is None:
        return radius, math.nan
    return radius, signal_to_noise(opened.cutout, opened.entry.normalization.bands, radius)


@cache
def _card() -> ModelCard:
    """Return what frames and colours the pictures of a sample; no network belongs to it."""
    inputs = survey_inputs(PICTURE_SIDE_PX, FRAMING, (0.0,) * 3, (1.0,) * 3)
    return ModelCard("training sample", "", "", inputs)


SAMPLE = Layout(
    name="catalog",
    description="catalog (CSV, FITS, ECSV, VOTable, Parquet) with a column 'cutout' and columns of labels",
    matches=_matches,
    read=read,
)
