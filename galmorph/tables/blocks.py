"""Blocks of rows: checks that all rows of a table are read, and that blocks to write are valid and small."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from galmorph.errors import CatalogError
from galmorph.tables.formats import Added, Array, Block, Column, Table, text_array

_BLOCK_ROWS = 16384


def stated_blocks(table: Table, positions: Sequence[int], n_rows: int, start: int) -> Iterator[Sequence[Array]]:
    """Iterate over blocks of columns of a table, and check the total number of rows.

    Raises
    ------
    CatalogError
        If they are more or fewer, which a damaged file may hold.
    """
    if not positions:
        return
    done = min(start, table.n_rows)
    for block in table.blocks(positions, n_rows, start):
        done += len(block[0])
        if done > table.n_rows or (len(block[0]) < n_rows and done < table.n_rows):
            break
        yield block
    if done != table.n_rows:
        raise CatalogError(f"the table is damaged: it states {table.n_rows} rows, and {done} can be read")


def checked_blocks(columns: Sequence[Column], blocks: Iterable[Mapping[str, Array]], n_rows: int) -> Iterator[Block]:
    """Yield checked blocks in the columns' dtypes, small enough to be written at once."""
    done = 0
    for block in blocks:
        values = {column.name: _checked(column, block) for column in columns}
        sizes = {len(array) for array in values.values()}
        if len(sizes) > 1:
            raise CatalogError(f"the columns of a block have different lengths: {sorted(sizes)}")
        size = sizes.pop() if sizes else 0
        if done + size > n_rows:
            raise CatalogError(f"the blocks have more rows than the table, which has {n_rows}")
        for first in range(0, size, _BLOCK_ROWS):
            yield {name: array[first : first + _BLOCK_ROWS] for name, array in values.items()}
        done += size
    if done < n_rows:
        raise CatalogError(f"the blocks have {done} rows, but the table has {n_rows}")


def joined(added: Added) -> dict[str, Array]:
    """Return the values of new columns by name, all rows together."""
    blocks = list(added.blocks)
    empty = {column.name: np.array([], object if column.dtype == "str" else column.dtype) for column in added.columns}
    return {name: np.concatenate([block[name] for block in blocks]) if blocks else none for name, none in empty.items()}


def _checked(column: Column, block: Mapping[str, Array]) -> Array:
    if column.name not in block:
        raise CatalogError(f"a block has no values for the column {column.name!r}")
    given = block[column.name]
    if column.dtype == "str":
        cells = np.asanyarray(given, dtype=object).tolist()
        if not set(map(type, cells)) <= {str}:
            cells = ["" if value is None else str(value) for value in cells]
        return text_array(cells)
    if column.dtype.startswith("int") and np.ma.is_masked(given):
        raise CatalogError(f"column {column.name!r} is of integers, which have no null, but a value is masked")
    values = np.ma.filled(given, np.nan) if np.ma.isMaskedArray(given) else np.asarray(given)
    if not np.can_cast(values.dtype, column.dtype, "same_kind") or values.ndim != 1:
        raise CatalogError(f"column {column.name!r} wants one {column.dtype} a row, not {values.dtype} {values.shape}")
    cast = values.astype(column.dtype)
    if cast.dtype.kind == "i" and not np.array_equal(cast, values):
        raise CatalogError(f"a value of column {column.name!r} does not fit {column.dtype}")
    return cast
