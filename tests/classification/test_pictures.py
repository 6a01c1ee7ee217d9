"""JPEG and PNG cutouts: framed as the pictures that models learn from; what only flux tells is unknown, and said so."""

import math
import os

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from made import blob, cutout_folder, kaggle_folder
from PIL import Image

from galmorph import registry
from galmorph.classification.classify import classify
from galmorph.classification.picture import picture_input, prepare_picture
from galmorph.classification.prepare import colour_picture
from galmorph.classification.results import read_results
from galmorph.errors import GalmorphError
from galmorph.images.flags import Flag
from galmorph.images.framing import Framing
from galmorph.images.picture import PictureWidth, frame_picture
from galmorph.models.model import load
from galmorph.models.predictor import Predictor
from galmorph.reports.pictures import composites
from galmorph.training import dataset
from galmorph.training.augmentation import plain_view
from galmorph.training.evaluation.predicting import predict

FAST = {"device": "cpu", "dtype": "float32", "batch_size": 4, "workers": 2}


@pytest.fixture(scope="module")
def kaggle(tmp_path_factory):
    return kaggle_folder(tmp_path_factory.mktemp("kaggle") / "sample", n=4)


def probabilities(table):
    return np.stack([np.asarray(table[n], float) for n in table.colnames if n.startswith("p_")], axis=1)


def save(path, picture):
    Image.fromarray(picture).save(path)
    return path


def test_a_folder_of_pictures_has_the_probabilities_of_training_and_evaluation(kaggle, model, tmp_path, monkeypatch):
    monkeypatch.setenv("GALMORPH_CACHE", str(tmp_path / "cache"))
    summary = classify(kaggle / "images_training_rev1", model=model, out=tmp_path / "o.fits", width_r90=8.48, **FAST)
    assert (summary.targets, summary.classified, summary.flagged, summary.failed) == (4, 4, 0, 0)
    table = Table.read(tmp_path / "o.fits")
    assert list(table["cutout"]) == [f"{i}.jpg" for i in range(1000, 1004)]
    assert list(table["id"]) == [str(i) for i in range(1000, 1004)]
    assert set(table["morph_flag"]) == {Flag.PICTURE}
    assert table["morph_ok"].all()
    data = dataset.load([kaggle], registry.load("schemas", "galaxyzoo2"), 64, 5.12)
    expected = predict(Predictor(load(model), "cpu", "float32"), data, np.arange(4), 4)
    np.testing.assert_allclose(probabilities(table), expected, atol=5e-3)
    seen = plain_view(data.batch(np.arange(4))[0], data.view, 64)
    for row, file in enumerate(sorted((kaggle / "images_training_rev1").iterdir())):
        prepared = prepare_picture(file, load(model).card, width=PictureWidth(r90=8.48))
        np.testing.assert_allclose(prepared.flux, seen[row], atol=1.5 / 255)


def test_the_header_says_that_they_were_pictures_and_only_then(kaggle, model, tmp_path):
    classify(kaggle / "images_training_rev1", model=model, out=tmp_path / "o.fits", width_r90=8.48, **FAST)
    header = fits.getheader(tmp_path / "o.fits", 1)
    assert (header["GMINPUT"], header["GMWIDTH"]) == ("8-bit pictures", "8.48 R90")
    comments = "".join(str(value) for key, value in header.items() if key.startswith("TCOMM"))
    assert "4096 picture" in comments
    assert "256, 512 and 4096" in comments
    cutout_folder(tmp_path / "cut", n=1)
    classify(tmp_path / "cut", model=model, out=tmp_path / "f.fits", **FAST)
    header = fits.getheader(tmp_path / "f.fits", 1)
    assert "GMINPUT" not in header
    assert not any("4096" in str(value) for key, value in header.items() if key.startswith("TCOMM"))


def test_the_report_shows_pictures_as_the_model_saw_them(kaggle, model, tmp_path):
    classify(kaggle / "images_training_rev1", model=model, out=tmp_path / "o.fits", width_r90=8.48, **FAST)
    results = read_results(tmp_path / "o.fits")
    assert results.pictures == PictureWidth(r90=8.48)
    shown = composites(results, [2], kaggle / "images_training_rev1", model=str(model))
    assert list(shown.jpeg) == [2]
    prepared = prepare_picture(kaggle / "images_training_rev1" / "1002.jpg", load(model).card, width=results.pictures)
    source = np.asarray(Image.open(kaggle / "images_training_rev1" / "1002.jpg"), float) / 255
    seen = colour_picture(prepared)
    assert seen.shape == (64, 64, 3)
    # The middle 0.6 of the 64 px, north up as the file is.
    inner = np.asarray(Image.fromarray((source * 255).astype(np.uint8)).crop((13, 13, 51, 51)).resize((64, 64)), float)
    assert np.abs(seen * 255 - inner).mean() < 12
    assert np.abs(seen[::-1] * 255 - inner).mean() > np.abs(seen * 255 - inner).mean()


