"""Tables in memory: an astropy Table in, a Table out, the numbers of the run on files."""

import dataclasses
import sys
import types

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tqdm.auto
from astropy.table import MaskedColumn, QTable, Table
from made import cutout_folder, model_file

import galmorph
from galmorph.classification.results import read_results
from galmorph.errors import CatalogError, GalmorphError, Interrupted, OutputError
from galmorph.images.cutout import read_cutout, write_cutout
from galmorph.images.flags import Flag
from galmorph.tables.frames import FrameTable

FAST = {"device": "cpu", "dtype": "float32", "batch_size": 2, "workers": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("memory")
    cutout_folder(path / "cutouts", n=3)
    model_file(path / "m.safetensors")
    return path


def table_of(folder):
    table = Table({"objid": np.arange(4) + 1237651653835781245, "ra": np.arange(4.0)})
    table["cutout"] = ["cutouts/g0.fits", "cutouts/g1.fits", "none.fits", "cutouts/g2.fits"]
    table["petroR90_r"] = MaskedColumn([2.5, 3.0, 2.0, 9.9], mask=[False, False, False, True], unit="arcsec")
    table.meta["comments"] = ["mine"]
    return table


def test_the_numbers_of_the_run_on_files_and_no_file(folder, tmp_path, monkeypatch):
    table = table_of(folder)
    table.write(folder / "t.fits", overwrite=True)
    options = {"model": folder / "m.safetensors", "cutouts": folder, **FAST}
    galmorph.classify(folder / "t.fits", out=tmp_path / "out.fits", **options)
    expected = Table.read(tmp_path / "out.fits")

    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "scratch").mkdir()
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    result = galmorph.classify(table, **options)
    assert sorted(tmp_path.rglob("*")) == before, "nothing is left on the disk"

    assert isinstance(result, Table)
    assert result.colnames == expected.colnames
    new = result.colnames[len(table.colnames) :]
    for name in new:
        null = "" if name == "morph_label" else 0
        in_memory, on_disk = (np.ma.filled(table[name], null) for table in (result, expected))
        in_memory, on_disk = (values if null == "" else np.nan_to_num(values) for values in (in_memory, on_disk))
        np.testing.assert_array_equal(in_memory, on_disk)
    assert len(np.unique(result["p_smooth_or_featured_smooth"][[0, 1, 3]])) == 3
    assert np.isnan(result["p_smooth_or_featured_smooth"][2])
    assert result["morph_flag"][2] == 16
    assert result["p_smooth_or_featured_smooth"].meta["ucd"] == "stat.probability;src.morph.type"
    assert "Class1.1" in result["p_smooth_or_featured_smooth"].description
    assert result["morph_flag"].dtype == np.int16
    assert result.meta["GMMODEL"] == "m"
    assert result.meta["comments"] == ["mine"]
    assert table.colnames == ["objid", "ra", "cutout", "petroR90_r"], "the input is as it was"
    assert result["petroR90_r"].mask.tolist() == [False, False, False, True]


def test_a_result_is_replaced_in_memory_and_from_a_file(folder, tmp_path):
    options = {"model": folder / "m.safetensors", "cutouts": folder, **FAST}
    first = galmorph.classify(table_of(folder), **options)
    with pytest.raises(CatalogError, match=r"the table already has.*--prefix"):
        galmorph.classify(first, **options)
    again = galmorph.classify(first, replace=True, **options)
    assert again.colnames == first.colnames
    first.write(tmp_path / "first.fits")
    summary = galmorph.classify(tmp_path / "first.fits", out=tmp_path / "o.fits", replace=True, **options)
    assert (summary.classified, summary.failed) == (3, 1)
    read = galmorph.classify(Table.read(tmp_path / "first.fits"), replace=True, **options)
    assert read.colnames == first.colnames
    prefixed = galmorph.classify(first, prefix="b_", **options)
    np.testing.assert_array_equal(prefixed["b_morph_label"], first["morph_label"])
    assert len(prefixed.colnames) == 2 * len(first.colnames) - 4


