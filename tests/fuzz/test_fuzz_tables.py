"""Seeded fuzzing of the tables: each damaged one is refused in a message, or its rows come out as they went in."""

import gzip
import io
import itertools

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from hypothesis import strategies as st
from mutations import fuzzed, mutated, tried
from tablemaking import COLUMNS, values

from galmorph.tables.catalog import open_catalog

N = 6


def table():
    """A table of positions, names, sizes and cutouts, with units, nulls and metadata."""
    made = Table(
        {
            "id": [f"g{i}" for i in range(N)],
            "ra": np.arange(N) * 10.5,
            "dec": np.arange(N) - 2.5,
            "petroR90_r": MaskedColumn(np.arange(N) + 1.0, mask=[0, 1, 0, 0, 0, 0]),
            "n": np.arange(N, dtype=np.int16),
            "cutout": [f"cut/{i}.fits" for i in range(N)],
        },
        meta={"SURVEY": "x", "comments": ["a line"]},
    )
    made["ra"].unit = made["dec"].unit = "deg"
    made["petroR90_r"].unit = "arcsec"
    made["ra"].description = "right ascension"
    return made


def fits_bytes():
    text, out = table(), io.BytesIO()
    hdu = fits.table_to_hdu(text)
    lists = fits.BinTableHDU.from_columns(
        [fits.Column("v", "PJ()", array=np.array([np.arange(i) for i in range(N)], object))]
    )
    hdu = fits.BinTableHDU.from_columns(hdu.columns + lists.columns, header=hdu.header)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(out)
    return out.getvalue()


def written(suffix, **options):
    out = io.BytesIO() if suffix in ("vot", "parquet") else io.StringIO()
    if suffix == "parquet":
        made = table()
        pq.write_table(made.to_pandas_arrow() if hasattr(made, "to_pandas_arrow") else arrow(made), out)
    else:
        table().write(out, **options)
    content = out.getvalue()
    return content if isinstance(content, bytes) else content.encode()


def arrow(made):
    import pyarrow as pa

    meta = {
        "table_meta_yaml": "datatype:\n- {name: id, datatype: string}\n- {name: ra, unit: deg, datatype: float64}\n",
        "galmorph": '{"columns": [], "cards": []}',
    }
    return pa.table({name: made[name].tolist() for name in made.colnames}).replace_schema_metadata(meta)


FORMATS = {
    "csv": written("csv", format="ascii.csv"),
    "tsv": written("tsv", format="ascii.tab"),
    "ecsv": written("ecsv", format="ascii.ecsv"),
    "vot": written("vot", format="votable"),
    "binary.vot": written("vot", format="votable", tabledata_format="binary2"),
    "parquet": written("parquet"),
    "fits": fits_bytes(),
}


def check(path):
    """Open a table; if that can be done, its rows are read, copied with columns appended, and read again."""
    catalog, error = tried(lambda: open_catalog(path))
    if error:
        return
    blocks, error = tried(lambda: list(catalog.blocks(4)))
    tried(lambda: catalog.read(catalog.column_names[:8]))
    if error:
        return
    assert sum(len(block.row) for block in blocks) == catalog.n_rows
    for block in blocks:
        fine = block.problem == ""
        assert not catalog.has_positions or np.isfinite(block.ra[fine] + block.dec[fine]).all()
    out = path.with_name("out." + path.name.partition(".")[2])
    edges = [*range(0, catalog.n_rows, 4), catalog.n_rows]
    parts = (values(stop, start) for start, stop in itertools.pairwise(edges))
    _, error = tried(lambda: catalog.append(out, COLUMNS, parts, replace=True))
    if error:
        assert not out.exists()
        return
    again = open_catalog(out)
    assert again.n_rows == catalog.n_rows
    assert set(catalog.column_names) - set(catalog.galmorph_columns) <= set(again.column_names)
    if again.id_column == catalog.id_column:
        for one, other in zip(blocks, again.blocks(4), strict=True):
            assert one.id.tolist() == other.id.tolist()


DAMAGED = {suffix: mutated(content) for suffix, content in FORMATS.items()}
packed = gzip.compress(FORMATS["fits"], mtime=0)
DAMAGED["fits.gz"] = mutated(FORMATS["fits"]).map(gzip.compress) | mutated(packed)
NUMBERS = dict.fromkeys(DAMAGED, 60)


@pytest.mark.parametrize("suffix", DAMAGED)
def test_tables(tmp_path, suffix):
    @fuzzed(NUMBERS[suffix], content=DAMAGED[suffix])
    def damaged(content):
        path = tmp_path / f"t.{suffix}"
        for old in tmp_path.iterdir():
            old.unlink()
        path.write_bytes(content)
        check(path)

    damaged()


def test_descriptions_of_csv_files(tmp_path):
    (tmp_path / "t.csv").write_bytes(FORMATS["csv"])
    catalog = open_catalog(tmp_path / "t.csv")
    catalog.append(tmp_path / "o.csv", COLUMNS, [values(N)], cards=[("GMMODEL", "m", "model")])
    content = (tmp_path / "o.csv.json").read_bytes()

    @fuzzed(60, damaged=st.one_of(mutated(content)))
    def read(damaged):
        (tmp_path / "o.csv.json").write_bytes(damaged)
        check(tmp_path / "o.csv")
        for name in ("out.csv", "out.csv.json"):
            (tmp_path / name).unlink(missing_ok=True)

    read()
