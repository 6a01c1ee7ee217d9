"""Training: fine-tune a backbone on labelled galaxies."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from galmorph.errors import Interrupted, SampleError
from galmorph.files.writing import write_csv, write_file
from galmorph.models.card import SUFFIX, read_about
from galmorph.models.model import TRAINED_CONTENTS, TRAINED_GALAXIES, Model, load, probabilities, save, save_with_card
from galmorph.models.predictor import Predictor
from galmorph.progress import Progress, TrainingStep, progress_bar
from galmorph.schemas import LabelSchema
from galmorph.training.batches import micro_batches
from galmorph.training.checkpoint import Checkpoint
from galmorph.training.config import TrainConfig, config_for
from galmorph.training.dataset import Dataset, galaxy_hashes
from galmorph.training.evaluation import figures
from galmorph.training.evaluation.calibration import calibrate
from galmorph.training.evaluation.predicting import network_inputs, predict
from galmorph.training.evaluation.scores import scores
from galmorph.training.evaluation.temperature import fit_temperature
from galmorph.training.processes import Processes
from galmorph.training.run import Run, locked_folder, open_run
from galmorph.training.schedule import epoch_order, freeze_layers, galaxy_weights, set_learning_rate

log = logging.getLogger(__name__)


def train(
    data: TrainConfig | str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    name: str | None = None,
    about: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    resume: bool = False,
    test: bool = True,
    progress: bool | None = None,
    on_epoch: Callable[[Mapping[str, float]], None] | None = None,
    on_step: Callable[[TrainingStep], None] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Train a model and write it with its history, scores and figures.

    Parameters
    ----------
    data : path, sequence of path or TrainConfig
        Labelled data (a folder for each class, a table, ...), or the configuration of the whole run.
    out : path
        Folder for ``model.safetensors`` and its card ``model.json``, ``history.csv``, ``metrics.json``, ``split.csv``,
        figures and the checkpoint.
    name : str, optional
        The model's name in its card; default ``<schema>-<backbone>``.
    about : mapping or path, optional
        Texts of the card: ``description``, ``intended_use``, ``limits``, ``licence``; or a JSON file with them.
    resume : bool
        Go on from the checkpoint in ``out``.
    test : bool
        Whether to score the test part at the end. Leave it out while you choose options.
    progress : bool, optional
        Whether a bar (tqdm) is shown; default: in a notebook.
    on_epoch : callable, optional
        Called with each epoch's line of the history.
    on_step : callable, optional
        Called after each batch.
    **options
        The options of `galmorph train` by their names, such as ``epochs=10, freeze=True``, and fields of
        :class:`~galmorph.training.config.TrainConfig`.

    Returns
    -------
    dict
        What ``metrics.json`` holds; empty in all but the first of several processes.

    Raises
    ------
    SampleError
        If the data cannot be used or a part of the split is empty.
    OutputError
        If ``out`` holds a run already and ``resume`` is not given, another run is resumed, or one is going on there.
    CannotContinue
        If the disk is full; the last checkpoint is kept.
    Interrupted
        On Ctrl-C; finished epochs are kept.
    """
    if isinstance(data, TrainConfig) and options:
        raise TypeError(f"galmorph.train: {', '.join(options)}: the TrainConfig has all options.")
    config = data if isinstance(data, TrainConfig) else config_for(data, **options)
    texts = read_about(Path(about)) if isinstance(about, str | os.PathLike) else about or {}
    out = Path(out)
    processes = Processes.joined()
    with locked_folder(out) if processes.is_first else nullcontext():
        try:
            run = open_run(config, out, name, texts, resume, processes)
            with progress_bar(progress, "training", "batches", None) as bar:
                fit(run, on_epoch, _each_step(on_step, bar))
            processes.leave()
            return finish(run, test=test) if processes.is_first else {}
        except KeyboardInterrupt:
            raise Interrupted(_stopped(out)) from None


