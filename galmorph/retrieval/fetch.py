"""Retrieval: a list of targets in, their cutouts on disk; nothing lost, nothing invented, nothing asked for twice.

`fetch` reads the catalog into the folder's manifest, decides for each request whether there is anything to do, lets the
survey's source deliver what is missing through one polite client, and writes the user's table with two columns more.
What a run has done is on disk at every moment, so a run that ends in whatever way is finished by the next.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from galmorph import registry
from galmorph.errors import CatalogError, GalmorphError
from galmorph.progress import Progress, progress_bar
from galmorph.retrieval import footprint
from galmorph.retrieval import store as storage
from galmorph.retrieval.client import Limits
from galmorph.retrieval.layout import BLOCK_ROWS, GALAXY_ZOO_FACTOR, Framing, entries, layout
from galmorph.retrieval.manifest import NO_COVERAGE, Manifest, read_counts
from galmorph.retrieval.store import Step
from galmorph.retrieval.surveys import Imaging, Source, Survey
from galmorph.retrieval.workers import Run, until_signal
from galmorph.tables.catalog import Catalog, Column, open_catalog

COLUMNS = (
    Column("cutout", "str", ucd="meta.file", description="cutout of the target, relative to this table"),
    Column("fetch_status", "str", ucd="meta.code.status", description="ok, partial, no_coverage, failed or invalid"),
)
# A run of more requests is announced, with a hint at the other way.
_MANY = 5_000
# What a run is reckoned to receive, to weigh many small answers against few large ones.
_BYTES_PER_S = 10e6

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FetchSummary:
    """What became of the targets of a catalog.

    Parameters
    ----------
    targets : int
        Rows of the catalog that the run was about, the sum of the states.
    ok, partial, no_coverage, failed, invalid, pending : int
        Rows in each state.
    requests, bytes : int
        What was asked for and received.
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
    """One way to the same cutouts, and what it takes.

    Parameters
    ----------
    way : str
        ``'cutouts'``: each from the cutout service; ``'bricks'``: cut locally from whole files of the survey.
    requests, bytes : int
    """

    way: str
    requests: int
    bytes: int

    def seconds(self, rate: float) -> float:
        """Return roughly how long it takes at `rate` requests a second."""
        return self.requests / rate + self.bytes / _BYTES_PER_S


@dataclass(frozen=True)
class Plan:
    """What fetching a catalog would take.

    Parameters
    ----------
    targets : int
    ways : tuple of Way
    chosen : str
        The cheaper way.
    """

    targets: int
    ways: tuple[Way, ...]
    chosen: str

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return asdict(self)


