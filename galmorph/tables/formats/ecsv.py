"""ECSV: cells are copied as text; the YAML of the header keeps its values and tags, in astropy's layout of lines."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
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


class _YamlHeader:
    """The YAML before the data, as a tree of nodes: no value is interpreted that galmorph does not need.

    Parameters
    ----------
    lines : list of str
        The comment lines that the file begins with.

    Raises
    ------
    CatalogError
        If this is not YAML that lists the columns.
    """

    def __init__(self, lines: list[str]) -> None:
        import yaml

        self._version = lines[0]
        # An empty line in place of the version, so that the line numbers of messages are those of the file.
        content = "\n".join(["", *(line[1:].removeprefix(" ").rstrip() for line in lines[1:])])
        try:
            self._root = _composed(content)
        except (yaml.YAMLError, RecursionError) as error:
            raise CatalogError(f"the ECSV header is not YAML: {error}") from error
        columns = _value(self._root, "datatype")
        if columns is None or not isinstance(columns, yaml.SequenceNode):
            raise CatalogError("the ECSV header has no list of columns under 'datatype'")
        self._columns = columns
        self.fields = tuple(_field(i, node) for i, node in enumerate(self._columns.value))
        self._meta = _value(self._root, "meta")
        if not (self._meta is None or _pairs(self._meta) is not None or _is_empty(self._meta)):
            raise CatalogError("the ECSV header has a 'meta' that is neither a mapping nor a list")
        delimiter = _value(self._root, "delimiter")
        self.delimiter = " " if delimiter is None else str(delimiter.value)
        if self.delimiter not in (" ", ","):
            raise CatalogError(f"the ECSV header has the delimiter {self.delimiter!r}; ECSV has ' ' and ','")

    @property
    def provenance(self) -> Provenance:
        """What galmorph wrote under ``meta``, or what came there from the cards of a FITS file."""
        meta = {str(key.value): node for key, node in _pairs(self._meta) or ()}
        if "galmorph" in meta:
            return Provenance.from_json(_plain(meta["galmorph"]))
        return Provenance.from_cards(lambda key: (_plain(meta[key]) if key in meta else None, ""))

    def edited(self, columns: Sequence[Column], dropped: Collection[int], provenance: Provenance) -> str:
        """Return the header without the columns at `dropped`, with `columns` at the end, and with `provenance`."""
        import yaml

        kept = [node for i, node in enumerate(self._columns.value) if i not in dropped]
        columns_node = yaml.SequenceNode(self._columns.tag, kept + [_node(_item(c)) for c in columns], flow_style=False)
        keys = ("galmorph", "GMCOLS", "GMKEYS", *(key for key, _, _ in self.provenance.cards))
        pairs = [pair for pair in _pairs(self._meta) or [] if pair[0].value not in keys]
        pairs.append((_node("galmorph"), _node(provenance.to_json())))
        meta = yaml.MappingNode("tag:yaml.org,2002:map", pairs, flow_style=False)
        if isinstance(self._meta, yaml.SequenceNode) and self._meta.value:
            items = [yaml.MappingNode(meta.tag, [pair], flow_style=False) for pair in pairs]
            meta = yaml.SequenceNode(self._meta.tag, items, flow_style=False)
        root = {str(key.value): (key, node) for key, node in self._root.value}
        root |= {"datatype": (_node("datatype"), columns_node), "meta": (_node("meta"), meta)}
        tree = yaml.MappingNode(self._root.tag, list(root.values()), flow_style=False)
        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        text = yaml.serialize(tree, Dumper=dumper, allow_unicode=True, width=1 << 30, explicit_start=True)
        end = self._version[len(self._version.rstrip("\r\n")) :]
        return self._version + "".join(f"# {line}{end}" for line in text.splitlines())


def _is_scalar(node: Node) -> bool:
    import yaml

    return isinstance(node, yaml.ScalarNode)


def _is_empty(node: Node) -> bool:
    return node.value in ("", "null", "~")


def _pairs(node: Node | None) -> list[tuple[Node, Node]] | None:
    """Return the pairs of a mapping or of an ordered list (a list of mappings of one pair); None for another node."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        return list(node.value)
    if not isinstance(node, yaml.SequenceNode):
        return None
    items = node.value
    single = all(isinstance(item, yaml.MappingNode) and len(item.value) == 1 for item in items)
    return [item.value[0] for item in items] if single else None


def _value(parent: Node | None, key: str) -> Node | None:
    return next((node for name, node in _pairs(parent) or () if name.value == key), None)


def _plain(node: Node) -> Any:
    import yaml

    try:
        return yaml.SafeLoader("").construct_object(node, deep=True)
    except (yaml.YAMLError, ValueError):
        return None


def _composed(text: str) -> Node:
    """Return YAML as a tree; by libyaml, ten times as fast, where PyYAML was built with it."""
    import yaml

    return yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _node(data: Any) -> Node:
    return _composed(json.dumps(data, default=str))


def _field(position: int, node: Node) -> TableField:
    """Return a column; its UCD is where astropy and STILTS keep it, in ``meta``."""
    values = {str(key.value): value for key, value in _pairs(node) or ()}
    texts = {key: str(value.value) for key, value in values.items() if _is_scalar(value)}
    if not {"name", "datatype"} <= texts.keys():
        raise CatalogError(f"the ECSV header: datatype[{position}] is no column with a name and a datatype")
    ucd = _value(values.get("meta"), "ucd")
    return TableField(
        texts["name"],
        texts.get("unit", ""),
        str(ucd.value) if ucd is not None and _is_scalar(ucd) else "",
        text=texts["datatype"] == "string",
        scalar="subtype" not in values,
    )


def _item(column: Column) -> dict[str, Any]:
    item: dict[str, Any] = {"name": column.name}
    if column.unit:
        item["unit"] = column.unit
    item["datatype"] = "string" if column.dtype == "str" else column.dtype
    if column.description:
        item["description"] = column.description
    if column.ucd:
        item["meta"] = {"ucd": column.ucd}
    return item


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
        self.fields = self._yaml.fields
        self.provenance = self._yaml.provenance
        start = len("".join(yaml_lines).encode("utf-8", "surrogateescape")) + len(header)
        self._rows = _rows(path, self._yaml.delimiter, len(self.fields), start, len(yaml_lines) + 2)
        names = self._rows.names(header)
        if names != [field.name for field in self.fields]:
            raise CatalogError(f"the ECSV header describes other columns than the line of names, {names}")
        self.n_rows = self._rows.scan()

    def blocks(self, positions: Sequence[int], n_rows: int, start: int) -> Iterator[list[Array]]:
        """Iterate over blocks of rows; see `Table`."""
        return self._rows.blocks(positions, n_rows, start)

    def append(
        self,
        output: Output,
        columns: Sequence[Column],
        blocks: Iterator[Block],
        dropped: Collection[int],
        provenance: Provenance,
    ) -> None:
        """Write the table with columns appended; see `Table`."""
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
    head = _YamlHeader(["# %ECSV 1.0\n", "# delimiter: ','\n", "# datatype: []\n", "# schema: astropy-2.0\n"])
    output.write(head.edited(columns, (), provenance).encode())
    _rows(output.path, ",", 0, 0, 1).write(output, columns, blocks)


TABLE = Format(
    name="ecsv",
    suffixes=(".ecsv",),
    recognises=lambda head: head.startswith(_MAGIC),
    open=_open,
    write=_write,
)
