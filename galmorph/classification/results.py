"""Results: a classified catalog read back, whatever its format and prefix."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from galmorph import registry
from galmorph.classification.matching import match
from galmorph.classification.provenance import SCHEMA_CARD, record_path, recorded, recorded_schema
from galmorph.classification.reading.rows import Row
from galmorph.classification.sources import CatalogSource
from galmorph.errors import CatalogError, GalmorphError
from galmorph.files.remote import Remote, is_remote
from galmorph.images.flags import Flag
from galmorph.images.picture import PictureWidth
from galmorph.schemas import LabelSchema, schema_from_mapping
from galmorph.tables import formats
from galmorph.tables.catalog import Catalog, catalog_of, open_catalog
from galmorph.tables.frames import in_memory

# What each bit of ``morph_flag`` means, in the words of docs/classify.md.
FLAGS: Mapping[Flag, str] = {
    Flag.MISSING_BAND: "a band that the model needs is absent or empty: no probability",
    Flag.PARTIAL: "part of the framed image has no data, or the frame leaves the cutout on one axis",
    Flag.BLANK: "hardly any signal at the centre: there may be no galaxy",
    Flag.BAD_PIXELS: "pixels that are not finite, masked or saturated",
    Flag.UNREADABLE: "the cutout is absent, damaged or of another kind: no probability",
    Flag.UNLIKE_TRAINING: "unlike the galaxies that the model was trained on",
    Flag.TOO_SMALL: "too small for the seeing to show its shape",
    Flag.BLENDED: "other objects overlap the galaxy",
    Flag.RADIUS_MEASURED: "the catalog gave no radius: it was measured on the cutout, or is unknown",
    Flag.LARGER_THAN_CUTOUT: "the galaxy's frame is larger than its cutout",
    Flag.OFF_CENTRE: "the row's position is off the cutout's centre; no probability where it lies outside the image",
    Flag.WCS_UNUSABLE: "the celestial coordinates of the cutout cannot be read: no position",
    Flag.PICTURE: "an 8-bit picture, not flux: whether bits 4, 8, 64 and 128 hold is unknown",
}
_BLOCK_ROWS = 16384
# The format of a catalog that is no file.
IN_MEMORY = "table"
# Rounding may move sums of probabilities this far beyond 0 or 1.
_ROUNDING = 1e-3
_LARGEST_FLAG = 2**15 - 1


@dataclass(frozen=True, eq=False)
class Results:
    """A classified catalog.

    Attributes
    ----------
    prefix : str
        Prefix of galmorph's columns.
    id : ndarray of str objects, shape (n,)
    ra, dec : ndarray, float64, shape (n,)
        ICRS degrees, NaN where unknown.
    p : ndarray, float32, shape (n, n_labels)
        Cumulative probabilities; NaN where there are none.
    label : ndarray of str objects, shape (n,)
    entropy : ndarray, float64, shape (n,)
        Nats.
    flag : ndarray, int64, shape (n,)
    ood : ndarray, float64, shape (n,), or None
        Unlikeness to the training data, where the model gives it.
    remote : Remote or None
        Where the catalog is, if that is no file of this machine.
    """

    catalog: Catalog
    schema: LabelSchema
    prefix: str
    id: NDArray[np.object_]
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    p: NDArray[np.float32]
    label: NDArray[np.object_]
    entropy: NDArray[np.float64]
    flag: NDArray[np.int64]
    ood: NDArray[np.float64] | None
    remote: Remote | None = None

    def __len__(self) -> int:
        return len(self.id)

    @property
    def classified(self) -> NDArray[np.bool_]:
        """Which rows have probabilities."""
        return np.asarray(np.isfinite(self.p).any(axis=1))

    def card(self, keyword: str) -> str:
        """Return a card of the provenance as text, '' where there is none."""
        return next((str(value) for key, value, _ in self.catalog.provenance if key == keyword), "")

    @property
    def pictures(self) -> PictureWidth:
        """Width of the cutouts that are pictures, by the options of the run."""
        return PictureWidth.of(self.card("GMWIDTH"))

    @property
    def name(self) -> str:
        """What messages call the catalog: its path or address."""
        return str(self.remote or self.catalog.path)

    def cutouts(self, folder: Path | Remote | None) -> list[Row]:
        """Return each row's cutout, or the reason (text) why it has none, its radius and position.

        Parameters
        ----------
        folder : Path, Remote or None
            Folder of the cutouts; None: the catalog's, the input's (``cutouts_morph.fits``: ``cutouts/``), or the one
            in the record of its run; of a table in memory the current folder.
        """
        folders = self._recorded_folders()
        by_id = self.catalog.cutout_column is None
        if folder is None and self.catalog.format == IN_MEMORY:
            folder = Path.cwd()
        if by_id and folder is None and folders:
            folder = folders[0]
        if by_id and folder is None:
            why = (
                "the catalog names no cutouts; name their folder with --cutouts DIR, or the survey images with --images"
            )
            if "detection_flag" in self.catalog.column_names:  # galaxies detected in survey images
                why = "its stamp was cut from a survey image and not kept; name the images with --images"
            return [Row(why)] * len(self)
        try:
            given = folder.url if isinstance(folder, Remote) else folder
            source = CatalogSource(*match(self.catalog, given, self._own_folder()))
        except CatalogError as error:  # then a report has no pictures, but this note
            return [Row(str(error))] * len(self)
        return [row for block in source.blocks(_BLOCK_ROWS, 0) for row in block]

    def _own_folder(self) -> Path | Remote:
        if self.remote is not None:
            return self.remote.parent
        path = self.catalog.path
        made_of = path.with_name(path.name.split(".")[0].removesuffix("_morph"))
        first = next((text for targets in self.catalog.blocks(1000) for text in targets.cutout if text), "")
        folders = [path.parent, made_of, *self._recorded_folders()]
        return next((folder for folder in folders if (folder / first).exists()), path.parent)

    def _recorded_folders(self) -> list[Path]:
        """Return the folders of the cutouts by the record of the run."""
        if self.remote is not None:  # its record says where they were on another machine
            return []
        inputs = [path.parent for path in recorded(self.catalog.path, "input")]
        return [*recorded(self.catalog.path, "cutouts"), *inputs]


def read_results(given: Any, *, prefix: str | None = None, size_column: str | None = None) -> Results:
    """Read a catalog that `galmorph classify` wrote.

    Parameters
    ----------
    given : path, astropy Table or data frame
        FITS, CSV, ECSV, VOTable or Parquet, also at an address; or a result in memory.
    prefix : str, optional
        Prefix of galmorph's columns; needed only if there are several.
    size_column : str, optional
        The column of radii in the options of the run.

    Raises
    ------
    CatalogError
        If it is not such a catalog.
    """
    catalog, remote = _opened(given, size_column)
    path = remote or catalog.path
    names = {name.lower(): name for name in catalog.column_names}
    prefix = _prefix(path, list(names.values()), prefix)
    stated = {key: str(value) for key, value, _ in catalog.provenance}
    own = _own_schema(path, stated.get(SCHEMA_CARD) or recorded_schema(catalog.path))
    schema = _schema(path, set(names), prefix, stated.get("GMSCHEMA", own.name if own else ""), own)

    columns = [names[f"{prefix}p_{label}".lower()] for label in schema.labels]
    others = [names.get(f"{prefix}morph_{name}".lower(), "") for name in ("label", "entropy", "flag", "ood")]
    values = catalog.read([*columns, *filter(None, others)])
    p = np.stack([_floats(path, name, values) for name in columns], axis=1).astype(np.float32)
    if (~((p >= -_ROUNDING) & (p <= 1 + _ROUNDING)) & ~np.isnan(p)).any():
        raise CatalogError(f"{path} holds a probability outside 0 to 1: it is not as galmorph wrote it.")
    label = values.get(others[0])
    entropy, flag, ood = (_floats(path, name, values) if name else None for name in others[1:])
    blocks = list(catalog.blocks(_BLOCK_ROWS))
    return Results(
        catalog=catalog,
        schema=schema,
        prefix=prefix,
        id=np.concatenate([b.id for b in blocks]) if blocks else np.array([], object),
        ra=np.concatenate([b.ra for b in blocks]) if blocks else np.array([]),
        dec=np.concatenate([b.dec for b in blocks]) if blocks else np.array([]),
        p=p,
        label=np.array([str(text) for text in label], dtype=object) if label is not None else schema.short_names(p),
        entropy=np.full(len(p), np.nan) if entropy is None else entropy,
        flag=np.zeros(len(p), np.int64) if flag is None else _flags(path, flag),
        ood=ood,
        remote=remote,
    )


def _opened(given: Any, size_column: str | None) -> tuple[Catalog, Remote | None]:
    """Return the catalog, and where it is if that is no file of this machine."""
    if not isinstance(given, str | os.PathLike):
        if (table := in_memory(given)) is None:
            raise GalmorphError(f"A result is a path, an astropy Table or a data frame, not a {type(given).__name__}.")
        path, size = Path("the table"), {"size_column": size_column}
        return catalog_of(cast(formats.Table, table), path, IN_MEMORY, needs_position=False, **size), None
    catalog = open_catalog(given, size_column=size_column, needs_position=False)
    if not is_remote(given):
        return catalog, None
    remote = Remote.of(given)
    with suppress(GalmorphError):  # most have no record beside them
        shutil.copyfile(Remote(f"{remote.url}.prov.json").kept(), record_path(catalog.path))
    return catalog, remote


def _prefix(path: Path | Remote, names: list[str], prefix: str | None) -> str:
    prefixes = [name[: -len("morph_label")] for name in names if name.lower().endswith("morph_label")]
    if not prefixes:
        raise CatalogError(
            f"{path} has no column morph_label, so it is not a result of galmorph: make one with "
            f"galmorph classify {quote(str(path))}"
        )
    if prefix is None and len(prefixes) == 1:
        return prefixes[0]
    if prefix is None or prefix.lower() not in {p.lower() for p in prefixes}:
        if prefixes == [""]:
            raise CatalogError(f"{path} holds results without a prefix: leave out --prefix")
        listed = ", ".join(repr(p) for p in prefixes)
        raise CatalogError(f"{path} holds results with the prefixes {listed}: choose one with --prefix")
    return prefix


def _own_schema(path: Path | Remote, text: str) -> LabelSchema | None:
    """Return the schema in a catalog or in the record beside it, None if there is none."""
    if not text:
        return None
    try:
        return schema_from_mapping(json.loads(text), f"the label schema in {path}")
    except (ValueError, TypeError, AttributeError, GalmorphError) as error:
        raise CatalogError(f"The label schema that {path} holds is damaged: {error}") from error


def _schema(path: Path | Remote, names: set[str], prefix: str, stated: str, own: LabelSchema | None) -> LabelSchema:
    """Return the schema that has all its labels in the table; of several, the one that the header names."""
    shipped: list[LabelSchema] = [registry.load("schemas", name) for name in registry.names("schemas")]
    schemas = [*([own] if own else []), *shipped]
    fitting = [s for s in schemas if all(f"{prefix}p_{label}".lower() in names for label in s.labels)]
    fitting.sort(key=lambda schema: (schema.name != stated, -len(schema.labels)))
    if not fitting:
        raise CatalogError(
            f"{path} lacks columns p_<label> of every label schema ({', '.join(s.name for s in schemas)})"
        )
    return fitting[0]


def _floats(path: Path | Remote, name: str, columns: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Return a column of numbers as floats, NaN where null; a text column of nulls alone is all NaN."""
    values = columns[name]
    try:
        if values.ndim > 1:
            raise ValueError(f"{values.shape[1:]} numbers in a cell")
        if values.dtype == object:
            return np.array([float(cell) if cell else math.nan for cell in values])
        return np.ma.filled(np.ma.asarray(values).astype(float), np.nan)
    except ValueError as error:
        raise CatalogError(f"{path}, column {name}: {error}; it is not as galmorph wrote it.") from error


def _flags(path: Path | Remote, flag: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return flags as integers, 0 where null."""
    whole = np.nan_to_num(flag, nan=0.0, posinf=-1.0)
    if ((whole < 0) | (whole > _LARGEST_FLAG) | (whole % 1 != 0)).any():
        raise CatalogError(f"{path} holds a morph_flag that is no sum of bits: it is not as galmorph wrote it.")
    return whole.astype(np.int64)
