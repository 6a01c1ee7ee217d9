"""Sources: where classification takes its targets from: a catalog with cutouts, a folder of cutouts, one cutout."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import CatalogError, OutputError
from galmorph.files.writing import Companion
from galmorph.images.cutout import cutout_files
from galmorph.tables.catalog import Catalog, Column, write_catalog

# Rows of a target: the path of its cutout, or the reason (text) why it has none; and its radius in arcsec or NaN.
Row = tuple[Path | str, float]
# Of consecutive rows: the journal's records, and the values of the new columns.
Result = tuple[NDArray[np.void], Mapping[str, NDArray[Any]]]
_COMPRESSIONS = (".gz", ".bz2", ".fz")


@dataclass(frozen=True)
class Addition:
    """What a run adds to a table, but for the values; as of :meth:`galmorph.tables.catalog.Catalog.append`."""

    columns: Sequence[Column]
    cards: Sequence[tuple[str, Any, str]]
    replace: bool = False
    companion: Companion | None = None


class Source(Protocol):
    """Targets in a fixed order."""

    @property
    def n_rows(self) -> int:
        """The number of targets."""
        ...

    @property
    def default_output(self) -> Path:
        """Where the result goes if nothing else is said."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """Return what tells this source from another, or from itself after a change."""
        ...

    def check(self, columns: Sequence[Column], *, replace: bool) -> None:
        """Raise CatalogError if the columns cannot be appended."""
        ...

    def check_output(self, destination: Path) -> None:
        """Raise a GalmorphError if the result cannot be written under this name."""
        ...

    def blocks(self, n_rows: int, start: int) -> Iterator[Sequence[Any]]:
        """Yield blocks of rows from a row on: what the source's own way of preparing them needs."""
        ...

    def write(self, destination: Path, added: Addition, results: Iterable[Result]) -> None:
        """Write the table with columns appended; results are blocks of consecutive rows, all of them together."""
        ...


class CutoutRows(Source, Protocol):
    """Targets each with the path of its cutout."""

    cutout_hdu: int | None
    locates: bool

    def blocks(self, n_rows: int, start: int) -> Iterator[list[Row]]:
        """Yield blocks of rows from a row on."""
        ...


class CatalogSource:
    """A catalog whose rows name their cutouts.

    Parameters
    ----------
    catalog : Catalog
    folder : Path
        Cutout paths are relative to it and may not leave it.
    by_id : bool
        There is no cutout column: the files are named by identifier.
    """

    cutout_hdu: int | None = None
    locates = False

    def __init__(self, catalog: Catalog, folder: Path, *, by_id: bool) -> None:
        self.catalog = catalog
        self.n_rows = catalog.n_rows
        self._folder = folder.resolve()
        self._by_id = {name: Path(file) for name, file in cutout_files(folder)} if by_id else None

    @property
    def default_output(self) -> Path:
        """``<stem>_morph.<suffix>`` beside the catalog."""
        return output_beside(self.catalog.path)

    def fingerprint(self) -> dict[str, Any]:
        """Return path, size and time of the catalog, and the folder of cutouts."""
        return {**file_state(self.catalog.path), "cutouts": str(self._folder), "size": self.catalog.size_column}

    def check(self, columns: Sequence[Column], *, replace: bool) -> None:
        """Raise CatalogError if the catalog has one of the columns already."""
        self.catalog.check_columns(columns, replace=replace)

    def check_output(self, destination: Path) -> None:
        """Raise CatalogError if the destination's suffix means another format than the catalog's."""
        self.catalog.check_destination(destination)

    def blocks(self, n_rows: int, start: int) -> Iterator[list[Row]]:
        """Yield blocks of rows from a row on."""
        for targets in self.catalog.blocks(n_rows, start):
            yield [
                (self._path(text, name), float(radius))
                for text, name, radius in zip(targets.cutout, targets.id, targets.radius_arcsec, strict=True)
            ]

    def _path(self, text: str, name: str) -> Path | str:
        if self._by_id is not None:
            return self._by_id.get(name) or f"{name}: there is no cutout of this name in {self._folder}."
        if not text:
            return f"{name}: the catalog names no cutout."
        path = self._folder / text
        if not path.resolve().is_relative_to(self._folder):
            return f"{name}: the cutout {text} lies outside {self._folder}; name its folder with --cutouts."
        return path

    def write(self, destination: Path, added: Addition, results: Iterable[Result]) -> None:
        """Copy the catalog with the columns appended."""
        values = (new for _, new in results)
        self.catalog.append(
            destination, added.columns, values, cards=added.cards, replace=added.replace, companion=added.companion
        )