def _each_step(on_step: Callable[[TrainingStep], None] | None, bar: Progress | None) -> Callable[[TrainingStep], None]:
    """Return what is called after each batch."""

    def each(step: TrainingStep) -> None:
        if on_step:
            on_step(step)
        if bar:
            bar((step.epoch - 1) * step.batches + step.batch, step.epochs * step.batches)

    return each


def _stopped(out: Path) -> str:
    """Return the message about a run that was stopped."""
    if not (out / "config.json").exists():
        return "Stopped before the first epoch: nothing is kept."
    n = len(Checkpoint.history(out))
    kept = "no epoch is finished" if not n else "the first epoch is kept" if n == 1 else f"{n} epochs are kept"
    return f"Stopped: {kept} in {out}."


def fit(
    run: Run,
    on_epoch: Callable[[Mapping[str, float]], None] | None,
    on_step: Callable[[TrainingStep], None] | None = None,
) -> None:
    """Train the remaining epochs; keep the best weights, a checkpoint and the history after each."""
    config, processes = run.config, run.processes
    forward = torch.compile(run.network) if config.compile else run.network
    targets = run.labels.targets
    best = min((line["val_rmse"] for line in run.history), default=math.inf)
    began, before = time.perf_counter(), len(run.history)

    def on_batch(epoch: int, batch: int, batches: int, loss: float) -> None:
        if on_step and processes.is_first:
            done = (epoch - before) * batches + batch
            left = (config.epochs - before) * batches - done
            seconds = (time.perf_counter() - began) / done * left
            on_step(TrainingStep(epoch + 1, config.epochs, batch, batches, loss, seconds))

    for epoch in range(len(run.history), config.epochs):
        if config.patience and _stale(run.history) >= config.patience:
            log.info("No better validation score for %d epochs: stopped.", config.patience)
            break
        started = time.perf_counter()
        # All randomness of an epoch follows from seed and epoch: a resumed run draws the same numbers.
        seed = config.seed * 100_003 + epoch
        torch.manual_seed(seed + processes.rank * 10**9)
        if epoch:
            targets = _with_own_predictions(run, targets)
        train_loss = _train_epoch(run, forward, targets, epoch, torch.Generator().manual_seed(seed), on_batch)
        line: dict[str, float] = {}
        if processes.is_first:
            line = {"epoch": epoch + 1, "train_loss": train_loss, **_validate(run)}
            line["seconds"] = time.perf_counter() - started
            if line["val_rmse"] < best or config.refit:
                best = line["val_rmse"]
                save(Model(run.card, run.averaged.module), run.out / f"best{SUFFIX}", half=False)
            run.checkpoint.save([*run.history, line])
            write_csv(run.out / "history.csv", line, [[each[name] for name in line] for each in (*run.history, line)])
            if config.tensorboard:
                _write_events(run.out, line)
            if on_epoch:
                on_epoch(line)
        run.history.append(processes.shared(line))


