"""Folders are registries; one conformance test over every entry of every folder."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch

from galmorph import registry
from galmorph.errors import GalmorphError
from galmorph.images.framing import Framing
from galmorph.models.card import ModelCard, survey_inputs
from galmorph.training.bounds import propagate
from galmorph.training.config import configure


def entries(folder):
    return [(folder, name) for name in registry.names(folder)]


def test_names_are_listed_without_importing():
    code = "import sys; from galmorph import registry; registry.names('backbones'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("folder", "name"), [e for f in registry.KINDS for e in entries(f)])
def test_every_entry_defines_its_constant(folder, name):
    assert registry.load(folder, name).name == name


def test_unknown_name_gets_the_list_and_the_closest():
    with pytest.raises(GalmorphError, match=r"no backbone 'resnet5O'.*mean 'resnet50'.*There are: mobilenet_v1"):
        registry.load("backbones", "resnet5O")


def test_mobilenet_means_v2():
    assert registry.load("backbones", "mobilenet").name == "mobilenet_v2"


@pytest.mark.parametrize("name", registry.names("backbones"))
def test_backbones_differ_only_in_their_head(name):
    backbone = registry.load("backbones", name)
    torch.manual_seed(0)
    few, many = backbone.build(3).eval(), backbone.build(5).eval()
    shapes = [{k: v.shape for k, v in net.state_dict().items()} for net in (few, many)]
    differing = {k for k in shapes[0] if shapes[0][k] != shapes[1][k]}
    assert shapes[0].keys() == shapes[1].keys()
    assert differing
    assert all(key.startswith(backbone.head) for key in differing)
    with torch.inference_mode():
        assert few(torch.zeros(2, 3, 64, 64)).shape == (2, 3)


@pytest.mark.parametrize("name", registry.names("schemas"))
def test_schemas_name_galaxies(name):
    schema = registry.load("schemas", name)
    assert schema.reference
    rng = np.random.default_rng(0)
    names = schema.short_names(rng.random((500, len(schema.labels))).astype(np.float32))
    assert max(map(len, names)) <= schema.name_width
    assert all(names)


@pytest.mark.parametrize("name", registry.names("schemas"))
def test_schemas_are_consistent(name):
    schema = registry.load("schemas", name)
    assert schema.name == name
    assert schema.description
    assert len(set(schema.codes)) == len(schema.codes)
    assert set(schema.conditional.values()) <= set(schema.labels)
    assert not schema.artifact or schema.artifact in schema.labels
    assert schema.learns


@pytest.mark.parametrize("name", registry.names("schemas"))
def test_schemas_read_their_own_labels(name):
    """By label, by prediction's column and by code the same; classes by number."""
    schema = registry.load("schemas", name)
    fractions = np.random.default_rng(0).random((20, len(schema.labels))).astype(np.float32)
    for names in (schema.labels, [f"p_{label}" for label in schema.labels], schema.codes):
        read = schema.from_columns(dict(zip(names, fractions.T, strict=True)))
        np.testing.assert_array_equal(read, fractions)
    if schema.class_column:
        numbers = np.arange(len(schema.questions[0].answers))
        read = schema.from_columns({schema.class_column: numbers.astype(float)})
        np.testing.assert_array_equal(schema.classes(read), numbers)


@pytest.mark.parametrize("name", [n for n in registry.names("schemas") if registry.load("schemas", n).meaning])
def test_what_classes_mean_elsewhere(name):
    """One set of least fractions a class, which votes can reach, and those of two classes no galaxy can."""
    schema = registry.load("schemas", name)
    for other, classes in schema.meaning.items():
        target = registry.load("schemas", other)
        assert len(classes) == len(schema.questions[0].answers)
        lower = np.full((len(classes), len(target.labels)), np.nan)
        for number, least in enumerate(classes):
            assert least
            for label, value in least.items():
                lower[number, target.labels.index(label)] = value
        low, high = propagate(target, lower, np.full_like(lower, np.nan))
        assert not (low > high).any()
        for one in range(len(classes)):
            for two in range(len(classes)):
                # Where both are half of the votes they meet in a point.
                outside = (lower[two] > high[one] - 1e-6).any()
                assert outside == (one != two), f"{name}: {one} and {two}"


def test_a_family_gives_entries_by_its_prefix():
    pytest.importorskip("timm", reason="the extra timm is not installed")
    backbone = registry.load("backbones", "timm:test_resnet")
    network = backbone.build(5)
    head = {name for name in network.state_dict() if name.startswith(backbone.head)}
    assert head == {"fc.weight", "fc.bias"}
    assert network.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 5)
    with pytest.raises(GalmorphError, match="timm has no network 'no_such_net'"):
        registry.load("backbones", "timm:no_such_net")
    with pytest.raises(GalmorphError, match="no backbone 'other:net'"):
        registry.load("backbones", "other:net")


