"""The doctor finds what is wrong, names the remedy, and works where torch does not."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from galmorph.cli import doctor
from galmorph.cli.doctor import GOOD, NOTE, WRONG
from galmorph.environment import Variable
from galmorph.models import card
from galmorph.training import decoding


def run(tmp_path, *arguments, blocked="", **env):
    """Run the command in a process of its own, in which importing a package fails as a broken one does."""
    if blocked:
        package = tmp_path / "broken" / blocked
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
        env["PYTHONPATH"] = str(package.parent)
    command = [sys.executable, "-c", "from galmorph.cli.app import main; main()", "doctor", *arguments]
    whole = {name: value for name, value in os.environ.items() if not name.startswith("GALMORPH_")}
    whole |= {"OMP_NUM_THREADS": "1", "GALMORPH_CACHE": str(tmp_path / "cache"), **env}
    return subprocess.run(command, capture_output=True, text=True, env=whole, check=False)


def by_name(findings):
    return {finding.name: finding for finding in findings}


def test_sound_machine(tmp_path):
    done = run(tmp_path, "--json", GALMORPH_CASHE="x")
    assert done.returncode == 0, done.stdout
    result = json.loads(done.stdout.splitlines()[-1])
    found = {finding["name"]: finding for finding in result["findings"]}
    assert result["ok"]
    assert {"galmorph", "Python", "platform", "requirements", "torch", "torchvision", "bfloat16", "cache"} <= set(found)
    assert found["model galaxyzoo2-mobilenet_v2"]["found"].endswith("hash good")
    assert found["GALMORPH_CASHE"]["state"] == NOTE
    assert "Did you mean 'GALMORPH_CACHE'" in found["GALMORPH_CASHE"]["remedy"]
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize("blocked", ["torch", "torchvision"])
def test_torch_that_does_not_import(tmp_path, blocked):
    done = run(tmp_path, blocked=blocked)
    assert done.returncode == 1
    line = next(line for line in done.stdout.splitlines() if line.startswith(f"wrong {blocked}:"))
    assert "operator torchvision::nms does not exist" in line
    assert "pip install --upgrade --force-reinstall 'torch>=2.6,!=2.13.0' torchvision" in done.stdout
    assert "model galaxyzoo2-mobilenet_v2: galaxyzoo2" in done.stdout, "the rest is examined all the same"
    assert "Traceback" not in done.stdout + done.stderr


def test_every_shipped_model_has_its_hash_recorded():
    for path in card.shipped().values():
        assert doctor.recorded_sha256(path) == card.file_sha256(path), (
            f"cd {path.parent}; sha256sum *.safetensors > SHA256SUMS"
        )


def test_damaged_weights_are_found(tmp_path, monkeypatch):
    name, path = next(iter(card.shipped().items()))
    for file in (path, path.with_name("SHA256SUMS")):
        shutil.copy(file, tmp_path)
    monkeypatch.setattr(card, "folders", lambda: (tmp_path,))
    assert [finding.state for finding in doctor._models()] == [GOOD]
    damaged = bytearray((tmp_path / path.name).read_bytes())
    damaged[-1] ^= 1
    (tmp_path / path.name).write_bytes(damaged)
    found = by_name(doctor._models())[f"model {name}"]
    assert (found.state, "not the recorded one" in found.found) == (WRONG, True)
    (tmp_path / path.name).write_bytes(damaged[:100])
    assert by_name(doctor._models())[f"model {name}"].state == WRONG
    (tmp_path / path.name).unlink()
    assert by_name(doctor._models())["models"].state == WRONG


def test_requirements_are_compared_with_what_is_installed(monkeypatch):
    wanted = ["numpy>=999", "nosuchpackage>=1", "rich>=1", "torch>=2.6,!=2.13.0", "timm>=999; extra == 'timm'"]
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda _: wanted)
    found = by_name(doctor._requirements())["requirements"]
    assert found.state == WRONG
    assert "not >=999" in found.found
    assert "nosuchpackage is not installed" in found.found
    assert "rich" not in found.found
    assert doctor._unmet("torch", "!=" + doctor._version("torch").partition("+")[0]), "a local build is its release"


def test_variables_are_checked_and_secrets_kept(tmp_path):
    environment = {
        "GALMORPH_PRETRAINED": str(tmp_path / "none"),
        "GALMORPH_BRICKS_URL": "https://me:secret@host/bricks?token=secret",
        "https_proxy": "http://me:secret@proxy:3128",
        "HOME": "secret",
    }
    found = by_name(doctor._variables(environment))
    assert set(found) == {"GALMORPH_PRETRAINED", "GALMORPH_BRICKS_URL", "proxy"}
    assert found["GALMORPH_PRETRAINED"].state == NOTE
    assert "secret" not in str(list(found.values()))


@pytest.mark.parametrize("variable", Variable)
def test_a_variable_that_is_read_is_not_called_unread(variable, tmp_path):
    value = "https://host" if variable.kind == "address" else str(tmp_path)
    found = by_name(doctor._variables({str(variable): value}))[str(variable)]
    assert (found.state, found.found) == (GOOD, f"{variable.meaning}: {value}")


def test_a_switch_of_the_command_line_is_one_of_the_variables(tmp_path):
    done = run(tmp_path, "--json", GALMORPH_LOG_JSON="1")
    found = {finding["name"]: finding for finding in json.loads(done.stdout.splitlines()[-1])["findings"]}
    assert found["GALMORPH_LOG_JSON"]["state"] == GOOD


def test_variables_are_declared_in_one_place():
    folder = Path(doctor.__file__).parents[1]
    trees = {path: ast.parse(path.read_text()) for path in folder.rglob("*.py") if path.name != "environment.py"}
    nodes = [(path.name, node) for path, tree in trees.items() for node in ast.walk(tree)]
    named = {(path, n.value) for path, n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    assert {(path, text) for path, text in named if re.fullmatch(r"GALMORPH_[A-Z_]*", text)} == set()
    read = {n.attr for _, n in nodes if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "Variable"}
    assert read == {variable.name for variable in Variable} - {"CACHE"}, "cache_folder reads CACHE"


def test_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("GALMORPH_CACHE", str(tmp_path / "a" / "b"))
    assert doctor.cache_folder() == decoding.cache_folder() == tmp_path / "a" / "b"
    monkeypatch.delenv("GALMORPH_CACHE")
    assert doctor.cache_folder() == decoding.cache_folder() == Path.home() / ".cache" / "galmorph"
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 10**12, 10**6))
    assert by_name(doctor._folders())["disk here"].state == WRONG
    assert Path.cwd().exists()


def test_extras_that_are_absent_are_reported(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda name: "")
    found = by_name(doctor._extras())
    assert "extra dev" not in found
    assert found["extra timm"].found == "timm not installed"
    assert "[timm]" in found["extra timm"].remedy
