"""Cutouts: read from every layout that occurs, refused with the reason, written in one form."""

import bz2
import gzip
import io
import lzma
import math
import shutil
import subprocess
import threading
import tracemalloc
import warnings
from unittest import mock

import numpy as np
import pytest
from astropy.io import fits
from galaxies import NATIVE, wcs_cards
from hypothesis import given, settings
from hypothesis import strategies as st

import galmorph.images.cutout
from galmorph.errors import CannotContinue, CutoutError, OutputError
from galmorph.images import fits_file as imagefile
from galmorph.images import headers
from galmorph.images.cutout import Cutout, cutout_files, read_cutout, write_cutout
from galmorph.images.sizes import MAX_SIDE_PX

RNG = np.random.default_rng(5)
IMAGE = RNG.normal(size=(32, 40)).astype(np.float32)
CUBE = RNG.normal(size=(3, 32, 40)).astype(np.float32)


def header(angle=0.0, pixscale=NATIVE, **cards):
    """A WCS and further cards."""
    made = wcs_cards(32, pixscale, angle)
    made.update(cards)
    return made


def service_header(**cards):
    """The cards of a Legacy Surveys cutout."""
    own = {"SURVEY": "LegacySurvey", "VERSION": "DR9", "IMAGETYP": "IMAGE", "BANDS": "grz"}
    own |= {"BAND0": "g", "BAND1": "r", "BAND2": "z"}
    return header(**{**own, **cards})


@pytest.fixture
def write(tmp_path):
    """Write HDUs (or an image and a header) to a file and return its path."""

    def write(first, cards=None, name="x.fits", **options):
        hdus = fits.PrimaryHDU(first, cards) if isinstance(first, np.ndarray) else first
        hdus.writeto(tmp_path / name, **options)
        return tmp_path / name

    return write


def same(one, other):
    """Whether two cutouts are equal, NaN to NaN."""
    assert (one.target_id, one.survey, one.bands) == (other.target_id, other.survey, other.bands)
    assert (one.flux_pixscale, one.pixscale) == (other.flux_pixscale, other.pixscale)
    assert np.array_equal(one.radius_arcsec, other.radius_arcsec, equal_nan=True)
    assert one.flux.dtype == other.flux.dtype == np.float32
    assert one.flux.dtype.isnative
    assert one.flux.flags.c_contiguous
    assert one.flux.flags.writeable
    np.testing.assert_array_equal(one.flux.view(np.uint32), other.flux.view(np.uint32))
    assert (one.mask is None) == (other.mask is None)
    if one.mask is not None:
        np.testing.assert_array_equal(one.mask, other.mask)
    return True


# ---- layouts


def test_service_cube(write):
    cutout = read_cutout(write(CUBE, service_header()))
    assert (cutout.survey, cutout.bands, cutout.flux_pixscale) == ("decals", ("g", "r", "z"), 0.262)
    assert cutout.pixscale == pytest.approx(0.262)
    assert cutout.target_id == "x"
    assert math.isnan(cutout.radius_arcsec)
    assert cutout.mask is None
    assert cutout.header["VERSION"] == "DR9"
    np.testing.assert_array_equal(cutout.plane("r"), CUBE[1])
    assert cutout.wcs.pixel_to_world_values(15.5, 15.5) == pytest.approx((150.0, 2.0))


def test_service_image_of_one_band(write):
    cards = service_header(BANDS="r", BAND0="r")
    del cards["BAND1"], cards["BAND2"]
    assert read_cutout(write(IMAGE, cards)).bands == ("r",)


def test_bands_come_in_the_order_of_the_planes(write):
    cards = service_header()
    cards["BANDS"], cards["BAND0"], cards["BAND2"] = "zrg", "z", "g"
    assert read_cutout(write(CUBE, cards)).bands == ("z", "r", "g")


def test_service_maskbits(write):
    bits = np.zeros((32, 40), np.int32)
    bits[3, 4], bits[5, 6], bits[7, 8], bits[9, 10] = 1 << 1, 1 << 3, 1 << 12, 1 << 15
    hdus = fits.HDUList([fits.PrimaryHDU(CUBE, service_header())])
    hdus.append(fits.ImageHDU(CUBE * 0 + 1, service_header(IMAGETYP="INVVAR")))
    hdus.append(fits.ImageHDU(bits, header(IMAGETYP="MASKBITS")))
    cutout = read_cutout(write(hdus))
    np.testing.assert_array_equal(cutout.flux, CUBE)
    assert np.argwhere(cutout.mask).tolist() == [[5, 6], [9, 10]]  # SATUR_R, ALLMASK_I; not BRIGHT, not GALAXY


def test_extensions_one_a_band(write):
    hdus = fits.HDUList([fits.PrimaryHDU(header=fits.Header({"SURVEY": "DECaLS"}))])
    for band, plane in zip("zgr", CUBE, strict=True):
        hdus.append(fits.ImageHDU(plane, header(BAND=band)))
        hdus.append(fits.ImageHDU(plane, header(BAND=band, IMAGETYP="invvar")))
    cutout = read_cutout(write(hdus))
    assert (cutout.bands, cutout.survey) == (("z", "g", "r"), "decals")
    np.testing.assert_array_equal(cutout.flux, CUBE)


@pytest.mark.parametrize(
    "cards", [{"EXTNAME": "R"}, {"FILTER": "r DECam SDSS c0002 6415.0 1480.0"}, {"FILTER": "bokr"}]
)
def test_where_an_extension_names_its_band(write, cards):
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(IMAGE, header(BUNIT="nanomaggy", **cards))])
    assert read_cutout(write(hdus)).bands == ("r",)


