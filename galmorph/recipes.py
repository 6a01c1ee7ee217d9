"""Recipes: every choice of a training run as plain data, and named sets of choices, the papers' among them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from galmorph import registry
from galmorph.dataset import PLAIN, Augmentation, Split
from galmorph.errors import GalmorphError
from galmorph.labels import LabelSchema
from galmorph.model import loss_named


@dataclass(frozen=True)
class TrainConfig:
    """Every choice of a training run; stored in the card.

    Attributes
    ----------
    data : tuple of str
        Paths of labelled samples, joined; ``PATH:question,question`` uses these questions' labels alone.
    schema, backbone : str
    pretrained : str
        ``imagenet``, ``none`` or a weights file.
    fine_tune : bool
        Whether all weights are refined, or only the head.
    input_size : int
        Side of the network's input in pixels.
    radii : float
        Framed full width in galaxy radii (R90), at most what the pictures show, for samples framed by size.
    epochs, batch_size : int
    lr, head_lr : float
        Peak learning rate of the backbone and of the head (AdamW).
    weight_decay, warmup_epochs : float
        The learning rate rises linearly over the warm-up, then follows the schedule.
    schedule : str
        ``cosine``: it falls to 0 over the epochs; ``constant``.
    ema : float
        Decay per step of the averaged weights, which are validated and kept; 0: none.
    refit : bool
        Train on the validation part too, once all choices are made: the last epoch is kept, with the calibration of the
        model that ``pretrained`` names.
    patience : int
        Epochs without a better validation score before stopping; 0: none.
    loss : str
    teachers : tuple of str
        Trained models whose predictions are part of the targets (see :func:`galmorph.distillation.soft_targets`).
    teacher_share : float
        Their weight where a label is known, 0 to 1.
    augmentation : Augmentation
    split : Split
    seed : int
    device, dtype : str
    """

    data: tuple[str, ...]
    schema: str
    backbone: str = "mobilenet_v2"
    pretrained: str = "imagenet"
    fine_tune: bool = True
    input_size: int = 160
    radii: float = 5.12
    epochs: int = 20
    batch_size: int = 32
    lr: float = 4e-4
    head_lr: float = 1.2e-3
    weight_decay: float = 0.01
    warmup_epochs: float = 1.0
    schedule: str = "cosine"
    ema: float = 0.995
    refit: bool = False
    patience: int = 0
    loss: str = "mse"
    teachers: tuple[str, ...] = ()
    teacher_share: float = 0.5
    augmentation: Augmentation = field(default_factory=lambda: Augmentation(grey=0.2, colour=0.1))
    split: Split = field(default_factory=Split)
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"

    def to_json(self) -> str:
        """Return all options as JSON with sorted keys."""
        return json.dumps(asdict(self), sort_keys=True, indent=1) + "\n"


# Named sets of options; what a recipe does not name keeps the default. Adam is AdamW without decay.
_KERAS: Mapping[str, Any] = {
    "input_size": 224,
    "lr": 1e-3,
    "head_lr": 1e-3,
    "weight_decay": 0.0,
    "warmup_epochs": 0.0,
    "schedule": "constant",
    "ema": 0.0,
}
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    # The pictures of Galaxy10 SDSS (69 px) and EFIGI (88 px) are smaller than the default input, and few.
    "galaxy10": {"input_size": 128, "epochs": 40, "weight_decay": 0.05},
    "efigi": {"input_size": 96, "epochs": 40, "weight_decay": 0.05, "loss": "cross_entropy"},
    # Gomez-Munoz 2020: ResNet50 refined whole for vote fractions. The fifth that the paper stops by and scores is ours
    # to stop by; nothing is left to test on. The learning rate is Keras's, for the paper names none.
    "paper-a": {
        **_KERAS,
        "epochs": 100,
        "batch_size": 64,
        "patience": 4,
        "loss": "mse",
        "augmentation": Augmentation(shift=0.05, zoom=0.0),
        "split": Split(val=0.2, test=0.0),
    },
    # Xu 2023: frozen base, its feature map flattened, one dense layer; trained whole where there are no weights. Of the
    # paper's 70 % for training a tenth chooses the epoch and calibrates, which the paper did on the 30 % it scores.
    "paper-b": {
        **_KERAS,
        "epochs": 20,
        "batch_size": 32,
        "loss": "cross_entropy",
        "augmentation": PLAIN,
        "split": Split(val=0.07, test=0.3),
        "backbone": "flatten:",
        "fine_tune": False,
    },
}


def configure(recipe: str, data: Sequence[str], schema: str, backbone: str, **options: Any) -> TrainConfig:
    """Make the configuration of a run.

    Parameters
    ----------
    recipe : str
        Name of a set of options.
    data : sequence of str
    schema, backbone : str
        Names or short names.
    **options
        Fields of :class:`TrainConfig` that override the recipe; None leaves it.

    Raises
    ------
    GalmorphError
        If a name is unknown or a number is out of range.
    """
    if recipe not in RECIPES:
        raise GalmorphError(registry.unknown("recipe", recipe, RECIPES))
    loaded: LabelSchema = registry.load("schemas", schema)
    chosen = {**RECIPES[recipe], **{name: value for name, value in options.items() if value is not None}}
    if (lr := chosen.get("lr")) is not None:
        chosen.setdefault("head_lr", 3 * lr)
    split: Split = chosen.get("split", Split())
    chosen["split"] = replace(split, seed=chosen.get("seed", 0), by_class=loaded.has_classes)
    if chosen.get("pretrained") == "none":
        chosen["fine_tune"] = True  # fresh weights have learnt nothing that freezing would keep
    backbone = chosen.pop("backbone", "") + registry.load("backbones", backbone).name
    loss_named(chosen.get("loss", "mse"))
    chosen.setdefault("loss", "cross_entropy" if loaded.is_classes else "mse")
    for name in ("epochs", "batch_size", "lr"):
        if chosen.get(name, 1) <= 0:
            raise GalmorphError(f"--{name.replace('_', '-')} {chosen[name]}: greater than 0.")
    if chosen.get("refit") and (chosen.get("pretrained", "imagenet") in ("imagenet", "none") or chosen.get("patience")):
        raise GalmorphError("--refit goes on from a trained model (--pretrained FILE), for all epochs (no --patience).")
    return TrainConfig(tuple(map(str, data)), loaded.name, registry.load("backbones", backbone).name, **chosen)
