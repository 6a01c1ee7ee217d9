"""VOTables in all serialisations: the XML, the text of cells and the bytes of binary cells stay."""

import base64
import re
import struct
import warnings

import numpy as np
import pytest
from astropy.io import votable
from astropy.table import MaskedColumn, Table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tablemaking import CARDS, COLUMNS, FLAG, PROBABILITY, append, stilts, stilts_meta, values

from galmorph.errors import CatalogError
from galmorph.tables.catalog import Column, open_catalog, write_catalog

HEAD = """\
<?xml version="1.0" encoding="UTF-8"?>
<!-- <TABLE> in a comment -->
<VOTABLE version="1.3" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">
<DESCRIPTION>all &lt;kept&gt;</DESCRIPTION>
<INFO name="QUERY" value="a > b"/>
<RESOURCE type="results">
<COOSYS ID="sys" system="ICRS"/>
<TABLE name="galaxies" nrows="2">
<PARAM name="GMBATCH" datatype="int" value="7"/>
<GROUP name="position"><FIELDref ref="r"/><PARAM name="inner" datatype="int" value="1"/></GROUP>
<FIELD name="id" datatype="long"><VALUES null="-9"/><LINK href="x"/></FIELD>
<FIELD ID="r" name="ra" datatype="double" unit="deg" ucd="pos.eq.ra;meta.main" utype="a:b" ref="sys"/>
<FIELD name="dec" datatype="double" unit="deg" ucd="POS_EQ_DEC_MAIN"><DESCRIPTION>Declination</DESCRIPTION></FIELD>
<FIELD name="note" datatype="char" arraysize="*"/>
"""
LINK = '<LINK href="https://example.org/?a=1&amp;b=2"/>\n'
ROWS = """\
<DATA><TABLEDATA>
<TR><TD>4611686018427387905</TD><TD>1.50</TD><TD> 2 </TD><TD>a &amp; <![CDATA[<b>]]></TD></TR>
<TR>
  <TD>-9</TD>
  <TD/>
  <TD>3</TD>
  <TD></TD>
</TR>
</TABLEDATA><INFO name="QUERY_STATUS" value="OVERFLOW"/></DATA>
"""
TAIL = """\
</TABLE>
</RESOURCE>
<RESOURCE><TABLE>
<FIELD name="other" datatype="int"/><DATA><TABLEDATA><TR><TD>1</TD></TR></TABLEDATA></DATA>
</TABLE></RESOURCE>
</VOTABLE>
"""


def make(path, text):
    path.write_bytes(text.encode())
    return path


def without_ours(text):
    """A file without what galmorph has put in."""
    text = re.sub(r'<(\w+:)?FIELD name="(p_spiral|morph_\w+)".*\n', "", text)
    text = re.sub(r'<(\w+:)?PARAM name="(GMCOLS|GMKEYS|GMMODEL|HISTORY)".*\n', "", text)
    return re.sub(r"<TD>[^<]*</TD><TD>\d</TD><TD>class\d</TD></TR>", "</TR>", text)


@pytest.mark.parametrize("link", ["", LINK])
def test_text_tables_get_elements_and_nothing_else(tmp_path, link):
    source = make(tmp_path / "in.vot", HEAD + link + ROWS + TAIL)
    catalog = append(source, tmp_path / "out.vot")
    text = (tmp_path / "out.vot").read_text()
    assert "<TD>NaN</TD><TD>0</TD><TD>class0</TD></TR>" in text
    assert "<TD>0.14285715</TD><TD>1</TD><TD>class1</TD></TR>" in text
    assert without_ours(text) == source.read_text()
    assert catalog.galmorph_columns == tuple(c.name for c in COLUMNS)
    assert 'name="GMKEYS" datatype="unicodeChar" arraysize="*" value="GMMODEL"' in text
    assert '<PARAM name="HISTORY" datatype="unicodeChar" arraysize="*" value="galmorph GMBATCH = 64' in text


