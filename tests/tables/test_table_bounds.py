"""Opening takes time in proportion to the columns, and damaged tables neither run for ever nor fill the memory."""

import time

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from astropy.table import Table
from pyarrow import parquet as pq
from tablemaking import append

from galmorph.errors import CatalogError
from galmorph.tables.catalog import open_catalog
from galmorph.tables.formats import _votable_rows

VOTABLE = "<VOTABLE><RESOURCE><TABLE>{fields}<DATA>{data}</DATA></TABLE></RESOURCE></VOTABLE>"


def wide_csv(path, n):
    path.write_text(",".join(f"c{i}" for i in range(n)) + "\n" + ",".join(["1.5"] * n) + "\n")


def wide_ecsv(path, n):
    items = "".join(f"# - {{name: c{i}, datatype: float64}}\n" for i in range(n))
    names, cells = (" ".join(texts) for texts in ([f"c{i}" for i in range(n)], ["1.5"] * n))
    path.write_text(f"# %ECSV 1.0\n# ---\n# datatype:\n{items}{names}\n{cells}\n")


def wide_votable(path, n):
    fields = "".join(f'<FIELD name="c{i}" datatype="double"/>' for i in range(n))
    path.write_text(VOTABLE.format(fields=fields, data=f"<TABLEDATA><TR>{'<TD>1.5</TD>' * n}</TR></TABLEDATA>"))


def wide_parquet(path, n):
    pq.write_table(pa.table({f"c{i}": [1.5] for i in range(n)}), path)


def wide_fits(path, n):
    Table({f"c{i}": [1.5] for i in range(n)}).write(path)


@pytest.mark.parametrize(
    ("make", "suffix", "n"),
    [
        (wide_csv, "csv", 10_000),
        (wide_ecsv, "ecsv", 4000),
        (wide_votable, "vot", 4000),
        (wide_parquet, "parquet", 4000),
        (wide_fits, "fits", 900),
    ],
)
def test_a_table_of_many_columns(tmp_path, make, suffix, n):
    path = tmp_path / f"in.{suffix}"
    make(path, n)
    open_catalog(path)
    start = time.process_time()
    catalog = open_catalog(path)
    assert time.process_time() - start < 1
    assert len(catalog.column_names) == n
    append(path, tmp_path / f"out.{suffix}")


def binary(arraysize, data="AAAAAAAA", kind="BINARY"):
    fields = "".join(f'<FIELD name="{name}" datatype="char" arraysize="{arraysize}"/>' for name in "ab")
    return VOTABLE.format(fields=fields, data=f'<{kind}><STREAM encoding="base64">{data}</STREAM></{kind}>')


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (binary("0"), "have no bytes: an arraysize"),
        (binary("999999999"), "ends in the middle of a row"),
        (binary("99999999x99999999"), "ends in the middle of a row"),
        (binary("9" * 5000), "not of VOTable"),
    ],
)
def test_binary_rows_of_impossible_widths(tmp_path, text, reason):
    (tmp_path / "in.vot").write_text(text)
    with pytest.raises(CatalogError, match=reason):
        open_catalog(tmp_path / "in.vot")


def test_a_row_that_takes_the_whole_stream(tmp_path, monkeypatch):
    monkeypatch.setattr(_votable_rows, "_MAX_ROW", 1 << 20)
    (tmp_path / "in.vot").write_text(binary("999999999", ("A" * 4000 + "\n") * 400))
    with pytest.raises(CatalogError, match="more than 1 MiB: an arraysize"):
        open_catalog(tmp_path / "in.vot")


def test_rows_without_bytes_in_fits(tmp_path):
    header = fits.BinTableHDU.from_columns([]).header
    header["NAXIS2"] = 10**12
    (tmp_path / "in.fits").write_bytes(fits.PrimaryHDU().header.tostring().encode() + header.tostring().encode())
    with pytest.raises(CatalogError, match="NAXIS1=0, but NAXIS2=1000000000000"):
        open_catalog(tmp_path / "in.fits")


def test_parquet_without_columns(tmp_path):
    pq.write_table(pa.table({}), tmp_path / "in.parquet")
    with pytest.raises(CatalogError, match="has no columns"):
        open_catalog(tmp_path / "in.parquet")


def test_one_long_cell_of_a_votable(tmp_path):
    cell = "<TD>" + ("x" * 4095 + "\n") * 5000 + "</TD>"
    text = VOTABLE.format(
        fields='<FIELD name="id" datatype="char" arraysize="*"/>', data=f"<TABLEDATA><TR>{cell}</TR></TABLEDATA>"
    )
    (tmp_path / "in.vot").write_text(text)
    start = time.process_time()
    with pytest.raises(CatalogError, match="a cell of more than 16 MiB"):
        list(open_catalog(tmp_path / "in.vot").blocks(10))
    assert time.process_time() - start < 10


def test_a_votable_that_is_cut_behind_the_table(tmp_path):
    wide_votable(tmp_path / "in.vot", 3)
    text = (tmp_path / "in.vot").read_text()
    (tmp_path / "in.vot").write_text(text.replace("</RESOURCE></VOTABLE>", "</RESOURCE>"))
    with pytest.raises(CatalogError, match="is not well-formed XML"):
        open_catalog(tmp_path / "in.vot")


@pytest.mark.parametrize(("null", "value"), [("-1", None), ("0xFFFF", None), ("abc", "error"), ("1.5", "error")])
def test_the_null_of_a_votable(tmp_path, null, value):
    field = f'<FIELD name="id" datatype="int"><VALUES null="{null}"/></FIELD>'
    data = '<BINARY><STREAM encoding="base64">/////wAA//8AAAAB</STREAM></BINARY>'
    (tmp_path / "in.vot").write_text(VOTABLE.format(fields=field, data=data))
    catalog = open_catalog(tmp_path / "in.vot")
    if value == "error":
        with pytest.raises(CatalogError, match=f"FIELD 'id': its VALUES null='{null}' is no number"):
            catalog.read(["id"])
    else:
        expected = [value if number == int(null, 0) else number for number in (-1, 65535, 1)]
        assert catalog.read(["id"])["id"].tolist() == expected
        assert np.ma.is_masked(catalog.read(["id"])["id"])
