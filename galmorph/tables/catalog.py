"""Catalogs of targets: the user's table in, and the same table out with columns appended.

The formats are in :mod:`galmorph.tables.formats`; here is what they share: which columns hold the position, the
identifier, the size and the cutout, and which columns may be written.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from galmorph import registry
from galmorph.errors import CatalogError, listed
from galmorph.files.record import identity
from galmorph.files.remote import local
from galmorph.files.writing import Companion, Output
from galmorph.tables.blocks import checked_blocks, stated_blocks
from galmorph.tables.contents import contents_of, format_of, named_format, plain_suffix
from galmorph.tables.conversion import Conversion
from galmorph.tables.formats import Added, Array, Card, Column, Format, Provenance, Table, check_cards, text_array
from galmorph.tables.location import located
from galmorph.tables.positions import Frame, Positions, to_float
from galmorph.tables.replacement import check_names, own_columns, replaced_columns
from galmorph.tables.roles import Roles, find_roles, id_candidates, named, no_position
from galmorph.tables.targets import Targets, as_numbers, as_text, with_points

__all__ = ["Catalog", "Column", "Targets", "open_catalog", "write_catalog"]

_READ_ROWS = 16384


@dataclass(frozen=True)
class Catalog:
    """An opened catalog; made by `open_catalog`.

    Parameters
    ----------
    path : Path
        The file.
    format : str
        The table format, a name of ``registry.names("tables")``.
    opened : tuple of int
        What identified the file when it was opened (`galmorph.files.record.identity`).
    """

    path: Path
    format: str
    _table: Table
    _roles: Roles
    _positions: Positions | None
    opened: tuple[int, ...] = ()

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return self._table.n_rows

    @property
    def column_names(self) -> tuple[str, ...]:
        """The names of all columns, in order."""
        return tuple(field.name for field in self._table.fields)

    @property
    def units(self) -> dict[str, str]:
        """The units of the columns that have one, by name."""
        return {field.name: field.unit for field in self._table.fields if field.unit}

    @property
    def galmorph_columns(self) -> tuple[str, ...]:
        """The names of the columns that earlier runs of galmorph wrote; see `own_columns`."""
        return own_columns(self.column_names, self._table.provenance.columns)

    @property
    def provenance(self) -> tuple[Card, ...]:
        """The header cards that galmorph wrote: (keyword, value, comment)."""
        return self._table.provenance.cards

    @property
    def has_positions(self) -> bool:
        """Whether the catalog has columns of positions."""
        return self._positions is not None

    @property
    def ra_column(self) -> str | None:
        """The name of the right ascension (or longitude) column."""
        return self._name(self._roles.ra)

    @property
    def dec_column(self) -> str | None:
        """The name of the declination (or latitude) column."""
        return self._name(self._roles.dec)

    @property
    def id_column(self) -> str | None:
        """The name of the identifier column; '' where a CSV file does not name it."""
        return self._name(self._roles.id)

    @property
    def size_column(self) -> str | None:
        """The name of the size column."""
        return self._name(self._roles.size)

    @property
    def cutout_column(self) -> str | None:
        """The name of the column of cutout paths."""
        return self._name(self._roles.cutout)

    @property
    def no_position(self) -> str:
        """Why there are no positions, and what to do."""
        return self._roles.unclear or no_position(self.column_names, self.path)

    @property
    def chosen(self) -> frozenset[str]:
        """Which of ``ra``, ``dec``, ``id``, ``size``, ``cutout`` are columns that the user named."""
        return self._roles.chosen

    @property
    def id_candidates(self) -> list[int]:
        """The positions of the columns that may be the identifier, the likeliest first."""
        return id_candidates(self._table.fields)

    @property
    def scalar_columns(self) -> list[int]:
        """The positions of the columns that hold one value in each cell."""
        return [i for i, field in enumerate(self._table.fields) if field.scalar]

    @property
    def within_column(self) -> str | None:
        """The name of the column of bricks, which identifiers that are unique within a brick only begin with."""
        return self._name(self._roles.within)

    def by_identifier(self, id: int | None = None) -> Catalog:
        """Return the catalog with a column of identifiers, by its position, and without one of cutouts."""
        changed = {"cutout": None} if id is None else {"cutout": None, "id": id, "within": None}
        return replace(self, _roles=replace(self._roles, **changed))

    def _name(self, position: int | None) -> str | None:
        return None if position is None else self._table.fields[position].name

    def blocks(self, n_rows: int, start: int = 0) -> Iterator[Targets]:
        """Iterate over the catalog in blocks of `n_rows` rows (the last may be shorter), in constant memory.

        Parameters
        ----------
        n_rows : int
            Rows of a block, at least 1.
        start : int
            The row to begin with.

        Raises
        ------
        CatalogError
            If the file turns out damaged.
        """
        if n_rows < 1 or start < 0:
            raise CatalogError(f"blocks of {n_rows} rows from row {start} cannot be read")
        wanted = self._roles.columns
        blocks = stated_blocks(self._table, wanted, n_rows, start) if wanted else repeat(())
        for first, values in zip(range(start, self.n_rows, n_rows), blocks, strict=bool(wanted)):
            row = np.arange(first, min(first + n_rows, self.n_rows), dtype=np.int64)
            yield self._targets(row, dict(zip(wanted, values, strict=True)))

    def _targets(self, row: Array, values: Mapping[int, Array]) -> Targets:
        roles, n = self._roles, len(row)
        ra, dec, problem = np.full(n, np.nan), np.full(n, np.nan), text_array([""] * n)
        if self._positions is not None and roles.ra is not None and roles.dec is not None:
            ra, dec, problem = self._positions.icrs(*(self._numbers(values[p], p) for p in (roles.ra, roles.dec)))
        radius = np.full(n, np.nan)
        if roles.size is not None:
            radius = to_float(self._numbers(values[roles.size], roles.size)) * roles.size_scale
            radius[~(np.isfinite(radius) & (radius > 0))] = np.nan
        return Targets(
            row=row,
            id=self._identifiers(row, values),
            ra=ra,
            dec=dec,
            cutout=as_text(values[roles.cutout]) if roles.cutout is not None else text_array([""] * n),
            radius_arcsec=radius,
            problem=problem,
        )

    def _identifiers(self, row: NDArray[np.int64], values: Mapping[int, Array]) -> NDArray[np.object_]:
        roles = self._roles
        if roles.id is None:
            return text_array(map(str, row.tolist()))
        ids = as_text(values[roles.id])
        if roles.within is None:
            return ids
        bricks = as_text(values[roles.within])
        return text_array(f"{brick}_{id}" if id else "" for brick, id in zip(bricks, ids, strict=True))

    def _numbers(self, values: Array, position: int) -> Array:
        return with_points(values, self._table.fields[position].decimal)

    def read(self, names: Sequence[str]) -> dict[str, Array]:
        """Read whole columns.

        Parameters
        ----------
        names : sequence of str
            Names of columns; upper and lower case are the same where that is not ambiguous.

        Returns
        -------
        dict of str to ndarray
            By the given names. Null is NaN in a column of floats, masked in one of integers and '' in text. Columns
            of a CSV file are integers or floats where every cell is one (or null), else text.

        Raises
        ------
        CatalogError
            If there is no such column.
        """
        positions = [named(self._table.fields, name, str(self.path)) for name in names]
        blocks = list(stated_blocks(self._table, positions, _READ_ROWS, 0)) or [[np.array([])] * len(names)]
        columns: dict[str, Array] = {}
        for name, position, chunks in zip(names, positions, zip(*blocks, strict=True), strict=True):
            masked = any(isinstance(chunk, np.ma.MaskedArray) for chunk in chunks)
            values = np.ma.concatenate(chunks) if masked else np.concatenate(chunks)
            text = self._table.fields[position].text
            if values.dtype == object and not text:
                numbers = as_numbers(self._numbers(values, position), is_number=text is False)
                values = values if numbers.dtype == object else numbers
            columns[name] = np.ma.filled(values, np.nan) if masked and values.dtype.kind in "fc" else values
        return columns

    def append(
        self,
        destination: str | Path,
        columns: Sequence[Column],
        blocks: Iterable[Mapping[str, Array]],
        *,
        cards: Sequence[Card] = (),
        replace: bool = False,
        companion: Companion | None = None,
        overwrite: bool = True,
    ) -> None:
        """Write the catalog with columns appended; what the file holds already is copied as it is.

        Parameters
        ----------
        destination : str or Path
            The new file, of the format that its suffix names, else of the catalog's; it appears only when it is
            complete, and may be the catalog itself.
        columns : sequence of Column
            The columns to append.
        blocks : iterable of mappings from column name to ndarray
            The values of consecutive blocks of rows, which together are exactly the rows of the catalog.
        cards : sequence of (keyword, value, comment)
            Provenance: header cards in FITS, and the like elsewhere. A keyword of the user's own header is not touched
            (the card becomes a line of history then); a card of an earlier run of galmorph moves to the history.
        replace : bool
            Replace columns of the same names that galmorph wrote (they move to the end), and its cards of the same
            keywords. A classification replaces the one before under the same prefix whole: of two models' columns
            none are left side by side.
        companion : callable, optional
            From the complete file, before it takes its name: the path and content of one that takes its name with it,
            and whether that one may replace a file; or None.
        overwrite : bool
            Whether a file that has the destination's name is replaced.

        Raises
        ------
        CatalogError
            If a column exists already and may not be replaced, if the blocks do not fit the catalog, or if the format
            cannot hold the result.
        OutputError, CannotContinue
            If the file cannot be written.
        """
        path = Path(destination)
        self.check_destination(path)
        dropped, provenance = self.changes(columns, cards, replace=replace)
        new = checked_blocks(columns, blocks, self.n_rows)
        form = self._form_of(path)
        with Output(path, companion, replace=overwrite) as output:
            if form.name == self.format:
                self._table.append(output, Added(columns, new, provenance, dropped))
            else:
                converted = self._conversion
                both = [*converted.columns(dropped), *columns]
                form.write(output, Added(both, converted.blocks(dropped, new), provenance), self.n_rows)
            if next(new, None) is not None:
                raise CatalogError(f"{self.path} is damaged: it has fewer rows than the {self.n_rows} that it states")

    def write_rows(self, destination: Path, keep: NDArray[np.bool_], *, overwrite: bool) -> None:
        """Write some of the rows, as `append` writes all."""
        self.check_destination(destination)
        form = self._form_of(destination)
        with Output(destination, replace=overwrite) as output:
            if form.name == self.format:
                self._table.write_rows(output, keep)
                return
            columns, rows = self._conversion.columns(()), self._conversion.rows(keep)
            form.write(output, Added(columns, rows, self._table.provenance), int(keep.sum()))

    @cached_property
    def _conversion(self) -> Conversion:
        return Conversion(self._table)

    def _form_of(self, destination: Path) -> Format:
        """Return the format of a copy under this name.

        The content of all formats but CSV says what it is: such a file may have any name, such as ``*.cat``.
        """
        if self.format not in registry.names("tables"):  # of a table in memory
            return named_format(destination)
        form: Format = registry.load("tables", self.format)
        if plain_suffix(destination) == plain_suffix(self.path):
            return form
        return (named_format(destination) if form.name == "csv" else format_of(destination)) or form

    def changes(
        self, columns: Sequence[Column], cards: Sequence[Card], *, replace: bool
    ) -> tuple[frozenset[int], Provenance]:
        """Return the positions of the columns that new ones replace, and the provenance after them; see `append`."""
        dropped = self._replaced(columns, replace)
        replaced = {self._table.fields[position].name.lower() for position in dropped}
        old = self._table.provenance
        gone = {name for name in old.columns if name.lower() in replaced}
        return dropped, old.updated([column.name for column in columns], check_cards(cards), gone)

    def check_destination(self, destination: Path) -> None:
        """Raise a GalmorphError if the catalog cannot be written under this name.

        Raises
        ------
        CatalogError
            If the file would be of another format and something of the catalog would be lost in it, or a CSV file whose
            extension belongs to no format.
        OutputError
            If a file that galmorph did not write has the name of one that would be written beside it.
        """
        form = self._form_of(destination)
        if form.name != self.format and (lost := self._conversion.losses(form)):
            if self.format not in registry.names("tables"):
                raise CatalogError(f"{destination} would be {form.name}, and {listed(lost)} would be lost in it")
            own: Format = registry.load("tables", self.format)
            raise CatalogError(
                f"{destination} would be {form.name}, but {self.path} is {own.name}, and {listed(lost)} would be lost: "
                f"name it *{own.suffixes[0]}"
            )
        if form.check is not None:
            form.check(Path(os.path.realpath(destination)))

    def check_columns(self, columns: Sequence[Column], *, replace: bool) -> None:
        """Raise CatalogError if the columns cannot be appended, or do not replace galmorph's own."""
        n_columns = len(self.column_names) - len(self._replaced(columns, replace)) + len(columns)
        form: Format | None = registry.load("tables", self.format) if self.format in registry.names("tables") else None
        if form is not None and n_columns > form.max_columns:
            raise CatalogError(
                f"{self.path} would have {n_columns} columns, and {form.name} holds {form.max_columns} at most: leave "
                "out some, or save it in another format"
            )

    def _replaced(self, columns: Sequence[Column], replace: bool) -> frozenset[int]:
        return replaced_columns(self.path, self.column_names, self.galmorph_columns, columns, replace=replace)


