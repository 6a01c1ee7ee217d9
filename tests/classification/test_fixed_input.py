"""An input is fixed for a run: what changes is refused or computed anew; failures of the system are not of a row."""

import errno
import json
import logging
import os

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from made import cutout, cutout_folder
from typer.testing import CliRunner

from galmorph.classification import prepare as preparing
from galmorph.classification.classify import classify
from galmorph.cli import app
from galmorph.errors import CannotContinue, CatalogError, CutoutError, Interrupted, OutputError
from galmorph.images.cutout import write_cutout
from galmorph.images.flags import Flag

N = 8
FAST = {"device": "cpu", "dtype": "float32", "batch_size": 2, "workers": 1}


@pytest.fixture
def survey(tmp_path):
    cutout_folder(tmp_path, n=N)
    (tmp_path / "t.csv").write_text("id,cutout\n" + "".join(f"{i},g{i}.fits\n" for i in range(N)))
    return tmp_path


def table_of(order):
    order = list(order)
    return Table({"id": order, "cutout": [f"g{i}.fits" for i in order]})


def probabilities(path):
    table = Table.read(path)
    return np.ma.filled(np.ma.asarray(table["p_smooth_or_featured_smooth"], float), np.nan)


def stop_after(rows):
    def check(done, total):
        if done >= rows:
            raise KeyboardInterrupt

    return check


def stopped(survey, model, rows=4, source="t.csv", **options):
    with pytest.raises(Interrupted, match="go on with the same command"):
        classify(survey / source, model=model, **{**FAST, **options}, on_progress=stop_after(rows))


@pytest.mark.parametrize("suffix", ["csv", "fits", "ecsv", "vot", "parquet"])
@pytest.mark.parametrize("how", ["replaced", "rewritten"])
def test_a_catalog_that_changes_while_it_is_classified_ends_the_run(survey, model, suffix, how):
    path, other = survey / f"in.{suffix}", survey / f"other.{suffix}"
    options = {"format": "votable"} if suffix == "vot" else {}
    table_of(range(N)).write(path, **options)
    table_of(reversed(range(N))).write(other, **options)

    def change(done, total):
        if done == 4 and how == "replaced":
            other.replace(path)
        elif done == 4:
            path.write_bytes(other.read_bytes())

    with pytest.raises(CatalogError, match="changed while it was being classified"):
        classify(path, model=model, **FAST, on_progress=change)
    assert not (survey / f"in_morph.{suffix}").exists()
    assert classify(path, model=model, **FAST).classified == N, "the same command begins anew"
    assert len(set(probabilities(survey / f"in_morph.{suffix}"))) == N


def test_a_catalog_that_changes_at_the_end_is_not_written(survey, model, monkeypatch):
    from galmorph.classification import classify as module

    write = module._write

    def late(*arguments):
        (survey / "t.csv").write_text((survey / "t.csv").read_text().replace("g0", "g1"))
        write(*arguments)

    monkeypatch.setattr(module, "_write", late)
    with pytest.raises(CatalogError, match="changed while"):
        classify(survey / "t.csv", model=model, **FAST)
    assert not (survey / "t_morph.csv").exists()


def test_a_survey_image_that_changes_ends_the_run(tmp_path, model):
    write_cutout(cutout("field", side=200), tmp_path / "f.fits")
    (tmp_path / "t.csv").write_text("id,ra,dec\n" + "".join(f"{i},150.0,2.0\n" for i in range(6)))

    def change(done, total):
        os.utime(tmp_path / "f.fits", ns=(0, done))

    with pytest.raises(CatalogError, match=r"f\.fits changed while"):
        classify(tmp_path / "f.fits", kind="field", catalog=tmp_path / "t.csv", model=model, **FAST, on_progress=change)