def test_values_are_read(tmp_path):
    catalog = open_catalog(make(tmp_path / "in.xml", HEAD + ROWS + TAIL))
    assert (catalog.ra_column, catalog.dec_column, catalog.id_column) == ("ra", "dec", "id")
    block = next(catalog.blocks(10))
    assert block.id.tolist() == ["4611686018427387905", ""]
    assert np.array_equal(block.ra, [1.5, np.nan], equal_nan=True)
    assert block.problem.tolist() == ["", "ra is empty"]
    read = catalog.read(["id", "dec", "note"])
    assert read["id"].tolist() == [4611686018427387905, None]
    assert read["dec"].tolist() == [2, 3]
    assert read["note"].tolist() == ["a & <b>", ""]


def test_a_prefix_and_another_encoding(tmp_path):
    text = HEAD + ROWS + TAIL
    text = re.sub(r"<(/?)(?=[A-Z])(?!TABLE> in)", r"<\1v:", text).replace("<v:![", "<![").replace("xmlns=", "xmlns:v=")
    text = text.replace("UTF-8", "ISO-8859-1").replace("OVERFLOW", "d\xe9j\xe0")
    (tmp_path / "in.vot").write_bytes(text.encode("latin-1"))
    assert append(tmp_path / "in.vot", tmp_path / "out.vot").n_rows == 2
    new = (tmp_path / "out.vot").read_bytes().decode("latin-1")
    assert "<v:TD>NaN</v:TD><v:TD>0</v:TD><v:TD>class0</v:TD></v:TR>" in new
    assert '<v:FIELD name="p_spiral" datatype="float"' in new
    assert "d\xe9j\xe0" in new


def table(serialisation):
    """A table of many types, with nulls (which BINARY has none of for integers)."""
    null = serialisation != "binary"
    made = Table()
    made["id"] = MaskedColumn([2**62 + 1, 5, -3], mask=[False, null, False], dtype="i8")
    made["ra"] = [10.0, np.nan, 30.0]
    made["dec"] = np.array([-1.5, 2.5, 3.5], "f4")
    made["name"] = ["a", "b\xe9b", ""]
    made["flag"] = [True, False, True]
    made["vector"] = np.arange(6, dtype="i2").reshape(3, 2)
    made["complex"] = np.array([1 + 2j, 3, 4j])
    for i in range(3):
        made[f"extra{i}"] = MaskedColumn([1, 2, 3], mask=[null, False, null], dtype="i4")
    return made


def write(made, path, serialisation):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made.write(path, format="votable", tabledata_format=serialisation, overwrite=True)
    return path


