"""Comparison of backbones: one table over seeds, cells that cannot be had, runs that are not made twice."""

import csv
import json

import numpy as np
import pytest
from made import galaxy10_file

from galmorph import registry
from galmorph.errors import GalmorphError
from galmorph.training import dataset
from galmorph.training.augmentation import PLAIN
from galmorph.training.comparison import _summary, compare
from galmorph.training.config import configure
from galmorph.training.evaluation import figures

FAST = {"epochs": 1, "input_size": 32, "device": "cpu", "dtype": "float32"}


@pytest.fixture(autouse=True)
def no_weights(monkeypatch):
    monkeypatch.delenv("GALMORPH_PRETRAINED", raising=False)


def compared(tmp_path, *, seeds=2, on_run=None, pretrained=("imagenet", "none"), **options):
    data = tmp_path / "g.h5"
    if not data.exists():
        galaxy10_file(data, n=90)
    # torchvision has no weights of MobileNet V1, so its ImageNet cell needs no network to fail.
    backbones = ["mobilenet_v1"]
    arguments = ([str(data)], "galaxy10_sdss", backbones, pretrained, seeds, tmp_path / "out")
    return compare(*arguments, on_run=on_run, **{**FAST, **options})


def test_one_table_with_intervals_and_the_cells_that_cannot_be_had(tmp_path):
    result = compared(tmp_path)
    without, fresh = result["cells"]
    assert "weights unavailable" in without["error"]
    assert "accuracy" not in without
    assert (fresh["n_runs"], result["part"]) == (2, "test")
    runs = [json.loads((tmp_path / f"out/mobilenet_v1-none-{seed}/metrics.json").read_text()) for seed in (0, 1)]
    assert fresh["accuracy"] == pytest.approx(sum(run["test"]["g"]["accuracy"] for run in runs) / 2)
    rows = list(csv.DictReader((tmp_path / "out/table.csv").read_text().splitlines()))
    assert [row["pretrained"] for row in rows] == ["imagenet", "none"]
    assert float(rows[1]["f1"]) == pytest.approx(fresh["f1"])
    table = (tmp_path / "out/table.md").read_text()
    assert "| mobilenet_v1 | imagenet | weights unavailable |" in table
    assert f"| mobilenet_v1 | none | {fresh['accuracy']:.3f} (" in table
    assert (tmp_path / "out/curves.png").stat().st_size > 1000
    curves = list(csv.DictReader((tmp_path / "out/curves.csv").read_text().splitlines()))
    assert [(row["pretrained"], row["seed"], row["epoch"]) for row in curves] == [
        ("none", "0", "1"),
        ("none", "1", "1"),
    ]


def test_curves_of_runs_that_stopped_early_or_know_no_accuracy():
    long, short = ([{"val_loss": 1 / n, "val_accuracy": np.nan} for n in range(1, end)] for end in (5, 3))
    left, right = figures.compared_curves({"a": [long, short]}).axes
    np.testing.assert_allclose(left.lines[0].get_ydata(), [1, 1 / 2, 1 / 3, 1 / 4])
    assert np.ma.count(right.lines[0].get_ydata()) == 0


def test_confusion_matrices_are_those_of_the_test_parts(tmp_path):
    result = compared(tmp_path)
    assert (tmp_path / "out/confusion_matrices.png").stat().st_size > 1000
    rows = list(csv.reader((tmp_path / "out/confusion_matrices.csv").read_text().splitlines()))
    labels = rows[0][3:]
    assert [row[:3] for row in rows[1:]] == [["mobilenet_v1", "none", label] for label in labels]
    matrix = np.array([row[3:] for row in rows[1:]], int)
    fresh = result["cells"][1]
    assert matrix.sum() == sum(fresh["n"])
    runs = [json.loads((tmp_path / f"out/mobilenet_v1-none-{seed}/metrics.json").read_text()) for seed in (0, 1)]
    right = sum(run["test"]["g"]["accuracy"] * run["test"]["g"]["n"] for run in runs)
    assert matrix.diagonal().sum() == round(right)
    data = dataset.load([str(tmp_path / "g.h5")], registry.load("schemas", "galaxy10_sdss"), 32, 5.12)
    truths = 0
    for seed in (0, 1):
        table = list(csv.DictReader((tmp_path / f"out/mobilenet_v1-none-{seed}/split.csv").read_text().splitlines()))
        chosen = data.fractions[[row["part"] == "test" for row in table]].numpy().argmax(axis=1)
        truths = truths + np.bincount(chosen, minlength=len(labels))
    assert matrix.sum(axis=1).tolist() == truths.tolist(), "true classes are down"


