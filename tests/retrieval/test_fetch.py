"""Fetching a list: every target ends in its true state, whatever the service, the disk and the user do."""

import asyncio
import dataclasses
import json
import os
import signal
import sqlite3
import threading
import time

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from standin import Box, Galaxy, Sky, StandIn

from galmorph.errors import CannotContinue, CatalogError, GalmorphError, Interrupted, OutputError
from galmorph.images.cutout import read_cutout
from galmorph.retrieval import fetch as retrieval
from galmorph.retrieval import store as storage
from galmorph.retrieval.fetch import fetch, plan, status
from galmorph.tables.catalog import open_catalog

QUICK = {"rate": 1000.0, "backoff_s": 0.02, "timeout_s": 60.0, "size": 16}
SKY = Sky(
    off=(Box(0, 360, -90, -70),),
    holes=((Box(50, 60, 0, 10), "r"), (Box(70, 80, 0, 10), "griz"), (Box(90, 91, 0, 5.0), "g")),
)
TARGETS = {
    "fine": (10.0, 5.0, "ok"),
    "zero": (0.0, 0.0, "ok"),
    "no_r": (55.0, 5.0, "partial"),
    "half_g": (90.5, 5.0, "partial"),
    "empty": (75.0, 5.0, "no_coverage"),
    "off": (10.0, -80.0, "no_coverage"),
    "far": (400.0, 5.0, "invalid"),
    "none": ("", 5.0, "invalid"),
    "edge": (359.99999999, 60.0, "ok"),
}


@pytest.fixture
def server():
    with StandIn(SKY) as server:
        yield server


def write(path, rows):
    path.write_text("name,ra,dec\n" + "".join(f"{name},{ra},{dec}\n" for name, (ra, dec, *_) in rows.items()))
    return path


def many(n):
    return {f"g{i}": (100 + i / 7, i / 11) for i in range(n)}


def run(server, table, out, **more):
    return fetch(table, out=out, base_url=f"{server.url}/viewer", **{**QUICK, **more})


def states(out):
    db = sqlite3.connect(out / "manifest.sqlite")
    try:
        return dict(db.execute("SELECT id, status FROM manifest"))
    finally:
        db.close()


def errors(out):
    db = sqlite3.connect(out / "manifest.sqlite")
    try:
        return {name: error or "" for name, error in db.execute("SELECT id, error FROM manifest")}
    finally:
        db.close()


def cutouts(out):
    return sorted(path.relative_to(out).as_posix() for path in out.glob("??/*.fits"))


def test_every_target_gets_its_true_state(server, tmp_path):
    table, out = write(tmp_path / "t.csv", TARGETS), tmp_path / "out"
    summary = run(server, table, out)
    assert states(out) == {name: state for name, (*_, state) in TARGETS.items()}
    assert (summary.ok, summary.partial, summary.no_coverage, summary.failed, summary.invalid) == (3, 2, 2, 0, 2)
    assert summary.targets == len(TARGETS)
    assert summary.requests == len(server.seen.requests)
    assert "pending" not in summary.as_dict()
    rows = Table.read(out / "targets.csv", format="ascii.csv")
    assert rows.colnames == ["name", "ra", "dec", "cutout", "fetch_status"]
    assert rows["fetch_status"].tolist() == [state for *_, state in TARGETS.values()]
    for row in rows:
        assert bool(row["cutout"]) == (row["fetch_status"] in ("ok", "partial"))
        if row["cutout"]:
            assert read_cutout(out / row["cutout"]).target_id == row["name"]
    assert errors(out)["none"] == "ra is empty"
    assert "uniform picture" in errors(out)["off"]
    again = run(server, table, out)
    assert again.requests == 0
    assert dataclasses.replace(again, requests=0, bytes=0, seconds=0) == dataclasses.replace(
        summary, requests=0, bytes=0, seconds=0
    )


