"""Samples, splits, the cache of decoded pictures, augmentation."""

import dataclasses
import json
import shutil
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from made import galaxy10_file, kaggle_folder, labelled_folder
from PIL import Image

from galmorph import registry
from galmorph.errors import SampleError
from galmorph.images.framing import Framing
from galmorph.models.predictor import orientations
from galmorph.training import dataset
from galmorph.training.augmentation import Augmentation, plain_view
from galmorph.training.reading import read_sample
from galmorph.training.samples import sky_groups
from galmorph.training.split import Split

GZ2 = registry.load("schemas", "galaxyzoo2")
CLASSES = registry.load("schemas", "galaxy10_sdss")


def test_kaggle_layout(tmp_path):
    sample = read_sample(kaggle_folder(tmp_path / "zoo", n=4), GZ2)
    assert list(sample.galaxies) == ["zoo:1000", "zoo:1001", "zoo:1002", "zoo:1003"]
    assert sample.fractions[1, :3] == pytest.approx([0.9, 0.1, 0.0])
    assert np.isnan(sample.fractions[:, 3]).all(), "an empty cell is unknown, not 0"
    assert sample.image(2).shape == (64, 64, 3)
    assert sample.framing == Framing(radii=8.48)


def test_same_galaxies_share_a_key(tmp_path):
    folder = kaggle_folder(tmp_path / "hart", n=4)
    pd.DataFrame({"GalaxyID": [1001], "zoo_GalaxyID": [77]}).to_csv(folder / "same_galaxies.csv", index=False)
    assert list(read_sample(folder, GZ2).galaxies) == ["hart:1000", "zoo:77", "hart:1002", "hart:1003"]


def test_galaxy10_layout(tmp_path):
    sample = read_sample(galaxy10_file(tmp_path / "g.h5", n=6), CLASSES)
    assert list(sample.fractions.argmax(axis=1)) == [0, 3, 9, 0, 3, 9]
    assert sample.framing == Framing(radii=4.14)


def test_galaxy10_of_decals_has_a_fixed_width(tmp_path):
    import h5py

    with h5py.File(galaxy10_file(tmp_path / "g.h5", n=4), "a") as file:
        file["pxscale"] = [0.262] * 4
    assert read_sample(tmp_path / "g.h5", CLASSES).framing == Framing(size_arcsec=64 * 0.262)


@pytest.mark.real_data
def test_galaxy10_of_sdss_is_framed_as_its_sample_says(shared):
    """Against Galaxy Zoo's pictures of the same galaxies, 8.48 radii wide."""
    folder = shared / "data"
    sample = read_sample(folder / "galaxy10_sdss" / "Galaxy10_SDSS_subset.h5", CLASSES)
    same = pd.read_csv(folder / "galaxy10_sdss" / "same_galaxies.csv").head(30)
    alike = {}
    for radii in (3.8, sample.framing.radii, 4.5):
        edge = 212 * (1 - radii / 8.48)
        box = (edge, edge, 424 - edge, 424 - edge)
        pairs = []
        for row, galaxy in zip(same["row"], same["galaxyzoo_kaggle_GalaxyID"], strict=True):
            with Image.open(folder / "galaxyzoo_kaggle" / "images_training_rev1" / f"{galaxy}.jpg") as picture:
                whole = np.asarray(picture.resize((69, 69), Image.Resampling.BILINEAR, box), float)
            pairs.append(np.corrcoef(whole.ravel(), sample.image(row).ravel())[0, 1])
        alike[radii] = np.median(pairs)
    assert max(alike, key=alike.get) == sample.framing.radii
    assert alike[sample.framing.radii] > 0.99


def test_galaxy10_rows_whose_pictures_overlap_share_a_key(tmp_path):
    import h5py

    with h5py.File(galaxy10_file(tmp_path / "g.h5", n=4), "a") as file:
        file["ra"], file["dec"] = [10.0, 20.0, 10.0, 10.0], [-1.0, 2.0, -1.0, -1.0 + 90 / 3600]
    galaxies = read_sample(tmp_path / "g.h5", CLASSES).galaxies
    assert galaxies[0] == galaxies[2] == galaxies[3] != galaxies[1]


def test_folder_with_labels(tmp_path):
    folder = kaggle_folder(tmp_path / "rings", n=2)
    (folder / "training_solutions_rev1.csv").unlink()
    names = [f"images_training_rev1/{i}.jpg" for i in (1000, 1001)]
    column = "smooth-or-featured_featured-or-disk_fraction"
    pd.DataFrame({"file": names, "label": [1, 0], column: [0.7, 0.6]}).to_csv(folder / "labels.csv", index=False)
    sample = read_sample(folder, GZ2)
    assert sample.fractions[:, 1] == pytest.approx([0.7, 0.6])
    assert np.isfinite(sample.fractions).sum() == 2


