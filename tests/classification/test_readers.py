"""Reading in processes: the same bytes as by threads, errors where they belong, and nothing left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from astropy.table import Table
from made import cutout_folder

from galmorph.classification.classify import classify
from galmorph.classification.reading import readers
from galmorph.classification.reading.rows import Row
from galmorph.classification.sources import CutoutSource
from galmorph.errors import CannotContinue
from galmorph.files.remote import Remote
from galmorph.models.model import load

CPU = torch.device("cpu")
OPTIONS = {"device": "cpu", "dtype": "float32", "batch_size": 4, "workers": 2}


@pytest.fixture(scope="module")
def card(model):
    return load(model).card


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """Nine cutouts, one of them damaged, and a row without a file."""
    folder = tmp_path_factory.mktemp("survey")
    cutout_folder(folder / "cutouts", n=10)
    (folder / "cutouts" / "g3.fits").write_bytes(b"SIMPLE  = nothing of the kind")
    (folder / "cutouts" / "g7.fits").unlink()
    Table({"objid": range(10), "cutout": [f"cutouts/g{i}.fits" for i in range(10)]}).write(folder / "t.fits")
    return folder


@pytest.fixture
def in_processes(monkeypatch):
    """What a long table chooses."""
    monkeypatch.setattr(readers, "MIN_ROWS", 0)


def children():
    """The readers' processes that are alive."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"serving import serve" in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def test_processes_give_the_bytes_and_the_warnings_of_threads(survey, model, in_processes, tmp_path, caplog):
    started = []
    real = readers._Process
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "_Process", lambda *arguments: started.append(real(*arguments)) or started[-1])
        summary = classify(survey / "t.fits", model=model, out=tmp_path / "a.fits", record_provenance=False, **OPTIONS)
    warned = [record.getMessage() for record in caplog.records]
    caplog.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "MIN_ROWS", 11)
        classify(survey / "t.fits", model=model, out=tmp_path / "b.fits", record_provenance=False, **OPTIONS)
    assert started
    assert all(process._process.returncode is not None for process in started)
    assert (summary.classified, summary.failed) == (8, 2)
    assert len(warned) == 2
    assert [record.getMessage() for record in caplog.records] == warned
    a, b = Table.read(tmp_path / "a.fits"), Table.read(tmp_path / "b.fits")
    assert a.as_array().tobytes() == b.as_array().tobytes()


@pytest.mark.parametrize(
    ("device", "workers", "n_rows", "expected"),
    [
        ("cuda", 16, 5000, True),
        ("cpu", 16, 5000, True),
        ("mps", 16, 5000, False),
        ("cpu", 1, 5000, False),
        ("cpu", 2, 512, True),
        ("cpu", 2, 511, False),
        ("cuda", 16, 4000, False),
    ],
)
def test_device_threads_and_rows_choose(device, workers, n_rows, expected):
    assert readers.wanted(n_rows, torch.device(device), workers) is expected


def test_threads_read_where_no_process_can_be_started(survey, model, in_processes, tmp_path, monkeypatch, caplog):
    def refuse(*_, **__):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(readers.subprocess, "Popen", refuse)
    caplog.set_level("INFO")
    summary = classify(survey / "t.fits", model=model, out=tmp_path / "a.fits", record_provenance=False, **OPTIONS)
    assert (summary.classified, summary.failed) == (8, 2)
    assert "as no process can be started" in caplog.text


@pytest.fixture
def reading(survey, card, in_processes):
    source = CutoutSource(survey / "cutouts", [("g0", survey / "cutouts/g0.fits")])
    with readers.Readers(source, card, CPU, 4, 2) as reading:
        yield reading


@pytest.fixture
def failing(monkeypatch, tmp_path):
    """Lets the readers fail at any file."""

    def fail(error):
        text = (
            "import errno, galmorph.classification.prepare as prepare\n"
            "prepare.FIRST_WAIT_S = 0\n"
            f"def fail(*a, **k): raise {error}\n"
            "prepare.open_cutout = fail\n"
        )
        (tmp_path / "sitecustomize.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)

    return fail


def test_a_reader_has_one_thread(reading, survey, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with reading.read([Row(survey / "cutouts/g0.fits")], CPU):
        pass
    assert len([*Path(f"/proc/{reading._all[0]._process.pid}/task").iterdir()]) == 1


def test_files_of_the_working_directory_are_not_run(reading, survey, tmp_path, monkeypatch):
    (tmp_path / "galmorph.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    with reading.read([Row(survey / "cutouts/g0.fits")], CPU) as (target,):
        assert target.flux is not None


def test_what_readers_log_is_logged_here(reading, survey, failing, caplog):
    failing("ValueError('odd')")
    with reading.read([Row(survey / "cutouts/g0.fits")], CPU) as (target,):
        assert target.reason.endswith("unexpected ValueError: odd")
    assert "please report it" in caplog.text
    assert "Traceback" in caplog.text


def test_a_failing_system_ends_the_run(reading, survey, failing):
    failing("OSError(errno.EIO, 'broken')")
    with pytest.raises(CannotContinue, match="cannot be read"), reading.read([Row(survey / "cutouts/g0.fits")], CPU):
        pass


def test_a_reader_that_was_killed_ends_the_run(reading, survey):
    rows = [Row(survey / "cutouts/g0.fits")]
    with reading.read(rows, CPU) as (target,):
        assert target.flux is not None
    os.kill(reading._all[0]._process.pid, signal.SIGKILL)
    with pytest.raises(CannotContinue, match="process that reads cutouts ended"), reading.read(rows, CPU):
        pass


def test_remote_cutouts_are_read_by_threads(reading, monkeypatch):
    with reading.read([Row(Remote("memory://x/y.fits"))], CPU) as (target,):
        assert target.flux is None
    assert not reading._all


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from galmorph.classification.reading import readers
from galmorph.classification.reading.rows import Row
from galmorph.classification.sources import CutoutSource
from galmorph.models import card
readers.MIN_ROWS = 0
path = Path(sys.argv[1])
source = CutoutSource(path, [("x", path)])
reading = readers.Readers(source, card.read_card(Path(sys.argv[2])), torch.device("cpu"), 4, 2)
with reading.read([Row(path)], torch.device("cpu")):
    print(reading._all[0]._process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_leaves_neither_process_nor_memory(survey, model):
    shared = Path("/dev/shm")
    before = set(shared.glob("*galmorph*"))
    command = [sys.executable, "-c", KILLED, survey / "cutouts/g0.fits", model]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    reader = int(done.stdout)
    end = time.monotonic() + 20
    while reader in children() and time.monotonic() < end:
        time.sleep(0.02)
    assert reader not in children()
    assert set(shared.glob("*galmorph*")) <= before
