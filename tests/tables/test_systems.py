"""Systems of coordinates that a file declares are converted to ICRS."""

import subprocess

import numpy as np
import pyarrow as pa
import pytest
from astropy import units as u
from astropy.coordinates import FK4, FK5, SkyCoord
from astropy.io import fits
from astropy.table import QTable, Table
from pyarrow import parquet as pq
from tablemaking import program

from galmorph.errors import CatalogError
from galmorph.tables.catalog import catalog_of, open_catalog
from galmorph.tables.memory import MemoryTable
from galmorph.tables.systems import declared_frame

VOTABLE = """<VOTABLE version="1.3"><RESOURCE>{systems}<TABLE>
<FIELD name="x" datatype="double" unit="deg" ucd="pos.eq.ra;meta.main"{ref}/>
<FIELD name="y" datatype="double" unit="deg" ucd="pos.eq.dec;meta.main"{ref}/>
<DATA><TABLEDATA><TR><TD>150.0</TD><TD>2.5</TD></TR></TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>"""
GALACTIC_RA = SkyCoord(150 * u.deg, 2.5 * u.deg, frame="galactic").icrs.ra.deg
FK4_1950 = SkyCoord(150 * u.deg, 2.5 * u.deg, frame=FK4(equinox="B1950")).icrs


def votable(path, *systems, ref=""):
    path.write_text(VOTABLE.format(systems="".join(systems), ref=f' ref="{ref}"' if ref else ""))
    return path


def coosys(system, equinox="", name="c"):
    return f'<COOSYS ID="{name}" system="{system}"' + (f' equinox="{equinox}"' if equinox else "") + "/>"


def position(path, **options):
    (block,) = open_catalog(path, **options).blocks(10)
    return block.ra[0], block.dec[0]


@pytest.mark.parametrize(
    ("system", "equinox", "expected"),
    [
        ("eq_FK4", "B1950.0", FK4_1950),
        ("FK4", "1950", FK4_1950),
        ("eq_FK4", "", FK4_1950),
        ("eq_FK5", "J1975.0", SkyCoord(150 * u.deg, 2.5 * u.deg, frame=FK5(equinox="J1975")).icrs),
        ("galactic", "", SkyCoord(150 * u.deg, 2.5 * u.deg, frame="galactic").icrs),
        ("supergalactic", "", SkyCoord(150 * u.deg, 2.5 * u.deg, frame="supergalactic").icrs),
        ("ICRS", "", SkyCoord(150 * u.deg, 2.5 * u.deg)),
        ("eq_FK5", "J2000.0", SkyCoord(150 * u.deg, 2.5 * u.deg)),
        ("eq_FK5", "2000", SkyCoord(150 * u.deg, 2.5 * u.deg)),
    ],
)
@pytest.mark.parametrize("ref", ["c", ""])
def test_the_system_of_a_votable(tmp_path, system, equinox, expected, ref):
    path = votable(tmp_path / "in.vot", coosys(system, equinox), ref=ref)
    assert position(path) == pytest.approx((expected.ra.deg, expected.dec.deg), abs=1e-9)


def test_the_system_that_the_columns_refer_to(tmp_path):
    systems = coosys("eq_FK4", "B1950", "old"), coosys("ICRS", name="new")
    assert position(votable(tmp_path / "a.vot", *systems, ref="old"))[0] == pytest.approx(FK4_1950.ra.deg)
    assert position(votable(tmp_path / "b.vot", *systems, ref="new")) == (150, 2.5)
    assert position(votable(tmp_path / "c.vot", *systems)) == (150, 2.5)


@pytest.mark.parametrize("axis", ["x", "y"])
def test_one_column_that_refers_to_the_system_does_so_for_both(tmp_path, axis):
    text = VOTABLE.format(systems=coosys("eq_FK4", "B1950"), ref="").replace(f'name="{axis}"', f'name="{axis}" ref="c"')
    (tmp_path / "in.vot").write_text(text)
    assert position(tmp_path / "in.vot")[0] == pytest.approx(FK4_1950.ra.deg)


