"""Catalogs of any format: the columns that are found, the rows that come out, and what may be written."""

import errno
import os
import stat
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from tablemaking import CARDS, COLUMNS, FLAG, append, values

from galmorph import registry
from galmorph.errors import CannotContinue, CatalogError, OutputError
from galmorph.tables.catalog import Column, open_catalog, write_catalog

SUFFIXES = [".fits", ".csv", ".ecsv", ".vot", ".parquet"]


def make(path, text):
    path.write_bytes(text.encode())
    return path


def table(path, n=10, names=("objid", "ra", "dec", "petroR90_r", "cutout"), **units):
    """A catalog of n rows in the format of the suffix."""
    kinds = {"objid": "int64", "cutout": "str"}
    columns = [Column(name, kinds.get(name, "float64"), units.get(name, ""), width=20) for name in names]
    i = np.arange(n)
    made = {"objid": i + 2**60, "cutout": [f"{k}/{k}.fits" if k != 3 else "" for k in i]}
    made = {name: made.get(name, np.where(i == 5, np.nan, i / 2)) for name in names}
    write_catalog(path, columns, [made], n)
    return path


def columns_of(path, names, ucds=()):
    """A CSV or FITS file with one row of ones."""
    ucds = dict(ucds)
    write_catalog(
        path, [Column(name, "float64", ucd=ucds.get(name, "")) for name in names], [{n: [1.0] for n in names}], 1
    )
    return open_catalog(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_are_the_same_in_every_format(tmp_path, suffix):
    catalog = open_catalog(table(tmp_path / f"in{suffix}"))
    assert catalog.n_rows == 10
    assert catalog.column_names == ("objid", "ra", "dec", "petroR90_r", "cutout")
    assert catalog.format == {".vot": "votable"}.get(suffix, suffix[1:])
    assert (catalog.ra_column, catalog.dec_column, catalog.id_column) == ("ra", "dec", "objid")
    assert (catalog.size_column, catalog.cutout_column, catalog.has_positions) == ("petroR90_r", "cutout", True)
    for size, start in ((3, 0), (100, 0), (4, 2), (5, 10)):
        blocks = list(catalog.blocks(size, start))
        assert [len(b.row) for b in blocks] == [min(size, 10 - k) for k in range(start, 10, size)]
        for block in blocks:
            row = block.row
            assert block.id.tolist() == [str(2**60 + k) for k in row]
            expected = np.where(row == 5, np.nan, row / 2)
            assert np.array_equal(block.ra, expected, equal_nan=True)
            assert np.array_equal(block.dec, expected, equal_nan=True)
            assert np.array_equal(block.radius_arcsec, np.where(row == 0, np.nan, expected), equal_nan=True)
            assert block.cutout.tolist() == [f"{k}/{k}.fits" if k != 3 else "" for k in row]
            assert block.problem.tolist() == ["ra is empty, dec is empty" if k == 5 else "" for k in row]
    read = catalog.read(["objid", "RA", "cutout"])
    assert read["objid"].tolist() == [2**60 + k for k in range(10)]
    assert np.isnan(read["RA"][5])
    assert read["cutout"][3] == ""


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("n", [0, 1, 7])
def test_columns_are_appended_in_every_format(tmp_path, suffix, n):
    catalog = append(table(tmp_path / f"in{suffix}", n), tmp_path / f"out{suffix}", n_blocks=3)
    expected = values(n)
    read = catalog.read([c.name for c in COLUMNS])
    if n:
        assert np.array_equal(read["p_spiral"].astype("f4"), expected["p_spiral"], equal_nan=True)
        assert read["morph_flag"].tolist() == expected["morph_flag"].tolist()
    assert read["morph_label"].tolist() == expected["morph_label"].tolist()
    assert catalog.galmorph_columns == ("objid", "ra", "dec", "petroR90_r", "cutout", *(c.name for c in COLUMNS))


@pytest.mark.parametrize("name", registry.names("tables"))
def test_every_format_keeps_the_interface(name):
    form = registry.load("tables", name)
    assert form.name == name
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in form.suffixes)
    assert not form.recognises(b"\x7fELF and so on")
    others = [s for other in registry.names("tables") if other != name for s in registry.load("tables", other).suffixes]
    assert not set(form.suffixes) & set(others)