@pytest.mark.parametrize(
    ("text", "band"),
    [
        *(("F105W", "F105W"), ("R", "R"), ("z", "z"), ("DES-i", "i"), ("g.MP9402", "g"), ("g or r", "g or r")),
        *(("HSC-R", "r"), ("HSC-I2", "i"), ("SLOAN-G", "g"), ("SDSSr", "r"), ("OCAM_r_SDSS", "r")),
    ],
)
def test_band_names(write, text, band):
    assert read_cutout(write(IMAGE, header(FILTER=text, BUNIT="nanomaggy"))).bands == (band,)


def test_the_band_of_an_image_that_does_not_say(write):
    assert read_cutout(write(IMAGE, header(BUNIT="nanomaggy"), "ngc1_r.fits")).bands == ("r",)
    assert read_cutout(write(IMAGE, header(BUNIT="nanomaggy"), "ngc1.fits")).bands == ("",)


def test_one_file_a_band(write, tmp_path):
    for band, plane in zip("grz", CUBE, strict=True):
        write(plane, header(FILTER="g", RADIUS=4.5, SURVEY="SDSS"), f"ngc-1-{band}.fits")
    cutout = read_cutout(tmp_path / "ngc-1-{band}.fits")
    assert (cutout.target_id, cutout.bands, cutout.survey) == ("ngc-1", ("g", "r", "z"), "sdss")
    assert cutout.radius_arcsec == 4.5
    np.testing.assert_array_equal(cutout.flux, CUBE)


def test_one_file_a_band_on_different_grids(write, tmp_path):
    write(IMAGE, header(BUNIT="nanomaggy"), "a_g.fits")
    moved = header(BUNIT="nanomaggy")
    moved["CRPIX1"] += 0.3
    write(IMAGE, moved, "a_r.fits")
    assert read_cutout(tmp_path / "a_{band}.fits").bands == ("g", "r")
    moved["CRPIX1"] += 0.3
    write(IMAGE, moved, "a_r.fits", overwrite=True)
    with pytest.raises(CutoutError, match=r"a_r\.fits: is on another grid"):
        read_cutout(tmp_path / "a_{band}.fits")
    write(IMAGE[:20], header(BUNIT="nanomaggy"), "a_r.fits", overwrite=True)
    with pytest.raises(CutoutError, match=r"a_r\.fits: is on another grid"):
        read_cutout(tmp_path / "a_{band}.fits")
    write(IMAGE, header(SURVEY="SDSS"), "a_r.fits", overwrite=True)
    with pytest.raises(CutoutError, match=r"a_r\.fits: is of another survey"):
        read_cutout(tmp_path / "a_{band}.fits")
    write(CUBE, service_header(), "a_r.fits", overwrite=True)
    with pytest.raises(CutoutError, match=r"a_r\.fits: holds 3 bands"):
        read_cutout(tmp_path / "a_{band}.fits")


def test_the_brick_that_holds_the_field(write):
    def brick(name, image, shift):
        cards = header(BAND="r", BRICK=name, SURVEY="DECaLS", IMAGETYP="image")
        cards["CRPIX1"] += shift
        return fits.ImageHDU(image, cards)

    whole, part = brick("0001p000", IMAGE, 0), brick("0003p000", IMAGE[:, 25:], -25)
    cutout = read_cutout(write(fits.HDUList([fits.PrimaryHDU(), part, whole])))
    np.testing.assert_array_equal(cutout.flux[0], IMAGE)
    beyond = brick("0003p000", IMAGE[:, 5:], -15)
    with pytest.raises(CutoutError, match=r"edge of the bricks 0001p000 and 0003p000.*without subimage"):
        read_cutout(write(fits.HDUList([fits.PrimaryHDU(), beyond, whole]), name="y.fits"))


def test_hdu_chooses(write):
    hdus = fits.HDUList([fits.PrimaryHDU(), *(fits.ImageHDU(CUBE[i], header(BUNIT="nmgy", BAND="r")) for i in (0, 1))])
    hdus[2].name = "second"
    path = write(hdus)
    with pytest.raises(CutoutError, match=r"HDU 1 band 'r', HDU 2 \(SECOND\) band 'r'.*--image-hdu"):
        read_cutout(path)
    for hdu in (2, "second", "SECOND"):
        np.testing.assert_array_equal(read_cutout(path, hdu=hdu).flux[0], CUBE[1])
    with pytest.raises(CutoutError, match=r"no image in HDU 5. Images: HDU 1, HDU 2 \(SECOND\)"):
        read_cutout(path, hdu=5)


# ---- numbers


@pytest.mark.parametrize("dtype", [">i2", ">i4", ">f4", ">f8", "u1", ">u2"])
def test_number_types(write, dtype):
    image = (100 * IMAGE**2).astype(dtype)
    np.testing.assert_array_equal(
        read_cutout(write(image, header(BUNIT="nanomaggy"))).flux[0], image.astype(np.float32)
    )


def test_scaled_and_blank(write):
    hdu = fits.PrimaryHDU(IMAGE.astype(np.float64), header(BUNIT="nanomaggy"))
    hdu.scale("int16", bscale=0.001, bzero=5)
    hdu.header["BLANK"] = -32768
    hdu.data[3, 4] = -32768
    flux = read_cutout(write(hdu)).flux[0]
    assert np.isnan(flux[3, 4])
    flux[3, 4] = IMAGE[3, 4]
    np.testing.assert_allclose(flux, IMAGE, atol=6e-4)


@pytest.mark.parametrize("compression", ["RICE_1", "GZIP_1", "HCOMPRESS_1"])
def test_tile_compressed(write, compression):
    image = np.round(1000 * IMAGE).astype(np.int32)
    hdus = fits.HDUList(
        [fits.PrimaryHDU(), fits.CompImageHDU(image, header(BAND="r", SURVEY="DECaLS"), "x", compression)]
    )
    cutout = read_cutout(write(hdus, name="x.fits.fz"))
    np.testing.assert_array_equal(cutout.flux[0], image)
    assert (cutout.bands, cutout.target_id, cutout.wcs is None) == (("r",), "x", False)