def test_efigi_gives_classes_and_strengths_and_leaves_undefined_ones_unknown(tmp_path):
    names = {"PGC_name": list("abcd"), "Bulge_to_Total": [0, 0.25, 1, -1], "Arm_Rotation": [1, 0, 0, -1]}
    folder = labelled_folder(tmp_path / "efigi", label=[0, 3, 6, 1], **names)
    schema = registry.load("schemas", "efigi")
    sample = read_sample(folder, schema)
    assert list(sample.fractions[:, :7].argmax(axis=1)) == [0, 3, 6, 1]
    assert sample.fractions[:, :7].sum(axis=1) == pytest.approx(1)
    strong, weak = (schema.labels.index(f"bulge_to_total_{answer}") for answer in ("strong", "weak"))
    assert sample.fractions[:, strong] == pytest.approx([0, 0.25, 1, np.nan], nan_ok=True)
    assert sample.fractions[:, weak] == pytest.approx([1, 0.75, 0, np.nan], nan_ok=True)
    assert np.isfinite(sample.fractions).sum() == 4 * 7 + 3 * 2, "no other column is read"
    # Galaxies fill these pictures: they are framed whole, however wide the frame is meant to be.
    decoded = dataset.load([folder], schema, 32, 5.12)
    assert (decoded.view, decoded.framing) == (1.0, sample.framing)


@pytest.mark.parametrize("order", [1, -1])
def test_which_layout_a_folder_has_does_not_follow_from_the_names_of_files(tmp_path, monkeypatch, order):
    names = registry.names
    monkeypatch.setattr(registry, "names", lambda folder: names(folder)[::order])
    columns = {"PGC_name": list("abcd"), "Bulge_to_Total": 0, "Class1.1": 0.9}
    efigi = labelled_folder(tmp_path / "efigi", **columns)
    assert read_sample(efigi, GZ2).framing == Framing(radii=3.5), "labels.csv with EFIGI's columns is EFIGI's"
    both = labelled_folder(tmp_path / "both", **{"Class1.1": 0.9})
    kaggle_folder(tmp_path / "kaggle", n=4)
    shutil.copy(tmp_path / "kaggle" / "training_solutions_rev1.csv", both)
    assert read_sample(both, GZ2).fractions[0, 0] == pytest.approx(0.1), "Kaggle's table comes before labels.csv"
    shutil.copy(tmp_path / "kaggle" / "training_solutions_rev1.csv", efigi)
    with pytest.raises(SampleError, match=r"several layouts: (?=.*efigi: )(?=.*kaggle: )"):
        read_sample(efigi, GZ2)


def test_class_numbers_of_a_folder(tmp_path):
    rings = registry.load("schemas", "rings")
    sample = read_sample(labelled_folder(tmp_path / "a", label=[1, 0, 0, 1]), rings)
    assert list(sample.fractions[:, rings.labels.index("ring")]) == [1, 0, 0, 1]
    with pytest.raises(SampleError, match="'label' holds more than the classes 0 to 1"):
        read_sample(labelled_folder(tmp_path / "b", label=[1, 0, 2, 1]), rings)


def test_framing_of_samples(tmp_path):
    folder = kaggle_folder(tmp_path / "zoo", n=4)
    narrow = dataset.load([folder], GZ2, 32, 5.12).framing
    assert narrow.radii == pytest.approx(5.12)
    assert dataset.load([folder], GZ2, 32, 20.0).framing == Framing(radii=8.48), "no more than the pictures show"
    assert dataset.load([folder], GZ2, 32, 0.0).framing == Framing(radii=8.48), "for a model framed by angle"
    efigi = labelled_folder(tmp_path / "efigi", **{"PGC_name": list("abcd"), "Bulge_to_Total": 0, "Class1.1": 1.0})
    for order in ([folder, efigi], [efigi, folder]):
        assert dataset.load(order, GZ2, 32, 5.12).framing == Framing(radii=3.5), "joined at the smallest"
    with pytest.raises(SampleError, match="framed differently"):
        dataset.load([folder, f"{efigi}:width_arcsec=67"], GZ2, 32, 5.12)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "images_training_rev1" / "1001.jpg").unlink(), "1 of 4 pictures .* missing"),
        (
            lambda folder: (folder / "training_solutions_rev1.csv").unlink(),
            "the folder images_training_rev1 is no label of the schema 'galaxyzoo2'.*labels.csv",
        ),
        (
            lambda folder: [file.unlink() for file in (*folder.glob("*.csv"), *folder.glob("*/*.jpg"))],
            "no layout of labelled data. Layouts: catalog: .*; efigi: .*; galaxy10",
        ),
        (lambda folder: (folder / "training_solutions_rev1.csv").write_text("GalaxyID,Class1.1\n"), "no galaxies"),
        (lambda folder: (folder / "training_solutions_rev1.csv").write_text("id,Class1.1\n3,0.5\n"), "GalaxyID"),
        (lambda folder: (folder / "training_solutions_rev1.csv").write_text("GalaxyID,z\n1000,0.5\n"), "No column"),
    ],
)
def test_unusable_samples_get_a_clear_error(tmp_path, spoil, message):
    folder = kaggle_folder(tmp_path / "zoo", n=4)
    spoil(folder)
    with pytest.raises(SampleError, match=message):
        read_sample(folder, GZ2)


