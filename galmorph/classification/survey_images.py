"""Survey images as a source of targets: the galaxies detected in them, or those at a catalog's positions."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from galmorph.classification.detected import Detected, has_pixels, image_name, pixel_columns
from galmorph.classification.prepare import Prepared, unexpected
from galmorph.classification.sources import Addition, Result, Source, ValuesOf, file_state, output_beside
from galmorph.errors import CatalogError, GalmorphError, OutputError
from galmorph.files.record import identity
from galmorph.images.detection import Detection, detect
from galmorph.images.flags import Flag
from galmorph.images.framing import cut
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
from galmorph.images.wcs import edge_distance, pixels, read_wcs, side_arcsec
from galmorph.models.card import ModelCard
from galmorph.tables.catalog import Catalog, Column

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Array = NDArray[Any]

# At most this many bytes of planes stay in memory. Dropped images are read again when needed.
MAX_OPEN_BYTES = 4 * 2**30
_READ_ROWS = 16_384


@dataclass(eq=False)
class _Opened:
    """An image in memory, with its detected objects."""

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


class FieldSource(Source):
    """Galaxies in survey images.

    Parameters
    ----------
    paths : sequence of str
        One for each image; ``{band}`` stands for one file a band.
    catalog : Catalog, optional
        Targets; default: the galaxies detected in the images.
    hdu : int or str, optional
        Of the images, where a file holds several.
    zero_point : ZeroPoint
        As of `galmorph.images.survey_image.zero_points`.

    Raises
    ------
    GalmorphError
        If an image is missing, or the catalog has no positions.
    """

    def __init__(
        self, paths: Sequence[str], catalog: Catalog | None, hdu: int | str | None, zero_point: ZeroPoint
    ) -> None:
        self._zero_points = zero_points(zero_point)
        self._paths = list(paths)
        self._files = [file for path in self._paths for file in image_files(path).values()]
        self._catalog = catalog
        self._inputs = {Path(file): identity(Path(file)) for file in self._files}
        if catalog is not None:
            self._inputs[catalog.path] = catalog.opened
        self._hdu = hdu
        self._opened: OrderedDict[int, _Opened] = OrderedDict()
        self._lock = threading.RLock()
        self._detected: Detected | None = None
        self._by_pixel = catalog is not None and not catalog.has_positions and has_pixels(catalog.column_names)
        if catalog is not None and not (catalog.has_positions or self._by_pixel):
            raise CatalogError(f"The galaxies of {catalog.path} are found by position. {catalog.no_position}")

    @property
    def default_output(self) -> Path:
        """``<stem>_morph.<suffix>`` beside the catalog, or ``<name>_morph.fits`` beside the first image."""
        if self._catalog is not None:
            return output_beside(self._catalog.path)
        path = Path(self._paths[0]).absolute()
        return path.with_name(f"{image_name(str(path))}_morph.fits")

    def fingerprint(self) -> dict[str, Any]:
        """Return path, size and time of the images and of the catalog."""
        values: dict[str, Any] = {"images": [file_state(Path(file)) for file in self._files], "hdu": self._hdu}
        values["zero_points"] = self._zero_points
        if self._catalog is not None:
            catalog = self._catalog
            columns = [catalog.ra_column, catalog.dec_column, catalog.size_column]
            values |= {"catalog": file_state(catalog.path), "columns": columns}
            values["size"] = catalog.size_column  # the record of provenance names it
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
        else:
            super().check_output(destination)

    def open(self) -> None:
        """Detect the galaxies of all images, or find the pixels of the catalog's positions."""
        if self._catalog is not None:
            self._targets = (self._at_pixels if self._by_pixel else self._at_positions)(self._catalog)
        else:
            images = (self._open(image) for image in range(len(self._paths)))
            objects = ((opened.planes, opened.detection.objects) for opened in images)
            self._detected = Detected.of(objects, [image_name(path) for path in self._paths])
            self._targets = self._detected.targets
        self.n_rows = len(self._targets)

    def prepare(self, rows: Sequence[int], card: ModelCard, device: torch.device) -> list[Prepared]:
        """Cut targets out of the images, framed as a model's card asks.

        Parameters
        ----------
        rows : sequence of int
            Row numbers.

        Returns
        -------
        list of Prepared
            In the order of the rows.
        """
        targets = self._targets[list(rows)]
        prepared = [Prepared(Flag.UNREADABLE)] * len(rows)
        for lost in np.flatnonzero(targets["image"] < 0).tolist():
            prepared[lost] = Prepared(Flag.UNREADABLE, reason=self._why(rows[lost]))
        for image in sorted(set(targets["image"].tolist()) - {-1}):
            chosen = np.flatnonzero(targets["image"] == image)
            try:
                stamps = self._cut(image, targets[chosen], card, device)
            except GalmorphError:
                raise
            except Exception:  # an error of one target, which is then flagged
                stamps = [self._cut_alone(rows[i], targets[i : i + 1], card, device) for i in chosen.tolist()]
            for i, one in zip(chosen, stamps, strict=True):
                prepared[i] = one
        return prepared

    def _cut_alone(self, row: int, target: Array, card: ModelCard, device: torch.device) -> Prepared:
        try:
            return self._cut(int(target["image"][0]), target, card, device)[0]
        except GalmorphError:
            raise
        except Exception as error:
            return unexpected(f"row {row + 1}", error)

    def _cut(self, image: int, targets: Array, card: ModelCard, device: torch.device) -> list[Prepared]:
        opened = self._open(image)
        planes = opened.planes
        entry, pixscale = _entry(planes, card)
        if entry is None:
            lacks_band, reason = card.refusal(planes.survey, planes.bands, pixscale)
            flag = Flag.MISSING_BAND if lacks_band else Flag.UNREADABLE
            return [Prepared(flag, reason=f"{planes.name}: {reason}")] * len(targets)
        normalization = entry.normalization
        x, y, r90 = targets["x"], targets["y"], targets["r90"].copy()
        given = np.isfinite(r90)
        if normalization.framing.radii and not given.all():
            r90[~given] = opened.detection.r90_px(x[~given], y[~given])
        measured = ~given | (self._catalog is None)
        width = np.array([normalization.framing.width_arcsec(r * pixscale) for r in r90]) / pixscale
        # No light to measure a radius on: a frame of typical size.
        width = np.where(np.isfinite(width), width, _USUAL_WIDTH_ARCSEC / pixscale)
        width = np.minimum(width, 2.0 * max(planes.shape))
        flags = opened.flagger(normalization.bands, x, y, width, r90)
        if normalization.framing.radii:
            flags |= np.where(measured, Flag.RADIUS_MEASURED, 0).astype(np.int16)
        flags |= np.where(are_blended(opened.detection.objects, x, y, r90), Flag.BLENDED, 0).astype(np.int16)
        bands = [planes.bands.index(band) for band in normalization.bands]
        flux = cut(planes.flux, x, y, width, normalization.input_size, bands, opened.tensor(device))
        flags |= np.where(constant_bands(flux), Flag.MISSING_BAND, 0).astype(np.int16)
        # Surface brightness per the pixel that the composite's scales are for.
        if math.isfinite(planes.flux_pixscale) and planes.flux_pixscale != normalization.flux_pixscale:
            for stamp in flux:
                stamp *= (normalization.flux_pixscale / planes.flux_pixscale) ** 2
        lacking = f"{planes.name}: a band of {''.join(normalization.bands)} has no data there."
        return [
            Prepared(flag, reason=lacking) if flag & Flag.MISSING_BAND else Prepared(flag, stamp, entry)
            for flag, stamp in zip(map(Flag, flags.tolist()), flux, strict=True)
        ]

    def write(self, destination: Path, added: Addition, results: Iterable[Result]) -> None:
        """Copy the catalog with the columns appended, or write a table of the detected galaxies."""
        if self._zero_points:
            points = ",".join(
                f"{name}={value:g}" if name else f"{value:g}" for name, value in self._zero_points.items()
            )
            cards = [*added.cards, ("GMZEROPT", points, "AB magnitude of a pixel value of 1")]
            added = replace(added, cards=cards)
        if self._catalog is not None:
            self._catalog.append(destination, blocks=(new for _, new in results), **vars(added))
            return
        super().write(destination, added, results)

    def own_columns(self) -> tuple[Sequence[Column], ValuesOf]:
        """Return the measurements of the detected galaxies."""
        assert self._detected is not None
        own = self._detected.columns()
        return [column for column, _ in own], lambda rows, _: {column.name: array[rows] for column, array in own}

    def _open(self, image: int) -> _Opened:
        with self._lock:
            if image not in self._opened:
                planes = read_planes(self._paths[image], self._hdu, self._zero_points or None)
                self._opened[image] = _Opened(planes, detect(planes))
            self._opened.move_to_end(image)
            while sum(o.n_bytes for o in self._opened.values()) > MAX_OPEN_BYTES and len(self._opened) > 1:
                self._opened.popitem(last=False)
            return self._opened[image]

    def _at_positions(self, catalog: Catalog) -> Array:
        """Return the pixels of a catalog's positions; in overlaps those of the image whose edge is farthest."""
        targets = np.zeros(catalog.n_rows, [("image", "i4"), ("x", "f8"), ("y", "f8"), ("r90", "f8"), ("edge", "f8")])
        targets["image"], targets["edge"] = -1, -0.5
        grids = []
        for path in self._paths:
            text, shape = read_grid(path, self._hdu)
            wcs, problem = read_wcs(text)
            if wcs is None:
                raise CatalogError(
                    f"{path}: {problem or 'it has no WCS'}, so the positions of {catalog.path} cannot be found in it. "
                    "Leave out --catalog."
                )
            grids.append((wcs, shape, side_arcsec(wcs)))
        for block in catalog.blocks(_READ_ROWS):
            chosen = targets[block.row[0] : block.row[-1] + 1]
            for image, (wcs, shape, scale) in enumerate(grids):
                x, y = pixels(wcs, shape, block.ra, block.dec)
                edge = edge_distance(x, y, shape)
                better = np.nan_to_num(edge, nan=-1.0) > chosen["edge"]
                chosen["image"][better] = image
                for name, values in (("x", x), ("y", y), ("edge", edge), ("r90", block.radius_arcsec / scale)):
                    chosen[name][better] = values[better]
        return targets

    def _at_pixels(self, catalog: Catalog) -> Array:
        """Return the pixels of a catalog's galaxies that galmorph detected, in images without a WCS."""
        columns = pixel_columns(catalog)
        names = [image_name(path) for path in self._paths]
        image = [names.index(name) if name in names else -1 for name in columns.image] if columns.image else 0
        targets = np.zeros(catalog.n_rows, [("image", "i4"), ("x", "f8"), ("y", "f8"), ("r90", "f8")])
        targets["image"], targets["x"], targets["y"] = image, columns.x, columns.y
        scales = np.array([self._open(number).planes.pixscale for number in range(len(names))])
        scale = 1.0 if columns.in_pixels else scales[targets["image"]]
        targets["r90"] = columns.r90 / scale
        targets["image"][~(np.isfinite(targets["x"]) & np.isfinite(targets["y"]))] = -1
        return targets

    def _why(self, row: int) -> str:
        """Return why a catalog's target is in no image."""
        assert self._catalog is not None
        target = next(self._catalog.blocks(1, row))
        return f"{target.id[0]}: {target.problem[0] or 'its position is outside all images'}."


# A galaxy of Galaxy Zoo 2 with R90 = 6 arcsec, the median there, in a frame of 5.12 R90.
_USUAL_WIDTH_ARCSEC = 30.0


def _entry(planes: Planes, card: ModelCard) -> tuple[ImageInput | None, float]:
    """Return the card's input for an image, and arcsec per pixel; if that is unknown, the input's."""
    if math.isfinite(planes.pixscale):
        return card.input_for(planes.survey, planes.bands, planes.pixscale), planes.pixscale
    for entry in card.inputs:
        if entry.matches(planes.survey, planes.bands, entry.pixscale_range[0]):
            return entry, entry.normalization.flux_pixscale
    return None, math.nan
