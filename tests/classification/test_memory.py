"""Tables in memory: an astropy Table in, a Table out, the numbers of the run on files."""

import numpy as np
import pytest
from astropy.table import MaskedColumn, QTable, Table
from made import cutout_folder, model_file

import galmorph
from galmorph.errors import CatalogError, GalmorphError, OutputError

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
    with pytest.raises(OutputError, match="given back in memory"):
        galmorph.classify(table_of(folder), out=tmp_path / "o.fits", cutouts=folder, **options)
    with pytest.raises(GalmorphError, match="in memory is a catalog"):
        galmorph.classify(table_of(folder), images=["x.fits"], **options)
    with pytest.raises(GalmorphError, match="an astropy Table, not a dict"):
        galmorph.classify({"cutout": []}, **options)
    with pytest.raises(CatalogError, match="the table has no column 'cutout'"):
        galmorph.classify(Table({"ra": [1.0]}), **options)
