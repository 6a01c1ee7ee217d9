"""Tables and cutouts of a bucket or a server, through fsspec: its memory file system, and a local HTTP server."""

import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from made import cutout_folder, model_file
from typer.testing import CliRunner

import galmorph
from galmorph.classification import prepare
from galmorph.classification.classify import classify
from galmorph.cli.app import app
from galmorph.errors import CannotContinue, CatalogError, GalmorphError, OutputError
from galmorph.files.remote import Remote, is_remote
from galmorph.images.flags import Flag
from galmorph.schemas import LabelSchema, Question
from galmorph.tables.catalog import open_catalog
from galmorph.training.reading import check_paths, infer_schema

fsspec = pytest.importorskip("fsspec", reason="fsspec (extra remote) is absent")
FAST = {"device": "cpu", "dtype": "float32", "batch_size": 4, "workers": 2}
TABLE = "id,ra,cutout\na,150,cut/g0.fits\nb,151,cut/none.fits\nc,152,cut/g2.fits\n"


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    folder = tmp_path_factory.mktemp("local")
    cutout_folder(folder / "cut", n=3)
    (folder / "t.csv").write_text(TABLE)
    return folder


@pytest.fixture
def bucket(local):
    """The same files in memory."""
    files = fsspec.filesystem("memory")
    files.put(f"{local}/", "/bucket/", recursive=True)
    yield files
    files.rm("/bucket", recursive=True)


