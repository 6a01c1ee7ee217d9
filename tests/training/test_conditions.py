"""Conditions of galaxies and scores by them, on pictures and cutouts whose noise and size are known."""

import csv
import json

import numpy as np
import pytest
from made import blob, cutout, cutout_folder, kaggle_folder, model_file
from PIL import Image

from galmorph import registry
from galmorph.images.cutout import write_cutout
from galmorph.images.quality import signal_to_noise
from galmorph.models.model import load
from galmorph.reports.training import assess
from galmorph.training import dataset
from galmorph.training.evaluation import conditions
from galmorph.training.evaluation import evaluate as evaluation

RINGS = registry.load("schemas", "rings")


def picture(noise, rng, light=100.0):
    y, x = np.mgrid[:96, :96] - 47.5
    spot = light * np.exp(-np.hypot(x, y) / 10)
    return (spot + 40 + rng.normal(0, noise, (3, 96, 96))).clip(0, 255).round().astype(np.uint8)


def test_signal_to_noise_of_pictures():
    rng = np.random.default_rng(0)
    quiet, loud = (conditions.picture_snr(picture(noise, rng), 0.6) for noise in (5, 20))
    # The colours' noise is independent, so that of their mean is smaller by the root of three.
    assert quiet == pytest.approx(70 / (5 / np.sqrt(3)), rel=0.25)
    assert loud == pytest.approx(quiet / 4, rel=0.25)
    assert abs(conditions.picture_snr(picture(5, rng, light=0), 0.6)) < 1
    assert conditions.picture_snr(np.zeros((3, 96, 96), np.uint8), 0.6) == 0, "no noise is no division by zero"


def test_signal_to_noise_of_cutouts():
    loud, quiet = (cutout(radius=4.0, noise=noise) for noise in (0.04, 0.01))
    assert signal_to_noise(quiet, "grz", 4.0) == pytest.approx(4 * signal_to_noise(loud, "grz", 4.0), rel=0.2)
    each = [signal_to_noise(quiet, band, 4.0) for band in "grz"]
    assert signal_to_noise(quiet, "grz", 4.0) == max(each)
    assert np.isnan(signal_to_noise(quiet, "u", 4.0))


def catalog(folder, n=12):
    """A catalog of cutouts, noisier from row to row; one is damaged, one has no radius, the last is a picture."""
    cutout_folder(folder / "fits", n=n)
    for i in range(n):
        write_cutout(cutout(f"g{i}", seed=0, radius=3.0, noise=0.002 * (i + 1)), folder / "fits" / f"g{i}.fits")
    data = (folder / "fits/g1.fits").read_bytes()
    (folder / "fits/g1.fits").write_bytes(data[: len(data) // 2])
    Image.fromarray(blob(0, np.random.default_rng(0))).save(folder / "fits" / "p.png")
    rows = [(f"fits/g{i}.fits", "" if i == 3 else 2 + i / 4) for i in range(n)] + [("fits/p.png", 9.0)]
    lines = [f"{path},{radius},{i % 2}" for i, (path, radius) in enumerate(rows)]
    (folder / "mine.csv").write_text("\n".join(["cutout,petroR90_r,label", *lines, ""]))
    return folder / "mine.csv"


def test_catalogs_tell_radius_and_signal_to_noise(tmp_path):
    data = dataset.load([catalog(tmp_path)], RINGS, 32, 5.12)
    assert len(data) == 12, "without the damaged one"
    found = conditions.measured(data, np.arange(12))
    known = np.array([2.0, *(2 + i / 4 for i in range(2, 12)), 9.0])
    known[2] = 3.0  # the row without a radius: that of the cutout's card
    assert found["radius_arcsec"] == pytest.approx(known)
    assert np.isnan(found["snr"][-1]), "a picture has no flux"
    assert np.all(np.diff(found["snr"][3:11]) < 0), "the noise grows from row to row"
    assert np.isfinite(found["picture_snr"]).all()
    part = conditions.measured(data, np.array([11, 4]))
    assert part["radius_arcsec"] == pytest.approx(known[[11, 4]])


def test_samples_joined_keep_their_rows_apart(tmp_path):
    zoo = kaggle_folder(tmp_path / "zoo", n=10)
    (tmp_path / "own").mkdir()
    cutout_folder(tmp_path / "own" / "fits", n=2)
    own = tmp_path / "own" / "mine.csv"
    own.write_text("cutout,petroR90_r,Class1.1\nfits/g0.fits,4,0.5\nfits/g1.fits,5,0.4\n")
    data = dataset.load([zoo, own], registry.load("schemas", "galaxyzoo2"), 32, 5.12)
    found = conditions.measured(data, np.array([0, 10, 11]))
    assert found["radius_arcsec"] == pytest.approx([np.nan, 4, 5], nan_ok=True)
    assert set(conditions.measured(data, np.arange(10))) == {"picture_snr"}, "Kaggle's pictures tell no size"


def test_groups_are_equal_and_ordered():
    rng = np.random.default_rng(0)
    size = rng.permutation(np.arange(100.0))
    size[:20] = np.nan
    errors = np.where(size < 50, 1.0, 3.0)
    scored = conditions.score_by(
        {"radius_arcsec": size, "snr": np.ones(100), "picture_snr": np.where(np.arange(100) < 9, size, np.nan)},
        lambda rows: {"n": len(rows), "rmse": errors[rows].mean()},
    )
    assert list(scored) == ["radius_arcsec"], "no groups of what is the same for all, or known of few"
    groups = scored["radius_arcsec"]
    assert [group["n"] for group in groups] == [20, 20, 20, 20]
    known = np.sort(size[20:])
    assert [group["low"] for group in groups] == known[::20].tolist()
    assert [group["high"] for group in groups] == known[19::20].tolist()
    assert groups[0]["rmse"] == 1
    assert groups[3]["rmse"] == 3
    assert groups[1]["median"] == np.median(known[20:40])


def test_evaluate_and_report_tell_scores_by_condition(tmp_path):
    path = catalog(tmp_path, n=45)
    model = load(model_file(tmp_path / "m.safetensors", schema="rings"))
    scores = evaluation.evaluate(model, [path], dtype="float32", out=tmp_path / "out")
    assert set(scores["conditions"]) == {"radius_arcsec", "snr", "picture_snr"}
    groups = scores["conditions"]["snr"]
    assert sum(group["n"] for group in groups) == 44
    whole = sum(group["n"] * group["accuracy"] for group in groups) / 44
    with (tmp_path / "out/predictions.csv").open() as file:
        lines = list(csv.DictReader(file))
    right = [(float(line["p_ring"]) > 0.5) == (line["true_ring"] == "1") for line in lines if line["snr"]]
    assert whole == pytest.approx(np.mean(right))
    assert json.loads((tmp_path / "out/scores.json").read_text())["conditions"] == scores["conditions"]
    assert (tmp_path / "out/conditions.png").stat().st_size > 5000
    assess(tmp_path / "out", tmp_path / "r.html", figures_folder=tmp_path / "figures")
    html = (tmp_path / "r.html").read_text()
    assert "signal to noise within half of R90" in html
    assert (tmp_path / "figures/conditions.png").exists()
