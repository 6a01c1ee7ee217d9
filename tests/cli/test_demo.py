"""The demo does the main job offline."""

import re
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table
from test_cli import run

from galmorph.classification.classify import classify
from galmorph.cli.demo import GALAXIES, demo, light, real
from galmorph.images.cutout import read_cutout

ROOT = Path(__file__).parents[2]
ORIGINALS = ROOT.parent / "shared" / "fits"
SHIPPED = resources.files("galmorph.cli") / "demo_cutouts"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A demo's folder, what it returned, and its catalog."""
    folder = tmp_path_factory.mktemp("made")
    result = demo(folder)
    table = Table.read(folder / "targets_morph.fits")
    table.convert_bytestring_to_unicode()
    return folder, result, table


def test_demo_classifies_real_galaxies_and_drawn_ones(made):
    folder, result, table = made
    drawn = np.asarray(table["release"]) == "drawn"
    assert len(table) == len(result.rows) == result.summary.classified == 12
    assert drawn.sum() == len(GALAXIES) == 4
    assert set(np.asarray(table["release"])[~drawn]) == {"SDSS DR13", "DECaLS DR5", "Legacy Surveys DR9"}
    assert (folder / "galaxies.png").stat().st_size > 100_000
    assert np.count_nonzero(table["morph_flag"][drawn]) <= drawn.sum() / 4
    assert np.count_nonzero(table["morph_flag"]) <= len(table) / 4


def test_the_report_shows_every_galaxy_before_any_figure(made):
    folder, _, table = made
    page = (folder / "report.html").read_text()
    assert page.count('"/9j/') == len(table), "JPEG files, as base64"
    sections = re.findall(r'<section id="([\w-]+)"', page)
    assert re.findall(r'<a href="#([\w-]+)">', page.split("</nav>")[0])[: len(sections)] == sections, (
        "in the same order"
    )
    assert sections[0] == "summary"
    assert sections[-3:] == ["distributions", "sky", "table"]
    assert all(name in page for name in table["id"])


def test_what_the_model_says_agrees_with_what_the_galaxies_are(made):
    table = made[2]
    p = {name.removeprefix("p_"): np.asarray(table[name]) for name in table.colnames if name.startswith("p_")}
    row = {name: i for i, name in enumerate(table["id"])}
    kinds = np.asarray(table["type"])
    edge_on = np.char.startswith(kinds, "edge-on")
    spiral = p["has_spiral_arms_yes"]
    assert spiral.argmax() == row["NGC6976"], "SABb, nearly face-on"
    assert p["smooth_or_featured_smooth"][row["J0948-0021"]] > 0.6
    assert p["how_rounded_round"].argmax() == row["J0948-0021"]
    assert p["odd_feature_ring"].argmax() == row["J0946-0102"], "volunteers called it a ring"
    assert p["disk_edge_on_yes"][edge_on].mean() > p["disk_edge_on_yes"][row["NGC6976"]] + 0.3
    assert p["how_rounded_cigar"].argmax() == list(kinds).index("cigar")
    assert p["odd_feature_merger"].argmax() == list(kinds).index("merger")


