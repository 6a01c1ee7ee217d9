"""Composites: the colour pictures that a model sees, as small JPEG files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from galmorph.classification.prepare import colour_picture
from galmorph.classification.results import Results
from galmorph.classification.seen import card_of, seen
from galmorph.files.pictures import jpeg
from galmorph.files.remote import Remote

# Pixels a side of a picture on the page.
SIDE_PX = 160


@dataclass
class Composites:
    """Pictures of some rows, and why the others have none.

    Attributes
    ----------
    jpeg : dict
        By row: a JPEG file, north up where the cutout is.
    reasons : dict
        By row: why there is no picture.
    exact : bool
        Whether framing and colours are those of the model's own card; else they are the default ones.
    """

    jpeg: dict[int, bytes] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    exact: bool = True


def composites(
    results: Results,
    rows: Iterable[int],
    folder: Path | Remote | None = None,
    *,
    images: Sequence[str | Path] = (),
    model: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Composites:
    """Make the pictures of some rows from their cutouts or from survey images, as the model saw them.

    Parameters
    ----------
    rows : iterable of int
    folder : Path, optional
        Folder of the cutouts.
    images : sequence of path
        Survey images in which the galaxies are, instead of cutouts; ``{band}`` stands for one file a band. Default:
        those of the run, as the record beside the catalog says.
    model : str, optional
        Name or file of the model; default: the shipped one that the catalog names.
    on_progress : callable, optional
        Called with the pictures done and their number.
    """
    card, exact = card_of(results, model)
    pictures, wanted = Composites(exact=exact), list(rows)
    for done, (row, prepared) in enumerate(seen(results, wanted, card, folder, images=images), start=1):
        if prepared.flux is None or prepared.entry is None:
            pictures.reasons[row] = prepared.reason
        else:
            pictures.jpeg[row] = jpeg(colour_picture(prepared))
        if on_progress:
            on_progress(done, len(wanted))
    return pictures
