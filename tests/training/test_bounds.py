"""Labels that are only bounded: what follows in the tree, what classes say of votes, what a violation costs."""

import shutil
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from made import kaggle_folder, labelled_folder, model_file

from galmorph import registry
from galmorph.errors import SampleError
from galmorph.models.model import load, probabilities
from galmorph.models.predictor import Predictor
from galmorph.training import dataset as datasets
from galmorph.training.bounds import propagate
from galmorph.training.config import configure
from galmorph.training.distillation import soft_targets
from galmorph.training.evaluation.calibration import calibrate
from galmorph.training.evaluation.evaluate import evaluate
from galmorph.training.evaluation.predicting import predict
from galmorph.training.losses import BoundedLoss, binary_divergence, clip, cross_entropy, mse, violations
from galmorph.training.reading import read_sample
from galmorph.training.train import train

ZOO = registry.load("schemas", "galaxyzoo2")
CLEAN = registry.load("schemas", "galaxyzoo2_clean")
NAN = float("nan")


def bounds(**least):
    """What follows in the Galaxy Zoo tree from least fractions: label to (lower, upper)."""
    lower = np.full((1, 37), np.nan)
    for label, value in least.items():
        lower[0, ZOO.labels.index(label)] = value
    low, high = propagate(ZOO, lower, np.full_like(lower, np.nan))
    return {label: (low[0, i], high[0, i]) for i, label in enumerate(ZOO.labels)}


def near(low, high):
    return pytest.approx((low, high), abs=1e-6, nan_ok=True)


def test_a_childs_least_fraction_bounds_its_parents_and_their_siblings():
    known = bounds(disk_edge_on_no=0.715, has_spiral_arms_yes=0.619)
    assert known["has_spiral_arms_yes"] == near(0.619, NAN)
    assert known["has_spiral_arms_no"] == near(NAN, 1 - 0.619)
    assert known["disk_edge_on_no"] == near(0.715, NAN)
    assert known["smooth_or_featured_featured_or_disk"] == near(0.715, NAN), "the parent has at least as much"
    for label in ("disk_edge_on_yes", "smooth_or_featured_smooth", "smooth_or_featured_artifact", "how_rounded_round"):
        assert known[label] == near(NAN, 1 - 0.715), label
    assert known["something_odd_yes"] == near(NAN, NAN), "another root"


def test_a_parents_least_fraction_is_shared_by_its_answers():
    lower, upper = np.full((1, 37), np.nan), np.full((1, 37), np.nan)
    lower[0, ZOO.labels.index("smooth_or_featured_smooth")] = 0.9
    upper[0, [ZOO.labels.index(f"how_rounded_{answer}") for answer in ("round", "in_between")]] = 0.2
    low, _ = propagate(ZOO, lower, upper)
    assert low[0, ZOO.labels.index("how_rounded_cigar")] == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(3))
def test_bounds_hold_for_every_galaxy_whose_votes_obey_the_given_ones(seed):
    votes = probabilities(ZOO, 3 * torch.randn(400, 37, generator=torch.Generator().manual_seed(seed))).numpy()
    picked = np.random.default_rng(seed).random(votes.shape) < 0.1
    low, high = propagate(ZOO, np.where(picked, 0.9 * votes, np.nan), np.where(picked, votes + 0.05, np.nan))
    assert (np.isfinite(low) & ~picked).any(), "something follows"
    assert not (votes < low - 1e-5).any()
    assert not (votes > high + 1e-5).any()


def clean_folder(path, labels, **columns):
    return labelled_folder(path, label=labels, **columns)


def test_classes_are_bounds_on_votes(tmp_path):
    folder = clean_folder(tmp_path / "clean", [0, 2, 3, 4])
    sample = read_sample(f"{folder}:labels=galaxyzoo2_clean", ZOO)
    assert np.isnan(sample.fractions).all()
    labels = ("how_rounded_round", "how_rounded_cigar", "disk_edge_on_yes", "has_spiral_arms_yes")
    lower = sample.lower[:, [ZOO.labels.index(label) for label in labels]]
    np.testing.assert_allclose(lower, np.where(np.eye(4) > 0, [0.5, 0.5, 0.602, 0.619], np.nan), rtol=1e-6)
    data = datasets.load([kaggle_folder(tmp_path / "zoo", n=3), f"{folder}:labels=galaxyzoo2_clean"], ZOO, 32, 5.12)
    assert data.lower.isnan()[:3].all()
    np.testing.assert_array_equal(data.lower[3:], sample.lower)
    np.testing.assert_array_equal(data.upper[3:], sample.upper)


