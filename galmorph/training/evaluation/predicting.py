"""Predictions for galaxies of a labelled dataset."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from galmorph.images.normalization import Normalization
from galmorph.models.predictor import Predictor
from galmorph.training.augmentation import plain_view
from galmorph.training.dataset import Dataset


def predict(
    predictor: Predictor, dataset: Dataset, rows: NDArray[np.int64], batch_size: int = 64
) -> NDArray[np.float32]:
    """Return the probabilities, float32 (n, n_labels), of some rows."""
    batches = _batches(predictor, dataset, rows, batch_size)
    return np.concatenate([predictor(inputs).cpu().numpy() for inputs in batches])


def features(predictor: Predictor, dataset: Dataset, rows: NDArray[np.int64], batch_size: int = 64) -> Tensor:
    """Return what enters the network's last layer, float32 (n, n_features), of some rows, not turned."""
    batches = _batches(predictor, dataset, rows, batch_size)
    return torch.cat([next(predictor.features(inputs)).float().cpu() for inputs in batches])


@torch.inference_mode()
def predict_by_views(
    predictor: Predictor, dataset: Dataset, rows: NDArray[np.int64], batch_size: int = 64
) -> NDArray[np.float32]:
    """Return the probabilities with 1, 2, ... orientations averaged, float32 (tta, n, n_labels), of some rows."""
    batches = _batches(predictor, dataset, rows, batch_size)
    logits = torch.cat(
        [torch.stack([predictor.logits(view) for view in predictor.features(inputs)]) for inputs in batches], dim=1
    )
    means = logits.cumsum(dim=0) / torch.arange(1, predictor.tta + 1, device=predictor.device)[:, None, None]
    return torch.stack([predictor.model.probabilities(mean) for mean in means]).cpu().numpy()


def _batches(predictor: Predictor, dataset: Dataset, rows: NDArray[np.int64], batch_size: int) -> Iterator[Tensor]:
    return network_inputs(dataset, rows, predictor.model.card.inputs[0].normalization, predictor.device, batch_size)


def network_inputs(
    dataset: Dataset, rows: NDArray[np.int64], normalization: Normalization, device: torch.device, batch_size: int = 64
) -> Iterator[Tensor]:
    """Yield batches of some rows as network inputs, (n, 3, y, x), not augmented."""
    for start in range(0, len(rows), batch_size):
        images, _ = dataset.batch(rows[start : start + batch_size])
        yield normalization.network_input(plain_view(images.to(device), dataset.view, normalization.input_size))
