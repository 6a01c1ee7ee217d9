"""A training run, opened: its data, split, network and optimizer, ready for the first or the next epoch."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from galmorph import registry
from galmorph.errors import OutputError, SampleError, counted
from galmorph.files.lock import locked
from galmorph.files.record import file_sha256, is_continued, write_record
from galmorph.files.writing import write_csv, write_file
from galmorph.images.normalization import Normalization
from galmorph.models.backbones import Backbone
from galmorph.models.card import ModelCard, find, read_card, survey_inputs
from galmorph.models.model import Model, build, load, versions
from galmorph.models.predictor import pick_dtype
from galmorph.schemas import LabelSchema
from galmorph.training import dataset as datasets
from galmorph.training.ancestry import Ancestry, ancestry
from galmorph.training.checkpoint import Checkpoint
from galmorph.training.config import WITHOUT_GALAXIES, TrainConfig
from galmorph.training.dataset import Dataset, n_seen
from galmorph.training.distillation import soft_targets
from galmorph.training.learnt_labels import learnt_labels, warn_of_unlearnt
from galmorph.training.losses import BoundedLoss, loss_named
from galmorph.training.processes import Processes
from galmorph.training.reading import plain
from galmorph.training.schedule import averaging, class_weights, freeze_layers, parameter_groups
from galmorph.training.split import PARTS, Split

log = logging.getLogger(__name__)

# How many answers are named in the first lines of a run.
_NAMED = 6
_PURPOSES = ("to learn from", "to validate", "to test")
STATE = "state.json"


@dataclass(frozen=True)
class Labels:
    """The labelled galaxies of a run, their split and their targets.

    Attributes
    ----------
    parts : ndarray of str, shape (n,)
        ``train``, ``val`` or ``test`` for each galaxy.
    learnt : ndarray of int64
        Rows to learn from.
    targets : Tensor, float32, shape (n, n_labels)
        Labels, mixed with predictions of the teachers.
    self_labelled : ndarray of int64
        Unlabelled rows whose targets are predictions of the averaged weights, from the second epoch on.
    exact : ndarray of bool, shape (n,)
        Which galaxies have a label that is more than a bound.
    """

    dataset: Dataset
    split: Split
    parts: NDArray[np.str_]
    learnt: NDArray[np.int64]
    targets: Tensor
    self_labelled: NDArray[np.int64]
    exact: NDArray[np.bool_]

    @cached_property
    def rows(self) -> dict[str, NDArray[np.int64]]:
        """Rows of each part."""
        return {part: np.flatnonzero(self.parts == part) for part in PARTS}


@dataclass(frozen=True)
class Run:
    """An opened training run.

    Attributes
    ----------
    out : Path
        The run's folder.
    card : ModelCard
        The card of the model, without calibration and scores.
    descent : Ancestry
        Models that it starts and learns from.
    network, averaged : nn.Module
        The trained weights, and their moving average, which is validated and kept.
    history : list of dict
        The epochs so far.
    """

    config: TrainConfig
    out: Path
    schema: LabelSchema
    labels: Labels
    card: ModelCard
    descent: Ancestry
    network: nn.Module
    averaged: torch.optim.swa_utils.AveragedModel
    optimizer: torch.optim.Optimizer
    history: list[dict[str, float]]
    processes: Processes
    device: torch.device
    dtype: torch.dtype

    @property
    def dataset(self) -> Dataset:
        """The labelled galaxies."""
        return self.labels.dataset

    @property
    def backbone(self) -> Backbone:
        """The network's entry of the registry."""
        return registry.load("backbones", self.config.backbone)

    @property
    def normalization(self) -> Normalization:
        """How pictures become network inputs."""
        return self.card.inputs[0].normalization

    @property
    def checkpoint(self) -> Checkpoint:
        """The state of the run, saved after each epoch."""
        return Checkpoint(self.out, self.network, self.averaged, self.optimizer)

    @cached_property
    def loss(self) -> BoundedLoss:
        """The loss of a batch."""
        loss = loss_named(self.config.loss)
        if self.config.loss == "dirichlet_multinomial":
            loss = partial(loss, concentration=self.config.concentration)
        return BoundedLoss(loss, self.config.loss == "mse", self.config.bound_weight)

    @cached_property
    def class_weights(self) -> Tensor:
        """Weight of each answer of the first question, shape (n_answers,)."""
        fractions = self.dataset.fractions[self.labels.learnt]
        return class_weights(self.schema, fractions, self.config.class_weights).to(self.device)


@contextmanager
def locked_folder(out: Path) -> Iterator[None]:
    """Lock a run's folder, and make it if needed: no other run can train in it meanwhile.

    Raises
    ------
    OutputError
        If another run trains in it, or it cannot be written.
    """
    is_new = not out.exists()
    lock = locked(out / ".lock", f"training in {out}")
    try:
        yield
    finally:
        with lock, suppress(OSError):
            (out / ".lock").unlink()
            if is_new:  # a run that could not begin leaves nothing
                out.rmdir()


