"""Ensembles: several models in one file are one model, with the mean of their logits."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from astropy.table import Table
from made import cutout_folder, galaxy10_file, model_file
from typer.testing import CliRunner

from galmorph import registry
from galmorph.classification.classify import classify
from galmorph.cli.app import app
from galmorph.errors import GalmorphError, ModelError
from galmorph.models import card as cards
from galmorph.models.ensemble import join
from galmorph.models.model import load, probabilities, save
from galmorph.models.predictor import Predictor
from galmorph.training import dataset

SPLIT = {"method": "sha256(seed:galaxy)", "seed": 0, "val": 0.3, "test": 0.2}


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """Three models, of which the second has temperatures."""
    folder = tmp_path_factory.mktemp("members")
    paths = [model_file(folder / f"{i}.safetensors", seed=i, split=SPLIT) for i in range(3)]
    model = load(paths[1])
    warm = [1 + 0.2 * i for i in range(len(model.schema.questions))]
    card = dataclasses.replace(model.card, calibration={"temperature": warm})
    save(type(model)(card, model.network, {"galmorph.trained_galaxies": torch.tensor([3, 5])}), paths[1])
    return paths


def test_an_ensemble_is_the_mean_of_its_members(members, tmp_path):
    join(members, tmp_path / "all.safetensors")
    joined, models = load(tmp_path / "all.safetensors"), [load(path) for path in members]
    images = torch.randn(4, 3, 64, 64)
    schema = joined.schema
    with torch.inference_mode():
        logits = []
        for model in models:
            given = model(images)
            for part, t in zip(schema.slices, model.temperature or [1.0] * len(schema.slices), strict=True):
                given[:, part] /= t
            logits.append(given)
        expected = probabilities(
            schema,  # the file has 16 bits a weight
            torch.stack(logits).mean(dim=0),
        )
        torch.testing.assert_close(joined.probabilities(joined(images)), expected, atol=5e-4, rtol=0)
        alone = [model.probabilities(model(images)) for model in models]
        assert min(float((one - expected).abs().max()) for one in alone) > 5e-3, "it is none of them"
        torch.testing.assert_close(Predictor(joined, "cpu", "float32")(images), expected, atol=5e-4, rtol=0)


def test_its_card_says_what_it_is_made_of(members, tmp_path):
    out = tmp_path / "all.safetensors"
    result = CliRunner().invoke(app, ["models", "join", *map(str, members), "--out", str(out), "--json"])
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout.splitlines()[-1])
    card = cards.read_card(out)
    assert printed == {"name": "all", "backbone": "ensemble:" + "+".join(3 * ["mobilenet_v3_small"]), "out": str(out)}
    assert [member["sha256"] for member in card.training["members"]] == [cards.file_sha256(path) for path in members]
    assert card.calibration == {}
    assert json.loads(out.with_suffix(".json").read_text())["backbone"] == card.backbone


def test_it_knows_only_what_all_members_say_they_know(members, tmp_path):
    assert join(members, tmp_path / "a.safetensors").trained == {}
    twice = join([members[1], members[1]], tmp_path / "b.safetensors")
    assert twice.trained["galmorph.trained_galaxies"].tolist() == [3, 5]


def test_an_ensemble_classifies(members, tmp_path):
    join(members, tmp_path / "all.safetensors")
    cutout_folder(tmp_path / "cutouts", n=3)
    classify(tmp_path / "cutouts", model=tmp_path / "all.safetensors", out=tmp_path / "o.fits", device="cpu")
    table = Table.read(tmp_path / "o.fits")
    p = np.stack([table[name] for name in table.colnames if name.startswith("p_")], axis=1)
    assert p[:, :3].sum(axis=1) == pytest.approx(np.ones(3), abs=1e-4)


def test_an_ensemble_is_calibrated(tmp_path, monkeypatch):
    monkeypatch.setenv("GALMORPH_CACHE", str(tmp_path / "cache"))
    data = galaxy10_file(tmp_path / "g.h5", n=120)
    sha256 = dataset.read_sample(data, registry.load("schemas", "galaxy10_sdss")).sha256
    on = [{"name": "g", "sha256": sha256}]
    paths = [
        model_file(tmp_path / f"{i}.safetensors", "galaxy10_sdss", seed=i, trained_on=on, split=SPLIT) for i in range(2)
    ]
    join(paths, tmp_path / "all.safetensors")
    command = ["models", "calibrate", str(tmp_path / "all.safetensors"), "--data", str(data)]
    result = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "done.safetensors")])
    assert result.exit_code == 0, result.output
    done = load(tmp_path / "done.safetensors")
    assert len(done.card.calibration["conformal"]["thresholds"]) == 8
    assert done.unlikeness is not None


@pytest.mark.parametrize(
    ("change", "printed"),
    [
        ({"split": {**SPLIT, "seed": 1}}, "split"),
        ({"schema": "galaxy10_sdss"}, "labels"),
        ({"inputs": "others"}, "inputs"),
    ],
)
def test_members_that_differ_are_refused(members, tmp_path, change, printed):
    options = {"split": SPLIT, "seed": 5, **change}
    if options.pop("inputs", None):
        card = load(members[0]).card
        options["inputs"] = card.inputs[:1]
    other = model_file(tmp_path / "other.safetensors", options.pop("schema", "galaxyzoo2"), **options)
    with pytest.raises(ModelError, match=rf"other and 0 differ in {printed}"):
        join([members[0], other], tmp_path / "all.safetensors")
    assert not (tmp_path / "all.safetensors").exists()


def test_one_model_is_no_ensemble(members, tmp_path):
    with pytest.raises(ModelError, match="two models or more"):
        join(members[:1], tmp_path / "all.safetensors")
    with pytest.raises(GalmorphError, match="two backbones or more, of the same preprocessing"):
        registry.load("backbones", "ensemble:mobilenet_v2")
    with pytest.raises(GalmorphError, match="mobilenet_v2"):
        registry.load("backbones", "ensemble:mobilenet_v2+mobilenet_v9")
