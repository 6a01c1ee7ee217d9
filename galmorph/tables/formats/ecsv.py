"""ECSV: cells are copied as text; our columns are added to the YAML header, whose other lines stay as they were."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galmorph.errors import CatalogError
from galmorph.files.reading import CHUNK, Input
from galmorph.files.writing import Output
from galmorph.tables.formats import Array, Block, Column, Format, Provenance, TableField
from galmorph.tables.formats._delimited import Rows

if TYPE_CHECKING:
    from yaml import Node

_MAGIC = b"# %ECSV "
# No header is longer; keeps a damaged file from being read into memory as one.
_MAX_HEADER = 64 * CHUNK


@dataclass(frozen=True)
class _Entry:
    """An item of a list or a pair of a mapping; as a block it takes the lines from `first` to before `stop`."""

    key: str
    key_node: Node
    node: Node
    first: int
    stop: int


class _YamlHeader:
    """The comment lines before the data.

    Parameters
    ----------
    lines : list of str
        The lines as they are in the file.

    Raises
    ------
    CatalogError
        If this is not YAML that lists the columns line by line, as astropy and STILTS do.
    """

    def __init__(self, lines: list[str]) -> None:
        import yaml

        self._lines = lines
        self._marks = [2 if line.startswith("# ") else 1 for line in lines]
        # An empty line in place of the version, so that line numbers stay true.
        self._content = ["", *(line[n:].rstrip() for line, n in zip(lines[1:], self._marks[1:], strict=True))]
        try:
            root = yaml.compose("\n".join(self._content), Loader=yaml.SafeLoader)
        except yaml.YAMLError as error:
            raise CatalogError(f"the ECSV header is not YAML: {error}") from error
        self._keys = {entry.key: entry for entry in self._entries(root, len(lines))}
        columns = self._keys.get("datatype")
        if columns is None or columns.node.flow_style or not isinstance(columns.node, yaml.SequenceNode):
            raise CatalogError("the ECSV header does not list its columns line by line under 'datatype'")
        self._columns = self._entries(columns.node, columns.stop)
        self._meta = self._entries(self._keys["meta"].node, self._keys["meta"].stop) if "meta" in self._keys else []

    def _entries(self, parent: Node | None, stop: int) -> list[_Entry]:
        import yaml

        found: list[tuple[str, Node, Node, int]] = []
        if isinstance(parent, yaml.MappingNode):
            found = [(str(key.value), key, node, key.start_mark.line) for key, node in parent.value]
        elif isinstance(parent, yaml.SequenceNode):
            for item in parent.value:
                pairs = item.value if isinstance(item, yaml.MappingNode) else []
                key, node = pairs[0] if len(pairs) == 1 else (item, item)
                line = item.start_mark.line
                while not self._content[line].lstrip().startswith("-") and not parent.flow_style:
                    line -= 1
                found.append((str(key.value), key, node, line))
        stops = [line for *_, line in found[1:]] + [stop]
        return [_Entry(*entry, stop) for entry, stop in zip(found, stops, strict=False)]

    @property
    def delimiter(self) -> str:
        """The character between cells."""
        return str(self._keys["delimiter"].node.value) if "delimiter" in self._keys else " "

    def fields(self) -> tuple[TableField, ...]:
        """Return the columns."""
        return tuple(_field(entry.node) for entry in self._columns)

    def provenance(self) -> Provenance:
        """Return what galmorph wrote under ``meta``."""
        ours = next((entry for entry in self._meta if entry.key == "galmorph"), None)
        return Provenance.from_json(_plain(ours.node) if ours else None)

    def edited(self, columns: Sequence[Column], dropped: Collection[int], provenance: Provenance) -> str:
        """Return the header without the columns at `dropped`, with `columns` at the end, and with `provenance`."""
        block = self._keys["datatype"]
        dash = " " * block.node.start_mark.column + "- "
        edits = [(self._at(e.first), self._at(e.stop), "") for i, e in enumerate(self._columns) if i in dropped]
        edits.append(
            (self._at(block.stop), self._at(block.stop), "".join(self._line(dash + _item(c)) for c in columns))
        )
        edits.append(self._meta_edit(f"galmorph: {_flow(provenance.to_json())}"))
        text = "".join(self._lines)
        # The last one first, so that the places of the others stay true.
        for start, stop, new in sorted(edits, key=lambda edit: edit[0])[::-1]:
            text = text[:start] + new + text[stop:]
        return text

    def _meta_edit(self, pair: str) -> tuple[int, int, str]:
        """Return where our pair goes: ``meta`` may be absent, a mapping or an ordered list, on one line or more."""
        import yaml

        if not self._meta:
            if "meta" in self._keys and self._keys["meta"].node.value not in ("", "null", "~", []):
                raise CatalogError("the ECSV header has a 'meta' that is neither a mapping nor a list")
            block = self._keys.get("meta", self._keys["datatype"])
            first = block.first if block.key == "meta" else block.stop
            return self._at(first), self._at(block.stop), self._line("meta:") + self._line("  " + pair)
        node = self._keys["meta"].node
        ordered = isinstance(node, yaml.SequenceNode)
        ours = next((entry for entry in self._meta if entry.key == "galmorph"), None)
        entry = ours or self._meta[0]
        if node.flow_style:
            begin, end = entry.key_node.start_mark, entry.node.end_mark
            place = self._at(begin.line, begin.column)
            if ours:
                return place, self._at(end.line, end.column), pair
            # An item of an ordered list has braces of its own around the key.
            return place - ordered, place - ordered, f"{{{pair}}}, " if ordered else f"{pair}, "
        content = self._content[entry.first]
        indent = content[: len(content) - len(content.lstrip())]
        line = self._line(indent + "- " * ordered + pair)
        return self._at(entry.first), self._at(entry.stop if ours else entry.first), line

    def _at(self, line: int, column: int | None = None) -> int:
        """Return the place in the text of a line's beginning, or of a column of its YAML."""
        before = sum(len(text) for text in self._lines[:line])
        return before if column is None else before + self._marks[line] + column

    def _line(self, content: str) -> str:
        first = self._lines[0]
        return f"# {content}" + first[len(first.rstrip("\r\n")) :]


