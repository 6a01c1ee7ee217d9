"""The outcome of a run: its summary, displayed in a notebook with labels and thumbnails."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from galmorph.classification.prepare import colour_picture
from galmorph.classification.provenance import recorded
from galmorph.classification.results import Results, read_results
from galmorph.classification.seen import card_of, seen
from galmorph.classification.summary import Summary
from galmorph.errors import GalmorphError
from galmorph.files.pictures import jpeg

_THUMBNAILS, _THUMBNAIL_PX = 8, 96
_LABELS = 8
_SEED = 0


@dataclass(frozen=True)
class Outcome(Summary):
    """A summary that notebooks display with labels and thumbnails."""

    def _repr_html_(self) -> str:
        return (
            f"<p><b>{self.classified} of {self.targets}</b> galaxies classified by {escape(self.model)}, "
            f"{self.flagged} flagged, {self.failed} without a probability: <code>{escape(self.out)}</code></p>"
            f"{_counts(self.labels, self.classified)}{_thumbnails(Path(self.out))}"
        )


def _counts(labels: Mapping[str, int], total: int) -> str:
    rows = "".join(
        f"<tr><td>{escape(label)}</td><td style='text-align:right'>{count}</td>"
        f"<td><div style='background:#4477aa;height:.7em;width:{100 * count / max(total, 1):.0f}px'></div></td></tr>"
        for label, count in list(labels.items())[:_LABELS]
    )
    return f"<table>{rows}</table>" if rows else ""


def _thumbnails(path: Path) -> str:
    """Return some of the galaxies as the model saw them; none if the catalog or the cutouts are missing."""
    if recorded(path, "image"):  # the images would have to be searched again
        return ""
    try:
        results = read_results(path)
    except GalmorphError:  # columns that were not written, several prefixes
        return ""
    rows = np.flatnonzero(results.classified)
    chosen = np.sort(np.random.default_rng(_SEED).permutation(rows)[:_THUMBNAILS]).tolist()
    card, _ = card_of(results, None)
    figures = []
    for row, prepared in seen(results, chosen, card):
        if prepared.flux is not None:
            figures.append(_figure(results, row, jpeg(colour_picture(prepared), _THUMBNAIL_PX)))
    return f"<div style='display:flex;flex-wrap:wrap;gap:8px'>{''.join(figures)}</div>" if figures else ""


def _figure(results: Results, row: int, picture: bytes) -> str:
    name = escape(str(results.id[row]))
    return (
        f"<figure style='margin:0'><img alt='{name}' width='{_THUMBNAIL_PX}' "
        f"src='data:image/jpeg;base64,{base64.b64encode(picture).decode()}'>"
        f"<figcaption style='font-size:80%'>{escape(str(results.label[row]))}<br>{name}</figcaption></figure>"
    )
