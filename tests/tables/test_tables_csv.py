"""CSV files: every byte of the user's stays, and ours come behind each record."""

import csv
import gzip
import io
import json
from itertools import chain

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tablemaking import CARDS, COLUMNS, FLAG, LABEL, PROBABILITY, append

from galmorph.errors import CatalogError, OutputError
from galmorph.tables.catalog import Column, open_catalog, write_catalog


def make(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


ENDS = [b",,0,class0", b",0.14285715,1,class1", b",0.2857143,2,class2"]


@pytest.mark.parametrize(
    "text",
    [
        b"id,ra,dec\n1,10,20\n2,11,21\n",
        b"id,ra,dec\r\n1,10,20\r\n2,11,21\r\n",
        b"\xef\xbb\xbfid,ra,dec\n1,10,20\n2,11,21",
        b"# made by hand\n#\n\nid,ra,dec\n1,10,20\n\n# half way\n2,11,21\n",
        b",ra,dec\n0,1.50,+2\n1,1e1,  2 \n",
        b'"id","ra","dec"\n"a, b",1,"2"\n"say ""hi""",3,4\n',
        b'id,ra,dec\n"two\nlines",1,2\n"three\r\n\r\nlines",3,4\n',
        b"id,ra,dec\nNGC 1 5' x 6\",1,2\ncaf\xc3\xa9,3,4\n",
        b"id,ra,dec\ncaf\xe9,1,2\n0012376516538357811,3,4\n",
        b"#id,ra,dec\n1,10,20\n2,11,21\n",
        b'id,ra,dec\na\rb,10,20\n"c",11,21\n',
        b"id,ra,dec\n#1,10,20\n#2,11,21\n",
    ],
)
def test_records_are_extended_and_nothing_else(tmp_path, text):
    catalog = append(make(tmp_path / "in.csv", text), tmp_path / "out.csv")
    assert catalog.n_rows == 2
    new = (tmp_path / "out.csv").read_bytes()
    for end in (b",p_spiral,morph_flag,morph_label", *ENDS[:2]):
        assert new.count(end) == 1
        new = new.replace(end, b"")
    assert new == text


@pytest.mark.parametrize("delimiter", ["\t", ";"])
def test_other_delimiters(tmp_path, delimiter):
    text = "name|ra|dec\na, b|1|2\nc|3|4\n".replace("|", delimiter)
    catalog = append(make(tmp_path / "in.csv", text), tmp_path / "out.csv")
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[1] == "a, b|1|2||0|class0".replace("|", delimiter)
    assert catalog.column_names == ("name", "ra", "dec", *(c.name for c in COLUMNS))
    assert next(catalog.blocks(5)).ra.tolist() == [1, 3]


# A bare \r is left out: the csv module writes it without quotes, and it would read as part of a line end.
CELLS = st.text(st.sampled_from(list("ab1. ,;\"'#\n\té")), max_size=6)


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=6), st.sampled_from(["\n", "\r\n"]), st.booleans())
@settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_the_csv_module_writes_it_reads_again(tmp_path_factory, rows, newline, quote_all):
    # Numbers with commas make it a table with decimal commas, whose new cells have them too: tests of their own.
    assume(not any("," in cell and "1" in cell and not set(cell) - set("1., \n\t") for row in rows for cell in row))
    folder = tmp_path_factory.mktemp("any")
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator=newline, quoting=csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL)
    writer.writerows([("first", "second", "third"), *rows])
    source = make(folder / "in.csv", stream.getvalue())
    catalog = append(source, folder / "out.csv")
    assert catalog.n_rows == len(rows)
    with (folder / "out.csv").open(newline="") as file:
        written = list(csv.reader(file))
    assert [tuple(row[:3]) for row in written[1:]] == rows
    assert [row[3:] for row in written[1:4]] == [end.decode().split(",")[1:] for end in ENDS[: len(rows)]]
    read = [block.id.tolist() for block in open_catalog(source, id_column="second").blocks(2)]
    assert list(chain.from_iterable(read)) == [row[1].strip() for row in rows]


@pytest.mark.parametrize("first", ["a,,", '"1""\n",,'])
def test_a_row_of_one_word_or_of_several_lines_is_no_line_of_units(tmp_path, first):
    catalog = append(make(tmp_path / "in.csv", f"first,second,third\n{first}\n1,,\n"), tmp_path / "out.csv")
    assert catalog.n_rows == 2


