"""What a model descends from is in its card and counts as seen."""

import json
import shutil
from dataclasses import replace

import pytest
from made import kaggle_folder
from safetensors.torch import load_file, save_file

from galmorph import registry
from galmorph.errors import SampleError
from galmorph.models.ensemble import join
from galmorph.models.model import load
from galmorph.training.config import TrainConfig
from galmorph.training.evaluation.calibration import recalibrate
from galmorph.training.evaluation.evaluate import evaluate
from galmorph.training.reading import read_sample
from galmorph.training.split import Split
from galmorph.training.train import train

ZOO = registry.load("schemas", "galaxyzoo2")
FAST = {"backbone": "mobilenet_v1", "input_size": 32, "batch_size": 8, "device": "cpu", "dtype": "float32"}
FAST |= {"ema": 0.5, "epochs": 1, "split": Split(val=0.2, test=0.2)}


@pytest.fixture
def runs(tmp_path):
    """Two samples that share no galaxy, a model of the first, and what trains one of the second."""
    folders = [kaggle_folder(tmp_path / name, n=20, seed=seed) for seed, name in enumerate(("one", "two"))]
    (tmp_path / "no.csv").write_text("galaxy\none:1000\n")
    first = TrainConfig(
        (str(folders[0]),), "galaxyzoo2", pretrained="none", exclude=(str(tmp_path / "no.csv"),), **FAST
    )
    train(first, tmp_path / "first")
    start = str(tmp_path / "first" / "model.safetensors")
    return folders, start, TrainConfig((str(folders[1]),), "galaxyzoo2", pretrained=start, **FAST)


def n_seen(run, folder):
    return evaluate(load(run), [folder], part="all", device="cpu")["n_overlap"]


def test_the_training_data_of_a_start_is_recorded(runs, tmp_path):
    folders, start, second = runs
    train(second, tmp_path / "second")
    own = n_seen(tmp_path / "first", folders[0])
    assert 0 < own < 20
    assert n_seen(tmp_path / "second", folders[0]) == own, "galaxies of its start count"
    assert n_seen(tmp_path / "first", folders[1]) == 0
    (ancestor,) = load(tmp_path / "second").card.training["ancestors"]
    sample = {"name": "one", "sha256": read_sample(folders[0], ZOO).sha256}
    assert ancestor["as"] == "pretrained"
    assert ancestor["sha256"] == load(start).sha256
    assert ancestor["trained_on"] == [sample]
    assert [entry["name"] for entry in ancestor["excluded"]] == ["no.csv"]


def test_ancestors_of_ancestors_and_teachers_are_recorded(runs, tmp_path):
    folders, start, second = runs
    train(second, tmp_path / "second")
    third = kaggle_folder(tmp_path / "three", n=20, seed=9)
    options = {**FAST, "pretrained": "none", "teachers": (str(tmp_path / "second"),)}
    train(TrainConfig((str(third),), "galaxyzoo2", **options), tmp_path / "third")
    known = [entry["as"] for entry in load(tmp_path / "third").card.training["ancestors"]]
    assert known == ["teacher", "pretrained"]
    assert n_seen(tmp_path / "third", folders[0]) == n_seen(tmp_path / "first", folders[0])
    assert start not in load(tmp_path / "third").card.to_json()


def test_a_start_without_a_card_is_recorded_by_its_hash(runs, tmp_path):
    _, start, second = runs
    state = {name: value for name, value in load_file(start).items() if not name.startswith("galmorph.")}
    bare = tmp_path / "bare.safetensors"
    save_file(state, bare)
    train(replace(second, pretrained=str(bare)), tmp_path / "second")
    (ancestor,) = load(tmp_path / "second").card.training["ancestors"]
    assert ancestor["name"] == "bare.safetensors"
    assert set(ancestor) == {"name", "sha256", "as"}


def test_a_test_part_that_a_start_was_trained_on_is_reported(runs, tmp_path, caplog):
    folders, start, _ = runs
    options = {**FAST, "split": Split(seed=1, val=0.2, test=0.2), "pretrained": start}
    train(TrainConfig((str(folders[0]),), "galaxyzoo2", **options), tmp_path / "again")
    assert "are known to a start or teacher" in caplog.text


def test_what_was_left_out_is_left_out_of_calibration_and_known_of_ensembles(runs, tmp_path):
    folders, start, _ = runs
    out = tmp_path / "new.safetensors"
    with pytest.raises(SampleError, match=r"was trained with no.csv excluded: give the same with --exclude"):
        recalibrate(start, [folders[0]], out, "cpu")
    recalibrate(start, [folders[0]], out, "cpu", exclude=[tmp_path / "no.csv"])
    assert load(out).card.training["excluded"] == load(start).card.training["excluded"]
    shutil.copy(start, tmp_path / "copy.safetensors")
    joined = join([start, tmp_path / "copy.safetensors"], tmp_path / "both.safetensors")
    assert [entry["name"] for entry in joined.card.training["excluded"]] == ["no.csv"]
    card = json.loads((tmp_path / "both.json").read_text())
    assert card["training"]["ancestors"] == []
