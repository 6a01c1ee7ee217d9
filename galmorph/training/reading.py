"""Reading labelled data: the layout of a path, and the options that the user gives with it.

``PATH:item,item,...``. An item is a question (then only its labels are used), or one of the following options. A file
``labels.toml`` in the sample's folder can hold them too; the command line comes first:

- ``width_r90=6.4`` or ``width_arcsec=67``: how wide the pictures are on the sky;
- ``labels=SCHEMA``: the schema of its labels. Under another schema they become bounds or classes, if the two are
  related (:attr:`galmorph.schemas.LabelSchema.meaning`);
- ``label_column=NAME``, ``cutout_column=NAME``, ``id_column=NAME``: columns of its table; ``cutouts=FOLDER``: the
  folder that the table's paths are relative to (``/`` where they are absolute).
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph import registry
from galmorph.errors import GalmorphError, SampleError
from galmorph.images.framing import Framing
from galmorph.ranges import WIDTH_ARCSEC, WIDTH_R90
from galmorph.schemas import LabelSchema, Question, read_schema
from galmorph.training.bounds import propagate
from galmorph.training.samples import Layout, Sample, sample_of
from galmorph.training.samples._classes import check_names, slug
from galmorph.training.samples.catalog import why_no_catalog

DECLARED = "labels.toml"
_COLUMNS = ("label_column", "cutout_column", "id_column", "cutouts")
_WIDTHS = {"width_arcsec": WIDTH_ARCSEC, "width_r90": WIDTH_R90}
_OPTIONS = ("labels", *_WIDTHS, *_COLUMNS)


def read_sample(path: str | Path, schema: LabelSchema, *, labelled: bool = True) -> Sample:
    """Read labelled data of any layout.

    Parameters
    ----------
    path : str or Path
        A folder or file; ``PATH:question,question`` uses only the labels of these questions, ``PATH:width_r90=6.4``
        is the width of its pictures (see the module). Votes of two projects on one question differ systematically,
        and a model also learns how a sample was selected, if that was by its labels.
    labelled : bool
        False: labels are not read.

    Raises
    ------
    SampleError
        If it is missing, empty or of an unknown layout, or if a question or an option does not exist.
    """
    path, questions, layout, options = _opened(path)
    source = schema_named(options["labels"]) if "labels" in options else schema
    columns = {name: options[name] for name in layout.options if name in options}
    sample: Sample = layout.read(path, source if labelled else dataclasses.replace(schema, learns=False), **columns)
    if not len(sample):
        raise SampleError(f"{path} holds no galaxies.")
    if not labelled:
        return _framed(dataclasses.replace(sample, votes=None, labelled=False), options)
    if source.name != schema.name:
        sample = translate(sample, source, schema)
    if questions:
        sample = _restricted(sample, schema, questions)
    return _framed(sample, options)


def _opened(path: str | Path) -> tuple[Path, list[str], Layout, dict[str, Any]]:
    """Return a sample's path, the questions that are used, its layout and its options.

    Raises
    ------
    SampleError
        If it is missing or of an unknown layout, or an option is not one of this layout.
    """
    path, questions, given = parse(path)
    if not path.exists():
        raise SampleError(registry.missing_file(path))
    is_table = path.is_file() and "cutout_column" in given
    layout: Layout = registry.load("samples", "catalog") if is_table else _layout_of(path)
    declared = _declared(path)
    if any(name.startswith("width_") for name in given):
        declared = {name: value for name, value in declared.items() if not name.startswith("width_")}
    options = {**declared, **given}
    for name in _COLUMNS:
        if name in options and name not in layout.options:
            raise SampleError(f"{path}: {name} is said of tables, and this is a {layout.description}.")
    return path, questions, layout, options


def schema_named(name: str) -> LabelSchema:
    """Return the schema of this name, or the one in a TOML file.

    Raises
    ------
    GalmorphError
        If there is none, or its name in the file is one of galmorph's own.
    """
    if not name.lower().endswith(".toml"):
        return registry.load("schemas", name)
    path = Path(name)
    if not path.is_file():
        raise SampleError(registry.missing_file(path))
    schema = read_schema(path)
    if schema.name in registry.own_names("schemas"):
        raise SampleError(f"{path}: a schema of galmorph is named {schema.name!r}: give this one another name.")
    return schema


def infer_schema(paths: Sequence[str | Path]) -> LabelSchema:
    """Return the schema of the labels of samples: one of galmorph's, or the classes that occur.

    Parameters
    ----------
    paths : sequence of str or Path
        As for `read_sample`.

    Raises
    ------
    SampleError
        If a sample cannot be read or has no labels, or there are several schemas or fewer than two classes.
    """
    named: dict[str, Path] = {}
    classes: dict[str, str] = {}
    for given in paths:
        path, _, layout, options = _opened(given)
        if "labels" in options:
            named.setdefault(str(options["labels"]), path)
            continue
        if layout.labels_of is None:
            raise SampleError(f"{path}: name the schema of its labels with --schema.")
        labels = layout.labels_of(path, **{name: options[name] for name in layout.options if name in options})
        if isinstance(labels, str):
            named.setdefault(labels, path)
        else:
            classes |= {slug(text): text for text in labels}
            check_names((*labels, *classes.values()), str(path))
    if len(named) > 1:
        both = ", ".join(f"{name} ({path})" for name, path in named.items())
        raise SampleError(f"The samples are labelled by several schemas, {both}: choose one with --schema.")
    if named:
        return schema_named(next(iter(named)))
    where = ", ".join(str(plain(path)) for path in paths)
    if len(classes) < 2:
        only = f"only the class {next(iter(classes.values()))!r}" if classes else "no class"
        raise SampleError(
            f"{where}: {only}, and a model needs two or more. Give a folder for each class: "
            f"galmorph train --data {quote(str(plain(paths[0])))} --data ANOTHER --out runs/mine"
        )
    answers = sorted(classes, key=lambda name: (int(number) if (number := classes[name]).isdecimal() else -1, name))
    own = slug(plain(paths[0]).resolve().name.partition(".")[0]) if len(paths) == 1 else "classes"
    name = own if own and own not in registry.own_names("schemas") else f"own_{own or 'classes'}"
    return LabelSchema(
        name=name,
        description=f"The classes {', '.join(answers)}.",
        reference="",
        questions=(Question("class", tuple(answers)),),
        codes=tuple(classes[answer] for answer in answers),
    )


def _layout_of(path: Path) -> Layout:
    """Return the layout of a folder or file.

    Raises
    ------
    SampleError
        If no layout matches, or several do and none of them is more specific.
    """
    layouts: list[Layout] = [registry.load("samples", name) for name in registry.names("samples")]
    matching, refused = [], None
    for layout in layouts:
        try:
            matching += [layout] if layout.matches(path) else []
        except GalmorphError as error:  # another layout may still match
            refused = error
    general = {name for layout in matching for name in layout.before}
    chosen = [layout for layout in matching if layout.name not in general]
    if not chosen and refused:
        raise refused
    if not chosen:
        layout_texts = "; ".join(f"{layout.name}: {layout.description}" for layout in layouts)
        raise SampleError(f"{path} has no layout of labelled data{why_no_catalog(path)}. Layouts: {layout_texts}.")
    if len(chosen) > 1:
        both = "; ".join(f"{layout.name}: {layout.description}" for layout in chosen)
        raise SampleError(f"{path} has several layouts: {both}. Give each a folder of its own.")
    return chosen[0]


def parse(path: str | Path) -> tuple[Path, list[str], dict[str, Any]]:
    """Return the path, the questions and the options of ``PATH:question,name=value,...``.

    Raises
    ------
    SampleError
        If an option is unknown or a width is not a number greater than 0.
    """
    before, separator, after = str(path).rpartition(":")
    if not separator or after.startswith("/") or Path(path).exists():
        return Path(path), [], {}
    items = [item.strip() for item in after.split(",")]
    options = {name.strip(): value.strip() for name, equals, value in (i.partition("=") for i in items) if equals}
    return Path(before), [item for item in items if "=" not in item], _checked(options, str(path))


def plain(path: str | Path) -> Path:
    """Return only the path of ``PATH:question,name=value,...``."""
    return parse(path)[0]


def check_paths(paths: Sequence[str | Path]) -> None:
    """Raise SampleError if a sample is missing; quick, for it imports no torch.

    Parameters
    ----------
    paths : sequence of str or Path
        As for `read_sample`.
    """
    for path in map(plain, paths):
        if not path.exists():
            raise SampleError(registry.missing_file(path))


def _declared(path: Path) -> dict[str, Any]:
    """Return the options in ``labels.toml`` in a sample's folder."""
    file = path / DECLARED
    if not file.is_file():
        return {}
    try:
        return _checked(tomllib.loads(file.read_text()), str(file))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SampleError(f"{file} cannot be read as TOML: {error}.") from error


