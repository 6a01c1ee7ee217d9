"""FITS tables whose header and bytes disagree are refused with the card's name; filling is not."""

import bz2
import gzip

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from tablemaking import COLUMNS, append

from galmorph.errors import CatalogError
from galmorph.tables.catalog import open_catalog
from galmorph.tables.contents import contents_of
from galmorph.tables.formats.fits import TABLE


def make(path, n=300):
    """A table of 300 rows and three columns, one with a heap, and an image behind it."""
    heap = np.empty(n, object)
    heap[:] = [np.arange(1 + i % 3, dtype="i2") + 1 for i in range(n)]
    columns = [
        fits.Column("id", "K", array=np.arange(1, n + 1)),
        fits.Column("ra", "D", array=np.linspace(10, 20, n)),
        fits.Column("list", "PI()", array=heap),
    ]
    table = fits.BinTableHDU.from_columns(columns)
    fits.HDUList([fits.PrimaryHDU(), table, fits.ImageHDU(np.ones(5, "f4"))]).writeto(path)
    return path


def with_card(path, key, value, n=0):
    """Change the value of a card, the one with the number `n` of its name in the file."""
    raw = path.read_bytes()
    at = -1
    for _ in range(n + 1):
        at = raw.index(key.ljust(8).encode() + b"= ", at + 1)
    text = f"'{value}'" if isinstance(value, str) else str(value)
    path.write_bytes(raw[:at] + f"{key:<8}= {text:>20}".ljust(80).encode() + raw[at + 80 :])


@pytest.mark.parametrize(
    ("key", "value", "n"),
    [
        ("BITPIX", 16, 1),
        ("BITPIX", 7, 0),
        ("NAXIS", 1, 1),
        ("NAXIS", -1, 0),
        ("NAXIS1", 25, 0),
        ("NAXIS1", -24, 0),
        ("NAXIS2", 299, 0),
        ("NAXIS2", 301, 0),
        ("NAXIS2", 100, 0),
        ("NAXIS2", -1, 0),
        ("NAXIS2", 10**15, 0),
        ("NAXIS2", 2.5, 0),
        ("NAXIS2", "300", 0),
        ("PCOUNT", -1, 0),
        ("PCOUNT", 0, 0),
        ("PCOUNT", 10**9, 0),
        ("GCOUNT", 0, 0),
        ("GCOUNT", 2, 0),
        ("TFIELDS", 2, 0),
        ("TFIELDS", 4, 0),
        ("TFIELDS", -3, 0),
        ("TFIELDS", 10**6, 0),
        ("XTENSION", "IMAGE   ", 0),
        ("XTENSION", 1, 0),
        ("TFORM2", "E       ", 0),
        ("TFORM2", "Z       ", 0),
        ("TSCAL2", "abc", 0),
        ("TZERO2", "abc", 0),
        ("TNULL1", "abc", 0),
        ("THEAP", 1, 0),
    ],
)
def test_a_card_that_lies_is_named(tmp_path, key, value, n):
    path = make(tmp_path / "in.fits")
    if key in ("TSCAL2", "TZERO2", "TNULL1", "THEAP"):
        with fits.open(path, "update") as hdus:
            hdus[1].header[key] = 7200 if key == "THEAP" else 1
            hdus.flush()
    assert open_catalog(path).n_rows == 300
    with_card(path, key, value, n)
    named = {"TFIELDS": "TFORM4|TFIELDS", "TFORM2": "TFORM"}.get(key, key)
    with pytest.raises(CatalogError, match=rf"in\.fits.*({named})"):
        open_catalog(path)


@pytest.mark.parametrize(
    ("key", "reason"), [("XTENSION", "XTENSION"), ("BITPIX", "BITPIX"), ("PCOUNT", "no card PCOUNT")]
)
def test_a_card_that_is_absent_is_named(tmp_path, key, reason):
    path = make(tmp_path / "in.fits")
    raw = path.read_bytes()
    at = raw.rindex(key.ljust(8).encode(), 0, raw.index(b"TTYPE1"))
    path.write_bytes(raw[:at] + b"COMMENT ".ljust(80) + raw[at + 80 :])
    with pytest.raises(CatalogError, match=key):
        open_catalog(path)


@pytest.mark.parametrize("card", [b"BITPIX  <                    8", b"BITPIX                       8", b"BITPIX  = &"])
def test_a_card_that_is_none_is_refused_without_a_warning(tmp_path, card):
    path = make(tmp_path / "in.fits")
    raw = path.read_bytes()
    at = raw.rindex(b"BITPIX  ", 0, raw.index(b"TTYPE1"))
    path.write_bytes(raw[:at] + card.ljust(80) + raw[at + 80 :])
    with pytest.raises(CatalogError, match="BITPIX"):
        open_catalog(path)


def test_a_card_that_is_there_twice(tmp_path):
    path = make(tmp_path / "in.fits")
    raw = path.read_bytes()
    at = raw.index(b"END".ljust(80), raw.index(b"TTYPE1"))
    card = b"NAXIS2  =                  100".ljust(80)
    path.write_bytes(raw[:at] + card + b"END".ljust(80) + raw[at + 160 :])
    with pytest.raises(CatalogError, match="NAXIS2 is there twice"):
        open_catalog(path)


def test_a_header_without_end(tmp_path):
    path = make(tmp_path / "in.fits")
    raw = path.read_bytes()
    at = raw.index(b"END".ljust(80), raw.index(b"TTYPE1"))
    path.write_bytes(raw[:at] + b" " * 80 + raw[at + 80 :])
    with pytest.raises(CatalogError, match="has no END"):
        open_catalog(path)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
