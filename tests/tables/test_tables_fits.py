"""FITS tables: the user's bytes stay, whatever the columns are."""

import bz2
import gzip
import re

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tablemaking import CARDS, COLUMNS, FLAG, LABEL, PROBABILITY, append, fitsverify, stilts_meta, values

from galmorph.errors import CatalogError
from galmorph.tables.catalog import Column, open_catalog, write_catalog

FORMATS = ["L", "3L", "11X", "B", "I", "4I", "J", "K", "2K", "E", "D", "5D", "C", "M", "7A", "PJ", "QD", "PE(9)"]
TYPES = {"L": bool, "X": bool, "B": "u1", "I": "i2", "J": "i4", "K": "i8", "E": "f4", "D": "f8", "C": "c8", "M": "c16"}


def cells(form, n, rng):
    """Random values of a column of n rows."""
    count, letter = int(re.match(r"\d*", form)[0] or 1), re.sub(r"[\d().]", "", form)[0]
    if letter in "PQ":
        kind = TYPES[re.sub(r"[\d().PQ]", "", form)]
        return np.array([rng.integers(0, 100, rng.integers(0, 4)).astype(kind) for _ in range(n)] + [None], object)[:-1]
    if letter == "A":
        return np.array(["".join(rng.choice(list("abc 1"), count)) for _ in range(n)], f"U{max(count, 1)}")
    raw = rng.integers(0, 2 if letter in "LX" else 100, (n, count)).astype(TYPES[letter])
    return raw if count > 1 else raw[:, 0]


def make_table(path, formats, n, seed=0, **keywords):
    """A FITS file with an image, a table of the given formats with all sorts of cards, and an image behind it."""
    rng = np.random.default_rng(seed)
    columns = [fits.Column(f"c{i}", form, array=cells(form, n, rng), **keywords) for i, form in enumerate(formats)]
    table = fits.BinTableHDU.from_columns(columns, nrows=n, name="OBJECTS")
    table.header["TUCD1"] = "meta.id"
    table.header["COMMENT"] = "kept"
    table.header["HIERARCH long keyword"] = 1.5
    before = fits.ImageHDU(np.arange(7, dtype="i2"), name="BEFORE")
    after = fits.ImageHDU(np.arange(9, dtype="f4"), name="AFTER")
    fits.HDUList([fits.PrimaryHDU(np.ones(3)), before, table, after]).writeto(path, checksum=True)
    return path


def table_span(path):
    """The bytes before the table's data, its rows, what is behind the rows, and the bytes behind the table."""
    raw = path.read_bytes()
    with fits.open(path) as hdus:
        table = next(hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU))
        header = table.header
        at, size = table._data_offset, header["NAXIS1"] * header["NAXIS2"]
        rows = np.frombuffer(raw[at : at + size], "u1").reshape(header["NAXIS2"], header["NAXIS1"])
        end = at + table._data_size
        return raw[: table._header_offset], rows, raw[at + size : at + size + header["PCOUNT"]], raw[end:]


def cards_of(path, hdu=2):
    """The cards of a header as they are in the file."""
    with fits.open(path) as hdus:
        text = path.read_bytes()[hdus[hdu]._header_offset : hdus[hdu]._data_offset]
    lines = [text[i : i + 80].decode() for i in range(0, len(text), 80)]
    return lines[: lines.index("END".ljust(80))]


