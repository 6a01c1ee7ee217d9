"""Scores of one training over several seeds: accuracy, the calibration of all test parts together, coverage.

``python benchmarks/seeds.py EVALUATED... [--without PREFIX]`` takes the folders that ``galmorph evaluate --out`` wrote,
one a seed. It prints the accuracy of each and their mean with a 95 % interval (Student's), the calibration error of
the class (15 bins) over all with what perfectly calibrated predictions reach in 5 % of the cases, the mean negative log
likelihood, and the coverage of the sets. ``--without`` leaves out galaxies whose names begin so.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t as student

from galmorph.training.evaluation.scores import calibration_error, chance_calibration_error


def predictions(folder: Path, without: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of the first question's answers (n, answers) and the true classes (n,)."""
    table = pd.read_csv(folder / "predictions.csv")
    if without:
        table = table[~table["galaxy"].str.startswith(without)]
    truth = table.filter(regex="^true_").to_numpy(float)
    # The answers of the first question are those by which each row's probabilities first add up to 1.
    p = table.filter(regex="^p_").to_numpy(float)
    n_answers = int(np.argmax(p.mean(axis=0).cumsum() > 0.999)) + 1
    return p[:, :n_answers], truth[:, :n_answers].argmax(axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--without")
    arguments = parser.parse_args()
    parts = [predictions(folder, arguments.without) for folder in arguments.folders]
    accuracies = np.array([(p.argmax(axis=1) == truth).mean() for p, truth in parts])
    n = len(accuracies)
    half = student.ppf(0.975, n - 1) * accuracies.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
    print("accuracy", *(f"{value:.3f}" for value in accuracies), f"mean {accuracies.mean():.3f} +- {half:.3f}")
    p, truth = (np.concatenate(both) for both in zip(*parts, strict=True))
    confidence, right = p.max(axis=1), p.argmax(axis=1) == truth
    likelihood = np.log(p[np.arange(len(p)), truth].clip(1e-9)).mean()
    chance = chance_calibration_error(confidence)
    print(
        f"{len(p)} together: ece {calibration_error(confidence, right):.4f} (95 %: {chance:.4f}), nll {-likelihood:.4f}"
    )
    coverages = [json.loads((folder / "scores.json").read_text())["coverage"] for folder in arguments.folders]
    print("coverage", *(f"{value:.3f}" for value in coverages), f"mean {np.mean(coverages):.3f}")


if __name__ == "__main__":
    main()