@pytest.mark.parametrize(("name", "n_features"), [("mobilenet_v1", 1024 * 49), ("resnet50", 2048 * 49)])
def test_flattened_backbone_keeps_the_names_of_its_layers(name, n_features):
    plain, flat = (registry.load("backbones", prefix + name) for prefix in ("", "flatten:"))
    network = flat.build(3).eval()
    kept, given = network.state_dict(), plain.build(3).state_dict()
    assert kept[f"{flat.head}weight"].shape == (3, n_features)
    differing = {k for k in kept.keys() | given.keys() if k not in given or k not in kept}
    assert all(k.startswith(flat.head) for k in differing)
    assert network(torch.zeros(1, 3, 224, 224)).shape == (1, 3)


def test_flattened_backbone_for_another_size():
    network = registry.load("backbones", "flatten:96:mobilenet_v1").build(3).eval()
    assert network(torch.zeros(1, 3, 96, 96)).shape == (1, 3)
    with pytest.raises(GalmorphError, match="for 32 px or more"):
        registry.load("backbones", "flatten:8:mobilenet_v1")


# What a package of others may add, kind by kind: the module that defines it.
GIVEN = {
    "schemas": """
from galmorph.schemas import LabelSchema, Question
ENTRY = LabelSchema("theirs", "Bars.", "", (Question("bar", ("bar", "no_bar")),), ("1", "0"))
""",
    "backbones": """
from galmorph.models.backbones import Backbone
from torch import nn
def build(n_outputs):
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, n_outputs))
ENTRY = Backbone("theirs", build, head="3.")
""",
    "surveys": """
from galmorph.retrieval.surveys import Survey
ENTRY = Survey("theirs", ("g", "r", "z"), source=lambda imaging: None)
""",
    "survey_facts": """
from galmorph.images.surveys import SurveyFacts
ENTRY = SurveyFacts("theirs", 0.3, {"g": 1.0}, lambda cards: cards.get("SURVEY") == "THEIRS")
""",
    "samples": """
from galmorph.training.samples import Layout
ENTRY = Layout("theirs", "Their files", lambda path: path.suffix == ".theirs", lambda path, schema: None)
""",
    "tables": """
import dataclasses
from galmorph import registry
ENTRY = dataclasses.replace(registry.load("tables", "csv"), name="theirs")
""",
}


def forget_installed():
    """Look for entries of installed packages again, as a new process does."""
    for cached in (registry._entry_points, registry.installed, registry._load_installed):
        cached.cache_clear()


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package with one entry point, as an installer leaves it."""

    def installed(kind, code, name="theirs"):
        (tmp_path / f"their_{kind}.py").write_text(code)
        folder = tmp_path / f"their_{kind}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: their-{kind}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[galmorph.{kind}]\n{name} = their_{kind}:ENTRY\n")
        monkeypatch.syspath_prepend(tmp_path)
        forget_installed()

    yield installed
    for module in [name for name in sys.modules if name.startswith("their_")]:
        del sys.modules[module]
    monkeypatch.undo()
    forget_installed()


def test_every_kind_has_an_example_of_a_package():
    assert GIVEN.keys() == registry.KINDS.keys()


@pytest.mark.parametrize("kind", GIVEN)
def test_an_installed_package_adds_an_entry(kind, install):
    install(kind, GIVEN[kind])
    assert "theirs" in registry.names(kind)
    assert f"their_{kind}" not in sys.modules, "names are listed without importing"
    assert registry.load(kind, "theirs").name == "theirs"


@pytest.mark.parametrize(
    ("code", "name", "message"),
    [
        ("import not_there", "theirs", r"'theirs' of the package their-schemas .*ModuleNotFoundError: .*not_there"),
        ("ENTRY = 3", "theirs", r"is no galmorph.schemas.LabelSchema of this name"),
        (GIVEN["schemas"], "others", r"'others' .* is no galmorph.schemas.LabelSchema of this name"),
    ],
)
def test_a_package_whose_entry_cannot_be_used_is_named(install, code, name, message):
    install("schemas", code, name)
    with pytest.raises(GalmorphError, match=message):
        registry.load("schemas", name)


def test_names_of_galmorph_stay_galmorphs(install):
    install("schemas", GIVEN["schemas"], "rings")
    assert registry.load("schemas", "rings").labels == ("no_ring", "ring")
    assert registry.names("schemas").count("rings") == 1


def test_a_model_of_a_packages_schema_runs_without_the_package(install, tmp_path):
    install("schemas", GIVEN["schemas"])
    config = configure("default", [str(tmp_path)], "theirs", "mobilenet_v1")
    card = ModelCard("m", "mobilenet_v1", "theirs", survey_inputs(64, Framing(radii=5), (0.0,) * 3, (1.0,) * 3))
    card = dataclasses.replace(card, schema_definition=config.schema_definition)
    assert ModelCard.from_json(card.to_json()).label_schema == registry.load("schemas", "theirs")
