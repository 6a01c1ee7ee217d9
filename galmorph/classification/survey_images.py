"""Fields: survey images as a source of targets: the galaxies found in them, or a catalog's, placed by the WCS."""

from __future__ import annotations

import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from galmorph.classification.sources import Addition, Result, file_state, output_beside
from galmorph.errors import CatalogError, GalmorphError, OutputError
from galmorph.images.detection import Detection, detect
from galmorph.images.flags import DetectionFlag, Flag, describe_bits
from galmorph.images.framing import cut
from galmorph.images.headers import split_band
from galmorph.images.inputs import ImageInput
from galmorph.images.quality import Flagger, are_blended, constant_bands
from galmorph.images.survey_image import (
    Planes,
    ZeroPoint,
    image_files,
    read_grid,
    read_planes,
    zero_points,
)
from galmorph.images.wcs import celestial_wcs, edge_distance, pixels, side_arcsec, sky
from galmorph.models.card import ModelCard
from galmorph.tables.catalog import Catalog, Column, write_catalog

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)
Array = NDArray[Any]

# Planes of so many bytes are kept in memory; of more images the ones that were not used for longest are read again.
MAX_OPEN_BYTES = 4 * 2**30
# Detections in two images that are nearer than this are one galaxy: ten times the uncertainty of a position, and
# closer than two galaxies that the seeing lets be told apart.
SAME_GALAXY_ARCSEC = 1.0
# Of a nanomaggy, which FITS knows no name for.
MICROJANSKY = 3.631
_READ_ROWS = 16_384
# A target that is ready: its flag, its framed flux (band, y, x) or None, the card's input, and why there is no flux.
Stamp = tuple[Flag, Any, "ImageInput | None", str]


@dataclass(eq=False)
class _Opened:
    """An image in memory, with what was found in it."""

    planes: Planes
    detection: Detection
    tensors: dict[str, Tensor] = field(default_factory=dict)

    @property
    def n_bytes(self) -> int:
        return self.planes.n_bytes + self.detection.n_bytes

    @cached_property
    def flagger(self) -> Flagger:
        return Flagger(self.planes, self.detection.noise, self.detection.sky, self.detection.seeing_px)

    def tensor(self, device: Any) -> Tensor:
        """Return the planes on a device; on the CPU they are the array itself."""
        import torch

        if str(device) not in self.tensors:
            self.tensors[str(device)] = torch.from_numpy(self.planes.flux).to(device)
        return self.tensors[str(device)]