def _checked(options: Mapping[str, Any], where: str) -> dict[str, Any]:
    checked = dict(options)
    for name, value in options.items():
        if name not in _OPTIONS:
            raise SampleError(f"{where}: {registry.unknown('option of a sample', name, _OPTIONS)}")
        if name.startswith("width_"):
            try:
                checked[name] = float(value)
            except (TypeError, ValueError, OverflowError):
                checked[name] = math.nan
            if checked[name] not in _WIDTHS[name]:
                raise SampleError(f"{where}: {name} is {_WIDTHS[name]}, not {str(value)[:40]!r}.")
    if {"width_arcsec", "width_r90"} <= checked.keys():
        raise SampleError(f"{where}: pictures have either width_r90 or width_arcsec.")
    return checked


def _framed(sample: Sample, options: Mapping[str, Any]) -> Sample:
    """Return a sample with the width of its pictures that the options name."""
    if not any(name.startswith("width_") for name in options):
        return sample
    if sample.composed:
        raise SampleError(f"The FITS cutouts of {sample.name} are framed by their radii: leave the width out.")
    framing = Framing(radii=options.get("width_r90", 0.0), size_arcsec=options.get("width_arcsec", 0.0))
    return dataclasses.replace(sample, framing=framing)


def translate(sample: Sample, source: LabelSchema, target: LabelSchema) -> Sample:
    """Return a sample with the labels of one schema turned into those of another.

    Classes that mean minimum fractions become bounds. Fractions become the class whose minimum fractions they
    reach; galaxies that reach no class or several are left out.

    Raises
    ------
    SampleError
        If the schemas are not related.
    """
    if target.name in source.meaning:
        lower = np.full((len(sample), len(target.labels)), np.nan, np.float32)
        classes = source.classes(sample.fractions)
        for number, least in enumerate(source.meaning[target.name]):
            for label, value in least.items():
                lower[classes == number, target.labels.index(label)] = value
        low, high = propagate(target, lower, np.full_like(lower, np.nan))
        return dataclasses.replace(sample, fractions=np.full_like(lower, np.nan), lower=low, upper=high)
    if source.name in target.meaning:
        reached = np.stack(
            [
                np.all([sample.fractions[:, source.labels.index(label)] >= least[label] for label in least], axis=0)
                for least in target.meaning[source.name]
            ],
            axis=1,
        )
        one = np.flatnonzero(reached.sum(axis=1) == 1)
        if not len(one):
            raise SampleError(f"No galaxy of {sample.name} reaches a class of the schema {target.name!r}.")
        chosen = dataclasses.replace(sample, fractions=reached.astype(np.float32)).take(one)
        none = (f"its votes make it none of the classes of {target.name}",) * (len(sample) - len(one))
        return dataclasses.replace(chosen, skipped=(*sample.skipped, *none))
    related = [name for name in registry.names("schemas") if target.name in registry.load("schemas", name).meaning]
    raise SampleError(
        f"Labels of the schema {source.name!r} say nothing of those of {target.name!r}. Schemas that do: "
        f"{', '.join(related) or 'none'}."
    )


