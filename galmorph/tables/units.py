"""Units as catalogs spell them, in addition to those of astropy.units."""

from __future__ import annotations

import warnings

# Units of angle that astropy spells otherwise or takes for times; VizieR writes "h:m:s" with its quotes.
_HABITS = {
    "deg": "degs d degrees dms d:m:s",
    "rad": "rads radians",
    "arcmin": "arcmins arcminutes amin '",
    "arcsec": "arcsecs arcseconds asec ''",
}
_UNITS = {spelling: unit for unit, spellings in _HABITS.items() for spelling in spellings.split()}
_HOURS = frozenset(["hourangle", "h", "hr", "hrs", "hour", "hours", "hms", "h:m:s"])


def angle_factor(text: str, unit: str) -> float:
    """Return the factor from a unit of angle to another.

    Parameters
    ----------
    text : str
        The unit as a catalog spells it; '' means `unit`.
    unit : {'deg', 'arcsec'}
        The unit that is wanted.

    Raises
    ------
    ValueError
        If it is not a unit of angle.
    """
    given = text.strip(' "[]().').lower()
    if given in ("", unit):
        return 1.0
    from astropy import units

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", units.UnitsWarning)
        try:
            if given in _HOURS:
                return 15 * float(units.deg.to(unit))
            return float(units.Unit(_UNITS.get(given, given)).to(unit))
        except (TypeError, units.UnitConversionError) as error:
            raise ValueError(str(error)) from error


def is_unit(text: str) -> bool:
    """Return whether a text is a unit of any kind."""
    given = text.strip(' "[]().')
    if given.lower() in _UNITS or given.lower() in _HOURS:
        return True
    from astropy import units

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", units.UnitsWarning)
        try:
            return bool(given) and units.Unit(given) is not None
        except (ValueError, TypeError):
            return False
