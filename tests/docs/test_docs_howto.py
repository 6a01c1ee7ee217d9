"""The files that the how-tos show work as they stand."""

import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import docrun
import numpy as np
import pytest
from astropy.table import Table
from made import blob, cutout_folder
from PIL import Image
from standin import Galaxy, Sky, StandIn
from typer.testing import CliRunner

from galmorph import registry
from galmorph.cli import app as cli
from galmorph.images.cutout import read_cutout
from galmorph.models import card
from galmorph.models.model import load
from galmorph.retrieval.fetch import fetch
from galmorph.schemas import read_schema
from galmorph.tables.catalog import open_catalog

HOWTO = Path(__file__).parents[2] / "docs" / "howto"


def first_block(page, language):
    return docrun.blocks((HOWTO / page).read_text(), language)[0][1]


@pytest.fixture
def entry(monkeypatch):
    """Make a page's file an entry of a folder, as if it lay there."""

    def add(page, folder, name):
        module = ModuleType(f"galmorph.{registry.KINDS[folder][0]}.{name}")
        exec(compile(first_block(page, "python"), page, "exec"), module.__dict__)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        before = registry.own_names
        assert name not in before(folder)
        monkeypatch.setattr(registry, "own_names", lambda f: (*before(f), name) if f == folder else before(f))
        return getattr(module, registry.KINDS[folder][1])

    return add


def test_own_survey(entry, tmp_path):
    survey = entry("survey.md", "surveys", "atlas")
    assert registry.load("surveys", "atlas") is survey
    (tmp_path / "t.csv").write_text("id,ra,dec\na,150.0,2.0\n")
    with StandIn(Sky(galaxies=(Galaxy(150.0, 2.0, flux=2000.0),))) as server:
        made = {"survey": "atlas", "size": 64, "rate": 1000.0, "base_url": f"{server.url}/viewer"}
        summary = fetch(tmp_path / "t.csv", out=tmp_path / "out", **made)
        assert (summary.ok, summary.requests) == (1, 1)
    (block,) = open_catalog(tmp_path / "out" / "targets.csv").blocks(5)
    cutout = read_cutout(tmp_path / "out" / block.cutout[0])
    assert (cutout.survey, cutout.bands, cutout.flux.shape) == ("", ("g", "r", "z"), (3, 64, 64))
    assert cutout.flux[1].argmax() in [y * 64 + x for y in (31, 32) for x in (31, 32)]
    shipped = card.read_card(card.find(cli.DEFAULT_MODEL))
    assert shipped.input_for(cutout.survey, cutout.bands, cutout.pixscale) is not None


def test_own_labels_and_own_backbone(entry, tmp_path, monkeypatch):
    page = (HOWTO / "labels.md").read_text()
    (tmp_path / "bars.toml").write_text(first_block("labels.md", "toml"))
    schema = read_schema(tmp_path / "bars.toml")
    backbone = entry("backbone.md", "backbones", "small")
    assert schema.labels == ("bar_yes", "bar_no", "strength_strong", "strength_weak")
    head, *rows = first_block("labels.md", "").splitlines()
    shares = np.array([[float(cell or "nan") for cell in row.split(",")[1:]] for row in rows])
    known = schema.from_columns(dict(zip(head.split(",")[1:], shares.T, strict=True)))
    assert schema.largest_tree_error(known) < 1e-6
    assert np.isnan(known[2, 2:]).all()
    assert schema.short_names(known[:2]).tolist() == ["barred_strong", "unbarred"]
    assert backbone.build(4).state_dict()["classifier.weight"].shape == (4, 128)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GALMORPH_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for i in range(60):
        (tmp_path / ("spirals", "ellipticals")[i % 2]).mkdir(exist_ok=True)
        Image.fromarray(blob(1 - i % 2, rng)).save(tmp_path / ("spirals", "ellipticals")[i % 2] / f"{i}.png")
    cutout_folder(tmp_path / "cutouts", n=2)
    (tmp_path / "pictures" / "images").mkdir(parents=True)
    lines = [head]
    for i in range(60):
        Image.fromarray(blob(i % 2, rng)).save(tmp_path / "pictures" / "images" / f"{i}.png")
        lines.append(f"images/{i}.png,{rows[i % 2].partition(',')[2]}")
    (tmp_path / "pictures" / "labels.csv").write_text("\n".join(lines) + "\n")
    cutout_folder(tmp_path, n=2)
    Table({"id": ["a", "b"], "cutout": ["g0.fits", "g1.fits"]}).write(tmp_path / "targets.fits")
    folders, of_folders, train, evaluate, report, classify = docrun.commands(page)
    quick = " --backbone small --pretrained none --epochs 2 --input-size 32 --device cpu"
    for command in (folders + quick, of_folders, train + quick, evaluate, report, classify):
        CliRunner().invoke(cli.app, shlex.split(command)[1:], catch_exceptions=False)
    assert load(tmp_path / "runs" / "bars").card.backbone == "small"
    assert (tmp_path / "bars.html").stat().st_size > 10_000
    mine = Table.read(tmp_path / "mine.fits")
    assert np.allclose(mine["p_spirals"] + mine["p_ellipticals"], 1, atol=1e-5)
    table = Table.read(tmp_path / "targets_morph.fits")
    assert np.allclose(table["bars_p_bar_yes"] + table["bars_p_bar_no"], 1, atol=1e-5)
    assert np.allclose(
        table["bars_p_strength_strong"] + table["bars_p_strength_weak"], table["bars_p_bar_yes"], atol=1e-5
    )


# Stands for galmorph: notes what it is asked, makes the outputs, and fails the first times as often as it is told.
STUB = """#!/bin/bash
echo "$@" >>"$NOTES"
if [ "$2" = fetch ] && [ "$(grep -c fetch "$NOTES")" -le "$FAILURES" ]; then exit "$CODE"; fi
"""


@pytest.mark.parametrize(
    ("failures", "code", "asked", "ends"),
    [
        (0, 3, ["fetch", "classify", "report"], 0),
        (2, 3, ["fetch", "fetch", "fetch", "classify", "report"], 0),
        (9, 3, ["fetch", "fetch", "fetch"], 3),
        (1, 2, ["fetch"], 2),
    ],
)
def test_nightly_script(tmp_path, failures, code, asked, ends):
    (tmp_path / "nightly.sh").write_text(first_block("nightly.md", "bash"))
    for name, text in (("galmorph", STUB), ("sleep", "#!/bin/bash\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "NOTES": str(tmp_path / "notes"), "FAILURES": str(failures)}
    command = ["bash", "nightly.sh", "lists/tonight.csv", "night"]
    done = subprocess.run(command, cwd=tmp_path, env=env | {"CODE": str(code)}, check=False, capture_output=True)
    assert done.returncode == ends, done.stderr
    notes = (tmp_path / "notes").read_text().splitlines()
    assert [note.split()[1] for note in notes] == asked
    if not ends:
        assert notes[-2].startswith("--quiet classify night/cutouts/targets.csv --out night/morphology.csv")


def test_nightly_script_runs_once_at_a_time(tmp_path):
    (tmp_path / "nightly.sh").write_text(first_block("nightly.md", "bash"))
    (tmp_path / "night").mkdir()
    command = "exec 8>night/.lock; flock 8; exec bash nightly.sh list.csv night"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "another run is at work in night\n")
