"""Sources of targets: a catalog with cutouts, a folder of cutouts, one cutout."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from galmorph.classification.matching import CutoutFiles
from galmorph.classification.prepare import Prepared
from galmorph.classification.reading.rows import Row, RowReader
from galmorph.errors import CatalogError, OutputError
from galmorph.files.journal import BLOCK
from galmorph.files.pictures import is_picture
from galmorph.files.record import content_digest, identity
from galmorph.files.remote import Remote
from galmorph.files.writing import Companion
from galmorph.images.picture import PictureWidth
from galmorph.models.card import ModelCard
from galmorph.tables.catalog import Catalog, Column, check_new_catalog, write_catalog

if TYPE_CHECKING:
    import torch

    from galmorph.classification.summary import Summary

# Records of the journal for consecutive rows, and the values of the new columns.
Result = tuple[NDArray[np.void], Mapping[str, NDArray[Any]]]
# Returns the values of a new table's own columns for a slice of rows and their records in the journal.
ValuesOf = Callable[[slice, NDArray[np.void]], Mapping[str, NDArray[Any]]]
_COMPRESSIONS = (".gz", ".bz2", ".fz")


@dataclass(frozen=True)
class Addition:
    """What a run adds to a table, without the values; see :meth:`galmorph.tables.catalog.Catalog.append`."""

    columns: Sequence[Column]
    cards: Sequence[tuple[str, Any, str]]
    replace: bool = False
    companion: Companion | None = None
    overwrite: bool = True


class Source(ABC):
    """Targets in a fixed order.

    Attributes
    ----------
    n_rows : int
        The number of targets; for detected galaxies only after `open`.
    address : str
        Address of a remote input, '' for a local one.
    """

    n_rows: int
    address = ""
    # The input files, with their identities when they were opened.
    _inputs: Mapping[Path, tuple[int, ...]] = MappingProxyType({})

    @property
    @abstractmethod
    def default_output(self) -> Path:
        """The default path of the result."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """Return what identifies this source and its content."""

    def check(self, columns: Sequence[Column], *, replace: bool) -> None:  # noqa: B027 nothing to check
        """Raise CatalogError if the columns cannot be appended; a new table takes any."""

    def check_output(self, destination: Path) -> None:
        """Raise a GalmorphError if the result cannot be written under this name."""
        check_new_catalog(destination)

    def open(self) -> None:  # noqa: B027 nothing to open
        """Read what is needed before the first row, and detect galaxies if there is no catalog."""

    def blocks(self, n_rows: int, start: int) -> Iterator[Sequence[Any]]:
        """Yield blocks of rows from a row on, in the form that `prepare` takes: here their numbers."""
        for first in range(start, self.n_rows, n_rows):
            yield range(first, min(first + n_rows, self.n_rows))

    def names(self) -> Iterator[Sequence[str]]:
        """Yield the identifiers of the rows, in blocks of the journal's; default: the numbers of the rows."""
        for first in range(0, self.n_rows, BLOCK):
            yield [str(row) for row in range(first, min(first + BLOCK, self.n_rows))]

    def verify(self) -> None:
        """Raise CatalogError if an input file has changed since the run began."""
        for path, state in self._inputs.items():
            if identity(path) != state:
                raise CatalogError(
                    f"{path} changed while it was being classified: nothing was written. Run it again when it is whole."
                )

    def states(self, rows: Sequence[Any]) -> list[int]:
        """Return a number for each row that changes with its file; 0 for rows without a file."""
        return [0] * len(rows)

    @abstractmethod
    def prepare(self, rows: Sequence[Any], card: ModelCard, device: torch.device) -> list[Prepared]:
        """Read rows and frame them as a card asks; flux may be on the device."""

    def row_reader(self, card: ModelCard) -> RowReader | None:  # noqa: ARG002
        """Return what reads and frames a row; None where rows are prepared together."""
        return None

    def own_columns(self) -> tuple[Sequence[Column], ValuesOf]:
        """Return the columns of a new table before those of the results, and the function that gives their values."""
        return (), lambda *_: {}

    def write(self, destination: Path, added: Addition, results: Iterable[Result]) -> None:
        """Write the table, here a new one; results are blocks of consecutive rows, all of them together."""
        own, values = self.own_columns()
        settings = {name: value for name, value in vars(added).items() if name not in ("columns", "replace")}
        write_catalog(destination, [*own, *added.columns], new_blocks(values, results), self.n_rows, **settings)

    def finish(self, summary: Summary) -> Any:
        """Return the result of the run: the summary, or the table if one was given."""
        return summary


