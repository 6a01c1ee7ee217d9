"""Rows of delimited text, which CSV and ECSV share: Python's csv module finds the cells, which are copied as bytes."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import CatalogError
from galmorph.files.reading import Input
from galmorph.files.writing import Output
from galmorph.tables.formats import Added, Array, Block, Column, text_array

# The last line that databases print.
_ROW_COUNT = re.compile(rb"\(\d+ rows?( affected)?\)")
# A record as written, and its number of cells: 0 if it is not a row (a blank line or a comment).
Record = tuple[bytes, int]


@dataclass(frozen=True)
class Rows:
    """The rows of a file of delimited text.

    A record is a line, or more of them where a quoted cell holds line ends. A blank line is not a row, nor is a line
    that begins with ``#`` and has not as many cells as the table has columns, nor are the ends ``(3 rows)`` of
    databases and ``^Z`` of DOS. A record with too few cells counts as one whose last cells are empty, as other readers
    have it.

    Parameters
    ----------
    path : Path
        The file.
    delimiter : str
        One character; a blank stands for any number of blanks.
    n_columns : int
        The number of columns.
    start : int
        The byte where the first record after the header begins.
    first_line : int
        The number of the line there, from 1.
    nan, empty : str
        How NaN and a text of no characters are written.
    booleans : (str, str)
        How False and True are written.
    decimal : {'.', ','}
        What is before the decimals of new numbers; old cells are read as they are.
    """

    path: Path
    delimiter: str
    n_columns: int
    start: int
    first_line: int
    nan: str
    empty: str
    booleans: tuple[str, str] = ("false", "true")
    decimal: str = "."

    def scan(self) -> int:
        """Check every record and return the number of rows.

        Raises
        ------
        CatalogError
            If a record has more cells than there are columns, or quotes that do not match.
        """
        return sum(1 for records in self._records() for _, n_cells in records if n_cells)

    def write_kept(self, output: Output, keep: NDArray[np.bool_]) -> None:
        """Write the head, some of the rows, and the lines between them."""
        with Input(self.path) as source:
            output.write(source.read(self.start))
        kept = iter(keep)
        for records in self._records():
            output.write(b"".join(record for record, n_cells in records if not n_cells or next(kept)))

    def has_comments(self) -> bool:
        """Return whether there are lines with text between the rows that are not rows."""
        return any(not n and record.strip() for records in self._records() for record, n in records)

    def blocks(self, positions: Sequence[int], n_rows: int, start: int) -> Iterator[list[Array]]:
        """Iterate over blocks of the cells at `positions`, as text."""
        block: list[list[str]] = []
        skip = start
        for records in self._records():
            for record, n_cells in records:
                if not n_cells:
                    continue
                if skip:
                    skip -= 1
                    continue
                block.append(self._pick(record, positions))
                if len(block) == n_rows:
                    yield _columns(block, len(positions))
                    block = []
        if block:
            yield _columns(block, len(positions))

    def copy(self, output: Output, added: Added) -> None:
        """Write the records without the dropped cells and with the new ones at the end."""
        new_cells = (cells for block in added.blocks for cells in self._cells(added.columns, block))
        for records in self._records():
            out = [self.extended(record, n, added.dropped, new_cells) if n else record for record, n in records]
            output.write(b"".join(out))
        next(new_cells, None)

    def write(self, output: Output, added: Added) -> None:
        """Write a line of names and a table of only the new columns."""
        output.write(self.joined(column.name for column in added.columns) + b"\n")
        for block in added.blocks:
            output.write(b"".join(cells + b"\n" for cells in self._cells(added.columns, block)))

    def extended(self, record: bytes, n_cells: int, dropped: Collection[int], new_cells: Iterator[bytes]) -> bytes:
        """Return a record of `n_cells` cells without the cells at `dropped`, followed by the next of `new_cells`."""
        delimiter = self.delimiter.encode()
        body = record.rstrip(b"\r\n")
        end = record[len(body) :]
        if n_cells < self.n_columns:
            body += (delimiter + self.empty.encode()) * (self.n_columns - n_cells)
        if dropped:
            body = self.without(body, dropped)
        return b"".join((body, delimiter if len(dropped) < self.n_columns else b"", next(new_cells), end))

    def without(self, record: bytes, dropped: Collection[int]) -> bytes:
        """Return a record without the cells at `dropped`, of which it may have fewer."""
        if not dropped:
            return record
        cells = (cell for i, cell in enumerate(split(record, self.delimiter)) if i not in dropped)
        return self.delimiter.encode().join(cells)

    def _cells(self, columns: Sequence[Column], block: Block) -> Iterator[bytes]:
        """Iterate over the new cells of each row, joined by the delimiter."""
        texts = [self._texts(column, block[column.name]) for column in columns]
        return (self.delimiter.join(row).encode("utf-8") for row in zip(*texts, strict=True))

    def joined(self, texts: Iterable[str]) -> bytes:
        """Return texts as cells, joined by the delimiter."""
        return self.delimiter.join(map(self.quoted, texts)).encode("utf-8")

    def _texts(self, column: Column, values: Array) -> list[str]:
        if column.dtype == "str":
            return [self.quoted(value) for value in values]
        if column.dtype == "bool":
            return [self.booleans[value] for value in values.tolist()]
        # astype(str) writes the shortest text of a float32; tolist() would write the digits of its float64.
        texts: list[str] = values.astype(str).tolist()
        if self.decimal == "," and values.dtype.kind == "f":
            texts = [self.quoted(text.replace(".", ",")) for text in texts]
        return [self.nan if text == "nan" else text for text in texts] if values.dtype.kind == "f" else texts

    def quoted(self, text: str) -> str:
        """Return a text as a cell."""
        if not text:
            return self.empty
        if (
            self.delimiter in text
            or '"' in text
            or "\n" in text
            or "\r" in text
            or text[0] == "#"
            or text != text.strip()
        ):
            return '"' + text.replace('"', '""') + '"'
        return text

    def _records(self) -> Iterator[list[Record]]:
        line_number = self.first_line
        with Input(self.path) as source:
            source.seek(self.start)
            while lines := source.lines():
                if b'"' in b"".join(lines):
                    records = self._quoted_records(source, lines, line_number)
                    n_lines = sum(max(record.count(b"\n"), 1) for record, _ in records)
                else:
                    records, n_lines = self._plain_records(lines), len(lines)
                if max(map(itemgetter(1), records)) > self.n_columns:
                    raise CatalogError(self._too_wide(records, line_number))
                line_number += n_lines
                yield records

    def _plain_records(self, lines: list[bytes]) -> list[Record]:
        """Return lines without quotes as records: nearly all have a delimiter between each two columns."""
        mark, whole = self.delimiter.encode(), self.n_columns - 1
        if self.delimiter == " " or not whole:
            return [(line, self._count(line, split(line, self.delimiter))) for line in lines]
        return [
            (line, n + 1 if (n := line.count(mark)) == whole else self._count(line, line.split(mark))) for line in lines
        ]

    def _too_wide(self, records: list[Record], line_number: int) -> str:
        """Return the message on the first record that has more cells than there are columns."""
        for record, n_cells in records:
            if n_cells > self.n_columns:
                break
            line_number += max(record.count(b"\n"), 1)
        return f"{self.path}, line {line_number}: {n_cells} cells, but the header names {self.n_columns}"

    def _quoted_records(self, source: Input, lines: list[bytes], line_number: int) -> list[Record]:
        """Return the records of `lines`, reading more lines if the last one is incomplete."""
        consumed: list[bytes] = []

        def feed() -> Iterator[str]:
            for line in lines:
                consumed.append(line)
                yield plain(line)
            while line := source.line():
                consumed.append(line)
                yield plain(line)

        records: list[Record] = []
        n_lines = 0
        reader = csv.reader(feed(), delimiter=self.delimiter, skipinitialspace=self.delimiter == " ", strict=True)
        try:
            while n_lines < len(lines):
                cells = next(reader)
                n_lines += len(consumed)
                record = b"".join(consumed)
                records.append((record, self._count(record, cells)))
                consumed.clear()
        except csv.Error as error:
            where = f"{self.path}, line {line_number + n_lines}"
            long = f"a cell has more than {csv.field_size_limit()} characters, or "
            reason = f"{long if 'limit' in str(error) else ''}the quotes do not match ({error})"
            raise CatalogError(f"{where}: {reason}") from error
        return records

    def _count(self, record: bytes, cells: Sequence[object]) -> int:
        if not record.strip(b" \r\n\x1a") or (record.startswith(b"#") and len(cells) != self.n_columns):
            return 0
        if record.startswith(b"(") and len(cells) == 1 < self.n_columns and _ROW_COUNT.fullmatch(record.strip()):
            return 0
        return len(cells)

    def _pick(self, record: bytes, positions: Sequence[int]) -> list[str]:
        cells = split(record.rstrip(b"\r\n"), self.delimiter)
        if b'"' not in record and record.isascii():
            return [cells[p].strip().decode("ascii") if p < len(cells) else "" for p in positions]
        return [unquoted(cells[p]) if p < len(cells) else "" for p in positions]


def plain(line: bytes) -> str:
    """Return a line for the csv module, for which any carriage return in it would be a line end."""
    body = line.rstrip(b"\r\n")
    return body.replace(b"\r", b" ").decode("latin-1") + "\n"


def split(record: bytes, delimiter: str) -> list[bytes]:
    """Return the cells of a record as written, with quotes."""
    if b'"' not in record:
        return record.split(delimiter.encode()) if delimiter != " " else record.split()
    mark = re.escape(delimiter.encode()) if delimiter != " " else b" +"
    stop = re.escape(delimiter.encode())
    cells = []
    for match in re.finditer(rb'("(?:[^"]|"")*"|[^' + stop + rb"]*)(" + mark + rb"|\Z)", record.strip(b" ")):
        cells.append(match[1])
        if not match[2]:
            break
    return cells


def unquoted(cell: bytes) -> str:
    """Return the text of a cell, without quotes and surrounding blanks."""
    cell = cell.strip()
    if len(cell) > 1 and cell.startswith(b'"'):
        cell = cell[1:-1].replace(b'""', b'"').strip()
    try:
        return cell.decode("utf-8")
    except UnicodeDecodeError:
        return cell.decode("latin-1")


def texts(record: bytes, delimiter: str) -> list[str]:
    """Return the texts of the cells of a record."""
    return [unquoted(cell) for cell in split(record.rstrip(b"\r\n"), delimiter)]


def is_number(text: str) -> bool:
    """Return whether a text is a number, with a point."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _columns(block: list[list[str]], n_columns: int) -> list[Array]:
    return [text_array(row[i] for row in block) for i in range(n_columns)]