def fetch(
    catalog: Catalog | str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    survey: str = "decals",
    layer: str | None = None,
    hips: str | None = None,
    bands: str | None = None,
    size: int = 256,
    pixscale: float | None = None,
    size_factor: float | None = None,
    extras: tuple[str, ...] = (),
    base_url: str | None = None,
    way: str | None = None,
    workers: int = 4,
    rate: float = 4.0,
    retries: int = 5,
    timeout_s: float = 120.0,
    backoff_s: float = 2.0,
    limit: int | None = None,
    retry_failed: bool = False,
    progress: bool = False,
    on_progress: Progress | None = None,
) -> FetchSummary:
    """Fetch the cutouts of a catalog's targets into a folder.

    Parameters
    ----------
    catalog : Catalog or path
        A table with positions; open it with `galmorph.tables.catalog.open_catalog` to choose its columns and frame.
    out : path
        The folder; made if it is not there. It gets ``manifest.sqlite``, the cutouts, and ``targets`` with the suffix
        of the input: the input table with the columns ``cutout`` and ``fetch_status``.
    survey : str
        A name of ``registry.names("surveys")``.
    layer : str, optional
        The survey's layer or data release. Default: the survey's usual one.
    hips : str, optional
        The identifier of a HiPS, for the survey ``hips``.
    bands : str, optional
        A letter each, in the order wanted. Default: the survey's.
    size : int
        Width and height in pixels, where galaxies are not framed by their size.
    pixscale : float, optional
        arcsec per pixel. Default: the survey's own.
    size_factor : float, optional
        Each cutout is so many times as wide as the catalog's size column says; `GALAXY_ZOO_FACTOR` is what the images
        of Galaxy Zoo span. Default: every cutout has the same width.
    extras : tuple of str
        ``'invvar'`` and ``'maskbits'``: extensions beside the image, where the survey has them.
    base_url : str, optional
        Replaces the service's address.
    way : str, optional
        ``'cutouts'`` or ``'bricks'``. Default: the cheaper one, or cutouts where `base_url` is given and the
        environment variable ``GALMORPH_BRICKS_URL`` does not say where the bricks are.
    workers, rate, retries, timeout_s, backoff_s
        See `galmorph.retrieval.client.Limits`.
    limit : int, optional
        Only the first `limit` rows.
    retry_failed : bool
        Try again what an earlier run could not get.
    progress : bool
        Show a bar (tqdm), in a script or a notebook.
    on_progress : callable, optional
        Called with the number of requests done and of all that this run has to do.

    Returns
    -------
    FetchSummary

    Raises
    ------
    GalmorphError
        If the arguments, the catalog or the folder cannot be used; nothing was asked for.
    CannotContinue
        If the service is down or the disk is full; the next run goes on.
    Interrupted
        On SIGINT or SIGTERM; the next run goes on.
    """
    started = time.monotonic()
    folder = Path(out)
    limits = Limits(workers, rate, retries, timeout_s, backoff_s)
    catalog = _opened(catalog)
    destination = _destination(catalog, folder)
    imaging = Imaging(layer, hips, tuple(bands) if bands else None, tuple(extras), base_url, folder / ".downloads")
    known: Survey = registry.load("surveys", survey)
    framing, ways = _ways(known, imaging, size, pixscale, size_factor)
    source = _choose(ways, way, catalog, framing, limits.rate, limit)
    with Manifest(folder) as manifest:
        storage.clean(folder)
        manifest.enroll(entries(catalog, survey, source, framing, footprint.load(source.footprint)), limit)
        _reconsider(manifest, folder, retry_failed)
        _announce(manifest.n_pending(), limits.rate, source, ways)
        with progress_bar(progress, "fetching", "requests", on_progress) as update:
            run = Run(manifest, source, folder, limits, update)
            try:
                until_signal(run.run())
            finally:
                manifest.add_totals(run.requests, run.bytes, time.monotonic() - started)
        storage.remove(imaging.folder)
        _write_targets(catalog, manifest, destination)
        counts = manifest.counts(limit)
    return FetchSummary(
        targets=sum(counts.values()),
        **counts,
        requests=run.requests,
        bytes=run.bytes,
        seconds=round(time.monotonic() - started, 3),
    )


def status(out: str | os.PathLike[str]) -> FetchSummary:
    """Return the state of a folder's targets and what all its runs have cost; asks no one, waits for no run.

    Raises
    ------
    OutputError
        If nothing was fetched into the folder.
    """
    counts, totals = read_counts(Path(out))
    return FetchSummary(
        targets=sum(counts.values()),
        **counts,
        requests=int(totals.get("requests", 0)),
        bytes=int(totals.get("bytes", 0)),
        seconds=round(totals.get("seconds", 0.0), 3),
    )


def plan(
    catalog: Catalog | str | os.PathLike[str],
    *,
    survey: str = "decals",
    layer: str | None = None,
    hips: str | None = None,
    bands: str | None = None,
    size: int = 256,
    pixscale: float | None = None,
    size_factor: float | None = None,
    extras: tuple[str, ...] = (),
    base_url: str | None = None,
    rate: float = 4.0,
    limit: int | None = None,
) -> Plan:
    """Return what fetching a catalog would take, without asking any server; for the parameters see `fetch`.

    Requests and bytes are of a run without failures into an empty folder. Those of cutouts are exact for a survey that
    serves each in one request; whole files (bricks, frames) are reckoned by their usual size.

    Raises
    ------
    GalmorphError
        If the arguments or the catalog cannot be used.
    """
    catalog = _opened(catalog)
    imaging = Imaging(layer, hips, tuple(bands) if bands else None, tuple(extras), base_url)
    framing, ways = _ways(registry.load("surveys", survey), imaging, size, pixscale, size_factor)
    where = layout(catalog, framing, limit)
    costs = tuple(Way(way, *source.cost(where)) for way, source in ways.items())
    n_rows = catalog.n_rows if limit is None else min(limit, catalog.n_rows)
    return Plan(n_rows, costs, min(costs, key=lambda cost: cost.seconds(rate)).way)