@pytest.mark.parametrize("part", [0.4, 0.9, 0.999])
def test_a_compressed_file_that_is_cut_is_refused_when_it_is_opened(tmp_path, pack, part):
    whole = pack(make(tmp_path / "in.fits").read_bytes())
    path = tmp_path / "in.fits.gz"
    path.write_bytes(whole)
    assert open_catalog(path).n_rows == 300
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(CatalogError, match=r"cannot be read|truncated"):
        open_catalog(path)


@pytest.mark.parametrize("filling", [bytes(2880), b" " * 2880, b" " * 2 * 2880, b"\x1a" * 100, bytes(17)])
def test_filling_behind_the_data_is_copied(tmp_path, filling):
    path = make(tmp_path / "in.fits")
    path.write_bytes(path.read_bytes() + filling)
    append(path, tmp_path / "out.fits")
    assert (tmp_path / "out.fits").read_bytes().endswith(filling)
    with fits.open(tmp_path / "out.fits") as hdus:
        assert hdus[1].columns.names == ["id", "ra", "list", *(c.name for c in COLUMNS)]


def test_the_header_of_the_image_in_a_sextractor_file_is_not_the_catalog(tmp_path):
    names = ["NUMBER", "ALPHA_J2000", "DELTA_J2000"]
    image = fits.BinTableHDU.from_columns(
        [fits.Column("Field Header Card", "160A", array=["SIMPLE  = T"])], name="LDAC_IMHEAD"
    )
    objects = fits.table_to_hdu(Table([[1, 2], [10.0, 11.0], [1.0, 2.0]], names=names))
    objects.name = "LDAC_OBJECTS"
    fits.HDUList([fits.PrimaryHDU(), image, objects]).writeto(tmp_path / "in.cat")
    catalog = append(tmp_path / "in.cat", tmp_path / "out.cat")
    assert catalog.column_names == (*names, *(c.name for c in COLUMNS))
    (summary,) = TABLE.tables(tmp_path / "in.cat")
    assert (summary.number, summary.name, summary.n_rows) == (2, "LDAC_OBJECTS", 2)
    assert [field.name for field in summary.fields] == names
    with fits.open(tmp_path / "in.cat") as old, fits.open(tmp_path / "out.cat") as new:
        assert new[1].header.tostring() == old[1].header.tostring()


def test_all_tables_are_listed(tmp_path):
    tables = [fits.table_to_hdu(Table({name: [1, 2]})) for name in ("first", "second")]
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.ones(3)), *tables]).writeto(tmp_path / "in.fits")
    listed = [
        (table.number, tuple(field.name for field in table.fields)) for table in TABLE.tables(tmp_path / "in.fits")
    ]
    assert listed == [(2, ("first",)), (3, ("second",))]


def test_the_columns_that_astropy_describes_in_comments_follow_the_table(tmp_path):
    table = Table({"id": ["a", "b"], "ra": [1.0, 2.0]})
    append_to(table, tmp_path)
    before = Table.read(tmp_path / "in.fits")
    append(tmp_path / "in.fits", tmp_path / "out.fits", replace=True)
    after = Table.read(tmp_path / "out.fits")
    assert after.colnames == ["id", "ra", *(c.name for c in COLUMNS)]
    assert after["ra"].description == before["ra"].description
    assert after["ra"].format == before["ra"].format
    assert after["p_spiral"].dtype.kind == "f"


def append_to(table, folder):
    """A table with galmorph's columns and descriptions that astropy wrote, as in.fits."""
    table.write(folder / "first.fits")
    append(folder / "first.fits", folder / "second.fits")
    table = Table.read(folder / "second.fits")
    table["ra"].info.description = "right ascension: é, the longer one of two, " + "and many more words " * 6
    table["ra"].info.format = "%.3f"
    table["p_spiral"].info.description = "ours"
    table["morph_flag"].info.description = "ours, " + "long " * 30
    table.write(folder / "in.fits")
    assert "SERIALIZED-COLUMNS" in str(fits.getheader(folder / "in.fits", 1)["COMMENT"])


@pytest.mark.parametrize(("key", "value"), [("NAXIS2", 301), ("TFIELDS", 2), ("TSCAL2", "abc"), ("PCOUNT", 0)])
def test_a_damaged_table_before_an_image_is_not_taken_for_the_image(tmp_path, key, value):
    path = make(tmp_path / "in.fits")
    with fits.open(path, "update") as hdus:
        hdus[1].header["TSCAL2"] = 1
        hdus[2] = fits.ImageHDU(np.ones((40, 40), "f4"))
        hdus.flush()
    assert contents_of(path).kind == "table"
    with_card(path, key, value)
    with pytest.raises(CatalogError, match=key if key != "TFIELDS" else "TFORM|TFIELDS"):
        open_catalog(path, hdu=contents_of(path).number)


@pytest.mark.parametrize(
    ("head", "named"),
    [
        (b"\x1f\x9d\x90", "compress"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"PK\x03\x04", "zip"),
    ],
)
def test_other_compressions_are_named(tmp_path, head, named):
    (tmp_path / "in.fits.Z").write_bytes(head + bytes(100))
    with pytest.raises(CatalogError, match=f"compressed by {named}, so it is none of the table formats"):
        open_catalog(tmp_path / "in.fits.Z")
