"""Systems of coordinates as files declare them (COOSYS, STC, RADESYS) and as names of columns state them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_NAMES = {
    "fk4": "fk4",
    "b1950": "fk4",
    "fk4_no_e": "fk4noeterms",
    "fk5": "fk5",
    "j2000": "fk5",
    "galactic": "galactic",
    "galactic_ii": "galactic",
    "supergalactic": "supergalactic",
    "super_galactic": "supergalactic",
    "ecl_fk5": "barycentricmeanecliptic",
    "ecliptic": "barycentricmeanecliptic",
}
_ICRS = frozenset(("icrs", "barycentric", "xy", "unknown", "unknownframe"))
_DEFAULT_EQUINOX = {"fk4": "B1950", "fk4noeterms": "B1950", "fk5": "J2000", "barycentricmeanecliptic": "J2000"}
# The same positions as ICRS to 0.1 arcsec; the equinox that a frame has of itself.
_SAME = {"fk5 J2000": "", "barycentricmeanecliptic J2000": "barycentricmeanecliptic"}
_EQUINOX = re.compile(r"([BJ]?) ?(\d{4})(?:\.0*|(\.\d+))?")
# In comments of text tables.
_CARD = re.compile(r"#\s*(RADE?C?SYS|EQUINOX)\s*[=:]\s*([^/]+)", re.IGNORECASE)
_COOSYS = re.compile(
    r"#\s*COOSYS\s+\S+?:?\s+(eq_\w+|galactic|supergalactic|ecl_\w+|ICRS)(?:\s+([BJ]?\d{4}\S*))?", re.IGNORECASE
)
# Without RADESYS, the FITS standard has FK4 before this equinox and FK5 from then on.
_FIRST_FK5 = 1984
# Equinoxes in names of columns; other years are epochs of the observation, as Gaia's J2016.
_NAMED_EQUINOX = re.compile(r"(?:^|[^0-9])([bj]?)[._ ]?(1855|1875|1900|1950|2000)(?:\.0)?(?![0-9])")
_NAMED_SYSTEM = re.compile(r"_(fk4|fk5|icrs|galactic|supergalactic|ecliptic)$")
# Names that only longitudes and latitudes of a frame have, with `_` for blanks, in lower case.
_AXES = {
    "galactic": "glon glat gal_lon gal_lat gal_l gal_b l b lii bii galactic_longitude galactic_latitude",
    "supergalactic": "sgl sgb slon slat supergalactic_longitude supergalactic_latitude",
    "barycentricmeanecliptic": "elon elat ecl_lon ecl_lat ecliptic_longitude ecliptic_latitude",
}
_OF_AXIS = {name: frame for frame, names in _AXES.items() for name in names.split()}
_OF_UCD = {"galactic": "galactic", "supergalactic": "supergalactic", "ecliptic": "barycentricmeanecliptic"}


def declared_frame(system: str, equinox: str) -> str:
    """Return the frame of a declared system: astropy's name, and the equinox where it has one; '' for ICRS.

    FK5 of J2000 counts as ICRS, from which it differs by less than 0.1 arcsec: many files declare it for either. What
    has no name here is returned as it is, for a message.

    Parameters
    ----------
    system : str
        Such as ``eq_FK4``, ``FK5``, ``galactic``, ``UTC-FK4-TOPO`` of STC; '' where only the equinox is given.
    equinox : str
        Such as ``B1950.0``, ``1950``; '' for the usual one.
    """
    given = system.strip().lower().removeprefix("eq_").replace("fk4-no-e", "fk4_no_e").replace("-ii", "_ii")
    words = re.split(r"[^a-z0-9_]+", given)
    year = _EQUINOX.fullmatch(equinox.strip().upper())
    if not given and year:
        name = "fk4" if int(year[2]) < _FIRST_FK5 else "fk5"
    elif not given or not _ICRS.isdisjoint(words):
        return ""
    else:
        name = next((_NAMES[word] for word in words if word in _NAMES), given)
    if name not in _DEFAULT_EQUINOX:
        return name
    usual = _DEFAULT_EQUINOX[name]
    stated = f"{year[1] or usual[0]}{year[2]}{year[3] or ''}" if year else equinox.strip().upper() or usual
    full = f"{name} {stated}"
    return _SAME.get(full, full)


def card_frame(cards: Mapping[str, str]) -> str:
    """Return the frame that cards of FITS declare (``RADESYS``, ``RADECSYS``, ``EQUINOX``), as `declared_frame`.

    A text that names no system is as if it were not there. ``EPOCH``, which once was the equinox and is that of the
    observation in tables of today, counts where it is 1950.
    """
    system = cards.get("RADESYS") or cards.get("RADECSYS") or ""
    system = system if is_frame_name(system) else ""
    old = re.fullmatch(r"B?1950(\.0*)?", cards.get("EPOCH", "").strip(), re.IGNORECASE)
    return declared_frame(system, cards.get("EQUINOX", "") or ("B1950" if old and not system else ""))


def comment_frame(lines: Iterable[str]) -> str:
    """Return the frame that comments before a text table declare, as `declared_frame`.

    Parameters
    ----------
    lines : iterable of str
        Such as ``# EQUINOX = 1950``, and VizieR's ``#Coosys B1950: eq_FK4 B1950`` where it is the only one.
    """
    cards: dict[str, str] = {}
    systems = []
    for line in lines:
        if card := _CARD.match(line):
            cards[card[1].upper()] = card[2].strip("'\" ")
        elif system := _COOSYS.match(line):
            systems.append(declared_frame(system[1], system[2] or ""))
    return card_frame(cards) or (systems[0] if len(systems) == 1 else "")


def is_frame_name(text: str) -> bool:
    """Return whether a text names a system that `declared_frame` has a name for."""
    frame = declared_frame(text, "")
    return not frame or frame.partition(" ")[0] in _NAMES.values()


def named_frame(names: Iterable[str], ucds: Iterable[str] = ()) -> str | None:
    """Return the frame that the names or the UCDs of two columns state, as `declared_frame`; None where they do not.

    Parameters
    ----------
    names : iterable of str
        Such as ``RAB1950``, ``glon``.
    ucds : iterable of str
        Such as ``pos.galactic.lon``.
    """
    for ucd in ucds:
        for word, frame in _OF_UCD.items():
            if ucd.strip().lower().replace("_", ".").startswith(f"pos.{word}."):
                return frame
    frames = {_of_name(name) for name in names}
    return frames.pop() if len(frames) == 1 else None


def _of_name(name: str) -> str | None:
    plain = re.sub(r"[\s-]+", "_", re.sub(r"[\s_]*[\[(](?!.*\d{4}).*[\])]", "", name.strip())).lower()
    if plain in _OF_AXIS:
        return _OF_AXIS[plain]
    if plain.rpartition(".")[2] in ("l", "b"):  # of a SkyCoord of astropy
        return "galactic"
    if behind := _NAMED_SYSTEM.search(plain):
        return declared_frame(behind[1], "")
    stated = _NAMED_EQUINOX.search(name.lower())
    if stated is None:
        return None
    return declared_frame({"b": "fk4", "j": "fk5"}.get(stated[1], ""), stated[2])
