"""The report: what a run of classification, training or evaluation found, as one HTML page."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.classification.results import FLAGS, Results, read_results
from galmorph.errors import CatalogError
from galmorph.files.writing import write_file
from galmorph.reports.page import Report, check_out, inline_svg, render, save_figures
from galmorph.reports.pictures import Composites, composites
from galmorph.reports.regions import write_regions
from galmorph.reports.training import assess
from galmorph.training import figures

# Rows of the table in the page; of a larger catalog a random sample, and all that have a picture.
MAX_ROWS = 20_000
# A picture takes about 6 kB. All that the galleries show have one, and others at random up to this number.
MAX_PICTURES = 240
_LABELS_SHOWN, _PER_LABEL, _PER_LIST, _PER_FLAG = 12, 6, 12, 6
_LABELS_IN_GALLERY = 8
_SEED = 0
# FITS cuts the comments of long values.
_CARDS = {"GMSHA256": "SHA-256 of the weights"}


def report(
    path: str | Path,
    out: str | Path,
    *,
    cutouts: str | Path | None = None,
    model: str | None = None,
    prefix: str | None = None,
    size_column: str | None = None,
    images: Sequence[str | Path] = (),
    data: Sequence[str] = (),
    figures_folder: str | Path | None = None,
    regions: str | Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Write the report of a classified catalog, or of a folder that training or evaluation wrote.

    Parameters
    ----------
    path : path
        A catalog that `galmorph classify` wrote, or a folder of `galmorph train` or `galmorph evaluate`.
    out : path
        The HTML file; an existing one is replaced.
    cutouts : path, optional
        Folder of the cutouts; default: where the catalog says.
    model : str, optional
        Name or file of the model, whose colours and framing the pictures have; default: the shipped one of the
        catalog's header.
    prefix : str, optional
        Of galmorph's columns, where the catalog holds several results.
    size_column : str, optional
        The column of radii that the run was given.
    images : sequence of path
        Survey images in which the galaxies were found, for their pictures; ``{band}`` stands for one file a band.
    data : sequence of str
        Labelled data of an evaluation, for the pictures of its worst errors; default: those of the training run.
    figures_folder : path, optional
        Where to write the figures as PNG and PDF too.
    regions : path, optional
        Where to write a catalog's galaxies as a region file for DS9.
    on_progress : callable, optional
        Called with the pictures made and their number.

    Raises
    ------
    GalmorphError
        If the input is none of galmorph's or the report cannot be written.
    """
    path, out = Path(path), Path(out)
    check_out(out)
    drawn_to = Path(figures_folder) if figures_folder is not None else None
    if path.is_dir():
        if regions is not None:
            raise CatalogError(f"--regions is for a classified catalog; {path} is a folder of training or evaluation.")
        return assess(path, out, data, figures_folder=drawn_to)
    folder = Path(cutouts) if cutouts is not None else None
    if folder is not None and not folder.is_dir():
        raise CatalogError(f"--cutouts {folder} is not a folder.")
    results = read_results(path, prefix=prefix, size_column=size_column)
    noted = write_regions(results, _groups(results), Path(regions)) if regions is not None else ()
    chosen = _choose(results)
    pictures = composites(results, chosen.rows, folder, images=images, model=model, on_progress=on_progress)
    rows = _rows_shown(len(results), chosen.rows)
    notes = _notes(results, pictures, len(rows))
    drawn = _drawn(results)
    html = render("catalog.html", ("theme.js", "catalog.js"), _context(results, chosen, pictures, rows, notes, drawn))
    write_file(out, html.encode())
    files = _write_figures(results, drawn, drawn_to) if drawn_to is not None else ()
    return Report(str(out), len(results), len(pictures.jpeg), files, (*noted, *notes))


# How many galaxies have each label; figures of distributions and of the sky, by their titles.
_Drawn = tuple[dict[str, int], dict[str, Any], dict[str, Any]]


@dataclass(frozen=True)
class _Chosen:
    """The galaxies that the report shows, by section."""

    by_label: Mapping[str, list[int]]
    uncertain: list[int]
    unlike: list[int]
    by_flag: Mapping[int, list[int]]
    rows: list[int]


def _choose(results: Results) -> _Chosen:
    shuffled = np.random.default_rng(_SEED).permutation(len(results))
    good = results.classified
    common = [label for label, _ in Counter(results.label[good]).most_common(_LABELS_IN_GALLERY)]
    by_label = {label: _first(shuffled, good & (results.label == label), _PER_LABEL) for label in common}
    uncertain = _largest(np.where(good, results.entropy, np.nan), _PER_LIST)
    unlike = _largest(results.ood, _PER_LIST) if results.ood is not None else []
    by_flag = {
        flag.value: found for flag in FLAGS if (found := _first(shuffled, results.flag & flag.value != 0, _PER_FLAG))
    }
    lists = [*by_label.values(), uncertain, unlike, *by_flag.values()]
    shown = list(dict.fromkeys(row for rows in lists for row in rows))
    rows = list(dict.fromkeys([*shown, *shuffled.tolist()]))[: max(MAX_PICTURES, len(shown))]
    return _Chosen(by_label, uncertain, unlike, by_flag, rows)


