"""FITS images as services send them: checked strictly, because a damaged one looks much like a good one."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.retrieval.client import FinalFailure, PassingFailure

BLOCK = 2880
_END = b"END".ljust(80)
_TYPES = {8: ">u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
# A thousand blocks of 36 cards; the headers of images have one or two.
_MOST_HEADER_BYTES = 1000 * BLOCK
# Degrees between the position asked for and that of the image.
_NEAR_DEG = 1e-6


# The value of a card from column 11 on: text in quotes, or anything up to a comment.
_VALUE = re.compile(r"\s*(?:'(?P<text>(?:[^']|'')*)'|(?P<plain>[^/]*))")


@dataclass(frozen=True)
class Image:
    """One image HDU.

    Parameters
    ----------
    cards : mapping
        Keywords and their values: bool, int, float or str.
    header_text : str
        The header, 80 characters a card.
    data : ndarray
        In the file's own type and byte order, not scaled; empty where there are no pixels.
    span : slice
        Where in the file the HDU is.
    """

    cards: Mapping[str, Any]
    header_text: str
    data: NDArray[np.generic]
    span: slice


def read_images(body: bytes) -> list[Image]:
    """Return all HDUs of a FITS file as images; of a table these are the bytes, of a compressed image its table.

    Raises
    ------
    FinalFailure
        If it is no FITS file.
    PassingFailure
        If it is empty, cut short, has something behind its end or cannot be understood: worth another attempt.
    """
    if not body:
        raise PassingFailure("the answer is empty.")
    if not body.startswith(b"SIMPLE  ="):
        raise FinalFailure("the answer is not FITS.")
    images, start = [], 0
    try:
        while start < len(body):
            first = start
            end = body.index(_END, first, first + _MOST_HEADER_BYTES) + 80
            text = body[first:end].decode("ascii")
            if not text.isprintable():
                raise PassingFailure("the answer is damaged FITS: control characters in its header.")
            cards = parse_cards(text)
            begin = first + -(-(end - first) // BLOCK) * BLOCK
            shape = tuple(_whole(cards, f"NAXIS{axis}") for axis in range(_whole(cards, "NAXIS", 999), 0, -1))
            kind = np.dtype(_TYPES[_whole(cards, "BITPIX", low=-64)])
            count = math.prod(shape) if shape else 0
            n_bytes = kind.itemsize * (count + _whole(cards, "PCOUNT", default=0))
            start = begin + -(-n_bytes // BLOCK) * BLOCK
            if start > len(body):
                raise PassingFailure(f"the answer is cut short: {len(body)} of {start} bytes.")
            data = np.frombuffer(body, kind, count, begin).reshape(shape or (0,))
            images.append(Image(cards, text, data, slice(first, start)))
    except (ValueError, KeyError, TypeError) as error:
        raise PassingFailure(f"the answer is damaged FITS: {error}.") from error
    return images


def _whole(
    cards: Mapping[str, Any], keyword: str, most: int = 1 << 40, *, low: int = 0, default: int | None = None
) -> int:
    """Return the value of a card that is an integer from `low` to `most`; raise ValueError or KeyError else."""
    value = cards[keyword] if default is None else cards.get(keyword, default)
    if type(value) is not int or not low <= value <= most:
        raise ValueError(f"{keyword} is {str(value)[:20]!r}")
    return value


def parse_cards(text: str) -> dict[str, Any]:
    """Return the values of a header's cards, long texts joined; twenty times as fast as a general library.

    Raises
    ------
    ValueError
        If a value is neither text, number nor logical.
    """
    cards: dict[str, Any] = {}
    keyword = ""
    for start in range(0, len(text), 80):
        if text[start + 8 : start + 10] == "= ":
            keyword = text[start : start + 8].rstrip()
            cards[keyword] = _value(text[start + 10 : start + 80])
        elif text.startswith("CONTINUE", start) and str(cards.get(keyword, "")).endswith("&"):
            cards[keyword] = cards[keyword][:-1] + _value(text[start + 10 : start + 80])
    return cards


def _value(text: str) -> Any:
    match = _VALUE.match(text)
    if match and match["text"] is not None:
        return match["text"].replace("''", "'").rstrip()
    plain = match["plain"].strip() if match else ""
    if plain in ("T", "F", ""):
        return plain == "T" if plain else None
    return int(plain) if plain.lstrip("+-").isdigit() else float(plain.replace("D", "E"))


def check_grid(cards: Mapping[str, Any], ra: float, dec: float, size: int, pixscale: float) -> None:
    """Make sure that an image is of the position, size and pixel scale that were asked for.

    Parameters
    ----------
    cards : mapping
        Cards of the image's header.
    ra, dec : float
        The centre, ICRS degrees.
    size : int
        Width and height, px.
    pixscale : float
        arcsec per pixel.

    Raises
    ------
    PassingFailure
        If it is the image of another position.
    FinalFailure
        If it has another size or scale.
    """
    try:
        sides = (cards["NAXIS1"], cards["NAXIS2"])
        position = (float(cards["CRVAL1"]), float(cards["CRVAL2"]))
        step = abs(float(cards["CD1_1"] if "CD1_1" in cards else cards["CDELT1"])) * 3600
        centre = (float(cards["CRPIX1"]), float(cards["CRPIX2"]))
    except (KeyError, TypeError, ValueError) as error:
        raise PassingFailure(f"the answer lacks a WCS: {error}.") from error
    # Written so that a NaN fails each test.
    off_ra = abs((position[0] - ra + 180) % 360 - 180)
    if not (off_ra <= _NEAR_DEG and abs(position[1] - dec) <= _NEAR_DEG):
        where = f"ra={position[0]:.6f} dec={position[1]:.6f}"
        raise PassingFailure(f"the answer is the image of another position, {where}.")
    if sides != (size, size):
        raise FinalFailure(f"the answer is {sides[0]} x {sides[1]} px instead of {size} x {size}.")
    if not abs(step / pixscale - 1) <= 1e-4:
        raise FinalFailure(f"the answer has {step:.4f} arcsec per pixel instead of {pixscale:g}.")
    if not all(abs(c - (size + 1) / 2) <= 0.01 for c in centre):
        raise PassingFailure(f"the answer is not centred: CRPIX is {centre[0]:g}, {centre[1]:g}.")


def float_planes(data: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return pixels as native float32, a plane each (band, y, x)."""
    return data.astype(np.float32).reshape(-1, *data.shape[-2:])
