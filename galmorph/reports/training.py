"""The report of a training run or an evaluation: curves, scores, confusion, reliability, worst errors."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from galmorph import registry
from galmorph.errors import GalmorphError, SampleError
from galmorph.files.checked_json import read_json_file
from galmorph.files.pictures import jpeg
from galmorph.files.writing import write_file
from galmorph.reports.page import Report, data_uri, inline_svg, render, save_figures
from galmorph.schemas import LabelSchema, schema_from_mapping, squared_errors
from galmorph.training.evaluation import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Galaxies with the largest errors: number in all, and of each class.
WORST = 24
WORST_OF_CLASS = 4
_PICTURE_PX = 160
# Figures that training leaves in its folder.
_PNG = {
    "confusion_matrix": "Confusion matrix",
    "fractions": "Predicted against true vote fractions",
    "calibration": "Reliability",
    "conditions": "Scores by apparent size and signal to noise",
}
# Answers on the card of a galaxy.
_ANSWERS_SHOWN = 3


Score = float | int | str | bool | None | list[Any] | dict[str, Any]


@dataclass
class _Config:
    """Options of a run that the page uses, besides listing all."""

    data: list[str]
    schema: str
    backbone: str
    pretrained: str
    epochs: int
    seed: int


@dataclass
class _Scores:
    """Fields of ``scores.json`` that the page uses."""

    shares: dict[str, dict[str, float | int | None]] = field(default_factory=dict)
    conditions: dict[
        Literal["radius_arcsec", "snr", "picture_snr"], Annotated[list[dict[str, float]], Field(min_length=1)]
    ] = field(default_factory=dict)
    schema: str = ""
    schema_definition: dict[str, Any] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What `galmorph evaluate` wrote.

    Attributes
    ----------
    scores : mapping
        Content of ``scores.json``.
    galaxies : ndarray of str objects, shape (n,)
    truth, predicted : ndarray, shape (n, n_labels)
    """

    folder: Path
    scores: Mapping[str, Any]
    schema: LabelSchema
    galaxies: NDArray[np.object_]
    truth: NDArray[np.float64]
    predicted: NDArray[np.float64]


def assess(path: Path, out: Path, data: Sequence[str] = (), *, figures_folder: Path | None = None) -> Report:
    """Write the report of a folder of `galmorph train` or `galmorph evaluate`.

    Parameters
    ----------
    path : Path
        A run's folder is shown with the evaluations in its subfolders.
    out : Path
        The HTML file.
    data : sequence of str
        Labelled data, for pictures; default: those that the run was trained on.
    figures_folder : Path, optional
        Folder for the figures as PNG and PDF.

    Raises
    ------
    GalmorphError
        If the folder is neither, or the report cannot be written.
    """
    is_run = (path / "config.json").is_file() and (path / "history.csv").is_file()
    folders = [f.parent for f in sorted([*path.glob("scores.json"), *(path.glob("*/scores.json") if is_run else ())])]
    if not is_run and not folders:
        raise SampleError(
            f"{path} holds no run of galmorph train (config.json, history.csv) and no evaluation (scores.json): write "
            f"one with galmorph evaluate MODEL --data PATH --out {quote(str(path))}"
        )
    sections: list[dict[str, Any]] = []
    drawn: dict[str, Figure] = {}
    notes: list[str] = []
    tiles: list[tuple[str, str, str]] = []
    if is_run:
        data = data or read_json_file(_Config, path / "config.json", SampleError).data
        sections, drawn, tiles = _run(path, read_json_file(dict[str, Any], path / "config.json", SampleError))
        if not (path / "metrics.json").is_file():
            notes.append("The run is not finished: there are no scores yet.")
        if not folders:
            notes.append(
                "Worst errors come from an evaluation: write one with galmorph evaluate "
                f"{quote(str(path))} --data PATH --out {quote(str(path / 'test'))}, then make this report again."
            )
    evaluations = [_read(folder) for folder in folders]
    n_pictures = n_galaxies = 0
    for evaluation in evaluations:
        name = "" if evaluation.folder == path else evaluation.folder.name
        pictures, note = _pictures(evaluation, data)
        notes += [note] if note else []
        more, new_figures = _evaluation(evaluation, name, pictures)
        sections += more
        drawn |= new_figures
        n_pictures, n_galaxies = n_pictures + len(pictures), n_galaxies + len(evaluation.galaxies)
        tiles = tiles or _tiles(evaluation.scores)
    unique_notes = tuple(dict.fromkeys(notes))
    context = {
        "title": f"{path.resolve().name} - galmorph report",
        "heading": path.resolve().name,
        "lead": "A training run." if is_run else f"An evaluation of {evaluations[0].scores.get('model', 'a model')}.",
        "sections": [("summary", "Summary"), *((section["id"], section["short"]) for section in sections)],
        "notes": unique_notes,
        "tiles": tiles,
        "content": sections,
    }
    write_file(out, render("assessment.html", ("theme.js",), context).encode())
    files = save_figures(drawn, figures_folder) if figures_folder is not None else ()
    return Report(str(out), n_galaxies, n_pictures, files, unique_notes)


