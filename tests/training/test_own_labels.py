"""Own labels: a folder a class, tables in every format, the schema that follows from them or that a file states."""

import dataclasses
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made import blob, cutout_folder, labelled_folder, model_file, table
from PIL import Image

import galmorph
from galmorph import registry
from galmorph.classification.classify import classify
from galmorph.classification.results import read_results
from galmorph.errors import GalmorphError, ModelError, SampleError
from galmorph.models.card import ModelCard, read_card
from galmorph.models.model import load
from galmorph.reports.training import assess
from galmorph.schemas import read_schema, schema_from_mapping
from galmorph.training import dataset
from galmorph.training.config import config_for, configure
from galmorph.training.evaluation.evaluate import evaluate
from galmorph.training.reading import infer_schema, read_sample, schema_named
from galmorph.training.split import Split
from galmorph.training.train import train

RINGS = registry.load("schemas", "rings")
BARS = """
reference = "our classification of 2026"

[[questions]]
name = "bar"
answers = ["yes", "no"]
words = ["barred", "unbarred"]

[[questions]]
name = "strength"
answers = ["strong", "weak"]
asked_after = "bar_yes"
"""


def class_folder(path, kind, n=4, seed=0):
    """A folder of pictures of one kind of galaxy."""
    path.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed + 100 * kind)
    for i in range(n):
        Image.fromarray(blob(kind, rng)).save(path / f"{i}.png")
    return path


def classes_of(paths, schema=None):
    """The schema of samples, and the class of each galaxy by name."""
    schema = schema or infer_schema(paths)
    fractions = np.concatenate([read_sample(path, schema).fractions for path in paths])
    return schema, [schema.labels[c] if c >= 0 else "" for c in schema.classes(fractions)]


def test_a_folder_a_class(tmp_path):
    paths = [class_folder(tmp_path / "Spiral Galaxies", 1, 2), class_folder(tmp_path / "ellipticals", 0, 3)]
    schema, found = classes_of(paths)
    assert (schema.name, schema.labels) == ("classes", ("ellipticals", "spiral_galaxies"))
    assert found == ["spiral_galaxies"] * 2 + ["ellipticals"] * 3
    assert schema.codes == ("ellipticals", "Spiral Galaxies")


def test_one_folder_of_class_folders(tmp_path):
    for name, kind in (("spiral", 1), ("elliptical", 0), (".hidden", 0)):
        class_folder(tmp_path / "own" / name, kind, 2)
    (tmp_path / "own" / "notes").mkdir()
    (tmp_path / "own" / "README.txt").write_text("mine")
    schema, found = classes_of([tmp_path / "own"])
    assert (schema.name, found) == ("own", ["elliptical", "elliptical", "spiral", "spiral"])
    sample = read_sample(tmp_path / "own", schema)
    assert list(sample.galaxies)[:2] == ["own:elliptical/0.png", "own:elliptical/1.png"]
    assert sample.image(2).shape == (64, 64, 3)
    data = dataset.load([tmp_path / "own"], schema, 64, 5.12)
    assert data.view == 1.0, "pictures are taken whole"


def test_class_folders_of_fits_cutouts_are_drawn_as_classify_draws_them(tmp_path):
    for name in ("spiral", "elliptical"):
        cutout_folder(tmp_path / "own" / name, n=2)
    schema, found = classes_of([tmp_path / "own"])
    assert found == ["elliptical", "elliptical", "spiral", "spiral"]
    sample = read_sample(tmp_path / "own", schema)
    frame = table(tmp_path / "t.csv", cutout=[f"own/elliptical/g{i}.fits" for i in range(2)], label=["elliptical"] * 2)
    np.testing.assert_array_equal(sample.image(1), read_sample(frame, schema).image(1))
    assert sample.framing == read_sample(frame, schema).framing


