"""Training, on small made-up data: it learns, writes what it promises, resumes bit for bit, and fails clearly."""

import csv
import dataclasses
import errno
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from made import galaxy10_file, kaggle_folder

from galmorph.errors import CannotContinue, GalmorphError, OutputError, SampleError
from galmorph.models.model import TRAINED_CONTENTS, TRAINED_GALAXIES, load
from galmorph.training.augmentation import Augmentation
from galmorph.training.checkpoint import Checkpoint
from galmorph.training.config import TrainConfig, configure
from galmorph.training.evaluation.evaluate import evaluate
from galmorph.training.split import Split
from galmorph.training.train import train

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
        "confusion_matrix.csv",
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
    assert metrics["val"]["g"]["coverage"] >= 0.9
    assert metrics["test_tta8"]["g"]["set_size"] >= 1
    assert model.unlikeness is not None
    assert model.card.unlikeness_threshold > 0
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


def test_answers_that_no_galaxy_has_are_named_and_in_the_card(tmp_path, caplog):
    train(classes_config(tmp_path, epochs=1), tmp_path / "run", test=False)
    card = load(tmp_path / "run").card
    assert 2 <= len(card.learnt) <= 3, "three of ten classes"
    assert f"has {10 - len(card.learnt)} of the 10 answers: the model will not know them" in caplog.text
    assert all(card.label_schema.labels[i] in caplog.text for i in card.unlearnt)


def test_frozen_backbone_keeps_its_weights(tmp_path):
    train(classes_config(tmp_path, epochs=1, fine_tune=False), tmp_path / "frozen")
    train(classes_config(tmp_path, epochs=2, fine_tune=False), tmp_path / "longer")
    one, two = (load(tmp_path / name).network.state_dict() for name in ("frozen", "longer"))
    changed = {name for name in one if not np.array_equal(one[name], two[name])}
    assert changed == {"classifier.weight", "classifier.bias"}


# Folders of modules that the scripts below import.
IMPORTED = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support")]