def test_missing_data_and_wrong_schema(tmp_path):
    with pytest.raises(SampleError, match="There is no file"):
        read_sample(tmp_path / "none", GZ2)
    with pytest.raises(SampleError, match="do not fit the schema 'galaxyzoo2'"):
        read_sample(galaxy10_file(tmp_path / "g.h5", n=3), GZ2)


def test_unreadable_picture_is_named(tmp_path):
    folder = kaggle_folder(tmp_path / "zoo", n=4)
    (folder / "images_training_rev1" / "1002.jpg").write_bytes(b"<html>")
    with pytest.raises(SampleError, match=r"zoo:1002 cannot be decoded"):
        dataset.load([folder], GZ2, 32, 5.12)
    assert not list((folder / "cache").glob("*.npy"))


def test_pictures_are_decoded_once(tmp_path, cache):
    folder = kaggle_folder(tmp_path / "zoo", n=4)
    first = dataset.load([folder], GZ2, 32, 5.12)
    (file,) = cache.glob("*.npy")
    before = file.stat().st_mtime_ns
    second = dataset.load([folder], GZ2, 32, 5.12)
    assert file.stat().st_mtime_ns == before
    assert np.array_equal(first.images, second.images)
    assert first.view == pytest.approx(5.12 / 8.48, abs=0.02)
    assert plain_view(first.batch(np.arange(2))[0], first.view, 32).shape == (2, 3, 32, 32)


def test_plain_view_is_the_middle(tmp_path):
    data = dataset.load([kaggle_folder(tmp_path / "zoo", n=2)], GZ2, 32, 5.12)
    images, _ = data.batch(np.arange(2))
    margin = (images.shape[-1] - 32) // 2
    expected = images[..., margin : margin + 32, margin : margin + 32].float() / 255
    torch.testing.assert_close(plain_view(images, data.view, 32), expected, atol=1e-4, rtol=0)


def test_samples_are_joined(tmp_path):
    folders = [kaggle_folder(tmp_path / name, n=n) for name, n in (("a", 4), ("b", 3))]
    data = dataset.load(folders, GZ2, 32, 5.12)
    assert len(data) == 7
    assert list(data.source) == ["a"] * 4 + ["b"] * 3
    assert set(data.sha256) == {"a", "b"}


def test_some_questions_of_a_sample(tmp_path):
    folder = kaggle_folder(tmp_path / "zoo", n=4)
    whole, some = (read_sample(path, GZ2) for path in (folder, f"{folder}:how_rounded"))
    known = np.isfinite(some.fractions).any(axis=0)
    assert [GZ2.labels[i] for i in np.flatnonzero(known)] == [
        f"how_rounded_{a}" for a in ("round", "in_between", "cigar")
    ]
    assert some.sha256 == whole.sha256
    with pytest.raises(SampleError, match="Did you mean 'how_rounded'"):
        read_sample(f"{folder}:how_round", GZ2)


def test_split_is_a_pure_function_of_galaxy_and_seed():
    galaxies = [f"zoo:{i}" for i in range(5000)]
    parts = Split(seed=3).parts(galaxies)
    assert np.array_equal(parts[::-1], Split(seed=3).parts(galaxies[::-1]))
    assert not np.array_equal(parts, Split(seed=4).parts(galaxies))
    shares = {part: count / 5000 for part, count in Counter(parts).items()}
    assert shares == pytest.approx({"train": 0.8, "val": 0.08, "test": 0.12}, abs=0.02)


def test_split_of_votes_is_what_it_always_was():
    parts = Split(seed=0).parts([f"galaxyzoo_kaggle:{i}" for i in range(100_008, 100_040)])
    assert "".join(part[1] for part in parts) == "rrrrrrerrrrraaeearrrrrrrrrrrrarr"


