"""The backbones of timm, by their names there: ``timm:convnext_nano`` (the extra ``timm``)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from galmorph.errors import GalmorphError, first_line
from galmorph.models.backbones import Backbone

if TYPE_CHECKING:
    from torch import Tensor, nn

PREFIX = "timm:"


@cache
def load(name: str) -> Backbone:
    """Return one of timm's networks as a backbone, with the preprocessing and the head that timm records for it.

    Parameters
    ----------
    name : str
        As in ``timm.list_models()``; ``hf-hub:owner/name`` takes one from the hub, such as Zoobot's encoders.

    Raises
    ------
    GalmorphError
        If timm is not installed or has no such network.
    """
    try:
        import timm
    except ImportError as error:
        raise GalmorphError(f"{PREFIX}{name} needs timm: pip install 'galmorph-survey[timm]'.") from error
    try:
        network = timm.create_model(name, num_classes=1)
    except Exception as error:  # timm and the hub raise RuntimeError, OSError and errors of their own
        raise GalmorphError(f"timm has no network {name!r} ({first_line(error)}): see timm.list_models().") from error
    settings: dict[str, Any] = dict(network.pretrained_cfg)  # type: ignore[arg-type]
    if not isinstance(head := settings.get("classifier"), str):
        raise GalmorphError(f"{PREFIX}{name} has no single linear head, so it cannot take the schema's outputs.")
    return Backbone(
        PREFIX + name,
        partial(_build, name),
        head=f"{head}.",
        mean=tuple(settings["mean"]),
        std=tuple(settings["std"]),
        fetch=partial(_fetch, name),
    )


def _build(name: str, n_outputs: int) -> nn.Module:
    import timm

    return timm.create_model(name, num_classes=n_outputs)


def _fetch(name: str) -> Mapping[str, Tensor]:
    import timm

    return timm.create_model(name, pretrained=True).state_dict()
