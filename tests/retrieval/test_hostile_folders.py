"""What lies on disk is not believed: manifests of others, files that were changed, lists that change while read."""

import dataclasses
import os
import shutil
import sqlite3

import pytest
from standin import StandIn

from galmorph.errors import CannotContinue, CatalogError, GalmorphError, OutputError
from galmorph.images.cutout import read_cutout
from galmorph.retrieval.fetch import fetch, plan, status
from galmorph.tables.catalog import open_catalog

QUICK = {"rate": 1e5, "backoff_s": 0.01, "size": 8, "workers": 2}


@pytest.fixture(scope="module")
def server():
    with StandIn() as server:
        yield server


@pytest.fixture
def table(tmp_path):
    (tmp_path / "t.csv").write_text("name,ra,dec\na,10,1\nb,11,1\nc,12,1\n")
    return tmp_path / "t.csv"


@pytest.fixture(scope="module")
def fetched(server, tmp_path_factory):
    """A finished folder, to be copied."""
    folder = tmp_path_factory.mktemp("fetched")
    (folder / "t.csv").write_text("name,ra,dec\na,10,1\nb,11,1\nc,12,1\n")
    fetch(folder / "t.csv", out=folder / "out", base_url=f"{server.url}/viewer", **QUICK)
    return folder / "out"


@pytest.fixture
def out(fetched, tmp_path):
    return shutil.copytree(fetched, tmp_path / "out")


def run(server, table, out, **more):
    return fetch(table, out=out, base_url=f"{server.url}/viewer", **{**QUICK, **more})


def change(out, statement, *values):
    db = sqlite3.connect(out / "manifest.sqlite")
    with db:
        db.execute(statement, values)
    db.close()


def paths(out):
    db = sqlite3.connect(out / "manifest.sqlite")
    rows = dict(db.execute("SELECT id, path FROM manifest"))
    db.close()
    return rows


# Manifests


@pytest.mark.parametrize(
    "path",
    ["../victim.txt", "ab/../../victim.txt", "/etc/passwd", "{key2}/../../x-{key}.fits", "{key2}/.x-{key}.fits", "",
     "a\0b", "{key2}/x\x1b-{key}.fits", "{key2}/" + 200 * "x" + "-{key}.fits", "ff/x-{key}.fits"],
)  # fmt: skip
@pytest.mark.parametrize("state", ["pending", "ok"])
def test_a_manifest_leads_nowhere_else(server, table, out, path, state):
    victim = out.parent / "victim.txt"
    victim.write_text("precious")
    db = sqlite3.connect(out / "manifest.sqlite")
    (key,) = db.execute("SELECT key FROM manifest AS m JOIN requests AS r USING (path) WHERE id = 'a'").fetchone()
    db.close()
    planted = path.format(key=key, key2=key[:2])
    if planted == f"ff/x-{key}.fits" and key.startswith("ff"):
        pytest.skip("this is the right folder")
    change(out, "UPDATE requests SET path = ?, status = ? WHERE target_id = 'a'", planted, state)
    assert run(server, table, out).ok == 3
    assert victim.read_text() == "precious"
    for name, written in paths(out).items():
        assert written.startswith(written[:2] + "/")
        assert read_cutout(out / written).target_id == name


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("status", value) for value in ("", "OK", "gone", 7, b"ok")),
        *((column, value) for column in ("ra", "dec", "pixscale", "radius") for value in ("x", float("inf"), b"")),
        *(("size", value) for value in (-1, "x", 10**9, b"")),
        *(("place", value) for value in ("brick", b"\xff", 7)),
        *(("bytes", value) for value in ("x", -1, b"")),
        *(
            (column, value)
            for column in ("sha256", "coverage", "error", "note", "time")
            for value in (b"\xff", 7, "\x1b")
        ),
        ("attempts", "x"),
        ("first_row", "x"),
        ("mtime_ns", "x"),
        ("target_id", b"\xff\xfe"),
    ],
)
@pytest.mark.parametrize("state", ["as it was", "pending"])
def test_damaged_rows_are_put_right(server, table, out, column, value, state):
    change(out, f"UPDATE requests SET {column} = ? WHERE target_id = 'a'", value)
    if state == "pending" and column != "status":
        change(out, "UPDATE requests SET status = 'pending' WHERE target_id = 'b'")
    assert status(out).targets == 3
    assert run(server, table, out).ok == 3
    for name, path in paths(out).items():
        assert read_cutout(out / path).target_id == name


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER UPDATE ON requests BEGIN DELETE FROM targets; END",
        "CREATE VIEW more AS SELECT 1",
        "DROP TABLE targets",
        "DROP VIEW manifest",
        "ALTER TABLE requests RENAME TO wishes",
        "UPDATE meta SET value = '-1' WHERE name = 'format'",
        "UPDATE meta SET value = '\xb2' WHERE name = 'format'",
        "UPDATE meta SET value = 2.5 WHERE name = 'format'",
        "DELETE FROM meta",
    ],
)
def test_a_manifest_of_another_making_is_refused(server, table, out, statement):
    change(out, statement)
    for use in (lambda: run(server, table, out), lambda: status(out)):
        with pytest.raises(OutputError, match=r"manifest\.sqlite.*choose another --out") as caught:
            use()
        assert caught.value.exit_code == 2


