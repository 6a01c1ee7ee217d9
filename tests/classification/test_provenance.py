"""The record beside an output tells, as PROV-JSON, what made it: files by hash, options, versions; and no more."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
from made import cutout_folder, model_file

from galmorph.classification.classify import classify
from galmorph.classification.provenance import _PREFIXES, location, record_path, recorded, recorded_schema
from galmorph.errors import CatalogError, Interrupted

FAST = {"device": "cpu", "dtype": "float32", "batch_size": 2, "workers": 1}


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def survey(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    folder = tmp_path / "survey"
    cutout_folder(folder / "cutouts", n=5)
    (folder / "t.csv").write_text("id,cutout\n" + "".join(f"{i},cutouts/g{i}.fits\n" for i in range(5)))
    model_file(folder / "m.safetensors")
    return folder


def record(out):
    return json.loads(out.with_name(f"{out.name}.prov.json").read_text())


def test_the_record_of_a_catalog(survey):
    out = survey / "out.csv"
    classify(survey / "t.csv", model=survey / "m.safetensors", out=out, prefix="a_", tta=2, **FAST)
    found = record(out)
    entity = found["entity"]
    assert (entity["run:input"]["galmorph:sha256"], entity["run:input"]["voprov:location"]) == (
        sha256(survey / "t.csv"),
        "t.csv",
    )
    assert entity["run:model"]["galmorph:sha256"] == sha256(survey / "m.safetensors")
    assert entity["run:cutouts"]["voprov:location"] == "."
    assert entity["run:output"]["galmorph:sha256"] == sha256(out)
    activity = found["activity"]["run:classify"]
    assert activity["prov:startTime"] == activity["prov:endTime"] == "1970-01-02T00:00:00+00:00"
    options = {name: activity[f"galmorph:{name}"] for name in ("prefix", "tta", "device", "dtype", "batch_size")}
    assert options == {"prefix": "a_", "tta": 2, "device": "cpu", "dtype": "torch.float32", "batch_size": 2}
    agent = found["agent"]["run:galmorph"]
    assert {"galmorph:version", "galmorph:python", "galmorph:torch"} <= set(agent)
    assert {used["prov:role"] for used in found["used"].values()} == {"input", "cutouts", "model"}


@pytest.mark.parametrize("kind", ["catalog", "field"])
def test_the_record_names_the_column_of_sizes(survey, kind):
    table = survey / "sizes.csv"
    table.write_text("id,ra,dec,petroR90_r,cutout\n1,150.0,2.0,3.0,cutouts/g0.fits\n")
    image = survey / "cutouts" / "g0.fits"
    given = {"survey": table} if kind == "catalog" else {"survey": image, "kind": "field", "catalog": table}
    classify(**given, model=survey / "m.safetensors", out=survey / "out.csv", **FAST)
    assert record(survey / "out.csv")["activity"]["run:classify"]["galmorph:size"] == "petroR90_r"


def test_another_program_reads_it(survey):
    prov = pytest.importorskip("prov.model", reason="the package prov (extra dev) is absent")
    out = survey / "out.csv"
    classify(survey / "t.csv", model=survey / "m.safetensors", out=out, **FAST)
    text = out.with_name("out.csv.prov.json").read_text()
    document = prov.ProvDocument.deserialize(content=text, format="json")
    (activity,) = document.get_records(prov.ProvActivity)
    assert activity.get_startTime().isoformat() == "1970-01-02T00:00:00+00:00"
    outputs = [made.args[0].localpart for made in document.get_records(prov.ProvGeneration)]
    assert outputs == ["output"]
    names = {entity.identifier for entity in document.get_records(prov.ProvEntity)}
    pointed = {relation.args[1] for relation in document.get_records(prov.ProvUsage)}
    assert pointed < names
    assert len({identifier.uri for identifier in names}) == 4


def test_folders_cutouts_and_images(survey, monkeypatch):
    model = survey / "m.safetensors"
    classify(survey / "cutouts", model=model, out=survey / "folder.fits", **FAST)
    assert record(survey / "folder.fits")["entity"]["run:cutouts"]["voprov:location"] == "cutouts"
    one = survey / "cutouts" / "g0.fits"
    classify(one, model=model, out=survey / "one.fits", **FAST)
    assert record(survey / "one.fits")["entity"]["run:input"]["galmorph:sha256"] == sha256(one)
    classify(one, model=model, out=survey / "field.csv", kind="field", catalog=field_catalog(survey), **FAST)
    entity = record(survey / "field.csv")["entity"]
    assert entity["run:image"]["galmorph:sha256"] == sha256(one)
    assert entity["run:catalog"]["galmorph:sha256"] == sha256(survey / "positions.csv")


def field_catalog(folder):
    (folder / "positions.csv").write_text("id,ra,dec\n1,150.0,2.0\n")
    return folder / "positions.csv"


def test_an_input_that_is_replaced_is_reported_as_it_was(survey):
    table = survey / "t.csv"
    before = sha256(table)
    classify(table, model=survey / "m.safetensors", out=table, overwrite=True, **FAST)
    entity = record(table)["entity"]
    assert entity["run:input"]["galmorph:sha256"] == before
    assert entity["run:output"]["galmorph:sha256"] == sha256(table) != before


def test_a_resumed_run_leaves_the_same_record(survey, tmp_path):
    other = shutil.copytree(survey, tmp_path / "again" / "survey")

    def stop(done, total):
        if done == 4:
            raise KeyboardInterrupt

    for folder in (survey, other):
        options = {"model": folder / "m.safetensors", "out": folder / "out.csv", **FAST}
        if folder == other:
            with pytest.raises(Interrupted):
                classify(folder / "t.csv", on_progress=stop, **options)
            assert not (folder / "out.csv.prov.json").exists()
        classify(folder / "t.csv", **options)
    assert (survey / "out.csv.prov.json").read_bytes() == (other / "out.csv.prov.json").read_bytes()


def test_start_is_when_the_run_began_before_it_was_stopped(survey, monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    out = survey / "out.csv"
    classify(survey / "t.csv", model=survey / "m.safetensors", out=out, **FAST)
    activity = record(out)["activity"]["run:classify"]
    assert "2020" < activity["prov:startTime"] <= activity["prov:endTime"]


@pytest.mark.parametrize(
    ("path", "folder", "shown"),
    [
        ("/home/me/run/t.csv", "/home/me/run", "t.csv"),
        ("/home/me/data/t.csv", "/home/me/run", "../data/t.csv"),
        ("/home/me/data/t.csv", "/srv/run", "~/data/t.csv"),
        ("/srv/data/t.csv", "/home/me/run", "/srv/data/t.csv"),
        ("/srv/data/t.csv", "/srv/run", "../data/t.csv"),
        ("/home/me/t.csv", "/home/you/run", "~/t.csv"),
    ],
)
def test_no_home_folder_is_reported(monkeypatch, path, folder, shown):
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
    assert location(Path(path), Path(folder)) == shown


@pytest.mark.parametrize("entity", [5, [1], {"run:model": 1}])
def test_a_damaged_record_is_a_message(tmp_path, entity):
    record = record_path(tmp_path / "o.csv")
    record.write_text(json.dumps({"prefix": dict(_PREFIXES), "entity": entity}))
    for read in (lambda: recorded_schema(tmp_path / "o.csv"), lambda: recorded(tmp_path / "o.csv", "input")):
        with pytest.raises(CatalogError, match=r"o\.csv\.prov\.json is damaged: entity"):
            read()


def test_a_pipe_under_the_name_of_a_record_is_not_waited_for(tmp_path):
    os.mkfifo(record_path(tmp_path / "o.csv"))
    assert recorded_schema(tmp_path / "o.csv") == ""
