"""What is before the rows of a text table: the delimiter, the names, lines of units and dashes, decimals."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path

from galmorph.errors import CatalogError
from galmorph.files.reading import CHUNK, MAX_LINE, Input
from galmorph.tables.decimals import with_point
from galmorph.tables.formats import TableField
from galmorph.tables.formats._delimited import is_number, plain, texts
from galmorph.tables.systems import comment_frame
from galmorph.tables.units import is_unit

_DELIMITERS = (",", "\t", ";", "|")
_BOM = b"\xef\xbb\xbf"
_SNIFFED_RECORDS = 20
# Records whose numbers are looked at for decimal commas.
_DECIMAL_RECORDS = 200
# Excel's line that names the delimiter.
_SEPARATOR = re.compile(rb'"?sep=(.)"?\r?\n', re.IGNORECASE)
_DASHES = re.compile(r"-+|:-+:?|-+:")
# Types of columns: RDB's (a width, then S, N or M), those of C, SQL, numpy and IPAC.
_TYPE = re.compile(
    r"\d*[SNM][<>]?|u?(int|long|short|byte|float|bigint|smallint|tinyint|integer)\d*|double( precision)?\d*|real"
    r"|numeric|(var)?char(acter)?( varying)?(\(\d+\))?|str(ing)?\d*|text|bool(ean)?|object"
    r"|date|time|timestamp|datetime(64)?",
    re.IGNORECASE,
)
_TEXT_TYPE = re.compile(r"\d*[SM]\b|.*char|str|text|bool|object|date|time", re.IGNORECASE)
# Of DS9: circle(150.1,2.2,5"), also after its frame.
_REGION = re.compile(rb"\s*(\w+\s*;)?\s*[+-]?(circle|ellipse|box|point|polygon|annulus)\s*\(", re.IGNORECASE)
_SEXTRACTOR = re.compile(rb"#\s*1\s+[A-Z][A-Z0-9_]*(\s|$)")
_ANGLE = re.compile(r"[+-]?\d{1,3}[: hd]\d{1,2}[: m]\d{1,2}(\.\d*)?s?")
_ASTROPY = (
    "convert it: python -c \"from astropy.table import Table; Table.read('PATH', format='{}').write('STEM.fits')\""
)
# What begins a line near the beginning of text that is another kind of table, or none.
_OTHER_KINDS = {
    b"Byte-by-byte Description": "a machine-readable table (CDS, AAS) with columns by position: "
    + _ASTROPY.format("ascii.mrt"),
    b"Region file format": "a region file of DS9, not a table: write its positions as CSV",
    b"This TST file": "a table of Starlink (TST), with text before the names: save it as CSV",
    b"C.D.S.  -  SIMBAD": "a list of SIMBAD with text before the names: save it there as VOTable",
    b"QueryResult": "a table of SkyCat, with text before the names: save it as CSV",
    b"+---": "a table drawn with + and |: save it as CSV",
    b"\\begin{": "written in LaTeX: " + _ASTROPY.format("ascii.latex"),
}
_SAVE = "save it with commas, tabs or semicolons between the cells (TOPCAT and STILTS can)"


@dataclass(frozen=True)
class CsvHead:
    """What is before the rows.

    Parameters
    ----------
    before : bytes
        All that is before the names: a byte order mark, a line ``sep=``, comments.
    header : bytes
        The record of the names.
    notes : tuple of bytes
        Lines after it that are not rows: units, dashes.
    delimiter : str
        What is between cells.
    decimal : {'.', ','}
        What is before the decimals.
    """

    before: bytes
    header: bytes
    notes: tuple[bytes, ...]
    delimiter: str
    decimal: str

    @property
    def size(self) -> int:
        """The number of bytes."""
        return len(self.before) + len(self.header) + sum(map(len, self.notes))

    @property
    def n_lines(self) -> int:
        """The number of lines."""
        return b"".join((self.before, self.header, *self.notes)).count(b"\n")

    @property
    def fields(self) -> list[TableField]:
        """The columns, with the units of a line of units."""
        names = texts(self.header.lstrip(b"#"), self.delimiter)
        notes = [texts(note, self.delimiter) for note in self.notes]
        units = next((cells for cells in notes if not (_are_dashes(cells) or _are_types(cells))), [])
        frame = comment_frame(self.before.decode("latin-1").splitlines())
        return [
            TableField(name, "" if unit in ("-", "---") else unit, frame=frame, decimal=self.decimal)
            for name, unit in zip(names, units + [""] * (len(names) - len(units)), strict=False)
        ]


def read_head(path: Path) -> CsvHead:
    """Read what is before the rows of a text table.

    Raises
    ------
    CatalogError
        If it is not a table with a delimiter between its cells, or columns cannot be added to its kind.
    """
    with Input(path) as source:
        text = source.read(CHUNK)
        if len(text) == CHUNK:
            text += source.line()
    if b"\n" not in text and (b"\r" in text or len(text) >= min(CHUNK, MAX_LINE)):
        raise CatalogError(f"{path} has no line ends; save it anew as CSV")
    before = _BOM if text.startswith(_BOM) else b""
    separator = _SEPARATOR.match(text, len(before))
    if separator:
        before += separator[0]
    lines = io.BytesIO(text[len(before) :]).readlines()
    comments = list(takewhile(lambda line: line.startswith(b"#") or not line.strip(), lines))
    lines = lines[len(comments) :]
    delimiters = [separator[1].decode("latin-1")] if separator else list(_DELIMITERS)
    delimiter, cells, n_lines = _sniff(path, lines or comments[-1:], delimiters)
    _check_dialect(path, comments, lines, cells, delimiter)
    if comments and _is_header(comments[-1], delimiter, cells):
        header, rows = comments.pop(), lines
    elif lines:
        header, rows = b"".join(lines[:n_lines]), lines[n_lines:]
        if any(is_number(cell) and "." in cell for cell in cells):
            line = header.decode("utf-8", "replace").strip()
            raise CatalogError(f"{path} has no header: its first line {line!r} holds numbers, not names")
    else:
        raise CatalogError(f"{path} has no header line with the names of the columns")
    notes = _notes(rows, delimiter, len(texts(header, delimiter)))
    rows = rows[len(notes) :]
    return CsvHead(before + b"".join(comments), header, tuple(notes), delimiter, _decimal(rows, delimiter))


def _sniff(path: Path, lines: Sequence[bytes], delimiters: Sequence[str]) -> tuple[str, list[str], int]:
    """Return the delimiter, the cells of the first record and its number of lines.

    The delimiter is the one that gives the first records the same number of cells, and the most of them.
    """
    best: tuple[tuple[bool, int], str, list[str], int] | None = None
    trouble: csv.Error | None = None
    for delimiter in delimiters:
        reader = csv.reader(map(plain, lines), delimiter=delimiter, strict=True)
        try:
            first = next(reader)
        except (csv.Error, StopIteration) as error:
            trouble = error if isinstance(error, csv.Error) else trouble
            continue
        n_lines = reader.line_num
        try:
            even = {len(cells) for cells in islice(reader, _SNIFFED_RECORDS) if cells} <= {len(first)}
        except csv.Error:
            even = False
        rank = (even and len(first) > 1, len(first))
        if best is None or rank > best[0]:
            best = rank, delimiter, first, n_lines
    if best is None:
        raise CatalogError(f"{path}: the header is not CSV ({trouble or 'it is empty'})") from trouble
    return best[1:]


def _is_header(comment: bytes, delimiter: str, cells: Sequence[str]) -> bool:
    """Return whether a comment names the columns: it has as many words as the first record, which holds numbers."""
    names = texts(comment.lstrip(b"#"), delimiter)
    row = any(cell.startswith("#") or is_number(with_point(cell.strip())) for cell in cells)
    return row and len(names) == len(cells) > 1 and not any(map(is_number, names))


def _check_dialect(
    path: Path, comments: Sequence[bytes], lines: Sequence[bytes], cells: Sequence[str], delimiter: str
) -> None:
    """Refuse the kinds of text tables that cannot get columns, by their names."""
    first = lines[0].strip() if lines else b""
    for line in (*comments, *lines[:_SNIFFED_RECORDS]):
        if kind := next((kind for mark, kind in _OTHER_KINDS.items() if line.lstrip(b"# \t").startswith(mark)), ""):
            raise CatalogError(f"{path} is {kind}".replace("PATH", str(path)).replace("STEM", path.stem))
    if any(map(_REGION.match, lines[:_SNIFFED_RECORDS])):
        raise CatalogError(f"{path} is {_OTHER_KINDS[b'Region file format']}")
    below = texts(lines[1], delimiter) if len(lines) > 1 else []
    if _are_dashes(cells) or (len(cells) > 2 and sum(map(bool, cells)) == 1 < sum(bool(t) for t in below)):
        shown = first.decode("utf-8", "replace")
        raise CatalogError(
            f"{path} has {shown!r} in place of names: give it a first line with the names of its columns"
        )
    if len(cells) == 1:
        if any(map(_SEXTRACTOR.match, comments)):
            raise CatalogError(
                f"{path} is a catalog of SExtractor with an ASCII head (ASCII_HEAD), with blanks between its cells: "
                'run SExtractor with CATALOG_TYPE FITS_1.0, or convert it: python -c "from astropy.table import Table; '
                f"Table.read('{path}', format='ascii.sextractor').write('{path.stem}.fits')\""
            )
        words = first.lower().split()
        named = len(words) > 1 and all(any(w.startswith(start) for w in words) for start in (b"ra", b"de"))
        others = [line.decode("latin-1").split() for line in lines[1:_SNIFFED_RECORDS] if line.strip()]
        even = len(words) > 1 and all(len(other) == len(words) for other in others)
        numbers = max((sum(map(is_number, other)) for other in [first.decode("latin-1").split(), *others]), default=0)
        if named or (even and numbers > 1):
            raise CatalogError(f"{path} has blanks between its columns; {_SAVE}")
    stripped = [line.strip() for line in lines[:_SNIFFED_RECORDS]]
    if first[:1] in (b"|", b"\\") and any(line.startswith(b"|") and line.endswith(b"|") for line in stripped):
        raise CatalogError(f"{path} is a table drawn with | around its cells (IPAC, Markdown, a database's): {_SAVE}")
    if delimiter == "|" and len(lines) > 1 and re.fullmatch(rb"-+(\+-+)+", lines[1].strip()):
        raise CatalogError(f"{path} is a table drawn with | and + (a database's): {_SAVE}")
    if sum(line.startswith(b"#Table\t") for line in (*comments, *lines)) > 1:
        raise CatalogError(
            f"{path} holds several tables of VizieR, one behind the other: save each as a file of its own"
        )


def _notes(rows: Sequence[bytes], delimiter: str, n_columns: int) -> list[bytes]:
    """Return the lines after the names that are not rows: dashes (and what precedes them), units, types.

    They may be shorter than the header, to which columns may have been added since.
    """
    if rows and rows[0].count(b'"') % 2:  # a cell of several lines is a row's
        return []
    records = [texts(line, delimiter) for line in rows[:4]]
    may_be_types = any(map(_are_types, records[:2]))
    n_dashes = next((i + 1 for i, cells in enumerate(records[: 2 + may_be_types]) if _are_dashes(cells)), 0)
    if n_dashes:
        return list(rows[:n_dashes])
    for n in (2, 1):
        notes, below = records[:n], records[n : n + 1]
        if below and all(len(c) <= n_columns and (_type_rows(c, below[0]) or _are_units(c, below[0])) for c in notes):
            return list(rows[:n])
    return []


def _are_dashes(cells: Sequence[str]) -> bool:
    filled = [cell for cell in cells if cell]
    return bool(filled) and all(map(_DASHES.fullmatch, filled)) and max(map(len, filled)) > 1


def _are_types(cells: Sequence[str]) -> bool:
    return len(cells) > 1 and all(map(_TYPE.fullmatch, cells))


def _type_rows(cells: Sequence[str], row: Sequence[str]) -> bool:
    """Return whether cells are the types of a row, as RDB (``10N``, ``S``) and databases (``float8``) name them."""
    numbers = any(_is_quantity(below) and not _TEXT_TYPE.match(cell) for cell, below in zip(cells, row, strict=False))
    return _are_types(cells) and (numbers or min(map(len, cells)) > 3)


def _are_units(cells: Sequence[str], row: Sequence[str]) -> bool:
    """Return whether cells are units of a row: units of what is a number there, and no numbers themselves."""
    if any(map(_is_quantity, cells)):
        return False
    over_numbers = [cell for cell, below in zip(cells, row, strict=False) if cell and _is_quantity(below)]
    # A single word may be a galaxy's identifier: "a" is a year, "b" a barn.
    enough = len(over_numbers) > 1 or len(cells) == len(over_numbers) == 1
    return enough and all(map(_is_unit, over_numbers)) and set(over_numbers) != {"-"}


def _is_quantity(cell: str) -> bool:
    return is_number(with_point(cell)) or bool(_ANGLE.fullmatch(cell))


def _is_unit(text: str) -> bool:
    return text in ("-", "--", "---") or is_unit(text)


def _decimal(rows: Sequence[bytes], delimiter: str) -> str:
    """Return what is before the decimals: a comma where more of the first rows' columns have it than have a point.

    Where the delimiter is a comma too, numbers such as "1,000" are taken for thousands.
    """
    commas: set[int] = set()
    points: set[int] = set()
    for line in rows[:_DECIMAL_RECORDS]:
        if b"," not in line or (delimiter == "," and b'"' not in line):
            cells = enumerate(texts(line, delimiter)) if not commas else ()
            points.update(i for i, cell in cells if "." in cell and is_number(cell))
            continue
        for i, cell in enumerate(texts(line, delimiter)):
            if "," in cell and with_point(cell) != cell:
                if delimiter != "," or not re.fullmatch(r"[+-]?\d{1,3},\d{3}", cell):
                    commas.add(i)
            elif "." in cell and is_number(cell):
                points.add(i)
    return "," if len(commas - points) > len(points) else "."
