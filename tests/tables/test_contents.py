"""What a file is, and which of its tables is meant: one test for each kind of file."""

import gzip
import os

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from pyarrow import parquet

from galmorph.errors import CatalogError
from galmorph.tables.catalog import open_catalog
from galmorph.tables.contents import contents_of, holds_table

GALAXIES = {"id": np.arange(3) + 7, "ra": np.array([1.0, 2.0, 3.0]), "dec": np.array([4.0, 5.0, 6.0])}
METADATA = {"key": np.array([1, 2]), "value": np.array([1.5, 2.5])}


def table(columns, name="", extra=()):
    made = fits.BinTableHDU.from_columns(
        [fits.Column(key, "A4" if values.dtype.kind == "U" else "D", array=values) for key, values in columns.items()]
    )
    if name:
        made.name = name
    for key, value in extra:
        made.header[key] = value
    return made


def image(side=32, name=""):
    return fits.ImageHDU(np.ones((side, side), np.float32), name=name or None)


def write(path, *hdus, first=None):
    fits.HDUList([first or fits.PrimaryHDU(), *hdus]).writeto(path)
    return path


def topcat_primary():
    """The primary HDU as TOPCAT and STILTS write it: a VOTable of bytes."""
    field = b"<FIELD name='id' datatype='double'/>"
    text = b"<?xml version='1.0'?><VOTABLE><RESOURCE><TABLE>" + field + b"</TABLE></RESOURCE></VOTABLE>"
    hdu = fits.PrimaryHDU(np.frombuffer(text, np.uint8))
    hdu.header["VOTMETA"] = True
    return hdu


@pytest.mark.parametrize("name", ["mine.fits", "mine.dat"])
def test_a_catalog_as_topcat_saves_it(tmp_path, name):
    path = write(tmp_path / name, table(GALAXIES), first=topcat_primary())
    assert contents_of(path).kind == "table"
    assert open_catalog(path).n_rows == 3
    assert holds_table(path)


def test_an_image_is_an_image(tmp_path):
    path = write(tmp_path / "a.fits", first=fits.PrimaryHDU(np.ones((40, 30), np.float32)))
    contents = contents_of(path)
    assert (contents.kind, contents.side_px) == ("image", 40)
    assert "30 x 40 px" in contents.reason
    assert not holds_table(path)