@pytest.mark.parametrize(("module", "suffix"), [(gzip, "gz"), (bz2, "bz2"), (lzma, "xz")])
def test_compressed(write, tmp_path, module, suffix):
    plain = write(CUBE, service_header())
    path = tmp_path / f"x.fits.{suffix}"
    path.write_bytes(module.compress(plain.read_bytes()))
    assert same(read_cutout(path), read_cutout(plain))


@pytest.mark.parametrize(
    ("unit", "cards", "factor"),
    [
        ("nanomaggy", {}, 1),
        ("Nanomaggies", {}, 1),
        ("maggy", {}, 1e9),
        ("uJy", {}, 1 / 3.631),
        ("Jy", {}, 1e6 / 3.631),
        ("nanomaggy", {"MAGZERO": 30.0}, 1),
    ],
)
def test_flux_units(write, unit, cards, factor):
    flux = read_cutout(write(IMAGE, header(BUNIT=unit, **cards))).flux[0]
    np.testing.assert_allclose(flux, IMAGE * factor, rtol=1e-6)


@pytest.mark.parametrize(
    ("cards", "factor"),
    [
        ({"BUNIT": "adu", "MAGZERO": 25.0}, 0.1),
        ({"BUNIT": "counts/s", "MAGZERO": 25.0}, 0.1),
        ({"MAGZP": 20.0}, 10),
        ({"BUNIT": "electron / s", "MAGZPT": 25.0}, 0.1),
        ({"BUNIT": "ADU", "MAGZPT": 20.0, "EXPTIME": 100.0}, 0.1),
    ],
)
def test_counts_with_a_zero_point_lose_their_sky(write, cards, factor):
    galaxy = np.zeros((32, 40), np.float32)
    galaxy[10:20, 15:25] = 50
    flux = read_cutout(write(galaxy + 3000, header(**cards))).flux[0]
    np.testing.assert_allclose(flux, galaxy * factor, atol=1e-3)


@pytest.mark.parametrize(
    "cards",
    [
        {"BUNIT": "adu"},
        {"BUNIT": "Jy/beam"},
        {"BUNIT": "adu", "MAGZERO": 0.0},
        {"BUNIT": "adu", "MAGZERO": "none"},
        {"BUNIT": "adu", "MAGZPT": 25.0},  # per second, and the exposure is not known
        {"MAGZPT": 25.0, "EXPTIME": 10.0},  # counts or counts per second?
        {"FILTER": "r"},
        {"SURVEY": "SERC-ER"},
    ],
)
def test_unknown_units_are_refused(write, cards):
    with pytest.raises(CutoutError, match=r"x\.fits: .*Add MAGZERO.* or BUNIT='nanomaggy'"):
        read_cutout(write(IMAGE, header(**cards)))


@pytest.mark.parametrize(
    ("cards", "survey", "native"),
    [
        ({"SURVEY": "DECaLS"}, "decals", 0.262),
        ({"SURVEY": "BASS+MzLS"}, "decals", 0.262),
        ({"SURVEY": "DECaLS+BASS+MzLS"}, "decals", 0.262),
        ({"SURVEY": "DESI Legacy Imaging Surveys DR10"}, "decals", 0.262),
        ({"SURVEY": "SDSS"}, "sdss", 0.396),
        ({"SURVEY": "Legacy of Herschel", "BUNIT": "nanomaggy"}, "", 0.5),
        ({"SURVEY": "imaging", "BUNIT": "nanomaggy"}, "", 0.5),
        ({"RUN": 1000, "CAMCOL": 1, "NMGY": 0.005}, "sdss", 0.396),
        ({"RUN": 1000, "CAMCOL": 1, "ORIGIN": "SDSS"}, "sdss", 0.396),
        ({"RUN": 1000, "CAMCOL": 1, "TELESCOP": "2.5m"}, "sdss", 0.396),
        ({"SURVEY": "UKIDSS", "BUNIT": "nanomaggy"}, "", 0.5),
        ({"RUN": 1000, "BUNIT": "nanomaggy"}, "", 0.5),
        ({"SURVEY": "DECaLS", "PIXNATIV": 0.3}, "DECaLS", 0.3),
    ],
)
def test_survey_and_native_pixel(write, cards, survey, native):
    cutout = read_cutout(write(IMAGE, header(pixscale=0.5, **cards)))
    assert (cutout.survey, cutout.flux_pixscale) == (survey, pytest.approx(native))
    assert cutout.pixscale == pytest.approx(0.5)


@pytest.mark.parametrize("angle", [0, 33, 90, 181])
def test_pixel_scale_of_a_turned_image(write, angle):
    cutout = read_cutout(write(IMAGE, header(angle, 0.3, BUNIT="nanomaggy")))
    assert cutout.pixscale == pytest.approx(0.3)
    assert cutout.wcs.proj_plane_pixel_scales()[0].to_value("arcsec") == pytest.approx(0.3)


@pytest.mark.parametrize(
    "cards",
    [
        {"CDELT1": -0.3 / 3600, "CDELT2": 0.3 / 3600, "CROTA2": 30.0},
        {"PC1_1": -0.3 / 3600, "PC2_2": 0.3 / 3600},
        {"PC1_1": 0.6, "PC1_2": -0.8, "PC2_1": 0.8, "PC2_2": 0.6, "CDELT1": -0.3 / 3600, "CDELT2": 0.3 / 3600},
        {"CDELT1": -0.3, "CDELT2": 0.3, "CUNIT1": "arcsec", "CUNIT2": "arcsec"},
    ],
)
def test_other_forms_of_the_pixel_scale(write, cards):
    made = header(BUNIT="nanomaggy", **cards)
    for keyword in ("CD1_1", "CD1_2", "CD2_1", "CD2_2"):
        del made[keyword]
    assert read_cutout(write(IMAGE, made)).pixscale == pytest.approx(0.3)