def test_folders_under_a_named_schema(tmp_path):
    paths = [class_folder(tmp_path / name, 0, 2) for name in ("ring", "No Ring")]
    assert classes_of(paths, RINGS)[1] == ["ring", "ring", "no_ring", "no_ring"]
    zoo = registry.load("schemas", "galaxyzoo2")
    stars = read_sample(class_folder(tmp_path / "artifact", 0, 2), zoo)
    assert stars.lower[:, zoo.labels.index("smooth_or_featured_artifact")].tolist() == [0.5, 0.5]
    with pytest.raises(SampleError, match=r"the folder cigars is none of the classes no_ring, ring"):
        read_sample(class_folder(tmp_path / "cigars", 1), RINGS)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("own/a", "own/b", "own"), "own holds pictures itself .* and folders of them .a.: move them"),
        (("own/train/a", "own/others/b"), "own/others holds folders of pictures: .*Only folders named train, val and"),
        (("own/train/a", "own/b"), "own/train holds folders of pictures: a folder of a class holds"),
        (("own/a/deep", "own/b"), "own/a holds folders of pictures: a folder of a class holds"),
        (("own",), "only the class 'own', and a model needs two or more.*--data .*own --data"),
        (("own/a-b", "own/a_b"), "the classes 'a-b' and 'a_b' would both be 'a_b'"),
        (("own/a", "own/星系"), "the class '星系' has no letters a-z or digits"),
    ],
)
def test_folders_that_are_not_clear(tmp_path, folders, message):
    for number, name in enumerate(folders):
        class_folder(tmp_path / name, number % 3, 1)
    with pytest.raises(SampleError, match=message):
        infer_schema([tmp_path / "own"])


def divided(path, parts, n=6):
    """Class folders that are divided into parts already; no two pictures are alike."""
    for seed, part in enumerate(parts):
        for kind, name in enumerate(("round", "thin")):
            class_folder(path / part / name, kind, n, seed)
    return path


@pytest.mark.parametrize(
    ("parts", "counts"),
    [
        (("train", "val", "test"), {"train": 12, "val": 12, "test": 12}),
        (("training", "Validation"), {"train": 12, "val": 12}),
        (("train", "test"), {"train": 10, "val": 2, "test": 12}),
    ],
)
def test_a_division_of_class_folders_is_kept(tmp_path, parts, counts):
    path = divided(tmp_path / "own", parts)
    schema, _ = classes_of([path])
    assert schema.labels == ("round", "thin")
    other = table(tmp_path / "t.csv", file=[f"own/{parts[0]}/thin/0.png"] * 40, label=["thin"] * 40, id=range(40))
    data = dataset.load([path, other], schema, 32, 5.12)
    classes = schema.classes(data.fractions.numpy())
    drawn = Split(seed=2, val=0.2, test=0.3)
    found = data.parts(drawn, classes)
    assert Counter(found[:-40]) == counts
    assert list(found[-40:]) == list(drawn.parts(list(data.galaxies[-40:]))), "other samples are divided as ever"
    for galaxy, part in zip(data.galaxies[:-40], found, strict=False):
        folder = galaxy.removeprefix("own:").split("/")[0]
        assert part[:3] == folder.lower()[:3] or (part, folder) == ("val", "train")


def test_a_run_on_divided_folders_says_so_and_is_scored_on_their_test_part(tmp_path, caplog):
    caplog.set_level("INFO")
    path = divided(tmp_path / "own", ("train", "valid", "test"))
    shutil.copy(path / "train" / "thin" / "0.png", path / "test" / "thin" / "0.png")
    options = {"pretrained": "none", "input_size": 32, "epochs": 1, "device": "cpu", "dtype": "float32"}
    metrics = train(configure("default", [path], None, "mobilenet_v1", **options), tmp_path / "run")
    assert "own is divided already, into train, val, test: that is kept." in caplog.text
    assert "1 picture to validate or test are among those to learn from too" in caplog.text
    assert {part: scores["own"]["n"] for part, scores in metrics.items()} == dict.fromkeys(metrics, 12)
    again = evaluate(load(tmp_path / "run"), [path], device="cpu", dtype="float32")
    assert (again["part"], again["n"], again["nll"]) == ("test", 12, metrics["test"]["own"]["nll"])


