"""Headers are read as astropy reads them, and damage is told from lies."""

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from galmorph.files.fits import card, image
from galmorph.retrieval.answers import check_grid, parse_cards, read_images
from galmorph.retrieval.client import FinalFailure, PassingFailure
from galmorph.retrieval.request import Request, tangent_cards

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
    first, second = read_images(b"".join(bytes(piece) for piece in pieces))
    assert (first.cards["A"], first.data.shape, second.cards["EXTNAME"], second.data.sum()) == (1, (2, 3), "X", 5)
    assert (first.span, second.span) == (slice(0, 5760), slice(5760, 11520))


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", PassingFailure),
        (b"<html>", FinalFailure),
        (b"SIMPLE  =                    T".ljust(2880), PassingFailure),
        (b"SIMPLE  =                    T".ljust(80) + b"BITPIX  = 7".ljust(80) + b"END".ljust(2720), PassingFailure),
        (b"SIMPLE  =".ljust(80) + b"NAXIS   = what".ljust(80) + b"END".ljust(2720), PassingFailure),
        (b"SIMPLE  = \xff", PassingFailure),
    ],
)
def test_what_is_not_fits(body, kind):
    with pytest.raises(kind):
        read_images(body)


def test_grid():
    request = Request("t", 10.0, 5.0, 40, 0.262)
    cards = parse_cards(tangent_cards(request)) | {"NAXIS1": 40, "NAXIS2": 40}
    check_grid(cards, 10.0, 5.0, 40, 0.262)
    check_grid({k: v for k, v in cards.items() if "CD" not in k} | {"CDELT1": -0.262 / 3600}, 10.0, 5.0, 40, 0.262)
    with pytest.raises(PassingFailure, match="lacks a WCS"):
        check_grid({"NAXIS1": 40, "NAXIS2": 40}, 10.0, 5.0, 40, 0.262)
    with pytest.raises(PassingFailure, match="another position"):
        check_grid(cards, 10.0, 5.000002, 40, 0.262)
    with pytest.raises(FinalFailure, match="40 x 40 px instead of 41"):
        check_grid(cards, 10.0, 5.0, 41, 0.262)