class FieldSource:
    """Galaxies in survey images.

    Parameters
    ----------
    paths : sequence of str
        One for each image; ``{band}`` stands for one file a band.
    catalog : Catalog, optional
        Targets; without it the galaxies that are found in the images.
    hdu : int, optional
        Of the images, where a file holds several.
    zero_point : ZeroPoint
        As of `galmorph.images.survey_image.zero_points`.

    Raises
    ------
    GalmorphError
        If an image is missing, or the catalog has no positions.
    """

    def __init__(self, paths: Sequence[str], catalog: Catalog | None, hdu: int | None, zero_point: ZeroPoint) -> None:
        self._zero_points = zero_points(zero_point)
        self._paths = list(paths)
        self._files = [file for path in self._paths for file in image_files(path).values()]
        self._catalog = catalog
        self._hdu = hdu
        self._opened: OrderedDict[int, _Opened] = OrderedDict()
        self._lock = threading.RLock()
        if catalog is not None and not catalog.has_positions:
            raise CatalogError(f"{catalog.path} has no columns of positions (ra, dec) by which to find its galaxies.")

    @cached_property
    def _targets(self) -> Array:
        """One record a target: ``image`` (-1: none), ``x``, ``y``, ``r90`` (px), and of detections the rest."""
        return self._found() if self._catalog is None else self._placed(self._catalog)

    @property
    def n_rows(self) -> int:
        """The number of targets; the galaxies are found when it is first asked for."""
        return len(self._targets)

    @property
    def default_output(self) -> Path:
        """``<stem>_morph.<suffix>`` beside the catalog, or ``<name>_morph.fits`` beside the first image."""
        if self._catalog is not None:
            return output_beside(self._catalog.path)
        path = Path(self._paths[0]).absolute()
        return path.with_name(f"{_name(str(path))}_morph.fits")

    def fingerprint(self) -> dict[str, Any]:
        """Return path, size and time of the images and of the catalog."""
        values: dict[str, Any] = {"images": [file_state(Path(file)) for file in self._files], "hdu": self._hdu}
        values["zero_points"] = self._zero_points
        if self._catalog is not None:
            values |= {"catalog": file_state(self._catalog.path), "size": self._catalog.size_column}
        return values

    def check(self, columns: Sequence[Column], *, replace: bool) -> None:
        """Raise CatalogError if the catalog has one of the columns already."""
        if self._catalog is not None:
            self._catalog.check_columns(columns, replace=replace)

    def check_output(self, destination: Path) -> None:
        """Raise OutputError if the destination is an image, CatalogError if it is of another format."""
        if any(destination.resolve() == Path(file).resolve() for file in self._files):
            raise OutputError(f"The output {destination} is one of the images: choose another --out.")
        if self._catalog is not None:
            self._catalog.check_destination(destination)

    def blocks(self, n_rows: int, start: int) -> Iterator[Sequence[Any]]:
        """Yield the row numbers of blocks of targets from a row on."""
        for first in range(start, self.n_rows, n_rows):
            yield range(first, min(first + n_rows, self.n_rows))

    def stamps(self, rows: Sequence[int], card: ModelCard, device: Any) -> list[Stamp]:
        """Cut targets out of the images, framed as a model's card asks.

        Parameters
        ----------
        rows : sequence of int
            Row numbers.
        card : ModelCard
        device : torch.device

        Returns
        -------
        list of (Flag, Tensor or None, ImageInput or None, str)
            In the order of the rows.
        """
        targets = self._targets[list(rows)]
        stamps: list[Stamp] = [(Flag.UNREADABLE, None, None, "")] * len(rows)
        for lost in np.flatnonzero(targets["image"] < 0).tolist():
            stamps[lost] = (Flag.UNREADABLE, None, None, self._why(rows[lost]))
        for image in sorted(set(targets["image"].tolist()) - {-1}):
            chosen = np.flatnonzero(targets["image"] == image)
            for i, stamp in zip(chosen, self._cut(image, targets[chosen], card, device), strict=True):
                stamps[i] = stamp
        return stamps

    def _cut(self, image: int, targets: Array, card: ModelCard, device: Any) -> list[Stamp]:
        opened = self._open(image)
        planes = opened.planes
        entry, pixscale = _entry(planes, card)
        if entry is None:
            lacks_band, reason = card.refusal(planes.survey, planes.bands, pixscale)
            return [
                (Flag.MISSING_BAND if lacks_band else Flag.UNREADABLE, None, None, f"{planes.name}: {reason}")
            ] * len(targets)
        normalization = entry.normalization
        x, y, r90 = targets["x"], targets["y"], targets["r90"].copy()
        known = np.isfinite(r90)
        if normalization.framing.radii and not known.all():
            r90[~known] = opened.detection.r90_px(x[~known], y[~known])
        measured = ~known | (self._catalog is None)
        width = np.array([normalization.framing.width_arcsec(r * pixscale) for r in r90]) / pixscale
        # Nothing to measure a radius on: a frame of usual size.
        width = np.where(np.isfinite(width), width, _USUAL_WIDTH_ARCSEC / pixscale)
        width = np.minimum(width, 2.0 * max(planes.shape))
        flag = opened.flagger(normalization.bands, x, y, width, r90)
        if normalization.framing.radii:
            flag |= np.where(measured, Flag.RADIUS_MEASURED, 0).astype(np.int16)
        flag |= np.where(are_blended(opened.detection.objects, x, y, r90), Flag.BLENDED, 0).astype(np.int16)
        bands = [planes.bands.index(band) for band in normalization.bands]
        flux = cut(planes.flux, x, y, width, normalization.input_size, bands, opened.tensor(device))
        flag |= np.where(constant_bands(flux), Flag.MISSING_BAND, 0).astype(np.int16)
        # Surface brightness per the pixel that the composite's scales are for.
        if math.isfinite(planes.flux_pixscale) and planes.flux_pixscale != normalization.flux_pixscale:
            for stamp in flux:
                stamp *= (normalization.flux_pixscale / planes.flux_pixscale) ** 2
        lacking = f"{planes.name}: a band of {''.join(normalization.bands)} has no data there."
        return [
            (Flag(int(bits)), None, None, lacking) if bits & Flag.MISSING_BAND else (Flag(int(bits)), stamp, entry, "")
            for bits, stamp in zip(flag, flux, strict=True)
        ]

    def write(self, destination: Path, added: Addition, results: Iterable[Result]) -> None:
        """Copy the catalog with the columns appended, or write a table of the galaxies found."""
        cards = added.cards
        if self._zero_points:
            told = ",".join(f"{name}={value:g}" if name else f"{value:g}" for name, value in self._zero_points.items())
            cards = [*cards, ("GMZEROPT", told, "AB magnitude of a pixel value of 1")]
        if self._catalog is not None:
            values = (new for _, new in results)
            self._catalog.append(
                destination, added.columns, values, cards=cards, replace=added.replace, companion=added.companion
            )
            return
        own = self._columns
        blocks = self._blocks_of_all_columns(own, results)
        write_catalog(
            destination,
            [*(column for column, _ in own), *added.columns],
            blocks,
            self.n_rows,
            cards=cards,
            companion=added.companion,
        )

    def _blocks_of_all_columns(
        self, own: Sequence[tuple[Column, Array]], results: Iterable[Result]
    ) -> Iterator[dict[str, Array]]:
        first = 0
        for records, values in results:
            part = slice(first, first + len(records))
            first += len(records)
            yield {**{column.name: array[part] for column, array in own}, **values}

    def _open(self, image: int) -> _Opened:
        with self._lock:
            if image not in self._opened:
                planes = read_planes(self._paths[image], self._hdu, self._zero_points or None)
                self._opened[image] = _Opened(planes, detect(planes))
            self._opened.move_to_end(image)
            while sum(o.n_bytes for o in self._opened.values()) > MAX_OPEN_BYTES and len(self._opened) > 1:
                self._opened.popitem(last=False)
            return self._opened[image]

    def _found(self) -> Array:
        """Find the galaxies of all images, and tell those that two images show."""
        tables: list[Array] = []
        self._bands: tuple[str, ...] = ()
        for image in range(len(self._paths)):
            opened = self._open(image)
            planes, objects = opened.planes, opened.detection.objects
            if self._bands not in ((), planes.bands):
                raise GalmorphError(f"{planes.name} has the bands {planes.bands}, and others {self._bands}.")
            self._bands = planes.bands
            self._in_arcsec = math.isfinite(planes.pixscale)
            if not self._in_arcsec:
                log.warning(
                    "%s: its pixel scale is unknown; it is taken for the one that the model is for.", planes.name
                )
            tables.append(_located(objects[objects["galaxy"]], planes, image))
        targets = np.concatenate(tables)
        targets["primary"] = _primary(targets) if len(tables) > 1 else True
        return targets

    def _placed(self, catalog: Catalog) -> Array:
        """Find the pixels of a catalog's positions; where images overlap, in the one whose edge is farthest."""
        targets = np.zeros(catalog.n_rows, [("image", "i4"), ("x", "f8"), ("y", "f8"), ("r90", "f8"), ("edge", "f8")])
        targets["image"], targets["edge"] = -1, -0.5
        grids = []
        for path in self._paths:
            text, shape = read_grid(path, self._hdu)
            wcs = celestial_wcs(text)
            if wcs is None:
                raise CatalogError(
                    f"{path} has no WCS, so the positions of {catalog.path} cannot be found in it. Leave out --catalog."
                )
            grids.append((wcs, shape, side_arcsec(wcs)))
        for block in catalog.blocks(_READ_ROWS):
            part = targets[block.row[0] : block.row[-1] + 1]
            for image, (wcs, shape, scale) in enumerate(grids):
                x, y = pixels(wcs, shape, block.ra, block.dec)
                edge = edge_distance(x, y, shape)
                better = np.nan_to_num(edge, nan=-1.0) > part["edge"]
                part["image"][better] = image
                for name, values in (("x", x), ("y", y), ("edge", edge), ("r90", block.radius_arcsec / scale)):
                    part[name][better] = values[better]
        return targets

    def _why(self, row: int) -> str:
        """Tell why a catalog's target is in no image."""
        assert self._catalog is not None
        target = next(self._catalog.blocks(1, row))
        return f"{target.id[0]}: {target.problem[0] or 'its position lies in none of the images'}."

    @property
    def _columns(self) -> list[tuple[Column, Array]]:
        """The columns of detected galaxies with their values."""
        t = self._targets
        unit = "arcsec" if self._in_arcsec else "pix"
        r50, r90 = ("petroR50_r", "petroR90_r") if "r" in self._bands else ("petroR50", "petroR90")
        names = np.array([f"{self._names[i]}-{n}" for i, n in zip(t["image"], t["number"], strict=True)], dtype=object)
        width = max(map(len, names), default=1)
        north = "east of north" if np.isfinite(t["ra"]).any() else "from x to y"
        in_r = "in r" if "r" in self._bands else "on the sum of the bands"

        def length(name: str, values: Array, what: str, ucd: str = "phys.angSize") -> tuple[Column, Array]:
            return Column(name, "float32", unit=unit, ucd=ucd, description=what), values.astype(np.float32)

        def number(name: str, values: Array, unit: str, ucd: str, what: str) -> tuple[Column, Array]:
            return Column(name, "float32", unit=unit, ucd=ucd, description=what), values.astype(np.float32)

        columns = [(Column("id", "str", "", "meta.id;meta.main", "image and number in it", width), names)]
        for name, ucd in (("ra", "pos.eq.ra;meta.main"), ("dec", "pos.eq.dec;meta.main")):
            if np.isfinite(t["ra"]).any() or not len(t):
                columns.append((Column(name, "float64", "deg", ucd, "ICRS"), t[name]))
        for name in "xy":
            told = "pixel of the image, from 0"
            columns.append((Column(name, "float64", "pix", f"pos.cartesian.{name};instr.det", told), t[name]))
        if len(self._paths) > 1:
            images = np.array([self._names[i] for i in t["image"]], dtype=object)
            width = max(map(len, self._names), default=1)
            columns.append(
                (Column("image", "str", "", "meta.id;obs.image", "image that it was found in", width), images)
            )
            told = "1: the best or only row of this galaxy; 0: another image shows it farther from its edge"
            columns.append((Column("primary", "int16", "", "meta.code", told), t["primary"].astype(np.int16)))
        for i, band in enumerate(self._bands):
            what = f"in {band} in the Kron ellipse; 3.631 uJy are a nanomaggy"
            flux, error = (MICROJANSKY * t[name][:, i] for name in ("flux", "flux_err"))
            columns.append(number(f"flux_{band}", flux, "uJy", "phot.flux;em.opt", what))
            ucd, told = "stat.error;phot.flux;em.opt", f"uncertainty of flux_{band} from the noise of the sky"
            columns.append(number(f"flux_err_{band}", error, "uJy", ucd, told))
        columns.append(number("snr", t["snr"], "", "stat.snr", "signal to noise of all bands in the Kron ellipse"))
        columns += [
            length("kron_radius", t["kron"], "semi-major axis of the Kron ellipse (2.5 Kron radii)"),
            length(r50, t["r50"], f"radius of half of the Petrosian flux {in_r}"),
            length(f"{r50}_err", t["r50_err"], f"uncertainty of {r50}", "stat.error;phys.angSize"),
            length(r90, t["r90_all"], f"radius of 90 % of the Petrosian flux {in_r}"),
            length(f"{r90}_err", t["r90_err"], f"uncertainty of {r90}", "stat.error;phys.angSize"),
            number("axis_ratio", t["axis_ratio"], "", "phys.angSize;arith.ratio", "minor over major axis, of moments"),
            number("axis_ratio_err", t["axis_ratio_err"], "", "stat.error", "uncertainty of axis_ratio"),
            number("position_angle", t["pa"], "deg", "pos.posAng", f"of the major axis, {north}, 0 to 180"),
            number("position_angle_err", t["pa_err"], "deg", "stat.error;pos.posAng", "uncertainty of position_angle"),
        ]
        columns.append(
            (Column("detection_flag", "int16", "", "meta.code.qual", describe_bits(DetectionFlag)), t["flag"])
        )
        return columns

    @property
    def _names(self) -> list[str]:
        return [_name(path) for path in self._paths]


