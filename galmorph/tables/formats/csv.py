"""CSV: cells are copied as text with the new ones behind; what CSV cannot hold goes to ``<name>.json`` beside it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from galmorph.errors import CatalogError, OutputError
from galmorph.files.reading import CHUNK, Input
from galmorph.files.writing import Output
from galmorph.tables.formats import Array, Block, Column, Format, Provenance, TableField
from galmorph.tables.formats._delimited import Rows, plain, split, unquoted

_DELIMITERS = (",", "\t", ";")
_BOM = b"\xef\xbb\xbf"
_SNIFFED_RECORDS = 20


class CsvTable:
    """A CSV file.

    Parameters
    ----------
    path : Path
        The file.
    head : bytes
        All that is before the header: a byte order mark, comments.
    header : bytes
        The header record.
    delimiter : str
        What is between cells.
    """

    def __init__(self, path: Path, head: bytes, header: bytes, delimiter: str) -> None:
        self._path = path
        self._head = head
        self._header = header
        description = _read_sidecar(path)
        columns = {column["name"]: column for column in description.get("columns", [])}
        names = [unquoted(cell) for cell in split(header.lstrip(b"#").rstrip(b"\r\n"), delimiter)]
        self.fields = tuple(_field(name, columns.get(name, {})) for name in names)
        self.provenance = Provenance.from_json(description.get("galmorph"))
        lines_before = (head + header).count(b"\n")
        self._columns = columns
        self._rows = Rows(path, delimiter, len(names), len(head + header), lines_before + 1, nan="", empty="")
        self.n_rows = self._rows.scan()

    def blocks(self, positions: Sequence[int], n_rows: int, start: int) -> Iterator[list[Array]]:
        return self._rows.blocks(positions, n_rows, start)

    def append(
        self,
        output: Output,
        columns: Sequence[Column],
        blocks: Iterator[Block],
        dropped: Collection[int],
        provenance: Provenance,
    ) -> None:
        names = self._rows.joined(column.name for column in columns)
        output.write(self._head + self._rows.extended(self._header, len(self.fields), dropped, iter([names])))
        self._rows.copy(output, columns, blocks, dropped)
        kept = [self._columns[field.name] for field in self.fields if field.name in self._columns]
        new = [_described(column) for column in columns]
        names_of_new = {column.name for column in columns}
        _write_sidecar(output, provenance, [c for c in kept if c["name"] not in names_of_new] + new)


def _field(name: str, described: Mapping[str, str]) -> TableField:
    text = described["datatype"] == "str" if "datatype" in described else None
    return TableField(name, described.get("unit", ""), described.get("ucd", ""), text)


def _described(column: Column) -> dict[str, str]:
    return {
        "name": column.name,
        "datatype": column.dtype,
        "unit": column.unit,
        "ucd": column.ucd,
        "description": column.description,
    }


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _read_sidecar(path: Path) -> Mapping[str, Any]:
    """Return the description that galmorph wrote beside a CSV file; anything else there is none of it."""
    try:
        data = json.loads(_sidecar(path).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) and "galmorph" in data else {}


def _write_sidecar(output: Output, provenance: Provenance, columns: Sequence[Mapping[str, Any]]) -> None:
    path = _sidecar(output.path)
    if path.exists() and not _read_sidecar(output.path):
        raise OutputError(f"{path} exists and is not galmorph's; it would describe {output.path.name}: move it away")
    data = {"galmorph": provenance.to_json(), "columns": columns}
    output.beside(path, (json.dumps(data, indent=1, ensure_ascii=False, default=str) + "\n").encode())


def _open(path: Path, hdu: int | None) -> CsvTable:
    with Input(path) as source:
        text = source.read(CHUNK)
    if text.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise CatalogError(f"{path} is written in UTF-16; save it as UTF-8")
    if b"\n" not in text and (b"\r" in text or len(text) == CHUNK):
        raise CatalogError(f"{path} has no line ends; save it anew as CSV")
    bom = _BOM if text.startswith(_BOM) else b""
    lines = io.BytesIO(text[len(bom) :]).readlines()
    comments = list(takewhile(lambda line: line.startswith(b"#") or not line.strip(), lines))
    lines = lines[len(comments) :]
    delimiter, cells, n_lines = _sniff(path, lines or comments[-1:])
    if comments and _is_header(comments[-1], delimiter, cells):
        header = comments.pop()
    elif lines:
        header = b"".join(lines[:n_lines])
        _check_header(path, header, cells)
    else:
        raise CatalogError(f"{path} has no header line with the names of the columns")
    return CsvTable(path, bom + b"".join(comments), header, delimiter)


def _sniff(path: Path, lines: Sequence[bytes]) -> tuple[str, list[str], int]:
    """Return the delimiter, the cells of the first record and its number of lines.

    The delimiter is the one that gives the first records the same number of cells, and the most of them.
    """
    best: tuple[tuple[bool, int], str, list[str], int] | None = None
    trouble: csv.Error | None = None
    for delimiter in _DELIMITERS:
        reader = csv.reader(map(plain, lines), delimiter=delimiter, strict=True)
        try:
            first = next(reader)
        except csv.Error as error:
            trouble = error
            continue
        n_lines = reader.line_num
        try:
            even = {len(cells) for cells in islice(reader, _SNIFFED_RECORDS) if cells} <= {len(first)}
        except csv.Error:
            even = False
        rank = (even and len(first) > 1, len(first))
        if best is None or rank > best[0]:
            best = rank, delimiter, first, n_lines
    if best is None:
        raise CatalogError(f"{path}: the header is not CSV ({trouble})") from trouble
    return best[1:]


def _is_header(comment: bytes, delimiter: str, cells: Sequence[str]) -> bool:
    """Tell whether a comment names the columns: it has as many words as the first record, which holds numbers."""
    names = [unquoted(cell) for cell in split(comment.lstrip(b"#").rstrip(b"\r\n"), delimiter)]
    row = any(cell.startswith("#") or _is_number(cell) for cell in cells)
    return row and len(names) == len(cells) > 1 and not any(map(_is_number, names))


def _check_header(path: Path, header: bytes, cells: Sequence[str]) -> None:
    line = header.decode("utf-8", "replace").strip()
    if any(_is_number(cell) and "." in cell for cell in cells):
        raise CatalogError(f"{path} has no header: its first line {line!r} holds numbers, not names")
    words = line.lower().split()
    if len(cells) == 1 < len(words) and all(any(w.startswith(start) for w in words) for start in ("ra", "de")):
        raise CatalogError(f"{path} has blanks between its columns; save it with commas, tabs or semicolons")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _write(
    output: Output, columns: Sequence[Column], blocks: Iterator[Block], n_rows: int, provenance: Provenance
) -> None:
    delimiter = "\t" if ".tsv" in output.path.suffixes[-2:] else ","
    Rows(output.path, delimiter, 0, 0, 1, nan="", empty="").write(output, columns, blocks)
    _write_sidecar(output, provenance, [_described(column) for column in columns])


TABLE = Format(
    name="csv",
    suffixes=(".csv", ".tsv", ".txt"),
    # Text that is nothing else is taken for CSV.
    recognises=lambda head: False,
    open=_open,
    write=_write,
)
