"""The command line: one short function a command. Messages go to stderr, results to stdout."""

from __future__ import annotations

import dataclasses
import logging
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.box import SIMPLE_HEAD
from rich.logging import RichHandler
from rich.table import Table

import galmorph
from galmorph.cli.models import models_app
from galmorph.cli.options import BatchSize, Data, Device, Dtype, Json, Settings, Tta
from galmorph.cli.terminal import (
    GroupedCommand,
    print_json,
    progress,
    show_epoch,
    show_error,
    show_fetched,
    show_metrics,
    show_plan,
    show_summary,
    stderr,
    stdout,
    write_events,
)
from galmorph.environment import Variable
from galmorph.errors import GalmorphError

app = typer.Typer(
    name="galmorph",
    help="A table of positions or a survey image goes in; the same table with morphology probabilities comes out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(models_app, name="models")

DEFAULT_MODEL = "galaxyzoo2-mobilenet_v2"


@app.command()
def fetch(
    catalog: Annotated[Path, typer.Option(help="Targets: CSV, FITS, ECSV, VOTable or Parquet with positions.")],
    out: Annotated[Path, typer.Option(help="Folder of the cutouts and of the table with them.")] = Path("cutouts"),
    survey: Annotated[str, typer.Option(help="decals, sdss or hips.")] = "decals",
    layer: Annotated[str | None, typer.Option(help="ls-dr9, ls-dr10-grz, decals-dr5, ...")] = None,
    hips: Annotated[str | None, typer.Option(help="Identifier of a HiPS, for --survey hips.")] = None,
    bands: Annotated[str | None, typer.Option(help="A letter each; default the survey's.")] = None,
    extras: Annotated[str, typer.Option(help="invvar, maskbits or both (with a comma): beside the image.")] = "",
    size: Annotated[int, typer.Option(help="Pixels a side, where galaxies are not framed by size.")] = 256,
    pixscale: Annotated[float | None, typer.Option(help="Arcsec per pixel; default the survey's own.")] = None,
    size_column: Annotated[str | None, typer.Option(help="Column of sizes that frames each galaxy.")] = None,
    size_factor: Annotated[float | None, typer.Option(help="Full width in units of the column; default 8.48.")] = None,
    ra_column: Annotated[str | None, typer.Option(help="Right ascensions; default found by UCD or name.")] = None,
    dec_column: Annotated[str | None, typer.Option(help="Declinations.")] = None,
    id_column: Annotated[str | None, typer.Option(help="Identifiers.")] = None,
    frame: Annotated[str, typer.Option(help="Frame of the positions, by astropy's name.")] = "icrs",
    hdu: Annotated[int | None, typer.Option(help="HDU of the table.")] = None,
    workers: Annotated[int, typer.Option(help="Requests in flight at most.")] = 4,
    rate: Annotated[float, typer.Option(help="Requests a second at most.")] = 4.0,
    retries: Annotated[int, typer.Option(help="Attempts at most.")] = 5,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for an answer.")] = 120.0,
    base_url: Annotated[str | None, typer.Option(help="Replaces the service's address.")] = None,
    way: Annotated[str | None, typer.Option(help="cutouts or bricks; default the cheaper.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only so many rows.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try again what an earlier run missed.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Only tell how the folder stands.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what it would take.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if a target failed.")] = False,
    as_json: Json = False,
) -> None:
    """Get FITS cutouts of a list of positions; run it again to go on.

    Example: galmorph fetch --catalog targets.csv --survey decals --out cutouts
    """
    from galmorph.retrieval import fetch as retrieval
    from galmorph.tables.catalog import open_catalog

    if status:
        show_fetched(retrieval.status(out), as_json)
        return
    columns = {"ra_column": ra_column, "dec_column": dec_column, "id_column": id_column, "size_column": size_column}
    table = open_catalog(catalog, hdu=hdu, frame=frame, **columns)
    factor = size_factor or (retrieval.GALAXY_ZOO_FACTOR if size_column else None)
    options: dict[str, Any] = {"survey": survey, "layer": layer, "hips": hips, "bands": bands, "size": size}
    options |= {"pixscale": pixscale, "size_factor": factor, "base_url": base_url, "rate": rate, "limit": limit}
    options["extras"] = tuple(extras.split(",")) if extras else ()
    if dry_run:
        show_plan(retrieval.plan(table, **options), as_json)
        return
    options |= {"workers": workers, "retries": retries, "timeout_s": timeout, "retry_failed": retry_failed, "way": way}
    with progress("fetching") as on_progress:
        summary = retrieval.fetch(table, out=out, **options, on_progress=on_progress)
    show_fetched(summary, as_json)
    raise typer.Exit(1 if strict and summary.failed else 0)


@app.command()
def classify(
    survey: Annotated[Path | None, typer.Argument(help="A catalog, a cutout, a folder, or a survey image.")] = None,
    model: Annotated[str, typer.Option(help="A model's name (galmorph models list) or file.")] = DEFAULT_MODEL,
    out: Annotated[Path | None, typer.Option(help="Output; default <stem>_morph.<suffix> beside the input.")] = None,
    cutouts: Annotated[Path | None, typer.Option(help="Folder of the cutouts; default the catalog's.")] = None,
    catalog: Annotated[
        Path | None, typer.Option(help="Targets in survey images; without it galaxies are detected.")
    ] = None,
    images: Annotated[
        list[str] | None, typer.Option(help="A survey image, {band} for one file a band; repeat it for more images.")
    ] = None,
    kind: Annotated[str | None, typer.Option("--as", help="Take the input for a catalog, cutout or field.")] = None,
    hdu: Annotated[int | None, typer.Option(help="HDU of the table or image.")] = None,
    size_column: Annotated[str | None, typer.Option(help="Column of radii (R90, arcsec unless it has a unit).")] = None,
    zero_point: Annotated[
        str | None, typer.Option(help="Survey images: AB magnitude of a pixel value of 1; 30, or g=25.1,r=24.9.")
    ] = None,
    prefix: Annotated[str, typer.Option(help="Prefix of the new columns.")] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Replace galmorph's columns of an earlier run.")] = False,
    spread: Annotated[
        bool, typer.Option("--spread", help="Write p_<label>_err too: how far vote fractions scatter around p_<label>.")
    ] = False,
    tta: Tta = 1,
    batch_size: Annotated[int | None, typer.Option(help="Galaxies in a batch; default 16, on a GPU 256.")] = None,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda, cuda:1, ...; cuda:0,cuda:1 take batches in turn.")
    ] = "auto",
    dtype: Dtype = "auto",
    workers: Annotated[int | None, typer.Option(help="Threads, each with its own batches; default one a core.")] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Dask scheduler (address or file) for a HATS catalog; default this machine.")
    ] = None,
    profile: Annotated[bool, typer.Option("--profile", help="Tell where the time went.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if a target failed.")] = False,
    as_json: Json = False,
) -> None:
    """Classify galaxies and write the probabilities into a copy of the table.

    Example: galmorph classify cutouts/targets.csv --out morphology.csv

    Example: galmorph classify --images 'legacysurvey-0001p000-image-{band}.fits.fz' --catalog tractor-0001p000.fits
    """
    run = _classifier(survey, scheduler)
    options: dict[str, Any] = {"model": model, "out": out, "cutouts": cutouts, "catalog": catalog, "kind": kind}
    options |= {"images": images or (), "hdu": hdu, "size_column": size_column, "zero_point": zero_point}
    options |= {"prefix": prefix, "replace": replace, "spread": spread, "tta": tta, "batch_size": batch_size}
    options |= {"device": device, "dtype": dtype, "workers": workers, "resume": resume, "overwrite": overwrite}
    with progress("classifying") as on_progress:
        summary = run(survey, **options, on_progress=on_progress)
    show_summary(summary, profile)
    print_json(summary, as_json, leave_out=("flags", "labels", "profile"))
    raise typer.Exit(1 if strict and summary.failed else 0)


