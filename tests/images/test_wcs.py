"""World coordinates: spellings that occur, frames other than ICRS, and the pixel scale of astropy."""

import itertools

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import BarycentricMeanEcliptic, SkyCoord, Supergalactic
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_area

from galmorph.images.fits_file import StoredImage, quiet
from galmorph.images.headers import pixel_scale
from galmorph.images.wcs import celestial_wcs, pixel_at, pixels, read_wcs, sky

CD = {"CD1_1": -2e-4, "CD2_2": 2e-4}
PC = {"PC1_1": 1.0, "PC2_2": 1.0}
OLD_PC = {"PC001001": 2.0, "PC002002": 2.0}
CDELT = {"CDELT1": -3e-4, "CDELT2": 3e-4}


def header(**cards):
    """A WCS without a matrix."""
    made = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0, "CRPIX1": 8.0, "CRPIX2": 8.0}
    return fits.Header(list({**made, **cards}.items()))


def text(**cards):
    return header(**cards).tostring(endcard=False)


def stored(made):
    cards = dict(made)
    return StoredImage("x.fits", 0, cards, cards, made.tostring(endcard=False), (16, 16), lambda: np.zeros((16, 16)))


@pytest.mark.parametrize(
    "forms",
    [forms for n in (1, 2, 3) for pc in (PC, OLD_PC) for forms in itertools.combinations((CD, pc, CDELT), n)],
)
def test_the_pixel_scale_is_that_of_astropy(forms):
    made = header(**{key: value for form in forms for key, value in form.items()})
    with quiet():
        expected = np.sqrt(proj_plane_pixel_area(WCS(made))) * 3600
    if expected > 60:
        made["CUNIT1"] = made["CUNIT2"] = "arcsec"
        expected /= 3600
    assert pixel_scale(stored(made)) == pytest.approx(expected, rel=1e-12)
    if expected == 3600 or expected <= 60:
        wcs = celestial_wcs(made.tostring(endcard=False))
        assert np.sqrt(proj_plane_pixel_area(wcs)) * 3600 == pytest.approx(expected, rel=1e-12)


def test_axes_may_have_different_units():
    made = header(CD1_1=-0.5, CD2_2=0.5 / 3600, CUNIT1="arcsec", CUNIT2="deg")
    assert pixel_scale(stored(made)) == pytest.approx(0.5)


@pytest.mark.parametrize("unit", ["deg", "Degrees", "degrees", "DEG", "degree", "Deg", "degs"])
def test_spellings_of_degree(unit):
    made = header(**CD, CUNIT1=unit, CUNIT2=unit)
    assert pixel_scale(stored(made)) == pytest.approx(0.72)
    assert [float(v) for v in sky(celestial_wcs(text(**CD, CUNIT1=unit, CUNIT2=unit)), 7.0, 7.0)] == [150.0, 2.0]


@pytest.mark.parametrize(
    ("unit", "size"), [("arcseconds", 3600), ("ARCSEC", 3600), ("arcmins", 60), ("Radians", np.pi / 180)]
)
def test_spellings_of_other_angles(unit, size):
    cards = {"CUNIT1": unit, "CUNIT2": unit, "CD1_1": -2e-4 * size, "CD2_2": 2e-4 * size}
    made = header(**cards, CRVAL1=150.0 * size, CRVAL2=2.0 * size)
    assert pixel_scale(stored(made)) == pytest.approx(0.72)
    ra, dec = sky(celestial_wcs(made.tostring(endcard=False)), 7.0, 7.0)
    assert (float(ra), float(dec)) == pytest.approx((150.0, 2.0))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("RA---TAN", "DEC---TA"),
        ("ra---tan", "dec--tan"),
        ("RA--TAN", "DEC-TAN"),
        ("RA---TAN ", "DEC---TAN"),
        ("RA-TAN", "DEC-TAN"),
    ],
)
def test_misspelt_projections(first, second):
    made = header(**CD, CTYPE1=first, CTYPE2=second)
    assert pixel_scale(stored(made)) == pytest.approx(0.72)
    assert [float(v) for v in sky(celestial_wcs(made.tostring(endcard=False)), 7.0, 7.0)] == [150.0, 2.0]


def test_misspelt_galactic_projection():
    ra, dec = sky(celestial_wcs(text(**CD, CTYPE1="GLON---TAN", CTYPE2="GLAT---TAN")), 7.0, 7.0)
    right = SkyCoord(150, 2, unit="deg", frame="galactic").icrs
    assert (float(ra), float(dec)) == pytest.approx((right.ra.deg, right.dec.deg))


FRAMES = {
    "FK4": ({"RADESYS": "FK4"}, "fk4"),
    "FK4 by equinox": ({"EQUINOX": 1950.0}, "fk4"),
    "FK4 by epoch": ({"EPOCH": 1950.0}, "fk4"),
    "FK4 by text": ({"EQUINOX": "B1950"}, "fk4"),
    "FK4 by name of the equinox": ({"RADESYS": "B1950", "EQUINOX": 1950.0}, "fk4"),
    "old keyword": ({"RADECSYS": "FK4"}, "fk4"),
    "FK5": ({"RADESYS": "FK5"}, "fk5"),
    "fk5": ({"RADESYS": "fk5"}, "fk5"),
    "J2000": ({"RADESYS": "J2000"}, "fk5"),
    "FK5 / J2000": ({"RADESYS": "FK5/J2000"}, "fk5"),
    "ICRS": ({"RADESYS": "ICRS J2000"}, "icrs"),
    "galactic": ({"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"}, "galactic"),
    "ecliptic": ({"CTYPE1": "ELON-TAN", "CTYPE2": "ELAT-TAN"}, BarycentricMeanEcliptic(equinox="J2000")),
    "supergalactic": ({"CTYPE1": "SLON-TAN", "CTYPE2": "SLAT-TAN"}, Supergalactic()),
}


