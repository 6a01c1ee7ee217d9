"""The command line: one short function for each command. Messages go to stderr, results to stdout."""

from __future__ import annotations

import dataclasses
import io
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import galmorph
from galmorph import ranges
from galmorph.cli.console import open_closed_streams, say, set_up_messages, stdout, table_of
from galmorph.cli.exits import exit_code_of
from galmorph.cli.models import models_app
from galmorph.cli.options import (
    Dtype,
    Json,
    Samp,
    Tta,
    catalog_option,
    computing_option,
    images_option,
    imaging_option,
    input_option,
    model_option,
    output_option,
    picture_option,
    run_option,
    service_option,
    within,
)
from galmorph.cli.results import select, show
from galmorph.cli.terminal import check_hub, print_json, progress, send_by_samp, show_fetched, show_plan, show_summary
from galmorph.cli.training import compare, evaluate, train
from galmorph.environment import Variable, now
from galmorph.errors import CannotContinue, GalmorphError, Interrupted, counted
from galmorph.files.remote import is_remote
from galmorph.images.sizes import MAX_SIDE_PX
from galmorph.models.card import DEFAULT_MODEL
from galmorph.registry import missing_file

if TYPE_CHECKING:
    from galmorph.classification.options import ClassifyOptions

app = typer.Typer(
    name="galmorph",
    help="A table of positions or a survey image goes in; the same table with morphology probabilities comes out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(models_app, name="models")


@app.command()
def fetch(
    targets: Annotated[Path | None, typer.Argument(help="Targets: CSV, FITS, ECSV, VOTable or Parquet.")] = None,
    catalog: Annotated[Path | None, catalog_option(help="The targets, as an option instead.")] = None,
    ra_column: Annotated[str | None, catalog_option(help="Right ascensions; default found by UCD or name.")] = None,
    dec_column: Annotated[str | None, catalog_option(help="Declinations.")] = None,
    id_column: Annotated[str | None, catalog_option(help="Identifiers.")] = None,
    size_column: Annotated[str | None, catalog_option(help="Column of sizes that frames each galaxy.")] = None,
    frame: Annotated[str | None, catalog_option(help="Frame of the positions; default the file's, else icrs.")] = None,
    hdu: Annotated[int | None, catalog_option(help="HDU of the table.", **within(ranges.HDU))] = None,
    limit: Annotated[
        int | None, catalog_option(help="Only the first rows, this many.", **within(ranges.whole(1, 10**12)))
    ] = None,
    survey: Annotated[str, imaging_option(help="decals, sdss or hips.")] = "decals",
    layer: Annotated[str | None, imaging_option(help="ls-dr9, ls-dr10-grz, decals-dr5, ...")] = None,
    hips: Annotated[str | None, imaging_option(help="Identifier of a HiPS, for --survey hips.")] = None,
    bands: Annotated[str | None, imaging_option(help="A letter each; default the survey's.")] = None,
    extras: Annotated[str, imaging_option(help="invvar, maskbits or both (with a comma): beside the image.")] = "",
    size: Annotated[
        int,
        imaging_option(help="Pixels a side; of galaxies not framed by size.", **within(ranges.whole(1, MAX_SIDE_PX))),
    ] = 256,
    pixscale: Annotated[
        float | None,
        imaging_option(help="Arcsec per pixel; default: the survey's.", **within(ranges.FETCHED_PIXSCALE)),
    ] = None,
    size_factor: Annotated[
        float | None,
        imaging_option(help="Width in units of the column; default 8.48.", **within(ranges.WIDTH_R90)),
    ] = None,
    workers: Annotated[int, service_option(help="Requests in flight at most.", **within(ranges.IN_FLIGHT))] = 4,
    rate: Annotated[float, service_option(help="Requests a second at most.", **within(ranges.RATE))] = 4.0,
    retries: Annotated[int, service_option(help="Attempts at most.", **within(ranges.ATTEMPTS))] = 5,
    timeout: Annotated[float, service_option(help="Seconds to wait at most.", **within(ranges.TIMEOUT_S))] = 120.0,
    base_url: Annotated[str | None, service_option(help="Replaces the service's address.")] = None,
    way: Annotated[str | None, service_option(help="cutouts or bricks; default the cheaper.")] = None,
    retry_failed: Annotated[bool, run_option("--retry-failed", help="Try again what an earlier run missed.")] = False,
    verify: Annotated[
        bool, run_option("--verify", help="Compare every cutout with its hash, not only size and time.")
    ] = False,
    status: Annotated[bool, run_option("--status", help="Only print the state of the folder.")] = False,
    dry_run: Annotated[bool, run_option("--dry-run", help="Only print what it would take.")] = False,
    strict: Annotated[bool, run_option("--strict", help="Exit with 1 if a target failed.")] = False,
    out: Annotated[Path, output_option(help="Folder of the cutouts and of the table with them.")] = Path("cutouts"),
    as_json: Json = False,
) -> None:
    """Get FITS cutouts of a list of positions; run it again to go on.

    Example: galmorph fetch targets.csv --survey decals --out cutouts
    """
    from galmorph.retrieval import fetch as retrieval
    from galmorph.tables.catalog import open_catalog

    if status:
        show_fetched(retrieval.status(out), as_json)
        return
    named = targets or catalog
    if named is None or (targets and catalog):
        raise GalmorphError("Name one table of targets: galmorph fetch targets.csv")
    table = open_catalog(
        named,
        hdu=hdu,
        frame=frame,
        size_column=size_column,
        ra_column=ra_column,
        dec_column=dec_column,
        id_column=id_column,
    )
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
    survey: Annotated[
        Path | None,
        typer.Argument(metavar="INPUT", help="A catalog, a cutout, a folder, or a survey image; or its address."),
    ] = None,
    cutouts: Annotated[Path | None, input_option(help="Folder of the cutouts; default the catalog's.")] = None,
    catalog: Annotated[
        Path | None, images_option(help="Targets in survey images; without it galaxies are detected.")
    ] = None,
    images: Annotated[
        list[str] | None, images_option(help="A survey image, {band} for one file a band; repeat it for more images.")
    ] = None,
    kind: Annotated[str | None, input_option("--as", help="Take the input for a catalog, cutout or field.")] = None,
    hdu: Annotated[int | None, input_option(help="HDU of the table, else of the image.", **within(ranges.HDU))] = None,
    image_hdu: Annotated[str | None, images_option(help="HDU (number or name) of the cutouts or images.")] = None,
    id_column: Annotated[str | None, catalog_option(help="Identifiers; default found by UCD or name.")] = None,
    ra_column: Annotated[str | None, catalog_option(help="Right ascensions.")] = None,
    dec_column: Annotated[str | None, catalog_option(help="Declinations.")] = None,
    cutout_column: Annotated[str | None, catalog_option(help="Paths of the cutouts.")] = None,
    frame: Annotated[str | None, catalog_option(help="Frame of the positions; default the file's, else icrs.")] = None,
    size_column: Annotated[
        str | None, catalog_option(help="Column of radii (R90, arcsec unless it has a unit).")
    ] = None,
    zero_point: Annotated[
        str | None, images_option(help="Survey images: AB magnitude of a pixel value of 1; 30, or g=25.1,r=24.9.")
    ] = None,
    width_r90: Annotated[
        float | None,
        picture_option(
            help="Full width of the pictures in the galaxy's radii (R90); Galaxy Zoo: 8.48.",
            **within(ranges.WIDTH_R90),
        ),
    ] = None,
    width_arcsec: Annotated[
        float | None, picture_option(help="Full width of the pictures in arcsec.", **within(ranges.WIDTH_ARCSEC))
    ] = None,
    model: Annotated[str, model_option(help="A model's name (galmorph models list) or file.")] = DEFAULT_MODEL,
    tta: Tta = 1,
    batch_size: Annotated[
        int | None, computing_option(help="Galaxies in a batch; default 16, on a GPU 256.", **within(ranges.BATCH))
    ] = None,
    device: Annotated[
        str, computing_option(help="auto, cpu, cuda, cuda:1, ...; cuda:0,cuda:1 take batches in turn.")
    ] = "auto",
    dtype: Dtype = "auto",
    workers: Annotated[
        int | None,
        computing_option(help="Threads, each with its own batches; default one a core.", **within(ranges.WORKERS)),
    ] = None,
    scheduler: Annotated[
        str | None, computing_option(help="Dask scheduler (address or file) for a HATS catalog; default this machine.")
    ] = None,
    resume: Annotated[bool, run_option("--resume", help="Go on with a stopped run: the default.")] = False,  # noqa: ARG001
    restart: Annotated[bool, run_option("--restart", help="Discard an unfinished run and begin anew.")] = False,
    strict: Annotated[bool, run_option("--strict", help="Exit with 1 if a target failed.")] = False,
    profile: Annotated[bool, run_option("--profile", help="Print where the time went.")] = False,
    out: Annotated[Path | None, output_option(help="Output; default <stem>_morph.<suffix> beside the input.")] = None,
    prefix: Annotated[str, output_option(help="Prefix of the new columns.")] = "",
    replace: Annotated[bool, output_option("--replace", help="Replace galmorph's columns of an earlier run.")] = False,
    spread: Annotated[
        bool,
        output_option("--spread", help="Write p_<label>_err too: how far vote fractions scatter around p_<label>."),
    ] = False,
    shares: Annotated[
        bool,
        output_option("--shares", help="Write share_<label> too: an answer's share among those who would be asked."),
    ] = False,
    columns: Annotated[
        str | None, output_option(help="Only these new columns, as morph_*,p_bar_yes; default all.")
    ] = None,
    features: Annotated[
        Path | None, output_option(help="File for the last layer's features: .parquet, .fits or .npy.")
    ] = None,
    samp: Samp = False,
    overwrite: Annotated[bool, output_option("--overwrite", help="Replace an existing output.")] = False,
    as_json: Json = False,
) -> None:
    """Classify galaxies and write the probabilities into a copy of the table.

    Example: galmorph classify cutouts/targets.csv --out morphology.csv

    Example: galmorph classify --images 'legacysurvey-0001p000-image-{band}.fits.fz' --catalog tractor-0001p000.fits
    """
    _check_that_they_exist(survey, catalog, model)
    if samp:
        check_hub()
    from galmorph.classification.options import ClassifyOptions

    options = ClassifyOptions(
        kind=kind,
        cutouts=cutouts,
        catalog=catalog,
        images=images or (),
        hdu=hdu,
        image_hdu=image_hdu,
        id_column=id_column,
        ra_column=ra_column,
        dec_column=dec_column,
        cutout_column=cutout_column,
        size_column=size_column,
        frame=frame,
        zero_point=zero_point,
        width_r90=width_r90,
        width_arcsec=width_arcsec,
        prefix=prefix,
        replace=replace,
        spread=spread,
        shares=shares,
        columns=columns or (),
        features=features,
        tta=tta,
        batch_size=batch_size,
        device=device,
        dtype=dtype,
        workers=workers,
    )
    run = _classifier(survey, options, scheduler)
    with progress("classifying") as on_progress:
        summary = run(survey, model=model, out=out, restart=restart, overwrite=overwrite, on_progress=on_progress)
    show_summary(summary, profile)
    unread = catalog is None and 0 < summary.targets == summary.flags.get("unreadable", 0)
    if unread:
        say(f"No cutout of the {summary.targets} rows could be read, so none has a probability; the reasons are above.")
    if samp:
        send_by_samp(summary.out)
    print_json(summary, as_json, leave_out=("flags", "labels", "profile"))
    raise typer.Exit(1 if unread or (strict and summary.failed) else 0)


