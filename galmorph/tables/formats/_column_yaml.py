"""The YAML in which astropy describes a table: the header of ECSV, comments in FITS, an entry of Parquet's metadata.

It is edited as a tree of nodes, so that values and tags that galmorph does not need stay uninterpreted.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from galmorph.errors import CatalogError
from galmorph.tables.formats import Column, Provenance, TableField
from galmorph.tables.systems import card_frame, declared_frame

if TYPE_CHECKING:
    from yaml import Node

_MAP = "tag:yaml.org,2002:map"


class ColumnYaml:
    """A description of columns.

    Parameters
    ----------
    text : str
        The YAML.

    Attributes
    ----------
    fields : tuple of TableField
        The columns, with units, UCDs and frames.

    Raises
    ------
    CatalogError
        If this is not YAML that lists columns.
    """

    def __init__(self, text: str) -> None:
        import yaml

        try:
            self._root = _composed(text)
        except (yaml.YAMLError, RecursionError, UnicodeError) as error:  # bytes that are not UTF-8
            raise CatalogError(f"it is not YAML: {error}") from error
        columns = _value(self._root, "datatype")
        if columns is None or not isinstance(columns, yaml.SequenceNode):
            raise CatalogError("it has no list of columns under 'datatype'")
        self._columns = columns
        self._meta = _value(self._root, "meta")
        frames = _frames(self._meta)
        fields = (_field(i, node) for i, node in enumerate(columns.value))
        self.fields = tuple(
            replace(field, frame=frame) if (frame := frames.get(field.name, frames[""])) else field for field in fields
        )
        if not (self._meta is None or _pairs(self._meta) is not None or self._meta.value in ("", "null", "~")):
            raise CatalogError("it has a 'meta' that is neither a mapping nor a list")

    def text_of(self, key: str) -> str | None:
        """Return a value as text; None where there is none, or one that is not a single text."""
        node = _value(self._root, key)
        return str(node.value) if node is not None and _is_scalar(node) else None

    @cached_property
    def provenance(self) -> Provenance:
        """Galmorph's entries under ``meta``, or those from the cards of a FITS file."""
        meta = {str(key.value): node for key, node in _pairs(self._meta) or ()}
        if "galmorph" in meta:
            return Provenance.from_json(_plain(meta["galmorph"]))
        return Provenance.from_cards(lambda key: (_plain(meta[key]) if key in meta else None, ""))

    @property
    def meta_keys(self) -> list[str]:
        """The keys under ``meta``."""
        return [str(key.value) for key, _ in _pairs(self._meta) or ()]

    @property
    def descriptions(self) -> dict[str, str]:
        """The descriptions of columns by name."""
        texts = {
            field.name: _value(node, "description")
            for field, node in zip(self.fields, self._columns.value, strict=True)
        }
        return {name: str(node.value) for name, node in texts.items() if node is not None and _is_scalar(node)}

    @property
    def column_extras(self) -> list[str]:
        """Texts that name the entries of columns besides name, type, unit, description, format and UCD."""
        extras = []
        for field, node in zip(self.fields, self._columns.value, strict=True):
            keys = [str(key.value) for key, _ in _pairs(_value(node, "meta")) or ()]
            extras += [f"the entry {key} of column {field.name}" for key in keys if key != "ucd"]
        return extras

    def edited(
        self,
        columns: Sequence[Column],
        dropped: Collection[str],
        provenance: Provenance | None = None,
        *,
        ascii_only: bool = False,
    ) -> list[str]:
        """Return the lines of the YAML without the columns named `dropped`, with `columns` at the end.

        With a `provenance`, ``meta`` gets it in place of the one that is there.
        """
        import yaml

        kept = [node for field, node in zip(self.fields, self._columns.value, strict=True) if field.name not in dropped]
        root = {str(key.value): (key, node) for key, node in self._root.value}
        described = yaml.SequenceNode(self._columns.tag, kept + [_node(_item(c)) for c in columns], flow_style=False)
        root["datatype"] = (_node("datatype"), described)
        if provenance is not None:
            root["meta"] = (_node("meta"), self._new_meta(provenance))
        tree = yaml.MappingNode(self._root.tag, list(root.values()), flow_style=False)
        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        return str(yaml.serialize(tree, Dumper=dumper, allow_unicode=not ascii_only, width=1 << 30)).splitlines()

    def _new_meta(self, provenance: Provenance) -> Node:
        import yaml

        replaced = ("galmorph", "GMCOLS", "GMKEYS", *(key for key, _, _ in self.provenance.cards))
        pairs = [pair for pair in _pairs(self._meta) or [] if pair[0].value not in replaced]
        pairs.append((_node("galmorph"), _node(provenance.to_json())))
        if isinstance(self._meta, yaml.SequenceNode) and self._meta.value:
            items = [yaml.MappingNode(_MAP, [pair], flow_style=False) for pair in pairs]
            return yaml.SequenceNode(self._meta.tag, items, flow_style=False)
        return yaml.MappingNode(_MAP, pairs, flow_style=False)


