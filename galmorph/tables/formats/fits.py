"""FITS binary tables: rows are copied as bytes with the new cells after them; the rest of the file stays as it was."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import CatalogError
from galmorph.files.fits import Checksum, checksum, padded
from galmorph.files.reading import Input
from galmorph.files.writing import Output
from galmorph.tables.formats import (
    Added,
    Array,
    Block,
    Column,
    Format,
    Provenance,
    TableField,
    TableSummary,
    native,
    text_array,
)
from galmorph.tables.formats._extra import Extra, of_fits
from galmorph.tables.formats._fits_hdus import Hdu, check_by_rows, iterate_hdus, read_hdus
from galmorph.tables.formats._fits_header import Header, described_by_yaml, edit_header, make_card, read_header
from galmorph.tables.formats._fits_rows import write_rows
from galmorph.tables.formats._votable_head import Head, redescribe
from galmorph.tables.systems import card_frame, declared_frame, is_frame_name

_MAX_COLUMNS = 999
# More than a description of 999 columns takes.
_MAX_DESCRIPTION = 1 << 26
_FRAME = ("RADESYS", "RADECSYS", "EQUINOX", "EPOCH")
_LDAC_HEADER = "LDAC_IMHEAD"
_ROWS_AT_ONCE = 1024
_HEAP_ROWS = 16384

# TFORM letter -> numpy type, bytes of one element.
_TYPES = {
    "L": ("S1", 1),
    "B": ("u1", 1),
    "I": (">i2", 2),
    "J": (">i4", 4),
    "K": (">i8", 8),
    "A": ("S1", 1),
    "E": (">f4", 4),
    "D": (">f8", 8),
    "C": (">c8", 8),
    "M": (">c16", 16),
    "P": ("V8", 8),
    "Q": ("V16", 16),
}


@dataclass(frozen=True)
class _Cell:
    """The position of a column in a row, and the meaning of its bytes."""

    field: TableField
    code: str
    repeat: int
    offset: int
    width: int
    null: int | None
    scale: float
    zero: float
    element: float = 0

    def descriptors(self, rows: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the numbers of elements of arrays of variable length, and where in the heap they begin."""
        raw = np.ascontiguousarray(rows[:, self.offset : self.offset + self.width])
        pairs = raw.view(">i4" if self.code == "P" else ">i8").astype(np.float64)
        return pairs[:, 0], pairs[:, 1]

    def values(self, rows: NDArray[np.uint8]) -> Array:
        raw = np.ascontiguousarray(rows[:, self.offset : self.offset + self.width])
        if self.code in "PQX":
            kind = "bits" if self.code == "X" else "arrays of variable length"
            raise CatalogError(f"column {self.field.name!r} holds {kind}, which are kept but not read")
        if self.code == "A":
            cells = raw.view(f"S{self.width}")[:, 0] if self.width else [b""] * len(rows)
            return text_array(map(_decode, cells))
        data = native(raw.view(_TYPES[self.code][0]))
        null: Any = np.ma.nomask
        if self.code == "L":
            data, null = data == b"T", ~np.isin(data, (b"T", b"F"))
        elif self.null is not None and data.dtype.kind in "iu":
            null = data == self.null
        if (self.scale, self.zero) != (1.0, 0.0):
            data = self._scaled(data)
        values = np.ma.MaskedArray(data, null) if np.any(null) else data
        return values[:, 0] if self.repeat == 1 else values

    def _scaled(self, data: Array) -> Array:
        if self.scale == 1 and data.dtype.kind in "iu" and float(self.zero).is_integer():
            # Unsigned 64-bit integers are stored with 2**63 taken off: a float would lose their last digits.
            if self.code == "K" and self.zero == 2**63:
                return data.view(np.uint64) ^ np.uint64(2**63)
            if self.code != "K":
                return data.astype(np.int64) + int(self.zero)
        return data * np.float64(self.scale) + np.float64(self.zero)


def _decode(cell: bytes) -> str:
    text = cell.split(b"\0", 1)[0]
    try:
        return text.decode("utf-8").strip()
    except UnicodeDecodeError:
        return text.decode("latin-1").strip()


