"""Parquet files: values, types, metadata and row groups stay."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from astropy import units as u
from astropy.table import Table
from pyarrow import parquet as pq
from tablemaking import CARDS, COLUMNS, FLAG, PROBABILITY, append, values

from galmorph.errors import CatalogError
from galmorph.files.reading import Input
from galmorph.tables.catalog import Column, open_catalog, write_catalog
from galmorph.tables.formats import parquet as module
from galmorph.tables.formats._votable_head import Head

VOTABLE = """<VOTABLE version="1.4"><RESOURCE><TABLE>
<FIELD name="id" datatype="long" ucd="meta.id;meta.main"/><FIELD name="x" datatype="double" unit="rad" ucd="pos.eq.ra"/>
<FIELD name="y" datatype="double" ucd="pos.eq.dec" unit="rad"/></TABLE></RESOURCE></VOTABLE>"""


def make(path, n=10, **options):
    """A file of many types with nulls, in small row groups."""
    i = np.arange(n)
    table = pa.table(
        {
            "id": pa.array([None if k == 1 else 2**62 + k for k in range(n)], pa.int64()),
            "uid": pa.array(2**64 - 1 - i.astype("u8")),
            "ra": pa.array([None if k == 2 else float(k) for k in range(n)]),
            "dec": pa.array(i, pa.float32()),
            "text": pa.array([None if k == 3 else f"t{k}" for k in range(n)]),
            "kind": pa.array([["a", "b"][k % 2] for k in range(n)]).dictionary_encode(),
            "when": pa.array(i, pa.timestamp("ns", tz="UTC")),
            "list": pa.array([[k] * (k % 3) for k in range(n)], pa.list_(pa.int32())),
            "nest.ed": pa.array([{"u": k, "v": str(k)} for k in range(n)]),
            "good": pa.array([k % 2 == 0 if k != 4 else None for k in range(n)]),
            "price": pa.array([None] + ["1.50"] * (n - 1)).cast(pa.decimal128(5, 2))
            if n
            else pa.array([], pa.decimal128(5, 2)),
        }
    )
    fields = [f.with_metadata({"unit": "deg", "mine": "x"}) if f.name in ("ra", "dec") else f for f in table.schema]
    schema = pa.schema(fields, {"origin": "survey", "pandas": json.dumps({"columns": []})})
    pq.write_table(table.cast(schema), path, **{"row_group_size": 4, "compression": "zstd", **options})
    return path


@pytest.mark.parametrize("n", [10, 0])
def test_values_types_and_metadata_stay(tmp_path, n):
    source = make(tmp_path / "in.parquet", n)
    append(source, tmp_path / "out.parquet")
    before, after = pq.read_table(source), pq.read_table(tmp_path / "out.parquet")
    assert after.select(before.column_names).equals(before)
    for name in before.column_names:
        assert after.schema.field(name).equals(before.schema.field(name), check_metadata=True)
    metadata = dict(after.schema.metadata)
    provenance = json.loads(metadata.pop(b"galmorph"))
    assert metadata == before.schema.metadata
    assert provenance["columns"] == [c.name for c in COLUMNS]
    assert provenance["cards"][0] == {"key": "GMMODEL", "value": "galaxyzoo2-mobilenet_v2", "comment": "model"}
    field = after.schema.field("p_spiral")
    assert field.type == pa.float32()
    assert field.metadata == {b"ucd": PROBABILITY.ucd.encode(), b"description": PROBABILITY.description.encode()}
    assert np.array_equal(after["p_spiral"].to_numpy(), values(n)["p_spiral"], equal_nan=True)
    assert after["morph_label"].to_pylist() == values(n)["morph_label"].tolist()


def test_row_groups_and_codecs_stay(tmp_path):
    append(make(tmp_path / "in.parquet"), tmp_path / "out.parquet")
    metadata = pq.ParquetFile(tmp_path / "out.parquet").metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [4, 4, 2]
    codecs = {metadata.row_group(0).column(i).compression for i in range(metadata.num_columns)}
    assert codecs == {"ZSTD"}


def test_a_huge_row_group_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MAX_GROUP_BYTES", 500)
    source = make(tmp_path / "in.parquet", row_group_size=10)
    append(source, tmp_path / "out.parquet")
    assert pq.ParquetFile(tmp_path / "out.parquet").metadata.num_row_groups > 1
    before, after = pq.read_table(source), pq.read_table(tmp_path / "out.parquet")
    assert after.select(before.column_names).equals(before)


def test_old_timestamps_and_uncompressed_columns(tmp_path):
    table = pa.table({"t": pa.array([1, 2], pa.timestamp("ns"))})
    pq.write_table(
        table, tmp_path / "in.parquet", use_deprecated_int96_timestamps=True, compression="none", version="1.0"
    )
    append(tmp_path / "in.parquet", tmp_path / "out.parquet")
    metadata = pq.ParquetFile(tmp_path / "out.parquet").metadata
    assert metadata.row_group(0).column(0).physical_type == "INT96"
    assert {metadata.row_group(0).column(i).compression for i in range(4)} == {"UNCOMPRESSED"}
    assert metadata.format_version == "1.0"


def test_values_are_read(tmp_path):
    catalog = open_catalog(make(tmp_path / "in.parquet"), cutout_column="kind")
    read = catalog.read(["id", "uid", "ra", "text", "kind", "good", "price", "when"])
    assert read["id"].tolist() == [None if k == 1 else 2**62 + k for k in range(10)]
    assert read["uid"].tolist() == [2**64 - 1 - k for k in range(10)]
    assert np.array_equal(read["ra"], [0, 1, np.nan, *range(3, 10)], equal_nan=True)
    assert read["text"].tolist()[2:5] == ["t2", "", "t4"]
    assert read["good"].tolist()[3:6] == [False, None, False]
    assert read["price"].tolist()[:2] == ["", "1.50"]
    assert read["when"][1].startswith("1970-01-01 00:00:00.000000001")
    blocks = list(catalog.blocks(3, start=5))
    assert [b.row.tolist() for b in blocks] == [[5, 6, 7], [8, 9]]
    assert blocks[1].id.tolist() == [str(2**62 + 8), str(2**62 + 9)]
    assert blocks[0].cutout.tolist() == ["b", "a", "b"]
    for name in ("list", "nest.ed"):
        with pytest.raises(CatalogError, match="in each cell, which is kept but not read"):
            catalog.read([name])


def test_columns_are_replaced(tmp_path):
    source = make(tmp_path / "in.parquet")
    catalog = append(source, tmp_path / "out.parquet")
    new = {"morph_flag": np.full(10, 3)}
    catalog.append(tmp_path / "out.parquet", [FLAG], [new], cards=[("GMMODEL", "new", "")], replace=True)
    before, after = pq.read_table(source), pq.read_table(tmp_path / "out.parquet")
    assert after.column_names == [*before.column_names, "p_spiral", "morph_label", "morph_flag"]
    assert after.select(before.column_names).equals(before)
    assert after["morph_flag"].to_pylist() == [3] * 10
    provenance = json.loads(after.schema.metadata[b"galmorph"])
    assert {card["key"]: card["value"] for card in provenance["cards"]} == {"GMBATCH": 64, "GMMODEL": "new"}


def test_pandas_reads_it(tmp_path):
    frame = pd.DataFrame({"ra": [1.0, 2.0], "kind": pd.Categorical(["x", "y"])}, index=pd.Index([5, 6], name="objid"))
    frame.to_parquet(tmp_path / "in.parquet")
    append(tmp_path / "in.parquet", tmp_path / "out.parquet")
    new = pd.read_parquet(tmp_path / "out.parquet")
    pd.testing.assert_frame_equal(new[["ra", "kind"]], frame)
    assert new["morph_label"].tolist() == ["class0", "class1"]


def test_units_where_astropy_keeps_them(tmp_path):
    table = Table({"ra": [1.0, 2.0], "dec": [3.0, 4.0]}, units={"ra": "hourangle", "dec": "deg"})
    table["ra"].info.meta = {"ucd": "pos.eq.ra"}
    table.write(tmp_path / "in.parquet")
    assert next(open_catalog(tmp_path / "in.parquet").blocks(5)).ra.tolist() == [15, 30]


def test_the_description_that_stilts_keeps(tmp_path):
    table = pa.table({"id": [1, 2], "x": [0.1, 0.2], "y": [0.1, 0.2]})
    table = table.replace_schema_metadata({"IVOA.VOTable-Parquet.content": VOTABLE})
    pq.write_table(table, tmp_path / "in.parquet")
    catalog = append(tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert (catalog.ra_column, catalog.dec_column, catalog.id_column) == ("x", "y", "id")
    assert next(catalog.blocks(5)).ra == pytest.approx(np.degrees([0.1, 0.2]))
    catalog.append(tmp_path / "out.parquet", [FLAG], [{"morph_flag": [0, 0]}], replace=True)
    schema = pq.read_schema(tmp_path / "out.parquet")
    content = schema.metadata[b"IVOA.VOTable-Parquet.content"]
    with Input(tmp_path / "none", content) as source:
        head = Head(source)
    assert [cell.field.name for cell in head.cells] == schema.names
    assert head.cells[-1].field.ucd == FLAG.ucd
    assert head.cells[1].field.unit == "rad"


@pytest.mark.parametrize("content", [b"PAR1", b"PAR1 and then nothing of the kind", None])
def test_damaged_files(tmp_path, content):
    source = make(tmp_path / "in.parquet")
    source.write_bytes(content or source.read_bytes()[:-200])
    with pytest.raises(CatalogError, match="cannot be read as Parquet"):
        open_catalog(source)


def test_damage_in_the_middle(tmp_path):
    source = make(tmp_path / "in.parquet", compression="none", use_dictionary=False)
    raw = bytearray(source.read_bytes())
    raw[4:120] = b"\xff" * 116
    source.write_bytes(raw)
    with pytest.raises(CatalogError, match="cannot be read as Parquet"):
        append(source, tmp_path / "out.parquet")
    assert [p.name for p in tmp_path.iterdir()] == ["in.parquet"]


def test_parquet_is_not_compressed_as_a_whole(tmp_path):
    with pytest.raises(CatalogError, match=r"Parquet compresses its columns itself; leave out \.gz"):
        append(make(tmp_path / "in.parquet"), tmp_path / "out.parquet.gz")


def test_two_columns_of_one_name(tmp_path):
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    pq.write_table(table, tmp_path / "in.parquet")
    with pytest.raises(CatalogError, match="several columns of the same name"):
        open_catalog(tmp_path / "in.parquet")


def test_new_tables(tmp_path):
    columns = [Column("ra", "float64", "deg", "pos.eq.ra"), *COLUMNS]
    write_catalog(tmp_path / "new.parquet", columns, [{"ra": [1.5, 2.5], **values(2)}], 2, cards=CARDS)
    table = pq.read_table(tmp_path / "new.parquet")
    assert table["ra"].to_pylist() == [1.5, 2.5]
    assert table.schema.field("ra").metadata == {b"unit": b"deg", b"ucd": b"pos.eq.ra"}
    assert json.loads(table.schema.metadata[b"galmorph"])["cards"][1]["value"] == 64


def check_copy(source, destination):
    """Every column has its values, type, codec and Parquet's own name for what is inside it."""
    append(source, destination)
    before, after = pq.ParquetFile(source), pq.ParquetFile(destination)
    n = len(before.schema)
    assert list(after.schema_arrow)[: len(before.schema_arrow)] == list(before.schema_arrow)
    assert [after.schema.column(i).path for i in range(n)] == [before.schema.column(i).path for i in range(n)]
    groups = before.metadata.row_group(0), after.metadata.row_group(0)
    assert len({tuple(group.column(i).compression for i in range(n)) for group in groups}) == 1
    assert after.read(before.schema_arrow.names).equals(before.read())


