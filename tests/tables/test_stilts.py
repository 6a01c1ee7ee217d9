"""What galmorph writes is what STILTS (and TOPCAT, which reads tables alike) reads: every format, every column."""

import subprocess

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from results_made import results
from tablemaking import append, program, stilts, stilts_meta

from galmorph import registry
from galmorph.classification.output_columns import output_columns
from galmorph.models.card import ModelCard

N = 6
# STILTS tells formats by their content, but for CSV.
READERS = {"fits": "(auto)", "ecsv": "(auto)", "vot": "(auto)", "csv": "csv", "parquet": "(auto)"}


def votlint(path):
    """The complaints of votlint about a VOTable, UCDs and units too."""
    command = [program("stilts"), "votlint", f"votable={path}", "ucd=true", "unit=true"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("suffix", READERS)
def test_a_catalog_of_results(tmp_path, suffix):
    path = tmp_path / f"r.{suffix}"
    p = results(path, n=N)
    try:
        rows = stilts(path, "addcol row $0", form=READERS[suffix])
    except subprocess.CalledProcessError:
        if suffix != "parquet":
            raise
        pytest.skip("this STILTS (Debian's, say) has no reader of Parquet")
    assert len(rows) == N
    labels = registry.load("schemas", "galaxyzoo2").labels
    read = np.array([[float(row[f"p_{label}"] or "nan") for label in labels] for row in rows])
    np.testing.assert_allclose(read, p, rtol=1e-6)
    assert [row["morph_flag"] for row in rows][3] == "16"
    if suffix == "csv":
        return  # it has no place for them; they lie in r.csv.json
    meta = stilts_meta(path)
    for column in output_columns(ModelCard("own-model", "mobilenet_v2", "galaxyzoo2", ())):
        assert meta[column.name] == (column.unit, column.description, column.ucd), column.name
    assert meta["ra"][0] == "deg"


def test_votlint_finds_no_fault_in_a_new_table(tmp_path):
    results(tmp_path / "r.vot", n=N)
    assert votlint(tmp_path / "r.vot") == ""
    assert "<DESCRIPTION>Galaxies" in (tmp_path / "r.vot").read_text()


@pytest.mark.parametrize("serialisation", ["tabledata", "binary", "binary2"])
def test_votlint_finds_no_new_fault_in_the_users(tmp_path, serialisation):
    table = Table({"id": ["a", "b", "c"], "ra": [1.0, 2.0, 3.0], "n": np.arange(3)})
    table.write(tmp_path / "in.vot", format="votable", tabledata_format=serialisation)
    append(tmp_path / "in.vot", tmp_path / "out.vot")
    assert votlint(tmp_path / "out.vot") == votlint(tmp_path / "in.vot")


def test_topcat_finds_units_ucds_and_descriptions_in_fits(tmp_path):
    results(tmp_path / "r.fits", n=N)
    header = fits.getheader(tmp_path / "r.fits", 1)
    columns = {header[f"TTYPE{i}"]: i for i in range(1, header["TFIELDS"] + 1)}
    for column in output_columns(ModelCard("own-model", "mobilenet_v2", "galaxyzoo2", ())):
        i = columns[column.name]
        assert header[f"TUCD{i}"] == column.ucd
        assert header[f"TCOMM{i}"] == column.description
    assert header[f"TUNIT{columns['ra']}"] == "deg"
