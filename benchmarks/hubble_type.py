"""Hubble types that an EFIGI model expects beside those of the catalog: Spearman's rank correlation.

``python benchmarks/hubble_type.py predictions.csv labels.csv`` takes what ``galmorph evaluate --out`` wrote for EFIGI,
and EFIGI's ``labels.csv``. The expected type is the mean of the classes' T (the middle of each), weighted by their
probabilities. The interval is 95 %, by bootstrap over galaxies.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

# The middle of the T types that galmorph's schema ``efigi`` makes a class of.
T_OF_CLASS = {
    "elliptical": -5.0,
    "lenticular": -2.0,
    "early_spiral": 1.5,
    "late_spiral": 5.5,
    "very_late_spiral": 8.5,
    "irregular": 10.0,
    "dwarf_elliptical": 11.0,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("predictions", type=Path)
    parser.add_argument("labels", type=Path)
    arguments = parser.parse_args()
    predicted = pd.read_csv(arguments.predictions)
    labels = pd.read_csv(arguments.labels)
    truth = dict(zip(labels["file"].map(lambda file: Path(file).stem), labels["T"], strict=True))
    expected = sum(t * predicted[f"p_type_{name}"] for name, t in T_OF_CLASS.items()).to_numpy()
    names = predicted["galaxy"].str.rpartition(":")[2].map(lambda name: Path(name).stem)
    t = names.map(truth).to_numpy(float)
    known = np.isfinite(t)
    t, expected = t[known], expected[known]
    generator = np.random.default_rng(0)
    drawn = [generator.integers(0, len(t), len(t)) for _ in range(1000)]
    low, high = np.percentile([spearmanr(t[i], expected[i]).statistic for i in drawn], (2.5, 97.5))
    print(f"{len(t)} galaxies: rank correlation {spearmanr(t, expected).statistic:.3f} ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
