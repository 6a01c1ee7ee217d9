"""Training: fine-tune a backbone on labelled galaxies, readable top to bottom."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from galmorph import registry
from galmorph.errors import OutputError, SampleError
from galmorph.files.record import file_sha256
from galmorph.files.writing import write_file
from galmorph.images.normalization import Normalization
from galmorph.models.backbones import Backbone
from galmorph.models.card import SUFFIX, ModelCard, find, read_card, survey_inputs
from galmorph.models.model import (
    TRAINED_CONTENTS,
    TRAINED_GALAXIES,
    Model,
    build,
    load,
    loss_named,
    probabilities,
    question_shares,
    save,
    save_with_card,
    versions,
)
from galmorph.models.predictor import Predictor, pick_dtype
from galmorph.schemas import LabelSchema
from galmorph.training import dataset as datasets
from galmorph.training import evaluate as evaluation
from galmorph.training import figures
from galmorph.training.ancestry import Ancestry, ancestry
from galmorph.training.bounded_loss import BoundedLoss
from galmorph.training.calibration import calibrate
from galmorph.training.checkpoint import Checkpoint
from galmorph.training.config import TrainConfig
from galmorph.training.dataset import Dataset, Split, galaxy_hashes, plain_view
from galmorph.training.distillation import soft_targets
from galmorph.training.predicting import predict
from galmorph.training.processes import Processes
from galmorph.training.schedule import (
    class_weights,
    epoch_order,
    galaxy_weights,
    parameter_groups,
    pieces,
    set_learning_parts,
    set_learning_rate,
)

log = logging.getLogger(__name__)

# What good models of vote fractions reach (rmse), by which squared errors are weighed against a prior.
TYPICAL_ERROR = 0.1
# The 95 % quantile of chi squared of one degree of freedom.
LIKELIHOOD_RATIO_95 = 3.841
# With TYPICAL_ERROR the ratio says too much where a question's errors are larger, as they are where few galaxies are
# known. A temperature far below 1 also multiplies what bfloat16 rounds away.
MIN_VOTED = 100


def train(
    config: TrainConfig,
    out: Path,
    *,
    name: str | None = None,
    about: Mapping[str, Any] | None = None,
    resume: bool = False,
    test: bool = True,
    on_epoch: Callable[[Mapping[str, float]], None] | None = None,
) -> dict[str, Any]:
    """Train a model and write it with its history, scores and figures.

    Parameters
    ----------
    config : TrainConfig
    out : Path
        Folder for ``model.safetensors`` and its card ``model.json``, ``history.csv``, ``metrics.json``, ``split.csv``,
        figures and the checkpoint.
    name : str, optional
        The model's name in its card; default ``<schema>-<backbone>``.
    about : mapping, optional
        Texts of the card: ``description``, ``intended_use``, ``limits``, ``licence``.
    resume : bool
        Go on from the checkpoint in ``out``.
    test : bool
        Score the test part at the end. Leave it out while options are still being chosen.
    on_epoch : callable, optional
        Called with each epoch's line of the history.

    Returns
    -------
    dict
        What ``metrics.json`` holds; empty in all but the first of several processes.

    Raises
    ------
    SampleError
        If the data cannot be used or a part of the split is empty.
    OutputError
        If ``out`` holds a run already and ``resume`` is not given, or another run is resumed.
    CannotContinue
        If the disk is full; the last checkpoint is kept.
    """
    schema: LabelSchema = registry.load("schemas", config.schema)
    processes = Processes.joined()
    device = processes.device(config.device)
    dtype = pick_dtype(config.dtype, device)
    history = processes.shared(_open_run(config, out, resume) if processes.is_first else [])

    opened = partial(
        datasets.load, config.data, schema, radii=config.radii, unlabelled=config.unlabelled, exclude=config.exclude
    )
    dataset = processes.first_then_all(lambda: opened(config.input_size))
    galaxies, classes = list(dataset.galaxies), schema.classes(dataset.fractions.numpy())
    split = config.split.fitted(galaxies, classes, len(schema.questions[0].answers))
    parts = split.parts(galaxies, classes)
    rows = {part: np.flatnonzero(parts == part) for part in datasets.PARTS}
    for part in ("train", "val"):
        if not len(rows[part]):
            raise SampleError(f"The {part} part of the split is empty: {len(dataset)} galaxies are too few.")
    if not dataset.fractions[rows["val"]].isfinite().any():
        raise SampleError("No label of the validation part is known exactly: add a sample whose labels are fractions.")
    if (error := schema.largest_tree_error(dataset.fractions.numpy())) > 0.01:
        log.warning("Some vote fractions miss their parents' sum by up to %.2f (debiased votes may).", error)
    taught = np.union1d(rows["train"], rows["val"]) if config.refit else rows["train"]
    _warn_of_rare_classes(schema, classes[taught])
    targets = dataset.fractions
    teachers = [load(teacher) for teacher in config.teachers]
    descent = ancestry(config.pretrained, teachers)
    if n_seen := descent.n_seen(dataset.galaxies[rows["test"]], dataset.contents[rows["test"]]):
        log.warning("Of %d galaxies of the test part %d are known to a start or teacher.", len(rows["test"]), n_seen)
    if config.teachers:
        targets = soft_targets(
            *(dataset, schema, teachers, config.teacher_share, split, taught),
            lambda size: dataset if size == config.input_size else opened(size),
            *(config.device, config.dtype),
        )

    torch.manual_seed(config.seed)
    backbone: Backbone = registry.load("backbones", config.backbone)
    network = build(config.backbone, len(schema.labels), config.pretrained)
    # Only now: where something is missing nothing is written, and the folder stays free for the next try.
    if processes.is_first:
        write_file(out / "config.json", config.to_json().encode())
        _write_split(out, dataset, parts)
    card = dataclasses.replace(_card(config, name, schema, backbone, dataset, parts, split, descent), **(about or {}))
    normalization = card.inputs[0].normalization
    if not config.fine_tune:
        set_learning_parts(network, backbone, config, 0)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(config.ema), use_buffers=True
    )
    optimizer = torch.optim.AdamW(parameter_groups(network, backbone, config))
    forward = torch.compile(network) if config.compile else network
    loss_of = loss_named(config.loss)
    if config.loss == "dirichlet_multinomial":
        loss_of = partial(loss_of, concentration=config.concentration)
    loss_of = BoundedLoss(loss_of, config.loss == "mse", config.bound_weight)
    weights = class_weights(schema, dataset.fractions[taught], config.class_weights).to(device)
    known = ~dataset.fractions.isnan().all(dim=1).numpy()
    # Without a teacher the averaged weights say what is in unlabelled pictures, from the second epoch on.
    untold = taught[dataset.unlabelled[taught]] if not teachers else taught[:0]
    n_steps = math.ceil(min(len(taught), config.epoch_size or len(taught)) / config.batch_size)
    state = Checkpoint(out, network, averaged, optimizer)
    if history:
        state.load()
    best = min((line["val_rmse"] for line in history), default=math.inf)
    val_bounds = [None if bound is None else bound[rows["val"]] for bound in (dataset.lower, dataset.upper)]

    for epoch in range(len(history), config.epochs):
        if config.patience and _stale(history) >= config.patience:
            log.info("No better validation score for %d epochs: stopped.", config.patience)
            break
        # All randomness of an epoch follows from seed and epoch: a resumed run draws the same numbers.
        seed = config.seed * 100_003 + epoch
        torch.manual_seed(seed + processes.rank * 10**9)
        generator = torch.Generator().manual_seed(seed)
        if len(untold) and epoch:
            said = probabilities(schema, _logits(averaged.module, dataset, untold, normalization, device, dtype))
            targets = targets.index_copy(0, torch.from_numpy(untold), said)
        learnt = taught if epoch else np.setdiff1d(taught, untold)
        order = epoch_order(learnt, known, config.epoch_size, generator)
        if not processes.is_first:
            generator.manual_seed(seed + processes.rank * 10**9)
        started, total, step = time.perf_counter(), 0.0, 0
        set_learning_parts(network, backbone, config, epoch)
        for piece in pieces(dataset, targets, order, config, epoch, generator, device, processes):
            set_learning_rate(optimizer, config, (epoch + step / n_steps))
            if piece.share:
                inputs = normalization.network_input(piece.rgb).contiguous(memory_format=torch.channels_last)
                with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                    logits = forward(inputs)
                each = piece.weights if config.unlabelled else None
                if config.class_weights:
                    each = galaxy_weights(schema, piece.targets, weights) * piece.weights
                bounds = (piece.lower, piece.upper)
                loss = loss_of(schema, logits.float(), piece.targets, each, piece.votes, *bounds) * piece.share
                if not torch.isfinite(loss):
                    raise SampleError(
                        f"The loss is {loss.item()} in epoch {epoch + 1}: lower --lr. Checkpoint kept in {out}."
                    )
                loss.backward()
                total += loss.item()
            if piece.ends_batch:
                processes.sum_gradients(network.parameters())
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                averaged.update_parameters(network)
                step += 1
        processes.average_statistics(network, averaged)
        if config.ema == 0:
            averaged.module.load_state_dict(network.state_dict())
        train_loss = processes.total(total, device) / n_steps
        line: dict[str, float] = {}
        if processes.is_first:
            val_logits = _logits(averaged.module, dataset, rows["val"], normalization, device, dtype)
            predicted = probabilities(schema, val_logits).numpy()
            val_rmse = _rmse(dataset.fractions[rows["val"]], predicted)
            line = {
                "epoch": epoch + 1,
                "train_loss": train_loss,
                "val_loss": loss_of(schema, val_logits, dataset.fractions[rows["val"]], None, None, *val_bounds).item(),
                "val_rmse": val_rmse,
                "val_accuracy": _accuracy(schema, dataset.fractions[rows["val"]], predicted),
                "seconds": time.perf_counter() - started,
            }
            if val_rmse < best or config.refit:
                best = val_rmse
                save(Model(card, averaged.module), out / f"best{SUFFIX}", half=False)
            state.save([*history, line])
            _write_history(out, [*history, line])
            if config.tensorboard:
                _write_events(out, line)
            if on_epoch:
                on_epoch(line)
        history.append(processes.shared(line))
    processes.leave()
    if not processes.is_first:
        return {}

    # In the 16 bits in which they are saved: what is fitted and scored from here on is true of the file.
    network = load(out / f"best{SUFFIX}").network.half().float()
    val_logits = _logits(network.eval(), dataset, rows["val"], normalization, torch.device("cpu"), torch.float32)
    if config.refit:
        calibration = load(config.pretrained).card.calibration
    else:
        calibration = _fit_temperature(schema, val_logits, dataset.fractions[rows["val"]], config.loss)
    trained = np.flatnonzero(parts != "test")
    model = Model(
        dataclasses.replace(card, calibration=calibration),
        network,
        descent.merged(
            {
                TRAINED_GALAXIES: torch.from_numpy(galaxy_hashes(list(dataset.galaxies[trained]))),
                TRAINED_CONTENTS: torch.from_numpy(dataset.contents[trained]),
            }
        ),
    )
    model = calibrate(model, dataset, rows["train"], rows["val"], config.device)
    scored = [part for part, wanted in (("val", not config.refit), ("test", test)) if wanted]
    metrics = _score(model, dataset, rows, config.device, scored)
    figures.save(figures.learning_curves(history), out / "learning_curves.png")
    shown = rows["test" if test and len(rows["test"]) else "val"]
    predicted = predict(Predictor(model, config.device, "float32"), dataset, shown)
    figures.evaluation_figures(out, schema, dataset.fractions[shown].numpy(), predicted)
    model.card = dataclasses.replace(model.card, metrics=metrics)
    save_with_card(model, out / f"model{SUFFIX}")
    write_file(out / "metrics.json", (json.dumps(metrics, indent=1, sort_keys=True) + "\n").encode())
    return metrics


def _open_run(config: TrainConfig, out: Path, resume: bool) -> list[dict[str, float]]:
    """Return the history so far, after checking that ``out`` is this run's folder."""
    saved = out / "config.json"
    if resume:
        if not saved.exists():
            raise OutputError(f"There is no run to resume in {out}.")
        if saved.read_bytes() != config.to_json().encode():
            raise OutputError(f"The run in {out} had other options (see {saved}): give the same ones to resume it.")
        return Checkpoint.history(out)
    if saved.exists():
        raise OutputError(f"{out} holds a run already: give another --out, or --resume to go on with it.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {out} cannot be made: {error.strerror}.") from error
    return []