@pytest.fixture
def server(local):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(local))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("GALMORPH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prepare, "FIRST_WAIT_S", 0.001)


def probabilities(path):
    table = Table.read(path)
    return np.stack([np.ma.filled(np.ma.asarray(table[n], float), np.nan) for n in table.colnames if n[:2] == "p_"])


def expected(local, model, tmp_path):
    classify(local / "t.csv", model=model, out=tmp_path / "expected.csv", **FAST)
    return probabilities(tmp_path / "expected.csv")


def test_a_table_and_its_cutouts_in_a_bucket(bucket, local, model, tmp_path):
    summary = classify("memory://bucket/t.csv", model=model, **FAST)
    assert summary.out == "t_morph.csv"
    np.testing.assert_array_equal(probabilities(tmp_path / "t_morph.csv"), expected(local, model, tmp_path))
    assert list(Table.read(tmp_path / "t_morph.csv")["morph_flag"] & Flag.UNREADABLE) == [0, Flag.UNREADABLE, 0]
    record = json.loads((tmp_path / "t_morph.csv.prov.json").read_text())
    assert record["activity"]["run:classify"]["galmorph:address"] == "memory://bucket/t.csv"
    assert record["entity"]["run:cutouts"]["voprov:location"] == "memory://bucket"


def test_a_table_and_its_cutouts_on_a_server(server, local, model, tmp_path):
    result = CliRunner().invoke(app, ["classify", f"{server}/t.csv", "--model", str(model), "--out", "o.csv"])
    assert result.exit_code == 0, result.output
    np.testing.assert_allclose(probabilities(tmp_path / "o.csv"), expected(local, model, tmp_path), atol=0.02)


@pytest.mark.parametrize("suffix", [".csv", ".fits"])
def test_results_at_an_address_are_reported_selected_and_shown(suffix, bucket, server, local, model, tmp_path):
    """What classify reads all that read tables read too; the cutouts are found beside the table."""
    classify(Table.read(local / "t.csv"), cutouts=local, model=model, out=tmp_path / f"r{suffix}", **FAST)
    bucket.put(str(tmp_path / f"r{suffix}"), f"/bucket/r{suffix}")
    (local / f"r{suffix}").write_bytes((tmp_path / f"r{suffix}").read_bytes())
    for address in (f"memory://bucket/r{suffix}", f"{server}/r{suffix}"):
        for path in (address, Path(address)):
            made = galmorph.report(path, tmp_path / "r.html", model=str(model))
            assert (made.rows, made.pictures) == (3, 2)
            galaxy = galmorph.show(path, "c", model=model)
            assert (galaxy.id, galaxy.picture is None) == ("c", False)
        chosen = galmorph.select(address, "morph_ok or morph_flag == 0")
        assert chosen.out == f"r_selected{suffix}"
        assert len(Table.read(tmp_path / chosen.out)) == len(chosen)
        (tmp_path / chosen.out).unlink()
        assert open_catalog(address, needs_position=False).n_rows == 3
    result = CliRunner().invoke(app, ["select", address, "ra > 151", "--count"])
    assert result.exit_code == 0, result.output


def test_own_labels_of_a_table_at_an_address_are_in_the_record_beside_it(bucket, server, local, tmp_path):
    own = LabelSchema("shapes", "Shapes.", "", (Question("class", ("round", "thin")),), ("round", "thin"))
    classes = model_file(tmp_path / "own.safetensors", "rings", schema_definition=own.to_mapping())
    classify(local / "t.csv", model=classes, out=tmp_path / "own.csv", **FAST)
    for name in ("own.csv", "own.csv.prov.json"):
        bucket.put(str(tmp_path / name), f"/bucket/{name}")
    assert galmorph.select("memory://bucket/own.csv", "round >= 0", write=False).total == 3


def test_labelled_data_at_an_address_are_refused_with_what_to_do(bucket):
    for read in (check_paths, infer_schema):
        with pytest.raises(
            GalmorphError,
            match=r"^memory://bucket/t.csv is an address, and here a file of this machine is read: copy it first",
        ):
            read([Path("memory://bucket/t.csv")])


def test_a_local_table_with_cutouts_elsewhere(bucket, server, local, model, tmp_path):
    (tmp_path / "t.csv").write_text(TABLE)
    same = expected(local, model, tmp_path)
    for number, folder in enumerate(["memory://bucket", server]):
        classify(tmp_path / "t.csv", cutouts=folder, model=model, out=tmp_path / f"{number}.csv", **FAST)
        np.testing.assert_array_equal(probabilities(tmp_path / f"{number}.csv"), same)


def test_addresses_in_a_table_are_allowed_by_their_beginning(bucket, model, tmp_path):
    (tmp_path / "t.csv").write_text("id,cutout\na,memory://bucket/cut/g0.fits\nb,memory://bucket/cut/g1.fits\n")
    with pytest.raises(CatalogError, match=r"are addresses .*--cutouts memory://bucket/cut/"):
        classify(tmp_path / "t.csv", model=model, **FAST)
    assert classify(tmp_path / "t.csv", model=model, cutouts="memory://bucket/cut/", **FAST).classified == 2


@pytest.mark.parametrize("path", ["memory://other/g0.fits", "../t.csv", "memory://bucket/cut/../t.csv", "/etc/passwd"])
def test_nothing_outside_the_named_folder_is_asked_for(bucket, model, tmp_path, path):
    (tmp_path / "t.csv").write_text(f"id,cutout\na,{path}\nb,g1.fits\n")
    summary = classify(tmp_path / "t.csv", model=model, cutouts="memory://bucket/cut", **FAST)
    assert (summary.classified, summary.failed) == (1, 1)


def test_a_folder_and_one_cutout(bucket, server, model, tmp_path):
    assert classify("memory://bucket/cut", model=model, **FAST).classified == 3
    table = Table.read(tmp_path / "cut_morph.fits")
    assert list(table["cutout"]) == ["g0.fits", "g1.fits", "g2.fits"]
    assert table["ra"] == pytest.approx([150, 151, 152])
    assert classify(f"{server}/cut/g1.fits", model=model, **FAST).out == "g1_morph.fits"
    with pytest.raises(GalmorphError, match="no cutouts"):
        classify(f"{server}/cut/none/", model=model, **FAST)


def test_cutouts_are_found_by_identifier(bucket, model, tmp_path):
    (tmp_path / "t.csv").write_text("objid\ng1\ng2\n")
    assert classify(tmp_path / "t.csv", cutouts="memory://bucket/cut", model=model, **FAST).classified == 2


def test_a_survey_image_elsewhere(bucket, model):
    summary = classify("memory://bucket/cut/g0.fits", kind="field", model=model, **FAST)
    assert summary.out.endswith("_morph.fits")


def test_the_copy_of_a_table_is_kept_until_it_changes(bucket, tmp_path):
    first = Remote.of("memory://bucket/t.csv").kept()
    state = first.stat().st_mtime_ns
    assert Remote.of("memory:/bucket/t.csv").kept() == first
    assert first.stat().st_mtime_ns == state
    with bucket.open("/bucket/t.csv", "wb") as file:
        file.write(b"id,ra\na,1,2\n")
    second = Remote.of("memory://bucket/t.csv").kept()
    assert second.read_bytes() == b"id,ra\na,1,2\n"
    assert not first.exists()


@pytest.mark.parametrize(
    ("survey", "options", "error", "words"),
    [
        ("memory://bucket/none.csv", {}, GalmorphError, "There is no file memory://bucket/none.csv"),
        ("http://127.0.0.1:9/t.csv", {}, CannotContinue, "cannot be read: .*Try again"),
        ("memory://bucket/t.csv", {"out": "memory://bucket/o.csv"}, OutputError, "name a file of this machine"),
        ("memory://bucket/empty/", {}, GalmorphError, "no cutouts|There is no file"),
    ],
)
def test_what_goes_wrong_has_a_message(bucket, model, survey, options, error, words):
    with pytest.raises(error, match=words):
        classify(survey, model=model, **options, **FAST)


def test_a_server_that_fails_ends_the_run_and_not_the_galaxies(model, tmp_path):
    (tmp_path / "t.csv").write_text("id,cutout\na,g0.fits\n")
    with pytest.raises(CannotContinue, match=r"http://127\.0\.0\.1:9/g0\.fits cannot be read"):
        classify(tmp_path / "t.csv", cutouts="http://127.0.0.1:9", model=model, **FAST)


def test_addresses():
    assert not is_remote("file:///etc/passwd")
    assert not is_remote("/data/s3:/x")
    assert str(Remote.of("https:/user:secret@host/a/b.csv?x=1")) == "https://host/a/b.csv?x=1"
    remote = Remote.of("s3://bucket/a/b.csv")
    assert (remote.name, remote.parent.url) == ("b.csv", "s3://bucket/a/")
    with pytest.raises(GalmorphError, match="no address that can be read"):
        Remote.of("ftp://host/a")


def test_without_the_package_the_extra_is_named(monkeypatch, bucket):
    monkeypatch.setitem(__import__("sys").modules, "fsspec.core", None)
    with pytest.raises(GalmorphError, match=r"galmorph-survey\[remote\]"):
        Remote.of("memory://bucket/t.csv").kept()
