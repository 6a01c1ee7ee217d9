"""FITS headers as they are written, and those of binary tables that gain and lose columns.

Cards stay bytes, so that those that are not changed stay as they were.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from galmorph.errors import CatalogError
from galmorph.files.fits import BLOCK, checksum, encode, padded
from galmorph.files.reading import Input
from galmorph.tables.formats import STRUCTURE, Added, Column, Provenance, history_line
from galmorph.tables.formats._column_yaml import ColumnYaml

_CARD = 80
# More than any real header; keeps a damaged file from being read into memory as one.
_MAX_HEADER = 1 << 26
_FORMS = {"float32": "E", "float64": "D", "int16": "I", "int32": "J", "int64": "K", "bool": "L"}
# Keywords with the number of a column, of the standard and its registered conventions.
_COLUMN_KEY = re.compile(
    "(TTYPE|TFORM|TUNIT|TNULL|TSCAL|TZERO|TDISP|TDIM|TBCOL|TUCD|TUTYP|TCOMM|TDESC|TXTYP|TMETA|TDMIN|TDMAX|TLMIN|TLMAX"
    "|TCTYP|TCUNI|TCRPX|TCRVL|TCDLT|TCROT|TCNAM|TCRDE?|TCSYE?|TRPOS|TGMNT)([1-9][0-9]*)"
)


def is_structure(key: str) -> bool:
    """Return whether a keyword says how the file is built, or belongs to a column."""
    return bool(STRUCTURE.fullmatch(key) or _COLUMN_KEY.fullmatch(key)) and key not in ("COMMENT", "HISTORY")


@dataclass(frozen=True)
class Header:
    """The header of an HDU.

    Parameters
    ----------
    cards : tuple of bytes
        The cards before END, each a multiple of 80 bytes: CONTINUE cards belong to the card that they continue.
    size : int
        Bytes that the header took in the file, 0 if it comes from none.
    """

    cards: tuple[bytes, ...]
    size: int = 0

    @cached_property
    def _index(self) -> dict[str, int]:
        return {keyword(card): i for i, card in reversed(list(enumerate(self.cards)))}

    def __contains__(self, key: str) -> bool:
        return key in self._index

    def keys(self) -> set[str]:
        """Return all keywords."""
        return set(self._index)

    def card(self, key: str) -> tuple[Any, str]:
        """Return the value and the comment of a card; None and '' if there is none, or none that can be understood."""
        if key not in self:
            return None, ""
        from astropy.io import fits

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # cards that break the standard
            try:
                card = fits.Card.fromstring(self.cards[self._index[key]])
                return (None if isinstance(card.value, fits.card.Undefined) else card.value), card.comment
            except (fits.VerifyError, ValueError):
                return None, ""

    def text(self, key: str) -> str:
        """Return a value as text, '' if there is none."""
        value = self.card(key)[0]
        return "" if value is None else str(value).strip()

    def integer(self, key: str, default: int | None = None) -> int:
        """Return a whole number.

        Raises
        ------
        CatalogError
            If there is none and no default.
        """
        value = self.card(key)[0]
        value = default if value is None else value
        if not isinstance(value, int):
            raise CatalogError(f"a FITS header has no whole number {key}")
        return int(value)

    @property
    def data_size(self) -> int:
        """Bytes of data behind the header, without padding (FITS 4.0, equations 1, 2 and 4)."""
        axes = [self.integer(f"NAXIS{i + 1}") for i in range(self.integer("NAXIS"))]
        if not axes:
            return 0
        if axes[0] == 0 and self.card("GROUPS")[0] is True:
            axes = axes[1:]
        elements = self.integer("PCOUNT", 0) + math.prod(axes)
        return abs(self.integer("BITPIX")) // 8 * self.integer("GCOUNT", 1) * elements

    def with_values(self, values: Mapping[str, tuple[Any, str]]) -> Header:
        """Return a header in which the cards of some keywords have another value and comment."""
        return Header(
            tuple(make_card(k, *values[k]) if (k := keyword(card)) in values else card for card in self.cards)
        )

    def with_checksums(self, datasum: int) -> Header:
        """Return a header in which CHECKSUM and DATASUM, where it has them, are those of the sum of its data."""
        sums = {"DATASUM": (str(datasum), "data unit checksum"), "CHECKSUM": ("0" * 16, "HDU checksum")}
        total = checksum(self.with_values(sums).to_bytes(), datasum)
        return self.with_values(sums | {"CHECKSUM": (encode(total), "HDU checksum")})

    def to_bytes(self) -> bytes:
        """Return the header as it is written, padded to whole blocks."""
        data = b"".join((*self.cards, b"END".ljust(_CARD)))
        return data.ljust(padded(len(data)))


_CONTROL = re.compile(rb"[\0-\x1f]")


def keyword(card: bytes) -> str:
    """Return the keyword of a card."""
    return card[:8].decode("latin-1").rstrip()


def make_card(key: str, value: Any, comment: str = "") -> bytes:
    """Return a card of a keyword, a value and a comment, with CONTINUE cards where a text is long."""
    from astropy.io import fits

    number = isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))
    value = value if number or value is None else _printable(str(value))
    with warnings.catch_warnings():
        # A comment that does not fit is cut.
        warnings.simplefilter("ignore", fits.verify.VerifyWarning)
        return fits.Card(key, value, _printable(comment)).image.encode("ascii")


def history_cards(text: str) -> Iterable[bytes]:
    """Return HISTORY cards for a text of any length."""
    text = _printable(text)
    width = _CARD - 8
    return [b"HISTORY " + text[i : i + width].encode("ascii").ljust(width) for i in range(0, len(text), width)]


def _printable(text: str) -> str:
    ascii_text = text.encode("ascii", "replace").decode("ascii")
    return "".join(c if c.isprintable() else " " for c in ascii_text)


def read_header(source: Input, first: bytes) -> Header | None:
    """Read the header that begins where `source` stands.

    Parameters
    ----------
    source : Input
        The file.
    first : bytes
        How the header must begin (``SIMPLE`` or ``XTENSION``).

    Returns
    -------
    Header or None
        None if there is no header: the file ends, or something else follows.

    Raises
    ------
    CatalogError
        If the header does not end.
    """
    cards: list[bytes] = []
    size = 0
    while block := source.read(BLOCK):
        if size == 0 and not block.startswith(first):
            return None
        if len(block) < BLOCK or size > _MAX_HEADER:
            break
        size += BLOCK
        for i in range(0, BLOCK, _CARD):
            card = block[i : i + _CARD]
            if card.rstrip() == b"END":
                return Header(tuple(cards), size)
            if _CONTROL.search(card[:8]):
                raise CatalogError(f"{source.path} is damaged: a FITS header has no END")
            if keyword(card) == "CONTINUE" and cards:
                cards[-1] += card
            else:
                cards.append(card)
    if size == 0 and not block:
        return None
    raise CatalogError(f"{source.path} is truncated or damaged: a FITS header has no END")


def edit_header(header: Header, width: int, added: Added) -> Header:
    """Return the header of a binary table whose columns have changed.

    Parameters
    ----------
    header : Header
        As it was.
    width : int
        The bytes of a row, from now on.
    """
    columns, dropped = added.columns, added.dropped
    n_old = header.integer("TFIELDS")
    numbers = {old + 1: new + 1 for new, old in enumerate(i for i in range(n_old) if i not in dropped)}
    changed = {"NAXIS1": width, "TFIELDS": len(numbers) + len(columns)}
    if "THEAP" in header:
        changed["THEAP"] = header.integer("THEAP") + (width - header.integer("NAXIS1")) * header.integer("NAXIS2")
    ours = {"GMCOLS", "GMKEYS", *(key for key, _, _ in Provenance.from_cards(header.card).cards)}
    cards: list[bytes] = []
    behind = 0
    gone = [header.text(f"TTYPE{i + 1}") for i in dropped]
    for card in _without_yaml_of(header.cards, gone) if gone else header.cards:
        key = keyword(card)
        indexed = _COLUMN_KEY.fullmatch(key)
        if key in ours:
            continue
        if key in changed:
            card = make_card(key, changed[key], header.card(key)[1])
        elif indexed and int(indexed[2]) <= n_old + len(columns):
            # A number behind TFIELDS is a leftover that would come to describe one of the new columns.
            if int(indexed[2]) not in numbers:
                continue
            card = f"{indexed[1]}{numbers[int(indexed[2])]}".ljust(8).encode() + card[8:]
        cards.append(card)
        if key == "TFIELDS" or indexed:
            behind = len(cards)
    cards[behind:behind] = _column_cards(columns, len(numbers) + 1)
    end = len(cards)
    while not cards[end - 1].strip():
        end -= 1
    cards[end:end] = _provenance_cards(added.provenance, header.keys() - ours)
    if _has_long(cards) and not _has_long(header.cards) and "LONGSTRN" not in header:
        cards.insert(behind, make_card("LONGSTRN", "OGIP 1.0", "The OGIP long string convention may be used"))
    return Header(tuple(cards))


_YAML_BEGIN, _YAML_END = "--BEGIN-ASTROPY-SERIALIZED-COLUMNS--", "--END-ASTROPY-SERIALIZED-COLUMNS--"
_YAML_WIDTH = 70


def described_by_yaml(cards: Sequence[bytes]) -> tuple[ColumnYaml, int, int] | None:
    """Return the YAML that astropy writes as comments, and where it begins and ends; None where there is none.

    A line is cut after 70 characters, and marked with a backslash there (astropy.io.fits.connect).
    """
    if not any(_YAML_BEGIN.encode() in card for card in cards):
        return None
    texts = [card[8:80].decode("ascii", "replace").rstrip() if keyword(card) == "COMMENT" else None for card in cards]
    if _YAML_BEGIN not in texts or _YAML_END not in texts:
        return None
    first, stop = texts.index(_YAML_BEGIN), texts.index(_YAML_END)
    lines = [""]
    for text in texts[first + 1 : stop]:
        if text is not None:
            lines[-1] += text[:_YAML_WIDTH]
            if len(text) <= _YAML_WIDTH:
                lines.append("")
    with suppress(CatalogError):
        return ColumnYaml("\n".join(lines)), first, stop
    return None


def _without_yaml_of(cards: Sequence[bytes], dropped: Collection[str]) -> list[bytes]:
    """Return the cards with columns taken out of astropy's YAML: it cannot read a table that lacks one of them."""
    described = described_by_yaml(cards)
    if described is None or not any(field.name in dropped for field in described[0].fields):
        return list(cards)
    yaml, first, stop = described
    new: list[bytes] = []
    for line in yaml.edited((), dropped, ascii_only=True):
        parts = [line[i : i + _YAML_WIDTH] for i in range(0, max(len(line), 1), _YAML_WIDTH)]
        texts_of_line = [f"{part}\\" for part in parts[:-1]] + parts[-1:]
        new += [f"COMMENT {text}".ljust(_CARD).encode("ascii") for text in texts_of_line]
    return [*cards[: first + 1], *new, *cards[stop:]]


