"""What every service of the stand-in answers with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    reason: str | None = None


def html(status: int, text: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Return a web page, which is what the services send instead of most errors."""
    return Answer(status, {"Content-Type": "text/html; charset=utf-8", **(headers or {})}, text.encode())


def card(key: str, value: object, comment: str = "") -> str:
    """Return one FITS card as the Legacy Surveys viewer (fitsio) writes it."""
    if isinstance(value, str):
        text = f"{key:<8}= '{value:<8}'"
    elif isinstance(value, bool):
        text = f"{key:<8}= {'T' if value else 'F':>20}"
    elif isinstance(value, int):
        text = f"{key:<8}= {value:>20d}"
    else:
        number = f"{value:.15G}"
        text = f"{key:<8}= {number if '.' in number or 'E' in number else number + '.':>20}"
    return f"{text:<30} / {comment}"[:80].ljust(80) if comment else text.ljust(80)


def padded(data: bytes, fill: bytes = b"\0") -> bytes:
    """Return bytes filled up to a whole number of FITS blocks."""
    return data + fill * (-len(data) % 2880)