def by_class(counts, seed=0, **shares):
    """Classes of made-up galaxies, their keys, and the split fitted to them."""
    classes = np.repeat(np.arange(len(counts)), counts)
    galaxies = [f"g:{i}" for i in range(len(classes))]
    return classes, galaxies, Split(seed, by_class=True, **shares).fitted(galaxies, classes, len(counts))


@pytest.mark.parametrize("seed", range(5))
def test_every_part_has_its_share_of_every_class(seed):
    classes, galaxies, split = by_class((1000, 27, 3, 2, 1, 0), seed)
    counts = Counter(zip(classes.tolist(), split.parts(galaxies, classes).tolist(), strict=True))
    shares = {c: tuple(counts[c, part] for part in ("train", "val", "test")) for c in range(6)}
    expected = {0: (800, 80, 120), 1: (22, 2, 3), 2: (1, 1, 1), 3: (1, 0, 1), 4: (1, 0, 0), 5: (0, 0, 0)}
    assert shares == expected


def test_edges_make_a_split_by_class_a_pure_function_again():
    classes, galaxies, split = by_class((60, 40))
    whole = split.parts(galaxies, classes)
    again = Split.from_card(json.loads(json.dumps(split.card())))
    some = np.arange(0, 100, 7)
    assert np.array_equal(again.parts([galaxies[i] for i in some], classes[some]), whole[some])
    assert again.card() == split.card()
    other = by_class((60, 40), seed=1)
    assert not np.array_equal(other[2].parts(galaxies, classes), whole)


def test_pictures_of_a_galaxy_stay_together_whatever_their_class():
    classes = np.array([0, 1, -1] * 40)
    galaxies = [f"g:{i // 3}" for i in range(120)]
    split = Split(by_class=True, val=0.3, test=0.3).fitted(galaxies, classes, 2)
    assert all(len(set(parts)) == 1 for parts in split.parts(galaxies, classes).reshape(-1, 3))
    assert set(split.parts(galaxies, np.full(120, -1))) == {"train", "val", "test"}, "unknown classes: the plain edges"


def test_a_part_that_is_not_wanted_stays_empty():
    classes, galaxies, split = by_class((30, 2), val=0.2, test=0.0)
    assert Counter(split.parts(galaxies, classes)) == {"train": 25, "val": 7}


def test_positions_closer_than_a_radius_are_one_group():
    ra = np.array([0.0, 359.99, 10.0, 0.02, np.nan, 10.0])
    dec = np.array([0.0, 0.0, 80.0, 0.0, 5.0, 80.02])
    assert list(sky_groups(ra, dec, 60.0)) == [0, 0, 2, 3, 4, 5]
    assert list(sky_groups(ra, dec, 73.0)) == [0, 0, 2, 0, 4, 2], "by way of a third"


def pictures(n=3, side=64):
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(n, 3, side, side, generator=generator) * 255).byte()


def test_augmentation_follows_its_generator():
    augment = Augmentation(grey=0.5, colour=0.2, noise=0.1, blur=2)
    one, two, other = (augment(pictures(), 0.6, 32, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert one.shape == (3, 3, 32, 32)
    assert one.min() >= 0
    assert one.max() <= 1


NOTHING = Augmentation(rotate=False, reflect=False, shift=0, zoom=0)


@pytest.mark.parametrize("change", ["rotate", "reflect", "shift", "zoom", "grey", "colour", "noise", "blur"])
def test_each_augmentation_can_be_switched(change):
    plain = NOTHING(pictures(16), 0.6, 32, torch.Generator().manual_seed(1))
    value = {"rotate": True, "reflect": True, "blur": 3.0}.get(change, 0.5)
    augmented = dataclasses.replace(NOTHING, **{change: value})
    assert not torch.allclose(plain, augmented(pictures(16), 0.6, 32, torch.Generator().manual_seed(1)))


def test_reflection_is_a_mirror_image():
    mirror = dataclasses.replace(NOTHING, reflect=True)(pictures(32), 0.5, 32, torch.Generator().manual_seed(1))
    plain = NOTHING(pictures(32), 0.5, 32, torch.Generator())
    same = [torch.allclose(m, p, atol=1e-4) for m, p in zip(mirror, plain, strict=True)]
    flipped = [torch.allclose(m, p.flip(-1), atol=1e-4) for m, p in zip(mirror, plain, strict=True)]
    assert all(a != b for a, b in zip(same, flipped, strict=True))
    assert 4 < sum(flipped) < 28


def test_eight_orientations_differ():
    views = list(orientations(torch.rand(1, 3, 8, 8), 8))
    assert len({tuple(view.flatten().tolist()) for view in views}) == 8
