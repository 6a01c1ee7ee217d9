"""Models: the tree's probabilities, losses, weights in and out, cards."""

import dataclasses
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from made import model_file
from safetensors.torch import load_file, save_file

from galmorph import registry
from galmorph.errors import GalmorphError, ModelError, OutputError
from galmorph.files import checked_json
from galmorph.models import card as cards
from galmorph.models.model import build, load, probabilities, save
from galmorph.training.losses import cross_entropy, loss_named, mse

GZ2 = registry.load("schemas", "galaxyzoo2")
CLASSES = registry.load("schemas", "galaxy10_sdss")


def random_logits(n=6, n_labels=37):
    return torch.randn(n, n_labels, generator=torch.Generator().manual_seed(1)) * 2


def test_every_question_sums_to_its_parents():
    p = probabilities(GZ2, random_logits())
    assert GZ2.largest_tree_error(p.numpy()) < 1e-6
    assert (p >= 0).all()


def test_a_tree_of_one_question_is_a_softmax():
    logits = random_logits(n_labels=10)
    torch.testing.assert_close(probabilities(CLASSES, logits), logits.softmax(1))


def test_temperature_divides_the_logits_of_its_question():
    logits = random_logits(n_labels=10)
    torch.testing.assert_close(probabilities(CLASSES, logits, [2.0]), (logits / 2).softmax(1))


def test_cross_entropy_of_classes_is_the_usual_one():
    logits, classes = random_logits(n_labels=10), torch.tensor([0, 1, 9, 3, 3, 5])
    expected = torch.nn.functional.cross_entropy(logits, classes)
    torch.testing.assert_close(cross_entropy(CLASSES, logits, torch.eye(10)[classes]), expected)


@pytest.mark.parametrize("loss", [mse, cross_entropy])
def test_unknown_answers_are_masked(loss):
    logits = random_logits().requires_grad_()
    truth = probabilities(GZ2, random_logits().flip(0)).detach()
    truth[:, GZ2.slices[7]] = torch.nan
    loss(GZ2, logits, truth).backward()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[:, GZ2.slices[7]] == 0).all()
    assert (logits.grad[:, GZ2.slices[0]] != 0).any()


def test_mse_is_over_labelled_fractions():
    truth = torch.full((1, 37), torch.nan)
    truth[0, 0] = 0.25
    logits = torch.zeros(1, 37)
    assert mse(GZ2, logits, truth).item() == pytest.approx((1 / 3 - 0.25) ** 2)


def test_unknown_loss_gets_a_hint():
    with pytest.raises(ModelError, match="Did you mean 'cross_entropy'"):
        loss_named("crossentropy")


def test_only_the_head_of_pretrained_weights_may_differ(tmp_path):
    torch.manual_seed(0)
    source = build("mobilenet_v3_small", 7)
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    network = build("mobilenet_v3_small", 3, str(tmp_path / "w.safetensors"))
    assert torch.equal(network.features[0][0].weight, source.features[0][0].weight)
    assert network.classifier[3].out_features == 3
    with pytest.raises(ModelError, match="do not belong to the backbone 'mobilenet_v2'"):
        build("mobilenet_v2", 3, str(tmp_path / "w.safetensors"))


def test_pth_files_are_read_without_running_code(tmp_path):
    network = build("mobilenet_v3_small", 7)
    torch.save(network.state_dict(), tmp_path / "plain.pth")
    again = build("mobilenet_v3_small", 3, str(tmp_path / "plain.pth"))
    assert torch.equal(again.features[0][0].weight, network.features[0][0].weight)

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pth", pickle_module=pickle)
    with pytest.raises(ModelError, match="refused for safety"):
        build("mobilenet_v3_small", 3, str(tmp_path / "evil.pth"))
    assert not (tmp_path / "ran").exists()


def test_imagenet_weights_come_from_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GALMORPH_PRETRAINED", str(tmp_path))
    network = build("mobilenet_v1", 1000)
    save_file({k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()},
              tmp_path / "mobilenet_v1.imagenet.fp16.safetensors")  # fmt: skip
    again = build("mobilenet_v1", 10, "imagenet")
    torch.testing.assert_close(again.features[1][0][0].weight, network.features[1][0][0].weight.half().float())


def test_missing_imagenet_weights_are_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("GALMORPH_PRETRAINED", str(tmp_path))
    with pytest.raises(ModelError, match=r"weights unavailable: .*mobilenet_v1.*torchvision has none.*FILE"):
        build("mobilenet_v1", 10, "imagenet")


