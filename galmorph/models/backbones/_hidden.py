"""Backbones with layers before the head: ``hidden:256:mobilenet_v2``, ``hidden:512-128:resnet50``."""

from __future__ import annotations

import dataclasses
import itertools
import re
from functools import partial

from torch import nn

from galmorph import registry
from galmorph.errors import GalmorphError
from galmorph.models.backbones import Backbone

PREFIX = "hidden:"


def load(name: str) -> Backbone:
    """Return a backbone with dense layers, each with a ReLU, before its last one.

    Parameters
    ----------
    name : str
        Widths, then the backbone: ``512-128:resnet50``.

    Raises
    ------
    GalmorphError
        If the widths are not numbers, or the backbone does not exist or end in one linear layer.
    """
    widths, colon, member = name.partition(":")
    if not colon or not re.fullmatch(r"[1-9]\d*(-[1-9]\d*)*", widths):
        raise GalmorphError(
            f"{PREFIX}{name}: write the widths of the layers and the backbone, as {PREFIX}256:resnet50."
        )
    entry: Backbone = registry.load("backbones", member)
    build = partial(_build, entry, tuple(map(int, widths.split("-"))))
    return dataclasses.replace(entry, name=f"{PREFIX}{widths}:{entry.name}", build=build)


def _build(entry: Backbone, widths: tuple[int, ...], n_outputs: int) -> nn.Module:
    network = entry.build(n_outputs)
    name_of_last = entry.head.rstrip(".")
    last = network.get_submodule(name_of_last)
    if not isinstance(last, nn.Linear):
        raise GalmorphError(f"{entry.name} does not end in one linear layer, so no layers can be put before it.")
    pairs = list(itertools.pairwise((last.in_features, *widths)))
    layers = [layer for n_in, n_out in pairs for layer in (nn.Linear(n_in, n_out), nn.ReLU())]
    network.set_submodule(name_of_last, nn.Sequential(*layers, nn.Linear(widths[-1], n_outputs)))
    return network