def _train_epoch(
    run: Run,
    forward: Callable[[Tensor], Tensor],
    targets: Tensor,
    epoch: int,
    generator: torch.Generator,
    on_batch: Callable[[int, int, int, float], None],
) -> float:
    """Train an epoch and return its mean loss."""
    config, processes, labels = run.config, run.processes, run.labels
    learnt = labels.learnt if epoch else np.setdiff1d(labels.learnt, labels.self_labelled)
    order = epoch_order(learnt, labels.exact, config.epoch_size, generator)
    if not processes.is_first:
        generator.manual_seed(generator.initial_seed() + processes.rank * 10**9)
    n_steps = math.ceil(min(len(labels.learnt), config.epoch_size or len(labels.learnt)) / config.batch_size)
    freeze_layers(run.network, run.backbone, config, epoch)
    total, step = 0.0, 0
    for batch in micro_batches(run.dataset, targets, order, config, epoch, generator, run.device, processes):
        set_learning_rate(run.optimizer, config, epoch + step / n_steps)
        if batch.share:
            inputs = run.normalization.network_input(batch.rgb).contiguous(memory_format=torch.channels_last)
            with torch.autocast(run.device.type, run.dtype, enabled=run.dtype != torch.float32):
                logits = forward(inputs)
            weights = batch.weights if config.unlabelled else None
            if config.class_weights:
                weights = galaxy_weights(run.schema, batch.targets, run.class_weights) * batch.weights
            bounds = (batch.lower, batch.upper)
            loss = run.loss(run.schema, logits.float(), batch.targets, weights, batch.votes, *bounds) * batch.share
            loss.backward()
            # Only now: a GPU has its work of the whole step before it is waited for.
            if not math.isfinite(value := loss.item()):
                raise SampleError(
                    f"The loss is {value} in epoch {epoch + 1}: lower --lr. Checkpoint kept in {run.out}."
                )
            total += value
        if batch.ends_batch:
            processes.sum_gradients(run.network.parameters())
            run.optimizer.step()
            run.optimizer.zero_grad(set_to_none=True)
            run.averaged.update_parameters(run.network)
            step += 1
            on_batch(epoch, step, n_steps, total / step)
    processes.average_statistics(run.network, run.averaged)
    if config.ema == 0:
        run.averaged.module.load_state_dict(run.network.state_dict())
    return processes.total(total, run.device) / n_steps


def _with_own_predictions(run: Run, targets: Tensor) -> Tensor:
    """Return the targets with the averaged weights' predictions for unlabelled galaxies that no teacher labels."""
    rows = run.labels.self_labelled
    if not len(rows):
        return targets
    logits = _logits(run, rows, run.averaged.module, run.device, run.dtype)
    return targets.index_copy(0, torch.from_numpy(rows), probabilities(run.schema, logits))


def _validate(run: Run) -> dict[str, float]:
    """Return loss, rmse and accuracy of the averaged weights on the validation part."""
    rows = run.labels.rows["val"]
    truth = run.dataset.fractions[rows]
    bounds = [None if bound is None else bound[rows] for bound in (run.dataset.lower, run.dataset.upper)]
    logits = _logits(run, rows, run.averaged.module, run.device, run.dtype)
    predicted = probabilities(run.schema, logits).numpy()
    return {
        "val_loss": run.loss(run.schema, logits, truth, None, None, *bounds).item(),
        "val_rmse": _rmse(truth, predicted),
        "val_accuracy": _accuracy(run.schema, truth, predicted),
    }


def finish(run: Run, *, test: bool) -> dict[str, Any]:
    """Calibrate the best weights, score them, draw the figures, and write the model; return ``metrics.json``."""
    config, out, schema, dataset, rows = run.config, run.out, run.schema, run.dataset, run.labels.rows
    # Rounded to 16 bits as in the file: what is fitted and scored from here on holds for the saved model.
    network = load(out / f"best{SUFFIX}").network.half().float()
    logits = _logits(run, rows["val"], network.to(run.device), run.device, torch.float32)
    if config.refit:
        calibration = load(config.pretrained).card.calibration
    else:
        calibration = fit_temperature(schema, logits, dataset.fractions[rows["val"]], config.loss)
    seen = np.flatnonzero(run.labels.parts != "test")
    hashes = {
        TRAINED_GALAXIES: torch.from_numpy(galaxy_hashes(dataset.galaxies[seen])),
        TRAINED_CONTENTS: torch.from_numpy(dataset.contents[seen]),
    }
    model = Model(dataclasses.replace(run.card, calibration=calibration), network.cpu(), run.descent.merged(hashes))
    model = calibrate(model, dataset, rows["train"], rows["val"], config.device)
    scored = [part for part, wanted in (("val", not config.refit), ("test", test)) if wanted]
    metrics = _score(model, dataset, rows, config.device, scored)
    _warn_if_no_better_than_mean(run)
    figures.save(figures.learning_curves(run.history), out / "learning_curves.png")
    shown = rows["test" if test and len(rows["test"]) else "val"]
    predicted = predict(Predictor(model, config.device, "float32"), dataset, shown)
    figures.evaluation_figures(out, schema, dataset.fractions[shown].numpy(), predicted)
    model.card = dataclasses.replace(model.card, metrics=metrics)
    save_with_card(model, out / f"model{SUFFIX}")
    write_file(out / "metrics.json", (json.dumps(metrics, indent=1, sort_keys=True) + "\n").encode())
    return metrics


