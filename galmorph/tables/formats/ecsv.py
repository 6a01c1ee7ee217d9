"""ECSV: cells are copied as text; the YAML of the header keeps its values and tags, in astropy's layout of lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import CatalogError
from galmorph.files.reading import CHUNK, Input
from galmorph.files.writing import Output
from galmorph.tables.formats import Added, Array, Format
from galmorph.tables.formats._column_yaml import ColumnYaml
from galmorph.tables.formats._delimited import Rows, texts
from galmorph.tables.formats._extra import Extra, of_yaml

_MAGIC = b"# %ECSV "
# No header is longer; it keeps a damaged file from being read into memory.
_MAX_HEADER = 64 * CHUNK


class EcsvTable:
    """An ECSV file.

    Parameters
    ----------
    path : Path
        The file.
    yaml_lines : list of str
        The comment lines that it begins with.
    header : bytes
        The line of names after them.
    """

    def __init__(self, path: Path, yaml_lines: list[str], header: bytes) -> None:
        self._version = yaml_lines[0]
        self._header = header
        # Empty lines instead of the version, so that line numbers in messages are those of the file.
        text = "\n".join(["", *(line[1:].removeprefix(" ").rstrip() for line in yaml_lines[1:])])
        try:
            self._yaml = ColumnYaml(text)
        except CatalogError as error:
            raise CatalogError(f"the ECSV header cannot be read: {error}") from error
        self.fields = self._yaml.fields
        self.provenance = self._yaml.provenance
        named = self._yaml.text_of("delimiter")
        delimiter = " " if named is None else named
        if delimiter not in (" ", ","):
            raise CatalogError(f"the ECSV header has the delimiter {delimiter!r}; ECSV has ' ' and ','")
        start = len("".join(yaml_lines).encode("utf-8", "surrogateescape")) + len(header)
        self._rows = _rows(path, delimiter, len(self.fields), start, len(yaml_lines) + 2)
        names = texts(header, delimiter)
        if names != [field.name for field in self.fields]:
            raise CatalogError(f"the ECSV header describes other columns than the line of names, {names}")
        self.n_rows = self._rows.scan()

    def blocks(self, positions: Sequence[int], n_rows: int, start: int) -> Iterator[list[Array]]:
        """Iterate over blocks of rows; see `Table`."""
        return self._rows.blocks(positions, n_rows, start)

    def write_rows(self, output: Output, keep: NDArray[np.bool_]) -> None:
        """Write some of the rows; see `Table`."""
        self._rows.write_kept(output, keep)

    def extra(self) -> Extra:
        """Return what the file holds besides its columns; see `Table`."""
        return of_yaml(self._yaml)

    def append(self, output: Output, added: Added) -> None:
        """Write the table with columns appended; see `Table`."""
        lines = self._yaml.edited(added.columns, {self.fields[i].name for i in added.dropped}, added.provenance)
        end = self._version[len(self._version.rstrip("\r\n")) :]
        head = self._version + "".join(f"# {line}{end}" for line in ["---", *lines])
        output.write(head.encode("utf-8", "surrogateescape"))
        names = self._rows.joined(column.name for column in added.columns)
        output.write(self._rows.extended(self._header, len(self.fields), added.dropped, iter([names])))
        self._rows.copy(output, added)


def _rows(path: Path, delimiter: str, n_columns: int, start: int, first_line: int) -> Rows:
    return Rows(path, delimiter, n_columns, start, first_line, nan="nan", empty='""', booleans=("False", "True"))


def _open(path: Path, _: int | None) -> EcsvTable:
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


def _write(output: Output, added: Added, _: int) -> None:
    yaml = ColumnYaml("delimiter: ','\ndatatype: []\nmeta: {}\nschema: astropy-2.0\n")
    lines = ["%ECSV 1.0", "---", *yaml.edited(added.columns, (), added.provenance)]
    output.write("".join(f"# {line}\n" for line in lines).encode())
    _rows(output.path, ",", 0, 0, 1).write(output, added)


TABLE = Format(
    name="ecsv",
    suffixes=(".ecsv",),
    recognises=lambda head: head.startswith(_MAGIC),
    open=_open,
    write=_write,
)
