"""The command line's ``models``: those that ship, and any model file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from galmorph.cli.options import Data, Device, Exclude, Json, output_option
from galmorph.cli.terminal import print_json, stderr, stdout

models_app = typer.Typer(help="The models that ship with galmorph, and any model file.", no_args_is_help=True)


@models_app.command("list")
def models_list(as_json: Json = False) -> None:
    """List the models that ship with galmorph.

    Example: galmorph models list
    """
    from galmorph.models import card

    entries = [card.describe(path) for path in card.shipped().values()]
    table = Table("name", "schema", "backbone", "size", "scores")
    for entry in entries:
        told = ", ".join(f"{name} {value:.3f}" for name, value in entry["scores"].items())
        table.add_row(entry["name"], entry["schema"], entry["backbone"], f"{entry['bytes'] / 1e6:.1f} MB", told)
    if not as_json:
        stdout.print(table)
    print_json({"models": entries}, as_json)


@models_app.command("show")
def models_show(model: Annotated[str, typer.Argument(help="A model's name or file.")], as_json: Json = False) -> None:
    """Show a model's card and its labels.

    Example: galmorph models show galaxyzoo2-mobilenet_v2
    """
    from galmorph.models import card

    found = card.read_card(card.find(model))
    schema = found.label_schema
    labels = [
        {"name": label, "column": f"p_{label}", "code": code}
        for label, code in zip(schema.labels, schema.codes, strict=True)
    ]
    if not as_json:
        stdout.print_json(found.to_json())
        table = Table("label", "column", "code")
        for label in labels:
            table.add_row(*label.values())
        stdout.print(table)
    print_json({**json.loads(found.to_json()), "labels": labels}, as_json)


@models_app.command("calibrate")
def models_calibrate(
    model: Annotated[str, typer.Argument(help="A model's name, file or training folder.")],
    *,
    data: Data,
    exclude: Exclude = None,
    out: Annotated[Path, output_option(help="The new weights file, .safetensors; its card is written beside it.")],
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Give a trained model sets of classes and a score of unlikeness, as training does at its end.

    Example: galmorph models calibrate runs/mine --data efigi --out mine.safetensors
    """
    from galmorph.training.calibration import recalibrate

    calibration = recalibrate(model, data, out, device, exclude=exclude or ()).card.calibration
    stderr.print(f"Written: {out}", markup=False)
    print_json(calibration, as_json)


@models_app.command("join")
def models_join(
    models: Annotated[list[str], typer.Argument(help="Names, files or training folders of two models or more.")],
    out: Annotated[Path, output_option(help="The new weights file, .safetensors; its card is written beside it.")],
    as_json: Json = False,
) -> None:
    """Make one model of several that answer the same questions about the same pictures: an ensemble.

    Example: galmorph models join runs/a runs/b runs/c --out ensemble.safetensors
    """
    from galmorph.models.ensemble import join

    card = join(models, out).card
    stderr.print(f"Written: {out}", markup=False)
    print_json({"name": card.name, "backbone": card.backbone, "out": str(out)}, as_json)