KILLED = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from test_train import FAST
from galmorph.training.checkpoint import Checkpoint
from galmorph.training.config import TrainConfig
from galmorph.training.train import train
config = TrainConfig((sys.argv[1],), "galaxy10_sdss", **FAST, loss="cross_entropy", epochs=6)
train(config, Path(sys.argv[2]), resume=Path(sys.argv[2]).exists())
"""


def test_a_killed_run_goes_on_bit_for_bit(tmp_path):
    data = galaxy10_file(tmp_path / "g.h5")
    run = [sys.executable, "-c", KILLED, str(data)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*run, str(tmp_path / "whole"), *IMPORTED], check=True, env=env)
    killed = tmp_path / "killed"
    process = subprocess.Popen([*run, str(killed), *IMPORTED], env=env)
    deadline = time.monotonic() + 60
    while not (killed / "history.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -9
    assert not (killed / "model.safetensors").exists()
    subprocess.run([*run, str(killed), *IMPORTED], check=True, env=env)
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
    fitted, refitted, again_fitted = (dict(model.card.calibration) for model in (first, refit, again))
    assert refitted.pop("unlikeness") != fitted.pop("unlikeness"), "that of its own features"
    assert refitted == fitted != again_fitted
    assert refit.card.split == first.card.split
    histories = [(tmp_path / name / "history.csv").read_text() for name in ("refit", "again")]
    assert histories[0].splitlines()[1].split(",")[1] != histories[1].splitlines()[1].split(",")[1]
    best = load(tmp_path / "refit" / "best.safetensors").network.state_dict()
    last = refit.network.state_dict()
    assert all(np.array_equal(best[name].half(), last[name].half()) for name in best)


MANY = {
    "backbone": "hidden:16:mobilenet_v3_small",
    "loss": "dirichlet_multinomial",
    "mixup": 0.4,
    "class_weights": 0.5,
    "unfreeze_epochs": 2.0,
    "accumulate": 2,
}


class Stop(Exception):
    pass


def stopped_after(n_epochs):
    """Something to call after each epoch that ends a run as a kill would."""

    def on_epoch(line):
        if line["epoch"] == n_epochs:
            raise Stop

    return on_epoch


def test_options_of_training_resume_bit_for_bit_too(tmp_path):
    config = classes_config(tmp_path, n=60, epochs=3, **MANY)
    train(config, tmp_path / "whole", test=False)
    for n_epochs in (1, 2):
        with pytest.raises(Stop):
            train(config, tmp_path / "killed", resume=n_epochs > 1, test=False, on_epoch=stopped_after(n_epochs))
    train(config, tmp_path / "killed", resume=True, test=False)
    whole, killed = (tmp_path / name / "model.safetensors" for name in ("whole", "killed"))
    assert whole.read_bytes() == killed.read_bytes()


def nan_loss(schema, logits, *rest):
    return logits.sum() * float("nan")


def full_disk(number):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("place", "failure", "error", "message"),
    [
        (
            "galmorph.training.run.loss_named",
            lambda name: nan_loss,
            SampleError,
            "epoch 2: lower --lr. Checkpoint kept",
        ),
        ("galmorph.files.writing.os.fsync", full_disk, CannotContinue, "No space left on device. Make room"),
    ],
)
def test_a_failure_leaves_the_last_good_checkpoint(tmp_path, monkeypatch, place, failure, error, message):
    config = classes_config(tmp_path, n=60, epochs=3)
    train(config, tmp_path / "whole", test=False)
    out = tmp_path / "failing"
    with pytest.raises(Stop):
        train(config, out, test=False, on_epoch=stopped_after(1))
    kept = (out / "checkpoint.json").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(place, failure)
        with pytest.raises(error, match=message):
            train(config, out, resume=True, test=False)
    assert (out / "checkpoint.json").read_bytes() == kept
    assert not list(out.glob(".*.part"))
    train(config, out, resume=True, test=False)
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()


def test_rare_classes_are_reported_and_trained_all_the_same(tmp_path, caplog):
    config = classes_config(tmp_path, n=64, epochs=1, class_weights=1.0, split=Split(val=0.2, test=0.2, by_class=True))
    with h5py.File(tmp_path / "g.h5", "a") as file:
        file["ans"][:2] = 5
    metrics = train(config, tmp_path / "run")
    assert "disk_edge_on_boxy_bulge (1), disk_edge_on_no_bulge (0)" in caplog.text
    assert "smooth_completely_round (0)" in caplog.text
    assert not [text for text in caplog.messages if "fewer" in text and "disk_face_on_no_spiral" in text]
    assert 0 <= metrics["test"]["g"]["accuracy"] <= 1


def test_a_model_that_is_no_better_than_the_mean_is_warned_of(tmp_path, caplog):
    train(classes_config(tmp_path, epochs=1, lr=1e-9, head_lr=1e-9), tmp_path / "run", test=False)
    assert "no better than the mean of the labels" in caplog.text


def test_network_is_compiled_where_it_is_asked_for(tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr("torch.compile", lambda network: compiled.append(network) or network)
    train(classes_config(tmp_path, n=30, epochs=1), tmp_path / "plain", test=False)
    assert not compiled
    train(classes_config(tmp_path, n=30, epochs=1, compile=True), tmp_path / "compiled", test=False)
    assert len(compiled) == 1


def test_history_for_tensorboard(tmp_path, monkeypatch):
    written = []

    class SummaryWriter:
        def __init__(self, folder):
            self.folder = Path(folder)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def add_scalar(self, name, value, step):
            written.append((self.folder.name, name, value, step))

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=SummaryWriter))
    train(classes_config(tmp_path, n=30, epochs=2, tensorboard=True), tmp_path / "run", test=False)
    history = _history(tmp_path / "run")
    losses = [(folder, value, step) for folder, name, value, step in written if name == "val_loss"]
    assert losses == [("tensorboard", float(line["val_loss"]), int(line["epoch"])) for line in history]


SHARED = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[4:]
from test_train import FAST
from galmorph.training.checkpoint import Checkpoint
from galmorph.training.config import TrainConfig
from galmorph.training.train import train
config = TrainConfig((sys.argv[1],), "galaxy10_sdss", **FAST, loss="cross_entropy", epochs=int(sys.argv[3]))
out = Path(sys.argv[2])
metrics = train(config, out, test=False, on_epoch=lambda line: print("epoch", line["epoch"]))
print("metrics" if metrics else "none", flush=True)
"""