@pytest.mark.parametrize("name", FRAMES)
def test_positions_are_icrs(name):
    cards, frame = FRAMES[name]
    wcs, problem = read_wcs(text(**CD, **cards))
    assert problem == ""
    ra, dec = sky(wcs, np.array([7.0, 9.0]), np.array([7.0, 8.0]))
    right = SkyCoord(150 * u.deg, 2 * u.deg, frame=frame).icrs
    assert SkyCoord(ra[0], dec[0], unit="deg").separation(right).arcsec < 0.01
    x, y = pixels(wcs, (16, 16), ra, dec)
    np.testing.assert_allclose([x, y], [[7, 9], [7, 8]], atol=1e-6)


def test_numbers_written_as_text_are_read():
    (ra, dec), expected = sky(celestial_wcs(text(**CD, CRVAL1="150.0", CRPIX2="8.0")), 7, 7), (150, 2)
    assert (ra, dec) == pytest.approx(expected)


@pytest.mark.parametrize("keyword", ["CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2"])
def test_an_absent_reference_is_a_problem_and_not_zero(keyword):
    made = header(**CD)
    del made[keyword]
    wcs, problem = read_wcs(made.tostring(endcard=False))
    assert wcs is None
    assert problem == f"its celestial coordinates lack numbers in {keyword}"


def test_coordinates_in_a_form_that_is_not_read_are_said():
    second = {f"{key}A": value for key, value in header(**CD).items()}
    assert "only in a second description (CTYPE1A)" in read_wcs(fits.Header(second).tostring(endcard=False))[1]
    plate = fits.Header({"PLTRAH": 10, "AMDX1": 67.2})
    assert "plate solution of the Digitized Sky Survey" in read_wcs(plate.tostring(endcard=False))[1]


def test_quotes_inside_a_ctype():
    wcs = celestial_wcs(text(**CD, CTYPE1="'RA---TAN'", CTYPE2="'DEC--TAN'"))
    assert list(wcs.wcs.ctype) == ["RA---TAN", "DEC--TAN"]


def test_axes_in_the_other_order():
    wcs = celestial_wcs(text(CTYPE1="DEC--TAN", CTYPE2="RA---TAN", CRVAL1=2.0, CRVAL2=150.0, **CD))
    ra, dec = sky(wcs, np.array([7.0]), np.array([7.0]))
    assert (ra[0], dec[0]) == pytest.approx((150, 2))
    assert [float(v[0]) for v in pixels(wcs, (16, 16), ra, dec)] == pytest.approx([7, 7])


@pytest.mark.parametrize("cards", [{}, {"CTYPE1": "LINEAR", "CTYPE2": "LINEAR"}])
def test_a_header_that_claims_no_coordinates_has_no_problem(cards):
    made = header(**CD, **cards)
    if not cards:
        del made["CTYPE1"], made["CTYPE2"]
    assert read_wcs(made.tostring(endcard=False)) == (None, "")


@pytest.mark.parametrize("value", ["'", "x", "T", "", "1E400", "9" * 50, "9" * 68])
def test_a_damaged_card_gives_no_pixel_but_no_error_either(value):
    made = text(CD1_1=-2e-4, CD2_2=2e-4)
    at = made.index("CRPIX1  =")
    damaged = made[:at] + f"CRPIX1  = {value:>20}".ljust(80) + made[at + 80 :]
    pixel = pixel_at(damaged, (16, 16), 150.0, 2.0)
    assert pixel is None or len(pixel) == 2
    assert pixel_at(made, (16, 16), 150.0, 2.0) == (7.0, 7.0)


TURNED = {"1_1": 0.8, "1_2": -0.6, "2_1": 0.6, "2_2": 0.8}
FORMS = {
    "CD": {f"CD{key}": 2e-4 * value for key, value in TURNED.items()},
    "PC": {f"PC{key}": value for key, value in TURNED.items()} | CDELT,
    "PC of 1990": {f"PC00{key[0]}00{key[2]}": value for key, value in TURNED.items()} | CDELT,
    "CROTA2": {"CROTA2": 30.0} | CDELT,
    "CROTA1": {"CROTA1": 30.0} | CDELT,
    "CD and CDELT": CD | CDELT,
    "PC and CD": PC | CD | CDELT,
    "an older equinox": CD | {"EQUINOX": 1950.0},
    "an epoch": CD | {"EPOCH": 1950.0},
    "galactic": CD | {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"},
    "distortions": CD | {"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "PV1_0": 1e-3, "PV1_1": 1.0, "PV2_1": 1.0},
    "distortions of TAN": CD | {"PV1_0": 1e-3, "PV1_1": 1.0, "PV2_1": 1.0},
    "SIP without its name": CD | {"A_ORDER": 2, "A_2_0": 1e-3, "B_ORDER": 2, "B_0_2": 1e-3},
}


@pytest.mark.parametrize("form", FORMS)
def test_the_pixel_at_a_position_is_that_of_astropy(form, capsys):
    base = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 20.0, "CRPIX1": 8.5, "CRPIX2": 8.5}
    made = fits.Header(base | FORMS[form])
    with quiet():
        position = WCS(made).pixel_to_world(3.0, 12.0).icrs
    text = made.tostring(sep="", endcard=False, padding=False)
    assert pixel_at(text, (16, 16), position.ra.deg, position.dec.deg) == pytest.approx((3, 12), abs=0.02)
    ra, dec = sky(celestial_wcs(text), 3.0, 12.0)
    assert (float(ra), float(dec)) == pytest.approx((position.ra.deg, position.dec.deg), abs=1e-8)
    assert capsys.readouterr() == ("", "")