def test_a_bounded_galaxy_is_learnt_with_the_votes_of_its_twin(tmp_path):
    zoo = kaggle_folder(tmp_path / "zoo", n=3, seed=1)
    table = pd.read_csv(zoo / "training_solutions_rev1.csv")
    table.loc[1, ["Class7.1", "Class7.2"]] = 0.3, 0.6  # less than its class allows
    table.to_csv(zoo / "training_solutions_rev1.csv", index=False)
    folder = clean_folder(tmp_path / "clean", [0, 2, 3, 4])
    pd.DataFrame({"file": ["images_training_rev1/1000.jpg"], "zoo_id": ["1001"]}).to_csv(
        folder / "same_galaxies.csv", index=False
    )
    data = datasets.load([zoo, f"{folder}:labels=galaxyzoo2_clean"], ZOO, 32, 5.12)
    twin = int(np.flatnonzero(data.source == "clean")[0])
    assert data.galaxies[twin] == data.galaxies[1]
    assert data.fractions[3:].isnan().all()
    filled = data.fractions_of_twins()
    round_shape = ZOO.labels.index("how_rounded_round")
    assert filled[twin, round_shape] == 0.5, "moved into the bounds"
    torch.testing.assert_close(filled[twin, :2], data.fractions[1, :2])
    assert filled[4:].isnan().all(), "no twin of these has votes"


def test_the_same_picture_in_two_samples_is_one_galaxy(tmp_path):
    zoo, folder = kaggle_folder(tmp_path / "zoo", n=3, seed=1), clean_folder(tmp_path / "clean", [0, 2, 3, 4])
    shutil.copy(zoo / "images_training_rev1/1001.jpg", folder / "images_training_rev1/1003.jpg")
    galaxies = datasets.load([zoo, f"{folder}:labels=galaxyzoo2_clean"], ZOO, 32, 5.12).galaxies
    assert galaxies[6] == galaxies[1]
    assert len(set(galaxies)) == 6


def test_classes_follow_from_votes(tmp_path):
    folder = kaggle_folder(tmp_path / "zoo", n=4)
    table = pd.read_csv(folder / "training_solutions_rev1.csv")
    table.loc[0, ["Class7.1", "Class7.2"]] = 0.55, 0.1
    table.loc[1, "Class2.1"] = 0.602
    table.loc[2, "Class2.2"] = 0.8  # nothing is known of its spiral arms
    table.to_csv(folder / "training_solutions_rev1.csv", index=False)
    sample = read_sample(f"{folder}:labels=galaxyzoo2", CLEAN)
    assert list(sample.galaxies) == ["zoo:1000", "zoo:1001"]
    assert list(sample.fractions.argmax(axis=1)) == [0, 3]
    assert len(sample.skipped) == 2


def test_labels_of_a_schema_that_says_nothing_are_refused(tmp_path):
    folder = clean_folder(tmp_path / "clean", [0, 1, 0, 1])
    with pytest.raises(SampleError, match=r"'rings' say nothing of those of 'galaxyzoo2'.*galaxyzoo2_clean"):
        read_sample(f"{folder}:labels=rings", ZOO)


def test_a_name_of_an_answer_is_a_majority_for_it(tmp_path):
    sample = read_sample(clean_folder(tmp_path / "stars", ["artifact", "artifact", "", "Class7.1"]), ZOO)
    artifact, smooth = (ZOO.labels.index(f"smooth_or_featured_{answer}") for answer in ("artifact", "smooth"))
    assert sample.lower[:, artifact] == pytest.approx([0.5, 0.5, NAN, NAN], nan_ok=True)
    assert sample.upper[:, smooth] == pytest.approx([0.5, 0.5, NAN, NAN], nan_ok=True)
    assert sample.lower[3, ZOO.labels.index("how_rounded_round")] == 0.5
    with pytest.raises(SampleError, match=r"labels.csv: star is no label of the schema 'galaxyzoo2'"):
        read_sample(clean_folder(tmp_path / "other", ["artifact", "star", "", ""]), ZOO)
    with pytest.raises(SampleError, match="round is no label"):  # two questions have this answer
        read_sample(clean_folder(tmp_path / "twice", ["round"] * 4), ZOO)