@pytest.mark.parametrize(
    ("names", "pair"),
    [
        (("dec", "ra"), ("ra", "dec")),
        (("RA", "DEC", "RAJ2000", "DEJ2000"), ("RA", "DEC")),
        (("RAJ2000", "DEJ2000", "_RAJ2000", "_DEJ2000"), ("_RAJ2000", "_DEJ2000")),
        (("_RAJ2000", "_DEJ2000", "RA_ICRS", "DE_ICRS"), ("RA_ICRS", "DE_ICRS")),
        (("TARGET_RA", "TARGET_DEC"), ("TARGET_RA", "TARGET_DEC")),
        (("ALPHA_J2000", "DELTA_J2000"), ("ALPHA_J2000", "DELTA_J2000")),
        (("raMean", "decMean"), ("raMean", "decMean")),
        (("s_ra", "s_dec"), ("s_ra", "s_dec")),
        (("ra_deg", "dec_deg"), ("ra_deg", "dec_deg")),
        (("ra", "declination"), None),
        (("ra_1", "dec_1"), ("ra_1", "dec_1")),
        (("lon", "lat"), None),
        (("l", "b"), None),
    ],
)
def test_positions_by_name(tmp_path, names, pair):
    catalog = columns_of(tmp_path / "in.csv", names)
    assert (catalog.ra_column, catalog.dec_column) == (pair or (None, None))
    assert catalog.has_positions == (pair is not None)
    block = next(catalog.blocks(1))
    assert block.ra.tolist() == [1] if pair else np.isnan(block.ra).all()
    assert block.problem.tolist() == [""]


@pytest.mark.parametrize(
    ("frame", "names"),
    [("galactic", ("l", "b")), ("galactic", ("GLON", "GLAT")), ("barycentrictrueecliptic", ("elon", "elat"))],
)
def test_other_frames_have_other_names(tmp_path, frame, names):
    columns_of(tmp_path / "in.csv", ("ra", "dec", *names))
    catalog = open_catalog(tmp_path / "in.csv", frame=frame)
    assert (catalog.ra_column, catalog.dec_column) == names


@pytest.mark.parametrize("suffix", [".fits", ".vot", ".ecsv", ".parquet", ".csv"])
@pytest.mark.parametrize(
    ("ucds", "pair"),
    [
        ({"x": "pos.eq.ra;meta.main", "y": "pos.eq.dec;meta.main", "ra": "pos.eq.ra", "dec": "pos.eq.dec"}, ("x", "y")),
        ({"x": "pos.eq.ra", "y": "pos.eq.dec"}, ("x", "y")),
        ({"x": "POS_EQ_RA_MAIN", "y": "POS_EQ_DEC_MAIN"}, ("x", "y")),
        ({"x": "stat.error;pos.eq.ra", "y": "stat.error;pos.eq.dec"}, ("ra", "dec")),
        ({"x": "pos.eq.ra", "y": "pos.eq.dec", "ra": "pos.eq.ra", "dec": "pos.eq.dec"}, ("ra", "dec")),
        ({"x": "pos.eq.ra;meta.main"}, ("ra", "dec")),
    ],
)
def test_positions_by_ucd(tmp_path, suffix, ucds, pair):
    catalog = columns_of(tmp_path / f"in{suffix}", ("ra", "dec", "x", "y"), ucds)
    assert (catalog.ra_column, catalog.dec_column) == pair


@pytest.mark.parametrize("header", ["ra,dec,RA,DEC", "raj2000,dej2000,target_ra,target_dec", "ra,dec,ra"])
def test_ambiguous_positions(tmp_path, header):
    path = make(tmp_path / "in.csv", f"{header}\n" + ",".join("1" * header.count(",")) + ",1\n")
    with pytest.raises(CatalogError, match=r"could all be the position: say which with --ra-column and --dec-column"):
        open_catalog(path)


