"""The checksums of an HDU: 32-bit ones' complement sums (FITS 4.0, section 4.4.2.7 and appendix J)."""

from __future__ import annotations

import numpy as np

_ALL = 0xFFFFFFFF
# Punctuation between the digits, the capitals and the small letters is avoided in the encoding.
_EXCLUDED = frozenset(b":;<=>?@[\\]^_`")


class Checksum:
    """A sum over bytes that come in pieces of any length.

    Parameters
    ----------
    value : int
        The sum of what came before.
    """

    def __init__(self, value: int = 0) -> None:
        self._sum = value
        self._rest = b""

    def update(self, data: bytes | memoryview) -> None:
        """Add bytes."""
        view = memoryview(data)
        if self._rest:
            fill = min(4 - len(self._rest), len(view))
            self._rest, view = self._rest + bytes(view[:fill]), view[fill:]
            if len(self._rest) < 4:
                return
            self._sum += int.from_bytes(self._rest, "big")
        whole = len(view) // 4 * 4
        self._sum += int(np.frombuffer(view[:whole], ">u4").sum(dtype=np.uint64))
        self._rest = bytes(view[whole:])

    @property
    def value(self) -> int:
        """The 32-bit sum; a last incomplete word counts as if zeros followed."""
        value = self._sum + int.from_bytes(self._rest.ljust(4, b"\0"), "big")
        while value > _ALL:
            value = (value & _ALL) + (value >> 32)
        return value


def encode(value: int) -> str:
    """Return the 16 characters of a CHECKSUM card that bring a sum of `value` to minus zero."""
    complement = ~value & _ALL
    columns: list[list[int]] = []
    for byte in complement.to_bytes(4, "big"):
        quotient, remainder = divmod(byte, 4)
        quotient += ord("0")
        characters = [quotient + remainder, quotient, quotient, quotient]
        while _EXCLUDED.intersection(characters):
            for i in (0, 2):
                if _EXCLUDED.intersection(characters[i : i + 2]):
                    characters[i] += 1
                    characters[i + 1] -= 1
        columns.append(characters)
    text = bytes(columns[i][j] for j in range(4) for i in range(4)).decode("ascii")
    # The string begins at an odd byte of the card, hence the turn by one.
    return text[-1] + text[:-1]
