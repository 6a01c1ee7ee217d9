"""Location: the positions of an opened table, in the unit and the frame that its columns and its file state."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from galmorph.errors import CatalogError
from galmorph.tables.formats import Table, TableField
from galmorph.tables.positions import Frame, Positions, to_float
from galmorph.tables.roles import Roles, may_be_radians, with_unit
from galmorph.tables.targets import with_points

log = logging.getLogger(__name__)

_READ_ROWS = 16384


def located(table: Table, roles: Roles, frame: Frame) -> Positions | None:
    """Return the positions of an opened table, None where it has none.

    Parameters
    ----------
    roles : Roles
        Its columns.
    frame : Frame
        The frame that the user named; instead of ICRS, that which the file declares.

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
    if frame.name == "icrs":
        frame = _declared(pair) or frame
    return Positions(with_unit(pair[0]), with_unit(pair[1]), frame)


def _declared(pair: Sequence[TableField]) -> Frame | None:
    """Return the frame that the file declares for its positions, if it is not ICRS."""
    declared = {field.frame for field in pair}
    if declared == {""}:
        return None
    names = " and ".join(field.name for field in pair)
    if len(declared) > 1:
        raise CatalogError(f"{names} are in different systems of coordinates: {', '.join(sorted(declared))}")
    try:
        frame = Frame(declared.pop())
    except CatalogError as error:
        raise CatalogError(
            f"the file says of {names} that their system is one that is not read here: {error}"
        ) from error
    log.info("%s are in %s, as the file says; they are converted to ICRS.", names, pair[0].frame)
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