@pytest.mark.parametrize("value", ["x", "nan", b"\xff", -1, float("inf")])
def test_damaged_totals_count_as_none(out, value):
    change(out, "UPDATE meta SET value = ? WHERE name = 'requests'", value)
    assert status(out).requests == 0


def test_a_manifest_of_the_first_format(server, table, out):
    change(out, "UPDATE meta SET value = '1' WHERE name = 'format'")
    change(out, "ALTER TABLE requests DROP COLUMN mtime_ns")
    assert (status(out).ok, run(server, table, out).requests) == (3, 0)
    assert run(server, table, out).requests == 0


@pytest.mark.parametrize(
    "name", [".lock", "manifest.sqlite", "manifest.sqlite-wal", "targets.csv", "sub", ".downloads"]
)
def test_links_are_not_followed(server, table, out, name, monkeypatch):
    victim = out.parent / "victim"
    if name in ("sub", ".downloads"):
        victim.mkdir()
        sub = out / paths(out)["a"][:2] if name == "sub" else out / name
        shutil.rmtree(sub, ignore_errors=True)
        sub.symlink_to(victim)
    else:
        victim.write_text("precious")
        (out / name).unlink(missing_ok=True)
        (out / name).symlink_to(victim)
    if name == ".downloads":
        monkeypatch.setenv("GALMORPH_BRICKS_URL", f"{server.url}/cfs/cosmo/data/legacysurvey")
    with pytest.raises(GalmorphError, match=r"link|no plain file") as caught:
        run(server, table, out, **({"way": "bricks"} if name == ".downloads" else {}))
    assert caught.value.exit_code in (2, 3)
    assert victim.read_text() == "precious" if victim.is_file() else list(victim.iterdir()) == []


# Files


def edit(path, offset):
    content = bytearray(path.read_bytes())
    content[offset] ^= 0xFF
    path.write_bytes(content)


def test_a_file_of_the_same_size_but_other_content_is_fetched_again(server, table, out):
    path = out / paths(out)["a"]
    before = path.read_bytes()
    edit(path, -1)
    assert run(server, table, out).requests == 1
    assert read_cutout(path).flux.tobytes() == read_cutout_of(before, out).flux.tobytes()


def read_cutout_of(content, out):
    (out.parent / "x.fits").write_bytes(content)
    return read_cutout(out.parent / "x.fits")


def test_cutouts_that_were_swapped_are_fetched_again(server, table, out):
    a, b = (out / paths(out)[name] for name in "ab")
    one, other = a.read_bytes(), b.read_bytes()
    a.write_bytes(other)
    b.write_bytes(one)
    assert run(server, table, out).requests == 2
    assert [read_cutout(path).target_id for path in (a, b)] == ["a", "b"]


