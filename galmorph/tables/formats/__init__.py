"""Table formats: one module a format, each defining ``TABLE``; this module has what they share with the catalog.

A format reads rows and columns of a file, and writes a copy with columns at the end. What the user had is kept:

====================== =============================================================
format                 kept
====================== =============================================================
FITS                   rows, heap and cards, byte for byte; further HDUs
CSV                    the text of every cell, and the dialect
VOTable, ECSV, Parquet values and metadata
====================== =============================================================

What a column means is not a format's business.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import CatalogError
from galmorph.files.writing import Output

Array: TypeAlias = NDArray[Any]
# One value for each column to append, for consecutive rows: text columns as objects, the others in their dtype.
Block: TypeAlias = Mapping[str, Array]
# A header card: keyword of 8 characters at most, value, comment.
Card: TypeAlias = tuple[str, Any, str]

DTYPES = ("float32", "float64", "int16", "int32", "int64", "bool", "str")


@dataclass(frozen=True)
class Column:
    """A column to append to a table.

    Parameters
    ----------
    name : str
        Letters, digits and underscores, no digit first: all formats take that.
    dtype : {'float32', 'float64', 'int16', 'int32', 'int64', 'bool', 'str'}
        The type of the values. NaN is the null of floats; integers have none.
    unit, ucd, description : str
        Written in every format that can hold them.
    width : int
        Bytes that a ``str`` column takes in FITS; a longer value is an error there.

    Raises
    ------
    CatalogError
        If the name or the dtype is not one of these.
    """

    name: str
    dtype: str
    unit: str = ""
    ucd: str = ""
    description: str = ""
    width: int = 0

    def __post_init__(self) -> None:
        if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", self.name):
            raise CatalogError(f"a column cannot be named {self.name!r}: letters, digits and underscores only")
        if self.dtype not in DTYPES:
            raise CatalogError(f"column {self.name!r} has dtype {self.dtype!r}; a column is one of {', '.join(DTYPES)}")


@dataclass(frozen=True)
class TableField:
    """A column of a table: its name, unit and UCD ('' if the file has none).

    ``text`` is True where the file declares a text column, False where it declares another type, and None where the
    format has no types (CSV). ``scalar`` is False where a cell holds an array.
    ``frame`` is the frame of the sky that the file declares for it, '' for none or ICRS; see `declared_frame`.
    ``decimal`` is what its numbers have before the decimals where they are text: a point or a comma.
    """

    name: str
    unit: str = ""
    ucd: str = ""
    text: bool | None = None
    scalar: bool = True
    frame: str = ""
    decimal: str = "."


@dataclass(frozen=True)
class Provenance:
    """galmorph's part of a table: its columns, its header cards, and earlier cards that later runs replaced.

    FITS and VOTable keep the cards under their own keywords, and the names in ``GMCOLS`` and ``GMKEYS``; the other
    formats keep the whole as one JSON object named ``galmorph``.
    """

    columns: tuple[str, ...] = ()
    cards: tuple[Card, ...] = ()
    history: tuple[str, ...] = ()

    def updated(self, columns: Sequence[str], cards: Sequence[Card], dropped: Collection[str]) -> Provenance:
        """Return the provenance after a run that wrote `columns` and `cards` and replaced the columns `dropped`.

        A card of an earlier run stays. If the new run has the same keyword, it replaces the old card, and the
        old card becomes a line of history, unless the new run replaced columns: then the old card is gone with them.
        """
        gone = {*dropped, *columns}
        new = {key for key, _, _ in cards}
        pushed = () if dropped else tuple(history_line(card) for card in self.cards if card[0] in new)
        return Provenance(
            columns=(*(name for name in self.columns if name not in gone), *columns),
            cards=(*(card for card in self.cards if card[0] not in new), *cards),
            history=self.history + pushed,
        )

    @classmethod
    def from_cards(cls, card: Callable[[str], tuple[Any, str]]) -> Provenance:
        """Return the provenance that ``GMCOLS`` and ``GMKEYS`` list; `card` gives a keyword's value and comment.

        The value is None where there is no such card.
        """
        columns, keys = (tuple(filter(None, str(card(key)[0] or "").split(","))) for key in ("GMCOLS", "GMKEYS"))
        cards = ((key, *card(key)) for key in dict.fromkeys(keys) if _is_keyword(key))
        return cls(columns, tuple(each for each in cards if each[1] is not None))

    def to_json(self) -> dict[str, Any]:
        """Return the provenance as JSON data."""
        data = asdict(self)
        data["cards"] = [{"key": key, "value": value, "comment": comment} for key, value, comment in self.cards]
        return data

    @classmethod
    def from_json(cls, data: Any) -> Provenance:
        """Return the provenance that `to_json` wrote; None and missing entries count as empty.

        Raises
        ------
        CatalogError
            If the data have another shape.
        """
        data = {} if data is None else data
        lists = {key: data.get(key, []) for key in ("columns", "cards", "history")} if isinstance(data, dict) else {}
        if not lists or not all(isinstance(value, list | tuple) for value in lists.values()):
            raise CatalogError("galmorph's record of its columns is no object with lists of columns, cards and history")
        for i, card in enumerate(lists["cards"]):
            if (
                not isinstance(card, dict)
                or not _is_keyword(card.get("key"))
                or isinstance(card.get("value"), dict | list)
            ):
                raise CatalogError(f"galmorph's record of its columns: cards[{i}] is no card with a key and a value")
        cards = tuple((card["key"], card.get("value"), str(card.get("comment", ""))) for card in lists["cards"])
        return cls(tuple(map(str, lists["columns"])), cards, tuple(map(str, lists["history"])))


@dataclass(frozen=True)
class Added:
    """How a table changes: new columns at the end with their values, block by block, and galmorph's cards after that.

    ``dropped`` are the positions of old columns that are left out.
    """

    columns: Sequence[Column]
    blocks: Iterator[Block]
    provenance: Provenance
    dropped: Collection[int] = ()


def history_line(card: Card) -> str:
    """Return a card as a line of history."""
    key, value, comment = card
    return f"galmorph {key} = {value!r}" + (f" / {comment}" if comment else "")


STRUCTURE = re.compile(
    "SIMPLE|BITPIX|NAXIS[0-9]*|EXTEND|XTENSION|PCOUNT|GCOUNT|TFIELDS|THEAP|END|COMMENT|HISTORY|CONTINUE|CHECKSUM|DATASUM"
    "|GMCOLS|GMKEYS|LONGSTRN|EXTNAME|T(TYPE|FORM|UNIT|NULL|SCAL|ZERO|DISP|DIM|UCD|COMM)[0-9]+"
)


def check_cards(cards: Sequence[Card]) -> tuple[Card, ...]:
    """Return the cards, checked.

    Raises
    ------
    CatalogError
        If a keyword is not one of 1 to 8 of ``A-Z 0-9 _ -``, is given twice, or is one that the file's structure needs.
    """
    keys = [key for key, _, _ in cards]
    for key in keys:
        if not _is_keyword(key) or keys.count(key) > 1:
            raise CatalogError(
                f"{key!r} cannot be the keyword of a provenance card: 1 to 8 of A-Z 0-9 _ -, not twice, not reserved"
            )
    return tuple((key, _plain(value), comment) for key, value, comment in cards)


def _is_keyword(key: object) -> bool:
    """Return whether a card of galmorph's may have this keyword."""
    return isinstance(key, str) and bool(re.fullmatch("[A-Z0-9_-]{1,8}", key)) and not STRUCTURE.fullmatch(key)


