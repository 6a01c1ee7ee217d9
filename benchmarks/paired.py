"""Two models on the same galaxies: the difference of their errors, with an interval that is paired.

``python benchmarks/paired.py OLD NEW`` takes two folders that ``galmorph evaluate --out`` wrote. It prints of each the
rmse of the known vote fractions, or for classes the accuracy, and the change from OLD to NEW with a 95 % interval:
galaxies are drawn with replacement, the same for both, 10,000 times.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

N_BOOTSTRAP = 10_000


def per_galaxy(table: pd.DataFrame, *, classes: bool) -> NDArray[np.float64]:
    """Return of each galaxy the sum of its errors and their number, shape (n, 2).

    Errors are squared differences of known fractions, or 1 for a class that is right.
    """
    truth = table.filter(regex="^true_").to_numpy(float)
    predicted = table.filter(regex="^p_").to_numpy(float)
    if classes:
        return np.stack([predicted.argmax(axis=1) == truth.argmax(axis=1), np.ones(len(truth))], axis=1)
    known = np.isfinite(truth)
    return np.stack([(np.where(known, predicted - truth, 0.0) ** 2).sum(axis=1), known.sum(axis=1)], axis=1)


def score(sums: NDArray[np.float64], *, classes: bool) -> NDArray[np.float64]:
    """Return accuracy or rmse of the last axis' (sum, number)."""
    mean = sums[..., 0] / sums[..., 1]
    return mean if classes else np.sqrt(mean)


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    args = parser.parse_args()
    old, new = (pd.read_csv(folder / "predictions.csv").set_index("galaxy") for folder in (args.old, args.new))
    common = old.index.intersection(new.index)
    if len(common) < max(len(old), len(new)):
        print(f"{len(old)} and {len(new)} galaxies, {len(common)} in both: these are compared")
    old, new = old.loc[common], new.loc[common]
    classes = bool(old.filter(regex="^true_").isin((0, 1)).all(axis=None))
    errors = np.stack([per_galaxy(table, classes=classes) for table in (old, new)])
    generator = np.random.default_rng(0)
    draws = np.stack(
        [errors[:, generator.integers(len(common), size=len(common))].sum(axis=1) for _ in range(N_BOOTSTRAP)]
    )
    before, after = score(errors.sum(axis=1), classes=classes)
    drawn = score(draws, classes=classes)
    change = (drawn[:, 1] - drawn[:, 0]) if classes else (drawn[:, 1] / drawn[:, 0] - 1)
    low, high = np.quantile(change, [0.025, 0.975])
    value = after - before if classes else after / before - 1
    name, unit = ("accuracy", "") if classes else ("rmse", " of it")
    scores = f"{name} {before:.4f} and {after:.4f}"
    print(f"{len(common)} galaxies: {scores}, change {value:+.4f}{unit} ({low:+.4f} to {high:+.4f})")


if __name__ == "__main__":
    main()
