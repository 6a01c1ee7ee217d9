"""HATS catalogs: each partition is classified by a worker of a Dask cluster.

A worker opens a file of a partition by its path, classifies it like any Parquet catalog, and writes the result under
the same name into a hidden folder beside the output. Only paths and counts pass through Dask, so any cluster works
whose machines see the same files. When all partitions are done, the files that describe the catalog are written, and
the folder gets its name. A resumed run skips finished files, and continues the others after their last whole batch.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import galmorph
from galmorph.classification.classify import classify
from galmorph.classification.opening import open_source
from galmorph.classification.options import ClassifyOptions
from galmorph.classification.output_columns import wanted_columns
from galmorph.classification.provenance import provenance
from galmorph.classification.sources import file_state
from galmorph.classification.summary import Summary
from galmorph.errors import CannotContinue, GalmorphError, Interrupted, OutputError
from galmorph.files.lock import locked
from galmorph.files.record import as_json, file_sha256, is_continued, read_record, write_record
from galmorph.files.writing import exists_already, write_errors
from galmorph.models.model import load
from galmorph.models.predictor import Predictor, pick_device, pick_dtype
from galmorph.progress import progress_bar
from galmorph.tables.formats import Card
from galmorph.tables.hats import HatsCatalog, is_hats, open_hats, swap

if TYPE_CHECKING:
    from distributed import Client, Future

log = logging.getLogger(__name__)

# Options of classify that are not for HATS catalogs.
_OTHERS = ("kind", "catalog", "images", "hdu", "zero_point", "features")
# How many unreadable partitions a message lists.
_LISTED_FAILURES = 5
_CONNECT_S = 30
# Folders in the hidden folder beside the output.
_FOLDERS = ("catalog", "notes", "replaced")
_AGAIN = "What is done is kept; go on with the same command."
_LOADING = threading.Lock()


def classify_hats(
    survey: str | Path,
    *,
    model: str | Path = "galaxyzoo2-mobilenet_v2",
    out: str | Path | None = None,
    cutouts: str | Path | None = None,
    tta: int = 1,
    device: str = "auto",
    dtype: str = "auto",
    workers: int | None = None,
    scheduler: str | Path | None = None,
    client: Client | None = None,
    restart: bool = False,
    overwrite: bool = False,
    progress: bool | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Summary:
    """Classify the galaxies of a HATS catalog or collection on a Dask cluster; write it with the new columns.

    Parameters
    ----------
    survey : path
        The catalog's folder. Workers open it, the model and the cutouts under the same paths.
    model, tta, device, dtype
        As for :func:`galmorph.classify`; ``auto`` is settled by the first worker, for all of them.
    out : path, optional
        The folder to write; default ``<name>_morph`` beside the catalog.
    cutouts : path, optional
        Folder that the cutout paths are relative to, and may not leave; default: the catalog's.
    workers : int, optional
        Processes of a cluster on this machine, default one a core; with a GPU, threads of one process.
    scheduler : str or path, optional
        The address of a running scheduler (``tcp://...``) or its scheduler file; default what Dask is configured with
        (``DASK_SCHEDULER_ADDRESS``), else a cluster on this machine.
    client : distributed.Client, optional
        A client of the cluster to use.
    restart, overwrite : bool
        Discard an unfinished run of this output; replace a HATS catalog that has the output's name.
    progress : bool, optional
        Whether a bar (tqdm) is shown; default: in a notebook.
    on_progress : callable, optional
        Called with the rows done and the number of rows, margins included, after each file.
    **options
        Other options of :func:`galmorph.classify`: ``size_column``, ``prefix``, ``replace``, ``batch_size`` and so on.

    Returns
    -------
    Summary
        Summary of the main catalog's rows; those of margins are copies and not counted.

    Raises
    ------
    GalmorphError
        Nothing was written where ``exit_code`` is 2; the run can be resumed where it is 3 or 130.
    """
    started = time.perf_counter()
    if any(find_spec(name) is None for name in ("hats", "distributed")):
        raise GalmorphError("HATS catalogs need an extra: python -m pip install 'galmorph-survey[scale]'.")
    for name in _OTHERS:
        if options.pop(name, None):
            raise GalmorphError(
                f"--{name.replace('kind', 'as').replace('_', '-')} means nothing for a HATS catalog: leave it out."
            )
    catalog = open_hats(Path(survey).resolve())
    destination = _destination(catalog.root, out, overwrite=overwrite)
    options["cutouts"] = str(Path(cutouts or catalog.root).resolve())
    if not any(options.get(name) for name in ("ra_column", "dec_column")):
        options |= catalog.position_columns
    checked = ClassifyOptions(**options, tta=tta, workers=workers)
    loaded = load(model)
    columns = wanted_columns(loaded.card, checked)
    replaces = bool(options.get("replace"))
    for path in catalog.schemas():
        source = open_source(path, cutouts=cutouts, columns=checked.catalog_columns)
        source.check(columns, replace=replaces)
    name = str(Path(model).resolve()) if Path(model).is_file() else str(model)
    network = Network(name, loaded.sha256, device, dtype, tta)
    with _cluster(client, scheduler, workers, device, catalog.n_files) as (cluster, threads):
        network, cards = _result(cluster.submit(_settle, network, pure=False))
        fingerprint = {"source": catalog.fingerprint(), "galmorph": galmorph.__version__, "torch": torch.__version__}
        usual = asdict(ClassifyOptions())
        given = {name: value for name, value in options.items() if value != usual.get(name)}
        with _work(destination, fingerprint | given | asdict(network), resume=not restart) as folder:
            job = Job(network, catalog.root, folder, options, threads)
            with progress_bar(progress, "classifying", "galaxies", on_progress) as update:
                notes = _run(cluster, catalog, job, update)
            with write_errors(folder, resumable=True):
                _clean(folder / "catalog")
                catalog.complete(folder / "catalog", columns, cards, replace=replaces)
                swap(folder / "catalog", destination, folder / "replaced", overwrite=overwrite)
            _remove(folder)
    return _sum(notes, loaded.card.name, loaded.sha256, destination, time.perf_counter() - started)


@dataclass(frozen=True)
class Network:
    """The model of the workers: its name or path, the SHA-256 of the file, and the options of its predictor."""

    model: str
    sha256: str
    device: str
    dtype: str
    tta: int


@dataclass(frozen=True)
class Job:
    """What a worker needs besides the file to classify.

    Attributes
    ----------
    root : Path
        Folder of the catalog.
    work : Path
        The hidden folder beside the output.
    options : mapping
        Options of :func:`galmorph.classify`.
    threads : int
        Number of threads for the batches of a file.
    """

    network: Network
    root: Path
    work: Path
    options: Mapping[str, Any]
    threads: int


@lru_cache(maxsize=1)
def _loaded(network: Network) -> Predictor:
    model = load(network.model)
    if model.sha256 != network.sha256:
        raise CannotContinue(f"The model {network.model} is another file on a worker than where the run was started.")
    # Each batch restores the number of threads, which another thread may have set.
    torch.set_num_threads(1)
    return Predictor(model, network.device, network.dtype, network.tta)


def _predictor(network: Network) -> Predictor:
    """Return the predictor, made once in each process."""
    with _LOADING:
        return _loaded(network)


def _settle(network: Network) -> tuple[Network, list[Card]]:
    """On a worker: return the network with its device and number format, and the provenance of the columns."""
    device = pick_device(network.device)
    dtype = str(pick_dtype(network.dtype, device)).removeprefix("torch.")
    settled = replace(network, device=str(device), dtype=dtype)
    return settled, provenance(_predictor(settled))


def _classify_file(file: Path, job: Job) -> dict[str, Any]:
    """On a worker: classify a file of a partition, or continue it; write and return a note with the summary."""
    note, out = job.work / "notes" / f"{file}.json", job.work / "catalog" / file
    state = file_state(job.root / file)
    if (kept := _finished(note, out, state)) is not None:
        return kept
    note.parent.mkdir(parents=True, exist_ok=True)
    out.parent.mkdir(parents=True, exist_ok=True)

    def check(*_: int) -> None:
        if (job.work / "stop").exists():
            raise KeyboardInterrupt

    options = {**job.options, "workers": job.threads, "on_progress": check}
    predictor = _predictor(job.network)
    summary = classify(job.root / file, model=predictor, out=out, overwrite=True, record_provenance=False, **options)
    noted = {**asdict(summary), "state": state, "sha256_of_output": file_sha256(out)}
    write_record(note, noted)
    return as_json(noted)


def _finished(note: Path, out: Path, state: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the note of a finished file; None if there is none, or if file or note have changed."""
    try:
        noted = read_record(note)
        if noted is None or not out.exists() or noted["state"] != state:
            return None
        if noted["sha256_of_output"] == file_sha256(out):
            return noted
        log.warning("%s is not as it was written: it is classified again.", out)
    except OutputError:
        log.warning("%s is damaged: its file is classified again.", note)
    return None


def _run(
    cluster: Client, catalog: HatsCatalog, job: Job, on_progress: Callable[[int, int], None] | None
) -> list[dict[str, Any]]:
    """Classify all files; return the notes of those of the main catalog."""
    from distributed import as_completed

    files = [file for member in catalog.members for file in member.files]
    futures = cluster.map(_classify_file, files, job=job, pure=False)
    names = {future.key: file for future, file in zip(futures, files, strict=True)}
    main = set(catalog.members[0].files)
    notes, failures, done = [], [], 0
    try:
        for future in as_completed(futures):
            file = names[future.key]
            try:
                note = _result(future)
            except CannotContinue:
                raise
            except GalmorphError as error:  # of this file: the others continue
                failures.append(f"{file}: {error}")
                continue
            done += note["targets"]
            if file in main:
                notes.append(note)
            if on_progress:
                on_progress(done, max(done, catalog.n_rows))
    except BaseException as error:
        (job.work / "stop").touch()
        cluster.cancel(futures)
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(f"Stopped after {done} of {catalog.n_rows} targets. {_AGAIN}") from None
        raise
    if failures:
        listed = "\n".join(failures[:_LISTED_FAILURES])
        raise CannotContinue(f"{len(failures)} of {len(files)} files could not be classified. {_AGAIN}\n{listed}")
    return notes


def _result(future: Future[Any]) -> Any:
    """Return the result of a task, or raise its error; after a failure of the cluster the run can be resumed."""
    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        raise CannotContinue(f"Workers died, perhaps because memory or time ran out: {error}. {_AGAIN}") from error
    except (CancelledError, OSError) as error:
        raise CannotContinue(f"A worker or the Dask cluster failed: {error}. {_AGAIN}") from error


@contextmanager
def _cluster(
    client: Client | None, scheduler: str | Path | None, workers: int | None, device: str, n_files: int
) -> Iterator[tuple[Client, int]]:
    """Connect to a cluster, or start one on this machine; yield its client and the threads for a file."""
    import dask
    from distributed import Client, LocalCluster

    address = scheduler or dask.config.get("scheduler-address", None)
    if client is None and not address:
        workers = workers or dask.system.CPU_COUNT
        n = max(1, min(workers, n_files))
        # The memory of a GPU is too small for many processes.
        shape = (1, n) if pick_device(device).type == "cuda" else (n, 1)
        options: dict[str, Any] = dict(zip(("n_workers", "threads_per_worker"), shape, strict=True))
        # Without an address the scheduler takes port 8787, and warns if it is not free, even if there is no dashboard.
        options |= {"dashboard_address": "127.0.0.1:0", "scheduler_kwargs": {"dashboard": False}}
        local = LocalCluster(**options, memory_limit=None, silence_logs=logging.ERROR)
        with local, Client(local) as client:
            yield client, workers // n
        return
    if workers is not None:
        raise GalmorphError("--workers is for a cluster on this machine; the scheduler's cluster has workers already.")
    if client is not None:
        yield client, 1
        return
    where = {"scheduler_file" if Path(address).is_file() else "address": str(address)}
    try:
        client = Client(**where, timeout=_CONNECT_S)
    except (OSError, ValueError) as error:
        raise CannotContinue(f"There is no Dask scheduler at {address}: {error}") from error
    with client:
        if not client.scheduler_info()["workers"]:
            log.info("Waiting for the first worker of %s", address)
        yield client, 1


def _destination(root: Path, out: str | Path | None, *, overwrite: bool) -> Path:
    destination = Path(out).resolve() if out is not None else root.with_name(f"{root.name}_morph")
    if not destination.parent.is_dir():
        raise OutputError(f"The folder {destination.parent} of the output does not exist: make it, or choose another.")
    if destination.is_relative_to(root) or root.is_relative_to(destination):
        raise OutputError(f"The output {destination} and the catalog {root} lie in each other: choose another --out.")
    if destination.exists() and not overwrite:
        raise exists_already(destination)
    if destination.exists() and not is_hats(destination):
        raise OutputError(f"The output {destination} is no HATS catalog and not overwritten: choose another --out.")
    return destination


@contextmanager
def _work(destination: Path, fingerprint: Mapping[str, Any], *, resume: bool) -> Iterator[Path]:
    """Lock the hidden folder of an output, emptied unless the run is resumed; yield it."""
    folder = destination.with_name(f".{destination.name}.galmorph")
    state = folder / "state.json"
    if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir()):
        raise OutputError(f"{folder} is not a folder of galmorph's: move it away, or choose another --out.")
    with locked(folder / "lock", f"writing {destination}"):
        if read_record(state) is None and any((folder / name).exists() for name in _FOLDERS):
            raise OutputError(f"{folder} holds files that are not galmorph's: move it away, or choose another --out.")
        with write_errors(folder):
            if not is_continued(state, fingerprint, resume=resume):
                for name in _FOLDERS:
                    shutil.rmtree(folder / name, ignore_errors=True)
                write_record(state, fingerprint)
            (folder / "stop").unlink(missing_ok=True)
            (folder / "catalog").mkdir(exist_ok=True)
        yield folder


def _remove(folder: Path) -> None:
    """Remove the files of a run in its hidden folder; a kill in between does no harm."""
    for name in _FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
    with suppress(OSError):
        for name in ("stop", "state.json", "lock"):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def _clean(folder: Path) -> None:
    """Remove incomplete files of killed workers."""
    for path in list(folder.rglob(".*")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _sum(notes: Sequence[Mapping[str, Any]], model: str, sha256: str, destination: Path, seconds: float) -> Summary:
    def added(name: str) -> dict[str, Any]:
        total: Counter[str] = Counter()
        for note in notes:
            total.update(note[name])
        return dict(total.most_common())

    counts = {
        name: sum(note[name] for note in notes) for name in ("targets", "classified", "flagged", "failed", "off_centre")
    }
    rate = round(counts["targets"] / seconds, 2)
    names = {"model": model, "sha256": sha256, "out": str(destination)}
    totals = {name: added(name) for name in ("flags", "labels", "profile")}
    peak_mb = max((note["profile"]["peak_mb"] for note in notes), default=0.0)
    totals["profile"] |= {"total": round(seconds, 3), "peak_mb": peak_mb}
    return Summary(**{**counts, "seconds": round(seconds, 3), "rate": rate, **names, **totals})