def _name(path: str) -> str:
    """Return the name of an image: its file's without band and suffix, or that of its folder."""
    name = split_band(Path(path).name)[0].replace("{band}", "").rstrip("-_.")
    return name or Path(path).absolute().parent.name or "field"


# A galaxy of Galaxy Zoo 2 with R90 = 6 arcsec, the median there, in a frame of 5.12 R90.
_USUAL_WIDTH_ARCSEC = 30.0


def _entry(planes: Planes, card: ModelCard) -> tuple[ImageInput | None, float]:
    """Return the card's input for an image, and arcsec per pixel: where that is unknown, what the input is for."""
    if math.isfinite(planes.pixscale):
        return card.input_for(planes.survey, planes.bands, planes.pixscale), planes.pixscale
    for entry in card.inputs:
        if entry.matches(planes.survey, planes.bands, entry.pixscale_range[0]):
            return entry, entry.normalization.flux_pixscale
    return None, math.nan


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
    """Tell the detections that no other image shows farther from its edge."""
    from scipy.spatial import cKDTree

    primary = np.ones(len(targets), bool)
    known = np.flatnonzero(np.isfinite(targets["ra"]))
    ra, dec = np.radians(targets["ra"][known]), np.radians(targets["dec"][known])
    places = np.column_stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    pairs = (
        cKDTree(places).query_pairs(math.radians(SAME_GALAXY_ARCSEC / 3600), output_type="ndarray")
        if len(known)
        else []
    )
    for i, j in known[pairs] if len(pairs) else ():
        if targets["image"][i] != targets["image"][j]:
            primary[j if targets["edge"][i] >= targets["edge"][j] else i] = False
    return primary