def test_units_names_and_an_empty_table(folder):
    options = {"model": folder / "m.safetensors", "cutouts": folder / "cutouts", **FAST}
    table = QTable({"name": np.array([b"g1", b"g0"]), "size": [0.05, 0.06]}, units={"size": "arcmin"})
    result = galmorph.classify(table, size_column="size", **options)
    arcsec = Table({"name": ["g1", "g0"], "size": [3.0, 3.6]})
    np.testing.assert_array_equal(
        result["p_smooth_or_featured_smooth"],
        galmorph.classify(arcsec, size_column="size", **options)["p_smooth_or_featured_smooth"],
    )
    assert not (result["morph_flag"] & (16 | 256)).any(), "found by name, with the radius"
    empty = galmorph.classify(arcsec[:0], **options)
    assert len(empty) == 0
    assert empty["morph_label"].dtype.kind == "U"


def test_what_does_not_go_with_a_table(folder, tmp_path):
    options = {"model": folder / "m.safetensors", **FAST}
    with pytest.raises(GalmorphError, match="in memory is no file"):
        galmorph.classify(table_of(folder), images=["x.fits"], **options)
    with pytest.raises(GalmorphError, match=r"an astropy Table, .*not a dict"):
        galmorph.classify({"cutout": []}, **options)
    with pytest.raises(CatalogError, match="the table has no column 'cutout'"):
        galmorph.classify(Table({"ra": [1.0]}), **options)


def frame_of(folder, kind):
    table = table_of(folder)
    columns = {name: np.ma.filled(table[name], np.nan if name == "petroR90_r" else 0) for name in table.colnames}
    columns = {name: values.tolist() for name, values in columns.items()}
    if kind == "pandas":
        frame = pd.DataFrame(columns, index=[7, 7, 3, 1])
        frame.attrs["mine"] = 1
        return frame
    if kind == "polars":
        return pytest.importorskip("polars", reason="polars (extra dev) is absent").DataFrame(columns)
    return pa.table(columns)


@pytest.mark.parametrize("kind", ["pandas", "polars", "arrow"])
def test_a_data_frame_comes_back_as_its_kind(folder, tmp_path, kind):
    options = {"model": folder / "m.safetensors", "cutouts": folder, **FAST}
    frame = frame_of(folder, kind)
    expected = galmorph.classify(table_of(folder), **options)
    result = galmorph.classify(frame, out=tmp_path / "o.csv", **options)
    assert type(result) is type(frame)
    names = list(result.columns if kind != "arrow" else result.column_names)
    assert names == expected.colnames
    for name in ("p_smooth_or_featured_smooth", "morph_flag", "morph_label"):
        np.testing.assert_array_equal(np.asarray(result[name]), np.asarray(expected[name]))
    assert len(frame.columns if kind != "arrow" else frame.column_names) == 4, "the input is as it was"
    np.testing.assert_allclose(
        np.asarray(Table.read(tmp_path / "o.csv")["p_bar_yes"].filled(np.nan)), np.asarray(result["p_bar_yes"])
    )
    assert (tmp_path / "o.csv.prov.json").exists()
    with pytest.raises(CatalogError, match="--prefix"):
        galmorph.classify(result, **options)
    again = galmorph.classify(result, replace=True, **options)
    assert list(again.columns if kind != "arrow" else again.column_names) == names
    if kind == "pandas":
        assert result.index.tolist() == [7, 7, 3, 1]
        assert result.attrs["mine"] == 1


def test_a_column_that_arrow_cannot_hold_stays(folder):
    frame = frame_of(folder, "pandas")
    frame["odd"] = [1, "a", object(), None]
    result = galmorph.classify(frame, model=folder / "m.safetensors", cutouts=folder, **FAST)
    assert result["odd"].tolist() == frame["odd"].tolist()


