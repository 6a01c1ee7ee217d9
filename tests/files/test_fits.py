"""FITS as bytes: astropy reads the same back and finds the checksums right."""

import io
import string

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from galmorph.files.fits import DamagedFits, card, image, parse_cards, read_hdus

PRINTABLE = st.text(string.ascii_letters + string.digits + " '&/=:?%", max_size=250).map(str.rstrip)


def opened(*pieces):
    hdus = fits.open(io.BytesIO(b"".join(bytes(piece) for piece in pieces)))
    hdus.verify("exception")
    return hdus


@settings(deadline=None)
@given(PRINTABLE, PRINTABLE, st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**31), 2**31))
def test_cards_are_read_back(text, comment, number, integer):
    cards = card("URL", text, comment) + card("X", number, comment) + card("N", integer) + card("T", True, "yes")
    assert len(cards) % 80 == 0
    header = opened(*image(cards, np.zeros(1, np.uint8)))[0].header
    assert (header["URL"], header["X"], header["N"], header["T"]) == (text, number, integer, True)


@settings(deadline=None)
@given(
    st.sampled_from(["f4", "f8", "u1", "i2", "i4", "i8", ">f4", ">i2"]),
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.integers(0, 2**32 - 1),
)
def test_pixels_and_checksums(kind, shape, seed):
    data = (np.random.default_rng(seed).standard_normal(shape) * 100).astype(kind)
    pieces = image(card("OBJECT", str(seed)), data, when="2026-11-21")
    assert sum(map(len, pieces)) % 2880 == 0
    hdu = opened(*pieces)[0]
    assert hdu.verify_checksum() == hdu.verify_datasum() == 1
    np.testing.assert_array_equal(hdu.data, data)


def test_a_changed_pixel_is_noticed():
    header, pixels, filling = image("", np.arange(100, dtype=np.float32))
    damaged = bytearray(pixels)
    damaged[11] ^= 1
    hdu = opened(header, damaged, filling)[0]
    assert (hdu.verify_datasum(), hdu.verify_checksum()) == (0, 0)


def test_extension():
    primary = image(card("A", 1), np.zeros((2, 3, 4), np.float32))
    mask = image("", np.ones((3, 4), np.int16), extension="MASKBITS")
    hdus = opened(*primary, *mask)
    assert hdus["MASKBITS"].data.sum() == 12
    assert all(hdu.verify_checksum() == hdu.verify_datasum() == 1 for hdu in hdus)


def test_big_endian_pixels_are_not_copied():
    data = np.arange(10, dtype=">f4")
    assert np.shares_memory(np.frombuffer(image("", data)[1], np.uint8), data)


@pytest.mark.parametrize("value", [1e-7, -7.277777777777778e-05, 360.0, 1e300, 0.1])
def test_no_digit_of_a_number_is_lost(value):
    assert fits.Card.fromstring(card("CD1_1", value)).value == value


# astropy misreads a quote before a slash.
TEXT = st.text("ab &'=", max_size=200).map(str.rstrip)


# Of a text with many quotes: astropy drops the comment, which is not what is tested.
@pytest.mark.filterwarnings("ignore:Card is too long:astropy.io.fits.verify.VerifyWarning")
@settings(deadline=None)
@given(TEXT, st.floats(allow_nan=False, allow_infinity=False), st.integers(-(10**9), 10**9), st.booleans())
def test_cards_are_those_of_astropy(text, number, integer, logical):
    header = fits.Header()
    header["TEXT"], header["X"], header["N"], header["L"] = (text, "a / b"), (number, "c"), integer, logical
    header["EMPTY"] = None
    header["COMMENT"] = "a = 'b'"
    header = fits.Header.fromstring(header.tostring())
    cards = parse_cards(header.tostring())
    for key in ("TEXT", "X", "N", "L"):
        assert cards[key] == header[key]
        assert type(cards[key]) is type(header[key])
    assert cards["EMPTY"] is None
    assert "COMMENT" not in cards


@pytest.mark.real_data
def test_real_headers(shared):
    paths = sorted((shared / "fits").glob("ls-*/*.fits"))
    assert len(paths) > 5
    for path in paths:
        header = fits.Header.fromstring(path.read_bytes()[:2880].decode())
        cards = parse_cards(header.tostring())
        assert cards == {key: header[key] for key in cards}


def test_several_hdus():
    pieces = (*image(card("A", 1), np.ones((2, 3), np.float32)), *image("", np.ones(5, np.int16), extension="X"))
    first, second = read_hdus(b"".join(bytes(piece) for piece in pieces))
    assert (first.cards["A"], first.data.shape, second.cards["EXTNAME"], second.data.sum()) == (1, (2, 3), "X", 5)
    assert (first.span, second.span) == (slice(0, 5760), slice(5760, 11520))


@pytest.mark.parametrize(
    "content",
    [
        b"SIMPLE  =                    T".ljust(2880),
        b"SIMPLE  =".ljust(80) + b"NAXIS   = what".ljust(80) + b"END".ljust(2720),
        b"".join(bytes(part) for part in image("", np.ones(9, "f4")))[:-1],
        b"".join(bytes(part) for part in image("", np.ones(9, "f4"))) + b"more",
    ],
)
def test_damage_is_noticed(content):
    with pytest.raises(DamagedFits):
        read_hdus(content)