def _plain(node: Node) -> Any:
    import yaml

    try:
        return yaml.SafeLoader("").construct_object(node, deep=True)
    except yaml.YAMLError:
        return None


def _field(node: Node) -> TableField:
    """Return a column; its UCD is where astropy and STILTS keep it, in ``meta``."""
    scalars = {key.value: value for key, value in node.value}
    name, unit, kind, subtype = (
        str(scalars[key].value) if key in scalars else "" for key in ("name", "unit", "datatype", "subtype")
    )
    meta = _plain(scalars["meta"]) if "meta" in scalars else None
    ucd = dict(meta).get("ucd") if isinstance(meta, dict | list) else None
    return TableField(name, unit, str(ucd or ""), text=kind == "string", scalar=not subtype)


def _flow(data: Any) -> str:
    """Return data as JSON, which is YAML on one line."""
    return json.dumps(data, default=str)


def _item(column: Column) -> str:
    item: dict[str, Any] = {"name": column.name}
    if column.unit:
        item["unit"] = column.unit
    item["datatype"] = "string" if column.dtype == "str" else column.dtype
    if column.description:
        item["description"] = column.description
    if column.ucd:
        item["meta"] = {"ucd": column.ucd}
    return _flow(item)


class EcsvTable:
    """An ECSV file.

    Parameters
    ----------
    path : Path
        The file.
    yaml_lines : list of str
        The comment lines that it begins with.
    header : bytes
        The line of names behind them.
    """

    def __init__(self, path: Path, yaml_lines: list[str], header: bytes) -> None:
        self._yaml = _YamlHeader(yaml_lines)
        self._header = header
        self.fields = self._yaml.fields()
        self.provenance = self._yaml.provenance()
        start = len("".join(yaml_lines).encode("utf-8", "surrogateescape")) + len(header)
        self._rows = _rows(path, self._yaml.delimiter, len(self.fields), start, len(yaml_lines) + 2)
        names = self._rows.names(header)
        if names != [field.name for field in self.fields]:
            raise CatalogError(f"the ECSV header describes other columns than the line of names, {names}")
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
        output.write(self._yaml.edited(columns, dropped, provenance).encode("utf-8", "surrogateescape"))
        names = self._rows.joined(column.name for column in columns)
        output.write(self._rows.extended(self._header, len(self.fields), dropped, iter([names])))
        self._rows.copy(output, columns, blocks, dropped)


def _rows(path: Path, delimiter: str, n_columns: int, start: int, first_line: int) -> Rows:
    return Rows(path, delimiter, n_columns, start, first_line, nan="nan", empty='""')


def _open(path: Path, hdu: int | None) -> EcsvTable:
    lines: list[str] = []
    size = 0
    with Input(path) as source:
        while (line := source.line()).startswith(b"#"):
            size += len(line)
            if size > _MAX_HEADER:
                raise CatalogError(f"{path}: the ECSV header does not end")
            lines.append(line.decode("utf-8", "surrogateescape"))
    try:
        return EcsvTable(path, lines, line)
    except CatalogError as error:
        raise CatalogError(f"{path}: {error}") from error


def _write(
    output: Output, columns: Sequence[Column], blocks: Iterator[Block], n_rows: int, provenance: Provenance
) -> None:
    lines = ["%ECSV 1.0", "---", "delimiter: ','", "datatype:", *(f"- {_item(column)}" for column in columns)]
    lines += ["meta:", f"  galmorph: {_flow(provenance.to_json())}", "schema: astropy-2.0"]
    output.write("".join(f"# {line}\n" for line in lines).encode())
    _rows(output.path, ",", 0, 0, 1).write(output, columns, blocks)


TABLE = Format(
    name="ecsv",
    suffixes=(".ecsv",),
    recognises=lambda head: head.startswith(_MAGIC),
    open=_open,
    write=_write,
)