class CutoutRows(Source):
    """Targets each with the path of its cutout.

    Attributes
    ----------
    cutout_hdu : int or str, optional
    locates : bool
        Whether to return the positions of the cutouts' centres.
    pictures : PictureWidth
        How wide cutouts that are pictures are.
    """

    cutout_hdu: int | str | None = None
    pictures = PictureWidth()
    locates = False

    @abstractmethod
    def blocks(self, n_rows: int, start: int) -> Iterator[list[Row]]:
        """Yield blocks of rows from a row on."""

    def row_reader(self, card: ModelCard) -> RowReader:
        """Return what reads and frames a row."""
        return RowReader(card, self.cutout_hdu, self.locates, self.pictures)

    def prepare(self, rows: Sequence[Row], card: ModelCard, device: torch.device) -> list[Prepared]:  # noqa: ARG002
        """Read the cutouts one by one; an unexpected error concerns its row, not the run."""
        return list(map(self.row_reader(card), rows))

    def states(self, rows: Sequence[Row]) -> list[int]:
        """Return the states of the rows' cutouts."""
        return [row.state for row in rows]


class CatalogSource(CutoutRows):
    """A catalog whose rows name their cutouts.

    Parameters
    ----------
    files : CutoutFiles
        The cutouts of its rows.
    hdu : int or str, optional
        HDU of the cutouts, where a file holds several images.
    """

    def __init__(self, catalog: Catalog, files: CutoutFiles, hdu: int | str | None = None) -> None:
        self.catalog = catalog
        self._inputs = {catalog.path: catalog.opened}
        self.n_rows = catalog.n_rows
        self.cutout_hdu = hdu
        self._files = files

    @property
    def default_output(self) -> Path:
        """``<stem>_morph.<suffix>`` beside the catalog."""
        return output_beside(self.catalog.path)

    def fingerprint(self) -> dict[str, Any]:
        """Return path, size and time of the catalog, and the folder of cutouts."""
        catalog = self.catalog
        return {
            **file_state(catalog.path),
            "cutouts": str(self._files.folder),
            "columns": [catalog.id_column, catalog.cutout_column],
            "size": catalog.size_column,
            "image_hdu": self.cutout_hdu,
        }

    def check(self, columns: Sequence[Column], *, replace: bool) -> None:
        """Raise CatalogError if the catalog has one of the columns already."""
        self.catalog.check_columns(columns, replace=replace)

    def check_output(self, destination: Path) -> None:
        """Raise CatalogError if the destination's suffix means another format than the catalog's."""
        self.catalog.check_destination(destination)

    def blocks(self, n_rows: int, start: int) -> Iterator[list[Row]]:
        """Yield blocks of rows from a row on."""
        for targets in self.catalog.blocks(n_rows, start):
            cutouts = map(self._files.of, targets.cutout, targets.id)
            numbers = (getattr(targets, name).tolist() for name in ("radius_arcsec", "ra", "dec"))
            yield [Row(*values) for values in zip(cutouts, *numbers, strict=True)]

    def names(self) -> Iterator[Sequence[str]]:
        """Yield the identifiers of the rows, in blocks of the journal's."""
        return (targets.id.tolist() for targets in self.catalog.blocks(BLOCK))

    def write(self, destination: Path, added: Addition, results: Iterable[Result]) -> None:
        """Copy the catalog with the columns appended."""
        self.catalog.append(destination, blocks=(new for _, new in results), **vars(added))


