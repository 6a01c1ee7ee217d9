"""The journal: a stopped run goes on with what is sound, and nothing that is not galmorph's is touched."""

import json
import os
import resource
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pytest

from galmorph.errors import CannotContinue, CatalogError, OutputError
from galmorph.files import journal as journals
from galmorph.files.journal import Journal, journal_folder
from galmorph.files.lock import locked
from galmorph.files.record import is_continued, read_record, write_record

RECORD = np.dtype([("p", "<f4", (3,)), ("flag", "<i2")])
SIZE = RECORD.itemsize + 12
STATE = {"model": "abc", "source": {"path": "t.csv", "rows": 7}}


def results(n, first=0):
    made = np.zeros(n, RECORD)
    made["p"] = np.arange(3 * first, 3 * (first + n)).reshape(n, 3)
    made["flag"] = np.arange(first, first + n)
    return made


def started(out, n=10, state=STATE):
    """The journal of a run that was killed after so many results, in batches of two."""
    with Journal.open(out, RECORD, state, resume=False, step=2) as journal:
        for first in range(0, n, 2):
            journal.append(results(min(2, n - first), first))


def resumed(out, state=STATE, step=2):
    """How many results are gone on with; each is as it was written."""
    with Journal.open(out, RECORD, state, resume=True, step=step) as journal:
        kept = list(journal.blocks())
        kept = np.concatenate(kept) if kept else results(0)
        assert (kept == results(len(journal))).all()
        return len(journal)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "o.csv"


@pytest.fixture
def rows(out):
    started(out)
    path = journal_folder(out) / "rows.bin"
    assert path.stat().st_size == 10 * SIZE
    return path


def test_a_run_goes_on_after_its_last_whole_batch(out, rows):
    assert resumed(out, step=4) == 8
    assert rows.stat().st_size == 8 * SIZE


def test_the_last_batch_of_a_complete_run_may_be_short(out, rows):
    with Journal.open(out, RECORD, STATE, resume=True, step=4, n_rows=10) as journal:
        assert len(journal) == 10


def test_many_blocks(out, monkeypatch):
    monkeypatch.setattr(journals, "BLOCK", 3)
    started(out)
    assert resumed(out) == 10


