"""Composites: the colour pictures that a model saw, as small JPEG files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from galmorph.classification.prepare import Prepared, colour_picture
from galmorph.classification.provenance import recorded
from galmorph.classification.results import Results
from galmorph.classification.survey_images import FieldSource
from galmorph.files.record import file_sha256
from galmorph.images.framing import Framing
from galmorph.images.survey_image import image_templates
from galmorph.models import card as cards
from galmorph.models.card import ModelCard
from galmorph.reports.page import jpeg

# Pixels a side of a picture on the page.
SIDE_PX = 160
# What all models of this version see, but for the size of the network's input.
_USUAL_SIZE, _USUAL_FRAMING = SIDE_PX, Framing(radii=5.12)
# Stamps that are cut out of survey images at once.
_STAMPS_AT_ONCE = 16


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
        Whether framing and colours are those of the card of the very model; else they are the usual ones.
    """

    jpeg: dict[int, bytes] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    exact: bool = True


def composites(
    results: Results,
    rows: Iterable[int],
    folder: Path | None = None,
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
    card, exact = _card(results, model)
    if not images and folder is None and results.catalog.cutout_column is None:
        images = recorded(results.catalog.path, "image")
    pictures, wanted = Composites(exact=exact), list(rows)
    made = _of_images(results, wanted, images, card) if images else _of_cutouts(results, wanted, folder, card)
    for done, (row, prepared) in enumerate(made, start=1):
        if prepared.flux is None or prepared.entry is None:
            pictures.reasons[row] = prepared.reason
        else:
            pictures.jpeg[row] = jpeg(colour_picture(prepared))
        if on_progress:
            on_progress(done, len(wanted))
    return pictures


def _of_cutouts(
    results: Results, rows: Sequence[int], folder: Path | None, card: ModelCard
) -> Iterator[tuple[int, Prepared]]:
    cutouts = results.cutouts(folder)
    for row in rows:
        yield row, cutouts[row].prepare(card, pictures=results.pictures)


def _of_images(
    results: Results, rows: Sequence[int], images: Sequence[str | Path], card: ModelCard
) -> Iterator[tuple[int, Prepared]]:
    import torch

    zero_point = results.card("GMZEROPT") or None
    source = FieldSource(image_templates([str(path) for path in images]), results.catalog, None, zero_point)
    source.open()
    for start in range(0, len(rows), _STAMPS_AT_ONCE):
        some = rows[start : start + _STAMPS_AT_ONCE]
        yield from zip(some, source.prepare(some, card, torch.device("cpu")), strict=True)


def _card(results: Results, model: str | None) -> tuple[ModelCard, bool]:
    """Return the card of the model that made the results, and whether it is that very one."""
    if model is not None:
        return cards.read_card(cards.find(model)), True
    path = cards.shipped().get(results.card("GMMODEL"))
    if path is not None:
        return cards.read_card(path), file_sha256(path) == results.card("GMSHA256")
    inputs = cards.survey_inputs(_USUAL_SIZE, _USUAL_FRAMING, (0.5,) * 3, (0.5,) * 3)
    return ModelCard("unknown", "mobilenet_v2", results.schema.name, inputs), False
