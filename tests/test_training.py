"""Training, on small made-up data: it learns, writes what it promises, resumes bit for bit, and fails clearly."""

import csv
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from made import galaxy10_file, kaggle_folder

from galmorph.dataset import Augmentation, Split
from galmorph.errors import GalmorphError, OutputError, SampleError
from galmorph.evaluation import evaluate
from galmorph.model import TRAINED_CONTENTS, TRAINED_GALAXIES, load
from galmorph.recipes import TrainConfig, configure
from galmorph.training import train

FAST = {
    "backbone": "mobilenet_v1",
    "pretrained": "none",
    "input_size": 32,
    "batch_size": 16,
    "device": "cpu",
    "dtype": "float32",
    "ema": 0.5,
    "split": Split(val=0.2, test=0.2),
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GALMORPH_CACHE", str(tmp_path / "cache"))


def classes_config(tmp_path, **options):
    data = galaxy10_file(tmp_path / "g.h5", n=options.pop("n", 90))
    return TrainConfig((str(data),), "galaxy10_sdss", **{**FAST, "loss": "cross_entropy", **options})


def test_training_learns_and_writes_what_it_promises(tmp_path):
    out = tmp_path / "run"
    metrics = train(classes_config(tmp_path, n=240, epochs=10, lr=1e-3, head_lr=1e-3, augmentation=Augmentation()), out)
    assert {p.name for p in out.iterdir()} >= {
        "model.safetensors",
        "history.csv",
        "metrics.json",
        "split.csv",
        "learning_curves.png",
        "confusion_matrix.png",
        "calibration.png",
    }
    assert metrics["test"]["g"]["accuracy"] > 0.6, "three easy classes"
    history = list(csv.DictReader((out / "history.csv").read_text().splitlines()))
    assert len(history) == 10
    assert float(history[-1]["train_loss"]) < 0.7 * float(history[0]["train_loss"])
    split = list(csv.DictReader((out / "split.csv").read_text().splitlines()))
    assert [row["part"] for row in split] == list(Split(val=0.2, test=0.2).parts([row["galaxy"] for row in split]))
    model = load(out)
    assert model.card.metrics == json.loads((out / "metrics.json").read_text())
    assert model.card.calibration["temperature"][0] > 0
    assert str(tmp_path) not in model.card.to_json(), "a card holds no paths of a machine"
    n_trained = sum(row["part"] != "test" for row in split)
    assert len(model.trained[TRAINED_GALAXIES]) == n_trained
    assert len(model.trained[TRAINED_CONTENTS]) == n_trained


def test_test_part_is_left_alone_while_choosing(tmp_path):
    assert set(train(classes_config(tmp_path, epochs=1), tmp_path / "run", test=False)) == {"val", "val_tta8"}


def test_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path):
    config = classes_config(tmp_path, epochs=2)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(dataclasses.replace(config, seed=seed), tmp_path / name)
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_tree_with_unknown_answers(tmp_path):
    data = kaggle_folder(tmp_path / "zoo", n=60)
    metrics = train(TrainConfig((str(data),), "galaxyzoo2", **FAST, epochs=3), tmp_path / "run")
    assert metrics["val"]["zoo"]["n_columns"] == 6
    assert np.isfinite(metrics["val"]["zoo"]["rmse"])
    assert (tmp_path / "run" / "fractions.png").exists()


def test_frozen_backbone_keeps_its_weights(tmp_path):
    train(classes_config(tmp_path, epochs=1, fine_tune=False), tmp_path / "frozen")
    train(classes_config(tmp_path, epochs=2, fine_tune=False), tmp_path / "longer")
    one, two = (load(tmp_path / name).network.state_dict() for name in ("frozen", "longer"))
    changed = {name for name in one if not np.array_equal(one[name], two[name])}
    assert changed == {"classifier.weight", "classifier.bias"}


