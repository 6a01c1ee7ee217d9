"""Tables in memory: an astropy Table as a catalog, and a copy with columns appended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from astropy.table import Column as TableColumn
from astropy.table import Table

from galmorph.tables.blocks import joined
from galmorph.tables.formats import Added, Array, Provenance, TableField, native, text_array
from galmorph.tables.formats._extra import Extra
from galmorph.tables.systems import card_frame


class MemoryTable:
    """An astropy Table as a table format: read in blocks; columns are appended to a copy."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self.n_rows = len(table)
        frame = card_frame({key: str(value) for key, value in table.meta.items()})
        self.fields = tuple(_field(name, table[name], frame) for name in table.colnames)
        self.provenance = Provenance.from_cards(lambda key: (table.meta.get(key), ""))

    def blocks(self, positions: Sequence[int], n_rows: int, start: int) -> Iterator[list[Array]]:
        """Yield blocks of rows: numbers masked where null, text as objects."""
        columns = [self._table[self._table.colnames[position]] for position in positions]
        for first in range(start, self.n_rows, n_rows):
            yield [_cells(column[first : first + n_rows]) for column in columns]

    def extra(self) -> Extra:
        """Return the descriptions of the columns; other content of the table is not read."""
        texts = {name: self._table[name].info.description for name in self._table.colnames}
        return Extra({name: text for name, text in texts.items() if text})

    def rows(self, numbers: Sequence[int]) -> Table:
        """Return some rows, as a table of the same kind."""
        return self._table[numbers]

    def appended(self, added: Added) -> Table:
        """Return a copy of the table with columns at the end, their units, UCDs and descriptions, and the provenance.

        The provenance goes into ``meta`` as the cards of a FITS header, so that a table that is written as FITS, or was
        read from it, is as if galmorph had written the file.
        """
        result = self._table.copy()
        result.remove_columns([name for i, name in enumerate(self._table.colnames) if i in added.dropped])
        new = joined(added)
        for column in added.columns:
            values = new[column.name]
            result[column.name] = TableColumn(
                values.astype(str) if column.dtype == "str" else values,
                unit=column.unit or None,
                description=column.description,
                meta={"ucd": column.ucd},
            )
        provenance = added.provenance
        for key, _, _ in self.provenance.cards:
            result.meta.pop(key, None)
        result.meta["GMCOLS"] = ",".join(provenance.columns)
        result.meta["GMKEYS"] = ",".join(key for key, _, _ in provenance.cards)
        result.meta.update((key, value) for key, value, _ in provenance.cards)
        if provenance.history:
            before = result.meta.get("HISTORY", [])
            before = before if isinstance(before, list | tuple) else [str(before)]
            result.meta["HISTORY"] = [*before, *provenance.history]
        return result


def _field(name: str, column: Any, frame: str) -> TableField:
    ucd = str((getattr(column.info, "meta", None) or {}).get("ucd", ""))
    kind = getattr(getattr(column, "dtype", None), "kind", "")
    scalar = getattr(column, "ndim", 0) == 1 and kind in "biufSUO" and kind != ""
    return TableField(name, str(column.info.unit or ""), ucd, kind in "SUO", scalar, frame)


def _cells(column: Any) -> Array:
    """Return the values of a column or a quantity."""
    values = column.value
    if hasattr(values, "unmasked"):  # astropy's own kind of masked array
        values = np.ma.MaskedArray(values.unmasked, values.mask)
    if values.dtype.kind not in "SUO":
        return native(values)
    cells = np.ma.filled(values.astype(object), "").tolist()
    return text_array((cell.decode() if isinstance(cell, bytes) else str(cell)).strip() for cell in cells)