def test_the_frame_that_the_user_names(tmp_path):
    path = votable(tmp_path / "in.vot", coosys("eq_FK4", "B1950"), ref="c")
    expected = SkyCoord(150 * u.deg, 2.5 * u.deg, frame="galactic").icrs
    assert position(path, frame="galactic", ra_column="x", dec_column="y")[0] == pytest.approx(expected.ra.deg)


def test_a_system_that_is_not_read(tmp_path):
    path = votable(tmp_path / "in.vot", coosys("geo_app"), ref="c")
    with pytest.raises(CatalogError, match=r"x and y that their system is one that is not read here.*geo_app"):
        open_catalog(path)


@pytest.mark.parametrize(("card", "equinox"), [("FK4", 1950.0), ("FK4", None)])
def test_the_system_of_a_fits_table(tmp_path, card, equinox):
    meta = {"RADESYS": card} | ({} if equinox is None else {"EQUINOX": equinox})
    Table({"ra": [150.0], "dec": [2.5]}, meta=meta).write(tmp_path / "in.fits")
    assert position(tmp_path / "in.fits") == pytest.approx((FK4_1950.ra.deg, FK4_1950.dec.deg), abs=1e-9)
    assert np.abs(FK4_1950.ra.deg - 150) > 0.5


def test_names_of_systems():
    assert [declared_frame("FK5", "2000.0"), declared_frame("icrs", "J2000")] == ["", ""]
    assert declared_frame("FK4-NO-E", "") == "fk4noeterms B1950"
    assert declared_frame("eq_FK4", "B1975.0") == "fk4 B1975"


GALACTIC = SkyCoord(150 * u.deg, 2.5 * u.deg, frame="galactic").icrs
ECLIPTIC = SkyCoord(150 * u.deg, 2.5 * u.deg, frame="barycentricmeanecliptic").icrs


def param(utype, value, name="p", ucd=""):
    return f'<PARAM name="{name}" datatype="char" arraysize="*" utype="{utype}" ucd="{ucd}" value="{value}"/>'


SPACE = "stc:AstroCoordSystem.SpaceFrame."
REFS = '<FIELDref ref="a"/><FIELDref ref="b"/>'
FK4_PARAMS = param(SPACE + "CoordRefFrame", "FK4") + param(SPACE + "CoordRefFrame.Equinox", "B1950.0")
GROUPS = {
    "a catalog's entries": f'<GROUP utype="stc:CatalogEntryLocation">{FK4_PARAMS}{REFS}</GROUP>',
    "system and columns apart": f'<GROUP utype="stc:AstroCoordArea"><GROUP utype="stc:AstroCoordSystem">{FK4_PARAMS}'
    f'</GROUP><GROUP utype="stc:AstroCoords">{REFS}</GROUP></GROUP>',
    "a name of the library": f'<GROUP utype="stc:AstroCoords">'
    f"{param('stc:AstroCoords.coord_system_id', 'UTC-FK4-TOPO', ucd='pos.frame')}{REFS}</GROUP>",
    "a link to the library": f'<GROUP utype="stc:AstroCoords">'
    f"{param('stc:AstroCoordSystem.href', 'ivo://STClib/CoordSys#UTC-FK4-TOPO')}{REFS}</GROUP>",
    "by its UCD": f'<GROUP utype="stc:AstroCoords">{param("", "FK4", ucd="pos.frame")}{REFS}</GROUP>',
    "columns that refer to it": f'<GROUP ID="g" utype="stc:AstroCoords">{FK4_PARAMS}</GROUP>',
    "alone in its table": f'<GROUP utype="stc:AstroCoordSystem">{FK4_PARAMS}</GROUP>',
    "a group that refers to COOSYS": coosys("eq_FK4", "B1950")
    + coosys("ICRS", name="d")
    + f'<GROUP ref="c">{REFS}</GROUP>',
    "cards of FITS": param("", "FK4", "RADESYS") + param("", "1950.0", "EQUINOX"),
    "cs_frame": param("", "FK4", "cs_frame"),
    "an equinox alone": param("", "1950.0", "EQUINOX"),
    "COOSYS before PARAMs": coosys("eq_FK4", "B1950") + param("", "2000.0", "EQUINOX"),
}


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("behind", [False, True])
def test_systems_of_stc(tmp_path, group, behind):
    text = VOTABLE.format(systems="", ref=' ref="g"' if "refer to it" in group else "")
    text = text.replace('name="x"', 'name="x" ID="a"').replace('name="y"', 'name="y" ID="b"')
    mark = "<DATA>" if behind else "<TABLE>"
    text = text.replace(mark, GROUPS[group] + mark if behind else mark + GROUPS[group])
    (tmp_path / "in.vot").write_text(text)
    assert position(tmp_path / "in.vot") == pytest.approx((FK4_1950.ra.deg, FK4_1950.dec.deg), abs=1e-9)