def test_pixel_scale_without_a_wcs(write):
    cutout = read_cutout(write(CUBE, fits.Header({"BANDS": "grz", "PIXSCALE": 0.3})))
    assert (cutout.pixscale, cutout.flux_pixscale, cutout.wcs) == (0.3, 0.3, None)
    assert cutout.wcs_problem == ""


@pytest.mark.parametrize(
    ("cards", "scale"),
    [
        ({"SECPIX": 0.3}, 0.3),
        ({"SECPIX1": -0.3, "SECPIX2": 0.3}, 0.3),
        ({"PIXSCAL1": 0.3, "PIXSCAL2": 0.301}, 0.3005),
        ({"PIXSCAL1": (0.3, "[arcsec/pixel] axis 1"), "PIXSCAL2": 0.3, "SECPIX": 0.3}, 0.3),
        ({"PLTSCALE": (0.3, "plate scale, arcsec/pixel")}, 0.3),
        ({"SCALE": (0.3, "Image scale (arcsec per pix)")}, 0.3),
        ({"SCALE": (2.0, "of the display"), "SECPIX": 0.3}, 0.3),
        ({"PIXSCALE": "0.3 arcsec/pixel"}, 0.3),
        ({"PIXSCALE": 0.3, "SECPIX": 0.4}, 0.3),
    ],
)
def test_other_cards_of_the_pixel_scale(write, cards, scale, caplog):
    headers._say.cache_clear()
    caplog.set_level("INFO")
    made = fits.Header({"BANDS": "grz"})
    made.update(cards)
    assert read_cutout(write(CUBE, made)).pixscale == pytest.approx(scale, rel=1e-5)
    assert ("without celestial coordinates" in caplog.text) == ("PIXSCALE" not in cards)


@pytest.mark.parametrize(
    ("cards", "why"),
    [
        ({"PLTSCALE": 67.2}, "Add a card PIXSCALE"),
        ({"PLTSCALE": (6.72, "Plate scale arcsec per mm")}, "Add a card PIXSCALE"),
        ({"SCALE": 0.3}, "Add a card PIXSCALE"),
        ({"SECPIX": (0.005, "[arcmin]")}, "Add a card PIXSCALE"),
        ({"PIXSCALE": (15.0, "[micron] size of the pixels")}, "Add a card PIXSCALE"),
        ({"PIXSCALE": "unknown"}, "Add a card PIXSCALE"),
        ({"SECPIX1": 0.3, "SECPIX2": 0.4}, r"not square \(SECPIX1, SECPIX2\)"),
        ({"SECPIX": 0.3, "PIXSCAL1": 0.6, "PIXSCAL2": 0.6}, r"several pixel scales \(SECPIX=0.3, PIXSCAL1=0.6\)"),
    ],
)
def test_cards_that_may_be_another_scale(write, cards, why):
    made = fits.Header({"BANDS": "grz"})
    made.update(cards)
    refused(write, CUBE, made, why)


def test_a_wcs_comes_before_cards_of_the_pixel_scale(write):
    made = service_header(SECPIX=5.0)
    assert read_cutout(write(CUBE, made)).pixscale == pytest.approx(0.262)


@pytest.mark.parametrize(
    ("unit", "known"),
    [("", True), ("arcsec", True), ("R90 [arcsec]", True), ("deg", False), ("[pix]", False), ("kpc", False)],
)
def test_a_radius_in_another_unit_is_not_read(write, unit, known):
    made = service_header()
    made["RADIUS"] = (4.5, unit)
    assert read_cutout(write(CUBE, made)).radius_arcsec == pytest.approx(4.5 if known else np.nan, nan_ok=True)


def test_radius(write):
    assert read_cutout(write(CUBE, service_header(RADIUS=5.5), "a.fits")).radius_arcsec == 5.5
    assert read_cutout(write(CUBE, service_header(PETROR90=6), "b.fits")).radius_arcsec == 6
    assert math.isnan(read_cutout(write(CUBE, service_header(RADIUS=-1.0), "c.fits")).radius_arcsec)


# ---- refusals


def sized(naxis, bitpix=-32, extra=""):
    """A header that promises an image of any size, and nothing after it."""
    cards = [f"SIMPLE  = {'T':>20}", f"BITPIX  = {bitpix:>20}", f"NAXIS   = {len(naxis):>20}"]
    cards += [f"NAXIS{i}  = {n:>20}" for i, n in enumerate(naxis, start=1)]
    return "".join(f"{card:80}" for card in [*cards, *extra, "END"]).ljust(2880).encode()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html><body>no such layer</body></html>", "is an HTML page.*Fetch it again"),
        (b"\n  <html>", "is an HTML page"),
        (b'{"title": "no such HiPS"}', "is a JSON text"),
        (b"no such layer", "is not a FITS file"),
        (b"\xff\xd8\xff\xe0", "is a JPEG picture"),
        (b"\x89PNG\r\n", "is a PNG picture"),
        (b"PK\x03\x04", "is a zip archive"),
        (b"\x1f\x8b\x08\x00", "its gzip compression is damaged"),
        (b"BZh9garbage", "its bz2 compression is damaged"),
        (gzip.compress(b"<html>", mtime=0), "is an HTML page"),
        (gzip.compress(sized([40, 32]), mtime=0)[:-30], "its gzip compression is damaged"),
        (sized([40, 32]), "is truncated or damaged: it has 2880 bytes and its header promises 8640"),
        (sized([30000, 30000]), "is truncated"),
        (sized([1 << 40, 1 << 40]), "is truncated|cannot be read"),
        (sized([]), "holds no image: every HDU is empty"),
        (sized([0, 40]), "holds no image"),
        (b"SIMPLE  =                    T", "is damaged|cannot be read"),
        (sized([-5, 40]), "damaged|no image|truncated|picture|cannot be read"),
        (sized([2]) + bytes(2880), r"shape \(2,\)"),
        (sized([40, 1]) + bytes(2880), r"shape \(1, 40\)"),
    ],
)
def test_what_is_not_a_cutout(tmp_path, content, why):
    path = tmp_path / "x.fits"
    path.write_bytes(content)
    with pytest.raises(CutoutError, match=why) as error:
        read_cutout(path)
    assert str(error.value).startswith(f"{path}: ")


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(CutoutError, match="there is no such file"):
        read_cutout(tmp_path / "x.fits")
    with pytest.raises(CutoutError, match="no such file for any of the bands u, g, r, i, z, y"):
        read_cutout(tmp_path / "x-{band}.fits")
    with pytest.raises(CutoutError, match="is a folder"):
        read_cutout(tmp_path)


