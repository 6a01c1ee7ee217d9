"""The HDUs of a FITS file: their positions, and whether their headers match the structure of the file."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from galmorph.errors import CatalogError
from galmorph.files.fits import padded
from galmorph.files.reading import Input
from galmorph.tables.formats._fits_header import Header, keyword, read_header

# No file is larger; a number beyond what an offset can be is refused before it is used as one.
_MAX_SIZE = 1 << 60
_BITPIX = (8, 16, 32, 64, -32, -64)
_ONCE = re.compile("BITPIX|NAXIS[0-9]*|PCOUNT|GCOUNT|TFIELDS|THEAP|T(TYPE|FORM|SCAL|ZERO|NULL)[0-9]+")


@dataclass(frozen=True)
class Hdu:
    """An HDU: its number, kind, first byte and header."""

    number: int
    kind: str
    start: int
    header: Header

    @property
    def data_end(self) -> int:
        return self.start + self.header.size + self.header.data_size


def read_hdus(path: Path) -> list[Hdu]:
    """Return the HDUs of a file whose headers, length and filling agree.

    A compressed file is read to its end for that, so that a damaged one is refused before any work is done on it.

    Raises
    ------
    CatalogError
        If the structure that the headers state is impossible or not that of the file.
    """
    hdus: list[Hdu] = []
    start = 0
    with Input(path) as source:
        size = None if source.compressed else path.stat().st_size
        while header := read_header(source, b"XTENSION" if hdus else b"SIMPLE"):
            where = f"{path}, HDU {len(hdus)}"
            check_structure(header, where)
            hdu = Hdu(len(hdus), _kind(header), start, header)
            hdus.append(hdu)
            if header.data_size:
                # The length of a compressed file is not known beforehand: it is read to the byte that must be there.
                long = hdu.data_end > (_MAX_SIZE if size is None else size)
                source.seek(0 if long else hdu.data_end - 1)
                if long or not source.read(1):
                    missing = f": {hdu.data_end - size} bytes are missing" if size is not None else ""
                    raise CatalogError(
                        f"{where} ({hdu.kind}): the file is truncated{missing}, or its {_sizes(header)} are wrong"
                    )
            if hdu.kind == "binary table":
                filling = source.read(padded(header.data_size) - header.data_size)
                if filling.strip(b"\0 "):
                    raise CatalogError(f"{where}: {_sizes(header)} do not cover the data: rows would be lost")
            start += header.size + padded(header.data_size)
            source.seek(start)
        source.seek(start)
        first = source.read(1)
        if any(chunk.strip(first) for chunk in source.chunks()):
            last = hdus[-1]
            raise CatalogError(
                f"{path}: behind HDU {last.number} stands neither a header nor filling: {_sizes(last.header)} of its "
                "header, or XTENSION of the next, are wrong"
            )
    return hdus


def iterate_hdus(path: Path) -> Iterator[Hdu]:
    """Iterate over the HDUs as their headers state them, of a compressed file up to the first with an image.

    Raises
    ------
    CatalogError
        If a header cannot be read.
    """
    number = start = 0
    with Input(path) as source:
        while header := read_header(source, b"XTENSION" if number else b"SIMPLE"):
            hdu = Hdu(number, _kind(header), start, header)
            yield hdu
            if source.compressed and "image" in hdu.kind:
                return
            number += 1
            start += header.size + padded(header.data_size)
            source.seek(start)


def _sizes(header: Header) -> str:
    """Return the cards from which the size of the data follows, as they are."""
    keys = ["BITPIX", *(f"NAXIS{i + 1}" for i in range(header.integer("NAXIS"))), "PCOUNT", "GCOUNT"]
    return ", ".join(f"{key}={header.card(key)[0]}" for key in keys if key in header)


def _kind(header: Header) -> str:
    extension = header.text("XTENSION")
    if extension in ("BINTABLE", "A3DTABLE"):
        if header.card("ZIMAGE")[0] is True:
            return "tile-compressed image"
        return "tile-compressed table" if header.card("ZTABLE")[0] is True else "binary table"
    if extension == "TABLE":
        return "ASCII table"
    if header.card("GROUPS")[0] is True:
        return "random groups"
    return "image" if header.data_size else "empty"


def check_structure(header: Header, where: str) -> None:
    """Check the cards that say how much data follow (FITS 4.0, sections 4.4.1 and 7.3.1).

    Raises
    ------
    CatalogError
        If one is absent, impossible, or there twice with two values; `where` begins the message, which names the card.
    """
    if "XTENSION" in header and header.card("XTENSION")[0] is None:
        raise CatalogError(f"{where}: XTENSION names no kind of extension")
    binary = header.text("XTENSION") in ("BINTABLE", "A3DTABLE")
    limits = {"NAXIS": range(1000), "BITPIX": _BITPIX}
    if "XTENSION" in header:
        limits |= {"PCOUNT": range(1 << 62), "GCOUNT": range(1, 1 << 62)}
    if binary:
        limits |= {"BITPIX": (8,), "NAXIS": (2,), "GCOUNT": (1,), "TFIELDS": range(1000)}
    for key, allowed in limits.items():
        _check(header, key, allowed, where)
    for i in range(header.integer("NAXIS")):
        _check(header, f"NAXIS{i + 1}", range(1 << 62), where)
    if not binary and "TFIELDS" in header and header.text("XTENSION") != "TABLE":
        raise CatalogError(f"{where}: XTENSION={header.text('XTENSION')!r}, but TFIELDS is a card of tables")
    if binary and header.integer("NAXIS2") and not header.integer("NAXIS1"):
        raise CatalogError(f"{where}: NAXIS1=0, but NAXIS2={header.integer('NAXIS2')}: rows without bytes")
    if binary and "THEAP" in header:
        table = header.integer("NAXIS1") * header.integer("NAXIS2")
        _check(header, "THEAP", range(table, table + header.integer("PCOUNT") + 1), where)
    values: dict[str, bytes] = {}
    for card in header.cards:
        key = keyword(card)
        if _ONCE.fullmatch(key) and values.setdefault(key, card) != card:
            raise CatalogError(f"{where}: the card {key} is there twice, with two values")


def check_by_rows(header: Header, path: Path, number: int) -> None:
    """Refuse a table by columns: one row whose cells are the columns, as IDL's structures and TOPCAT's colfits are.

    Raises
    ------
    CatalogError
        If it is one.
    """
    if header.integer("NAXIS2") != 1:
        return
    lengths = set()
    for n in range(1, header.integer("TFIELDS") + 1):
        form, dim = header.text(f"TFORM{n}").upper(), header.text(f"TDIM{n}")
        repeat = int(re.match(r"\s*(\d*)", form)[1] or 1)  # type: ignore[index]
        if ("A" in form and not dim) or "X" in form:  # a word, flags: of one object
            return
        lengths.add(int(re.findall(r"\d+", dim)[-1]) if re.search(r"\d", dim) else repeat)
    if len(lengths) == 1 and lengths.pop() > 1 and header.integer("TFIELDS") > 1:
        raise CatalogError(
            f"{path}, HDU {number}: is a table by columns (IDL, TOPCAT's colfits): one row whose cells are whole "
            'columns. Save it by rows: python -c "from astropy.table import Table; t = Table.read('
            f"'{path}', {number}); Table({{n: t[n][0].squeeze() for n in t.colnames}}).write('{path.stem}_rows.fits')\""
        )


def _check(header: Header, key: str, allowed: Collection[int], where: str) -> None:
    value = header.card(key)[0]
    if not isinstance(value, int) or isinstance(value, bool) or value not in allowed:
        shown = "there is no" if key not in header else f"{key}={value!r} is not a possible value of"
        raise CatalogError(f"{where}: damaged header: {shown} card {key}")