def _classifier(survey: Path | None, scheduler: str | None) -> Callable[..., Any]:
    """Return the function that classifies: a HATS catalog goes to a Dask cluster."""
    from galmorph.tables.hats import is_hats

    if survey is not None and is_hats(survey):
        from galmorph.classification.hats import classify_hats

        return partial(classify_hats, scheduler=scheduler)
    if scheduler is not None:
        raise GalmorphError("--scheduler is for HATS catalogs; other input is classified on this machine.")
    from galmorph.classification.classify import classify

    return classify


@app.command()
def train(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    schema: Annotated[str, typer.Option(help="galaxyzoo2, galaxy10_sdss, efigi, rings, ...")] = "galaxyzoo2",
    backbone: Annotated[str, typer.Option(help="mobilenet, resnet50, vgg16, mobilenet_v1, ...")] = "mobilenet",
    pretrained: Annotated[str, typer.Option(help="imagenet, none or a weights file.")] = "imagenet",
    fine_tune: Annotated[
        bool | None, typer.Option("--fine-tune/--freeze", help="Refine all weights (the default), or only the head.")
    ] = None,
    recipe: Annotated[
        str, typer.Option(help="default, galaxy10, efigi, paper-a or paper-b; single options override it.")
    ] = "default",
    epochs: Annotated[int | None, typer.Option()] = None,
    batch_size: Annotated[int | None, typer.Option()] = None,
    lr: Annotated[
        float | None, typer.Option(help="Peak learning rate of the backbone; the head's is three times it.")
    ] = None,
    patience: Annotated[
        int | None, typer.Option(help="Epochs without a better validation score; 0: never stop.")
    ] = None,
    loss: Annotated[str | None, typer.Option(help="mse, cross_entropy or dirichlet_multinomial.")] = None,
    input_size: Annotated[int | None, typer.Option(help="Side of the network's input in pixels.")] = None,
    teacher: Annotated[
        list[str] | None, typer.Option(help="A trained model to learn from beside the labels; may be repeated.")
    ] = None,
    refit: Annotated[
        bool, typer.Option("--refit", help="Train on the validation part too, from a trained model; choices are made.")
    ] = False,
    settings: Settings = None,
    seed: Annotated[int, typer.Option()] = 0,
    name: Annotated[str | None, typer.Option(help="The model's name in its card.")] = None,
    about: Annotated[Path | None, typer.Option(help="JSON with texts of the card: intended_use, limits, ...")] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    test: Annotated[
        bool, typer.Option("--test/--no-test", help="Score the test part; not while choosing options.")
    ] = True,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    as_json: Json = False,
) -> None:
    """Train a model on labelled galaxies.

    Example: galmorph train --data galaxyzoo_kaggle --schema galaxyzoo2 --backbone mobilenet --out runs/first
    """
    from galmorph.models.card import read_about
    from galmorph.training.config import configure
    from galmorph.training.train import train as run

    options: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "patience": patience, "loss": loss}
    options |= {"input_size": input_size, "pretrained": pretrained, "fine_tune": fine_tune, "seed": seed}
    options |= {"teachers": tuple(teacher) if teacher else None, "refit": refit}
    config = configure(recipe, data, schema, backbone, settings or (), **options, device=device, dtype=dtype)
    texts = read_about(about) if about else None
    metrics = run(config, out, name=name, about=texts, resume=resume, test=test, on_epoch=show_epoch)
    if not metrics:  # of several processes the first one tells
        return
    show_metrics(metrics)
    stderr.print(f"The model is {out / 'model.safetensors'}; its curves and figures lie beside it.")
    print_json(metrics, as_json)


