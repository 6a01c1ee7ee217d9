"""Answers that no training galaxy had: their columns are empty, and nothing is named after them."""

import json
import re

import numpy as np
import pytest
from astropy.table import Table
from made import cutout_folder, model_file

from galmorph import registry
from galmorph.classification.classify import classify
from galmorph.classification.output_columns import output_columns
from galmorph.classification.results import read_results
from galmorph.errors import ModelError
from galmorph.models.card import ModelCard, read_card
from galmorph.models.ensemble import join
from galmorph.reports.catalog import report

GZ2 = registry.load("schemas", "galaxyzoo2")
EFIGI = registry.load("schemas", "efigi")
FIRST = ("smooth_or_featured_smooth", "smooth_or_featured_featured_or_disk", "disk_edge_on_yes", "disk_edge_on_no")


def classified(tmp_path, caplog, **card):
    model = model_file(tmp_path / "m.safetensors", **card)
    folder = cutout_folder(tmp_path / "cut", n=4)
    spread = "spread" in card.get("calibration", {})
    summary = classify(folder, model=model, out=tmp_path / "out.fits", device="cpu", dtype="float32", spread=spread)
    return Table.read(tmp_path / "out.fits"), summary, caplog.messages


def test_the_columns_of_unlearnt_answers_are_empty(tmp_path, caplog):
    concentration = [5.0] * len(GZ2.questions)
    table, summary, messages = classified(
        tmp_path, caplog, learnt=FIRST, calibration={"spread": {"concentration": concentration}}
    )
    for label in GZ2.labels:
        for name in (f"p_{label}", f"p_{label}_err"):
            values = np.ma.filled(np.ma.asarray(table[name], float), np.nan)
            assert np.isfinite(values).all() if label in FIRST else np.isnan(values).all(), name
    assert set(table["morph_label"]) <= {"smooth", "featured", "featured_edge_on", "uncertain"}
    assert summary.labels.keys() == set(table["morph_label"])
    assert summary.classified == 4
    reported = [message for message in messages if "learnt nothing of 33 of its 37 answers" in message]
    assert len(reported) == 1
    assert "smooth_or_featured_artifact" in reported[0]
    columns = output_columns(read_card(tmp_path / "m.safetensors"))
    reported = {c.name for c in columns if c.description.endswith("no training galaxy had it: always empty")}
    assert reported == {f"p_{label}" for label in GZ2.labels if label not in FIRST}
    with np.errstate(all="raise"):
        entropy = -sum(table[f"p_{label}"] * np.log(table[f"p_{label}"]) for label in FIRST[:2])
    assert table["morph_entropy"] == pytest.approx(np.asarray(entropy), rel=1e-4)


def test_a_first_question_that_was_never_answered_names_nothing(tmp_path, caplog):
    table, _, _ = classified(tmp_path, caplog, learnt=("something_odd_yes", "something_odd_no"))
    assert set(table["morph_label"]) == {"uncertain"}
    assert np.isnan(np.ma.filled(table["morph_entropy"], np.nan)).all()
    assert np.isfinite(np.asarray(table["p_something_odd_yes"])).all()


def test_classes_and_their_sets_are_of_what_was_learnt(tmp_path, caplog):
    learnt = EFIGI.labels[1:3]
    conformal = {"level": 0.9, "thresholds": [1e-6] * 8}
    table, _, _ = classified(tmp_path, caplog, schema="efigi", learnt=learnt, calibration={"conformal": conformal})
    answers = EFIGI.questions[0].answers[1:3]
    assert set(table["morph_label"]) <= {*answers, "uncertain"}
    assert {word for text in table["morph_set"] for word in text.split("|")} <= {*answers, ""}


def test_a_report_of_such_a_table(tmp_path, caplog):
    classified(tmp_path, caplog, learnt=FIRST)
    results = read_results(tmp_path / "out.fits")
    assert results.classified.all()
    report(tmp_path / "out.fits", tmp_path / "r.html", cutouts=tmp_path / "cut")
    page = (tmp_path / "r.html").read_text()
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)[1]
    assert json.loads(data)
    assert "NaN" not in data, "no browser reads it"


def test_a_model_that_states_nothing_learnt_all(tmp_path, caplog):
    table, _, messages = classified(tmp_path, caplog)
    assert not any("learnt nothing" in message for message in messages)
    assert np.isfinite(np.asarray(table["p_bar_yes"])).all()
    assert "learnt" not in json.loads(read_card(tmp_path / "m.safetensors").to_json())


def test_the_card_keeps_what_was_learnt(tmp_path):
    card = read_card(model_file(tmp_path / "m.safetensors", learnt=FIRST))
    assert card.learnt == FIRST
    assert [GZ2.labels[i] for i in card.unlearnt] == [label for label in GZ2.labels if label not in FIRST]
    with pytest.raises(ModelError, match="damaged"):
        ModelCard.from_json(card.to_json().replace('"learnt":[', '"learnt":5,"x":['))


def test_an_ensemble_knows_what_all_its_members_do(tmp_path):
    one = model_file(tmp_path / "a.safetensors", learnt=FIRST)
    two = model_file(tmp_path / "b.safetensors", seed=1, learnt=GZ2.labels[1:])
    assert join([one, two], tmp_path / "j.safetensors").card.learnt == FIRST[1:]
    three = model_file(tmp_path / "c.safetensors", seed=2)
    assert join([three, three], tmp_path / "k.safetensors").card.learnt == ()
