"""Another format than the input's: values, units and descriptions come through, or what would be lost is named."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from pyarrow import parquet as pq

from galmorph.errors import CatalogError
from galmorph.tables.catalog import Column, open_catalog, write_catalog

SUFFIXES = ("fits", "csv", "ecsv", "vot", "parquet")
IDS = [1237651653835781245, 1237651653835781246, 1237651653835781247]
OWN = [
    Column("objid", "int64", ucd="meta.id;meta.main", description="identifier of SDSS"),
    Column("ra", "float64", unit="deg", ucd="pos.eq.ra;meta.main", description="right ascension"),
    Column("mag", "float32", unit="mag"),
    Column("name", "str", width=8),
    Column("n", "int16"),
    Column("good", "bool"),
]
VALUES = {
    "objid": np.array(IDS),
    "ra": np.array([150.123456789012, 0.1, np.nan]),
    "mag": np.array([17.1, np.nan, 20.25], np.float32),
    "name": np.array(["NGC 1", "", "a,b"], object),
    "n": np.array([3, 2, 1], np.int16),
    "good": np.array([True, False, True]),
}
NEW = [Column("p_smooth", "float32", ucd="stat.probability", description="share")]


def made(tmp_path, suffix):
    path = tmp_path / f"t.{suffix}"
    write_catalog(path, OWN, [VALUES], 3)
    return path


def appended(path, out):
    catalog = open_catalog(path)
    values = np.array([0.5, 0.25, 1], np.float32)[: catalog.n_rows]
    blocks = [{"p_smooth": values[:1]}, {"p_smooth": values[1:]}]
    catalog.append(out, NEW, blocks, cards=[("GMMODEL", "tiny", "model")])
    return open_catalog(out)


@pytest.mark.parametrize("to", SUFFIXES)
@pytest.mark.parametrize("of", SUFFIXES)
def test_values_and_what_is_said_of_columns_come_through(tmp_path, of, to):
    result = appended(made(tmp_path, of), tmp_path / f"out.{to}")
    assert result.column_names == (*VALUES, "p_smooth")
    assert result.galmorph_columns[-1] == "p_smooth"
    assert dict(card[:2] for card in result.provenance)["GMMODEL"] == "tiny"
    read = result.read(list(VALUES))
    assert read["objid"].tolist() == IDS
    np.testing.assert_array_equal(read["ra"], VALUES["ra"])
    np.testing.assert_allclose(read["mag"], VALUES["mag"])
    assert read["name"].tolist() == ["NGC 1", "", "a,b"]
    assert read["n"].tolist() == [3, 2, 1]
    assert [str(value).lower() for value in read["good"]] == ["true", "false", "true"]
    assert result.read(["p_smooth"])["p_smooth"].tolist() == [0.5, 0.25, 1]
    fields = {field.name: field for field in result._table.fields}
    assert (fields["ra"].unit, fields["ra"].ucd) == ("deg", "pos.eq.ra;meta.main")
    assert fields["mag"].unit == "mag"
    descriptions = result._table.extra().descriptions
    assert descriptions["objid"] == "identifier of SDSS"
    assert descriptions["p_smooth"] == "share"


def test_numbers_of_csv_are_numbers_and_identifiers_stay(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        "id,plate,z,n,big,word,few\n007,12,1.5,4,18446744073709551615,a,\n010,13,,,1,b,1237651653835781245\n"
    )
    appended(path, tmp_path / "o.parquet")
    table = pq.read_table(tmp_path / "o.parquet")
    kinds = {field.name: str(field.type) for field in table.schema}
    assert kinds["id"] == kinds["big"] == kinds["word"] == kinds["few"] == "string"
    assert (kinds["plate"], kinds["z"], kinds["n"]) == ("int64", "double", "double")
    assert table["id"].to_pylist() == ["007", "010"]
    assert table["few"].to_pylist() == ["", "1237651653835781245"]


def test_decimal_commas_become_numbers(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id;ra;dec\na;150,25;2,5\nb;151,5;2,75\n")
    result = appended(path, tmp_path / "o.fits")
    assert Table.read(tmp_path / "o.fits")["ra"].tolist() == [150.25, 151.5]
    assert result.ra_column == "ra"


def test_null_integers_become_floats_where_these_are_exact(tmp_path):
    table = Table({"objid": MaskedColumn([1, 2, 3], mask=[False, True, False]), "ra": [1.0, 2.0, 3.0]})
    table.write(tmp_path / "t.fits")
    appended(tmp_path / "t.fits", tmp_path / "o.csv")
    assert pd.read_csv(tmp_path / "o.csv")["objid"].tolist()[::2] == [1, 3]


def fits_table(path, columns, header=(), more=()):
    hdu = fits.BinTableHDU(Table(columns), header=fits.Header(dict(header)))
    fits.HDUList([fits.PrimaryHDU(), hdu, *more]).writeto(path)


LOSSES = {
    "arrays": (lambda p: fits_table(p, {"id": [1], "v": [[1.0, 2.0]]}), "t.fits", "csv", "the arrays in column v"),
    "cards": (lambda p: fits_table(p, {"id": [1]}, {"TELESCOP": "SDSS"}), "t.fits", "csv", "the header card TELESCOP"),
    "HDUs": (
        lambda p: fits_table(p, {"id": [1]}, more=[fits.ImageHDU(np.ones((2, 2)))]),
        "t.fits",
        "parquet",
        r"HDU 2 \(image\)",
    ),
    "complex": (lambda p: fits_table(p, {"id": [1], "c": [1j]}), "t.fits", "ecsv", "complex128 values of column c"),
    "nulls": (
        lambda p: Table({"id": MaskedColumn([2**60 + 1, 1], mask=[False, True])}).write(p),
        "t.fits",
        "csv",
        "the null values of column id",
    ),
    "comments": (lambda p: p.write_text("# mine\nid,ra\na,1\n"), "t.csv", "fits", "comment lines"),
    "ascii": (lambda p: p.write_text("id,ra\nä,1\n"), "t.csv", "fits", "not ASCII in column id"),
    "meta": (lambda p: Table({"id": [1]}, meta={"author": "me"}).write(p), "t.ecsv", "csv", "the entry author"),
    "params": (
        lambda p: Table({"id": [1]}, meta={"author": "me"}).write(p, format="votable"),
        "t.vot",
        "csv",
        "would be lost",
    ),
    "metadata": (
        lambda p: pq.write_table(pa.table({"id": [1]}).replace_schema_metadata({"author": "me"}), p),
        "t.parquet",
        "csv",
        "the metadata author",
    ),
}


@pytest.mark.parametrize("case", LOSSES)
def test_what_would_be_lost_is_named(tmp_path, case):
    make, name, to, words = LOSSES[case]
    make(tmp_path / name)
    if case == "params":
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(
            text.replace("<DATA>", '<PARAM name="seeing" datatype="float" value="1.2"/><DATA>')
        )
    catalog = open_catalog(tmp_path / name, needs_position=False)
    with pytest.raises(CatalogError, match=rf"(?s){words}.*name it \*"):
        catalog.check_destination(tmp_path / f"o.{to}")
    catalog.check_destination(tmp_path / f"o.{name.partition('.')[2]}")
    assert not (tmp_path / f"o.{to}").exists()


def test_a_data_frame_of_pandas_loses_nothing(tmp_path):
    pd.DataFrame({"id": ["a", "b"], "ra": [1.0, 2.0]}).to_parquet(tmp_path / "t.parquet")
    table = Table({"id": ["a", "b"], "ra": [1.0, 2.0]})
    table.write(tmp_path / "t.ecsv")
    for name in ("t.parquet", "t.ecsv"):
        open_catalog(tmp_path / name).check_destination(tmp_path / "o.fits")


def test_blocks_of_any_size_meet(tmp_path):
    n = 40_000
    path = tmp_path / "t.parquet"
    pd.DataFrame({"id": np.arange(n), "ra": np.linspace(0, 300, n)}).to_parquet(path)
    values = np.random.default_rng(0).random(n).astype(np.float32)
    parts = np.split(values, [1, 7, 20_000, 20_001])
    open_catalog(path).append(tmp_path / "o.fits", NEW, [{"p_smooth": part} for part in parts])
    table = Table.read(tmp_path / "o.fits")
    np.testing.assert_array_equal(table["id"], np.arange(n))
    np.testing.assert_array_equal(table["p_smooth"], values)