def test_python_takes_the_options_of_the_command(tmp_path, capsys):
    paths = [class_folder(tmp_path / name, kind, 8) for kind, name in enumerate(("round", "thin"))]
    given = {"backbone": "mobilenet_v1", "pretrained": "none", "input_size": 32, "epochs": 1, "dtype": "float32"}
    steps = []
    options = {"set": "mixup=0.2", "on_step": steps.append, "progress": True}
    scores = galmorph.train(paths, str(tmp_path / "run"), **options, **given)
    assert "training: 100%" in capsys.readouterr().err
    assert set(scores) == {"val", "test", "val_tta8", "test_tta8"}
    assert steps
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["schema"], config["mixup"], config["epochs"]) == ("classes", 0.2, 1)
    again = galmorph.evaluate(tmp_path / "run", paths, dtype="float32", out=str(tmp_path / "scores"))
    assert again["nll"] == scores["test"]["round, thin"]["nll"]
    assert galmorph.evaluate(str(tmp_path / "run"), paths[0], part="all")["n"] == 8

    same = config_for(paths, freeze=True, teacher="t", exclude="x.csv", seed=3, pretrained="galaxyzoo2-mobilenet_v2")
    assert (same.fine_tune, same.teachers, same.exclude, same.split.seed) == (False, ("t",), ("x.csv",), 3)
    assert same.pretrained.endswith("weights/galaxyzoo2-mobilenet_v2.safetensors")
    with pytest.raises(TypeError, match=r"There is no option 'epoch'. Did you mean 'epochs'"):
        galmorph.train(paths, tmp_path / "r", epoch=1)
    with pytest.raises(TypeError, match="the TrainConfig has all options"):
        galmorph.train(same, tmp_path / "r", epochs=1)
    with pytest.raises(ModelError, match="There is no model 'nothing'"):
        galmorph.train(paths, tmp_path / "r", pretrained="nothing")


@pytest.mark.parametrize("suffix", [".csv", ".fits", ".ecsv", ".vot", ".parquet"])
@pytest.mark.parametrize("column", ["cutout", "file", "file_loc"])
def test_a_table_of_any_format_with_a_label_column(tmp_path, suffix, column):
    class_folder(tmp_path / "pictures", 0, 4)
    files = [f"pictures/{i}.png" for i in range(4)]
    path = table(tmp_path / f"mine{suffix}", **{column: files}, label=["S0/a", "Spiral", "", "spiral"])
    schema, found = classes_of([path])
    assert (schema.name, schema.labels, found) == ("mine", ("s0_a", "spiral"), ["s0_a", "spiral", "spiral"])


@pytest.mark.parametrize(
    ("values", "labels", "found"),
    [
        ([1, 2, 10, -1], ("class_1", "class_2", "class_10"), [0, 1, 2, -1]),
        ([0.0, 1.0, np.nan, 1.0], ("class_0", "class_1"), [0, 1, -1, 1]),
        (["3", "7", "7", "--"], ("class_3", "class_7"), [0, 1, 1, -1]),
        ([True, False, True, True], ("class_0", "class_1"), [1, 0, 1, 1]),
    ],
)
def test_classes_by_number(tmp_path, values, labels, found):
    class_folder(tmp_path / "pictures", 0, 4)
    path = table(tmp_path / "mine.vot", file=[f"pictures/{i}.png" for i in range(4)], type_of=values)
    schema = infer_schema([f"{path}:label_column=type_of"])
    assert schema.labels == labels
    sample = read_sample(f"{path}:label_column=Type_Of", schema)
    assert schema.classes(sample.fractions).tolist() == [c for c in found if c >= 0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([-5, -2, 3, 4], "negative numbers .-5, -2, ....* and a negative class is unknown"),
        ([0.5, 1.25, 3, 4], "numbers with fractions .0.5."),
        (list(range(101)), "101 different values"),
        (["E+", "E-", "E+", "E-"], r"'E\+' and 'E-' would both be 'e'"),
        (["E"] * 4, "only the class 'E'"),
        ([""] * 4, "no class, and a model needs two or more"),
    ],
)
def test_columns_that_hold_no_classes(tmp_path, values, message):
    path = table(tmp_path / "mine.csv", file=["a.png"] * len(values), label=values)
    with pytest.raises(SampleError, match=message):
        infer_schema([path])


