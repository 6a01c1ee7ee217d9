"""What a VOTable says about its columns, and the XML that galmorph adds to it."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from galmorph.errors import CatalogError
from galmorph.files.reading import Input
from galmorph.tables.formats import Added, Column, Provenance, TableSummary, history_line
from galmorph.tables.formats._votable_rows import DATATYPES, Cell
from galmorph.tables.formats._votable_systems import Systems
from galmorph.tables.formats._xml import Event, events

# Of a description, so that a damaged file cannot make it grow without limit.
_MAX_DESCRIPTION = 1 << 16


@dataclass
class Param:
    """A PARAM of the table and the bytes that it takes."""

    name: str
    value: str
    start: int
    stop: int = 0
    description: str = ""


class Head:
    """What is before the rows of a TABLE with columns, and where to edit it.

    Parameters
    ----------
    source : Input
        The file, from its first byte.
    number : int, optional
        The TABLE, from 0; default: the first one with columns.

    Attributes
    ----------
    prefix : str
        The prefix of the namespace in tags, with its colon, or ''.
    tables_before : int
        How many TABLEs come before it.
    cells, field_spans
        Its FIELDs, and the bytes that they take.
    params : list of Param
        Its PARAMs.
    tag : (int, int)
        Where the tag of the TABLE begins and ends.
    behind : int
        The byte before its first LINK or DATA, or its end: FIELDs and PARAMs may stand there.
    serialisation : str
        ``TABLEDATA``, ``BINARY``, ``BINARY2``, or '' if it has no data.
    stream : (int, int) or None
        First and last byte of the binary rows.
    n_rows : int
        The number of rows of TABLEDATA.
    name : str
        Its ``name`` or ``ID``.
    is_cut : bool
        Whether the service says that it left out rows.
    error : str
        The error that a service answered with, or ''.

    Raises
    ------
    CatalogError
        If there is no such table, or its data cannot get columns.
    """

    def __init__(self, source: Input, number: int | None = None) -> None:
        stream = events(source, cells=False)
        for _ in self._tables(stream):
            if number in (None, self.tables_before):
                if self._refusal:
                    raise CatalogError(f"{source.path}: {self._refusal}")
                # Damage behind the table, such as an end that is cut off, is refused before any work is done.
                deque(stream, maxlen=0)
                return
        which = "TABLE" if number is None else f"TABLE {number} (counted from 0)"
        error = f"; the service answered with an error: {self.error.strip()}" if self.error else ""
        raise CatalogError(f"{source.path} has no {which} with FIELDs{error}")

    @classmethod
    def listing(cls, source: Input) -> list[TableSummary]:
        """Return the TABLEs with columns; damage behind one of them is not looked for."""
        head = cls.__new__(cls)
        tables = []
        try:
            for _ in head._tables(events(source, cells=False)):
                n_rows = None if head.stream else head.n_rows
                tables.append(TableSummary(head.tables_before, head.name, n_rows, tuple(c.field for c in head.cells)))
        except CatalogError:
            if not tables:
                raise
        return tables

    def _tables(self, stream: Iterator[Event]) -> Iterator[None]:
        """Read the events of a file and stop behind each TABLE with columns, which the attributes are then about."""
        self.prefix = self.name = self._refusal = ""
        self.tables_before = -1
        self.is_cut, self.error = False, ""
        self._systems = Systems()
        self.cells: list[Cell] = []
        self._attributes: list[Mapping[str, str]] = []
        self.field_spans: list[tuple[int, int]] = []
        self.params: list[Param] = []
        self.behind = 0
        self.tag = 0, 0
        self.serialisation = ""
        self.stream: tuple[int, int] | None = None
        self.n_rows = 0
        self._inside: list[str] = []
        for event in stream:
            if event.kind == "start":
                self._start(event)
            elif event.kind == "end":
                self._end(event)
                if event.name == "TABLE" and self.cells:
                    for i, frame in enumerate(self._systems.frames(self._attributes)):
                        if frame:
                            field = dataclasses.replace(self.cells[i].field, frame=frame)
                            self.cells[i] = dataclasses.replace(self.cells[i], field=field)
                    yield
                if event.name != "TR":
                    self._systems.end(event.name)
            elif event.kind == "text" and self._inside[-3:] == ["TABLE", "PARAM", "DESCRIPTION"]:
                param = self.params[-1]
                param.description = (param.description + event.name)[:_MAX_DESCRIPTION]
            elif event.kind == "text" and self._inside[-1:] == ["INFO"] and self.error:
                self.error = (self.error + event.name)[:_MAX_DESCRIPTION]

    @property
    def provenance(self) -> Provenance:
        """What galmorph wrote; its history stays in the file and is not read."""
        params = {param.name: (param.value, param.description) for param in self.params}
        return Provenance.from_cards(lambda key: params.get(key, (None, "")))

    def edits(self, added: Added) -> list[tuple[tuple[int, int], bytes]]:
        """Return the bytes to replace, in order, and what comes in their place."""
        ours = {"GMCOLS", "GMKEYS", *(key for key, _, _ in self.provenance.cards)}
        users = {param.name for param in self.params} - ours
        new = fields_xml(self.prefix, added.columns) + params_xml(self.prefix, added.provenance, users)
        edits = [(span, b"") for i, span in enumerate(self.field_spans) if i in added.dropped]
        edits += [((param.start, param.stop), b"") for param in self.params if param.name in ours]
        return sorted([*edits, ((self.behind, self.behind), new.encode("ascii"))])

    def _start(self, event: Event) -> None:
        name, attributes = event.name, event.attributes
        parent = self._inside[-1] if self._inside else ""
        self._inside.append(name)
        if name != "TR":  # most of a file
            self._systems.start(name, attributes)
        if name == "TABLE":
            self.prefix, self.behind = event.prefix, 0
            self.tag = event.offset, event.stop
            self.tables_before += 1
            self.name = attributes.get("name") or attributes.get("ID", "")
            self.cells, self.field_spans, self.params, self._attributes = [], [], [], []
            self.serialisation, self.stream, self.n_rows, self._refusal = "", None, 0, ""
        elif name == "FIELD":
            self.cells.append(Cell.of(attributes))
            self._attributes.append(attributes)
            self.field_spans.append((event.offset, 0))
        elif name == "INFO" and attributes.get("name") == "QUERY_STATUS":  # DALI 1.1, section 4.4
            self.is_cut = self.is_cut or attributes.get("value") == "OVERFLOW"
            self.error = " " if attributes.get("value") == "ERROR" else ""
        elif name == "VALUES" and parent == "FIELD":
            self.cells[-1] = dataclasses.replace(self.cells[-1], null=attributes.get("null", ""))
        elif name == "PARAM" and parent == "TABLE":
            self.params.append(Param(attributes.get("name", ""), attributes.get("value", ""), event.offset))
        elif name in ("LINK", "DATA") and parent == "TABLE":
            self.behind = self.behind or event.offset
        elif parent == "DATA" and name != "INFO":
            self.serialisation = name
            if name not in ("TABLEDATA", "BINARY", "BINARY2"):
                self._refusal = f"data as {name} cannot get columns; save it as TABLEDATA or BINARY2"
        elif name == "STREAM":
            if "href" in attributes or attributes.get("encoding") != "base64":
                self._refusal = self._refusal or "only binary data inside the file, as base64, can get columns"
            self.stream = event.stop, event.stop

    def _end(self, event: Event) -> None:
        self._inside.pop()
        parent = self._inside[-1] if self._inside else ""
        if event.name == "TABLE":
            self.behind = self.behind or event.offset
        elif event.name == "FIELD":
            self.field_spans[-1] = self.field_spans[-1][0], event.stop
        elif event.name == "PARAM" and parent == "TABLE":
            self.params[-1].stop = event.stop
        elif event.name == "STREAM" and self.stream:
            self.stream = self.stream[0], event.offset
        elif event.name == "TR":
            self.n_rows += 1
            n_cells = int(event.attributes["TD"])
            if n_cells > len(self.cells) or not n_cells:
                why = f"row {self.n_rows} has {n_cells} cells for {len(self.cells)} columns"
                self._refusal = self._refusal or why


def redescribe(text: bytes, names: Sequence[str], added: Added) -> bytes:
    """Return a VOTable without data, which describes the columns `names` of another file, brought up to date.

    TOPCAT and STILTS keep such a VOTable in FITS and Parquet files and would ignore one that has other columns. What is
    no such VOTable is returned as it is.
    """
    with suppress(CatalogError), Input(Path("VOTable"), text) as source:
        head = Head(source)
        if [cell.field.name for cell in head.cells] == list(names):
            for (start, stop), new in reversed(head.edits(added)):
                text = text[:start] + new + text[stop:]
    return text


def ascii_xml(text: str) -> str:
    """Return XML in ASCII, which all encodings of 8 bits share."""
    return text.encode("ascii", "xmlcharrefreplace").decode("ascii")


def fields_xml(prefix: str, columns: Sequence[Column]) -> str:
    """Return the FIELDs of columns."""
    return "".join(
        _element(prefix, "FIELD", {"name": c.name, **_type(c), "unit": c.unit, "ucd": c.ucd}, c.description)
        for c in columns
    )


def _type(column: Column) -> dict[str, str]:
    if column.dtype == "str":
        return {"datatype": "unicodeChar", "arraysize": "*"}
    return {"datatype": DATATYPES[column.dtype]}


def params_xml(prefix: str, provenance: Provenance, users: Collection[str]) -> str:
    """Return galmorph's PARAMs; a card whose name the user's PARAMs have already becomes history."""
    cards = [card for card in provenance.cards if card[0] not in users]
    pushed = [history_line(card) for card in provenance.cards if card[0] in users]
    rows: list[tuple[str, Any, str]] = [("GMCOLS", ",".join(provenance.columns), "columns that galmorph wrote")]
    if cards:
        rows.append(("GMKEYS", ",".join(key for key, _, _ in cards), "PARAMs that galmorph wrote"))
    rows += cards
    rows += [("HISTORY", line, "") for line in (*provenance.history, *pushed)]
    kind = {"datatype": "unicodeChar", "arraysize": "*"}
    return "".join(
        _element(prefix, "PARAM", {"name": key, **kind, "value": str(value)}, comment) for key, value, comment in rows
    )


def _element(prefix: str, name: str, attributes: dict[str, str], description: str) -> str:
    """Return an element on a line of its own; attributes without a value are left out, except a PARAM's value."""
    text = "".join(f" {key}={quoteattr(value)}" for key, value in attributes.items() if value or key == "value")
    if not description:
        return ascii_xml(f"<{prefix}{name}{text}/>\n")
    inside = f"<{prefix}DESCRIPTION>{escape(description)}</{prefix}DESCRIPTION>"
    return ascii_xml(f"<{prefix}{name}{text}>{inside}</{prefix}{name}>\n")
