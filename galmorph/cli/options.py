"""Panels of the help, options that several commands have, and the range that each number may have."""

from __future__ import annotations

import math
from functools import partial
from typing import Annotated, Any

import typer

from galmorph.images.sizes import MAX_INPUT_PX

# Far more than is useful: a larger number is a mistake that would only show when memory is full.
MAX_BATCH = 4096
MAX_WORKERS = 256
MAX_REQUESTS_PER_S = 10_000.0
MAX_ATTEMPTS = 100
MAX_TIMEOUT_S = 3600.0
MAX_EPOCHS = 10_000
MAX_SEEDS = 1000
MAX_SEED = 2**32 - 1
MAX_TTA = 8
MAX_HDU = 10_000

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


def positive(most: float | None = None) -> dict[str, Any]:
    """Return the keywords of an option whose number is above 0, and at most `most`."""

    def check(value: float | None) -> float | None:
        if value is not None and not (0 < value < math.inf and (most is None or value <= most)):
            raise typer.BadParameter(f"{value:g} is not above 0" + (f" and at most {most:g}." if most else "."))
        return value

    return {"callback": check}


Json = Annotated[bool, output_option("--json", help="Print one JSON object as the last line of stdout.")]
Samp = Annotated[bool, output_option("--samp", help="Send the result to TOPCAT, Aladin or DS9.")]
Device = Annotated[str, computing_option(help="auto, cpu, cuda, cuda:1, ...")]
Dtype = Annotated[str, computing_option(help="auto, float32 or bfloat16.")]
Tta = Annotated[int, computing_option(min=1, max=MAX_TTA, help="Orientations averaged, 1 to 8.")]
BatchSize = Annotated[int, computing_option(min=1, max=MAX_BATCH, help="Galaxies in a batch.")]
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
    int | None, training_option(min=1, max=MAX_INPUT_PX, help="Side of the network's input in pixels.")
]
Epochs = Annotated[
    int | None, training_option(min=1, max=MAX_EPOCHS, help="Passes through the galaxies; default the recipe's, 20.")
]
