"""Systems of coordinates as files declare them, in COOSYS of VOTables and RADESYS of FITS."""

from __future__ import annotations

_NAMES = {
    "fk4": "fk4",
    "fk4-no-e": "fk4noeterms",
    "fk5": "fk5",
    "galactic": "galactic",
    "supergalactic": "supergalactic",
    "super_galactic": "supergalactic",
    "ecl_fk5": "geocentricmeanecliptic",
    "ecliptic": "geocentricmeanecliptic",
}
_DEFAULT_EQUINOX = {"fk4": "B1950", "fk4noeterms": "B1950", "fk5": "J2000"}


def declared_frame(system: str, equinox: str) -> str:
    """Return the frame of a declared system: astropy's name, and the equinox where it has one; '' for ICRS.

    FK5 of J2000 counts as ICRS, from which it differs by less than 0.1 arcsec: many files declare it for either. What
    has no name here is returned as it is, for a message.

    Parameters
    ----------
    system : str
        Such as ``eq_FK4``, ``FK5``, ``galactic``.
    equinox : str
        Such as ``B1950.0``, ``1950``; '' for the usual one.
    """
    given = system.strip().lower().removeprefix("eq_")
    if given in ("", "icrs", "barycentric", "xy"):
        return ""
    name = _NAMES.get(given, given)
    if name not in _DEFAULT_EQUINOX:
        return name
    year = equinox.strip().upper().removesuffix(".0") or _DEFAULT_EQUINOX[name]
    year = year if year[0] in "BJ" else f"{_DEFAULT_EQUINOX[name][0]}{year}"
    return "" if (name, year) == ("fk5", "J2000") else f"{name} {year}"