def read(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return votable.parse_single_table(path).to_table(use_names_over_ids=True)


def same(one, two):
    return all(
        np.array_equal(np.ma.getmaskarray(one[name]), np.ma.getmaskarray(two[name]))
        and repr(one[name].tolist()) == repr(two[name].tolist())
        for name in one.colnames
    )


@pytest.mark.parametrize("serialisation", ["tabledata", "binary", "binary2"])
def test_every_serialisation(tmp_path, serialisation):
    source = write(table(serialisation), tmp_path / "in.vot", serialisation)
    catalog = append(source, tmp_path / "out.vot")
    before, after = read(source), read(tmp_path / "out.vot")
    assert after.colnames == [*before.colnames, *(c.name for c in COLUMNS)]
    assert same(before, after)
    expected = values(3)
    assert np.array_equal(np.ma.filled(after["p_spiral"], np.nan), expected["p_spiral"], equal_nan=True)
    assert after["morph_flag"].tolist() == expected["morph_flag"].tolist()
    assert after["morph_label"].tolist() == expected["morph_label"].tolist()
    assert after["p_spiral"].meta["ucd"] == PROBABILITY.ucd
    assert not np.ma.getmaskarray(after["morph_flag"]).any()

    block = next(catalog.blocks(10))
    null = serialisation != "binary"
    assert block.id.tolist() == [str(2**62 + 1), "" if null else "5", "-3"]
    assert catalog.read(["extra1"])["extra1"].tolist() == ([None, 2, None] if null else [1, 2, 3])
    assert np.array_equal(block.ra, [10, np.nan, 30], equal_nan=True)
    assert catalog.read(["name"])["name"].tolist() == ["a", "b\xe9b", ""]
    assert [b.row.tolist() for b in catalog.blocks(2, start=1)] == [[1, 2]]

    catalog.append(
        tmp_path / "out.vot", [FLAG], [{"morph_flag": [7, 8, 9]}], cards=[("GMMODEL", "new", "")], replace=True
    )
    final = read(tmp_path / "out.vot")
    assert same(before, final)
    assert final["morph_flag"].tolist() == [7, 8, 9]
    assert final.colnames[-3:] == ["p_spiral", "morph_label", "morph_flag"]
    assert (tmp_path / "out.vot").read_text().count('name="GMMODEL"') == 1


KINDS = {
    'datatype="int"': struct.pack(">i", 7),
    'datatype="char" arraysize="*"': struct.pack(">i3s", 3, b"abc"),
    'datatype="unicodeChar" arraysize="2"': "\xe9x".encode("utf-16-be"),
    'datatype="double" arraysize="2x*"': struct.pack(">i4d", 4, 1, 2, 3, 4),
    'datatype="bit" arraysize="11"': b"\xff\xe0",
    'datatype="bit" arraysize="*"': struct.pack(">i2s", 9, b"\xff\x80"),
    'datatype="float" arraysize="0*"': struct.pack(">i", 0),
    'datatype="boolean"': b"T",
}


def binary_table(path, kinds, rows, serialisation="BINARY2"):
    fields = "".join(f'<FIELD name="c{i}" {kind}/>' for i, kind in enumerate(kinds))
    stream = base64.encodebytes(b"".join(rows)).decode()
    text = f'<TABLE>{fields}<DATA><{serialisation}><STREAM encoding="base64">{stream}</STREAM></{serialisation}></DATA>'
    return make(path, f"<VOTABLE><RESOURCE>{text}</TABLE></RESOURCE></VOTABLE>")


def test_arrays_are_not_read(tmp_path):
    source = binary_table(tmp_path / "in.vot", KINDS, [b"".join(KINDS.values())] * 2, "BINARY")
    catalog = open_catalog(source)
    assert catalog.n_rows == 2
    read = catalog.read(["c0", "c1", "c2", "c7"])
    assert [values.tolist() for values in read.values()] == [[7, 7], ["abc"] * 2, ["\xe9x"] * 2, [True] * 2]
    for name in ("c3", "c4", "c5", "c6"):
        with pytest.raises(CatalogError, match="holds arrays or bits, which are kept but not read"):
            catalog.read([name])


@given(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=20), st.integers(0, 30), st.integers(0, 99))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_null_flags_keep_their_columns(tmp_path_factory, kinds, n, seed):
    """BINARY2 rows of any kinds with any nulls: ours come behind, the flags of the others stay theirs."""
    folder = tmp_path_factory.mktemp("any")
    nulls = np.random.default_rng(seed).random((n, len(kinds))) < 0.3
    row = b"".join(KINDS[kind] for kind in kinds)
    source = binary_table(folder / "in.vot", kinds, [np.packbits(null).tobytes() + row for null in nulls])
    assert append(source, folder / "out.vot").n_rows == n
    new = base64.b64decode(re.search(r"base64\">([^<]*)<", (folder / "out.vot").read_text())[1])
    n_flags = -(-(len(kinds) + 3) // 8)
    for null in nulls:
        assert np.unpackbits(np.frombuffer(new[:n_flags], "u1"))[: len(kinds) + 3].tolist() == [*null, 0, 0, 0]
        assert new[n_flags : n_flags + len(row)] == row
        new = new[n_flags + len(row) + 4 + 2 + 4 + 12 :]
    assert new == b""


@pytest.mark.parametrize("serialisation", ["tabledata", "binary", "binary2"])
def test_stilts_reads_it(tmp_path, serialisation):
    made = table(serialisation)
    made.remove_columns(["complex", "flag"])  # STILTS does not read the bits that astropy writes
    append(write(made, tmp_path / "in.vot", serialisation), tmp_path / "out.vot")
    assert stilts_meta(tmp_path / "out.vot")["p_spiral"] == ("", PROBABILITY.description, PROBABILITY.ucd)
    rows = stilts(tmp_path / "out.vot", "keepcols 'id name p_spiral morph_flag morph_label'")
    assert rows[0]["id"] == str(2**62 + 1)
    assert [row["morph_label"] for row in rows] == ["class0", "class1", "class2"]
    assert [row["p_spiral"] for row in rows] == ["", "0.14285715", "0.2857143"]


@pytest.mark.parametrize(
    "data",
    [
        "",
        "<DATA><TABLEDATA/></DATA>",
        "<DATA><TABLEDATA>\n</TABLEDATA></DATA>",
        '<DATA><BINARY2><STREAM encoding="base64"/></BINARY2></DATA>',
        '<DATA><BINARY><STREAM encoding="base64">\n</STREAM></BINARY></DATA>',
    ],
)
def test_no_rows(tmp_path, data):
    catalog = append(make(tmp_path / "in.vot", HEAD + data + TAIL), tmp_path / "out.vot")
    assert (catalog.n_rows, len(catalog.column_names)) == (0, 7)
    assert list(catalog.blocks(5)) == []


def test_a_short_row_gets_empty_cells(tmp_path):
    rows = "<DATA><TABLEDATA><TR><TD>1</TD></TR></TABLEDATA></DATA>"
    append(make(tmp_path / "in.vot", HEAD + rows + TAIL), tmp_path / "out.vot")
    assert "<TD>1</TD><TD/><TD/><TD/><TD>NaN</TD><TD>0</TD>" in (tmp_path / "out.vot").read_text()


def data(text):
    return HEAD + f"<DATA>{text}</DATA>" + TAIL


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ((HEAD + ROWS + TAIL)[:-40], "not well-formed XML"),
        (HEAD + ROWS, "not well-formed XML"),
        ('<?xml version="1.0" encoding="ttf-8"?>' + HEAD + ROWS + TAIL, "not well-formed XML"),
        (HEAD + "</TABEL>", "not well-formed XML"),
        ("<VOTABLE><RESOURCE><TABLE/></RESOURCE></VOTABLE>", "has no TABLE with FIELDs"),
        (data("<FITS><STREAM href='x'/></FITS>"), "data as FITS cannot get columns"),
        (data("<BINARY><STREAM href='x'/></BINARY>"), "only binary data inside the file"),
        (data("<BINARY><STREAM encoding='gzip'>AAAA</STREAM></BINARY>"), "only binary data inside the file"),
        (data("<BINARY><STREAM encoding='base64'>AA#A</STREAM></BINARY>"), "is not base64"),
        (data("<BINARY><STREAM encoding='base64'>AAAA</STREAM></BINARY>"), "ends in the middle of a row"),
        (data("<TABLEDATA><TR>" + "<TD/>" * 5 + "</TR></TABLEDATA>"), "row 1 has 5 cells for 4 columns"),
        (data("<TABLEDATA><TR/></TABLEDATA>"), "row 1 has 0 cells for 4 columns"),
        (HEAD.replace('"double"', '"quad"') + TAIL, "datatype='quad'"),
        ('<!DOCTYPE VOTABLE [<!ENTITY a "aaaa">]><VOTABLE/>', "declares XML entities"),
        ('<?xml version="1.0"?><html>VOTABLE</html>', "no TABLE with FIELDs"),
    ],
)
def test_what_is_no_votable(tmp_path, text, reason):
    source = make(tmp_path / "in.vot", text)
    with pytest.raises(CatalogError, match=reason):
        open_catalog(source)