@given(st.lists(st.sampled_from(FORMATS), min_size=1, max_size=8), st.integers(0, 40), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_table_keeps_its_bytes(tmp_path_factory, formats, n, seed):
    folder = tmp_path_factory.mktemp("any")
    # Without a cell of one value, one row of arrays may be a table by columns.
    source = make_table(folder / "in.fits", ["K", *formats], n, seed)
    append(source, folder / "out.fits")
    before, rows, heap, behind = table_span(source)
    new_before, new_rows, new_heap, new_behind = table_span(folder / "out.fits")
    assert new_before == before
    assert np.array_equal(new_rows[:, : rows.shape[1]], rows)
    assert (new_heap, new_behind) == (heap, behind)
    with fits.open(folder / "out.fits", checksum=True) as hdus:
        expected = values(n)
        data = hdus["OBJECTS"].data
        assert np.array_equal(data["p_spiral"], expected["p_spiral"], equal_nan=True)
        assert np.array_equal(data["morph_flag"], expected["morph_flag"])
        assert list(data["morph_label"]) == list(expected["morph_label"])


def test_header_is_edited_and_nothing_else(tmp_path):
    source = make_table(tmp_path / "in.fits", ["K", "D", "PJ", "7A"], 5, unit="m")
    append(source, tmp_path / "out.fits")
    old, new = cards_of(source), cards_of(tmp_path / "out.fits")
    changed = ("NAXIS1", "TFIELDS", "CHECKSUM", "DATASUM")
    assert [c for c in new if c in old or c[:8].strip() in changed] == [
        next(c for c in new if c[:8] == card[:8]) if card[:8].strip() in changed else card for card in old
    ]
    header = fits.getheader(tmp_path / "out.fits", 2)
    assert header["TFIELDS"] == 7
    assert [header[f"TTYPE{i}"] for i in (5, 6, 7)] == ["p_spiral", "morph_flag", "morph_label"]
    assert [header[f"TFORM{i}"] for i in (5, 6, 7)] == ["E", "I", "8A"]
    assert header["TUCD5"] == PROBABILITY.ucd
    assert header["TCOMM5"] == PROBABILITY.description
    assert header["GMMODEL"] == "galaxyzoo2-mobilenet_v2"
    assert (header["GMBATCH"], header.comments["GMBATCH"]) == (64, "batch size")
    assert header["GMCOLS"] == "p_spiral,morph_flag,morph_label"
    keys = [card[:8].strip() for card in new]
    assert keys.index("TTYPE5") == max(i for i, k in enumerate(keys) if re.fullmatch("T[A-Z]+[1-4]", k)) + 1


def test_fitsverify_has_nothing_to_add(tmp_path):
    source = make_table(tmp_path / "in.fits", FORMATS, 7)
    long = Column("p_long", "float32", "deg", "stat.probability", "A description that does not fit a card. " * 3)
    catalog = open_catalog(source)
    block = {"p_long": np.zeros(7, "f4"), **values(7)}
    catalog.append(tmp_path / "out.fits", [long, *COLUMNS], [block], cards=[("GMNOTE", "x" * 150, "long")])
    assert set(fitsverify(tmp_path / "out.fits")) <= set(fitsverify(source))
    header = fits.getheader(tmp_path / "out.fits", 2)
    assert header[f"TCOMM{len(FORMATS) + 1}"] == long.description.strip()
    assert header["GMNOTE"] == "x" * 150


def test_stilts_reads_units_descriptions_and_ucds(tmp_path):
    source = make_table(tmp_path / "in.fits", ["K", "D"], 3)
    speed = Column("speed", "float64", "km/s", "phys.veloc", "How fast")
    open_catalog(source).append(
        tmp_path / "out.fits", [speed, FLAG], [{"speed": np.ones(3), "morph_flag": np.ones(3, int)}]
    )
    meta = stilts_meta(tmp_path / "out.fits")
    assert meta["speed"] == ("km/s", "How fast", "phys.veloc")
    assert meta["morph_flag"] == ("", FLAG.description, FLAG.ucd)
    assert meta["c0"] == ("", "", "meta.id")


def test_heap_behind_a_gap(tmp_path):
    source = make_table(tmp_path / "plain.fits", ["PJ", "I"], 4)
    raw = source.read_bytes()
    with fits.open(source) as hdus:
        at = hdus[2]._data_offset
        rows, heap = hdus[2].header["NAXIS1"] * 4, hdus[2].header["PCOUNT"]
        expected = [list(cell) for cell in hdus[2].data["c0"]]
        header = hdus[2].header
        start = hdus[2]._header_offset
    header["PCOUNT"] = heap + 100
    header["THEAP"] = rows + 100
    for key in ("CHECKSUM", "DATASUM"):
        del header[key]
    data = raw[at : at + rows] + b"\xff" * 100 + raw[at + rows : at + rows + heap]
    (tmp_path / "gap.fits").write_bytes(raw[:start] + header.tostring().encode() + data.ljust(2880, b"\0"))
    append(tmp_path / "gap.fits", tmp_path / "out.fits")
    with fits.open(tmp_path / "out.fits") as hdus:
        header = hdus[2].header
        assert header["THEAP"] == header["NAXIS1"] * 4 + 100
        assert header["PCOUNT"] == heap + 100
        assert "CHECKSUM" not in header
        assert [list(cell) for cell in hdus[2].data["c0"]] == expected


def test_wrong_checksum_is_not_made_right(tmp_path):
    source = make_table(tmp_path / "in.fits", ["D"], 5)
    raw = bytearray(source.read_bytes())
    with fits.open(source) as hdus:
        raw[hdus[2]._data_offset] ^= 1
        datasum = hdus[2].header["DATASUM"]
    source.write_bytes(raw)
    append(source, tmp_path / "out.fits")
    assert fits.getheader(tmp_path / "out.fits", 2)["DATASUM"] == datasum


def test_values_nulls_and_scaling_are_read(tmp_path):
    columns = [
        fits.Column("id", "K", null=-1, array=[2**62 + 1, -1, 5]),
        fits.Column("uid", "K", bzero=2**63, array=np.array([2**64 - 1, 0, 2**63], "u8")),
        fits.Column("u2", "I", bzero=2**15, array=np.array([65535, 0, 1], "u2")),
        fits.Column("flag", "L", array=[True, False, True]),
        fits.Column("x", "E", array=[1, np.nan, 3]),
        fits.Column("s", "5A", array=["ab", "", " é "[1:2] and "z"]),
        fits.Column("v", "2E", array=np.ones((3, 2))),
    ]
    table = fits.BinTableHDU.from_columns(columns)
    table.writeto(tmp_path / "in.fits")
    with fits.open(tmp_path / "in.fits", mode="update") as hdus:
        hdus[1].header["TSCAL5"], hdus[1].header["TZERO5"] = 2.0, 1.0
    catalog = open_catalog(tmp_path / "in.fits")
    read = catalog.read(["id", "UID", "u2", "flag", "x", "s", "v"])
    assert read["id"].tolist() == [2**62 + 1, None, 5]
    assert read["UID"].tolist() == [2**64 - 1, 0, 2**63]
    assert read["u2"].tolist() == [65535, 0, 1]
    assert read["flag"].tolist() == [True, False, True]
    assert np.array_equal(read["x"], [3, np.nan, 7], equal_nan=True)
    assert read["s"].tolist() == ["ab", "", "z"]
    assert read["v"].shape == (3, 2)
    assert next(catalog.blocks(10)).id.tolist() == [str(2**62 + 1), "", "5"]
    assert next(open_catalog(tmp_path / "in.fits", id_column="uid").blocks(10)).id[0] == str(2**64 - 1)


def test_arrays_of_variable_length_are_not_read(tmp_path):
    catalog = open_catalog(make_table(tmp_path / "in.fits", ["PJ", "3X"], 2))
    for name in ("c0", "c1"):
        with pytest.raises(CatalogError, match=rf"column '{name}' holds .* kept but not read"):
            catalog.read([name])


@pytest.mark.parametrize(
    ("suffix", "pack", "unpack"), [(".gz", gzip.compress, gzip.decompress), (".bz2", bz2.compress, bz2.decompress)]
)
def test_compressed_files(tmp_path, suffix, pack, unpack):
    plain = make_table(tmp_path / "in.fits", ["K", "PJ"], 9)
    packed = tmp_path / f"in.fits{suffix}"
    packed.write_bytes(pack(plain.read_bytes()))
    append(plain, tmp_path / "out.fits")
    assert append(packed, tmp_path / f"out.fits{suffix}").n_rows == 9
    assert unpack((tmp_path / f"out.fits{suffix}").read_bytes()) == (tmp_path / "out.fits").read_bytes()
    first = (tmp_path / f"out.fits{suffix}").read_bytes()
    append(packed, tmp_path / f"out.fits{suffix}")
    assert (tmp_path / f"out.fits{suffix}").read_bytes() == first


def test_no_rows(tmp_path):
    source = make_table(tmp_path / "in.fits", ["K", "D"], 0)
    catalog = append(source, tmp_path / "out.fits")
    assert catalog.n_rows == 0
    assert list(catalog.blocks(10)) == []
    assert len(catalog.read(["c0"])["c0"]) == 0
    assert set(fitsverify(tmp_path / "out.fits")) <= set(fitsverify(source))


def test_the_table_that_hdu_names(tmp_path):
    make_table(tmp_path / "a.fits", ["K"], 2)
    with fits.open(tmp_path / "a.fits") as hdus:
        second = fits.BinTableHDU.from_columns([fits.Column("other", "D", array=[1.0, 2, 3])])
        fits.HDUList([*hdus, second]).writeto(tmp_path / "in.fits")
    assert open_catalog(tmp_path / "in.fits").column_names == ("c0",)
    catalog = open_catalog(tmp_path / "in.fits", hdu=4)
    assert catalog.column_names == ("other",)
    catalog.append(tmp_path / "out.fits", COLUMNS, [values(3)])
    with fits.open(tmp_path / "out.fits") as hdus:
        assert hdus[2].columns.names == ["c0"]
        assert hdus[4].columns.names == ["other", *(c.name for c in COLUMNS)]
    with pytest.raises(CatalogError, match="has no HDU 7; it has 0 image, 1 image, 2 binary table, 3 image, 4 binary"):
        open_catalog(tmp_path / "in.fits", hdu=7)
    with pytest.raises(CatalogError, match=r"HDU 1 \(image\)"):
        open_catalog(tmp_path / "in.fits", hdu=1)


def test_columns_in_the_middle_are_replaced(tmp_path):
    source = make_table(tmp_path / "in.fits", ["K", "PJ", "7A"], 6)
    append(source, tmp_path / "one.fits")
    last = Column("mine", "float64", "s", "time", "added by hand")
    open_catalog(tmp_path / "one.fits").append(tmp_path / "two.fits", [last], [{"mine": np.arange(6.0)}])
    catalog = open_catalog(tmp_path / "two.fits")
    assert catalog.galmorph_columns == (*(c.name for c in COLUMNS), "mine")
    catalog.append(
        tmp_path / "two.fits",
        [PROBABILITY],
        [{"p_spiral": np.full(6, 0.25)}],
        cards=[("GMMODEL", "new", "")],
        replace=True,
    )
    with fits.open(tmp_path / "two.fits", checksum=True) as hdus, fits.open(source) as before:
        header = hdus[2].header
        assert hdus[2].columns.names == ["c0", "c1", "c2", "morph_flag", "morph_label", "mine", "p_spiral"]
        assert header["TUNIT6"] == "s"
        assert (header["TUCD4"], header["TUCD6"], header["TUCD7"]) == (FLAG.ucd, "time", PROBABILITY.ucd)
        assert (header["GMMODEL"], header["GMBATCH"]) == ("new", 64)
        assert "HISTORY" not in header
        assert hdus[2].data["mine"].tolist() == [0, 1, 2, 3, 4, 5]
        assert hdus[2].data["p_spiral"].tolist() == [0.25] * 6
        assert list(hdus[2].data["morph_label"]) == list(values(6)["morph_label"])
        assert [list(c) for c in hdus[2].data["c1"]] == [list(c) for c in before[2].data["c1"]]
    assert set(fitsverify(tmp_path / "two.fits")) <= set(fitsverify(source))


def test_the_cards_of_an_earlier_model_become_history(tmp_path):
    append(make_table(tmp_path / "in.fits", ["K"], 3), tmp_path / "one.fits")
    other = Column("b_spiral", "float32")
    open_catalog(tmp_path / "one.fits").append(
        tmp_path / "two.fits", [other], [{"b_spiral": np.zeros(3)}], cards=[("GMMODEL", "second", "model")]
    )
    header = fits.getheader(tmp_path / "two.fits", 2)
    assert header["GMMODEL"] == "second"
    assert list(header["HISTORY"]) == ["galmorph GMMODEL = 'galaxyzoo2-mobilenet_v2' / model"]
    assert header["GMKEYS"] == "GMBATCH,GMMODEL"


def test_a_card_of_the_user_is_left_alone(tmp_path):
    source = make_table(tmp_path / "in.fits", ["K"], 3)
    with fits.open(source, mode="update") as hdus:
        hdus[2].header["GMMODEL"] = ("mine", "grey matter")
    append(source, tmp_path / "out.fits")
    header = fits.getheader(tmp_path / "out.fits", 2)
    assert (header["GMMODEL"], header.comments["GMMODEL"]) == ("mine", "grey matter")
    assert list(header["HISTORY"]) == ["galmorph GMMODEL = 'galaxyzoo2-mobilenet_v2' / model"]
    assert header["GMKEYS"] == "GMBATCH"


def test_leftover_cards_do_not_describe_the_new_columns(tmp_path):
    source = make_table(tmp_path / "in.fits", ["K"], 3)
    with fits.open(source, mode="update") as hdus:
        hdus[2].header["TNULL2"], hdus[2].header["TSCAL2"] = 1, 5.0
    append(source, tmp_path / "out.fits")
    assert not {"TNULL2", "TSCAL2"} & set(fits.getheader(tmp_path / "out.fits", 2))


def test_names_ignore_case(tmp_path):
    fits.BinTableHDU.from_columns([fits.Column("P_Spiral", "E", array=[1.0])]).writeto(tmp_path / "in.fits")
    with pytest.raises(CatalogError, match=r"already has the columns P_Spiral: .*--prefix.*--replace"):
        append(tmp_path / "in.fits", tmp_path / "out.fits")


def test_text_that_does_not_fit_is_refused(tmp_path):
    source = make_table(tmp_path / "in.fits", ["K"], 1)
    catalog = open_catalog(source)
    for text, reason in (("too long for it", "longer than its 8 bytes"), ("spiräl", "not ASCII")):
        with pytest.raises(CatalogError, match=reason):
            catalog.append(tmp_path / "out.fits", [LABEL], [{"morph_label": [text]}])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.fits"]


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("ZTABLE", True, "tile-compressed table"),
        ("ZIMAGE", True, "no table"),
        ("XT_ICOL", 999, "more than 999 columns"),
    ],
)
def test_tables_that_cannot_get_columns(tmp_path, key, value, reason):
    source = make_table(tmp_path / "in.fits", ["K"], 2)
    raw = re.sub(rb"EXTNAME = 'OBJECTS '.{60}", fits.Card(key, value).image.encode(), source.read_bytes())
    source.write_bytes(raw)
    with pytest.raises(CatalogError, match=reason):
        open_catalog(source)


