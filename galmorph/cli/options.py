"""Panels of the help, and options that several commands have."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

# ``--help`` shows each option in its panel, in the order in which a command's parameters name the panels.
catalog_option = partial(typer.Option, rich_help_panel="Catalog")
input_option = partial(typer.Option, rich_help_panel="Input")
imaging_option = partial(typer.Option, rich_help_panel="What to fetch")
service_option = partial(typer.Option, rich_help_panel="Service")
model_option = partial(typer.Option, rich_help_panel="Model")
training_option = partial(typer.Option, rich_help_panel="Training")
computing_option = partial(typer.Option, rich_help_panel="Computing")
run_option = partial(typer.Option, rich_help_panel="Run")
output_option = partial(typer.Option, rich_help_panel="Output")

Json = Annotated[bool, output_option("--json", help="Print one JSON object as the last line of stdout.")]
Device = Annotated[str, computing_option(help="auto, cpu, cuda, cuda:1, ...")]
Dtype = Annotated[str, computing_option(help="auto, float32 or bfloat16.")]
Tta = Annotated[int, computing_option(help="Orientations averaged, 1 to 8.")]
BatchSize = Annotated[int, computing_option(help="Galaxies in a batch.")]
Data = Annotated[
    list[str],
    input_option(
        help="Labelled data: a Galaxy10 .h5, a Kaggle folder, a folder with labels.csv, a catalog with "
        "a column cutout; PATH:question,... for some questions alone, PATH:width_r90=6.4,labels=SCHEMA for what the "
        "folder does not say. Several are joined."
    ),
]
Exclude = Annotated[
    list[str] | None,
    input_option(help="A CSV of galaxies (galaxy, sample and item, or GalaxyID) to leave out; may be repeated."),
]
Settings = Annotated[list[str] | None, training_option("--set", help="Another option, as mixup=0.2; may be repeated.")]