def test_ambiguous_ucds(tmp_path):
    ucds = {"a": "pos.eq.ra", "b": "pos.eq.dec", "c": "pos.eq.ra", "d": "pos.eq.dec"}
    with pytest.raises(CatalogError, match="a, c, b, d could all be the position"):
        columns_of(tmp_path / "in.fits", "abcd", ucds)
    assert open_catalog(tmp_path / "in.fits", ra_column="C", dec_column="d").ra_column == "c"


def test_options_that_name_no_column(tmp_path):
    path = table(tmp_path / "in.csv")
    with pytest.raises(CatalogError, match=r"in.csv: --id-column: There is no column 'objd'. Did you mean 'objid'\?"):
        open_catalog(path, id_column="objd")
    for option in ("size_column", "cutout_column"):
        with pytest.raises(CatalogError, match=f"--{option.replace('_', '-')}: There is no column 'x'"):
            open_catalog(path, **{option: "x"})
    with pytest.raises(CatalogError, match="--dec-column: There is no column 'deck'"):
        open_catalog(path, ra_column="ra", dec_column="deck")
    with pytest.raises(CatalogError, match="--ra-column and --dec-column go together"):
        open_catalog(path, ra_column="ra")
    with pytest.raises(CatalogError, match="--hdu is for FITS files"):
        open_catalog(path, hdu=1)
    with pytest.raises(CatalogError, match="There is no frame 'icr'"):
        open_catalog(path, frame="icr")
    with pytest.raises(CatalogError, match="There is no column 'nope'"):
        open_catalog(path).read(["nope"])


def test_a_name_that_two_columns_have(tmp_path):
    path = make(tmp_path / "in.csv", "ra,dec,name,name\n1,2,a,b\n")
    with pytest.raises(CatalogError, match="--id-column: 2 columns are named 'name'"):
        open_catalog(path, id_column="name")
    assert next(open_catalog(path).blocks(1)).id.tolist() == ["a"]


@pytest.mark.parametrize(
    ("names", "ucds", "found"),
    [
        (("name", "id", "objid"), {}, "objid"),
        (("x", "GalaxyID"), {}, "GalaxyID"),
        (("iauname",), {}, "iauname"),
        (("TARGETID",), {}, "TARGETID"),
        (("objid", "x"), {"x": "meta.id;meta.main"}, "x"),
        (("objid", "x"), {"x": "ID_MAIN"}, "x"),
        (("objid", "x"), {"x": "meta.id"}, "objid"),
        (("x", "y"), {}, None),
    ],
)
def test_identifiers(tmp_path, names, ucds, found):
    catalog = columns_of(tmp_path / "in.fits", names, ucds)
    assert catalog.id_column == found
    if found is None:
        assert next(catalog.blocks(1)).id.tolist() == ["0"]


@pytest.mark.parametrize("name", ["petroR90_r", "PETROR90_R", "petro_r90", "PETRO_TH90", "petroth90"])
def test_sizes_by_name(tmp_path, name):
    assert columns_of(tmp_path / "in.csv", (name, "radius")).size_column == name


def test_sizes_in_other_units(tmp_path):
    path = table(
        tmp_path / "in.fits", 3, names=("ra", "dec", "radius", "petroR90_r"), radius="arcmin", petroR90_r="deg"
    )
    assert next(open_catalog(path, size_column="RADIUS").blocks(3)).radius_arcsec.tolist()[1:] == [30, 60]
    assert next(open_catalog(path).blocks(3)).radius_arcsec.tolist()[1:] == [1800, 3600]


def test_a_size_in_pixels_is_no_size(tmp_path):
    path = table(tmp_path / "in.fits", 3, names=("ra", "dec", "petroR90_r"), petroR90_r="pix")
    assert open_catalog(path).size_column is None
    with pytest.raises(CatalogError, match="has the unit 'pix'"):
        open_catalog(path, size_column="petroR90_r")


