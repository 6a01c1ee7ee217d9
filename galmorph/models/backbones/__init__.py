"""Backbones: one file each, which defines ``BACKBONE``. Adding one is adding a file; ``timm:NAME`` is any of timm's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Backbone:
    """A network and the preprocessing that its pretrained weights expect.

    Attributes
    ----------
    name : str
        That of its file.
    build : callable
        ``build(n_outputs) -> nn.Module`` with fresh weights; float32 images (n, 3, y, x) in, logits (n, n_outputs) out.
    head : str
        Prefix of the last layer's parameters; only these may differ when pretrained weights are loaded.
    mean, std : tuple of float
        What RGB in 0..1 is normalised by.
    fetch : callable, optional
        ``fetch() -> state`` gets the ImageNet weights; None where there are none.
    """

    name: str
    build: Callable[[int], nn.Module]
    head: str
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    fetch: Callable[[], Mapping[str, Tensor]] | None = None


def from_torchvision(name: str, head: str) -> Backbone:
    """Return a network of torchvision, by its name there, with its first ImageNet weights."""
    from torchvision.models import get_model

    return Backbone(
        name, lambda n_outputs: get_model(name, num_classes=n_outputs), head, fetch=lambda: torchvision_weights(name)
    )


def torchvision_weights(name: str) -> Mapping[str, Tensor]:
    """Return the first ImageNet weights of one of torchvision's networks."""
    from torchvision.models import get_model_weights

    return get_model_weights(name).IMAGENET1K_V1.get_state_dict(progress=False)


def take_head(network: nn.Module, head: str) -> Any:
    """Take a network's last layer away, so that it gives the features that enter it; return the layer.

    Parameters
    ----------
    network : nn.Module
        Changed in place.
    head : str
        Prefix of the last layer's parameters; of several layers the last one is meant.
    """
    from torch import nn

    name = head.rstrip(".")
    last = network.get_submodule(name)
    while inner := list(last.named_children()):
        name, last = f"{name}.{inner[-1][0]}", inner[-1][1]
    network.set_submodule(name, nn.Identity())
    return last
