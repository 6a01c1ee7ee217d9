"""Positions and angular sizes as catalogs write them: degrees or sexagesimal text, in any unit and frame."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from galmorph import registry
from galmorph.errors import CatalogError
from galmorph.tables.formats import Array, TableField, text_array
from galmorph.tables.units import angle_factor

Floats = NDArray[np.float64]

# Other characters for a minus (hyphens, dashes) and for degrees, minutes and seconds; then blanks between thousands.
_SIGNS = str.maketrans(
    {
        **dict.fromkeys("\u2212\u2010\u2011\u2012\u2013\uff0d", "-"),
        **dict.fromkeys("\u2032\u2019\u1d50", "'"),
        **dict.fromkeys("\u2033\u201d\u02e2", '"'),
        **dict.fromkeys("\u00ba", "°"),
        **dict.fromkeys("\u02b0", "h"),
    }
)
_BLANKS = dict.fromkeys(map(ord, "\u00a0\u2009\u202f"), "")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+\.\d*")
_FORTRAN = re.compile(r"([\d.])[dD]([+-]?\d+)$")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_SEXAGESIMAL = re.compile(
    r"([+-]?)\s*(\d{1,3})\s*([:hd°\s])\s*(\d{1,2}(?:\.\d*)?)\s*(?:(?:[:m'\s])\s*(\d{1,2}(?:\.\d*)?)\s*[s\"]?|[m']?)"
)


def scale(field: TableField, unit: str) -> float:
    """Return the factor from a column's unit to `unit`.

    Parameters
    ----------
    field : TableField
        The column; if it names no unit, it is in `unit`.
    unit : {'deg', 'arcsec'}
        The unit that is wanted.

    Raises
    ------
    CatalogError
        If the column's unit is not one of angle.
    """
    try:
        return angle_factor(field.unit, unit)
    except ValueError as error:
        raise CatalogError(
            f"column {field.name!r} has the unit {field.unit!r}, which is none of angle: write deg, rad, hourangle, "
            "arcmin, arcsec or mas"
        ) from error


def to_float(values: Array) -> Floats:
    """Return a column's numbers as float64; NaN where the cell is null or not a number."""
    if values.dtype != object:
        if values.dtype.kind not in "iufb":
            return np.full(len(values), np.nan)
        return np.ma.filled(values.astype(np.float64), np.nan)
    try:
        return values.astype(np.float64)
    except ValueError:
        return np.array([_number(cell) for cell in values], dtype=np.float64)


def _number(cell: str) -> float:
    """Return the number in a text: also with other minus signs, a degree sign, thousands (1,000.5), as 1.5D+02."""
    text = cell.strip().translate(_SIGNS).translate(_BLANKS).removesuffix("°").rstrip()
    if _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    try:
        return float(_FORTRAN.sub(r"\1e\2", text))
    except ValueError:
        return np.nan


def sexagesimal(text: str, hours: bool) -> float:
    """Return an angle in degrees from text such as ``12:30:45.6``, ``12h30m45.6s`` or ``-00 30 12``.

    Parameters
    ----------
    text : str
        The angle. An ``h`` in it means hours and a ``d`` or ``°`` degrees, whatever `hours` says; a comma is as good as
        a point.
    hours : bool
        Whether the first number counts hours (15 degrees each).

    Returns
    -------
    float
        Degrees; NaN if the text is no such angle.
    """
    match = _SEXAGESIMAL.fullmatch(text.strip().lower().translate(_SIGNS).replace(",", "."))
    if match is None:
        return np.nan
    sign, whole, mark, minutes, seconds = match.groups()
    if float(minutes) > 60 or float(seconds or 0) > 60:
        return np.nan
    value = float(whole) + float(minutes) / 60 + float(seconds or 0) / 3600
    if mark == "h" or (hours and mark not in "d°"):
        value *= 15
    return -value if sign == "-" else value


