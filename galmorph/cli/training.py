"""The commands that train and score models."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from galmorph.cli.console import say
from galmorph.cli.options import (
    BatchSize,
    Data,
    Device,
    Dtype,
    Epochs,
    Exclude,
    InputSize,
    Json,
    Settings,
    Tta,
    input_option,
    model_option,
    output_option,
    run_option,
    training_option,
    within,
)
from galmorph.cli.terminal import print_json, show_metrics, training_progress
from galmorph.errors import Interrupted
from galmorph.ranges import BATCH, LEARNING_RATE, PATIENCE, SEED, SEEDS


def train(
    *,
    data: Data,
    unlabelled: Annotated[
        list[str] | None,
        input_option(help="Pictures without labels; a model's predictions are the targets. May be repeated."),
    ] = None,
    exclude: Exclude = None,
    schema: Annotated[
        str | None,
        input_option(help="galaxyzoo2, galaxy10_sdss, efigi, rings, ... or a TOML file; default: by the data."),
    ] = None,
    backbone: Annotated[str, model_option(help="mobilenet, resnet50, vgg16, mobilenet_v1, ...")] = "mobilenet",
    pretrained: Annotated[
        str, model_option(help="imagenet, none, a model's name (galmorph models list) or a weights file.")
    ] = "imagenet",
    teacher: Annotated[
        list[str] | None, model_option(help="A trained model to learn from beside the labels; may be repeated.")
    ] = None,
    name: Annotated[str | None, model_option(help="The model's name in its card.")] = None,
    about: Annotated[Path | None, model_option(help="JSON with texts of the card: intended_use, limits, ...")] = None,
    recipe: Annotated[
        str, training_option(help="default, galaxy10, efigi, paper-a or paper-b; single options override it.")
    ] = "default",
    fine_tune: Annotated[
        bool | None, training_option("--fine-tune/--freeze", help="Refine all weights (the default), or only the head.")
    ] = None,
    epochs: Epochs = None,
    batch_size: Annotated[
        int | None, training_option(help="Galaxies in a batch; default the recipe's, 32.", **within(BATCH))
    ] = None,
    lr: Annotated[
        float | None,
        training_option(
            help="Peak learning rate of the backbone; the head's is three times it.", **within(LEARNING_RATE)
        ),
    ] = None,
    patience: Annotated[
        int | None, training_option(help="Epochs without a better validation score; 0: never stop.", **within(PATIENCE))
    ] = None,
    loss: Annotated[str | None, training_option(help="mse, cross_entropy or dirichlet_multinomial.")] = None,
    input_size: InputSize = None,
    refit: Annotated[
        bool,
        training_option("--refit", help="Train on the validation part too, from a trained model; choices are made."),
    ] = False,
    settings: Settings = None,
    seed: Annotated[int, training_option(help="Of the split and of all that is drawn at random.", **within(SEED))] = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    test: Annotated[
        bool, run_option("--test/--no-test", help="Score the test part; not while choosing options.")
    ] = True,
    resume: Annotated[bool, run_option("--resume", help="Go on with a run that was stopped.")] = False,
    out: Annotated[Path, output_option(help="Folder of the run.")],
    as_json: Json = False,
) -> None:
    """Train a model on labelled galaxies.

    Example: galmorph train --data spirals --data ellipticals --out runs/mine

    Example: galmorph train --data galaxyzoo_kaggle --schema galaxyzoo2 --backbone mobilenet --out runs/first
    """
    from galmorph.training.reading import check_paths

    check_paths((*data, *(unlabelled or ())))
    from galmorph.training.config import config_for
    from galmorph.training.train import train as run

    config = config_for(
        data,
        recipe=recipe,
        schema=schema,
        backbone=backbone,
        set=settings,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        patience=patience,
        loss=loss,
        input_size=input_size,
        pretrained=pretrained,
        fine_tune=fine_tune,
        seed=seed,
        teacher=teacher,
        refit=refit,
        exclude=exclude or (),
        unlabelled=unlabelled or (),
        device=device,
        dtype=dtype,
    )
    options: dict[str, Any] = {"name": name, "about": about, "resume": resume, "test": test}
    try:
        with training_progress() as (on_epoch, on_step):
            metrics = run(config, out, **options, on_epoch=on_epoch, on_step=on_step)
    except Interrupted as error:
        raise Interrupted(f"{error} {_again(out)}") from None
    if not metrics:  # of several processes only the first prints
        return
    part = "test" if "test" in metrics else next(iter(metrics), "")
    show_metrics({part: metrics[part]} if part else {})
    say(f"The model is {out / 'model.safetensors'}; its curves, figures and all scores (metrics.json) lie beside it.")
    print_json(metrics, as_json)


def _again(out: Path) -> str:
    """Return the command that continues this run."""
    words = ["galmorph", *sys.argv[1:]]
    if not (out / "config.json").exists():
        return f"Begin again with: {shlex.join(words)}"
    return f"Go on with: {shlex.join(words if '--resume' in words else [*words, '--resume'])}"


def compare(
    *,
    data: Data,
    schema: Annotated[str, input_option(help="galaxyzoo2, galaxy10_sdss, efigi, rings, ... or a TOML file.")],
    backbones: Annotated[str, model_option(help="Names, separated by commas.")] = "mobilenet_v1,resnet50,vgg16",
    pretrained: Annotated[
        str, model_option(help="imagenet, none, names of models or weights files, by commas.")
    ] = "imagenet,none",
    seeds: Annotated[int, training_option(help="Runs of each cell, each with another split.", **within(SEEDS))] = 3,
    recipe: Annotated[str, training_option(help="default, paper-a or paper-b.")] = "paper-b",
    epochs: Epochs = None,
    input_size: InputSize = None,
    settings: Settings = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    out: Annotated[Path, output_option(help="Folder of the table, the curves and the runs.")],
    as_json: Json = False,
) -> None:
    """Compare backbones with and without pretrained weights, over several seeds.

    Example: galmorph compare --data Galaxy10.h5 --schema galaxy10_sdss --backbones mobilenet,resnet50 --out table
    """
    from galmorph.training.reading import check_paths

    check_paths(data)
    from galmorph.training.comparison import compare as run

    result = run(
        data,
        schema,
        backbones.split(","),
        pretrained.split(","),
        seeds,
        out,
        recipe=recipe,
        on_run=say,
        epochs=epochs,
        input_size=input_size,
        device=device,
        dtype=dtype,
        settings=settings or (),
    )
    say((out / "table.md").read_text())
    print_json(result, as_json)


def evaluate(
    model: Annotated[str, typer.Argument(help="A model's name, file or training folder.")],
    data: Data,
    exclude: Exclude = None,
    part: Annotated[
        str | None, input_option(help="test, val, train or all; default test where trained on these data.")
    ] = None,
    tta: Tta = 1,
    batch_size: BatchSize = 64,
    device: Device = "auto",
    dtype: Dtype = "auto",
    out: Annotated[Path | None, output_option(help="Folder for scores, predictions and figures.")] = None,
    as_json: Json = False,
) -> None:
    """Score a model on labelled galaxies, with 95 % bootstrap intervals.

    Example: galmorph evaluate galaxyzoo2-mobilenet_v2 --data galaxyzoo_kaggle --tta 8
    """
    from galmorph.training.reading import check_paths

    check_paths(data)
    from galmorph.models.model import load
    from galmorph.training.evaluation.evaluate import evaluate as run

    scores = run(
        load(model),
        data,
        part=part,
        tta=tta,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        exclude=exclude or (),
        out=out,
    )
    show_metrics({scores["part"]: {", ".join(scores["data"]): scores}})
    print_json(scores, as_json)
