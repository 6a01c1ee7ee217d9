"""What a user says of a sample, identifiers, twins in other samples, width, and galaxies that are left out."""

import re

import numpy as np
import pandas as pd
import pytest
from made import cutout_folder, galaxy10_file, kaggle_folder, labelled_folder
from PIL import Image

from galmorph import registry
from galmorph.errors import SampleError
from galmorph.images.framing import Framing
from galmorph.training import dataset as datasets
from galmorph.training.augmentation import plain_view
from galmorph.training.reading import excluded_keys, parse, read_sample
from galmorph.training.split import Split

ZOO = registry.load("schemas", "galaxyzoo2")
RINGS = registry.load("schemas", "rings")
CLASSES = registry.load("schemas", "galaxy10_sdss")
CLEAN = registry.load("schemas", "galaxyzoo2_clean")


def test_a_path_with_questions_and_options(tmp_path):
    path, questions, options = parse("/data/zoo:bar,width_r90=6.4, labels=galaxyzoo2_clean,bulge_size")
    assert (str(path), questions) == ("/data/zoo", ["bar", "bulge_size"])
    assert options == {"width_r90": 6.4, "labels": "galaxyzoo2_clean"}
    (tmp_path / "a:b").mkdir()
    assert parse(tmp_path / "a:b") == (tmp_path / "a:b", [], {}), "a path that exists is a path"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("width_r9=6", "no option of a sample 'width_r9'. Did you mean 'width_r90'"),
        ("width_r90=wide", "width_r90 is a number from 1e-09 to 1,000, not 'wide'"),
        ("width_arcsec=-3", "width_arcsec is a number from 1e-09 to 1,296,000"),
        ("width_r90=nan", "width_r90 is a number from 1e-09 to 1,000"),
        ("width_r90=inf", "width_r90 is a number from 1e-09 to 1,000"),
        ("width_r90=6,width_arcsec=60", "either width_r90 or width_arcsec"),
        ("labels=galaxyzoo3", "no label schema 'galaxyzoo3'. Did you mean"),
    ],
)
def test_wrong_options_get_a_clear_error(tmp_path, options, message):
    folder = labelled_folder(tmp_path / "mine", label=[0, 1, 0, 1])
    with pytest.raises(Exception, match=re.escape(message)) as caught:
        read_sample(f"{folder}:{options}", RINGS)
    assert caught.type.__module__ == "galmorph.errors"


@pytest.mark.parametrize(
    ("said", "framing"),
    [("width_r90=6.4", Framing(radii=6.4)), ("width_arcsec=67", Framing(size_arcsec=67)), ("", Framing(radii=8.48))],
)
def test_the_width_of_pictures_is_said_by_a_file_or_the_command_line(tmp_path, said, framing):
    folder = labelled_folder(tmp_path / "mine", label=[0, 1, 0, 1])
    assert read_sample(f"{folder}:{said}" if said else folder, RINGS).framing == framing
    (folder / "labels.toml").write_text(said)
    assert read_sample(folder, RINGS).framing == framing
    assert read_sample(f"{folder}:width_r90=5", RINGS).framing == Framing(radii=5), "the command line comes first"


def test_a_file_says_which_schema_the_labels_are_of(tmp_path):
    folder = labelled_folder(tmp_path / "mine", label=[0, 1, 2, 3])
    (folder / "labels.toml").write_text('labels = "galaxyzoo2_clean"\nwidth_r90 = 6.4\n')
    assert read_sample(folder, CLEAN).fractions.argmax(axis=1).tolist() == [0, 1, 2, 3]
    assert np.isfinite(read_sample(folder, ZOO).lower).any()
    for text, message in (("width = 3", "no option of a sample 'width'"), ("= 3", "cannot be read as TOML")):
        (folder / "labels.toml").write_text(text)
        with pytest.raises(SampleError, match=f"labels.toml.*{message}"):
            read_sample(folder, ZOO)


