"""Conformal sets: they cover what they promise, are as small as can be, and read as text."""

import numpy as np
import pytest

from galmorph import registry
from galmorph.models import conformal

CLASSES = registry.load("schemas", "galaxy10_sdss")
EFIGI = registry.load("schemas", "efigi")


def made(n, seed, sharpness=3.0):
    """Probabilities of a model that is not calibrated, and the true classes."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, 10))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    true = np.array([rng.choice(10, p=p) for p in chances])
    claimed = np.exp(sharpness * logits)
    return claimed / claimed.sum(axis=1, keepdims=True), true


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_sets_of_an_overconfident_model_cover_what_they_promise(level):
    p, true = made(4000, 0)
    threshold = conformal.fit_threshold(p[np.arange(4000), true], level)
    p, true = made(4000, 1)
    chosen = conformal.in_set(p, threshold)
    assert chosen[np.arange(4000), true].mean() == pytest.approx(level, abs=0.02)


def test_coverage_holds_for_few_galaxies_too():
    """Without the correction for a finite sample it would be 0.85 on average."""
    covered = []
    for seed in range(300):
        p, true = made(39, seed)
        own = p[np.arange(39), true]
        covered.append(own[19:] >= conformal.fit_threshold(own[:19]))
    assert np.mean(covered) == pytest.approx(0.9, abs=0.015)


def test_too_few_galaxies_promise_nothing_less_than_all_classes():
    assert conformal.fit_threshold(np.full(8, 0.7)) == 0
    assert conformal.fit_threshold(np.full(9, 0.7)) == pytest.approx(0.7, abs=1e-6)
    assert conformal.fit_threshold(np.zeros(0)) == 0
    assert conformal.in_set(np.eye(10)[:1], 0.0).all()


def test_galaxies_of_the_validation_part_stay_in_despite_the_rounding():
    own = np.full(50, 1 / 3)
    assert conformal.fit_threshold(own) <= 1 / 3


def test_no_set_is_empty_and_without_a_probability_there_is_none():
    p = np.array([[0.3, 0.4, 0.3], [0.9, 0.1, 0.0], [np.nan] * 3])
    assert conformal.in_set(p, 0.8).tolist() == [[False, True, False], [True, False, False], [False] * 3]


def test_names_are_joined_with_the_most_probable_first():
    p = np.zeros((3, 10))
    p[0, [2, 5, 7]] = 0.2, 0.5, 0.3
    p[1, 4], p[2] = 1.0, np.nan
    assert conformal.names(CLASSES, p, 0.25).tolist() == [
        "disk_edge_on_boxy_bulge|disk_face_on_tight_spiral",
        "disk_edge_on_rounded_bulge",
        "",
    ]


def test_the_first_question_alone_has_sets():
    p = np.full((1, len(EFIGI.labels)), 0.5)
    p[0, :7] = 0.02, 0.5, 0.4, 0.02, 0.02, 0.02, 0.02
    assert conformal.names(EFIGI, p, 0.3).tolist() == ["lenticular|early_spiral"]


@pytest.mark.parametrize("threshold", [0.0, 0.09, 0.2, 0.34, 0.5, 0.95])
def test_no_set_is_longer_than_its_column(threshold):
    width = conformal.name_width(CLASSES, threshold)
    rng = np.random.default_rng(0)
    p = np.concatenate([rng.dirichlet(np.full(10, a), 2000) for a in (0.1, 1.0, 100.0)]).astype(np.float32)
    longest = max(map(len, conformal.names(CLASSES, p, threshold)))
    assert longest <= width
    assert width <= len("|".join(CLASSES.labels))


def test_scores_of_sets():
    truth = np.eye(10)[[0, 1, 2, 3]]
    truth[3] = np.nan
    p = np.zeros((4, 10))
    p[:, 0], p[:, 1] = 0.6, 0.4
    assert conformal.set_scores(CLASSES, truth, p, 0.3) == {"coverage": pytest.approx(2 / 3), "set_size": 2.0}
    assert conformal.set_scores(CLASSES, truth[3:], p[3:], 0.3) == {}
