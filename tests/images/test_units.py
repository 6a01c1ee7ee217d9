"""Units of pixels: spellings, zero points, asinh scaling; what is not understood is refused by name."""

import math
import re

import numpy as np
import pytest
from astropy.io import fits
from galaxies import wcs_cards

from galmorph.errors import CutoutError
from galmorph.images.cutout import read_cutout
from galmorph.images.survey_image import read_planes
from galmorph.images.units import parse_unit

JY = 1e9 / 3631
SR = (math.pi / 648000) ** 2
IMAGE = np.random.default_rng(3).normal(5, 1, (32, 32)).astype(np.float32)


def write(path, image=IMAGE, pixscale=0.262, **cards):
    made = wcs_cards(32, pixscale, 0.0)
    for keyword, value in cards.items():
        made[keyword] = value
    fits.PrimaryHDU(image, made).writeto(path, overwrite=True)
    return path


@pytest.mark.parametrize(
    ("text", "kind", "factor"),
    [
        *((text, "flux", 1.0) for text in ("nanomaggy", "nmgy", "NMAGGY", "nanomaggies/pixel", "1e-9 maggies")),
        *((text, "flux", 1.0) for text in ("nanomaggy/pix", "3.631e-6 Jy", "10**-9 maggy", "nanomaggy pix-1")),
        *((text, "flux", 1e9) for text in ("maggy", "maggies", "Mgy")),
        *((text, "flux", JY) for text in ("Jy", "JY", "jy", "Jansky", "janskys")),
        *((text, "flux", 1e6 * JY) for text in ("MJy", "megaJansky")),
        *((text, "flux", 1e-3 * JY) for text in ("mJy", "milliJansky", "mJy/pixel")),
        *(
            (text, "flux", 1e-6 * JY)
            for text in ("uJy", "UJY", "ujy", "microJy", "\u00b5Jy", "\u03bcJy", "uJy/pixel", "uJy per pixel")
        ),
        *((text, "flux", 1e-9 * JY) for text in ("nJy", "NJY", "nanoJansky", "1e-32 erg/s/cm2/Hz")),
        ("10.0*nanoJansky", "flux", 1e-8 * JY),
        *((text, "surface", 1e6 * JY * SR) for text in ("MJy/sr", "MJy sr-1", "MJy.sr**-1")),
        *((text, "surface", 1.0) for text in ("nmgy/arcsec2", "nanomaggies per sq. arcsec", "nanomaggy/arcsec^2")),
        *(
            (text, "counts", 1.0)
            for text in ("adu", "ADU", "DN", "dns", "counts", "ct", "electrons", "e-", "E-", "DN/pix")
        ),
        *(
            (text, "rate", 1.0)
            for text in ("counts/s", "DN/s", "electron / s", "ELECTRONS/S", "e-/sec", "e- s-1", "cts/second")
        ),
        *((text, "magnitude", 1.0) for text in ("mag", "mag/arcsec2", "mag(AB)", "dex(Jy)", "MAG", "mags", "ABmag")),
        *((text, "magnitude", 1.0) for text in ("AB magnitude", "asinh mag", "luptitudes", "log10(flux)", "log(Jy)")),
        *((text, "magnitude", 1.0) for text in ("S/N", "SNR", "sigma", "arcsinh", "surface brightness (mag/arcsec^2)")),
        ("cps", "rate", 1.0),
        *((text, "ambiguous", 1.0) for text in ("MJY", "mjy", "Mjy/sr")),
        *((text, "other", 1.0) for text in ("Jy/beam", "K", "erg/s/cm2/Angstrom", "none", "1", "km/s", "??")),
        ("", "none", 1.0),
    ],
)
def test_spellings(text, kind, factor):
    unit = parse_unit(text)
    assert unit.kind == kind
    assert unit.factor == pytest.approx(factor, rel=1e-9)


def test_megajansky_are_no_millijansky(tmp_path):
    mega, milli = (read_cutout(write(tmp_path / f"{unit}.fits", BUNIT=unit)).flux for unit in ("MJy", "mJy"))
    np.testing.assert_allclose(mega, 1e9 * milli, rtol=1e-5)


