"""Unlikeness: the distance that the textbook gives, small files, and what the made-up faults of pictures get."""

import numpy as np
import pytest
import torch

from galmorph.models.unlikeness import Unlikeness, fit, fit_threshold


def features(n, seed, n_features=40, n_directions=5):
    """Features of low rank with an even rest."""
    fixed = np.random.default_rng(0)
    mixing = fixed.normal(0, 3, (n_directions, n_features))
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 0.5, (n, n_features))
    return torch.from_numpy(rng.normal(0, 1, (n, n_directions)) @ mixing + noise + 2).float()


def test_distance_is_mahalanobis_where_the_covariance_is_of_that_kind():
    train, new = features(4000, 1), features(200, 2)
    described = fit(train)
    covariance = np.cov(train.numpy().T, bias=True)
    offset = (new - train.mean(dim=0)).numpy()
    expected = np.sqrt(np.einsum("ni,ij,nj->n", offset, np.linalg.inv(covariance), offset) / 40)
    assert described(new).numpy() == pytest.approx(expected, rel=0.05)
    assert float(described(train).square().mean()) == pytest.approx(1, rel=0.01)


@pytest.mark.parametrize("n", [12, 60, 400])
def test_directions_are_orthonormal_whether_galaxies_or_features_are_more(n):
    basis = fit(features(n, 1, n_features=100)).basis.float()
    assert torch.dist(basis @ basis.T, torch.eye(len(basis))) < 0.01
    assert len(basis) <= n // 4


def test_galaxies_of_the_same_kind_are_flagged_as_rarely_as_promised():
    described = fit(features(2000, 1))
    threshold = fit_threshold(described(features(20_000, 2)))
    assert float((described(features(20_000, 3)) > threshold).float().mean()) == pytest.approx(0.01, abs=0.004)
    assert float((described(features(50, 4) + 3 * torch.randn(40)) > threshold).float().mean()) > 0.9


def test_threshold_of_few_galaxies_is_the_largest_distance():
    distances = torch.tensor([1.0, 3.0, 2.0])
    assert fit_threshold(distances) == pytest.approx(3.0)
    assert fit_threshold(distances) >= 3.0
    assert fit_threshold(torch.arange(1.0, 100.0)) == pytest.approx(99)
    assert fit_threshold(torch.arange(1.0, 200.0)) == pytest.approx(198)


def test_features_that_never_differ_give_finite_distances():
    train = features(100, 1)
    train[:, :20] = 1.5
    described = fit(train)
    assert torch.isfinite(described(train + 1)).all()
    assert torch.isfinite(fit(torch.ones(30, 8))(torch.zeros(2, 8))).all()


def test_what_is_stored_is_small_and_comes_back():
    described = fit(features(300, 1, n_features=1280))
    stored = described.tensors()
    assert sum(t.numel() * t.element_size() for t in stored.values()) < 200_000
    again = Unlikeness.from_tensors({**stored, "galmorph.other": torch.zeros(1)})
    new = features(10, 2, n_features=1280)
    assert torch.equal(again(new), described(new))
    assert Unlikeness.from_tensors({}) is None
    with pytest.raises(ValueError, match="directions for"):
        Unlikeness.from_tensors({**stored, "galmorph.unlikeness.mean": torch.zeros(3)})