def test_groups_of_stc_that_say_icrs_and_those_of_other_columns(tmp_path):
    for frame, columns in (("ICRS", REFS), ("FK4", '<FIELDref ref="other"/>')):
        group = f'<GROUP utype="stc:CatalogEntryLocation">{param(SPACE + "CoordRefFrame", frame)}{columns}</GROUP>'
        text = VOTABLE.format(systems="", ref="").replace("<TABLE>", "<TABLE>" + group)
        (tmp_path / "in.vot").write_text(
            text.replace('name="x"', 'name="x" ID="a"').replace('name="y"', 'name="y" ID="b"')
        )
        assert position(tmp_path / "in.vot") == (150, 2.5)


def test_a_system_of_stc_that_is_not_read(tmp_path):
    group = f'<GROUP utype="stc:CatalogEntryLocation">{param(SPACE + "CoordRefFrame", "GEO_C")}</GROUP>'
    (tmp_path / "in.vot").write_text(VOTABLE.format(systems="", ref="").replace("<TABLE>", "<TABLE>" + group))
    with pytest.raises(CatalogError, match=r"x and y that their system is one that is not read here.*geo_c"):
        open_catalog(tmp_path / "in.vot")


def test_the_system_of_another_resource_or_of_other_columns_does_not_count(tmp_path):
    first = f"<RESOURCE>{coosys('eq_FK4', 'B1950')}</RESOURCE><RESOURCE>"
    (tmp_path / "a.vot").write_text(VOTABLE.format(systems="", ref="").replace("<RESOURCE>", first))
    assert position(tmp_path / "a.vot") == (150, 2.5)
    other = '<FIELD name="glon" datatype="double" ref="c"/><DATA>'
    text = VOTABLE.format(systems=coosys("galactic"), ref="").replace("<DATA>", other)
    (tmp_path / "b.vot").write_text(text.replace("</TR>", "<TD>1</TD></TR>"))
    assert position(tmp_path / "b.vot") == (150, 2.5)
    around = VOTABLE.format(systems="", ref="").replace("<RESOURCE>", coosys("eq_FK4", "B1950") + "<RESOURCE>")
    (tmp_path / "c.vot").write_text(around)
    assert position(tmp_path / "c.vot")[0] == pytest.approx(FK4_1950.ra.deg)


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ({"EQUINOX": 1950.0}, FK4_1950),
        ({"RADECSYS": "FK4"}, FK4_1950),
        ({"RADECSYS": "FK4", "EQUINOX": "B1950"}, FK4_1950),
        ({"EPOCH": 1950.0}, FK4_1950),
        ({"EPOCH": 2015.5}, SkyCoord(150 * u.deg, 2.5 * u.deg)),
        ({"EPOCH": 1950.0, "EQUINOX": 2000.0}, SkyCoord(150 * u.deg, 2.5 * u.deg)),
        ({"EQUINOX": 2000.0}, SkyCoord(150 * u.deg, 2.5 * u.deg)),
        ({"RADESYS": "ICRS", "EQUINOX": 2016.0}, SkyCoord(150 * u.deg, 2.5 * u.deg)),
    ],
)
@pytest.mark.parametrize("suffix", ["fits", "ecsv", "parquet"])
def test_cards_of_fits_and_what_astropy_makes_of_them(tmp_path, cards, expected, suffix):
    path = tmp_path / f"in.{suffix}"
    Table({"ra": [150.0], "dec": [2.5]}, meta=cards).write(path)
    assert position(path) == pytest.approx((expected.ra.deg, expected.dec.deg), abs=1e-9)


