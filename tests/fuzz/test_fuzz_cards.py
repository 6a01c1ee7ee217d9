"""Seeded fuzzing of model cards, weights files and recipes: each is refused in a message, or does what it says."""

import json
import struct

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from made import model_file
from mutations import ODD, fuzzed, mutated, mutated_json, tried

from galmorph.classification.output_columns import column_values, output_columns, record_dtype
from galmorph.models import card as cards
from galmorph.models.model import load
from galmorph.schemas import read_schema
from galmorph.training.config import configure
from galmorph.training.split import Split

SHA = "0" * 64
CALIBRATION = {
    "temperature": [1.0],
    "unlikeness": {"threshold": 2.0, "quantile": 0.99},
    "conformal": {"level": 0.9, "thresholds": [0.3] * 8},
    "spread": {"concentration": [3.0]},
}
TRAINING = {"ancestors": [{"name": "a", "sha256": SHA, "as": "teacher", "trained_on": []}], "excluded": []}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("card") / "m.safetensors"
    return model_file(
        path,
        schema="galaxy10_sdss",
        calibration=CALIBRATION,
        training=TRAINING,
        split=Split().card(),
        trained_on=({"name": "a", "sha256": SHA, "n": 4},),
        metrics={"test": {"a": {"rmse": 0.1, "n": 3}}},
    )


def use(card):
    """What commands do with a card: list it, name the columns, make the picture that the network is given."""
    assert cards.ModelCard.from_json(card.to_json()) == card
    columns = output_columns(card, spread=card.concentration is not None)
    records = np.zeros(2, record_dtype(card.label_schema))
    assert len(column_values(records, card, tta=8, spread=card.concentration is not None)) == len(columns)
    card.refusal("decals", ("g",), 0.262)
    for entry in card.inputs:
        with np.errstate(all="raise"):
            entry.normalization.framing.width_arcsec(3.0)
        flux = torch.ones(1, 3, 32, 32)
        entry.normalization.network_input(entry.normalization.rgb(flux))
    if card.split:
        Split.from_card(card.split).parts(["a", "b"], np.zeros(2, np.int64))


def test_cards(model):
    document = json.loads(cards.read_card(model).to_json())

    @fuzzed(250, text=mutated_json(document).map(json.dumps) | mutated(json.dumps(document).encode()))
    def damaged(text):
        card, _ = tried(lambda: cards.ModelCard.from_json(text if isinstance(text, str) else text.decode("latin-1")))
        if card is not None:
            use(card)

    damaged()


SCHEMA = """name = "mine"
description = "two questions"
artifact = "kind_star"
[[questions]]
name = "kind"
answers = ["smooth", "disk", "star"]
[[questions]]
name = "bar"
answers = ["yes", "no"]
asked_after = ["kind_disk"]
"""


def test_schemas(model, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(SCHEMA)
    schema = read_schema(path)
    card = json.loads(cards.read_card(model).to_json())
    card |= {"schema": "mine", "schema_definition": schema.to_mapping(), "calibration": {}, "format": 2}
    assert cards.ModelCard.from_json(json.dumps(card)).label_schema == schema

    @fuzzed(60, content=mutated(SCHEMA.encode()))
    def damaged(content):
        path.write_bytes(content)
        tried(lambda: read_schema(path))

    @fuzzed(60, definition=mutated_json(card["schema_definition"]))
    def in_cards(definition):
        text = json.dumps(card | {"schema_definition": definition})
        made, _ = tried(lambda: cards.ModelCard.from_json(text))
        if made is not None:
            use(made)

    damaged()
    in_cards()


def test_weights_files(model, tmp_path):
    content = model.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    path = tmp_path / "m.safetensors"
    head = st.builds(lambda head: content[:8] + head + content[8 + length :], mutated(content[8 : 8 + length]))

    @fuzzed(40, damaged=mutated(content) | head | st.integers(0, len(content)).map(lambda n: content[:n]))
    def read(damaged):
        path.write_bytes(damaged)
        tried(lambda: cards.describe(path))
        made, _ = tried(lambda: load(path))
        if made is not None:
            use(made.card)

    read()


def test_recipes():
    names = st.sampled_from(
        ["mixup", "lr", "epochs", "augmentation.noise", "split.val", "radii", "ema", "loss", "x", ""]
    )
    values = st.sampled_from([*ODD, "1", "0.5", "1e9", "2"])

    @fuzzed(200, settings=st.lists(st.builds("{}={}".format, names, values), max_size=3))
    def configured(settings):
        config, _ = tried(lambda: configure("default", ["d"], "galaxyzoo2", "mobilenet", settings))
        if config is not None:
            assert json.loads(config.to_json())["schema"] == "galaxyzoo2"
            assert config.epochs > 0

    configured()
