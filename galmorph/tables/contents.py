"""Contents of a file or a folder, and the choice of a table or an image in it. Only this module decides that.

The content decides, then the suffix. Where two readings are possible the file is refused, and the message names the
option that says which is meant.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from galmorph import registry
from galmorph.errors import CatalogError
from galmorph.files.reading import Input
from galmorph.files.writing import COMPRESSIONS
from galmorph.tables.formats import Format, TableSummary
from galmorph.tables.formats.fits import list_hdus
from galmorph.tables.roles import plain_name, usefulness

_HEAD_BYTES = 65536
# First bytes of files of other compression programs, such as the .Z of older archives.
_COMPRESSIONS = {b"\x1f\x9d": "compress", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip"}
_WORKBOOKS = (".xlsx", ".xlsm", ".ods", ".numbers")
_FITS_BLOCK = 2880
# Number of axes in the primary header of a table; TOPCAT's has one.
_NO_IMAGE = re.compile(rb"NAXIS   = +[01] ")
# Tables beside an image that do not list galaxies: the headers of its exposures, the metadata of JWST.
_NOT_OF_GALAXIES = frozenset(("HDRTAB", "ASDF"))
# A table beside an image counts as a catalog from this usefulness on: positions and identifiers, or cutouts.
_A_CATALOG = 3
# Of a folder that is named instead of a table: files that are looked at, tables that are named.
_LOOKED_AT, _NAMED = 200, 3


@dataclass(frozen=True)
class Contents:
    """The contents of a file.

    Parameters
    ----------
    kind : {'table', 'image'}
    reason : str
        The reason for it, for messages.
    format : Format or None
        Of a table.
    number : int or None
        The HDU, or the TABLE of a VOTable, that is meant; None where there is no choice.
    side_px : int
        The longer side of an image; 0 of a table.
    """

    kind: str
    reason: str
    format: Format | None = None
    number: int | None = None
    side_px: int = 0


def contents_of(
    path: Path, number: int | None = None, *, named: Collection[str] = (), wanted: str | None = None
) -> Contents:
    """Return the contents of a file, with the choice of a table or an image in it.

    Parameters
    ----------
    number : int, optional
        The HDU, or the TABLE of a VOTable, that the user named.
    named : collection of str
        Columns that the user named: only a table that has them is meant.
    wanted : {'table', 'image'}, optional
        What it is taken for, where it may be both.

    Raises
    ------
    CatalogError
        If it is none of what galmorph reads, is damaged, or two readings are possible.
    """
    check_file(path)
    form = recognise(path)
    if form.name == "fits":
        return _fits(path, form, number, named, wanted)
    if number is not None and form.tables is None:
        raise CatalogError(f"--hdu is for FITS files and VOTables; {path} is {form.name}")
    if form.tables is None or number is not None:
        return Contents("table", f"it is {form.name}", form, number)
    tables = form.tables(path)
    meant = _meant(path, tables, named) if tables else None
    return Contents("table", f"it is {form.name}", form, meant.number if meant else None)


def check_file(path: Path) -> None:
    """Raise CatalogError if there is no such file, or if it is a folder, a pipe or a device: those are never opened."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise CatalogError(registry.missing_file(path)) from None
    except (OSError, ValueError) as error:  # a link to itself; a NUL character in the name
        raise CatalogError(f"{str(path)!r} cannot be read: {error}") from error
    if stat.S_ISDIR(mode):
        raise CatalogError(parquet_folder(path) or _folder_instead(path))
    if not stat.S_ISREG(mode):
        raise CatalogError(f"{path} is a pipe or a device, not a file: save what it gives as a file first")


def _folder_instead(folder: Path) -> str:
    """Return advice for a folder that is named instead of a table."""
    first = (entry for entry in islice(sorted(folder.iterdir()), _LOOKED_AT) if entry.is_file() and format_of(entry))
    tables = list(islice((entry for entry in first if not _is_fits(entry) or holds_table(entry)), _NAMED))
    named = f" Tables in it: {', '.join(map(str, tables))}." if tables else ""
    return f"{folder} is a folder, and a table is wanted here: name the file.{named}"


def _is_fits(path: Path) -> bool:
    form = format_of(path)
    return form is not None and form.name == "fits"


def holds_table(path: Path) -> bool:
    """Return whether a FITS file among cutouts is a table; only the first block of most files is read."""
    try:
        check_file(path)
        with Input(path) as source:
            head = source.read(_FITS_BLOCK)
        if not _NO_IMAGE.search(head) or not head.startswith(b"SIMPLE"):
            return False
        return contents_of(path).kind == "table"
    except CatalogError:  # a damaged or unclear file is a cutout that cannot be read
        return False


def parquet_folder(folder: Path) -> str:
    """Return why a folder with a table, as Dask and Spark write it, is not an input; '' if it has no table."""
    n_files = sum(1 for depth in ("*", "*/*") for _ in folder.glob(f"{depth}.parquet"))
    if not n_files:
        return ""
    joined = f"{folder.name.removesuffix('.parquet')}_joined.parquet"
    return (
        f"{folder} is a folder of Parquet files ({n_files}), which are read one at a time. Make one file of them: "
        f"python -c \"from pyarrow import parquet as p; p.write_table(p.read_table('{folder}'), '{joined}')\""
    )


