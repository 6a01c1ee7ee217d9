"""Classification: the user's table back with probabilities and flags; nothing lost, nothing silent, resumable."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from astropy.io import fits
from astropy.table import Table
from made import cutout, cutout_folder, model_file

from galmorph.classification import classify as classification
from galmorph.classification.classify import classify
from galmorph.classification.prepare import prepare
from galmorph.errors import CatalogError, CutoutError, GalmorphError, Interrupted, ModelError, OutputError
from galmorph.images.cutout import write_cutout
from galmorph.images.flags import Flag
from galmorph.models.model import load
from galmorph.models.predictor import Predictor

FAST = {"device": "cpu", "dtype": "float32", "batch_size": 4, "workers": 2}


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """A folder with ten cutouts and catalogs of them."""
    folder = tmp_path_factory.mktemp("survey")
    cutout_folder(folder / "cutouts", n=10)
    table = Table({"objid": np.arange(10) + 1237651653835781245, "ra": 150 + np.arange(10.0), "dec": np.full(10, 2.0)})
    table["cutout"] = [f"cutouts/g{i}.fits" for i in range(10)]
    for suffix in ("fits", "csv", "ecsv", "vot", "parquet"):
        options = {"format": "votable"} if suffix == "vot" else {}
        table.write(folder / f"targets.{suffix}", **options)
    return folder


def read_table(path):
    if path.suffix != ".parquet":
        return Table.read(path)
    return Table.from_pandas(pd.read_parquet(path))  # astropy's own reader warns of text without a stored length


def probabilities(path, prefix=""):
    table = read_table(path)
    names = [name for name in table.colnames if name.startswith(f"{prefix}p_")]
    return np.stack([np.ma.filled(np.ma.asarray(table[name], dtype=float), np.nan) for name in names], axis=1)


@pytest.mark.parametrize("suffix", ["fits", "csv", "ecsv", "vot", "parquet"])
def test_every_format_comes_back_with_the_columns(survey, model, tmp_path, suffix):
    out = tmp_path / f"out.{suffix}"
    summary = classify(survey / f"targets.{suffix}", model=model, out=out, **FAST)
    assert (summary.targets, summary.classified, summary.failed) == (10, 10, 0)
    table = read_table(out)
    assert [str(value) for value in table["objid"]] == [str(1237651653835781245 + i) for i in range(10)]
    assert table.colnames[:4] == ["objid", "ra", "dec", "cutout"]
    assert table.colnames[-4:] == ["morph_label", "morph_entropy", "morph_ok", "morph_flag"]
    assert table["morph_ok"].dtype.kind == ("U" if suffix == "csv" else "b")
    faults = np.asarray(table["morph_flag"], int) & ~(256 | 512) != 0
    assert [str(ok).lower() for ok in table["morph_ok"]] == [str(not fault).lower() for fault in faults]
    assert summary.flagged == faults.sum()
    p = probabilities(out)
    assert p.shape == (10, 37)
    assert p[:, :3].sum(axis=1) == pytest.approx(np.ones(10), abs=1e-5)
    assert len(np.unique(p[:, 0])) == 10
    entropy = -(p[:, :3] * np.log(p[:, :3])).sum(axis=1)
    assert np.asarray(table["morph_entropy"], float) == pytest.approx(entropy, rel=1e-4)


def test_default_output_lies_beside_the_input(survey, model, tmp_path):
    table = tmp_path / "my.targets.csv"
    table.write_text((survey / "targets.csv").read_text())
    summary = classify(table, model=model, cutouts=survey, **FAST)
    assert summary.out == str(tmp_path / "my.targets_morph.csv")
    assert json.loads((tmp_path / "my.targets_morph.csv.json").read_text())


def test_folder_and_single_cutout_agree_with_the_catalog(survey, model, tmp_path):
    classify(survey / "targets.fits", model=model, out=tmp_path / "catalog.fits", **FAST)
    classify(survey / "cutouts", model=model, out=tmp_path / "folder.fits", **FAST)
    classify(survey / "cutouts" / "g3.fits", model=model, out=tmp_path / "one.fits", **FAST)
    folder, one = Table.read(tmp_path / "folder.fits"), Table.read(tmp_path / "one.fits")
    np.testing.assert_allclose(probabilities(tmp_path / "folder.fits"), probabilities(tmp_path / "catalog.fits"))
    np.testing.assert_allclose(probabilities(tmp_path / "one.fits")[0], probabilities(tmp_path / "catalog.fits")[3])
    assert list(folder["id"]) == [f"g{i}" for i in range(10)]
    assert folder["ra"] == pytest.approx(150.0 + np.arange(10))
    assert one["dec"][0] == pytest.approx(2.0)
    assert folder["cutout"][0] == "g0.fits"


def test_header_says_what_made_the_columns(survey, model, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    summary = classify(survey / "targets.fits", model=model, out=tmp_path / "out.fits", **FAST)
    header = fits.getheader(tmp_path / "out.fits", 1)
    assert header["GMMODEL"] == "tiny"
    assert header["GMSHA256"] == summary.sha256
    assert header["GMDTYPE"] == "float32"
    assert header["GMDATE"] == "1970-01-02T00:00:00"
    names = [header[f"TTYPE{i}"] for i in range(1, header["TFIELDS"] + 1)]
    index = names.index("p_smooth_or_featured_smooth") + 1
    assert header[f"TUCD{index}"] == "stat.probability;src.morph.type"
    assert "Class1.1" in header[f"TCOMM{index}"]


def test_result_is_classified_again_with_another_model(survey, model, tmp_path):
    other = model_file(tmp_path / "other.safetensors", seed=7)
    first, second = tmp_path / "first.fits", tmp_path / "second.fits"
    options = {**FAST, "cutouts": survey}
    classify(survey / "targets.fits", model=model, out=first, **FAST)
    with pytest.raises(CatalogError, match=r"--prefix.*--replace"):
        classify(first, model=other, out=second, **options)
    assert not second.exists()
    classify(first, model=other, out=second, prefix="b_", **options)
    np.testing.assert_array_equal(probabilities(second), probabilities(first))
    assert np.abs(probabilities(second, "b_") - probabilities(first)).max() > 0.01
    classify(first, model=other, out=tmp_path / "third.fits", replace=True, **options)
    np.testing.assert_array_equal(probabilities(tmp_path / "third.fits"), probabilities(second, "b_"))


def test_replace_leaves_nothing_of_the_model_before(survey, model, tmp_path):
    rings = model_file(tmp_path / "rings.safetensors", schema="rings")
    first, both, last = (tmp_path / f"{name}.fits" for name in ("first", "both", "last"))
    user = fits.getdata(survey / "targets.fits", 1).names
    options = {**FAST, "cutouts": survey}
    classify(survey / "targets.fits", model=model, out=first, **FAST)
    classify(first, model=model, out=both, prefix="b_", **options)
    classify(both, model=rings, out=last, replace=True, **options)
    names = fits.getdata(last, 1).names
    assert names[: len(user)] == user
    assert names.count("p_ring") == names.count("morph_flag") == 1
    assert "p_smooth_or_featured_smooth" not in names, "two models' columns under one prefix"
    np.testing.assert_array_equal(probabilities(last, "b_"), probabilities(both, "b_"))


def test_batch_size_does_not_matter(survey, model, tmp_path):
    results = []
    for size in (1, 3, 64):
        out = tmp_path / f"{size}.fits"
        classify(survey / "targets.fits", model=model, out=out, **{**FAST, "batch_size": size})
        results.append(probabilities(out))
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], atol=1e-5)


def test_same_command_gives_the_same_bytes(survey, model, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    for name, workers in (("a", 1), ("b", 4)):
        options = {**FAST, "dtype": "bfloat16", "workers": workers}
        classify(survey / "targets.fits", model=model, out=tmp_path / f"{name}.fits", **options)
    assert (tmp_path / "a.fits").read_bytes() == (tmp_path / "b.fits").read_bytes()


def write(path, **changes):
    write_cutout(dataclasses.replace(cutout(side=80), **changes), path)


def spoiled(kind, folder):
    """Write a bad cutout as bad.fits and return the flag expected."""
    path = folder / "bad.fits"
    flux = cutout(side=80).flux.copy()
    if kind == "missing":
        return Flag.UNREADABLE
    if kind == "html":
        path.write_text("<html>504 Gateway Time-out</html>" * 200)
        return Flag.UNREADABLE
    if kind == "truncated":
        write(path)
        path.write_bytes(path.read_bytes()[:-5000])
        return Flag.UNREADABLE
    if kind == "nan":
        flux[1, 40:44, 40:44] = np.nan
        write(path, flux=flux)
        return Flag.BAD_PIXELS
    if kind == "zero band":
        flux[2] = 0
        write(path, flux=flux)
        return Flag.MISSING_BAND
    if kind == "one band":
        write(path, flux=flux[:1], bands=("r",))
        return Flag.MISSING_BAND
    if kind == "half covered":
        flux[:, :, :40] = 0
        write(path, flux=flux)
        return Flag.PARTIAL
    if kind == "blank":
        write(path, flux=np.random.default_rng(0).normal(0, 0.01, flux.shape).astype(np.float32))
        return Flag.BLANK
    if kind == "large":
        write(path, radius_arcsec=100.0)
        return Flag.LARGER_THAN_CUTOUT
    if kind == "tiny":
        write(path, radius_arcsec=0.3)
        return Flag.TOO_SMALL
    if kind == "no radius":
        write(path, radius_arcsec=math.nan)
        return Flag.RADIUS_MEASURED
    if kind == "blended":
        flux[:, 38:41, 48:51] += 5 * flux.max()
        write(path, flux=flux)
        return Flag.BLENDED
    if kind == "other survey":
        write(path, survey="hsc")
        return Flag.UNREADABLE
    raise AssertionError(kind)


@pytest.mark.parametrize(
    ("kind", "classified"),
    [
        ("missing", False),
        ("html", False),
        ("truncated", False),
        ("zero band", False),
        ("one band", False),
        ("other survey", False),
        ("nan", True),
        ("half covered", True),
        ("blank", True),
        ("large", True),
        ("tiny", True),
        ("no radius", True),
        ("blended", True),
    ],
)
def test_a_bad_cutout_is_a_flag_of_its_row(model, tmp_path, kind, classified):
    cutout_folder(tmp_path, n=2)
    flag = spoiled(kind, tmp_path)
    (tmp_path / "t.csv").write_text("id,cutout\n1,g0.fits\n2,bad.fits\n3,g1.fits\n4,\n")
    summary = classify(tmp_path / "t.csv", model=model, **FAST)
    table = Table.read(tmp_path / "t_morph.csv")
    p = probabilities(tmp_path / "t_morph.csv")
    assert list(table["id"]) == [1, 2, 3, 4]
    assert Flag(int(table["morph_flag"][1])) & flag, "the bad one"
    assert np.isfinite(p[1]).all() == classified
    assert np.isfinite(p[[0, 2]]).all(), "its neighbours are not touched"
    assert list(table["morph_flag"][[0, 2]]) == [0, 0]
    assert int(table["morph_flag"][3]) == Flag.UNREADABLE, "no cutout named"
    assert (summary.classified, summary.failed) == (2 + classified, 2 - classified)
    assert summary.flagged == int(classified and kind not in ("large", "no radius")), "these two are notes, no faults"


def test_the_same_galaxy_at_other_pixel_scales_is_framed_alike(model, tmp_path):
    framed = []
    for pixscale in (0.131, 0.262, 0.393):
        side = round(80 * 0.262 / pixscale)
        made = cutout(seed=3, side=side, pixscale=pixscale, noise=0)
        write_cutout(dataclasses.replace(made, flux_pixscale=0.262), tmp_path / "c.fits")
        framed.append(prepare(tmp_path / "c.fits", load(model).card, math.nan).flux[2])
    for other in (framed[0], framed[2]):  # they differ at the cusp, which the pixels smooth
        assert np.sqrt(((other - framed[1]) ** 2).mean()) < 0.05 * framed[1].max()
        assert other.sum() == pytest.approx(framed[1].sum(), rel=0.02)


def test_paths_stay_under_their_folder(model, tmp_path):
    cutout_folder(tmp_path, n=1)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "t.csv").write_text(f"id,cutout\n1,../g0.fits\n2,{tmp_path}/g0.fits\n")
    assert classify(tmp_path / "sub" / "t.csv", model=model, **FAST).failed == 2
    assert classify(tmp_path / "sub" / "t.csv", model=model, cutouts=tmp_path, overwrite=True, **FAST).failed == 1


def test_cutouts_are_found_by_identifier(model, tmp_path):
    cutout_folder(tmp_path / "c", n=2)
    (tmp_path / "t.csv").write_text("id\ng1\ng0\nnone\n")
    summary = classify(tmp_path / "t.csv", model=model, cutouts=tmp_path / "c", **FAST)
    assert (summary.classified, summary.failed) == (2, 1)


def test_size_column_frames_the_galaxy(model, tmp_path):
    cutout_folder(tmp_path, n=1)
    (tmp_path / "t.csv").write_text("id,cutout,small,large\n1,g0.fits,1.5,4\n")
    for column in ("small", "large"):
        classify(tmp_path / "t.csv", model=model, out=tmp_path / f"{column}.csv", size_column=column, **FAST)
    assert np.abs(probabilities(tmp_path / "small.csv") - probabilities(tmp_path / "large.csv")).max() > 1e-3


def test_empty_catalog_is_a_catalog(model, tmp_path):
    (tmp_path / "t.csv").write_text("id,cutout\n")
    assert classify(tmp_path / "t.csv", model=model, **FAST).targets == 0
    assert (tmp_path / "t_morph.csv").read_text().startswith("id,cutout,p_smooth_or_featured_smooth")


def test_duplicate_and_missing_identifiers_and_positions_are_no_matter(model, tmp_path):
    cutout_folder(tmp_path, n=2)
    (tmp_path / "t.csv").write_text("id,ra,dec,cutout\n7,nan,nan,g0.fits\n7,,,g1.fits\n,151,2,g1.fits\n")
    assert classify(tmp_path / "t.csv", model=model, **FAST).classified == 3
    assert len((tmp_path / "t_morph.csv").read_text().splitlines()) == 4


def case(name, tmp_path, model):
    table = tmp_path / "t.csv"
    table.write_text("id,cutout\n1,g0.fits\n")
    cutout_folder(tmp_path, n=1)
    options = {"model": model, "out": tmp_path / "o.csv"}
    if name == "no file":
        return tmp_path / "none.csv", options, CatalogError, "There is no file"
    if name == "no cutouts":
        table.write_text("id,ra,dec\n1,2,3\n")
        return table, options, CatalogError, "no column 'cutout'.*galmorph fetch"
    if name == "output exists":
        (tmp_path / "o.csv").write_text("mine")
        return table, options, OutputError, "exists.*--overwrite"
    if name == "input as output":
        return table, options | {"out": table}, OutputError, "exists"
    if name == "no folder of the output":
        return table, options | {"out": tmp_path / "no" / "o.csv"}, OutputError, "does not exist: make it"
    if name == "output is a folder":
        return table, options | {"out": tmp_path}, OutputError, "is a folder"
    if name == "other format":
        table.write_text("# mine\n" + table.read_text())
        return table, options | {"out": tmp_path / "o.fits"}, CatalogError, "comment lines would be lost: name it"
    if name == "unknown model":
        return table, options | {"model": "galaxyzoo"}, ModelError, "There is no model 'galaxyzoo'"
    if name == "corrupt model":
        (tmp_path / "m.safetensors").write_bytes(b"\0" * 100)
        return table, options | {"model": tmp_path / "m.safetensors"}, ModelError, "safetensors"
    if name == "empty folder":
        (tmp_path / "empty").mkdir()
        return tmp_path / "empty", options, CutoutError, "no cutouts"
    if name == "hats":
        (tmp_path / "hats").mkdir()
        (tmp_path / "hats" / "hats.properties").touch()
        return tmp_path / "hats", options, CatalogError, "HATS"
    if name == "large image":
        fits.writeto(tmp_path / "f.fits", np.zeros((3, 1100, 1100), np.float32))
        return tmp_path / "f.fits", options, CutoutError, "does not name the bands"
    if name == "kind":
        return table, options | {"kind": "galaxy"}, GalmorphError, "--as galaxy"
    if name == "size column":
        return table, options | {"size_column": "r90"}, CatalogError, "r90"
    if name == "device":
        return table, options | {"device": "quantum"}, GalmorphError, "quantum"
    if name == "devices":
        return table, options | {"device": "cpu,meta"}, GalmorphError, "one type"
    if name == "dtype":
        return table, options | {"dtype": "bfloat"}, GalmorphError, "Did you mean 'bfloat16'"
    if name == "tta":
        return table, options | {"tta": 9}, GalmorphError, "--tta 9: a whole number from 1 to 8"
    raise AssertionError(name)


@pytest.mark.parametrize(
    "name",
    [
        *("no file", "no cutouts", "output exists", "input as output", "no folder of the output", "output is a folder"),
        *("other format", "unknown model", "corrupt model", "empty folder", "hats", "large image", "kind"),
        *("devices", "size column", "device", "dtype", "tta"),
    ],
)
def test_wrong_usage_is_a_clear_error_and_writes_nothing(tmp_path, model, name):
    survey, options, error, message = case(name, tmp_path, model)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=message) as caught:
        classify(survey, **{"device": "cpu", "dtype": "float32", **options})
    assert caught.value.exit_code == 2
    assert sorted(tmp_path.rglob("*")) == before


def test_an_interrupted_run_goes_on_with_the_same_bytes(survey, model, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    classify(survey / "targets.fits", model=model, out=tmp_path / "whole.fits", **FAST)

    def stop(done, total):
        if done == 8:
            raise KeyboardInterrupt

    out = tmp_path / "out.fits"
    with pytest.raises(Interrupted, match=r"after 8 of 10 .*same command"):
        classify(survey / "targets.fits", model=model, out=out, on_progress=stop, **FAST)
    assert not out.exists()
    with pytest.raises(OutputError, match="another batch_size"):
        classify(survey / "targets.fits", model=model, out=out, **{**FAST, "batch_size": 5})
    done = []
    classify(survey / "targets.fits", model=model, out=out, **FAST, on_progress=lambda d, t: done.append(d))
    assert done == [10], "only the last batch was computed"
    assert out.read_bytes() == (tmp_path / "whole.fits").read_bytes()
    left = {"out.fits", "out.fits.prov.json", "whole.fits", "whole.fits.prov.json"}
    assert {p.name for p in tmp_path.iterdir()} == left


def test_a_file_that_came_between_is_not_replaced(survey, model, tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    out = tmp_path / "out.fits"
    with pytest.raises(Interrupted):
        classify(survey / "targets.fits", model=model, out=out, on_progress=stop, **FAST)
    out.write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        classify(survey / "targets.fits", model=model, out=out, **FAST)
    assert out.read_text() == "mine"
    out.unlink()
    assert classify(survey / "targets.fits", model=model, out=out, **FAST).classified == 10


def test_several_devices_take_batches_in_turn(survey, model, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    used = []
    judge = Predictor.judge

    def noted(self, images):
        used.append(id(self))
        return judge(self, images)

    monkeypatch.setattr(Predictor, "judge", noted)
    options = {**FAST, "batch_size": 2, "workers": 1}
    classify(survey / "targets.fits", model=model, out=tmp_path / "one.fits", **options)
    assert len(set(used)) == 1
    used.clear()

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    options["device"] = "cpu,cpu"
    with pytest.raises(Interrupted):
        classify(survey / "targets.fits", model=model, out=tmp_path / "two.fits", on_progress=stop, **options)
    used.clear()
    classify(survey / "targets.fits", model=model, out=tmp_path / "two.fits", **options)
    first, second = dict.fromkeys(used)
    assert used[:4] == [first, second] * 2
    assert (tmp_path / "one.fits").read_bytes() == (tmp_path / "two.fits").read_bytes()


SLOW = """
import sys, time
from galmorph import classify
def wait(done, total):
    print(done, flush=True)
    time.sleep(0.2)