def _restricted(sample: Sample, schema: LabelSchema, questions: Sequence[str]) -> Sample:
    """Return a sample with the labels of some questions only; the others are unknown."""
    names = [question.name for question in schema.questions]
    kept = np.zeros(len(schema.labels), dtype=bool)
    for question in questions:
        if question not in names:
            raise SampleError(registry.unknown("question", question, names))
        kept[schema.slices[names.index(question)]] = True

    def restricted(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.where(kept, values, np.float32(np.nan))

    lower, upper = (None if bound is None else restricted(bound) for bound in (sample.lower, sample.upper))
    return dataclasses.replace(sample, fractions=restricted(sample.fractions), lower=lower, upper=upper)


def excluded_keys(path: str | Path) -> set[str]:
    """Return the keys of the galaxies that a table lists for exclusion.

    Parameters
    ----------
    path : str or Path
        A CSV file. Each of its columns that identifies galaxies counts: ``galaxy`` (keys, as in ``split.csv``),
        ``sample`` with ``item``, ``GalaxyID`` or ``challenge_GalaxyID`` (of the Galaxy Zoo challenge), and
        ``<sample>_GalaxyID``.

    Raises
    ------
    SampleError
        If it is missing or has no such column.
    """
    import pandas as pd

    path = Path(path)
    if not path.is_file():
        raise SampleError(registry.missing_file(path))
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:
        raise SampleError(f"{path} cannot be read as CSV: {error}.") from error
    keys: set[str] = set()
    matched = False
    for column in table.columns:
        if column == "galaxy":
            prefix = ""
        elif column.endswith("GalaxyID"):
            prefix = f"{sample_of(column)}:"
        else:
            continue
        matched = True
        keys.update(prefix + cell for cell in table[column] if cell)
    if {"sample", "item"} <= set(table.columns):
        matched = True
        keys.update(table["sample"] + ":" + table["item"])
    if not matched:
        raise SampleError(
            f"{path} names no galaxies: it needs a column 'galaxy', columns 'sample' and 'item', or 'GalaxyID' (of the "
            "Galaxy Zoo challenge)."
        )
    return keys
