"""Catalogs as the libraries of the field write them, each by the library itself: read and copied, or refused."""

import subprocess
import warnings

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import QTable, Table
from galaxies import noise, sersic, wcs_cards
from tablemaking import COLUMNS, append, program

from galmorph.classification.opening import kind_of
from galmorph.errors import CatalogError
from galmorph.tables.catalog import open_catalog

NEW = [column.name for column in COLUMNS]
RA, DEC = [150.5, 151.25, 152.0], [2.0, -0.5, 1.75]


def positions(path):
    (block,) = open_catalog(path).blocks(100)
    return block.id.tolist(), block.ra.tolist(), block.dec.tolist()


def galaxies(side=128):
    """An image of three galaxies with a WCS: plane, header and the pixels (x, y) of their centres."""
    places = [(-30.0, -20.0), (25.0, 5.0), (-5.0, 35.0)]
    plane = noise(side, 0.3, sigma=0.002) + sum(sersic(side, 0.3, r50=1.0, x=0.3 * x, y=0.3 * y) for x, y in places)
    centres = [(x + (side - 1) / 2, y + (side - 1) / 2) for x, y in places]
    return plane.astype(np.float32), wcs_cards(side, 0.3), centres


def expected(header, centres):
    from astropy.wcs import WCS

    return sorted(zip(*WCS(header).all_pix2world(*np.transpose(centres), 0), strict=True))


def test_fitsio(tmp_path):
    fitsio = pytest.importorskip("fitsio")
    kinds = [("ID", "i8"), ("RA", "f8"), ("DEC", "f8"), ("u4", "u4"), ("u8", "u8"), ("flag", "?"), ("name", "S7")]
    data = np.zeros(3, [*kinds, ("mags", "f4", 5)])
    data["ID"], data["RA"], data["DEC"], data["u4"], data["u8"] = [7, 8, 9], RA, DEC, 2**32 - 1, 2**64 - 1
    data["flag"], data["name"], data["mags"] = [True, False, True], [b"a", b"bb", b""], np.arange(15).reshape(3, 5)
    path = tmp_path / "cat.fits"
    fitsio.write(path, data, extname="CAT", clobber=True)
    assert positions(path) == (["7", "8", "9"], RA, DEC)
    append(path, tmp_path / "out.fits")
    read = fitsio.read(tmp_path / "out.fits", ext="CAT")
    for name in data.dtype.names:
        given = data[name].astype(str) if data.dtype[name].kind == "S" else data[name]
        assert np.array_equal(read[name].astype(given.dtype), given), name
    assert read["morph_label"].astype(str).tolist() == ["class0", "class1", "class2"]


@pytest.mark.parametrize("name", ["cat.ecsv", "cat.fits"])
def test_photutils(tmp_path, name):
    segmentation = pytest.importorskip("photutils.segmentation", exc_type=ImportError)
    from astropy.wcs import WCS

    plane, header, centres = galaxies()
    labels = segmentation.detect_sources(plane, 0.02, 10)
    found = segmentation.SourceCatalog(plane, labels, wcs=WCS(header))
    centroids = ["x_centroid", "y_centroid"] if "x_centroid" in found.properties else ["xcentroid", "ycentroid"]
    table = found.to_table(columns=["label", *centroids, "sky_centroid", "segment_flux"])
    table.meta.clear()  # astropy warns of what FITS cannot hold
    table.write(tmp_path / name)
    ids, ra, dec = positions(tmp_path / name)
    assert ids == ["1", "2", "3"]
    assert sorted(zip(ra, dec, strict=True)) == pytest.approx(np.array(expected(header, centres)), abs=3e-5)
    append(tmp_path / name, tmp_path / f"out_{name}")
    assert QTable.read(tmp_path / f"out_{name}").colnames[-3:] == NEW


def test_sep(tmp_path):
    sep = pytest.importorskip("sep")
    plane, _, _ = galaxies()
    found = sep.extract(plane, 0.02)
    assert len(found) == 3
    Table(found).write(tmp_path / "cat.fits")  # no identifiers and no positions on the sky: these are the user's to add
    catalog = open_catalog(tmp_path / "cat.fits")
    assert (catalog.id_column, catalog.ra_column, catalog.n_rows) == (None, None, 3)
    assert "--ra-column and --dec-column" in catalog.no_position
    append(tmp_path / "cat.fits", tmp_path / "out.fits")
    kept = Table.read(tmp_path / "out.fits")
    assert all(np.array_equal(kept[name], found[name]) for name in found.dtype.names)


