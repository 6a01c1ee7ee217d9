"""The options of a training run as plain data, and recipes: named sets of options, such as those of the papers."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from galmorph import registry
from galmorph.errors import GalmorphError
from galmorph.images.sizes import MAX_INPUT_PX
from galmorph.models.backbones._flatten import bound_to
from galmorph.models.card import find
from galmorph.ranges import (
    BATCH,
    EPOCHS,
    LEARNING_RATE,
    PATIENCE,
    ROWS,
    SEED,
    SHARE,
    WIDTH_R90,
    Range,
    bounded,
    check_fields,
    positive,
    ranges_of,
    whole,
)
from galmorph.registry import check_keywords
from galmorph.schemas import LabelSchema, schema_from_mapping
from galmorph.training.augmentation import PLAIN, Augmentation
from galmorph.training.losses import loss_named
from galmorph.training.reading import infer_schema, schema_named
from galmorph.training.split import Split

# Starts that are not a model of galaxies: a backbone trained on ImageNet's photographs, or random weights.
WITHOUT_GALAXIES = ("imagenet", "none")
DEFAULT_AUGMENTATION = Augmentation(grey=0.2, colour=0.1)
# For pictures without labels, whose targets a model predicts from the plain picture.
STRONG_AUGMENTATION = Augmentation(shift=0.05, zoom=0.25, grey=0.2, colour=0.25, noise=0.05, blur=2.0)


@dataclass(frozen=True)
class TrainConfig:
    """All options of a training run; stored in the card.

    Attributes
    ----------
    data : tuple of str
        Paths of labelled samples, joined; ``PATH:question,question`` uses only these questions' labels.
    schema, backbone : str
    schema_definition : dict
        The schema itself, where it is none of galmorph's own (:meth:`galmorph.schemas.LabelSchema.to_mapping`).
    pretrained : str
        ``imagenet``, ``none`` or a weights file.
    fine_tune : bool
        Whether all weights are refined, or only the head.
    input_size : int
        Side of the network's input in pixels.
    radii : float
        Framed full width in galaxy radii (R90), at most what the pictures show, for samples framed by size.
    epochs, batch_size : int
    epoch_size : int
        Galaxies of an epoch: first those with exact labels, then others, which are drawn at random for each
        epoch; 0: all.
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
        ``mse``, ``cross_entropy`` or ``dirichlet_multinomial``.
    concentration : float
        Concentration of the Dirichlet-multinomial loss (see :func:`galmorph.training.losses.dirichlet_multinomial`).
    class_weights : float
        Galaxies weigh in the loss by the rarity of their class (first question) to this power; 0: alike, 1: classes
        are balanced.
    mixup : float
        Each picture is mixed with another one of its batch, labels too, by shares from Beta(mixup, mixup); 0: none.
    unfreeze_epochs : float
        The head learns first, then the network from its end to its beginning over these epochs; 0: all at once.
    accumulate : int
        Into how many micro-batches a batch is split, to save memory.
    compile : bool
        Whether the network runs through torch.compile.
    tensorboard : bool
        Whether the history is also written for TensorBoard, into the folder ``tensorboard`` of the run.
    teachers : tuple of str
        Trained models whose predictions are part of the targets
        (see :func:`galmorph.training.distillation.soft_targets`).
    teacher_share : float
        Their weight where there is a label, 0 to 1.
    exclude : tuple of str
        Tables of galaxies to leave out (see :func:`galmorph.training.reading.excluded_keys`).
    bound_weight : float
        Weight of violated bounds beside the loss of exact labels (:class:`galmorph.training.losses.BoundedLoss`).
    unlabelled : tuple of str
        Samples without labels; the targets are predictions of the teachers, or else of the averaged weights.
    unlabelled_weight : float
        Weight of their galaxies in the loss.
    strong : Augmentation
        Augmentation of their pictures.
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
    input_size: int = bounded(whole(1, MAX_INPUT_PX), 160)
    radii: float = bounded(WIDTH_R90, 5.12)
    epochs: int = bounded(EPOCHS, 20)
    batch_size: int = bounded(BATCH, 32)
    epoch_size: int = bounded(ROWS, 0)
    lr: float = bounded(LEARNING_RATE, 4e-4)
    head_lr: float = bounded(LEARNING_RATE, 1.2e-3)
    weight_decay: float = bounded(Range(0, 10), 0.01)
    warmup_epochs: float = bounded(Range(0, EPOCHS.most), 1.0)
    schedule: str = "cosine"
    ema: float = bounded(Range(0, 0.999999), 0.995)
    refit: bool = False
    patience: int = bounded(PATIENCE, 0)
    loss: str = "mse"
    concentration: float = bounded(positive(1e6), 40.0)
    class_weights: float = bounded(Range(0, 10), 0.0)
    mixup: float = bounded(Range(0, 100), 0.0)
    unfreeze_epochs: float = bounded(Range(0, EPOCHS.most), 0.0)
    accumulate: int = bounded(BATCH, 1)
    compile: bool = False
    tensorboard: bool = False
    teachers: tuple[str, ...] = ()
    teacher_share: float = bounded(SHARE, 0.5)
    exclude: tuple[str, ...] = ()
    bound_weight: float = bounded(Range(0, 1e6), 1.0)
    unlabelled: tuple[str, ...] = ()
    unlabelled_weight: float = bounded(Range(0, 1e6), 1.0)
    strong: Augmentation = STRONG_AUGMENTATION
    augmentation: Augmentation = DEFAULT_AUGMENTATION
    split: Split = field(default_factory=Split)
    seed: int = bounded(SEED, 0)
    device: str = "auto"
    dtype: str = "auto"
    schema_definition: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self, "--set {}=")
        for parent in ("augmentation", "strong", "split"):
            check_fields(getattr(self, parent), f"--set {parent}.{{}}=")
        if self.split.val + self.split.test >= 1:
            raise GalmorphError(
                f"--set split.val={self.split.val:g} and split.test={self.split.test:g}: together less than 1."
            )

    def to_json(self) -> str:
        """Return all options as JSON with sorted keys."""
        values = asdict(self)
        if not self.schema_definition:
            del values["schema_definition"]
        return json.dumps(values, sort_keys=True, indent=1) + "\n"

    @property
    def label_schema(self) -> LabelSchema:
        """The schema itself."""
        if self.schema_definition:
            return schema_from_mapping(self.schema_definition, f"the schema {self.schema}")
        return registry.load("schemas", self.schema)