@pytest.mark.parametrize("suffix", ["fits", "fits.gz"])
def test_an_image_with_tables_of_something_else(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    write(path, image(name="SCI"), table({"TARG_RA": np.ones(2), "TARG_DEC": np.ones(2)}, "HDRTAB"), table(METADATA))
    assert contents_of(path).kind == "image"


def test_metadata_before_an_image_make_no_catalog(tmp_path):
    assert contents_of(write(tmp_path / "a.fits", table(METADATA), image())).kind == "image"


@pytest.mark.parametrize("name", ["a.fits", "a.fits.gz"])
def test_galaxies_before_an_image_are_a_catalog(tmp_path, name):
    contents = contents_of(write(tmp_path / name, table(GALAXIES), image()))
    assert (contents.kind, contents.number) == ("table", 1)


def test_a_truncated_catalog_before_an_image(tmp_path):
    content = write(tmp_path / "whole.fits", table(GALAXIES), image()).read_bytes()
    for cut in (len(content) - 4000, len(content) - 8000):
        (tmp_path / "t.fits.gz").write_bytes(gzip.compress(content[:cut]))
        with pytest.raises(CatalogError, match=r"truncated"):
            contents_of(tmp_path / "t.fits.gz")


def test_an_image_and_its_catalog_in_one_file_are_two_readings(tmp_path):
    path = write(tmp_path / "a.fits", image(), table(GALAXIES, "CAT"))
    with pytest.raises(CatalogError, match=r"an image \(HDU 1\) and a table of galaxies \(HDU 2 \(CAT\).*--as catalog"):
        contents_of(path)
    assert contents_of(path, wanted="image").kind == "image"
    assert contents_of(path, 1).kind == "image"
    assert contents_of(path, 2).number == 2
    assert open_catalog(path).n_rows == 3


def test_a_compressed_image(tmp_path):
    hdu = fits.CompImageHDU(np.ones((50, 60), np.float32))
    assert contents_of(write(tmp_path / "a.fits.fz", hdu)).side_px == 60


def test_sextractor_ldac(tmp_path):
    head = table({"Field Header Card": np.array(["x"])}, "LDAC_IMHEAD")
    sex = {"NUMBER": GALAXIES["id"], "ALPHA_J2000": GALAXIES["ra"], "DELTA_J2000": GALAXIES["dec"]}
    path = write(tmp_path / "field.cat", head, table(sex, "LDAC_OBJECTS"))
    catalog = open_catalog(path)
    assert (catalog.ra_column, catalog.id_column, catalog.n_rows) == ("ALPHA_J2000", "NUMBER", 3)


def test_the_table_of_galaxies_is_meant(tmp_path):
    path = write(tmp_path / "a.fits", table(METADATA, "INFO"), table(GALAXIES, "CAT"))
    assert contents_of(path).number == 2
    assert open_catalog(path).id_column == "id"
    assert open_catalog(path, hdu=1).column_names == ("key", "value")
    named = {"alpha": GALAXIES["ra"], "delta": GALAXIES["dec"]}
    path = write(tmp_path / "b.fits", table(GALAXIES, "CAT"), table(named, "OTHER"))
    assert open_catalog(path, ra_column="alpha", dec_column="delta").column_names == ("alpha", "delta")


def test_two_tables_of_galaxies_are_refused_and_the_option_is_named(tmp_path):
    path = write(tmp_path / "a.fits", table(GALAXIES, "ONE"), table(GALAXIES, "TWO"))
    with pytest.raises(CatalogError, match=r"holds 2 tables .*1 \(ONE\): id, ra, dec, 3 rows; 2 \(TWO\).*--hdu"):
        open_catalog(path)
    assert open_catalog(path, hdu=2).n_rows == 3
    empty = {name: values[:0] for name, values in GALAXIES.items()}
    assert contents_of(write(tmp_path / "b.fits", table(empty), table(GALAXIES))).number == 2


@pytest.mark.parametrize("compressed", [False, True])
def test_a_truncated_catalog_is_no_cutout(tmp_path, compressed):
    many = {name: np.arange(5000.0) for name in ("id", "ra", "dec")}
    content = write(tmp_path / "whole.fits", table(many)).read_bytes()
    path = tmp_path / ("t.fits.gz" if compressed else "t.fits")
    path.write_bytes(gzip.compress(content)[:9000] if compressed else content[:9000])
    with pytest.raises(CatalogError, match=r"truncated|end-of-stream"):
        contents_of(path)


def test_a_truncated_image_is_left_to_the_reader_of_images(tmp_path):
    path = write(tmp_path / "a.fits", first=fits.PrimaryHDU(np.ones((60, 60), np.float32)))
    path.write_bytes(path.read_bytes()[:5000])
    assert contents_of(path).kind == "image"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"SIMPLE  =                    T", "no END"),
        (b"\x89HDF\r\n\x1a\n\0\0\0", "none of the table formats"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "none of the table formats"),
        ("name,ra\n".encode("utf-16"), "written in UTF-16; save it as UTF-8"),
        (b"#ASDF 1.0.0\n#ASDF_STANDARD 1.5.0\n%YAML 1.1\n", "is ASDF, which is not read"),
        (b"PK\x03\x04" + bytes(30) + b"xl/workbook.xml", "workbook of a spreadsheet program: save the sheet as CSV"),
        (b"PK\x03\x04" + bytes(30) + b"t.csv", "compressed by zip"),
    ],
)
def test_what_is_none_of_ours(tmp_path, content, reason):
    (tmp_path / "a.fits").write_bytes(content)
    with pytest.raises(CatalogError, match=reason):
        contents_of(tmp_path / "a.fits")