@pytest.fixture(scope="module")
def sextractor(tmp_path_factory):
    """A function that runs SExtractor on three galaxies and gives its catalog of a type."""
    name = program("source-extractor")
    folder = tmp_path_factory.mktemp("sextractor")
    plane, header, centres = galaxies()
    fits.PrimaryHDU(plane, header).writeto(folder / "image.fits")
    columns = ["NUMBER", "ALPHA_J2000", "DELTA_J2000", "ALPHAWIN_J2000", "DELTAWIN_J2000", "MAG_AUTO", "VIGNET(3,3)"]
    (folder / "some.param").write_text("\n".join(columns))
    (folder / "text.param").write_text("\n".join(columns[:-1]))

    def run(kind):
        parameters = "some.param" if kind.startswith("FITS") else "text.param"
        options = [*("-CATALOG_TYPE", kind), *("-CATALOG_NAME", f"{kind}.cat"), *("-PARAMETERS_NAME", parameters)]
        options += [
            *("-FILTER", "N"),
            *("-DETECT_THRESH", "0.02"),
            *("-THRESH_TYPE", "ABSOLUTE"),
            *("-BACK_TYPE", "MANUAL"),
        ]
        subprocess.run([name, "image.fits", "-c", "/dev/null", *options], cwd=folder, check=True, capture_output=True)
        return folder / f"{kind}.cat"

    return run, expected(header, centres)


@pytest.mark.parametrize("kind", ["FITS_1.0", "FITS_LDAC", "ASCII_VOTABLE"])
def test_sextractor(tmp_path, sextractor, kind):
    run, centres = sextractor
    path = run(kind)
    assert kind_of(path) == "catalog"
    ids, ra, dec = positions(path)
    assert ids == ["1", "2", "3"]
    assert sorted(zip(ra, dec, strict=True)) == pytest.approx(np.array(centres), abs=3e-5)
    assert append(path, tmp_path / "out.cat").column_names[-3:] == tuple(NEW)
    if kind == "FITS_LDAC":
        with fits.open(tmp_path / "out.cat") as hdus:
            assert hdus["LDAC_OBJECTS"].data["VIGNET"].shape == (3, 3, 3)


@pytest.mark.parametrize(("kind", "reason"), [("ASCII_HEAD", "SExtractor"), ("ASCII_SKYCAT", "SkyCat")])
def test_sextractor_as_text_is_refused_by_name(sextractor, kind, reason):
    with pytest.raises(CatalogError, match=reason):
        open_catalog(sextractor[0](kind))


def test_dask(tmp_path):
    dd = pytest.importorskip("dask.dataframe")
    frame = pd.DataFrame({"id": ["a", "b", "c"], "ra": RA, "dec": DEC})
    folder = tmp_path / "targets.parquet"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dd.from_pandas(frame, npartitions=2).to_parquet(folder)
    with pytest.raises(CatalogError, match="folder of Parquet files") as refused:
        open_catalog(folder)
    command = str(refused.value).partition('python -c "')[2].removesuffix('"')
    with pytest.MonkeyPatch.context() as patch:  # what the message says works
        patch.chdir(tmp_path)
        exec(command, {})
    assert positions(tmp_path / "targets_joined.parquet") == (["a", "b", "c"], RA, DEC)


def test_lsdb(tmp_path):
    lsdb = pytest.importorskip("lsdb")
    frame = pd.DataFrame({"id": ["a", "b", "c"], "ra": RA, "dec": DEC})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        catalog = lsdb.from_dataframe(frame, ra_column="ra", dec_column="dec", margin_threshold=None)
        catalog.compute().to_parquet(tmp_path / "cat.parquet")
    ids, ra, _ = positions(tmp_path / "cat.parquet")
    assert dict(zip(ids, ra, strict=True)) == dict(zip("abc", RA, strict=True))
    append(tmp_path / "cat.parquet", tmp_path / "out.parquet")
    assert pd.read_parquet(tmp_path / "out.parquet")["_healpix_29"].dtype == np.int64


def test_fastparquet(tmp_path):
    fastparquet = pytest.importorskip("fastparquet")
    frame = pd.DataFrame({"objID": np.array([7, 8, 9], np.uint32), "raMean": RA, "decMean": DEC})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fastparquet.write(str(tmp_path / "cat.parquet"), frame)
    assert positions(tmp_path / "cat.parquet") == (["7", "8", "9"], RA, DEC)
    append(tmp_path / "cat.parquet", tmp_path / "out.parquet")
    assert pd.read_parquet(tmp_path / "out.parquet")["objID"].dtype == np.uint32


