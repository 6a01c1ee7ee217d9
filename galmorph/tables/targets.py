"""Targets: identifiers, positions, radii and cutouts of a catalog's rows, in blocks; and cells of text as numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from galmorph.tables.decimals import with_point
from galmorph.tables.formats import Array, text_array

NULLS = frozenset(("", "nan", "null", "none", "na", "n/a", "--"))


@dataclass(frozen=True)
class Targets:
    """A block of consecutive rows of a catalog; arrays of equal length.

    Parameters
    ----------
    row : ndarray of int64
        Row numbers in the catalog, from 0.
    id : ndarray of str objects
        Text as in the file ('' where null); the row number where the catalog has no id column.
    ra, dec : ndarray of float64
        ICRS degrees, NaN where unknown.
    cutout : ndarray of str objects
        Text of the cutout column, '' where absent or null.
    radius_arcsec : ndarray of float64
        The size column in arcsec, NaN where unknown or not positive.
    problem : ndarray of str objects
        '' where the position is fine (or the catalog has none at all), else why it is unusable.
    """

    row: NDArray[np.int64]
    id: NDArray[np.object_]
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    cutout: NDArray[np.object_]
    radius_arcsec: NDArray[np.float64]
    problem: NDArray[np.object_]


def with_points(values: Array, decimal: str) -> Array:
    """Return the cells of a column of numbers with points before the decimals, where `decimal` is a comma."""
    return values if decimal == "." or values.dtype != object else text_array(map(with_point, values))


def as_text(values: Array) -> NDArray[np.object_]:
    """Return a column as text, '' where null."""
    if values.dtype == object:
        return values
    null = np.ma.getmaskarray(values)
    return text_array("" if masked else str(value) for value, masked in zip(np.ma.getdata(values), null, strict=True))


def as_numbers(cells: NDArray[np.object_], *, is_number: bool) -> Array:
    """Return cells of text as integers (masked where null) or floats (NaN), if every cell is one or null."""
    null = np.array([cell.lower() in NULLS for cell in cells], dtype=bool)
    if null.all():
        return np.full(len(cells), np.nan) if is_number else cells
    for dtype in (np.int64, np.float64):
        try:
            values = np.ma.MaskedArray(np.zeros(len(cells), dtype), null)
            values[~null] = cells[~null].astype(dtype)
        except (ValueError, OverflowError):
            continue
        if dtype is np.float64:
            return np.ma.filled(values, np.nan)
        return values if null.any() else values.data
    return cells
