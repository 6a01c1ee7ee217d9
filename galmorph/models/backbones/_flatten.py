"""Backbones whose feature map is flattened into the one dense layer, unpooled: ``flatten:mobilenet_v1`` (Xu 2023).

The dense layer has weights for each pixel of the feature map, so the input has one size: that of ImageNet, or the one
in the name, as in ``flatten:96:mobilenet_v1``.
"""

from __future__ import annotations

import dataclasses
from functools import partial

import torch
from torch import Tensor, nn

from galmorph import registry
from galmorph.errors import GalmorphError
from galmorph.models.backbones import Backbone

PREFIX = "flatten:"
INPUT_SIZE = 224
_HEADS = ("classifier", "fc")
_POOLS = ("avgpool", "dropout")


class Flattened(nn.Module):
    """A network's layers up to its feature map, under their own names, then one linear layer."""

    def __init__(self, network: nn.Module, n_outputs: int, input_size: int) -> None:
        super().__init__()
        self.steps = [name for name, _ in network.named_children() if name not in (*_HEADS, *_POOLS)]
        for name in self.steps:
            self.add_module(name, getattr(network, name))
        with torch.no_grad():
            n_features = self.eval()._features(torch.zeros(1, 3, input_size, input_size)).shape[1]
        self.head = next(name for name in _HEADS if hasattr(network, name))
        self.add_module(self.head, nn.Linear(n_features, n_outputs))

    def _features(self, images: Tensor) -> Tensor:
        for name in self.steps:
            images = getattr(self, name)(images)
        return images.flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, n_outputs) of images (n, 3, y, x) of the one size."""
        return getattr(self, self.head)(self._features(images))


def load(name: str) -> Backbone:
    """Return a backbone with its feature map flattened.

    Parameters
    ----------
    name : str
        The backbone, after the size of its input and a colon where that is not `INPUT_SIZE`.

    Raises
    ------
    GalmorphError
        If there is no backbone of that name, or its layers do not follow one another.
    """
    size, member = _parts(name)
    entry: Backbone = registry.load("backbones", member)
    if ":" in entry.name or (size or INPUT_SIZE) < 32:
        raise GalmorphError(f"{PREFIX}{name}: only galmorph's own backbones can be flattened, for 32 px or more.")
    head = entry.head.partition(".")[0] + "."
    build = partial(_build, entry, size or INPUT_SIZE)
    return dataclasses.replace(entry, name=PREFIX + (f"{size}:" if size else "") + entry.name, build=build, head=head)


def bound_to(input_size: int, backbone: str) -> str:
    """Return the name of a backbone for inputs of a size: a flattened one has it in its name.

    Raises
    ------
    GalmorphError
        If the name has another size.
    """
    if not backbone.startswith(PREFIX):
        return backbone
    size, member = _parts(backbone.removeprefix(PREFIX))
    if (size or INPUT_SIZE) == input_size:
        return backbone
    if size:
        raise GalmorphError(f"{backbone} takes inputs of {size} px: leave that out, or --input-size {size}.")
    return f"{PREFIX}{input_size}:{member}"


def _parts(name: str) -> tuple[int | None, str]:
    """Return the size of the input in the name after the prefix, None where there is none, and the backbone's name."""
    size, _, member = name.partition(":")
    return (int(size), member) if size.isdecimal() else (None, name)


def _build(entry: Backbone, input_size: int, n_outputs: int) -> nn.Module:
    return Flattened(entry.build(1), n_outputs, input_size)
