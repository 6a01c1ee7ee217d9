"""Errors of the machine are told from errors of files and of the code."""

import errno

import numpy as np
import pytest

from galmorph.errors import CannotContinue, CutoutError, GalmorphError, memory_is_full, system_failure
from galmorph.retrieval import workers
from galmorph.training import decoding
from galmorph.training.samples import _pictures


def following(cause):
    error = CutoutError("damaged")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (MemoryError(), "out of memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB"), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
        (FileNotFoundError(errno.ENOENT, "No such file"), None),
        (ValueError("odd"), None),
        (CutoutError("a cutout named out of memory"), None),
    ],
    ids=repr,
)
def test_failures_of_the_system(error, failure):
    assert system_failure(error) == system_failure(following(error)) == failure
    assert memory_is_full(following(error)) == (failure == "out of memory")


def test_full_memory_is_no_fault_of_an_answer():
    for error in (MemoryError(), workers.Failure("no")):
        error.__context__ = MemoryError()
        with pytest.raises(CannotContinue, match="Memory is full"):
            workers._reason(error)
    assert workers._reason(workers.Failure("no")) == "no"


class Sample:
    """A sample whose pictures cannot be read."""

    name, galaxies = "mine", ("a",)

    def __init__(self, error):
        self.error = error

    def image(self, _):
        raise self.error


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), following(MemoryError())], ids=repr)
def test_a_passing_failure_leaves_no_picture_out_of_a_training(error, monkeypatch, tmp_path):
    with pytest.raises(CannotContinue, match="mine: picture a cannot be read"):
        decoding._resized(Sample(error), 0, 32, 1.0)
    assert "cannot be decoded: damaged" in decoding._resized(Sample(CutoutError("damaged")), 0, 32, 1.0)

    def failing(_):
        raise error

    monkeypatch.setattr(_pictures, "content", failing)
    row = type("Row", (), {"cutout": tmp_path / "a.fits", "radius_arcsec": np.nan})()
    with pytest.raises(CannotContinue, match=r"row 1: .*a\.fits cannot be read"):
        _pictures.read_rows([row], lambda _: None)
    assert issubclass(CannotContinue, GalmorphError)