def open_catalog(
    path: str | os.PathLike[str],
    *,
    hdu: int | None = None,
    ra_column: str | None = None,
    dec_column: str | None = None,
    id_column: str | None = None,
    size_column: str | None = None,
    cutout_column: str | None = None,
    frame: str | None = None,
    needs_position: bool = True,
) -> Catalog:
    """Open a catalog: FITS, CSV, ECSV, VOTable or Parquet, by its content first and then by its suffix.

    Parameters
    ----------
    path : str or Path
        The file, or its address. FITS and the text formats may be compressed with gzip or bzip2.
    hdu : int, optional
        The HDU of a FITS file or the TABLE of a VOTable, from 0; default: the one table of galaxies.
    ra_column, dec_column : str, optional
        The columns of the position, both or neither. Default: by UCD (``pos.eq.ra;meta.main``), else by the usual
        names.
    id_column : str, optional
        Default: by UCD (``meta.id;meta.main``), else by the usual names, else a CSV file's unnamed first column.
    size_column : str, optional
        A radius, in arcsec where the column has no unit. Default: ``petroR90_r`` and its like.
    cutout_column : str, optional
        Default: the column ``cutout``, else ``file_loc`` and its like.
    frame : str, optional
        The frame of the positions, by astropy's name. Default: that which the file declares or the names of the columns
        state, else ICRS.
    needs_position : bool
        Whether several columns that could all be the position are an error; else such a catalog has none.

    Raises
    ------
    CatalogError
        If the file is not a table that can be read and written without loss, or its columns are not clear.
    """
    path = local(path)
    columns = {"ra_column": ra_column, "dec_column": dec_column, "id_column": id_column, "size_column": size_column}
    columns["cutout_column"] = cutout_column
    state = identity(path)
    contents = contents_of(path, hdu, named=[name for name in columns.values() if name], wanted="table")
    form = contents.format or registry.load("tables", "fits")  # of an image that --hdu names it says what is wrong
    opened = form.open(path, contents.number)
    catalog = catalog_of(opened, path, form.name, frame, needs_position=needs_position, **columns)
    return replace(catalog, opened=state)