KILLED = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from test_training import FAST
from galmorph.recipes import TrainConfig
from galmorph.training import train
config = TrainConfig((sys.argv[1],), "galaxy10_sdss", **FAST, loss="cross_entropy", epochs=6)
train(config, Path(sys.argv[2]), resume=Path(sys.argv[2]).exists())
"""


def test_a_killed_run_goes_on_bit_for_bit(tmp_path):
    data = galaxy10_file(tmp_path / "g.h5")
    run = [sys.executable, "-c", KILLED, str(data)]
    here = str(Path(__file__).parent)
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*run, str(tmp_path / "whole"), here], check=True, env=env)
    killed = tmp_path / "killed"
    process = subprocess.Popen([*run, str(killed), here], env=env)
    deadline = time.monotonic() + 60
    while not (killed / "history.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -9
    assert not (killed / "model.safetensors").exists()
    subprocess.run([*run, str(killed), here], check=True, env=env)
    assert (killed / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()


def test_a_folder_with_a_run_is_not_overwritten(tmp_path):
    config = classes_config(tmp_path, epochs=1)
    train(config, tmp_path / "run")
    with pytest.raises(OutputError, match="holds a run already"):
        train(config, tmp_path / "run")
    with pytest.raises(OutputError, match="had other options"):
        train(dataclasses.replace(config, lr=1.0), tmp_path / "run", resume=True)
    with pytest.raises(OutputError, match="no run to resume"):
        train(config, tmp_path / "none", resume=True)


def test_early_stopping(tmp_path):
    train(classes_config(tmp_path, epochs=30, lr=1e-9, head_lr=1e-9, ema=0.0, patience=2), tmp_path / "run")
    assert len((tmp_path / "run" / "history.csv").read_text().splitlines()) < 30


def test_refit_learns_the_validation_part_too_and_keeps_the_calibration(tmp_path):
    config = classes_config(tmp_path, n=120, epochs=2)
    train(config, tmp_path / "first")
    start = str(tmp_path / "first" / "model.safetensors")
    metrics = {}
    for name, refit in (("refit", True), ("again", False)):
        metrics[name] = train(dataclasses.replace(config, pretrained=start, refit=refit), tmp_path / name)
    assert set(metrics["refit"]) == {"test", "test_tta8"}
    first, refit, again = (load(tmp_path / name) for name in ("first", "refit", "again"))
    assert refit.card.calibration == first.card.calibration != again.card.calibration
    assert refit.card.split == first.card.split
    histories = [(tmp_path / name / "history.csv").read_text() for name in ("refit", "again")]
    assert histories[0].splitlines()[1].split(",")[1] != histories[1].splitlines()[1].split(",")[1]
    best = load(tmp_path / "refit" / "best.safetensors").network.state_dict()
    last = refit.network.state_dict()
    assert all(np.array_equal(best[name].half(), last[name].half()) for name in best)


def test_empty_part_of_the_split(tmp_path):
    with pytest.raises(SampleError, match="The val part of the split is empty"):
        train(classes_config(tmp_path, split=Split(val=0.0, test=0.2)), tmp_path / "run")


def test_diverging_loss_is_told_and_the_checkpoint_kept(tmp_path):
    with pytest.raises(SampleError, match="lower --lr"):
        train(classes_config(tmp_path, epochs=20, lr=1e30, head_lr=1e30, warmup_epochs=0.05), tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipe": "paperA"}, "no recipe 'paperA'"),
        ({"backbone": "resnet"}, None),
        ({"backbone": "alexnet"}, "no backbone 'alexnet'"),
        ({"schema": "galaxyzoo"}, "Did you mean 'galaxyzoo2'"),
        ({"loss": "msee"}, "Did you mean 'mse'"),
        ({"epochs": 0}, "--epochs 0"),
        ({"lr": -1.0}, "--lr -1.0"),
        ({"refit": True}, "--refit goes on from a trained model"),
    ],
)
def test_options_are_checked(options, message):
    values = {"recipe": "default", "schema": "galaxyzoo2", "backbone": "mobilenet"} | options
    names = (values.pop("recipe"), [Path("x")], values.pop("schema"), values.pop("backbone"))
    if message is None:
        assert configure(*names, **values).backbone == "resnet50"
        return
    with pytest.raises(GalmorphError, match=message):
        configure(*names, **values)


@pytest.mark.parametrize(("schema", "by_class"), [("galaxy10_sdss", True), ("efigi", True), ("galaxyzoo2", False)])
def test_samples_with_classes_are_split_by_class(schema, by_class):
    assert configure("default", [Path("x")], schema, "mobilenet").split.by_class == by_class


def test_split_by_class_is_in_the_card_and_scored_again(tmp_path):
    config = classes_config(tmp_path, n=60, epochs=1, split=Split(val=0.2, test=0.2, by_class=True))
    metrics = train(config, tmp_path / "run")
    split = list(csv.DictReader((tmp_path / "run" / "split.csv").read_text().splitlines()))
    assert Counter(row["part"] for row in split) == {"train": 36, "val": 12, "test": 12}
    again = evaluate(load(tmp_path / "run"), config.data, device="cpu", dtype="float32")
    assert (again["part"], again["n"], again["n_overlap"]) == ("test", 12, 0)
    assert again["nll"] == pytest.approx(metrics["test"]["g"]["nll"], rel=1e-2)


def test_learning_rate_of_the_head_follows(tmp_path):
    config = configure("default", [Path("x")], "galaxy10_sdss", "mobilenet", lr=1e-4, seed=5)
    assert config.head_lr == pytest.approx(3e-4)
    assert config.split.seed == 5
    assert config.loss == "cross_entropy"
    assert config.backbone == "mobilenet_v2"