@pytest.mark.parametrize("cut", [1, SIZE - 1, SIZE, SIZE + 1])
def test_a_cut_tail(out, rows, cut):
    os.truncate(rows, 10 * SIZE - cut)
    assert resumed(out) == (10 - (cut + SIZE - 1) // SIZE) // 2 * 2


def test_a_tail_of_zeros(out, rows, caplog):
    os.truncate(rows, 4 * SIZE)
    os.truncate(rows, 10 * SIZE)
    assert resumed(out) == 4
    assert "the results from number 5 on are damaged" in caplog.text


def test_a_journal_of_zeros(out, rows):
    os.truncate(rows, 0)
    os.truncate(rows, 10 * SIZE)
    assert resumed(out) == 0


@pytest.mark.parametrize("bit", [0, 63, 64, 8 * SIZE - 1])
def test_a_flipped_bit(out, rows, bit):
    content = bytearray(rows.read_bytes())
    content[6 * SIZE + bit // 8] ^= 1 << bit % 8
    rows.write_bytes(content)
    assert resumed(out) == 6


def test_swapped_records(out, rows):
    content = rows.read_bytes()
    records = [content[i : i + SIZE] for i in range(0, len(content), SIZE)]
    records[5], records[8] = records[8], records[5]
    rows.write_bytes(b"".join(records))
    assert resumed(out) == 4


def test_records_of_another_run(out, rows, tmp_path):
    other = tmp_path / "other.csv"
    started(other, state=STATE | {"model": "abd"})
    rows.write_bytes((journal_folder(other) / "rows.bin").read_bytes())
    assert resumed(out) == 0


def test_damage_while_the_run_goes_on(out):
    with Journal.open(out, RECORD, STATE, resume=False, step=2) as journal:
        journal.append(results(4))
        with (journal_folder(out) / "rows.bin").open("r+b") as file:
            file.seek(SIZE)
            file.write(bytes(SIZE))
        with pytest.raises(CannotContinue, match="was damaged during the run"):
            list(journal.blocks())
        os.truncate(journal_folder(out) / "rows.bin", 3 * SIZE - 1)
        with pytest.raises(CannotContinue, match="was damaged during the run"):
            list(journal.blocks())
    assert resumed(out) == 0
    with Journal.open(out, RECORD, STATE, resume=True, step=2) as journal:
        journal.append(results(4))
    assert resumed(out) == 4


@pytest.mark.parametrize("content", [b"", b"\0" * 300, b"{}", b"[1]", b'{"sha256": "0", "content": {}}', b"\xff", None])
@pytest.mark.parametrize("resume", [True, False])
def test_a_state_file_that_is_damaged_or_foreign_is_kept(out, rows, content, resume):
    state = rows.with_name("state.json")
    if content is None:  # a flipped bit
        content = state.read_bytes().replace(b"abc", b"abb")
    state.write_bytes(content)
    with pytest.raises(OutputError, match=r"state\.json is damaged, of another version, or not galmorph's"):
        Journal.open(out, RECORD, STATE, resume=resume, step=2)
    assert state.read_bytes() == content
    assert rows.stat().st_size == 10 * SIZE


def test_another_input(out, rows):
    with pytest.raises(
        OutputError, match=r"another model \(.*, now x\), source\.rows \(.*, now 8\): give the same input.*--restart"
    ):
        resumed(out, STATE | {"model": "x", "source": {"path": "t.csv", "rows": 8}})
    assert resumed(out) == 10


def test_rows_that_are_not_galmorphs(out):
    folder = journal_folder(out)
    folder.mkdir()
    (folder / "rows.bin").write_text("my rows")
    (folder / "notes").write_text("mine")
    for resume in (True, False):
        with pytest.raises(OutputError, match=r"rows\.bin is not galmorph's"):
            Journal.open(out, RECORD, STATE, resume=resume, step=2)
    assert {p.name: p.read_text() for p in folder.iterdir()} == {"rows.bin": "my rows", "notes": "mine"}


def test_other_files_in_the_folder_are_kept(out):
    folder = journal_folder(out)
    folder.mkdir()
    (folder / "notes").write_text("mine")
    with Journal.open(out, RECORD, STATE, resume=False, step=2) as journal:
        journal.append(results(2))
        journal.remove()
    assert [p.name for p in folder.iterdir()] == ["notes"]


def test_a_file_in_place_of_the_folder(out):
    journal_folder(out).write_text("mine")
    with pytest.raises(OutputError, match="not a folder of galmorph's"):
        Journal.open(out, RECORD, STATE, resume=False, step=2)
    assert journal_folder(out).read_text() == "mine"


@pytest.mark.parametrize("name", ["", "rows.bin", "state.json"])
def test_links_in_place_of_the_journal_are_not_followed(out, tmp_path, name):
    target = tmp_path / "target"
    target.mkdir() if not name else target.write_text("mine")
    folder = journal_folder(out)
    if name:
        folder.mkdir()
    link = folder / name if name else folder
    link.symlink_to(target)
    with pytest.raises(OutputError):
        Journal.open(out, RECORD, STATE, resume=False, step=2)
    assert link.is_symlink()
    assert list(target.iterdir()) == [] if not name else target.read_text() == "mine"


def test_one_output_under_two_names(out, tmp_path):
    out.touch()
    (tmp_path / "link.csv").symlink_to(out)
    (tmp_path / "folder").symlink_to(tmp_path)
    with Journal.open(out, RECORD, STATE, resume=False, step=2) as journal:
        journal.append(results(2))
        for other in (tmp_path / "link.csv", tmp_path / "folder" / "o.csv", out):
            with pytest.raises(OutputError, match="Another run is writing"):
                Journal.open(other, RECORD, STATE, resume=False, step=2)
    assert resumed(tmp_path / "link.csv") == 2


def test_a_lock_that_was_removed_is_no_lock(tmp_path, monkeypatch):
    real = os.lstat

    def removed(path, **options):
        return real(path.with_name("none"), **options)

    monkeypatch.setattr(os, "lstat", removed)
    with pytest.raises(OutputError, match="Another run is testing"):
        locked(tmp_path / "lock", "testing")


def test_a_queue_in_place_of_the_lock(tmp_path):
    os.mkfifo(tmp_path / "lock")
    with pytest.raises(OutputError, match="not a file"):
        locked(tmp_path / "lock", "testing")


def test_nothing_is_left_of_a_run_without_results(out, tmp_path):
    def run(error, n):
        with Journal.open(out, RECORD, STATE, resume=False, step=2) as journal:
            journal.append(results(n))
            raise error

    for error, n in ((ValueError, 0), (CatalogError, 0), (CatalogError, 2)):
        with pytest.raises(error):
            run(error, n)
        assert not list(tmp_path.iterdir())


def test_the_output_is_recognised(out):
    with Journal.open(out, RECORD, STATE, resume=False, step=2) as journal:
        assert not journal.wrote(out)
        part = out.with_name("part")
        part.write_text("x")
        journal.note_output(part)
        part.rename(out)
        assert journal.wrote(out)
        out.unlink()
        out.write_text("y")
        assert not journal.wrote(out)


def test_a_limit_on_the_size_of_files(out):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal.open(out, RECORD, STATE, resume=False, step=2) as journal:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5 * SIZE + 3, before[1]))
        try:
            journal.append(results(4))
            with pytest.raises(CannotContinue, match=r"File too large\. What is done is kept.*same command"):
                journal.append(results(4, 4))
            assert (journal_folder(out) / "rows.bin").stat().st_size == 4 * SIZE
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert resumed(out) == 4