def test_ascii_tables_are_refused(tmp_path):
    fits.TableHDU.from_columns([fits.Column("x", "I5", array=[1, 2])]).writeto(tmp_path / "in.fits")
    with pytest.raises(CatalogError, match=r"HDU 1 \(ASCII table\) .*save it as a binary table"):
        open_catalog(tmp_path / "in.fits")


def test_more_than_999_columns_are_refused(tmp_path):
    columns = [fits.Column(f"c{i}", "B", array=[1]) for i in range(998)]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "in.fits")
    with pytest.raises(CatalogError, match="999 columns at most, not 1001"):
        append(tmp_path / "in.fits", tmp_path / "out.fits")
    open_catalog(tmp_path / "in.fits").append(tmp_path / "out.fits", [FLAG], [{"morph_flag": np.zeros(1, int)}])
    assert open_catalog(tmp_path / "out.fits").column_names[-1] == "morph_flag"


def test_images_are_no_catalogs(tmp_path):
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(tmp_path / "in.fits")
    with pytest.raises(CatalogError, match="holds no table, so it is no catalog; its HDUs: 0 image"):
        open_catalog(tmp_path / "in.fits")


@pytest.mark.parametrize("part", [0.003, 0.1, 0.2, 0.5, 0.7])
def test_truncated_files(tmp_path, part):
    source = make_table(tmp_path / "in.fits", ["100D"], 20)
    raw = source.read_bytes()
    source.write_bytes(raw[: int(part * len(raw))])
    with pytest.raises(CatalogError, match=r"truncated|no table"):
        open_catalog(source)
    packed = gzip.compress(raw)
    (tmp_path / "in.fits.gz").write_bytes(packed[: int(part * len(packed))])
    with pytest.raises(CatalogError, match=r"cannot be read|no table|truncated"):
        append(tmp_path / "in.fits.gz", tmp_path / "out.fits.gz")
    assert not (tmp_path / "out.fits.gz").exists()


