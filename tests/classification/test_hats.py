"""HATS catalogs: the numbers of a plain run, on any cluster, nothing of the catalog lost, resumable by partition."""

import ast
import json
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from made import cutout_folder
from pyarrow import parquet as pq
from typer.testing import CliRunner

from galmorph.classification.classify import classify
from galmorph.cli import app as cli
from galmorph.errors import CannotContinue, CatalogError, GalmorphError, Interrupted, OutputError
from galmorph.images.cutout import read_cutout

pytest.importorskip("distributed", reason="the extra scale is not installed")
pytest.importorskip("hats", reason="the extra scale is not installed")

from distributed import Client, LocalCluster
from hatsmaking import DESCRIBED, PROPERTIES, targets, write_collection, write_hats

from galmorph.classification import hats as scale
from galmorph.classification.hats import classify_hats
from galmorph.tables.hats import HatsCatalog

OPTIONS = {"device": "cpu", "dtype": "float32", "batch_size": 4}
ARTIFACT = "p_smooth_or_featured_artifact"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """A folder with ten cutouts."""
    return cutout_folder(tmp_path_factory.mktemp("survey") / "cutouts", n=10, wcs=False).parent


@pytest.fixture(scope="module")
def client():
    options = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": "127.0.0.1:0"}
    with (
        LocalCluster(protocol="tcp", scheduler_kwargs={"dashboard": False}, **options) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def run(model, survey, client):
    """Classify on the cluster of the tests."""

    def run(folder, **options):
        return classify_hats(folder, model=model, client=client, **{"cutouts": survey, **OPTIONS, **options})

    return run


def partitions(folder):
    """The Parquet files of the partitions of a catalog, relative to it."""
    return sorted(path.relative_to(folder) for path in (folder / "dataset").rglob("*.parquet") if path.is_file())


def tree(folder):
    """The content of each file in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_collection_comes_back_with_the_numbers_of_a_plain_run(run, model, survey, tmp_path):
    table = targets()
    write_collection(tmp_path / "all", table)
    pq.write_table(table, tmp_path / "plain.parquet")
    plain = classify(
        tmp_path / "plain.parquet", model=model, cutouts=survey, workers=2, record_provenance=False, **OPTIONS
    )
    summary = run(tmp_path / "all", out=tmp_path / "out")
    assert (summary.targets, summary.classified, summary.failed) == (30, 30, 0), "rows of the margin are copies"
    assert (summary.labels, summary.flags) == (plain.labels, plain.flags)
    expected = pq.read_table(tmp_path / "plain_morph.parquet").to_pandas().set_index("objid")
    for member in ("galaxies", "margin"):
        files = partitions(tmp_path / "all" / member)
        assert partitions(tmp_path / "out" / member) == files
        assert len(files) > 3
        for file in files:
            got = pq.read_table(tmp_path / "out" / member / file).to_pandas().set_index("objid")
            assert list(got.index) == pq.read_table(tmp_path / "all" / member / file)["objid"].to_pylist()
            wanted = expected.loc[got.index]
            for name in expected.columns[:-3]:
                if name.startswith("p_"):
                    np.testing.assert_allclose(got[name], wanted[name], atol=1e-6)
            assert got[["morph_label", "morph_flag"]].equals(wanted[["morph_label", "morph_flag"]])
    for name in ("collection.properties", "by_id/hats.properties", "galaxies/skymap.fits"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "all" / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all", "out", "plain.parquet", "plain_morph.parquet"]


def test_positions_are_in_the_columns_that_the_properties_name(run, tmp_path):
    cutouts = cutout_folder(tmp_path / "cutouts", n=10)
    ra, dec = read_cutout(cutouts / "g0.fits").centre
    one = ["cutouts/g0.fits"] * 30
    table = targets(mean_ra=np.full(30, ra), mean_dec=np.full(30, dec), cutout=one)
    write_hats(tmp_path / "in", table, hats_col_ra="mean_ra", hats_col_dec="mean_dec")
    assert "off_centre" not in run(tmp_path / "in", cutouts=tmp_path, out=tmp_path / "out").flags
    named = {"ra_column": "ra", "dec_column": "dec", "out": tmp_path / "named"}
    assert run(tmp_path / "in", cutouts=tmp_path, **named).flags["off_centre"] == 30


def test_columns_stay_described_and_the_new_ones_are(run, tmp_path):
    write_hats(tmp_path / "in", targets())
    summary = run(tmp_path / "in")
    assert summary.out == str(tmp_path / "in_morph")
    out = tmp_path / "in_morph"
    files = [*partitions(out), "dataset/_common_metadata", "dataset/_metadata", "data_thumbnail.parquet"]
    for name in files:
        schema = pq.read_schema(out / name)
        for column, described in DESCRIBED.items():
            assert {k.decode(): v.decode() for k, v in schema.field(column).metadata.items()} == described
        assert schema.field(ARTIFACT).metadata[b"ucd"] == b"stat.probability;src.morph.type"
        assert b"Class1.3" in schema.field(ARTIFACT).metadata[b"description"]
        assert schema.metadata[b"survey"] == b"made up"
        cards = {card["key"]: card["value"] for card in json.loads(schema.metadata[b"galmorph"])["cards"]}
        assert (cards["GMMODEL"], cards["GMSHA256"]) == ("tiny", summary.sha256)
    whole = pq.read_metadata(out / "dataset" / "_metadata")
    assert whole.num_rows == 30
    assert pq.read_table(out / "data_thumbnail.parquet")[ARTIFACT].null_count == 0
    assert "morph_flag::max_value" in pq.read_schema(out / "per_partition_statistics.parquet").names


def test_properties_are_kept_and_say_what_is_new(run, tmp_path):
    from hats.catalog import TableProperties

    write_hats(tmp_path / "in", targets(), hats_cols_default="ra dec", obs_ack="thanks")
    run(tmp_path / "in", prefix="x_")
    properties = TableProperties.read_from_dir(tmp_path / "in_morph").model_dump(by_alias=True)
    assert properties["hats_nrows"] == 30
    assert (properties["obs_title"], properties["obs_ack"]) == (PROPERTIES["obs_title"], "thanks")
    assert properties["hats_builder"].startswith("galmorph v")
    assert properties["hats_cols_default"].split()[:3] == ["ra", "dec", "x_p_smooth_or_featured_smooth"]
    assert properties["hats_cols_default"].split()[-1] == "x_morph_flag"


@pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")  # lsdb's, when it is imported and when it reads
def test_lsdb_reads_the_result(run, tmp_path):
    lsdb = pytest.importorskip("lsdb", reason="the extra scale is not installed")
    from hats.io.validation import is_valid_catalog

    write_collection(tmp_path / "in", targets())
    run(tmp_path / "in")
    for name in ("galaxies", "margin"):
        assert is_valid_catalog(tmp_path / "in_morph" / name, strict=True)
    catalog = lsdb.open_catalog(tmp_path / "in_morph")
    table = catalog.compute()
    assert sorted(table["objid"]) == sorted(targets()["objid"].to_pylist())
    assert str(catalog.dtypes[ARTIFACT]) == "float[pyarrow]"
    p = table[[name for name in table.columns if name.startswith("p_smooth_or_featured_")]]
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    assert set(table["morph_flag"]) == {0}
    assert len(catalog.margin.compute()) == 30
    nearby = catalog.cone_search(float(table["ra"].iloc[0]), float(table["dec"].iloc[0]), 1.0).compute()
    assert list(nearby["morph_label"]) == [table["morph_label"].iloc[0]]


def test_partitions_that_are_folders(run, tmp_path):
    write_hats(tmp_path / "in", targets(), suffix="/")
    (tmp_path / "in" / "data_thumbnail.parquet").touch()
    assert run(tmp_path / "in").targets == 30
    assert partitions(tmp_path / "in_morph") == partitions(tmp_path / "in")
    assert pq.read_table(tmp_path / "in_morph" / "dataset")["morph_flag"].to_pylist() == [0] * 30
    assert pq.read_metadata(tmp_path / "in_morph" / "dataset" / "_metadata").num_rows == 30


def test_a_failed_target_is_a_flag_of_its_row(run, tmp_path):
    table = targets(12, cutout=["cutouts/none.fits", "", *["cutouts/g1.fits"] * 10])
    write_hats(tmp_path / "in", table)
    summary = run(tmp_path / "in")
    assert (summary.targets, summary.classified, summary.failed) == (12, 10, 2)
    assert summary.flags == {"unreadable": 2}


def test_no_rows_is_a_catalog(run, tmp_path):
    write_hats(tmp_path / "in", targets(3))
    for path in (tmp_path / "in" / "dataset").rglob("Npix=*"):
        path.unlink()
    (tmp_path / "in" / "partition_info.csv").write_text("Norder,Npix\n")
    assert run(tmp_path / "in").targets == 0
    assert ARTIFACT in pq.read_schema(tmp_path / "in_morph" / "dataset" / "_metadata").names


def test_a_bar_where_it_is_asked_for(run, tmp_path, capsys):
    write_hats(tmp_path / "in", targets())
    run(tmp_path / "in", progress=True)
    shown = capsys.readouterr().err
    assert "classifying: 100%" in shown
    assert "30/30" in shown


def test_a_stopped_run_goes_on_with_the_same_bytes(run, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    write_hats(tmp_path / "in", targets())
    run(tmp_path / "in", out=tmp_path / "whole")

    def stop(done, total):
        assert total == 30
        raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(Interrupted, match=r"Stopped after \d+ of 30 targets.*same command") as caught:
        run(tmp_path / "in", out=out, on_progress=stop)
    assert caught.value.exit_code == 130
    assert not out.exists()
    noted = list((tmp_path / ".out.galmorph" / "notes").rglob("*.json"))
    with pytest.raises(OutputError, match="another prefix"):
        run(tmp_path / "in", out=out, prefix="x_")
    again = counted(monkeypatch)
    run(tmp_path / "in", out=out)
    # What a worker was at when the run stopped may be noted after it.
    assert 0 < len(again) <= len(partitions(out)) - len(noted) < len(partitions(out))
    assert tree(out) == tree(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "whole"]


def counted(monkeypatch):
    """A list that gets the file of each call of classify by a worker."""
    files = []
    monkeypatch.setattr(scale, "classify", lambda path, **options: files.append(path) or classify(path, **options))
    return files


def command(*arguments):
    return [sys.executable, "-c", "from galmorph.cli.app import main; main()", "classify", *map(str, arguments)]


@pytest.mark.slow
@pytest.mark.timeout(900)  # its processes each import torch
def test_a_killed_run_goes_on_and_leaves_no_workers(run, model, survey, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    write_hats(tmp_path / "in", targets(200))
    options = [f"--{name.replace('_', '-')}={value}" for name, value in OPTIONS.items()]
    options += ["--model", model, "--cutouts", survey, "--workers", "1", "--out", tmp_path / "out"]
    process = subprocess.Popen(command(tmp_path / "in", *options), stderr=subprocess.DEVNULL, start_new_session=True)
    work = tmp_path / ".out.galmorph"
    while not list(work.rglob("Npix*.json")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    journals = [path.parent.name for path in work.rglob("rows.bin")]
    while alive(process.pid):
        time.sleep(0.05)
    assert not (tmp_path / "out").exists()
    again = counted(monkeypatch)
    run(tmp_path / "in", out=tmp_path / "out")
    assert 0 < len(again) < len(partitions(tmp_path / "in"))
    assert {f".{path.name}.galmorph" for path in again} >= set(journals), "what was begun is finished"
    run(tmp_path / "in", out=tmp_path / "whole")
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def alive(session):
    """Whether a process of a session is left."""
    sessions = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            sessions.append(int(path.read_text().rpartition(")")[2].split()[3]))
    return session in sessions


def test_a_damaged_partition_stops_no_other(run, tmp_path):
    write_hats(tmp_path / "in", targets())
    first = tmp_path / "in" / partitions(tmp_path / "in")[0]
    content = first.read_bytes()
    first.write_bytes(content[: len(content) // 2])
    with pytest.raises(
        CannotContinue, match=f"1 of [0-9]+ files.*same command.*\n.*{first.name}.*cannot be read"
    ) as caught:
        run(tmp_path / "in")
    assert caught.value.exit_code == 3
    noted = list((tmp_path / ".in_morph.galmorph" / "notes").rglob("*.json"))
    assert len(noted) == len(partitions(tmp_path / "in")) - 1
    first.write_bytes(content)
    assert run(tmp_path / "in").targets == 30


def test_a_partition_that_changed_is_classified_again(run, tmp_path, monkeypatch):
    write_hats(tmp_path / "in", targets())
    files = [tmp_path / "in" / file for file in partitions(tmp_path / "in")]
    contents = [path.read_bytes() for path in files]
    files[0].write_bytes(b"PAR1")
    with pytest.raises(CannotContinue):
        run(tmp_path / "in")
    files[0].write_bytes(contents[0])
    files[1].write_bytes(contents[1])
    again = counted(monkeypatch)
    run(tmp_path / "in")
    assert sorted(again) == files[:2]


def test_the_model_is_loaded_once_by_a_worker(run, tmp_path, monkeypatch):
    write_hats(tmp_path / "in", targets())
    loads = []
    original = scale.load
    monkeypatch.setattr(scale, "load", lambda name: loads.append(name) or original(name))
    scale._loaded.cache_clear()
    run(tmp_path / "in", dtype="auto")
    assert len(loads) == 2, "where the run was started, and on the worker"


def test_two_runs_on_one_output_are_refused(run, tmp_path):
    write_hats(tmp_path / "in", targets())
    with (
        scale._work(tmp_path / "in_morph", {}, resume=False),
        pytest.raises(OutputError, match="Another run is writing"),
    ):
        run(tmp_path / "in")


def test_overwriting_replaces_a_catalog_and_nothing_else(run, tmp_path):
    write_hats(tmp_path / "in", targets())
    run(tmp_path / "in")
    with pytest.raises(OutputError, match=r"exists.*--overwrite"):
        run(tmp_path / "in")
    (tmp_path / "in_morph" / "old").touch()
    run(tmp_path / "in", overwrite=True)
    assert not (tmp_path / "in_morph" / "old").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(OutputError, match="no HATS catalog"):
        run(tmp_path / "in", out=tmp_path / "mine", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "in_morph", "mine"]


def test_a_result_is_classified_again(run, tmp_path):
    write_hats(tmp_path / "in", targets())
    run(tmp_path / "in")
    with pytest.raises(CatalogError, match=r"--prefix.*--replace"):
        run(tmp_path / "in_morph")
    run(tmp_path / "in_morph", out=tmp_path / "b", replace=True)
    assert pq.read_schema(tmp_path / "b" / "dataset" / "_common_metadata").names.count(ARTIFACT) == 1


def wrong(name, folder):
    """Change a catalog, or return options, so that the run is refused; and the message."""
    if name == "inside":
        return {"out": folder / "out"}, OutputError, "lie in each other"
    if name == "no folder of the output":
        return {"out": folder.parent / "no" / "out"}, OutputError, "does not exist"
    if name in ("hdu", "kind", "catalog"):
        option = "as" if name == "kind" else name
        return {name: 1}, GalmorphError, f"--{option} means nothing for a HATS catalog"
    if name == "device":
        return {"device": "quantum"}, GalmorphError, "quantum"
    if name == "workers":
        return {"workers": 2}, GalmorphError, "--workers is for a cluster on this machine"
    if name == "size column":
        return {"size_column": "r91"}, CatalogError, "r91"
    if name == "partition":
        (folder / partitions(folder)[0]).unlink()
        return {}, CatalogError, r"lacks the partition dataset/Norder=1/Dir=0/Npix="
    if name == "HiPSCat":
        (folder / "hats.properties").unlink()
        return {}, CatalogError, "older HiPSCat"
    text = (folder / "hats.properties").read_text()
    if name == "association":
        (folder / "hats.properties").write_text(text.replace("=object", "=map"))
        return {}, CatalogError, "of kind map, which holds no galaxies"
    if name == "properties":
        (folder / "hats.properties").write_text(text.replace("hats_col_ra", "col_ra"))
        return {}, CatalogError, "(?s)cannot be read as a HATS catalog.*ra_column"
    raise AssertionError(name)


@pytest.mark.parametrize(
    "name",
    [
        *("inside", "no folder of the output", "hdu", "kind", "catalog", "device", "workers", "size column"),
        *("partition", "HiPSCat", "association", "properties"),
    ],
)
def test_wrong_usage_is_a_clear_error_and_writes_nothing(run, tmp_path, name):
    folder = write_hats(tmp_path / "in", targets(3))
    options, error, message = wrong(name, folder)
    before = tree(tmp_path)
    with pytest.raises(error, match=message) as caught:
        run(folder, **options)
    assert caught.value.exit_code == 2
    assert tree(tmp_path) == before


def test_a_margin_elsewhere_is_refused(run, tmp_path):
    write_collection(tmp_path / "in", targets(3))
    path = tmp_path / "in" / "collection.properties"
    path.write_text(path.read_text().replace("=margin", "=../margin"))
    with pytest.raises(CatalogError, match=r"\.\./margin, which is not in its folder"):
        run(tmp_path / "in")


def test_the_command_uses_a_running_cluster(model, survey, client, tmp_path):
    write_hats(tmp_path / "in", targets(4, cutout=["cutouts/g0.fits"] * 3 + ["none.fits"]))
    options = ["--model", model, "--cutouts", survey, "--device", "cpu", "--scheduler", client.scheduler.address]

    def invoke(*arguments):
        return CliRunner().invoke(cli.app, ["classify", *map(str, arguments)], catch_exceptions=True)

    result = invoke(tmp_path / "in", *options, "--json", "--strict")
    assert result.exit_code == 1
    printed = json.loads(result.stdout.splitlines()[-1])
    assert (printed["targets"], printed["failed"], printed["out"]) == (4, 1, str(tmp_path / "in_morph"))
    (tmp_path / "t.csv").write_text("id,cutout\n")
    assert "--scheduler is for HATS" in str(invoke(tmp_path / "t.csv", *options).exception)


def test_no_scheduler_is_reported(model, survey, tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "_CONNECT_S", 0.2)
    write_hats(tmp_path / "in", targets(3))
    with pytest.raises(CannotContinue, match=r"There is no Dask scheduler at tcp://127.0.0.1:9"):
        classify_hats(tmp_path / "in", model=model, cutouts=survey, scheduler="tcp://127.0.0.1:9")


def test_without_the_extra_the_remedy_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "find_spec", lambda name: None)
    with pytest.raises(GalmorphError, match=r"pip install 'galmorph-survey\[scale\]'"):
        classify_hats(tmp_path)


@pytest.mark.parametrize("module", ["classification/hats", "tables/hats"])
def test_the_extra_is_imported_when_it_is_used(module):
    body = ast.parse((ROOT / "galmorph" / f"{module}.py").read_text()).body
    names = {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in body if isinstance(node, ast.ImportFrom)}
    assert not {name.split(".")[0] for name in names} & {"dask", "distributed", "hats", "lsdb"}


@pytest.mark.parametrize("damage", ["output", "swapped", "note"])
def test_a_finished_partition_that_is_damaged_is_classified_again(run, tmp_path, monkeypatch, caplog, damage):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    write_hats(tmp_path / "in", targets())
    run(tmp_path / "in", out=tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(HatsCatalog, "complete", lambda *args, **options: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(tmp_path / "in", out=tmp_path / "out")
    work = tmp_path / ".out.galmorph"
    finished = sorted(work.glob("catalog/**/*.parquet"))
    path = finished[0] if damage != "note" else sorted(work.glob("notes/**/*.json"))[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(finished[1].read_bytes() if damage == "swapped" else content)
    again = counted(monkeypatch)
    run(tmp_path / "in", out=tmp_path / "out")
    assert len(again) == 1
    assert "classified again" in caplog.text
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_folder_that_appears_during_the_run_is_kept(run, tmp_path):
    write_hats(tmp_path / "in", targets())
    out = tmp_path / "out"

    def appear(done, total):
        out.mkdir(exist_ok=True)
        (out / "thesis.tex").touch()

    for overwrite in (False, True):
        with pytest.raises(CannotContinue, match=r"out cannot be written.*go on with the same command"):
            run(tmp_path / "in", out=out, overwrite=overwrite, on_progress=appear)
        assert [path.name for path in out.iterdir()] == ["thesis.tex"]
        (out / "thesis.tex").unlink()
        out.rmdir()
    run(tmp_path / "in", out=out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_a_hidden_folder_that_is_not_galmorphs_is_kept(run, tmp_path):
    write_hats(tmp_path / "in", targets())
    hidden = tmp_path / ".out.galmorph"
    (hidden / "notes").mkdir(parents=True)
    (hidden / "notes" / "mine").touch()
    with pytest.raises(OutputError, match="not galmorph's"):
        run(tmp_path / "in", out=tmp_path / "out")
    assert (hidden / "notes" / "mine").exists()
    (hidden / "notes").rename(hidden / "other")
    run(tmp_path / "in", out=tmp_path / "out")
    assert [path.name for path in hidden.iterdir()] == ["other"]