def test_without_imagenet_weights_a_model_of_the_same_network_is_offered(tmp_path, monkeypatch):
    def fetch():
        raise OSError("no network")

    entry = dataclasses.replace(registry.load("backbones", "mobilenet_v2"), fetch=fetch)
    load_any = registry.load
    monkeypatch.setattr(registry, "load", lambda kind, name: entry if kind == "backbones" else load_any(kind, name))
    with pytest.raises(ModelError, match=r"\(no network\)\. Start from a model of galaxies \(--pretrained galaxyzoo2-"):
        build("mobilenet_v2", 10, "imagenet")


@pytest.mark.real_data
def test_real_imagenet_weights_load(shared, monkeypatch):
    monkeypatch.setenv("GALMORPH_PRETRAINED", str(shared / "weights"))
    for name in ("mobilenet_v1", "mobilenet_v2"):
        assert build(name, 1000, "imagenet").state_dict().keys() == build(name, 1000).state_dict().keys()


def test_a_model_comes_back_as_it_was_saved(tmp_path):
    path = model_file(tmp_path / "m.safetensors")
    model = load(path)
    model.trained = {"galmorph.trained_galaxies": torch.tensor([1, -5])}
    save(model, tmp_path / "again.safetensors")
    again = load(tmp_path / "again.safetensors")
    assert again.card == model.card
    assert again.trained["galmorph.trained_galaxies"].tolist() == [1, -5]
    x = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(model(x), again(x))
    assert model.sha256 == cards.file_sha256(path)


def test_weights_of_the_same_model_are_the_same_bytes(tmp_path):
    first, second = (model_file(tmp_path / name / "m.safetensors") for name in map(mkdir(tmp_path), "ab"))
    assert first.read_bytes() == second.read_bytes()


def mkdir(tmp_path):
    def make(name):
        (tmp_path / name).mkdir()
        return name

    return make


def test_card_survives_json(tmp_path):
    card = load(model_file(tmp_path / "m.safetensors", calibration={"temperature": [1.5] * 11})).card
    assert cards.ModelCard.from_json(card.to_json()) == card


def test_first_matching_input_is_used(tmp_path):
    card = load(model_file(tmp_path / "m.safetensors")).card
    assert card.input_for("decals", ("g", "r", "i", "z"), 0.262).normalization.kind == "galaxyzoo_decals"
    assert card.input_for("sdss", ("g", "r", "i"), 0.396).normalization.kind == "lupton"
    assert card.input_for("sdss", ("g", "r", "z"), 0.396).normalization.kind == "galaxyzoo_decals"
    assert card.input_for("decals", ("g", "r"), 0.262) is None
    assert card.input_for("decals", ("g", "r", "z"), 5.0) is None
    assert card.input_for("hsc", ("g", "r", "z"), 0.168) is None


def damaged(tmp_path, change):
    path = model_file(tmp_path / "m.safetensors")
    change(path)
    return path


def rewrite_card(**changes):
    def change(path):
        values = json.loads(cards.read_card(path).to_json()) | changes
        save_file(load_file(path), path, metadata={"galmorph": json.dumps(values)})

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(b"<html>not found</html>"), "not a safetensors file"),
        (lambda path: path.write_bytes(b""), "not a safetensors file"),
        (lambda path: path.write_bytes(path.read_bytes()[:1000]), "cut short|cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1000]), "is damaged"),
        (lambda path: save_file(load_file(path), path), "no galmorph card"),
        (rewrite_card(format=99), "format 99.*upgrade"),
        (rewrite_card(inputs=[]), "names no inputs"),
        (rewrite_card(backbone="mobilenet_v2"), "do not fit its card"),
        (rewrite_card(schema="galaxy10_sdss"), "do not fit its card"),
        (rewrite_card(surprise=1), "damaged"),
    ],
)
def test_corrupt_models_get_a_clear_error(tmp_path, change, message):
    with pytest.raises(ModelError, match=message):
        load(damaged(tmp_path, change))


def test_unknown_models_get_a_hint(tmp_path):
    with pytest.raises(ModelError, match="Did you mean 'galaxyzoo2-mobilenet_v2'"):
        load("galaxyzoo2-mobilenet")
    with pytest.raises(ModelError, match=r"There is no file .*Shipped models: "):
        load(tmp_path / "none.safetensors")


def test_unwritable_model(tmp_path):
    model = load(model_file(tmp_path / "m.safetensors"))
    with pytest.raises(OutputError, match="cannot be written"):
        save(model, tmp_path / "no" / "m.safetensors")


def test_cards_hold_no_nan(tmp_path):
    card = load(model_file(tmp_path / "m.safetensors")).card
    with pytest.raises(ValueError, match="JSON"):
        dataclasses.replace(card, metrics={"rmse": np.nan}).to_json()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    path = model_file(tmp_path / "m.safetensors")
    state, card = load_file(path), cards.read_card(path)
    state["classifier.3.weight"].view(-1)[0] = value
    save_file(state, path, metadata={"galmorph": card.to_json()})
    with pytest.raises(ModelError, match="not finite"):
        load(path)