def _opened(catalog: Catalog | str | os.PathLike[str]) -> Catalog:
    catalog = catalog if isinstance(catalog, Catalog) else open_catalog(Path(catalog))
    if not catalog.has_positions:
        raise CatalogError(
            f"{catalog.path} has no columns of positions that galmorph knows: name them (--ra-column, --dec-column). "
            f"It has: {', '.join(catalog.column_names)}."
        )
    return catalog


def _destination(catalog: Catalog, folder: Path) -> Path:
    """Return where the table with the results goes; raise before anything is done if it could not be written."""
    suffixes = catalog.path.suffixes[-2:] if catalog.path.suffix in (".gz", ".bz2") else [catalog.path.suffix]
    destination = folder / f"targets{''.join(suffixes)}"
    if destination.exists() and destination.samefile(catalog.path):
        raise CatalogError(f"{catalog.path} would be overwritten by the run's own output: choose another --out.")
    new = {column.name for column in COLUMNS}
    taken = {name for name in catalog.column_names if name.lower() in new} - set(catalog.galmorph_columns)
    if taken:
        raise CatalogError(f"{catalog.path} has the columns {', '.join(sorted(taken))} already: rename or drop them.")
    return destination


def _ways(
    survey: Survey, imaging: Imaging, size: int, pixscale: float | None, size_factor: float | None
) -> tuple[Framing, dict[str, Source]]:
    """Return the framing, and the sources of a survey by the names of the ways."""
    ways = {"cutouts": survey.source(imaging)}
    if survey.bulk is not None and (bulk := survey.bulk(imaging)) is not None:
        ways["bricks"] = bulk
    native = ways["cutouts"].pixscale
    if pixscale is None and math.isnan(native):
        raise GalmorphError("The pixel scale of this survey is not known: give --pixscale.")
    return Framing(size, native if pixscale is None else pixscale, size_factor), ways


def _choose(
    ways: Mapping[str, Source], way: str | None, catalog: Catalog, framing: Framing, rate: float, limit: int | None
) -> Source:
    """Return the source of the way that was asked for, else of the cheapest that may be taken unasked."""
    if way is not None:
        if way not in ways:
            raise GalmorphError(registry.unknown("way", way, ways))
        return ways[way]
    unasked = {name: source for name, source in ways.items() if source.unasked}
    if len(unasked) == 1:
        return next(iter(unasked.values()))
    where = layout(catalog, framing, limit)
    return min(unasked.values(), key=lambda source: Way("", *source.cost(where)).seconds(rate))


def _announce(n: int, rate: float, source: Source, ways: Mapping[str, Source]) -> None:
    """Tell of a run that presses a service for long."""
    if n > _MANY and source is ways["cutouts"]:
        text = f"{n} targets at {rate:g} requests a second take {n / rate / 60:.0f} minutes or more."
        if "bricks" in ways:
            text += " Where they lie close together, whole bricks (--way bricks) are quicker: --dry-run compares."
        log.warning(text)


def _reconsider(manifest: Manifest, folder: Path, retry_failed: bool) -> None:
    """Make requests pending again whose files are gone or not what they were, and failed ones if so wished."""
    again = [
        key
        for key, path, state, n_bytes in manifest.finished()
        if storage.decide(state, n_bytes, storage.size(f"{folder}/{path}"), retry_failed=retry_failed) is Step.FETCH
    ]
    manifest.reopen(again)


def _write_targets(catalog: Catalog, manifest: Manifest, destination: Path) -> None:
    """Write the user's table with the columns of what became of each row."""
    width = manifest.longest_path()
    columns = [replace(COLUMNS[0], width=width), replace(COLUMNS[1], width=len(NO_COVERAGE))]
    names = [column.name for column in columns]
    blocks = (
        {name: np.array(values, object) for name, values in zip(names, zip(*rows, strict=True), strict=True)}
        for rows in manifest.results(BLOCK_ROWS)
    )
    catalog.append(destination, columns, blocks, replace=True)


__all__ = ["GALAXY_ZOO_FACTOR", "FetchSummary", "Plan", "Way", "fetch", "plan", "status"]
