"""Continuous integration runs every check once, and fails where a program that checks our output is absent."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ["fitsverify", "stilts", "starlink-ecsv-java", "chromium", "source-extractor"]


def ci(folder, *, user, absent=""):
    """Run .ci/run where id, apt-get and make are made up; return the process and the lines of what was called."""
    for program in ("bash", "dirname"):
        (folder / program).symlink_to(shutil.which(program))
    calls = folder / "calls"
    for program, body in {
        "id": f"echo {user}",
        "apt-get": f'echo apt-get "$@" >> {calls}; case "$*" in *"{absent or "nothing"}") exit 100;; esac',
        "make": f'echo make "$@" >> {calls}',
    }.items():
        (folder / program).write_text(f"#!/bin/bash\n{body}\n")
        (folder / program).chmod(0o755)
    done = subprocess.run(
        [ROOT / ".ci" / "run"], env={"PATH": str(folder)}, capture_output=True, text=True, check=False
    )
    return done, calls.read_text().splitlines()


def test_ci_installs_the_programs_and_runs_every_check(tmp_path):
    done, calls = ci(tmp_path, user=0)
    assert (done.returncode, done.stderr) == (0, "")
    assert [call.split()[-1] for call in calls if " install " in call] == PACKAGES
    assert calls[-2:] == ["make --keep-going check lowest docs", "make test"]


@pytest.mark.parametrize("package", PACKAGES)
def test_ci_of_root_fails_where_a_program_cannot_be_installed(tmp_path, package):
    done, calls = ci(tmp_path, user=0, absent=package)
    assert done.returncode == 1
    assert f"the package {package} cannot be installed" in done.stderr
    assert not any(call.startswith("make") for call in calls)


def test_ci_of_others_installs_nothing(tmp_path):
    done, calls = ci(tmp_path, user=1000)
    assert (done.returncode, calls) == (0, ["make --keep-going check lowest docs", "make test"])


def test_each_check_runs_once():
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "--dry-run", "--always-make", "check", "lowest", "docs", "test"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    once = ("ruff check ", "ruff format --check ", "/mypy", "/lint-imports", "-m sphinx -W ", "-m pytest ", "--lowest")
    assert {part: sum(part in line for line in lines) for part in once} == dict.fromkeys(once, 1)
