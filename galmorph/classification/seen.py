"""Galaxies of a result as the model saw them: their cutouts, or stamps of survey images, framed as its card asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from galmorph.classification.prepare import Prepared
from galmorph.classification.provenance import recorded
from galmorph.classification.results import Results
from galmorph.classification.survey_images import FieldSource
from galmorph.files.record import file_sha256
from galmorph.files.remote import Remote, local
from galmorph.images.framing import Framing
from galmorph.images.survey_image import image_templates
from galmorph.models import card as cards
from galmorph.models.card import ModelCard

# The inputs of all models of this version, except for the size of the network's input.
_USUAL_SIZE, _USUAL_FRAMING = 160, Framing(radii=5.12)
# Stamps that are cut out of survey images at once.
_STAMPS_AT_ONCE = 16


def seen(
    results: Results,
    rows: Sequence[int],
    card: ModelCard,
    folder: Path | Remote | None = None,
    *,
    images: Sequence[str | Path] = (),
) -> Iterator[tuple[int, Prepared]]:
    """Yield rows with their framed flux for a model of this card.

    Parameters
    ----------
    results : Results
    rows : sequence of int
    card : ModelCard
    folder : Path, optional
        Folder of the cutouts.
    images : sequence of path
        Survey images in which the galaxies are, instead of cutouts; ``{band}`` stands for one file a band. Default:
        those of the run, as the record beside the catalog says.
    """
    images = [local(image) for image in images]
    if not images and folder is None and results.catalog.cutout_column is None and not results.remote:
        images = recorded(results.catalog.path, "image")
    return _of_images(results, rows, images, card) if images else _of_cutouts(results, rows, folder, card)


def _of_cutouts(
    results: Results, rows: Sequence[int], folder: Path | Remote | None, card: ModelCard
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


def card_of(results: Results, model: str | None) -> tuple[ModelCard, bool]:
    """Return the card of the model that made the results, and whether it is exactly that model."""
    if model is not None:
        return cards.read_card(cards.find(model)), True
    own = [] if results.remote else recorded(results.catalog.path, "model")
    if own and own[0].is_file() and file_sha256(own[0]) == results.card("GMSHA256"):
        return cards.read_card(own[0]), True
    path = cards.shipped().get(results.card("GMMODEL"))
    if path is not None:
        return cards.read_card(path), file_sha256(path) == results.card("GMSHA256")
    inputs = cards.survey_inputs(_USUAL_SIZE, _USUAL_FRAMING, (0.5,) * 3, (0.5,) * 3)
    return ModelCard("unknown", "mobilenet_v2", results.schema.name, inputs), False