def test_an_unfinished_run_goes_on_by_itself_and_gives_the_same_bytes(survey, model, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    classify(survey / "t.csv", model=model, **FAST, out=survey / "whole.csv", record_provenance=False)
    stopped(survey, model, out=survey / "o.csv", record_provenance=False)
    rows = []
    go_on = {"out": survey / "o.csv", "record_provenance": False, "on_progress": lambda done, _: rows.append(done)}
    classify(survey / "t.csv", model=model, **FAST, **go_on)
    assert rows[0] > 4
    assert (survey / "o.csv").read_bytes() == (survey / "whole.csv").read_bytes()


@pytest.mark.parametrize("overwrite", [False, True])
def test_where_something_differs_an_unfinished_run_is_kept_until_it_is_discarded(survey, model, overwrite):
    stopped(survey, model)
    with pytest.raises(OutputError, match=r"another batch_size \(2, now 4\).*--restart") as error:
        classify(survey / "t.csv", model=model, **{**FAST, "batch_size": 4}, overwrite=overwrite)
    assert error.value.exit_code == 2
    with pytest.raises(OutputError, match=r"options\.prefix \(, now x_\)"):
        classify(survey / "t.csv", model=model, **FAST, prefix="x_", overwrite=overwrite)
    rows = []
    note = {"on_progress": lambda done, _: rows.append(done)}
    classify(survey / "t.csv", model=model, **{**FAST, "batch_size": 4}, restart=True, **note)
    assert rows == [4, 8]


def test_restart_replaces_no_output(survey, model):
    (survey / "t_morph.csv").write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        classify(survey / "t.csv", model=model, **FAST, restart=True)
    assert (survey / "t_morph.csv").read_text() == "mine"


def test_the_command_has_restart(survey, model, monkeypatch):
    stopped(survey, model)
    command = ["classify", str(survey / "t.csv"), "--model", str(model), "--device", "cpu", "--json"]
    refused = CliRunner().invoke(app.app, command)
    assert isinstance(refused.exception, OutputError)
    done = CliRunner().invoke(app.app, [*command, "--restart"])
    assert json.loads(done.stdout.splitlines()[-1])["classified"] == N


def test_a_catalog_that_changed_between_two_runs_is_refused(survey, model):
    stopped(survey, model)
    text, status = (survey / "t.csv").read_text(), (survey / "t.csv").stat()
    (survey / "t.csv").write_text(text.replace("0,g0", "0,g7"))
    os.utime(survey / "t.csv", ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(OutputError, match=r"another source\.content"):
        classify(survey / "t.csv", model=model, **FAST)
    (survey / "t.csv").write_text(text)
    os.utime(survey / "t.csv", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert classify(survey / "t.csv", model=model, **FAST).classified == N


@pytest.mark.parametrize("source", ["catalog", "folder"])
def test_another_hdu_is_another_run(survey, model, source):
    tables = [fits.table_to_hdu(table_of(order)) for order in (range(N), [1] * N)]
    fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(survey / "two.fits")
    path = survey / "two.fits"
    if source == "folder":
        path = survey / "cut"
        cutout_folder(path, n=N)
    with pytest.raises(Interrupted):
        classify(path, hdu=0 if source == "folder" else 1, model=model, **FAST, on_progress=stop_after(4))
    with pytest.raises(OutputError, match=r"options\.hdu"):
        classify(path, hdu=2, model=model, **FAST)


def test_cutouts_that_changed_between_two_runs_are_computed_anew(survey, model, caplog):
    stopped(survey, model, rows=6)
    write_cutout(cutout("g3", seed=77), survey / "g3.fits")
    with caplog.at_level(logging.WARNING):
        classify(survey / "t.csv", model=model, **FAST)
    assert "Cutouts have changed" in caplog.text
    resumed = probabilities(survey / "t_morph.csv")
    classify(survey / "t.csv", model=model, **FAST, overwrite=True)
    assert np.array_equal(resumed, probabilities(survey / "t_morph.csv"))


@pytest.mark.parametrize("how", ["rewritten", "swapped"])
def test_cutouts_that_changed_behind_the_same_size_and_time_are_noticed(survey, model, caplog, how):
    stopped(survey, model, rows=6)
    one, other = survey / "g2.fits", survey / "g3.fits"
    status, content = one.stat(), other.read_bytes()
    assert len(content) == status.st_size
    if how == "swapped":
        one.rename(survey / "kept")
        other.rename(one)
        (survey / "kept").rename(other)
    else:
        one.write_bytes(content)
    os.utime(one, ns=(status.st_atime_ns, status.st_mtime_ns))
    with caplog.at_level(logging.WARNING):
        classify(survey / "t.csv", model=model, **FAST)
    assert "Cutouts have changed" in caplog.text


def test_cutouts_that_appear_between_two_runs_are_classified(survey, model):
    kept = (survey / "g1.fits").read_bytes()
    (survey / "g1.fits").unlink()
    stopped(survey, model)
    (survey / "g1.fits").write_bytes(kept)
    assert classify(survey / "t.csv", model=model, **FAST).classified == N


def failing(monkeypatch, error, times, name="g5.fits"):
    """Let a cutout's reading fail so many times; return the list of its tries."""
    read, tries = preparing.read_cutout, []

    def spoiled(path, **options):
        if path.name == name:
            tries.append(path)
            if len(tries) <= times:
                raise error
        return read(path, **options)

    monkeypatch.setattr(preparing, "read_cutout", spoiled)
    monkeypatch.setattr(preparing, "FIRST_WAIT_S", 0.001)
    return tries


def wrapped(error):
    damaged = CutoutError("g5.fits cannot be read")
    damaged.__cause__ = error
    return damaged


SYSTEM = [OSError(code, os.strerror(code)) for code in (errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENOMEM)]
SYSTEM += [PermissionError(errno.EACCES, "denied"), MemoryError()]


@pytest.mark.parametrize("error", [*SYSTEM, *map(wrapped, SYSTEM)], ids=repr)
def test_a_passing_failure_of_the_system_is_not_the_cutout_s(survey, model, monkeypatch, error):
    tries = failing(monkeypatch, error, times=preparing.READ_ATTEMPTS - 1)
    assert classify(survey / "t.csv", model=model, **FAST).classified == N
    assert len(tries) == preparing.READ_ATTEMPTS


def test_a_failure_of_the_system_that_stays_ends_the_run_resumable(survey, model, monkeypatch):
    with monkeypatch.context() as patched:
        tries = failing(patched, wrapped(OSError(errno.EIO, "Input/output error")), times=99)
        with pytest.raises(CannotContinue, match=r"g5\.fits cannot be read \(Input/output error\), 4 times") as error:
            classify(survey / "t.csv", model=model, **FAST)
        assert error.value.exit_code == 3
        assert len(tries) == preparing.READ_ATTEMPTS
    done = []
    classify(survey / "t.csv", model=model, **FAST, on_progress=lambda rows, _: done.append(rows))
    assert done[0] > 2, "what was done was kept"
    assert np.isfinite(probabilities(survey / "t_morph.csv")).all()


def test_a_damaged_cutout_is_tried_once(survey, model, monkeypatch):
    tries = failing(monkeypatch, CutoutError("damaged"), times=99)
    assert classify(survey / "t.csv", model=model, **FAST).failed == 1
    assert len(tries) == 1


def test_an_unexpected_error_ends_its_row_and_is_logged(survey, model, monkeypatch, caplog):
    failing(monkeypatch, ZeroDivisionError("odd"), times=99)
    assert classify(survey / "t.csv", model=model, **FAST).failed == 1
    assert Table.read(survey / "t_morph.csv")["morph_flag"].tolist()[5] == Flag.UNREADABLE
    (record,) = [record for record in caplog.records if record.exc_info]
    assert "g5.fits" in record.getMessage()
    assert record.exc_info[0] is ZeroDivisionError


TORCH_FULL = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 49152 bytes.")


@pytest.mark.parametrize("error", [TORCH_FULL, MemoryError(), OSError(errno.EIO, "Input/output error")], ids=repr)
def test_a_failure_of_the_system_while_a_row_is_framed_is_not_the_row_s(survey, model, monkeypatch, error):
    """After the file has been read, too: nothing is recorded of the row, and the run goes on later."""
    with monkeypatch.context() as patched:
        patched.setattr("galmorph.classification.prepare.frame", raising(error))
        patched.setattr(preparing.time, "sleep", lambda _: None)
        with pytest.raises(CannotContinue, match="The system fails, not the"):
            classify(survey / "t.csv", model=model, **FAST)
    assert classify(survey / "t.csv", model=model, **FAST).classified == N
    assert np.isfinite(probabilities(survey / "t_morph.csv")).all()


@pytest.mark.parametrize("error", [TORCH_FULL, MemoryError()], ids=repr)
def test_full_memory_in_a_survey_image_is_not_the_row_s(tmp_path, model, monkeypatch, error):
    write_cutout(cutout("field", side=200), tmp_path / "f.fits")
    (tmp_path / "t.csv").write_text("id,ra,dec\n0,150.0,2.0\n1,150.001,2.0\n")
    monkeypatch.setattr("galmorph.classification.survey_images.cut", raising(error))
    with pytest.raises(CannotContinue, match="out of memory"):
        classify(tmp_path / "f.fits", kind="field", catalog=tmp_path / "t.csv", model=model, **FAST)
    assert not (tmp_path / "t_morph.csv").exists()


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


def test_an_unexpected_error_in_a_survey_image_ends_its_row(tmp_path, model, monkeypatch):
    from galmorph.classification import survey_images

    write_cutout(cutout("field", side=200), tmp_path / "f.fits")
    (tmp_path / "t.csv").write_text("id,ra,dec\n0,150.0,2.0\n1,150.001,2.0\n2,150.0,2.001\n")
    cut = survey_images.cut

    def spoiled(flux, x, *arguments):
        if (x < 98).any():
            raise ZeroDivisionError("odd")
        return cut(flux, x, *arguments)

    monkeypatch.setattr(survey_images, "cut", spoiled)
    summary = classify(
        tmp_path / "f.fits", kind="field", catalog=tmp_path / "t.csv", model=model, **{**FAST, "batch_size": 4}
    )
    assert summary.failed == 1
    assert Table.read(tmp_path / "t_morph.csv")["morph_flag"].tolist()[1] == Flag.UNREADABLE


def test_a_probability_that_is_not_finite_is_flagged(survey, model, monkeypatch):
    from galmorph.models.predictor import Predictor

    judge = Predictor.judge

    def overflowing(self, inputs):
        p, ood = judge(self, inputs)
        p = p.clone()
        p[1] = np.nan
        return p, ood

    monkeypatch.setattr(Predictor, "judge", overflowing)
    assert classify(survey / "t.csv", model=model, **FAST).failed == N / 2
    flags = Table.read(survey / "t_morph.csv")["morph_flag"]
    assert all((flag & Flag.UNREADABLE > 0) == bool(i % 2) for i, flag in enumerate(flags))
