"""Footprints: the sky that a survey covers, as a MOC, so that no request is made outside it.

galmorph ships none, because a wrong one would lose galaxies. `from_bricks` makes one of the Legacy Surveys' own table
of bricks; any other MOC (CDS publishes one for each HiPS) serves as well. A footprint that is saved as ``<layer>.fits``
in the folder that ``GALMORPH_FOOTPRINTS`` names is used by every `galmorph fetch` of that layer.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.environment import Variable
from galmorph.errors import GalmorphError

# HEALPix order of the cells of a footprint made of bricks: 3.4 arcmin.
_ORDER = 10
# A position is refused only if its cell of this order (14 arcmin) and all neighbours have no coverage, so that a cutout
# that reaches into the footprint is requested.
_COARSE_ORDER = 8


@dataclass(frozen=True)
class Footprint:
    """The sky that a layer covers.

    Parameters
    ----------
    name : str
    moc : mocpy.MOC
    """

    name: str
    moc: Any

    def may_cover(self, ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which positions (ICRS degrees; finite) are in the footprint or near it."""
        import astropy.units as u

        return np.asarray(self.moc.contains_lonlat(ra * u.deg, dec * u.deg), bool)


def load(name: str) -> Footprint | None:
    """Return the footprint of a layer; None where there is no file for it.

    Raises
    ------
    GalmorphError
        If the file is no MOC.
    """
    folder = Variable.FOOTPRINTS.read()
    path = Path(folder, f"{name}.fits")
    if not folder or not path.is_file():
        return None
    from mocpy import MOC

    try:
        moc = MOC.from_fits(str(path))
    except (OSError, ValueError) as error:
        raise GalmorphError(f"{path} is not a MOC: {error}. Replace it, or unset {Variable.FOOTPRINTS}.") from error
    coarse = moc.degrade_to_order(_COARSE_ORDER) if moc.max_order > _COARSE_ORDER else moc
    return Footprint(name, coarse.extended())


def from_bricks(path: str | os.PathLike[str], bands: str = "grz") -> Any:
    """Make the MOC of a table of bricks: those that were observed in at least one of the bands.

    Parameters
    ----------
    path : path
        ``survey-bricks-dr9-south.fits.gz`` or the like, with the columns ``ra1``, ``ra2``, ``dec1``, ``dec2`` (degrees)
        and ``nexp_<band>``; see https://www.legacysurvey.org/dr9/files/.
    bands : str

    Returns
    -------
    mocpy.MOC
        Save it with its method ``save``.

    Raises
    ------
    GalmorphError
        If it is not such a table, or no brick was observed.
    """
    import astropy.units as u
    from astropy.table import Table
    from mocpy import MOC

    try:
        table = Table.read(path, format="fits", hdu=1)
        edges = [np.asarray(table[name], float) for name in ("ra1", "ra2", "dec1", "dec2")]
        observed = np.any([np.asarray(table[f"nexp_{band}"]) > 0 for band in bands], axis=0)
    except (OSError, KeyError, ValueError) as error:
        raise GalmorphError(f"{path} is not a table of bricks: {error}.") from error
    if not observed.any():
        raise GalmorphError(f"{path} has no brick that was observed in {bands}.")
    west, east, south, north = (edge[observed] for edge in edges)
    # Circles through the bricks' corners: a footprint may be too large, but never too small.
    half_width = (east - west) / 2 * np.cos(np.radians(np.minimum(abs(south), abs(north))))
    return MOC.from_cones(
        (west + east) / 2 * u.deg,
        (south + north) / 2 * u.deg,
        radius=np.hypot(half_width, (north - south) / 2) * u.deg,
        max_depth=_ORDER,
        union_strategy="small_cones",
    )
