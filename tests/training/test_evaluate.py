"""Scores, checked against scikit-learn where it has them and against hand-made cases elsewhere."""

import json

import numpy as np
import pytest
import torch
from made import kaggle_folder, model_file

from galmorph import registry
from galmorph.errors import ModelError, SampleError
from galmorph.models.model import TRAINED_CONTENTS, TRAINED_GALAXIES, load
from galmorph.models.predictor import Predictor, orientations, pick_dtype
from galmorph.training import dataset
from galmorph.training.evaluation import evaluate as evaluation
from galmorph.training.evaluation import predicting
from galmorph.training.evaluation import scores as scoring
from galmorph.training.evaluation.predicting import predict_by_views
from galmorph.training.split import Split

GZ2 = registry.load("schemas", "galaxyzoo2")
CLASSES = registry.load("schemas", "galaxy10_sdss")


def made_classes(n=400, seed=0):
    rng = np.random.default_rng(seed)
    truth = np.eye(10)[rng.integers(0, 7, n)]
    predicted = rng.dirichlet(np.full(10, 0.3), n) * 0.7 + truth * 0.3
    return truth, predicted


def test_class_scores_agree_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    truth, predicted = made_classes()
    scores = scoring.scores(CLASSES, truth, predicted)
    true, best = truth.argmax(1), predicted.argmax(1)
    macro = {"average": "macro", "labels": np.unique(true), "zero_division": 0}
    assert scores["accuracy"] == pytest.approx(metrics.accuracy_score(true, best))
    assert scores["precision"] == pytest.approx(metrics.precision_score(true, best, **macro))
    assert scores["recall"] == pytest.approx(metrics.recall_score(true, best, **macro))
    assert scores["f1"] == pytest.approx(metrics.f1_score(true, best, **macro))
    assert scores["nll"] == pytest.approx(metrics.log_loss(true, predicted, labels=np.arange(10)))
    assert scores["accuracy_low"] < scores["accuracy"] < scores["accuracy_high"]


def test_interval_of_the_accuracy_is_the_binomial_one():
    truth, predicted = made_classes()
    scores = scoring.scores(CLASSES, truth, predicted)
    sigma = np.sqrt(scores["accuracy"] * (1 - scores["accuracy"]) / 400)
    assert scores["accuracy_high"] - scores["accuracy_low"] == pytest.approx(3.92 * sigma, rel=0.15)


def test_calibration_error():
    assert scoring.calibration_error(np.array([0.9] * 10), np.array([True] * 9 + [False])) == pytest.approx(0)
    assert scoring.calibration_error(np.array([0.9] * 10), np.array([False] * 10)) == pytest.approx(0.9)
    assert scoring.calibration_error(np.array([1.0, 1.0]), np.array([True, True])) == 0


def test_classes_beside_attributes_have_a_calibration_error_too():
    efigi = registry.load("schemas", "efigi")
    truth = np.full((300, len(efigi.labels)), np.nan)
    truth[:, :7] = np.eye(7)[np.arange(300) % 7]
    predicted = np.full_like(truth, 0.5)
    predicted[:, :7] = np.where(truth[:, :7] == 1, 0.7, 0.05)
    scores = scoring.scores(efigi, truth, predicted, set_threshold=0.05)
    assert scores["ece"] == pytest.approx(0.3)
    assert scores["ece"] > scores["ece_95"]
    assert (scores["coverage"], scores["set_size"]) == (1.0, 7.0)
    assert "ece" not in scoring.scores(GZ2, np.full((2, 37), 0.2), np.full((2, 37), 0.2))


def test_rmse_is_over_labelled_columns_only():
    truth = np.full((2, 37), np.nan)
    truth[0, :3], truth[1, :3] = (0.7, 0.3, 0.0), (0.2, 0.4, 0.4)
    predicted = np.zeros((2, 37))
    predicted[0, :3], predicted[1, :3] = (0.5, 0.5, 0.0), (0.0, 0.6, 0.4)
    scores = scoring.scores(GZ2, truth, predicted)
    assert scores["rmse"] == pytest.approx(np.sqrt(4 * 0.04 / 6))
    assert scores["mse"] == pytest.approx(scores["rmse"] ** 2)
    assert scores["n_columns"] == 3
    # Only the first galaxy has a majority; its first answer ties and the first one is taken.
    assert scores["accuracy"] == 1.0


def test_no_labels_is_an_error():
    with pytest.raises(SampleError, match="no labelled galaxies"):
        scoring.scores(GZ2, np.full((2, 37), np.nan), np.zeros((2, 37)))
    with pytest.raises(SampleError, match="no labelled galaxies"):
        scoring.scores(GZ2, np.zeros((0, 37)), np.zeros((0, 37)))


def test_share_errors_are_of_those_who_were_asked():
    truth = np.full((2, 37), np.nan)
    truth[:, 1], truth[:, 3], truth[:, 4] = 0.8, 0.2, 0.6  # featured; edge-on yes, no
    predicted = np.zeros((2, 37))
    predicted[:, 1], predicted[:, 4] = 0.5, 0.5
    errors = scoring.share_errors(GZ2, truth, predicted)
    assert errors["smooth_or_featured_featured_or_disk"]["bias"] == pytest.approx(-0.3)
    assert errors["disk_edge_on_no"]["bias"] == pytest.approx(1.0 - 0.75)
    assert errors["disk_edge_on_no"]["truth_std"] == pytest.approx(0)
    assert set(errors) == {"smooth_or_featured_featured_or_disk", "disk_edge_on_no"}


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    monkeypatch.setenv("GALMORPH_CACHE", str(tmp_path / "cache"))
    return kaggle_folder(tmp_path / "zoo", n=40)