def _plain(value: Any) -> Any:
    """Return a value for JSON and FITS: without types of numpy, and with NaN and infinity as text."""
    value = value.item() if isinstance(value, np.generic) else value
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


class Table(Protocol):
    """An opened table. Columns are identified by position, because a CSV file may have two columns of one name."""

    fields: tuple[TableField, ...]
    n_rows: int
    provenance: Provenance

    def blocks(self, positions: Sequence[int], n_rows: int, start: int) -> Iterator[list[Array]]:
        """Iterate over blocks of `n_rows` rows (the last may be shorter) from row `start` on, in constant memory.

        Each block has an array for each of `positions`: numbers in a native dtype, masked where null; text as objects
        of type str, '' where null, without surrounding blanks.
        """
        ...

    def write_rows(self, output: Output, keep: NDArray[np.bool_]) -> None:
        """Write the file with some of its rows; everything else stays."""
        ...

    def extra(self) -> Any:
        """Return the contents of the file besides its columns (`galmorph.tables.formats._extra.Extra`)."""
        ...

    def append(self, output: Output, added: Added) -> None:
        """Write the table to `output`, changed; the new columns have exactly `n_rows` rows."""
        ...


@dataclass(frozen=True)
class TableSummary:
    """One of the tables of a file.

    Parameters
    ----------
    number : int
        What ``--hdu`` takes: the HDU of a FITS file, the TABLE of a VOTable, from 0.
    name : str
        As the file names it, or ''.
    n_rows : int or None
        The number of rows; None if it is unknown before the table is opened.
    fields : tuple of TableField
        Its columns.
    """

    number: int
    name: str
    n_rows: int | None
    fields: tuple[TableField, ...]


@dataclass(frozen=True)
class Format:
    """A table format.

    Parameters
    ----------
    name : str
        As in messages.
    suffixes : tuple of str
        Suffixes of files, without ``.gz`` and ``.bz2``; the first is the usual one.
    recognises : callable
        Whether the first bytes of a file (decompressed) are of this format.
    open : callable
        Opens the file at a path: the table of a number, or the one that is taken where none is named.
    write : callable
        Writes a new table: output, its columns, number of rows.
    tables : callable, optional
        Lists the tables of a file from which columns can be read, for a format that may hold several.
    check : callable, optional
        Raises an OutputError if a file that belongs to a table at a path cannot be written beside it.
    max_columns : int
        Most columns that a table has.
    ascii_only : bool
        Whether text must be ASCII.
    """

    name: str
    suffixes: tuple[str, ...]
    recognises: Callable[[bytes], bool]
    open: Callable[[Path, int | None], Table]
    write: Callable[[Output, Added, int], None]
    tables: Callable[[Path], Sequence[TableSummary]] | None = None
    check: Callable[[Path], None] | None = None
    max_columns: int = sys.maxsize
    ascii_only: bool = False


def native(values: Array) -> Array:
    """Return `values` in the machine's byte order."""
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def text_array(cells: Iterable[str]) -> NDArray[np.object_]:
    """Return an array of str objects."""
    cells = list(cells)
    array = np.empty(len(cells), dtype=object)
    array[:] = cells
    return array
