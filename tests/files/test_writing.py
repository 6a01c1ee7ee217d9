"""Files take their names whole, or not at all; dates come from one clock."""

import errno
import os
import resource
import stat

import pytest

from galmorph.environment import now
from galmorph.errors import CannotContinue, GalmorphError, OutputError
from galmorph.files.writing import Output, write_errors, write_file


def fail_with(number):
    def fail(descriptor):
        raise OSError(number, os.strerror(number))

    return fail


def test_the_content_is_written_in_order_with_the_usual_mode(tmp_path):
    write_file(tmp_path / "x", b"one", memoryview(b"two"))
    (tmp_path / "y").touch()
    assert (tmp_path / "x").read_bytes() == b"onetwo"
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == stat.S_IMODE((tmp_path / "y").stat().st_mode)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, CannotContinue),
        (errno.EDQUOT, CannotContinue),
        (errno.EFBIG, CannotContinue),
        (errno.EIO, OutputError),
        (errno.EROFS, OutputError),
    ],
)
def test_a_failed_write_leaves_the_old_file_and_nothing_beside(tmp_path, monkeypatch, number, kind):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", fail_with(number))
    with pytest.raises(kind, match=f"x cannot be written: {os.strerror(number)}"):
        write_file(path, b"new")
    with pytest.raises(CannotContinue, match="What is done is kept"):
        write_file(path, b"new", resumable=True)
    with pytest.raises(kind, match="x cannot be written"), Output(path) as output:
        output.write(b"new")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("x", b"old")]


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(OutputError, match="cannot be written: No such file"):
        write_file(tmp_path / "none" / "x", b"")
    write_file(tmp_path / "none" / "x", b"", resumable=True)
    with pytest.raises(OutputError, match=r"none cannot be written: File exists"), write_errors(tmp_path / "none"):
        (tmp_path / "none").mkdir()


def test_a_limit_on_the_size_of_files(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(CannotContinue, match="File too large"):
            write_file(tmp_path / "x", bytes(20_000))
        with pytest.raises(CannotContinue, match="File too large"), Output(tmp_path / "y") as output:
            output.write(bytes(20_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_the_clock(monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert now(86400).isoformat() == "1970-01-02T00:00:00+00:00"
    assert now().year > 2000
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert now() == now(5) == now(86400)


@pytest.mark.parametrize("text", ["today", "-1", "1.5", "1e9", "²", " 1", "9" * 20, "nan"])
def test_a_date_that_is_none(monkeypatch, text):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    with pytest.raises(GalmorphError, match="SOURCE_DATE_EPOCH"):
        now()
