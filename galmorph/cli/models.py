"""The commands on models: those that ship, and any model file."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from galmorph.cli.console import say, stdout, table_of
from galmorph.cli.options import Data, Device, Exclude, Json, output_option
from galmorph.cli.terminal import print_json

if TYPE_CHECKING:
    from galmorph.models.card import ModelCard

models_app = typer.Typer(help="The models that ship with galmorph, and any model file.", no_args_is_help=True)


@models_app.command("list")
def models_list(as_json: Json = False) -> None:
    """List the models that ship with galmorph.

    Example: galmorph models list
    """
    from galmorph.models import card

    entries = [card.describe(path) for path in card.shipped().values()]
    if not as_json:
        table = table_of("name", "labels", "scores of the test part", pad_edge=False)
        table.columns[0].min_width = max((len(entry["name"]) for entry in entries), default=0)  # it is typed again
        for entry in entries:
            scores = "\n".join(f"{name} {value:.3f}" for name, value in entry["scores"].items())
            table.add_row(entry["name"], entry["schema"], scores)
        stdout.print(table)
    print_json({"models": entries}, as_json)


@models_app.command("show")
def models_show(model: Annotated[str, typer.Argument(help="A model's name or file.")], as_json: Json = False) -> None:
    """Show what a model is for and how good it is; --json prints the whole card and its labels.

    Example: galmorph models show galaxyzoo2-mobilenet_v2
    """
    from galmorph.models.card import find, read_card

    path = find(model)
    card = read_card(path)
    if not as_json:
        stdout.print(_facts(card, path, model))
    labels = [
        {"name": label, "column": f"p_{label}", "code": code}
        for label, code in zip(card.label_schema.labels, card.label_schema.codes, strict=True)
    ]
    print_json({**json.loads(card.to_json()), "labels": labels}, as_json)


def _facts(card: ModelCard, path: Path, model: str) -> Table:
    """Return the main facts of a card, about one screen."""
    schema = card.label_schema
    sizes = sorted({entry.normalization.input_size for entry in card.inputs})
    bands = dict.fromkeys(" ".join(entry.bands) for entry in card.inputs)
    columns = ", ".join(f"p_{label}" for label in schema.labels)
    if not schema.is_classes:
        columns = "p_<question>_<answer>; questions: " + ", ".join(question.name for question in schema.questions)
    scores = [
        f"{sample}: " + ", ".join(_score(name, values) for name in ("rmse", "accuracy") if name in values)
        for sample, values in card.metrics.get("test", {}).items()
    ]
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(overflow="fold")
    for name, text in (
        ("name", card.name),
        ("what", card.description),
        ("use it for", card.intended_use),
        ("limits", card.limits),
        ("takes", f"{' or '.join(bands)} cutouts, {', '.join(map(str, sizes))} px a side"),
        ("writes", f"{len(schema.labels)} columns {columns}"),
        ("test scores", "\n".join(scores) or "none"),
        ("network", f"{card.backbone}, {path.stat().st_size / 1e6:.1f} MB, licence {card.licence}"),
        ("all of it", f"galmorph models show {shlex.quote(model)} --json"),
    ):
        if text:
            table.add_row(Text(name, style="bold"), text)
    return table


def _score(name: str, values: Mapping[str, float]) -> str:
    low, high = values.get(f"{name}_low"), values.get(f"{name}_high")
    return f"{name} {values[name]:.3f}" + (f" (95 %: {low:.3f} to {high:.3f})" if low is not None else "")


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
    from galmorph.training.evaluation.calibration import recalibrate

    calibration = recalibrate(model, data, out, device, exclude=exclude or ()).card.calibration
    say(f"Written: {out}")
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
    say(f"Written: {out}")
    print_json({"name": card.name, "backbone": card.backbone, "out": str(out)}, as_json)
