"""Matching: the file of each row's cutout, by a column of paths or by identifiers in the files' names.

Row numbers are never identifiers of files. Of several columns that may hold the identifier, the one whose values name
files is meant; where two of them name different files for a row, the catalog is refused.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from shlex import quote

from galmorph.errors import CatalogError, listed
from galmorph.files.remote import Remote, is_remote
from galmorph.images.cutout import cutout_files, named_cutouts
from galmorph.images.headers import SUFFIX, UNREAD_COMPRESSIONS
from galmorph.tables.catalog import Catalog
from galmorph.tables.roles import is_row_index, plain_name

log = logging.getLogger(__name__)

# How many rows are used to choose columns.
SAMPLE_ROWS = 20_000
_BLOCK_ROWS = 16_384
# How many columns are searched for a hint, if none has a usual name of identifiers.
_MAX_HINTS = 200
_LISTED = 12
_FLOAT = re.compile(r"([+-]?\d+)\.0*|[+-]?\d+(?:\.\d+)?e\+?\d+", re.IGNORECASE)
# All whole numbers up to this are exact in float64.
_EXACT = 2**53


class CutoutFiles:
    """The cutouts of a catalog's rows.

    Parameters
    ----------
    folder : Path
        Paths are relative to it and may not leave it.
    by_name : mapping of str to Path or str, optional
        The files by the identifier that they are named by, or the reason why one is not clear. Default: the rows give
        paths.
    follows_links : bool
        Whether links in the folder may lead out of it: where the user names the folder.
    """

    def __init__(
        self,
        folder: Path | Remote,
        by_name: Mapping[str, Path | Remote | str] | None = None,
        *,
        follows_links: bool = False,
    ) -> None:
        self.folder = folder.resolve() if isinstance(folder, Path) else folder
        self._follows_links = follows_links
        self._by_name = by_name
        self._seen: set[str] = set()
        self._warned = False

    def of(self, text: str, name: str) -> Path | Remote | str:
        """Return a row's cutout, or the reason (text) why it has none.

        Parameters
        ----------
        text : str
            The path in the row.
        name : str
            The row's identifier.
        """
        if self._by_name is not None:
            return self._named(name, self._by_name)
        if not text:
            return f"{name}: the catalog names no cutout."
        if isinstance(self.folder, Remote) or is_remote(text):
            return self._remote(text, name)
        try:
            path = self.folder / text
            leads_to = path.resolve()
        except (OSError, RuntimeError, ValueError) as error:  # a link to itself; a NUL character
            return f"{name}: the cutout {text!r} cannot be opened: {error}."
        if leads_to.is_relative_to(self.folder):
            return path
        is_link = path.is_relative_to(self.folder) and ".." not in path.parts
        if is_link and self._follows_links:
            return path
        if is_link:
            return (
                f"{name}: the cutout {text} is a link to {leads_to}, outside {self.folder}: allow such links with "
                f"--cutouts {quote(str(self.folder))}."
            )
        return f"{name}: the cutout {text} lies outside {self.folder}; name its folder with --cutouts."

    def _remote(self, text: str, name: str) -> Remote | str:
        allowed = self.folder if isinstance(self.folder, Remote) else None
        address = Remote.of(text) if is_remote(text) else None if allowed is None else allowed / text
        if address is None or allowed is None or not allowed.holds(address):
            return f"{name}: the cutout {address or text} lies outside {self.folder}; name its folder with --cutouts."
        return address

    def _named(self, name: str, by_name: Mapping[str, Path | Remote | str]) -> Path | Remote | str:
        if not name:
            return f"a row without an identifier: no cutout in {self.folder} can be its own."
        key = file_key(name, by_name)
        if key is None:
            why = f"{name}: there is no cutout of this name in {self.folder}."
            if _FLOAT.fullmatch(name):
                why += " Identifiers as floats may have lost their last digits: write them as integers or as text."
            return why
        if key in self._seen and not self._warned:
            log.warning("%s identifies more than one row: rows of one identifier get the same cutout.", name)
            self._warned = True
        self._seen.add(key)
        return by_name[key]


def file_key(name: str, by_name: Mapping[str, Path | Remote | str]) -> str | None:
    """Return the name of an identifier's file, None if there is none.

    ``1.0`` is ``1`` where no file is named ``1.0``, and blanks may be written ``_``.
    """
    if name in by_name:
        return name
    name = name.removeprefix("=").strip("\"'")  # written so that spreadsheets do not read identifiers as numbers
    spaced = " ".join(name.split())
    forms = [name, _without_fraction(name), spaced, spaced.replace(" ", "_"), spaced.replace(" ", "")]
    return next((form for form in forms if form in by_name), None)


def _without_fraction(name: str) -> str:
    match = _FLOAT.fullmatch(name)
    if match is None:
        return name
    if match[1]:
        return match[1]
    value = float(name)
    return str(int(value)) if abs(value) < _EXACT and value.is_integer() else name


def files_by_name(folder: Path | Remote) -> dict[str, Path | Remote | str]:
    """Return the cutouts of a folder by name; for a name of several files, the reason why it is unclear.

    A file whose compression is not read does not count beside one that can be read.
    """
    by_name: dict[str, Path | Remote | str] = {}
    for name, file in sorted(cutouts_in(folder), key=lambda pair: _is_unread(pair[1])):
        if name in by_name:
            if _is_unread(file):
                continue
            by_name[name] = f"{name}: several cutouts have this name in {folder}, such as {file.name}."
        else:
            by_name[name] = file
    return by_name


def _is_unread(file: Path | Remote) -> bool:
    return file.name.lower().endswith(UNREAD_COMPRESSIONS)


def cutouts_in(folder: Path | Remote) -> Sequence[tuple[str, Path | Remote]]:
    """Return the cutouts of a folder by their names, as `galmorph.images.cutout.cutout_files` lists them."""
    if isinstance(folder, Path):
        return [(name, Path(file)) for name, file in cutout_files(folder)]
    return [(name, folder / file) for name, file in named_cutouts(folder.files())]


def match(catalog: Catalog, cutouts: str | Path | None, beside: Path | Remote) -> tuple[Catalog, CutoutFiles]:
    """Find out how a catalog's rows name their cutouts.

    Parameters
    ----------
    cutouts : path, optional
        The folder that the user named.
    beside : Path or Remote
        The folder otherwise.

    Returns
    -------
    (Catalog, CutoutFiles)
        The catalog with the columns of paths and of identifiers that are meant.

    Raises
    ------
    CatalogError
        If the catalog names no cutouts and no folder is given, if it is none, or if it is not clear what is meant.
    """
    folder = beside if cutouts is None else Remote.of(cutouts) if is_remote(cutouts) else Path(cutouts)
    column = catalog.cutout_column
    if column is None and cutouts is None:
        raise CatalogError(
            f"{catalog.path} has no column 'cutout' and --cutouts names no folder: get cutouts with "
            f"galmorph fetch --catalog {quote(str(catalog.path))}, name the column of paths with --cutout-column, "
            "or give --cutouts DIR with files named <id>.fits."
        )
    if isinstance(folder, Path) and not folder.is_dir():
        raise CatalogError(f"--cutouts {folder} is not a folder.")
    if column is not None:
        files = CutoutFiles(folder, follows_links=cutouts is not None)
        named = "cutout" in catalog.chosen or plain_name(column) == "cutout"
        if named or not catalog.n_rows or _any_exists(catalog, files):
            _check_absolute(catalog, files)
            return catalog, files
        if cutouts is None:
            _check_absolute(catalog, files)
            raise CatalogError(
                f"The column {column} of {catalog.path} names no file under {folder}: name the folder of the cutouts "
                "with --cutouts, or the column of their paths with --cutout-column."
            )
    by_name = files_by_name(folder)
    return _by_identifier(catalog, folder, by_name), CutoutFiles(folder, by_name)


def _any_exists(catalog: Catalog, files: CutoutFiles) -> bool:
    for targets in catalog.blocks(_BLOCK_ROWS):
        paths = (files.of(text, "") for text in targets.cutout if text)
        if any(isinstance(path, Remote) or (isinstance(path, Path) and path.is_file()) for path in paths):
            return True
        if targets.row[-1] >= SAMPLE_ROWS:
            break
    return False


def _check_absolute(catalog: Catalog, files: CutoutFiles) -> None:
    """Raise CatalogError if all of the first rows name files by absolute paths in other folders."""
    targets = next(catalog.blocks(_BLOCK_ROWS), None)
    texts = [text for text in targets.cutout if text] if targets is not None else []
    if texts and all(is_remote(text) and isinstance(files.of(text, ""), str) for text in texts):
        raise CatalogError(
            f"The cutouts of {catalog.path} are addresses ({texts[0]}): allow them with --cutouts and what all of them "
            f"begin with, such as --cutouts {Remote.of(texts[0]).parent}"
        )
    if texts and all(text.startswith("/") and isinstance(files.of(text, ""), str) for text in texts):
        raise CatalogError(
            f"The cutouts of {catalog.path} are absolute paths ({texts[0]}) outside {files.folder}: allow them with "
            "--cutouts / or with the folder that all of them lie in."
        )


def _by_identifier(catalog: Catalog, folder: Path | Remote, by_name: Mapping[str, Path | Remote | str]) -> Catalog:
    """Return the catalog with the column of identifiers that the names of files contain."""
    if "id" in catalog.chosen:
        return catalog.by_identifier()
    within = catalog.within_column
    if within is not None and any(_keys(catalog, None, by_name) or ()):
        return catalog.by_identifier()
    keys = {position: _keys(catalog, position, by_name) for position in catalog.id_candidates}
    usable = {position: found for position, found in keys.items() if found is not None}
    matching = {position: found for position, found in usable.items() if any(found)}
    for (one, first), (other, second) in combinations(matching.items(), 2):
        if any(a and b and a != b for a, b in zip(first, second, strict=True)):
            names = catalog.column_names
            raise CatalogError(
                f"The columns {names[one]} and {names[other]} of {catalog.path} both name cutouts in {folder}, and "
                "different ones: say which is meant with --id-column."
            )
    if matching:
        best = max(matching, key=lambda position: sum(map(bool, matching[position])))
        chosen = catalog.by_identifier(best)
        if within is not None and chosen.id_column == catalog.id_column:
            _check_unique(chosen, within)
        return chosen
    if galaxies := [name for name in catalog.column_names if name and file_key(SUFFIX.sub("", name), by_name)]:
        raise CatalogError(
            f"The first line of {catalog.path} names a cutout ({galaxies[0]}), so it is a galaxy's: give the table a "
            "first line with the names of its columns."
        )
    hint = _hint(catalog, by_name, usable)
    if usable and not hint:
        return catalog.by_identifier(next(iter(usable)))
    names = catalog.column_names
    what = "has no column of identifiers that galmorph knows" + (f" (it has {listed(names, _LISTED)})" if names else "")
    if usable:
        what = f"names no file in {folder} by its column {catalog.column_names[next(iter(usable))]}"
    raise CatalogError(
        f"{catalog.path} {what}, and the cutouts are found by identifier: name the column with --id-column"
        + (f" (values of {hint} are names of files)." if hint else ", or that of their paths with --cutout-column.")
    )


def _check_unique(catalog: Catalog, within: str) -> None:
    """Raise CatalogError if identifiers in names of files are unique only within a brick, not in the table."""
    seen: set[str] = set()
    for targets in catalog.blocks(_BLOCK_ROWS):
        for name in filter(None, targets.id):
            if name in seen:
                raise CatalogError(
                    f"{catalog.id_column} is unique only within one {within}, and {name} is that of several rows of "
                    f"{catalog.path}: name the cutouts <{within}>_<{catalog.id_column}>.fits, or give their paths in a "
                    "column and name it with --cutout-column."
                )
            seen.add(name)


def _keys(
    catalog: Catalog, position: int | None, by_name: Mapping[str, Path | Remote | str]
) -> list[str | None] | None:
    """Return the names of the files of a column's first values; None if these are row numbers."""
    keys: list[str | None] = []
    numbers = position is not None and is_row_index(catalog.column_names[position])
    counts = {0, 1} if numbers else set()  # pandas counts rows from 0, R from 1
    for targets in catalog.by_identifier(position).blocks(_BLOCK_ROWS):
        counts = {
            start for start in counts if targets.id.tolist() == [str(row + start) for row in targets.row.tolist()]
        }
        keys += [file_key(name, by_name) for name in targets.id]
        if len(keys) >= SAMPLE_ROWS:
            break
    return None if counts else keys


def _hint(catalog: Catalog, by_name: Mapping[str, Path | Remote | str], others: Mapping[int, object]) -> str:
    """Return the name of a column whose values are names of files, '' if there is none."""
    scalar = [position for position in catalog.scalar_columns if position not in others]
    for position in scalar[:_MAX_HINTS]:
        targets = next(catalog.by_identifier(position).blocks(1000), None)
        if is_row_index(catalog.column_names[position]) or targets is None:
            continue
        if any(file_key(name, by_name) for name in targets.id):
            return catalog.column_names[position]
    return ""
