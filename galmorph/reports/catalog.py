"""The report of a run of classification, training or evaluation, as one HTML page."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from galmorph.classification.provenance import SCHEMA_CARD
from galmorph.classification.results import Results, read_results
from galmorph.errors import CatalogError
from galmorph.files.remote import Remote, is_remote
from galmorph.files.writing import write_file
from galmorph.images.flags import NOTES
from galmorph.reports.page import Report, check_out, check_replaceable, inline_svg, render, save_figures
from galmorph.reports.pictures import Composites, composites
from galmorph.reports.regions import MARK, write_regions
from galmorph.reports.rows import flag_counts, packed_rows
from galmorph.reports.selection import PER_FLAG, PER_LABEL, Selection, select, table_rows
from galmorph.reports.training import assess
from galmorph.training.evaluation import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LABELS_SHOWN = 12
# FITS cuts the comments of long values.
_CARDS = {"GMSHA256": "SHA-256 of the weights"}


def report(
    result: Any,
    out: str | Path = "report.html",
    *,
    cutouts: str | Path | None = None,
    model: str | None = None,
    prefix: str | None = None,
    size_column: str | None = None,
    images: Sequence[str | Path] = (),
    data: Sequence[str] = (),
    figures_folder: str | Path | None = None,
    regions: str | Path | None = None,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Write the report of a classified catalog, or of a folder that training or evaluation wrote.

    Parameters
    ----------
    result : path, astropy Table or data frame
        A catalog that `galmorph classify` wrote, or a folder of `galmorph train` or `galmorph evaluate`; or what
        `galmorph.classify` gave back.
    out : path
        The HTML file. A report that is there is replaced, another file is not.
    cutouts : path, optional
        Folder of the cutouts; default: where the catalog says.
    model : str, optional
        Name or file of the model, whose colours and framing the pictures have; default: the shipped one of the
        catalog's header.
    prefix : str, optional
        Prefix of galmorph's columns, where the catalog holds several results.
    size_column : str, optional
        The column of radii that the run was given.
    images : sequence of path
        Survey images that were classified, for their pictures; ``{band}`` stands for one file a band.
    data : sequence of str
        Labelled data of an evaluation, for the pictures of its worst errors; default: those of the training run.
    figures_folder : path, optional
        Folder for the figures as PNG and PDF.
    regions : path, optional
        A region file for DS9 of the catalog's galaxies. A region file that is there is replaced, another file is not.
    overwrite : bool
        Replace any file with the name of `out` or `regions`, but never an input.
    on_progress : callable, optional
        Called with the pictures made and their number.

    Raises
    ------
    GalmorphError
        If galmorph did not write the input, or the report cannot be written.
    """
    out = Path(out)
    named = [result, *images, *data, *([model] if model else [])]
    inputs = [Path(each) for each in named if isinstance(each, str | os.PathLike) and not is_remote(each)]
    check_out(out, inputs, overwrite=overwrite)
    figures_folder = Path(figures_folder) if figures_folder is not None else None
    if isinstance(result, str | os.PathLike) and Path(result).is_dir():
        if regions is not None:
            raise CatalogError(
                f"--regions is for a classified catalog; {result} is a folder of training or evaluation."
            )
        return assess(Path(result), out, data, figures_folder=figures_folder)
    folder = None if cutouts is None else Remote.of(cutouts) if is_remote(cutouts) else Path(cutouts)
    if isinstance(folder, Path) and not folder.is_dir():
        raise CatalogError(f"--cutouts {folder} is not a folder.")
    results = read_results(result, prefix=prefix, size_column=size_column)
    notes: list[str] = []
    if regions is not None:
        check_replaceable(Path(regions), inputs, MARK, "region file", overwrite=overwrite)
        notes += write_regions(results, _groups(results), Path(regions))
    selection = select(results)
    pictures = composites(results, selection.rows, folder, images=images, model=model, on_progress=on_progress)
    rows = table_rows(len(results), selection.rows)
    notes += _notes(results, pictures, len(rows))
    drawn = _draw(results)
    context = _context(results, selection, pictures, rows, notes, drawn)
    write_file(out, render("catalog.html", ("theme.js", "catalog.js"), context).encode())
    files = _write_figures(results, drawn, figures_folder) if figures_folder is not None else ()
    return Report(str(out), len(results), len(pictures.jpeg), files, tuple(notes))