@pytest.mark.parametrize("lost", [1, 70, 2000, 2880, 10000])
def test_truncated(write, lost):
    path = write(CUBE, service_header())
    content = path.read_bytes()
    path.write_bytes(content[:-lost])
    with pytest.raises(CutoutError, match=f"is truncated or damaged: it has {len(content) - lost} bytes"):
        read_cutout(path)


def test_forgotten_padding_is_forgiven(write):
    path = write(CUBE, service_header())
    padded = read_cutout(path)
    content = path.read_bytes()
    start = len(content) // 2880 * 2880 - -(-CUBE.nbytes // 2880) * 2880
    path.write_bytes(content[: start + CUBE.nbytes])
    assert same(read_cutout(path), padded)


def test_decompression_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(imagefile, "MAX_FILE_BYTES", 1 << 20)
    bomb = tmp_path / "x.fits.gz"
    bomb.write_bytes(gzip.compress(sized([1000, 1000]) + bytes(1 << 24)))
    tracemalloc.start()
    with pytest.raises(CutoutError, match="holds more than 1 MiB, too much"):
        read_cutout(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 23  # the bomb holds twice that
    plain = tmp_path / "x.fits"
    plain.write_bytes(sized([40, 32]) + bytes(1 << 21))
    with pytest.raises(CutoutError, match="holds more than 1 MiB, too much"):
        read_cutout(plain)


def test_a_compressed_image_that_promises_too_much(write, monkeypatch):
    hdus = fits.HDUList(
        [fits.PrimaryHDU(), fits.CompImageHDU(np.zeros((1000, 1000), np.int16), header(BAND="r", BUNIT="nmgy"))]
    )
    path = write(hdus, name="x.fits.fz")
    assert path.stat().st_size < 1 << 20
    monkeypatch.setattr(imagefile, "MAX_FILE_BYTES", 1 << 20)
    with pytest.raises(CutoutError, match="takes 3 MiB, too much"):
        read_cutout(path)


def test_a_file_of_empty_hdus_is_not_read_to_its_end(tmp_path):
    extension = (
        "".join(
            f"{c:80}"
            for c in (
                "XTENSION= 'IMAGE   '",
                f"BITPIX  = {8:>20}",
                f"NAXIS   = {0:>20}",
                f"PCOUNT  = {0:>20}",
                f"GCOUNT  = {1:>20}",
                "END",
            )
        )
        .ljust(2880)
        .encode()
    )
    path = tmp_path / "x.fits"
    path.write_bytes(sized([]) + 5000 * extension)
    with pytest.raises(CutoutError, match="every HDU is empty"):
        read_cutout(path)


def refused(write, first, cards, why):
    path = write(first, cards, "refused.fits")
    with pytest.raises(CutoutError, match=why) as error:
        read_cutout(path)
    assert str(error.value).startswith(f"{path}: ")


def test_cubes_without_band_names(write):
    refused(write, np.zeros((5, 8, 8), np.float32), header(BUNIT="nmgy"), "cube of 5 planes.*does not name the bands")


@pytest.mark.parametrize("cards", [{"BANDS": "gr"}, {"BANDS": "grzi"}, {"BANDS": "grg"}, {"BAND0": "r"}])
def test_cubes_with_wrong_band_names(write, cards):
    made = service_header()
    made.update(cards)
    refused(write, CUBE, made, "do not name each of its 3 planes once")


@pytest.mark.parametrize("kind", ["FREQ", "WAVE", "AWAV-LOG", "VRAD", "STOKES"])
def test_spectral_cubes(write, kind):
    refused(write, CUBE, header(CTYPE3=kind, CRVAL3=1.0, CDELT3=1.0), "is a spectral cube")


def test_a_degenerate_third_axis_is_no_cube(write):
    cards = header(CTYPE3="FREQ", BAND="r", BUNIT="nmgy")
    np.testing.assert_array_equal(read_cutout(write(IMAGE[None], cards)).flux[0], IMAGE)


@pytest.mark.parametrize(
    ("cards", "kind"),
    [
        ({"IMAGETYP": "psf"}, "psf"),
        ({"EXTNAME": "PSF_R"}, "psf"),
        ({"IMAGETYP": "INVVAR"}, "invvar"),
        ({"PRODTYPE": "dqmask"}, "dqmask"),
    ],
)
def test_companions_are_no_pictures(write, cards, kind):
    refused(write, IMAGE, header(BAND="r", SURVEY="DECaLS", **cards), f"holds a {kind} image")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("g1.weight.fits", "weight"), ("g1_wht.fits", "wht"), ("g1-rms_r.fits.gz", "rms"), ("a_mask.fits", "mask")],
)
def test_companions_by_the_name_of_their_file(tmp_path, name, kind):
    cards = header(BAND="r", BUNIT="nmgy", PIXSCALE=0.3)
    fits.PrimaryHDU(IMAGE, cards).writeto(tmp_path / name)
    with pytest.raises(CutoutError, match=f"holds a {kind} image"):
        read_cutout(tmp_path / name)
    assert read_cutout(tmp_path / name, hdu=0).flux.shape == (1, *IMAGE.shape)
    cards["EXTNAME"] = "SCI"  # the header says otherwise
    fits.PrimaryHDU(IMAGE, cards).writeto(tmp_path / name, overwrite=True)
    assert read_cutout(tmp_path / name).flux.shape == (1, *IMAGE.shape)
    write_cutout(read_cutout(tmp_path / name), tmp_path / f"own_{name}")  # named by its identifier
    assert read_cutout(tmp_path / f"own_{name}").flux.shape == (1, *IMAGE.shape)