def test_without_a_column_of_labels_the_message_says_what_to_type(tmp_path):
    path = table(tmp_path / "my table.csv", file=["a.png"], hubble=["E"])
    with pytest.raises(SampleError, match=r"it has file, hubble.*--data '.*my table.csv:label_column=NAME'.*--schema"):
        infer_schema([path])
    with pytest.raises(SampleError, match=r"label_column: There is no column 'huble'. Did you mean 'hubble'"):
        infer_schema([f"{path}:label_column=huble"])
    with pytest.raises(SampleError, match="label_column is said of tables"):
        infer_schema([f"{class_folder(tmp_path / 'a', 0)}:label_column=x"])


def test_absolute_paths_are_allowed_where_they_are_said_to_be(tmp_path):
    files = [str(class_folder(tmp_path / "far", 0, 2) / f"{i}.png") for i in range(2)]
    (tmp_path / "near").mkdir()
    path = table(tmp_path / "near" / "mine.csv", file_loc=files, label=["a", "b"])
    schema = infer_schema([path])
    with pytest.raises(SampleError, match=rf"allow it with --data {path}:cutouts=/"):
        read_sample(path, schema)
    assert len(read_sample(f"{path}:cutouts=/", schema)) == 2


def test_a_catalog_and_labels_csv_accept_the_same_columns(tmp_path):
    folder = labelled_folder(tmp_path / "mine", label=["spiral", "elliptical", "spiral", "spiral"])
    frame = pd.read_csv(folder / "labels.csv")
    for name, columns in (
        ("as it is", {}),
        ("cutout", {"file": "cutout"}),
        ("path", {"file": "file_loc", "label": "Morphology"}),
        ("own", {"file": "pic", "label": "what"}),
    ):
        frame.rename(columns=columns).to_csv(folder / "labels.csv", index=False)
        said = ":cutout_column=pic,label_column=what" if name == "own" else ""
        shutil.copy(folder / "labels.csv", folder / "same.csv")
        both = [classes_of([f"{path}{said}"])[1] for path in (folder, folder / "same.csv")]
        assert both[0] == both[1] == ["spiral", "elliptical", "spiral", "spiral"], name


def test_answers_of_a_tree_in_a_catalog_are_majorities_as_in_labels_csv(tmp_path):
    zoo = registry.load("schemas", "galaxyzoo2")
    folder = labelled_folder(tmp_path / "mine", label=["artifact", "smooth", "", "artifact"])
    shutil.copy(folder / "labels.csv", folder / "same.csv")
    first, second = (read_sample(path, zoo) for path in (folder, folder / "same.csv"))
    np.testing.assert_array_equal(first.lower[[0, 1, 3]], second.lower)
    assert np.isnan(second.fractions).all()


def test_labels_csv_may_name_fits_cutouts(tmp_path):
    folder = cutout_folder(tmp_path / "own", n=2)
    table(folder / "labels.csv", file=["g0.fits", "g1.fits"], label=["a", "b"])
    sample = read_sample(folder, infer_schema([folder]))
    assert sample.image(0).shape == (424, 424, 3)


def test_two_samples_of_one_name_are_refused(tmp_path):
    paths = [class_folder(tmp_path / name / "spiral", 1, 2) for name in ("old", "new")]
    with pytest.raises(SampleError, match=r"old/spiral and .*new/spiral are both samples named 'spiral': rename one"):
        dataset.load(paths, infer_schema([paths[0], class_folder(tmp_path / "round", 0)]), 32, 5.12)


def test_folders_of_single_classes_are_scored_together(tmp_path):
    paths = [class_folder(tmp_path / name, kind, 2 + kind) for kind, name in enumerate(("round", "thin"))]
    data = dataset.load(
        [*paths, table(tmp_path / "t.csv", file=["round/0.png"], label=["thin"])], infer_schema(paths), 32, 5.12
    )
    assert {name: rows.sum() for name, rows in data.scored.items()} == {"round, thin": 5, "t": 1}