def test_sizes_that_are_none(tmp_path):
    path = make(tmp_path / "in.csv", "ra,dec,petroR90_r\n1,2,-1\n1,2,0\n1,2,\n1,2,inf\n1,2,big\n1,2,2.5\n")
    radius = next(open_catalog(path).blocks(9)).radius_arcsec
    assert np.array_equal(radius, [np.nan] * 5 + [2.5], equal_nan=True)


def test_array_columns_are_not_taken_for_more(tmp_path):
    columns = [fits.Column(name, "5E", array=np.ones((2, 5))) for name in ("petroR90_r", "ra", "dec", "objid")]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "in.fits")
    catalog = open_catalog(tmp_path / "in.fits")
    assert (catalog.size_column, catalog.has_positions, catalog.id_column) == (None, False, None)
    with pytest.raises(CatalogError, match="column 'petror90_r' holds an array in each cell"):
        open_catalog(tmp_path / "in.fits", size_column="petror90_r")
    with pytest.raises(CatalogError, match="column 'ra' holds an array in each cell"):
        open_catalog(tmp_path / "in.fits", ra_column="ra", dec_column="dec")


def test_the_format_is_reported_by_content_first(tmp_path):
    for suffix in SUFFIXES:
        path = table(tmp_path / f"in{suffix}").rename(tmp_path / f"in{suffix}.dat")
        form = open_catalog(path).format
        assert suffix[1:] in registry.load("tables", form).suffixes[0]
        assert append(path, tmp_path / "out.dat").n_rows == 10
        (tmp_path / "out.dat.json").unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", " \n\n", "is empty"),
        ("a.fits", "<!DOCTYPE html>\n<html>404</html>", "is a web page"),
        ("a.csv", "\n<HTML><body>", "is a web page"),
        ("a.xml", "<?xml version='1.0'?><kml/>", "is none of the table formats"),
        ("a.csv", '{"ra": 1}', "is none of the table formats"),
        ("a.csv", "PK\3\4\0\0", "is none of the table formats"),
        ("a.fits", "ra,dec\n1,2\n", "is named like fits, but its content is not"),
        ("a.parquet", "ra,dec\n1,2\n", "is named like parquet"),
    ],
)
def test_what_is_no_catalog(tmp_path, name, content, reason):
    with pytest.raises(CatalogError, match=reason):
        open_catalog(make(tmp_path / name, content))


def test_what_is_not_there(tmp_path):
    with pytest.raises(CatalogError, match="There is no file"):
        open_catalog(tmp_path / "no.csv")
    with pytest.raises(CatalogError, match="is a folder"):
        open_catalog(tmp_path)