def test_a_last_block_that_is_not_full_is_no_truncation(tmp_path):
    table = fits.BinTableHDU.from_columns([fits.Column("x", "D", array=[1.0, 2])])
    table.writeto(tmp_path / "in.fits")
    raw = (tmp_path / "in.fits").read_bytes()
    (tmp_path / "in.fits").write_bytes(raw[: len(raw) - 2880 + 16])
    append(tmp_path / "in.fits", tmp_path / "out.fits")
    assert (tmp_path / "out.fits").stat().st_size % 2880 == 0
    assert Table.read(tmp_path / "out.fits")["x"].tolist() == [1, 2]


def test_a_row_that_its_columns_do_not_fill_is_refused(tmp_path):
    source = make_table(tmp_path / "in.fits", ["K", "D"], 2)
    source.write_bytes(source.read_bytes().replace(b"TFORM2  = 'D       '", b"TFORM2  = 'E       '"))
    with pytest.raises(CatalogError, match="the columns take 12 bytes, but NAXIS1=16"):
        open_catalog(source)


def test_new_tables_are_clean(tmp_path):
    write_catalog(tmp_path / "new.fits", COLUMNS, [values(5)], 5, cards=CARDS)
    assert fitsverify(tmp_path / "new.fits") == []
    table = Table.read(tmp_path / "new.fits")
    assert table["morph_label"].tolist() == list(values(5)["morph_label"])
    assert table.meta["GMBATCH"] == 64