def test_csv_of_pyarrow(tmp_path):
    arrow, csv = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.csv")
    csv.write_csv(arrow.table({"id": ["a", 'b "x"', None], "ra": RA, "dec": DEC}), tmp_path / "cat.csv")
    assert positions(tmp_path / "cat.csv") == (["a", 'b "x"', ""], RA, DEC)
    append(tmp_path / "cat.csv", tmp_path / "out.csv")
    assert csv.read_csv(tmp_path / "out.csv")["id"].to_pylist() == ["a", 'b "x"', ""]


VIZIER = """<?xml version="1.0" encoding="UTF-8"?>
<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">
<RESOURCE ID="yCat_7237" name="VII/237"><COOSYS ID="J2000_2000.000" system="ICRS" epoch="J2000"/>
<TABLE ID="VII_237_pgc" name="VII/237/pgc">
<FIELD name="recno" ucd="meta.record" datatype="int"><DESCRIPTION>Record number</DESCRIPTION></FIELD>
<FIELD name="PGC" ucd="meta.id;meta.main" datatype="int"/>
<FIELD name="_RAJ2000" ucd="pos.eq.ra" ref="J2000_2000.000" datatype="double" unit="deg"/>
<FIELD name="_DEJ2000" ucd="pos.eq.dec" ref="J2000_2000.000" datatype="double" unit="deg"/>
<FIELD name="RAJ2000" ucd="pos.eq.ra;meta.main" ref="J2000_2000.000"
datatype="char" arraysize="10*" unit="&quot;h:m:s&quot;"/>
<FIELD name="DEJ2000" ucd="pos.eq.dec;meta.main" ref="J2000_2000.000"
datatype="char" arraysize="9*" unit="&quot;d:m:s&quot;"/>
<DATA><TABLEDATA>
<TR><TD>1</TD><TD>12</TD><TD>150.5</TD><TD>2.0</TD><TD>10 02 00.0</TD><TD>+02 00 00</TD></TR>
<TR><TD>2</TD><TD>15</TD><TD>151.25</TD><TD>-0.5</TD><TD>10 05 00.0</TD><TD>-00 30 00</TD></TR>
</TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>"""


class Response:
    """What a server answers."""

    status_code = 200

    def __init__(self, text):
        self.text, self.content = text, text.encode()


@pytest.mark.parametrize(("name", "form"), [("cat.fits", "fits"), ("cat.ecsv", "ascii.ecsv"), ("cat.vot", "votable")])
def test_tables_of_vizier_by_astroquery(tmp_path, name, form):
    vizier = pytest.importorskip("astroquery.vizier")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (table,) = vizier.VizierClass()._parse_result(Response(VIZIER))
        table.write(tmp_path / name, format=form)
    ids, ra, dec = positions(tmp_path / name)
    assert (ids, ra) == (["12", "15"], pytest.approx(RA[:2]))
    assert dec == pytest.approx(DEC[:2])
    assert append(tmp_path / name, tmp_path / f"out_{name}").column_names[-3:] == tuple(NEW)


NED = """<?xml version="1.0"?><VOTABLE version="1.1"><RESOURCE><TABLE ID="NED_MainTable" name="Main Information Table">
<FIELD ID="main_col1" name="No." datatype="int"/>
<FIELD ID="main_col2" name="Object Name" datatype="char" arraysize="30" ucd="meta.id;meta.main"/>
<FIELD ID="main_col3" name="RA" datatype="double" unit="degrees" ucd="pos.eq.ra;meta.main"/>
<FIELD ID="main_col4" name="DEC" datatype="double" unit="degrees" ucd="pos.eq.dec;meta.main"/>
<FIELD ID="main_col5" name="Type" datatype="char" arraysize="6"/>
<DATA><TABLEDATA><TR><TD>1</TD><TD>NGC 3115</TD><TD>150.5</TD><TD>2.0</TD><TD>G</TD></TR>
<TR><TD>2</TD><TD>SDSS J1005</TD><TD>151.25</TD><TD>-0.5</TD><TD>G</TD></TR></TABLEDATA></DATA></TABLE>
</RESOURCE></VOTABLE>"""


@pytest.mark.parametrize(("name", "form"), [("cat.fits", "fits"), ("cat.ecsv", "ascii.ecsv"), ("cat.csv", "ascii.csv")])
def test_tables_of_ned_by_astroquery(tmp_path, name, form):
    ned = pytest.importorskip("astroquery.ipac.ned")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ned.NedClass()._parse_result(Response(NED)).write(tmp_path / name, format=form)
    assert positions(tmp_path / name) == (["NGC 3115", "SDSS J1005"], RA[:2], DEC[:2])
    assert append(tmp_path / name, tmp_path / f"out_{name}").column_names[-3:] == tuple(NEW)