def test_runs_that_are_done_are_not_made_again(tmp_path):
    names = []
    compared(tmp_path, seeds=1, pretrained=("none",))
    run = tmp_path / "out/mobilenet_v1-none-0/model.safetensors"
    before = run.stat().st_mtime_ns
    compared(tmp_path, seeds=2, pretrained=("none",), on_run=names.append)
    assert names == ["mobilenet_v1-none-0", "mobilenet_v1-none-1"]
    assert run.stat().st_mtime_ns == before
    with pytest.raises(GalmorphError, match="had other options"):
        compared(tmp_path, seeds=1, pretrained=("none",), epochs=2)
    galaxy10_file(tmp_path / "g.h5", n=90, seed=1)
    with pytest.raises(GalmorphError, match="had other labels or pictures"):
        compared(tmp_path, seeds=1, pretrained=("none",))


def test_one_sample_is_compared(tmp_path):
    with pytest.raises(GalmorphError, match="give one --data, not 2"):
        compare(["a.h5", "b.h5"], "galaxy10_sdss", ["mobilenet_v1"], ["none"], 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Two-sided 95 % quantiles of Student's t, from published tables, by the number of seeds.
@pytest.mark.parametrize(("n", "quantile"), [(2, 12.706), (3, 4.303), (10, 2.262), (11, 2.228), (31, 2.042)])
def test_interval_over_seeds_is_students(n, quantile):
    values = np.linspace(0.5, 0.7, n)
    cell = _summary([{"n": 9, "f1": value} for value in values], ("f1",))
    assert cell["f1"] == pytest.approx(0.6)
    half = quantile * values.std(ddof=1) / n**0.5
    assert cell["f1_high"] - cell["f1"] == pytest.approx(half, rel=5e-4)
    assert cell["f1"] - cell["f1_low"] == pytest.approx(half, rel=5e-4)


def test_interval_of_a_single_run_is_its_bootstraps():
    single = _summary([{"n": 9, "f1": 0.5, "f1_low": 0.4, "f1_high": 0.55}], ("f1",))
    assert (single["f1_low"], single["f1_high"]) == (0.4, 0.55)


def test_recipes_are_those_of_the_papers():
    a = configure("paper-a", ["x"], "galaxyzoo2", "resnet50")
    assert (a.batch_size, a.loss, a.patience, a.fine_tune, a.split.val, a.split.test) == (64, "mse", 4, True, 0.2, 0)
    assert (a.augmentation.rotate, a.augmentation.reflect, a.augmentation.shift > 0) == (True, True, True)
    assert a.schedule == "constant"
    b = configure("paper-b", ["x"], "galaxy10_decals", "vgg16", seed=3)
    assert (b.backbone, b.fine_tune, b.loss, b.input_size) == ("flatten:vgg16", False, "cross_entropy", 224)
    assert configure("paper-b", ["x"], "galaxy10_decals", "vgg16", input_size=96).backbone == "flatten:96:vgg16"
    with pytest.raises(GalmorphError, match="takes inputs of 96 px"):
        configure("default", ["x"], "galaxy10_decals", "flatten:96:vgg16", input_size=64)
    assert (b.split.test, b.split.seed) == (0.3, 3)
    assert b.augmentation == PLAIN
    assert configure("paper-b", ["x"], "galaxy10_decals", "vgg16", pretrained="none").fine_tune