@pytest.mark.parametrize("name", ["weight.fits", "heavyweight.fits", "dqmask7.fits", "mask_1.fits"])
def test_names_that_only_look_like_those_of_companions(tmp_path, name):
    fits.PrimaryHDU(IMAGE, header(BAND="r", BUNIT="nmgy", PIXSCALE=0.3)).writeto(tmp_path / name)
    assert read_cutout(tmp_path / name).flux.shape == (1, *IMAGE.shape)


def test_tables_and_random_groups(write, tmp_path):
    table = fits.BinTableHDU.from_columns([fits.Column("ra", "D", array=[1.0])])
    refused(write, fits.HDUList([fits.PrimaryHDU(), table]), None, "holds a table.*given as a catalog")
    groups = fits.GroupsHDU(
        fits.GroupData(np.zeros((2, 1, 4, 4), np.float32), bitpix=-32, parnames=["u"], pardata=[np.zeros(2)])
    )
    groups.writeto(tmp_path / "groups.fits")
    with pytest.raises(CutoutError, match="holds random groups"):
        read_cutout(tmp_path / "groups.fits")


def test_survey_images(write):
    image = np.zeros((8, 1100), np.float32)
    path = write(image, header(BAND="r", SURVEY="DECaLS"))
    with pytest.raises(CutoutError, match=r"is 1100 px wide, a survey image and not a cutout.*--as field"):
        read_cutout(path)
    assert read_cutout(path, max_side_px=MAX_SIDE_PX).flux.shape == (1, 8, 1100)
    own = path.with_name("own.fits")
    write_cutout(read_cutout(path, max_side_px=MAX_SIDE_PX), own)
    assert read_cutout(own).flux.shape == (1, 8, 1100)  # what galmorph has written is a cutout
    refused(write, np.zeros((8, 3001), np.float32), header(PIXNATIV=0.262, BAND="r"), "is 3001 px wide")


@pytest.mark.parametrize(
    ("cards", "why"),
    [
        ({"CTYPE1": "LINEAR", "CTYPE2": "LINEAR"}, "has no celestial coordinates.*PIXSCALE"),
        ({"CD1_1": 0.0, "CD2_2": 0.0}, "says 0 arcsec per pixel"),
        ({"CD1_1": -1.0, "CD2_2": 1.0}, "says 3600 arcsec per pixel"),
        ({"CD1_1": -2e-4, "CD2_2": 1e-4}, "not square"),
        ({"CUNIT1": "furlong"}, r"in 'furlong' \(CUNIT1\), which is no unit of angle"),
        ({"CUNIT2": "furlong"}, r"in 'furlong' \(CUNIT2\), which is no unit of angle"),
    ],
)
def test_pixels_of_no_known_size(write, cards, why):
    made = service_header()
    made.update(cards)
    refused(write, CUBE, made, why)


@pytest.mark.parametrize("cards", [{"BANDS": "grz"}, {"BUNIT": "adu", "MAGZERO": 20.0}])
def test_all_nan_is_read(write, cards):
    assert np.isnan(read_cutout(write(CUBE * np.nan, service_header(**cards))).flux).all()


def test_flux_too_large_for_float32_is_infinite(write):
    assert np.isinf(read_cutout(write(IMAGE * 0 + 1e38, header(BUNIT="Jy"), "a.fits")).flux).all()
    assert np.isinf(read_cutout(write(IMAGE.astype(">f8") * 0 + 1e300, header(BUNIT="nmgy"), "b.fits")).flux).all()


@pytest.mark.parametrize(
    "cards",
    [
        {"CTYPE2": "RA---TAN"},
        {"CTYPE2": "GLAT-CAR"},
        {"CTYPE2": ""},
        {"CTYPE1": "RA---ZPX", "CTYPE2": "DEC--ZPX"},
        {"CTYPE1": "RA---DSS", "CTYPE2": "DEC--DSS"},
        {"RADESYS": "GAPPT"},
        {"EQUINOX": "today"},
    ],
)
def test_a_wcs_that_does_not_work_is_none(write, tmp_path, cards):
    write(IMAGE, header(BUNIT="nmgy", **cards), "x_g.fits")
    cutout = read_cutout(write(IMAGE, header(BUNIT="nmgy", **cards), "x_r.fits"))
    assert cutout.wcs is None
    (keyword, value), *_ = cards.items()
    assert cutout.wcs_problem.startswith("its celestial coordinates cannot be read (")
    assert f"{keyword} {value!r}" in cutout.wcs_problem
    assert read_cutout(tmp_path / "x_{band}.fits").bands == ("g", "r")


# ---- two ways of reading


def both_ways(path, **options):
    """Read by the lean way, which must be taken, and by astropy; return both."""
    assert imagefile.plain_image(path, MAX_SIDE_PX) is not None
    with mock.patch.object(galmorph.images.cutout, "plain_image", return_value=None):
        other = read_cutout(path, **options)
    return read_cutout(path, **options), other


@pytest.mark.parametrize(
    "cards",
    [
        {},
        {"OBJECT": "it's / a 'test'"},
        {"RADIUS": 1.5e1, "EXPTIME": 1, "BUNIT": "  nanomaggy "},
        {"COMMENT": "BITPIX  = 16", "URL": "https://example.org/" + "x" * 200},
        {"PIXNATIV": 0.262, "OBJECT": "12345678901234567890"},
        {"HISTORY": "END"},
    ],
)
def test_the_lean_way_reads_the_same(write, cards):
    made = service_header()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made.update(cards)
    lean, other = both_ways(write(CUBE, made))
    assert same(lean, other)
    assert lean.header_text == other.header_text
    assert lean.header == other.header


