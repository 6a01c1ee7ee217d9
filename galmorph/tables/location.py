"""Location: the positions of an opened table, in the unit and the frame that its columns and its file state."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from galmorph.errors import CatalogError
from galmorph.tables.formats import Table, TableField
from galmorph.tables.positions import Frame, Positions, to_float
from galmorph.tables.roles import Roles, may_be_radians, with_unit
from galmorph.tables.systems import named_frame
from galmorph.tables.targets import with_points

log = logging.getLogger(__name__)

_READ_ROWS = 16384


def located(table: Table, roles: Roles, frame: Frame | None) -> Positions | None:
    """Return the positions of an opened table, None where it has none.

    Parameters
    ----------
    roles : Roles
        Its columns.
    frame : Frame or None
        The frame that the user named; None for that which the file declares, or the columns' names state.

    Raises
    ------
    CatalogError
        If the columns have a unit or a frame that cannot be read, or may be in radians as well as in degrees.
    """
    pair = [table.fields[p] for p in (roles.ra, roles.dec) if p is not None]
    if not pair:
        return None
    if "ra" not in roles.chosen:
        _check_radians(table, roles)
    return Positions(with_unit(pair[0]), with_unit(pair[1]), frame or _declared(pair))


def _declared(pair: Sequence[TableField]) -> Frame:
    """Return the frame that the file declares for its positions, or that their names state."""
    names = " and ".join(field.name for field in pair)
    declared = {field.frame for field in pair}
    if len(declared) > 1:
        declared.discard("")  # of a pair, one column may refer to the system for both
    if len(declared) > 1:
        raise CatalogError(f"{names} are in different systems of coordinates: {', '.join(sorted(declared))}")
    stated, named = declared.pop(), named_frame([f.name for f in pair], [f.ucd for f in pair])
    if named is not None and named != stated:
        equatorial = named == "" or named.startswith("fk")
        if stated and equatorial:
            raise CatalogError(
                f"the names of {names} mean {named or 'J2000'}, but the file says that they are in {stated}: say which "
                "is right with --frame"
            )
        stated = named if not stated or not stated.startswith(named) else stated
    if not stated:
        return Frame("icrs")
    try:
        frame = Frame(stated)
    except CatalogError as error:
        raise CatalogError(
            f"the file says of {names} that their system is one that is not read here: {error}"
        ) from error
    log.info("%s are in %s; they are converted to ICRS.", names, stated)
    return frame


def _check_radians(table: Table, roles: Roles) -> None:
    """Raise CatalogError if positions without a unit may be radians as well as degrees."""
    positions = [p for p in (roles.ra, roles.dec) if p is not None and may_be_radians(table.fields[p])]
    block = next(table.blocks(positions, _READ_ROWS, 0), None) if positions else None
    if block is None:
        return
    columns = (with_points(column, table.fields[p].decimal) for column, p in zip(block, positions, strict=True))
    values = np.abs(np.concatenate([to_float(column) for column in columns]))
    if np.isfinite(values).any() and np.nanmax(values) < 2 * np.pi:
        names = ", ".join(table.fields[p].name for p in positions)
        raise CatalogError(
            f"{names} have no unit and may be in radians or in degrees: give the columns their unit, or name them with "
            "--ra-column and --dec-column, which means degrees"
        )
