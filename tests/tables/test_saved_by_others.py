"""galmorph's output, saved again by other programs: it is read, and its own columns are known again."""

import subprocess

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table
from tablemaking import program, stilts

from galmorph import registry
from galmorph.errors import CatalogError
from galmorph.tables.catalog import Column, open_catalog

LABELS = registry.load("schemas", "efigi").labels
OWN = [
    *(Column(f"p_{label}", "float32", ucd="stat.probability;src.morph.type") for label in LABELS),
    Column("morph_label", "str", width=20),
    Column("morph_entropy", "float32"),
    Column("morph_flag", "int16", ucd="meta.code.qual"),
]
NAMES = [column.name for column in OWN]
CARDS = (("GMVERS", "0.1", "version"), ("GMMODEL", "efigi-mobilenet_v2", "model"))
# Formats of STILTS that have no room for the record: the names of the columns tell.
WITHOUT_RECORD = ("fits-basic", "fits-var", "csv")
STILTS = {
    "fits-plus": "fits",
    "fits-var": "fits",
    "fits-basic": "fits",
    "votable-tabledata": "vot",
    "votable-binary-inline": "vot",
    "votable-binary2-inline": "vot",
    "ecsv": "ecsv",
    "csv": "csv",
}


def values(n=2):
    numbers = {c.name: np.full(n, 0.25, c.dtype) for c in OWN if c.dtype != "str"}
    return {**numbers, "morph_label": np.array(["Sb", "E"][:n], object)}


def make(path):
    """A table as galmorph leaves it."""
    Table({"id": ["a", "b"], "ra": [1.5, 2.5], "dec": [0.25, -0.5], "p_value": [0.5, 0.75]}).write(path)
    open_catalog(path).append(path, OWN, [values()], cards=CARDS)
    return path


def check(path, *, record):
    """It is a table, its columns are galmorph's, and a new run replaces them and nothing else."""
    catalog = open_catalog(path)
    assert (catalog.n_rows, catalog.ra_column, catalog.id_column) == (2, "ra", "id")
    assert [block.id.tolist() for block in catalog.blocks(5)] == [["a", "b"]]
    assert set(catalog.galmorph_columns) == set(NAMES)
    if record:
        assert {key: str(value) for key, value, _ in catalog.provenance} == {k: v for k, v, _ in CARDS}
    new = path.with_name(f"new_{path.name}")
    catalog.append(new, OWN, [values()], cards=CARDS, replace=True)
    again = open_catalog(new)
    assert again.column_names == ("id", "ra", "dec", "p_value", *NAMES)
    assert again.read(["p_value"])["p_value"].tolist() == [0.5, 0.75]
    return new


@pytest.mark.parametrize("form", STILTS)
def test_stilts(tmp_path, form):
    source, path = make(tmp_path / "in.fits"), tmp_path / f"saved.{STILTS[form]}"
    command = [program("stilts"), "tpipe", f"in={source}", f"out={path}", f"ofmt={form}"]
    subprocess.run(command, check=True, capture_output=True)
    new = check(path, record=form not in WITHOUT_RECORD)
    reader = {"csv": "csv", "vot": "votable", "ecsv": "ecsv", "fits": "fits"}[STILTS[form]]
    assert [row["morph_label"] for row in stilts(new, "keepcols morph_label", form=reader)] == ["Sb", "E"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("saved.fits", {}),
        ("saved.ecsv", {}),
        ("saved.vot", {"format": "votable"}),
        ("saved.vot", {"format": "votable", "tabledata_format": "binary2"}),
        ("saved.parquet", {}),
    ],
)
def test_astropy(tmp_path, name, options):
    table = Table.read(make(tmp_path / "in.fits"))
    table.write(tmp_path / name, **options)
    new = check(tmp_path / name, record=name.endswith((".fits", ".ecsv")))
    assert Table.read(new, **{k: v for k, v in options.items() if k == "format"}).colnames[-1] == "morph_flag"


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_pandas(tmp_path, suffix):
    frame = Table.read(make(tmp_path / "in.fits")).to_pandas()
    texts = {"id": frame["id"].str.decode("ascii"), "morph_label": frame["morph_label"].str.decode("ascii")}
    frame = frame.assign(**texts)
    path = tmp_path / f"saved.{suffix}"
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    new = check(path, record=False)
    read = pd.read_csv(new) if suffix == "csv" else pd.read_parquet(new)
    assert read["morph_label"].tolist() == ["Sb", "E"]


def test_polars_and_duckdb(tmp_path):
    pl, duckdb = pytest.importorskip("polars"), pytest.importorskip("duckdb")
    make(tmp_path / "in.fits")
    Table.read(tmp_path / "in.fits").write(tmp_path / "in.csv")
    pl.read_csv(tmp_path / "in.csv").write_parquet(tmp_path / "polars.parquet")
    check(tmp_path / "polars.parquet", record=False)
    duckdb.sql(f"copy (select * from '{tmp_path / 'in.csv'}') to '{tmp_path / 'duck.parquet'}' (format parquet)")
    check(tmp_path / "duck.parquet", record=False)
    duckdb.sql(f"copy (select * from '{tmp_path / 'in.csv'}') to '{tmp_path / 'duck.csv'}'")
    check(tmp_path / "duck.csv", record=False)


def test_columns_of_the_user_are_not_taken_for_ours(tmp_path):
    Table({"id": ["a", "b"], "p_value": [0.5, 0.75], "morph_flag": [1, 2], "morph_label": ["x", "y"]}).write(
        tmp_path / "in.csv"
    )
    catalog = open_catalog(tmp_path / "in.csv")
    assert catalog.galmorph_columns == ()
    with pytest.raises(CatalogError, match="no record that galmorph wrote its columns morph_flag, morph_label"):
        catalog.append(tmp_path / "out.csv", OWN, [values()], replace=True)