def _card(
    config: TrainConfig,
    name: str | None,
    schema: LabelSchema,
    backbone: Backbone,
    dataset: Dataset,
    parts: NDArray[np.str_],
    split: Split,
    descent: Ancestry,
) -> ModelCard:
    options = dataclasses.asdict(config)
    # A card holds no paths of a machine.
    for option in ("data", "unlabelled"):
        options[option] = [Path(path).resolve().name for path in getattr(config, option)]
    options["exclude"] = [entry["name"] for entry in dataset.excluded]
    options["excluded"], options["ancestors"] = list(dataset.excluded), list(descent.models)
    options["teachers"] = [
        {"name": read_card(path).name, "sha256": file_sha256(path)} for path in map(find, config.teachers)
    ]
    if config.pretrained not in ("imagenet", "none"):
        options["pretrained"] = Path(config.pretrained).name
    return ModelCard(
        name=name or f"{config.schema}-{config.backbone.rpartition(':')[2]}",
        backbone=config.backbone,
        schema=config.schema,
        inputs=survey_inputs(config.input_size, dataset.framing, backbone.mean, backbone.std),
        description=schema.description,
        trained_on=tuple(_samples(dataset, parts)),
        split=split.card(),
        training=options,
        versions=versions(),
    )


def _samples(dataset: Dataset, parts: NDArray[np.str_]) -> Iterator[dict[str, Any]]:
    """Yield what a card says of each sample."""
    first = 0
    for sample in dataset.samples:
        n_train = int((parts[first : first + len(sample)] == "train").sum())
        first += len(sample)
        entry: dict[str, Any] = {"name": sample.name, "sha256": sample.sha256, "n": len(sample), "n_train": n_train}
        entry |= {"n_skipped": len(sample.skipped)} if sample.skipped else {}
        yield entry | ({} if sample.labelled else {"labelled": False})