def test_the_manifest_says_it_all(server, tmp_path):
    run(server, write(tmp_path / "t.csv", TARGETS), tmp_path / "out")
    db = sqlite3.connect(tmp_path / "out" / "manifest.sqlite")
    db.row_factory = sqlite3.Row
    rows = {row["id"]: row for row in db.execute("SELECT * FROM manifest")}
    db.close()
    row = rows["no_r"]
    assert json.loads(row["coverage"]) == {"g": 1.0, "r": 0.0, "z": 1.0}
    assert row["request"].startswith(f"{server.url}/viewer/fits-cutout?ra=55.00000000&dec=5.00000000&layer=ls-dr9")
    path = tmp_path / "out" / row["path"]
    assert (row["attempts"], row["bytes"]) == (1, path.stat().st_size)
    assert len(row["sha256"]) == 64
    assert row["time"].endswith("Z")
    assert rows["off"]["attempts"] == 3


@pytest.mark.parametrize("suffix", ["csv", "fits", "ecsv", "vot", "parquet"])
def test_any_table(server, tmp_path, suffix):
    table = Table({"RA": [10.0, 11.0], "Dec": [5.0, 6.0], "objid": [1237648720693755918, 1237648720693755919]})
    formats = {"csv": "ascii.csv", "ecsv": "ascii.ecsv", "vot": "votable"}
    table.write(tmp_path / f"in.{suffix}", format=formats.get(suffix, suffix))
    run(server, tmp_path / f"in.{suffix}", tmp_path / "out")
    result = open_catalog(tmp_path / "out" / f"targets.{suffix}")
    columns = result.read(["objid", "fetch_status", "cutout"])
    assert columns["objid"].tolist() == [1237648720693755918, 1237648720693755919]
    assert [str(value) for value in columns["fetch_status"]] == ["ok", "ok"]
    (block,) = result.blocks(10)
    assert [read_cutout(tmp_path / "out" / path).target_id for path in block.cutout] == block.id.tolist()


@pytest.mark.parametrize(
    "kind",
    ["429", "500", "502", "503", "504", "reset", "half", "chunked", "unsized", "short", "empty", "elsewhere",
     "redirect", "redirect-host", "retry-after-seconds", "retry-after-date"],
)  # fmt: skip
def test_a_fault_that_passes_leaves_no_trace(server, tmp_path, kind):
    server.inject(kind, times=3, value=0)
    summary = run(server, write(tmp_path / "t.csv", many(8)), tmp_path / "out", workers=3)
    assert summary.ok == 8
    assert len(cutouts(tmp_path / "out")) == 8


def test_a_web_page_fails_its_target_only(server, tmp_path):
    server.inject("html", times=1)
    summary = run(server, write(tmp_path / "t.csv", many(5)), tmp_path / "out", workers=1)
    assert (summary.ok, summary.failed) == (4, 1)
    assert "not FITS" in errors(tmp_path / "out")["g0"]


def test_a_target_that_always_fails(server, tmp_path):
    table, out = write(tmp_path / "t.csv", many(6)), tmp_path / "out"
    server.inject("503", times=None, when=lambda request: "ra=100.28" in request.target)
    summary = run(server, table, out, retries=3)
    assert (summary.ok, summary.failed) == (5, 1)
    assert states(out)["g2"] == "failed"
    assert server.seen.count("ra=100.28") == 3
    server.faults.clear()
    assert run(server, table, out).requests == 0
    healed = run(server, table, out, retry_failed=True)
    assert (healed.ok, healed.failed, healed.requests) == (6, 0, 1)
    assert errors(out)["g2"] == ""


def test_a_service_that_is_down_ends_the_run_and_fails_no_target(server, tmp_path):
    table, out = write(tmp_path / "t.csv", many(40)), tmp_path / "out"
    server.inject("503", times=None)
    with pytest.raises(CannotContinue, match="or the network, is down") as caught:
        run(server, table, out, workers=4, retries=3)
    assert caught.value.exit_code == 3
    # The targets in flight and the control, never the list.
    assert len(server.seen.requests) <= 4 * 3 + 3
    assert set(states(out).values()) == {"pending"}
    server.faults.clear()
    assert run(server, table, out).ok == 40


