"""Rows of VOTable's BINARY and BINARY2 serialisations (VOTable 1.4, sections 5.3 and 5.4), split as bytes."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np

from galmorph.errors import CatalogError
from galmorph.tables.formats import Array, Block, Column, TableField, native, text_array

# datatype -> numpy type of one element; a bit takes an eighth of a byte.
_TYPES = {
    "boolean": "u1",
    "bit": "u1",
    "unsignedByte": "u1",
    "short": ">i2",
    "int": ">i4",
    "long": ">i8",
    "char": "S1",
    "unicodeChar": ">u2",
    "float": ">f4",
    "double": ">f8",
    "floatComplex": ">c8",
    "doubleComplex": ">c16",
}
_GATHERED = 1 << 16
# No row is longer; it keeps a wrong arraysize from reading the whole stream as one row.
_MAX_ROW = 1 << 26
DATATYPES = {
    "float32": "float",
    "float64": "double",
    "int16": "short",
    "int32": "int",
    "int64": "long",
    "bool": "boolean",
}


@dataclass(frozen=True)
class Cell:
    """The cells of a FIELD.

    Parameters
    ----------
    field : TableField
        The column.
    datatype, arraysize, null : str
        The attributes of FIELD, and ``null`` of its VALUES.
    """

    field: TableField
    datatype: str
    arraysize: str
    null: str

    @classmethod
    def of(cls, attributes: Mapping[str, str]) -> Cell:
        """Return the cell of a FIELD element.

        Raises
        ------
        CatalogError
            If its datatype or arraysize is none of VOTable.
        """
        name = attributes.get("name") or attributes.get("ID", "")
        datatype, arraysize = attributes.get("datatype", ""), attributes.get("arraysize", "").strip()
        if datatype not in _TYPES or not re.fullmatch(r"(\d{1,9}x)*(\d{1,9}|\d{0,9}\*)|", arraysize):
            raise CatalogError(f"FIELD {name!r} has datatype={datatype!r} arraysize={arraysize!r}, not of VOTable")
        text = datatype in ("char", "unicodeChar")
        scalar = "x" not in arraysize if text else arraysize in ("", "1")
        field = TableField(name, attributes.get("unit", ""), attributes.get("ucd", ""), text, scalar)
        return cls(field, datatype, arraysize, "")

    @cached_property
    def element(self) -> int:
        """The bytes of an element."""
        return np.dtype(_TYPES[self.datatype]).itemsize

    @cached_property
    def width(self) -> int | None:
        """The bytes of a cell, None if each cell has its own length."""
        if self.arraysize.endswith("*"):
            return None
        return self._bytes(math.prod(map(int, self.arraysize.split("x"))) if self.arraysize else 1)

    def _bytes(self, n_elements: int) -> int:
        return -(-n_elements // 8) if self.datatype == "bit" else n_elements * self.element

    def end(self, data: bytes, at: int) -> int:
        """Return the end of a cell that begins at `at`; beyond the end of `data` if that is too short."""
        if self.width is not None:
            return at + self.width
        if len(data) < at + 4:
            return len(data) + 1
        return at + 4 + self._bytes(int.from_bytes(data[at : at + 4], "big"))

    def values(self, cells: Sequence[bytes], null: Sequence[bool]) -> Array:
        """Return the values of cells."""
        if self.field.text:
            codec = "utf-16-be" if self.datatype == "unicodeChar" else "utf-8"
            skip = 4 if self.width is None else 0
            texts = (cell[skip:].decode(codec, "replace").split("\0", 1)[0].strip() for cell in cells)
            return text_array("" if n else text for text, n in zip(texts, null, strict=True))
        if self.width is None or not self.field.scalar or self.datatype == "bit":
            raise CatalogError(f"column {self.field.name!r} holds arrays or bits, which are kept but not read")
        data = native(np.frombuffer(b"".join(cells), _TYPES[self.datatype]))
        mask = np.array(null, dtype=bool)
        if self.datatype == "boolean":
            mask |= ~np.isin(data, [ord(c) for c in "TtFf10"])
            data = np.isin(data, [ord(c) for c in "Tt1"])
        elif data.dtype.kind in "iu" and self.null:
            mask |= data == self._null_number()
        return np.ma.MaskedArray(data, mask) if mask.any() else data

    def _null_number(self) -> int:
        try:
            return int(self.null, 16 if "0x" in self.null.lower() else 10)
        except ValueError as error:
            raise CatalogError(
                f"FIELD {self.field.name!r}: its VALUES null={self.null!r} is no number ({self.datatype})"
            ) from error


class BinaryRows:
    """The layout of binary rows.

    Parameters
    ----------
    cells : sequence of Cell
        The columns.
    flagged : bool
        Whether each row begins with a bit for each column that is set where the cell is null (BINARY2).
    """

    def __init__(self, cells: Sequence[Cell], flagged: bool) -> None:
        self.cells = cells
        self.flagged = flagged
        self.n_flags = -(-len(cells) // 8) if flagged else 0
        # Rows without bytes would never end.
        self._empty = not flagged and all(cell.width == 0 for cell in cells)

    def split(self, chunks: Iterable[bytes]) -> Iterator[list[bytes]]:
        """Iterate over rows as [flags, cell, cell, ...].

        Raises
        ------
        CatalogError
            If the stream ends within a row.
        """
        data = b""
        held: list[bytes] = []
        n_held = 0
        for chunk in chain(chunks, [b""]):
            # The rest of a long row is joined with new data only when that doubles it: in linear time.
            held.append(chunk)
            n_held += len(chunk)
            if chunk and n_held < len(data):
                continue
            data += b"".join(held)
            held, n_held = [], 0
            if data and (self._empty or len(data) > _MAX_ROW):
                what = "no bytes" if self._empty else f"more than {_MAX_ROW >> 20} MiB"
                raise CatalogError(f"the rows of the binary stream have {what}: an arraysize of its FIELDs is wrong")
            at = 0
            while (row := self._row(data, at)) is not None:
                yield row
                at += sum(map(len, row))
            data = data[at:]
        if data:
            raise CatalogError("the binary stream ends in the middle of a row")

    def _row(self, data: bytes, at: int) -> list[bytes] | None:
        if at + self.n_flags >= len(data):
            return None
        row = [data[at : at + self.n_flags]]
        at += self.n_flags
        for cell in self.cells:
            end = cell.end(data, at)
            if end > len(data):
                return None
            row.append(data[at:end])
            at = end
        return row

    def nulls(self, flags: bytes) -> str:
        """Return the flags of the columns as a text of 0 and 1."""
        return "".join(f"{byte:08b}" for byte in flags)[: len(self.cells)] if self.flagged else "0" * len(self.cells)

    def extended(self, row: list[bytes], dropped: Collection[int], new: Sequence[bytes]) -> bytes:
        """Return a row without the cells at `dropped` followed by `new` cells, which are not null."""
        flags = b""
        if self.flagged:
            bits = "".join(bit for i, bit in enumerate(self.nulls(row[0])) if i not in dropped) + "0" * len(new)
            n_bytes = -(-len(bits) // 8)
            flags = int(bits.ljust(8 * n_bytes, "0"), 2).to_bytes(n_bytes, "big")
        return flags + b"".join(cell for i, cell in enumerate(row[1:]) if i not in dropped) + b"".join(new)


def binary_cells(columns: Sequence[Column], block: Block) -> Iterator[tuple[bytes, ...]]:
    """Iterate over the new cells of each row."""
    cells: list[list[bytes]] = []
    for column in columns:
        values = block[column.name]
        if column.dtype == "str":
            texts = [value.encode("utf-16-be") for value in values]
            cells.append([(len(text) // 2).to_bytes(4, "big") + text for text in texts])
        else:
            # A boolean is the character T or F.
            values = np.where(values, b"T", b"F") if column.dtype == "bool" else values
            data = values.astype(values.dtype.newbyteorder(">")).tobytes()
            width = values.dtype.itemsize
            cells.append([data[i : i + width] for i in range(0, len(data), width)])
    return zip(*cells, strict=True)


def decoded(texts: Iterable[str]) -> Iterator[bytes]:
    """Decode base64 that comes in texts of any length.

    Raises
    ------
    CatalogError
        If it is not base64.
    """
    rest = ""
    # The parser yields a line at a time: lines are joined, and the empty text at the end flushes the rest.
    for text in chain(texts, [""]):
        rest += "".join(text.split())
        if len(rest) < _GATHERED and text:
            continue
        whole = len(rest) // 4 * 4 if text else len(rest)
        try:
            yield base64.b64decode(rest[:whole], validate=True)
        except ValueError as error:
            raise CatalogError(f"the binary stream is not base64: {error}") from error
        rest = rest[whole:]


def encoded(rows: Iterable[bytes]) -> Iterator[bytes]:
    """Encode rows as lines of base64."""
    # 57 bytes make a line of 76 characters.
    block = 57 * 1024
    rest = bytearray()
    for row in rows:
        rest += row
        if len(rest) >= block:
            whole = len(rest) // 57 * 57
            yield base64.encodebytes(bytes(rest[:whole]))
            del rest[:whole]
    yield base64.encodebytes(bytes(rest))