def test_a_short_record_gets_empty_cells(tmp_path):
    append(make(tmp_path / "in.csv", "ra,dec,note\n1,2\n3,4,x\n"), tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().splitlines()[1:] == ["1,2,,,0,class0", "3,4,x,0.14285715,1,class1"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ra,dec\n1,2\n3,4,5\n", "line 3: 3 cells, but the header names 2"),
        ('ra,dec\n1,"2\n3,4\n', "line 2: the quotes do not match"),
        ('ra,dec\n1,2\n1,"2"3\n', "line 3: the quotes do not match"),
        ("10.5,41.2\n10.6,41.3\n", "has no header: its first line '10.5,41.2' holds numbers"),
        ("RA  Dec  mag\n1 2 3\n", "has blanks between its columns"),
        (b"\xff\xfer\x00a\x00,\x00", "UTF-16|none of the table formats"),
        ("ra,dec\r1,2\r3,4\r", "has no line ends"),
        ("\n\n# nothing\n\n", "has no header line"),
    ],
)
def test_what_is_no_csv(tmp_path, text, reason):
    with pytest.raises(CatalogError, match=reason):
        open_catalog(make(tmp_path / "in.csv", text))


def test_line_numbers_count_lines_in_quotes(tmp_path):
    text = '# note\nra,dec\n"1\n",2\n3,4,5\n'
    with pytest.raises(CatalogError, match="line 5: 3 cells"):
        open_catalog(make(tmp_path / "in.csv", text))


def test_a_record_over_the_edge_of_a_chunk(tmp_path):
    rows = [f'{i},"{"x" * 300}\n{i}",0' for i in range(8000)]
    source = make(tmp_path / "in.csv", "id,note,ra\n" + "\n".join(rows) + "\n")
    catalog = append(source, tmp_path / "out.csv")
    assert catalog.n_rows == 8000
    assert [int(i) for block in catalog.blocks(999) for i in block.id] == list(range(8000))


def test_the_description_beside_the_table(tmp_path):
    append(make(tmp_path / "in.csv", "ra,dec\n1,2\n"), tmp_path / "out.csv")
    data = json.loads((tmp_path / "out.csv.json").read_text())
    assert data["columns"][0] == {
        "name": "p_spiral",
        "datatype": "float32",
        "unit": "",
        "ucd": PROBABILITY.ucd,
        "description": PROBABILITY.description,
    }
    assert data["galmorph"] == {
        "columns": ["p_spiral", "morph_flag", "morph_label"],
        "cards": [{"key": key, "value": value, "comment": comment} for key, value, comment in CARDS],
        "history": [],
    }
    assert not (tmp_path / "in.csv.json").exists()