def _first(order: NDArray[np.int64], wanted: NDArray[np.bool_], n: int) -> list[int]:
    return sorted(order[wanted[order]][:n].tolist())


def _largest(values: NDArray[np.floating[Any]], n: int) -> list[int]:
    known = np.flatnonzero(np.isfinite(values))
    return known[np.argsort(-values[known], kind="stable")][:n].tolist()


def _rows_shown(n_rows: int, needed: list[int]) -> list[int]:
    if n_rows <= MAX_ROWS:
        return list(range(n_rows))
    shuffled = np.random.default_rng(_SEED).permutation(n_rows).tolist()
    return sorted(list(dict.fromkeys([*needed, *shuffled]))[: max(MAX_ROWS, len(needed))])


def _notes(results: Results, pictures: Composites, n_shown: int) -> tuple[str, ...]:
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
        name = results.card("GMMODEL") or "unknown"
        notes.append(
            f"The model {name} of the catalog is not among those that ship with this galmorph: the pictures are "
            "framed and coloured as for its usual models. Name its file with --model for its own."
        )
    if n_shown < len(results):
        notes.append(
            f"The table holds {n_shown:,} of {len(results):,} rows: a random sample, and all galaxies that are shown. "
            "Summary and figures are of all rows."
        )
    return tuple(notes)


def _groups(results: Results) -> list[str]:
    """Return what the points of the sky map are coloured by: a class, or the first question's best answer."""
    if results.schema.is_classes:
        return [str(label) for label in results.label]
    answers = results.schema.questions[0].answers
    best = np.nan_to_num(results.p[:, results.schema.slices[0]]).argmax(axis=1)
    return [answers[i] if known else "" for i, known in zip(best, results.classified, strict=True)]


def _drawn(results: Results) -> _Drawn:
    """Return how many galaxies have each label, and the figures of distributions and of the sky."""
    good = results.classified
    counts = dict(Counter(str(label) for label in results.label[good]).most_common(_LABELS_SHOWN))
    spread = {"entropy of the probabilities (nats)": results.entropy}
    if results.ood is not None:
        spread["unlikeness to the training data"] = results.ood
    distributions = {name: figures.histogram(values, name) for name, values in spread.items()}
    sky: dict[str, Any] = {}
    if np.isfinite(results.ra).any():
        groups = _groups(results)
        sky["The galaxies on the sky, Aitoff projection"] = figures.sky(results.ra, results.dec, groups)
        if (near := figures.patch(results.ra, results.dec, groups)) is not None:
            sky["The galaxies on the sky, enlarged"] = near
    return counts, distributions, sky


def _write_figures(results: Results, drawn: _Drawn, folder: Path) -> tuple[str, ...]:
    """Write the figures as PNG and PDF."""
    counts, distributions, sky = drawn
    found = {"labels": figures.label_counts(counts)}
    found["probabilities"] = figures.histograms(figures.panels(results.schema, results.p))
    found |= dict(zip(("entropy", "unlikeness"), distributions.values(), strict=False))
    found |= dict(zip(("sky", "sky_enlarged"), sky.values(), strict=False))
    return save_figures(found, folder)


def _context(
    results: Results, chosen: _Chosen, pictures: Composites, rows: list[int], notes: tuple[str, ...], drawn: _Drawn
) -> dict[str, Any]:
    """Return what the template shows."""
    schema, good = results.schema, results.classified
    counts = Counter(str(label) for label in results.label[good]).most_common()
    _, distributions, sky = drawn
    panels = [
        *((name, figures.histograms({name: values})) for name, values in figures.panels(schema, results.p).items()),
        *distributions.items(),
    ]
    flagged = int((good & (results.flag != 0)).sum())
    model = results.card("GMMODEL") or "an unknown model"
    galleries = _galleries(results, chosen, {row: i for i, row in enumerate(rows)})
    return {
        "title": f"{results.catalog.path.name} - galmorph report",
        "heading": results.catalog.path.name,
        "lead": f"{len(results):,} galaxies, classified by {model}"
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
            ("flagged", flagged, "have probabilities and a flag"),
            ("without probability", int((~good).sum()), "no usable cutout"),
        ],
        "labels": counts[:_LABELS_SHOWN],
        "n_more_labels": max(0, len(counts) - _LABELS_SHOWN),
        "flags": [entry for entry in _flags(results) if entry["count"]],
        "file": results.catalog.path.name,
        "schema": schema,
        "provenance": [(_CARDS.get(key, comment or key), value) for key, value, comment in results.catalog.provenance],
        "distributions_told": "Probability of each class."
        if schema.is_classes
        else "Each answer's share among those who would be asked, of the galaxies for which that is probable (0.5 or "
        "more). The table has the cumulative probabilities of the columns: these shares times the probability of being "
        "asked.",
        "panels": [(name, inline_svg(figure)) for name, figure in panels],
        "sky": [(name, inline_svg(figure)) for name, figure in sky.items()],
        "sky_told": "coloured by class" if schema.is_classes else "coloured by the most probable first answer",
        "galleries": galleries,
        "table_told": f"{len(rows):,} rows."
        if len(rows) == len(results)
        else f"{len(rows):,} of {len(results):,} rows.",
        "data": _data(results, pictures, rows),
    }