class CutoutSource(CutoutRows):
    """Cutouts without a catalog: their identifiers and positions come from their headers.

    Parameters
    ----------
    path : Path or Remote
        The folder, or the one cutout.
    hdu : int or str, optional
    """

    locates = True

    def __init__(
        self, path: Path | Remote, files: Sequence[tuple[str, Path | Remote]], hdu: int | str | None = None
    ) -> None:
        self.n_rows = len(files)
        self.cutout_hdu = hdu
        self._path = path
        self._folder = path if path.is_dir() else path.parent
        self._files = files

    @property
    def default_output(self) -> Path:
        """``<name>_morph.fits`` beside the folder or the cutout."""
        if isinstance(self._path, Remote):
            return Path(f"{Path(self._path.url).name}_morph.fits")
        path = self._path.resolve()
        stem = path.name if path.is_dir() else cutout_name(path).replace("{band}", "").rstrip("-_.")
        return path.with_name(f"{stem}_morph.fits")

    def fingerprint(self) -> dict[str, Any]:
        """Return the folder and the names of its cutouts."""
        path = self._path.resolve() if isinstance(self._path, Path) else self._path
        return {"path": str(path), "files": [str(path) for _, path in self._files]}

    def check_output(self, destination: Path) -> None:
        """Raise a GalmorphError if the destination would replace a cutout, or cannot hold the names as a table."""
        check_new_catalog(destination, (text for name, path in self._files for text in (name, self._name(path))))
        if any(isinstance(path, Path) and destination.resolve() == path.resolve() for _, path in self._files):
            raise OutputError(f"The output {destination} is one of the cutouts: choose another --out.")

    def blocks(self, n_rows: int, start: int) -> Iterator[list[Row]]:
        """Yield blocks of rows from a row on."""
        for first in range(start, self.n_rows, n_rows):
            yield [Row(path) for _, path in self._files[first : first + n_rows]]

    def names(self) -> Iterator[Sequence[str]]:
        """Yield the names of the cutouts, in blocks of the journal's."""
        names = [name for name, _ in self._files]
        return (names[first : first + BLOCK] for first in range(0, len(names), BLOCK))

    def own_columns(self) -> tuple[Sequence[Column], ValuesOf]:
        """Return identifier, position and path of each cutout."""
        names, paths = [name for name, _ in self._files], [self._name(path) for _, path in self._files]
        own = (
            Column("id", "str", ucd="meta.id;meta.main", description="name of the cutout", width=_width(names)),
            Column("ra", "float64", unit="deg", ucd="pos.eq.ra;meta.main", description="ICRS, of the cutout's centre"),
            Column(
                "dec", "float64", unit="deg", ucd="pos.eq.dec;meta.main", description="ICRS, of the cutout's centre"
            ),
            Column("cutout", "str", ucd="meta.ref.url", description="path in the folder", width=_width(paths)),
        )

        def values(rows: slice, records: NDArray[np.void]) -> dict[str, NDArray[Any]]:
            texts = {"id": names[rows], "cutout": paths[rows]}
            arrays = {name: np.array(cells, dtype=object) for name, cells in texts.items()}
            return arrays | {"ra": records["ra"], "dec": records["dec"]}

        return own, values

    def _name(self, path: Any) -> str:
        return str(path.relative_to(self._folder))


def cutout_name(path: Path) -> str:
    """Return the name of a cutout without its suffix."""
    return path.stem if is_picture(path) else path.name.split(".fit")[0]


def new_blocks(values: ValuesOf, results: Iterable[Result]) -> Iterator[Mapping[str, NDArray[Any]]]:
    """Yield the rows of a new table: the values of its own columns, and the results."""
    first = 0
    for records, new in results:
        rows = slice(first, first + len(records))
        first += len(records)
        yield {**values(rows, records), **new}


def _width(texts: Iterable[str]) -> int:
    """Return the length of the longest text in bytes."""
    return max((len(text.encode()) for text in texts), default=1)


def output_beside(path: Path, ending: str = "_morph") -> Path:
    """Return ``<stem>_morph.<suffix>`` beside a catalog; or with another ending of the stem."""
    suffix = "".join(path.suffixes[-2:]) if path.suffix in _COMPRESSIONS else path.suffix
    return path.with_name(f"{path.name.removesuffix(suffix)}{ending}{suffix}")


def file_state(path: Path) -> dict[str, Any]:
    """Return what identifies a file and its content: path, inode, size, time of change, hash of the content."""
    state = dict(zip(("inode", "bytes", "modified_ns"), identity(path), strict=True))
    return {"path": str(path.resolve()), **state, "content": content_digest(path)}
