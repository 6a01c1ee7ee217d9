"""Each row of the tables of docs/files.md is tried: the row and its test have the same name."""

import gzip
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable, Table
from PIL import Image
from tablemaking import append

from galmorph.classification.memory import memory_source
from galmorph.classification.opening import kind_of, open_source
from galmorph.classification.options import ClassifyOptions
from galmorph.errors import GalmorphError
from galmorph.files.reading import MAX_LINE
from galmorph.images.cutout import read_cutout
from galmorph.tables.catalog import open_catalog

PAGE = (Path(__file__).parents[2] / "docs" / "files.md").read_text()
GALAXIES = {"id": ["a", "b"], "ra": [150.0, 151.0], "dec": [2.0, 3.0]}
CSV = "id,ra,dec\na,150,2\nb,151,3\n"
CARDS = {"BUNIT": "nanomaggy", "BANDS": "grz", "PIXSCALE": 0.3}
CUBE = np.ones((3, 16, 16), np.float32)


def rows(section):
    """The first cells of the table in a section of the page."""
    lines = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0].splitlines()
    table = [line for line in lines if line.startswith("| ")]
    return [line.split(" | ")[0].removeprefix("| ").replace("`", "") for line in table[1:]]


def file(folder, content, name="in.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def hdus(path, *parts):
    fits.HDUList([fits.PrimaryHDU(), *parts] if not isinstance(parts[0], fits.PrimaryHDU) else list(parts)).writeto(
        path
    )
    return path


def table_hdu(name="", **columns):
    return fits.BinTableHDU(Table(columns or GALAXIES), name=name)


def image_hdu(shape=(16, 16), name="", **cards):
    return fits.ImageHDU(np.ones(shape, np.float32), fits.Header({"BUNIT": "nanomaggy", "BAND": "r", **cards}), name)


def cutout(path):
    fits.PrimaryHDU(CUBE, fits.Header(CARDS)).writeto(path)
    return path


def read(path, **options):
    """The identifiers of a catalog."""
    assert kind_of(path, options.get("hdu")) == "catalog"
    return [name for block in open_catalog(path, **options).blocks(10) for name in block.id]


def refused(path, reason, read_it=kind_of):
    with pytest.raises(GalmorphError, match=reason):
        read_it(path)


def fits_table(tmp_path):
    assert read(hdus(tmp_path / "in.fits", table_hdu())) == ["a", "b"]


def fits_plus(tmp_path):
    primary = fits.PrimaryHDU(np.frombuffer(b"<VOTABLE/>", np.uint8))
    primary.header["VOTMETA"] = True
    assert read(hdus(tmp_path / "in.fits", primary, table_hdu())) == ["a", "b"]


def ldac(tmp_path):
    parts = table_hdu("LDAC_IMHEAD", card=["x"]), table_hdu("LDAC_OBJECTS")
    assert read(hdus(tmp_path / "in.cat", *parts)) == ["a", "b"]


def other_formats(tmp_path):
    for name, options in (("in.vot", {"format": "votable"}), ("in.ecsv", {}), ("in.parquet", {})):
        Table(GALAXIES).write(tmp_path / name, **options)
        assert read(tmp_path / name) == ["a", "b"]


def delimiters(tmp_path):
    for delimiter in ",\t;|":
        assert read(file(tmp_path, CSV.replace(",", delimiter))) == ["a", "b"]


def several_tables(tmp_path):
    assert read(hdus(tmp_path / "a.fits", table_hdu(mag=[1.0]), table_hdu())) == ["a", "b"]
    both = hdus(tmp_path / "b.fits", table_hdu(), table_hdu(**{**GALAXIES, "id": ["c", "d"]}))
    refused(both, "Say which with --hdu")
    assert read(both, hdu=2) == ["c", "d"]


def filling(tmp_path):
    content = hdus(tmp_path / "in.fits", table_hdu()).read_bytes()
    size = fits.getheader(tmp_path / "in.fits", 1)["NAXIS1"] * 2
    for changed in (content + b" " * 2880, content + b"\0" * 100, content[: len(content) - 2880 + size]):
        assert read(file(tmp_path, changed, "other.fits")) == ["a", "b"]


def by_columns(tmp_path):
    columns = [fits.Column("ra", "3D", array=np.ones((1, 3))), fits.Column("dec", "3D", array=np.ones((1, 3)))]
    refused(hdus(tmp_path / "in.fits", fits.BinTableHDU.from_columns(columns)), "by columns.*python -c", open_catalog)


def cut_off(tmp_path):
    content = hdus(tmp_path / "in.fits", table_hdu()).read_bytes()
    refused(file(tmp_path, content[:-2880], "a.fits"), "truncated", open_catalog)
    refused(file(tmp_path, gzip.compress(content)[:-50], "a.fits.gz"), "truncated|end", open_catalog)


def parquet_folder(tmp_path):
    (tmp_path / "t").mkdir()
    Table(GALAXIES).write(tmp_path / "t" / "part.0.parquet")
    refused(tmp_path / "t", "folder of Parquet files.*python -c", open_source)


def hats_folder(tmp_path):
    from galmorph.tables.hats import is_hats

    file(tmp_path, "obs_collection=mine\n", "hats.properties")
    assert is_hats(tmp_path)


def frames(tmp_path):
    for frame in (pd.DataFrame(GALAXIES), pa.table(GALAXIES)):
        assert memory_source(frame, ClassifyOptions(cutouts=tmp_path)).n_rows == 2


def foreign(tmp_path):
    contents = {"ASDF": b"#ASDF 1.0.0\n", "HDF5": b"\x89HDF\r\n\x1a\n\0", "JSON": b'[{"id": 1}]', "PDF": b"%PDF-1.7\n"}
    for name, content in contents.items():
        refused(file(tmp_path, content, name), "ASDF|none of the table formats")
    refused(file(tmp_path, "<html><body>Login</body></html>", "x"), "web page")
    refused(file(tmp_path, b"PK\x03\x04" + b"\0" * 20 + b"xl/", "in.xlsx"), "workbook")
    ascii_table = fits.TableHDU.from_columns(
        [fits.Column("id", "I4", array=[1]), fits.Column("ra", "F8.3", array=[1.0])]
    )
    refused(hdus(tmp_path / "in.fits", ascii_table), "ASCII table", open_catalog)


CATALOGS = {
    "FITS with a binary table": fits_table,
    "FITS of TOPCAT and STILTS (a VOTable in the first HDU)": fits_plus,
    "FITS_LDAC of SExtractor": ldac,
    "VOTable, ECSV, Parquet": other_formats,
    "CSV, TSV and other text with ,, tab, ; or <code>&#124;</code> between the cells": delimiters,
    "several tables in one file": several_tables,
    "blanks or zeros behind the last HDU, or a last block that is not filled": filling,
    "one row whose cells are whole columns (IDL's structures, TOPCAT's colfits)": by_columns,
    "cut off or damaged, also compressed": cut_off,
    "folder of Parquet files (Dask, Spark)": parquet_folder,
    "folder of a HATS catalog": hats_folder,
    "data frame of pandas, polars, Arrow or DuckDB, in Python": frames,
    "ASDF, HDF5, JSON, PDF, web page, workbook (.xlsx), a FITS table of ASCII": foreign,
}


def small_image(tmp_path):
    assert kind_of(hdus(tmp_path / "a.fits", image_hdu((8, 1024)))) == "cutout"


def large_image(tmp_path):
    path = hdus(tmp_path / "a.fits", image_hdu((8, 1025), PIXSCALE=0.3))
    assert kind_of(path) == "field"
    assert read_cutout(path, max_side_px=3000).flux.shape == (1, 8, 1025)


def several_images(tmp_path):
    parts = image_hdu(name="SCI", PIXSCALE=0.3), image_hdu(name="ERR"), image_hdu(name="WHT"), image_hdu(name="MODEL")
    assert read_cutout(hdus(tmp_path / "a.fits", *parts)).flux.shape == (1, 16, 16)
    bands = hdus(tmp_path / "b.fits", image_hdu(PIXSCALE=0.3), image_hdu(PIXSCALE=0.3, BAND="g"))
    assert read_cutout(bands).bands == ("r", "g")
    two = hdus(tmp_path / "c.fits", image_hdu(name="A", PIXSCALE=0.3), image_hdu(name="B", PIXSCALE=0.3))
    refused(two, "Choose one with --image-hdu", read_cutout)
    assert all(read_cutout(two, hdu=hdu).flux.shape == (1, 16, 16) for hdu in (2, "B"))


def other_tables(tmp_path):
    for name in ("HDRTAB", "ASDF", "SKY"):
        columns = GALAXIES if name == "HDRTAB" else {"value": [1.0]}
        assert kind_of(hdus(tmp_path / f"{name}.fits", image_hdu(), table_hdu(name, **columns))) == "cutout"


def table_first(tmp_path):
    path = hdus(tmp_path / "a.fits", table_hdu(), image_hdu(PIXSCALE=0.3))
    assert kind_of(path) == "catalog"
    assert open_source(path, kind="cutout").n_rows == 1


def image_first(tmp_path):
    path = hdus(tmp_path / "a.fits", image_hdu(PIXSCALE=0.3), table_hdu())
    refused(path, "--as catalog, or --as cutout or --as field")
    assert open_source(path, kind="catalog", cutouts=tmp_path).n_rows == 2
    assert open_source(path, kind="cutout").n_rows == 1


def pictures(tmp_path):
    for name in ("a.jpg", "a.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
        assert kind_of(tmp_path / name) == "cutout"


def fits_folder(tmp_path):
    cutout(tmp_path / "a.fits")
    hdus(tmp_path / "targets.fits", table_hdu())
    assert open_source(tmp_path).n_rows == 1


def picture_folder(tmp_path):
    for name in ("a.jpg", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    assert open_source(tmp_path).n_rows == 2


def unread_compressions(tmp_path):
    magic = {".Z": b"\x1f\x9d\x90", ".zst": b"\x28\xb5\x2f\xfd", ".zip": b"PK\x03\x04"}
    for suffix, start in magic.items():
        path = file(tmp_path, start + b"\0" * 100, f"in.fits{suffix}")
        refused(path, "[Uu]npack it", open_catalog)
        refused(path, "[Uu]npack it", read_cutout)


def nothing(tmp_path):
    path = hdus(tmp_path / "a.fits", image_hdu((5,)))
    refused(path, "two axes of more than one pixel", read_cutout)
    refused(path, "holds no table", open_catalog)


def pipes(tmp_path):
    os.mkfifo(tmp_path / "pipe.fits")
    (tmp_path / "loop.fits").symlink_to(tmp_path / "loop.fits")
    for name in ("pipe.fits", "loop.fits"):
        refused(tmp_path / name, "pipe or a device|cannot be read|no such file", open_catalog)
        refused(tmp_path / name, "pipe|symbolic links|cannot be", read_cutout)
    refused(Path("/dev/zero"), "pipe or a device", open_catalog)


IMAGES = {
    "FITS image up to 1024 px a side": small_image,
    "larger FITS image": large_image,
    "several images in one file": several_images,
    "image beside tables of something else (HDRTAB, ASDF, sky, calibration)": other_tables,
    "table of galaxies before an image": table_first,
    "image before a table of galaxies": image_first,
    "JPEG or PNG": pictures,
    "folder of FITS files": fits_folder,
    "folder of JPEG or PNG files, without FITS files": picture_folder,
    ".fits.Z, .fits.zst, .fits.zip": unread_compressions,
    "FITS without an image of two axes and without a table": nothing,
    "pipe, device, link that leads to itself": pipes,
}


def before_the_names(tmp_path):
    path = file(tmp_path, "\ufeffsep=;\r\n# mine\r\nid;ra;dec\r\na;150;2\r\nb;151;3\r\n")
    assert read(path) == ["a", "b"]
    append(path, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes().startswith(b"\xef\xbb\xbfsep=;\r\n# mine\r\nid;ra;dec;")


def decimal_commas(tmp_path):
    path = file(tmp_path, "id;ra;dec;cutout\n1,1;150,5;2,5;1,1.fits\n")
    (block,) = open_catalog(path).blocks(1)
    assert (block.id[0], block.ra[0], block.dec[0], block.cutout[0]) == ("1,1", 150.5, 2.5, "1,1.fits")


def units(tmp_path):
    for line in ("h,deg", "h,deg\n-----,-----"):
        (block,) = open_catalog(file(tmp_path, f"ra,dec\n{line}\n10,2\n")).blocks(2)
        assert block.ra.tolist() == [150]


def types(tmp_path):
    for line in ("10N\t10N\t5S", "float8\tfloat8\tvarchar"):
        assert open_catalog(file(tmp_path, f"ra\tdec\tname\n{line}\n10\t2\ta\n")).n_rows == 1


def numbers(tmp_path):
    path = file(tmp_path, 'ra,dec,petroR90_r\n360,\u22122.5°,"1,000.5"\n')
    (block,) = open_catalog(path).blocks(1)
    assert (block.ra[0], block.dec[0], block.radius_arcsec[0]) == (0, -2.5, 1000.5)


def row_count(tmp_path):
    assert read(file(tmp_path, CSV + "(2 rows)\n")) == ["a", "b"]


def other_texts(tmp_path):
    texts = {
        "blanks between its columns": "id ra dec\n1 1.5 2.5\n2 2.5 3.5\n",
        "SExtractor": "#   1 NUMBER    Running object number\n#   2 X_WORLD  x [deg]\n  1 150.1 2.2\n",
        r"\(IPAC": "\\x = 1\n|  id |   ra |\n| int | real |\n    1   1.5 \n",
        "Markdown": "| id | ra |\n|----|----|\n| 1 | 1.5 |\n",
        "a database's": " id | ra  \n----+-----\n  1 | 1.5 \n",
        "machine-readable": "Title: x\n====\nByte-by-byte Description of file: t.txt\n----\n",
        "LaTeX": "\\begin{tabular}{ll}\nname & ra \\\\\n",
        "DS9": "fk5\ncircle(150.1,2.2,5)\n",
        "SIMBAD": "C.D.S.  -  SIMBAD4 rel 1.8\n\nNumber of objects : 2\n",
    }
    for reason, text in texts.items():
        refused(file(tmp_path, text), reason, open_catalog)


def tables_of_vizier(tmp_path):
    refused(
        file(tmp_path, "#Table\ta\nid\tra\n1\t2.5\n#Table\tb\nid\tx\n1\t2\n"), "several tables of VizieR", open_catalog
    )


def no_names(tmp_path):
    for text in ("1,150.5,2.5\n2,150.5,2.5\n", f"Mine,,\n{CSV}", f"Mine\n{CSV}", "--,---,---\n1,2,3\n"):
        refused(file(tmp_path, text), "no header|in place of names|the header names 1", open_catalog)
    cutout(tmp_path / "a.fits")
    refused(file(tmp_path, "a.fits,x\nb.fits,y\n"), "is a galaxy's", lambda path: open_source(path, cutouts=tmp_path))


def utf16(tmp_path):
    refused(file(tmp_path, CSV.encode("utf-16")), "UTF-16")


def long_lines(tmp_path):
    refused(file(tmp_path, b"id,note\na," + b"x" * (2 * MAX_LINE) + b"\n"), "more than 16 MiB", open_catalog)
    field = '<FIELD name="id" datatype="char" arraysize="*"/>'
    cell = f"<VOTABLE><RESOURCE><TABLE>{field}<DATA><TABLEDATA><TR><TD>{'x' * (MAX_LINE + 1)}</TD></TR></TABLEDATA>"
    path = file(tmp_path, f"{cell}</DATA></TABLE></RESOURCE></VOTABLE>", "in.vot")
    refused(path, "more than 16 MiB", lambda path: list(open_catalog(path).blocks(1)))


TEXTS = {
    "a line sep=; before the names, a byte order mark, comments with #": before_the_names,
    "decimal commas (150,138)": decimal_commas,
    "a line of units, or of units and dashes (VizieR), behind the names": units,
    "a line of types (10N, S of RDB; float8, varchar) behind the names": types,
    "other minus signs, degree signs, thousands (1,000.5), 360 degrees": numbers,
    "(3 rows) behind the last galaxy, as databases end": row_count,
    "blanks between cells; SExtractor's ASCII_HEAD; IPAC; Markdown; a database's drawing; tables of CDS and AAS by "
    "position; LaTeX; regions of DS9; lists of SIMBAD": other_texts,
    "several tables of VizieR in one file": tables_of_vizier,
    "no line of names, a title or dashes in its place": no_names,
    "UTF-16": utf16,
    "a line, or a cell of a VOTable, of more than 16 MiB": long_lines,
}

FK4 = SkyCoord(150 * u.deg, 2 * u.deg, frame="fk4").icrs.ra.deg
VOTABLE = (
    "<VOTABLE><RESOURCE>{0}<TABLE>{1}"
    '<FIELD name="ra" ID="a" datatype="double"/><FIELD name="dec" ID="b" datatype="double"/>'
    "<DATA><TABLEDATA><TR><TD>150</TD><TD>2</TD></TR></TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>"
)


def ra_of(path):
    return next(open_catalog(path).blocks(1)).ra[0]


def coosys(tmp_path):
    (example,) = re.findall("`(<COOSYS.*?>)`", PAGE)
    assert ra_of(file(tmp_path, VOTABLE.format(example, ""), "in.vot")) == pytest.approx(FK4)


def stc(tmp_path):
    (example,) = re.findall('`(utype="stc.*?)`', PAGE)
    param = f'<PARAM name="x" datatype="char" {example}/>'
    group = f'<GROUP utype="stc:CatalogEntryLocation">{param}<FIELDref ref="a"/><FIELDref ref="b"/></GROUP>'
    assert ra_of(file(tmp_path, VOTABLE.format("", group), "in.vot")) == pytest.approx(FK4)


def cards(tmp_path):
    for name in ("in.fits", "in.ecsv", "in.parquet"):
        for meta in ({"RADESYS": "FK4"}, {"EQUINOX": 1950.0}):
            Table({"ra": [150.0], "dec": [2.0]}, meta=meta).write(tmp_path / name, overwrite=True)
            assert ra_of(tmp_path / name) == pytest.approx(FK4)
    assert ra_of(file(tmp_path, "# EQUINOX = 1950.0\nra,dec\n150,2\n")) == pytest.approx(FK4)
    param = '<PARAM name="RADESYS" datatype="char" value="FK4"/>'
    assert ra_of(file(tmp_path, VOTABLE.format("", param), "in.vot")) == pytest.approx(FK4)


def skycoord(tmp_path):
    sky = SkyCoord([150] * u.deg, [2] * u.deg).galactic
    for name in ("in.fits", "in.ecsv", "in.parquet"):
        QTable({"sky": sky}).write(tmp_path / name)
        assert ra_of(tmp_path / name) == pytest.approx(150)


def names(tmp_path):
    assert ra_of(file(tmp_path, "RAB1950,DEB1950\n150,2\n")) == pytest.approx(FK4)
    sky = SkyCoord(150 * u.deg, 2 * u.deg).galactic
    fields = "".join(f'<FIELD name="{n}" datatype="double" ucd="pos.galactic.{n}"/>' for n in ("lon", "lat"))
    text = re.sub("<FIELD.*?/>(<FIELD.*?/>)", fields, VOTABLE.format("", ""))
    text = text.replace("150", repr(float(sky.l.deg))).replace("<TD>2<", f"<TD>{sky.b.deg!r}<")
    assert ra_of(file(tmp_path, text.replace("np.float64(", "").replace(")<", "<"), "in.vot")) == pytest.approx(150)


SYSTEMS = {
    "COOSYS of a VOTable, to which the columns refer, or the only one around them": coosys,
    "a GROUP of STC in a VOTable": stc,
    "cards of FITS, also as PARAM of a VOTable, meta of ECSV and Parquet, comments of CSV": cards,
    "a SkyCoord column that astropy saved (FITS, ECSV, Parquet)": skycoord,
    "the names or UCDs of the columns": names,
}
SECTIONS = {
    "Catalogs": CATALOGS,
    "Images": IMAGES,
    "Text tables": TEXTS,
    "In which system are my positions?": SYSTEMS,
}


@pytest.mark.parametrize("section", SECTIONS)
def test_each_row_has_its_test(section):
    assert rows(section) == list(SECTIONS[section])


@pytest.mark.parametrize("row", [row for section in SECTIONS.values() for row in section])
def test_the_row_is_true(row, tmp_path):
    next(section[row] for section in SECTIONS.values() if row in section)(tmp_path)