class CutoutSource:
    """Cutouts without a catalog: their identifiers and positions come from their headers.

    Parameters
    ----------
    path : Path
        The folder, or the one cutout.
    files : list of (identifier, path)
    hdu : int or None
    """

    locates = True

    def __init__(self, path: Path, files: list[tuple[str, Path]], hdu: int | None) -> None:
        self.n_rows = len(files)
        self.cutout_hdu = hdu
        self._path = path
        self._folder = path if path.is_dir() else path.parent
        self._files = files

    @property
    def default_output(self) -> Path:
        """``<name>_morph.fits`` beside the folder or the cutout."""
        path = self._path.resolve()
        stem = path.name if path.is_dir() else path.name.split(".fit")[0].replace("{band}", "").rstrip("-_.")
        return path.with_name(f"{stem}_morph.fits")

    def fingerprint(self) -> dict[str, Any]:
        """Return the folder and the names of its cutouts."""
        return {"path": str(self._path.resolve()), "files": [str(path) for _, path in self._files]}

    def check(self, columns: Sequence[Column], *, replace: bool) -> None:
        """Nothing can clash: the table is new."""

    def check_output(self, destination: Path) -> None:
        """Raise OutputError if the destination would replace a cutout."""
        if any(destination.resolve() == path.resolve() for _, path in self._files):
            raise OutputError(f"The output {destination} is one of the cutouts: choose another --out.")

    def blocks(self, n_rows: int, start: int) -> Iterator[list[Row]]:
        """Yield blocks of rows from a row on."""
        for first in range(start, self.n_rows, n_rows):
            yield [(path, math.nan) for _, path in self._files[first : first + n_rows]]

    def write(self, destination: Path, added: Addition, results: Iterable[Result]) -> None:
        """Write a new table: identifier, position and path of each cutout, and the columns."""
        names, paths = [name for name, _ in self._files], [self._name(path) for _, path in self._files]
        own = (
            Column("id", "str", ucd="meta.id;meta.main", description="name of the cutout", width=_width(names)),
            Column("ra", "float64", unit="deg", ucd="pos.eq.ra;meta.main", description="ICRS, of the cutout's centre"),
            Column(
                "dec", "float64", unit="deg", ucd="pos.eq.dec;meta.main", description="ICRS, of the cutout's centre"
            ),
            Column("cutout", "str", ucd="meta.ref.url", description="path in the folder", width=_width(paths)),
        )
        write_catalog(
            destination,
            [*own, *added.columns],
            self._blocks_of_all_columns(results),
            self.n_rows,
            cards=added.cards,
            companion=added.companion,
        )

    def _blocks_of_all_columns(self, results: Iterable[Result]) -> Iterator[dict[str, NDArray[Any]]]:
        first = 0
        for records, values in results:
            files = self._files[first : first + len(records)]
            first += len(records)
            yield {
                **values,
                "id": np.array([name for name, _ in files], dtype=object),
                "ra": records["ra"],
                "dec": records["dec"],
                "cutout": np.array([self._name(path) for _, path in files], dtype=object),
            }

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self._folder))


def cutout_folder(catalog: Catalog, cutouts: str | Path | None, beside: Path) -> Path:
    """Return the folder of a catalog's cutouts: the one given, or that `beside` it.

    Raises
    ------
    CatalogError
        If the catalog names no cutouts and no folder is given, or it is none.
    """
    if catalog.cutout_column is None and cutouts is None:
        raise CatalogError(
            f"{catalog.path} has no column 'cutout' and --cutouts names no folder: get cutouts with "
            f"galmorph fetch --catalog {catalog.path.name}, or give --cutouts DIR with files named <id>.fits."
        )
    folder = Path(cutouts) if cutouts is not None else beside
    if not folder.is_dir():
        raise CatalogError(f"--cutouts {folder} is not a folder.")
    return folder


def _width(texts: Iterable[str]) -> int:
    """Return the bytes that the longest text takes."""
    return max((len(text.encode()) for text in texts), default=1)


def output_beside(path: Path) -> Path:
    """Return ``<stem>_morph.<suffix>`` beside a catalog."""
    suffix = "".join(path.suffixes[-2:]) if path.suffix in _COMPRESSIONS else path.suffix
    return path.with_name(f"{path.name.removesuffix(suffix)}_morph{suffix}")


def file_state(path: Path) -> dict[str, Any]:
    """Return path, size and time of a file, which tell it from another or from itself after a change."""
    status = path.stat()
    return {"path": str(path.resolve()), "bytes": status.st_size, "modified_ns": status.st_mtime_ns}