def test_what_published_data_say_themselves(tmp_path):
    from made import galaxy10_file, kaggle_folder

    zoo = kaggle_folder(tmp_path / "zoo", n=4)
    assert infer_schema([zoo]).name == "galaxyzoo2"
    assert infer_schema([galaxy10_file(tmp_path / "g.h5")]).name == "galaxy10_sdss"
    folder = labelled_folder(tmp_path / "mine", label=[0, 1, 0, 1])
    assert infer_schema([zoo, folder]).name == "galaxyzoo2"
    assert infer_schema([f"{folder}:labels=rings"]).name == "rings"
    with pytest.raises(SampleError, match=r"several schemas, galaxyzoo2 .*, rings .*--schema"):
        infer_schema([zoo, f"{folder}:labels=rings"])


def test_an_inferred_schema_has_no_name_of_galmorphs(tmp_path):
    for name in ("a", "b"):
        class_folder(tmp_path / "rings" / name, 0, 1)
    assert infer_schema([tmp_path / "rings"]).name == "own_rings"


def test_a_schema_as_a_file(tmp_path):
    (tmp_path / "Bars.toml").write_text(BARS)
    schema = schema_named(str(tmp_path / "Bars.toml"))
    assert (schema.name, schema.codes) == ("bars", schema.labels)
    assert schema.labels == ("bar_yes", "bar_no", "strength_strong", "strength_weak")
    assert schema.questions[1].asked_after == ("bar_yes",)
    with pytest.raises(GalmorphError, match=r"Did you mean .*Bars.toml"):
        schema_named(str(tmp_path / "Bar.toml"))


@pytest.mark.parametrize("name", registry.names("schemas"))
def test_a_schema_is_the_same_after_it_was_written(name):
    schema = registry.load("schemas", name)
    again = schema_from_mapping(json.loads(json.dumps(schema.to_mapping())), "card")
    assert again.to_mapping() == schema.to_mapping()
    assert (again.questions, again.codes, again.labels) == (schema.questions, schema.codes, schema.labels)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("= 3", "cannot be read as TOML"),
        ("", r"no questions: write \[\[questions\]\]"),
        ("questions = 3", "no questions"),
        (BARS + 'answer = "x"', "a question: there is no field 'answer'; there are name, answers"),
        (
            BARS.replace("bar_yes", "bar_maybe"),
            r"strength is asked after .*\(bar_maybe; before it come bar_no, bar_yes\)",
        ),
        (BARS.replace('"strong", "weak"', '"strong"'), "the question strength needs two answers"),
        (BARS.replace('"strong", "weak"', '"strong", 3'), "answers of strength is a list of texts"),
        (BARS.replace('"strong"', '"Strong!"'), "strength has repeated or unfit labels"),
        (BARS.replace('"barred", ', ""), "bar needs one word an answer"),
        (BARS.replace('name = "bar"', 'name = "a bar"'), "the name of a question is of a-z, 0-9 and _, not 'a bar'"),
        ('name = "My Bars"\n' + BARS, "name is of a-z, 0-9 and _, not 'My Bars'"),
        ('name = "rings"\n' + BARS, "a schema of galmorph is named 'rings'"),
        ("reference = 3\n" + BARS.replace("reference", "description"), "reference is text in quotes, not 3"),
        ('codes = ["a"]\n' + BARS, "4 labels but 1 codes"),
        ('codes = ["a", "a", "b", "c"]\n' + BARS, "a code stands for two labels"),
        ('artifact = "star"\n' + BARS, "artifact is one of the labels bar_yes.* not 'star'"),
        ('colour = "red"\n' + BARS, "there is no field 'colour'; there are name, description"),
    ],
)
def test_a_file_that_states_no_schema(tmp_path, text, message):
    (tmp_path / "bars.toml").write_text(text)
    with pytest.raises(GalmorphError, match=message):
        schema_named(str(tmp_path / "bars.toml"))