def _number(header: Header, key: str) -> Any:
    value = header.card(key)[0]
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise CatalogError(f"damaged header: {key}={value!r} is no number")
    return value


def _cells(header: Header) -> Iterator[_Cell]:
    system = header.text("RADESYS") or header.text("RADECSYS")
    frame = declared_frame(system, "") if not is_frame_name(system) else card_frame({c: header.text(c) for c in _FRAME})
    offset = 0
    for n in range(1, header.integer("TFIELDS") + 1):
        form = re.match(r"\s*(\d*)([LXBIJKAEDCMPQ])([LXBIJKAEDCM]?)", header.text(f"TFORM{n}").upper())
        if form is None:
            raise CatalogError(f"TFORM{n}={header.text(f'TFORM{n}')!r} is no format of a FITS column")
        repeat, code = int(form[1] or 1), form[2]
        width = -(-repeat // 8) if code == "X" else repeat * _TYPES[code][1]
        name = header.text(f"TTYPE{n}") or f"col{n}"
        scalar = code == "A" or (repeat == 1 and code not in "PQX")
        null, scale, zero = (_number(header, f"{key}{n}") for key in ("TNULL", "TSCAL", "TZERO"))
        yield _Cell(
            field=TableField(name, header.text(f"TUNIT{n}"), header.text(f"TUCD{n}"), code == "A", scalar, frame),
            code=code,
            repeat=repeat,
            offset=offset,
            width=width,
            null=null if isinstance(null, int) else None,
            scale=1.0 if scale is None else scale,
            zero=0.0 if zero is None else zero,
            element=(1 / 8 if form[3] == "X" else _TYPES[form[3]][1]) if form[3] else 0,
        )
        offset += width
    if offset != header.integer("NAXIS1"):
        raise CatalogError(
            f"damaged header: the columns take {offset} bytes, but NAXIS1={header.integer('NAXIS1')} "
            f"(TFIELDS={header.integer('TFIELDS')} and TFORMn say so)"
        )


class FitsTable:
    """A binary table in a FITS file.

    Parameters
    ----------
    open_ : callable
        Opens the file at its first byte.
    start : int
        The byte where the HDU begins.
    header : Header
        Its header.
    described : Head, optional
        What TOPCAT's VOTable in the primary HDU says of the columns: counts where the header says nothing.
    """

    def __init__(self, open_: Callable[[], Input], start: int, header: Header, described: Head | None = None) -> None:
        self._open = open_
        self._start = start
        self._header = header
        self._cells = tuple(_cells(header))
        self._width = header.integer("NAXIS1")
        self.n_rows = header.integer("NAXIS2")
        frames = _frames(header, described)
        fields = (cell.field for cell in self._cells)
        self.fields = tuple(replace(f, frame=frames[f.name]) if f.name in frames else f for f in fields)
        self.provenance = Provenance.from_cards(header.card)
        if described is not None and not self.provenance.columns:
            self.provenance = described.provenance

    def check_heap(self) -> None:
        """Check that the arrays of variable length are inside the heap.

        Raises
        ------
        CatalogError
            If one does not: a card of the header or the file is damaged.
        """
        cells = [cell for cell in self._cells if cell.code in "PQ" and cell.repeat]
        if not cells:
            return
        table = self._width * self.n_rows
        size = self._header.integer("PCOUNT") - (self._header.integer("THEAP", table) - table)
        with self._open() as source:
            source.seek(self._start + self._header.size)
            for first in range(0, self.n_rows, _HEAP_ROWS):
                rows = self._rows(source, min(_HEAP_ROWS, self.n_rows - first))
                for cell in cells:
                    count, offset = cell.descriptors(rows)
                    # In float64, so that wrong values cannot overflow.
                    if np.any((count > 0) & (offset + count * cell.element > size)) or np.any(count < 0):
                        raise CatalogError(
                            f"damaged: arrays of column {cell.field.name!r} lie outside the heap: "
                            f"NAXIS2={self.n_rows}, PCOUNT={self._header.integer('PCOUNT')} or the rows are wrong"
                        )

    def blocks(self, positions: Sequence[int], n_rows: int, start: int) -> Iterator[list[Array]]:
        """Iterate over blocks of rows; see `Table`."""
        cells = [self._cells[position] for position in positions]
        with self._open() as source:
            source.seek(self._start + self._header.size + start * self._width)
            for first in range(start, self.n_rows, n_rows):
                rows = self._rows(source, min(n_rows, self.n_rows - first))
                yield [cell.values(rows) for cell in cells]

    def _rows(self, source: Input, n_rows: int) -> NDArray[np.uint8]:
        return np.frombuffer(source.exactly(n_rows * self._width), np.uint8).reshape(n_rows, self._width)

    def write_rows(self, output: Output, keep: NDArray[np.bool_]) -> None:
        """Write some of the rows; see `Table`."""
        write_rows(output, self._open, self._start, self._header, keep)

    def extra(self) -> Extra:
        """Return what the file holds besides its columns; see `Table`."""
        with self._open() as source:
            return of_fits(source.path, self._start, {key for key, _, _ in self.provenance.cards})

    def _copy_before(self, source: Input, output: Output, added: Added) -> None:
        """Copy what is before the table.

        TOPCAT and STILTS write a VOTable into the primary HDU that describes the table after it ("fits-plus"). It gets
        the new columns too: if it described other columns than there are, they would ignore all that it says.
        """
        header = read_header(source, b"SIMPLE")
        if header and _is_description(header) and header.size + padded(header.data_size) == self._start:
            text = source.exactly(header.data_size)
            text = redescribe(text, [field.name for field in self.fields], added)
            data = text.ljust(padded(len(text)), b"\0")
            header = header.with_values({"NAXIS1": (len(text), header.card("NAXIS1")[1])})
            output.write(header.with_checksums(checksum(data)).to_bytes() + data)
            return
        source.seek(0)
        for chunk in source.chunks(self._start):
            output.write(chunk)

    def append(self, output: Output, added: Added) -> None:
        """Write the table with columns appended; see `Table`."""
        columns = added.columns
        kept = [cell for i, cell in enumerate(self._cells) if i not in added.dropped]
        if len(kept) + len(columns) > _MAX_COLUMNS:
            raise CatalogError(f"FITS holds {_MAX_COLUMNS} columns at most, not {len(kept) + len(columns)}")
        kept_width = sum(cell.width for cell in kept)
        layout = _layout(columns, kept_width)
        header = edit_header(self._header, layout.itemsize, added)
        data_start, data_size = self._start + self._header.size, self._header.data_size
        with self._open() as source:
            self._copy_before(source, output, added)
            header_start = output.tell()
            output.write(header.to_bytes())
            before, after = Checksum(), Checksum()
            checked = not {"CHECKSUM", "DATASUM"}.isdisjoint(header.keys())

            def put(old: bytes | memoryview, new: bytes | memoryview) -> None:
                output.write(new)
                if checked:
                    before.update(old)
                    after.update(new)

            source.seek(data_start)
            n_rows = 0
            for block in _smaller(added.blocks):
                rows = self._rows(source, len(next(iter(block.values()))))
                put(rows.reshape(-1).data, _new_rows(rows, kept, columns, block, layout).data)
                n_rows += len(rows)
            # The gap and the heap: descriptors count from the heap's start, so they stay true.
            for chunk in source.chunks(data_size - n_rows * self._width):
                put(chunk, chunk)
            end = output.tell() - header_start - len(header.to_bytes())
            put(b"", bytes(padded(end) - end))
            before.update(source.read(padded(data_size) - data_size))
            if checked and _was_true(self._header, before.value):
                output.patch(header_start, header.with_checksums(after.value).to_bytes())
            for chunk in source.chunks():
                output.write(chunk)


def _smaller(blocks: Iterator[Block]) -> Iterator[Block]:
    """Cut blocks so that their rows, to which each column goes apart, stay in a core's own cache."""
    for block in blocks:
        for first in range(0, len(next(iter(block.values()))), _ROWS_AT_ONCE):
            yield {name: values[first : first + _ROWS_AT_ONCE] for name, values in block.items()}


def _layout(columns: Sequence[Column], start: int) -> np.dtype[Any]:
    """Return the type of a row: `start` bytes that are copied, then the columns."""
    types = [_stored(column) for column in columns]
    sizes = [t.itemsize for t in types]
    offsets = np.cumsum([start, *sizes]).tolist()
    return np.dtype(
        {"names": [c.name for c in columns], "formats": types, "offsets": offsets[:-1], "itemsize": offsets[-1]}
    )


def _stored(column: Column) -> np.dtype[Any]:
    """Return the type of a column's cells in the file."""
    if column.dtype in ("str", "bool"):
        return np.dtype(f"S{max(column.width, 1) if column.dtype == 'str' else 1}")
    return np.dtype(column.dtype).newbyteorder(">")


def _new_rows(
    rows: NDArray[np.uint8], kept: Sequence[_Cell], columns: Sequence[Column], block: Block, layout: np.dtype[Any]
) -> NDArray[np.uint8]:
    out = np.empty(len(rows), layout)
    raw = out.view(np.uint8).reshape(len(rows), layout.itemsize)
    for source, target, width in _runs(kept):
        raw[:, target : target + width] = rows[:, source : source + width]
    for column in columns:
        values = block[column.name]
        if column.dtype == "str":
            values = _encoded(column, values)
        elif column.dtype == "bool":
            values = np.where(values, b"T", b"F")
        out[column.name] = values
    return raw.reshape(-1)


def _runs(kept: Sequence[_Cell]) -> list[tuple[int, int, int]]:
    """Return the bytes to copy from each row as (from, to, how many), neighbours joined."""
    runs: list[tuple[int, int, int]] = []
    target = 0
    for cell in kept:
        if runs and sum(runs[-1][::2]) == cell.offset:
            runs[-1] = (*runs[-1][:2], runs[-1][2] + cell.width)
        else:
            runs.append((cell.offset, target, cell.width))
        target += cell.width
    return runs


def _encoded(column: Column, values: Array) -> NDArray[np.bytes_]:
    width = max(column.width, 1)
    try:
        cells = values.astype("S")
    except UnicodeEncodeError as error:
        raise CatalogError(f"column {column.name!r}: {error.object!r} is not ASCII, which FITS wants") from error
    if cells.itemsize > width:
        value = next(value for value in values if len(value) > width)
        raise CatalogError(f"column {column.name!r}: {value!r} is longer than its {column.width} bytes")
    return cells


def _was_true(header: Header, datasum: int) -> bool:
    """Return whether a header's DATASUM is right; a wrong one is kept, so that damage stays visible."""
    text = header.text("DATASUM")
    return "DATASUM" not in header or (text.isdigit() and int(text) == datasum)


def _open(path: Path, hdu: int | None) -> FitsTable:
    hdus = read_hdus(path)
    tables = [each for each in hdus if each.kind == "binary table"]
    # SExtractor's FITS_LDAC keeps the header of the image as a table of one row before that of the galaxies.
    usual = [each for each in tables if each.header.text("EXTNAME") != _LDAC_HEADER]
    listing = ", ".join(f"{each.number} {each.kind}" for each in hdus)
    if hdu is not None:
        if not 0 <= hdu < len(hdus):
            raise CatalogError(f"{path} has no HDU {hdu}; it has {listing}")
        chosen = hdus[hdu]
    elif tables:
        chosen = (usual or tables)[0]
    else:
        foreign = [each for each in hdus if each.kind not in ("image", "empty", "tile-compressed image")]
        if foreign:
            raise CatalogError(f"{path}: {_refusal(foreign[0].kind, foreign[0].number)}")
        raise CatalogError(f"{path} holds no table, so it is no catalog; its HDUs: {listing}")
    _check(path, chosen)
    check_by_rows(chosen.header, path, chosen.number)
    described = _described(path, hdus[0]) if chosen.number == 1 else None
    try:
        table = FitsTable(partial(Input, path), chosen.start, chosen.header, described)
        table.check_heap()
    except CatalogError as error:
        raise CatalogError(f"{path}: {error}") from error
    return table


def _frames(header: Header, described: Head | None) -> dict[str, str]:
    """Return the frames of columns by name that astropy's YAML or TOPCAT's VOTable gives them."""
    yaml = described_by_yaml(header.cards)
    fields = [*(yaml[0].fields if yaml else ()), *(cell.field for cell in (described.cells if described else ()))]
    return {field.name: field.frame for field in fields if field.frame}


def _described(path: Path, primary: Hdu) -> Head | None:
    """Return the VOTable by which TOPCAT and STILTS describe the table, if there is one."""
    if not _is_description(primary.header):
        return None
    with suppress(CatalogError), Input(path) as source:
        source.seek(primary.header.size)
        with Input(path, source.exactly(primary.header.data_size)) as votable:
            return Head(votable)
    return None


def _is_description(header: Header) -> bool:
    return header.card("VOTMETA")[0] is True and 0 < header.data_size < _MAX_DESCRIPTION


def list_hdus(path: Path) -> list[tuple[int, str, tuple[int, ...]]]:
    """Return the number, the kind and, of images, the shape of each HDU, as numpy has it: (..., y, x).

    What follows an image is not checked for damage, and not read at all in a compressed file.

    Raises
    ------
    CatalogError
        If there is no header that can be read before the first image.
    """
    hdus: list[tuple[int, str, tuple[int, ...]]] = []
    try:
        for hdu in iterate_hdus(path):
            shape: tuple[int, ...] = ()
            if hdu.kind in ("image", "tile-compressed image"):
                axes = "ZNAXIS" if hdu.kind == "tile-compressed image" else "NAXIS"
                n_axes = hdu.header.integer(axes)
                shape = tuple(hdu.header.integer(f"{axes}{n_axes - i}") for i in range(n_axes))
            hdus.append((hdu.number, hdu.kind, shape))
    except CatalogError:
        if not any(shape for *_, shape in hdus):
            raise
    return hdus


def _tables(path: Path) -> list[TableSummary]:
    tables = [each for each in read_hdus(path) if each.kind == "binary table"]
    try:
        return [
            TableSummary(
                each.number,
                each.header.text("EXTNAME"),
                each.header.integer("NAXIS2"),
                tuple(cell.field for cell in _cells(each.header)),
            )
            for each in tables
            if each.header.text("EXTNAME") != _LDAC_HEADER
        ]
    except CatalogError as error:
        raise CatalogError(f"{path}: {error}") from error


def _refusal(kind: str, hdu: int) -> str:
    return (
        f"HDU {hdu} ({kind}) cannot get columns without being written anew; save it as a binary table (TOPCAT and "
        "STILTS can, funpack if it is compressed), or name another HDU with --hdu"
    )


def _check(path: Path, hdu: Hdu) -> None:
    if hdu.kind != "binary table":
        raise CatalogError(f"{path}: {_refusal(hdu.kind, hdu.number)}")
    if "XT_ICOL" in hdu.header or hdu.header.integer("TFIELDS") > _MAX_COLUMNS:
        raise CatalogError(f"{path}: the table has more than {_MAX_COLUMNS} columns, and FITS has no room for another")


def _write(output: Output, added: Added, n_rows: int) -> None:
    primary = [("SIMPLE", True), ("BITPIX", 8), ("NAXIS", 0), ("EXTEND", True)]
    table = [("XTENSION", "BINTABLE"), ("BITPIX", 8), ("NAXIS", 2), ("NAXIS1", 0), ("NAXIS2", n_rows)]
    table += [("PCOUNT", 0), ("GCOUNT", 1), ("TFIELDS", 0)]
    first, second = (Header(tuple(make_card(key, value) for key, value in cards)) for cards in (primary, table))
    skeleton = first.to_bytes() + second.to_bytes()
    source = partial(Input, output.path, skeleton)
    header = Header(second.cards, len(second.to_bytes()))
    FitsTable(source, len(first.to_bytes()), header).append(output, added)


TABLE = Format(
    name="fits",
    suffixes=(".fits", ".fit", ".fts"),
    recognises=lambda head: head.startswith(b"SIMPLE  ="),
    open=_open,
    write=_write,
    tables=_tables,
    max_columns=_MAX_COLUMNS,
    ascii_only=True,
)
