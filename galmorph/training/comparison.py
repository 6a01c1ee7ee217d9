"""Comparison of backbones, with and without pretrained weights, trained alike over several seeds, in one table."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from galmorph import registry
from galmorph.errors import GalmorphError, WeightsUnavailable
from galmorph.files.checked_json import read_json_file
from galmorph.files.record import read_record
from galmorph.files.writing import write_csv, write_file
from galmorph.ranges import SEEDS
from galmorph.training.config import TrainConfig, configure, parse_settings
from galmorph.training.evaluation import figures
from galmorph.training.reading import read_sample, schema_named
from galmorph.training.run import STATE
from galmorph.training.samples import Sample
from galmorph.training.train import train

CLASS_SCORES = ("accuracy", "precision", "recall", "f1")
FRACTION_SCORES = ("rmse", "accuracy")


def compare(
    data: Sequence[str],
    schema: str,
    backbones: Sequence[str],
    pretrained: Sequence[str],
    seeds: int,
    out: Path,
    *,
    recipe: str = "default",
    on_run: Callable[[str], None] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Train every backbone from every start over several seeds, each with its own split, and tabulate the scores.

    Each run has a folder ``<backbone>-<pretrained>-<seed>`` in ``out``; a comparison that was stopped
    continues there. If weights are unavailable, the cell is empty, with the reason.

    Parameters
    ----------
    data : sequence of str
        One labelled sample.
    schema : str
    backbones, pretrained : sequence of str
        Names; ``imagenet``, ``none`` or weights files.
    seeds : int
        Number of seeds, from 0.
    out : Path
        Folder for ``table.csv``, ``table.md``, ``comparison.json``, the runs, ``curves.csv`` and ``.png``, and for
        classes ``confusion_matrices.csv`` and ``.png``, summed over the seeds.
    recipe : str
    on_run : callable, optional
        Called with the name of each run before it starts.
    **options
        Fields of :class:`galmorph.training.config.TrainConfig` that override the recipe.

    Returns
    -------
    dict
        What ``comparison.json`` holds: ``part`` and ``cells``.

    Raises
    ------
    GalmorphError
        If the data or a name cannot be used.
    """
    if len(data) != 1:
        raise GalmorphError(f"A comparison scores one sample: give one --data, not {len(data)}.")
    SEEDS.check("--seeds ", seeds)
    parse_settings(options.get("settings", ()))
    loaded = schema_named(schema)
    sample = read_sample(data[0], loaded)
    names = CLASS_SCORES if loaded.is_classes else FRACTION_SCORES
    cells: list[dict[str, Any]] = []
    histories: dict[tuple[str, str], list[list[dict[str, float]]]] = {}
    matrices: dict[tuple[str, str], NDArray[np.int64]] = {}
    for backbone, start in itertools.product(backbones, pretrained):
        name = registry.load("backbones", backbone).name, Path(start).stem
        cell: dict[str, Any] = {"backbone": name[0], "pretrained": start}
        folders = [out / f"{'-'.join(name)}-{seed}" for seed in range(seeds)]
        try:
            runs = []
            for seed, folder in enumerate(folders):
                config = configure(recipe, data, schema, backbone, pretrained=start, seed=seed, **options)
                if on_run:
                    on_run(folder.name)
                runs.append(_metrics(config, folder, sample))
            part = "test" if config.split.test else "val"
            cell |= _summary([next(iter(run[part].values())) for run in runs], names)
            histories[name] = [figures.read_history(folder) for folder in folders]
            if loaded.is_classes:
                matrices[name] = np.sum([_matrix(folder) for folder in folders], axis=0)
        except WeightsUnavailable as error:
            cell["error"] = str(error)
        cells.append(cell)
    result = {"recipe": recipe, "part": part if histories else "", "seeds": seeds, "cells": cells}
    write_file(out / "comparison.json", (json.dumps(result, indent=1) + "\n").encode())
    scores = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    _write_csv(out / "table.csv", cells, ["backbone", "pretrained", "n_runs", *scores, "error"])
    write_file(out / "table.md", _markdown(cells, names).encode())
    _write_curves(histories, out)
    _write_matrices(cells, matrices, loaded.labels, out)
    return result


