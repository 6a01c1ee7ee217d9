"""Several networks side by side with one head on all of their features: ``ensemble:mobilenet_v2+resnet50``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from galmorph import registry
from galmorph.errors import GalmorphError
from galmorph.models.backbones import Backbone, take_head

PREFIX = "ensemble:"


class Ensemble(nn.Module):
    """Networks without their heads, in `members`, and a linear layer on their features, one after another."""

    def __init__(self, entries: Sequence[Backbone], n_outputs: int) -> None:
        super().__init__()
        networks = [entry.build(n_outputs) for entry in entries]
        heads = [take_head(network, entry.head) for network, entry in zip(networks, entries, strict=True)]
        self.members = nn.ModuleList(networks)
        self.head = nn.Linear(sum(head.in_features for head in heads), n_outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, n_outputs) of images (n, 3, y, x)."""
        return self.head(torch.cat([member(images) for member in self.members], dim=1))


def load(name: str) -> Backbone:
    """Return the backbone of an ensemble.

    Parameters
    ----------
    name : str
        Two backbones or more with the same preprocessing, joined by ``+``.

    Raises
    ------
    GalmorphError
        If there are fewer, one does not exist, or they differ in what pictures are normalised by.
    """
    entries: list[Backbone] = [registry.load("backbones", member) for member in name.split("+")]
    if len(entries) < 2 or len({(entry.mean, entry.std) for entry in entries}) > 1:
        raise GalmorphError(f"{PREFIX}{name}: an ensemble has two backbones or more, of the same preprocessing.")
    return dataclasses.replace(
        entries[0],
        name=PREFIX + "+".join(entry.name for entry in entries),
        build=partial(Ensemble, entries),
        head="head.",
        fetch=None,
    )