@pytest.mark.parametrize("suffix", ["fits", "ecsv", "parquet"])
def test_a_table_is_written_where_out_says(folder, tmp_path, suffix):
    table = table_of(folder)
    options = {"model": folder / "m.safetensors", "cutouts": folder, **FAST}
    result = galmorph.classify(table, out=tmp_path / f"o.{suffix}", **options)
    assert isinstance(result, Table)
    assert len(read_results(tmp_path / f"o.{suffix}")) == 4
    with pytest.raises(OutputError, match="exists"):
        galmorph.classify(table, out=tmp_path / f"o.{suffix}", **options)
    table["vector"] = np.zeros((4, 2))
    with pytest.raises(CatalogError, match="the arrays in column vector would be lost"):
        galmorph.classify(table, out=tmp_path / f"p.{suffix}", **options)


def test_another_table_does_not_go_on_with_a_stopped_run(folder, tmp_path, monkeypatch):
    options = {"model": folder / "m.safetensors", "cutouts": folder, "out": tmp_path / "o.fits", **FAST}

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        galmorph.classify(table_of(folder), on_progress=stop, **options)
    with pytest.raises(OutputError, match=r"another source\.content"):
        galmorph.classify(table_of(folder)[::-1], **options)
    assert len(galmorph.classify(table_of(folder), **options)) == 4


def test_a_list_of_paths_gives_a_table(folder, tmp_path):
    paths = [folder / "cutouts" / "g1.fits", str(folder / "cutouts" / "g0.fits"), tmp_path / "none.fits"]
    result = galmorph.classify(paths, model=folder / "m.safetensors", out=tmp_path / "o.fits", **FAST)
    assert list(result["id"]) == ["g1", "g0", "none"]
    assert list(result["cutout"]) == list(map(str, paths))
    expected = galmorph.classify(table_of(folder), model=folder / "m.safetensors", cutouts=folder, **FAST)
    assert result["morph_flag"][2] == 16
    assert result["ra"][:2] == pytest.approx([151, 150])
    assert len(Table.read(tmp_path / "o.fits")) == 3
    assert np.isfinite(expected["p_bar_yes"][0])
    assert len(galmorph.classify(iter(paths[:1]), model=folder / "m.safetensors", **FAST)) == 1


@pytest.mark.parametrize("kind", ["array", "paths"])
def test_radii_of_what_has_no_columns(folder, kind):
    """R90 frames the galaxies as that of a catalog does; where it is unknown it is measured."""
    paths = [folder / "cutouts" / f"g{i}.fits" for i in range(3)]
    given, options = paths, {"model": folder / "m.safetensors", **FAST}
    if kind == "array":
        given, options = (
            np.stack([read_cutout(path).flux for path in paths]),
            options | {"bands": "grz", "pixscale": 0.262},
        )
    radii = [2.5, np.nan, 4.0]
    result = galmorph.classify(given, radius_arcsec=radii, **options)
    assert list((result["morph_flag"] & Flag.RADIUS_MEASURED) > 0) == [False, kind == "array", False], "or of headers"
    table = Table({"objid": [1, 2, 3], "cutout": [f"cutouts/g{i}.fits" for i in range(3)], "petroR90_r": radii})
    of_table = galmorph.classify(table, cutouts=folder, model=folder / "m.safetensors", **FAST)
    assert list(result["p_bar_yes"][::2]) == list(of_table["p_bar_yes"][::2])
    assert galmorph.classify(given, radius_arcsec=2.5, **options)["p_bar_yes"][0] == result["p_bar_yes"][0]
    for wrong, words in (([1.0], "one for each of the 3"), ([1, 2, -3], "above 0"), (["a", 1, 2], "is no number")):
        with pytest.raises(GalmorphError, match=words):
            galmorph.classify(given, radius_arcsec=wrong, **options)
    with pytest.raises(GalmorphError, match="size_column"):
        galmorph.classify(table, radius_arcsec=radii, cutouts=folder, model=folder / "m.safetensors", **FAST)