def _metrics(config: TrainConfig, folder: Path, sample: Sample) -> dict[str, Any]:
    """Return the scores of a run; train it, or continue it, if it is not finished."""
    if (folder / "metrics.json").exists():
        if (folder / "config.json").read_text() != config.to_json():
            raise GalmorphError(f"The run in {folder} had other options: choose another --out, or remove it.")
        if (read_record(folder / STATE) or {}).get("samples") != {sample.name: sample.sha256}:
            raise GalmorphError(f"The run in {folder} had other labels or pictures: choose another --out.")
        return read_json_file(dict[str, dict[str, dict[str, Any]]], folder / "metrics.json")
    return train(config, folder, resume=(folder / "config.json").exists())


def _summary(runs: Sequence[Mapping[str, float]], names: Sequence[str]) -> dict[str, Any]:
    """Return means over the seeds with 95 % intervals: Student's of the mean, or the bootstrap's of a single run."""
    cell: dict[str, Any] = {"n_runs": len(runs), "n": [int(run["n"]) for run in runs]}
    for name in names:
        values = np.array([run[name] for run in runs if name in run])
        if not len(values):
            continue
        cell[name] = float(values.mean())
        if len(values) > 1:
            half = float(student.ppf(0.975, len(values) - 1)) * float(values.std(ddof=1)) / len(values) ** 0.5
            cell |= {f"{name}_low": cell[name] - half, f"{name}_high": cell[name] + half}
        elif f"{name}_low" in runs[0]:
            cell |= {f"{name}_{end}": float(runs[0][f"{name}_{end}"]) for end in ("low", "high")}
    return cell


def _write_csv(path: Path, lines: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    write_csv(path, columns, [[line.get(column, "") for column in columns] for line in lines])


def _markdown(cells: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    lines = [f"| backbone | pretrained | {' | '.join(names)} |", "|---|---|" + "---:|" * len(names)]
    for cell in cells:
        if "error" in cell:
            values = ["weights unavailable", *[""] * (len(names) - 1)]
        else:
            values = [_score_text(cell, name) for name in names]
        lines.append(f"| {cell['backbone']} | {Path(cell['pretrained']).stem} | {' | '.join(values)} |")
    return "\n".join(lines) + "\n"


def _write_curves(histories: Mapping[tuple[str, str], Sequence[Sequence[Mapping[str, float]]]], out: Path) -> None:
    """Write the scores after each epoch of each run, as a table and as a figure."""
    if not histories:
        return
    lines = [
        {"backbone": backbone, "pretrained": start, "seed": seed, **line, "epoch": int(line["epoch"])}
        for (backbone, start), runs in histories.items()
        for seed, history in enumerate(runs)
        for line in history
    ]
    _write_csv(out / "curves.csv", lines, list(lines[0]))
    named = {", ".join(name): runs for name, runs in histories.items()}
    figures.save(figures.compared_curves(named), out / "curves.png")


def _matrix(folder: Path) -> NDArray[np.int64]:
    """Return the confusion matrix that a run has written."""
    path = folder / "confusion_matrix.csv"
    if not path.exists():
        raise GalmorphError(f"{path} is missing: remove the folder of the run to make it again.")
    return np.loadtxt(path, dtype=np.int64, delimiter=",", skiprows=1, converters={0: lambda _: 0}, ndmin=2)[:, 1:]


def _write_matrices(
    cells: Sequence[Mapping[str, Any]],
    matrices: Mapping[tuple[str, str], NDArray[np.int64]],
    labels: Sequence[str],
    out: Path,
) -> None:
    """Write the confusion matrices, as a table and as a figure: backbones in rows, starts in columns."""
    if not matrices:
        return
    lines = [
        {"backbone": backbone, "pretrained": start, "true": label, **dict(zip(labels, row, strict=True))}
        for (backbone, start), matrix in matrices.items()
        for label, row in zip(labels, matrix.tolist(), strict=True)
    ]
    _write_csv(out / "confusion_matrices.csv", lines, list(lines[0]))
    backbones = dict.fromkeys(cell["backbone"] for cell in cells)
    starts = dict.fromkeys(Path(cell["pretrained"]).stem for cell in cells)
    grid = [[(f"{b}, {s}", matrices.get((b, s))) for s in starts] for b in backbones]
    figures.save(figures.confusion_matrices(labels, grid), out / "confusion_matrices.png")


def _score_text(cell: Mapping[str, Any], name: str) -> str:
    if name not in cell:
        return ""
    interval = f" ({cell[f'{name}_low']:.3f} to {cell[f'{name}_high']:.3f})" if f"{name}_low" in cell else ""
    return f"{cell[name]:.3f}{interval}"
