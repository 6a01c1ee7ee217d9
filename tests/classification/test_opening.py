"""What the user names is opened as what it is; what is none of ours ends before anything is written."""

import logging
import os

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from made import cutout_folder
from typer.testing import CliRunner

from galmorph.classification.classify import classify
from galmorph.classification.opening import kind_of, open_survey
from galmorph.classification.options import ClassifyOptions
from galmorph.classification.sources import CatalogSource, CutoutSource
from galmorph.cli.app import app
from galmorph.errors import GalmorphError


@pytest.fixture
def folder(tmp_path):
    return cutout_folder(tmp_path / "cut", n=3)


def opened(survey, **options):
    return open_survey(survey, ClassifyOptions(**options))


def table(path, **columns):
    Table(columns).write(path)
    return path


def test_kinds(tmp_path, folder):
    assert kind_of(folder / "g0.fits") == "cutout"
    assert kind_of(table(tmp_path / "t.fits", id=["g0"], ra=[1.0], dec=[2.0])) == "catalog"
    fits.PrimaryHDU(np.ones((1025, 20), np.float32)).writeto(tmp_path / "big.fits")
    assert kind_of(tmp_path / "big.fits") == "field"


def test_a_table_among_cutouts_is_no_cutout(tmp_path, folder, caplog):
    table(folder / "targets.fits", id=["g0"], ra=[1.0], dec=[2.0])
    with caplog.at_level(logging.INFO):
        source = opened(folder)
    assert isinstance(source, CutoutSource)
    assert source.n_rows == 3
    assert "targets.fits is a table, not a cutout, and left out" in caplog.text


@pytest.mark.parametrize("suffix", ["Z", "zst"])
def test_a_cutout_in_a_compression_that_is_not_read_is_a_row_that_says_so(tmp_path, folder, model, suffix, caplog):
    magic = {"Z": b"\x1f\x9d", "zst": b"\x28\xb5\x2f\xfd"}[suffix]
    for name in ("g1", "g9"):  # of g1 there is a file that is read
        (folder / f"{name}.fits.{suffix}").write_bytes(magic + bytes(4000))
    assert opened(folder).n_rows == 5
    catalog = table(tmp_path / "t.fits", id=["g0", "g1", "g9"])
    summary = classify(catalog, cutouts=folder, model=model, out=tmp_path / "out.fits", device="cpu")
    assert "g9.fits" in caplog.text
    assert "not read. Unpack it" in caplog.text
    assert summary.failed == 1


def test_folders_without_cutouts_say_what_they_hold(tmp_path):
    table(tmp_path / "targets.fits", id=["g0"], ra=[1.0], dec=[2.0])
    with pytest.raises(GalmorphError, match=r"but a table: galmorph classify .*targets.fits"):
        opened(tmp_path)
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "_SUCCESS").touch()
    (tmp_path / "s" / "part-0.csv").write_text("id,ra,dec\n")  # as Spark writes it
    with pytest.raises(GalmorphError, match=r"but a table: galmorph classify .*part-0.csv"):
        opened(tmp_path / "s")
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.gif").touch()
    with pytest.raises(GalmorphError, match=r"no cutouts \(FITS, JPEG or PNG\)"):
        opened(tmp_path / "p")


@pytest.mark.parametrize("content", [b"\x89HDF\r\n\x1a\n\0", b"SIMPLE  =                    T", b""])
def test_what_is_none_of_ours_writes_nothing(tmp_path, model, content):
    (tmp_path / "a.fits").write_bytes(content)
    with pytest.raises(GalmorphError) as error:
        classify(tmp_path / "a.fits", model=model)
    assert error.value.exit_code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.fits"]


@pytest.mark.parametrize("survey", ["cut", "cut/g0.fits", "t.csv"])
def test_a_suffix_that_is_no_format_is_refused_before_the_first_galaxy(tmp_path, folder, model, survey):
    (tmp_path / "t.csv").write_text("id\ng0\n")
    cutouts = folder if survey == "t.csv" else None
    with pytest.raises(GalmorphError, match="no suffix that names a table format"):
        classify(tmp_path / survey, cutouts=cutouts, model=model, out=tmp_path / "out.xlsx")
    assert not list(tmp_path.glob("*out*"))


