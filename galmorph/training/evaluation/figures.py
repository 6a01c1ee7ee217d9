"""Figures of training and evaluation, in a palette for colour-blind readers too (Okabe & Ito 2008)."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import SampleError
from galmorph.files.writing import write_csv, write_file
from galmorph.schemas import LabelSchema, confusion

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#7F7F7F"
# The whole palette; black, the colour of text, is last.
PALETTE = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Labels of the axes of conditions (:mod:`galmorph.training.evaluation.conditions`).
CONDITIONS = {
    "radius_arcsec": "apparent size: R90 (arcsec)",
    "snr": "signal to noise within half of R90",
    "picture_snr": "signal to noise of a pixel at the centre",
}
_HISTORY = {"epoch", "train_loss", "val_loss", "val_rmse", "seconds"}
_BINS = np.linspace(0, 1, 11)

Array = NDArray[np.floating[Any]]


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or, by its suffix, PDF: whole or not at all."""
    content = io.BytesIO()
    kind = path.suffix.removeprefix(".").lower()
    nameless: dict[str, Any] = {"CreationDate": None} if kind == "pdf" else {"Software": None}
    figure.savefig(content, format=kind, dpi=130 if kind == "png" else 300, metadata=nameless)
    write_file(path, content.getvalue())


def _figure(width: float, height: float, **options: Any) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(**options)