def test_the_table_fits_a_terminal_with_whole_labels(made, tmp_path):
    done = run("demo", "--out", "demo", env={"COLUMNS": "80"}, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    for row in made[1].rows:
        assert all(cell in done.stdout for cell in row)
    assert "…" not in done.stdout
    lines = [line for line in done.stderr.splitlines() if re.match(r"[A-Z]\w+: ", line)]
    assert [line.split(":")[0] for line in lines] == ["Picture", "Report", "Catalog"], "the picture comes first"


def test_demo_runs_again_over_itself(tmp_path):
    for _ in range(2):
        demo(tmp_path, galaxies=GALAXIES[:1])
    assert len(Table.read(tmp_path / "targets_morph.fits")) == len(real()) + 1


def test_light_adds_up_to_the_magnitude():
    for galaxy in GALAXIES:
        flux = light(galaxy, 256, 0.262)["r"].sum()
        assert 22.5 - 2.5 * np.log10(flux) < galaxy.mag_r + 0.1


def test_shipped_cutouts_are_small_and_their_galaxies_are_in_the_middle():
    assert sum(path.stat().st_size for path in Path(str(SHIPPED)).iterdir()) < 2e6
    for galaxy in real():
        cutout = galaxy.cutout
        height, width = cutout.flux.shape[1:]
        assert height == width
        middle = cutout.wcs.pixel_to_world((width - 1) / 2, (height - 1) / 2)
        assert middle.separation(SkyCoord(galaxy.ra, galaxy.dec, unit="deg")).arcsec < 0.05
        # The brightest place near the middle is in the middle: stars are farther out.
        reach = max(2, round(0.15 * galaxy.r90 / cutout.pixscale))
        near = np.arange(width) - (width - 1) / 2
        near = np.hypot(near, near[:, None]) <= reach
        light_near = np.where(near, cutout.plane("r"), -np.inf)
        y, x = np.unravel_index(int(light_near.argmax()), light_near.shape)
        assert np.hypot(y - (height - 1) / 2, x - (width - 1) / 2) * cutout.pixscale < 1.7, cutout.target_id
        assert galaxy.release in (ROOT / "NOTICE").read_text().replace("Data Release ", "DR").replace("\n  ", " ")
        assert bool(galaxy.type) is bool(galaxy.type_source)


def test_types_are_those_of_openngc():
    ongc = pytest.importorskip("pyongc.ongc", reason="the extra dev is not installed")
    seen = 0
    for galaxy in real():
        if "OpenNGC" in galaxy.type_source:
            entry = ongc.Dso(galaxy.cutout.target_id)
            there = SkyCoord(*entry.rad_coords, unit="rad")
            assert there.separation(SkyCoord(galaxy.ra, galaxy.dec, unit="deg")).arcsec < 1.5
            assert entry.hubble == galaxy.type
            seen += 1
    assert seen == 3


@pytest.mark.real_data
def test_the_shipped_cutouts_come_from_the_originals(tmp_path, monkeypatch):
    if not ORIGINALS.is_dir():
        pytest.skip("../shared is absent")
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import make_demo_cutouts as maker

    monkeypatch.delitem(sys.modules, "make_demo_cutouts")
    maker.main(ORIGINALS, tmp_path)
    assert (tmp_path / "galaxies.csv").read_text() == (SHIPPED / "galaxies.csv").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in SHIPPED.iterdir()}
    for galaxy, original in zip(real(), maker.GALAXIES, strict=True):
        name = f"{original.id}.fits"
        assert np.array_equal(read_cutout(tmp_path / name).flux, galaxy.cutout.flux), name
        whole = maker.read(ORIGINALS / original.path)
        exact = maker.cut(whole, *maker.centre(whole, original.pixel), maker.WIDTH_R90 * galaxy.r90)
        for rounded, plane in zip(galaxy.cutout.flux, exact.flux, strict=True):
            noise = 1.4826 * np.median(np.abs(plane - np.median(plane)))
            assert (rounded - plane).std() < 0.1 * noise, name


def test_shipped_model_agrees_with_itself_across_dtypes_and_batches(tmp_path):
    demo(tmp_path)
    results = {}
    for dtype, batch_size in (("float32", 64), ("float32", 5), ("bfloat16", 64), ("bfloat16", 5)):
        out = tmp_path / f"{dtype}{batch_size}.fits"
        classify(tmp_path / "targets.fits", out=out, dtype=dtype, batch_size=batch_size)
        table = Table.read(out)
        results[dtype, batch_size] = np.array([table[n] for n in table.colnames if n.startswith("p_")])
    reference = results["float32", 64]
    assert np.abs(results["float32", 5] - reference).max() < 1e-5
    assert np.abs(results["bfloat16", 64] - reference).max() < 0.02
    assert np.abs(results["bfloat16", 5] - results["bfloat16", 64]).max() < 0.01
