"""ECSV files: the YAML of astropy, of STILTS, and written by hand; the user's lines and cells stay."""

import numpy as np
import pytest
from astropy import units
from astropy.table import MaskedColumn, Table
from astropy.time import Time
from tablemaking import CARDS, COLUMNS, FLAG, LABEL, PROBABILITY, append, stilts, stilts_meta, values

from galmorph.errors import CatalogError
from galmorph.tables.catalog import Column, open_catalog, write_catalog

ITEMS = """\
# %ECSV 1.0
# ---
# delimiter: ','
# datatype:
# - {name: id, datatype: int64}
# - {name: ra, unit: deg, datatype: float64, meta: {ucd: pos.eq.ra;meta.main}}
# - {name: dec, unit: deg, datatype: float64, meta: {ucd: pos.eq.dec;meta.main}}
"""
BLOCKS = """\
# %ECSV 1.0
# ---
# datatype:
# -
#   name: id
#   datatype: string
# -
#   name: ra
#   datatype: float64
#   unit: rad
#   meta:
#     ucd: pos.eq.ra
# -
#   name: dec
#   datatype: float64
#   unit: rad
"""
METAS = [
    "",
    "# meta:\n#   b: 1\n#   a: [1, 2]\n",
    "# meta: !!omap\n# - b: 1\n# - a:\n#     x: 1\n",
    "# meta: {b: 1, a: '}'}\n",
    "# meta: !!omap [{b: 1}, {a: 2}]\n",
]
SCHEMA = "# schema: astropy-2.0\n"


def make(path, text):
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("meta", METAS)
@pytest.mark.parametrize(("head", "delimiter"), [(ITEMS, ","), (BLOCKS, " ")])
def test_the_header_keeps_its_values_and_gets_columns(tmp_path, head, delimiter, meta, newline):
    data = 'id|ra|dec\n1|1.50|0\n2|""|1\n'.replace("|", delimiter)
    text = (head + meta + SCHEMA + data).replace("\n", newline)
    catalog = append(make(tmp_path / "in.ecsv", text), tmp_path / "out.ecsv")
    assert catalog.galmorph_columns == tuple(c.name for c in COLUMNS)
    lines = (tmp_path / "out.ecsv").read_bytes().decode().splitlines(keepends=True)
    assert [line for line in lines if not line.startswith("#")] == [
        f"{row}{newline}".replace("|", delimiter)
        for row in (
            "id|ra|dec|p_spiral|morph_flag|morph_label",
            "1|1.50|0|nan|0|class0",
            '2|""|1|0.14285715|1|class1',
        )
    ]
    assert all(line.endswith(newline) for line in lines)
    table = Table.read(tmp_path / "out.ecsv", format="ascii.ecsv")
    before = Table.read(tmp_path / "in.ecsv", format="ascii.ecsv")
    assert table.colnames == ["id", "ra", "dec", *(c.name for c in COLUMNS)]
    assert np.array_equal(table["p_spiral"], values(2)["p_spiral"], equal_nan=True)
    assert table["p_spiral"].dtype == np.float32
    assert table["p_spiral"].meta["ucd"] == PROBABILITY.ucd
    assert table["p_spiral"].description == PROBABILITY.description
    assert table["ra"].unit == before["ra"].unit
    provenance = table.meta.pop("galmorph")
    assert dict(table.meta) == dict(before.meta)
    assert provenance["columns"] == [c.name for c in COLUMNS]


@pytest.mark.parametrize("meta", METAS)
def test_columns_are_replaced(tmp_path, meta):
    source = make(tmp_path / "in.ecsv", ITEMS + meta + SCHEMA + "id,ra,dec\n1,2,3\n")
    append(source, tmp_path / "out.ecsv")
    new = {"p_spiral": [0.5], "morph_label": [""]}
    cards = [("GMMODEL", "new", "model")]
    open_catalog(tmp_path / "out.ecsv").append(
        tmp_path / "out.ecsv", [PROBABILITY, LABEL], [new], cards=cards, replace=True
    )
    table = Table.read(tmp_path / "out.ecsv", format="ascii.ecsv")
    assert table.colnames == ["id", "ra", "dec", "morph_flag", "p_spiral", "morph_label"]
    assert table["p_spiral"].tolist() == [0.5]
    assert table["morph_flag"].meta["ucd"] == FLAG.ucd
    provenance = table.meta.pop("galmorph")
    assert provenance["columns"] == ["morph_flag", "p_spiral", "morph_label"]
    assert {card["key"]: card["value"] for card in provenance["cards"]} == {"GMBATCH": 64, "GMMODEL": "new"}
    assert dict(table.meta) == dict(Table.read(source, format="ascii.ecsv").meta)


