"""The spread of vote fractions, against votes drawn from distributions whose spread is known."""

import dataclasses
import json

import numpy as np
import pytest
from astropy.io import fits
from made import cutout_folder, kaggle_folder, model_file
from typer.testing import CliRunner

from galmorph import registry
from galmorph.classification.classify import classify
from galmorph.classification.results import read_results
from galmorph.cli.app import app
from galmorph.errors import ModelError
from galmorph.models.model import load, save
from galmorph.models.vote_spread import fit_concentration, spread, spread_scores
from galmorph.training import dataset
from galmorph.training.evaluation import calibration
from galmorph.training.evaluation import evaluate as evaluation

GZ2 = registry.load("schemas", "galaxyzoo2")
FAST = {"device": "cpu", "dtype": "float32", "batch_size": 4}


def drawn(n, concentration, questions, seed=0):
    """Fractions expected of each galaxy and votes around them; the answers to other questions are unknown."""
    rng = np.random.default_rng(seed)
    expected, truth = np.zeros((n, len(GZ2.labels))), np.full((n, len(GZ2.labels)), np.nan)
    for question in questions:
        part = GZ2.slices[question]
        expected[:, part] = rng.dirichlet(np.full(part.stop - part.start, 2.0), n)
        truth[:, part] = [rng.dirichlet(row * concentration) for row in expected[:, part]]
    return truth, expected


def test_the_concentration_of_a_dirichlet_distribution_is_found():
    for concentration in (3.0, 30.0):
        truth, expected = drawn(4000, concentration, [0, 6])
        fitted = fit_concentration(GZ2, truth, expected)
        assert fitted[0] == pytest.approx(concentration, rel=0.1)
        assert fitted[6] == pytest.approx(concentration, rel=0.1)
        assert fitted[0] != fitted[6]
        scores = spread_scores(GZ2, truth, expected, fitted)
        assert scores["spread_ratio"] == pytest.approx(1, abs=0.02)
        assert scores["spread_coverage"] == pytest.approx(0.9, abs=0.04)
        narrow = spread_scores(GZ2, truth, expected, [4 * c for c in fitted])
        assert narrow["spread_ratio"] > 1.5
        assert narrow["spread_coverage"] < 0.75


def test_a_question_of_few_galaxies_is_as_wide_as_all_together():
    truth, expected = drawn(200, 10.0, [0, 6])
    truth[29:, GZ2.slices[6]] = np.nan
    fitted = fit_concentration(GZ2, truth, expected)
    assert fitted[6] == fitted[3], "nobody was asked the fourth question"
    assert fitted[6] != fitted[0]
    assert min(fit_concentration(GZ2, np.round(expected), expected)) >= 0


def test_spread_of_fractions():
    p = np.full((3, len(GZ2.labels)), 0.5, np.float32)
    p[1], p[2] = 1.0, np.nan
    found = spread(GZ2, p, [3.0] * len(GZ2.questions))
    assert found.dtype == np.float32
    assert found[0] == pytest.approx(0.25)
    assert (found[1] == 0).all()
    assert np.isnan(found[2]).all()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model that knows no spread, and the same one calibrated."""
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GALMORPH_CACHE", str(folder / "cache"))
        zoo = kaggle_folder(folder / "zoo", n=60)
        on = [{"name": "zoo", "sha256": dataset.read_sample(zoo, GZ2).sha256}]
        split = {"seed": 0, "val": 0.3, "test": 0.2}
        raw = model_file(folder / "raw.safetensors", trained_on=on, split=split)
        calibration.recalibrate(raw, [zoo], folder / "calibrated.safetensors")
        scores = evaluation.evaluate(load(folder / "calibrated.safetensors"), [zoo], part="val", dtype="float32")
        assert "spread_ratio" not in evaluation.evaluate(load(raw), [zoo], part="val", dtype="float32")
    return raw, folder / "calibrated.safetensors", scores


def test_calibration_fits_the_spread_of_the_validation_part(models):
    assert len(load(models[1]).card.concentration) == 11
    assert models[2]["spread_ratio"] == pytest.approx(1, abs=0.03)


def test_a_refit_model_keeps_its_spread(models, tmp_path):
    model = load(models[1])
    model.card = dataclasses.replace(
        model.card, training={"refit": True}, calibration={"spread": {"concentration": [7.0] * 11, "n": 5}}
    )
    save(model, tmp_path / "refit.safetensors")
    zoo = models[0].parent / "zoo"
    again = calibration.recalibrate(tmp_path / "refit.safetensors", [zoo], tmp_path / "m.safetensors")
    assert again.card.concentration == [7.0] * 11


def test_classify_writes_it_where_it_is_asked_for(models, tmp_path):
    cutout_folder(tmp_path / "cutouts", n=3)
    (tmp_path / "cutouts" / "g1.fits").write_bytes(b"<html>")
    out = tmp_path / "o.fits"
    arguments = ["classify", str(tmp_path / "cutouts"), "--model", str(models[1]), "--out", str(out), "--spread"]
    done = CliRunner().invoke(app, [*arguments, "--prefix", "x_", "--json", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[-1])["failed"] == 1
    table, card = fits.getdata(out, 1), load(models[1]).card
    p, err = (np.stack([table[f"x_p_{label}{end}"] for label in GZ2.labels], axis=1) for end in ("", "_err"))
    np.testing.assert_allclose(err, spread(GZ2, p, card.concentration), rtol=1e-6)
    assert (err[[0, 2]] > 0).any()
    assert np.isnan(err[1]).all()
    header = fits.getheader(out, 1)
    number = table.names.index("x_p_bar_yes_err") + 1
    assert header[f"TUCD{number}"] == "stat.stdev;src.morph.type"
    assert "p_bar_yes" in header[f"TCOMM{number}"]
    assert read_results(out, prefix="x_").p == pytest.approx(p, nan_ok=True)
    plain = classify(tmp_path / "cutouts", model=models[1], out=tmp_path / "plain.fits", **FAST)
    assert not [name for name in fits.getdata(plain.out, 1).names if name.endswith("_err")]


def test_a_model_without_it_says_so_before_anything_is_done(models, tmp_path):
    cutout_folder(tmp_path / "cutouts", n=2)
    with pytest.raises(ModelError, match=r"raw knows no spread of vote fractions: .*models calibrate"):
        classify(tmp_path / "cutouts", model=models[0], out=tmp_path / "o.fits", spread=True, **FAST)
    assert not list(tmp_path.glob("*o.fits*"))
