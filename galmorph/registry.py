"""A folder is a registry: every module in it is one entry, found by its file name.

Adding an entry is adding a file that defines the folder's constant (``SURVEY``, ``BACKBONE``, ...). Names are
listed from the folder without importing anything, so listing the backbones does not import torch. A module named
``_<family>.py`` gives a whole family of entries, which are called ``<family>:<name>`` (``timm:convnext_nano``).
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from galmorph.errors import GalmorphError

# kind -> (its package, the constant that each module defines, what one entry is called in messages)
KINDS: Mapping[str, tuple[str, str, str]] = {
    "tables": ("tables.formats", "TABLE", "table format"),
    "survey_facts": ("images.surveys", "FACTS", "survey"),
    "surveys": ("retrieval.surveys", "SURVEY", "survey"),
    "backbones": ("models.backbones", "BACKBONE", "backbone"),
    "schemas": ("schemas", "SCHEMA", "label schema"),
    "samples": ("training.samples", "SAMPLE", "sample layout"),
}

# Short names that users type.
ALIASES: Mapping[str, Mapping[str, str]] = {
    "backbones": {"mobilenet": "mobilenet_v2", "resnet": "resnet50", "vgg": "vgg16"},
    "schemas": {"galaxy10": "galaxy10_decals", "gz2": "galaxyzoo2"},
}


@cache
def names(kind: str) -> tuple[str, ...]:
    """Return the names of all entries of a kind, sorted, without importing them."""
    modules = pkgutil.iter_modules([str(folder(kind))])
    return tuple(sorted(m.name for m in modules if not m.name.startswith("_")))


def folder(kind: str) -> Path:
    """Return the folder whose modules are the entries of a kind."""
    return Path(__file__).parent.joinpath(*KINDS[kind][0].split("."))


def load(kind: str, name: str) -> Any:
    """Import one entry of a kind and return the constant that it defines.

    Raises
    ------
    GalmorphError
        If there is no entry of that name; the message lists the names and the closest one.
    """
    package, constant, description = KINDS[kind]
    name = ALIASES.get(kind, {}).get(name, name)
    family, colon, member = name.partition(":")
    if colon and (folder(kind) / f"_{family}.py").exists():
        return importlib.import_module(f"galmorph.{package}._{family}").load(member)
    if name not in names(kind):
        raise GalmorphError(unknown(description, name, names(kind)))
    return getattr(importlib.import_module(f"galmorph.{package}.{name}"), constant)


def missing_file(path: Path) -> str:
    """Return the message for a file that does not exist, with the closest name in its folder."""
    folder = path.parent
    if not folder.is_dir():
        return f"There is no file {path}: the folder {folder} does not exist."
    close = difflib.get_close_matches(path.name, [entry.name for entry in folder.iterdir()], n=1)
    return f"There is no file {path}." + (f" Did you mean {folder / close[0]}?" if close else "")


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the message for a name that does not exist: the list of names, and the closest one."""
    known = sorted(known)
    close = difflib.get_close_matches(name.lower(), [k.lower() for k in known], n=1, cutoff=0.5)
    hint = f" Did you mean {next(k for k in known if k.lower() == close[0])!r}?" if close else ""
    return f"There is no {kind} {name!r}.{hint} Known: {', '.join(known) or 'none'}."
