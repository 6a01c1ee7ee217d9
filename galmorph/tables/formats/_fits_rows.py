"""A copy of a FITS file with some rows of a table."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from galmorph.files.fits import Checksum, padded
from galmorph.files.reading import Input
from galmorph.files.writing import Output
from galmorph.tables.formats._fits_header import Header

_ROWS_AT_ONCE = 16384


def write_rows(output: Output, open_: Callable[[], Input], start: int, header: Header, keep: NDArray[np.bool_]) -> None:
    """Copy a FITS file with some rows of the table that begins at a byte; heap, cards and other HDUs stay.

    Parameters
    ----------
    output : Output
    open_ : callable
        Opens the file at its first byte.
    start : int
        The byte where the table's HDU begins.
    header : Header
        Its header.
    keep : ndarray of bool, shape (n_rows,)
    """
    width, n_rows = header.integer("NAXIS1"), len(keep)
    changed = {"NAXIS2": int(keep.sum())}
    if "THEAP" in header:
        changed["THEAP"] = header.integer("THEAP") - int((~keep).sum()) * width
    new = header.with_values({key: (value, header.card(key)[1]) for key, value in changed.items()})
    checksum = Checksum()

    def put(data: bytes) -> None:
        output.write(data)
        checksum.update(data)

    with open_() as source:
        for chunk in source.chunks(start):
            output.write(chunk)
        header_start = output.tell()
        output.write(new.to_bytes())
        source.seek(start + header.size)
        for first in range(0, n_rows, _ROWS_AT_ONCE):
            some = keep[first : first + _ROWS_AT_ONCE]
            rows = np.frombuffer(source.exactly(len(some) * width), np.uint8).reshape(len(some), width)
            put(rows[some].tobytes())
        for chunk in source.chunks(header.data_size - n_rows * width):
            put(chunk)
        put(bytes(padded(new.data_size) - new.data_size))
        if not {"CHECKSUM", "DATASUM"}.isdisjoint(new.keys()):
            output.patch(header_start, new.with_checksums(checksum.value).to_bytes())
        source.read(padded(header.data_size) - header.data_size)
        for chunk in source.chunks():
            output.write(chunk)