def _has_long(cards: Sequence[bytes]) -> bool:
    return any(keyword(card[80:]) == "CONTINUE" for card in cards)


def _column_cards(columns: Sequence[Column], first: int) -> Iterator[bytes]:
    for n, column in enumerate(columns, first):
        yield make_card(f"TTYPE{n}", column.name)
        yield make_card(f"TFORM{n}", f"{max(column.width, 1)}A" if column.dtype == "str" else _FORMS[column.dtype])
        for key, value in (("TUNIT", column.unit), ("TUCD", column.ucd), ("TCOMM", column.description)):
            if value:
                yield make_card(f"{key}{n}", value)


def _provenance_cards(provenance: Provenance, users: Collection[str]) -> Iterator[bytes]:
    """Yield galmorph's cards; one whose keyword the user's header has already becomes history."""
    cards = [card for card in provenance.cards if card[0] not in users]
    yield make_card("GMCOLS", ",".join(provenance.columns), "columns that galmorph wrote")
    if cards:
        yield make_card("GMKEYS", ",".join(key for key, _, _ in cards), "cards that galmorph wrote")
    for key, value, comment in cards:
        yield make_card(key, value, comment)
    for line in (*provenance.history, *(history_line(card) for card in provenance.cards if card[0] in users)):
        yield from history_cards(line)