def _flags(results: Results) -> list[dict[str, Any]]:
    return [
        {
            "bit": flag.value,
            "name": (flag.name or "").lower(),
            "told": told,
            "count": int((results.flag & flag.value != 0).sum()),
        }
        for flag, told in FLAGS.items()
    ]


def _galleries(results: Results, chosen: _Chosen, at: Mapping[int, int]) -> list[dict[str, Any]]:
    """Return the sections of pictures: each a title, a text and groups of rows of the table."""

    def group(title: str, rows: list[int], told: str = "") -> dict[str, Any]:
        return {"title": title, "told": told, "rows": [at[row] for row in rows]}

    labels = Counter(str(label) for label in results.label[results.classified])
    sections = [
        {
            "id": "gallery",
            "short": "Gallery",
            "title": "Gallery by label",
            "told": f"Up to {_PER_LABEL} galaxies of each of the most common labels, drawn at random. The colours and "
            "the frame are those that the model saw.",
            "groups": [
                group(label.replace("_", " "), rows, _number_of(labels[label]))
                for label, rows in chosen.by_label.items()
            ],
        },
        {
            "id": "uncertain",
            "short": "Uncertain",
            "title": "Most uncertain",
            "told": "The largest entropy"
            + (" over all classes." if results.schema.is_classes else " of the first question."),
            "groups": [group("", chosen.uncertain)] if chosen.uncertain else [],
        },
    ]
    if results.ood is not None:
        sections.append(
            {
                "id": "unlike",
                "short": "Unlike",
                "title": "Least like the training data",
                "told": "The largest morph_ood.",
                "groups": [group("", chosen.unlike)] if chosen.unlike else [],
            }
        )
    sections.append(
        {
            "id": "flagged",
            "short": "Flagged",
            "title": "Flagged",
            "told": f"Up to {_PER_FLAG} galaxies of each flag, drawn at random, with what the flag means.",
            "groups": [
                group(
                    f"{entry['bit']} {entry['name'].replace('_', ' ')}: {entry['told']}",
                    chosen.by_flag[entry["bit"]],
                    _number_of(entry["count"]),
                )
                for entry in _flags(results)
                if entry["bit"] in chosen.by_flag
            ],
        }
    )
    return sections


def _number_of(n: int) -> str:
    return f"{n:,} galax{'y' if n == 1 else 'ies'}"


def _data(results: Results, pictures: Composites, rows: list[int]) -> dict[str, Any]:
    """Return the rows of the table by columns, as compact as JSON can be: probabilities in thousandths."""
    schema = results.schema
    chosen = np.array(rows, dtype=np.int64)
    at = {row: i for i, row in enumerate(rows)}
    names = np.where(results.classified, results.label, "").astype(object)[chosen]
    labels = ["", *sorted(set(names) - {""})]
    index = {name: i for i, name in enumerate(labels)}
    return {
        "classes": schema.is_classes,
        "names": schema.labels,
        "questions": [
            {
                "name": question.name,
                "answers": question.answers,
                "labels": list(range(part.start, part.stop)),
                "parents": parents,
            }
            for question, part, parents in zip(schema.questions, schema.slices, schema.parents, strict=True)
        ],
        "flags": [{name: flag[name] for name in ("bit", "name", "told")} for flag in _flags(results)],
        "labels": labels,
        "row": rows,
        "id": results.id[chosen].tolist(),
        "ra": _numbers(results.ra[chosen], 6),
        "dec": _numbers(results.dec[chosen], 6),
        "p": [_thousandths(column) for column in results.p[chosen].T],
        "label": [index[name] for name in names],
        "entropy": _numbers(results.entropy[chosen], 3),
        "flag": results.flag[chosen].tolist(),
        "ood": None if results.ood is None else _numbers(results.ood[chosen], 4),
        "side": 160,
        "pictures": {at[row]: base64.b64encode(jpeg).decode() for row, jpeg in pictures.jpeg.items()},
        "reasons": {at[row]: reason for row, reason in pictures.reasons.items()},
    }


def _numbers(values: NDArray[np.floating[Any]], digits: int) -> list[float | None]:
    return [round(value, digits) if np.isfinite(value) else None for value in values.astype(float).tolist()]


def _thousandths(values: NDArray[np.floating[Any]]) -> list[int | None]:
    known = np.isfinite(values)
    whole = np.rint(np.where(known, values, 0) * 1000).astype(int).tolist()
    return [value if is_known else None for value, is_known in zip(whole, known.tolist(), strict=True)]
