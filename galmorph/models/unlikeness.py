"""Unlikeness: the distance of a picture's features from those of the training part.

The distance is Mahalanobis's under a covariance of low rank and an even rest (probabilistic principal components,
Tipping & Bishop 1999, JRSS B 61, 611), of the features that enter the network's last layer. Other distances were tried
on simulated faults of validation pictures (``benchmarks/unlikeness.py``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

# Number of principal components: 64 flag fewer of the simulated faults of validation pictures, 256 flag as many.
N_COMPONENTS = 128
# The share of galaxies like the training part that is not flagged.
QUANTILE = 0.99
# More features than this (feature maps that are not pooled) make the model's file too large.
MAX_FEATURES = 4096
_PREFIX = "galmorph.unlikeness."


@dataclass(frozen=True)
class Unlikeness:
    """The features of the training part: their mean, main directions, and the variances along these and across.

    Attributes
    ----------
    mean : Tensor, shape (n_features,)
    basis : Tensor, shape (n_components, n_features)
        Orthonormal.
    variances : Tensor, shape (n_components + 1,)
        Along each direction, and the mean along all others.
    """

    mean: Tensor
    basis: Tensor
    variances: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Return the distance of each picture, float32 (n,), of features (n, n_features); about 1 in the training part.

        It is the root mean square over the features, each in units of its own spread.
        """
        offset = features.float() - self.mean.float()
        basis = self.basis.float()
        along = offset @ basis.T
        rest = (offset - along @ basis).square().sum(dim=1)
        variances = self.variances.float()
        squares = (along.square() / variances[:-1]).sum(dim=1) + rest / variances[-1]
        return (squares / features.shape[1]).sqrt()

    def to(self, device: torch.device) -> Unlikeness:
        """Return the same on a device."""
        return Unlikeness(*(t.to(device) for t in (self.mean, self.basis, self.variances)))

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors for a model's file."""
        return {f"{_PREFIX}{name}": getattr(self, name).contiguous() for name in ("mean", "basis", "variances")}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Unlikeness | None:
        """Return the unlikeness in a model's file, None if there is none.

        Raises
        ------
        ValueError
            If the tensors do not fit each other.
        """
        parts = [tensors.get(f"{_PREFIX}{name}") for name in ("mean", "basis", "variances")]
        mean, basis, variances = parts
        if mean is None or basis is None or variances is None:
            return None
        if basis.shape != (len(variances) - 1, len(mean)):
            raise ValueError(f"its unlikeness has {tuple(basis.shape)} directions for {len(mean)} features")
        return cls(mean, basis, variances)


def fit(features: Tensor) -> Unlikeness:
    """Describe the features of the training part.

    Parameters
    ----------
    features : Tensor, float32, shape (n, n_features)

    Returns
    -------
    Unlikeness
        Mean and basis in 16 bits, as they are stored, and the variances that go with them.
    """
    n, n_features = features.shape
    k = max(1, min(N_COMPONENTS, (n - 1) // 4, n_features // 2))
    mean = features.double().mean(dim=0).half()
    offset = features.double() - mean.double()
    basis = _directions(offset)[:k].half()
    along = offset @ basis.double().T
    rest = (offset - along @ basis.double()).square().sum(dim=1).mean() / max(n_features - k, 1)
    # Features that never differ have no spread; the floor keeps the distance finite.
    floor = max(float(offset.square().mean()) * 1e-4, 1e-12)
    variances = torch.cat([along.square().mean(dim=0), rest.view(1)]).clamp(min=floor)
    return Unlikeness(mean, basis, variances.float())


def _directions(offset: Tensor) -> Tensor:
    """Return the principal directions, those of the largest variance first, by way of the smaller of two matrices."""
    if len(offset) >= offset.shape[1]:
        return torch.linalg.eigh(offset.T @ offset).eigenvectors.T.flip(0)
    weights = torch.linalg.eigh(offset @ offset.T).eigenvectors.T.flip(0)
    return torch.nn.functional.normalize(weights @ offset, dim=1)


def fit_threshold(distances: Tensor, quantile: float = QUANTILE) -> float:
    """Return the distance above which a picture is flagged: a quantile of those of the validation part.

    Parameters
    ----------
    distances : Tensor, shape (n,)
        n of 1 or more; of fewer than 99 the largest is taken.
    """
    ordered = distances.sort().values
    # As in conformal prediction: a new galaxy like these is beyond it at most as often as wanted.
    index = min(math.ceil((len(ordered) + 1) * quantile), len(ordered)) - 1
    return round(float(ordered[index]) + 5e-7, 6)
