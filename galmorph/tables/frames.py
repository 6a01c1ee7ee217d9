"""Data frames as tables: of pandas, and of all libraries that speak Arrow (polars, DuckDB, pyarrow)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from galmorph.errors import CatalogError
from galmorph.tables.blocks import joined
from galmorph.tables.formats import Added, Array, Provenance, TableField
from galmorph.tables.formats._extra import Extra
from galmorph.tables.formats.parquet import KEY, arrow_field, arrow_type, column_values, table_field

if TYPE_CHECKING:
    import pyarrow as pa

    from galmorph.tables.memory import MemoryTable


def is_frame(value: object) -> bool:
    """Return whether an object is a data frame."""
    return _is_pandas(value) or hasattr(value, "__arrow_c_stream__")


class FrameTable:
    """A data frame as a table format: read in blocks; columns are appended to a copy of its kind."""

    def __init__(self, frame: Any) -> None:
        import pyarrow as pa

        self._frame = frame
        self._table = _of_pandas(frame) if _is_pandas(frame) else pa.table(frame)
        self.n_rows: int = self._table.num_rows
        fields = (table_field(each, TableField(each.name)) for each in self._table.schema)
        self.fields = tuple(
            TableField(each.name, scalar=False) if pa.types.is_null(of.type) else each
            for each, of in zip(fields, self._table.schema, strict=True)
        )
        kept = frame.attrs.get("galmorph") if _is_pandas(frame) else self._metadata.get(KEY)
        with suppress(ValueError, CatalogError):  # damaged metadata is ignored
            kept = json.loads(kept) if isinstance(kept, str | bytes) else kept
            self.provenance = Provenance.from_json(kept)
            return
        self.provenance = Provenance()

    @property
    def _metadata(self) -> dict[bytes, bytes]:
        return dict(self._table.schema.metadata or {})

    def blocks(self, positions: Sequence[int], n_rows: int, start: int) -> Iterator[list[Array]]:
        """Yield blocks of rows: numbers masked where null, text as objects."""
        for first in range(start, self.n_rows, n_rows):
            part = self._table.slice(first, n_rows)
            yield [column_values(part.column(i), self.fields[i].name) for i in positions]

    def extra(self) -> Extra:
        """Return nothing: other content of the frame is not read."""
        return Extra()

    def rows(self, numbers: Sequence[int]) -> Any:
        """Return some rows, as a frame of the same kind."""
        if _is_pandas(self._frame):
            return self._frame.iloc[numbers]
        return _like(self._frame, self._table.take(numbers))

    def appended(self, added: Added) -> Any:
        """Return a frame of the same kind with columns at the end.

        The provenance goes into ``attrs["galmorph"]`` of pandas, and into the metadata of Arrow.
        """
        new = joined(added)
        if _is_pandas(self._frame):
            import pandas as pd

            kept = [i for i in range(len(self.fields)) if i not in added.dropped]
            result = pd.concat([self._frame.iloc[:, kept], pd.DataFrame(new, index=self._frame.index)], axis=1)
            result.attrs = {**self._frame.attrs, "galmorph": added.provenance.to_json()}
            return result
        import pyarrow as pa

        kept_names = [name for i, name in enumerate(self._table.column_names) if i not in added.dropped]
        table = self._table.select(kept_names)
        for column in added.columns:
            table = table.append_column(arrow_field(column), pa.array(new[column.name], arrow_type(column)))
        metadata = {**self._metadata, KEY: json.dumps(added.provenance.to_json(), default=str).encode()}
        return _like(self._frame, table.replace_schema_metadata(metadata))


def in_memory(value: object) -> MemoryTable | FrameTable | None:
    """Return an astropy Table or a data frame as a table format; None of anything else."""
    from astropy.table import Table

    from galmorph.tables.memory import MemoryTable

    return MemoryTable(value) if isinstance(value, Table) else FrameTable(value) if is_frame(value) else None


def _is_pandas(value: object) -> bool:
    return type(value).__module__.partition(".")[0] == "pandas" and hasattr(value, "iloc") and hasattr(value, "columns")


def _of_pandas(frame: Any) -> pa.Table:
    """Return a DataFrame as an Arrow table; a column without an Arrow type is kept, but cannot be read."""
    import pyarrow as pa

    arrays = []
    for i in range(frame.shape[1]):
        try:
            arrays.append(pa.Array.from_pandas(frame.iloc[:, i]))
        except (pa.ArrowException, TypeError):
            arrays.append(pa.nulls(len(frame)))
    return pa.table([_flat(array) for array in arrays], names=[str(name) for name in frame.columns])


def _flat(array: Any) -> Any:
    import pyarrow as pa

    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _like(frame: Any, table: pa.Table) -> Any:
    """Return an Arrow table as a frame of the same library, if that can be made of one; else unchanged."""
    try:
        return table if isinstance(frame, type(table)) else type(frame)(table)
    except Exception:  # the library makes its frames in another way
        return table