def open_run(
    config: TrainConfig, out: Path, name: str | None, about: Mapping[str, Any], resume: bool, processes: Processes
) -> Run:
    """Read the data, build the network, and load the checkpoint where a run is resumed.

    Raises
    ------
    SampleError
        If the data cannot be used or a part of the split is empty.
    OutputError
        If ``out`` holds a run already and ``resume`` is not given, or another run is resumed: with other options,
        labels, pictures or teachers.
    """
    schema = config.label_schema
    device = processes.device(config.device)
    history = processes.shared(_open_folder(config, out, resume) if processes.is_first else [])
    if processes.is_first:
        _log_start(config, schema, device, len(history))

    # First of all: weights may be absent, and reading many pictures takes long.
    torch.manual_seed(config.seed)
    backbone: Backbone = registry.load("backbones", config.backbone)
    network = build(config.backbone, len(schema.labels), config.pretrained)
    opened = partial(
        datasets.load, config.data, schema, radii=config.radii, unlabelled=config.unlabelled, exclude=config.exclude
    )
    dataset = processes.first_then_all(lambda: opened(config.input_size))
    teachers = [load(teacher) for teacher in config.teachers]
    labels = _labels(config, schema, dataset, opened, teachers)
    state = {"samples": dataset.sha256, "split": _digest(dataset, labels.parts), "teachers": _teachers(config)}
    if resume and processes.is_first:
        is_continued(out / STATE, state, resume=True, anew="train anew in another folder")
    descent = ancestry(config.pretrained, teachers)
    test = labels.rows["test"]
    if n := n_seen(descent.trained, dataset.galaxies[test], dataset.contents[test]):
        log.warning("Of %d galaxies of the test part %d are known to a start or teacher.", len(test), n)

    # Not earlier: if something is missing, nothing is written and the folder stays free for the next try.
    if processes.is_first:
        write_record(out / STATE, state)
        write_file(out / "config.json", config.to_json().encode())
        rows = zip(dataset.source, dataset.galaxies, labels.parts, strict=True)
        write_csv(out / "split.csv", ("sample", "galaxy", "part"), rows)
    learnt = learnt_labels(schema, dataset, labels.learnt, [*teachers, *descent.start])
    warn_of_unlearnt(schema, learnt)
    card = dataclasses.replace(_card(config, name, schema, backbone, labels, descent), learnt=learnt, **about)
    if not config.fine_tune:
        freeze_layers(network, backbone, config, 0)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=averaging(config.ema), use_buffers=True)
    optimizer = torch.optim.AdamW(parameter_groups(network, backbone, config))
    dtype = pick_dtype(config.dtype, device)
    run = Run(
        *(config, out, schema, labels, card, descent, network, averaged, optimizer, history),
        *(processes, device, dtype),
    )
    if history:
        run.checkpoint.load()
    return run


def _log_start(config: TrainConfig, schema: LabelSchema, device: torch.device, n_done: int) -> None:
    """Log model, data, schema and device before any picture is read."""
    data = ", ".join(plain(path).resolve().name for path in config.data)
    answers = schema.questions[0].answers if schema.is_classes else tuple(q.name for q in schema.questions)
    what = f"{len(answers)} {'classes' if schema.is_classes else 'questions'}"
    named = ", ".join(answers[:_NAMED]) + (", ..." if len(answers) > _NAMED else "")
    start = {"imagenet": "ImageNet's weights", "none": "fresh weights"}.get(config.pretrained, config.pretrained)
    where = f"cpu, {counted(torch.get_num_threads(), 'thread')}" if device.type == "cpu" else str(device)
    epochs = (
        f"epochs {n_done + 1} to {config.epochs}"
        if n_done
        else f"{config.epochs} epoch{'s' if config.epochs > 1 else ''}"
    )
    layers = "all layers" if config.fine_tune else "the last layer"
    log.info("Training %s (%s, from %s) on %s.", config.backbone, layers, start, data)
    log.info("Schema %s: %s (%s). %s on %s.", schema.name, what, named, epochs, where)


def _labels(
    config: TrainConfig,
    schema: LabelSchema,
    dataset: Dataset,
    opened: Callable[[int], Dataset],
    teachers: list[Model],
) -> Labels:
    """Split the galaxies and set their targets."""
    galaxies, classes = list(dataset.galaxies), schema.classes(dataset.fractions.numpy())
    split = config.split.fitted(galaxies, classes, len(schema.questions[0].answers))
    parts = dataset.parts(split, classes)
    for part in ("train", "val"):
        if part not in parts:
            raise SampleError(f"The {part} part of the split is empty: {len(dataset)} galaxies are too few.")
    if not dataset.fractions[parts == "val"].isfinite().any():
        raise SampleError("No label of the validation part is known exactly: add a sample whose labels are fractions.")
    if (error := schema.largest_tree_error(dataset.fractions.numpy())) > 0.01:
        log.warning("Some vote fractions miss their parents' sum by up to %.2f (debiased votes may).", error)
    learnt = np.flatnonzero((parts == "train") | ((parts == "val") & config.refit))
    counts = ", ".join(f"{(parts == part).sum()} {what}" for part, what in zip(PARTS, _PURPOSES, strict=True))
    log.info("%d galaxies: %s.", len(dataset), counts)
    _log_own_splits(dataset, parts)
    _warn_of_rare_classes(schema, classes[learnt])
    targets = dataset.fractions_of_twins()
    exact = ~targets.isnan().all(dim=1).numpy()
    if teachers:
        targets = soft_targets(
            *(dataclasses.replace(dataset, fractions=targets), schema, teachers, config.teacher_share, split, learnt),
            lambda size: dataset if size == config.input_size else opened(size),
            *(config.device, config.dtype),
        )
    self_labelled = learnt[:0] if teachers else learnt[dataset.unlabelled[learnt]]
    return Labels(dataset, split, parts, learnt, targets, self_labelled, exact)