classify(sys.argv[1], model=sys.argv[2], out=sys.argv[3], device="cpu", dtype="float32", batch_size=2,
         workers=1, on_progress=wait)
"""


def test_a_killed_run_goes_on_with_the_same_bytes(survey, model, tmp_path):
    env = os.environ | {"SOURCE_DATE_EPOCH": "0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SLOW, str(survey / "targets.fits"), str(model)]
    subprocess.run([*command, str(tmp_path / "whole.fits")], check=True, env=env, stdout=subprocess.DEVNULL)
    out = tmp_path / "out.fits"
    process = subprocess.Popen([*command, str(out)], env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "2\n"
    assert process.stdout.readline() == "4\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not out.exists()
    again = subprocess.run([*command, str(out)], check=True, env=env, stdout=subprocess.PIPE, text=True)
    assert again.stdout.split()[0] in ("6", "8"), "it went on"
    assert out.read_bytes() == (tmp_path / "whole.fits").read_bytes()


def test_two_runs_on_one_output_are_refused(survey, model, tmp_path):
    out = tmp_path / "out.fits"
    held = SLOW.replace("time.sleep(0.2)", "sys.stdin.readline()")  # it goes on when it is told
    command = [sys.executable, "-c", held, str(survey / "targets.fits"), str(model), str(out)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        process.stdout.readline()
        with pytest.raises(OutputError, match="Another run is writing"):
            classify(survey / "targets.fits", model=model, out=out, **FAST)
    finally:
        process.communicate(5 * "\n")
    assert process.returncode == 0


def test_overwriting_the_input_when_asked(survey, model, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text((survey / "targets.csv").read_text())
    classify(table, model=model, out=table, cutouts=survey, overwrite=True, **FAST)
    assert "morph_label" in table.read_text().splitlines()[0]
    assert len(table.read_text().splitlines()) == 11


def test_progress_and_profile(survey, model, tmp_path):
    seen = []
    summary = classify(
        survey / "targets.csv", model=model, out=tmp_path / "o.csv", on_progress=lambda *a: seen.append(a), **FAST
    )
    assert seen == [(4, 10), (8, 10), (10, 10)]
    assert set(summary.profile) == {"model", "read", "network", "write", "total", "peak_mb"}
    assert summary.profile["total"] > summary.profile["write"] > 0
    assert summary.profile["peak_mb"] > 100
    assert summary.rate == pytest.approx(10 / summary.seconds, rel=0.02)


def test_classes_are_classified_too(survey, tmp_path):
    model = model_file(tmp_path / "ten.safetensors", schema="galaxy10_sdss")
    classify(survey / "targets.csv", model=model, out=tmp_path / "o.csv", **FAST)
    p = probabilities(tmp_path / "o.csv")
    assert p.sum(axis=1) == pytest.approx(np.ones(10), abs=1e-5)
    table = Table.read(tmp_path / "o.csv")
    assert table["morph_label"][0] == table.colnames[4:14][p[0].argmax()].removeprefix("p_")


def test_sdss_frames_in_three_bands_use_their_own_mapping(model, tmp_path):
    sdss = dataclasses.replace(cutout("s", survey="sdss", bands="gri", pixscale=0.396), flux_pixscale=0.396)
    write_cutout(sdss, tmp_path / "s.fits")
    write_cutout(dataclasses.replace(sdss, bands=("g", "r", "z")), tmp_path / "z.fits")
    summary = classify(tmp_path, model=model, out=tmp_path / "o.csv", **FAST)
    assert summary.classified == 2
    p = probabilities(tmp_path / "o.csv")
    assert np.abs(p[0] - p[1]).max() > 1e-3


def test_prepared_flux_is_per_native_pixel(model, tmp_path):
    made = cutout(side=80, pixscale=0.262)
    for name, pixel in (("ls", 0.262), ("finer", 0.131)):
        write_cutout(dataclasses.replace(made, flux_pixscale=pixel), tmp_path / f"{name}.fits")
    ls, finer = (prepare(tmp_path / f"{name}.fits", load(model).card, math.nan) for name in ("ls", "finer"))
    np.testing.assert_allclose(finer.flux, 4 * ls.flux, rtol=1e-5)
    assert ls.flag == Flag(0)
    assert ls.flux.shape == (3, 64, 64)


@pytest.mark.real_data
def test_real_files_are_classified_or_refused_row_by_row(shared, tmp_path):
    summary = classify(shared / "fits", out=tmp_path / "all.fits", device="cpu")
    table = Table.read(tmp_path / "all.fits")
    flags = dict(zip(table["cutout"], table["morph_flag"], strict=True))
    labels = dict(zip(table["cutout"], table["morph_label"], strict=True))
    assert summary.targets == len(table)
    # Cutouts of the Legacy Surveys are classified; what is missing in them is said.
    whole = [f"ls-cubes/example_{letter}.fits" for letter in "abc"]
    for name in [*whole, "ls-cube-162/example_b.fits", "ls-cubes/temp_small.fits"]:
        assert labels[name]
        assert not Flag(int(flags[name])) & ~(Flag.RADIUS_MEASURED | Flag.BLENDED | Flag.LARGER_THAN_CUTOUT), name
    assert Flag(int(flags["ls-partial-coverage/example_bad_pix.fits"])) & (Flag.PARTIAL | Flag.MISSING_BAND)
    # Everything else keeps its row without a probability: other surveys, single bands, damaged files, no galaxies.
    others = ("ls-truncated", "odd-", "hst-", "jwst-", "wise-", "catalog-", "des-host", "hsc-", "mosaic-", "sdss-dr7")
    for name, label in labels.items():
        if name.startswith(others):
            assert not label, name
            assert Flag(int(flags[name])) & (Flag.UNREADABLE | Flag.MISSING_BAND), name


@pytest.mark.parametrize(
    ("cards", "position"),
    [
        ({"CTYPE2": "DEC---TA"}, True),
        ({"CUNIT1": "DEG", "CUNIT2": "Degrees"}, True),
        ({"CTYPE1": "RA---ZPX", "CTYPE2": "DEC--ZPX"}, False),
        ({"RADESYS": "somewhere"}, False),
    ],
)
def test_a_position_is_right_or_the_row_says_why_there_is_none(model, tmp_path, caplog, cards, position):
    write_cutout(cutout(), tmp_path / "a.fits")
    with fits.open(tmp_path / "a.fits", mode="update") as hdus:
        hdus[0].header.update(cards)
    right = cutout().centre
    classify(tmp_path / "a.fits", model=model, out=tmp_path / "out.fits", **FAST)
    (row,) = Table.read(tmp_path / "out.fits")
    assert (row["morph_flag"] & Flag.WCS_UNUSABLE == 0) == position
    assert ("a.fits: its celestial coordinates cannot be read (CTYPE1 " in caplog.text) != position
    if position:
        assert (row["ra"], row["dec"]) == pytest.approx(right)
    else:
        assert np.isnan(fits.getdata(tmp_path / "out.fits")["ra"][0])
        assert np.isfinite(probabilities(tmp_path / "out.fits")).all()


@pytest.mark.parametrize("radius", [500, 9999, 99999, 1e20, 1e-30])
def test_a_radius_that_no_galaxy_has_is_flagged_and_ends_no_run(model, tmp_path, radius):
    cutout_folder(tmp_path / "cut", n=2)
    (tmp_path / "t.csv").write_text(f"id,petroR90_r,cutout\na,3,cut/g0.fits\nb,{radius},cut/g1.fits\n")
    summary = classify(tmp_path / "t.csv", model=model, out=tmp_path / "o.csv", **FAST)
    assert summary.targets == 2
    flag = Table.read(tmp_path / "o.csv")["morph_flag"]
    assert flag[1] & (Flag.LARGER_THAN_CUTOUT if radius > 1 else Flag.TOO_SMALL)
    assert not flag[0] & (Flag.LARGER_THAN_CUTOUT | Flag.TOO_SMALL)


def test_the_command_takes_one_file_a_band(model, tmp_path):
    from typer.testing import CliRunner

    from galmorph.cli import app as cli

    made = cutout()
    for band, plane in zip(made.bands, made.flux, strict=True):
        write_cutout(dataclasses.replace(made, bands=(band,), flux=plane[None]), tmp_path / f"x_{band}.fits")
    command = ["classify", str(tmp_path / "x_{band}.fits"), "--model", str(model), "--out", str(tmp_path / "o.csv")]
    assert CliRunner().invoke(cli.app, command).exit_code == 0
    assert np.isfinite(probabilities(tmp_path / "o.csv")).all()


def test_a_model_is_made_ready_on_one_thread(survey, model, tmp_path, monkeypatch):
    """Threads that wait for each other over its small tensors take several times as long."""
    seen = []
    monkeypatch.setattr(classification, "load", lambda name: seen.append(torch.get_num_threads()) or load(name))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        classify(survey / "targets.fits", model=model, out=tmp_path / "out.fits", **FAST)
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)