def test_a_description_of_somebody_else_is_not_overwritten(tmp_path):
    source = make(tmp_path / "in.csv", "ra,dec\n1,2\n")
    make(tmp_path / "out.csv.json", '{"mine": 1}')
    with pytest.raises(OutputError, match=r"out.csv.json exists and is not galmorph's"):
        append(source, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
    assert (tmp_path / "out.csv.json").read_text() == '{"mine": 1}'


def test_columns_are_replaced(tmp_path):
    source = make(tmp_path / "in.csv", 'ra,"a ""b"", c",dec\n1,"x, y",2\n3,,4\n')
    append(source, tmp_path / "out.csv")
    catalog = open_catalog(tmp_path / "out.csv")
    new = {"p_spiral": np.array([0.5, 1.0]), "morph_label": ["odd, one", ""]}
    cards = [("GMMODEL", "new", "model")]
    catalog.append(tmp_path / "out.csv", [PROBABILITY, LABEL], [new], cards=cards, replace=True)
    assert (tmp_path / "out.csv").read_text().splitlines() == [
        'ra,"a ""b"", c",dec,morph_flag,p_spiral,morph_label',
        '1,"x, y",2,0,0.5,"odd, one"',
        "3,,4,1,1.0,",
    ]
    data = json.loads((tmp_path / "out.csv.json").read_text())
    assert data["galmorph"]["columns"] == ["morph_flag", "p_spiral", "morph_label"]
    assert [c["name"] for c in data["columns"]] == ["morph_flag", "p_spiral", "morph_label"]
    assert {c["key"]: c["value"] for c in data["galmorph"]["cards"]} == {"GMBATCH": 64, "GMMODEL": "new"}


def test_the_cards_of_an_earlier_model_become_history(tmp_path):
    append(make(tmp_path / "in.csv", "ra,dec\n1,2\n"), tmp_path / "out.csv")
    other = Column("b_spiral", "float32")
    open_catalog(tmp_path / "out.csv").append(
        tmp_path / "two.csv", [other], [{"b_spiral": [0.5]}], cards=[("GMMODEL", "second", "model")]
    )
    data = json.loads((tmp_path / "two.csv.json").read_text())["galmorph"]
    assert data["history"] == ["galmorph GMMODEL = 'galaxyzoo2-mobilenet_v2' / model"]
    assert open_catalog(tmp_path / "two.csv").galmorph_columns == (*(c.name for c in COLUMNS), "b_spiral")


def test_numbers_are_as_short_as_they_can_be_read_back(tmp_path):
    columns = [Column("single", "float32"), Column("double", "float64"), Column("whole", "int64")]
    block = {
        "single": np.array([0.1, np.inf], "f4"),
        "double": np.array([0.1, 1e300]),
        "whole": np.array([2**62 + 1, -1]),
    }
    write_catalog(tmp_path / "new.csv", columns, [block], 2)
    assert (tmp_path / "new.csv").read_text() == "single,double,whole\n0.1,0.1,4611686018427387905\ninf,1e+300,-1\n"
    read = open_catalog(tmp_path / "new.csv").read(["single", "double", "whole"])
    assert read["whole"].tolist() == [2**62 + 1, -1]
    assert read["double"].tolist() == [0.1, 1e300]
    assert read["single"].astype("f4").tolist() == block["single"].tolist()


def test_columns_of_text_get_types(tmp_path):
    text = "a,b,c,d,ra,RA\n1,0.5,x,,1,2\n,nan,,NA,3,4\n9007199254740993,1e3,z,null,5,6\n"
    catalog = open_catalog(make(tmp_path / "in.csv", text), ra_column="RA", dec_column="ra")
    read = catalog.read(["a", "b", "c", "d"])
    assert read["a"].tolist() == [1, None, 9007199254740993]
    assert np.array_equal(read["b"], [0.5, np.nan, 1000], equal_nan=True)
    assert read["c"].tolist() == ["x", "", "z"]
    assert read["d"].tolist() == ["", "NA", "null"]


def test_identifiers_stay_text(tmp_path):
    text = "objid,ra,dec\n1237651653835781199,1,2\n,1,2\n007,1,2\n"
    catalog = append(make(tmp_path / "in.csv", text), tmp_path / "out.csv")
    assert next(catalog.blocks(9)).id.tolist() == ["1237651653835781199", "", "007"]


def test_the_unnamed_first_column_is_the_identifier(tmp_path):
    catalog = open_catalog(make(tmp_path / "in.csv", ",RA,DEC\n17,1,2\n18,1,2\n"))
    assert catalog.id_column == ""
    assert next(catalog.blocks(9)).id.tolist() == ["17", "18"]


def test_compressed(tmp_path):
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(b"ra,dec\n1,2\n3,4\n"))
    catalog = append(tmp_path / "in.csv.gz", tmp_path / "out.csv.gz")
    assert gzip.decompress((tmp_path / "out.csv.gz").read_bytes()).splitlines()[1:] == [
        b"1,2" + ENDS[0],
        b"3,4" + ENDS[1],
    ]
    assert catalog.galmorph_columns == tuple(c.name for c in COLUMNS)


@pytest.mark.parametrize("text", ["ra,dec\n", "ra,dec", "#ra,dec\n"])
def test_no_rows(tmp_path, text):
    catalog = append(make(tmp_path / "in.csv", text), tmp_path / "out.csv")
    assert catalog.n_rows == 0
    assert (tmp_path / "out.csv").read_text().strip("#\n") == "ra,dec,p_spiral,morph_flag,morph_label"


def test_blocks_begin_anywhere(tmp_path):
    source = make(tmp_path / "in.csv", "ra,dec\n" + "".join(f"{i},0\n" for i in range(10)))
    blocks = list(open_catalog(source).blocks(4, start=3))
    assert [block.row.tolist() for block in blocks] == [[3, 4, 5, 6], [7, 8, 9]]
    assert [block.ra.tolist() for block in blocks] == [[3, 4, 5, 6], [7, 8, 9]]


def test_flags_only(tmp_path):
    source = make(tmp_path / "in.csv", "name\na\nb\n")
    open_catalog(source).append(tmp_path / "out.csv", [FLAG], [{"morph_flag": [1, 2]}])
    assert (tmp_path / "out.csv").read_text() == "name,morph_flag\na,1\nb,2\n"
