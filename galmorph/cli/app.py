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
from galmorph.cli.options import (
    BatchSize,
    Data,
    Device,
    Dtype,
    Json,
    Settings,
    Tta,
    catalog_option,
    computing_option,
    imaging_option,
    input_option,
    model_option,
    output_option,
    run_option,
    service_option,
    training_option,
)
from galmorph.cli.terminal import (
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
    catalog: Annotated[Path, catalog_option(help="Targets: CSV, FITS, ECSV, VOTable or Parquet with positions.")],
    ra_column: Annotated[str | None, catalog_option(help="Right ascensions; default found by UCD or name.")] = None,
    dec_column: Annotated[str | None, catalog_option(help="Declinations.")] = None,
    id_column: Annotated[str | None, catalog_option(help="Identifiers.")] = None,
    size_column: Annotated[str | None, catalog_option(help="Column of sizes that frames each galaxy.")] = None,
    frame: Annotated[str, catalog_option(help="Frame of the positions, by astropy's name.")] = "icrs",
    hdu: Annotated[int | None, catalog_option(help="HDU of the table.")] = None,
    limit: Annotated[int | None, catalog_option(help="Only so many rows.")] = None,
    survey: Annotated[str, imaging_option(help="decals, sdss or hips.")] = "decals",
    layer: Annotated[str | None, imaging_option(help="ls-dr9, ls-dr10-grz, decals-dr5, ...")] = None,
    hips: Annotated[str | None, imaging_option(help="Identifier of a HiPS, for --survey hips.")] = None,
    bands: Annotated[str | None, imaging_option(help="A letter each; default the survey's.")] = None,
    extras: Annotated[str, imaging_option(help="invvar, maskbits or both (with a comma): beside the image.")] = "",
    size: Annotated[int, imaging_option(help="Pixels a side, where galaxies are not framed by size.")] = 256,
    pixscale: Annotated[float | None, imaging_option(help="Arcsec per pixel; default the survey's own.")] = None,
    size_factor: Annotated[
        float | None, imaging_option(help="Full width in units of the column; default 8.48.")
    ] = None,
    workers: Annotated[int, service_option(help="Requests in flight at most.")] = 4,
    rate: Annotated[float, service_option(help="Requests a second at most.")] = 4.0,
    retries: Annotated[int, service_option(help="Attempts at most.")] = 5,
    timeout: Annotated[float, service_option(help="Seconds to wait for an answer.")] = 120.0,
    base_url: Annotated[str | None, service_option(help="Replaces the service's address.")] = None,
    way: Annotated[str | None, service_option(help="cutouts or bricks; default the cheaper.")] = None,
    retry_failed: Annotated[bool, run_option("--retry-failed", help="Try again what an earlier run missed.")] = False,
    verify: Annotated[
        bool, run_option("--verify", help="Compare every cutout with its hash, not only size and time.")
    ] = False,
    status: Annotated[bool, run_option("--status", help="Only tell how the folder stands.")] = False,
    dry_run: Annotated[bool, run_option("--dry-run", help="Only tell what it would take.")] = False,
    strict: Annotated[bool, run_option("--strict", help="Exit with 1 if a target failed.")] = False,
    out: Annotated[Path, output_option(help="Folder of the cutouts and of the table with them.")] = Path("cutouts"),
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
    options = retrieval.FetchOptions(
        survey=survey,
        layer=layer,
        hips=hips,
        bands=bands,
        size=size,
        pixscale=pixscale,
        size_factor=factor,
        extras=tuple(extras.split(",")) if extras else (),
        base_url=base_url,
        way=way,
        workers=workers,
        rate=rate,
        retries=retries,
        timeout_s=timeout,
        limit=limit,
        retry_failed=retry_failed,
        verify=verify,
    )
    if dry_run:
        show_plan(retrieval.plan(table, options=options), as_json)
        return
    with progress("fetching") as on_progress:
        summary = retrieval.fetch(table, out=out, options=options, on_progress=on_progress)
    show_fetched(summary, as_json)
    raise typer.Exit(1 if strict and summary.failed else 0)


@app.command()
def classify(
    survey: Annotated[Path | None, typer.Argument(help="A catalog, a cutout, a folder, or a survey image.")] = None,
    cutouts: Annotated[Path | None, input_option(help="Folder of the cutouts; default the catalog's.")] = None,
    catalog: Annotated[
        Path | None, input_option(help="Targets in survey images; without it galaxies are detected.")
    ] = None,
    images: Annotated[
        list[str] | None, input_option(help="A survey image, {band} for one file a band; repeat it for more images.")
    ] = None,
    kind: Annotated[str | None, input_option("--as", help="Take the input for a catalog, cutout or field.")] = None,
    hdu: Annotated[int | None, input_option(help="HDU of the table or image.")] = None,
    size_column: Annotated[str | None, input_option(help="Column of radii (R90, arcsec unless it has a unit).")] = None,
    zero_point: Annotated[
        str | None, input_option(help="Survey images: AB magnitude of a pixel value of 1; 30, or g=25.1,r=24.9.")
    ] = None,
    model: Annotated[str, model_option(help="A model's name (galmorph models list) or file.")] = DEFAULT_MODEL,
    tta: Tta = 1,
    batch_size: Annotated[int | None, computing_option(help="Galaxies in a batch; default 16, on a GPU 256.")] = None,
    device: Annotated[
        str, computing_option(help="auto, cpu, cuda, cuda:1, ...; cuda:0,cuda:1 take batches in turn.")
    ] = "auto",
    dtype: Dtype = "auto",
    workers: Annotated[
        int | None, computing_option(help="Threads, each with its own batches; default one a core.")
    ] = None,
    scheduler: Annotated[
        str | None, computing_option(help="Dask scheduler (address or file) for a HATS catalog; default this machine.")
    ] = None,
    resume: Annotated[bool, run_option("--resume", help="Go on with a run that was stopped.")] = False,
    strict: Annotated[bool, run_option("--strict", help="Exit with 1 if a target failed.")] = False,
    profile: Annotated[bool, run_option("--profile", help="Tell where the time went.")] = False,
    out: Annotated[Path | None, output_option(help="Output; default <stem>_morph.<suffix> beside the input.")] = None,
    prefix: Annotated[str, output_option(help="Prefix of the new columns.")] = "",
    replace: Annotated[bool, output_option("--replace", help="Replace galmorph's columns of an earlier run.")] = False,
    spread: Annotated[
        bool,
        output_option("--spread", help="Write p_<label>_err too: how far vote fractions scatter around p_<label>."),
    ] = False,
    overwrite: Annotated[bool, output_option("--overwrite", help="Replace an existing output.")] = False,
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
    *,
    data: Data,
    schema: Annotated[str, input_option(help="galaxyzoo2, galaxy10_sdss, efigi, rings, ...")] = "galaxyzoo2",
    backbone: Annotated[str, model_option(help="mobilenet, resnet50, vgg16, mobilenet_v1, ...")] = "mobilenet",
    pretrained: Annotated[str, model_option(help="imagenet, none or a weights file.")] = "imagenet",
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
    epochs: Annotated[int | None, training_option()] = None,
    batch_size: Annotated[int | None, training_option()] = None,
    lr: Annotated[
        float | None, training_option(help="Peak learning rate of the backbone; the head's is three times it.")
    ] = None,
    patience: Annotated[
        int | None, training_option(help="Epochs without a better validation score; 0: never stop.")
    ] = None,
    loss: Annotated[str | None, training_option(help="mse, cross_entropy or dirichlet_multinomial.")] = None,
    input_size: Annotated[int | None, training_option(help="Side of the network's input in pixels.")] = None,
    refit: Annotated[
        bool,
        training_option("--refit", help="Train on the validation part too, from a trained model; choices are made."),
    ] = False,
    settings: Settings = None,
    seed: Annotated[int, training_option()] = 0,
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
    *,
    data: Data,
    schema: Annotated[str, input_option(help="galaxyzoo2, galaxy10_sdss, galaxy10_decals, efigi, rings.")],
    backbones: Annotated[str, model_option(help="Names, separated by commas.")] = "mobilenet_v1,resnet50,vgg16",
    pretrained: Annotated[str, model_option(help="imagenet, none or weights files, by commas.")] = "imagenet,none",
    seeds: Annotated[int, training_option(help="Runs of each cell, each with another split.")] = 3,
    recipe: Annotated[str, training_option(help="default, paper-a or paper-b.")] = "paper-b",
    epochs: Annotated[int | None, training_option()] = None,
    input_size: Annotated[int | None, training_option(help="Side of the network's input in pixels.")] = None,
    settings: Settings = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    out: Annotated[Path, output_option(help="Folder of the table, the curves and the runs.")],
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
    cutouts: Annotated[Path | None, input_option(help="Folder of the cutouts; default where the catalog says.")] = None,
    images: Annotated[list[str] | None, input_option(help="Survey images that were classified, for pictures.")] = None,
    data: Annotated[
        list[str] | None, input_option(help="Labelled data, for the pictures of an evaluation's worst errors.")
    ] = None,
    model: Annotated[
        str | None, input_option(help="The model's name or file, for its colours; default as the catalog says.")
    ] = None,
    prefix: Annotated[str | None, input_option(help="Which results, where the catalog holds several.")] = None,
    size_column: Annotated[str | None, input_option(help="As it was given to galmorph classify.")] = None,
    out: Annotated[Path, output_option(help="The HTML file.")] = Path("report.html"),
    figures: Annotated[Path | None, output_option(help="Write the figures as PNG and PDF into this folder.")] = None,
    regions: Annotated[Path | None, output_option(help="Write the galaxies as a region file for DS9.")] = None,
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
    out: Annotated[Path, output_option(help="Folder for the cutouts, the catalog and the report.")] = Path("demo"),
    as_json: Json = False,
) -> None:
    """Classify real galaxies that ship with galmorph, and a few drawn ones, offline, in under a minute.

    Example: galmorph demo --out demo
    """
    from galmorph.cli.demo import demo as run

    with progress("classifying") as on_progress:
        result = run(out, on_progress=on_progress)
    title = "What the model says of real galaxies, and of drawn ones"
    table = Table(title=title, box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for name in result.header:
        table.add_column(name, justify="right" if name in ("smooth", "flag") else "left")
    for row in result.rows:
        table.add_row(*row)
    stdout.print(table)
    stderr.print(f"Picture: {result.picture}\nReport:  {result.report}\nCatalog: {result.summary.out}", markup=False)
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


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


def main() -> None:
    """Run the command line; the one place where errors become exit codes."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup starts a run
            signal.signal(number, _interrupt)
    try:
        app()
    except GalmorphError as error:
        show_error(error, error.exit_code)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
