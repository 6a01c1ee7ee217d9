"""From a catalog's rows to requests: the size of each cutout, the request's key, the name of its file."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from galmorph.images.sizes import MAX_SIDE_PX
from galmorph.ranges import FETCHED_PIXSCALE, WIDTH_R90, bounded, check_fields, whole
from galmorph.retrieval.enrolment import Entry
from galmorph.retrieval.footprint import Footprint
from galmorph.retrieval.request import Request
from galmorph.retrieval.surveys import Source
from galmorph.tables.catalog import Catalog, Targets

# The Galaxy Zoo 2 images (and the Kaggle challenge's) span 8.48 Petrosian R90 of the galaxy: 424 px of 0.02 R90.
# Willett et al. 2013, MNRAS 435, 2835, section 2.2.
GALAXY_ZOO_FACTOR = 8.48
# A larger galaxy must have its size in another unit.
_LARGEST_ARCSEC = 3 * 3600.0
# The smallest frame, so that it has some sky to measure.
_SMALLEST_FRAMED_PX = 32
BLOCK_ROWS = 2_000
_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]+")


@dataclass(frozen=True)
class Layout:
    """How wide a cutout is.

    Parameters
    ----------
    size : int
        Width and height in pixels of a cutout that is not framed by its galaxy's size.
    pixscale : float
        arcsec per pixel.
    factor : float or None
        Width in units of the size column; None: every cutout has `size`.

    Raises
    ------
    GalmorphError
        If no service can send such cutouts.
    """

    size: int = bounded(whole(1, MAX_SIDE_PX))
    pixscale: float = bounded(FETCHED_PIXSCALE)
    factor: float | None = bounded(WIDTH_R90, None)

    def __post_init__(self) -> None:
        check_fields(self)

    def grid(self, radius_arcsec: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the sizes in pixels and the pixel scales of cutouts.

        The pixel scale is the survey's; it is coarser for cutouts that would be too large for a service. A
        galaxy without a usable radius gets the fixed size.
        """
        width_arcsec = np.where(self.usable(radius_arcsec), (self.factor or 0) * radius_arcsec, np.nan)
        wanted = np.nan_to_num(np.ceil(width_arcsec / self.pixscale - 1e-6), nan=self.size)
        size = np.clip(wanted, 1 if self.factor is None else _SMALLEST_FRAMED_PX, MAX_SIDE_PX).astype(np.int64)
        return size, np.where(wanted > MAX_SIDE_PX, width_arcsec / MAX_SIDE_PX, self.pixscale)

    def usable(self, radius_arcsec: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which radii can frame a cutout."""
        width_arcsec = (self.factor or 0) * radius_arcsec
        return (width_arcsec > 0) & (width_arcsec <= _LARGEST_ARCSEC)


def grids(catalog: Catalog, layout: Layout, limit: int | None = None) -> NDArray[np.void]:
    """Return the grids of a catalog's cutouts, each once: fields ``ra``, ``dec`` (degrees), ``size``, ``pixscale``."""
    kind = np.dtype([("ra", "f8"), ("dec", "f8"), ("size", "i4"), ("pixscale", "f4")])
    blocks = [np.empty(0, kind)]
    for targets in catalog.blocks(BLOCK_ROWS):
        chosen = (targets.problem == "") & (targets.row < (catalog.n_rows if limit is None else limit))
        block = np.empty(int(chosen.sum()), kind)
        block["ra"], block["dec"] = targets.ra[chosen].round(8) % 360, targets.dec[chosen].round(8)
        block["size"], block["pixscale"] = layout.grid(targets.radius_arcsec[chosen])
        blocks.append(block)
    return np.unique(np.concatenate(blocks))


def problems(catalog: Catalog, limit: int | None = None) -> dict[str, int]:
    """Return the reasons why rows of a catalog are invalid, with the number of rows, the most frequent first."""
    counts: Counter[str] = Counter()
    for targets in catalog.blocks(BLOCK_ROWS):
        chosen = (targets.problem != "") & (targets.row < (catalog.n_rows if limit is None else limit))
        # Without the value, so that equal reasons are counted together.
        reasons = (re.sub("=.*? is (outside|not a number)", r" is \1", text) for text in targets.problem[chosen])
        counts.update(reasons)
    return dict(counts.most_common())


def entries(
    catalog: Catalog, survey: str, source: Source, layout: Layout, footprint: Footprint | None = None
) -> Iterator[list[Entry]]:
    """Yield the rows of a catalog as entries of the manifest, block by block.

    The name of the survey is part of every key. Positions that the footprint certainly does not cover are refused.
    """
    for targets in catalog.blocks(BLOCK_ROWS):
        yield list(_block(targets, catalog.id_column is not None, survey, source, layout, footprint))


def _block(
    targets: Targets, named: bool, survey: str, source: Source, layout: Layout, footprint: Footprint | None
) -> Iterator[Entry]:
    fine = targets.problem == ""
    hopeless = np.zeros(len(fine), bool)
    if footprint is not None:
        hopeless[fine] = ~footprint.may_cover(targets.ra[fine], targets.dec[fine])
    # Services get eight decimals; 359.999999999 must not become 360.
    columns = (
        *(targets.row, targets.id, targets.ra.round(8) % 360, targets.dec.round(8), targets.radius_arcsec),
        *(*layout.grid(targets.radius_arcsec), layout.usable(targets.radius_arcsec), targets.problem, hopeless),
    )
    values = (column.tolist() for column in columns)
    for row, name, ra, dec, radius, size, pixscale, usable, problem, refused in zip(*values, strict=True):
        if problem:
            yield Entry(row, name, problem)
            continue
        request = Request(name, ra, dec, size, pixscale, radius)
        identity = source.identity(request)
        key = hashlib.blake2b(f"{survey} {identity} radius={radius!r}".encode(), digest_size=8).hexdigest()
        # A row without an identifier is named by its position, because row numbers change with the list.
        stem = _safe(name) if named and name else f"{ra:.5f}{dec:+.5f}"
        yield Entry(
            row,
            name,
            key=key,
            identity=identity,
            path=f"{key[:2]}/{stem}-{key}.fits",
            images=source.images(request),
            request=request,
            note="" if usable or layout.factor is None else f"no usable size: framed to {size} px",
            refused=f"outside the footprint {footprint.name}" if refused and footprint else "",
        )


def _safe(name: str) -> str:
    """Return a name that is valid on every file system; the key after it makes it unique."""
    return _UNSAFE.sub("_", name)[:60].lstrip(".-") or "target"
