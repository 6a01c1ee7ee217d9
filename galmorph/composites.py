"""Composites: the colour pictures that a model saw, as small JPEG files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from galmorph import card as cards
from galmorph.card import ModelCard
from galmorph.normalize import Framing
from galmorph.page import jpeg
from galmorph.results import Results

# What all models of this version see, but for the size of the network's input.
_USUAL_SIZE, _USUAL_FRAMING = 160, Framing(radii=5.12)


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
        Whether they are framed and coloured by the card of the very model; else by that of the usual ones.
    """

    jpeg: dict[int, bytes] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    exact: bool = True


def composites(
    results: Results,
    rows: Iterable[int],
    folder: Path | None = None,
    *,
    model: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Composites:
    """Make the pictures of some rows from their cutouts, as the model saw them.

    Parameters
    ----------
    results : Results
    rows : iterable of int
    folder : Path, optional
        Folder of the cutouts.
    model : str, optional
        Name or file of the model; default: the shipped one that the catalog names.
    on_progress : callable, optional
        Called with the pictures done and their number.
    """
    card, exact = _card(results, model)
    cutouts = results.cutouts(folder)
    wanted = list(rows)
    found = Composites(
        reasons={row: reason for row in wanted if isinstance(reason := cutouts[row][0], str)}, exact=exact
    )
    if len(found.reasons) == len(wanted):
        return found
    import torch

    from galmorph.classification import prepare
    from galmorph.model import Model

    # What prepares a cutout asks a model for its card alone.
    preparing = Model(card, torch.nn.Identity())
    for done, row in enumerate(wanted, start=1):
        path, radius_arcsec = cutouts[row]
        if isinstance(path, str):
            continue
        prepared = prepare(path, preparing, radius_arcsec)
        if prepared.flux is None or prepared.entry is None:
            found.reasons[row] = prepared.reason
        else:
            rgb = prepared.entry.normalization.rgb(torch.from_numpy(prepared.flux)[None])[0]
            found.jpeg[row] = jpeg(rgb.permute(1, 2, 0).flip(0).numpy())
        if on_progress:
            on_progress(done, len(wanted))
    return found


def _card(results: Results, model: str | None) -> tuple[ModelCard, bool]:
    """Return the card of the model that made the results, and whether it is that very one."""
    if model is not None:
        return cards.read_card(cards.find(model)), True
    path = cards.shipped().get(results.card("GMMODEL"))
    if path is not None:
        return cards.read_card(path), cards.file_sha256(path) == results.card("GMSHA256")
    inputs = cards.survey_inputs(_USUAL_SIZE, _USUAL_FRAMING, (0.5,) * 3, (0.5,) * 3)
    return ModelCard("unknown", "mobilenet_v2", results.schema.name, inputs), False