def test_surface_brightness_becomes_flux_per_native_pixel(tmp_path):
    cutout = read_cutout(write(tmp_path / "a.fits", pixscale=0.1, BUNIT="MJy/sr"))
    np.testing.assert_allclose(cutout.flux[0], IMAGE * 1e6 * JY * SR * 0.1**2, rtol=1e-5)
    assert cutout.flux_pixscale == pytest.approx(0.1)
    resampled = read_cutout(write(tmp_path / "b.fits", pixscale=0.1, BUNIT="nmgy/arcsec2", SURVEY="DECaLS"))
    assert resampled.flux_pixscale == 0.262
    np.testing.assert_allclose(resampled.flux[0], IMAGE * 0.262**2, rtol=1e-5)


REFUSED = ["Jy/beam", "DN", "MJY", "erg/s/cm2/Angstrom", "furlong", "none"]


@pytest.mark.parametrize("unit", REFUSED)
def test_a_unit_that_says_no_flux_is_named_and_the_remedy_works(tmp_path, unit):
    with pytest.raises(CutoutError, match=r"has pixels in '.*Add MAGZERO") as error:
        read_cutout(write(tmp_path / "a.fits", BUNIT=unit))
    assert repr(unit) in str(error.value)
    cutout = read_cutout(write(tmp_path / "b.fits", BUNIT=unit, MAGZERO=25.0))
    assert np.ptp(cutout.flux) == pytest.approx(0.1 * np.ptp(IMAGE), rel=1e-5)
    planes = read_planes(str(write(tmp_path / "c.fits", BUNIT=unit, BAND="r")), zero_point=25.0)
    assert np.ptp(planes.flux) == pytest.approx(0.1 * np.ptp(IMAGE), rel=1e-5)


@pytest.mark.parametrize("unit", ["uJy/pixel", "nanomaggy/pix", "1e-9 maggies", "10.0*nanoJansky", "MJy/sr", "DN"])
def test_a_zero_point_beside_any_unit_is_no_reason_to_refuse(tmp_path, unit):
    assert np.isfinite(read_cutout(write(tmp_path / "a.fits", BUNIT=unit, MAGZERO=25.0)).flux).all()


@pytest.mark.parametrize("value", [0.0, 99.0])
def test_a_zero_point_that_is_a_placeholder_is_reported(tmp_path, value):
    with pytest.raises(CutoutError, match=rf"its zero point of {value:g} is a placeholder\. Add MAGZERO \(10 to 40\)"):
        read_cutout(write(tmp_path / "a.fits", BUNIT="adu", MAGZERO=value))


@pytest.mark.parametrize("unit", ["mag", "MAG", "log10(flux)", "SNR"])
def test_magnitudes_are_refused_whatever_the_zero_point(tmp_path, unit):
    path = write(tmp_path / "a.fits", BUNIT=unit, MAGZERO=25.0, BAND="r")
    with pytest.raises(CutoutError, match=rf"in {re.escape(repr(unit))}, which are no flux"):
        read_cutout(path)
    with pytest.raises(CutoutError, match="which are no flux"):
        read_planes(str(path), zero_point=25.0)


@pytest.mark.parametrize(
    "cards",
    [
        {"MAGZERO": (25.0, "Vega mag of 1 ADU")},
        {"MAGZERO": 25.0, "MAGSYS": "Vega"},
        {"MAGZPT": (25.0, "zero point [Vega]"), "EXPTIME": 10.0},
        {"MAGZP": 25.0, "PHOTSYS": "VEGAMAG"},
    ],
)
def test_zero_points_of_vega_are_refused(tmp_path, cards):
    with pytest.raises(CutoutError, match=r"its card (MAG\w+|PHOTSYS) says that the zero point is in the Vega system"):
        read_cutout(write(tmp_path / "a.fits", BUNIT="adu", **cards))
    ab = {keyword: value for keyword, value in cards.items() if keyword not in ("MAGSYS", "PHOTSYS")}
    ab = {keyword: value[0] if isinstance(value, tuple) else value for keyword, value in ab.items()}
    assert read_cutout(write(tmp_path / "a.fits", BUNIT="adu", **ab, **({"MAGSYS": "AB"}))).flux.any()
    assert read_planes(str(write(tmp_path / "a.fits", BUNIT="adu", BAND="r", **cards)), zero_point=25.0).flux.any()


