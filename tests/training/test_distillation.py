"""Distillation: what teachers say becomes part of the targets, where they may speak."""

import dataclasses
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from made import galaxy10_file, kaggle_folder, model_file

from galmorph import registry
from galmorph.errors import ModelError
from galmorph.models.model import load
from galmorph.models.predictor import Predictor
from galmorph.training import dataset as datasets
from galmorph.training.config import TrainConfig
from galmorph.training.distillation import soft_targets
from galmorph.training.evaluation.predicting import predict
from galmorph.training.split import Split
from galmorph.training.train import train

SPLIT = Split(val=0.2, test=0.2)
ZOO = registry.load("schemas", "galaxyzoo2")


@pytest.fixture
def zoo(tmp_path):
    """Pictures, their folder, and a teacher that was trained on them."""
    folder = kaggle_folder(tmp_path / "zoo", n=20)
    pictures = datasets.load([folder], ZOO, 64, 5.12)
    trained_on = ({"name": "zoo", "sha256": pictures.sha256["zoo"]},)
    path = model_file(tmp_path / "teacher.safetensors", trained_on=trained_on, split=SPLIT.card())
    return pictures, folder, path


def targets(pictures, folder, path, share=0.5, schema=ZOO, split=SPLIT):
    at_size = partial(datasets.load, [folder], schema, radii=5.12)
    rows = np.flatnonzero(split.parts(list(pictures.galaxies)) == "train")
    return soft_targets(pictures, schema, [load(path)], share, split, rows, at_size, "cpu", "float32")


def test_targets_are_partly_labels_and_partly_predictions(zoo):
    pictures, folder, path = zoo
    got = targets(*zoo, share=0.25).numpy()
    train_rows = np.flatnonzero(SPLIT.parts(list(pictures.galaxies)) == "train")
    others = np.setdiff1d(np.arange(len(pictures)), train_rows)
    teacher = load(path)
    at_its_size = datasets.load([folder], ZOO, teacher.card.input_size, 5.12)
    said = predict(Predictor(teacher, "cpu", "float32", 4), at_its_size, train_rows)
    labels = pictures.fractions.numpy()
    known = np.isfinite(labels[train_rows])
    assert set(np.unique(known)) == {False, True}, "the test needs both"
    np.testing.assert_allclose(
        got[train_rows], np.where(known, 0.75 * labels[train_rows] + 0.25 * said, said), atol=1e-6
    )
    np.testing.assert_array_equal(got[others], labels[others])


def test_teacher_is_silent_about_samples_it_was_not_trained_on(zoo):
    pictures, folder, path = zoo
    stranger = dataclasses.replace(pictures, sha256={"zoo": "another"})
    np.testing.assert_array_equal(targets(stranger, folder, path), pictures.fractions)


def test_teacher_of_another_split_or_schema_is_refused(zoo, tmp_path):
    pictures, folder, path = zoo
    with pytest.raises(ModelError, match="another split"):
        targets(pictures, folder, path, split=Split(seed=1, val=0.2, test=0.2))
    other = registry.load("schemas", "galaxy10_sdss")
    classes = galaxy10_file(tmp_path / "g.h5", n=20)
    with pytest.raises(ModelError, match="answers galaxyzoo2, not galaxy10_sdss"):
        targets(datasets.load([classes], other, 64, 5.12), classes, path, schema=other)


def test_student_learns_from_its_teacher(zoo, tmp_path):
    _, folder, path = zoo
    config = TrainConfig(
        (str(folder),), "galaxyzoo2", "mobilenet_v1", "none", input_size=32, epochs=1, split=SPLIT, dtype="float32"
    )
    train(config, tmp_path / "alone")
    train(dataclasses.replace(config, teachers=(str(path),)), tmp_path / "student")
    alone, student = load(tmp_path / "alone"), load(tmp_path / "student")
    assert [entry["name"] for entry in student.card.training["teachers"]] == [load(path).card.name]
    assert str(Path(path).parent) not in student.card.to_json()
    weights = [model.network.state_dict()["classifier.weight"] for model in (alone, student)]
    assert not torch.equal(*weights)
