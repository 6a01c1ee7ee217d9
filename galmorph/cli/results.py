"""Commands that look at results: select, show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from galmorph.cli.console import say, stdout, table_of
from galmorph.cli.options import Json, Samp, input_option, output_option, within
from galmorph.cli.terminal import check_hub, print_json, send_by_samp
from galmorph.errors import GalmorphError
from galmorph.ranges import WIDTH_R90

if TYPE_CHECKING:
    from galmorph.reports.show import Galaxy


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
    samp: Samp = False,
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
    if samp:
        check_hub()
    selected = run(catalog, condition, out=out, prefix=prefix, overwrite=overwrite, write=not count)
    say(f"{len(selected)} of {selected.total} rows: {selected.condition}")
    if selected.out:
        say(f"Output: {selected.out}")
    if samp and selected.out:
        send_by_samp(selected.out)
    values = {"selected": len(selected), "total": selected.total, "condition": selected.condition, "out": selected.out}
    print_json(values, as_json)


def _show_cuts(as_json: bool) -> None:
    from galmorph.selection.cuts import CUTS

    if as_json:
        print_json({name: vars(cut) for name, cut in CUTS.items()}, as_json)
        return
    table = table_of("cut", "condition")
    table.columns[0].min_width = max(map(len, CUTS))  # it is typed again
    for name, cut in CUTS.items():
        table.add_row(name, cut.condition)
    stdout.print(table)
    for source in dict.fromkeys(cut.source for cut in CUTS.values()):
        stdout.print(f"Source: {source}", soft_wrap=True)


def show(
    what: Annotated[str, typer.Argument(metavar="INPUT", help="A cutout (FITS, JPEG, PNG), or a classified catalog.")],
    row: Annotated[
        str | None, typer.Argument(help="Of a catalog: the galaxy's identifier, or the number of its row from 0.")
    ] = None,
    cutouts: Annotated[Path | None, input_option(help="Folder of the cutouts; default where the catalog says.")] = None,
    images: Annotated[list[str] | None, input_option(help="Survey images that were classified.")] = None,
    prefix: Annotated[str | None, input_option(help="Which results, where the catalog holds several.")] = None,
    size_column: Annotated[str | None, input_option(help="As it was given to galmorph classify.")] = None,
    width_r90: Annotated[
        float | None, input_option(help="Of a picture: its full width in radii (R90).", **within(WIDTH_R90))
    ] = None,
    model: Annotated[str | None, input_option(help="The model's name or file; default the catalog's.")] = None,
    out: Annotated[Path | None, output_option(help="A PNG file, instead of the terminal.")] = None,
    window: Annotated[bool, output_option("--window", help="Open a window, instead of the terminal.")] = False,
    as_json: Json = False,
) -> None:
    """Draw a galaxy as the model sees it, with its probabilities.

    Example: galmorph show ngc1300.fits

    Example: galmorph show targets_morph.fits 1237648704044957855 --out galaxy.png
    """
    from galmorph.cli.drawing import in_terminal
    from galmorph.reports.show import show as run

    options: dict[str, Any] = {"cutouts": cutouts, "images": images or (), "prefix": prefix, "size_column": size_column}
    galaxy = run(what, row, model=model, width_r90=width_r90, out=out, **options)
    if out is not None:
        say(f"Picture: {out}")
    elif window:
        _open_window(galaxy)
    elif not as_json:
        stdout.print(in_terminal(galaxy, colours=stdout.color_system in ("truecolor", "256")))
    if galaxy.picture is None:
        say(f"No picture: {galaxy.reason}")
    probabilities = dict(zip(galaxy.schema.labels, map(float, galaxy.p), strict=True))
    values = {"id": galaxy.id, "label": galaxy.label, "model": galaxy.model, "flags": galaxy.flags}
    print_json(values | {"probabilities": probabilities}, as_json)


def _open_window(galaxy: Galaxy) -> None:
    from matplotlib import pyplot

    galaxy.draw(pyplot.figure(num=galaxy.title))
    pyplot.show()
