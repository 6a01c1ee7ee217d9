"""A user's own catalog as a training sample: every format, ways to write labels, rows that cannot be used."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from astropy.io import fits
from made import blob, cutout, cutout_folder, model_file, table
from PIL import Image

from galmorph import registry
from galmorph.classification.prepare import prepare
from galmorph.errors import OutputError, SampleError
from galmorph.images.cutout import write_cutout
from galmorph.images.framing import Framing
from galmorph.models.card import survey_inputs
from galmorph.models.model import load
from galmorph.tables.catalog import Column, open_catalog
from galmorph.training import dataset
from galmorph.training.config import TrainConfig
from galmorph.training.reading import read_sample
from galmorph.training.samples.catalog import SAMPLE
from galmorph.training.split import Split
from galmorph.training.train import train

GZ2 = registry.load("schemas", "galaxyzoo2")
RINGS = registry.load("schemas", "rings")
EFIGI = registry.load("schemas", "efigi")


def cutouts(folder, n=4):
    """Paths of made-up cutouts, relative to the folder."""
    cutout_folder(folder / "fits", n=n)
    return [f"fits/g{i}.fits" for i in range(n)]


@pytest.mark.parametrize("labels", [[1, 2, 7, 3], ["1", "3", "7", ""], [1.0, 2.0, 7.0, np.nan]])
def test_classes_that_are_numbered_from_1_are_refused(tmp_path, labels):
    path = table(tmp_path / "mine.csv", cutout=cutouts(tmp_path), label=labels)
    with pytest.raises(SampleError, match=r"mine.csv: the column label holds no 0 \(elliptical\), so its classes seem"):
        read_sample(path, EFIGI)


def test_all_classes_but_the_first_are_refused_too(tmp_path):
    path = table(tmp_path / "mine.csv", cutout=cutouts(tmp_path, n=6), label=[1, 2, 3, 4, 5, 6])
    with pytest.raises(SampleError, match="numbered from 1, and those of efigi are numbered from 0: write their names"):
        read_sample(path, EFIGI)


@pytest.mark.parametrize(("schema", "labels"), [(RINGS, [1, 1, 1, 1]), (EFIGI, [1, 3, 5, 1]), (EFIGI, [0, 1, 6, 99])])
def test_classes_of_which_some_are_absent_are_read(tmp_path, schema, labels):
    sample = read_sample(table(tmp_path / "mine.csv", cutout=cutouts(tmp_path), label=labels), schema)
    assert [*schema.classes(sample.fractions)] == [label for label in labels if label < 7]


def test_what_is_read_and_what_is_not_is_said(tmp_path, caplog):
    columns = {
        "smooth-or-featured_smooth_fraction": [0.1, 0.2, 0.3, 0.4],
        "smooth-or-featured_featured-or-disk_fraction": [0.9, 0.8, 0.7, 0.6],
        "t01_smooth_or_features_a01_smooth_debiased": [0.1, 0.2, 0.3, 0.4],
        "total_votes": [40, 40, 40, 40],
        "mag": [15.0, 16.0, 17.0, 18.0],
    }
    with caplog.at_level("INFO"):
        read_sample(table(tmp_path / "mine.csv", cutout=cutouts(tmp_path), **columns), GZ2)
    assert (
        "mine.csv: labels are read from smooth-or-featured_smooth_fraction, "
        "smooth-or-featured_featured-or-disk_fraction; not read, though they look like labels: "
        "t01_smooth_or_features_a01_smooth_debiased." in caplog.text
    )


DECALS = {
    "smooth-or-featured_total-votes": 40,
    "smooth-or-featured_smooth": 8,
    "smooth-or-featured_smooth_fraction": 0.2,
    "smooth-or-featured_featured-or-disk": 32,
    "smooth-or-featured_featured-or-disk_fraction": 0.8,
    "smooth-or-featured_artifact_fraction": 0.0,
    "disk-edge-on_yes_fraction": 0.25,
    "disk-edge-on_no_fraction": 0.75,
    "bar_strong": 0,
    "bar_weak": 23,
    "bar_no": 1,
    "bar_no_fraction": 0.05,
    "has-spiral-arms_yes_fraction": 0.5,
    "has-spiral-arms_no_fraction": 0.5,
    "bulge-size_moderate_fraction": 0.7,
    "how-rounded_round_fraction": 0.1,
    "how-rounded_in-between_fraction": 0.4,
    "how-rounded_cigar-shaped_fraction": 0.5,
    "edge-on-bulge_boxy_fraction": 0.5,
    "edge-on-bulge_none_fraction": 0.3,
    "edge-on-bulge_rounded_fraction": 0.2,
    "spiral-winding_tight_fraction": 0.5,
    "spiral-arm-count_2_fraction": 0.9,
    "merging_none_fraction": 0.9,
}
CUMULATIVE = {
    "smooth_or_featured_smooth": 0.2,
    "smooth_or_featured_featured_or_disk": 0.8,
    "smooth_or_featured_artifact": 0.0,
    "disk_edge_on_yes": 0.2,
    "disk_edge_on_no": 0.6,
    "bar_yes": 0.57,
    "bar_no": 0.03,
    "has_spiral_arms_yes": 0.3,
    "has_spiral_arms_no": 0.3,
    "how_rounded_round": 0.02,
    "how_rounded_in_between": 0.08,
    "how_rounded_cigar": 0.1,
    "bulge_shape_boxy": 0.1,
    "bulge_shape_no_bulge": 0.06,
    "bulge_shape_round": 0.04,
    "spiral_winding_tight": 0.15,
    "spiral_arm_count_2": 0.27,
}


@pytest.mark.parametrize("form", ["published", "underscores", "campaign"])
def test_columns_of_galaxy_zoo_decals(tmp_path, form, caplog):
    names = {
        "published": str,
        "underscores": lambda name: name.replace("-", "_"),
        "campaign": lambda name: name.replace("_", "-dr5_", 1),
    }[form]
    columns = {names(name): [value] for name, value in DECALS.items()}
    with caplog.at_level("INFO"):
        sample = read_sample(table(tmp_path / "mine.csv", cutout=cutouts(tmp_path, n=1), **columns), GZ2)
    known = {label: p for label, p in zip(GZ2.labels, sample.fractions[0], strict=True) if np.isfinite(p)}
    assert known == pytest.approx(CUMULATIVE)
    assert sample.votes.tolist() == [40]
    assert names("bulge-size_moderate_fraction") in caplog.text.partition("not read")[2]


def test_shares_above_one_are_no_fractions(tmp_path):
    columns = {"smooth-or-featured_smooth_fraction": [20.0, 0.2], "smooth-or-featured_artifact_fraction": [0.1, 0.1]}
    sample = read_sample(table(tmp_path / "mine.csv", cutout=cutouts(tmp_path, n=2), **columns), GZ2)
    assert (len(sample), len(sample.skipped)) == (1, 1)
    assert "smooth-or-featured_smooth_fraction is 20, not a fraction" in sample.skipped[0]


def test_the_number_of_votes_beside_fractions_and_beside_counts(tmp_path):
    columns = {"smooth_or_featured_smooth": [0.25, 0.5], "smooth-or-featured_total-votes": [40, 20]}
    columns |= {"bar_no": [1, 1], "bar_total-votes": [20, 10]}
    sample = read_sample(table(tmp_path / "mine.csv", cutout=cutouts(tmp_path, n=2), **columns), GZ2)
    assert sample.fractions[:, GZ2.labels.index("smooth_or_featured_smooth")].tolist() == [0.25, 0.5]
    assert np.isnan(sample.fractions[:, GZ2.labels.index("bar_no")]).all()
    assert sample.votes.tolist() == [40, 20]


def test_columns_of_two_campaigns_are_not_read(tmp_path):
    columns = {f"smooth-or-featured-{c}_smooth_fraction": [0.2] for c in ("dr5", "dr8")}
    with pytest.raises(SampleError, match="No column belongs to the schema"):
        read_sample(table(tmp_path / "mine.csv", cutout=cutouts(tmp_path, n=1), **columns), GZ2)


def test_labels_that_are_none_are_named_and_counted(tmp_path, caplog):
    labels = ["elliptical", "sx", "sx", "peculiar thing", "irregular"]
    sample = read_sample(table(tmp_path / "mine.csv", cutout=cutouts(tmp_path, n=5), label=labels), EFIGI)
    assert len(sample) == 2
    assert "mine.csv: label: rows whose label cannot be used are left out: sx (2), peculiar thing (1)." in caplog.text


@pytest.mark.parametrize("suffix", [".csv", ".fits", ".ecsv", ".vot", ".parquet"])
def test_every_format_with_fractions(tmp_path, suffix):
    smooth = [0.9, 0.5, np.nan, 0.1]
    columns = {"p_smooth_or_featured_smooth": smooth, "total_votes": [40.0, 38.0, 42.0, 0.0]}
    columns |= {"how_rounded_round": [0.3, 0.2, 0.1, 0.0]}
    path = table(tmp_path / f"mine{suffix}", id=["a", "b", "c", "d"], cutout=cutouts(tmp_path), **columns)
    sample = read_sample(path, GZ2)
    assert list(sample.galaxies) == ["mine:a", "mine:b", "mine:c", "mine:d"]
    assert sample.fractions[:, 0] == pytest.approx(smooth, nan_ok=True)
    assert sample.fractions[0, GZ2.labels.index("how_rounded_round")] == pytest.approx(0.3)
    assert np.isfinite(sample.fractions).any(axis=0).sum() == 2, "what no column tells is unknown"
    assert sample.votes == pytest.approx([40, 38, 42, np.nan], nan_ok=True)
    assert not sample.skipped
    assert sample.image(0).shape == (424, 424, 3)


@pytest.mark.parametrize(
    ("name", "values", "schema"),
    [
        ("class", ["ring", "No ring", "ring", "no_ring"], RINGS),
        ("label", [1, 0, 1, 0], RINGS),
        ("ring", ["1", "0", "1", "0"], RINGS),
        ("Class", ["lenticular", "Elliptical", "1", "0"], EFIGI),
    ],
)
def test_classes_in_one_column(tmp_path, name, values, schema):
    path = table(tmp_path / "mine.csv", cutout=cutouts(tmp_path), **{name: values})
    sample = read_sample(path, schema)
    assert list(schema.classes(sample.fractions)) == [1, 0, 1, 0]


def test_the_picture_is_the_one_that_classify_makes(tmp_path):

    path = table(tmp_path / "mine.csv", cutout=cutouts(tmp_path, 1), petroR90_r=[4.0], label=[1])
    picture = read_sample(path, RINGS).image(0)
    model = load(model_file(tmp_path / "m.safetensors"))
    inputs = survey_inputs(424, Framing(radii=8.48), (0.0,) * 3, (1.0,) * 3)
    model.card = dataclasses.replace(model.card, inputs=inputs)
    prepared = prepare(tmp_path / "fits/g0.fits", model.card, 4.0)
    rgb = prepared.entry.normalization.rgb(torch.from_numpy(prepared.flux)[None])[0].numpy()
    np.testing.assert_allclose(picture[::-1] / 255, rgb.transpose(1, 2, 0), atol=0.003)


def test_pictures_are_taken_as_they_are(tmp_path):
    image = blob(0, np.random.default_rng(0))
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(image).save(tmp_path / "b.jpg")
    sample = read_sample(table(tmp_path / "mine.csv", cutout=["a.png", "b.jpg"], label=[1, 0]), RINGS)
    assert np.array_equal(sample.image(0), image)
    assert np.abs(sample.image(1).astype(int) - image).mean() < 10


def test_rows_that_cannot_be_used_are_left_out_reported_and_counted(tmp_path, caplog):
    paths = cutouts(tmp_path, 5)
    (tmp_path / "fits/g1.fits").write_bytes(b"<html>")
    write_cutout(cutout("blank", radius=1e-6, noise=0.0), tmp_path / "fits/g2.fits")
    (tmp_path / "fits/g3.fits").write_bytes((tmp_path / "fits/g3.fits").read_bytes()[:4000])
    paths += ["", "fits/none.fits", "../outside.fits", "fits/g4.fits", "fits/g4.fits"]
    labels = ["ring", "ring", "ring", "ring", "no_ring", "ring", "ring", "ring", "sphinx", ""]
    path = table(tmp_path / "mine.csv", cutout=paths, label=labels)
    data = dataset.load([path], RINGS, 32, 5.12)
    assert list(data.galaxies) == ["mine:0", "mine:4"]
    assert (len(data), data.skipped) == (2, {"mine": 8})
    assert data.batch(np.arange(2))[0].float().std() > 1
    assert "mine: 8 of 10 rows are left out; first: row 6: 5: the catalog names no cutout." in caplog.text
    again = dataset.load([path], RINGS, 32, 5.12)
    assert np.array_equal(again.images, data.images), "from the cache"
    assert again.skipped == data.skipped


def test_numbers_that_are_no_fractions_are_left_out(tmp_path):
    path = table(tmp_path / "mine.csv", cutout=cutouts(tmp_path, 3), smooth_or_featured_smooth=[0.2, 35.0, -1.0])
    sample = read_sample(path, GZ2)
    assert len(sample) == 1
    assert [reason.split(": ")[1] for reason in sample.skipped] == [
        "smooth_or_featured_smooth is 35, not a fraction.",
        "smooth_or_featured_smooth is -1, not a fraction.",
    ]


def test_rows_at_one_position_are_one_galaxy(tmp_path):
    columns = {"id": ["a", "b", "c"], "ra": [10.0, 10.0005, 11.0], "dec": [0.0, 0.0, 0.0], "label": [1, 1, 0]}
    sample = read_sample(table(tmp_path / "mine.csv", cutout=cutouts(tmp_path, 3), **columns), RINGS)
    assert list(sample.galaxies) == ["mine:a", "mine:a", "mine:c"]


def test_own_predictions_are_not_read_as_labels(tmp_path):
    path = table(tmp_path / "mine.fits", cutout=cutouts(tmp_path, 2))
    said = [Column("p_ring", "float32")]
    open_catalog(path).append(tmp_path / "out.fits", said, [{"p_ring": np.array([0.1, 0.9], np.float32)}])
    with pytest.raises(SampleError, match=r"out.fits: No column belongs to the schema 'rings'"):
        read_sample(tmp_path / "out.fits", RINGS)


def test_without_any_usable_row(tmp_path):
    with pytest.raises(SampleError, match=r"No row of .*mine.csv can be used; first: row 1: 0: the catalog names no"):
        read_sample(table(tmp_path / "mine.csv", cutout=["", ""], label=[1, 0]), RINGS)
    (tmp_path / "a.fits").write_bytes(b"<html>")
    with pytest.raises(SampleError, match="No picture of broken can be used"):
        dataset.load([table(tmp_path / "broken.csv", cutout=["a.fits"], label=[1])], RINGS, 32, 5.12)


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GALMORPH_CACHE", str(tmp_path / "file"))
    path = table(tmp_path / "mine.csv", cutout=cutouts(tmp_path, 2), label=[1, 0])
    with pytest.raises(OutputError, match="GALMORPH_CACHE"):
        dataset.load([path], RINGS, 32, 5.12)


def test_training_on_a_catalog(tmp_path):
    paths = cutouts(tmp_path, 24)
    (tmp_path / "fits/g5.fits").write_bytes(b"")
    path = table(tmp_path / "mine.csv", cutout=paths, label=[i % 2 for i in range(24)])
    options = {"backbone": "mobilenet_v1", "pretrained": "none", "input_size": 32, "device": "cpu", "epochs": 1}
    split = Split(val=0.3, test=0.3, by_class=True)
    train(TrainConfig((str(path),), "rings", loss="cross_entropy", split=split, **options), tmp_path / "run")
    card = json.loads((tmp_path / "run" / "model.json").read_text())
    assert {key: card["trained_on"][0][key] for key in ("name", "n", "n_skipped")} == {
        "name": "mine",
        "n": 23,
        "n_skipped": 1,
    }


def test_why_a_file_is_no_labelled_catalog_is_said(tmp_path):
    schema = registry.load("schemas", "galaxy10_decals")
    (tmp_path / "a.csv").write_text("id,ra,dec\n1,2,3\n")
    with pytest.raises(SampleError, match=r"as a catalog it lacks a column cutout; it has id, ra, dec"):
        read_sample(tmp_path / "a.csv", schema)
    (tmp_path / "b.fits").write_bytes(b"SIMPLE  =                    T")
    with pytest.raises(SampleError, match=r"b.fits has no layout of labelled data \(.*no END"):
        read_sample(tmp_path / "b.fits", schema)
    (tmp_path / "c.parquet").mkdir()
    (tmp_path / "c.parquet" / "part.0.parquet").touch()
    with pytest.raises(SampleError, match=r"is a folder of Parquet files \(1\)"):
        read_sample(tmp_path / "c.parquet", schema)


def test_a_labelled_catalog_as_topcat_saves_it(tmp_path):
    assert SAMPLE.matches(_saved_by_topcat(tmp_path / "t.fits"))


def _saved_by_topcat(path):
    table = fits.BinTableHDU.from_columns([fits.Column("cutout", "8A", array=["a.fits"])])
    primary = fits.PrimaryHDU(np.frombuffer(b"<VOTABLE/>", np.uint8))
    primary.header["VOTMETA"] = True
    fits.HDUList([primary, table]).writeto(path)
    return path
