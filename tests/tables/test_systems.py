"""Systems of coordinates that a file declares are converted to ICRS."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import FK4, FK5, SkyCoord
from astropy.table import Table

from galmorph.errors import CatalogError
from galmorph.tables.catalog import open_catalog
from galmorph.tables.systems import declared_frame

VOTABLE = """<VOTABLE version="1.3"><RESOURCE>{systems}<TABLE>
<FIELD name="x" datatype="double" unit="deg" ucd="pos.eq.ra;meta.main"{ref}/>
<FIELD name="y" datatype="double" unit="deg" ucd="pos.eq.dec;meta.main"{ref}/>
<DATA><TABLEDATA><TR><TD>150.0</TD><TD>2.5</TD></TR></TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>"""
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
