"""Numbers as text with a decimal comma."""

from __future__ import annotations

import re

_DECIMAL_COMMA = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+),\d+([eE][+-]?\d+)?")


def with_point(text: str) -> str:
    """Return a number with a decimal point for its decimal comma, and without points between thousands."""
    if "," in text and _DECIMAL_COMMA.fullmatch(text.replace("\N{MINUS SIGN}", "-")):
        return text.replace(".", "").replace(",", ".")
    return text