def _meant(path: Path, tables: Sequence[TableSummary], named: Collection[str]) -> TableSummary:
    """Return the table of galaxies among those of a file: the one with cutouts, positions and identifiers.

    Where none has any of them, it is the first.

    Raises
    ------
    CatalogError
        If several are as likely as each other.
    """
    tables = [table for table in tables if table.name not in _NOT_OF_GALAXIES] or tables
    if len(tables) == 1:
        return tables[0]
    names = {plain_name(name) for name in named}
    fitting = [table for table in tables if names <= {plain_name(field.name) for field in table.fields}]
    uses = [usefulness(table.fields) for table in fitting]
    best = [table for table, use in zip(fitting, uses, strict=True) if use == max(uses)]
    filled = [table for table in best if table.n_rows != 0] or best
    if not filled:
        return tables[0]
    if len(filled) > 1 and (max(uses) or names):
        listed = "; ".join(_described(table) for table in filled)
        raise CatalogError(f"{path} holds {len(filled)} tables that may be meant: {listed}. Say which with --hdu")
    return filled[0]


def _described(table: TableSummary) -> str:
    names = [field.name for field in table.fields]
    columns = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    rows = "" if table.n_rows is None else f", {table.n_rows} rows"
    return str(table.number) + (f" ({table.name[:40]})" if table.name else "") + f": {columns}{rows}"


def _fits(path: Path, form: Format, number: int | None, named: Collection[str], wanted: str | None) -> Contents:
    hdus = [] if wanted == "table" else list_hdus(path)
    images = [(n, shape) for n, _, shape in hdus if _is_picture(shape)]
    stored = [n for n, kind, _ in hdus if kind == "binary table"]
    for n, shape in images:
        if n == number:
            return _image(n, shape)
    if number is not None:
        return Contents("table", f"--hdu {number} is not an image", form, number)
    if images and (wanted == "image" or not _is_catalog(path, images[0][0], stored, form)):
        return _image(*images[0])
    if wanted == "image":
        raise CatalogError(f"{path} holds no image of two axes; a table of galaxies is given as a catalog")
    tables = form.tables(path) if form.tables else []
    if not tables:  # the format gives the reason, unless the only table does not list galaxies
        return Contents("table", "it is FITS", form)
    meant = _meant(path, tables, named)
    return Contents("table", f"HDU {meant.number} is a table", form, meant.number)


def _counts(table: TableSummary) -> bool:
    return bool(table.n_rows) and table.name not in _NOT_OF_GALAXIES


def _is_picture(shape: tuple[int, ...]) -> bool:
    return len(shape) > 1 and min(shape[-2:]) > 1


def _image(number: int, shape: tuple[int, ...]) -> Contents:
    size = " x ".join(map(str, reversed(shape)))
    return Contents("image", f"HDU {number} is an image of {size} px", number=number, side_px=max(shape[-2:]))


def _is_catalog(path: Path, image: int, stored: Sequence[int], form: Format) -> bool:
    """Return whether a file with an image is a catalog: whether a table of galaxies comes before the image.

    `image` is the HDU of the first image, `stored` are the HDUs of tables. CatalogError: a catalog
    follows an image, or the tables before it are damaged.
    """
    if not stored:  # in a compressed file, a search after the image would decompress all pixels
        return False
    try:
        tables = form.tables(path) if form.tables else []
    except CatalogError:
        if min(stored) < image:
            raise
        return False  # the reader of images reports the error
    uses = {table.number: usefulness(table.fields) for table in tables if _counts(table)}
    if any(use and number < image for number, use in uses.items()):
        return True
    catalogs = [table for table in tables if uses.get(table.number, 0) >= _A_CATALOG]
    if catalogs:
        raise CatalogError(
            f"{path} holds an image (HDU {image}) and a table of galaxies (HDU {_described(catalogs[0])}): say "
            "which is meant with --as catalog, or --as cutout or --as field for the image"
        )
    return False


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


def named_format(path: Path) -> Format:
    """Return the format that a file's suffix names.

    Raises
    ------
    CatalogError
        If it names none.
    """
    form = format_of(path)
    if form is None:
        suffixes = ", ".join(suffix for form in formats() for suffix in form.suffixes)
        raise CatalogError(f"{path} has no suffix that names a table format: {suffixes}")
    return form


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
    if start.startswith(b"#asdf"):
        raise CatalogError(f"{path} is ASDF, which is not read; save its table as FITS or Parquet, its images as FITS")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise CatalogError(f"{path} is written in UTF-16; save it as UTF-8")
    if head.startswith(b"PK") and (b"xl/" in head or path.suffix.lower() in _WORKBOOKS):
        raise CatalogError(f"{path} is a workbook of a spreadsheet program: save the sheet as CSV")
    for magic, program in _COMPRESSIONS.items():
        if head.startswith(magic):
            raise CatalogError(
                f"{path} is compressed by {program}, so it is none of the table formats that are read here: unpack it, "
                "or use gzip or bzip2"
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