def test_violations_cost_and_nothing_else_does():
    predicted = torch.tensor([[0.3, 0.5, 0.9]], requires_grad=True)
    lower, upper = torch.tensor([[0.5, 0.4, NAN]]), torch.tensor([[NAN, 0.6, 0.8]])
    torch.testing.assert_close(violations(predicted, lower, upper).square(), torch.tensor([[0.04, 0.0, 0.01]]))
    divergence = binary_divergence(predicted, lower, upper)
    assert (divergence > 0).tolist() == [[True, False, True]]
    divergence.sum().backward()
    assert predicted.grad[0, 0] < 0 < predicted.grad[0, 2]
    assert predicted.grad[0, 1] == 0
    torch.testing.assert_close(clip(predicted, lower, upper), torch.tensor([[0.5, 0.5, 0.8]]))


@pytest.mark.parametrize(("loss", "squares"), [(mse, True), (cross_entropy, False)])
def test_a_loss_with_bounds(loss, squares):
    generator = torch.Generator().manual_seed(0)
    logits, votes = torch.randn(2, 4, 37, generator=generator).unbind()
    fractions = probabilities(ZOO, votes)
    bounded = BoundedLoss(loss, squares)
    alone = loss(ZOO, logits, fractions)
    torch.testing.assert_close(bounded(ZOO, logits, fractions), alone)
    predicted = probabilities(ZOO, logits)
    none = torch.full_like(fractions, NAN)
    if not squares:
        torch.testing.assert_close(bounded(ZOO, logits, fractions, None, None, predicted - 0.1, none), alone)
    # What is bounded to what it is exactly counts in squares as if it were known.
    if squares:
        torch.testing.assert_close(bounded(ZOO, logits, none, None, None, fractions, fractions), alone)
    violated = bounded(ZOO, logits, fractions, None, None, (predicted + 0.2).clamp(max=1), none)
    held = bounded(ZOO, logits, fractions, None, None, predicted - 0.1, none)
    assert violated > held
    weighted = bounded(ZOO, logits, none, torch.tensor([1.0, 0, 0, 0]), None, (predicted + 0.2).clamp(max=1), none)
    assert 0 < weighted < bounded(ZOO, logits, none, None, None, (predicted + 0.2).clamp(max=1), none)


def test_a_teachers_word_is_moved_into_the_bounds(tmp_path):
    folder = f"{clean_folder(tmp_path / 'clean', [0, 2, 3, 4])}:labels=galaxyzoo2_clean"
    data = datasets.load([folder], ZOO, 64, 5.12)
    on = ({"name": "clean", "sha256": data.sha256["clean"]},)
    split = configure("default", ["x"], "galaxyzoo2", "mobilenet").split
    teacher = load(model_file(tmp_path / "teacher.safetensors", trained_on=on, split=split.card()))
    rows = np.arange(4)
    said = torch.from_numpy(predict(Predictor(teacher, "cpu", "float32", 4), data, rows))
    at_size = partial(datasets.load, [folder], ZOO, radii=5.12)
    got = soft_targets(data, ZOO, [teacher], 0.5, split, rows, at_size, "cpu", "float32")
    assert not torch.allclose(got, said)
    torch.testing.assert_close(got, clip(said, data.lower, data.upper))


def test_training_with_bounds_moves_predictions_into_them(tmp_path):
    """Known fractions alone say nothing of question 2; the bounds do."""
    zoo = kaggle_folder(tmp_path / "zoo", n=40)
    folder = kaggle_folder(tmp_path / "clean", n=40, seed=1)
    table = pd.read_csv(folder / "training_solutions_rev1.csv")
    (folder / "training_solutions_rev1.csv").unlink()
    files = "images_training_rev1/" + table["GalaxyID"].astype(str) + ".jpg"
    pd.DataFrame({"file": files, "label": 3}).to_csv(folder / "labels.csv", index=False)
    data = (str(zoo), f"{folder}:labels=galaxyzoo2_clean")
    options = {"pretrained": "none", "input_size": 32, "epochs": 6, "lr": 2e-3, "device": "cpu", "dtype": "float32"}
    edge_on = {}
    for weight in (0.0, 4.0):
        settings = ["ema=0.5", f"bound_weight={weight}", "split.val=0.2", "split.test=0.2", "warmup_epochs=0"]
        config = configure("default", data, "galaxyzoo2", "mobilenet_v1", settings, **options)
        metrics = train(config, tmp_path / f"run{weight}")
        model = load(tmp_path / f"run{weight}")
        pictures = datasets.load(data, ZOO, 32, 5.12)
        predicted = predict(Predictor(model, "cpu", "float32"), pictures, np.arange(40, 80))
        edge_on[weight] = predicted[:, ZOO.labels.index("disk_edge_on_yes")].mean()
        assert set(metrics["test"]) == {"zoo"}, "scores ignore bounds"
    assert edge_on[4.0] > edge_on[0.0] + 0.05