def test_the_lean_way_leaves_values_that_it_cannot_parse_to_astropy(write):
    path = write(CUBE, service_header(RADIUS=5.0))
    content = path.read_bytes()
    for value in (
        b"RADIUS  =              5.0D0  ",
        b"RADIUS  =                     ",
        b"RADIUS  = (1.0, 2.0)          ",
    ):
        path.write_bytes(content.replace(content[(i := content.index(b"RADIUS")) : i + 30], value))
        with mock.patch.object(galmorph.images.cutout, "plain_image", return_value=None):
            expected = read_cutout(path)
        assert same(read_cutout(path), expected)


@pytest.mark.parametrize(("old", "new"), [("VERSION", "BSCALE"), ("VERSION", "BZERO"), ("VERSION", "BLANK")])
def test_scaled_pixels_are_not_plain(write, old, new):
    path = write(CUBE, service_header(VERSION=2))
    content = path.read_bytes().replace(f"{old:8}=".encode(), f"{new:8}=".encode())
    path.write_bytes(content)
    assert imagefile.plain_image(path, MAX_SIDE_PX) is None
    factor, offset = (2 if new == "BSCALE" else 1), (2 if new == "BZERO" else 0)
    np.testing.assert_allclose(read_cutout(path).flux, CUBE * factor + offset, rtol=1e-6)


def test_a_long_value_is_not_plain(write):
    path = write(CUBE, service_header(OBJECT="x" * 100, PIXNATIV=0.262))
    assert imagefile.plain_image(path, MAX_SIDE_PX) is None
    assert read_cutout(path).target_id == "x" * 100


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_damaged_file_is_refused_or_read_never_more(tmp_path_factory, data):
    stream = io.BytesIO()
    hdus = fits.HDUList([fits.PrimaryHDU(CUBE[:, :8, :8], service_header())])
    if data.draw(st.booleans()):
        hdus = fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(IMAGE, header(BAND="r", SURVEY="DECaLS"))])
    hdus.writeto(stream)
    content = bytearray(stream.getvalue())
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.one_of(st.integers(0, 255), st.sampled_from(b"0123456789'TF =./")))
    path = tmp_path_factory.getbasetemp() / "damaged.fits"
    path.write_bytes(content)
    try:
        lean = read_cutout(path)
    except CutoutError:
        return
    assert lean.wcs is None or lean.wcs.has_celestial
    with mock.patch.object(galmorph.images.cutout, "plain_image", return_value=None):
        assert same(lean, read_cutout(path))


def test_no_warning_leaks_from_threads(write):
    made = header(BUNIT="nanomaggy", BAND="r")
    hdu = fits.PrimaryHDU(IMAGE.astype(np.float64), made)
    path = write(hdu)
    path.write_bytes(path.read_bytes().replace(b"BAND    = 'r       '", b"RADECSYS= 'FK5     '") + b"trailing")
    threads = [threading.Thread(target=lambda: [read_cutout(path).wcs for _ in range(10)]) for _ in range(3)]
    before = list(warnings.filters)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert caught == []
    assert list(warnings.filters) == before


# ---- writing


def made(**values):
    """A cutout of galmorph's own, with all that it can hold."""
    flux = CUBE.copy()
    flux[0, 0, :3] = np.nan, np.inf, -0.0
    mask = RNG.random((32, 40)) < 0.1
    cards = header(30, 0.1, VERSION="DR9", URL="https://example.org/cutout", RELEASE="DR9").tostring(endcard=False)
    given = {"target_id": "NGC 1", "survey": "decals", "bands": ("g", "r", "z"), "flux": flux, "flux_pixscale": 0.262}
    given |= {"pixscale": read_scale(cards), "mask": mask, "radius_arcsec": 12.3456789012345, "header_text": cards}
    return Cutout(**{**given, **values})


def read_scale(cards):
    """The pixel scale that galmorph finds in a header, to the last bit."""
    image = imagefile.StoredImage("", 0, dict(fits.Header.fromstring(cards)), {}, cards, (1, 1), lambda: IMAGE)
    return galmorph.images.cutout.pixel_scale(image)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"mask": None},
        {"radius_arcsec": math.nan},
        {"survey": ""},
        {"bands": ("r", "F105W", "z")},
        {"bands": ("", "r", "z")},
        {"target_id": ""},
        {"target_id": "1237651653835781245"},
        {"target_id": " 100% galaxie \u00e9t\u00e9 'x' & \u2606 "},
        {"target_id": "x" * 200},
        {"header_text": "", "pixscale": 0.3},
        {"flux": CUBE[:1], "bands": ("r",)},
        {"flux": CUBE[:1], "bands": ("F105W",)},
        {"flux": CUBE[:1], "bands": ("",)},
        {"flux_pixscale": 0.396127},
    ],
)
def test_round_trip(tmp_path, values):
    cutout = made(**values)
    write_cutout(cutout, tmp_path / "x.fits")
    again = read_cutout(tmp_path / "x.fits")
    assert same(again, cutout)
    if cutout.header_text:
        assert again.wcs.wcs == cutout.wcs.wcs
    write_cutout(again, tmp_path / "y.fits")
    assert same(read_cutout(tmp_path / "y.fits"), cutout)


@settings(max_examples=50, deadline=None)
@given(
    target_id=st.text(max_size=90),
    radius=st.floats(0.01, 3000),
    native=st.floats(0.01, 10),
    angle=st.floats(0, 360),
    pixscale=st.floats(0.03, 5),
    ra=st.floats(0, 360),
    dec=st.floats(-89, 89),
)
def test_round_trip_of_any_values(tmp_path_factory, target_id, radius, native, angle, pixscale, ra, dec):
    cards = wcs_cards(32, pixscale, angle, ra, dec).tostring(endcard=False)
    values = {"target_id": target_id, "radius_arcsec": radius, "flux_pixscale": native}
    cutout = made(**values, header_text=cards, pixscale=read_scale(cards))
    path = tmp_path_factory.getbasetemp() / "any.fits"
    write_cutout(cutout, path)
    again = read_cutout(path)
    assert same(again, cutout)
    assert again.wcs.wcs == cutout.wcs.wcs


