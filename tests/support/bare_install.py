"""Build sdist and wheel, and try the wheel in bare environments: run by ``make packaging``, never by the test suite.

Each environment takes some gigabytes and minutes, so there is one at a time, deleted after use. ``--lowest`` installs
the lowest versions that pyproject.toml admits (with uv) and runs the quick tests there.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ("3.11", "3.12", "3.13")
# Tests of what depends most on other packages' versions, and takes a minute or two.
QUICK = (
    *("schemas/test_schemas", "tables/test_positions", "tables/test_catalog", "images/test_cutout"),
    *("classification/test_provenance", "reports/test_regions", "tables/test_tables_csv", "tables/test_tables_ecsv"),
    *("tables/test_tables_fits", "tables/test_tables_parquet", "tables/test_tables_votable"),
    *("classification/test_classify", "models/test_model", "cli/test_terminal"),
)
# Old packages beside newer ones that they depend on warn of what they call.
_WARNINGS = ("-W", "default::DeprecationWarning")
# Tools of other tests that want newer versions of numpy and pandas than galmorph does.
_RAISING = ("lsdb", "distributed", "netcal", "ipykernel", "nbclient")
INSTALLED = ("torch", "torchvision", "numpy", "astropy", "pandas")
_VERSIONS_TOLD = "import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {names}}}))"


def interpreters() -> dict[str, str]:
    """Return the interpreters of the declared versions that this machine has: pyenv's, on the path, or this one."""
    found = {}
    for version in VERSIONS:
        pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
        if path := shutil.which(f"python{version}"):
            pyenv.append(Path(path))
        pyenv.append(Path(sys.executable))
        for python in pyenv:
            output = subprocess.run([python, "-c", "import sys; print(sys.version)"], capture_output=True, text=True)
            if output.returncode == 0 and output.stdout.startswith(version):
                found[version] = str(python)
                break
    return found


def build(folder: Path) -> Path:
    """Build the sdist, and from it the wheel; return the wheel."""
    call(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    return wheel


def call(*command: object, cwd: Path | None = None) -> str:
    """Run a command outside the checkout's reach; return its stdout; a failure ends everything."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    output = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, stdout=subprocess.PIPE, text=True)
    if output.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit code {output.returncode}\n{output.stdout}")
    return output.stdout


def last_json(text: str) -> dict:
    """Return the JSON object that a command printed last."""
    return json.loads(text.splitlines()[-1])


def try_wheel(wheel: Path, python: str, venv: Path, folder: Path) -> None:
    """Install the wheel in a bare environment, and let the doctor and the demo work there."""
    started = time.perf_counter()
    call(python, "-m", "venv", venv)
    call(venv / "bin/python", "-m", "pip", "install", "--quiet", wheel)
    installed = time.perf_counter()
    versions = last_json(call(venv / "bin/python", "-c", _VERSIONS_TOLD.format(names=INSTALLED)))
    galmorph = venv / "bin/galmorph"
    findings = last_json(call(galmorph, "doctor", "--json", cwd=folder))["findings"]
    place = next(finding["found"] for finding in findings if finding["name"] == "galmorph")
    if str(venv) not in place:
        sys.exit(f"galmorph was not imported from the environment: {place}")
    summary = last_json(call(galmorph, "demo", "--out", folder / venv.name, "--json", cwd=folder))
    if not summary["classified"] or summary["failed"] == summary["targets"]:
        sys.exit(f"The demo classified nothing: {summary}")
    done = time.perf_counter()
    output = ", ".join(f"{name} {version}" for name, version in versions.items())
    size = int(call("du", "-sm", venv).split()[0])
    print(f"{python}: {output}; installed in {installed - started:.0f} s ({size} MB), ran in {done - installed:.0f} s")


def try_lowest(wheel: Path, python: str, venv: Path) -> None:
    """Install the lowest versions declared, and run the quick tests with them."""
    call(sys.executable, "-m", "uv", "venv", "--quiet", "--clear", "--python", python, venv)
    install = (sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-cache", "--python", venv / "bin/python")
    # Not the wheel's requirements: to uv the wheel alone would be direct, and of the rest it would take the newest.
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tools = [line for line in wanted["optional-dependencies"]["dev"] if not line.startswith(_RAISING)]
    call(*install, "--resolution", "lowest-direct", *wanted["dependencies"], *tools)
    call(*install, "--no-deps", wheel)
    versions = last_json(call(venv / "bin/python", "-c", _VERSIONS_TOLD.format(names=INSTALLED)))
    print(f"{python}, lowest:", ", ".join(f"{name} {version}" for name, version in versions.items()), flush=True)
    tests = [f"tests/{name}.py" for name in QUICK]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    failed = subprocess.run(
        [venv / "bin/python", "-m", "pytest", "-q", *_WARNINGS, *tests], cwd=ROOT, env=environment
    ).returncode
    if failed:
        sys.exit("The lowest versions do not pass: raise the minimum of what fails in pyproject.toml.")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", choices=VERSIONS, help="default: all that this machine has")
    parser.add_argument("--lowest", action="store_true", help="the lowest versions instead, on the first of them")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv-x", help="deleted before and after")
    options = parser.parse_args()
    found = interpreters()
    wanted = options.python or list(found)
    if missing := [version for version in wanted if version not in found]:
        sys.exit(f"There is no Python {', '.join(missing)} here.")
    with tempfile.TemporaryDirectory() as temporary:
        wheel = build(Path(temporary) / "dist")
        for version in wanted[:1] if options.lowest else wanted:
            shutil.rmtree(options.venv, ignore_errors=True)
            try:
                if options.lowest:
                    try_lowest(wheel, found[version], options.venv)
                else:
                    try_wheel(wheel, found[version], options.venv, Path(temporary))
            finally:
                shutil.rmtree(options.venv, ignore_errors=True)


if __name__ == "__main__":
    main()