def test_new_tables(tmp_path):
    columns = [Column("ra", "float64", "deg", "pos.eq.ra;meta.main", "a < b & 'c' \"d\" \xe9"), *COLUMNS]
    block = {"ra": [1.5, np.nan], **values(2), "morph_label": ["<&>", "\xe9"]}
    write_catalog(tmp_path / "new.vot", columns, [block], 2, cards=CARDS)
    made = read(tmp_path / "new.vot")
    assert made["ra"].description == columns[0].description
    assert str(made["ra"].unit) == "deg"
    assert made["morph_label"].tolist() == ["<&>", "\xe9"]
    assert votable.validate(tmp_path / "new.vot", output=None)


def test_rows_that_a_service_left_out_are_said(tmp_path, caplog):
    for status in ("OK", "OVERFLOW"):
        make(tmp_path / "in.vot", (HEAD + ROWS + TAIL).replace("OVERFLOW", status))
        assert open_catalog(tmp_path / "in.vot").n_rows == 2
        assert ("lacks rows: the service" in caplog.text) == (status == "OVERFLOW")


def test_the_error_of_a_service_is_in_the_message(tmp_path):
    info = '<INFO name="QUERY_STATUS" value="ERROR">Unknown table &lt;x&gt;</INFO>'
    (tmp_path / "in.vot").write_text(f'<VOTABLE><RESOURCE type="results">{info}</RESOURCE></VOTABLE>')
    with pytest.raises(CatalogError, match="the service answered with an error: Unknown table <x>"):
        open_catalog(tmp_path / "in.vot")