@pytest.mark.parametrize("meta", ["# meta:\n", "# meta: null\n", "# meta: {}\n"])
def test_an_empty_meta_is_filled(tmp_path, meta):
    source = make(tmp_path / "in.ecsv", ITEMS + meta + SCHEMA + "id,ra,dec\n1,2,3\n")
    append(source, tmp_path / "out.ecsv")
    append(source, tmp_path / "in.ecsv")
    assert (tmp_path / "in.ecsv").read_text() == (tmp_path / "out.ecsv").read_text()
    assert list(Table.read(tmp_path / "out.ecsv").meta) == ["galmorph"]


def test_a_meta_of_text_is_not_lost(tmp_path):
    source = make(tmp_path / "in.ecsv", ITEMS + "# meta: my table\n" + "id,ra,dec\n1,2,3\n")
    with pytest.raises(CatalogError, match="neither a mapping nor a list"):
        append(source, tmp_path / "out.ecsv")


def test_a_table_of_astropy(tmp_path):
    table = Table({"name": ["a b", 'c "d"', ""], "ra": [1.0, 2.0, 3.0], "dec": [1, 2, 3]})
    table["id"] = MaskedColumn([2**62 + 1, 2, 3], mask=[False, True, False])
    table["ra"].info.description = "right: ascension"
    table["ra"].unit = "hourangle"
    table.meta["comments"] = ["one", "two"]
    table.write(tmp_path / "in.ecsv")
    catalog = append(tmp_path / "in.ecsv", tmp_path / "out.ecsv")
    block = next(catalog.blocks(10))
    assert block.id.tolist() == [str(2**62 + 1), "", "3"]
    assert block.ra.tolist() == [15, 30, 45]
    assert catalog.read(["name"])["name"].tolist() == ["a b", 'c "d"', ""]
    new = Table.read(tmp_path / "out.ecsv")
    assert new["id"].tolist() == [2**62 + 1, None, 3]
    assert new["ra"].info.description == "right: ascension"
    # astropy writes the table again, and the provenance is still known.
    new.write(tmp_path / "again.ecsv")
    assert open_catalog(tmp_path / "again.ecsv").galmorph_columns == tuple(c.name for c in COLUMNS)


def test_stilts_reads_units_descriptions_and_ucds(tmp_path):
    append(make(tmp_path / "in.ecsv", ITEMS + "id,ra,dec\n1,2,3\n4,5,6\n"), tmp_path / "out.ecsv")
    meta = stilts_meta(tmp_path / "out.ecsv")
    assert meta["ra"] == ("deg", "", "pos.eq.ra;meta.main")
    assert meta["p_spiral"] == ("", PROBABILITY.description, PROBABILITY.ucd)
    assert stilts(tmp_path / "out.ecsv", "keepcols morph_label")[1]["morph_label"] == "class1"


def test_text_columns_stay_text(tmp_path):
    head = ITEMS.replace("id, datatype: int64", "id, datatype: string")
    catalog = open_catalog(make(tmp_path / "in.ecsv", head + "id,ra,dec\n007,2,3\n"))
    assert catalog.read(["id", "ra"])["id"].tolist() == ["007"]


def test_array_columns_are_no_positions(tmp_path):
    head = ITEMS.replace("unit: deg, datatype: float64,", "datatype: string, subtype: 'float64[2]',", 1)
    catalog = open_catalog(make(tmp_path / "in.ecsv", head + 'id,ra,dec\n1,"[1,2]",3\n'))
    assert not catalog.has_positions


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("# %ECSV 1.0\n# ---\n# datatype: [\nra\n1\n", "it is not YAML"),
        ("# %ECSV 1.0\n# ---\n# meta: 1\nra\n1\n", "has no list of columns under 'datatype'"),
        ("# %ECSV 1.0\n# ---\n# datatype: {ra: 1}\nra\n1\n", "has no list of columns under 'datatype'"),
        ("# %ECSV 1.0\n# ---\n# datatype:\n# - ra\nra\n1\n", r"datatype\[0\] is no column with a name"),
        ("# %ECSV 1.0\n# ---\n# datatype:\n# - {unit: deg}\nra\n1\n", r"datatype\[0\] is no column with a name"),
        (ITEMS.replace("','", "''") + "id,ra,dec\n1,2,3\n", "has the delimiter ''"),
        (ITEMS + "id,ra\n1,2\n", r"other columns than the line of names, \['id', 'ra'\]"),
        (ITEMS + "id,ra,dec\n1,2,3,4\n", "line 9: 4 cells"),
        (ITEMS, "other columns"),
    ],
)
def test_what_is_no_ecsv(tmp_path, text, reason):
    with pytest.raises(CatalogError, match=reason):
        open_catalog(make(tmp_path / "in.ecsv", text))