@pytest.mark.parametrize("kind", ["table", "pandas", "arrow"])
def test_a_result_in_memory_is_selected_and_reported(folder, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    result = galmorph.classify(table_of(folder), model=folder / "m.safetensors", **FAST)
    given = {"table": result, "pandas": result.to_pandas(), "arrow": pa.table(FrameTable(result.to_pandas())._table)}[
        kind
    ]
    chosen = galmorph.select(given, "ra > 0.5 and morph_ok")
    assert type(chosen) is type(given)
    assert [float(ra) for ra in (chosen["ra"].to_pylist() if kind == "arrow" else chosen["ra"])] == [1.0, 3.0]
    galmorph.select(given, "ra > 0.5", out=tmp_path / "chosen.csv")
    assert len(Table.read(tmp_path / "chosen.csv")) == 3
    made = galmorph.report(given, tmp_path / "report.html", model=str(folder / "m.safetensors"))
    assert (made.rows, made.pictures) == (4, 3)


@pytest.mark.parametrize("use", [galmorph.select, galmorph.report, galmorph.show])
def test_what_is_no_result_is_refused(use):
    with pytest.raises(GalmorphError, match="is a path, an astropy Table or a data frame, not a set"):
        use({1, 2}, "ra > 1") if use is galmorph.select else use({1, 2})


def test_a_misspelt_option_is_answered_with_the_right_one(folder):
    with pytest.raises(TypeError, match=r"galmorph.classify: There is no option 'overwite'. Did you mean 'overwrite'"):
        galmorph.classify(folder / "cutouts", overwite=True)


def test_an_array_of_flux_gives_a_table(folder, tmp_path):
    cutouts = [read_cutout(folder / "cutouts" / f"g{i}.fits") for i in range(3)]
    flux = np.stack([one.flux for one in cutouts]).astype(np.float64)
    options = {"model": folder / "m.safetensors", "bands": "grz", "pixscale": 0.262, **FAST}
    result = galmorph.classify(flux, out=tmp_path / "o.csv", **options)
    assert result["id"].tolist() == [0, 1, 2]
    for i, one in enumerate(cutouts):
        plain = dataclasses.replace(one, survey="", radius_arcsec=np.nan, header_text="")
        write_cutout(plain, tmp_path / f"{i}.fits")
    expected = galmorph.classify([tmp_path / f"{i}.fits" for i in range(3)], model=folder / "m.safetensors", **FAST)
    np.testing.assert_allclose(result["p_bar_yes"], expected["p_bar_yes"], atol=1e-6)
    np.testing.assert_array_equal(result["morph_flag"], expected["morph_flag"])
    assert len(Table.read(tmp_path / "o.csv")) == 3
    assert len(galmorph.classify(flux[0], **options)) == 1


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        (np.zeros((2, 3, 8, 8)), {"bands": "gr", "pixscale": 0.3}, "with 3 bands needs their names"),
        (np.zeros((2, 3, 8, 8)), {"bands": "grz"}, "the pixel scale"),
        (np.zeros((8, 8)), {"bands": "grz", "pixscale": 0.3}, r"shape \(n, band, y, x\)"),
        ([], {}, "a list of paths"),
        ({"ra": 1}, {}, "not a dict"),
        (["a.fits"], {"bands": "grz"}, "of an array of flux"),
        ("a.fits", {"pixscale": 0.3}, "of an array of flux"),
    ],
)
def test_what_cannot_be_meant_is_refused(folder, given, options, words):
    with pytest.raises(GalmorphError, match=words):
        galmorph.classify(given, model=folder / "m.safetensors", **options, **FAST)


@pytest.mark.parametrize("widgets", [True, False])
@pytest.mark.parametrize(("wanted", "shell", "shown"), [(None, "Z", True), (None, "T", False), (False, "Z", False)])
def test_bars_are_shown_in_notebooks(folder, monkeypatch, capsys, wanted, shell, shown, widgets):
    monkeypatch.setattr("galmorph.progress.find_spec", lambda name: widgets or None)
    names = {"Z": "ZMQInteractiveShell", "T": "TerminalInteractiveShell"}
    ipython = types.SimpleNamespace(get_ipython=type(names[shell], (), {}))
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setattr("tqdm.auto.tqdm", tqdm.std.tqdm)
    galmorph.classify([folder / "cutouts" / "g1.fits"], model=folder / "m.safetensors", progress=wanted, **FAST)
    printed = capsys.readouterr()
    # Without widgets the bar is text, and a notebook shows standard error as a fault.
    assert ["classifying" in text for text in (printed.err, printed.out)] == [shown and widgets, shown and not widgets]
