"""Features of galaxies (embeddings) as a file of their own: an array a row, in Parquet, FITS or as numpy's array."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import OutputError
from galmorph.files.writing import Output
from galmorph.tables.formats import Card

# Identifiers and features, float32 (n, n_features), of consecutive rows.
Blocks = Iterator[tuple[Sequence[str], NDArray[np.float32]]]


def check_features(path: Path, *, replace: bool) -> None:
    """Raise OutputError if features cannot be written to a file of this name."""
    if path.suffix.lower() not in _WRITERS:
        raise OutputError(f"--features {path}: the file ends in {', '.join(_WRITERS)}.")
    if not path.absolute().parent.is_dir():
        raise OutputError(f"The folder {path.parent} of --features does not exist: make it, or choose another.")
    if path.exists() and not replace:
        raise OutputError(f"The file {path} of --features exists. Choose another one, or --overwrite it.")


def write_features(path: Path, blocks: Blocks, n_features: int, cards: Sequence[Card]) -> None:
    """Write features; the file gets its name when it is complete.

    Parameters
    ----------
    path : Path
        Ends in ``.parquet`` (columns ``id`` and ``features``, a list of fixed size), ``.fits`` (the same, an array
        column) or ``.npy`` (only the array).
    blocks : iterator of (sequence of str, ndarray)
    n_features : int
    cards : sequence of Card
        What made them; kept in Parquet's metadata and in FITS.
    """
    with Output(path) as output:
        _WRITERS[path.suffix.lower()](output, blocks, n_features, cards)


def _parquet(output: Output, blocks: Blocks, n_features: int, cards: Sequence[Card]) -> None:
    import pyarrow as pa
    from pyarrow import parquet as pq

    from galmorph.tables.formats.parquet import Sink

    metadata = {key: str(value) for key, value, _ in cards}
    kind = pa.list_(pa.float32(), n_features)
    schema = pa.schema([("id", pa.string()), ("features", kind)], metadata)
    with pq.ParquetWriter(pa.PythonFile(Sink(output), mode="w"), schema) as writer:
        for names, features in blocks:
            flat = pa.array(np.ascontiguousarray(features).reshape(-1))
            arrays = [pa.array(names, pa.string()), pa.FixedSizeListArray.from_arrays(flat, n_features)]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))


def _fits(output: Output, blocks: Blocks, n_features: int, cards: Sequence[Card]) -> None:
    from astropy.io import fits

    names, features = _joined(blocks, n_features)
    columns = [
        fits.Column("id", f"{max((len(name) for name in names), default=1) or 1}A", array=np.array(names, "U")),
        fits.Column("features", f"{n_features}E", array=features),
    ]
    table = fits.BinTableHDU.from_columns(columns)
    table.header.update({key: value for key, value, _ in cards})
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(file)
    output.write(file.getbuffer())


def _npy(output: Output, blocks: Blocks, n_features: int, _: Sequence[Card]) -> None:
    file = io.BytesIO()
    np.save(file, _joined(blocks, n_features)[1])
    output.write(file.getbuffer())


def _joined(blocks: Blocks, n_features: int) -> tuple[list[str], NDArray[np.float32]]:
    names: list[str] = []
    parts = [np.empty((0, n_features), np.float32)]
    for some, features in blocks:
        names += some
        parts.append(np.ascontiguousarray(features))
    return names, np.concatenate(parts)


_WRITERS: Mapping[str, Callable[[Output, Blocks, int, Sequence[Card]], None]] = {
    ".parquet": _parquet,
    ".fits": _fits,
    ".npy": _npy,
}