def test_the_votable_that_topcat_keeps_in_the_primary_hdu(tmp_path):
    source = make_table(tmp_path / "a.fits", ["K", "D"], 4)
    fields = '<FIELD name="c0" datatype="long" utype="my:id"/><FIELD name="c1" datatype="double"/>'
    text = f'<VOTABLE><RESOURCE><TABLE><PARAM name="p" datatype="int" value="1"/>{fields}</TABLE></RESOURCE></VOTABLE>'
    primary = fits.PrimaryHDU(np.frombuffer(text.encode(), "u1"))
    primary.header.insert("EXTEND", ("VOTMETA", True, "Table metadata in VOTable format"))
    with fits.open(source) as hdus:
        fits.HDUList([primary, hdus[2], hdus[1]]).writeto(tmp_path / "in.fits", checksum=True)
    catalog = append(tmp_path / "in.fits", tmp_path / "out.fits")
    catalog.append(tmp_path / "out.fits", [FLAG], [{"morph_flag": np.ones(4, int)}], cards=CARDS, replace=True)
    with fits.open(tmp_path / "out.fits", checksum=True) as hdus:
        new = bytes(hdus[0].data).decode()
        assert hdus[0].header["NAXIS1"] == len(new)
        assert hdus[1].columns.names == ["c0", "c1", "p_spiral", "morph_label", "morph_flag"]
    assert re.findall('FIELD name="([^"]*)"', new) == ["c0", "c1", "p_spiral", "morph_label", "morph_flag"]
    assert '<PARAM name="p" datatype="int" value="1"/>' in new
    assert fields in new
    assert f'ucd="{FLAG.ucd}"' in new
    assert new.count('name="GMMODEL"') == 1
    assert fitsverify(tmp_path / "out.fits") == fitsverify(tmp_path / "in.fits")
    assert stilts_meta(tmp_path / "out.fits")["morph_flag"] == ("", FLAG.description, FLAG.ucd)


def test_a_votable_of_another_table_is_left_alone(tmp_path):
    primary = fits.PrimaryHDU(
        np.frombuffer(b"<VOTABLE><TABLE><FIELD name='x' datatype='int'/></TABLE></VOTABLE>", "u1")
    )
    primary.header["VOTMETA"] = True
    table = fits.BinTableHDU.from_columns([fits.Column("other", "D", array=[1.0])])
    fits.HDUList([primary, table]).writeto(tmp_path / "in.fits")
    append(tmp_path / "in.fits", tmp_path / "out.fits")
    n = 2880 * 2
    assert (tmp_path / "out.fits").read_bytes()[:n] == (tmp_path / "in.fits").read_bytes()[:n]
