"""Ensembles: several trained models as one, in one file with one card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from galmorph import registry
from galmorph.errors import ModelError
from galmorph.models.backbones import take_head
from galmorph.models.card import ModelCard
from galmorph.models.model import Model, load, save_with_card, versions


def join(names: Sequence[str | Path], out: Path) -> Model:
    """Make one model of several and write it, with its card beside it.

    Its logits are the mean of theirs, each divided by its own temperatures: within a question the probabilities are the
    geometric mean of the members', normalised. It has no sets and no score of unlikeness: ``galmorph models calibrate``
    fits them.

    Parameters
    ----------
    names : sequence of str or Path
        Names, weights files or training folders of two models or more.
    out : Path
        The weights file, ``.safetensors``; the card is written to the same name with ``.json``.

    Raises
    ------
    ModelError
        If there are fewer, or they differ in labels, in what they take, or in their split: one of them
        may have learnt from galaxies that another holds out.
    OutputError
        If it cannot be written.
    """
    models = [load(name) for name in names]
    if len(models) < 2:
        raise ModelError("An ensemble has two models or more.")
    first = models[0].card
    for model in models[1:]:
        fields = (("labels", "schema"), ("labels", "schema_definition"), ("inputs", "inputs"), ("split", "split"))
        differing = [name for name, field in fields if getattr(model.card, field) != getattr(first, field)]
        if differing:
            raise ModelError(
                f"{model.card.name} and {first.name} differ in {', '.join(differing)}: they cannot be joined."
            )
    backbone = "ensemble:" + "+".join(model.card.backbone for model in models)
    network = registry.load("backbones", backbone).build(len(models[0].schema.labels))
    heads = [_head(model) for model in models]
    for member, model in zip(network.members, models, strict=True):
        member.load_state_dict(model.network.state_dict())
    with torch.no_grad():
        network.head.weight.copy_(torch.cat([weight for weight, _ in heads], dim=1) / len(models))
        network.head.bias.copy_(torch.stack([bias for _, bias in heads]).mean(dim=0))
    names_of = [name for name in models[0].trained if all(name in model.trained for model in models)]
    trained = {name: torch.cat([model.trained[name] for model in models]).unique() for name in names_of}
    joined = Model(_card(models, backbone, out.stem), network.eval(), trained)
    save_with_card(joined, out)
    return joined


def _head(model: Model) -> tuple[Tensor, Tensor]:
    """Remove a model's last layer; return its weight and bias, divided by the temperatures."""
    head = take_head(model.network, registry.load("backbones", model.card.backbone).head)
    scale = torch.ones(len(model.schema.labels))
    for columns, temperature in zip(model.schema.slices, model.temperature or [], strict=bool(model.temperature)):
        scale[columns] = 1 / temperature
    return head.weight.detach() * scale[:, None], head.bias.detach() * scale


def _card(models: Sequence[Model], backbone: str, name: str) -> ModelCard:
    cards = [model.card for model in models]
    members: list[dict[str, Any]] = [{"name": model.card.name, "sha256": model.sha256} for model in models]
    ancestors = {entry["sha256"]: entry for card in cards for entry in card.training.get("ancestors", ())}
    excluded = [{entry["sha256"]: entry for entry in card.training.get("excluded", ())} for card in cards]
    samples = {entry["sha256"]: entry for card in cards for entry in card.trained_on}
    return ModelCard(
        name=name,
        backbone=backbone,
        schema=cards[0].schema,
        schema_definition=cards[0].schema_definition,
        inputs=cards[0].inputs,
        description=f"{len(models)} models as one: the mean of their logits.",
        limits="\n".join(dict.fromkeys(card.limits for card in cards if card.limits)),
        trained_on=tuple(samples.values()),
        split=cards[0].split,
        training={
            "members": members,
            "refit": any(card.training.get("refit") for card in cards),
            "ancestors": list(ancestors.values()),
            "excluded": [entry for sha256, entry in excluded[0].items() if all(sha256 in of for of in excluded)],
        },
        versions=versions(),
        learnt=_learnt_by_all(cards),
    )


def _learnt_by_all(cards: Sequence[ModelCard]) -> tuple[str, ...]:
    """Return the labels that each member learnt; empty if all members learnt all, or do not state it."""
    unlearnt = {index for card in cards for index in card.unlearnt}
    return tuple(label for i, label in enumerate(cards[0].label_schema.labels) if i not in unlearnt) if unlearnt else ()
