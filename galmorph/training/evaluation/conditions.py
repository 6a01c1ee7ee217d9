"""Conditions: how large and how clear galaxies appear, and how a model's scores depend on that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.images.cutout import border
from galmorph.images.radius import MAD_TO_SIGMA
from galmorph.training.dataset import Dataset

Array = NDArray[np.floating[Any]]

N_GROUPS = 4
# A score of fewer galaxies is mostly noise.
MIN_GROUP = 10
# The centre of a picture: this share of the framed width; of 5.12 R90 it is a fifth of R90 to each side.
_CENTRE = 1 / 12
# What rounding to whole numbers adds to noise, whatever the sky.
_ROUNDING = 1 / np.sqrt(12)


def measured(dataset: Dataset, rows: NDArray[np.int64]) -> dict[str, Array]:
    """Return the conditions under which galaxies were observed, NaN where unknown.

    ``radius_arcsec`` and ``snr`` if any galaxy has them (catalogs of FITS cutouts); ``picture_snr`` of every picture.
    """
    with ThreadPoolExecutor() as pool:
        apparent = np.array(list(pool.map(dataset.apparent, rows.tolist())), dtype=float).reshape(-1, 2)
    conditions = {"radius_arcsec": apparent[:, 0], "snr": apparent[:, 1]}
    conditions = {name: values for name, values in conditions.items() if np.isfinite(values).any()}
    pictures = (picture_snr(dataset.images[row], dataset.view) for row in rows)
    return {**conditions, "picture_snr": np.fromiter(pictures, dtype=float, count=len(rows))}


def picture_snr(picture: NDArray[np.uint8], view: float) -> float:
    """Return the signal to noise of a pixel at the centre of a picture, in the brightness that it shows.

    The stretch of composites is far from linear where a galaxy is bright, so it sorts pictures, but is not a ratio of
    fluxes.

    Parameters
    ----------
    picture : ndarray, uint8, shape (3, side, side)
    view : float
        Framed width as a share of the side.
    """
    light = picture.mean(axis=0)
    sky = border(light)
    level = np.median(sky)
    noise = np.hypot(MAD_TO_SIGMA * np.median(np.abs(sky - level)), _ROUNDING)
    side = len(light)
    half = max(1, round(_CENTRE * view * side / 2))
    middle = light[side // 2 - half : side // 2 + half, side // 2 - half : side // 2 + half]
    return float((middle.mean() - level) / noise)


def score_by(
    conditions: Mapping[str, Array], score: Callable[[NDArray[np.int64]], Mapping[str, Any]]
) -> dict[str, list[dict[str, float]]]:
    """Score galaxies in groups of equal number along each condition.

    Parameters
    ----------
    conditions : mapping of str to ndarray, shape (n,)
        NaN where unknown.
    score : callable
        ``score(rows)`` gives named scores of some galaxies.

    Returns
    -------
    dict
        By condition, the groups from low to high: ``low``, ``median`` and ``high`` of the condition, and the scores.
        A condition that does not vary, or that fewer than `MIN_GROUP` galaxies have, is left out.
    """
    scored: dict[str, list[dict[str, float]]] = {}
    for name, values in conditions.items():
        finite = np.flatnonzero(np.isfinite(values))
        if len(finite) < MIN_GROUP or np.ptp(values[finite]) == 0:
            continue
        finite = finite[np.argsort(values[finite], kind="stable")]
        scored[name] = [
            {
                "low": float(values[rows[0]]),
                "median": float(np.median(values[rows])),
                "high": float(values[rows[-1]]),
                **score(np.sort(rows)),
            }
            for rows in np.array_split(finite, min(N_GROUPS, len(finite) // MIN_GROUP))
        ]
    return scored
