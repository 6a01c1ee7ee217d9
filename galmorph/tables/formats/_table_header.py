"""The header of a FITS binary table that gains and loses columns: other cards than theirs stay as they were."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from galmorph.tables.formats import Column, Provenance, history_line
from galmorph.tables.formats._header import Header, history_cards, keyword, make_card

_FORMS = {"float32": "E", "float64": "D", "int16": "I", "int32": "J", "int64": "K"}
# Keywords with the number of a column, of the standard and its registered conventions.
_COLUMN_KEY = re.compile(
    "(TTYPE|TFORM|TUNIT|TNULL|TSCAL|TZERO|TDISP|TDIM|TBCOL|TUCD|TUTYP|TCOMM|TDESC|TXTYP|TMETA|TDMIN|TDMAX|TLMIN|TLMAX"
    "|TCTYP|TCUNI|TCRPX|TCRVL|TCDLT|TCROT|TCNAM|TCRDE?|TCSYE?|TRPOS|TGMNT)([1-9][0-9]*)"
)


def edit_header(
    header: Header, columns: Sequence[Column], width: int, dropped: Collection[int], provenance: Provenance
) -> Header:
    """Return the header of a binary table whose columns have changed.

    Parameters
    ----------
    header : Header
        As it was.
    columns : sequence of Column
        The columns that come behind the others.
    width : int
        The bytes of a row, from now on.
    dropped : collection of int
        The positions of the columns that are no more.
    provenance : Provenance
        What galmorph has written, all told.
    """
    n_old = header.integer("TFIELDS")
    numbers = {old + 1: new + 1 for new, old in enumerate(i for i in range(n_old) if i not in dropped)}
    changed = {"NAXIS1": width, "TFIELDS": len(numbers) + len(columns)}
    if "THEAP" in header:
        changed["THEAP"] = header.integer("THEAP") + (width - header.integer("NAXIS1")) * header.integer("NAXIS2")
    ours = {"GMCOLS", "GMKEYS", *(key for key, _, _ in read_provenance(header).cards)}
    cards: list[bytes] = []
    behind = 0
    for card in header.cards:
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
    cards[end:end] = _provenance_cards(provenance, header.keys() - ours)
    if _has_long(cards) and not _has_long(header.cards) and "LONGSTRN" not in header:
        cards.insert(behind, make_card("LONGSTRN", "OGIP 1.0", "The OGIP long string convention may be used"))
    return Header(tuple(cards))


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


def read_provenance(header: Header) -> Provenance:
    """Return the provenance of a header; its history stays in the header and is not read."""
    columns, keys = (tuple(filter(None, header.text(key).split(","))) for key in ("GMCOLS", "GMKEYS"))
    return Provenance(columns, tuple((key, *header.card(key)) for key in keys))
