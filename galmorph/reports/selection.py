"""Which galaxies a report shows with a picture, and which rows its table holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.classification.results import FLAGS, Results

# The most rows of the table; of more, it has a random sample and all galaxies with a picture. A page of this many rows
# with the 37 answers of Galaxy Zoo 2 has 17 MB and opens in less than 3 s (tests/reports).
MAX_ROWS = 100_000
# A picture takes about 6 kB. All galaxies in galleries have one, and random others up to this number.
MAX_PICTURES = 240
PER_LABEL, PER_LIST, PER_FLAG = 6, 12, 6
_LABELS_IN_GALLERY = 8
_SEED = 0


@dataclass(frozen=True)
class Selection:
    """Rows of the galaxies that a report shows.

    Attributes
    ----------
    by_label : mapping
        Some galaxies of each of the most common labels.
    uncertain, unlike : list of int
        The most uncertain galaxies, and those least like the training data; empty for a small catalog.
    by_flag : mapping
        Some galaxies of each flag, by its bit.
    rows : list of int
        All galaxies with a picture.
    """

    by_label: Mapping[str, list[int]]
    uncertain: list[int]
    unlike: list[int]
    by_flag: Mapping[int, list[int]]
    rows: list[int]


def select(results: Results) -> Selection:
    """Choose the galaxies to show; the same ones each time."""
    shuffled = np.random.default_rng(_SEED).permutation(len(results))
    good = results.classified
    common = [label for label, _ in Counter(results.label[good]).most_common(_LABELS_IN_GALLERY)]
    by_label = {label: _first(shuffled, good & (results.label == label), PER_LABEL) for label in common}
    uncertain = _largest(np.where(good, results.entropy, np.nan))
    unlike = _largest(results.ood) if results.ood is not None else []
    by_flag = {
        flag.value: rows for flag in FLAGS if (rows := _first(shuffled, results.flag & flag.value != 0, PER_FLAG))
    }
    lists = [*by_label.values(), uncertain, unlike, *by_flag.values()]
    shown = list(dict.fromkeys(row for rows in lists for row in rows))
    rows = list(dict.fromkeys([*shown, *shuffled[:MAX_PICTURES].tolist()]))[: max(MAX_PICTURES, len(shown))]
    return Selection(by_label, uncertain, unlike, by_flag, rows)


def table_rows(n_rows: int, needed: Sequence[int]) -> list[int]:
    """Return the rows of the table, in the order of the catalog: all, or a random sample with the needed ones."""
    if n_rows <= MAX_ROWS:
        return list(range(n_rows))
    shuffled = np.random.default_rng(_SEED).permutation(n_rows).tolist()
    return sorted(list(dict.fromkeys([*needed, *shuffled]))[: max(MAX_ROWS, len(needed))])


def _first(order: NDArray[np.int64], wanted: NDArray[np.bool_], n: int) -> list[int]:
    return sorted(order[wanted[order]][:n].tolist())


def _largest(values: NDArray[np.floating[Any]]) -> list[int]:
    """Return the rows with the largest values; none if there are too few galaxies."""
    rows = np.flatnonzero(np.isfinite(values))
    return rows[np.argsort(-values[rows], kind="stable")][:PER_LIST].tolist() if len(rows) > PER_LIST else []
