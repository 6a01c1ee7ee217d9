"""How well a model of Galaxy Zoo's votes tells stars, trails and blurred fields from galaxies.

``python benchmarks/artifacts.py MODEL --galaxies PATH [PATH ...] --artifacts PATH`` prints, for the test part of both
(as the model was split), of ``p_smooth_or_featured_artifact`` and of the score of unlikeness the area under the ROC
curve with a 95 % bootstrap interval, and the share of the artifacts that is flagged where 2 % of the galaxies are.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from galmorph.models.model import Model
from galmorph.models.model import load as load_model
from galmorph.models.predictor import Predictor
from galmorph.training.dataset import load
from galmorph.training.evaluation.evaluate import part_rows
from galmorph.training.evaluation.predicting import features, predict

FLAGGED = 0.02
N_BOOTSTRAP = 1000

Array = NDArray[np.float64]


def scores(model: Model, paths: list[str], exclude: list[str], device: str, tta: int) -> dict[str, Array]:
    """Return both scores of the galaxies of the test part, by name."""
    normalization = model.card.inputs[0].normalization
    size, radii = normalization.input_size, normalization.framing.radii
    dataset = load(paths, model.schema, size, radii, exclude=exclude)
    _, rows = part_rows(model, dataset, "test")
    predictor = Predictor(model, device, "float32", tta)
    label = model.schema.labels.index(model.schema.artifact)
    found = {model.schema.artifact: predict(predictor, dataset, rows)[:, label].astype(float)}
    if model.unlikeness is not None:
        found["unlikeness"] = model.unlikeness(features(predictor, dataset, rows)).double().numpy()
    return found


def area(galaxies: Array, artifacts: Array) -> float:
    """Return the area under the ROC curve: how often an artifact's score is above a galaxy's."""
    ordered = np.sort(galaxies)
    below, upto = (np.searchsorted(ordered, artifacts, side) for side in ("left", "right"))
    return float((below + upto).mean() / 2 / len(galaxies))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--galaxies", nargs="+", required=True)
    parser.add_argument("--artifacts", nargs="+", required=True)
    parser.add_argument("--exclude", nargs="*", default=[])
    parser.add_argument("--tta", type=int, default=1)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    model = load_model(args.model)
    galaxies = scores(model, args.galaxies, args.exclude, args.device, args.tta)
    artifacts = scores(model, args.artifacts, [], args.device, args.tta)
    random = np.random.default_rng(0)
    for name, of_galaxies in galaxies.items():
        of_artifacts = artifacts[name]
        draws = [
            area(*(random.choice(values, len(values)) for values in (of_galaxies, of_artifacts)))
            for _ in range(N_BOOTSTRAP)
        ]
        low, high = np.quantile(draws, [0.025, 0.975])
        share = float((of_artifacts > np.quantile(of_galaxies, 1 - FLAGGED)).mean())
        print(
            f"{name}: AUROC {area(of_galaxies, of_artifacts):.4f} ({low:.4f} to {high:.4f}), {share:.1%} of "
            f"{len(of_artifacts)} artifacts flagged where {FLAGGED:.0%} of {len(of_galaxies)} galaxies are"
        )


if __name__ == "__main__":
    main()
