"""Parquet: row group by row group through Arrow, with the metadata of the file and of its columns kept.

Columns keep their Arrow types and codecs. A row group that is larger than 256 MiB becomes several.
"""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import CatalogError
from galmorph.files.reading import Input
from galmorph.files.writing import COMPRESSIONS, Output
from galmorph.tables.formats import Added, Array, Block, Column, Format, Provenance, TableField, text_array
from galmorph.tables.formats._column_yaml import ColumnYaml
from galmorph.tables.formats._extra import Extra, of_parquet
from galmorph.tables.formats._parquet_footer import with_columns, with_row_count
from galmorph.tables.formats._votable_head import Head, redescribe

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet as pq

KEY = b"galmorph"
# Where STILTS and TOPCAT keep units and UCDs (as a VOTable without data), and where astropy does.
_VOTABLE = b"IVOA.VOTable-Parquet.content"
_ASTROPY = b"table_meta_yaml"
# Names of codecs that differ between the writer and the reader.
_CODECS = {"UNCOMPRESSED": "NONE"}
_VERSIONS = ("1.0", "2.4", "2.6")
_MAX_GROUP_BYTES = 1 << 28


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # names that are not UTF-8
        raise CatalogError(f"{path} cannot be read as Parquet: {error}") from error


class ParquetTable:
    """A Parquet file.

    Parameters
    ----------
    path : Path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._file() as file, _reading(path):
            self.n_rows: int = file.metadata.num_rows
            self._schema: pa.Schema = file.schema_arrow
            names = self._schema.names
        if not names:
            raise CatalogError(f"{path} has no columns")
        if len(set(names)) < len(names):
            raise CatalogError(f"{path} has several columns of the same name")
        metadata = self._schema.metadata or {}
        self._yaml = _astropy_yaml(path, metadata)
        described = {field.name: field for field in self._yaml.fields} if self._yaml else {}
        described |= _votable_fields(path, metadata)
        self.fields = tuple(
            table_field(field, described.get(field.name, TableField(field.name))) for field in self._schema
        )
        try:
            self.provenance = Provenance.from_json(json.loads(metadata.get(KEY, b"null")))
        except (ValueError, CatalogError) as error:
            raise CatalogError(f"{path}: galmorph's own entry of the metadata is damaged: {error}") from error

    @contextmanager
    def _file(self) -> Iterator[pq.ParquetFile]:
        from pyarrow import parquet as pq

        with _reading(self._path):
            file = pq.ParquetFile(self._path)
        with file:
            yield file

    def blocks(self, positions: Sequence[int], n_rows: int, start: int) -> Iterator[list[Array]]:
        """Iterate over blocks of rows; see `Table`."""
        names = [self._schema.names[position] for position in positions]
        with self._file() as file:
            groups, skip = _groups_from(file, start)
            batches = _read(self._path, file.iter_batches(batch_size=n_rows, row_groups=groups, columns=names))
            for table in _in_blocks(batches, n_rows, skip):
                yield [column_values(table.column(name), name) for name in names]

    def write_rows(self, output: Output, keep: NDArray[np.bool_]) -> None:
        """Write some of the rows; see `Table`."""
        import pyarrow as pa

        first = 0
        counted = with_row_count(self._schema.metadata or {}, self.n_rows, int(keep.sum()))
        with self._file() as file:
            options = _options(file, self._schema.names, [], self._schema)
            with _writer(output, self._schema.with_metadata(counted), **options) as writer:
                for group in range(file.num_row_groups):  # one by one, because rows may be sorted within groups only
                    for batch in _read(self._path, file.iter_batches(row_groups=[group])):
                        writer.write_batch(batch.filter(pa.array(keep[first : first + batch.num_rows])))
                        first += batch.num_rows

    def extra(self) -> Extra:
        """Return what the file holds besides its columns; see `Table`."""
        return of_parquet(self._schema, self._yaml)

    def append(self, output: Output, added: Added) -> None:
        """Write the table with columns appended; see `Table`."""
        import pyarrow as pa

        columns = added.columns
        kept = [name for i, name in enumerate(self._schema.names) if i not in added.dropped]
        metadata = with_columns(self._schema.metadata or {}, kept, columns)
        if _VOTABLE in metadata:
            metadata[_VOTABLE] = redescribe(metadata[_VOTABLE], self._schema.names, added)
        if self._yaml:
            gone = {name for name in self._schema.names if name not in kept}
            metadata[_ASTROPY] = "\n".join(self._yaml.edited(columns, gone)).encode()
            # astropy warns where the longest text of a column is not given.
            lengths = {f"table::len::{c.name}": str(max(c.width, 1)) for c in columns if c.dtype == "str"}
            metadata |= {key.encode(): value.encode() for key, value in lengths.items()}
        fields = [*map(self._schema.field, kept), *map(arrow_field, columns)]
        schema = pa.schema(fields, metadata | _metadata(added.provenance))
        feed = _Feed(columns, added.blocks)
        with self._file() as file, _writer(output, schema, **_options(file, kept, columns, schema)) as writer:
            for group in range(file.num_row_groups):
                size = file.metadata.row_group(group).num_rows
                bytes_ = file.metadata.row_group(group).total_byte_size
                n_rows = max(1, min(size, size * _MAX_GROUP_BYTES // max(bytes_, 1)))
                batches = _read(self._path, file.iter_batches(batch_size=n_rows, row_groups=[group]))
                for table in _in_blocks(batches, n_rows, 0):
                    new = feed.take(table.num_rows)
                    arrays = [*(table.column(name) for name in kept), *new]
                    writer.write_table(pa.Table.from_arrays(arrays, schema=schema), row_group_size=n_rows)
        if feed.is_left:
            raise CatalogError(f"{self._path} is damaged: it has fewer rows than the {self.n_rows} that it states")


class _Feed:
    """Takes any number of rows from the blocks."""

    def __init__(self, columns: Sequence[Column], blocks: Iterator[Block]) -> None:
        self._columns = columns
        self._blocks = blocks
        self._held: list[Block] = []
        self._n_held = 0

    @property
    def is_left(self) -> bool:
        """Whether rows of the blocks were not taken."""
        return self._n_held > 0 or next(self._blocks, None) is not None

    def take(self, n_rows: int) -> list[pa.ChunkedArray]:
        """Return the next rows as a chunked array for each column."""
        import pyarrow as pa

        while self._n_held < n_rows:
            block = next(self._blocks, None)
            if block is None:
                raise CatalogError("the Parquet file is damaged: it has more rows than it states")
            self._held.append(block)
            self._n_held += len(block[self._columns[0].name])
        values = {c.name: np.concatenate([block[c.name] for block in self._held]) for c in self._columns}
        self._held = [{name: array[n_rows:] for name, array in values.items()}]
        self._n_held -= n_rows
        return [pa.chunked_array([pa.array(values[c.name][:n_rows], arrow_type(c))]) for c in self._columns]


def _read(path: Path, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    while True:
        with _reading(path):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def _groups_from(file: pq.ParquetFile, start: int) -> tuple[list[int], int]:
    """Return the row groups from a row on, and how many rows of the first come before that row."""
    group = 0
    while group < file.num_row_groups and start >= file.metadata.row_group(group).num_rows:
        start -= file.metadata.row_group(group).num_rows
        group += 1
    return list(range(group, file.num_row_groups)), start


def _in_blocks(batches: Iterator[pa.RecordBatch], n_rows: int, skip: int) -> Iterator[pa.Table]:
    """Yield the rows after the first `skip` in tables of `n_rows` (the last one shorter), for batches of any length."""
    import pyarrow as pa

    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch.slice(min(skip, batch.num_rows)))
        skip -= min(skip, batch.num_rows)
        while sum(part.num_rows for part in held) >= n_rows:
            table = pa.Table.from_batches(held)
            yield table.slice(0, n_rows)
            held = table.slice(n_rows).to_batches()
    if sum(part.num_rows for part in held):
        yield pa.Table.from_batches(held)


def column_values(column: pa.ChunkedArray, name: str) -> Array:
    """Return a column as numbers (masked where null) or text ('' where null)."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_nested(kind):
        raise CatalogError(f"column {name!r} holds {kind} in each cell, which is kept but not read")
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        null = column.is_null().to_numpy()
        data = column.fill_null(False if pa.types.is_boolean(kind) else 0).to_numpy()
        return np.ma.MaskedArray(data, null) if null.any() else data
    cells = ("" if cell is None else cell for cell in column.to_pylist())
    return text_array(
        (cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell)).strip() for cell in cells
    )


