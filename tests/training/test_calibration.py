"""Calibration: trained models get sets and a score of unlikeness, which files keep, tables show and scores check."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.io import fits
from astropy.table import Table
from made import cutout, cutout_folder, galaxy10_file, kaggle_folder, model_file
from typer.testing import CliRunner

from galmorph import registry
from galmorph.classification.classify import classify
from galmorph.cli.app import app
from galmorph.errors import SampleError
from galmorph.images.cutout import write_cutout
from galmorph.images.flags import Flag
from galmorph.models import card as cards
from galmorph.models.backbones import take_head
from galmorph.models.model import load, probabilities, save
from galmorph.models.predictor import Predictor
from galmorph.training import dataset
from galmorph.training.evaluation import calibration
from galmorph.training.evaluation import evaluate as evaluation
from galmorph.training.evaluation import scores as scoring
from galmorph.training.evaluation.predicting import features
from galmorph.training.evaluation.temperature import fit_temperature

CLASSES, TREE = (registry.load("schemas", name) for name in ("galaxy10_sdss", "galaxyzoo2"))
FAST = {"device": "cpu", "dtype": "float32", "batch_size": 4, "workers": 2}
SPLIT = {"seed": 0, "val": 0.3, "test": 0.2}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GALMORPH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cache):
    """Labelled data, and a model whose card says that it was trained on them."""
    folder = tmp_path_factory.mktemp("trained")
    data = galaxy10_file(folder / "g.h5", n=120)
    sha256 = dataset.read_sample(data, CLASSES).sha256
    on = [{"name": "g", "sha256": sha256}]
    return data, model_file(folder / "raw.safetensors", "galaxy10_sdss", trained_on=on, split=SPLIT)


@pytest.fixture(scope="module")
def calibrated(trained):
    data, raw = trained
    out = raw.with_name("calibrated.safetensors")
    result = CliRunner().invoke(
        app, ["models", "calibrate", str(raw), "--data", str(data), "--out", str(out), "--json"]
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout.splitlines()[-1]) == cards.read_card(out).calibration
    return out


def test_calibration_is_kept_in_the_file_and_leaves_the_rest_as_it_was(trained, calibrated):
    raw, model = load(trained[1]), load(calibrated)
    sets = model.card.calibration["conformal"]
    assert len(sets["thresholds"]) == 8
    assert sets["level"] == 0.9
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    before, after = Predictor(raw, "cpu", "float32"), Predictor(model, "cpu", "float32")
    assert torch.equal(before(images), after(images))
    assert torch.isnan(before.judge(images)[1]).all()
    assert (after.judge(images)[1] > model.card.unlikeness_threshold).all(), "noise is no galaxy"
    again = calibrated.with_name("again.safetensors")
    save(model, again)
    assert again.read_bytes() == calibrated.read_bytes()
    assert cards.ModelCard.from_json(calibrated.with_suffix(".json").read_text()) == model.card


def test_sets_cover_the_validation_part_and_unlikeness_flags_next_to_none_of_it(trained, calibrated):
    for tta in (1, 8):
        scores = evaluation.evaluate(load(calibrated), [trained[0]], part="val", tta=tta, dtype="float32", device="cpu")
        assert scores["coverage"] >= 0.9
        assert 1 <= scores["set_size"] <= 10
    model = load(calibrated)
    data = dataset.load([trained[0]], CLASSES, 64, 5.12)
    rows = evaluation.part_rows(model, data, "val")[1]
    distances = model.unlikeness(features(Predictor(model, "cpu", "float32"), data, rows))
    assert (distances <= model.card.unlikeness_threshold).all()


def test_data_of_another_training_are_refused(trained, calibrated, tmp_path):
    other = galaxy10_file(tmp_path / "other.h5", n=30, seed=5)
    with pytest.raises(SampleError, match="was trained on g: give these, unchanged"):
        calibration.recalibrate(trained[1], [other], tmp_path / "m.safetensors")


def test_model_of_vote_fractions_gets_no_sets(tmp_path, cache):
    zoo = kaggle_folder(tmp_path / "zoo", n=40)
    on = [{"name": "zoo", "sha256": dataset.read_sample(zoo, registry.load("schemas", "galaxyzoo2")).sha256}]
    raw = model_file(tmp_path / "raw.safetensors", trained_on=on, split=SPLIT)
    model = calibration.recalibrate(raw, [zoo], tmp_path / "m.safetensors")
    assert "conformal" not in model.card.calibration
    assert model.card.unlikeness_threshold > 0


def test_refit_model_keeps_its_sets(trained, tmp_path):
    data, raw = trained
    model = load(raw)
    known = {"conformal": {"level": 0.9, "thresholds": [0.25] * 8}}
    values = {**json.loads(model.card.to_json()), "training": {"refit": True}, "calibration": known}
    model.card = cards.ModelCard.from_json(json.dumps(values))
    save(model, tmp_path / "refit.safetensors")
    again = calibration.recalibrate(tmp_path / "refit.safetensors", [data], tmp_path / "m.safetensors")
    assert again.card.calibration["conformal"] == known["conformal"]
    assert again.card.unlikeness_threshold > 0


@pytest.fixture(scope="module")
def table(calibrated, tmp_path_factory):
    """Galaxies, noise in the place of one, and a file that is no cutout, classified."""
    folder = tmp_path_factory.mktemp("survey")
    cutout_folder(folder / "cutouts", n=4)
    noise = cutout("noise", seed=1)
    noise.flux[:] = np.random.default_rng(0).normal(0, 5, noise.flux.shape)
    write_cutout(noise, folder / "cutouts" / "noise.fits")
    (folder / "cutouts" / "z_broken.fits").write_bytes(b"no cutout")
    classify(folder / "cutouts", model=calibrated, out=folder / "out.fits", **FAST)
    return fits.getdata(folder / "out.fits")


def test_table_has_sets_and_unlikeness(table, calibrated):
    card = cards.read_card(calibrated)
    expected = ["morph_label", "morph_entropy", "morph_set", "morph_ood", "morph_ok", "morph_flag"]
    assert list(table.names[-6:]) == expected
    p = np.stack([table[f"p_{label}"] for label in CLASSES.labels], axis=1)
    for row, label, stated in zip(p[:-1], table["morph_label"], table["morph_set"], strict=False):
        wanted = {CLASSES.labels[k] for k in np.flatnonzero(row >= card.set_threshold())}
        best = CLASSES.labels[row.argmax()]
        assert set(stated.split("|")) == wanted | {best}
        assert stated.split("|")[0] == best
        assert label == (best if row.max() >= 0.5 else "uncertain")
    flagged = (table["morph_flag"] & Flag.UNLIKE_TRAINING) != 0
    assert np.array_equal(flagged, table["morph_ood"] > card.unlikeness_threshold)
    assert flagged[list(table["id"]).index("noise")]
    assert table["morph_set"][-1] == ""
    assert np.isnan(table["morph_ood"][-1])


def test_table_of_a_model_without_calibration_has_neither(trained, tmp_path):
    cutout_folder(tmp_path / "cutouts", n=1)
    classify(tmp_path / "cutouts", model=trained[1], out=tmp_path / "out.csv", **FAST)
    assert not {"morph_set", "morph_ood"} & set(Table.read(tmp_path / "out.csv").colnames)


def test_flattened_and_plain_backbones_are_taken_apart_at_their_heads():
    for name in ("mobilenet_v2", "mobilenet_v3_small", "resnet50"):
        torch.manual_seed(0)
        backbone = registry.load("backbones", name)
        whole = backbone.build(5).eval()
        images = torch.rand(2, 3, 64, 64)
        with torch.inference_mode():
            expected = whole(images)
            head = take_head(whole, backbone.head)
            torch.testing.assert_close(head(whole(images)), expected)
            assert whole(images).shape == (2, head.in_features)


def logits_and_classes(n=1500):
    """Logits of an overconfident model: the right temperature is 2.5."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(n, 10, generator=generator)
    classes = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]
    return 2.5 * logits, classes


