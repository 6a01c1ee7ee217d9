"""What a file holds: its table format, by its content first and then by its suffix."""

from __future__ import annotations

from pathlib import Path

from galmorph import registry
from galmorph.errors import CatalogError
from galmorph.files.reading import Input
from galmorph.files.writing import COMPRESSIONS
from galmorph.tables.formats import Format

_HEAD_BYTES = 65536


def formats() -> list[Format]:
    """Return the table formats."""
    return [registry.load("tables", name) for name in registry.names("tables")]


def plain_suffix(path: Path) -> str:
    """Return the suffix in lower case, without that of a compression."""
    suffix = path.suffix.lower()
    return path.with_suffix("").suffix.lower() if suffix in COMPRESSIONS else suffix


def format_of(path: Path) -> Format | None:
    """Return the format that a file's suffix names, None where it names none."""
    return next((form for form in formats() if plain_suffix(path) in form.suffixes), None)


def recognise(path: Path) -> Format:
    """Return the format of a file, by its content first and then by its suffix.

    Raises
    ------
    CatalogError
        If it is of none.
    """
    with Input(path) as source:
        head = source.read(_HEAD_BYTES)
    if not head.strip():
        raise CatalogError(f"{path} is empty")
    for form in formats():
        if form.recognises(head):
            return form
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:100].lower()
    if start.startswith((b"<!doctype html", b"<html")):
        raise CatalogError(
            f"{path} is a web page, not a table; perhaps a server answered with an error or a login page"
        )
    if b"\0" in head or start.startswith((b"<", b"{", b"[", b"%pdf")):
        kinds = ", ".join(form.name for form in formats())
        raise CatalogError(f"{path} is none of the table formats that are read here ({kinds}); save it as one of them")
    named_as = format_of(path)
    csv: Format = registry.load("tables", "csv")
    if named_as not in (None, csv):
        raise CatalogError(
            f"{path} is named like {named_as.name}, but its content is not: copy or fetch it again, or rename it"
        )
    return csv
