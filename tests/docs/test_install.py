"""The ways to install that docs/install.md names."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "install.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def instructions():
    """The Containerfile as (instruction, arguments)."""
    lines = (ROOT / "Containerfile").read_text().replace("\\\n", " ").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line and not line.startswith("#")]


def test_the_conda_environment_has_a_python_that_galmorph_runs_on_and_installs_the_clone():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, installed = environment["dependencies"]
    assert SpecifierSet(PROJECT["requires-python"]).contains(python.removeprefix("python="))
    assert (pip, installed) == ("pip", {"pip": ["."]})
    assert f"conda activate {environment['name']}\n" in PAGE


def test_the_container_copies_all_that_the_wheel_is_built_of():
    copied = {
        word for name, rest in instructions() if name == "COPY" and "--from" not in rest for word in rest.split()[:-1]
    }
    assert all((ROOT / word).exists() for word in copied)
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {*build["packages"], *build["force-include"], PROJECT["readme"], *PROJECT["license-files"]} <= copied
    ignored, *admitted, caches = (ROOT / ".dockerignore").read_text().splitlines()[1:]
    assert (ignored, caches) == ("*", "**/__pycache__")
    assert {line.removeprefix("!") for line in admitted} == copied, "nothing else is sent to the builder"
    for base in (rest.split()[0] for name, rest in instructions() if name == "FROM"):
        assert SpecifierSet(PROJECT["requires-python"]).contains(re.search(r"python:([\d.]+)", base)[1])


def test_every_extra_for_users_is_on_the_page():
    named = set(re.findall(rf"`{PROJECT['name']}\[(\w+)\]`", PAGE))
    assert named == set(PROJECT["optional-dependencies"]) - {"dev", "docs", "openvino"}


def test_the_command_line_of_the_container_is_understood():
    (run,) = re.findall(r"^\$ (docker run .*)$", PAGE, re.MULTILINE)
    words = shlex.split(run)
    assert words[words.index("galmorph") + 1 :] == ["classify", "targets.fits"]
    (environment,) = (rest for name, rest in instructions() if name == "ENV")
    assert "HOME=/tmp" in environment.split(), "--user has no home folder there"
    assert ("ENTRYPOINT", '["galmorph"]') in instructions()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.network
def test_the_container_builds_and_runs():
    builder = next((name for name in ("docker", "podman") if _works(name)), None)
    if builder is None:
        pytest.skip("there is no builder of containers")
    (build,) = re.findall(r"^\$ (docker build .*)$", PAGE, re.MULTILINE)
    words = [builder, *shlex.split(build)[1:]]
    words[words.index("--tag") + 1] = "galmorph-test"
    subprocess.run(words, cwd=ROOT, check=True, stdout=sys.stderr)
    done = subprocess.run(
        [builder, "run", "--rm", "galmorph-test", "doctor"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _works(name):
    if shutil.which(name) is None:
        return False
    try:
        return subprocess.run([name, "info"], check=False, capture_output=True, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