def test_a_table_of_polars(tmp_path):
    pl = pytest.importorskip("polars")
    whole = 1_700_000_000_123_456_789
    columns = {
        "id": ["a", "b"],
        "unsigned": pl.Series([1, 2**32 - 1], dtype=pl.UInt32),
        "nanoseconds": pl.Series([1, whole], dtype=pl.Datetime("ns")),
        "list": [[1, 2], [3]],
        "kind": pl.Series(["x", "y"], dtype=pl.Categorical),
        "price": pl.Series(["1.5", "2.5"]).cast(pl.Decimal(10, 2)),
        "nest": [{"x": 1, "y": ["a"]}, {"x": 2, "y": []}],
    }
    pl.DataFrame(columns).write_parquet(tmp_path / "in.parquet", compression="lz4")
    check_copy(tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert pl.read_parquet(tmp_path / "out.parquet")["nanoseconds"].to_physical().to_list() == [1, whole]


@pytest.mark.parametrize("codec", ["zstd", "snappy", "gzip", "lz4_raw", "brotli", "uncompressed"])
def test_a_table_of_duckdb(tmp_path, codec):
    duckdb = pytest.importorskip("duckdb")
    duckdb.sql(
        "copy (select 'a' id, 4294967295::uinteger u, timestamp_ns '2020-01-01 00:00:00.123456789' t, [1, 2] l,"
        " {'x': 1} s, uuid() uu, map {'a': 1} m, time '10:00' tm, 1.5::decimal(9, 3) d)"
        f" to '{tmp_path / 'in.parquet'}' (format parquet, compression {codec})"
    )
    check_copy(tmp_path / "in.parquet", tmp_path / "out.parquet")
    row = duckdb.sql(f"select u, l, s, p_spiral from '{tmp_path / 'out.parquet'}'").fetchall()[0]
    assert row[:3] == (2**32 - 1, [1, 2], {"x": 1})


@pytest.mark.parametrize("options", [{"version": "1.0"}, {"version": "2.4"}, {"use_compliant_nested_type": False}])
def test_what_a_version_of_parquet_lacks_is_not_made_up(tmp_path, options):
    columns = {
        "a.b": pa.array([[1], [2, 3]]),
        "t": pa.array([1000, 2000], pa.timestamp("ns")),
        "u": pa.array([1, 2], pa.uint32()),
        "m": pa.array([[("a", [1])], []], pa.map_(pa.string(), pa.list_(pa.int8()))),
    }
    codecs = {"compression": "none"} if options == {"version": "2.4"} else {}
    pq.write_table(pa.table(columns), tmp_path / "in.parquet", **options, **codecs)
    check_copy(tmp_path / "in.parquet", tmp_path / "out.parquet")


def test_columns_with_codecs_of_their_own(tmp_path):
    table = pa.table({"id": ["a"], "l": [[{"x": 1, "y": "b"}]], "v": [1.5]})
    codecs = {"id": "gzip", "l.list.element.x": "none", "l.list.element.y": "brotli", "v": "zstd"}
    pq.write_table(table, tmp_path / "in.parquet", compression=codecs)
    check_copy(tmp_path / "in.parquet", tmp_path / "out.parquet")


def test_the_columns_that_astropy_describes_follow_the_table(tmp_path):
    table = Table({"id": ["a", "b"], "ra": [1.0, 2.0] * u.deg}, meta={"survey": "mine"})
    table["ra"].info.description = "right ascension"
    table.write(tmp_path / "in.parquet")
    append(tmp_path / "in.parquet", tmp_path / "out.parquet")
    append(tmp_path / "out.parquet", tmp_path / "again.parquet", replace=True)
    after = Table.read(tmp_path / "again.parquet")
    assert after.colnames == ["id", "ra", *(c.name for c in COLUMNS)]
    assert (after["ra"].unit, after["ra"].description, after.meta["survey"]) == (u.deg, "right ascension", "mine")
    assert after["p_spiral"].description == PROBABILITY.description


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("table_meta_yaml", "datatype:\n- {unit: deg}\n", r"table_meta_yaml .*datatype\[0\] is no column with a name"),
        ("table_meta_yaml", "datatype: [", "it is not YAML"),
        ("table_meta_yaml", "1", "no list of columns"),
        ("galmorph", "[1]", "metadata is damaged: galmorph's record"),
        ("galmorph", '{"columns": "id"}', "metadata is damaged: galmorph's record"),
        ("galmorph", '{"cards": [{"key": "NAXIS1", "value": 1}]}', r"cards\[0\] is no card"),
        ("galmorph", '{"cards": [1]}', r"cards\[0\] is no card"),
        ("galmorph", "{", "metadata is damaged"),
    ],
)
def test_metadata_of_another_shape(tmp_path, key, value, reason):
    table = pa.table({"id": ["a"]}).replace_schema_metadata({key: value})
    pq.write_table(table, tmp_path / "in.parquet")
    with pytest.raises(CatalogError, match=reason):
        open_catalog(tmp_path / "in.parquet")


