"""Input in memory: tables, data frames, lists of paths and arrays of flux; the result is a table."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from galmorph.classification.matching import match
from galmorph.classification.options import ClassifyOptions
from galmorph.classification.prepare import Opened, Prepared, prepare_opened
from galmorph.classification.sources import (
    Addition,
    CatalogSource,
    CutoutSource,
    Result,
    Source,
    ValuesOf,
    cutout_name,
    new_blocks,
)
from galmorph.classification.summary import Summary
from galmorph.errors import GalmorphError
from galmorph.files.remote import Remote, is_remote
from galmorph.images.cutout import Cutout
from galmorph.models.card import ModelCard
from galmorph.tables import formats as tables
from galmorph.tables.blocks import checked_blocks
from galmorph.tables.catalog import Column, catalog_of
from galmorph.tables.formats import Added, Provenance
from galmorph.tables.frames import FrameTable, is_frame
from galmorph.tables.memory import MemoryTable

if TYPE_CHECKING:
    import torch

# Its name in messages.
_PATH = Path("the table")
_DIGESTED_ROWS = 16_384


class _InMemory(Source):
    """A source without a file: its journal is in a temporary folder, and `finish` returns a table.

    Attributes
    ----------
    result : Table or data frame
        Set by `write`.
    """

    result: Any

    def check_output(self, destination: Path) -> None:
        """Raise a GalmorphError if the table cannot be written to a file that was named."""
        if destination != self.default_output:
            super().check_output(destination)

    def write(self, destination: Path, added: Addition, results: Iterable[Result]) -> None:
        """Make the table, and write it if a file was named."""
        kept = list(results)
        self.result = self._table(added, kept)
        if destination != self.default_output:
            super().write(destination, added, kept)

    def _table(self, added: Addition, results: Iterable[Result]) -> Any:
        own, values = self.own_columns()
        columns = [*own, *added.columns]
        blocks = checked_blocks(columns, new_blocks(values, results), self.n_rows)
        provenance = Provenance().updated([column.name for column in columns], tables.check_cards(added.cards), ())
        return MemoryTable(Table()).appended(Added(columns, blocks, provenance))

    @cached_property
    def default_output(self) -> Path:
        """Not a file, but where the run keeps its results until it is complete."""
        folder = tempfile.mkdtemp(prefix="galmorph-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return Path(folder) / "table"

    def finish(self, summary: Summary) -> Any:  # noqa: ARG002
        """Return the table."""
        return self.result


class MemorySource(_InMemory, CatalogSource):
    """The rows of a table in memory, which name their cutouts; the result is a table of the same kind.

    Parameters
    ----------
    table : MemoryTable or FrameTable
        With a column ``cutout``, or `cutouts` holds ``<id>.fits``.
    cutouts : path, optional
        Folder that the cutout paths are relative to, and may not leave; default: the current one.
    image_hdu : int or str, optional
        HDU of the cutouts.
    **columns
        The options of columns of `galmorph.tables.catalog.open_catalog`.
    """

    def __init__(
        self,
        table: MemoryTable | FrameTable,
        cutouts: str | Path | None,
        image_hdu: int | str | None = None,
        **columns: Any,
    ) -> None:
        self._memory = table
        catalog = catalog_of(cast(tables.Table, table), _PATH, "table", needs_position=False, **columns)
        super().__init__(*match(catalog, cutouts, Path.cwd()), image_hdu)

    def fingerprint(self) -> dict[str, Any]:
        """Return a hash of the columns that are read."""
        digest = hashlib.sha256(str(self._files.folder).encode())
        for targets in self.catalog.blocks(_DIGESTED_ROWS):
            digest.update(repr([targets.id.tolist(), targets.cutout.tolist()]).encode())
            digest.update(np.stack([targets.ra, targets.dec, targets.radius_arcsec]).tobytes())
        return {"content": digest.hexdigest()}

    def _table(self, added: Addition, results: Iterable[Result]) -> Any:
        dropped, provenance = self.catalog.changes(added.columns, added.cards, replace=added.replace)
        new = checked_blocks(added.columns, (values for _, values in results), self.n_rows)
        return self._memory.appended(Added(added.columns, new, provenance, dropped))


class PathsSource(_InMemory, CutoutSource):
    """Cutouts by their paths; the result is an astropy Table.

    Parameters
    ----------
    paths : sequence of path
    hdu : int or str, optional
    """

    def __init__(self, paths: Sequence[str | os.PathLike[str]], hdu: int | str | None = None) -> None:
        files = [Remote.of(path) if is_remote(path) else Path(path) for path in paths]
        super().__init__(Path.cwd(), [(cutout_name(Path(file.name)), file) for file in files], hdu)
        self._texts = {file: os.fspath(path) for file, path in zip(files, paths, strict=True)}

    def _name(self, path: Any) -> str:
        return self._texts[path]


class ArraySource(_InMemory):
    """Galaxies in an array of flux; the result is an astropy Table.

    Parameters
    ----------
    flux : ndarray, shape (n, band, y, x)
        Nanomaggies (AB, zero point 22.5) per pixel, each galaxy in the middle; of one galaxy, (band, y, x).
    bands : sequence of str
    pixscale : float or None
        Arcsec per pixel.

    Raises
    ------
    GalmorphError
        If the shape and the bands do not fit, or the pixel scale is absent.
    """

    def __init__(self, flux: NDArray[Any], bands: Sequence[str], pixscale: float | None) -> None:
        flux = flux[None] if flux.ndim == 3 else flux
        bands = tuple(bands.split(",") if isinstance(bands, str) and "," in bands else bands)
        if flux.ndim != 4 or flux.dtype.kind not in "iuf" or min(flux.shape[2:]) < 1:
            raise GalmorphError(f"An array of flux has the shape (n, band, y, x), not {flux.shape} of {flux.dtype}.")
        if pixscale is None or len(bands) != flux.shape[1]:
            raise GalmorphError(
                f"An array of flux with {flux.shape[1]} bands needs their names and the pixel scale: "
                "galmorph.classify(flux, bands='grz', pixscale=0.262)"
            )
        self._flux, self._bands, self._pixscale = flux, bands, pixscale
        self.n_rows = len(flux)

    def fingerprint(self) -> dict[str, Any]:
        """Return a hash of the array."""
        return {"content": hashlib.sha256(np.ascontiguousarray(self._flux).data).hexdigest()}

    def prepare(self, rows: Sequence[int], card: ModelCard, device: torch.device) -> list[Prepared]:  # noqa: ARG002
        """Frame galaxies as a card asks, with measured radii."""
        entry = card.input_for("", self._bands, self._pixscale)
        return [prepare_opened(Opened(self._cutout(row), entry, np.nan), f"galaxy {row}", card) for row in rows]

    def _cutout(self, row: int) -> Cutout:
        flux = np.ascontiguousarray(self._flux[row], np.float32)
        return Cutout(f"galaxy {row}", "", self._bands, flux, self._pixscale, self._pixscale)

    def own_columns(self) -> tuple[Sequence[Column], ValuesOf]:
        """Return the numbers of the galaxies."""
        own = (Column("id", "int64", ucd="meta.id;meta.main", description="number in the array, from 0"),)
        return own, lambda part, _: {"id": np.arange(part.start, part.stop)}


def memory_source(given: Any, options: ClassifyOptions) -> MemorySource | PathsSource | ArraySource:
    """Return the source of an object in memory.

    Raises
    ------
    GalmorphError
        If it is of another kind, or options of another kind are given.
    """
    if isinstance(given, np.ndarray):
        return ArraySource(given, options.bands, options.pixscale)
    if options.bands or options.pixscale is not None:
        raise GalmorphError("bands and pixscale are those of an array of flux: files say them in their headers.")
    if isinstance(given, Table) or is_frame(given):
        table = MemoryTable(given) if isinstance(given, Table) else FrameTable(given)
        return MemorySource(table, options.cutouts, options.image_hdu, **options.catalog_columns)
    if isinstance(given, Iterable) and not isinstance(given, Mapping):
        paths = list(given)
        if paths and all(isinstance(path, str | os.PathLike) for path in paths):
            return PathsSource(paths, options.image_hdu)
    raise GalmorphError(
        f"A survey is a path, a list of paths, an astropy Table, a data frame or an array of flux, not a "
        f"{type(given).__name__}."
    )