def test_temperature_is_the_one_of_an_independent_optimizer():
    from scipy.optimize import minimize_scalar

    logits, classes = logits_and_classes()
    fitted = fit_temperature(CLASSES, logits, torch.eye(10)[classes], "cross_entropy")["temperature"][0]
    nll = lambda t: torch.nn.functional.cross_entropy(logits.double() / t, classes).item()  # noqa: E731
    assert fitted == pytest.approx(minimize_scalar(nll, bounds=(0.5, 10), method="bounded").x, rel=2e-3)
    assert fitted == pytest.approx(2.5, rel=0.1)


def test_temperature_is_left_alone_unless_the_galaxies_speak_against_it():
    right, _ = logits_and_classes()
    right /= 2.5
    left = []
    for seed in range(100):
        generator = torch.Generator().manual_seed(seed)
        some = right[torch.randperm(len(right), generator=generator)[:60]]
        classes = torch.multinomial(some.softmax(dim=1), 1, generator=generator)[:, 0]
        left.append(fit_temperature(CLASSES, some, torch.eye(10)[classes], "cross_entropy")["temperature"][0] == 1)
    assert 0.88 <= np.mean(left) < 1


def test_temperature_of_one_question_does_not_hang_on_another():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(400, 37, generator=generator)
    logits[:, TREE.slices[0]] *= 2.5
    truth = probabilities(TREE, logits, [2.5] + [1.0] * 10)
    fitted = fit_temperature(TREE, logits, truth, "mse")["temperature"]
    assert fitted[0] == pytest.approx(2.5, rel=0.1)
    assert fitted[1:] == [1.0] * 10
    truth[99:, TREE.slices[0]] = torch.nan
    assert fit_temperature(TREE, logits, truth, "mse")["temperature"][0] == 1, "99 galaxies are too few"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_temperature_and_calibration_error_are_those_of_netcal():
    metrics = pytest.importorskip("netcal.metrics", exc_type=ImportError)
    scaling = pytest.importorskip("netcal.scaling", exc_type=ImportError)
    logits, classes = logits_and_classes()
    p = logits.double().softmax(dim=1).numpy()  # in float32 netcal's optimizer never moves
    fitted = fit_temperature(CLASSES, logits, torch.eye(10)[classes], "cross_entropy")["temperature"][0]
    theirs = scaling.TemperatureScaling()
    theirs.fit(p, classes.numpy())
    calibrated = theirs.transform(p)
    np.testing.assert_allclose((logits / fitted).softmax(dim=1).numpy(), calibrated, atol=2e-3, rtol=0)
    right = p.argmax(axis=1) == classes.numpy()
    ours = scoring.calibration_error(p.max(axis=1), right)
    assert ours == pytest.approx(metrics.ECE(bins=15).measure(p, classes.numpy()), abs=1e-6)
    assert ours > 0.1