def test_a_copied_folder_is_compared_once(server, table, out):
    for path in out.glob("??/*.fits"):
        path.touch()
    assert run(server, table, out).requests == 0
    db = sqlite3.connect(out / "manifest.sqlite")
    times = dict(db.execute("SELECT path, mtime_ns FROM requests"))
    db.close()
    assert all((out / path).stat().st_mtime_ns == mtime for path, mtime in times.items())


def test_damage_that_keeps_size_and_time_is_looked_for_on_request(server, table, out):
    path = out / paths(out)["a"]
    before = path.stat()
    edit(path, -1)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert run(server, table, out).requests == 0
    assert run(server, table, out, verify=True).requests == 1


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), os.mkfifo], ids=["folder", "fifo"])
def test_what_is_no_file_under_a_cutouts_name(server, table, out, make):
    path = out / paths(out)["a"]
    path.unlink()
    make(path)
    if path.is_dir():
        with pytest.raises(CannotContinue, match=r"cannot be written.*run the same command again"):
            run(server, table, out)
    else:
        assert run(server, table, out).ok == 3


# The list of targets


def replaced(path):
    new = path.with_name("new")
    new.write_text("name,ra,dec\na,40,1\nb,41,1\nc,42,1\n")
    new.replace(path)


@pytest.mark.parametrize(
    "alter",
    [
        replaced,
        lambda path: path.write_text("name,ra,dec\na,40,1\nb,41,1\nc,42,1\n"),
        os.unlink,
        lambda path: path.touch(),
    ],
    ids=["replaced", "rewritten", "removed", "touched"],
)
def test_a_list_that_changes_during_a_run_ends_it(server, table, tmp_path, alter):
    out = tmp_path / "o"
    with pytest.raises(CannotContinue, match=r"t\.csv was changed .*run the same command again") as caught:
        run(server, table, out, on_progress=lambda done, total: alter(table) if done == 1 else None)
    assert caught.value.exit_code == 3
    assert not (out / "targets.csv").exists()
    assert len(list(out.glob("??/*.fits"))) == 3, "what is done is kept"
    table.write_text("name,ra,dec\nc,12,1\nd,13,1\n")
    summary = run(server, table, out)
    assert (summary.ok, summary.requests) == (2, 1)
    (block,) = open_catalog(out / "targets.csv").blocks(9)
    assert [read_cutout(out / path).target_id for path in block.cutout] == ["c", "d"]


def test_a_list_that_changes_while_it_is_read(server, table, tmp_path):
    table = open_catalog(table)
    os.utime(table.path, ns=(1, 1))
    with pytest.raises(CannotContinue, match="was changed"):
        run(server, table, tmp_path / "o")
    assert not list((tmp_path / "o").glob("??/*.fits"))


# What a dry run says


def test_a_dry_run_counts_invalid_rows_and_their_reasons(tmp_path):
    (tmp_path / "t.csv").write_text("name,ra,dec\na,10,1\nb,,1\nc,x,95\nd,y,94\ne,400,\n")
    found = plan(tmp_path / "t.csv")
    assert found.invalid == {
        "ra is not a number, dec is outside -90..90": 2,
        "ra is empty": 1,
        "ra is outside -180..360, dec is empty": 1,
    }
    assert (found.targets, found.ways[0].requests) == (5, 1)
    assert plan(tmp_path / "t.csv", limit=2).invalid == {"ra is empty": 1}
    assert dataclasses.asdict(found)["invalid"] == found.invalid


def test_a_list_without_positions(tmp_path):
    (tmp_path / "t.csv").write_text("name\na\n")
    with pytest.raises(CatalogError):
        plan(tmp_path / "t.csv")


def test_what_would_lie_beside_the_table_is_looked_at_before_anyone_is_asked(tmp_path):
    (tmp_path / "t.csv").write_text("id,ra,dec\na,10,5\n")
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "targets.csv.json").write_text("my notes")
    with pytest.raises(GalmorphError, match=r"targets\.csv\.json exists and is not galmorph's") as caught:
        fetch(tmp_path / "t.csv", out=tmp_path / "o", base_url="http://127.0.0.1:1/viewer")
    assert caught.value.exit_code == 2
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["targets.csv.json"]
