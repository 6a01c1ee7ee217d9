"""Detected galaxies of one or more survey images as one list, and the columns that describe them."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import GalmorphError
from galmorph.images.flags import DetectionFlag, describe_bits
from galmorph.images.headers import split_band
from galmorph.images.survey_image import Planes
from galmorph.images.wcs import edge_distance, near_pairs, sky
from galmorph.tables.catalog import Catalog, Column
from galmorph.tables.positions import to_float

log = logging.getLogger(__name__)
Array = NDArray[Any]

# Detections in two images closer than this are one galaxy: ten times the uncertainty of a position, but less than the
# distance of two galaxies that the seeing separates.
SAME_GALAXY_ARCSEC = 1.0
# Microjansky in a nanomaggy, for which FITS has no name.
MICROJANSKY = 3.631


@dataclass(frozen=True, eq=False)
class Detected:
    """The galaxies of some images.

    Attributes
    ----------
    targets : structured ndarray, shape (n,)
        ``image``, ``number``, ``x``, ``y``, ``r90`` (pixels), ``ra``, ``dec``, ``primary`` and the measurements.
    names : sequence of str
        The images' names.
    in_arcsec : bool
        Whether lengths are in arcsec; else in pixels.
    """

    targets: Array
    names: Sequence[str]
    bands: tuple[str, ...]
    in_arcsec: bool

    @classmethod
    def of(cls, images: Iterable[tuple[Planes, Array]], names: Sequence[str]) -> Detected:
        """Join the galaxies of images, and mark those in two images.

        Parameters
        ----------
        images : iterable of (Planes, structured ndarray)
            Each image with its objects, of which the galaxies are used.
        names : sequence of str

        Raises
        ------
        GalmorphError
            If the images have different bands.
        """
        tables: list[Array] = []
        bands: tuple[str, ...] = ()
        in_arcsec = True
        for image, (planes, objects) in enumerate(images):
            if bands not in ((), planes.bands):
                raise GalmorphError(f"{planes.name} has the bands {planes.bands}, and others {bands}.")
            bands, in_arcsec = planes.bands, math.isfinite(planes.pixscale)
            if not in_arcsec:
                log.warning(
                    "%s: its pixel scale is unknown; it is taken for the one that the model is for.", planes.name
                )
            if planes.wcs_problem:
                log.warning("%s: %s: its galaxies have no positions.", planes.name, planes.wcs_problem)
            tables.append(_located(objects[objects["galaxy"]], planes, image))
        targets = np.concatenate(tables)
        targets["primary"] = _primary(targets) if len(tables) > 1 else True
        return cls(targets, names, bands, in_arcsec)

    def columns(self) -> list[tuple[Column, Array]]:
        """Return the columns that describe the galaxies, with their values."""
        return [*self._positions(), *self._photometry(), *self._shapes()]

    def _positions(self) -> list[tuple[Column, Array]]:
        t, has_sky = self.targets, bool(np.isfinite(self.targets["ra"]).any())
        names = np.array([f"{self.names[i]}-{n}" for i, n in zip(t["image"], t["number"], strict=True)], dtype=object)
        width = max(map(len, names), default=1)
        columns = [(Column("id", "str", "", "meta.id;meta.main", "image and number in it", width), names)]
        if has_sky or not len(t):
            columns += [
                (Column(name, "float64", "deg", f"pos.eq.{name};meta.main", "ICRS"), t[name]) for name in ("ra", "dec")
            ]
        for name in "xy":
            what = "pixel of the image, from 0"
            columns.append((Column(name, "float64", "pix", f"pos.cartesian.{name};instr.det", what), t[name]))
        if len(self.names) > 1:
            images = np.array([self.names[i] for i in t["image"]], dtype=object)
            width = max(map(len, self.names), default=1)
            what = "image that it was found in"
            columns.append((Column("image", "str", "", "meta.id;obs.image", what, width), images))
            what = "1: the best or only row of this galaxy; 0: another image shows it farther from its edge"
            columns.append((Column("primary", "int16", "", "meta.code", what), t["primary"].astype(np.int16)))
        return columns

    def _photometry(self) -> list[tuple[Column, Array]]:
        columns = []
        for i, band in enumerate(self.bands):
            flux, error = (MICROJANSKY * self.targets[name][:, i] for name in ("flux", "flux_err"))
            what = f"in {band} in the Kron ellipse; 3.631 uJy are a nanomaggy"
            columns.append(_number(f"flux_{band}", flux, "uJy", "phot.flux;em.opt", what))
            what = f"uncertainty of flux_{band} from the noise of the sky"
            columns.append(_number(f"flux_err_{band}", error, "uJy", "stat.error;phot.flux;em.opt", what))
        what = "signal to noise of all bands in the Kron ellipse"
        return [*columns, _number("snr", self.targets["snr"], "", "stat.snr", what)]

    def _shapes(self) -> list[tuple[Column, Array]]:
        t, unit = self.targets, "arcsec" if self.in_arcsec else "pix"
        suffix, of = ("_r", "in r") if "r" in self.bands else ("", "on the sum of the bands")
        r50, r90 = f"petroR50{suffix}", f"petroR90{suffix}"
        north = "east of north" if np.isfinite(t["ra"]).any() else "from x to y"
        size, size_error, error = "phys.angSize", "stat.error;phys.angSize", "stat.error"
        kron = "semi-major axis of the Kron ellipse (2.5 Kron radii)"
        angle, angle_error = f"of the major axis, {north}, 0 to 180", "uncertainty of position_angle"
        return [
            _number("kron_radius", t["kron"], unit, size, kron),
            _number(r50, t["r50"], unit, size, f"radius of half of the Petrosian flux {of}"),
            _number(f"{r50}_err", t["r50_err"], unit, size_error, f"uncertainty of {r50}"),
            _number(r90, t["r90_all"], unit, size, f"radius of 90 % of the Petrosian flux {of}"),
            _number(f"{r90}_err", t["r90_err"], unit, size_error, f"uncertainty of {r90}"),
            _number("axis_ratio", t["axis_ratio"], "", f"{size};arith.ratio", "minor over major axis, of moments"),
            _number("axis_ratio_err", t["axis_ratio_err"], "", error, "uncertainty of axis_ratio"),
            _number("position_angle", t["pa"], "deg", "pos.posAng", angle),
            _number("position_angle_err", t["pa_err"], "deg", f"{error};pos.posAng", angle_error),
            (Column("detection_flag", "int16", "", "meta.code.qual", describe_bits(DetectionFlag)), t["flag"]),
        ]


def _number(name: str, values: Array, unit: str, ucd: str, what: str) -> tuple[Column, Array]:
    return Column(name, "float32", unit, ucd, what), values.astype(np.float32)


@dataclass(frozen=True)
class PixelPositions:
    """The galaxies of a table of detections: pixels from 0, R90, and the names of the images (empty for one image)."""

    x: Array
    y: Array
    r90: Array
    image: Sequence[str]
    in_pixels: bool


def has_pixels(names: Sequence[str]) -> bool:
    """Return whether a table has galaxies that galmorph detected, by the names of its columns."""
    return {"x", "y", "detection_flag"} <= {name.lower() for name in names}


def pixel_columns(catalog: Catalog) -> PixelPositions:
    """Return the pixels of the galaxies in a table of detections; see `has_pixels`."""
    radius = next((name for name in catalog.column_names if name.lower() in ("petror90_r", "petror90")), None)
    images = ["image"] if "image" in catalog.column_names else []
    values = catalog.read(["x", "y", *filter(None, [radius]), *images])
    x, y = (to_float(values[name]) for name in "xy")
    r90 = to_float(values[radius]) if radius else np.full(len(x), np.nan)
    unit = catalog.units.get(radius or "", "")
    return PixelPositions(x, y, r90, [str(name) for name in values.get("image", ())], unit.startswith("pix"))


def image_name(path: str) -> str:
    """Return the name of an image: its file's without band and suffix, or that of its folder."""
    name = split_band(Path(path).name)[0].replace("{band}", "").rstrip("-_.")
    return name or Path(path).absolute().parent.name or "field"