@pytest.mark.parametrize("temperature", [[1.0], [0.0] * 11, [-1.0] * 11, ["1"] * 11, "hot", [True] * 11, [1e999] * 11])
def test_temperatures_that_cannot_be_used_are_refused(tmp_path, temperature):
    path = model_file(tmp_path / "m.safetensors")
    card = json.loads(cards.read_card(path).to_json()) | {"calibration": {"temperature": temperature}}
    save_file(load_file(path), path, metadata={"galmorph": json.dumps(card)})
    with pytest.raises(ModelError, match="temperature"):
        load(path)


def test_mobilenet_v2_is_that_of_torchvision():
    from torchvision.models import mobilenet_v2

    torch.manual_seed(0)
    ours = registry.load("backbones", "mobilenet_v2").build(5).eval()
    torch.manual_seed(0)
    theirs = mobilenet_v2(num_classes=5).eval()
    assert [name for name, _ in ours.named_modules()] == [name for name, _ in theirs.named_modules()]
    state = theirs.state_dict()
    assert list(ours.state_dict()) == list(state)
    assert all(torch.equal(value, state[name]) for name, value in ours.state_dict().items())
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(ours(images), theirs(images))
    assert ours.classifier[0].p == theirs.classifier[0].p


def changed(path, **values):
    return json.dumps(json.loads(cards.read_card(path).to_json()) | values)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"name": 5}, r"name: .*valid string \('?5'? is given\)"),
        ({"inputs": []}, "names no inputs"),
        ({"inputs": [{"survey": "sdss"}]}, r"inputs\[0\]\.bands: Field required"),
        ({"more": 1}, "more: Unexpected"),
        ({"metrics": {"test": [1]}}, r"metrics\.test"),
        ({"split": {"seed": 0, "val": 2.0, "test": 0.1}}, r"split\.val"),
        ({"trained_on": [{"name": "a"}]}, r"trained_on\[0\]\.sha256: Field required"),
        ({"training": {"ancestors": [1]}}, r"training\.ancestors\[0\]"),
        ({"calibration": {"spread": {"concentration": [1.0]}}}, "concentration has 1 numbers, not .* 11 questions"),
        ({"calibration": {"conformal": {"level": 0.9, "thresholds": [0.5]}}}, r"calibration\.conformal\.thresholds"),
        ({"calibration": {"unlikeness": {"threshold": "far", "quantile": 0.9}}}, r"calibration\.unlikeness\.threshold"),
        ({"calibration": [1]}, "calibration"),
        ({"calibration": {"conformal": None}}, r"calibration\.conformal: .* \('None' is given\)"),
        ({"calibration": {"spread": None}}, r"calibration\.spread"),
        ({"calibration": {"unlikeness": None}}, r"calibration\.unlikeness"),
        ({"calibration": {"temperature": None}}, r"calibration\.temperature"),
        ({"training": {"note": float("inf")}}, "Out of range"),
        ({"schema": "no_such"}, "no_such"),
        ({"format": 99}, "upgrade with pip"),
    ],
)
def test_cards_of_another_shape_are_refused_by_the_path_of_the_value(tmp_path, values, reason):
    text = changed(model_file(tmp_path / "m.safetensors"), **values)
    with pytest.raises(GalmorphError, match=reason):
        cards.ModelCard.from_json(text)


@pytest.mark.parametrize("text", ["", "[]", "5", "[" * 100_000, '{"format": "new"}'])
def test_what_is_no_card(text):
    with pytest.raises(ModelError, match="card is damaged"):
        cards.ModelCard.from_json(text)


@pytest.mark.parametrize("change", [{"input_size": 4096}, {"input_size": 16}, {"std": [0.0] * 3}, {"softening": -1.0}])
def test_sizes_and_factors_of_a_card_are_bounded(tmp_path, change):
    document = json.loads(changed(model_file(tmp_path / "m.safetensors")))
    document["inputs"][0]["normalization"] |= change
    with pytest.raises(ModelError, match="A normalization needs"):
        cards.ModelCard.from_json(json.dumps(document))


def test_texts_of_a_card_are_of_a_small_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b" " * (checked_json.MAX_JSON_BYTES + 1))
    for path, reason in ((tmp_path / "pipe", "a pipe"), (Path("/dev/zero"), "a device"), (tmp_path / "large", "MiB")):
        with pytest.raises(ModelError, match=reason):
            cards.read_about(path)
    (tmp_path / "about.json").write_text('{"limits": 5}')
    with pytest.raises(ModelError, match=r"about\.json is damaged: limits: .*valid string"):
        cards.read_about(tmp_path / "about.json")
