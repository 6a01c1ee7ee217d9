"""Panels of the help, and options that several commands have."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import typer

from galmorph.images.sizes import MAX_INPUT_PX
from galmorph.ranges import BATCH, EPOCHS, ORIENTATIONS, Range, whole

# ``--help`` shows each option in its panel, in the order in which a command's parameters name the panels.
catalog_option = partial(typer.Option, rich_help_panel="Catalog")
input_option = partial(typer.Option, rich_help_panel="Input")
picture_option = partial(typer.Option, rich_help_panel="Pictures (JPEG, PNG)")
images_option = partial(typer.Option, rich_help_panel="Survey images")
imaging_option = partial(typer.Option, rich_help_panel="What to fetch")
service_option = partial(typer.Option, rich_help_panel="Service")
model_option = partial(typer.Option, rich_help_panel="Model")
training_option = partial(typer.Option, rich_help_panel="Training")
computing_option = partial(typer.Option, rich_help_panel="Computing")
run_option = partial(typer.Option, rich_help_panel="Run")
output_option = partial(typer.Option, rich_help_panel="Output")


def within(allowed: Range) -> dict[str, Any]:
    """Return the keywords of an option whose number must be in a range."""
    if allowed.whole:
        return {"min": int(allowed.least), "max": int(allowed.most)}

    def check(value: float | None) -> float | None:
        if value is not None and value not in allowed:
            raise typer.BadParameter(f"{value:g} is not {allowed}.")
        return value

    return {"callback": check}


Json = Annotated[bool, output_option("--json", help="Print one JSON object as the last line of stdout.")]
Samp = Annotated[bool, output_option("--samp", help="Send the result to TOPCAT, Aladin or DS9.")]
Device = Annotated[str, computing_option(help="auto, cpu, cuda, cuda:1, ...")]
Dtype = Annotated[str, computing_option(help="auto, float32 or bfloat16.")]
Tta = Annotated[int, computing_option(help="Orientations averaged, 1 to 8.", **within(ORIENTATIONS))]
BatchSize = Annotated[int, computing_option(help="Galaxies in a batch.", **within(BATCH))]
Data = Annotated[
    list[str],
    input_option(
        help="Labelled data: a folder for each class, a folder of such folders (or of train, val and test that hold "
        "them), a table with columns of files and labels, a folder with labels.csv, a Galaxy10 .h5, a Kaggle folder. "
        "Several are joined. Options go behind a colon, as in PATH:label_column=NAME, PATH:width_r90=6.4, "
        "PATH:labels=SCHEMA, or PATH:question,... for some questions alone."
    ),
]
Exclude = Annotated[
    list[str] | None,
    input_option(help="A CSV of galaxies (galaxy, sample and item, or GalaxyID) to leave out; may be repeated."),
]
Settings = Annotated[list[str] | None, training_option("--set", help="Another option, as mixup=0.2; may be repeated.")]
InputSize = Annotated[
    int | None, training_option(help="Side of the network's input in pixels.", **within(whole(1, MAX_INPUT_PX)))
]
Epochs = Annotated[
    int | None, training_option(help="Passes through the galaxies; default the recipe's, 20.", **within(EPOCHS))
]