def test_existing_columns(tmp_path):
    path = append(table(tmp_path / "in.csv"), tmp_path / "one.csv").path
    with pytest.raises(CatalogError, match=r"already has the columns p_spiral, morph_flag, morph_label: .*--prefix"):
        append(path, tmp_path / "two.csv")
    foreign = make(tmp_path / "foreign.csv", "ra,dec,P_SPIRAL,morph_flag\n1,2,3,4\n")
    with pytest.raises(
        CatalogError, match=r"no record that galmorph wrote its columns P_SPIRAL, morph_flag, .*--prefix"
    ):
        append(foreign, tmp_path / "two.csv", replace=True)
    assert not (tmp_path / "two.csv").exists()
    assert append(path, path, replace=True).column_names[-3:] == tuple(c.name for c in COLUMNS)
    assert append(table(tmp_path / "new.csv"), tmp_path / "two.csv", replace=True).n_rows == 10


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("blocks", "reason"),
    [
        ([], "the blocks have 0 rows, but the table has 10"),
        ([values(7)], "the blocks have 7 rows"),
        ([values(7), values(7)], "more rows than the table, which has 10"),
        ([values(10), values(1)], "more rows than the table"),
        ([{"p_spiral": np.ones(10)}], "no values for the column 'morph_flag'"),
        ([{**values(10), "p_spiral": np.ones(9)}], "different lengths"),
        ([{**values(10), "p_spiral": np.ones((10, 2))}], "wants one float32 a row"),
        ([{**values(10), "p_spiral": ["x"] * 10}], "wants one float32 a row"),
        ([{**values(10), "morph_flag": np.full(10, 40000)}], "does not fit int16"),
        ([{**values(10), "morph_flag": np.ones(10)}], "wants one int16 a row"),
        ([{**values(10), "morph_flag": np.ma.masked_all(10, int)}], "integers, which have no null"),
    ],
)
def test_blocks_that_do_not_fit_leave_nothing_behind(tmp_path, suffix, blocks, reason):
    path = table(tmp_path / f"in{suffix}")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    for destination in (path, tmp_path / f"out{suffix}"):
        with pytest.raises(CatalogError, match=reason):
            open_catalog(path).append(destination, COLUMNS, iter(blocks))
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_error_in_between_leaves_nothing_behind(tmp_path, suffix):
    def blocks():
        yield values(5)
        raise OSError("the caller's own")

    path = table(tmp_path / f"in{suffix}")
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(OSError, match="the caller's own"):
        open_catalog(path).append(tmp_path / f"out{suffix}", COLUMNS, blocks())
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_columns_that_cannot_be(tmp_path):
    catalog = open_catalog(table(tmp_path / "in.csv"))
    for columns in ([], [FLAG, FLAG], [FLAG, Column("Morph_Flag", "int16")]):
        with pytest.raises(CatalogError, match=r"no columns|the same name"):
            catalog.append(tmp_path / "out.csv", columns, [values(10)])
    with pytest.raises(CatalogError, match="dtype 'complex64'"):
        Column("x", "complex64")
    for name in ("", "a b", "1a", "é", "a,b"):
        with pytest.raises(CatalogError, match="letters, digits and underscores only"):
            Column(name, "int16")


@pytest.mark.parametrize("key", ["TOOLONGKEY", "lower", "NAXIS1", "TTYPE4", "END", "GMCOLS", "A B", ""])
def test_cards_that_cannot_be(tmp_path, key):
    catalog = open_catalog(table(tmp_path / "in.csv"))
    with pytest.raises(CatalogError, match="cannot be the keyword of a provenance card"):
        catalog.append(tmp_path / "out.csv", COLUMNS, [values(10)], cards=[(key, 1, "")])
    with pytest.raises(CatalogError, match="'A' cannot be the keyword"):
        catalog.append(tmp_path / "out.csv", COLUMNS, [values(10)], cards=[("A", 1, ""), ("A", 2, "")])


def test_a_column_that_was_taken_out_is_listed_once(tmp_path):
    append(make(tmp_path / "in.csv", "ra,dec\n1,2\n"), tmp_path / "out.csv")
    make(tmp_path / "out.csv", "ra,dec\n1,2\n")
    assert append(tmp_path / "out.csv", tmp_path / "out.csv").galmorph_columns == tuple(c.name for c in COLUMNS)


def test_the_output_keeps_the_format_where_something_would_be_lost(tmp_path):
    path = table(tmp_path / "in.fits")
    fits.setval(path, "TELESCOP", value="SDSS", ext=1)
    catalog = open_catalog(path)
    with pytest.raises(CatalogError, match=r"out.csv.gz would be csv, but .*in.fits is fits.*name it \*.fits"):
        catalog.append(tmp_path / "out.csv.gz", COLUMNS, [values(10)])
    assert not (tmp_path / "out.csv.gz").exists()
    for name in ("out.fit", "out.FITS.gz", "out.cat"):
        catalog.append(tmp_path / name, COLUMNS, [values(10)])
        assert open_catalog(tmp_path / name).n_rows == 10


def test_new_tables_need_a_known_suffix(tmp_path):
    with pytest.raises(CatalogError, match=r"has no suffix that names a table format: .csv"):
        write_catalog(tmp_path / "new.dat", COLUMNS, [values(1)], 1)