def test_a_catalog_of_fits_cutouts_is_framed_by_its_radii_and_one_of_pictures_as_it_is_said(tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    cutout_folder(tmp_path / "fits", n=1)
    for name, file in (("pictures.csv", "a.png"), ("cutouts.csv", "fits/g0.fits")):
        pd.DataFrame({"cutout": [file], "label": [1]}).to_csv(tmp_path / name, index=False)
    assert read_sample(f"{tmp_path / 'pictures.csv'}:width_r90=5", RINGS).framing == Framing(radii=5)
    with pytest.raises(SampleError, match="leave the width out"):
        read_sample(f"{tmp_path / 'cutouts.csv'}:width_r90=5", RINGS)


@pytest.mark.parametrize(
    ("column", "key"),
    [
        ("GalaxyID", "galaxyzoo_kaggle:7"),
        ("id", "mine:7"),
        ("name", "mine:7"),
        ("other", "mine:images_training_rev1/1000.jpg"),
    ],
)
def test_the_column_that_identifies_galaxies(tmp_path, column, key):
    folder = labelled_folder(tmp_path / "mine", **{column: ["7", "08", "9", "a"]}, label=[0, 1, 0, 1])
    galaxies = read_sample(folder, RINGS).galaxies
    assert galaxies[0] == key
    assert galaxies[1].endswith(":08") or column == "other", "identifiers are text"


def test_classes_by_name_or_number(tmp_path):
    numbers = read_sample(labelled_folder(tmp_path / "a", label=[1, 0, -1, 1]), RINGS)
    words = read_sample(labelled_folder(tmp_path / "b", **{"class": ["Ring", "no ring", "", "ring"]}), RINGS)
    np.testing.assert_array_equal(numbers.fractions, words.fractions)
    assert np.isnan(words.fractions[2]).all()
    ten = read_sample(labelled_folder(tmp_path / "c", label=[9, 0, 3, 3]), CLASSES)
    assert ten.fractions.argmax(axis=1).tolist() == [9, 0, 3, 3]
    with pytest.raises(SampleError, match=r"'class' holds more than the classes 0 to 1. Row 2: halo is none"):
        read_sample(labelled_folder(tmp_path / "d", **{"class": ["ring", "halo", "ring", "ring"]}), RINGS)


def test_the_same_galaxy_has_one_key_in_every_sample(tmp_path):
    zoo = kaggle_folder(tmp_path / "galaxyzoo_kaggle", n=4, seed=1)
    clean = labelled_folder(tmp_path / "clean", GalaxyID=[1001, 2000, 2001, 2002], label=[0, 1, 0, 1])
    hart = kaggle_folder(tmp_path / "hart", n=4, seed=2)
    pd.DataFrame({"GalaxyID": [1003], "galaxyzoo_kaggle_GalaxyID": [1002]}).to_csv(
        hart / "same_galaxies.csv", index=False
    )
    pd.DataFrame({"GalaxyID": [1000, 1003], "challenge_GalaxyID": [2000, 77]}).to_csv(
        hart / "twins_in_challenge.csv", index=False
    )
    (tmp_path / "ten").mkdir()
    ten = galaxy10_file(tmp_path / "ten" / "g.h5", n=6)
    pd.DataFrame({"row": [0, 1, 2], "challenge_GalaxyID": [1000, 2000, 5]}).to_csv(
        tmp_path / "ten" / "twins_in_challenge.csv", index=False
    )
    assert list(read_sample(hart, ZOO).galaxies) == [
        "galaxyzoo_kaggle:2000", "hart:1001", "hart:1002", "galaxyzoo_kaggle:1002",
    ]  # fmt: skip
    assert list(read_sample(ten, CLASSES).galaxies)[:4] == [
        *(f"galaxyzoo_kaggle:{i}" for i in (1000, 2000, 5)), "g:3",
    ]  # fmt: skip
    paths = [zoo, f"{clean}:labels=galaxyzoo2_clean", hart]
    parts = [
        dict(zip(data.galaxies, Split(val=0.3, test=0.3).parts(list(data.galaxies)), strict=True))
        for data in (datasets.load(order, ZOO, 32, 5.12) for order in (paths, paths[::-1]))
    ]
    assert parts[0] == parts[1]
    assert len(parts[0]) == 12 - 3, "three galaxies are in two samples"


def test_a_table_of_twins_needs_its_columns(tmp_path):
    folder = kaggle_folder(tmp_path / "hart", n=4)
    pd.DataFrame({"id": [1], "zoo_GalaxyID": [2]}).to_csv(folder / "same_galaxies.csv", index=False)
    with pytest.raises(SampleError, match=r"same_galaxies.csv needs a column 'GalaxyID'"):
        read_sample(folder, ZOO)


def spot_folder(path, radii, side=160):
    """Pictures of one made-up galaxy, a spot of 1 R90 radius, ``radii`` wide."""
    folder = labelled_folder(path, label=[0, 1, 0, 1])
    y, x = (np.mgrid[:side, :side] + 0.5) / side * radii - radii / 2
    light = (255 * np.exp(-np.hypot(x, y))).astype(np.uint8)
    for file in folder.glob("*/*.jpg"):
        Image.fromarray(np.dstack([light] * 3)).save(file, quality=95)
    return f"{folder}:width_r90={radii}"


def test_samples_of_different_width_are_joined_at_the_smallest(tmp_path, cache):
    paths = [spot_folder(tmp_path / "wide", 8.0), spot_folder(tmp_path / "narrow", 6.4)]
    data = datasets.load(paths, RINGS, 32, 5.0)
    assert data.framing == Framing(radii=5.0)
    assert data.view == pytest.approx(5.0 / 6.4, abs=0.03)
    wide, narrow = (plain_view(data.batch(np.array([row]))[0], data.view, 32) for row in (0, 4))
    assert float((wide - narrow).abs().max()) < 0.03, "the same galaxy at the same scale"
    assert datasets.load(paths, RINGS, 32, 20.0).framing == Framing(radii=6.4)
    alone = datasets.load(paths[:1], RINGS, 32, 5.0)
    assert alone.view == pytest.approx(5.0 / 8.0, abs=0.03)
    assert len(list(cache.glob("wide-*.npy"))) == 3, "the cache knows the widths apart"


def test_a_narrow_sample_without_labels_is_mirrored_at_its_edges(tmp_path):
    wide, narrow = spot_folder(tmp_path / "wide", 8.0), spot_folder(tmp_path / "narrow", 5.0)
    data = datasets.load([wide], RINGS, 32, 5.0, unlabelled=[narrow])
    assert data.view == pytest.approx(5.0 / 8.0, abs=0.03), "the others keep their margin"
    one, other = (plain_view(data.batch(np.array([row]))[0], data.view, 32) for row in (0, 4))
    assert float((one - other).abs().max()) < 0.03
    images = data.images[np.array([4])][0]
    edge = (images.shape[-1] - 32) // 2
    np.testing.assert_array_equal(images[:, edge - 1], images[:, edge])


def test_listed_galaxies_are_left_out_of_all_samples(tmp_path):
    zoo = kaggle_folder(tmp_path / "galaxyzoo_kaggle", n=6)
    hart = kaggle_folder(tmp_path / "hart", n=4, seed=1)
    pd.DataFrame({"GalaxyID": [1000], "challenge_GalaxyID": [1005]}).to_csv(
        hart / "twins_in_challenge.csv", index=False
    )
    table = tmp_path / "exclude.csv"
    pd.DataFrame({"sample": ["hart", "hart"], "item": ["1000", "1003"]}).to_csv(table, index=False)
    whole, less = (datasets.load([zoo, hart], ZOO, 32, 5.12, exclude=tables) for tables in ((), (table,)))
    gone = {"galaxyzoo_kaggle:1005", "hart:1003"}
    assert set(whole.galaxies) - set(less.galaxies) == gone
    kept = [i for i, galaxy in enumerate(whole.galaxies) if galaxy not in gone]
    assert len(kept) == len(whole) - 3
    np.testing.assert_array_equal(less.images, whole.images[np.array(kept)])
    np.testing.assert_array_equal(less.fractions, whole.fractions[kept])
    np.testing.assert_array_equal(less.contents, whole.contents[kept])
    np.testing.assert_array_equal(less.source, whole.source[kept])
    (entry,) = less.excluded
    assert (entry["name"], entry["n"], len(entry["sha256"])) == ("exclude.csv", 3, 64)


def test_tables_of_galaxies_to_leave_out(tmp_path, caplog):
    path = tmp_path / "exclude.csv"
    for text, keys in (
        ("galaxy\nzoo:1\n", {"zoo:1"}),
        ("GalaxyID\n7\n", {"galaxyzoo_kaggle:7"}),
        ("sample,item,challenge_GalaxyID\nhart,3,7\nhart,4,\n", {"hart:3", "hart:4", "galaxyzoo_kaggle:7"}),
        ("hart_GalaxyID\n5\n", {"hart:5"}),
    ):
        path.write_text(text)
        assert excluded_keys(path) == keys
    path.write_text("name\na\n")
    with pytest.raises(SampleError, match="names no galaxies"):
        excluded_keys(path)
    with pytest.raises(SampleError, match=r"no file .*exclude.cs. Did you mean"):
        excluded_keys(tmp_path / "exclude.cs")
    path.write_text("")
    with pytest.raises(SampleError, match="cannot be read as CSV"):
        excluded_keys(path)
    path.write_text("galaxy\nother:1\n")
    datasets.load([kaggle_folder(tmp_path / "zoo", n=4)], ZOO, 32, 5.12, exclude=[path])
    assert "lists no galaxy of these samples" in caplog.text


@pytest.mark.real_data
def test_no_galaxy_of_the_published_list_is_left(shared):
    folder = shared / "data"
    table = pd.read_csv(folder / "published_test_twins.csv", dtype=str)
    listed = excluded_keys(folder / "published_test_twins.csv")
    counts = {}
    for name, path, schema in (
        ("galaxyzoo_kaggle", "galaxyzoo_kaggle", ZOO),
        ("galaxyzoo2_hart16", "galaxyzoo2_hart16", ZOO),
        ("galaxy10_sdss", "galaxy10_sdss/Galaxy10_SDSS_subset.h5", CLASSES),
        ("galaxyzoo_clean", "galaxyzoo_clean", CLEAN),
    ):
        counts[name] = sum(galaxy in listed for galaxy in read_sample(folder / path, schema).galaxies)
    of = table["sample"].value_counts()
    assert counts == {**{name: of[name] for name in ("galaxyzoo_kaggle", "galaxyzoo2_hart16", "galaxy10_sdss")},
                      "galaxyzoo_clean": 0}  # fmt: skip


@pytest.mark.real_data
def test_real_samples_share_the_keys_of_the_challenge(shared):
    folder = shared / "data"
    zoo = set(read_sample(folder / "galaxyzoo_kaggle", ZOO).galaxies)
    clean = set(read_sample(folder / "galaxyzoo_clean", CLEAN).galaxies)
    free = set(read_sample(f"{folder / 'galaxyzoo_unlabelled'}:width_r90=5.12", ZOO, labelled=False).galaxies)
    ten = set(read_sample(folder / "galaxy10_sdss" / "Galaxy10_SDSS_subset.h5", CLASSES).galaxies)
    assert len(zoo & clean) == 1676
    assert not free & (zoo | clean)
    assert all(galaxy.startswith("galaxyzoo_kaggle:") for galaxy in free | clean)
    assert len(ten & clean) > 300, "by way of the challenge's identifiers"
