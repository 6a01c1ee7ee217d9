"""Other contents of a file than names, units, UCDs and values of columns; only copies of the same format keep them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galmorph.files.reading import Input
from galmorph.tables.formats._column_yaml import ColumnYaml
from galmorph.tables.formats._fits_hdus import read_hdus
from galmorph.tables.formats._fits_header import Header, is_structure, keyword
from galmorph.tables.formats._xml import events

if TYPE_CHECKING:
    import pyarrow as pa

# Cards of programs about the date and the software of a file.
_STAMPS = frozenset(("DATE", "STILVERS", "STILCLAS", "CREATOR", "ORIGIN", "CHECKSUM", "DATASUM", "VOTMETA", "END", ""))
_OF_GALMORPH = frozenset(("galmorph", "GMCOLS", "GMKEYS"))
_OF_VOTABLE = frozenset(
    ("VOTABLE", "RESOURCE", "TABLE", "FIELD", "DESCRIPTION", "VALUES", "DATA", "TABLEDATA", "TR", "TD")
) | {"BINARY", "BINARY2", "STREAM"}
# Metadata of Parquet that repeat the columns and their types.
_OF_PARQUET = frozenset(
    (b"galmorph", b"ARROW:schema", b"IVOA.VOTable-Parquet.content", b"IVOA.VOTable-Parquet.version")
)
_TEXT_LENGTH = re.compile(rb"table::len::.*")


@dataclass(frozen=True)
class Extra:
    """The contents of a file besides its columns.

    Parameters
    ----------
    descriptions : mapping
        Descriptions of columns by name.
    others : tuple of str
        What else there is, in words: what a copy in another format would lose.
    """

    descriptions: Mapping[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()


def of_fits(path: Path, start: int, own: Collection[str]) -> Extra:
    """Return the contents of a FITS file besides a table that starts at a byte; `own` are galmorph's keywords."""
    descriptions: dict[str, str] = {}
    others: list[str] = []
    for hdu in read_hdus(path):
        header = hdu.header
        described = (
            hdu.number == 0 and header.card("VOTMETA")[0] is True
        )  # TOPCAT's description of the columns, beyond FITS
        if hdu.start == start or (hdu.number == 0 and (hdu.kind == "empty" or described)):
            cards = dict.fromkeys(key for card in header.cards if _is_users(key := keyword(card), own))
            others += [f"the header card {key}" for key in cards]
        else:
            others.append(f"HDU {hdu.number} ({hdu.kind})")
        if hdu.start == start:
            descriptions = _comments(header)
    return Extra(descriptions, tuple(others))


def _is_users(key: str, own: Collection[str]) -> bool:
    return not (is_structure(key) or key in _STAMPS or key in _OF_GALMORPH or key in own)


def _comments(header: Header) -> dict[str, str]:
    numbers = range(1, header.integer("TFIELDS") + 1)
    texts = {header.text(f"TTYPE{n}"): header.text(f"TCOMM{n}") or header.text(f"TDESC{n}") for n in numbers}
    return {name: text for name, text in texts.items() if text}


def of_yaml(yaml: ColumnYaml) -> Extra:
    """Return the contents of an ECSV file besides its columns."""
    own = {key for key, _, _ in yaml.provenance.cards} | _OF_GALMORPH
    meta = [f"the entry {key} of its meta" for key in yaml.meta_keys if key not in own]
    return Extra(yaml.descriptions, (*meta, *yaml.column_extras))


def of_votable(path: Path, own: Collection[str]) -> Extra:
    """Return the contents of a VOTable besides its columns; `own` are the names of galmorph's PARAMs."""
    descriptions: dict[str, str] = {}
    others: dict[str, None] = {}
    inside: list[str] = []
    name = ""
    n_tables = 0
    with Input(path) as source:
        for event in events(source):
            if event.kind == "start":
                inside.append(event.name)
                n_tables += event.name == "TABLE"
                if event.name == "FIELD":
                    name = event.attributes.get("name") or event.attributes.get("ID", "")
                called = event.attributes.get("name") or event.attributes.get("ID", "")
                if event.name not in _OF_VOTABLE and not (event.name == "PARAM" and _is_own(called, own)):
                    others[f"{event.name} {called}".strip()] = None
            elif event.kind == "end":
                inside.pop()
            elif inside[-2:] == ["FIELD", "DESCRIPTION"]:
                descriptions[name] = descriptions.get(name, "") + event.name
    tables = (f"{n_tables - 1} other tables",) if n_tables > 1 else ()
    return Extra(descriptions, (*tables, *others))


def _is_own(name: str, own: Collection[str]) -> bool:
    return name in own or name in _OF_GALMORPH or name == "HISTORY"


def of_parquet(schema: pa.Schema, yaml: ColumnYaml | None) -> Extra:
    """Return the contents of a Parquet file besides its columns."""
    descriptions = dict(yaml.descriptions) if yaml else {}
    others: list[str] = []
    for column in schema:
        metadata = column.metadata or {}
        if text := metadata.get(b"description"):
            descriptions[column.name] = text.decode("utf-8", "replace")
        kept = (b"unit", b"ucd", b"description", b"PARQUET:field_id")
        others += [f"the entry {_shown(key)} of column {column.name}" for key in metadata if key not in kept]
    for key in schema.metadata or {}:
        if key == b"table_meta_yaml" and yaml is not None:
            others += of_yaml(yaml).others
        elif key not in _OF_PARQUET and not _TEXT_LENGTH.fullmatch(key) and not _is_plain_pandas(key, schema):
            others.append(f"the metadata {_shown(key)}")
    return Extra(descriptions, tuple(others))


def _shown(key: bytes) -> str:
    return key.decode("utf-8", "replace")


def _is_plain_pandas(key: bytes, schema: pa.Schema) -> bool:
    """Return whether the entry of a DataFrame only repeats the columns: names and types, and a counted index."""
    if key != b"pandas":
        return False
    described: dict[str, Any] = schema.pandas_metadata or {}
    index: Iterable[Any] = described.get("index_columns", ())
    return all(isinstance(each, dict) for each in index) and not described.get("attributes")
