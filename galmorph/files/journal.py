"""The journal of a run: results on disk, batch after batch, from which a stopped run goes on."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import CannotContinue, OutputError
from galmorph.files.lock import locked

# Records handed out at a time when the journal is read back.
BLOCK = 16_384


def _folder(output: Path) -> Path:
    return output.with_name(f".{output.name}.galmorph")


class Journal:
    """Fixed-size records appended to a file in a hidden folder beside the output; made by :meth:`open`.

    Attributes
    ----------
    record : numpy.dtype
        Of one record.
    """

    def __init__(self, folder: Path, record: np.dtype[np.void], stream: BinaryIO, n_records: int) -> None:
        self.record = record
        self._folder = folder
        self._stream = stream
        self._n_records = n_records

    @classmethod
    def open(
        cls, output: Path, record: np.dtype[np.void], fingerprint: Mapping[str, Any], *, resume: bool, step: int
    ) -> Journal:
        """Open the journal of an output.

        Parameters
        ----------
        output : Path
        record : numpy.dtype
        fingerprint : mapping
            What must be the same for a stopped run to go on: input, model, options, versions.
        resume : bool
            Go on with the records that are there; otherwise they are dropped.
        step : int
            Records are kept in whole steps (batches).

        Raises
        ------
        OutputError
            If another run writes this output, or the one to resume was started with other input or options.
        """
        folder = _folder(output)
        state, rows = folder / "state.json", folder / "rows.bin"
        text = json.dumps(dict(fingerprint), sort_keys=True, default=str)
        stream = locked(rows, f"writing {output}")
        known = state.read_text() if resume and state.exists() else None
        if known is not None and known != text:
            stream.close()
            changed = ", ".join(k for k, v in json.loads(text).items() if json.loads(known).get(k) != v)
            raise OutputError(
                f"The run to resume had another {changed}: give the same input and options, or leave out --resume."
            )
        n_records = rows.stat().st_size // record.itemsize // step * step if known is not None else 0
        stream.truncate(n_records * record.itemsize)
        if known is None:
            part = state.with_suffix(".part")  # so that a kill leaves no half of it
            part.write_text(text)
            part.replace(state)
        return cls(folder, record, stream, n_records)

    @staticmethod
    def exists(output: Path) -> bool:
        """Whether a run of this output was stopped, or killed before it had put everything away."""
        return _folder(output).is_dir()

    def __len__(self) -> int:
        return self._n_records

    @property
    def started(self) -> float:
        """When the run began, also of one that goes on: seconds since 1970."""
        return (self._folder / "state.json").stat().st_mtime

    def append(self, records: NDArray[np.void]) -> None:
        """Append a batch.

        Raises
        ------
        CannotContinue
            If the disk is full; what was appended before is kept.
        """
        try:
            self._stream.write(records.tobytes())
            self._stream.flush()
        except OSError as error:
            reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
            raise CannotContinue(f"{self._folder}: {reason}. Make room, then go on with --resume.") from error
        self._n_records += len(records)

    def blocks(self) -> Iterator[NDArray[np.void]]:
        """Yield all records, block by block, in order."""
        with (self._folder / "rows.bin").open("rb") as stream:
            for start in range(0, self._n_records, BLOCK):
                count = min(BLOCK, self._n_records - start)
                yield np.frombuffer(stream.read(count * self.record.itemsize), self.record)

    def remove(self) -> None:
        """Remove the journal: the output is complete."""
        shutil.rmtree(self._folder)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stream.close()
        if error is not None and self._n_records == 0:  # nothing to resume
            shutil.rmtree(self._folder, ignore_errors=True)