def _located(objects: Array, planes: Planes, image: int) -> Array:
    """Return the targets of an image's galaxies: on the sky, lengths in arcsec, angles in degrees."""
    more = [("image", "i4"), ("number", "i4"), ("ra", "f8"), ("dec", "f8"), ("edge", "f8"), ("primary", "?")]
    more += [("r90_all", "f8"), ("pa", "f8"), ("pa_err", "f8")]
    targets = np.zeros(len(objects), objects.dtype.descr + more)
    for name in objects.dtype.names or ():
        targets[name] = objects[name]
    targets["image"], targets["number"] = image, np.arange(1, len(objects) + 1)
    targets["edge"] = edge_distance(objects["x"], objects["y"], planes.shape)
    scale = planes.pixscale if math.isfinite(planes.pixscale) else 1.0
    targets["r90_all"] = objects["r90"]
    for name in ("kron", "r50", "r50_err", "r90_all", "r90_err"):
        targets[name] *= scale
    if math.isfinite(planes.flux_pixscale):  # the flux is per native pixel
        for name in ("flux", "flux_err"):
            targets[name] *= (scale / planes.flux_pixscale) ** 2
    angle = objects["theta"]
    targets["ra"] = targets["dec"] = math.nan
    if planes.wcs is not None and len(objects):
        targets["ra"], targets["dec"] = sky(planes.wcs, objects["x"], objects["y"])
        ra, dec = sky(planes.wcs, objects["x"] + np.cos(angle), objects["y"] + np.sin(angle))
        east = ((ra - targets["ra"] + 180) % 360 - 180) * np.cos(np.radians(targets["dec"]))
        angle = np.arctan2(east, dec - targets["dec"])
    targets["pa"], targets["pa_err"] = np.degrees(angle) % 180, np.degrees(objects["theta_err"])
    return targets


def _primary(targets: Array) -> NDArray[np.bool_]:
    """Return which detections are farther from the edge than in any other image."""
    primary = np.ones(len(targets), bool)
    located = np.flatnonzero(np.isfinite(targets["ra"]))
    for i, j in located[near_pairs(targets["ra"][located], targets["dec"][located], SAME_GALAXY_ARCSEC)]:
        if targets["image"][i] != targets["image"][j]:
            primary[j if targets["edge"][i] >= targets["edge"][j] else i] = False
    return primary