def test_part_is_test_where_the_model_was_trained_on_the_data(zoo, tmp_path):
    data = dataset.load([zoo], GZ2, 64, 5.12)
    split = {"seed": 0, "val": 0.2, "test": 0.3}
    known = load(
        model_file(tmp_path / "a.safetensors", trained_on=[{"name": "zoo", "sha256": data.sha256["zoo"]}], split=split)
    )
    parts = Split(**split).parts(list(data.galaxies))
    assert evaluation.part_rows(known, data, None)[0] == "test"
    assert np.array_equal(evaluation.part_rows(known, data, None)[1], np.flatnonzero(parts == "test"))
    foreign = load(model_file(tmp_path / "b.safetensors"))
    assert evaluation.part_rows(foreign, data, None)[0] == "all"
    with pytest.raises(SampleError, match="names no split"):
        evaluation.part_rows(foreign, data, "test")


def test_a_model_is_given_as_it_is_or_by_its_name_or_file(zoo, tmp_path):
    path = model_file(tmp_path / "a.safetensors")
    options = {"device": "cpu", "dtype": "float32"}
    by_file = evaluation.evaluate(str(path), str(zoo), out=str(tmp_path / "out"), **options)
    assert evaluation.evaluate(load(path), [zoo], **options) == by_file
    assert (tmp_path / "out" / "scores.json").is_file()
    with pytest.raises(ModelError):
        evaluation.evaluate("no_such_model", [zoo], **options)


def test_overlap_is_counted_by_galaxy_or_by_picture(zoo):
    data = dataset.load([zoo], GZ2, 64, 5.12)
    trained = {
        TRAINED_GALAXIES: torch.from_numpy(dataset.galaxy_hashes(data.galaxies[:2])),
        TRAINED_CONTENTS: torch.from_numpy(data.contents[1:5]),
    }
    assert dataset.n_seen(trained, data.galaxies, data.contents) == 5
    assert dataset.n_seen(trained, data.galaxies[10:], data.contents[10:]) == 0
    assert dataset.n_seen({}, data.galaxies, data.contents) == 0


def test_evaluate_writes_scores_and_figures(zoo, tmp_path):
    model = load(model_file(tmp_path / "m.safetensors"))
    scores = evaluation.evaluate(model, [zoo], tta=2, dtype="float32", out=tmp_path / "out")
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["rmse"] == scores["rmse"]
    assert scores["n"] == 40
    assert scores["part"] == "all"
    assert scores["n_overlap"] == 0
    assert scores["rmse_low"] <= scores["rmse"] <= scores["rmse_high"]
    assert len((tmp_path / "out" / "predictions.csv").read_text().splitlines()) == 41
    assert {p.name for p in (tmp_path / "out").glob("*.png")} == {"fractions.png", "calibration.png", "conditions.png"}


def test_averaging_all_orientations_makes_the_orientation_irrelevant(tmp_path):
    model = load(model_file(tmp_path / "m.safetensors"))
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    turned = images.rot90(1, dims=(-2, -1)).flip(-1)
    once, eight = (Predictor(model, "cpu", "float32", tta) for tta in (1, 8))
    assert (once(images) - once(turned)).abs().max() > 1e-3
    assert (eight(images) - eight(turned)).abs().max() < 1e-5


def test_logits_of_orientations_are_averaged(tmp_path, zoo):
    model = load(model_file(tmp_path / "m.safetensors"))
    data = dataset.load([zoo], GZ2, 64, 5.12)
    rows = np.arange(5)
    images = next(predicting._batches(Predictor(model, "cpu", "float32"), data, rows, 64))
    with torch.inference_mode():
        logits = torch.stack([model(view) for view in orientations(images, 3)])
    expected = [model.probabilities(logits[:n].mean(dim=0)).numpy() for n in (1, 2, 3)]
    predictor = Predictor(model, "cpu", "float32", tta=3)
    np.testing.assert_allclose(predictor(images).numpy(), expected[2], atol=5e-4)
    np.testing.assert_allclose(predict_by_views(predictor, data, rows, batch_size=2), expected, atol=5e-4)
    arithmetic = np.mean([model.probabilities(one).numpy() for one in logits], axis=0)
    assert np.abs(arithmetic - expected[2]).max() > 2e-3, "this model would not tell the two means apart"


def test_folded_batch_normalisation_changes_nothing(tmp_path):
    model = load(model_file(tmp_path / "m.safetensors"))
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = model.probabilities(model(images))
    torch.testing.assert_close(Predictor(model, "cpu", "float32")(images), expected, atol=5e-4, rtol=0)


def test_dtype_follows_from_the_processor(monkeypatch):
    monkeypatch.setattr("galmorph.models.predictor._cpu_has_bfloat16", lambda: False)
    assert pick_dtype("auto", torch.device("cpu")) == torch.float32
    monkeypatch.setattr("galmorph.models.predictor._cpu_has_bfloat16", lambda: True)
    assert pick_dtype("auto", torch.device("cpu")) == torch.bfloat16