def test_one_picture_and_a_catalog_of_pictures_and_fits(model, tmp_path):
    rng = np.random.default_rng(1)
    save(tmp_path / "ngc1.png", blob(0, rng))
    cutout_folder(tmp_path, n=1)
    one = classify(tmp_path / "ngc1.png", model=model, **FAST)
    assert one.out == str(tmp_path / "ngc1_morph.fits")
    (tmp_path / "t.csv").write_text("id,cutout\na,ngc1.png\nb,g0.fits\nc,none.jpg\n")
    classify(tmp_path / "t.csv", model=model, out=tmp_path / "o.csv", **FAST)
    table = Table.read(tmp_path / "o.csv")
    assert [bool(flag & Flag.PICTURE) for flag in table["morph_flag"]] == [True, False, True]
    assert table["morph_flag"][2] & Flag.UNREADABLE
    assert probabilities(table[:1]) == pytest.approx(probabilities(Table.read(one.out)), abs=1e-6)


def test_pictures_beside_fits_cutouts_are_none_of_them(model, tmp_path):
    cutout_folder(tmp_path / "cut", n=2)
    save(tmp_path / "cut" / "plot.png", blob(0, np.random.default_rng(0)))
    assert classify(tmp_path / "cut", model=model, out=tmp_path / "o.fits", **FAST).targets == 2


def test_pictures_are_found_by_identifier(kaggle, model, tmp_path):
    (tmp_path / "t.csv").write_text("id\n1001\n1003\n")
    classify(tmp_path / "t.csv", model=model, cutouts=kaggle / "images_training_rev1", **FAST)
    assert list(Table.read(tmp_path / "t_morph.csv")["morph_flag"]) == [Flag.PICTURE | Flag.RADIUS_MEASURED] * 2


@pytest.mark.parametrize(
    ("framing", "width", "radius", "expected"),
    [
        (Framing(radii=5.12), PictureWidth(r90=10.24), math.nan, 50.0),
        (Framing(radii=5.0), PictureWidth(arcsec=40.0), 4.0, 50.0),
        (Framing(radii=5.0), PictureWidth(arcsec=40.0), math.nan, math.nan),
        (Framing(radii=5.0), PictureWidth(), 4.0, math.nan),
        (Framing(size_arcsec=10.0), PictureWidth(arcsec=40.0), math.nan, 25.0),
        (Framing(size_arcsec=10.0), PictureWidth(r90=5.0), 8.0, 25.0),
        (Framing(size_arcsec=10.0), PictureWidth(r90=5.0), math.nan, math.nan),
    ],
)
def test_the_frame_follows_from_radius_and_width(framing, width, radius, expected):
    assert width.frame_px(framing, 100, radius) == pytest.approx(expected, nan_ok=True)
    assert PictureWidth.of(str(width)).frame_px(framing, 100, radius) == pytest.approx(expected, nan_ok=True)


def test_beyond_a_picture_is_the_colour_of_its_edge():
    picture = np.full((40, 40, 3), (10, 20, 30), np.uint8)
    picture[15:25, 15:25] = 200
    framed = frame_picture(picture, 80, 32)
    np.testing.assert_allclose(framed[:, 0, 0] * 255, (10, 20, 30), atol=1e-4)
    assert framed[0, 16, 16] * 255 == pytest.approx(200, abs=8)
    np.testing.assert_allclose(frame_picture(picture, 40, 40), picture.transpose(2, 0, 1) / np.float32(255))
    assert frame_picture(picture, 0.0, 8).shape == frame_picture(picture, 1e9, 8).shape == (3, 8, 8)


def test_flags_of_pictures(model, tmp_path):
    card = load(model).card
    rng = np.random.default_rng(0)
    usual = save(tmp_path / "a.jpg", blob(0, rng))
    wide = save(tmp_path / "b.png", blob(0, rng)[:40])
    blue = save(tmp_path / "c.png", blob(0, rng) * np.array([0, 0, 1], np.uint8))
    (tmp_path / "d.jpg").write_bytes(b"\xff\xd8\xff no picture")
    os.mkfifo(tmp_path / "e.png")

    def flags(name, **width):
        return prepare_picture(name, card, width=PictureWidth(**width)).flag & ~Flag.PICTURE

    assert flags(usual) == Flag.RADIUS_MEASURED
    assert flags(usual, r90=5.12) == Flag(0)
    assert flags(usual, r90=4.0) == Flag.LARGER_THAN_CUTOUT
    assert flags(wide, r90=6.0) == Flag.PARTIAL
    assert flags(blue) == Flag.MISSING_BAND
    assert prepare_picture(blue, card).flux is None
    for name in ("d.jpg", "e.png", "none.jpg"):
        assert flags(tmp_path / name) == Flag.UNREADABLE
    assert picture_input(card).normalization.kind == "picture"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width_r90": 8.48, "width_arcsec": 40.0}, "give one"),
        ({"width_r90": 0.0}, "--width-r90 0.0: a number from 1e-09 to 1,000"),
        ({"width_arcsec": math.inf}, "--width-arcsec inf"),
    ],
)
def test_widths_that_make_no_sense_are_refused(kaggle, model, options, words):
    with pytest.raises(GalmorphError, match=words):
        classify(kaggle / "images_training_rev1", model=model, **options, **FAST)


def test_survey_images_have_no_width(tmp_path, model):
    with pytest.raises(GalmorphError, match="not for survey images"):
        classify(tmp_path / "i.fits", kind="field", model=model, width_r90=8.0, **FAST)