@dataclass(frozen=True)
class _Drawn:
    """How many galaxies have each label; the figures of distributions and of the sky, by their titles."""

    label_counts: Mapping[str, int]
    distributions: Mapping[str, Figure]
    sky: Mapping[str, Figure]


def _notes(results: Results, pictures: Composites, n_shown: int) -> list[str]:
    notes = []
    if not len(results):
        notes.append("The catalog has no rows.")
    if pictures.reasons and not pictures.jpeg:
        reason = next(iter(pictures.reasons.values()))
        hint = "" if "--cutouts" in reason else " Name their folder with --cutouts DIR."
        notes.append(
            f"No cutouts could be read, so this report has no pictures. The first: {reason.rstrip('.')}.{hint}"
        )
    if pictures.jpeg and not pictures.exact:
        name = results.card("GMMODEL")
        who = f"The model {name} of the catalog is not among those that ship with this galmorph"
        who = who if name else "The catalog does not say which model classified it"
        notes.append(
            f"{who}: the pictures are framed and coloured as for its usual models. Name its file with --model for its "
            "own."
        )
    if n_shown < len(results):
        notes.append(
            f"The table holds {n_shown:,} of {len(results):,} rows: a random sample, and all galaxies that are shown. "
            "Summary and figures are of all rows."
        )
    return notes


def _groups(results: Results) -> list[str]:
    """Return each galaxy's colour group on the sky map: its class, or its best answer to the first question."""
    if results.schema.is_classes:
        return [str(label) for label in results.label]
    answers = results.schema.questions[0].answers
    best = np.nan_to_num(results.p[:, results.schema.slices[0]]).argmax(axis=1)
    return [answers[i] if classified else "" for i, classified in zip(best, results.classified, strict=True)]


def _draw(results: Results) -> _Drawn:
    counts = dict(Counter(str(label) for label in results.label[results.classified]).most_common(_LABELS_SHOWN))
    spread = {"entropy of the probabilities (nats)": results.entropy}
    if results.ood is not None:
        spread["unlikeness to the training data"] = results.ood
    distributions = {name: figures.histogram(values, name) for name, values in spread.items()}
    sky: dict[str, Figure] = {}
    if np.isfinite(results.ra).any():
        groups = _groups(results)
        sky["The galaxies on the sky, Aitoff projection"] = figures.sky(results.ra, results.dec, groups)
        if (near := figures.patch(results.ra, results.dec, groups)) is not None:
            sky["The galaxies on the sky, enlarged"] = near
    return _Drawn(counts, distributions, sky)


def _write_figures(results: Results, drawn: _Drawn, folder: Path) -> tuple[str, ...]:
    """Write the figures as PNG and PDF."""
    named = {"labels": figures.label_counts(dict(drawn.label_counts))}
    named["probabilities"] = figures.histograms(figures.panels(results.schema, results.p))
    named |= dict(zip(("entropy", "unlikeness"), drawn.distributions.values(), strict=False))
    named |= dict(zip(("sky", "sky_enlarged"), drawn.sky.values(), strict=False))
    return save_figures(named, folder)