@pytest.mark.parametrize("value", ["[1]", "{}", '{"columns": [1], "index_columns": 5}', "nonsense"])
def test_pandas_own_metadata_are_not_interpreted(tmp_path, value):
    table = pa.table({"id": ["a"]}).replace_schema_metadata({"pandas": value})
    pq.write_table(table, tmp_path / "in.parquet")
    append(tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert pq.read_schema(tmp_path / "out.parquet").metadata[b"pandas"] == value.encode()


def test_a_name_that_is_no_text(tmp_path):
    pq.write_table(pa.table({"id": ["a"], "radec": [1.0]}), tmp_path / "in.parquet")
    content = (tmp_path / "in.parquet").read_bytes()
    (tmp_path / "in.parquet").write_bytes(content.replace(b"radec", b"\xf2adec"))
    with pytest.raises(CatalogError, match="cannot be read as Parquet"):
        open_catalog(tmp_path / "in.parquet")


@pytest.mark.parametrize("states", [9, 2])
def test_rows_are_as_many_as_the_file_states(tmp_path, monkeypatch, states):
    """A footer that states another number of rows than there are: neither rows nor an output come of it."""
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"id": list("abcd"), "ra": [1.0] * 4, "dec": [2.0] * 4}), path)
    catalog = open_catalog(path)
    monkeypatch.setattr(catalog._table, "n_rows", states)
    with pytest.raises(CatalogError, match=f"is damaged: it states {states} rows"):
        list(catalog.blocks(3))
    with pytest.raises(CatalogError, match=f"is damaged: it states {states} rows"):
        catalog.read(["id"])
    assert catalog.read([]) == {}
    for name in ("out.parquet", "out.fits"):
        with pytest.raises(CatalogError, match=r"is damaged|the blocks have"):
            catalog.append(tmp_path / name, COLUMNS, [values(states)])
        assert not (tmp_path / name).exists()