def test_a_service_that_goes_down_on_the_way(server, tmp_path):
    table, out = write(tmp_path / "t.csv", many(30)), tmp_path / "out"
    before = []
    server.inject("502", times=None, when=lambda request: before.append(1) or len(before) > 12)
    with pytest.raises(CannotContinue):
        run(server, table, out, workers=2, retries=2)
    counts = list(states(out).values())
    assert counts.count("failed") == 0
    assert counts.count("ok") == 12
    server.faults.clear()
    server.forget()
    assert run(server, table, out).ok == 30
    assert len(server.seen.requests) == 18


def test_a_wrong_address_ends_the_run(server, tmp_path):
    with pytest.raises(CannotContinue, match="not FITS"):
        fetch(write(tmp_path / "t.csv", many(20)), out=tmp_path / "out", base_url=f"{server.url}/viewer/x", **QUICK)
    assert len(server.seen.requests) <= 10


def test_nobody_there(tmp_path):
    with pytest.raises(CannotContinue, match=r"127\.0\.0\.1:9"):
        fetch(write(tmp_path / "t.csv", many(20)), out=tmp_path / "out", base_url="http://127.0.0.1:9/viewer", **QUICK)


def test_an_unknown_layer_is_the_users_error(server, tmp_path):
    with pytest.raises(GalmorphError, match="does not know the layer 'ls-dr12'") as caught:
        run(server, write(tmp_path / "t.csv", many(5)), tmp_path / "out", layer="ls-dr12")
    assert caught.value.exit_code == 2


def test_a_dripping_server(server, tmp_path):
    server.inject("drip", times=None, value=1.0, when=lambda request: "ra=100.00" in request.target)
    summary = run(server, write(tmp_path / "t.csv", many(4)), tmp_path / "out", timeout_s=2.0, retries=2)
    assert (summary.ok, summary.failed) == (3, 1)
    assert "no complete answer" in errors(tmp_path / "out")["g0"]


def test_limits_hold(server, tmp_path):
    server.latency = 0.02
    run(server, write(tmp_path / "t.csv", many(30)), tmp_path / "out", workers=3, rate=25)
    assert server.seen.most_in_flight <= 3
    assert server.seen.most_in_a_second() <= 26


def test_changed_parameters_make_new_files(server, tmp_path):
    table, out = write(tmp_path / "t.csv", many(2)), tmp_path / "out"
    run(server, table, out)
    first = {path: (out / path).read_bytes() for path in cutouts(out)}
    summary = run(server, table, out, pixscale=0.5)
    assert summary.requests == 2
    assert {path: (out / path).read_bytes() for path in first} == first
    assert len(cutouts(out)) == 4
    assert run(server, table, out).requests == 0
    (block,) = open_catalog(out / "targets.csv").blocks(5)
    assert set(block.cutout) == set(first)


def test_another_address_is_the_same_image(server, tmp_path):
    table, out = write(tmp_path / "t.csv", many(3)), tmp_path / "out"
    run(server, table, out)
    with StandIn(SKY) as mirror:
        assert run(mirror, table, out).requests == 0


def test_a_list_that_changes(server, tmp_path):
    out = tmp_path / "out"
    table = tmp_path / "t.csv"
    table.write_text("ra,dec\n10,1\n11,1\n12,1\n")
    run(server, table, out)
    table.write_text("ra,dec\n9,1\n12,1\n10,1\n")
    assert run(server, table, out).requests == 1
    (block,) = open_catalog(out / "targets.csv").blocks(5)
    for path, ra in zip(block.cutout, (9, 12, 10), strict=True):
        assert fits.getheader(out / path)["CRVAL1"] == ra


