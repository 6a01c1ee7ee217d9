"""Conditions are read by Python's parser and computed by a few operations; the rows come out of every format whole."""

import json

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from results_made import results
from typer.testing import CliRunner

import galmorph
from galmorph import registry
from galmorph.classification.results import read_results
from galmorph.cli.app import app
from galmorph.errors import GalmorphError, OutputError
from galmorph.selection.cuts import CUTS
from galmorph.selection.expression import MAX_LENGTH, Condition

SCHEMA = registry.load("schemas", "galaxyzoo2")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A classified catalog of 60 galaxies in every format; row 3 has no probability."""
    folder = tmp_path_factory.mktemp("select")
    for suffix in ("fits", "csv", "ecsv", "vot", "parquet"):
        p = results(folder / f"t_morph.{suffix}")
    return folder, p


def rows(made, condition, **options):
    return galmorph.select(made[0] / "t_morph.fits", condition, write=False, **options).rows.tolist()


def p_of(made, label):
    return made[1][:, SCHEMA.labels.index(label)]


def where(values):
    return np.flatnonzero(values).tolist()


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (
            "spiral >= 0.2 and edge_on < 0.3",
            lambda p: (p("has_spiral_arms_yes") >= 0.2) & (p("disk_edge_on_yes") < 0.3),
        ),
        (
            "p_bar_yes > 0.1 or not smooth < 0.5",
            lambda p: (p("bar_yes") > 0.1) | (p("smooth_or_featured_smooth") >= 0.5),
        ),
        ("0.2 < bar <= 0.6", lambda p: (p("bar_yes") > 0.2) & (p("bar_yes") <= 0.6)),
        ("ring + merger >= 0.1", lambda p: p("odd_feature_ring") + p("odd_feature_merger") >= np.float32(0.1)),
        ("dec > 10 and disk_edge_on_no > 0.3", None),
        ("id == '007'", None),
        ("morph_ok and smooth > -1", None),
        ("morph_flag & 128 == 0 and smooth >= 0", None),
    ],
)
def test_conditions(made, condition, expected):
    found = rows(made, condition)
    if expected is not None:
        assert found == where(expected(lambda label: np.nan_to_num(p_of(made, label), nan=np.nan)))
    table = Table.read(made[0] / "t_morph.fits")
    if condition.startswith("dec"):
        assert found == where((table["dec"] > 10) & (p_of(made, "disk_edge_on_no") > 0.3))
    if condition.startswith("id"):
        assert found == [3], "its condition needs no probability"
        assert rows(made, "id == '007' and smooth >= 0") == []
    if "morph" in condition:
        assert found == [i for i in range(60) if i % 10 and i != 3]
    assert found != list(range(60))


def test_a_row_without_a_value_is_never_selected(made):
    assert 3 not in rows(made, "not smooth > 2")
    assert len(rows(made, "not smooth > 2")) == 59


def test_shares_are_among_those_who_are_asked(made):
    shares = SCHEMA.answers(made[1])[:, SCHEMA.labels.index("bar_yes")]
    with np.errstate(invalid="ignore"):
        assert rows(made, "share_bar > 0.5") == rows(made, "share_bar_yes > 0.5") == where(shares > 0.5)


def test_named_cuts_are_those_of_the_publication(made):
    def share(label):
        return SCHEMA.answers(made[1])[:, SCHEMA.labels.index(label)]

    with np.errstate(invalid="ignore"):
        disk = share("smooth_or_featured_featured_or_disk") >= 0.430
        face_on = disk & (share("disk_edge_on_no") >= 0.715)
        expected = {
            "gz2_disk_edge_on": disk,
            "gz2_bar": face_on,
            "gz2_how_rounded": share("smooth_or_featured_smooth") >= 0.469,
            "gz2_bulge_shape": disk & (share("disk_edge_on_yes") >= 0.602),
            "gz2_spiral_winding": face_on & (share("has_spiral_arms_yes") >= 0.619),
            "gz2_odd_feature": share("something_odd_yes") >= 0.420,
        }
    for name, keep in expected.items():
        assert rows(made, name) == where(keep), name
        assert 0 < keep.sum() < 60
    both = rows(made, "gz2_bar and share_bar_yes >= 0.5")
    assert both == where(face_on & (share("bar_yes") >= 0.5))
    for cut in CUTS.values():
        assert "Willett et al. 2013" in cut.source
        assert rows(made, cut.condition) is not None


def test_cuts_are_of_their_labels(tmp_path):
    results(tmp_path / "r.fits", schema="rings", n=5)
    with pytest.raises(GalmorphError, match="gz2_bar is of the labels galaxyzoo2; these are rings"):
        galmorph.select(tmp_path / "r.fits", "gz2_bar")
    assert len(galmorph.select(tmp_path / "r.fits", "ring >= 0", write=False)) == 4


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("__import__('os').system('true') == 0", "no column, label"),
        ("smooth.real > 0", "not allowed"),
        ("[smooth > 0][0]", "not allowed"),
        ("(lambda: 1)() > 0", "not allowed"),
        ("smooth ** 99 > 0", "not allowed"),
        ("smooth in (1, 2)", "not allowed"),
        ("smooth is bar", "something else"),
        ("'a' * 10000000000 == id", "mixes text"),
        ("smooth > 'a'", "mixes text"),
        ("1 / 0 > smooth", "mixes text"),
        ("smooth = 0.5", "equality is =="),
        ("smooth >", "cannot be read"),
        ("smooth", "is no condition"),
        ("smooth and bar", "is no condition"),
        ("smooth + bar", "is no condition"),
        ("1 < 2", "is no condition"),
        ("smoth > 0.5", "Did you mean 'smooth'"),
        ("no_bulge > 0.5 and yes > 0.1", "'yes' may be"),
        ("(" * 300 + "smooth" + ")" * 300, "cannot be read|no condition|too deeply"),
        ("-" * 5000 + "smooth > 1", "cannot be read|too deeply"),
        ("smooth > 0.5 " * MAX_LENGTH, "are read at most"),
    ],
)
def test_what_is_no_condition_is_refused(made, condition, words):
    with pytest.raises(GalmorphError, match=words):
        rows(made, condition)


def test_an_answer_of_several_questions_is_asked_for(made):
    with pytest.raises(GalmorphError, match="'yes' may be disk_edge_on_yes, bar_yes"):
        rows(made, "yes > 0.5")


@pytest.mark.parametrize("to", ["same", "fits", "csv", "parquet"])
@pytest.mark.parametrize("suffix", ["fits", "csv", "ecsv", "vot", "parquet"])
def test_rows_come_out_of_every_format(made, tmp_path, suffix, to):
    out = tmp_path / f"o.{suffix if to == 'same' else to}"
    path = made[0] / f"t_morph.{suffix}"
    selected = galmorph.select(path, "smooth >= 0.3", out=out)
    assert 0 < len(selected) < 60
    before, after = read_results(path), read_results(out)
    assert after.catalog.column_names == before.catalog.column_names
    np.testing.assert_array_equal(after.p, before.p[selected.rows])
    assert after.id.tolist() == before.id[selected.rows].tolist()
    np.testing.assert_allclose(after.ra, before.ra[selected.rows])
    assert after.card("GMMODEL") == "own-model"
    assert after.catalog.galmorph_columns == before.catalog.galmorph_columns


def test_fits_keeps_cards_arrays_and_other_tables(made, tmp_path):
    path = tmp_path / "t.fits"
    with fits.open(made[0] / "t_morph.fits") as hdus:
        arrays = np.empty(60, object)
        arrays[:] = [np.arange(i % 4, dtype=np.int32) for i in range(60)]
        columns = hdus[1].columns + fits.ColDefs([fits.Column("v", "PJ()", array=arrays)])
        table = fits.BinTableHDU.from_columns(columns)
        table.header["TELESCOP"] = "SDSS"
        fits.HDUList([hdus[0], table, fits.ImageHDU(np.ones((3, 3)), name="MORE")]).writeto(path, checksum=True)
    selected = galmorph.select(path, "smooth >= 0.3", out=tmp_path / "o.fits")
    with fits.open(tmp_path / "o.fits", checksum=True) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "", "MORE"]
        assert hdus[1].header["TELESCOP"] == "SDSS"
        assert [list(v) for v in hdus[1].data["v"]] == [list(range(i % 4)) for i in selected.rows]


def test_csv_keeps_its_text(made, tmp_path):
    path = tmp_path / "t.csv"
    lines = (made[0] / "t_morph.csv").read_text().splitlines()
    path.write_text("\n".join(["# mine", *lines]) + "\n")
    selected = galmorph.select(path, "smooth >= 0.3", out=tmp_path / "o.csv")
    kept = (tmp_path / "o.csv").read_text().splitlines()
    assert kept == ["# mine", lines[0], *(lines[1 + row] for row in selected.rows)]


def test_nothing_is_replaced_unasked(made, tmp_path):
    path = tmp_path / "t_morph.csv"
    results(path, n=9)
    assert galmorph.select(path, "smooth >= 0").out == str(tmp_path / "t_morph_selected.csv")
    with pytest.raises(OutputError, match="exists"):
        galmorph.select(path, "smooth >= 0")
    galmorph.select(path, "smooth >= 0", overwrite=True)
    with pytest.raises(OutputError, match="is the catalog"):
        galmorph.select(path, "smooth >= 0", out=path, overwrite=True)
    with pytest.raises(OutputError, match="does not exist"):
        galmorph.select(path, "smooth >= 0", out=tmp_path / "no" / "o.csv")


def test_the_command(made, tmp_path):
    def run(*words):
        return CliRunner().invoke(app, ["select", *map(str, words)])

    path = made[0] / "t_morph.fits"
    result = run(path, "spiral >= 0.1 and edge_on < 0.5", "--out", tmp_path / "o.fits", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout.splitlines()[-1])["selected"] == len(Table.read(tmp_path / "o.fits"))
    assert json.loads(run(path, "gz2_bar", "--count", "--json").stdout.splitlines()[-1])["out"] == ""
    assert "0.715" in run("--cuts").stdout
    assert "MNRAS 435" in run("--cuts").stdout
    assert isinstance(run(path).exception, GalmorphError)


def test_the_condition_is_parsed_once():
    assert Condition("a > 1 and b < 2 and a < 3").names == ["a", "b"]