@pytest.mark.parametrize("serialisation", ["tabledata", "binary", "binary2"])
def test_chosen_rows_of_every_serialisation(tmp_path, serialisation):
    source = write(table(serialisation), tmp_path / "in.vot", serialisation)
    keep = np.array([True, False, True])
    open_catalog(source).write_rows(tmp_path / "out.vot", keep, overwrite=False)
    assert same(read(source)[keep], read(tmp_path / "out.vot"))
    open_catalog(source).write_rows(tmp_path / "none.vot", ~keep & keep, overwrite=False)
    assert open_catalog(tmp_path / "none.vot").n_rows == 0


def test_chosen_rows_are_copied_as_they_are_though_astropy_refuses_them(tmp_path):
    flags = '<FIELD name="ok" datatype="boolean"/>'
    rows = ["<TR><TD>NaN</TD></TR>", "<TR> <TD>maybe</TD></TR>", "<TR><TD/></TR>"]
    text = HEAD + flags + "<DATA><TABLEDATA>\n" + "\n".join(rows) + "\n</TABLEDATA></DATA>" + TAIL
    (tmp_path / "in.vot").write_text(text)
    open_catalog(tmp_path / "in.vot", needs_position=False).write_rows(
        tmp_path / "out.vot", np.array([True, False, True]), overwrite=False
    )
    assert (tmp_path / "out.vot").read_text() == text.replace(rows[1] + "\n", "")


@pytest.mark.parametrize("stated", ['nrows="3"', "nrows = '999999999'", 'nrows="many"', 'name="nrows=9"'])
def test_the_number_of_rows_that_a_table_states_is_true_of_the_output(tmp_path, stated):
    source = write(table("tabledata"), tmp_path / "in.vot", "tabledata")
    text = re.sub(r"<TABLE\b[^>]*>", f"<TABLE {stated}>", source.read_text())
    source.write_text(text)
    true = stated if "name" in stated else re.sub("999999999|many", "3", stated)
    append(source, tmp_path / "out.vot")
    assert f"<TABLE {true}" in (tmp_path / "out.vot").read_text()
    open_catalog(source).write_rows(tmp_path / "chosen.vot", np.array([False, True, False]), overwrite=False)
    assert f"<TABLE {true if 'name' in stated else true.replace('3', '1')}" in (tmp_path / "chosen.vot").read_text()
