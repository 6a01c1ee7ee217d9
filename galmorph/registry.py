"""A folder is a registry: every module in it is one entry, named as its file.

Adding an entry is adding a file that defines the folder's constant (``SURVEY``, ``BACKBONE``, ...), or installing a
package with an entry point in the group ``galmorph.<kind>`` that names such an object (``bars = "our_package:BARS"`` in
``galmorph.schemas``). Names are listed without importing anything, so listing the backbones does not import torch. A
module named ``_<family>.py`` gives a whole family of entries, which are called ``<family>:<name>``
(``timm:convnext_nano``).
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from inspect import signature
from pathlib import Path
from typing import Any

from galmorph.errors import GalmorphError

# kind -> (its package, the constant that each module defines, the name of an entry in messages, its type there)
KINDS: Mapping[str, tuple[str, str, str, str]] = {
    "tables": ("tables.formats", "TABLE", "table format", "Format"),
    "survey_facts": ("images.surveys", "FACTS", "survey", "SurveyFacts"),
    "surveys": ("retrieval.surveys", "SURVEY", "survey", "Survey"),
    "backbones": ("models.backbones", "BACKBONE", "backbone", "Backbone"),
    "schemas": ("schemas", "SCHEMA", "label schema", "LabelSchema"),
    "samples": ("training.samples", "SAMPLE", "sample layout", "Layout"),
}

# Short names that users type.
ALIASES: Mapping[str, Mapping[str, str]] = {
    "backbones": {"mobilenet": "mobilenet_v2", "resnet": "resnet50", "vgg": "vgg16"},
    "schemas": {"galaxy10": "galaxy10_decals", "gz2": "galaxyzoo2"},
}


# pathlib leaves one slash after the scheme.
_ADDRESS = re.compile("[a-z][a-z0-9]+:/")


def names(kind: str) -> tuple[str, ...]:
    """Return the names of all entries of a kind, sorted, without importing them."""
    return tuple(sorted({*own_names(kind), *installed(kind)}))


@cache
def own_names(kind: str) -> tuple[str, ...]:
    """Return the names of the entries that are files of galmorph, sorted."""
    modules = pkgutil.iter_modules([str(folder(kind))])
    return tuple(sorted(m.name for m in modules if not m.name.startswith("_")))


@cache
def installed(kind: str) -> Mapping[str, EntryPoint]:
    """Return the entries that other installed packages give, by name; galmorph's own names have priority."""
    given = _entry_points().select(group=f"galmorph.{kind}")
    return {entry.name: entry for entry in given if entry.name not in own_names(kind)}


@cache
def _entry_points() -> Any:
    return entry_points()


def folder(kind: str) -> Path:
    """Return the folder whose modules are the entries of a kind."""
    return Path(__file__).parent.joinpath(*KINDS[kind][0].split("."))


def load(kind: str, name: str) -> Any:
    """Import one entry of a kind and return the constant that it defines.

    Raises
    ------
    GalmorphError
        If there is no entry of that name (the message lists the names and the closest one), or another package's cannot
        be used.
    """
    package, constant, description, _ = KINDS[kind]
    name = ALIASES.get(kind, {}).get(name, name)
    family, colon, member = name.partition(":")
    if colon and (folder(kind) / f"_{family}.py").exists():
        return importlib.import_module(f"galmorph.{package}._{family}").load(member)
    if name in own_names(kind):
        return getattr(importlib.import_module(f"galmorph.{package}.{name}"), constant)
    if name not in installed(kind):
        raise GalmorphError(unknown(description, name, names(kind)))
    return _load_installed(kind, name)


@cache
def _load_installed(kind: str, name: str) -> Any:
    package, _, description, type_name = KINDS[kind]
    point = installed(kind)[name]
    giver = point.dist.name if point.dist else "another package"
    try:
        entry = point.load()
    except Exception as error:  # code of another package
        raise GalmorphError(
            f"The {description} {name!r} of the package {giver} ({point.value}) cannot be loaded: "
            f"{type(error).__name__}: {error}. Update or remove the package."
        ) from error
    wanted = getattr(importlib.import_module(f"galmorph.{package}"), type_name)
    if not isinstance(entry, wanted) or getattr(entry, "name", name) != name:
        raise GalmorphError(
            f"The {description} {name!r} of the package {giver} ({point.value}) is no galmorph.{package}.{type_name} "
            "of this name."
        )
    return entry


def check_keywords(function: Callable[..., Any], given: Iterable[str], options: type[Any]) -> None:
    """Raise TypeError for the first further keyword of a function that is no field of a dataclass of options."""
    names = {each.name for each in fields(options)}
    if wrong := next((name for name in given if name not in names), None):
        own = {name for name, each in signature(function).parameters.items() if each.kind is each.KEYWORD_ONLY}
        raise TypeError(f"galmorph.{function.__name__}: {unknown('option', wrong, names | own)}")


def missing_file(path: Path) -> str:
    """Return the message for a file that does not exist, with the closest name in its folder."""
    if _ADDRESS.match(str(path)):
        address = re.sub(":/+", "://", str(path), count=1)
        return f"{address} is an address, and here a file of this machine is read: copy it first."
    folder = path.parent
    if not folder.is_dir():
        return f"There is no file {path}: the folder {folder} does not exist."
    close = difflib.get_close_matches(path.name, [entry.name for entry in folder.iterdir()], n=1)
    return f"There is no file {path}." + (f" Did you mean {folder / close[0]}?" if close else "")


def unknown(kind: str, name: str, names: Iterable[str]) -> str:
    """Return the message for a name that does not exist, with all names and the closest one."""
    names = sorted(names)
    close = difflib.get_close_matches(name.lower(), [k.lower() for k in names], n=1, cutoff=0.5)
    hint = f" Did you mean {next(k for k in names if k.lower() == close[0])!r}?" if close else ""
    return f"There is no {kind} {name!r}.{hint} There are: {', '.join(names) or 'none'}."
