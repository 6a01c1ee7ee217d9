"""VOTable: the XML is edited where it must be and copied as bytes elsewhere.

TABLEDATA keeps the text of its cells and gets TD elements behind them. The rows of BINARY and BINARY2 are cut into
cells, which are copied as bytes, followed by the new ones; their base64 is written again. Columns go to the first
TABLE that has any; other tables, resources, PARAMs, INFOs and LINKs stay as they were.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import dropwhile, islice, takewhile
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import CatalogError
from galmorph.files.reading import MAX_LINE, Input
from galmorph.files.writing import Output
from galmorph.tables.formats import Added, Array, Block, Column, Format, TableSummary, text_array
from galmorph.tables.formats._extra import Extra, of_votable
from galmorph.tables.formats._votable_head import Head, ascii_xml, fields_xml, params_xml
from galmorph.tables.formats._votable_rows import BinaryRows, binary_cells, decoded, encoded
from galmorph.tables.formats._xml import Event, Splice, events

log = logging.getLogger(__name__)

_TABLE_TAG = re.compile(rb"<(?:[\w.-]+:)?TABLE[\s>/]")
_LONGEST_TAG = 80
_NROWS = re.compile(rb"""(\snrows\s*=\s*["'])[^"']*(["'])""")


class VoTable:
    """A table in a VOTable file.

    Parameters
    ----------
    path : Path
        The file.
    number : int, optional
        The TABLE, from 0; default: the first one with columns.
    """

    def __init__(self, path: Path, number: int | None = None) -> None:
        self._path = path
        with Input(path) as source:
            self._head = Head(source, number)
        if self._head.is_cut:
            log.warning("%s lacks rows: the service that made it says that it reached its limit (OVERFLOW).", path)
        self.fields = tuple(cell.field for cell in self._head.cells)
        self._binary = BinaryRows(self._head.cells, flagged=self._head.serialisation == "BINARY2")
        self.n_rows = self._head.n_rows if self._head.stream is None else sum(1 for _ in self._binary_rows())
        self.provenance = self._head.provenance

    def _events(self, *, text: bool) -> Iterator[Event]:
        """Iterate over the events from the first row on, to the end of the table."""
        with Input(self._path) as source:
            behind = dropwhile(lambda event: event.offset < self._head.behind, events(source, text=text))
            yield from takewhile(lambda event: event.name != "TABLE", behind)

    def _text_rows(self, *, text: bool = True) -> Iterator[tuple[list[str], list[tuple[int, int]], int]]:
        """Iterate over the rows of TABLEDATA: the texts and byte ranges of the cells, and where the row ends."""
        texts: list[str] = []
        spans: list[tuple[int, int]] = []
        cell: list[str] = []
        size = start = 0
        inside = False
        for event in self._events(text=text):
            if event.kind == "text" and inside:
                cell.append(event.name)
                size += len(event.name)
                if size > MAX_LINE:
                    raise CatalogError(f"{self._path} has a cell of more than {MAX_LINE >> 20} MiB: it is damaged")
            elif event.name == "TD":
                inside = event.kind == "start"
                if inside:
                    cell, size, start = [], 0, event.offset
                else:
                    texts.append("".join(cell))
                    spans.append((start, event.stop))
            elif event.name == "TR" and event.kind == "end":
                yield texts, spans, event.offset
                texts, spans = [], []

    def _binary_rows(self) -> Iterator[list[bytes]]:
        """Iterate over the rows of BINARY or BINARY2: flags and cells."""
        start, stop = self._head.stream or (0, 0)
        texts = (e.name for e in self._events(text=True) if e.kind == "text" and start <= e.offset < stop)
        return self._binary.split(decoded(texts))

    def blocks(self, positions: Sequence[int], n_rows: int, start: int) -> Iterator[list[Array]]:
        """Iterate over blocks of rows; see `Table`."""
        if self._head.stream is None:
            text_rows = islice((row[0] for row in self._text_rows()), start, None)
            while block := list(islice(text_rows, n_rows)):
                yield [self._texts(block, position) for position in positions]
            return
        rows = islice(self._binary_rows(), start, None)
        while parts := list(islice(rows, n_rows)):
            flags = [self._binary.nulls(row[0]) for row in parts]
            yield [
                self._head.cells[p].values([row[p + 1] for row in parts], [bits[p] == "1" for bits in flags])
                for p in positions
            ]

    def _texts(self, rows: Sequence[Sequence[str]], position: int) -> Array:
        null = self._head.cells[position].null
        texts = (row[position].strip() if position < len(row) else "" for row in rows)
        return text_array("" if text == null else text for text in texts)

    def write_rows(self, output: Output, keep: NDArray[np.bool_]) -> None:
        """Write some of the rows; see `Table`."""
        kept = iter(keep.tolist())
        with Input(self._path) as source:
            splice = Splice(source, output)
            self._correct_nrows(splice, int(keep.sum()))
            if self._head.stream is not None:
                self._copy_stream(
                    splice, (self._binary.extended(row, (), ()) for row in self._binary_rows() if next(kept))
                )
            else:
                for start, stop in self._row_spans():
                    if not next(kept):
                        splice.copy(start)
                        splice.skip(stop)
            splice.finish()

    def _row_spans(self) -> Iterator[tuple[int, int]]:
        """Iterate over where the rows of TABLEDATA begin and end."""
        start = 0
        for event in self._events(text=False):
            if event.name == "TR" and event.kind == "start":
                start = event.offset
            elif event.name == "TR":
                yield start, event.stop

    def _correct_nrows(self, splice: Splice, n_rows: int) -> None:
        """Copy the file up to the end of the tag of the TABLE, whose ``nrows`` is the number of rows there are."""
        start, stop = self._head.tag
        with Input(self._path) as source:
            source.seek(start)
            tag = source.read(stop - start)
        splice.copy(start)
        splice.skip(stop)
        splice.insert(_NROWS.sub(rb"\g<1>%d\g<2>" % n_rows, tag))

    def _copy_stream(self, splice: Splice, rows: Iterable[bytes]) -> None:
        """Write rows in the place of the binary data, and skip these."""
        start, stop = self._head.stream or (0, 0)
        splice.copy(start)
        splice.insert(b"\n")
        for line in encoded(rows):
            splice.insert(line)
        splice.skip(stop)

    def extra(self) -> Extra:
        """Return what the file holds besides its columns; see `Table`."""
        return of_votable(self._path, {key for key, _, _ in self.provenance.cards})

    def append(self, output: Output, added: Added) -> None:
        """Write the table with columns appended; see `Table`."""
        head = self._head
        with Input(self._path) as source:
            splice = Splice(source, output)
            self._correct_nrows(splice, self.n_rows)
            for (start, stop), text in head.edits(added):
                splice.copy(start)
                splice.skip(stop)
                splice.insert(text)
            if head.stream is not None:
                cells = (row for block in added.blocks for row in binary_cells(added.columns, block))
                self._copy_stream(
                    splice, (self._binary.extended(row, added.dropped, next(cells)) for row in self._binary_rows())
                )
                next(cells, None)
            else:
                self._copy_text_rows(splice, added)
            splice.finish()

    def _copy_text_rows(self, splice: Splice, added: Added) -> None:
        prefix = self._head.prefix
        cells = (row for block in added.blocks for row in _text_cells(prefix, added.columns, block))
        for texts, spans, end in self._text_rows(text=False):
            for i in sorted(added.dropped):
                if i < len(spans):
                    splice.copy(spans[i][0])
                    splice.skip(spans[i][1])
            splice.copy(end)
            splice.insert(f"<{prefix}TD/>".encode() * (len(self.fields) - len(texts)) + next(cells))
        next(cells, None)


def _text_cells(prefix: str, columns: Sequence[Column], block: Block) -> Iterator[bytes]:
    """Iterate over the new TD elements of each row."""
    begin, end = f"<{prefix}TD>", f"</{prefix}TD>"
    texts = []
    for column in columns:
        values = block[column.name]
        if column.dtype == "str":
            texts.append([ascii_xml(escape(value)) for value in values])
        else:
            special = {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf", "True": "true", "False": "false"}
            texts.append([special.get(text, text) for text in values.astype(str).tolist()])
    return (begin.encode() + f"{end}{begin}".join(row).encode() + end.encode() for row in zip(*texts, strict=True))


def _tables(path: Path) -> list[TableSummary]:
    """List the TABLEs of a file, which is parsed only if it has several."""
    with Input(path) as source:
        overlap = b""
        n_tables = 0
        for chunk in source.chunks():
            text = overlap + chunk
            n_tables += len(_TABLE_TAG.findall(text))
            overlap = text[text.rfind(b"<") :][:_LONGEST_TAG] if b"<" in text[-_LONGEST_TAG:] else b""
            if n_tables > 1:
                break
    if n_tables < 2:
        return []
    with Input(path) as source:
        return Head.listing(source)


_DESCRIPTION = "Galaxies with the probabilities of their morphology by galmorph; the PARAMs describe the model."


def _write(output: Output, added: Added, n_rows: int) -> None:
    head = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">\n<RESOURCE>\n'
        f'<TABLE nrows="{n_rows}">\n<DESCRIPTION>{_DESCRIPTION}</DESCRIPTION>\n'
    )
    output.write(
        (head + fields_xml("", added.columns) + params_xml("", added.provenance, ()) + "<DATA><TABLEDATA>\n").encode()
    )
    for block in added.blocks:
        output.write(b"".join(b"<TR>" + cells + b"</TR>\n" for cells in _text_cells("", added.columns, block)))
    output.write(b"</TABLEDATA></DATA>\n</TABLE>\n</RESOURCE>\n</VOTABLE>\n")


TABLE = Format(
    name="votable",
    suffixes=(".vot", ".xml", ".votable"),
    recognises=lambda head: b"VOTABLE" in head and head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"),
    open=VoTable,
    write=_write,
    tables=_tables,
)