def _run(path: Path, config: Mapping[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Figure], list[Any]]:
    """Return the sections of a training run, its figures, and the tiles of the summary."""
    history = figures.read_history(path)
    curves = figures.learning_curves(history)
    minutes = sum(line["seconds"] for line in history) / 60
    best = min(line["val_rmse"] for line in history)
    sections = [_section("curves", "Curves", "Learning curves", figures=[("Learning curves", inline_svg(curves))])]
    metrics = path / "metrics.json"
    if metrics.is_file():
        parts = read_json_file(dict[str, dict[str, dict[str, Score]]], metrics, SampleError)
        tables = [_score_table(f"{part}: {sample}", scores) for part, samples in parts.items()
                  for sample, scores in samples.items()]  # fmt: skip
        text = "By part of the split and sample; intervals are 95 % bootstrap over galaxies. tta8: eight orientations."
        sections.append(_section("scores", "Scores", "Scores", text, tables=tables))
    pictures = [
        (title, data_uri("png", (path / f"{name}.png").read_bytes()))
        for name, title in _PNG.items()
        if (path / f"{name}.png").is_file()
    ]
    if pictures:
        text = "Of the test part, or of the validation part where the test part was not scored."
        sections.append(_section("figures", "Figures", "Figures", text, images=pictures))
    # Reports are shared: they hold no paths of a machine.
    own = {"data", "teachers", "pretrained", "exclude", "unlabelled"}
    chosen = [(name, _names(value) if name in own else _plain(value)) for name, value in config.items()]
    options = {"caption": "", "head": (), "rows": chosen}
    sections.append(_section("options", "Options", "Options of the run", tables=[options]))
    tiles = [
        ("epochs", str(len(history)), f"of {config['epochs']}, {minutes:.0f} minutes"),
        ("best validation rmse", f"{best:.4f}", "averaged weights, one orientation"),
        ("backbone", str(config["backbone"]), f"from {Path(str(config['pretrained'])).name}"),
        ("labels", str(config["schema"]), f"seed {config['seed']}"),
    ]
    return sections, {"learning_curves": curves}, tiles


def _read(folder: Path) -> Evaluation:
    path = folder / "scores.json"
    read_json_file(_Scores, path, SampleError)
    scores = read_json_file(dict[str, Any], path, SampleError)
    try:
        with (folder / "predictions.csv").open(newline="") as file:
            header, *lines = csv.reader(file)
        labels = [name.removeprefix("p_") for name in header if name.startswith("p_")]
        numbers = [[float(cell or "nan") for cell in line[1:]] for line in lines if len(line) == len(header)]
        true = [f"true_{label}" for label in labels]
        if not labels or header[len(labels) + 1 : 2 * len(labels) + 1] != true or len(numbers) < len(lines):
            raise ValueError("predictions.csv has no columns p_<label> and true_<label>, or lines of other lengths")
    except (OSError, ValueError, csv.Error) as error:
        raise SampleError(f"The evaluation in {folder} cannot be read: {error}") from error
    schema = _schema(folder, scores, labels)
    table = np.array(numbers).reshape(len(lines), -1)
    return Evaluation(
        folder=folder,
        scores=scores,
        schema=schema,
        galaxies=np.array([line[0] for line in lines], dtype=object),
        truth=table[:, len(labels) : 2 * len(labels)],
        predicted=table[:, : len(labels)],
    )


