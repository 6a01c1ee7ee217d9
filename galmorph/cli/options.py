"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
Dtype = Annotated[str, typer.Option(help="auto, float32 or bfloat16.")]
Tta = Annotated[int, typer.Option(help="Orientations averaged, 1 to 8.")]
BatchSize = Annotated[int, typer.Option(help="Galaxies in a batch.")]
Data = Annotated[
    list[str],
    typer.Option(
        help="Labelled data: a Galaxy10 .h5, a Kaggle folder, a folder with labels.csv, a catalog with "
        "a column cutout; PATH:question,... for some questions alone. Several are joined."
    ),
]
Settings = Annotated[list[str] | None, typer.Option("--set", help="Another option, as mixup=0.2; may be repeated.")]