def catalog_of(
    table: Table, path: Path, form: str, frame: str | None = None, *, needs_position: bool = True, **columns: str | None
) -> Catalog:
    """Return an opened table as a catalog; `columns` are those of `open_catalog`.

    Raises
    ------
    CatalogError
        If its columns are not clear.
    """
    sky = None if frame is None else Frame(frame)
    try:
        roles = find_roles(table.fields, sky, **columns)
        if roles.unclear and needs_position:
            raise CatalogError(roles.unclear)
        positions = None
        try:
            positions = located(table, roles, sky)
        except CatalogError as error:
            if needs_position or "ra" in roles.chosen:
                raise
            roles = replace(roles, ra=None, dec=None, unclear=str(error))
    except CatalogError as error:
        raise CatalogError(f"{path}: {error}") from error
    return Catalog(path, form, table, roles, positions)


def check_new_catalog(destination: Path, texts: Iterable[str] = ()) -> None:
    """Raise CatalogError if no format can hold a new table with these texts, OutputError if a file is in its way.

    galmorph did not write such a file, and it has the name of one that would be written beside the table.
    """
    form = named_format(destination)
    if form.check is not None:
        form.check(Path(os.path.realpath(destination)))
    text = next((text for text in texts if not text.isascii()), None) if form.ascii_only else None
    if text is not None:
        raise CatalogError(
            f"{text!r} is not ASCII, and {form.name} holds nothing else: name the output *.csv, or rename it"
        )


def write_catalog(
    destination: str | Path,
    columns: Sequence[Column],
    blocks: Iterable[Mapping[str, Array]],
    n_rows: int,
    *,
    cards: Sequence[Card] = (),
    companion: Companion | None = None,
    overwrite: bool = True,
) -> None:
    """Write a new table, in the format that the suffix names.

    Parameters
    ----------
    destination : str or Path
        The file; it appears only when it is complete.
    columns, blocks, cards, companion, overwrite
        As for `Catalog.append`.
    n_rows : int
        The number of rows.

    Raises
    ------
    CatalogError
        If no format has this suffix or the blocks do not fit.
    OutputError, CannotContinue
        If the file cannot be written.
    """
    path = Path(destination)
    form = named_format(path)
    names = [column.name for column in columns]
    check_names(columns)
    provenance = Provenance().updated(names, check_cards(cards), ())
    with Output(path, companion, replace=overwrite) as output:
        form.write(output, Added(columns, checked_blocks(columns, blocks, n_rows), provenance), n_rows)
