"""The journal of a run: results on disk, batch after batch, from which a stopped run continues.

It is in a hidden folder beside the output: ``rows.bin``, which is locked, has a record for each row, with the row's
number and a checksum; ``state.json`` says what the run was started with; ``output.json`` says which file is the run's
output. Other files in that folder are not galmorph's, and are not touched.
"""

from __future__ import annotations

import json
import logging
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import CannotContinue, CatalogError, OutputError
from galmorph.files.lock import locked
from galmorph.files.record import as_json, identity, is_continued, read_record, write_record
from galmorph.files.writing import remove_leftovers, write_errors

log = logging.getLogger(__name__)

# Records read back at a time.
BLOCK = 16_384
# A power cut costs no more than the results of this time.
SYNC_EVERY_S = 5.0


def journal_folder(output: Path) -> Path:
    """Return the hidden folder of an output's journal: beside the file itself, whatever links lead to it."""
    real = Path(os.path.realpath(output))
    return real.with_name(f".{real.name}.galmorph")


class Journal:
    """Results of fixed size, appended to a file in a hidden folder beside the output; made by :meth:`open`.

    Attributes
    ----------
    record : numpy.dtype
        The type of a result.
    """

    def __init__(self, folder: Path, record: np.dtype[np.void], stream: BinaryIO, seed: int) -> None:
        self.record = record
        self._folder = folder
        self._stream = stream
        self._seed = seed
        self._stored = np.dtype([("row", "<u8"), ("result", record), ("checksum", "<u4")])
        self._n_records = 0
        self._synced_at = time.monotonic()

    @classmethod
    def open(
        cls,
        output: Path,
        record: np.dtype[np.void],
        fingerprint: Mapping[str, Any],
        *,
        resume: bool,
        step: int,
        n_rows: int | None = None,
    ) -> Journal:
        """Open the journal of an output.

        Parameters
        ----------
        output : Path
            The file that the run writes at its end.
        record : numpy.dtype
            The type of a result.
        fingerprint : mapping
            What must be the same for a stopped run to continue: input, model, options, versions.
        resume : bool
            Whether to keep the results that are there, up to the first damaged one; otherwise they are dropped.
        step : int
            Results are kept in whole steps (batches).
        n_rows : int, optional
            Results of a complete run, of which the last step may be shorter.

        Raises
        ------
        OutputError
            If another run writes this output, if the one to resume was started with other input or options, or if
            files that are not galmorph's have the names of the journal's.
        CannotContinue
            If the disk is full.
        """
        folder = journal_folder(output)
        state, rows = folder / "state.json", folder / "rows.bin"
        is_new = not os.path.lexists(folder)
        if not is_new and (folder.is_symlink() or not folder.is_dir()):
            raise OutputError(f"{folder} is not a folder of galmorph's: move it away, or choose another --out.")
        stream: BinaryIO | None = None
        try:
            stream = locked(rows, f"writing {output}")
            seed = zlib.crc32(json.dumps(as_json(fingerprint), sort_keys=True).encode())
            journal = cls(folder, record, stream, seed)
            size = os.fstat(stream.fileno()).st_size
            if size and read_record(state) is None:
                raise OutputError(f"{rows} is not galmorph's: move it away, or choose another --out.")
            if is_continued(state, fingerprint, resume=resume):
                journal._check(size, step, n_rows)
            else:
                with write_errors(folder):
                    stream.truncate(0)
                    (folder / "output.json").unlink(missing_ok=True)
                write_record(state, fingerprint)
            remove_leftovers(state)
        except BaseException:
            # Leave nothing of a run that could not begin, but keep the files of another run.
            with suppress(OSError):
                if stream is not None and is_new:
                    _remove(folder, stream)
                elif stream is None and is_new:
                    folder.rmdir()
            if stream is not None:
                stream.close()
            raise
        return journal

    @staticmethod
    def exists(output: Path) -> bool:
        """Return whether a run of this output was stopped, or killed before it removed its journal."""
        return journal_folder(output).is_dir()

    def __len__(self) -> int:
        return self._n_records

    @property
    def started(self) -> float:
        """Time when the run began, before any resumption: seconds since 1970."""
        return (self._folder / "state.json").stat().st_mtime

    def append(self, records: NDArray[np.void]) -> None:
        """Append a batch.

        Raises
        ------
        CannotContinue
            If it cannot be written; earlier results are kept.
        """
        stored = np.zeros(len(records), self._stored)
        stored["row"] = np.arange(self._n_records, self._n_records + len(records))
        stored["result"] = records
        stored["checksum"] = self._checksums(stored)
        data = memoryview(stored.tobytes())
        try:
            while data:
                data = data[self._stream.write(data) :]
            if time.monotonic() - self._synced_at > SYNC_EVERY_S:
                os.fsync(self._stream.fileno())
                self._synced_at = time.monotonic()
        except OSError as error:
            with suppress(OSError):
                self._stream.truncate(self._n_records * self._stored.itemsize)
            raise CannotContinue(
                f"{self._folder} cannot be written: {error.strerror}. What is done is kept: see to it, then go on with "
                "the same command."
            ) from error
        self._n_records += len(records)

    def keep(self, n_records: int) -> None:
        """Drop the results after the first `n_records`."""
        with write_errors(self._folder, resumable=True):
            self._stream.truncate(n_records * self._stored.itemsize)
        self._n_records = n_records

    def blocks(self) -> Iterator[NDArray[np.void]]:
        """Yield all results, block by block, in order; checksums were checked when the journal was opened.

        Raises
        ------
        CannotContinue
            If the file was damaged since.
        """
        for start in range(0, self._n_records, BLOCK):
            count = min(BLOCK, self._n_records - start)
            stored = self._read(start, count)
            if len(stored) < count or (stored["row"] != np.arange(start, start + count)).any():
                raise CannotContinue(
                    f"{self._folder / 'rows.bin'} was damaged during the run; what is damaged is computed again."
                )
            yield stored["result"]

    def note_output(self, content: Path) -> None:
        """Record that a complete file will become the output, so that a resumed run recognises it as its own."""
        write_record(self._folder / "output.json", {"identity": identity(content)})

    def wrote(self, output: Path) -> bool:
        """Return whether this run, or the one that it resumes, wrote the file with the output's name."""
        noted = read_record(self._folder / "output.json")
        return noted is not None and output.exists() and noted == as_json({"identity": identity(output)})

    def remove(self) -> None:
        """Remove the journal: the output is complete."""
        _remove(self._folder, self._stream)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Nothing to resume: there are no results, or their input cannot be read.
        if error is not None and (self._n_records == 0 or isinstance(error, CatalogError)):
            self.remove()
        with suppress(OSError):
            if error is not None:
                os.fsync(self._stream.fileno())
            self._stream.close()

    def _check(self, size: int, step: int, n_rows: int | None) -> None:
        """Count the complete, undamaged steps, and drop the rest."""
        n, good = size // self._stored.itemsize, 0
        while good < n:
            count = min(BLOCK, n - good)
            n_more = self._n_good(self._read(good, count), good)
            good += n_more
            if n_more < count:
                log.warning(
                    "%s: the results from number %d on are damaged; they are computed again.",
                    self._folder / "rows.bin",
                    good + 1,
                )
                break
        self._n_records = good if good == n_rows else good // step * step
        with write_errors(self._folder):
            self._stream.truncate(self._n_records * self._stored.itemsize)

    def _read(self, start: int, count: int) -> NDArray[np.void]:
        size = self._stored.itemsize
        with write_errors(self._folder, resumable=True):
            data = os.pread(self._stream.fileno(), count * size, start * size)
        return np.frombuffer(data, self._stored, len(data) // size)

    def _n_good(self, stored: NDArray[np.void], start: int) -> int:
        """Return the number of undamaged records, up to the first damaged one."""
        wrong = stored["checksum"] != self._checksums(stored)
        wrong |= stored["row"] != np.arange(start, start + len(stored))
        return int(wrong.argmax()) if wrong.any() else len(stored)

    def _checksums(self, stored: NDArray[np.void]) -> NDArray[np.uint32]:
        """Return each record's CRC-32, seeded by the run, so that records of another run are detected."""
        data, size = memoryview(stored.tobytes()), self._stored.itemsize
        sums = [zlib.crc32(data[at : at + size - 4], self._seed) for at in range(0, len(data), size)]
        return np.array(sums, np.uint32)


def _remove(folder: Path, stream: BinaryIO) -> None:
    """Remove the files of a journal, and the folder if it is empty; a kill in between does no harm."""
    with suppress(OSError):
        stream.truncate(0)
        for name in ("output.json", "state.json", "rows.bin"):
            remove_leftovers(folder / name)
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