@pytest.mark.parametrize(
    ("comments", "expected"),
    [
        ("# EQUINOX = 1950.0", FK4_1950.ra.deg),
        ("# mine\n#RADESYS: FK4", FK4_1950.ra.deg),
        ("# RADECSYS= 'FK4     ' / system", FK4_1950.ra.deg),
        ("#Coosys\tB1950:\teq_FK4 B1950.0", FK4_1950.ra.deg),
        ("#COOSYS\tG:\tgalactic", GALACTIC_RA),
        ("#Coosys\tB1950:\teq_FK4 B1950.0\n#Coosys\tJ2000:\teq_FK5 J2000", 150),
        ("# EQUINOX = 2000", 150),
        ("# RADESYS = mine", 150),
        ("# the EQUINOX is 1950", 150),
    ],
)
def test_comments_of_text_tables(tmp_path, comments, expected):
    (tmp_path / "in.csv").write_text(f"{comments}\nid,ra,dec\n1,150,2.5\n")
    assert position(tmp_path / "in.csv")[0] == pytest.approx(expected)


@pytest.mark.parametrize("suffix", ["ecsv", "vot", "fits"])
def test_systems_that_stilts_hands_on(tmp_path, suffix):
    source = votable(tmp_path / "in.vot", coosys("eq_FK4", "B1950"), ref="c")
    form = {"ecsv": "ecsv", "vot": "votable", "fits": "fits-plus"}[suffix]
    command = [program("stilts"), "tpipe", f"in={source}", f"ofmt={form}", f"out={tmp_path / 'out'}.{suffix}"]
    subprocess.run(command, check=True, capture_output=True)
    assert position(tmp_path / f"out.{suffix}")[0] == pytest.approx(FK4_1950.ra.deg)


def test_the_system_of_a_column_of_ecsv(tmp_path):
    for equinox in ("B1950", None):
        table = Table({"ra": [150.0], "dec": [2.5]})
        for column in table.itercols():
            column.meta.update({"CoosysSystem": "eq_FK4"} | ({} if equinox is None else {"CoosysEquinox": equinox}))
        table.write(tmp_path / "in.ecsv", overwrite=True)
        assert position(tmp_path / "in.ecsv")[0] == pytest.approx(FK4_1950.ra.deg)


def test_cards_of_a_table_in_memory(tmp_path):
    for cards, expected in (({"EQUINOX": 1950.0}, FK4_1950.ra.deg), ({"RADESYS": "unknown to me"}, 150)):
        table = MemoryTable(Table({"ra": [150.0], "dec": [2.5]}, meta=cards))
        assert next(catalog_of(table, tmp_path, "memory").blocks(1)).ra[0] == pytest.approx(expected)


FRAMES = {
    "fk4": FK4(),
    "fk4 of 1975": FK4(equinox="B1975"),
    "fk5 of 1980": FK5(equinox="J1980.5"),
    "galactic": "galactic",
    "icrs": "icrs",
    "supergalactic": "supergalactic",
    "ecliptic": "barycentricmeanecliptic",
}


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("suffix", ["fits", "ecsv", "parquet"])
def test_skycoord_columns_of_astropy(tmp_path, frame, suffix):
    sky = SkyCoord([150] * u.deg, [2.5] * u.deg, frame=FRAMES[frame])
    path = tmp_path / f"in.{suffix}"
    QTable({"id": [1], "sky": sky}).write(path)
    assert position(path) == pytest.approx((sky.icrs.ra.deg[0], sky.icrs.dec.deg[0]), abs=1e-7)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("RAB1950", "DEB1950"), FK4_1950),
        (("ra_b1950", "dec_b1950"), FK4_1950),
        (("ra1950", "dec1950"), FK4_1950),
        (("R.A. (1950)", "Dec. (1950)"), FK4_1950),
        (("RA [B1950]", "Dec [B1950]"), FK4_1950),
        (("GLON", "GLAT"), GALACTIC),
        (("gal_lon", "gal_lat"), GALACTIC),
        (("l [deg]", "b [deg]"), GALACTIC),
        (("elon", "elat"), ECLIPTIC),
        (("ecl_lon", "ecl_lat"), ECLIPTIC),
        (("SGL", "SGB"), SkyCoord(150 * u.deg, 2.5 * u.deg, frame="supergalactic").icrs),
        (("RAJ2000", "DEJ2000"), SkyCoord(150 * u.deg, 2.5 * u.deg)),
        (("R.A. (J2000)", "Dec. (J2000)"), SkyCoord(150 * u.deg, 2.5 * u.deg)),
    ],
)
@pytest.mark.parametrize("named", [False, True])
def test_names_that_state_a_frame(tmp_path, names, expected, named, caplog):
    (tmp_path / "in.csv").write_text(f"{','.join(names)}\n150,2.5\n")
    chosen = dict(zip(("ra_column", "dec_column"), names, strict=True)) if named else {}
    caplog.set_level("INFO")
    assert position(tmp_path / "in.csv", **chosen) == pytest.approx((expected.ra.deg, expected.dec.deg), abs=1e-9)
    assert ("converted to ICRS" in caplog.text) == (expected.ra.deg != 150)
    assert position(tmp_path / "in.csv", frame="icrs", ra_column=names[0], dec_column=names[1]) == (150, 2.5)