def test_no_image_and_no_table(tmp_path):
    with pytest.raises(CatalogError, match="holds no table"):
        open_catalog(write(tmp_path / "a.fits"))
    spectrum = write(tmp_path / "b.fits", first=fits.PrimaryHDU(np.ones(100, np.float32)))
    with pytest.raises(CatalogError, match="holds no table"):
        open_catalog(spectrum)


def test_pipes_and_devices_are_never_opened(tmp_path):
    os.mkfifo(tmp_path / "p.fits")
    for path in (tmp_path / "p.fits", "/dev/zero"):
        with pytest.raises(CatalogError, match="is a pipe or a device"):
            open_catalog(path)
    assert not holds_table(tmp_path / "p.fits")


def test_a_link_that_leads_to_itself(tmp_path):
    (tmp_path / "l.fits").symlink_to("l.fits")
    with pytest.raises(CatalogError, match="cannot be read"):
        open_catalog(tmp_path / "l.fits")


@pytest.mark.parametrize("names", [("part.0.parquet", "part.1.parquet"), ("a=1/x.parquet", "a=2/x.parquet")])
def test_a_folder_of_parquet_files(tmp_path, names):
    folder = tmp_path / "targets.parquet"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pa.table(GALAXIES), folder / name)
    with pytest.raises(CatalogError, match=r"folder of Parquet files \(2\).*targets_joined.parquet"):
        open_catalog(folder)


def votable(*tables):
    def one(name, columns, rows):
        fields = "".join(f"<FIELD name='{column}' datatype='double'/>" for column in columns)
        cells = "".join("<TR>" + "".join(f"<TD>{cell}</TD>" for cell in row) + "</TR>" for row in rows or ())
        data = "" if rows is None else f"<DATA><TABLEDATA>{cells}</TABLEDATA></DATA>"
        return f"<RESOURCE><TABLE name='{name}'>{fields}{data}</TABLE></RESOURCE>"

    return "<?xml version='1.0'?><VOTABLE version='1.4'>" + "".join(one(*t) for t in tables) + "</VOTABLE>"


NAMES = ("id", "ra", "dec")
ROWS = [(1, 10, 20), (2, 11, 21)]


def test_a_votable_whose_first_table_has_no_data(tmp_path):
    (tmp_path / "a.vot").write_text(votable(("empty", NAMES, None), ("full", NAMES, ROWS)))
    catalog = open_catalog(tmp_path / "a.vot")
    assert next(catalog.blocks(5)).ra.tolist() == [10, 11]


def test_a_votable_whose_first_table_is_not_the_one(tmp_path):
    (tmp_path / "a.vot").write_text(votable(("info", ("key", "value"), [(1, 2)]), ("galaxies", NAMES, ROWS)))
    assert contents_of(tmp_path / "a.vot").number == 1
    assert open_catalog(tmp_path / "a.vot").n_rows == 2
    assert open_catalog(tmp_path / "a.vot", hdu=0).column_names == ("key", "value")
    with pytest.raises(CatalogError, match="has no TABLE 5"):
        open_catalog(tmp_path / "a.vot", hdu=5)


def test_a_votable_with_two_tables_of_galaxies(tmp_path):
    (tmp_path / "a.vot").write_text(votable(("one", NAMES, ROWS), ("two", NAMES, ROWS)))
    with pytest.raises(CatalogError, match=r"0 \(one\).*1 \(two\).*--hdu"):
        open_catalog(tmp_path / "a.vot")
    second = open_catalog(tmp_path / "a.vot", hdu=1)
    from galmorph.tables.catalog import Column

    second.append(tmp_path / "b.vot", [Column("p_x", "float32")], [{"p_x": np.array([0.25, 0.5], np.float32)}])
    text = (tmp_path / "b.vot").read_text()
    first, _, other = text.partition("name='two'")
    assert "0.25" not in first
    assert "<TD>0.25</TD>" in other