def test_columns_that_the_user_names(tmp_path, folder):
    (tmp_path / "t.csv").write_text("key,where,lon,lat\ng0,cut/g1.fits,1,2\n")
    by_id = opened(tmp_path / "t.csv", cutouts=folder, id_column="key")
    assert isinstance(by_id, CatalogSource)
    assert next(by_id.blocks(5, 0))[0][0].name == "g0.fits"
    by_path = opened(tmp_path / "t.csv", cutout_column="where")
    assert next(by_path.blocks(5, 0))[0][0].name == "g1.fits"
    with pytest.raises(GalmorphError, match="--id-column: There is no column 'x'"):
        opened(tmp_path / "t.csv", cutouts=folder, id_column="x")
    catalog = opened(tmp_path / "t.csv", cutout_column="where", ra_column="lon", dec_column="lat").catalog
    assert (catalog.ra_column, catalog.dec_column) == ("lon", "lat")


def test_a_table_in_memory_has_the_same_options(folder, model):
    rows = Table({"NUMBER": [5, 6], "key": ["g1", "g0"]})
    result = classify(rows, cutouts=folder, id_column="key", model=model)
    assert not (np.array(result["morph_flag"]) & 16).any()


def test_the_hdu_of_the_cutouts_beside_that_of_the_table(tmp_path, folder):
    first = fits.BinTableHDU(Table({"id": ["g0"], "ra": [1.0], "dec": [2.0]}), name="ONE")
    second = fits.BinTableHDU(Table({"id": ["g1"], "ra": [1.0], "dec": [2.0]}), name="TWO")
    fits.HDUList([fits.PrimaryHDU(), first, second]).writeto(tmp_path / "t.fits")
    with pytest.raises(GalmorphError, match="--hdu"):
        opened(tmp_path / "t.fits", cutouts=folder)
    source = opened(tmp_path / "t.fits", cutouts=folder, hdu=2, image_hdu="SCI")
    assert source.cutout_hdu == "SCI"
    assert next(source.blocks(5, 0))[0][0].name == "g1.fits"
    assert opened(folder / "g0.fits", hdu=0).cutout_hdu == 0


def test_a_catalog_of_a_survey_image_without_positions_names_the_options(tmp_path, folder):
    (tmp_path / "t.csv").write_text("key,mag\na,1\n")
    with pytest.raises(GalmorphError, match=r"--ra-column and --dec-column.*key, mag"):
        opened(folder / "g0.fits", kind="field", catalog=tmp_path / "t.csv")
    (tmp_path / "u.csv").write_text("ALPHAWIN_J2000,DELTAWIN_J2000\n150,2\n")
    assert opened(folder / "g0.fits", kind="field", catalog=tmp_path / "u.csv").default_output.name == "u_morph.csv"


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_pipes_and_loops_among_cutouts_fail_their_row_alone(tmp_path, folder, model):
    os.mkfifo(folder / "p.fits")
    (folder / "l.fits").symlink_to("l.fits")
    (tmp_path / "t.csv").write_text("id,cutout\na,cut/g0.fits\nb,cut/p.fits\nc,cut/l.fits\n")
    summary = classify(tmp_path / "t.csv", model=model)
    assert (summary.classified, summary.failed) == (1, 2)
    with pytest.raises(GalmorphError, match="is a pipe or a device"):
        opened(folder / "p.fits")


def test_a_run_in_which_no_cutout_could_be_read_ends_with_1(tmp_path, folder, model):
    (tmp_path / "t.csv").write_text("id,cutout\na,cut/none.fits\nb,cut/nothing.fits\n")
    result = run("classify", tmp_path / "t.csv", "--model", model)
    assert result.exit_code == 1
    assert "No cutout of the 2 rows could be read" in result.stderr
    assert (tmp_path / "t_morph.csv").read_text().count("\n") == 3
    (tmp_path / "e.csv").write_text("id,cutout\n")
    assert run("classify", tmp_path / "e.csv", "--model", model).exit_code == 0


def test_fetch_takes_its_targets_as_an_argument(tmp_path):
    (tmp_path / "t.csv").write_text("id,ra,dec\na,150,2\n")
    result = run("fetch", tmp_path / "t.csv", "--dry-run", "--json")
    assert result.exit_code == 0
    assert '"targets": 1' in result.stdout
    assert run("fetch", "--catalog", tmp_path / "t.csv", "--dry-run", "--json").stdout == result.stdout
    with pytest.raises(GalmorphError, match="Name one table of targets"):
        app(["fetch", "--dry-run"], standalone_mode=False)
