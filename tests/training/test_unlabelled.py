"""Learning without labels: which pictures, what is said of them, and how they are shown."""

import dataclasses
import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from made import cutout_folder, galaxy10_file, kaggle_folder, labelled_folder, model_file

from galmorph import registry
from galmorph.errors import Interrupted
from galmorph.models.model import TRAINED_GALAXIES, load
from galmorph.models.predictor import Predictor
from galmorph.training import dataset as datasets
from galmorph.training import train as training
from galmorph.training.augmentation import PLAIN, Augmentation, plain_view
from galmorph.training.batches import micro_batches
from galmorph.training.config import TrainConfig
from galmorph.training.distillation import soft_targets
from galmorph.training.evaluation.evaluate import evaluate
from galmorph.training.evaluation.predicting import predict
from galmorph.training.processes import Processes
from galmorph.training.schedule import epoch_order
from galmorph.training.split import Split
from galmorph.training.train import train

ZOO = registry.load("schemas", "galaxyzoo2")
SPLIT = Split(val=0.2, test=0.2)


def catalog(folder):
    cutout_folder(folder, n=3)
    table = pd.DataFrame({"cutout": [f"g{i}.fits" for i in range(3)], "ra": [150.0, 151, 152], "dec": 2.0})
    table.to_csv(folder / "targets.csv", index=False)
    return folder / "targets.csv"


@pytest.mark.parametrize(
    ("made", "n"),
    [
        (lambda path: labelled_folder(path), 4),
        (lambda path: labelled_folder(path, label=[7, 8, 9, 9]), 4),
        (lambda path: kaggle_folder(path, n=5), 5),
        (lambda path: galaxy10_file(path.with_suffix(".h5"), n=6), 6),
        (catalog, 3),
    ],
    ids=["pictures", "classes of another schema", "votes", "galaxy10", "catalog of cutouts"],
)
def test_any_sample_can_be_given_without_its_labels(tmp_path, made, n):
    zoo, other = kaggle_folder(tmp_path / "zoo", n=4), made(tmp_path / "other")
    data = datasets.load([zoo], ZOO, 32, 5.0, unlabelled=[f"{other}:labels=galaxy10_sdss"] if n == 4 else [other])
    assert list(data.unlabelled) == [False] * 4 + [True] * n
    assert data.fractions[4:].isnan().all()
    assert data.fractions[:4].isfinite().any()
    assert data.images.shape[0] == len(data) == 4 + n


def both(tmp_path, n=12):
    zoo, free = kaggle_folder(tmp_path / "zoo", n=n), kaggle_folder(tmp_path / "free", n=n, seed=5)
    return str(zoo), str(free)


def test_pictures_without_labels_are_shown_by_strong_augmentation_and_weigh_as_wanted(tmp_path):
    zoo, free = both(tmp_path)
    data = datasets.load([zoo], ZOO, 32, 5.12, unlabelled=[free])
    config = TrainConfig(
        (zoo,), "galaxyzoo2", input_size=32, batch_size=8, unlabelled=(free,), unlabelled_weight=0.25,
        augmentation=PLAIN, strong=dataclasses.replace(PLAIN, noise=0.5),
    )  # fmt: skip
    rows = np.array([0, 20, 1, 21])
    generator = torch.Generator().manual_seed(0)
    (piece,) = micro_batches(data, data.fractions, rows, config, 0, generator, torch.device("cpu"), Processes())
    plain = plain_view(torch.from_numpy(data.images[rows]), data.view, 32)
    same = [torch.allclose(a, b, atol=1e-5) for a, b in zip(piece.rgb, plain, strict=True)]
    assert same == [True, False, True, False]
    assert piece.weights.tolist() == [1, 0.25, 1, 0.25]


def test_mixed_pictures_mix_their_bounds_too(tmp_path):
    clean = f"{labelled_folder(tmp_path / 'clean', label=[0, 0, 1, 1])}:labels=galaxyzoo2_clean"
    data = datasets.load([clean], ZOO, 32, 5.12)
    config = TrainConfig((clean,), "galaxyzoo2", input_size=32, mixup=1.0, augmentation=PLAIN)
    generator = torch.Generator().manual_seed(0)
    (piece,) = micro_batches(data, data.fractions, np.arange(4), config, 0, generator, torch.device("cpu"), Processes())
    smooth = ZOO.labels.index("smooth_or_featured_smooth")
    assert piece.lower[:, smooth].tolist() == pytest.approx([0.5] * 4)
    assert not torch.equal(piece.lower.nan_to_num(), data.lower.nan_to_num()), "of unlike classes no bound is left"


def test_a_teacher_speaks_of_pictures_without_labels(tmp_path):
    zoo, free = both(tmp_path)
    opened = partial(datasets.load, [zoo], ZOO, radii=5.12, unlabelled=[free])
    data = opened(64)
    on = ({"name": "zoo", "sha256": data.sha256["zoo"]},)
    teacher = load(model_file(tmp_path / "teacher.safetensors", trained_on=on, split=SPLIT.card()))
    rows = np.arange(len(data))
    got = soft_targets(data, ZOO, [teacher], 0.5, SPLIT, rows, opened, "cpu", "float32")
    said = predict(Predictor(teacher, "cpu", "float32", 4), data, rows)
    np.testing.assert_allclose(got[12:], said[12:], atol=1e-6)


