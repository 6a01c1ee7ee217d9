"""The rows of a report's table: numbers as base64 of their bytes, which browsers decode fast."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.classification.results import FLAGS, Results
from galmorph.reports.pictures import SIDE_PX, Composites

# Probabilities are integers in thousandths; this one means that there is none.
THOUSANDTH, NO_PROBABILITY = 1000, 0xFFFF


def packed_rows(results: Results, pictures: Composites, rows: Sequence[int]) -> dict[str, Any]:
    """Return the data of the page: rows by column, and the questions of the schema.

    Parameters
    ----------
    rows : sequence of int
        Rows of the catalog, in the order of the table.
    """
    schema = results.schema
    chosen = np.array(rows, dtype=np.int64)
    number = {row: i for i, row in enumerate(rows)}
    names = np.where(results.classified, results.label, "").astype(object)[chosen]
    labels, indices = np.unique(np.append(names, "").astype(str), return_inverse=True)
    return {
        "classes": schema.is_classes,
        "names": schema.labels,
        "questions": [
            {
                "name": question.name,
                "answers": question.answers,
                "labels": list(range(columns.start, columns.stop)),
                "parents": parents,
            }
            for question, columns, parents in zip(schema.questions, schema.slices, schema.parents, strict=True)
        ],
        "mean": _mean(results).round(4).tolist(),
        "flags": [{name: flag[name] for name in ("bit", "name", "meaning")} for flag in flag_counts(results)],
        "labels": labels.tolist(),
        "n": len(rows),
        "id": results.id[chosen].tolist(),
        "row": packed(chosen, "u4"),
        "ra": packed(results.ra[chosen], "f8"),
        "dec": packed(results.dec[chosen], "f8"),
        "p": [packed(_thousandths(column), "u2") for column in results.p[chosen].T],
        "label": packed(indices[:-1], "u2"),
        "entropy": packed(results.entropy[chosen], "f4"),
        "flag": packed(results.flag[chosen], "u4"),
        "ood": None if results.ood is None else packed(results.ood[chosen], "f4"),
        "side": SIDE_PX,
        "pictures": {number[row]: base64.b64encode(jpeg).decode() for row, jpeg in pictures.jpeg.items()},
        "reasons": {number[row]: reason for row, reason in pictures.reasons.items()},
    }


def packed(values: NDArray[Any], kind: str) -> dict[str, str]:
    """Return an array as base64 of little-endian numbers, by their kind: ``u2``, ``u4``, ``f4`` or ``f8``."""
    return {kind: base64.b64encode(np.ascontiguousarray(values, dtype=f"<{kind}").tobytes()).decode()}


def flag_counts(results: Results) -> list[dict[str, Any]]:
    """Return each flag's bit, name and meaning, and how many galaxies have it."""
    return [
        {
            "bit": flag.value,
            "name": (flag.name or "").lower(),
            "meaning": meaning,
            "count": int((results.flag & flag.value != 0).sum()),
        }
        for flag, meaning in FLAGS.items()
    ]


def _mean(results: Results) -> NDArray[np.float64]:
    """Return the mean probability of each label, with which the card of a galaxy is compared."""
    p = results.p[results.classified]
    return np.nan_to_num(p.mean(axis=0, dtype=float)) if len(p) else np.zeros(len(results.schema.labels))


def _thousandths(values: NDArray[np.floating[Any]]) -> NDArray[np.uint16]:
    is_number = np.isfinite(values)
    return np.where(is_number, np.rint(np.where(is_number, values, 0) * THOUSANDTH), NO_PROBABILITY).astype(np.uint16)