def test_a_catalog_may_become_its_own_output(tmp_path):
    path = table(tmp_path / "in.fits")
    path.chmod(0o640)
    (tmp_path / "link.fits").symlink_to(path)
    append(path, tmp_path / "link.fits")
    assert (tmp_path / "link.fits").is_symlink()
    assert open_catalog(path).galmorph_columns[-1] == "morph_label"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_new_files_have_the_usual_mode(tmp_path):
    mask = os.umask(0o022)
    try:
        write_catalog(tmp_path / "new.csv", COLUMNS, [values(1)], 1)
    finally:
        os.umask(mask)
    assert {stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()} == {0o644}


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".csv.gz"])
@pytest.mark.parametrize(
    ("code", "kind"), [(errno.ENOSPC, CannotContinue), (errno.EDQUOT, CannotContinue), (errno.EIO, OutputError)]
)
def test_a_full_disk(tmp_path, monkeypatch, suffix, code, kind):
    path = table(tmp_path / f"in{suffix}")
    before = sorted(p.name for p in tmp_path.iterdir())

    def fail(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(kind, match=f"out{suffix}"):
        append(path, tmp_path / f"out{suffix}")
    assert sorted(p.name for p in tmp_path.iterdir()) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_disk_that_fills_up_while_writing(tmp_path, monkeypatch):
    path = table(tmp_path / "in.fits", 1000)
    with Path("/dev/full").open("wb", buffering=0) as full:
        monkeypatch.setattr("galmorph.files.writing.Output._create", lambda self, path, replace: full)
        with pytest.raises(CannotContinue, match="No space left"):
            append(path, tmp_path / "out.fits")


def test_folders_that_cannot_be_written(tmp_path):
    catalog = open_catalog(table(tmp_path / "in.fits"))
    with pytest.raises(OutputError, match="cannot be written: No such file or directory"):
        catalog.append(tmp_path / "none" / "out.fits", COLUMNS, [values(10)])
    (tmp_path / "folder.fits").mkdir()
    with pytest.raises(OutputError, match=r"folder.fits cannot be written"):
        catalog.append(tmp_path / "folder.fits", COLUMNS, [values(10)])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_memory_does_not_grow_with_the_table(tmp_path, suffix):
    def peak(n_blocks):
        n, note = 20 * n_blocks, ["x" * 20_000] * 20
        path = tmp_path / f"in{n}{suffix}"
        columns = [Column("ra", "float64"), Column("dec", "float64"), Column("note", "str", width=20_000)]
        blocks = ({"ra": np.ones(20), "dec": np.ones(20), "note": note} for _ in range(n_blocks))
        write_catalog(path, columns, blocks, n)
        catalog = open_catalog(path, id_column="note")
        tracemalloc.start()
        for _ in catalog.blocks(20):
            pass
        catalog.append(tmp_path / f"out{suffix}", [FLAG], ({"morph_flag": np.ones(20, int)} for _ in range(n_blocks)))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(40) < peak(10) + 4_000_000  # the longer file is 12 MB longer


def test_bad_blocks_are_refused(tmp_path):
    catalog = open_catalog(table(tmp_path / "in.csv"))
    for size, start in ((0, 0), (5, -1)):
        with pytest.raises(CatalogError, match=f"blocks of {size} rows from row {start}"):
            next(catalog.blocks(size, start))


def test_an_earlier_card_stays_until_its_keyword_comes_again(tmp_path):
    append(table(tmp_path / "in.fits"), tmp_path / "out.fits", cards=[("SURVEY", "decals", "survey"), *CARDS])
    header = fits.getheader(tmp_path / "out.fits", 1)
    assert header["SURVEY"] == "decals"
    cards = [("GMMODEL", None, ""), ("GMNUMBER", np.int64(5), ""), ("GMNAN", np.nan, "")]
    append(tmp_path / "out.fits", tmp_path / "out.fits", replace=True, cards=cards)
    header = fits.getheader(tmp_path / "out.fits", 1)
    assert (header["SURVEY"], header["GMBATCH"]) == ("decals", 64)
    assert (header["GMNUMBER"], header["GMNAN"]) == (5, "nan")
    assert str(header.cards["GMMODEL"]).rstrip() == "GMMODEL ="