def test_the_longest_name_of_a_large_tree_is_bounded_without_walking_all_paths():
    questions = [{"name": f"q{i}", "answers": list("abcd"), "words": list("abcd")} for i in range(40)]
    schema = schema_from_mapping({"name": "large", "questions": questions}, "large")
    assert schema.name_width >= 40


OPTIONS = {"pretrained": "none", "input_size": 32, "epochs": 1, "device": "cpu", "dtype": "float32"}
SETTINGS = ["split.val=0.2", "split.test=0.2"]


@pytest.fixture(scope="module")
def own_run(tmp_path_factory):
    """A model of a schema in a file, which is gone afterwards."""
    folder = tmp_path_factory.mktemp("own")
    files = [f"{i % 2}/{i // 2}.png" for i in range(20)]
    for kind in (0, 1):
        class_folder(folder / str(kind), kind, 10)
    bar = [float(i % 2) for i in range(20)]
    strong = [float(i % 4 == 1) for i in range(20)]
    columns = {"bar_yes": bar, "bar_no": [1 - b for b in bar], "strength_strong": strong}
    columns["strength_weak"] = [b - s for b, s in zip(bar, strong, strict=True)]
    data = table(folder / "mine.csv", file=files, **columns)
    (folder / "bars.toml").write_text(BARS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GALMORPH_CACHE", str(folder / "cache"))
        config = configure("default", [str(data)], str(folder / "bars.toml"), "mobilenet_v1", SETTINGS, **OPTIONS)
        train(config, folder / "run")
        scores = evaluate(load(folder / "run"), [data], part="all", device="cpu", out=folder / "run" / "test")
    (folder / "bars.toml").unlink()
    return folder, data, scores


def test_a_model_runs_where_the_file_of_its_schema_is_not(own_run, tmp_path):
    folder, _, _ = own_run
    card = read_card(folder / "run" / "model.safetensors")
    assert (card.schema, card.format) == ("bars", 2)
    assert card.label_schema == read_schema_of(BARS, tmp_path)
    for suffix in ("fits", "csv"):
        out = tmp_path / f"out.{suffix}"
        classify(cutout_folder(tmp_path / "cutouts", n=2), model=folder / "run", out=out, device="cpu")
        results = read_results(out)
        assert results.schema == card.label_schema, "from the header, or the record beside a CSV"
        page = Path(galmorph.report(out, tmp_path / "page.html").out).read_text()
        assert "<dd>bars: our classification of 2026</dd>" in page
        assert "the label schema itself" not in page, "it is long, and for programs"
        assert "2 galaxies, classified by" in page
        assert np.isfinite(results.p).all()


def read_schema_of(text, tmp_path):
    (tmp_path / "bars.toml").write_text(text)
    return read_schema(tmp_path / "bars.toml")


def test_a_run_and_an_evaluation_of_own_labels_are_reported(own_run, tmp_path):
    folder, data, scores = own_run
    assert scores["n"] == 20
    report = assess(folder / "run", tmp_path / "report.html", [str(data)])
    assert report.rows == 20
    assert "bars" in Path(report.out).read_text()


def test_a_run_of_own_labels_is_gone_on_with(own_run):
    folder, data, _ = own_run
    (folder / "bars.toml").write_text(BARS)
    same = configure("default", [str(data)], str(folder / "bars.toml"), "mobilenet_v1", SETTINGS, **OPTIONS)
    assert (folder / "run" / "config.json").read_text() == same.to_json()
    (folder / "bars.toml").unlink()


def test_cards_of_galmorphs_schemas_stay_as_they_were(tmp_path):
    card = read_card(model_file(tmp_path / "m.safetensors"))
    values = json.loads(card.to_json())
    assert values["format"] == 1
    assert "schema_definition" not in values


def test_a_damaged_schema_in_a_card_is_said(tmp_path):
    card = read_card(model_file(tmp_path / "m.safetensors"))
    damaged = dataclasses.replace(card, schema_definition={"name": "x", "questions": []})
    with pytest.raises(ModelError, match="card is damaged: the card of the model m: there are no questions"):
        _ = ModelCard.from_json(damaged.to_json()).label_schema