def _votable_fields(path: Path, metadata: Mapping[bytes, bytes]) -> dict[str, TableField]:
    with suppress(CatalogError), Input(path, metadata.get(_VOTABLE, b"")) as source:
        return {cell.field.name: cell.field for cell in Head(source).cells}
    return {}


def _astropy_yaml(path: Path, metadata: Mapping[bytes, bytes]) -> ColumnYaml | None:
    if _ASTROPY not in metadata:
        return None
    try:
        return ColumnYaml(metadata[_ASTROPY].decode("utf-8", "replace"))
    except CatalogError as error:
        raise CatalogError(f"{path}: the entry {_ASTROPY.decode()} of its metadata cannot be read: {error}") from error


def table_field(field: pa.TableField, described: TableField) -> TableField:
    """Return a column; unit and UCD are the column's own, else those in the file's description."""
    import pyarrow as pa

    metadata = field.metadata or {}
    unit, ucd = (metadata.get(key, b"").decode("utf-8", "replace") for key in (b"unit", b"ucd"))
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    scalar = not pa.types.is_nested(kind)
    return TableField(
        field.name, unit or described.unit, ucd or described.ucd, text=not number, scalar=scalar, frame=described.frame
    )


def arrow_type(column: Column) -> pa.DataType:
    """Return the type of a column to write."""
    import pyarrow as pa

    return pa.string() if column.dtype == "str" else pa.from_numpy_dtype(np.dtype(column.dtype))