@pytest.mark.parametrize("limit", [0, 30])
def test_no_room_to_begin(out, tmp_path, limit):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(CannotContinue, match="File too large"):
            Journal.open(out, RECORD, STATE, resume=False, step=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_results_are_synced_at_an_interval(out, monkeypatch):
    synced, clock = [], [0.0]
    real = os.fsync
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with Journal.open(out, RECORD, STATE, resume=False, step=2) as journal:
        number = journal._stream.fileno()
        monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(descriptor), real(descriptor)))
        for first in range(0, 40, 2):
            clock[0] += 1.0
            journal.append(results(2, first))
    assert synced == [number] * 3


def test_a_kill_loses_nothing_that_was_appended(out):
    code = f"""
import os, sys, numpy as np
from pathlib import Path
from galmorph.files.journal import Journal
journal = Journal.open(Path(sys.argv[1]), np.dtype({RECORD.descr!r}), {STATE!r}, resume=False, step=2)
journal.append(np.zeros(2, journal.record))
os._exit(1)
"""
    subprocess.run([sys.executable, "-c", code, str(out)], check=False)
    with Journal.open(out, RECORD, STATE, resume=True, step=2) as journal:
        assert len(journal) == 2


def test_records(tmp_path):
    path = tmp_path / "r.json"
    assert read_record(path) is None
    content = {"a": [1, 2.5, float("inf")], "b": {"c": None, "d": "é"}, "path": tmp_path}
    write_record(path, content)
    assert read_record(path) == content | {"path": str(tmp_path)}
    assert is_continued(path, content, resume=True)
    assert not is_continued(path, content, resume=False)
    assert not is_continued(tmp_path / "none", content, resume=True)
    text = path.read_bytes()
    for position in range(len(text) - 1):
        damaged = bytearray(text)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with suppress(OutputError):  # a space is not content
            assert read_record(path) == content | {"path": str(tmp_path)}
    assert json.loads(text)["sha256"]
