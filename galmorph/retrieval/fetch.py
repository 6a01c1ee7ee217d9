"""Fetching: get the cutouts of a list of targets, each requested only once.

`fetch` reads the catalog into the folder's manifest, decides for each request whether there is anything to do, gets the
missing cutouts from the survey's source through one client, and writes the user's table with two new columns. All
progress is saved at once, so a run that ends in any way is completed by the next one.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from galmorph import registry
from galmorph.errors import CannotContinue, CatalogError, GalmorphError, OutputError
from galmorph.files.record import identity
from galmorph.files.writing import remove_leftovers
from galmorph.progress import Progress, progress_bar
from galmorph.retrieval import footprint
from galmorph.retrieval import store as storage
from galmorph.retrieval.enrolment import NO_COVERAGE
from galmorph.retrieval.layout import BLOCK_ROWS, GALAXY_ZOO_FACTOR, Layout, entries, grids, problems
from galmorph.retrieval.manifest import Manifest, read_counts
from galmorph.retrieval.options import FetchOptions
from galmorph.retrieval.store import Step
from galmorph.retrieval.surveys import Imaging, Source, Survey
from galmorph.retrieval.workers import Run, until_signal
from galmorph.tables.catalog import Catalog, Column, open_catalog

COLUMNS = (
    Column("cutout", "str", ucd="meta.file", description="cutout of the target, relative to this table"),
    Column("fetch_status", "str", ucd="meta.code.status", description="ok, partial, no_coverage, failed or invalid"),
)
# A run of more requests is announced, with a hint to the other way.
_MANY = 5_000
# Assumed download rate, to compare many small answers with few large ones.
_BYTES_PER_S = 10e6

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class FetchSummary:
    """The states of a catalog's targets after a run.

    Parameters
    ----------
    targets : int
        Rows of the catalog in this run, the sum of the states.
    ok, partial, no_coverage, failed, invalid, pending : int
        Rows in each state.
    requests, bytes : int
        Requests made and bytes received.
    seconds : float
    """

    targets: int
    ok: int
    partial: int
    no_coverage: int
    failed: int
    invalid: int
    requests: int
    bytes: int
    seconds: float
    pending: int = 0

    def as_dict(self) -> dict[str, int | float]:
        """Return the fields for JSON; ``pending`` only where there is something."""
        return {name: value for name, value in asdict(self).items() if name != "pending" or value}


@dataclass(frozen=True)
class Way:
    """One way to get the cutouts, and its costs.

    Parameters
    ----------
    way : str
        ``'cutouts'``: each from the cutout service; ``'bricks'``: cut locally from whole files of the survey.
    """

    way: str
    requests: int
    bytes: int

    def seconds(self, rate: float) -> float:
        """Return roughly how long it takes at `rate` requests a second."""
        return self.requests / rate + self.bytes / _BYTES_PER_S


@dataclass(frozen=True)
class Plan:
    """The costs of fetching a catalog.

    Parameters
    ----------
    targets : int
    ways : tuple of Way
    chosen : str
        The cheaper way.
    invalid : mapping from str to int
        Reasons why rows cannot be fetched, and numbers of rows.
    """

    targets: int
    ways: tuple[Way, ...]
    chosen: str
    invalid: Mapping[str, int] = field(default_factory=dict)


def fetch(
    catalog: Catalog | str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    options: FetchOptions | None = None,
    progress: bool | None = None,
    on_progress: Progress | None = None,
    **keywords: Any,
) -> FetchSummary:
    """Fetch the cutouts of a catalog's targets into a folder.

    Parameters
    ----------
    catalog : Catalog or path
        A table with positions; open it with `galmorph.tables.catalog.open_catalog` to choose its columns and frame.
    out : path
        The folder; made if it is not there. It gets ``manifest.sqlite``, the cutouts, and ``targets`` with the suffix
        of the input: the input table with the columns ``cutout`` and ``fetch_status``.
    options : FetchOptions, optional
        What to fetch, and how.
    progress : bool, optional
        Whether a bar (tqdm) is shown; default: in a notebook.
    on_progress : callable, optional
        Called with the number of requests done and of all that this run has to do.
    **keywords
        Single fields of `galmorph.retrieval.options.FetchOptions`, which replace those of `options`.

    Returns
    -------
    FetchSummary

    Raises
    ------
    GalmorphError
        If the arguments, the catalog or the folder cannot be used; no request was made.
    CannotContinue
        If the service is down or the disk is full; the next run continues.
    Interrupted
        On SIGINT or SIGTERM; the next run continues.

    Examples
    --------
    >>> galmorph.fetch("targets.csv", out="cutouts", survey="decals", size=256)  # doctest: +SKIP
    FetchSummary(targets=4, ok=4, ...)
    """
    started = time.monotonic()
    options = replace(options or FetchOptions(), **keywords)
    folder = Path(out)
    catalog = _opened(catalog)
    destination = _destination(catalog, folder)
    imaging = options.imaging(folder / ".downloads")
    layout, ways = _ways(imaging, options)
    source = _choose(ways, catalog, layout, options)
    with Manifest(folder) as manifest:
        storage.clean(folder)
        remove_leftovers(destination)
        covered = footprint.load(source.footprint)
        rows = entries(catalog, options.survey, source, layout, covered)
        manifest.enroll(_fixed(rows, catalog), options.limit)
        _reconsider(manifest, folder, options)
        _announce(manifest.n_pending(), options.rate, source, ways)
        with progress_bar(progress, "fetching", "requests", on_progress) as update:
            run = Run(manifest, source, folder, options.limits, update, imaging.credentials)
            try:
                until_signal(run.run())
            finally:
                manifest.add_totals(run.requests, run.bytes, time.monotonic() - started)
        shutil.rmtree(imaging.folder, ignore_errors=True)
        counts, longest = manifest.tally(options.limit)
        _write_targets(catalog, manifest, destination, longest)
    return _summary(counts, run.requests, run.bytes, time.monotonic() - started)


def _summary(counts: Mapping[str, int], requests: float, n_bytes: float, seconds: float) -> FetchSummary:
    return FetchSummary(
        targets=sum(counts.values()), **counts, requests=int(requests), bytes=int(n_bytes), seconds=round(seconds, 3)
    )


def status(out: str | os.PathLike[str]) -> FetchSummary:
    """Return the state of a folder's targets and the costs of all its runs, without any request or lock.

    Raises
    ------
    OutputError
        If nothing was fetched into the folder.
    """
    counts, totals = read_counts(Path(out))
    return _summary(counts, totals.get("requests", 0), totals.get("bytes", 0), totals.get("seconds", 0.0))


def plan(catalog: Catalog | str | os.PathLike[str], *, options: FetchOptions | None = None, **keywords: Any) -> Plan:
    """Return the costs of fetching a catalog, without any request; parameters as in `fetch`.

    Requests and bytes are those of a run without failures into an empty folder. They are exact for a survey that serves
    each cutout in one request; whole files (bricks, frames) count with their typical size.

    Raises
    ------
    GalmorphError
        If the arguments or the catalog cannot be used.
    """
    catalog = _opened(catalog)
    options = replace(options or FetchOptions(), **keywords)
    layout, ways = _ways(options.imaging(Path()), options)
    wanted = grids(catalog, layout, options.limit)
    costs = tuple(Way(way, *source.cost(wanted)) for way, source in ways.items())
    n_rows = catalog.n_rows if options.limit is None else min(options.limit, catalog.n_rows)
    chosen = min(costs, key=lambda cost: cost.seconds(options.rate)).way
    return Plan(n_rows, costs, chosen, problems(catalog, options.limit))


def _opened(catalog: Catalog | str | os.PathLike[str]) -> Catalog:
    catalog = catalog if isinstance(catalog, Catalog) else open_catalog(Path(catalog))
    if not catalog.has_positions:
        raise CatalogError(f"{catalog.path}: {catalog.no_position}")
    return catalog


def _destination(catalog: Catalog, folder: Path) -> Path:
    """Return the path of the table with the results; raise an error if it cannot be written."""
    suffixes = catalog.path.suffixes[-2:] if catalog.path.suffix in (".gz", ".bz2") else [catalog.path.suffix]
    destination = folder / f"targets{''.join(suffixes)}"
    if destination.is_symlink() or (destination.exists() and not destination.is_file()):
        raise OutputError(f"{destination} is no plain file, and the run would replace it: move it away.")
    if destination.exists() and destination.samefile(catalog.path):
        raise CatalogError(f"{catalog.path} would be overwritten by the run's own output: choose another --out.")
    new = {column.name for column in COLUMNS}
    taken = {name for name in catalog.column_names if name.lower() in new} - set(catalog.galmorph_columns)
    if taken:
        raise CatalogError(f"{catalog.path} has the columns {', '.join(sorted(taken))} already: rename or drop them.")
    if folder.is_dir():
        catalog.check_destination(destination)
    return destination


def _ways(imaging: Imaging, options: FetchOptions) -> tuple[Layout, dict[str, Source]]:
    """Return how wide the cutouts are, and the sources of a survey by the names of the ways."""
    survey: Survey = registry.load("surveys", options.survey)
    ways = {"cutouts": survey.source(imaging)}
    if survey.bulk is not None and (bulk := survey.bulk(imaging)) is not None:
        ways["bricks"] = bulk
    native = ways["cutouts"].pixscale
    if options.pixscale is None and math.isnan(native):
        raise GalmorphError("The pixel scale of this survey is not known: give --pixscale.")
    pixscale = native if options.pixscale is None else options.pixscale
    return Layout(options.size, pixscale, options.size_factor), ways


def _choose(ways: Mapping[str, Source], catalog: Catalog, layout: Layout, options: FetchOptions) -> Source:
    """Return the source of the chosen way, else the cheapest that may be chosen automatically."""
    if options.way is not None:
        if options.way not in ways:
            raise GalmorphError(registry.unknown("way", options.way, ways))
        return ways[options.way]
    automatic = [source for source in ways.values() if source.automatic]
    if len(automatic) == 1:
        return automatic[0]
    wanted = grids(catalog, layout, options.limit)
    return min(automatic, key=lambda source: Way("", *source.cost(wanted)).seconds(options.rate))


def _announce(n: int, rate: float, source: Source, ways: Mapping[str, Source]) -> None:
    """Log how long a run of many requests takes, and the other way."""
    if n > _MANY and source is ways["cutouts"]:
        text = f"{n} targets at {rate:g} requests a second take {n / rate / 60:.0f} minutes or more."
        if "bricks" in ways:
            text += " Where they lie close together, whole bricks (--way bricks) are quicker: --dry-run compares."
        log.warning(text)


def _reconsider(manifest: Manifest, folder: Path, options: FetchOptions) -> None:
    """Make requests pending again whose files are missing or changed, and failed ones on request."""
    again, renewed = [], {}
    for recorded in manifest.finished():
        path = f"{folder}/{recorded.path}"
        stamp = storage.stamp_of(path)
        step = storage.decide(recorded, stamp, retry_failed=options.retry_failed, verify=options.verify)
        if step is Step.COMPARE and stamp and storage.has_digest(Path(path), recorded.sha256):
            renewed[recorded.key] = stamp[1]
        elif step is not Step.KEEP:
            again.append(recorded.key)
            if stamp and not Path(path).parent.is_symlink():
                # Otherwise the run would adopt it as a file of a killed run.
                Path(path).unlink(missing_ok=True)
    manifest.renew(renewed)
    manifest.reopen(again)


def _fixed(blocks: Iterable[T], catalog: Catalog) -> Iterator[T]:
    """Yield blocks that are read from a catalog; raise CannotContinue if its file has changed meanwhile."""
    yield from blocks
    _check_unchanged(catalog)


def _check_unchanged(catalog: Catalog) -> None:
    if identity(catalog.path) != catalog.opened:
        raise CannotContinue(
            f"{catalog.path} was changed while the run was reading it, so its rows may be other targets now. What is "
            "done is kept; run the same command again when it is complete."
        )


def _write_targets(catalog: Catalog, manifest: Manifest, destination: Path, width: int) -> None:
    """Write the user's table with the columns of cutouts (at most `width` characters) and states."""
    columns = [replace(COLUMNS[0], width=width), replace(COLUMNS[1], width=len(NO_COVERAGE))]
    names = [column.name for column in columns]
    blocks = (
        {name: np.array(values, object) for name, values in zip(names, zip(*rows, strict=True), strict=True)}
        for rows in manifest.results(BLOCK_ROWS)
    )
    _check_unchanged(catalog)
    try:
        catalog.append(destination, columns, _fixed(blocks, catalog), replace=True)
    except OutputError as error:
        raise CannotContinue(f"{error} What is done is kept; see to it and run the same command again.") from error


__all__ = ["GALAXY_ZOO_FACTOR", "FetchOptions", "FetchSummary", "Plan", "Way", "fetch", "plan", "status"]