def test_distortions_survive(tmp_path):
    cards = header(12)
    cards["CTYPE1"], cards["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
    cards.update({"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1.2345678901e-6, "B_1_1": -3e-7})
    cutout = made(header_text=cards.tostring(endcard=False))
    write_cutout(cutout, tmp_path / "x.fits")
    corner = (3.0, 30.0)
    assert read_cutout(tmp_path / "x.fits").wcs.all_pix2world(*corner, 0) == cutout.wcs.all_pix2world(*corner, 0)


def test_the_form_on_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    path = tmp_path / "x.fits"
    write_cutout(made(), path, cards=[("RELEASE", "DR10", "release"), ("NOTE", 1.5, "a note")])
    with fits.open(path, checksum=True) as hdus:
        cards = hdus[0].header
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "MASKBITS"]
        assert hdus[0].data.dtype == np.dtype(">f4")
        assert hdus[0].data.shape == (3, 32, 40)
        assert all(hdu.verify_checksum() == hdu.verify_datasum() == 1 for hdu in hdus)
    expected = {"SURVEY": "decals", "BANDS": "grz", "BAND0": "g", "BAND1": "r", "BAND2": "z", "BUNIT": "nanomaggy"}
    expected |= {
        "PIXNATIV": 0.262,
        "OBJECT": "NGC%201",
        "RADIUS": 12.3456789012345,
        "URL": "https://example.org/cutout",
    }
    expected |= {"RELEASE": "DR10", "NOTE": 1.5, "DATE": "2001-09-09T01:46:40", "CTYPE1": "RA---TAN"}
    assert {key: cards[key] for key in expected} == expected
    assert "VERSION" not in cards
    first = path.read_bytes()
    write_cutout(
        made(mask=read_cutout(path).mask), path, cards=[("RELEASE", "DR10", "release"), ("NOTE", 1.5, "a note")]
    )
    assert path.read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == ["x.fits"]


@pytest.mark.skipif(shutil.which("fitsverify") is None, reason="fitsverify is not installed")
@pytest.mark.parametrize("url", ["https://example.org/", "https://example.org/?" + "x" * 200])
@pytest.mark.parametrize("values", [{}, {"mask": None}, {"bands": ("r", "F105W", "z")}, {"header_text": ""}])
def test_fitsverify_has_nothing_to_say(tmp_path, url, values):
    path = tmp_path / "x.fits"
    write_cutout(made(**values), path, cards=[("URL", url, "where it came from")])
    answer = subprocess.run(["fitsverify", "-q", str(path)], capture_output=True, text=True, check=False)
    assert "verification OK" in answer.stdout


def test_what_is_written_is_read_the_lean_way(tmp_path):
    path = tmp_path / "x.fits"
    write_cutout(made(mask=None), path, cards=[("URL", "https://example.org/?" + "x" * 200, "where it came from")])
    assert same(*both_ways(path))


def test_the_cutout_is_left_as_it_was(tmp_path):
    cutout = made()
    before = cutout.flux.copy()
    write_cutout(cutout, tmp_path / "x.fits")
    np.testing.assert_array_equal(cutout.flux, before)
    assert cutout.flux.dtype.isnative


@pytest.mark.parametrize(("number", "error"), [(28, CannotContinue), (13, OutputError)])
def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch, number, error):
    path = tmp_path / "x.fits"
    path.write_bytes(b"old")
    monkeypatch.setattr("os.fsync", mock.Mock(side_effect=OSError(number, "no")))
    with pytest.raises(error, match=r"x\.fits cannot be written: no"):
        write_cutout(made(), path)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("x.fits", b"old")]


def test_the_mode_of_a_written_file_is_the_usual(tmp_path):
    write_cutout(made(), tmp_path / "x.fits")
    (tmp_path / "y").touch()
    assert (tmp_path / "x.fits").stat().st_mode == (tmp_path / "y").stat().st_mode


def test_a_cutout_must_have_a_plane_for_each_band():
    with pytest.raises(CutoutError, match="is not one plane for each"):
        made(bands=("g", "r"))


# ---- folders


def test_cutout_files(tmp_path):
    names = "b.fits a.fits.gz sub/c.fit sub/deep/d.FITS n1_g.fits n1_r.fits n1_z.fits m-i.fits.fz m-z.fits.fz"
    names += " l.g.fits l.r.fits alone_r.fits e_g.fits e_r.fits.gz"
    names += " .hidden.fits .git/x.fits x.fits.part notes.txt targets.csv manifest.sqlite"
    for name in names.split():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    expected = {"a": "a.fits.gz", "alone_r": "alone_r.fits", "b": "b.fits", "e_g": "e_g.fits", "e_r": "e_r.fits.gz"}
    expected |= {"l": "l.{band}.fits", "m": "m-{band}.fits.fz", "n1": "n1_{band}.fits"}
    expected |= {"sub/c": "sub/c.fit", "sub/deep/d": "sub/deep/d.FITS"}
    found = cutout_files(tmp_path)
    assert found == sorted(found)
    assert found == [(name, str(tmp_path / path)) for name, path in expected.items()]
    assert cutout_files(tmp_path / "sub" / "deep") == [("d", str(tmp_path / "sub/deep/d.FITS"))]


def test_cutout_files_of_no_folder(tmp_path):
    with pytest.raises(CutoutError, match="there is no such folder"):
        cutout_files(tmp_path / "x")
    assert cutout_files(tmp_path) == []