def arrow_field(column: Column) -> pa.TableField:
    """Return a column to write as an Arrow field, with unit, UCD and description."""
    import pyarrow as pa

    texts = {"unit": column.unit, "ucd": column.ucd, "description": column.description}
    return pa.field(
        column.name, arrow_type(column), metadata={key: text for key, text in texts.items() if text} or None
    )


def _metadata(provenance: Provenance) -> dict[bytes, bytes]:
    return {KEY: json.dumps(provenance.to_json(), default=str).encode()}


def _options(
    file: pq.ParquetFile, kept: Collection[str], columns: Sequence[Column], schema: pa.Schema
) -> dict[str, Any]:
    """Return the options with which a writer keeps types, names of list elements and codecs.

    The version is the file's if it can hold the columns: Polars and DuckDB write a footer of version 1 around types
    that version 1 lacks.
    """
    metadata = file.metadata
    groups = [metadata.row_group(0)] if metadata.num_row_groups else []
    chunks = [group.column(i) for group in groups for i in range(group.num_columns)]
    options: dict[str, Any] = {
        "use_compliant_nested_type": False,
        "sorting_columns": _sorting(file, kept),
        "write_page_index": any(chunk.has_column_index for chunk in chunks),
        "use_deprecated_int96_timestamps": any(chunk.physical_type == "INT96" for chunk in chunks),
    }
    for version in (metadata.format_version, "2.6"):
        options["version"] = version if version in _VERSIONS else "2.6"
        written = _written(schema, options)
        if written.schema_arrow.equals(schema):
            break
    if chunks:
        codecs = [_CODECS.get(chunk.compression, chunk.compression) for chunk in chunks]
        usual = codecs[0]
        fields = [field for field in file.schema_arrow for _ in range(_n_leaves(field.type))]
        codecs = [codec for field, codec in zip(fields, codecs, strict=True) if field.name in kept]
        codecs += [usual] * len(columns)
        paths = [written.schema.column(i).path for i in range(len(written.schema))]
        options["compression"] = dict(zip(paths, codecs, strict=True))
    return options


def _sorting(file: pq.ParquetFile, kept: Collection[str]) -> list[pq.SortingColumn] | None:
    """Return the columns by which all row groups declare their rows sorted, as far as they are kept; None if none."""
    from pyarrow import parquet as pq

    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    stated = {group.sorting_columns for group in groups}
    if len(stated) != 1:
        return None
    owners = [field.name for field in file.schema_arrow for _ in range(_n_leaves(field.type))]
    left = [owner for owner in owners if owner in kept]
    sorting = []
    for each in stated.pop():
        name = owners[each.column_index]
        if name not in kept or owners.count(name) > 1:  # the next ones are sorted only within equal values of it
            break
        sorting.append(pq.SortingColumn(left.index(name), each.descending, each.nulls_first))
    return sorting or None


def _n_leaves(kind: pa.DataType) -> int:
    """Return the number of Parquet columns for values of a type."""
    import pyarrow as pa

    kind = getattr(kind, "storage_type", kind)
    return sum(_n_leaves(kind.field(i).type) for i in range(kind.num_fields)) if pa.types.is_nested(kind) else 1


def _written(schema: pa.Schema, options: Mapping[str, Any]) -> pq.ParquetFile:
    """Return a file without rows that a writer with these options makes of a schema."""
    import pyarrow as pa
    from pyarrow import parquet as pq

    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, **options):
        pass
    return pq.ParquetFile(pa.BufferReader(sink.getvalue()))


class Sink(io.RawIOBase):
    """An output as a file object for Arrow."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def writable(self) -> bool:
        """Tell Arrow that it may write."""
        return True

    def write(self, data: Any) -> int:
        """Write bytes; return their number."""
        self._output.write(data)
        return len(data)

    def tell(self) -> int:
        """Return how many bytes have been written."""
        return self._output.tell()


@contextmanager
def _writer(output: Output, schema: pa.Schema, **options: Any) -> Iterator[pq.ParquetWriter]:
    import pyarrow as pa
    from pyarrow import parquet as pq

    if output.path.suffix in COMPRESSIONS:
        raise CatalogError(f"{output.path}: Parquet compresses its columns itself; leave out {output.path.suffix}")
    try:
        with pq.ParquetWriter(pa.PythonFile(Sink(output), mode="w"), schema, **options) as writer:
            yield writer
    except pa.ArrowException as error:
        raise CatalogError(f"{output.path} cannot be written as Parquet: {error}") from error


def _write(output: Output, added: Added, _: int) -> None:
    import pyarrow as pa

    schema = pa.schema(list(map(arrow_field, added.columns)), _metadata(added.provenance))
    with _writer(output, schema) as writer:
        for block in added.blocks:
            arrays = [pa.array(block[column.name], arrow_type(column)) for column in added.columns]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))


TABLE = Format(
    name="parquet",
    suffixes=(".parquet", ".parq", ".pq"),
    recognises=lambda head: head.startswith(b"PAR1"),
    open=lambda path, _: ParquetTable(path),
    write=_write,
)