@dataclass(frozen=True)
class Axis:
    """One of the two columns of a position.

    Parameters
    ----------
    field : TableField
        The column.
    low, high : float
        The range in degrees that makes sense, with both ends: 360 is 0.
    hours : bool
        Whether sexagesimal text counts hours where the column gives no unit.
    """

    field: TableField
    low: float
    high: float
    hours: bool

    def __post_init__(self) -> None:
        if not self.field.scalar:
            raise CatalogError(f"column {self.field.name!r} holds an array in each cell and cannot be a position")
        self._scale()

    def _scale(self) -> float:
        return scale(self.field, "deg")

    def degrees(self, values: Array) -> tuple[Floats, NDArray[np.object_]]:
        """Return the column's values in degrees (NaN where unusable), and for each why it is unusable or ''."""
        with np.errstate(invalid="ignore"):  # signalling NaNs, in columns of whatever bytes
            degrees = to_float(values) * self._scale()
        problem = np.full(len(values), "", dtype=object)
        hours = self._scale() == 15 if self.field.unit.strip() else self.hours
        for i in np.flatnonzero(np.isnan(degrees)):
            if values.dtype == object and values[i].strip() and values[i].strip().lower() != "nan":
                degrees[i] = sexagesimal(values[i], hours)
                if np.isnan(degrees[i]):
                    hint = " (a decimal comma?)" if _DECIMAL_COMMA.fullmatch(values[i].strip()) else ""
                    problem[i] = f"{self.field.name}={values[i]!r} is not a number{hint}"
            else:
                problem[i] = f"{self.field.name} is empty"
        with np.errstate(invalid="ignore"):
            outside = (degrees < self.low) | (degrees > self.high)
        for i in np.flatnonzero(outside):
            problem[i] = f"{self.field.name}={values[i]!s} is outside {self.low:g}..{self.high:g}"
        degrees[outside] = np.nan
        return degrees, problem


class Frame:
    """A frame of the sky, by astropy's name.

    Parameters
    ----------
    name : str
        ``icrs``, ``fk5``, ``fk4``, ``galactic``, ... (upper or lower case); an equinox may follow: ``fk4 B1975``.

    Raises
    ------
    CatalogError
        If astropy has no such frame, or cannot convert its positions to ICRS without a time or a location.
    """

    def __init__(self, name: str) -> None:
        self.name, _, equinox = name.strip().lower().partition(" ")
        self._equinox = {"equinox": equinox.strip().upper()} if equinox.strip() else {}
        if self.name == "icrs" and not equinox:
            return
        from astropy.coordinates import frame_transform_graph

        usable = frame_transform_graph.get_names()
        if self.name not in usable:
            raise CatalogError(registry.unknown("frame", name, usable))
        try:
            self.to_icrs(np.array([10.0]), np.array([20.0]))
        except Exception as error:  # astropy raises ValueError, TypeError, ConvertError and more, by frame
            raise CatalogError(
                f"positions in the frame {name!r} cannot be turned into ICRS from two angles alone: {error}"
            ) from error

    @property
    def equatorial(self) -> bool:
        """Whether the angles are right ascension and declination."""
        return self.name not in ("galactic", "supergalactic") and "ecliptic" not in self.name

    def to_icrs(self, lon: Floats, lat: Floats) -> tuple[Floats, Floats]:
        """Return ICRS right ascension (0..360) and declination in degrees; NaN stays NaN."""
        usable = np.isfinite(lon) & np.isfinite(lat)
        ra, dec = np.full(len(lon), np.nan), np.full(len(lat), np.nan)
        if self.name == "icrs":
            ra[usable], dec[usable] = lon[usable], lat[usable]
            ra[ra < 0] += 360
            ra[ra == 360] = 0
            return ra, dec
        from astropy import units
        from astropy.coordinates import SkyCoord

        sky = SkyCoord(lon[usable] * units.deg, lat[usable] * units.deg, frame=self.name, **self._equinox).icrs
        ra[usable], dec[usable] = sky.ra.deg, sky.dec.deg
        return ra, dec


class Positions:
    """Turns a catalog's two position columns into ICRS.

    Parameters
    ----------
    lon, lat : TableField
        The two columns.
    frame : Frame
        The frame that they are in.

    Raises
    ------
    CatalogError
        If a column's unit is none of angle or its cells are arrays.
    """

    def __init__(self, lon: TableField, lat: TableField, frame: Frame) -> None:
        self.frame = frame
        self.lon = Axis(lon, -180.0, 360.0, hours=frame.equatorial)
        self.lat = Axis(lat, -90.0, 90.0, hours=False)

    def icrs(self, lon: Array, lat: Array) -> tuple[Floats, Floats, NDArray[np.object_]]:
        """Return ra and dec in ICRS degrees (both NaN where either is unusable), and for each row the reason or ''."""
        x, x_problem = self.lon.degrees(lon)
        y, y_problem = self.lat.degrees(lat)
        ra, dec = self.frame.to_icrs(x, y)
        problem = [", ".join(filter(None, reasons)) for reasons in zip(x_problem, y_problem, strict=True)]
        return ra, dec, text_array(problem)
