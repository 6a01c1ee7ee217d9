"""Which new columns a table may get, and which columns of an earlier run they replace."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from galmorph import registry
from galmorph.errors import CatalogError, listed
from galmorph.tables.formats import Column


def replaced_columns(
    path: Path, names: Sequence[str], own: Collection[str], columns: Sequence[Column], *, replace: bool
) -> frozenset[int]:
    """Return the positions of the columns that new ones replace.

    Parameters
    ----------
    path : Path
        The table's file, for messages.
    names : sequence of str
        Its columns.
    own : collection of str
        Those of them that galmorph wrote.
    columns : sequence of Column
        The new ones.
    replace : bool
        Whether the new columns may replace galmorph's own.

    Raises
    ------
    CatalogError
        If a column exists already and may not be replaced.
    """
    new = check_names(columns)
    clashing = [i for i, name in enumerate(names) if name.lower() in new]
    own_names = _lower(own)
    foreign = [names[i] for i in clashing if names[i].lower() not in own_names]
    if clashing and not replace:
        raise CatalogError(
            f"{path} already has the columns {listed(names[i] for i in clashing)}: give the new ones a --prefix, or "
            "use --replace for those that galmorph wrote"
        )
    if foreign:
        raise CatalogError(
            f"{path} has no record that galmorph wrote its columns {listed(foreign)}, so --replace leaves them alone: "
            "give the new ones a --prefix"
        )
    superseded = _superseded(columns, own_names) if replace else set()
    return frozenset(i for i, name in enumerate(names) if i in clashing or name.lower() in superseded)


def check_names(columns: Sequence[Column]) -> set[str]:
    """Return the names of the columns in lower case; no column, or the same name twice, is an error."""
    names = _lower(column.name for column in columns)
    if not names:
        raise CatalogError("there are no columns to write")
    if len(names) < len(columns):
        raise CatalogError(f"two columns to write have the same name: {[column.name for column in columns]}")
    return names


_OTHERS = ("morph_label", "morph_entropy", "morph_set", "morph_ood", "morph_flag", "morph_ok")


def own_columns(names: Sequence[str], recorded: Collection[str]) -> tuple[str, ...]:
    """Return the columns that earlier runs of galmorph wrote.

    They are those that the file records. Where the record is lost (pandas, TOPCAT's plain FITS, any CSV) the
    names remain: the answers of a whole shipped schema beside ``morph_label`` and ``morph_flag``, under one prefix,
    are galmorph's.

    Parameters
    ----------
    names : sequence of str
        The columns of the table.
    recorded : collection of str
        Those that the file records as galmorph's.
    """
    lower = _lower(names)
    if any(name.lower() in lower for name in recorded):
        return tuple(name for name in recorded if name.lower() in lower)
    prefixes = {name.removesuffix("morph_flag") for name in lower if name.endswith("morph_flag")}
    own: set[str] = set()
    for prefix in (prefix for prefix in prefixes if f"{prefix}morph_label" in lower):
        for schema in registry.names("schemas"):
            answers = {f"{prefix}p_{label}".lower() for label in registry.load("schemas", schema).labels}
            if answers <= lower:
                shares = {f"{prefix}share_{label}".lower() for label in registry.load("schemas", schema).labels}
                errors = {f"{name}_err" for name in answers}
                own |= answers | errors | shares | {f"{prefix}{name}" for name in _OTHERS}
    return tuple(name for name in names if name.lower() in own)


def _superseded(columns: Sequence[Column], own_names: Collection[str]) -> set[str]:
    """Return galmorph's own columns (lower case) of an earlier classification with the prefix of a new one."""
    names = [column.name.lower() for column in columns]
    prefixes = [name.removesuffix("morph_flag") for name in names if name.endswith("morph_flag")]
    classified = [prefix for prefix in prefixes if any(name.startswith(f"{prefix}p_") for name in names)]
    return {
        name
        for prefix in classified
        for name in own_names
        if name.startswith((f"{prefix}p_", f"{prefix}share_", f"{prefix}morph_"))
    }


def _lower(names: Iterable[str]) -> set[str]:
    return {name.lower() for name in names}