@app.command()
def compare(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the table, the curves and the runs.")],
    schema: Annotated[str, typer.Option(help="galaxyzoo2, galaxy10_sdss, galaxy10_decals, efigi, rings.")],
    backbones: Annotated[str, typer.Option(help="Names, separated by commas.")] = "mobilenet_v1,resnet50,vgg16",
    pretrained: Annotated[str, typer.Option(help="imagenet, none or weights files, by commas.")] = "imagenet,none",
    seeds: Annotated[int, typer.Option(help="Runs of each cell, each with another split.")] = 3,
    recipe: Annotated[str, typer.Option(help="default, paper-a or paper-b.")] = "paper-b",
    epochs: Annotated[int | None, typer.Option()] = None,
    input_size: Annotated[int | None, typer.Option(help="Side of the network's input in pixels.")] = None,
    settings: Settings = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Json = False,
) -> None:
    """Compare backbones with and without pretrained weights, over several seeds.

    Example: galmorph compare --data Galaxy10.h5 --schema galaxy10_sdss --backbones mobilenet,resnet50 --out table
    """
    from galmorph.training.comparison import compare as run

    told = partial(stderr.print, markup=False)
    trained = partial(run, recipe=recipe, epochs=epochs, input_size=input_size, device=device, dtype=dtype)
    cells = (backbones.split(","), pretrained.split(","), seeds)
    result = trained(data, schema, *cells, out, on_run=told, settings=settings or ())
    stderr.print((out / "table.md").read_text(), markup=False)
    print_json(result, as_json)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="A model's name, file or training folder.")],
    data: Data,
    part: Annotated[
        str | None, typer.Option(help="test, val, train or all; default test where trained on these data.")
    ] = None,
    tta: Tta = 1,
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_size: BatchSize = 64,
    out: Annotated[Path | None, typer.Option(help="Folder for scores, predictions and figures.")] = None,
    as_json: Json = False,
) -> None:
    """Score a model on labelled galaxies, with 95 % bootstrap intervals.

    Example: galmorph evaluate galaxyzoo2-mobilenet_v2 --data galaxyzoo_kaggle --tta 8
    """
    from galmorph.models.model import load
    from galmorph.training.evaluate import evaluate as run

    options: dict[str, Any] = {
        "part": part,
        "tta": tta,
        "device": device,
        "dtype": dtype,
        "batch_size": batch_size,
        "out": out,
    }
    scores = run(load(model), data, **options)
    show_metrics({scores["part"]: {", ".join(scores["data"]): scores}})
    print_json(scores, as_json)


