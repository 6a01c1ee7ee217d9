"""Columns of booleans: each format's own kind, read back by others."""

import csv
import json

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from galmorph.errors import CatalogError
from galmorph.tables.catalog import Column, open_catalog, write_catalog

OK = np.array([True, False, True])
COLUMNS = (Column("id", "str", width=2), Column("morph_ok", "bool", description="can be used"))
VALUES = {"id": np.array(["a", "b", "c"], object), "morph_ok": OK}


def read(path):
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        column = pq.read_table(path)["morph_ok"]
        assert str(column.type) == "bool"
        return column.to_pylist()
    if path.suffix == ".csv":
        with path.open() as file:
            return [{"true": True, "false": False}[row["morph_ok"]] for row in csv.DictReader(file)]
    values = Table.read(path)["morph_ok"]
    assert values.dtype == bool
    return values.tolist()


@pytest.mark.parametrize("suffix", ["fits", "csv", "ecsv", "vot", "parquet"])
def test_a_new_table_has_booleans(tmp_path, suffix):
    path = tmp_path / f"t.{suffix}"
    write_catalog(path, COLUMNS, [VALUES], 3)
    assert read(path) == OK.tolist()


@pytest.mark.parametrize("suffix", ["fits", "csv", "ecsv", "vot", "parquet"])
@pytest.mark.parametrize("kind", ["tabledata", "binary", "binary2"])
def test_booleans_are_appended(tmp_path, suffix, kind):
    if suffix != "vot" and kind != "tabledata":
        pytest.skip("a serialisation of VOTables")
    source, path = tmp_path / f"s.{suffix}", tmp_path / f"t.{suffix}"
    table = Table({"name": ["x", "y", "z"]})
    table.write(source, **({"format": "votable", "tabledata_format": kind} if suffix == "vot" else {}))
    open_catalog(source).append(path, COLUMNS[1:], [{"morph_ok": OK[:1]}, {"morph_ok": OK[1:]}])
    assert read(path) == OK.tolist()
    if suffix == "fits":
        assert fits.getheader(path, 1)["TFORM2"] == "L"
    if suffix == "csv":
        described = json.loads((tmp_path / "t.csv.json").read_text())
        assert "bool" in json.dumps(described)


def test_only_booleans_fit(tmp_path):
    with pytest.raises(CatalogError, match="wants one bool"):
        write_catalog(tmp_path / "t.csv", COLUMNS[1:], [{"morph_ok": np.array([1.0])}], 1)