def _grid(n: int, width: float, height: float) -> tuple[Figure, Sequence[Any]]:
    """Return a figure and its n panels of a size, four in a row."""
    n_columns = min(4, n)
    n_rows = -(-n // n_columns)
    figure, grid = _figure(width * n_columns, height * n_rows, nrows=n_rows, ncols=n_columns, squeeze=False)
    for axes in grid.flat[n:]:
        axes.remove()
    return figure, grid.flat[:n]


def read_history(folder: Path) -> list[dict[str, float]]:
    """Read ``history.csv`` of a training run: a line an epoch.

    Raises
    ------
    SampleError
        If the file is damaged.
    """
    try:
        with (folder / "history.csv").open(newline="") as stream:
            history = [{name: float(value) for name, value in line.items()} for line in csv.DictReader(stream)]
        if not history or not history[0].keys() >= _HISTORY:
            raise ValueError("it has no epoch, or not the columns of one")
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise SampleError(f"{folder / 'history.csv'} cannot be read: {error}.") from error
    return history


def learning_curves(history: Sequence[Mapping[str, float]]) -> Figure:
    """Draw loss and validation error against epochs."""
    figure, (left, right) = _figure(9, 3.6, ncols=2)
    epochs = [line["epoch"] for line in history]
    left.plot(epochs, [line["train_loss"] for line in history], color=BLUE, label="training, augmented")
    left.plot(epochs, [line["val_loss"] for line in history], color=ORANGE, label="validation, averaged weights")
    left.set(xlabel="epoch", ylabel="loss", yscale="log")
    left.legend(frameon=False)
    errors = [line["val_rmse"] for line in history]
    best = int(np.argmin(errors))
    right.plot(epochs, errors, color=ORANGE)
    right.plot(
        epochs[best], errors[best], "o", color=GREEN, label=f"best: {errors[best]:.4f} in epoch {epochs[best]:.0f}"
    )
    right.set(xlabel="epoch", ylabel="validation rmse")
    right.legend(frameon=False)
    for axis in (left, right):
        axis.locator_params(axis="x", integer=True)
    return figure


def compared_curves(histories: Mapping[str, Sequence[Sequence[Mapping[str, float]]]]) -> Figure:
    """Draw the validation loss and accuracy of groups of runs against epochs: a line their mean, the shade their range.

    Parameters
    ----------
    histories : mapping
        By name: the histories of the runs of a group, as `read_history` gives them.
    """
    figure, axes = _figure(10, 4.2, ncols=2)
    for axis, key, label in zip(axes, ("val_loss", "val_accuracy"), ("loss", "accuracy"), strict=True):
        for rank, (name, runs) in enumerate(histories.items()):
            values = np.full((len(runs), max(map(len, runs))), np.nan)  # runs may have stopped early
            for row, history in zip(values, runs, strict=True):
                row[: len(history)] = [line.get(key, np.nan) for line in history]
            epochs = np.arange(1, values.shape[1] + 1)
            colour = PALETTE[rank % len(PALETTE)]
            style = ("-", "--", ":", "-.")[rank // len(PALETTE) % 4]
            present = np.ma.masked_invalid(values)
            axis.plot(epochs, present.mean(axis=0), style, color=colour, label=name)
            axis.fill_between(epochs, present.min(axis=0), present.max(axis=0), color=colour, alpha=0.15, lw=0)
        axis.set(xlabel="epoch", ylabel=f"validation {label}")
        axis.locator_params(axis="x", integer=True)
    axes[1].legend(frameon=False, fontsize="small")
    return figure


def confusion_matrices(labels: Sequence[str], grid: Sequence[Sequence[tuple[str, NDArray[np.int64] | None]]]) -> Figure:
    """Draw confusion matrices, true classes down and predicted across, in rows: counts, coloured by their share.

    Parameters
    ----------
    labels : sequence of str, length n
    grid : sequence of rows of (title, ndarray of int, shape (n, n))
        None for a run whose weights were unavailable.
    """
    n, n_rows, n_columns = len(labels), len(grid), len(grid[0])
    titled = any(title for row in grid for title, _ in row)
    width, height = 1.6 + 0.62 * n * n_columns, 1.2 + (0.55 * n + 0.6 * titled) * n_rows
    figure, panels = _figure(width, height, nrows=n_rows, ncols=n_columns, squeeze=False, sharex=True, sharey=True)
    names = [label.replace("_", " ") for label in labels]
    for axes, (title, matrix) in zip(panels.flat, (cell for row in grid for cell in row), strict=True):
        axes.set_xticks(range(n), names, rotation=60, ha="right", fontsize=8)
        axes.set_yticks(range(n), names, fontsize=8)
        axes.set_title(title, fontsize=9)
        if matrix is None:
            axes.text((n - 1) / 2, (n - 1) / 2, "weights unavailable", ha="center", va="center", color=GREY)
            matrix = np.zeros((n, n), np.int64)
        share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(matrix):
            if count:
                colour = "white" if share[row, column] > 0.6 else "black"
                axes.text(column, row, count, ha="center", va="center", color=colour, fontsize=9)
    for axes in panels[-1]:
        axes.set_xlabel("predicted class")
    for axes in panels[:, 0]:
        axes.set_ylabel("true class")
    figure.colorbar(image, ax=panels, label="share of the true class", shrink=0.8 / n_rows)
    return figure


def fractions(schema: LabelSchema, truth: Array, predicted: Array) -> Figure:
    """Draw predicted against true vote fractions, one panel a question, one colour an answer."""
    asked = [q for q, columns in enumerate(schema.slices) if np.isfinite(truth[:, columns]).any()]
    figure, grid = _grid(len(asked), 3.1, 3.2)
    for axes, q in zip(grid, asked, strict=True):
        columns = schema.slices[q]
        for index, colour in zip(range(columns.start, columns.stop), PALETTE, strict=False):
            axes.plot(truth[:, index], predicted[:, index], ".", ms=3, alpha=0.5, color=colour, rasterized=True)
            axes.plot([], [], "o", ms=5, color=colour, label=schema.questions[q].answers[index - columns.start])
        errors = (predicted - truth)[:, columns]
        axes.plot([0, 1], [0, 1], color=GREY, lw=1)
        axes.set_title(f"{schema.questions[q].name}\nrmse {np.sqrt(np.nanmean(errors**2)):.3f}", fontsize=9)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axes.legend(fontsize=6, frameon=False, loc="upper left", handletextpad=0)
    figure.supxlabel("votes")
    figure.supylabel("predicted")
    return figure


def calibration(schema: LabelSchema, truth: Array, predicted: Array) -> Figure:
    """Draw true against predicted frequencies, in ten bins: every label of classes, every labelled vote fraction."""
    has_label = np.isfinite(truth)
    p, t = predicted[has_label], truth[has_label]
    figure, (above, below) = _figure(4.4, 5.4, nrows=2, sharex=True, height_ratios=(3, 1))
    bins = np.clip(np.digitize(p, _BINS) - 1, 0, len(_BINS) - 2)
    counts = np.bincount(bins, minlength=len(_BINS) - 1)
    filled = np.flatnonzero(counts)
    means = [p[bins == b].mean() for b in filled]
    truths = [t[bins == b].mean() for b in filled]
    errors = [t[bins == b].std() / np.sqrt(counts[b]) for b in filled]
    above.plot([0, 1], [0, 1], color=GREY, lw=1)
    above.errorbar(means, truths, yerr=errors, fmt="o-", color=BLUE, ms=4, capsize=2)
    above.set(ylabel="share of true labels" if schema.is_classes else "mean vote fraction", ylim=(-0.02, 1.02))
    below.bar(_BINS[:-1], counts, width=0.1, align="edge", color=BLUE, alpha=0.6)
    below.set(xlabel="predicted", ylabel="number", yscale="log", xlim=(0, 1))
    return figure


def of_evaluation(schema: LabelSchema, truth: Array, predicted: Array) -> dict[str, Figure]:
    """Return the figures of an evaluation by name: confusion matrix or fractions, and calibration."""
    if schema.is_classes:
        grid: Any = [[("", _counts(truth, predicted))]]
        first = {"confusion_matrix": confusion_matrices(schema.labels, grid)}
    else:
        first = {"fractions": fractions(schema, truth, predicted)}
    return first | {"calibration": calibration(schema, truth, predicted)}


def evaluation_figures(out: Path, schema: LabelSchema, truth: Array, predicted: Array) -> None:
    """Write the figures of an evaluation, and the counts of a confusion matrix as CSV too."""
    for name, figure in of_evaluation(schema, truth, predicted).items():
        save(figure, out / f"{name}.png")
    if schema.is_classes:
        rows = zip(schema.labels, _counts(truth, predicted).tolist(), strict=True)
        write_csv(out / "confusion_matrix.csv", ["true", *schema.labels], ([label, *row] for label, row in rows))


def _counts(truth: Array, predicted: Array) -> NDArray[np.int64]:
    return confusion(truth.argmax(axis=1), predicted.argmax(axis=1), truth.shape[1])


def by_condition(groups: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Draw scores against the conditions that galaxies were seen under, a panel each, with 95 % intervals.

    Parameters
    ----------
    groups : mapping
        Result of :func:`galmorph.training.evaluation.conditions.score_by`; the first score with an interval is drawn.
    """
    figure, grid = _figure(3.6 * len(groups), 3.1, ncols=len(groups), squeeze=False, sharey=True)
    for axes, (name, scored) in zip(grid.flat, groups.items(), strict=True):
        score = next(key.removesuffix("_low") for key in scored[0] if key.endswith("_low"))
        middle, value, low, high = (
            np.array([group[key] for group in scored]) for key in ("median", score, f"{score}_low", f"{score}_high")
        )
        reach = [middle - [group["low"] for group in scored], [group["high"] for group in scored] - middle]
        axes.errorbar(middle, value, xerr=reach, yerr=[value - low, high - value], fmt="o", color=BLUE, ms=5, capsize=2)
        axes.set(xlabel=CONDITIONS[name])
        if min(group["low"] for group in scored) > 0:
            axes.set_xscale("log")
        axes.spines[["top", "right"]].set_visible(False)
    grid.flat[0].set_ylabel(score)
    return figure


def gallery(
    pictures: Sequence[NDArray[np.floating[Any]]], titles: Sequence[str], bars: Sequence[Mapping[str, float]]
) -> Figure:
    """Draw pictures of galaxies with a few probabilities under each.

    Parameters
    ----------
    pictures : sequence of ndarray, shape (y, x, 3)
        RGB in 0..1, the first row on top.
    titles : sequence of str
    bars : sequence of mapping from name to probability
    """
    n_columns = min(4, len(pictures))
    n_rows = -(-len(pictures) // n_columns)
    figure, grid = _figure(
        2.9 * n_columns, 4.1 * n_rows, nrows=2 * n_rows, ncols=n_columns, squeeze=False, height_ratios=(3, 1) * n_rows
    )
    for axes in grid.flat:
        axes.set_axis_off()
    for i, (picture, title, probabilities) in enumerate(zip(pictures, titles, bars, strict=True)):
        above, below = grid[2 * (i // n_columns) : 2 * (i // n_columns) + 2, i % n_columns]
        above.imshow(picture, interpolation="lanczos")
        above.set_title(title, fontsize=9)
        below.set_axis_on()
        names, values = list(probabilities), list(probabilities.values())
        below.barh(names, values, color=BLUE, height=0.7)
        for y, value in enumerate(values):
            below.text(value + 0.02, y, f"{value:.2f}", va="center", fontsize=7)
        below.set(xlim=(0, 1.15), xticks=[])
        below.invert_yaxis()
        below.tick_params(labelsize=7, length=0)
        below.spines[["top", "right", "bottom"]].set_visible(False)
    return figure


def label_counts(counts: Mapping[str, int]) -> Figure:
    """Draw how many galaxies have each label, the most common on top."""
    names = [name.replace("_", " ") for name in counts]
    figure, axes = _figure(6.4, 0.8 + 0.28 * max(len(names), 1))
    axes.barh(names, list(counts.values()), color=BLUE, height=0.7)
    for y, count in enumerate(counts.values()):
        axes.text(count, y, f" {count:,}", va="center", fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set(xlabel="galaxies")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def panels(schema: LabelSchema, p: Array) -> dict[str, dict[str, Array]]:
    """Return what `histograms` draws of probabilities.

    Parameters
    ----------
    p : ndarray, shape (n, n_labels)

    Returns
    -------
    dict of dict of ndarray
        Classes: a panel each. A tree: a panel a question, with each answer's share among those asked, of the galaxies
        that were probably asked (0.5 or more).
    """
    p = p[np.isfinite(p).any(axis=1)]
    if schema.is_classes:
        return {label.replace("_", " "): {"": p[:, i]} for i, label in enumerate(schema.labels)}
    shares, reached = schema.answers(p), schema.reached(p)
    shown = {}
    for q, (question, columns) in enumerate(zip(schema.questions, schema.slices, strict=True)):
        asked = shares[reached[:, q] >= 0.5, columns]
        # Yes and no add up to 1: one is enough.
        answers = ["yes"] if question.answers == ("yes", "no") else [a.replace("_", " ") for a in question.answers]
        shown[question.name.replace("_", " ")] = dict(zip(answers, asked.T, strict=False))
    return shown


def histograms(shown: Mapping[str, Mapping[str, Array]]) -> Figure:
    """Draw histograms of probabilities, a panel each, one colour an answer."""
    figure, grid = _grid(len(shown), 3.4, 2.5)
    for axes, (title, answers) in zip(grid, shown.items(), strict=True):
        n_galaxies = len(next(iter(answers.values())))
        alone = len(answers) == 1
        for colour, values in zip(PALETTE, answers.values() if n_galaxies else (), strict=False):
            counts, edges = np.histogram(values, bins=20, range=(0, 1))
            axes.stairs(counts, edges, color=colour, lw=1.5, fill=alone, alpha=0.7 if alone else 1)
        for colour, answer in zip(PALETTE, () if alone else answers, strict=False):
            axes.plot([], [], color=colour, label=answer)
        name = next(iter(answers)) if alone else ""
        _finish(axes, f"{title}{name and ': '}{name} (n = {n_galaxies:,})")
        axes.set(xlim=(0, 1))
        if not alone:
            axes.legend(fontsize=7, frameon=False, handlelength=1, labelspacing=0.2)
        if not n_galaxies:
            axes.set_yticks([])
            axes.text(0.5, 0.4, "asked of none", ha="center", va="center", transform=axes.transAxes, fontsize=8)
    return figure


def _finish(axes: Any, title: str) -> None:
    """Finish a small histogram, with whole numbers of galaxies on its axis."""
    axes.set_title(title, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.spines[["top", "right"]].set_visible(False)


def histogram(values: Array, xlabel: str) -> Figure:
    """Draw the histogram of one quantity."""
    figure, axes = _figure(3.4, 2.5)
    values = values[np.isfinite(values)]
    counts, edges = np.histogram(values, bins=30) if len(values) else (np.zeros(1), np.array([0.0, 1.0]))
    axes.stairs(counts, edges, color=BLUE, fill=True, alpha=0.7)
    _finish(axes, f"{xlabel} (n = {len(values):,})")
    return figure


# More points than this are drawn as pixels, where the rest of a figure is lines.
_VECTOR_POINTS = 1500
# Positions within this many degrees are drawn once more, enlarged.
_SMALL_FIELD_DEG = 20.0


def sky(ra: Array, dec: Array, groups: Sequence[str]) -> Figure:
    """Draw positions on the whole sky in the Aitoff projection, east to the left, one colour a group.

    Parameters
    ----------
    ra, dec : ndarray, shape (n,)
        ICRS degrees; NaN is left out.
    groups : sequence of str, length n
        The most common six have colours, the others are grey.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.3), layout="constrained")
    axes = figure.add_subplot(projection="aitoff")
    _points(axes, -np.radians((ra + 180) % 360 - 180), np.radians(dec), groups)
    axes.grid(alpha=0.4, lw=0.6)
    axes.set_xticks(np.radians(np.arange(-150, 151, 30)), [f"{-x % 360}°" for x in range(-150, 151, 30)])
    axes.tick_params(labelsize=7)
    if len(set(groups)) > 1:
        figure.legend(loc="outside lower center", ncols=4, fontsize=8, frameon=False, handletextpad=0.1, markerscale=2)
    return figure


def patch(ra: Array, dec: Array, groups: Sequence[str]) -> Figure | None:
    """Draw positions in one small field, enlarged; None where they are spread out, or where there is only one."""
    finite = np.isfinite(ra) & np.isfinite(dec)
    if finite.sum() < 2:
        return None
    angle = np.angle(np.exp(1j * np.radians(ra[finite])).mean(), deg=True) % 360
    middle = np.median(dec[finite])
    stretch = np.cos(np.radians(middle))
    offset = (ra - angle + 180) % 360 - 180
    spread = max(np.ptp(offset[finite]) * stretch, np.ptp(dec[finite]))
    if not 0 < spread < _SMALL_FIELD_DEG or stretch < 0.05:
        return None
    figure, axes = _figure(5.5, 4.3)
    _points(axes, angle + offset, dec, groups, size=14)
    axes.set(xlabel="ra (deg)", ylabel="dec (deg)", aspect=1 / stretch, adjustable="datalim")
    axes.invert_xaxis()
    axes.ticklabel_format(useOffset=False)
    axes.tick_params(labelsize=8)
    axes.locator_params(nbins=5)
    return figure


def _points(axes: Any, x: Array, y: Array, groups: Sequence[str], size: float = 0) -> None:
    names, of, counts = np.unique(np.array(groups, dtype=str), return_inverse=True, return_counts=True)
    area = size or float(np.clip(2e4 / max(len(of), 1), 2, 14))
    for rank, index in enumerate(np.argsort(-counts, kind="stable")):
        colour = PALETTE[rank] if rank < len(PALETTE) - 1 else GREY
        chosen = of == index
        label = names[index].replace("_", " ") or "no probability"
        shape = "osD^vP"[rank % 6]
        drawn = axes.scatter(x[chosen], y[chosen], s=area, c=colour, marker=shape, alpha=0.7, lw=0, label=label)
        drawn.set_rasterized(len(of) > _VECTOR_POINTS)
