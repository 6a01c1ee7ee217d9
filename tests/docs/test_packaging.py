"""What is shipped: weights, templates and catalogs in the wheel, no tests or docs; the sdist makes the same wheel."""

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def hatch(source, out, target):
    """Build one file of a source tree; return its path."""
    pytest.importorskip("hatchling", reason="hatchling (extra dev) is absent")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(out), "-t", target]
    subprocess.run(command, cwd=source, env=env, check=True, capture_output=True)
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel of this tree, the sdist, and the wheel of the sdist."""
    folder = tmp_path_factory.mktemp("built")
    sdist = hatch(ROOT, folder / "sdist", "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "source", filter="data")
    (source,) = (folder / "source").iterdir()
    return hatch(ROOT, folder / "wheel", "wheel"), sdist, hatch(source, folder / "again", "wheel")


def contents(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_holds_what_is_needed_and_no_more(built):
    found = contents(built[0])
    for folder, target in (("weights", "galmorph/weights"), ("catalogs", "galmorph/catalogs"), ("galmorph",) * 2):
        for path in (ROOT / folder).rglob("*"):
            name = f"{target}/{path.relative_to(ROOT / folder).as_posix()}"
            if path.is_file() and "__pycache__" not in name:
                assert found.get(name) == path.read_bytes(), name
    assert any(name.endswith(".safetensors") for name in found)
    assert "galmorph/reports/templates/catalog.html" in found
    assert {name.split("/")[0].rpartition(".")[2] for name in found} == {"galmorph", "dist-info"}
    assert {Path(name).name for name in found if "/licenses/" in name} == {"LICENSE", "NOTICE"}
    assert built[0].stat().st_size < 25e6


def test_the_sdist_makes_the_same_wheel(built):
    wheel, _, again = built
    assert wheel.name == again.name
    assert contents(wheel) == contents(again)


def test_declared_ranges_admit_good_pairs_and_no_broken_one():
    wanted = {Requirement(text).name: Requirement(text).specifier for text in PROJECT["dependencies"]}
    for torch, torchvision in (("2.6.0", "0.21.0"), ("2.11.0", "0.26.0"), ("2.15.0", "0.29.2")):
        assert wanted["torch"].contains(torch)
        assert wanted["torchvision"].contains(torchvision)
    assert not wanted["torch"].contains("2.13.0")
    assert PROJECT["requires-python"] == ">=3.11"
    assert all(specifier for specifier in wanted.values()), "each has a lowest version, which make lowest tries"
