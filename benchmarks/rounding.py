"""What bfloat16 does to the probabilities of a model: the largest and the rms difference from float32.

``python benchmarks/rounding.py MODEL --data PATH [--galaxies 200]`` takes the first pictures of a sample.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from galmorph.models.model import load
from galmorph.models.predictor import Predictor
from galmorph.training import dataset
from galmorph.training.config import TrainConfig
from galmorph.training.evaluation.predicting import predict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--galaxies", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = load(arguments.model)
    sample = dataset.load([arguments.data], model.schema, model.card.input_size, TrainConfig.radii)
    rows = np.arange(min(arguments.galaxies, len(sample)))
    exact, rounded = (predict(Predictor(model, "cpu", dtype), sample, rows, 16) for dtype in ("float32", "bfloat16"))
    difference = np.abs(rounded - exact)
    print(f"{len(rows)} pictures: at most {difference.max():.4f}, rms {np.sqrt((difference**2).mean()):.4f}")


if __name__ == "__main__":
    main()
