"""Answers of services: not FITS, damaged, of another position or scale."""

import pytest

from galmorph.files.fits import parse_cards
from galmorph.retrieval.answers import check_grid, read_images
from galmorph.retrieval.client import FinalFailure, PassingFailure
from galmorph.retrieval.request import Request


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
    cards = parse_cards(request.wcs_cards) | {"NAXIS1": 40, "NAXIS2": 40}
    check_grid(cards, 10.0, 5.0, 40, 0.262)
    check_grid({k: v for k, v in cards.items() if "CD" not in k} | {"CDELT1": -0.262 / 3600}, 10.0, 5.0, 40, 0.262)
    with pytest.raises(PassingFailure, match="lacks a WCS"):
        check_grid({"NAXIS1": 40, "NAXIS2": 40}, 10.0, 5.0, 40, 0.262)
    with pytest.raises(PassingFailure, match="another position"):
        check_grid(cards, 10.0, 5.000002, 40, 0.262)
    with pytest.raises(FinalFailure, match="40 x 40 px instead of 41"):
        check_grid(cards, 10.0, 5.0, 41, 0.262)
