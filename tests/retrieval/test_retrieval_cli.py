"""`galmorph fetch` as pipelines call it: what it prints, where, and with which exit code."""

import json

import pytest
from standin import Box, Galaxy, Sky, StandIn
from typer.testing import CliRunner

from galmorph.cli import app as cli
from galmorph.errors import CannotContinue
from galmorph.images.cutout import read_cutout
from galmorph.retrieval import fetch as retrieval
from galmorph.tables.catalog import open_catalog

SKY = Sky(off=(Box(0, 360, -90, -70),), galaxies=(Galaxy(10.0, 5.0),))
KEYS = ["targets", "ok", "partial", "no_coverage", "failed", "invalid", "requests", "bytes", "seconds"]


@pytest.fixture
def server():
    with StandIn(SKY) as server:
        yield server


@pytest.fixture
def table(tmp_path):
    (tmp_path / "t.csv").write_text("objid,RAJ2000,DEJ2000,petroR90_r\n7,10,5,2.5\n8,10,-80,\n9,x,5,1\n")
    return tmp_path / "t.csv"


def run(table, server, *more):
    command = ["fetch", "--catalog", table, "--out", table.parent / "out", "--rate", "1000", "--json", *more]
    result = CliRunner().invoke(cli.app, [*map(str, command), "--base-url", f"{server.url}/viewer"])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, json.loads(result.stdout.splitlines()[-1])


def test_what_is_printed(server, table):
    code, summary = run(table, server, "--size", "16")
    assert code == 0
    assert list(summary) == KEYS
    assert [summary[key] for key in KEYS[:7]] == [3, 1, 0, 1, 0, 1, 4]
    code, status = run(table, server, "--status")
    assert (code, {key: status[key] for key in KEYS[:6]}) == (0, {key: summary[key] for key in KEYS[:6]})
    assert (table.parent / "out" / "targets.csv").read_text().splitlines()[2] == "8,10,-80,,,no_coverage"


def test_dry_run(server, table):
    code, plan = run(table, server, "--dry-run", "--size", "100")
    assert (code, plan["targets"]) == (0, 3)
    assert [list(way) for way in plan["ways"]] == [["way", "requests", "bytes"]] * 2
    assert plan["ways"][0] == {"way": "cutouts", "requests": 2, "bytes": 2 * (2880 + 120960)}
    assert plan["ways"][1]["way"] == "bricks"
    assert plan["chosen"] == "cutouts"
    assert server.seen.requests == []
    assert not (table.parent / "out").exists()


def test_framing_and_extras(server, table):
    code, _ = run(table, server, "--limit", "1", "--size-column", "petroR90_r", "--extras", "invvar,maskbits")
    assert code == 0
    (block,) = open_catalog(table.parent / "out" / "targets.csv").blocks(5)
    cutout = read_cutout(table.parent / "out" / block.cutout[0])
    # 8.48 times 2.5 arcsec.
    assert (cutout.flux.shape, cutout.radius_arcsec, cutout.mask.any()) == ((3, 81, 81), 2.5, False)
    assert server.seen.count("&invvar&maskbits") == 1


def test_strict(server, table):
    server.inject("html", when=lambda request: "dec=5" in request.target)
    assert run(table, server, "--size", "16", "--strict")[0] == 1
    assert run(table, server, "--size", "16", "--strict", "--retry-failed")[0] == 0


def test_a_service_that_is_down(server, table):
    server.inject("503", times=None)
    with pytest.raises(CannotContinue) as caught:
        run(table, server, "--retries", "1")
    assert caught.value.exit_code == 3
    assert run(table, server, "--status")[1]["pending"] == 2


@pytest.mark.parametrize(("way", "hint"), [("decals", "--way bricks"), ("hips", "")])
def test_a_long_run_is_announced(server, table, monkeypatch, caplog, way, hint):
    monkeypatch.setattr(retrieval, "_MANY", 1)
    retrieval.fetch(table, out=table.parent / "out", survey=way, base_url=f"{server.url}/viewer", size=8, limit=0)
    assert caplog.text == ""
    address = server.url if way == "hips" else f"{server.url}/viewer"
    retrieval.fetch(table, out=table.parent / "out", survey=way, base_url=address, size=8, rate=600, backoff_s=0.01)
    assert "2 targets at 600 requests a second take 0 minutes or more" in caplog.text
    assert hint in caplog.text
    assert ("bricks" in caplog.text) == bool(hint)