def test_the_same_target_twice_is_asked_for_once(server, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("name,ra,dec\na,10,1\na,10,1\nb,10,1\n,11,1\n,11,1\n")
    summary = run(server, table, tmp_path / "out")
    assert (summary.ok, summary.requests) == (5, 2)
    (block,) = open_catalog(tmp_path / "out" / "targets.csv").blocks(9)
    assert all(block.cutout)


def test_only_what_is_gone_or_damaged_is_fetched_again(server, tmp_path):
    table, out = write(tmp_path / "t.csv", many(5)), tmp_path / "out"
    run(server, table, out)
    server.forget()
    gone, short, *_ = cutouts(out)
    (out / gone).unlink()
    (out / short).write_bytes((out / short).read_bytes()[:-2880])
    assert run(server, table, out).requests == 2
    assert read_cutout(out / gone).flux.shape == read_cutout(out / short).flux.shape


def test_files_without_a_note_are_adopted_if_whole(server, tmp_path):
    table, out = write(tmp_path / "t.csv", many(5)), tmp_path / "out"
    run(server, table, out)
    known = states(out)
    for name in ("manifest.sqlite", "manifest.sqlite-wal", "manifest.sqlite-shm"):
        (out / name).unlink(missing_ok=True)
    damaged, *_ = cutouts(out)
    content = bytearray((out / damaged).read_bytes())
    content[4000] ^= 0xFF
    (out / damaged).write_bytes(content)
    (out / damaged).with_name(f".{damaged[3:]}.1-2.part").write_bytes(b"half")
    server.forget()
    assert run(server, table, out).requests == 1
    assert states(out) == known
    assert not list(out.rglob("*.part"))


def test_framing_by_size(server, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("name,ra,dec,petroR90_r\na,10,1,2.5\nb,11,1,\nc,12,1,0.4\n")
    fetch(
        open_catalog(table, size_column="petroR90_r"), out=tmp_path / "out", base_url=f"{server.url}/viewer",
        **{**QUICK, "size": 40}, size_factor=8.48, bands="r",
    )  # fmt: skip
    (block,) = open_catalog(tmp_path / "out" / "targets.csv").blocks(5)
    a, b, c = (read_cutout(tmp_path / "out" / path) for path in block.cutout)
    assert (a.flux.shape[1], a.pixscale, a.radius_arcsec) == (81, pytest.approx(0.262), 2.5)
    assert (b.flux.shape[1], np.isnan(b.radius_arcsec)) == (40, True)
    assert (c.flux.shape[1], c.radius_arcsec) == (32, 0.4)
    assert errors(tmp_path / "out")["b"] == "no usable size: framed to 40 px"


def test_limit(server, tmp_path):
    table, out = write(tmp_path / "t.csv", many(5)), tmp_path / "out"
    summary = run(server, table, out, limit=2)
    assert (summary.targets, summary.ok, summary.requests) == (2, 2, 2)
    assert [str(s) for s in open_catalog(out / "targets.csv").read(["fetch_status"])["fetch_status"]] == [
        "ok", "ok", "", "", ""
    ]  # fmt: skip
    assert run(server, table, out).requests == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_run_and_the_next_one_goes_on(server, tmp_path, number):
    table, out = write(tmp_path / "t.csv", many(20)), tmp_path / "out"
    before = signal.getsignal(number)

    def stop(done, total):
        if done == 5:
            os.kill(os.getpid(), number)

    with pytest.raises(Interrupted, match="run the same command again") as caught:
        run(server, table, out, on_progress=stop, workers=2)
    assert caught.value.exit_code == 130
    assert signal.getsignal(number) is before
    done = len(cutouts(out))
    assert 5 <= done < 20
    server.forget()
    assert run(server, table, out).ok == 20
    assert len(server.seen.requests) == 20 - done


def test_progress(server, tmp_path):
    seen = []
    run(server, write(tmp_path / "t.csv", many(6)), tmp_path / "out", on_progress=lambda *a: seen.append(a))
    assert seen == [(i, 6) for i in range(1, 7)]


def test_a_bar_where_it_is_asked_for(server, tmp_path, capsys):
    table = write(tmp_path / "t.csv", many(6))
    run(server, table, tmp_path / "out", progress=True)
    shown = capsys.readouterr().err
    assert "fetching: 100%" in shown
    assert "6/6" in shown
    run(server, table, tmp_path / "other")
    assert capsys.readouterr().err == ""


def test_within_an_event_loop(server, tmp_path):
    """As in a notebook."""

    async def notebook():
        return run(server, write(tmp_path / "t.csv", many(3)), tmp_path / "out")

    assert asyncio.run(notebook()).ok == 3


@pytest.fixture
def sigint():
    """SIGINT as a program meets it; where tests run in several processes it may be ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("sigint")
def test_an_interrupt_within_an_event_loop(server, tmp_path):
    table, out = write(tmp_path / "t.csv", many(20)), tmp_path / "out"

    def stop(done, total):
        if done == 5:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    async def notebook():
        run(server, table, out, on_progress=stop, workers=2)

    with asyncio.Runner() as runner, pytest.raises(Interrupted):
        runner.get_loop().run_until_complete(notebook())
    assert 5 <= len(cutouts(out)) < 20


def test_in_a_thread(server, tmp_path):
    found = []
    thread = threading.Thread(
        target=lambda: found.append(run(server, write(tmp_path / "t.csv", many(3)), tmp_path / "out"))
    )
    thread.start()
    thread.join()
    assert found[0].ok == 3


def test_a_disk_that_fills_up(server, tmp_path, monkeypatch):
    table, out = write(tmp_path / "t.csv", many(10)), tmp_path / "out"
    real, calls = os.fsync, []

    def full(descriptor):
        calls.append(1)
        if len(calls) > 4:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CannotContinue, match=r"No space left on device.*run the same command again"):
        run(server, table, out, workers=1)
    monkeypatch.undo()
    assert not list(out.rglob("*.part"))
    server.forget()
    assert run(server, table, out).ok == 10
    assert len(server.seen.requests) == 6


def test_a_slow_disk_holds_nobody_back(server, tmp_path, monkeypatch):
    real, threads = storage.write, []

    def slow(*args):
        threads.append(threading.current_thread())
        time.sleep(0.02)
        return real(*args)

    monkeypatch.setattr(storage, "write", slow)
    assert run(server, write(tmp_path / "t.csv", many(6)), tmp_path / "out", workers=3).ok == 6
    assert [thread is threading.main_thread() for thread in threads] == [True] + [False] * 5


def test_the_largest_cutout(server, tmp_path):
    table, out = write(tmp_path / "t.csv", many(1)), tmp_path / "out"
    assert run(server, table, out, size=3000, bands="r").ok == 1
    (name,) = cutouts(out)
    assert read_cutout(out / name).flux.shape == (1, 3000, 3000)


def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        run(server, write(tmp_path / "t.csv", many(2)), tmp_path / "file" / "out")
    assert server.seen.requests == []


def test_tables_that_cannot_be_fetched(server, tmp_path):
    (tmp_path / "a.csv").write_text("name,x\na,1\n")
    (tmp_path / "b.csv").write_text("ra,dec,Cutout\n1,2,x\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "targets.csv").write_text("ra,dec\n1,2\n")
    with pytest.raises(CatalogError, match=r"no columns of positions.*--ra-column"):
        run(server, tmp_path / "a.csv", tmp_path / "o")
    with pytest.raises(CatalogError, match=r"has the columns Cutout already"):
        run(server, tmp_path / "b.csv", tmp_path / "o")
    with pytest.raises(CatalogError, match="would be overwritten"):
        run(server, tmp_path / "out" / "targets.csv", tmp_path / "out")
    assert not (tmp_path / "o").exists()
    assert server.seen.requests == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"survey": "decal"}, "Did you mean 'decals'"),
        ({"size": 4000}, "size=.*: a whole number from 1 to 3,000"),
        ({"bands": "gx"}, "has the bands"),
        ({"workers": 0}, "workers=0: a whole number from 1 to 64"),
        ({"workers": 65}, "workers=65: a whole number from 1 to 64"),
        ({"rate": 0}, "rate=0: a number from 0.001 to 1,000,000"),
        ({"rate": float("nan")}, "rate=nan: a number from 0.001"),
        ({"retries": 0}, "retries=0: a whole number from 1 to 100"),
        ({"retries": 10**9}, "retries=1000000000: a whole number"),
        ({"timeout_s": -1}, "timeout_s=-1: a number from 0.01 to 86,400"),
        ({"size": 0}, "size=.*: a whole number from 1 to 3,000"),
        ({"limit": -1}, "limit=-1: a whole number from 0"),
        ({"bands": "g,r"}, "a letter each"),
        ({"way": "brick"}, "Did you mean 'bricks'"),
        ({"survey": "hips", "hips": "CDS/P/PanSTARRS/DR1"}, "give --pixscale"),
    ],
)
def test_wrong_arguments_ask_nobody(server, tmp_path, wrong, message):
    with pytest.raises(GalmorphError, match=message) as caught:
        run(server, write(tmp_path / "t.csv", many(2)), tmp_path / "out", **wrong)
    assert caught.value.exit_code == 2
    assert server.seen.requests == []
    assert not (tmp_path / "out").exists()


def test_no_rows(server, tmp_path):
    (tmp_path / "t.csv").write_text("name,ra,dec\n")
    summary = run(server, tmp_path / "t.csv", tmp_path / "out")
    assert summary.targets == 0
    assert (tmp_path / "out" / "targets.csv").read_text() == "name,ra,dec,cutout,fetch_status\n"


def test_only_invalid_rows(server, tmp_path):
    (tmp_path / "t.csv").write_text("name,ra,dec\na,,1\nb,1,99\n")
    summary = run(server, tmp_path / "t.csv", tmp_path / "out")
    assert (summary.targets, summary.invalid) == (2, 2)


def test_footprints_refuse_before_asking(server, tmp_path, monkeypatch):
    import astropy.units as u
    from mocpy import MOC

    MOC.from_cone(10 * u.deg, 5 * u.deg, radius=5 * u.deg, max_depth=8).save(
        str(tmp_path / "ls-dr9.fits"), format="fits"
    )
    monkeypatch.setenv("GALMORPH_FOOTPRINTS", str(tmp_path))
    table = write(tmp_path / "t.csv", {"in": (10, 5), "out": (200, 40), "bad": ("", 1)})
    summary = run(server, table, tmp_path / "o")
    assert (summary.ok, summary.no_coverage, summary.invalid, summary.requests) == (1, 1, 1, 1)
    assert errors(tmp_path / "o")["out"] == "outside the footprint ls-dr9"


def test_secrets_stay_secret(server, tmp_path):
    url = server.url.replace("http://", "http://me:secret@")
    out = tmp_path / "out"
    fetch(write(tmp_path / "t.csv", many(2)), out=out, base_url=f"{url}/viewer", **QUICK)
    assert all("Authorization" in request.headers for request in server.seen.requests)
    for path in out.rglob("*"):
        assert path.is_dir() or b"secret" not in path.read_bytes()
    with pytest.raises(CannotContinue) as caught:
        fetch(write(tmp_path / "t.csv", many(2)), out=tmp_path / "o", base_url="http://me:secret@127.0.0.1:9/", **QUICK)
    assert "secret" not in str(caught.value)


def test_status(server, tmp_path):
    with pytest.raises(OutputError, match="nothing was fetched"):
        status(tmp_path / "out")
    table = write(tmp_path / "t.csv", TARGETS)
    first = run(server, table, tmp_path / "out", limit=3)
    now = status(tmp_path / "out")
    assert (now.targets, now.ok, now.pending, now.requests) == (9, 2, 4, first.requests)
    assert now.as_dict()["pending"] == 4


def test_extras(server, tmp_path):
    run(server, write(tmp_path / "t.csv", many(1)), tmp_path / "out", extras=("invvar", "maskbits"))
    (path,) = cutouts(tmp_path / "out")
    with fits.open(tmp_path / "out" / path) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "INVVAR", "MASKBITS"]


def test_plan(tmp_path):
    dense = write(tmp_path / "dense.csv", {f"d{i}": (10 + i % 30 / 150, i // 30 / 150) for i in range(900)})
    ways = {way.way: way for way in plan(dense, size=64).ways}
    assert plan(dense, size=64).chosen == "bricks"
    assert ways["cutouts"].requests == 900
    assert ways["cutouts"].bytes == 900 * (2880 + 51840)
    assert ways["bricks"].requests == 3 * 4
    sparse = write(tmp_path / "sparse.csv", many(900) | {"twice": (100.0, 0.0), "bad": ("", 1)})
    found = plan(sparse)
    assert (found.targets, found.chosen) == (902, "cutouts")
    assert found.ways[0].requests == 900
    assert found.ways[0].way == "cutouts"
    assert plan(sparse, limit=10).ways[0].requests == 10
    assert [way.way for way in plan(sparse, survey="sdss").ways] == ["cutouts"]
    assert not (tmp_path / "dense").exists()


def test_bricks(tmp_path, monkeypatch):
    galaxies = tuple(Galaxy(10.1 + i / 200, i / 300, arms=0.0, radius_arcsec=3.0) for i in range(4))
    table = write(tmp_path / "t.csv", {f"g{i}": (round(g.ra, 6), round(g.dec, 6)) for i, g in enumerate(galaxies)})
    with StandIn(Sky(galaxies=galaxies)) as server:
        monkeypatch.setenv("GALMORPH_BRICKS_URL", f"{server.url}/cfs/cosmo/data/legacysurvey")
        wish = {**QUICK, "size": 100, "bands": "r"}
        summary = run(server, table, tmp_path / "bricks", way="bricks", **wish)
        assert (summary.ok, summary.requests) == (4, 1)
        assert not (tmp_path / "bricks" / ".downloads").exists()
        run(server, table, tmp_path / "cutouts", way="cutouts", **wish)
    names = cutouts(tmp_path / "bricks")
    assert names == cutouts(tmp_path / "cutouts")
    for name in names:
        cut, served = (read_cutout(tmp_path / way / name) for way in ("bricks", "cutouts"))
        assert cut.flux.sum() == pytest.approx(served.flux.sum(), rel=0.02)
        assert abs(cut.flux - served.flux).max() < 0.05
        assert "legacysurvey-0101p000-image-r" in cut.header["URL"]


def test_bricks_are_not_turned_to_behind_another_address(server, tmp_path, monkeypatch):
    monkeypatch.delenv("GALMORPH_BRICKS_URL", raising=False)
    dense = write(tmp_path / "dense.csv", {f"d{i}": (10 + i % 8 / 150, i // 8 / 150) for i in range(64)})
    assert plan(dense, rate=1.0).chosen == "bricks"
    run(server, dense, tmp_path / "out")
    assert server.seen.count("fits-cutout") == 64


@pytest.mark.real_data
def test_real_positions(shared, server, tmp_path):
    """The 17,736 galaxies of Galaxy10 DECaLS, as published."""
    summary = run(server, shared / "fits/targets-csv/Galaxy10_coord.csv", tmp_path / "out", limit=20)
    assert summary.ok == 20
    with (tmp_path / "out" / "targets.csv").open() as file:
        assert next(file) == ",RA,DEC,redshift,cutout,fetch_status\n"
        assert sum(1 for _ in file) == 17736


@pytest.mark.real_data
def test_real_pixels(shared, tmp_path):
    """A real galaxy, fetched at its own scale from a server that shows it, is the real image."""
    path = shared / "fits/ls-cubes/temp_small.fits"
    header = fits.getheader(path)
    table = write(tmp_path / "t.csv", {"real": (header["CRVAL1"], header["CRVAL2"])})
    with StandIn(Sky(real=(path,), noise=0.0)) as server:
        run(server, table, tmp_path / "out", size=225)
    (name,) = cutouts(tmp_path / "out")
    inner = (slice(None), slice(5, -5), slice(5, -5))
    np.testing.assert_allclose(
        read_cutout(tmp_path / "out" / name).flux[inner], fits.getdata(path)[inner], rtol=1e-4, atol=1e-5
    )


def test_torch_is_not_imported():
    import subprocess
    import sys

    code = "import sys, galmorph.retrieval.fetch, galmorph.retrieval.surveys.sdss; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_public_functions():
    assert set(retrieval.__all__) == {
        "GALAXY_ZOO_FACTOR", "FetchOptions", "FetchSummary", "Plan", "Way", "fetch", "plan", "status"
    }  # fmt: skip
