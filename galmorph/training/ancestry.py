"""Ancestry: the training data of the models that a training starts from or learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from galmorph import registry
from galmorph.errors import ModelError
from galmorph.files.record import file_sha256
from galmorph.models.card import SUFFIX, ModelCard
from galmorph.models.model import TRAINED_CONTENTS, TRAINED_GALAXIES, Model, load
from galmorph.training.config import WITHOUT_GALAXIES


@dataclass(frozen=True)
class Ancestry:
    """Models that a new one descends from.

    Attributes
    ----------
    models : tuple of dict
        For a card: ``name``, ``sha256`` of the weights, ``as`` (``pretrained`` or ``teacher``), ``trained_on``
        (``name`` and ``sha256`` of each sample), and ``excluded``; their own ancestors too.
    trained : dict of name to Tensor, int64
        Hashes of the galaxies and pictures that they were trained on, as in a model's file.
    start : tuple of Model
        The model that it starts from, if it has a card of galmorph.
    """

    models: tuple[dict[str, Any], ...] = ()
    trained: dict[str, Tensor] = field(default_factory=dict)
    start: tuple[Model, ...] = ()

    def merged(self, own: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the hashes of the training data of a model together with those of its ancestors."""
        return {name: torch.cat([values, self.trained.get(name, values)]).unique() for name, values in own.items()}


def ancestry(pretrained: str, teachers: Sequence[Model]) -> Ancestry:
    """Return the models that a training descends from.

    Parameters
    ----------
    pretrained : str
        ``imagenet``, ``none`` or a weights file; one without a card of galmorph has only a name and a hash.
    teachers : sequence of Model
    """
    models: list[dict[str, Any]] = []
    trained: dict[str, list[Tensor]] = {TRAINED_GALAXIES: [], TRAINED_CONTENTS: []}
    related = [("teacher", teacher) for teacher in teachers]
    if pretrained not in WITHOUT_GALAXIES:
        start = _with_card(pretrained)
        if start is None:
            if not Path(pretrained).exists():
                raise ModelError(registry.missing_file(Path(pretrained)))
            models.append({"name": Path(pretrained).name, "sha256": file_sha256(Path(pretrained)), "as": "pretrained"})
        else:
            related.insert(0, ("pretrained", start))
    for role, model in related:
        models += [_entry(role, model.card, model.sha256), *model.card.training.get("ancestors", ())]
        for name, values in trained.items():
            values += [model.trained[name]] if name in model.trained else []
    merged = {name: torch.cat(values).unique() for name, values in trained.items() if values}
    once = {(entry["sha256"], entry["as"]): entry for entry in models}
    return Ancestry(tuple(once.values()), merged, tuple(model for role, model in related if role == "pretrained"))


def _with_card(path: str) -> Model | None:
    """Return the model of a weights file, None where the file holds no card."""
    if Path(path).suffix != SUFFIX:
        return None
    try:
        return load(path)
    except ModelError:
        return None


def _entry(role: str, card: ModelCard, sha256: str) -> dict[str, Any]:
    samples = [{"name": entry["name"], "sha256": entry["sha256"]} for entry in card.trained_on]
    entry: dict[str, Any] = {"name": card.name, "sha256": sha256, "as": role, "trained_on": samples}
    excluded = card.training.get("excluded")
    return entry | ({"excluded": excluded} if excluded else {})