@pytest.mark.slow
def test_two_processes_share_the_batches(tmp_path):
    data = galaxy10_file(tmp_path / "g.h5", n=60)
    (tmp_path / "script.py").write_text(SHARED)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    env = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    outputs = []
    for name in ("a", "b"):
        arguments = [
            str(tmp_path / "script.py"),
            str(data),
            str(tmp_path / name),
            "2",
            *IMPORTED,
        ]
        run = subprocess.run([*torchrun, *arguments], check=True, env=env, capture_output=True, text=True)
        outputs.append(run.stdout)
    assert sorted(outputs[0].split()) == sorted(["epoch", "1", "epoch", "2", "metrics", "none"]), (
        "the first process writes"
    )
    a, b = ((tmp_path / name / "model.safetensors").read_bytes() for name in "ab")
    assert a == b
    config = TrainConfig((str(data),), "galaxy10_sdss", **FAST, loss="cross_entropy", epochs=2)
    train(config, tmp_path / "alone", test=False)
    losses = [float(_history(tmp_path / name)[-1]["train_loss"]) for name in ("a", "alone")]
    assert losses[0] == pytest.approx(losses[1], rel=0.2), "the same but for the batches of the normalisation"


def _history(out):
    return list(csv.DictReader((out / "history.csv").read_text().splitlines()))


def test_empty_part_of_the_split(tmp_path):
    with pytest.raises(SampleError, match="The val part of the split is empty"):
        train(classes_config(tmp_path, split=Split(val=0.0, test=0.2)), tmp_path / "run")


def test_diverging_loss_is_reported_and_the_checkpoint_kept(tmp_path):
    config = classes_config(tmp_path, epochs=20, warmup_epochs=0.05)
    for name in ("lr", "head_lr"):
        object.__setattr__(config, name, 1e30)  # far beyond what the options allow
    with pytest.raises(SampleError, match="lower --lr"):
        train(config, tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipe": "paperA"}, "no recipe 'paperA'"),
        ({"backbone": "resnet"}, None),
        ({"backbone": "alexnet"}, "no backbone 'alexnet'"),
        ({"schema": "galaxyzoo"}, "Did you mean 'galaxyzoo2'"),
        ({"loss": "msee"}, "Did you mean 'mse'"),
        ({"epochs": 0}, "epochs=0: a whole number from 1"),
        ({"lr": -1.0}, "lr=-1.0: a number from"),
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
    assert again["nll"] == metrics["test"]["g"]["nll"], "scores are those of the weights as they are saved"


def test_learning_rate_of_the_head_follows(tmp_path):
    config = configure("default", [Path("x")], "galaxy10_sdss", "mobilenet", lr=1e-4, seed=5)
    assert config.head_lr == pytest.approx(3e-4)
    assert config.split.seed == 5
    assert config.loss == "cross_entropy"
    assert config.backbone == "mobilenet_v2"


@pytest.mark.parametrize("damage", ["flipped weights", "cut weights", "no weights", "flipped record", "cut record"])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    network = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    state = Checkpoint(tmp_path, network, network, optimizer)
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state.save([{"epoch": 1.0, "val_rmse": 0.5}])
    state.load()
    assert Checkpoint.history(tmp_path) == [{"epoch": 1.0, "val_rmse": 0.5}]
    path = tmp_path / ("checkpoint.json" if "record" in damage else "checkpoint-1.safetensors")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "no weights":
        path.unlink()
    else:
        path.write_bytes(content if "flipped" in damage else content[:-5])

    def resume():
        Checkpoint.history(tmp_path)
        state.load()

    with pytest.raises(OutputError, match="is damaged"):
        resume()


def test_what_is_no_configuration_is_refused(tmp_path):
    for given, words in ((3, "train takes paths of labelled data or a TrainConfig"), (tmp_path, "has no layout of")):
        with pytest.raises(GalmorphError, match=words):
            train(given, tmp_path / "run")
    assert not (tmp_path / "run").exists()
