"""CSV: cells are copied as text, followed by the new ones; ``<name>.json`` beside it has units and descriptions."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import CatalogError, OutputError
from galmorph.files.writing import Output
from galmorph.tables.formats import Added, Array, Column, Format, Provenance, TableField
from galmorph.tables.formats._csv_head import read_head
from galmorph.tables.formats._delimited import Rows
from galmorph.tables.formats._extra import Extra

_KEYS = ("datatype", "unit", "ucd", "description")


class CsvTable:
    """A CSV file.

    Parameters
    ----------
    path : Path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self._head = read_head(path)
        described = _read_sidecar(path)
        self._columns = {column["name"]: column for column in described.get("columns", [])}
        self.fields = tuple(_field(field, self._columns.get(field.name, {})) for field in self._head.fields)
        self.provenance = Provenance.from_json(described.get("galmorph"))
        head = self._head
        self._rows = Rows(
            path, head.delimiter, len(self.fields), head.size, head.n_lines + 1, nan="", empty="", decimal=head.decimal
        )
        self.n_rows = self._rows.scan()

    def blocks(self, positions: Sequence[int], n_rows: int, start: int) -> Iterator[list[Array]]:
        """Iterate over blocks of rows; see `Table`."""
        return self._rows.blocks(positions, n_rows, start)

    def write_rows(self, output: Output, keep: NDArray[np.bool_]) -> None:
        """Write some of the rows; see `Table`."""
        self._rows.write_kept(output, keep)
        if self._columns:
            _write_sidecar(output, self.provenance, list(self._columns.values()))

    def extra(self) -> Extra:
        """Return what the file holds besides its columns; see `Table`."""
        texts = {name: column.get("description", "") for name, column in self._columns.items()}
        comments = ("comment lines",) if b"#" in self._head.before or self._rows.has_comments() else ()
        return Extra({name: text for name, text in texts.items() if text}, comments)

    def append(self, output: Output, added: Added) -> None:
        """Write the table with columns appended; see `Table`."""
        names = self._rows.joined(column.name for column in added.columns)
        output.write(self._head.before)
        output.write(self._rows.extended(self._head.header, len(self.fields), added.dropped, iter([names])))
        for line in self._head.notes:
            body = line.rstrip(b"\r\n")
            output.write(self._rows.without(body, added.dropped) + line[len(body) :])
        self._rows.copy(output, added)
        kept = [self._columns[field.name] for field in self.fields if field.name in self._columns]
        new = [_described(column) for column in added.columns]
        names_of_new = {column.name for column in added.columns}
        _write_sidecar(output, added.provenance, [c for c in kept if c["name"] not in names_of_new] + new)


def _field(field: TableField, described: Mapping[str, str]) -> TableField:
    text = described["datatype"] == "str" if "datatype" in described else None
    return replace(field, unit=described.get("unit") or field.unit, ucd=described.get("ucd", ""), text=text)


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
    """Return the description that galmorph wrote beside a CSV file; other files there are ignored.

    Raises
    ------
    CatalogError
        If it is galmorph's, but damaged.
    """
    sidecar = _sidecar(path)
    try:
        data = json.loads(sidecar.read_text("utf-8")) if sidecar.is_file() else None
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(data, dict) or "galmorph" not in data:
        return {}
    columns = data.get("columns", [])
    for i, column in enumerate(columns if isinstance(columns, list) else [None]):
        if not isinstance(column, dict) or not all(isinstance(column.get(key, ""), str) for key in ("name", *_KEYS)):
            raise CatalogError(f"{sidecar}: columns[{i}] does not describe a column: move the file away, or mend it")
        if "name" not in column:
            raise CatalogError(f"{sidecar}: columns[{i}] has no name: move the file away, or mend it")
    try:
        Provenance.from_json(data["galmorph"])
    except CatalogError as error:
        raise CatalogError(f"{sidecar}: {error}") from error
    return data


def _write_sidecar(output: Output, provenance: Provenance, columns: Sequence[Mapping[str, Any]]) -> None:
    _check_sidecar(output.path)
    path = _sidecar(output.path)
    data = {"galmorph": provenance.to_json(), "columns": columns}
    text = json.dumps(data, indent=1, ensure_ascii=False, default=str) + "\n"
    output.beside(path, text.encode(), replace=path.exists())


def _check_sidecar(path: Path) -> None:
    sidecar = _sidecar(path)
    if os.path.lexists(sidecar) and (sidecar.is_symlink() or not _read_sidecar(path)):
        raise OutputError(f"{sidecar} exists and is not galmorph's; it would describe {path.name}: move it away.")


def _write(output: Output, added: Added, _: int) -> None:
    delimiter = "\t" if ".tsv" in output.path.suffixes[-2:] else ","
    Rows(output.path, delimiter, 0, 0, 1, nan="", empty="").write(output, added)
    _write_sidecar(output, added.provenance, [_described(column) for column in added.columns])


TABLE = Format(
    name="csv",
    suffixes=(".csv", ".tsv", ".txt"),
    # Any other text counts as CSV.
    recognises=lambda _: False,
    open=lambda path, _: CsvTable(path),
    write=_write,
    check=_check_sidecar,
)