def _context(
    results: Results,
    selection: Selection,
    pictures: Composites,
    rows: Sequence[int],
    notes: Sequence[str],
    drawn: _Drawn,
) -> dict[str, Any]:
    """Return the values of the template."""
    schema, good = results.schema, results.classified
    counts = Counter(str(label) for label in results.label[good]).most_common()
    panels = [
        *((name, figures.histograms({name: values})) for name, values in figures.panels(schema, results.p).items()),
        *drawn.distributions.items(),
    ]
    flagged = int((good & (results.flag & ~int(NOTES) != 0)).sum())
    model = results.card("GMMODEL") or "an unknown model"
    galleries = _galleries(results, selection, {row: i for i, row in enumerate(rows)})
    return {
        "title": f"{results.catalog.path.name} - galmorph report",
        "heading": results.catalog.path.name,
        "lead": f"{_number_of(len(results))}, classified by {model}"
        + (f" on {date.replace('T', ' at ')} UTC." if (date := results.card("GMDATE")) else "."),
        "sections": [
            ("summary", "Summary"),
            *((gallery["id"], gallery["short"]) for gallery in galleries),
            *(("distributions", "Distributions"), ("sky", "Sky"), ("table", "Table")),
        ],
        "notes": notes,
        "tiles": [
            ("galaxies", len(results), "rows of the catalog"),
            ("classified", int(good.sum()), "have probabilities"),
            ("flagged", flagged, "have probabilities and a fault"),
            ("without probability", int((~good).sum()), "no usable cutout"),
        ],
        "labels": counts[:_LABELS_SHOWN],
        "n_more_labels": max(0, len(counts) - _LABELS_SHOWN),
        "flags": [entry for entry in flag_counts(results) if entry["count"]],
        "file": results.catalog.path.name,
        "schema": schema,
        "provenance": [
            (_CARDS.get(key, comment or key), value)
            for key, value, comment in results.catalog.provenance
            if key != SCHEMA_CARD  # long, and for programs
        ],
        "distributions_text": "Probability of each class."
        if schema.is_classes
        else "Each answer's share among those who would be asked, of the galaxies for which that is probable (0.5 or "
        "more). The table has the cumulative probabilities of the columns: these shares times the probability of being "
        "asked.",
        "panels": [(name, inline_svg(figure)) for name, figure in panels],
        "sky": [(name, inline_svg(figure)) for name, figure in drawn.sky.items()],
        "sky_colours": "coloured by class" if schema.is_classes else "coloured by the most probable first answer",
        "galleries": galleries,
        "table_text": f"{len(rows):,} rows."
        if len(rows) == len(results)
        else f"{len(rows):,} of {len(results):,} rows.",
        "data": packed_rows(results, pictures, rows),
    }


def _galleries(results: Results, selection: Selection, position: Mapping[int, int]) -> list[dict[str, Any]]:
    """Return the sections of pictures: each a title, a text and groups of rows of the table."""

    def group(title: str, rows: Sequence[int], text: str = "") -> dict[str, Any]:
        return {"title": title, "text": text, "rows": [position[row] for row in rows]}

    counts = Counter(str(label) for label in results.label[results.classified])
    by_label = [
        group(label.replace("_", " "), rows, _number_of(counts[label])) for label, rows in selection.by_label.items()
    ]
    by_flag = [
        group(
            f"{flag['bit']} {flag['name'].replace('_', ' ')}: {flag['meaning']}",
            selection.by_flag[flag["bit"]],
            _number_of(flag["count"]),
        )
        for flag in flag_counts(results)
        if flag["bit"] in selection.by_flag
    ]
    over = "over all classes" if results.schema.is_classes else "of the first question"
    sections = [
        (
            "gallery",
            "Gallery",
            "Gallery by label",
            f"Up to {PER_LABEL} galaxies of each of the most common labels, at random. Colours and frame are as "
            "the model saw them. The bars are the answers in which the galaxy differs most from the catalog's mean.",
            by_label,
        )
    ]
    if selection.uncertain:
        text = f"The largest entropy {over}."
        sections.append(("uncertain", "Uncertain", "Most uncertain", text, [group("", selection.uncertain)]))
    if selection.unlike:
        title, text = "Least like the training data", "The largest morph_ood."
        sections.append(("unlike", "Unlike", title, text, [group("", selection.unlike)]))
    text = f"Up to {PER_FLAG} galaxies of each flag, at random, with the meaning of the flag."
    sections.append(("flagged", "Flagged", "Flagged", text, by_flag))
    return [dict(zip(("id", "short", "title", "text", "groups"), section, strict=True)) for section in sections]


def _number_of(n: int) -> str:
    return f"{n:,} galax{'y' if n == 1 else 'ies'}"