def _warn_if_no_better_than_mean(run: Run) -> None:
    """Warn if the best epoch is no better than predicting the mean of the training labels for every galaxy."""
    fractions, rows = run.dataset.fractions, run.labels.rows
    mean = fractions[rows["train"]].nanmean(dim=0)
    truth = fractions[rows["val"]]
    has_label = ~truth.isnan() & ~mean.isnan()
    if run.config.refit or not has_label.any():
        return
    chance = float((truth - mean)[has_label].square().mean().sqrt())
    best = min(line["val_rmse"] for line in run.history)
    if best >= chance:
        log.warning(
            "The model is no better than the mean of the labels (validation rmse %.3f, the mean's %.3f): it needs "
            "more galaxies, more --epochs or another --lr.",
            *(best, chance),
        )


@torch.no_grad()
def _logits(run: Run, rows: NDArray[np.int64], network: nn.Module, device: torch.device, dtype: torch.dtype) -> Tensor:
    network.eval()
    parts = []
    for inputs in network_inputs(run.dataset, rows, run.normalization, device):
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            parts.append(network(inputs.contiguous(memory_format=torch.channels_last)).float().cpu())
    return torch.cat(parts)


def _rmse(truth: Tensor, predicted: NDArray[np.float32]) -> float:
    has_label = ~truth.isnan().numpy()
    return float(np.sqrt(np.square(predicted - truth.numpy())[has_label].mean()))


def _accuracy(schema: LabelSchema, truth: Tensor, predicted: NDArray[np.float32]) -> float:
    """Return how often the first question's most probable answer is right, NaN where no galaxy has a label."""
    first = schema.slices[0]
    has_label = ~truth[:, first].isnan().any(dim=1)
    right = predicted[has_label.numpy(), first].argmax(axis=1) == truth[has_label][:, first].argmax(dim=1).numpy()
    return float(right.mean()) if len(right) else math.nan


def _stale(history: list[dict[str, float]]) -> int:
    """Return the number of epochs since the best validation score."""
    values = [line["val_rmse"] for line in history]
    return len(values) - 1 - int(np.argmin(values)) if values else 0


def _score(
    model: Model, dataset: Dataset, rows: Mapping[str, NDArray[np.int64]], device: str, parts: Sequence[str]
) -> dict[str, Any]:
    """Score parts of each sample in float32, at one orientation (``test``) and averaged over eight (``test_tta8``)."""
    result: dict[str, Any] = {}
    for tta, suffix in ((1, ""), (8, "_tta8")):
        predictor = Predictor(model, device, "float32", tta)
        for part in parts:
            for sample, in_sample in dataset.scored.items():
                chosen = rows[part][in_sample[rows[part]] & ~dataset.unlabelled[rows[part]]]
                truth = dataset.fractions[chosen].numpy()
                if np.isfinite(truth).any():
                    predicted = predict(predictor, dataset, chosen)
                    result.setdefault(part + suffix, {})[sample] = scores(
                        model.schema, truth, predicted, set_threshold=model.card.set_threshold(tta)
                    )
    return result


def _write_events(out: Path, line: Mapping[str, float]) -> None:
    """Add an epoch's line to the folder that TensorBoard shows."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(out / "tensorboard")) as writer:
        for name, value in line.items():
            writer.add_scalar(name, value, int(line["epoch"]))
