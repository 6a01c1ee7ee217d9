"""Decimals: numbers as text whose decimals stand behind a comma."""

from __future__ import annotations

import re

_DECIMAL_COMMA = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+),\d+([eE][+-]?\d+)?")


def with_point(text: str) -> str:
    """Return a number that has a decimal comma with a point, and without the points between its thousands."""
    if "," in text and _DECIMAL_COMMA.fullmatch(text.replace("\N{MINUS SIGN}", "-")):
        return text.replace(".", "").replace(",", ".")
    return text