@pytest.mark.parametrize(("system", "expected"), [("fk4", FK4_1950.ra.deg), ("FK5", 150), ("icrs", 150)])
def test_names_that_end_in_a_system(tmp_path, system, expected):
    (tmp_path / "in.csv").write_text(f"ra_{system},dec_{system}\n150,2.5\n")
    path = tmp_path / "in.csv"
    assert position(path, ra_column=f"ra_{system}", dec_column=f"dec_{system}")[0] == pytest.approx(expected)


def test_equatorial_positions_of_today_come_first(tmp_path):
    (tmp_path / "in.csv").write_text("RAB1950,DEB1950,GLON,GLAT,RAJ2000,DEJ2000\n1,2,3,4,150,2.5\n")
    assert position(tmp_path / "in.csv") == (150, 2.5)
    expected = SkyCoord(1 * u.deg, 2 * u.deg, frame="fk4").icrs
    assert position(tmp_path / "in.csv", frame="fk4")[0] == pytest.approx(expected.ra.deg)


def test_l_and_b_without_a_unit_are_no_position(tmp_path):
    (tmp_path / "in.csv").write_text("id,l,b\n1,150,2.5\n")
    assert not open_catalog(tmp_path / "in.csv", needs_position=False).has_positions
    assert position(tmp_path / "in.csv", frame="galactic")[0] == pytest.approx(GALACTIC.ra.deg)


def test_names_and_a_declared_system_that_contradict_each_other(tmp_path):
    Table({"RAJ2000": [150.0], "DEJ2000": [2.5]}, meta={"RADESYS": "FK4"}).write(tmp_path / "in.fits")
    with pytest.raises(CatalogError, match=r"the names of RAJ2000 and DEJ2000 mean J2000.*in fk4 B1950.*with --frame"):
        open_catalog(tmp_path / "in.fits")
    assert position(tmp_path / "in.fits", frame="icrs") == (150, 2.5)
    assert position(tmp_path / "in.fits", frame="fk4", ra_column="RAJ2000", dec_column="DEJ2000")[0] > 150.5


@pytest.mark.parametrize("form", ["fits-plus", "parquet"])
def test_systems_in_the_votable_of_topcat(tmp_path, form):
    votable(tmp_path / "in.vot", coosys("eq_FK4", "B1950"), ref="c")
    path = tmp_path / f"out.{form[:4]}"
    text = (tmp_path / "in.vot").read_bytes()
    if form == "parquet":
        schema = pa.schema([("x", pa.float64()), ("y", pa.float64())], {"IVOA.VOTable-Parquet.content": text})
        pq.write_table(pa.table({"x": [150.0], "y": [2.5]}, schema=schema), path)
    else:
        primary = fits.PrimaryHDU(np.frombuffer(text, np.uint8))
        primary.header["VOTMETA"] = True
        columns = [fits.Column(n, "D", array=[v]) for n, v in (("x", 150.0), ("y", 2.5))]
        fits.HDUList([primary, fits.BinTableHDU.from_columns(columns)]).writeto(path)
    assert position(path, ra_column="x", dec_column="y")[0] == pytest.approx(FK4_1950.ra.deg)