FAST = {"backbone": "mobilenet_v1", "pretrained": "none", "input_size": 32, "batch_size": 8, "device": "cpu"}
FAST |= {"dtype": "float32", "ema": 0.5, "split": SPLIT}


def config(tmp_path, **options):
    zoo, free = both(tmp_path)
    return TrainConfig((zoo,), "galaxyzoo2", **{**FAST, "unlabelled": (free,), **options})


def test_without_a_teacher_the_averaged_weights_teach_from_the_second_epoch_on(tmp_path, monkeypatch):
    fed = []

    def watched(dataset, targets, order, *rest):
        fed.append((dataset, targets.clone(), order))
        return micro_batches(dataset, targets, order, *rest)

    monkeypatch.setattr(training, "micro_batches", watched)
    train(config(tmp_path, epochs=3), tmp_path / "run")
    data = fed[0][0]
    parts = SPLIT.parts(list(data.galaxies))
    for epoch, (_, targets, order) in enumerate(fed):
        wanted = (parts == "train") & ((epoch > 0) | ~data.unlabelled)
        assert set(order) == set(np.flatnonzero(wanted)), "held-out galaxies are held out without labels too"
        has_target = targets.isfinite().all(dim=1).numpy()
        assert list(has_target) == list(data.unlabelled & (parts == "train") & (epoch > 0))
    assert not torch.equal(fed[1][1][12:].nan_to_num(), fed[2][1][12:].nan_to_num()), "anew for every epoch"


def test_a_run_without_labels_is_resumed_bit_for_bit(tmp_path):
    torch.set_num_threads(1)
    whole = config(tmp_path, epochs=3)
    train(whole, tmp_path / "whole")

    def stop(line):
        if line["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        train(whole, tmp_path / "stopped", on_epoch=stop)
    train(whole, tmp_path / "stopped", resume=True)
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert files[0] == files[1]


def test_the_card_says_what_was_learnt_from_without_labels(tmp_path):
    run = config(tmp_path, epochs=1)
    metrics = train(run, tmp_path / "run")
    card = json.loads((tmp_path / "run" / "model.json").read_text())
    assert [(entry["name"], entry.get("labelled", True)) for entry in card["trained_on"]] == [
        ("zoo", True), ("free", False),
    ]  # fmt: skip
    assert card["training"]["unlabelled"] == ["free"]
    assert str(tmp_path) not in (tmp_path / "run" / "model.json").read_text()
    assert set(metrics["test"]) == {"zoo"}
    assert len(load(tmp_path / "run").trained[TRAINED_GALAXIES]) > 12, "of both samples"
    assert evaluate(load(tmp_path / "run"), [run.data[0]], device="cpu")["part"] == "test"


@pytest.mark.parametrize("size", [0, 3, 6, 9, 99])
def test_an_epoch_of_a_chosen_size_has_exact_labels_first(size):
    candidates, known = np.arange(10, 20), np.arange(30) < 15
    orders = [epoch_order(candidates, known, size, torch.Generator().manual_seed(seed)) for seed in range(4)]
    for order in orders:
        assert len(set(order)) == len(order) == (min(size, 10) or 10)
        assert set(order) <= set(candidates)
        assert known[order].sum() == min(size or 10, 5)
    if size == 6:
        assert len({int(order[~known[order]][0]) for order in orders}) > 1, "others are drawn anew"
        assert len({int(np.flatnonzero(~known[order])[0]) for order in orders}) > 1, "anywhere in the epoch"


def test_strong_augmentation_has_settings_of_its_own():
    from galmorph.training.config import configure

    made = configure("default", ["x"], "galaxyzoo2", "mobilenet", ["strong.noise=0.2", "unlabelled_weight=0.5"])
    assert made.strong.noise == 0.2
    assert made.augmentation.noise == 0
    assert made.unlabelled_weight == 0.5
    assert isinstance(made.strong, Augmentation)


def test_the_command_line_takes_pictures_without_labels_and_exclusion(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from galmorph.cli.app import app

    zoo, free = both(tmp_path, n=20)
    (tmp_path / "no.csv").write_text("galaxy\nzoo:1000\n")
    monkeypatch.chdir(tmp_path)
    command = ["train", "--data", zoo, "--unlabelled", free, "--exclude", "no.csv", "--out", "run", "--epochs", "1"]
    command += ["--backbone", "mobilenet_v1", "--pretrained", "none", "--input-size", "32", "--device", "cpu"]
    result = CliRunner().invoke(app, [*command, "--set", "split.val=0.2", "--set", "split.test=0.2"])
    assert result.exit_code == 0, result.output
    saved = json.loads(Path("run/config.json").read_text())
    assert (saved["unlabelled"], saved["exclude"]) == ([free], ["no.csv"])
    assert "zoo:1000," not in Path("run/split.csv").read_text()
    scored = CliRunner().invoke(
        app, ["evaluate", "run", "--data", zoo, "--part", "all", "--exclude", "no.csv", "--json", "--device", "cpu"]
    )
    found = json.loads(scored.stdout.splitlines()[-1])
    assert (found["n"], found["excluded"][0]["n"]) == (19, 1)