def test_unlikeness_is_fitted_without_what_is_no_galaxy(tmp_path):
    zoo = kaggle_folder(tmp_path / "zoo", n=30)
    stars = clean_folder(tmp_path / "stars", ["artifact", "artifact", "artifact", "smooth_or_featured_smooth"])
    table = pd.read_csv(zoo / "training_solutions_rev1.csv")
    table.loc[[4, 5], ["Class1.1", "Class1.2", "Class1.3"]] = 0.2, 0.1, 0.7
    table.to_csv(zoo / "training_solutions_rev1.csv", index=False)
    data = datasets.load([zoo, stars], ZOO, 64, 5.12, unlabelled=[kaggle_folder(tmp_path / "free", n=9)])
    model = load(model_file(tmp_path / "m.safetensors"))
    rows = np.arange(len(data))
    found = calibrate(model, data, rows[:15], rows[15:], "cpu").card.calibration["unlikeness"]
    assert (found["n_train"], found["n_val"]) == (15 - 2, 15 + 1)


def test_scores_count_galaxies_with_exact_labels(tmp_path):
    zoo = kaggle_folder(tmp_path / "zoo", n=6)
    clean = clean_folder(tmp_path / "clean", [0, 1, 0, 1])
    model = load(model_file(tmp_path / "m.safetensors"))
    both = [zoo, f"{clean}:labels=galaxyzoo2_clean"]
    scores = [evaluate(model, data, part="all", device="cpu", dtype="float32") for data in (both[:1], both)]
    assert [one["n"] for one in scores] == [6, 6]
    assert scores[0]["rmse"] == pytest.approx(scores[1]["rmse"])


def test_bounds_alone_cannot_be_validated(tmp_path):
    folder = clean_folder(tmp_path / "clean", [0, 1, 0, 1])
    settings = ["split.val=0.6", "split.test=0"]
    data = (f"{folder}:labels=galaxyzoo2_clean",)
    config = configure("default", data, "galaxyzoo2", "mobilenet_v1", settings, pretrained="none", input_size=32)
    with pytest.raises(SampleError, match="No label of the validation part is known exactly"):
        train(config, tmp_path / "run")


@pytest.mark.real_data
def test_classes_of_the_clean_sample_are_what_the_votes_say(shared):
    folder = shared / "data"
    clean = read_sample(f"{folder / 'galaxyzoo_clean'}:width_r90=6.4", CLEAN)
    votes = read_sample(folder / "galaxyzoo_kaggle", ZOO)
    bounded = read_sample(f"{folder / 'galaxyzoo_clean'}:labels=galaxyzoo2_clean,width_r90=6.4", ZOO)
    assert np.bincount(clean.fractions.argmax(axis=1)).tolist() == [7302, 6947, 458, 3072, 6755]
    row = {galaxy: i for i, galaxy in enumerate(votes.galaxies)}
    pairs = [(i, row[galaxy]) for i, galaxy in enumerate(bounded.galaxies) if galaxy in row]
    assert len(pairs) == 1676
    ours, theirs = np.array(pairs).T
    fractions = votes.fractions[theirs]
    assert not (fractions < bounded.lower[ours] - 1e-3).any()
    assert not (fractions > bounded.upper[ours] + 1e-3).any()


@pytest.mark.real_data
def test_artifacts_say_that_they_are_no_galaxies(shared):
    sample = read_sample(f"{shared / 'data' / 'galaxyzoo2_artifacts'}:width_r90=6.4", ZOO)
    assert len(sample) == 400
    assert (sample.lower[:, ZOO.labels.index(ZOO.artifact)] == 0.5).all()