def test_no_rows(tmp_path):
    catalog = append(make(tmp_path / "in.ecsv", ITEMS + "id,ra,dec\n"), tmp_path / "out.ecsv")
    assert (catalog.n_rows, len(catalog.column_names)) == (0, 6)


def test_new_tables(tmp_path):
    columns = [Column("ra", "float64", "deg", "pos.eq.ra;meta.main", "Right: 'ascension'"), *COLUMNS]
    write_catalog(tmp_path / "new.ecsv", columns, [{"ra": [1.5, np.nan], **values(2)}], 2, cards=CARDS)
    table = Table.read(tmp_path / "new.ecsv")
    assert table["ra"].description == "Right: 'ascension'"
    assert str(table["ra"].unit) == "deg"
    assert table["morph_label"].tolist() == ["class0", "class1"]
    assert table.meta["galmorph"]["cards"][1] == {"key": "GMBATCH", "value": 64, "comment": "batch size"}


def test_columns_on_one_line_get_more(tmp_path):
    text = "# %ECSV 1.0\n# ---\n# datatype: [{name: id, datatype: string}]\nid\na\n"
    append(make(tmp_path / "in.ecsv", text), tmp_path / "out.ecsv")
    assert Table.read(tmp_path / "out.ecsv").colnames == ["id", *(c.name for c in COLUMNS)]


def test_tags_and_anchors_of_the_metadata_are_kept(tmp_path):
    table = Table({"id": ["a", "b"]}, meta={"epoch": Time(2000.0, format="jyear"), "size": 3 * units.deg})
    table.meta |= {"again": table.meta["epoch"], "text": "two\nlines", "code": "007", "none": None}
    table.write(tmp_path / "in.ecsv")
    append(tmp_path / "in.ecsv", tmp_path / "out.ecsv")
    meta = Table.read(tmp_path / "out.ecsv").meta
    del meta["galmorph"]
    assert meta == Table.read(tmp_path / "in.ecsv").meta
    assert meta["again"] is meta["epoch"]
    assert (meta["size"].unit, meta["code"]) == (units.deg, "007")


def test_metadata_of_a_column_in_another_shape(tmp_path):
    text = ITEMS.replace("meta: {ucd: pos.eq.ra;meta.main}", "meta: [1, 2]") + "id,ra,dec\n1,2,3\n"
    with pytest.raises(CatalogError, match=r"datatype\[1\] \(column 'ra'\) has a 'meta' that is no mapping"):
        open_catalog(make(tmp_path / "in.ecsv", text))
    for meta in ("{ucd: [1]}", "", "null", "!!omap [{ucd: pos.eq.ra}]"):
        text = ITEMS.replace("meta: {ucd: pos.eq.ra;meta.main}", f"meta: {meta}") + "id,ra,dec\n1,2,3\n"
        assert open_catalog(make(tmp_path / "in.ecsv", text)).ra_column == "ra"


def test_what_was_saved_from_a_fits_file_is_recognised(tmp_path):
    Table({"id": ["a", "b"]}).write(tmp_path / "in.fits")
    append(tmp_path / "in.fits", tmp_path / "out.fits")
    Table.read(tmp_path / "out.fits").write(tmp_path / "again.ecsv")
    catalog = open_catalog(tmp_path / "again.ecsv")
    assert catalog.galmorph_columns == tuple(c.name for c in COLUMNS)
    assert catalog.provenance[0][:2] == CARDS[0][:2]
    new = append(tmp_path / "again.ecsv", tmp_path / "new.ecsv", replace=True)
    assert new.column_names == ("id", *(c.name for c in COLUMNS))
    assert "GMCOLS" not in Table.read(tmp_path / "new.ecsv").meta


def test_a_head_that_is_no_utf8(tmp_path):
    (tmp_path / "in.ecsv").write_bytes(ITEMS.encode().replace(b"# - {", b"#\xa0- {", 1) + b"id,ra,dec\n1,2,3\n")
    with pytest.raises(CatalogError, match="it is not YAML"):
        open_catalog(tmp_path / "in.ecsv")
