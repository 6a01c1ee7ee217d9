"""A user's own catalog: a table with a column ``cutout`` of paths, relative to its folder, and columns of labels.

Fractions stand in columns named as :meth:`galmorph.schemas.LabelSchema.from_columns` says; classes in one column of
numbers or names (``label``, ``class``, or the name of the schema's first question). Columns that galmorph wrote are its
own predictions and not read. FITS cutouts become pictures as `galmorph classify` makes them (radius of the catalog's
size column, else of the cutout's card, else measured), pictures (JPEG, PNG) are taken as they are, framed like
Kaggle's. A row that cannot be used is left out, told and counted.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from galmorph.classification.opening import kind_of
from galmorph.classification.sources import CatalogSource
from galmorph.errors import CatalogError, CutoutError, SampleError
from galmorph.files.pictures import read_picture
from galmorph.images.cutout import MAX_SIDE_PX, Cutout, read_cutout
from galmorph.images.flags import Flag
from galmorph.images.framing import Framing, frame
from galmorph.images.headers import band_files
from galmorph.images.inputs import ImageInput
from galmorph.images.normalization import Normalization
from galmorph.images.quality import quality, signal_to_noise
from galmorph.images.radius import measure_r90
from galmorph.models.card import survey_inputs
from galmorph.schemas import LabelSchema
from galmorph.tables.catalog import Catalog, open_catalog
from galmorph.tables.formats import Array
from galmorph.tables.positions import to_float
from galmorph.training.samples import TOTAL_VOTES, Layout, Sample, content_hash, galaxy_keys, sky_groups

FRAMING = Framing(radii=8.48)
PICTURE_SIDE_PX = 424  # as Kaggle's
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")
CLASS_COLUMNS = ("label", "class")
# Rows closer than this are the same galaxy.
SAME_GALAXY_ARCSEC = 5.0
_BLOCK_ROWS = 16384
_ROUNDING = 1e-3
_UNKNOWN = ("", "nan", "--", "none", "null", "unknown")


def _matches(path: Path) -> bool:
    if not path.is_file() or kind_of(path) != "catalog":
        return False
    try:
        return open_catalog(path).cutout_column is not None
    except CatalogError:
        return False


def read(path: Path, schema: LabelSchema) -> Sample:
    """Read a catalog.

    Parameters
    ----------
    path : Path
    schema : LabelSchema

    Raises
    ------
    SampleError
        If it has no column of the schema's, or no row that can be used.
    """
    catalog = open_catalog(path)
    fractions, votes, reasons = _labels(catalog, schema)
    source = CatalogSource(catalog, path.parent, by_id=False)
    rows = [row for block in source.blocks(_BLOCK_ROWS, 0) for row in block]
    whole = hashlib.sha256(fractions.tobytes() + votes.tobytes())
    files: list[tuple[Path, float]] = []
    contents, kept, skipped = [], [], []
    for number, ((file, radius), reason) in enumerate(zip(rows, reasons, strict=True)):
        try:
            if isinstance(file, str) or reason:
                raise CutoutError(f"row {number + 1}: {reason or file}")
            data = b"".join(Path(part).read_bytes() for part in _parts(file))
        except (OSError, CutoutError) as error:
            skipped.append(str(error))
            continue
        whole.update(data + repr(radius).encode())
        files.append((file, radius))
        contents.append(content_hash(data))
        kept.append(number)
    if not kept:
        raise SampleError(f"No row of {path} can be used; first: {skipped[0] if skipped else 'there are none'}")
    return Sample(
        name=path.name.partition(".")[0],
        galaxies=_galaxies(catalog, path)[kept],
        fractions=fractions[kept],
        image=partial(_picture, files),
        contents=np.array(contents, dtype=np.int64),
        sha256=whole.hexdigest(),
        framing=FRAMING,
        votes=votes[kept],
        lenient=True,
        skipped=tuple(skipped),
        apparent=partial(_apparent, files),
    )


def _parts(file: Path) -> Sequence[str | Path]:
    return list(band_files(str(file)).values()) if "{band}" in file.name else [file]


def _galaxies(catalog: Catalog, path: Path) -> NDArray[np.object_]:
    """Return the key of each row: its identifier or position, one for all rows at one place of the sky."""
    blocks = list(catalog.blocks(_BLOCK_ROWS))
    ra, dec = (np.concatenate([getattr(block, axis) for block in blocks] or [np.empty(0)]) for axis in ("ra", "dec"))
    names = [name for block in blocks for name in block.id]
    first = sky_groups(ra, dec, SAME_GALAXY_ARCSEC)
    placed = catalog.id_column is None and catalog.has_positions
    keys = [f"{x:.5f}{y:+.5f}" if placed and x == x else name for x, y, name in zip(ra, dec, names, strict=True)]
    return galaxy_keys(path.name.partition(".")[0], [keys[row] for row in first], {})


def _labels(catalog: Catalog, schema: LabelSchema) -> tuple[NDArray[np.float32], NDArray[np.float32], list[str]]:
    """Return fractions, total votes (NaN where unknown), and for each row why its labels cannot be used, or ''."""
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
        columns[column] = _class_numbers(cells[column], schema, reasons)
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


def _class_numbers(cells: Array, schema: LabelSchema, reasons: list[str]) -> NDArray[np.float64]:
    """Return the numbers of classes that are written as numbers from 0 or as names; NaN where unknown."""
    answers = schema.questions[0].answers
    numbers = to_float(cells)
    words = ["_".join(str(cell).strip().lower().split()) for cell in cells]
    if cells.dtype == object:
        known = {answer: number for number, answer in enumerate(answers)}
        numbers = np.array([known.get(w, n) for w, n in zip(words, numbers, strict=True)], dtype=float)
    known_class = np.isin(numbers, np.arange(len(answers)))
    for row in np.flatnonzero(~known_class & ~(numbers < 0) & ~np.isin(words, _UNKNOWN)):
        reasons[row] = f"{cells[row]!s} is none of the classes {', '.join(answers)} (0 to {len(answers) - 1})."
    return np.where(known_class, numbers, np.nan)


def _picture(files: Sequence[tuple[Path, float]], index: int) -> NDArray[np.uint8]:
    """Return a picture, uint8 (y, x, 3), north up.

    Raises
    ------
    CutoutError, OSError
        If the file cannot be used.
    """
    path, radius = files[index]
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return read_picture(path)
    return _composite(path, radius)


def _composite(path: Path, radius_arcsec: float) -> NDArray[np.uint8]:
    import torch

    cutout, normalization, radius = _opened(path, radius_arcsec)
    width_arcsec = FRAMING.width_arcsec(radius)
    if not math.isfinite(width_arcsec):  # no signal to measure a radius on: the whole cutout
        width_arcsec = min(cutout.flux.shape[1:]) * cutout.pixscale
    flag = quality(cutout, normalization.bands, width_arcsec, radius, seeing_arcsec=math.nan)
    if flag & (Flag.MISSING_BAND | Flag.BLANK):
        raise CutoutError(f"{path}: a band is missing, or there is no galaxy at its centre.")
    planes = [np.nan_to_num(cutout.plane(band), nan=0.0, posinf=0.0, neginf=0.0) for band in normalization.bands]
    flux = frame(planes, width_arcsec / cutout.pixscale, PICTURE_SIDE_PX)
    # Surface brightness per the native pixel that the scales of the composite are for.
    flux *= (normalization.flux_pixscale / cutout.flux_pixscale) ** 2
    rgb = normalization.rgb(torch.from_numpy(flux)[None])[0].permute(1, 2, 0).numpy()
    return np.ascontiguousarray((rgb[::-1] * 255).round().astype(np.uint8))


def _opened(path: Path, radius_arcsec: float) -> tuple[Cutout, Normalization, float]:
    """Read a cutout; return it, how it becomes a picture, and R90 (the catalog's, else its card's, else measured)."""
    cutout = read_cutout(path, max_side_px=MAX_SIDE_PX)
    entry = next((i for i in _inputs() if i.matches(cutout.survey, cutout.bands, cutout.pixscale)), None)
    if entry is None:
        told = f"{cutout.survey or 'an unnamed survey'} {''.join(cutout.bands)}"
        raise CutoutError(f"{path}: {told} at {cutout.pixscale:.3f} arcsec/px is no input of a model.")
    radius = radius_arcsec if math.isfinite(radius_arcsec) else cutout.radius_arcsec
    return cutout, entry.normalization, radius if math.isfinite(radius) else measure_r90(cutout)


def _apparent(files: Sequence[tuple[Path, float]], index: int) -> tuple[float, float]:
    """Return R90 in arcsec and the signal to noise; of a picture what the catalog knows."""
    path, radius = files[index]
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return radius, math.nan
    cutout, normalization, radius = _opened(path, radius)
    return radius, signal_to_noise(cutout, normalization.bands, radius)


def _inputs() -> tuple[ImageInput, ...]:
    return survey_inputs(PICTURE_SIDE_PX, FRAMING, (0.0,) * 3, (1.0,) * 3)


SAMPLE = Layout(
    name="catalog",
    description="catalog (CSV, FITS, ECSV, VOTable, Parquet) with a column 'cutout' and columns of labels",
    matches=_matches,
    read=read,
)
