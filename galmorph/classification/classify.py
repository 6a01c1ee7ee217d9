"""Classification: stream targets through a model into a table, flag what cannot be trusted, resume.

Rows are taken in batches whose boundaries follow from the row number alone. Each worker thread takes whole batches
through: it reads and frames the cutouts and runs the network on one core, so that no core waits for another. Results go
to a journal beside the output; when it is complete, the table is copied with the new columns appended. A run that was
killed goes on after the journal's last whole batch.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

import galmorph
from galmorph.classification.memory import MemorySource
from galmorph.classification.opening import open_survey
from galmorph.classification.output_columns import column_values, output_columns, record_dtype
from galmorph.classification.process import Clock, keep_freed_memory, peak_memory_mb
from galmorph.classification.provenance import Record, provenance
from galmorph.classification.sources import Addition, CutoutRows, Row, Source
from galmorph.classification.survey_images import FieldSource
from galmorph.errors import CutoutError, GalmorphError, Interrupted, OutputError
from galmorph.files.journal import Journal
from galmorph.files.writing import remove_leftovers
from galmorph.images.cutout import MAX_SIDE_PX, Cutout, read_cutout
from galmorph.images.flags import Flag
from galmorph.images.framing import frame
from galmorph.images.inputs import ImageInput
from galmorph.images.quality import is_blended, quality
from galmorph.images.radius import measure_r90
from galmorph.images.survey_image import ZeroPoint
from galmorph.images.surveys import typical_seeing
from galmorph.models.model import Model, load
from galmorph.models.predictor import CPU_BATCH, Predictor, on_devices, to_device
from galmorph.progress import progress_bar
from galmorph.threads import ahead, stop_requested

if TYPE_CHECKING:
    from astropy.table import Table

log = logging.getLogger(__name__)

BATCH_SIZES = {"cpu": CPU_BATCH, "cuda": 256}
# Batches that wait for a worker, so that none is ever idle.
BATCHES_AHEAD = 1
# With one of these there is no probability: a composite without one of its bands has colours no model was shown.
UNUSABLE = Flag.MISSING_BAND | Flag.UNREADABLE
# Reasons of failure that are told one by one; the rest is counted.
TOLD_FAILURES = 5


@dataclass(frozen=True)
class Summary:
    """What a run did; the fields are those of ``classify --json``.

    ``targets = classified + failed``; ``flagged`` have a probability and a flag; ``rate`` is in targets per second.
    """

    targets: int
    classified: int
    flagged: int
    failed: int
    seconds: float
    rate: float
    model: str
    sha256: str
    out: str
    flags: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    profile: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """A target ready for the network, or the reason why it is not.

    Attributes
    ----------
    flag : Flag
    flux : ndarray or Tensor, float32, shape (3, size, size), or None
        In the order of the normalization's bands, per its native pixel, framed.
    entry : ImageInput or None
        The card's input that the cutout matched.
    ra, dec : float
        ICRS degrees of the cutout's centre, where the source asks for it.
    reason : str
        Why there is no flux.
    """

    flag: Flag
    flux: NDArray[np.float32] | torch.Tensor | None = None
    entry: ImageInput | None = None
    ra: float = math.nan
    dec: float = math.nan
    reason: str = ""


def classify(
    survey: str | Path | Table | None = None,
    *,
    model: str | Path | Predictor = "galaxyzoo2-mobilenet_v2",
    out: str | Path | None = None,
    kind: str | None = None,
    cutouts: str | Path | None = None,
    catalog: str | Path | None = None,
    images: Sequence[str | Path] = (),
    hdu: int | None = None,
    size_column: str | None = None,
    zero_point: ZeroPoint = None,
    prefix: str = "",
    replace: bool = False,
    spread: bool = False,
    tta: int = 1,
    batch_size: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
    workers: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    record_provenance: bool = True,
    progress: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Summary | Any:
    """Classify galaxies and write the table with probabilities and flags; or give it back, where a Table was given.

    Parameters
    ----------
    survey : path or astropy Table, optional
        A catalog (FITS, CSV, ECSV, VOTable, Parquet) with a ``cutout`` column or with ``cutouts``, one FITS cutout, a
        folder of cutouts, or a survey image. A Table in memory is such a catalog, and no file is written.
    model : str, path or Predictor
        A shipped model's name or a weights file; a predictor has its own ``device``, ``dtype`` and ``tta``.
    out : path, optional
        Default: ``<stem>_morph.<suffix>`` beside the input, a FITS catalog for cutouts.
    kind : str, optional
        ``catalog``, ``cutout`` or ``field`` forces what the input is taken for.
    cutouts : path, optional
        Folder that the cutout paths are relative to, and may not leave; default: the catalog's folder, for a Table the
        current one. Without a ``cutout`` column the files are ``<id>.fits`` there.
    catalog : path, optional
        Targets in the survey images; without it galaxies are detected.
    images : sequence of path
        Survey images, in the place of `survey`; ``{band}`` stands for one file a band.
    hdu : int, optional
        HDU of the catalog's table, or of the cutout's or survey image.
    size_column : str, optional
        The catalog's column of radii (R90), arcsec unless it has a unit.
    zero_point : float, str or mapping, optional
        AB magnitude of a pixel value of 1 in survey images, for all bands or by band (``g=25.1,r=24.9``).
    prefix : str
        Of the new columns' names.
    replace : bool
        Replace columns of an earlier run.
    spread : bool
        Write ``p_<label>_err`` too: how far vote fractions scatter around the expected ones.
    tta : int
        Orientations averaged, 1 to 8.
    batch_size, device, dtype, workers
        How it is computed; a batch is 16 on the CPU and 256 on a GPU unless it is given; ``workers`` are threads that
        take batches through, by default one a core. Several devices (``cuda:0,cuda:1``) take batches in turn.
    resume, overwrite : bool
        Go on with a run that was stopped; replace an existing output.
    record_provenance : bool
        Write ``<output>.prov.json`` beside the output.
    progress : bool
        Show a bar (tqdm), in a script or a notebook.
    on_progress : callable, optional
        Called with the rows done and the number of rows, after each batch.

    Returns
    -------
    Summary or astropy Table
        Of a Table: a copy with the columns, their units, descriptions and UCDs (``meta["ucd"]``), and the provenance in
        ``meta``.

    Raises
    ------
    GalmorphError
        Nothing was written where ``exit_code`` is 2; the run can be resumed where it is 3 or 130.
    """
    clock = Clock()
    keep_freed_memory()
    if batch_size is not None and batch_size < 1:
        raise GalmorphError(f"--batch-size {batch_size}: at least 1.")
    if workers is not None and workers < 1:
        raise GalmorphError(f"--workers {workers}: at least 1.")
    named: dict[str, Any] = {"kind": kind, "cutouts": cutouts, "catalog": catalog, "size_column": size_column}
    source = open_survey(survey, images, hdu=hdu, zero_point=zero_point, **named)
    destination = _destination(source, out, overwrite=overwrite, resume=resume)
    with clock("model"):
        predictors = [model] if isinstance(model, Predictor) else on_devices(load(model), device, dtype, tta)
    predictor = predictors[0]
    batch_size = batch_size or BATCH_SIZES.get(predictor.device.type, BATCH_SIZES["cpu"])
    columns = output_columns(predictor.model.card, prefix, spread=spread)
    source.check(columns, replace=replace)
    record = record_dtype(predictor.model.schema)
    fingerprint = {
        "source": source.fingerprint(),
        "model": predictor.model.sha256,
        "galmorph": galmorph.__version__,
        "torch": torch.__version__,
        "device": ",".join(str(each.device) for each in predictors),
        "dtype": str(predictor.dtype),
        "tta": predictor.tta,
        "batch_size": batch_size,
    }
    with clock("read"):  # survey images are read and their galaxies found here
        log.debug("%d targets", source.n_rows)
    with Journal.open(destination, record, fingerprint, resume=resume, step=batch_size) as journal:
        # A run that was killed after its table had its name is put in order; no other file is replaced unasked.
        if destination.exists() and not overwrite and len(journal) < source.n_rows:
            raise _exists(destination, resume)
        try:
            with progress_bar(progress, "classifying", "galaxies", on_progress) as update:
                _run(source, predictors, journal, batch_size, workers or os.cpu_count() or 1, clock, update)
            with clock("write"):
                remove_leftovers(destination)
                companion = None
                if record_provenance:
                    told = {**fingerprint, "prefix": prefix}
                    companion = Record(told, predictor.model.card, journal.started, destination).of
                added = Addition(columns, provenance(predictor), replace, companion)
                _write(source, destination, added, journal, predictor, spread)
        except KeyboardInterrupt:
            raise Interrupted(
                f"Stopped after {len(journal)} of {source.n_rows} targets; go on with the same command and --resume."
            ) from None
        summary = _summarize(journal, predictor.model, destination, clock)
        journal.remove()
    return source.result if isinstance(source, MemorySource) else summary


def _destination(source: Source, out: str | Path | None, *, overwrite: bool, resume: bool) -> Path:
    destination = Path(out) if out is not None else source.default_output
    if not destination.parent.is_dir():
        raise OutputError(
            f"The folder {destination.parent} of the output does not exist: make it, or choose another --out."
        )
    if not os.access(destination.parent, os.W_OK):
        raise OutputError(f"The folder {destination.parent} of the output cannot be written: choose another --out.")
    if destination.is_dir():
        raise OutputError(f"The output {destination} is a folder: name a file with --out.")
    if destination.exists() and not overwrite and not (resume and Journal.exists(destination)):
        raise _exists(destination, resume)
    source.check_output(destination)
    return destination


def _exists(destination: Path, resume: bool) -> OutputError:
    hint = " The run that wrote it was complete." if resume else ""
    return OutputError(f"The output {destination} exists.{hint} Choose another --out, or --overwrite it.")


def prepare(
    path: Path, model: Model, radius_arcsec: float, *, hdu: int | None = None, locate: bool = False
) -> Prepared:
    """Read one cutout and frame it for a model.

    Parameters
    ----------
    path : Path
    model : Model
    radius_arcsec : float
        The galaxy's radius (R90) in the catalog; NaN: take the cutout's card, else measure it.
    hdu : int, optional
    locate : bool
        Whether to give the position of the cutout's centre.
    """
    try:
        cutout = read_cutout(path, hdu=hdu, max_side_px=MAX_SIDE_PX)
    except CutoutError as error:
        return Prepared(Flag.UNREADABLE, reason=str(error))
    ra, dec = _centre(cutout) if locate else (math.nan, math.nan)
    entry = model.card.input_for(cutout.survey, cutout.bands, cutout.pixscale)
    if entry is None:
        lacks_band, reason = model.card.refusal(cutout.survey, cutout.bands, cutout.pixscale)
        flag = Flag.MISSING_BAND if lacks_band else Flag.UNREADABLE
        return Prepared(flag, ra=ra, dec=dec, reason=f"{cutout.target_id}: {reason}")
    normalization = entry.normalization
    flag = Flag(0)
    radius = radius_arcsec if math.isfinite(radius_arcsec) else cutout.radius_arcsec
    if normalization.framing.radii and not math.isfinite(radius):
        flag |= Flag.RADIUS_MEASURED
        radius = measure_r90(cutout)
    width_arcsec = normalization.framing.width_arcsec(radius)
    if not math.isfinite(width_arcsec):  # no signal to measure a radius on: the whole cutout
        width_arcsec = min(cutout.flux.shape[1:]) * cutout.pixscale
    flag |= quality(cutout, normalization.bands, width_arcsec, radius, seeing_arcsec=typical_seeing(cutout.survey, "r"))
    if is_blended(cutout, radius):
        flag |= Flag.BLENDED
    if flag & UNUSABLE:
        return Prepared(flag, ra=ra, dec=dec, reason=f"{path} lacks a band of {''.join(sorted(entry.bands))}.")
    flux = cutout.flux
    if flag & Flag.BAD_PIXELS:
        flux = np.nan_to_num(flux, nan=0.0, posinf=0.0, neginf=0.0)
    planes = [flux[cutout.bands.index(band)] for band in normalization.bands]
    flux = frame(planes, width_arcsec / cutout.pixscale, normalization.input_size)
    # Surface brightness per the native pixel that the scales of the composite are for.
    flux *= (normalization.flux_pixscale / cutout.flux_pixscale) ** 2
    return Prepared(flag, flux, entry, ra, dec)


def _centre(cutout: Cutout) -> tuple[float, float]:
    wcs = cutout.wcs
    if wcs is None:
        return math.nan, math.nan
    height, width = cutout.flux.shape[1:]
    sky = wcs.pixel_to_world((width - 1) / 2, (height - 1) / 2).icrs
    return float(sky.ra.deg), float(sky.dec.deg)


@contextmanager
def _single_threaded_operations() -> Iterator[None]:
    """Let each torch operation run on one thread: the workers share the cores batch by batch, without waiting."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def _run(
    source: Source,
    predictors: Sequence[Predictor],
    journal: Journal,
    batch_size: int,
    workers: int,
    clock: Clock,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    """Classify the rows that the journal does not hold yet: whole batches on each worker, into the journal in order."""

    def classify_batch(rows: Sequence[Any], predictor: Predictor) -> tuple[NDArray[np.void], list[str]] | None:
        if stop.is_set():  # neither will the batches behind it be begun
            return None
        with clock("read"):
            targets = _prepared(source, rows, predictor)
        with clock("network"):
            return _predict(targets, predictor, batch_size, journal.record), [t.reason for t in targets if t.reason]

    told = 0
    with (
        _single_threaded_operations(),
        ThreadPoolExecutor(workers, thread_name_prefix="galmorph") as pool,
        stop_requested() as stop,
    ):
        waiting: deque[Future[tuple[NDArray[np.void], list[str]] | None]] = deque()
        # Which device a batch goes to follows from its rows too.
        turns = itertools.islice(itertools.cycle(predictors), len(journal) // batch_size % len(predictors), None)
        blocks = zip(source.blocks(batch_size, len(journal)), turns, strict=False)
        try:
            while True:
                if not stop.is_set():
                    for task in itertools.islice(blocks, workers + BATCHES_AHEAD - len(waiting)):
                        waiting.append(pool.submit(classify_batch, *task))
                done = waiting.popleft().result() if waiting else None
                if done is None:
                    break
                records, reasons = done
                journal.append(records)
                for reason in reasons[: TOLD_FAILURES - told]:
                    log.warning("%s", reason)
                told = min(TOLD_FAILURES, told + len(reasons))
                if on_progress:
                    on_progress(len(journal), source.n_rows)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if stop.is_set():
        raise KeyboardInterrupt


def _prepared(source: Source, rows: Sequence[Any], predictor: Predictor) -> list[Prepared]:
    """Make a batch of rows ready: from the planes of a survey image at once, or each from its cutout."""
    if isinstance(source, FieldSource):
        stamps = source.stamps(rows, predictor.model.card, predictor.device)
        return [Prepared(flag, flux, entry, reason=reason) for flag, flux, entry, reason in stamps]
    return [_prepare_row(cast(CutoutRows, source), predictor.model, row) for row in rows]


def _prepare_row(source: CutoutRows, model: Model, row: Row) -> Prepared:
    path, radius_arcsec = row
    if isinstance(path, str):  # no path, but the reason why there is none
        return Prepared(Flag.UNREADABLE, reason=path)
    return prepare(path, model, radius_arcsec, hdu=source.cutout_hdu, locate=source.locates)


def _predict(
    targets: list[Prepared], predictor: Predictor, batch_size: int, record: np.dtype[np.void]
) -> NDArray[np.void]:
    """Return the journal's records of a batch; a target without flux has NaN for probabilities."""
    result = np.zeros(len(targets), record)
    result["p"] = result["ood"] = np.nan
    for name in ("flag", "ra", "dec"):
        result[name] = [getattr(target, name) for target in targets]
    framed = {i: target.flux for i, target in enumerate(targets) if target.flux is not None}
    usable = list(framed)
    if not usable:
        return result
    # A batch always has the same shape: a last, short one would be computed in another order of sums.
    size = predictor.model.card.input_size
    inputs = torch.zeros(batch_size, 3, size, size, device=predictor.device)
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    for entry in {entry for target in targets if (entry := target.entry)}:
        rows = [i for i in usable if targets[i].entry == entry]
        flux: Any = [torch.as_tensor(framed[i]) for i in rows]
        if predictor.device.type != "cpu":
            flux = to_device(torch.stack(flux), predictor.device)
        pictures = entry.normalization.network_input(entry.normalization.rgb(flux))
        if rows[-1] - rows[0] == len(rows) - 1:  # several times faster than by a list
            inputs[rows[0] : rows[-1] + 1] = pictures
        else:
            inputs[rows] = pictures
    for name, values in zip(("p", "ood"), predictor.judge(inputs), strict=True):
        result[name][usable] = values.cpu().numpy()[usable]
    if (threshold := predictor.model.card.unlikeness_threshold) is not None:
        result["flag"][result["ood"] > threshold] |= Flag.UNLIKE_TRAINING.value
    return result


def _write(
    source: Source,
    destination: Path,
    added: Addition,
    journal: Journal,
    predictor: Predictor,
    spread: bool,
) -> None:
    """Copy the user's table with the journal's columns appended, or write a table of the cutouts."""
    names = [column.name for column in added.columns]

    def values(records: NDArray[np.void]) -> dict[str, NDArray[Any]]:
        arrays = column_values(records, predictor.model.card, tta=predictor.tta, spread=spread)
        return dict(zip(names, arrays, strict=True))

    results = ahead((records, values(records)) for records in journal.blocks())
    source.write(destination, added, results)


def _summarize(journal: Journal, model: Model, destination: Path, clock: Clock) -> Summary:
    classified = flagged = failed = 0
    flags: Counter[str] = Counter()
    labels: Counter[str] = Counter()
    for records in journal.blocks():
        known = ~np.isnan(records["p"][:, 0])
        classified += int(known.sum())
        failed += int((~known).sum())
        flagged += int((known & (records["flag"] != 0)).sum())
        for flag in Flag:
            flags[(flag.name or "").lower()] += int((records["flag"] & flag.value != 0).sum())
        labels.update(name for name in model.schema.short_names(records["p"][known]))
    seconds = clock.elapsed
    return Summary(
        targets=classified + failed,
        classified=classified,
        flagged=flagged,
        failed=failed,
        seconds=round(seconds, 3),
        rate=round((classified + failed) / seconds, 2),
        model=model.card.name,
        sha256=model.sha256,
        out=str(destination),
        flags={name: count for name, count in flags.items() if count},
        labels=dict(labels.most_common()),
        profile={name: round(value, 3) for name, value in clock.seconds.items()}
        | {"total": round(seconds, 3), "peak_mb": round(peak_memory_mb(), 1)},
    )
