"""Conversion of a table to another format without loss; anything that would be lost is named."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.tables.blocks import stated_blocks
from galmorph.tables.formats import Array, Block, Column, Format, Table, TableField, text_array
from galmorph.tables.positions import to_float
from galmorph.tables.targets import NULLS, as_numbers, as_text, with_points

_BLOCK_ROWS = 16384
# Up to here each whole number is a float64, which has a null.
_EXACT = 2**53
_DTYPES = {
    "b1": "bool",
    "i1": "int16",
    "u1": "int16",
    "i2": "int16",
    "u2": "int32",
    "i4": "int32",
    "u4": "int64",
    "i8": "int64",
    "f2": "float32",
    "f4": "float32",
    "f8": "float64",
}
_TEXT, _INTEGERS = "str", ("int16", "int32", "int64")
# A number in this form is an identifier: as a number it would lose its zeros.
_ZEROS = re.compile(r"[+-]?0\d")
# Whole numbers that a float may not represent.
_DIGITS = re.compile(r"[+-]?\d{16,}")
_BOOLEANS = {"true": True, "false": False, "t": True, "f": False}


class CopiedColumn(Column):
    """A column of the user, which may have any name."""

    def __post_init__(self) -> None:
        """Take the name as it is."""


@dataclass
class _Content:
    """The type of a column's cells, as far as they have been seen.

    Parameters
    ----------
    dtype : str
        One of `galmorph.tables.formats.DTYPES`, '' before the first cell that is not null, or another type that no
        column to write has.
    nulls : bool
        Whether a cell is null.
    exact : bool
        Whether each number is a float64.
    width : int
        Bytes of the longest text.
    ascii : bool
        Whether all text is ASCII.
    """

    field: TableField
    dtype: str = ""
    nulls: bool = False
    exact: bool = True
    width: int = 1
    ascii: bool = True

    def see(self, values: Array) -> None:
        """Look at the next cells."""
        if values.dtype == object:
            self._see_text(values)
            return
        kind = "u8" if values.dtype == np.uint64 else f"{values.dtype.kind}{values.dtype.itemsize}"
        dtype = _DTYPES.get(kind, str(values.dtype))
        if dtype == "uint64" and (not values.size or int(np.ma.filled(values, 0).max()) < 2**63):
            dtype = "int64"
        self._be(dtype)
        self.nulls |= bool(np.ma.is_masked(values))
        if values.dtype.kind in "iu" and values.size:
            limits = np.ma.filled(values, 0)
            self.exact &= int(limits.min()) >= -_EXACT and int(limits.max()) <= _EXACT

    def _see_text(self, cells: Array) -> None:
        encoded = [cell.encode("utf-8", "surrogateescape") for cell in cells]
        self.width = max(self.width, *map(len, encoded)) if encoded else self.width
        self.ascii &= all(cell.isascii() for cell in cells)
        filled = text_array(cell for cell in cells if cell.lower() not in NULLS)
        self.nulls |= len(filled) < len(cells)
        if self.field.text or any(map(_ZEROS.match, filled)):
            self._be(_TEXT)
        elif len(filled):
            if self.field.text is False and all(cell.lower() in _BOOLEANS for cell in filled):
                self._be("bool")
                return
            numbers = as_numbers(with_points(filled, self.field.decimal), is_number=False)
            lossy = numbers.dtype == np.float64 and any(map(_DIGITS.fullmatch, filled))
            self._be(_TEXT if numbers.dtype == object or lossy else str(numbers.dtype))
            if numbers.dtype.kind == "i":
                self.exact &= int(numbers.min()) >= -_EXACT and int(numbers.max()) <= _EXACT

    def _be(self, dtype: str) -> None:
        """Widen the type so that it also holds cells of another type."""
        both = {self.dtype, dtype} - {""}
        if len(both) < 2:
            self.dtype = dtype
        elif both <= {*_INTEGERS, "float64"} and self.exact:
            self.dtype = "float64" if "float64" in both else "int64"
        else:
            self.dtype = _TEXT

    @property
    def written(self) -> str:
        """The dtype of the column to write; '' if none is without loss."""
        if self.dtype in (*_INTEGERS, "bool") and self.nulls:
            if self.dtype in _INTEGERS and self.exact:
                return "float64"
            return _TEXT if self.field.text is None else ""
        if self.dtype in ("", _TEXT):
            return "float64" if self.dtype == "" and self.field.text is False else _TEXT
        return self.dtype if self.dtype in _DTYPES.values() else ""

    def convert(self, values: Array) -> Array:
        """Return cells in the dtype of the column to write."""
        if self.written == _TEXT:
            return as_text(values)
        if values.dtype != object:
            null = np.nan if self.written.startswith("float") else 0
            return np.ma.filled(values.astype(self.written), null)
        cells = with_points(values, self.field.decimal)
        if self.written == "bool":
            return np.array([_BOOLEANS[cell.lower()] for cell in cells], bool)
        if self.written in _INTEGERS:
            return cells.astype(self.written)
        return to_float(text_array("nan" if cell.lower() in NULLS else cell for cell in cells))


@dataclass(frozen=True)
class Conversion:
    """A table as it can be written in any format."""

    table: Table
    _contents: dict[int, _Content] = field(default_factory=dict)

    @cached_property
    def _extra(self) -> Any:
        return self.table.extra()

    @cached_property
    def contents(self) -> dict[int, _Content]:
        """The type of each column's cells, by position; without columns that cannot be read."""
        contents = {i: _Content(each) for i, each in enumerate(self.table.fields) if each.scalar}
        for block in stated_blocks(self.table, list(contents), _BLOCK_ROWS, 0) if contents else ():
            for content, values in zip(contents.values(), block, strict=True):
                content.see(values)
        return contents

    def losses(self, form: Format) -> list[str]:
        """Return texts that name what a format cannot hold of the table."""
        lost = [f"the arrays in column {each.name}" for each in self.table.fields if not each.scalar]
        for content in self.contents.values():
            name = content.field.name
            if not content.written:
                kind = "null" if content.nulls else content.dtype
                lost.append(f"the {kind} values of column {name}")
            if form.ascii_only and not (content.ascii and (name + content.field.unit).isascii()):
                lost.append(f"what is not ASCII in column {name}")
            if not name:
                lost.append("a column without a name")
        lower = [each.name.lower() for each in self.table.fields]
        lost += [f"one of two columns {name}" for name in dict.fromkeys(lower) if lower.count(name) > 1]
        if len(lower) > form.max_columns:
            lost.append(f"columns beyond {form.max_columns}")
        return [*lost, *self._extra.others]

    def columns(self, dropped: Collection[int]) -> list[Column]:
        """Return the columns to write without those at the positions `dropped`."""
        texts = self._extra.descriptions
        return [
            CopiedColumn(
                each.field.name,
                each.written,
                each.field.unit,
                each.field.ucd,
                texts.get(each.field.name, ""),
                each.width,
            )
            for position, each in self.contents.items()
            if position not in dropped
        ]

    def rows(self, keep: NDArray[np.bool_]) -> Iterator[Block]:
        """Yield some of the rows, in blocks."""
        first = 0
        names = [each.field.name for each in self.contents.values()]
        for parts in self.table.blocks(list(self.contents), _BLOCK_ROWS, 0):
            some = keep[first : first + len(parts[0])]
            first += len(some)
            values = [each.convert(cells)[some] for each, cells in zip(self.contents.values(), parts, strict=True)]
            yield dict(zip(names, values, strict=True))

    def blocks(self, dropped: Collection[int], new: Iterator[Block]) -> Iterator[Block]:
        """Yield blocks of the table's rows with the new columns' values, of the length of the new blocks."""
        chosen = {position: each for position, each in self.contents.items() if position not in dropped}
        old = stated_blocks(self.table, list(chosen), _BLOCK_ROWS, 0) if chosen else iter(())
        held: list[list[Array]] = []
        for block in new:
            n_rows = len(next(iter(block.values())))
            while chosen and sum(len(values[0]) for values in held) < n_rows:
                parts = next(old)
                held.append([each.convert(cells) for each, cells in zip(chosen.values(), parts, strict=True)])
            joined = [np.concatenate(parts) for parts in zip(*held, strict=True)]
            held = [[values[n_rows:] for values in joined]] if joined else []
            names = (each.field.name for each in chosen.values())
            yield {**{name: values[:n_rows] for name, values in zip(names, joined, strict=True)}, **block}