SCHEDULES = ("cosine", "constant")

# Options that a recipe does not name keep their defaults. Adam is AdamW without decay.
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
    # The pictures of Galaxy10 SDSS (69 px) and EFIGI (88 px) are smaller than the default input, and few. Magnified to
    # 128 px they leave the last layer 4 x 4 pixels. At 96 px it has 3 x 3, and EFIGI is learnt less well.
    "galaxy10": {"input_size": 128, "epochs": 40, "weight_decay": 0.05},
    "efigi": {"input_size": 128, "epochs": 40, "weight_decay": 0.05, "loss": "cross_entropy"},
    # Gomez-Munoz 2020: all of ResNet50 refined for vote fractions. The paper stops by the fifth that it also scores;
    # here it is the validation part, and there is no test part. The paper names no learning rate: it is Keras's.
    "paper-a": {
        **_KERAS,
        "epochs": 100,
        "batch_size": 64,
        "patience": 4,
        "loss": "mse",
        "augmentation": Augmentation(shift=0.05, zoom=0.0),
        "split": Split(val=0.2, test=0.0),
    },
    # Xu 2023: frozen base, its feature map flattened, one dense layer; without weights all of it is trained. A tenth of
    # the paper's 70 % for training is for validation, where the paper used the 30 % that it scores.
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


