"""Which answers a model can know."""

from types import SimpleNamespace

import numpy as np
import torch

from galmorph import registry
from galmorph.training.learnt_labels import learnt_labels

GZ2 = registry.load("schemas", "galaxyzoo2")
ROWS = np.arange(2)


def dataset(known, lower=None, n=3):
    """Three galaxies, of which the first two are learnt from."""

    def values(entries):
        array = torch.full((n, len(GZ2.labels)), torch.nan)
        for label, (row, value) in entries.items():
            array[row, GZ2.labels.index(label)] = value
        return array

    return SimpleNamespace(fractions=values(known), lower=None if lower is None else values(lower))


def test_a_label_is_learnt_where_a_galaxy_of_the_training_part_has_it():
    known = {
        "smooth_or_featured_smooth": (0, 0.5),
        "smooth_or_featured_artifact": (1, 0.0),
        "smooth_or_featured_featured_or_disk": (2, 1.0),  # not in the training part
        "how_rounded_round": (1, 0.25),
        "disk_edge_on_yes": (0, 0.5),  # asked after an answer that none has
        "something_odd_yes": (1, 0.01),
    }
    learnt = {"smooth_or_featured_smooth", "how_rounded_round", "something_odd_yes"}
    assert set(learnt_labels(GZ2, dataset(known), ROWS)) == learnt


def test_a_minimum_fraction_is_a_label_too():
    lower = {"smooth_or_featured_smooth": (1, 0.5), "smooth_or_featured_artifact": (0, 0.0)}
    assert learnt_labels(GZ2, dataset({}, lower), ROWS) == ("smooth_or_featured_smooth",)


def test_what_teachers_and_starts_learnt_is_learnt():
    def model(unlearnt, schema=GZ2):
        return SimpleNamespace(schema=schema, card=SimpleNamespace(unlearnt=unlearnt))

    known = {"smooth_or_featured_smooth": (0, 0.5)}
    efigi = registry.load("schemas", "efigi")
    assert learnt_labels(GZ2, dataset(known), ROWS, [model([], efigi)]) == ("smooth_or_featured_smooth",)
    assert learnt_labels(GZ2, dataset(known), ROWS, [model([])]) == GZ2.labels
    assert learnt_labels(GZ2, dataset(known), ROWS, [model(range(5, 37))]) == GZ2.labels[:5]