def test_colfits_of_stilts_is_refused_by_name(tmp_path):
    Table({"name": ["a", "b", "c"], "ra": RA, "dec": DEC}).write(tmp_path / "in.fits")
    out = tmp_path / "out.colfits"
    command = [program("stilts"), "tpipe", f"in={tmp_path / 'in.fits'}", f"out={out}", "ofmt=colfits-plus"]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(CatalogError, match=r"HDU 1: is a table by columns .*Save it by rows"):
        open_catalog(out)


def test_structures_of_idl_are_refused_and_the_remedy_works(tmp_path, monkeypatch):
    """One row whose cells are arrays: what ``mwrfits, {ra: ra, dec: dec}`` leaves."""
    columns = [
        fits.Column("ID", "3J", array=[[7, 8, 9]]),
        fits.Column("NAME", "6A", dim="(2,3)", array=[["a", "b", "c"]]),
    ]
    columns += [fits.Column(n, "3D", array=[values]) for n, values in (("RA", RA), ("DEC", DEC))]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "idl.fits")
    with pytest.raises(CatalogError, match="HDU 1: is a table by columns") as refused:
        open_catalog(tmp_path / "idl.fits")
    monkeypatch.chdir(tmp_path)
    exec(str(refused.value).partition('python -c "')[2].removesuffix('"'), {})
    assert positions(tmp_path / "idl_rows.fits") == (["7", "8", "9"], RA, DEC)


MRT = """Title: Galaxies
Authors: A
Table: t
================================================================================
Byte-by-byte Description of file: t.txt
--------------------------------------------------------------------------------
   Bytes Format Units   Label   Explanations
--------------------------------------------------------------------------------
   1-  8 A8     ---     Name    Name
  10- 11 I2     h       RAh     Hour of Right Ascension (J2000)
  13- 14 I2     min     RAm     Minute of Right Ascension (J2000)
  16- 20 F5.2   s       RAs     Second of Right Ascension (J2000)
      22 A1     ---     DE-     Sign of the Declination (J2000)
  23- 24 I2     deg     DEd     Degree of Declination (J2000)
  26- 27 I2     arcmin  DEm     Arcminute of Declination (J2000)
  29- 32 F4.1   arcsec  DEs     Arcsecond of Declination (J2000)
--------------------------------------------------------------------------------
NGC 3115 10 05 13.98 -00 43 06.9
UGC 1    00 10 01.00  01 02 03.0
"""


@pytest.mark.parametrize("name", ["t.fits", "t.vot", "t.ecsv", "t.csv"])
def test_positions_in_parts_are_refused_and_the_remedies_work(tmp_path, monkeypatch, name):
    """Tables of CDS and AAS by position, converted as galmorph says, then joined as it says."""
    (tmp_path / "t.mrt").write_text(MRT)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CatalogError, match="machine-readable table") as refused:
        open_catalog("t.mrt")
    remedy = str(refused.value).partition('python -c "')[2].removesuffix('"')
    form = ", format='votable'" if name == "t.vot" else ""
    exec(remedy.replace("'t.fits'", f"'{name}'{form}"), {})
    catalog = open_catalog(name)
    assert not catalog.has_positions
    assert catalog.no_position.startswith("The position is in parts (RAh, RAm, RAs, DEd, DEm, DEs). If it is of J2000")
    exec(catalog.no_position.partition('python -c "')[2].removesuffix('"'), {})
    ids, ra, dec = positions(tmp_path / "t_deg.fits")
    assert ids == ["NGC 3115", "UGC 1"]
    assert ra == pytest.approx([151.30825, 2.50416667])
    assert dec == pytest.approx([-0.71858333, 1.03416667])


@pytest.mark.parametrize("more", [{"name": ["NGC 3115"]}, {"ra": ["10:05:14.0"], "dec": ["-07:43:07"]}])
def test_one_galaxy_of_words_and_arrays_is_a_catalog(tmp_path, more):
    Table({**more, "flux": [[1.0, 2.0, 3.0]], "error": [[0.1, 0.2, 0.3]]}).write(tmp_path / "one.fits")
    assert open_catalog(tmp_path / "one.fits").n_rows == 1


def test_one_galaxy_of_flags_and_arrays_is_a_catalog(tmp_path):
    columns = [fits.Column("flags", "3X", array=[[True, False, True]]), fits.Column("flux", "3E", array=[[1, 2, 3]])]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "one.fits")
    assert open_catalog(tmp_path / "one.fits").n_rows == 1


def test_one_galaxy_with_arrays_is_a_catalog(tmp_path):
    Table({"id": ["a"], "ra": RA[:1], "dec": DEC[:1], "flux": [[1.0, 2.0, 3.0]]}).write(tmp_path / "one.fits")
    assert positions(tmp_path / "one.fits") == (["a"], RA[:1], DEC[:1])