def _composed(text: str) -> Node:
    """Return YAML as a tree; with libyaml, which is ten times as fast, if PyYAML was built with it."""
    import yaml

    return yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _node(data: Any) -> Node:
    return _composed(json.dumps(data, default=str))


def _is_scalar(node: Node) -> bool:
    import yaml

    return isinstance(node, yaml.ScalarNode)


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
    except (yaml.YAMLError, ValueError, RecursionError):
        return None


def _frames(meta: Node | None) -> dict[str, str]:
    """Return the frames of columns by name, which astropy's SkyCoord has; under '' that of all others."""
    texts = {str(key.value): str(node.value) for key, node in _pairs(meta) or () if _is_scalar(node)}
    frames = {"": card_frame(texts)}
    for name, node in _pairs(_value(meta, "__serialized_columns__")) or ():
        values = {str(key.value): value for key, value in _pairs(node) or ()}
        if "frame" in values and _is_scalar(values["frame"]):
            frame = declared_frame(str(values["frame"].value), _equinox(values.get("equinox")))
            for axis in values:
                column = _value(_value(values[axis], "value"), "name") or _value(values[axis], "name")
                frames[str(column.value) if column is not None else f"{name.value}.{axis}"] = frame
    return frames


def _equinox(time: Node | None) -> str:
    """Return an equinox that astropy wrote as a Time in Besselian or Julian years; '' where it is another."""
    values = {str(key.value): str(value.value) for key, value in _pairs(time) or () if _is_scalar(value)}
    letter = values.get("format", "")[:5]
    try:
        days = float(values["jd1"]) + float(values["jd2"])
    except (KeyError, ValueError):
        return ""
    years = {"byear": 1900 + (days - 2415020.31352) / 365.242198781, "jyear": 2000 + (days - 2451545.0) / 365.25}
    return f"{letter[0].upper()}{round(years[letter], 3):g}" if letter in years else ""


def _field(position: int, node: Node) -> TableField:
    """Return a column; its UCD is where astropy and STILTS keep it, in ``meta``, and so is STILTS's COOSYS."""
    values = {str(key.value): value for key, value in _pairs(node) or ()}
    texts = {key: str(value.value) for key, value in values.items() if _is_scalar(value)}
    if "name" not in texts:
        raise CatalogError(f"datatype[{position}] is no column with a name")
    meta = values.get("meta")
    if meta is not None and _pairs(meta) is None and meta.value not in ("", "null", "~"):
        raise CatalogError(f"datatype[{position}] (column {texts['name']!r}) has a 'meta' that is no mapping")
    ucd = _value(meta, "ucd")
    return TableField(
        texts["name"],
        texts.get("unit", ""),
        str(ucd.value) if ucd is not None and _is_scalar(ucd) else "",
        text=texts.get("datatype") == "string",
        scalar="subtype" not in values,
        frame=_coosys(meta),
    )


def _coosys(meta: Node | None) -> str:
    """Return the frame that STILTS takes from a VOTable into the ``meta`` of a column."""
    system, equinox = (_value(meta, key) for key in ("CoosysSystem", "CoosysEquinox"))
    if system is None or not _is_scalar(system):
        return ""
    return declared_frame(str(system.value), str(equinox.value) if equinox is not None and _is_scalar(equinox) else "")


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