def test_chance_gives_perfect_predictions_the_error_that_is_reported():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1, 200)
    stated = scoring.chance_calibration_error(confidence)
    errors = [scoring.calibration_error(confidence, rng.random(200) < confidence) for _ in range(400)]
    assert np.mean(np.array(errors) > stated) == pytest.approx(0.05, abs=0.03)
    assert scoring.calibration_error(confidence, rng.random(200) < confidence**4) > stated


def test_card_of_the_first_format_still_loads():
    """The card of galaxyzoo2-mobilenet_v2 before it had sets, unlikeness or anything else of a later version."""
    text = (Path(__file__).parents[1] / "support" / "cards" / "format1.json").read_text()
    card = cards.ModelCard.from_json(text)
    assert card.set_threshold() is None
    assert card.unlikeness_threshold is None
    assert len(card.calibration["temperature"]) == 11
    assert card.input_for("decals", ("g", "r", "z"), 0.262).normalization.framing.radii == 5.12
    assert json.loads(card.to_json()) == json.loads(text)


def test_the_training_part_is_thinned_to_no_fewer_galaxies_than_allowed(trained, monkeypatch, tmp_path):
    data, raw = trained

    def n_used() -> int:
        model = calibration.recalibrate(raw, [data], tmp_path / "m.safetensors")
        return model.card.calibration["unlikeness"]["n_train"]

    n_train = n_used()
    monkeypatch.setattr(calibration, "MAX_GALAXIES", n_train - 1)
    assert n_used() == n_train - 1
