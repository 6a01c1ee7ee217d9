"""Classification: stream targets through a model into a table, with flags for faults; runs can be resumed.

Batches of rows go through the network into a journal beside the output; when it is complete, the table is copied with
the new columns appended. A killed run continues after the journal's last whole batch.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import galmorph
from galmorph.classification.batches import classify_rows, keep_unchanged, predict_batch, single_threaded_operations
from galmorph.classification.notebook_summary import Outcome
from galmorph.classification.opening import open_survey
from galmorph.classification.options import ClassifyOptions
from galmorph.classification.output_columns import column_values, output_columns, record_dtype, wanted_columns
from galmorph.classification.prepare import Prepared
from galmorph.classification.process import Clock, keep_freed_memory
from galmorph.classification.provenance import Record, is_record, picture_cards, provenance, record_path
from galmorph.classification.reading.rows import Row
from galmorph.classification.sources import Addition, Source
from galmorph.classification.summary import summarize
from galmorph.environment import now
from galmorph.errors import CannotContinue, Interrupted, OutputError
from galmorph.files.journal import Journal
from galmorph.files.remote import is_remote
from galmorph.files.writing import exists_already, remove_leftovers
from galmorph.images.flags import Flag
from galmorph.images.picture import PictureWidth
from galmorph.models.card import DEFAULT_MODEL, ModelCard, find, shipped
from galmorph.models.cpu_fusion import CPU_BATCH
from galmorph.models.model import load
from galmorph.models.predictor import Predictor, on_devices
from galmorph.progress import progress_bar
from galmorph.registry import check_keywords
from galmorph.tables.features import check_features, write_features
from galmorph.threads import ahead, cores

log = logging.getLogger(__name__)

BATCH_SIZES = {"cpu": CPU_BATCH, "cuda": 256}
_LISTED = 6


def classify(
    survey: Any = None,
    *,
    model: str | Path | Predictor = DEFAULT_MODEL,
    out: str | Path | None = None,
    restart: bool = False,
    overwrite: bool = False,
    record_provenance: bool = True,
    progress: bool | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    options: ClassifyOptions | None = None,
    **keywords: Any,
) -> Any:
    """Classify galaxies; write the table with probabilities and flags, or return it if a Table was given.

    Parameters
    ----------
    survey : path, list of paths, astropy Table, data frame or ndarray, optional
        A catalog with cutouts, one cutout (FITS, JPEG, PNG), a folder of cutouts, or a survey image. A table or a data
        frame (pandas, or any that speaks Arrow, such as polars) names cutouts. An array (n, band, y, x) is flux in
        nanomaggies per pixel, and needs ``bands="grz"`` and ``pixscale=0.262``.
    model : str, path or Predictor
        A shipped model's name or a weights file; a predictor has its own ``device``, ``dtype`` and ``tta``.
    out : path, optional
        Default: ``<stem>_morph.<suffix>`` beside the input, a FITS catalog for cutouts; no file for objects in memory.
    restart, overwrite : bool
        Discard an unfinished run of this output, which otherwise goes on; replace an existing output.
    record_provenance : bool
        Whether ``<output>.prov.json`` is written beside the output.
    progress : bool, optional
        Whether a bar (tqdm) is shown; default: in a notebook.
    on_progress : callable, optional
        Called with the rows done and the number of rows, after each batch.
    options : ClassifyOptions, optional
        Everything else; or
    **keywords
        The fields of :class:`~galmorph.classification.options.ClassifyOptions` by name, such as ``cutouts="folder"``.

    Returns
    -------
    Summary, astropy Table or data frame
        For objects in memory a copy of the same kind with the columns, even if `out` names a file: a Table with units,
        descriptions and UCDs (``meta["ucd"]``), and the provenance in ``meta``; a data frame of the same library (the
        provenance in pandas' ``attrs`` or Arrow's metadata); for paths and arrays a Table.

    Raises
    ------
    GalmorphError
        Nothing was written where ``exit_code`` is 2; the run can be resumed where it is 3 or 130.
    """
    clock = Clock()
    now()  # a wrong SOURCE_DATE_EPOCH is refused before the first galaxy
    keep_freed_memory()
    check_keywords(classify, keywords, ClassifyOptions)
    options = options or ClassifyOptions(**keywords)
    source = open_survey(survey, options)
    destination = _destination(source, out, overwrite=overwrite, restart=restart, record_provenance=record_provenance)
    if options.features is not None:
        check_features(Path(options.features), replace=overwrite or Journal.exists(destination))
    with clock("model"), single_threaded_operations():
        computing = options.device, options.dtype, options.tta
        loaded = [model] if isinstance(model, Predictor) else on_devices(load(model), *computing)
    predictor = loaded[0]
    _warn_of_unlearnt(predictor.model.card)
    columns = wanted_columns(predictor.model.card, options)
    source.check(columns, replace=options.replace)
    batch_size = options.batch_size or _batch_size(predictor)
    fingerprint = _fingerprint(source, loaded, batch_size, options)
    with clock("read"):
        source.open()
    result = record_dtype(predictor.model.schema, predictor.n_features if options.features else 0)
    with Journal.open(
        destination, result, fingerprint, resume=not restart, step=batch_size, n_rows=source.n_rows
    ) as journal:
        keep_unchanged(source, journal, batch_size)
        recorded = {**fingerprint, "prefix": options.prefix, **_own_model(model)} if record_provenance else None
        replaces = _may_replace(destination, source, journal, overwrite)
        added = Addition(columns, [], options.replace, overwrite=replaces)
        try:
            with progress_bar(progress, "classifying", "galaxies", on_progress) as update:
                workers = options.workers or cores()
                classify_rows(source, loaded, journal, batch_size, workers, clock, update)
            if _has_pictures(journal):
                described = wanted_columns(predictor.model.card, options, pictures=True)
                added = replace(added, columns=described, cards=picture_cards(options.picture_width))
            with clock("write"):
                _write(source, destination, added, journal, predictor, options, recorded)
        except KeyboardInterrupt:
            done = f"{len(journal)} of {source.n_rows}"
            raise Interrupted(f"Stopped after {done} targets; go on with the same command.") from None
        summary = summarize(journal, predictor.model.card, predictor.model.sha256, destination, clock)
        journal.remove()
    return source.finish(Outcome(**vars(summary)))


def _warn_of_unlearnt(card: ModelCard) -> None:
    labels = card.label_schema.labels
    if unlearnt := [labels[index] for index in card.unlearnt]:
        listed = ", ".join(unlearnt[:_LISTED]) + (", ..." if len(unlearnt) > _LISTED else "")
        log.warning(
            "%s learnt nothing of %d of its %d answers, for no training galaxy had them: their columns are empty (%s).",
            *(card.name, len(unlearnt), len(labels), listed),
        )


def classify_one(row: Row, model: str | Path, pictures: PictureWidth) -> tuple[Prepared, dict[str, Any], ModelCard]:
    """Classify one cutout, as a batch of `classify` does, and keep what the model saw of it.

    Returns
    -------
    prepared : Prepared
    values : dict
        Of the new columns, by name.
    card : ModelCard
    """
    with single_threaded_operations():
        predictor = on_devices(load(model), "auto", "auto", 1)[0]
        card = predictor.model.card
        prepared = row.prepare(card, pictures=pictures)
        records = predict_batch([prepared], predictor, _batch_size(predictor), record_dtype(card.label_schema, 0))
    names = [column.name for column in output_columns(card)]
    return prepared, {name: column[0] for name, column in zip(names, column_values(records, card), strict=True)}, card


def _own_model(model: str | Path | Predictor) -> dict[str, str]:
    """Return the file of a model that does not ship with galmorph, for the record."""
    path = None if isinstance(model, Predictor) else find(model)
    return {} if path is None or path in shipped().values() else {"model_file": str(path)}


def _batch_size(predictor: Predictor) -> int:
    return BATCH_SIZES.get(predictor.device.type, BATCH_SIZES["cpu"])


# Options that are in the fingerprint already, as what they stand for, or that change no result.
_NO_CHANGE = (
    "kind",
    "cutouts",
    "catalog",
    "images",
    "tta",
    "batch_size",
    "device",
    "dtype",
    "workers",
    "radius_arcsec",
)


def _fingerprint(
    source: Source, predictors: list[Predictor], batch_size: int, options: ClassifyOptions
) -> dict[str, Any]:
    """Return what must be the same to resume a run."""
    given = {name: value for name, value in asdict(options).items() if name not in _NO_CHANGE}
    return {
        "options": given,
        "source": source.fingerprint() | ({"address": source.address} if source.address else {}),
        "model": predictors[0].model.sha256,
        "galmorph": galmorph.__version__,
        "torch": torch.__version__,
        "device": ",".join(str(each.device) for each in predictors),
        "dtype": str(predictors[0].dtype),
        "tta": predictors[0].tta,
        "batch_size": batch_size,
    }


def _destination(
    source: Source, out: str | Path | None, *, overwrite: bool, restart: bool, record_provenance: bool
) -> Path:
    beside = source.default_output
    destination = Path(out) if out is not None else Path(beside.name) if source.address else beside
    if is_remote(destination):
        raise OutputError(f"--out {out} is an address: name a file of this machine.")
    for folder in (destination.parent, Path(os.path.realpath(destination)).parent):  # of a link, and of its target
        if not folder.is_dir():
            raise OutputError(f"The folder {folder} of the output does not exist: make it, or choose another --out.")
        if not os.access(folder, os.W_OK):
            raise OutputError(f"The folder {folder} of the output cannot be written: choose another --out.")
    if destination.is_dir():
        raise OutputError(f"The output {destination} is a folder: name a file with --out.")
    if destination.exists() and not overwrite and (restart or not Journal.exists(destination)):
        raise exists_already(destination)
    source.check_output(destination)
    record = record_path(destination)
    if record_provenance and os.path.lexists(record) and not is_record(record):
        raise OutputError(f"{record} exists and is not galmorph's: move it away, or choose another --out.")
    return destination


def _may_replace(destination: Path, source: Source, journal: Journal, overwrite: bool) -> bool:
    """Return whether an existing output may be replaced; raise OutputError if there is one that may not."""
    # The table of a run that was killed after writing it may be replaced; other files only with --overwrite.
    is_ours = len(journal) == source.n_rows and journal.wrote(destination)
    if destination.exists() and not overwrite and not is_ours:
        raise exists_already(destination)
    return overwrite or is_ours


def _has_pictures(journal: Journal) -> bool:
    return any(bool((records["flag"] & Flag.PICTURE.value).any()) for records in journal.blocks())


def _write(
    source: Source,
    destination: Path,
    added: Addition,
    journal: Journal,
    predictor: Predictor,
    options: ClassifyOptions,
    recorded: Mapping[str, Any] | None = None,
) -> None:
    """Copy the user's table with the journal's columns appended, or write a table of the cutouts."""
    source.verify()
    remove_leftovers(destination)
    record = Record(recorded, predictor.model.card, journal.started, destination) if recorded else None

    def described(content: Path) -> tuple[Path, bytes, bool] | None:
        """Verify the inputs and make the record when the output is complete, before it gets its name."""
        source.verify()
        journal.note_output(content)
        return record.of(content) if record else None

    added = replace(added, cards=[*provenance(predictor), *added.cards], companion=described)
    card, more = predictor.model.card, {"spread": options.spread, "shares": options.shares}
    names = [column.name for column in output_columns(card, options.prefix, **more)]

    def values(records: NDArray[np.void]) -> dict[str, NDArray[Any]]:
        arrays = column_values(records, card, tta=predictor.tta, **more)
        return dict(zip(names, arrays, strict=True))

    try:
        source.write(destination, added, ahead((records, values(records)) for records in journal.blocks()))
        if options.features is not None:
            blocks = zip(source.names(), journal.blocks(), strict=True)
            features = ((names, records["features"]) for names, records in blocks)
            write_features(Path(options.features), features, journal.record["features"].shape[0], added.cards)
    except (OutputError, CannotContinue) as error:
        kept = "The results are kept: see to it, then go on with the same command."
        raise CannotContinue(f"{str(error).rstrip('.')}. {kept}") from error
