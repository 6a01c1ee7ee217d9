"""Positions as people write them."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import Angle, SkyCoord
from hypothesis import given
from hypothesis import strategies as st

from galmorph.errors import CatalogError
from galmorph.tables.formats import TableField, text_array
from galmorph.tables.positions import Frame, Positions, scale, sexagesimal, to_float


def icrs(ra, dec, ra_unit="", dec_unit="", frame="icrs"):
    positions = Positions(TableField("ra", ra_unit), TableField("dec", dec_unit), Frame(frame))
    columns = [text_array(v) if isinstance(v[0], str) else np.array(v) for v in (ra, dec)]
    return positions.icrs(*columns)


@pytest.mark.parametrize(
    ("text", "hours", "degrees"),
    [
        ("12:30:00", True, 187.5),
        ("12:30:00", False, 12.5),
        ("12h30m", False, 187.5),
        ("12h30m00.0s", True, 187.5),
        ("12d30m", True, 12.5),
        ("12°30'00\"", True, 12.5),
        ("12 30 00", True, 187.5),
        ("12:30.5", False, 12 + 30.5 / 60),
        ("-00:30:00", False, -0.5),
        ("\N{MINUS SIGN}00 30 00", False, -0.5),
        ("+01:00:60", False, 1 + 1 / 60),
        ("12:30:45,6", False, 12.5 + 45.6 / 3600),
        (" 00:00:00 ", True, 0.0),
    ],
)
def test_sexagesimal(text, hours, degrees):
    assert sexagesimal(text, hours) == pytest.approx(degrees, abs=1e-12)


@pytest.mark.parametrize("text", ["12:61:00", "12:00:61", "12", "12:", "a:b:c", "12:30:00:00", "1e3:00:00", ""])
def test_what_is_no_angle(text):
    assert np.isnan(sexagesimal(text, hours=True))


@given(st.floats(0, 359.999), st.floats(-89.9, 89.9), st.sampled_from([":", " ", "fromunit"]))
def test_what_astropy_writes_is_read(ra, dec, separator):
    lon = Angle(ra * u.deg).to_string(u.hourangle, sep=separator, precision=6, pad=True)
    lat = Angle(dec * u.deg).to_string(u.deg, sep=separator, precision=5, alwayssign=True, pad=True)
    (x,), (y,), (problem,) = icrs([lon], [lat])
    assert problem == ""
    assert abs(x - ra) < 1e-7 or abs(x - ra) > 359.9
    assert y == pytest.approx(dec, abs=1e-7)


@pytest.mark.parametrize(
    ("ra", "dec", "reason"),
    [
        (np.nan, 1.0, "ra is empty"),
        (1.0, 91.2, "dec=91.2 is outside -90..90"),
        (360.1, 1.0, "ra=360.1 is outside -180..360"),
        (-180.1, 1.0, "ra=-180.1 is outside -180..360"),
        (np.inf, -np.inf, "ra=inf is outside -180..360, dec=-inf is outside -90..90"),
        ("", "1", "ra is empty"),
        (" ", "nan", "ra is empty, dec is empty"),
        ("abc", "1", "ra='abc' is not a number"),
        ("10,5", "1", "ra='10,5' is not a number (a decimal comma?)"),
        ("400", "-90.5", "ra=400 is outside -180..360, dec=-90.5 is outside -90..90"),
        ("25:00:00", "1", "ra=25:00:00 is outside -180..360"),
    ],
)
def test_unusable_positions_say_why(ra, dec, reason):
    x, y, problem = icrs([ra], [dec])
    assert problem.tolist() == [reason]
    assert np.isnan([x[0], y[0]]).all()


def test_usable_positions():
    x, y, problem = icrs([0.0, -10.0, 359.99, -180.0, 360.0], [0.0, 90.0, -90.0, 1.0, 2.0])
    assert x.tolist() == [0, 350, 359.99, 180, 0]
    assert y.tolist() == [0, 90, -90, 1, 2]
    assert problem.tolist() == [""] * 5


@pytest.mark.parametrize(
    ("text", "degrees"),
    [
        ("\u221212.5", -12.5),
        ("\u201312.5", -12.5),
        ("\uff0d12.5", -12.5),
        ("12.5°", 12.5),
        ("12.5\u00ba", 12.5),
        ("12.5 °", 12.5),
        ("\u00a012.5", 12.5),
        ("\u221212\u00b030\u203200\u2033", -12.5),
    ],
)
def test_signs_of_typesetters(text, degrees):
    _, (y,), (problem,) = icrs(["1"], [text])
    assert (y, problem) == (degrees, "")


@pytest.mark.parametrize(
    ("text", "number"), [("1,000.5", 1000.5), ("-12,345,678.", -12345678.0), ("1\u202f000.5", 1000.5)]
)
def test_thousands(text, number):
    assert to_float(text_array([text, "x"])).tolist()[0] == number


@pytest.mark.parametrize(("text", "number"), [("1.5D+02", 150.0), ("-2.5d-1", -0.25), ("15D1", 150.0)])
def test_exponents_of_fortran(text, number):
    assert to_float(text_array([text, "x"])).tolist()[0] == number


@pytest.mark.parametrize("text", ["1,000", "1,0.5", "1,00.5", "12,5"])
def test_what_may_be_thousands_or_decimals_is_no_number(text):
    assert np.isnan(to_float(text_array([text]))).all()


def test_the_digits_of_single_precision_stay_out_of_messages():
    positions = Positions(TableField("ra"), TableField("dec"), Frame("icrs"))
    *_, problem = positions.icrs(np.array([1], "f4"), np.array([91.2], "f4"))
    assert problem.tolist() == ["dec=91.2 is outside -90..90"]


def test_masked_integers_are_empty():
    x, _, problem = Positions(TableField("ra"), TableField("dec"), Frame("icrs")).icrs(
        np.ma.MaskedArray([5, 6], [False, True]), np.array([1, 2])
    )
    assert x[0] == 5
    assert problem.tolist() == ["", "ra is empty"]


@pytest.mark.parametrize(
    ("unit", "value", "degrees"),
    [
        ("", 15.0, 15),
        ("deg", 15.0, 15),
        ("Degrees", 15.0, 15),
        ("[deg]", 15.0, 15),
        ("rad", np.pi / 12, 15),
        ("hourangle", 1.0, 15),
        ('"h:m:s"', "01:00:00", 15),
        ("hour", "1.0", 15),
        ("deg", "15:00:00", 15),
        ("arcsec", 54000.0, 15),
    ],
)
def test_units_are_obeyed(unit, value, degrees):
    x, _, problem = icrs([value], [value if unit == "deg" else 1.0][:1] if not isinstance(value, str) else ["1"], unit)
    assert problem.tolist() == [""]
    assert x[0] == pytest.approx(degrees, rel=1e-12)


def test_unknown_units_are_refused():
    with pytest.raises(CatalogError, match="column 'x' has the unit 'pix'"):
        scale(TableField("x", "pix"), "deg")


def test_array_columns_are_refused():
    with pytest.raises(CatalogError, match="column 'ra' holds an array in each cell"):
        Positions(TableField("ra", scalar=False), TableField("dec"), Frame("icrs"))


@pytest.mark.parametrize("frame", ["galactic", "fk5", "FK4", "supergalactic", "barycentrictrueecliptic"])
def test_frames_are_those_of_astropy(frame):
    lon, lat = [10.0, 200.0, np.nan], [-30.0, 45.0, 1.0]
    x, y, problem = icrs(lon, lat, frame=frame)
    sky = SkyCoord(lon[:2] * u.deg, lat[:2] * u.deg, frame=frame.lower()).icrs
    assert x[:2] == pytest.approx(sky.ra.deg)
    assert y[:2] == pytest.approx(sky.dec.deg)
    assert problem.tolist() == ["", "", "ra is empty"]
    assert np.isnan(x[2])


def test_galactic_text_counts_degrees():
    x, y, _ = icrs(["12:30:00"], ["01:00:00"], frame="galactic")
    sky = SkyCoord(12.5 * u.deg, 1 * u.deg, frame="galactic").icrs
    assert (x[0], y[0]) == pytest.approx((sky.ra.deg, sky.dec.deg))


def test_unknown_frames():
    with pytest.raises(CatalogError, match=r"There is no frame 'galatic'. Did you mean 'galactic'\?"):
        Frame("galatic")
    with pytest.raises(CatalogError, match="cannot be turned into ICRS from two angles alone"):
        Frame("altaz")


def test_numbers_of_any_column():
    assert to_float(text_array(["1", "", "x", "1e3"])).tolist()[::3] == [1, 1000]
    assert np.isnan(to_float(np.array([1 + 2j]))).all()
    assert to_float(np.array([True])).tolist() == [1]


def test_a_signalling_nan_is_empty():
    x, _, problem = icrs(np.array([0x7FF0000000000001], dtype=np.uint64).view(float), [1.0])
    assert np.isnan(x[0])
    assert problem.tolist() == ["ra is empty"]