def sorted_file(path, by, names=("id", "list", "ra"), **options):
    table = pa.table({"id": [1, 1, 2, 2], "list": [[1], [], [2], [3]], "ra": [1.0, 2.0, 1.0, 2.0]})
    table = table.append_column("mine", pa.array([1, 2, 3, 4]))
    sorting = [pq.SortingColumn({"id": 0, "ra": 2, "mine": 3}[name]) for name in by]
    pq.write_table(table.select([*names, "mine"]), path, sorting_columns=sorting, row_group_size=2, **options)
    return path


def sorting_of(path):
    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    names = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    return [[(names[s.column_index], s.descending, s.nulls_first) for s in group.sorting_columns] for group in groups]


@pytest.mark.parametrize("by", [(), ("id", "ra"), ("ra",)])
def test_the_order_that_row_groups_state_stays(tmp_path, by):
    append(sorted_file(tmp_path / "in.parquet", by), tmp_path / "out.parquet")
    assert sorting_of(tmp_path / "out.parquet") == sorting_of(tmp_path / "in.parquet")
    assert [[name for name, *_ in group] for group in sorting_of(tmp_path / "out.parquet")] == [list(by)] * 2


def test_an_order_by_a_column_that_is_replaced_is_not_stated(tmp_path):
    append(sorted_file(tmp_path / "in.parquet", ()), tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    sorting = [pq.SortingColumn(table.column_names.index(name)) for name in ("ra", "p_spiral", "id")]
    pq.write_table(table, tmp_path / "a.parquet", sorting_columns=sorting)
    append(tmp_path / "a.parquet", tmp_path / "b.parquet", replace=True)
    assert sorting_of(tmp_path / "b.parquet") == [[("ra", False, False)]]


def test_rows_that_are_selected_stay_in_their_row_groups(tmp_path):
    source = sorted_file(tmp_path / "in.parquet", ("ra",))
    open_catalog(source).write_rows(tmp_path / "out.parquet", np.array([True, True, True, False]), overwrite=False)
    metadata = pq.read_metadata(tmp_path / "out.parquet")
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [2, 1]
    assert sorting_of(tmp_path / "out.parquet") == sorting_of(source)


@pytest.mark.parametrize("index", [True, False])
def test_the_index_of_pages_stays(tmp_path, index):
    append(sorted_file(tmp_path / "in.parquet", (), write_page_index=index), tmp_path / "out.parquet")
    chunks = pq.read_metadata(tmp_path / "out.parquet").row_group(0)
    assert [chunks.column(i).has_column_index for i in range(2)] == [index] * 2


SPARK = b"org.apache.spark.sql.parquet.row.metadata"


def test_schemas_of_other_programs_list_the_new_columns_or_are_left_out(tmp_path):
    spark = {"type": "struct", "fields": [{"name": "ra", "type": "double", "nullable": True, "metadata": {}}]}
    metadata = {SPARK: json.dumps(spark), "parquet.avro.schema": "{}", "mine": "x"}
    table = pa.table({"ra": [1.0], "dec": [2.0]}).replace_schema_metadata(metadata)
    pq.write_table(table, tmp_path / "in.parquet")
    append(tmp_path / "in.parquet", tmp_path / "out.parquet")
    after = pq.read_schema(tmp_path / "out.parquet").metadata
    fields = json.loads(after[SPARK])["fields"]
    assert [field["name"] for field in fields] == ["ra", *(column.name for column in COLUMNS)]
    assert [field["type"] for field in fields[1:]] == ["float", "short", "string"]
    assert after[b"mine"] == b"x"
    assert b"parquet.avro.schema" not in after
    pq.write_table(table.replace_schema_metadata({SPARK: "damaged"}), tmp_path / "in.parquet")
    append(tmp_path / "in.parquet", tmp_path / "damaged.parquet")
    assert SPARK not in pq.read_schema(tmp_path / "damaged.parquet").metadata


def test_a_number_of_rows_in_the_footer_is_that_of_the_rows_that_are_kept(tmp_path):
    metadata = {"lsst::arrow::rowcount": "3", "depth": "3"}
    pq.write_table(
        pa.table({"ra": [1.0, 2, 3], "dec": [2.0, 3, 4]}).replace_schema_metadata(metadata), tmp_path / "in.parquet"
    )
    open_catalog(tmp_path / "in.parquet").write_rows(
        tmp_path / "out.parquet", np.array([True, False, False]), overwrite=False
    )
    after = pq.read_schema(tmp_path / "out.parquet").metadata
    assert (after[b"lsst::arrow::rowcount"], after[b"depth"]) == (b"1", b"3")
