"""Outputs: files that are not galmorph's are kept, and what cannot be written is refused before the first galaxy."""

import os
import resource

import numpy as np
import pytest
from astropy.table import Table
from made import cutout_folder, model_file

from galmorph.classification import classify as classification
from galmorph.classification.classify import classify
from galmorph.errors import CannotContinue, CatalogError, GalmorphError, OutputError
from galmorph.models.model import load
from galmorph.models.predictor import Predictor


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return Predictor(load(model_file(tmp_path_factory.mktemp("model") / "m.safetensors")), "cpu", "float32")


@pytest.fixture
def survey(tmp_path):
    cutout_folder(tmp_path / "cutouts", n=3)
    (tmp_path / "t.csv").write_text("id,cutout\n" + "".join(f"{i},cutouts/g{i}.fits\n" for i in range(3)))
    return tmp_path


@pytest.fixture
def run(predictor, monkeypatch):
    """Classify, and count the galaxies that were looked at."""
    rows = []
    real = classification.classify_rows

    def counted(source, loaded, journal, *args):
        rows.append(source.n_rows - len(journal))
        return real(source, loaded, journal, *args)

    monkeypatch.setattr(classification, "classify_rows", counted)

    def run(*args, **options):
        return classify(*args, model=predictor, batch_size=2, workers=1, **options)

    run.rows = rows
    return run


def tree(folder):
    return {p.relative_to(folder): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def refused(run, folder, message, *args, kind=GalmorphError, **options):
    before = tree(folder)
    with pytest.raises(kind, match=message) as caught:
        run(*args, **options)
    assert caught.value.exit_code == 2
    assert run.rows == []
    assert tree(folder) == before


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("content", ["my notes", "{}", '{"prefix": []}', '{"prefix": {"run": "urn:mine"}}', None])
def test_a_foreign_file_with_the_name_of_the_record(run, survey, content, overwrite):
    path = survey / "o.csv.prov.json"
    path.symlink_to("none") if content is None else path.write_text(content)
    refused(
        run,
        survey,
        r"prov\.json exists and is not galmorph's",
        survey / "t.csv",
        out=survey / "o.csv",
        overwrite=overwrite,
    )


@pytest.mark.parametrize("content", ["{}", "[1]", "x", None])
def test_a_foreign_file_with_the_name_of_the_description(run, survey, content):
    path = survey / "o.csv.json"
    path.symlink_to("none") if content is None else path.write_text(content)
    refused(run, survey, r"o\.csv\.json exists and is not galmorph's", survey / "t.csv", out=survey / "o.csv")
    refused(run, survey, r"o\.csv\.json exists and is not galmorph's", survey / "cutouts", out=survey / "o.csv")


def test_records_of_earlier_runs_are_replaced(run, survey):
    run(survey / "t.csv", out=survey / "o.csv")
    (survey / "o.csv").unlink()
    first = (survey / "o.csv.prov.json").read_bytes()
    run(survey / "t.csv", out=survey / "o.csv", spread=False, prefix="a_")
    assert (survey / "o.csv.prov.json").read_bytes() != first
    assert b"a_p_" in (survey / "o.csv.json").read_bytes()


def test_too_many_columns(run, survey):
    columns = {f"c{i}": np.zeros(3, "i2") for i in range(980)}
    Table({"cutout": [f"cutouts/g{i}.fits" for i in range(3)], **columns}).write(survey / "w.fits")
    refused(run, survey, "holds 999 at most", survey / "w.fits", kind=CatalogError)


def test_names_that_fits_cannot_hold(run, survey):
    (survey / "cutouts" / "g0.fits").rename(survey / "cutouts" / "galaxía.fits")
    refused(run, survey, "'galaxía' is not ASCII", survey / "cutouts", kind=CatalogError)
    assert run(survey / "cutouts", out=survey / "o.csv").targets == 3


def test_a_date_that_is_none(run, survey, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "today")
    refused(run, survey, "SOURCE_DATE_EPOCH is 'today'", survey / "t.csv")


def test_folders_and_links(run, survey):
    (survey / "file").touch()
    (survey / "link.csv").symlink_to(survey / "none" / "x.csv")
    (survey / "o.csv").mkdir()
    for name, message in (
        ("file/x.csv", "does not exist"),
        ("none/x.csv", "does not exist"),
        ("link.csv", "none of the output does not exist"),
        ("o.csv", "is a folder"),
    ):
        refused(run, survey, message, survey / "t.csv", out=survey / name, kind=OutputError)
    (survey / ".f.csv.galmorph").touch()
    refused(run, survey, "not a folder of galmorph's", survey / "t.csv", out=survey / "f.csv", kind=OutputError)


@pytest.mark.parametrize("name", ["o.csv", "o.csv.prov.json", "o.csv.json"])
@pytest.mark.parametrize("without_links", [True, False])
def test_a_file_that_appears_during_the_run_is_kept(run, survey, monkeypatch, name, without_links):
    if without_links:

        def refuse(*args, **options):
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)

    out, mine = survey / "o.csv", survey / name

    def appear(done, total):
        mine.write_text("mine")

    before = set(tree(survey))
    with pytest.raises(CannotContinue, match="go on with the same command"):
        run(survey / "t.csv", out=out, on_progress=appear)
    assert mine.read_text() == "mine"
    left = {p for p in set(tree(survey)) - before if ".o.csv.galmorph" not in str(p)}
    assert left == {mine.relative_to(survey)}
    mine.unlink()
    assert run(survey / "t.csv", out=out).classified == 3
    assert run.rows == [3, 0]
    assert {p.name for p in survey.iterdir()} == {"cutouts", "t.csv", "o.csv", "o.csv.json", "o.csv.prov.json"}


def test_a_file_that_appeared_after_a_kill_is_kept(run, survey, monkeypatch):
    out = survey / "o.csv"
    with monkeypatch.context() as patch:
        patch.setattr(classification, "summarize", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(survey / "t.csv", out=out)
    written = out.read_bytes()
    out.unlink()
    out.write_bytes(written)  # another file: no run can tell that it wrote this
    with pytest.raises(OutputError, match="exists"):
        run(survey / "t.csv", out=out)
    assert out.read_bytes() == written


@pytest.mark.parametrize("limit", [100, 700, 2_000, 3_500])
def test_files_that_are_limited_in_every_phase(run, survey, limit):
    """State, results, table and record are written one after another; each meets the limit somewhere."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(CannotContinue, match="File too large"):
            run(survey / "t.csv", out=survey / "o.csv")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(survey.glob("*o.csv*.part"))
    assert not (survey / "o.csv").exists()
    assert run(survey / "t.csv", out=survey / "o.csv").classified == 3
