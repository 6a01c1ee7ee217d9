"""Input in memory: tables, data frames, lists of paths and arrays of flux; the result is a table."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from galmorph.classification.matching import match
from galmorph.classification.options import ClassifyOptions
from galmorph.classification.prepare import Opened, Prepared, prepare_opened
from galmorph.classification.reading.rows import Row
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
from galmorph.tables.frames import FrameTable, in_memory
from galmorph.tables.memory import MemoryTable

if TYPE_CHECKING:
    import torch

# Its name in messages.
_PATH = Path("the table")
_DIGESTED_ROWS = 16_384
Radii = float | Sequence[float] | None


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
    radius_arcsec : float, sequence of float or None
        R90, for all galaxies or each of them.
    """

    def __init__(
        self, paths: Sequence[str | os.PathLike[str]], hdu: int | str | None = None, radius_arcsec: Radii = None
    ) -> None:
        files = [Remote.of(path) if is_remote(path) else Path(path) for path in paths]
        super().__init__(Path.cwd(), [(cutout_name(Path(file.name)), file) for file in files], hdu)
        self._radii = _radii(radius_arcsec, len(files))
        self._texts = {file: os.fspath(path) for file, path in zip(files, paths, strict=True)}

    def fingerprint(self) -> dict[str, Any]:
        """Return the names of the cutouts and the radii."""
        return super().fingerprint() | {"radii": self._radii.tolist()}

    def blocks(self, n_rows: int, start: int) -> Iterator[list[Row]]:
        """Yield blocks of rows from a row on."""
        for rows in super().blocks(n_rows, start):
            radii = self._radii[start : start + len(rows)].tolist()
            start += len(rows)
            yield [row._replace(radius_arcsec=radius) for row, radius in zip(rows, radii, strict=True)]

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
    radius_arcsec : float, sequence of float or None
        R90, for all galaxies or each of them.

    Raises
    ------
    GalmorphError
        If the shape and the bands do not fit, or the pixel scale is absent.
    """

    def __init__(self, flux: NDArray[Any], bands: Sequence[str], pixscale: float | None, radius_arcsec: Radii) -> None:
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
        self._radii = _radii(radius_arcsec, self.n_rows)

    def fingerprint(self) -> dict[str, Any]:
        """Return a hash of the array and the radii."""
        digest = hashlib.sha256(np.ascontiguousarray(self._flux).data)
        digest.update(self._radii.tobytes())
        return {"content": digest.hexdigest()}

    def prepare(self, rows: Sequence[int], card: ModelCard, device: torch.device) -> list[Prepared]:  # noqa: ARG002
        """Frame galaxies as a card asks, with radii that are given or measured on them."""
        entry = card.input_for("", self._bands, self._pixscale)
        opened = [Opened(self._cutout(row), entry, float(self._radii[row])) for row in rows]
        return [prepare_opened(each, f"galaxy {row}", card) for each, row in zip(opened, rows, strict=True)]

    def _cutout(self, row: int) -> Cutout:
        flux = np.ascontiguousarray(self._flux[row], np.float32)
        return Cutout(f"galaxy {row}", "", self._bands, flux, self._pixscale, self._pixscale)

    def own_columns(self) -> tuple[Sequence[Column], ValuesOf]:
        """Return the numbers of the galaxies."""
        own = (Column("id", "int64", ucd="meta.id;meta.main", description="number in the array, from 0"),)
        return own, lambda rows, _: {"id": np.arange(rows.start, rows.stop)}


def _radii(given: Radii, n: int) -> NDArray[np.float64]:
    """Return R90 of each of `n` galaxies in arcsec, NaN where unknown.

    Raises
    ------
    GalmorphError
        If there is another number of them, or one is no number above 0.
    """
    try:
        radii = np.asarray(np.nan if given is None else given, dtype=float)
    except (TypeError, ValueError) as error:
        raise GalmorphError(f"radius_arcsec holds something that is no number: {error}.") from error
    if radii.shape not in ((), (n,)):
        raise GalmorphError(f"radius_arcsec is a number, or one for each of the {n} galaxies, not {radii.shape}.")
    if (radii <= 0).any() or np.isinf(radii).any():
        raise GalmorphError("radius_arcsec holds numbers above 0, and NaN where a radius is unknown.")
    return np.broadcast_to(radii, (n,)).copy()


def memory_source(given: Any, options: ClassifyOptions) -> MemorySource | PathsSource | ArraySource:
    """Return the source of an object in memory.

    Raises
    ------
    GalmorphError
        If it is of another kind, or options of another kind are given.
    """
    if isinstance(given, np.ndarray):
        return ArraySource(given, options.bands, options.pixscale, options.radius_arcsec)
    if options.bands or options.pixscale is not None:
        raise GalmorphError("bands and pixscale are those of an array of flux: files say them in their headers.")
    if (table := in_memory(given)) is not None:
        if options.radius_arcsec is not None:
            raise GalmorphError("A table has its radii in a column: name it with size_column.")
        return MemorySource(table, options.cutouts, options.image_hdu, **options.catalog_columns)
    if isinstance(given, Iterable) and not isinstance(given, Mapping):
        paths = list(given)
        if paths and all(isinstance(path, str | os.PathLike) for path in paths):
            return PathsSource(paths, options.image_hdu, options.radius_arcsec)
    raise GalmorphError(
        f"A survey is a path, a list of paths, an astropy Table, a data frame or an array of flux, not a "
        f"{type(given).__name__}."
    )