# These have options of their own on the command line.
_OWN_OPTIONS = ("data", "schema", "schema_definition", "backbone", "teachers", "exclude", "unlabelled")


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Read options written as ``name=value``, such as ``mixup=0.2`` or ``augmentation.noise=0.05``.

    Parameters
    ----------
    settings : sequence of str
        Fields of :class:`TrainConfig`, or of its augmentation or split after a dot.

    Returns
    -------
    dict
        Values of the fields' types by name, those after a dot by ``<field>.<name>``.

    Raises
    ------
    GalmorphError
        If a name is unknown, or a value is of another type or out of its range.
    """
    kinds = {field.name: str(field.type) for field in fields(TrainConfig) if field.name not in _OWN_OPTIONS}
    ranges = dict(ranges_of(TrainConfig))
    for parent, kind in (("augmentation", Augmentation), ("strong", Augmentation), ("split", Split)):
        del kinds[parent]
        kinds |= {f"{parent}.{field.name}": str(field.type) for field in fields(kind)}
        ranges |= {f"{parent}.{name}": allowed for name, allowed in ranges_of(kind)}
    del kinds["split.edges"]
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        name = name.replace("-", "_")
        if not equals:
            raise GalmorphError(f"--set {setting}: write it as name=value, for example mixup=0.2.")
        if name not in kinds:
            raise GalmorphError(f"--set {setting}: {registry.unknown('option', name, kinds)}")
        try:
            values[name] = _PARSERS[kinds[name]](text)
        except (ValueError, KeyError) as error:
            takes = ranges.get(name, _TYPE_NAMES[kinds[name]])
            raise GalmorphError(f"--set {setting[:60]}: {name} takes {takes}.") from error
        if name in ranges:
            ranges[name].check(f"--set {name}=", values[name])
    return values


_PARSERS: Mapping[str, Any] = {
    "bool": lambda text: {"true": True, "false": False}[text.lower()],
    "int": int,
    "float": float,
    "str": str,
}
_TYPE_NAMES = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "text"}


def _start(pretrained: str | Path) -> str:
    """Return where a run starts: ``imagenet``, ``none``, or the file of weights that is meant by a model's name.

    Raises
    ------
    GalmorphError
        If there is neither such a file nor such a model.
    """
    name = str(pretrained)
    return name if name in WITHOUT_GALAXIES or Path(name).is_file() else str(find(name))


def config_for(
    data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    recipe: str = "default",
    schema: str | os.PathLike[str] | None = None,
    backbone: str = "mobilenet",
    freeze: bool | None = None,
    teacher: str | Sequence[str] | None = None,
    set: str | Sequence[str] | None = None,
    **options: Any,
) -> TrainConfig:
    """Make the configuration of a run from the options of `galmorph train`.

    Parameters
    ----------
    data : path or sequence of path
        Labelled data, as for `galmorph.training.reading.read_sample`.
    recipe, schema, backbone, freeze, teacher, set
        As the command takes them.
    **options
        Its other options by their names (``epochs``, ``pretrained``, ...), and fields of :class:`TrainConfig`.

    Raises
    ------
    TypeError
        If an option is unknown.
    GalmorphError
        If a name is unknown or a number is out of range.
    """
    if not isinstance(data, str | os.PathLike | Sequence):
        raise GalmorphError(f"train takes paths of labelled data or a TrainConfig, not a {type(data).__name__}.")
    given = {name: value for name, value in options.items() if value is not None}
    if freeze is not None:
        given["fine_tune"] = not freeze
    if teacher is not None:
        given["teachers"] = teacher
    check_keywords(config_for, given, TrainConfig)
    for name in ("teachers", "exclude", "unlabelled"):
        if name in given:
            given[name] = _several(given[name])
    schema = None if schema is None else str(schema)
    return configure(recipe, _several(data), schema, backbone, _several(set or ()), **given)


def _several(given: Any) -> tuple[str, ...]:
    """Return one or several names or paths as texts."""
    return tuple(map(str, [given] if isinstance(given, str | os.PathLike) else given))


def configure(
    recipe: str, data: Sequence[str], schema: str | None, backbone: str, settings: Sequence[str] = (), **options: Any
) -> TrainConfig:
    """Make the configuration of a run.

    Parameters
    ----------
    recipe : str
        Name of a set of options.
    data : sequence of str
    schema : str, optional
        Name, short name or TOML file; default: what the data are labelled by
        (:func:`galmorph.training.reading.infer_schema`).
    backbone : str
        Name or short name.
    settings : sequence of str
        Further options as :func:`parse_settings` reads them; they come last.
    **options
        Fields of :class:`TrainConfig` that override the recipe; None leaves it.

    Raises
    ------
    GalmorphError
        If a name is unknown or a number is out of range.
    """
    if recipe not in RECIPES:
        raise GalmorphError(registry.unknown("recipe", recipe, RECIPES))
    parsed = parse_settings(settings)
    loaded = schema_named(schema) if schema else infer_schema(data)
    chosen = {**RECIPES[recipe], **{name: value for name, value in options.items() if value is not None}}
    chosen |= {name: value for name, value in parsed.items() if "." not in name}
    inner = {
        parent: {name.partition(".")[2]: value for name, value in parsed.items() if name.startswith(f"{parent}.")}
        for parent in ("augmentation", "strong", "split")
    }
    if (lr := chosen.get("lr")) is not None:
        chosen.setdefault("head_lr", 3 * lr)
    split: Split = chosen.get("split", Split())
    chosen["split"] = replace(
        split, **{"seed": chosen.get("seed", 0), "by_class": loaded.has_classes, **inner["split"]}
    )
    chosen["strong"] = replace(STRONG_AUGMENTATION, **inner["strong"])
    chosen["augmentation"] = replace(chosen.get("augmentation", DEFAULT_AUGMENTATION), **inner["augmentation"])
    chosen["pretrained"] = start = _start(chosen.get("pretrained", TrainConfig.pretrained))
    if start == "none":
        chosen["fine_tune"] = True  # random weights are not worth freezing
    size = chosen.get("input_size", TrainConfig.input_size)
    backbone = bound_to(size, chosen.pop("backbone", "") + registry.load("backbones", backbone).name)
    loss_named(chosen.get("loss", "mse"))
    chosen.setdefault("loss", "cross_entropy" if loaded.is_classes else "mse")
    if chosen.get("schedule", "cosine") not in SCHEDULES:
        raise GalmorphError(registry.unknown("schedule", chosen["schedule"], SCHEDULES))
    if chosen.get("tensorboard") and find_spec("tensorboard") is None:
        raise GalmorphError("--set tensorboard=true needs TensorBoard: pip install tensorboard.")
    if chosen.get("refit") and (start in WITHOUT_GALAXIES or chosen.get("patience")):
        raise GalmorphError("--refit goes on from a trained model (--pretrained FILE), for all epochs (no --patience).")
    if loaded.name not in registry.own_names("schemas"):
        chosen["schema_definition"] = loaded.to_mapping()
    return TrainConfig(tuple(map(str, data)), loaded.name, registry.load("backbones", backbone).name, **chosen)
