"""Commands that look at results: select."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from galmorph.cli.console import say, stdout
from galmorph.cli.options import Json, input_option, output_option
from galmorph.cli.terminal import print_json
from galmorph.errors import GalmorphError


def select(
    catalog: Annotated[Path | None, typer.Argument(help="A classified catalog.")] = None,
    condition: Annotated[
        str | None, typer.Argument(help="Such as 'spiral >= 0.5 and edge_on < 0.3', or a named cut.")
    ] = None,
    prefix: Annotated[str | None, input_option(help="Which results, where the catalog holds several.")] = None,
    cuts: Annotated[bool, input_option("--cuts", help="List the named cuts and where they come from.")] = False,
    out: Annotated[
        Path | None, output_option(help="Output; default <stem>_selected.<suffix> beside the catalog.")
    ] = None,
    count: Annotated[bool, output_option("--count", help="Only count the rows.")] = False,
    overwrite: Annotated[bool, output_option("--overwrite", help="Replace an existing output.")] = False,
    as_json: Json = False,
) -> None:
    """Select rows of a classified catalog by a condition on its columns and labels.

    Example: galmorph select targets_morph.fits 'spiral >= 0.5 and edge_on < 0.3'

    Example: galmorph select targets_morph.fits 'gz2_bar and share_bar_yes >= 0.5' --out barred.fits
    """
    from galmorph.selection.select import select as run

    if cuts:
        _show_cuts(as_json)
        return
    if catalog is None or condition is None:
        raise GalmorphError("Name a catalog and a condition: galmorph select targets_morph.fits 'spiral >= 0.5'")
    selected = run(catalog, condition, out=out, prefix=prefix, overwrite=overwrite, write=not count)
    say(f"{len(selected)} of {selected.total} rows: {selected.condition}")
    if selected.out:
        say(f"Output: {selected.out}")
    values = {"selected": len(selected), "total": selected.total, "condition": selected.condition, "out": selected.out}
    print_json(values, as_json)


def _show_cuts(as_json: bool) -> None:
    from galmorph.selection.cuts import CUTS

    if as_json:
        print_json({name: vars(cut) for name, cut in CUTS.items()}, as_json)
        return
    table = Table("cut", "condition", box=SIMPLE_HEAD)
    for name, cut in CUTS.items():
        table.add_row(name, cut.condition)
    stdout.print(table)
    for source in dict.fromkeys(cut.source for cut in CUTS.values()):
        stdout.print(f"Source: {source}", soft_wrap=True)
