"""The tutorial, the README and the notebook are run as a reader would run them."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import docrun
import numpy as np
import pytest
import torchvision
from astropy.table import Table
from made import blob
from PIL import Image
from safetensors.torch import save_file
from standin import Sky, StandIn
from typer.testing import CliRunner

from galmorph.cli import app as cli
from galmorph.images.cutout import read_cutout, write_cutout
from galmorph.images.flags import NOTES

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """What ``make demo`` leaves."""
    folder = tmp_path_factory.mktemp("demo")
    with docrun.Session(folder) as session:
        assert "Open file://" in session.run("make demo")
    return folder / "demo"


def test_tutorial(demo, tmp_path):
    shutil.copytree(demo, tmp_path / "demo")
    seen = 0
    with docrun.Session(tmp_path) as session:
        for step, printed in docrun.play(ROOT / "docs" / "tutorial.md", session.run):
            if printed is not None and step.shown:
                assert docrun.differences(step.shown, printed) == "", step.command
                seen += 1
    assert seen >= 6
    table = Table.read(tmp_path / "cutouts" / "targets_morph.csv")
    assert len(table) == 7
    assert (tmp_path / "report.html").stat().st_size > 50_000


def test_readme(demo, tmp_path, monkeypatch, capsys):
    shutil.copytree(demo, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GALMORPH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GALMORPH_PRETRAINED", str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    save_file(
        torchvision.models.mobilenet_v2().state_dict(), tmp_path / "weights" / "mobilenet_v2.imagenet.safetensors"
    )
    (tmp_path / "targets_morph.fits").unlink()
    cutouts = sorted((tmp_path / "cutouts").glob("*.fits"))
    (tmp_path / "targets.csv").write_text("id,ra,dec\nJ0946-0102,146.71421,-1.04128\nJ0000+0032,0.00437,0.54132\n")
    shutil.copytree(tmp_path / "cutouts", tmp_path / "DIR")
    shutil.copy(cutouts[5], tmp_path / "ngc1300.fits")
    mosaic(cutouts, tmp_path / "mosaic.fits")
    rng = np.random.default_rng(0)
    for kind, name in enumerate(("ellipticals", "spirals")):
        (tmp_path / name).mkdir()
        for i in range(20):
            Image.fromarray(blob(kind, rng)).save(tmp_path / name / f"{i}.jpg")
    text = (ROOT / "README.md").read_text()
    names = []
    with StandIn(Sky(real=tuple(cutouts))) as server:
        for command in docrun.commands(text):
            more = {
                "fetch": f" --base-url {server.url}/viewer --rate 100 --size 64",
                "train": " --epochs 1 --input-size 64",
            }
            names.append(shlex.split(command)[1])
            arguments = shlex.split(command + more.get(names[-1], ""))[1:]
            done = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
            assert done.exit_code == 0, command
    assert names.count("classify") >= 6
    assert set(names) >= {"fetch", "report", "doctor", "train", "evaluate"}
    assert len(Table.read(tmp_path / "targets_morph.fits")) == 12
    assert len(Table.read(tmp_path / "mosaic_morph.fits")) >= 10
    ((_, code),) = docrun.blocks(text, "python")
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out == "12 classified, 0 flagged\n".replace("0", str(flagged(tmp_path)))


def flagged(folder):
    """Count the galaxies with a fault; a measured radius and a frame larger than the cutout are notes."""
    flags = np.asarray(Table.read(folder / "morphology.fits")["morph_flag"])
    return int(np.count_nonzero(flags & ~NOTES))


def mosaic(paths, out):
    """Put the drawn galaxies of the demo together, three times, as a survey image."""
    cutouts = [read_cutout(path) for path in paths if path.stem.startswith("drawn")]
    rows = [np.concatenate([c.flux[:, ::step] for c in cutouts], axis=2) for step in (1, -1, 1)]
    write_cutout(replace(cutouts[0], flux=np.concatenate(rows, axis=1), target_id="mosaic"), out)


def test_notebook(demo, tmp_path):
    pytest.importorskip("nbclient", reason="the extra dev is not installed")
    pytest.importorskip("ipykernel", reason="the extra dev is not installed")
    shutil.copytree(demo, tmp_path / "demo")
    code = (
        "import nbclient, nbformat, sys; book = nbformat.read(sys.argv[1], 4); where = {'metadata': {'path': '.'}};"
        "nbclient.NotebookClient(book, timeout=300, resources=where).execute(); nbformat.write(book, 'run.ipynb')"
    )
    path = ROOT / "docs" / "notebook.ipynb"
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], cwd=tmp_path, env=env, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    cells = [cell for cell in json.loads((tmp_path / "run.ipynb").read_text())["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert len(Table.read(tmp_path / "spirals.vot")) >= 2
    assert not any(cell.get("outputs") for cell in json.loads(path.read_text())["cells"]), "commit it without outputs"
