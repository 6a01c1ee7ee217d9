"""What bfloat16 does to the probabilities of a model: the largest and the rms difference from float32.

``python benchmarks/rounding.py MODEL --data PATH [--galaxies 200]`` takes the first pictures of a sample.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from galmorph import dataset
from galmorph.inference import Predictor
from galmorph.model import load
from galmorph.recipes import TrainConfig


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
    exact, rounded = (Predictor(model, "cpu", dtype).dataset(sample, rows, 16) for dtype in ("float32", "bfloat16"))
    difference = np.abs(rounded - exact)
    print(f"{len(rows)} pictures: at most {difference.max():.4f}, rms {np.sqrt((difference**2).mean()):.4f}")


if __name__ == "__main__":
    main()