@app.command()
def report(
    result: Annotated[Path, typer.Argument(help="A classified catalog, or a folder of train or evaluate.")],
    out: Annotated[Path, typer.Option(help="The HTML file.")] = Path("report.html"),
    cutouts: Annotated[Path | None, typer.Option(help="Folder of the cutouts; default where the catalog says.")] = None,
    images: Annotated[list[str] | None, typer.Option(help="Survey images that were classified, for pictures.")] = None,
    figures: Annotated[Path | None, typer.Option(help="Write the figures as PNG and PDF into this folder.")] = None,
    regions: Annotated[Path | None, typer.Option(help="Write the galaxies as a region file for DS9.")] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="Labelled data, for the pictures of an evaluation's worst errors.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The model's name or file, for its colours; default as the catalog says.")
    ] = None,
    prefix: Annotated[str | None, typer.Option(help="Which results, where the catalog holds several.")] = None,
    size_column: Annotated[str | None, typer.Option(help="As it was given to galmorph classify.")] = None,
    as_json: Json = False,
) -> None:
    """Show what a run found as one HTML file that opens from disk.

    Example: galmorph report targets_morph.fits --out report.html --figures figures
    """
    from galmorph.reports.catalog import report as run

    options: dict[str, Any] = {"cutouts": cutouts, "figures_folder": figures, "data": data or (), "model": model}
    options |= {"regions": regions, "images": images or ()}
    with progress("pictures") as on_progress:
        written = run(result, out, **options, prefix=prefix, size_column=size_column, on_progress=on_progress)
    for note in written.notes:
        stderr.print(f"Note: {note}", markup=False, soft_wrap=True)
    stderr.print(f"Report: {written.out} ({written.pictures} pictures); open it in a browser.", markup=False)
    print_json(written, as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Tell what galmorph found on this machine, what is wrong, and the remedy; exit with 1 if something is wrong.

    Example: galmorph doctor --json
    """
    from galmorph.cli.doctor import examine, shown

    findings = examine()
    if not as_json:
        stdout.print(*shown(findings), sep="\n", soft_wrap=True)
    failed = any(finding.state == "wrong" for finding in findings)
    print_json({"ok": not failed, "findings": [dataclasses.asdict(finding) for finding in findings]}, as_json)
    raise typer.Exit(1 if failed else 0)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the made-up survey and the result.")] = Path("demo"),
    as_json: Json = False,
) -> None:
    """Do the main job on made-up survey data, offline, in under a minute.

    Example: galmorph demo --out demo
    """
    from galmorph.cli.demo import demo as run

    with progress("classifying") as on_progress:
        result = run(out, on_progress=on_progress)
    table = Table(
        *result.header,
        title="Made-up galaxies and what the model says of them (flag 32: unlike what it was trained on)",
        box=SIMPLE_HEAD,
    )
    for row in result.rows:
        table.add_row(*row)
    stdout.print(table)
    stderr.print(f"Catalog: {result.summary.out}\nPicture: {result.picture}\nReport:  {result.report}", markup=False)
    stderr.print(f"Open {result.report.resolve().as_uri()} in a browser.", markup=False, soft_wrap=True)
    print_json(result.summary, as_json, leave_out=("flags", "labels", "profile"))


def _show_version(wanted: bool) -> None:
    if wanted:
        print(galmorph.__version__)
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_show_version)
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.")] = False,
    log_json: Annotated[
        bool, typer.Option("--log-json", envvar=str(Variable.LOG_JSON), help="Messages and progress as JSON lines.")
    ] = False,
) -> None:
    stderr.quiet = quiet
    level = logging.ERROR if quiet else logging.INFO
    handler: logging.Handler | None = None
    if log_json:
        handler = write_events()
    elif stderr.is_terminal:
        handler = RichHandler(console=stderr, show_time=False, show_path=False)
    logging.basicConfig(
        level=logging.WARNING, format="%(levelname)s: %(message)s", handlers=[handler] if handler else None
    )
    logging.getLogger("galmorph").setLevel(level)


for _command in app.registered_commands:
    _command.cls = GroupedCommand


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


def main() -> None:
    """Run the command line; the one place where errors become exit codes."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app()
    except GalmorphError as error:
        show_error(error, error.exit_code)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
