"""The doctor: what works on this machine, what is wrong, and what to do. It works even if torch cannot be imported."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import galmorph
from galmorph import registry
from galmorph.environment import PREFIX, Variable, cache_folder
from galmorph.errors import GalmorphError, counted, first_line
from galmorph.files.record import file_sha256
from galmorph.models import card
from galmorph.threads import cores

if TYPE_CHECKING:
    from rich.text import Text

PACKAGE = "galmorph-survey"
GOOD, NOTE, WRONG = "good", "note", "wrong"
OLDEST_PYTHON = (3, 11)
# Below this much space little can be written; below the next a large fetch or training may not fit.
MIN_FREE_BYTES, LITTLE_FREE_BYTES = 100e6, 5e9
# Imported to test them: an installed package may still lack a system library.
_LIBRARIES = ("numpy", "astropy", "pandas", "pyarrow", "h5py", "matplotlib", "PIL", "httpx", "reproject", "jinja2")
_SUMS = "SHA256SUMS"
# Extras for developers of galmorph.
_DEVELOPMENT = {"dev", "docs"}


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes
    ----------
    state : {'good', 'note', 'wrong'}
        ``note``: galmorph works, but there is something to know. ``wrong``: something that it needs does not work.
    remedy : str
        What to do, ``''`` where nothing is.
    """

    name: str
    state: str
    found: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Check everything that galmorph needs or can use."""
    return [
        *_python(),
        *_requirements(),
        *_libraries(),
        *_torch(),
        *_models(),
        *_folders(),
        *_variables(os.environ),
        *_extras(),
    ]


def shown(findings: Iterable[Finding]) -> list[Text]:
    """Return findings as lines for a terminal: errors stand out, each remedy is below its finding."""
    from rich.text import Text

    colours = {GOOD: "green", NOTE: "yellow", WRONG: "bold red"}
    lines = []
    for finding in findings:
        lines.append(Text.assemble((f"{finding.state:5}", colours[finding.state]), f" {finding.name}: {finding.found}"))
        if finding.remedy:
            lines.append(Text(f"      {finding.remedy}", style="bold" if finding.state == WRONG else ""))
    return lines


def _python() -> Iterator[Finding]:
    yield Finding("galmorph", GOOD, f"{galmorph.__version__} in {Path(galmorph.__file__).parent}")
    old = sys.version_info < OLDEST_PYTHON
    needed = ".".join(map(str, OLDEST_PYTHON))
    yield Finding(
        "Python",
        WRONG if old else GOOD,
        f"{platform.python_version()} in {sys.prefix}",
        f"galmorph needs Python {needed} or newer: make PYTHON=python{needed} demo" if old else "",
    )
    yield Finding("platform", GOOD, f"{platform.platform()}, {platform.machine()}, {cores()} cores")


def _requirements() -> Iterator[Finding]:
    """Compare the installed packages with the requirements."""
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(text) for text in importlib.metadata.requires(PACKAGE) or ()]
    except importlib.metadata.PackageNotFoundError:
        yield Finding(
            "installation", WRONG, f"{PACKAGE} is not installed; its files are used as they lie", "pip install ."
        )
        return
    needed = [requirement for requirement in wanted if not requirement.marker or requirement.marker.evaluate()]
    unmet = [problem for requirement in needed if (problem := _unmet(requirement.name, str(requirement.specifier)))]
    yield Finding(
        "requirements",
        WRONG if unmet else GOOD,
        "; ".join(unmet) or f"all {len(needed)} are met",
        f"{_python_name()} -m pip install --upgrade {PACKAGE}" if unmet else "",
    )


def _unmet(name: str, specifier: str) -> str:
    from packaging.specifiers import SpecifierSet

    version = _version(name)
    if not version:
        return f"{name} is not installed"
    # Builds such as 2.6.0+cpu count as their release.
    fits = SpecifierSet(specifier).contains(version.partition("+")[0], prereleases=True)
    return "" if fits else f"{name} is {version}, not {specifier}"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _libraries() -> Iterator[Finding]:
    versions, failed = [], []
    for name in _LIBRARIES:
        try:
            versions.append(f"{name} {getattr(importlib.import_module(name), '__version__', '')}".strip())
        except Exception as error:
            failed.append(f"{name}: {first_line(error)}")
    yield Finding(
        "libraries",
        WRONG if failed else GOOD,
        "; ".join(failed) or ", ".join(versions),
        f"{_python_name()} -m pip install --force-reinstall {' '.join(text.split(':')[0] for text in failed)}"
        if failed
        else "",
    )


def _torch() -> Iterator[Finding]:
    """Import torch and torchvision, which must be of the same release, and test the devices."""
    version, beside = _version("torch"), _version("torchvision")
    again = f"{_python_name()} -m pip install --upgrade --force-reinstall 'torch>=2.6,!=2.13.0' torchvision"
    try:
        import torch
    except Exception as error:
        yield Finding("torch", WRONG, f"{version or 'not installed'}: {first_line(error)}", again)
        return
    yield Finding("torch", GOOD, f"{torch.__version__}, {counted(torch.get_num_threads(), 'thread')}")
    try:
        import torchvision
    except Exception as error:
        problem = (
            f"torchvision {beside or '(not installed)'} does not import beside torch {version}: {first_line(error)}"
        )
        yield Finding("torchvision", WRONG, problem, f"Install a pair of the same release: {again}")
        return
    yield Finding("torchvision", GOOD, torchvision.__version__)
    try:
        from galmorph.models.predictor import pick_device, pick_dtype

        device = pick_device("auto")
        dtype = str(pick_dtype("auto", device)).removeprefix("torch.")
        torch.zeros(1, device=device)
    except Exception as error:
        yield Finding("device", WRONG, first_line(error), "Use --device cpu, or repair the driver.")
        return
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    yield Finding("device", GOOD, f"{device} ({', '.join(gpus) or platform.processor() or platform.machine()})")
    native = (
        "computed natively: --dtype auto takes it" if dtype == "bfloat16" else "not native: --dtype auto is float32"
    )
    yield Finding("bfloat16", GOOD, native)


def _models() -> Iterator[Finding]:
    """Compare the shipped weights with the hashes that were recorded with them."""
    models = card.shipped()
    if not models:
        folders = " or ".join(map(str, card.folders()))
        yield Finding(
            "models", WRONG, f"no weights in {folders}", "Install the package again, or name a file: --model."
        )
    for name, path in models.items():
        try:
            schema = card.read_card(path).schema
            recorded = recorded_sha256(path)
            same = recorded == file_sha256(path)
        except (GalmorphError, OSError) as error:
            yield Finding(f"model {name}", WRONG, first_line(error), "Install the package again.")
            continue
        verdict = "hash good" if same else "its hash is not the recorded one" if recorded else "no hash is recorded"
        state, remedy = (GOOD, "") if same else (WRONG, "Its file is damaged: install the package again.")
        if not recorded:
            state, remedy = NOTE, f"sha256sum *.safetensors > {_SUMS} in {path.parent} records it."
        yield Finding(f"model {name}", state, f"{schema}, {path.stat().st_size / 1e6:.1f} MB, {verdict}", remedy)


def recorded_sha256(path: Path) -> str:
    """Return the SHA-256 of a weights file that ``SHA256SUMS`` beside it records, '' where it does not."""
    sums = path.with_name(_SUMS)
    lines = sums.read_text().splitlines() if sums.is_file() else []
    return next((line.split()[0] for line in lines if line.split()[1:] == [path.name]), "")


def _folders() -> Iterator[Finding]:
    cache = cache_folder()
    existing = next(folder for folder in (cache, *cache.absolute().parents) if folder.exists())
    size = sum(path.stat().st_size for path in cache.glob("*") if path.is_file()) if cache.is_dir() else 0
    usable = existing.is_dir() and os.access(existing, os.W_OK)
    yield Finding(
        "cache",
        GOOD if usable else NOTE,
        f"{cache}, {size / 1e6:.0f} MB" + ("" if usable else ", cannot be written"),
        "" if usable else "Training needs it: set GALMORPH_CACHE to a folder that can be written.",
    )
    for name, folder in (("disk here", Path.cwd()), ("disk of the cache", existing)):
        free = shutil.disk_usage(folder).free
        state = WRONG if free < MIN_FREE_BYTES else NOTE if free < LITTLE_FREE_BYTES else GOOD
        remedy = "" if state == GOOD else f"Make room, or work elsewhere: {free / 1e9:.1f} GB are left in {folder}."
        yield Finding(name, state, f"{free / 1e9:.1f} GB free in {folder}", remedy)


def _variables(environment: Mapping[str, str]) -> Iterator[Finding]:
    variables = {str(variable): variable for variable in Variable}
    for name, value in sorted(environment.items()):
        if not name.startswith(PREFIX):
            continue
        variable = variables.get(name)
        if variable is None:
            yield Finding(name, NOTE, "galmorph reads no such variable", registry.unknown("variable", name, variables))
        elif variable.kind == "folder" and not Path(value).is_dir():
            yield Finding(name, NOTE, f"{variable.meaning}: {value} is not a folder", f"Make it, or unset {name}.")
        else:
            shown = _without_secrets(value) if variable.kind == "address" else value
            yield Finding(name, GOOD, f"{variable.meaning}: {shown}")
    proxies = sorted(name for name in environment if name.lower() in ("http_proxy", "https_proxy", "all_proxy"))
    if proxies:
        yield Finding("proxy", GOOD, f"{', '.join(proxies)} set: galmorph fetch goes through it")


def _without_secrets(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//...@", url).partition("?")[0]


def _extras() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    try:
        metadata = importlib.metadata.metadata(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return
    wanted = [Requirement(text) for text in importlib.metadata.requires(PACKAGE) or ()]
    for extra in sorted(set(metadata.get_all("Provides-Extra") or ()) - _DEVELOPMENT):
        of_extras = [(r.name, r.marker) for r in wanted if r.marker and "extra" in str(r.marker)]
        names = [name for name, marker in of_extras if marker.evaluate({"extra": extra})]
        missing = [name for name in names if not _version(name)]
        state = f"{', '.join(missing)} not installed" if missing else ", ".join(f"{n} {_version(n)}" for n in names)
        remedy = f"{_python_name()} -m pip install '{PACKAGE}[{extra}]' if you want it" if missing else ""
        yield Finding(f"extra {extra}", NOTE if missing else GOOD, state, remedy)


def _python_name() -> str:
    return sys.executable or "python"