def _check_that_they_exist(survey: Path | None, catalog: Path | None, model: str) -> None:
    """Raise a GalmorphError for a mistyped name, before the import of torch, which takes seconds."""
    from galmorph.models.card import find

    for path in filter(None, (survey, catalog)):
        if not os.path.lexists(path) and not is_remote(path) and "{band}" not in path.name:
            raise GalmorphError(missing_file(path))
    find(model)


def _classifier(survey: Path | None, options: ClassifyOptions, scheduler: str | None) -> Callable[..., Any]:
    """Return the function that classifies with these options: a HATS catalog goes to a Dask cluster."""
    from galmorph.tables.hats import is_hats

    if survey is not None and is_hats(survey):
        from galmorph.classification.hats import classify_hats

        return partial(classify_hats, scheduler=scheduler, **vars(options))
    if scheduler is not None:
        raise GalmorphError("--scheduler is for HATS catalogs; other input is classified on this machine.")
    from galmorph.classification.classify import classify

    return partial(classify, options=options)


app.command()(train)
app.command()(compare)
app.command()(evaluate)
app.command()(select)
app.command()(show)


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
    overwrite: Annotated[
        bool,
        output_option("--overwrite", help="Replace a file that is no report (or region file), but never an input."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the results of a run as one HTML file that opens from disk.

    Example: galmorph report targets_morph.fits --out report.html --figures figures
    """
    from galmorph.reports.catalog import report as run

    with progress("pictures") as on_progress:
        written = run(
            result,
            out,
            cutouts=cutouts,
            model=model,
            prefix=prefix,
            size_column=size_column,
            images=images or (),
            data=data or (),
            figures_folder=figures,
            regions=regions,
            overwrite=overwrite,
            on_progress=on_progress,
        )
    for note in written.notes:
        say(f"Note: {note}")
    say(f"Report: {written.out} ({counted(written.pictures, 'picture')}); open it in a browser.")
    print_json(written, as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check this machine: what works, what is wrong, and what to do; exit with 1 if something is wrong.

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
    title = "The shipped model on real galaxies, and on drawn ones"
    look = {"title": title, "show_edge": False, "pad_edge": False, "collapse_padding": True}
    table = table_of(*result.header, numbers=("smooth", "flag"), **look)
    for row in result.rows:
        table.add_row(*row)
    stdout.print(table)
    say(f"Picture: {result.picture}\nReport:  {result.report}\nCatalog: {result.summary.out}")
    say(f"Open {result.report.resolve().as_uri()} in a browser.")
    print_json(result.summary, as_json, leave_out=("flags", "labels", "profile"))


def _show_version(wanted: bool) -> None:
    if wanted:
        print(galmorph.__version__)
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_show_version)
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.")] = False,
    log_json: Annotated[
        bool, typer.Option("--log-json", envvar=str(Variable.LOG_JSON), help="Messages and progress as JSON lines.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print the traceback of an error.")] = False,
) -> None:
    if debug:
        os.environ[str(Variable.DEBUG)] = "1"
    set_up_messages(quiet=quiet, as_json=log_json)
    now()  # SOURCE_DATE_EPOCH is checked before any work


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_stops: list[int] = []


def _interrupt(number: int, _: object) -> None:
    """End the run in order at the first signal; at the second exit at once, which is as safe as a kill."""
    _stops.append(number)
    if len(_stops) > 1:
        with suppress(OSError):
            if sys.stderr.isatty():
                os.write(2, b"\x1b[?25h\n")  # a bar has hidden the cursor
        os._exit(Interrupted.exit_code)
    raise KeyboardInterrupt


def main() -> None:
    """Run the command line and turn errors into exit codes."""
    open_closed_streams()
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(number, _interrupt)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # escape characters that the terminal's encoding lacks
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run()
        _ignore_signals()
    except KeyboardInterrupt:
        _ignore_signals()
        code = Interrupted.exit_code
    except OSError:  # stderr is on a full disk: no message can be printed
        code = CannotContinue.exit_code
    sys.exit(_flushed(code))


def _flushed(code: int) -> int:
    """Flush both streams and return the exit code; that of a full disk if a stream cannot be written."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            code = code or CannotContinue.exit_code
    return code


def _ignore_signals() -> None:
    """Ignore signals from here on: the exit code is fixed."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _run() -> int:
    try:
        return app(prog_name="galmorph", standalone_mode=False) or 0
    except BrokenPipeError:  # the reader of stdout, such as head, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except (KeyboardInterrupt, typer.Abort):
        return Interrupted.exit_code
    except Exception as error:
        return exit_code_of(error)