@torch.no_grad()
def _logits(
    network: nn.Module,
    dataset: Dataset,
    rows: NDArray[np.int64],
    normalization: Normalization,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    network.eval()
    parts = []
    for start in range(0, len(rows), 64):
        images, _ = dataset.batch(rows[start : start + 64])
        inputs = normalization.network_input(plain_view(images.to(device), dataset.view, normalization.input_size))
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            parts.append(network(inputs.contiguous(memory_format=torch.channels_last)).float().cpu())
    return torch.cat(parts)


def _rmse(truth: Tensor, predicted: NDArray[np.float32]) -> float:
    known = ~truth.isnan().numpy()
    return float(np.sqrt(np.square(predicted - truth.numpy())[known].mean()))


def _accuracy(schema: LabelSchema, truth: Tensor, predicted: NDArray[np.float32]) -> float:
    """Return how often the first question's most probable answer is right, NaN where no answer is known."""
    first = schema.slices[0]
    known = ~truth[:, first].isnan().any(dim=1)
    right = predicted[known.numpy(), first].argmax(axis=1) == truth[known][:, first].argmax(dim=1).numpy()
    return float(right.mean()) if len(right) else math.nan


def _stale(history: list[dict[str, float]]) -> int:
    """Return for how many epochs the validation score has not been better."""
    values = [line["val_rmse"] for line in history]
    return len(values) - 1 - int(np.argmin(values)) if values else 0


def _fit_temperature(schema: LabelSchema, logits: Tensor, fractions: Tensor, loss: str) -> dict[str, Any]:
    """Fit one temperature a question on the validation part: by squares, or by the likelihood of the votes.

    A question keeps 1 where the votes do not speak against it (likelihood ratio, 5 %): of few galaxies a temperature is
    mostly chance, and makes the probabilities of others worse. So does one whose fractions fewer than `MIN_VOTED` have.
    """
    log_t = torch.zeros(len(schema.questions), requires_grad=True)
    optimizer = torch.optim.LBFGS([log_t], max_iter=100, line_search_fn="strong_wolfe")
    known, votes = ~fractions.isnan(), fractions.nan_to_num()

    def misfit(log_t: Tensor) -> Tensor:
        """Minus the log likelihood: of the votes, or of fractions with errors of TYPICAL_ERROR."""
        temperature = log_t.exp().unbind()
        if loss != "mse":
            return -(votes * question_shares(schema, logits, temperature).clamp(min=1e-9).log()).sum()
        return (((probabilities(schema, logits, temperature) - votes) * known) / TYPICAL_ERROR).square().sum() / 2

    def closure() -> Tensor:
        optimizer.zero_grad()
        # The weak prior keeps a question that few galaxies tell of near 1.
        total = misfit(log_t) + log_t.square().sum()
        total.backward()
        return total

    optimizer.step(closure)
    fitted = log_t.detach()
    without = fitted * ~torch.eye(len(fitted), dtype=torch.bool)  # one question after the other at 1
    gain = torch.stack([misfit(each) for each in without]) - misfit(fitted)
    told = 2 * gain > LIKELIHOOD_RATIO_95
    if loss == "mse":
        told &= torch.stack([known[:, part].any(dim=1).sum() >= MIN_VOTED for part in schema.slices])
    fitted = fitted.where(told, 0.0)
    temperature = [round(t, 4) for t in fitted.exp().tolist()]
    method = f"temperature of each question by {loss}"
    return {"method": method, "fitted_on": "val", "n": len(logits), "temperature": temperature}


def _score(
    model: Model, dataset: Dataset, rows: Mapping[str, NDArray[np.int64]], device: str, parts: Sequence[str]
) -> dict[str, Any]:
    """Score parts of each sample in float32, at one orientation (``test``) and averaged over eight (``test_tta8``)."""
    result: dict[str, Any] = {}
    for tta, suffix in ((1, ""), (8, "_tta8")):
        predictor = Predictor(model, device, "float32", tta)
        for part in parts:
            for sample in dataset.sha256:
                chosen = rows[part][(dataset.source == sample)[rows[part]] & ~dataset.unlabelled[rows[part]]]
                truth = dataset.fractions[chosen].numpy()
                if np.isfinite(truth).any():
                    predicted = predict(predictor, dataset, chosen)
                    scores = evaluation.scores(
                        model.schema, truth, predicted, set_threshold=model.card.set_threshold(tta)
                    )
                    result.setdefault(part + suffix, {})[sample] = scores
    return result


def _warn_of_rare_classes(schema: LabelSchema, classes: NDArray[np.int64]) -> None:
    """Tell of classes that the training part has two examples of at most: what is said of them is hardly learnt."""
    if not schema.has_classes:
        return
    counts = np.bincount(classes[classes >= 0], minlength=len(schema.questions[0].answers))
    rare = [
        f"{answer} ({count})" for answer, count in zip(schema.questions[0].answers, counts, strict=True) if count < 3
    ]
    if rare:
        log.warning("Classes with fewer than 3 examples to train on, which cannot be told well: %s.", ", ".join(rare))


def _write_events(out: Path, line: Mapping[str, float]) -> None:
    """Add an epoch's line to the folder that TensorBoard shows."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(out / "tensorboard")) as writer:
        for name, value in line.items():
            writer.add_scalar(name, value, int(line["epoch"]))


def _write_split(out: Path, dataset: Dataset, parts: NDArray[np.str_]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("sample", "galaxy", "part"))
    writer.writerows(zip(dataset.source, dataset.galaxies, parts, strict=True))
    write_file(out / "split.csv", text.getvalue().encode())


def _write_history(out: Path, history: list[dict[str, float]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, history[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_file(out / "history.csv", text.getvalue().encode())