def _log_own_splits(dataset: Dataset, parts: NDArray[np.str_]) -> None:
    """Log which samples have their own split, and warn of pictures in both its training and another subset."""
    divided = [sample for sample in dataset.samples if sample.parts is not None]
    for sample in divided:
        given = set(sample.parts) if sample.parts is not None else set()
        drawn = "" if "val" in given else "; those to validate are drawn from train"
        log.info(
            "%s is divided already, into %s: that is kept%s.",
            sample.name,
            ", ".join(part for part in PARTS if part in given),
            drawn,
        )
    in_training = np.isin(dataset.contents, dataset.contents[parts == "train"])
    if divided and (twice := int((in_training & (parts != "train")).sum())):
        pictures = counted(twice, "picture")
        log.warning("%s to validate or test are among those to learn from too: scores are too good.", pictures)


def _open_folder(config: TrainConfig, out: Path, resume: bool) -> list[dict[str, float]]:
    """Return the history so far, after checking that ``out`` is this run's folder."""
    saved = out / "config.json"
    if resume:
        if not (saved.exists() and (out / STATE).exists()):
            raise OutputError(f"There is no run to resume in {out}.")
        if saved.read_bytes() != config.to_json().encode():
            raise OutputError(f"The run in {out} had other options (see {saved}): give the same ones to resume it.")
        return Checkpoint.history(out)
    if saved.exists():
        raise OutputError(f"{out} holds a run already: give another --out, or --resume to go on with it.")
    return []


def _digest(dataset: Dataset, parts: NDArray[np.str_]) -> str:
    """Return a hash of the split: the part of each galaxy, in order."""
    lines = "\n".join(f"{galaxy}\t{part}" for galaxy, part in zip(dataset.galaxies, parts, strict=True))
    return hashlib.sha256(lines.encode()).hexdigest()


def _teachers(config: TrainConfig) -> list[dict[str, str]]:
    return [{"name": read_card(path).name, "sha256": file_sha256(path)} for path in map(find, config.teachers)]


def _card(
    config: TrainConfig,
    name: str | None,
    schema: LabelSchema,
    backbone: Backbone,
    labels: Labels,
    descent: Ancestry,
) -> ModelCard:
    dataset = labels.dataset
    options = dataclasses.asdict(config)
    del options["schema_definition"]  # has its own field
    # A card holds no paths of a machine.
    for option in ("data", "unlabelled"):
        options[option] = [Path(path).resolve().name for path in getattr(config, option)]
    options["exclude"] = [entry["name"] for entry in dataset.excluded]
    options["excluded"], options["ancestors"] = list(dataset.excluded), list(descent.models)
    options["teachers"] = _teachers(config)
    if config.pretrained not in WITHOUT_GALAXIES:
        options["pretrained"] = Path(config.pretrained).name
    return ModelCard(
        name=name or f"{config.schema}-{config.backbone.rpartition(':')[2]}",
        backbone=config.backbone,
        schema=config.schema,
        schema_definition=config.schema_definition,
        inputs=survey_inputs(config.input_size, dataset.framing, backbone.mean, backbone.std),
        description=schema.description,
        trained_on=tuple(_sample_entries(dataset, labels.parts)),
        split=labels.split.card(),
        training=options,
        versions=versions(),
    )


def _sample_entries(dataset: Dataset, parts: NDArray[np.str_]) -> Iterator[dict[str, Any]]:
    """Yield the entry of each sample in the card."""
    first = 0
    for sample in dataset.samples:
        n_train = int((parts[first : first + len(sample)] == "train").sum())
        first += len(sample)
        entry: dict[str, Any] = {"name": sample.name, "sha256": sample.sha256, "n": len(sample), "n_train": n_train}
        entry |= {"n_skipped": len(sample.skipped)} if sample.skipped else {}
        yield entry | ({} if sample.labelled else {"labelled": False})


def _warn_of_rare_classes(schema: LabelSchema, classes: NDArray[np.int64]) -> None:
    """Warn of classes with one or two examples to train on."""
    if not schema.has_classes:
        return
    counts = np.bincount(classes[classes >= 0], minlength=len(schema.questions[0].answers))
    rare = [
        f"{answer} ({count})" for answer, count in zip(schema.questions[0].answers, counts, strict=True) if count < 3
    ]
    if rare:
        listed = ", ".join(rare)
        log.warning("Classes with fewer than 3 examples to train on, which the model will hardly learn: %s.", listed)