def _schema(folder: Path, scores: Mapping[str, Any], labels: Sequence[str]) -> LabelSchema:
    """Return the schema that ``scores.json`` names or holds, else (earlier versions) the one with these labels."""
    if own := scores.get("schema_definition"):
        schemas = [schema_from_mapping(own, str(folder / "scores.json"))]
    else:
        names = [str(scores["schema"])] if "schema" in scores else registry.names("schemas")
        schemas = [registry.load("schemas", name) for name in names]
    schema: LabelSchema | None = next((schema for schema in schemas if list(schema.labels) == list(labels)), None)
    if schema is None:
        tried = " or ".join(schema.name for schema in schemas)
        raise SampleError(f"{folder / 'predictions.csv'} does not have the labels of the schema {tried}.")
    return schema


def _evaluation(
    evaluation: Evaluation, name: str, pictures: Mapping[int, bytes]
) -> tuple[list[dict[str, Any]], dict[str, Figure]]:
    """Return the sections of an evaluation, and its figures by the names of their files."""
    schema, suffix = evaluation.schema, f"-{name}" if name else ""
    of = f" of {name}" if name else ""
    tables = [_score_table("", evaluation.scores)]
    if shares := evaluation.scores.get("shares"):
        rows = [
            (label.replace("_", " "), *(_plain(value) for value in errors.values())) for label, errors in shares.items()
        ]
        head = ("answer's share among those asked", *(n.replace("_", " ") for n in next(iter(shares.values()))))
        tables.append({"caption": "", "head": head, "rows": rows})  # fmt: skip
    facts = [(key, _plain(evaluation.scores[key])) for key in ("model", "sha256", "part", "n_overlap", "tta", "dtype")
             if key in evaluation.scores]  # fmt: skip
    tables.append({"caption": "", "head": (), "rows": facts})
    sections = [_section(f"evaluation{suffix}", f"Scores{of}", f"Scores{of}", tables=tables)]
    drawn = figures.of_evaluation(schema, evaluation.truth, evaluation.predicted)
    if conditions := evaluation.scores.get("conditions"):
        try:
            drawn["conditions"] = figures.by_condition(conditions)
        except (KeyError, StopIteration) as error:
            where = evaluation.folder / "scores.json"
            raise SampleError(f"{where} is damaged: conditions: {error} is missing in a group.") from error
    shown = [(_PNG[key], inline_svg(figure)) for key, figure in drawn.items()]
    sections.append(_section(f"figures{suffix}", f"Figures{of}", f"Figures{of}", figures=shown))
    text = (
        "The galaxies of each class whose true class had the least probability."
        if schema.is_classes
        else "Galaxies with the largest root mean square error over the vote fractions that they have."
    )
    cards = [_card(evaluation, row, pictures.get(row)) for row in worst(evaluation)]
    sections.append(_section(f"errors{suffix}", f"Errors{of}", f"Worst errors{of}", text, cards=cards))
    return sections, {f"{key}{suffix}": figure for key, figure in drawn.items()}


def errors(evaluation: Evaluation) -> NDArray[np.float64]:
    """Return the error of each galaxy: 1 minus the probability of its true class, or the rmse of its fractions."""
    truth, predicted = evaluation.truth, evaluation.predicted
    if evaluation.schema.is_classes:
        return 1 - predicted[np.arange(len(truth)), truth.argmax(axis=1)]
    n_labels = np.isfinite(truth).sum(axis=1)
    return np.sqrt(squared_errors(truth, predicted).sum(axis=1) / np.maximum(n_labels, 1))


