"""The region file: DS9's format, as another reader of it finds it; a region a galaxy, coloured and tagged by class."""

import re

import numpy as np
import pytest
from astropy.table import Table
from results_made import results
from typer.testing import CliRunner

from galmorph import registry
from galmorph.classification.results import read_results
from galmorph.cli import app as cli
from galmorph.errors import CatalogError, GalmorphError
from galmorph.reports.catalog import report
from galmorph.reports.regions import write_regions


def made(folder, name="r.csv", drop=(), **columns):
    """A classified catalog of twelve galaxies of Galaxy10 with other columns added or dropped."""
    results(folder / "all.csv", n=12, schema="galaxy10_decals")
    table = Table.read(folder / "all.csv", format="csv")
    for column, values in columns.items():
        table[column] = values
    table.remove_columns(list(drop))
    table.write(folder / name, format="csv")
    return read_results(folder / name), table


def groups(found):
    return [str(label) if known else "" for label, known in zip(found.label, found.classified, strict=True)]


def lines(path):
    return [line for line in path.read_text().splitlines() if line.startswith(("circle", "point"))]


def test_circles_on_the_sky(tmp_path):
    radius = np.arange(12.0) + 0.5
    radius[5] = np.nan
    found, table = made(tmp_path, petroR90_r=radius)
    assert write_regions(found, groups(found), tmp_path / "r.reg") == ()
    text = (tmp_path / "r.reg").read_text()
    assert text.startswith("# Region file format: DS9")
    assert "\nicrs\n" in text
    rows = lines(tmp_path / "r.reg")
    assert len(rows) == 12
    label = str(table["morph_label"][0])
    assert re.fullmatch(
        rf'circle\({table["ra"][0]:.7f},{table["dec"][0]:.7f},0\.50"\) # color=#[0-9A-F]{{6}} '
        rf"text=\{{{label}\}} tag=\{{{label}\}}",
        rows[0],
    )
    assert rows[3].endswith("color=#7F7F7F text={} tag={unclassified}"), "no probability"
    assert rows[5].startswith("point("), "no radius is made up"
    colours = {re.search(r"tag=\{(\w+)\}", row)[1]: re.search(r"#[0-9A-F]{6}", row)[0] for row in rows}
    order = registry.load("schemas", "galaxy10_decals").labels
    near = [colours[name] for name in order[:6] if name in colours]
    assert len(set(near)) == len(near), "a colour a class"


def test_another_reader_finds_the_same(tmp_path):
    pytest.importorskip("regions", reason="the package regions (extra dev) is absent")
    from regions import Regions

    found, table = made(tmp_path, petroR90_r=np.full(12, 4.0))
    write_regions(found, groups(found), tmp_path / "r.reg")
    read = Regions.read(tmp_path / "r.reg", format="ds9")
    assert len(read) == 12
    for region, row in zip(read, table, strict=True):
        assert region.center.frame.name == "icrs"
        assert region.center.ra.deg == pytest.approx(row["ra"], abs=1e-7)
        assert region.center.dec.deg == pytest.approx(row["dec"], abs=1e-7)
        assert region.radius.to_value("arcsec") == 4.0
    assert read[0].meta["text"] == str(table["morph_label"][0])
    assert read[0].meta["tag"] == [str(table["morph_label"][0])]
    assert read[3].visual["edgecolor"].lower() == "#7f7f7f"


def test_pixels_where_there_is_no_wcs(tmp_path):
    x = np.arange(12.0)
    columns = {"x": x, "y": x + 100, "petroR90": x + 2, "image": ["a"] * 11 + ["b"]}
    found, _ = made(tmp_path, drop=("ra", "dec"), **columns)
    (note,) = write_regions(found, groups(found), tmp_path / "r.reg")
    assert "several images" in note
    assert "\nimage\n" in (tmp_path / "r.reg").read_text()
    rows = lines(tmp_path / "r.reg")
    assert rows[1].startswith("circle(2.00,102.00,3.00) #"), "DS9 counts pixels from 1"
    assert rows[11].endswith("tag={b}")


def test_galaxies_without_position_are_reported(tmp_path):
    ra = np.arange(12.0)
    ra[2] = np.nan
    found, _ = made(tmp_path, ra=ra)
    (note,) = write_regions(found, groups(found), tmp_path / "r.reg")
    assert "lacks 1 of 12" in note
    assert len(lines(tmp_path / "r.reg")) == 11
    found, _ = made(tmp_path, "none.csv", drop=("ra", "dec"))
    with pytest.raises(CatalogError, match="leave out --regions"):
        write_regions(found, groups(found), tmp_path / "none.reg")
    assert not (tmp_path / "none.reg").exists()


def test_the_command(tmp_path):
    results(tmp_path / "r.fits", n=12)
    arguments = ["report", "r.fits", "--out", "r.html", "--regions", "r.reg"]
    done = CliRunner().invoke(cli.app, [str(tmp_path / a) if "." in a else a for a in arguments])
    assert done.exit_code == 0, done.output
    tags = {re.search(r"tag=\{(\w+)\}", row)[1] for row in lines(tmp_path / "r.reg")}
    assert tags <= {*registry.load("schemas", "galaxyzoo2").questions[0].answers, "unclassified"}
    with pytest.raises(GalmorphError, match="--regions is for a classified catalog"):
        report(tmp_path, tmp_path / "x.html", regions=tmp_path / "x.reg")
