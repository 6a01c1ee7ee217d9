"""Entries of a Parquet footer by which other programs describe the table, brought up to date."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from galmorph.tables.formats import Column

# Spark reads the columns that this entry lists, and no others.
_SPARK = b"org.apache.spark.sql.parquet.row.metadata"
_SPARK_TYPES = {
    "float32": "float",
    "float64": "double",
    "int16": "short",
    "int32": "integer",
    "int64": "long",
    "bool": "boolean",
    "str": "string",
}
# Schemas of other libraries, which fall back on that of the file where there is none.
_OTHER_SCHEMAS = (b"parquet.avro.schema", b"avro.schema", b"iceberg.schema")
_ROW_COUNT = re.compile(rb".*(row_?count|num_?rows)", re.IGNORECASE)


def with_columns(
    metadata: Mapping[bytes, bytes], kept: Collection[str], columns: Sequence[Column]
) -> dict[bytes, bytes]:
    """Return a footer's entries for a table of the columns `kept` and new ones."""
    entries = {key: value for key, value in metadata.items() if key not in _OTHER_SCHEMAS}
    if _SPARK in entries:
        del entries[_SPARK]  # where it cannot be understood, Spark does without
        with suppress(ValueError, TypeError, KeyError):
            described = json.loads(metadata[_SPARK])
            old = [field for field in described["fields"] if field["name"] in kept]
            new = [
                {"name": column.name, "type": _SPARK_TYPES[column.dtype], "nullable": True, "metadata": {}}
                for column in columns
            ]
            entries[_SPARK] = json.dumps({**described, "fields": [*old, *new]}).encode()
    return entries


def with_row_count(metadata: Mapping[bytes, bytes], before: int, now: int) -> dict[bytes, bytes]:
    """Return a footer's entries for a table of another number of rows; LSST's say how many there are."""
    old = str(before).encode()
    return {
        key: str(now).encode() if value.strip() == old and _ROW_COUNT.fullmatch(key) else value
        for key, value in metadata.items()
    }