def worst(evaluation: Evaluation) -> list[int]:
    """Return the rows of the galaxies with the largest errors; for classes some of each class, in order."""
    order = np.argsort(-errors(evaluation), kind="stable")
    if not evaluation.schema.is_classes:
        return order[:WORST].tolist()
    true = evaluation.truth[order].argmax(axis=1)
    return [int(row) for label in np.unique(true) for row in order[true == label][:WORST_OF_CLASS]]


def _card(evaluation: Evaluation, row: int, picture: bytes | None) -> dict[str, Any]:
    schema, truth, predicted = evaluation.schema, evaluation.truth[row], evaluation.predicted[row]
    if schema.is_classes:
        named = {"true": int(truth.argmax()), "predicted": int(predicted.argmax())}
        lines = [(f"{kind}: {schema.labels[i].replace('_', ' ')}", f"{predicted[i]:.2f}") for kind, i in named.items()]
    else:
        misses = np.nan_to_num(np.abs(predicted - truth))
        lines = [
            (schema.labels[i].replace("_", " "), f"{predicted[i]:.2f} / {truth[i]:.2f}")
            for i in np.argsort(-misses, kind="stable")[:_ANSWERS_SHOWN]
        ]
    return {
        "name": evaluation.galaxies[row],
        "error": f"{errors(evaluation)[row]:.3f}",
        "lines": lines,
        "image": None if picture is None else data_uri("jpeg", picture),
        "head": "" if schema.is_classes else "predicted / votes",
    }


def _pictures(evaluation: Evaluation, data: Sequence[str]) -> tuple[dict[int, bytes], str]:
    """Return the pictures of the worst errors by row, and why there are none."""
    if not data:
        return {}, "Errors are shown without pictures: name the labelled data with --data PATH."
    from galmorph.training.reading import read_sample

    rows = {str(evaluation.galaxies[row]): row for row in worst(evaluation)}
    pictures: dict[int, bytes] = {}
    try:
        for path in data:
            sample = read_sample(path, evaluation.schema)
            for index, galaxy in enumerate(sample.galaxies):
                if galaxy in rows:
                    pictures[rows[galaxy]] = jpeg(sample.image(index), _PICTURE_PX)
    except GalmorphError as error:
        return pictures, f"The data of the worst errors' pictures cannot be read: {error} Name them with --data PATH."
    return pictures, "" if pictures else f"None of the worst errors is among the pictures of {', '.join(data)}."


def _section(id: str, short: str, title: str, text: str = "", **content: Sequence[Any]) -> dict[str, Any]:
    empty: dict[str, Any] = {"tables": [], "figures": [], "images": [], "cards": []}
    return {"id": id, "short": short, "title": title, "text": text, **empty, **content}


def _score_table(caption: str, scores: Mapping[str, Any]) -> dict[str, Any]:
    rows = []
    for name, value in scores.items():
        if isinstance(value, int | float) and not name.endswith(("_low", "_high")) and name not in ("tta", "n_overlap"):
            rows.append((name, _plain(value), _interval(scores, name)))
    return {"caption": caption, "head": ("score", "value", "95 % interval"), "rows": rows}


def _tiles(scores: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    first = [name for name in ("rmse", "accuracy", "balanced_accuracy", "ece") if name in scores]
    notes = {name: f"{interval} (95 %)" if (interval := _interval(scores, name)) else "" for name in first}
    tiles = [(name.replace("_", " "), _plain(scores[name]), notes[name]) for name in first]
    return [("galaxies", _plain(scores.get("n", 0)), f"part: {scores.get('part', 'all')}"), *tiles]


def _interval(scores: Mapping[str, Any], name: str) -> str:
    low, high = scores.get(f"{name}_low"), scores.get(f"{name}_high")
    numbers = isinstance(low, int | float) and isinstance(high, int | float)
    return f"{low:.4f} .. {high:.4f}" if numbers else ""


def _names(paths: str | Sequence[str]) -> str:
    return ", ".join(Path(path).name for path in ([paths] if isinstance(paths, str) else paths)) or "none"


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(entry)}" for name, entry in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) or "none"
    return str(value)
