"""How often a model is right about the five classes of Zhu et al. (2019), by its votes or by its own classes.

``python benchmarks/classes_by_votes.py MODEL --like CLEAN --data PATH [--part val] [--tta 4] [--exclude CSV ...]``
takes the galaxies of a part of CLEAN, a model of the five classes. A model of votes says the class whose vote, over the
threshold that defines the class, is largest; of the spiral the smaller of its two votes counts.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from galmorph.models.model import Model, load
from galmorph.models.predictor import Predictor
from galmorph.training import dataset
from galmorph.training.evaluation.evaluate import part_rows
from galmorph.training.evaluation.predicting import predict


def class_scores(model: Model, clean: Model, predicted: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a score of each class, shape (n, 5), of what a model predicts."""
    if model.schema.name == clean.schema.name:
        return predicted
    column = model.schema.labels.index
    rules = clean.schema.meaning[model.schema.name]
    return np.stack([np.min([predicted[:, column(k)] / t for k, t in rule.items()], axis=0) for rule in rules], axis=1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--like", default="galaxyzoo2_clean-mobilenet_v2")
    parser.add_argument("--data", required=True)
    parser.add_argument("--part", default="val")
    parser.add_argument("--tta", type=int, default=4)
    parser.add_argument("--exclude", nargs="*", default=[])
    args = parser.parse_args()
    model, clean = load(args.model), load(args.like)
    normalization = model.card.inputs[0].normalization
    size, radii = normalization.input_size, normalization.framing.radii
    data = dataset.load([args.data], clean.schema, size, radii, exclude=args.exclude)
    _, rows = part_rows(clean, data, args.part)
    scores = class_scores(model, clean, predict(Predictor(model, tta=args.tta), data, rows))
    right = scores.argmax(axis=1) == data.fractions[rows].numpy().argmax(axis=1)
    print(f"{args.model}: {right.mean():.4f} of {len(rows)} galaxies of the {args.part} part, {args.tta} views")


if __name__ == "__main__":
    main()