@pytest.mark.parametrize(
    ("cards", "factor"),
    [
        ({"FLUXMAG0": 10 ** (0.4 * 27)}, 10 ** (0.4 * -4.5)),
        ({"HIERARCH FPA.ZP": 25.0, "EXPTIME": 100.0}, 10 ** (0.4 * (22.5 - 30))),
        ({"TELESCOP": "2.5m", "RUN": 752, "CAMCOL": 1, "SOFTBIAS": 1000, "FLUX20": 2000.0}, 10 / 2000),
        ({"BUNIT": "ELECTRONS/S", "PHOTFLAM": 7.07e-20, "PHOTPLAM": 8045.0}, 10 ** (0.4 * (22.5 - 25.9406))),
    ],
    ids=["Hyper Suprime-Cam", "Pan-STARRS", "SDSS up to DR7", "Hubble"],
)
def test_zero_points_of_observatories(tmp_path, cards, factor):
    cutout = read_cutout(write(tmp_path / "a.fits", **cards))
    assert np.ptp(cutout.flux) == pytest.approx(factor * np.ptp(IMAGE), rel=1e-3)


@pytest.mark.parametrize("softening", [1.0, 37.5])
def test_asinh_scaling_is_undone(tmp_path, softening):
    a = 2.5 / math.log(10)
    scaled = (a * np.arcsinh((IMAGE.astype(float) - 3.0) / (2 * softening))).astype(np.float32)
    cards = {"BSOFTEN": softening, "BOFFSET": 3.0, "MAGZERO": 25.0}
    linear = read_cutout(write(tmp_path / "linear_g.fits", MAGZERO=25.0)).flux
    path = write(tmp_path / "scaled_g.fits", scaled, **cards)
    np.testing.assert_allclose(read_cutout(path).flux, linear, atol=2e-4)
    planes = [read_planes(str(tmp_path / f"{name}_g.fits"), zero_point=25.0).flux for name in ("scaled", "linear")]
    np.testing.assert_allclose(*planes, atol=2e-4)
    with pytest.raises(CutoutError, match="Add MAGZERO"):
        read_cutout(write(tmp_path / "x.fits", scaled, BSOFTEN=softening, BOFFSET=3.0, SURVEY="SDSS"))


def extensions(path, names, **cards):
    """A file of an empty primary HDU and one image for each name."""
    hdus = fits.HDUList([fits.PrimaryHDU()])
    hdus[0].header.update(cards)
    for number, name in enumerate(names):
        hdus.append(fits.ImageHDU(IMAGE + 100 * number, wcs_cards(32, 0.1, 0.0), name))
    hdus.writeto(path, overwrite=True)
    return path


@pytest.mark.parametrize(
    ("names", "picture"),
    [
        (["SCI", "ERR", "CON", "WHT", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT"], 0),  # JWST i2d
        (["SCI", "WHT", "CTX"], 0),  # HST drz
        (["SCI", "ERR", "DQ", "SAMP", "TIME"], 0),  # HST, WFC3/IR
        (["SCI", "MSK", "WGT"], 0),  # DES
        (["SCI", "MODEL", "RESID", "SEG"], 0),
        (["BACK", "SCIENCE", "BKGRMS", "SNR"], 1),
        (["MASK", "IMAGE", "VARIANCE"], 1),  # HSC and Rubin calexp
        (["RMS", "FLG", "SCI"], 2),  # Euclid
        (["ERR", "SKY_SUB"], 1),
        (["ERR", "SCI_BKSUB"], 1),
        (["BKG_SUBTRACTED", "BACKGROUND"], 0),
        (["DQ", "SCI_NOSKY_SUB", "SKY"], 1),
    ],
)
def test_the_picture_among_its_companions(tmp_path, names, picture):
    path = extensions(tmp_path / "x.fits", names, BUNIT="nanomaggy", FILTER="r", IMAGETYP="Science Exposure")
    np.testing.assert_array_equal(read_cutout(path).flux[0], IMAGE + 100 * picture)
    assert read_planes(str(path)).bands == ("r",)


def test_two_pictures_are_chosen_between_by_name_or_number(tmp_path):
    path = extensions(tmp_path / "x.fits", ["SCI_BKSUB", "SCI", "ERR"], BUNIT="nanomaggy", FILTER="r")
    with pytest.raises(CutoutError, match=r"several images.*HDU 1 \(SCI_BKSUB\).*HDU 2 \(SCI\)"):
        read_cutout(path)
    for hdu in (2, "sci", "2"):
        np.testing.assert_array_equal(read_cutout(path, hdu=hdu).flux[0], IMAGE + 100)
        np.testing.assert_array_equal(read_planes(str(path), hdu=hdu).flux[0], IMAGE + 100)
