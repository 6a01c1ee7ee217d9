"""Regions: a classified catalog as a region file of DS9 (https://ds9.si.edu/doc/ref/region.html), coloured by class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from galmorph.classification.results import Results
from galmorph.errors import CatalogError
from galmorph.files.writing import write_file
from galmorph.training.evaluation.figures import GREY, PALETTE

# Black is invisible on DS9's default background.
_COLOURS = PALETTE[:-1]
_HEAD = '# Region file format: DS9 version 4.1\nglobal font="helvetica 10 normal roman" width=1\n'
# A file that begins so is a region file and may be replaced.
MARK = b"# Region file format: DS9"
_BLOCK_ROWS = 16384
_UNCLASSIFIED = "unclassified"


def write_regions(results: Results, groups: Sequence[str], path: Path) -> tuple[str, ...]:
    """Write a region for each galaxy: a circle of its radius, or a point where that is unknown.

    Colour and tag (DS9 can hide by tag) are the group, the text is the label. Positions are ICRS, or pixels
    of the image where a survey image has no WCS.

    Parameters
    ----------
    groups : sequence of str
        Class of each row, or its answer to the first question; ``''`` without probability. Shape (n,).
    path : Path
        Replaced if it exists.

    Returns
    -------
    tuple of str
        Notes on the file: rows left out, pixels of several images.

    Raises
    ------
    CatalogError
        If the catalog has neither positions nor pixels.
    OutputError, CannotContinue
        If the file cannot be written.
    """
    on_sky = bool(np.isfinite(results.ra).any()) or not len(results)
    x, y, radius, images = _sky(results) if on_sky else _pixels(results)
    lines = _lines(results, groups, x, y, radius, images, unit='"' if on_sky else "")
    text = [_HEAD, f"# {results.catalog.path.name}: {results.card('GMMODEL')}\n", "icrs\n" if on_sky else "image\n"]
    write_file(path, *(line.encode() for line in (*text, *lines)))
    notes = []
    if lost := int((~np.isfinite(x + y)).sum()):
        notes.append(f"{path} lacks {lost} of {len(results)} galaxies, whose positions are unknown.")
    if len(set(images)) > 1:
        notes.append(f"{path} holds pixels of several images; the tag of a region names the image.")
    return tuple(notes)


_Positions = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], Sequence[str]]


def _sky(results: Results) -> _Positions:
    """Return ICRS degrees and radii in arcsec."""
    blocks = [block.radius_arcsec for block in results.catalog.blocks(_BLOCK_ROWS)]
    return results.ra, results.dec, np.concatenate(blocks) if blocks else np.array([]), ()


def _pixels(results: Results) -> _Positions:
    """Return pixels, which DS9 counts from 1, radii in pixels, and of several images their names."""
    catalog = results.catalog
    names = {name.lower(): name for name in catalog.column_names}
    if not {"x", "y"} <= set(names):
        raise CatalogError(
            f"{catalog.path} has no positions (columns ra and dec, or x and y of survey images), so it gives no "
            "regions: leave out --regions"
        )
    size = next((names[name] for name in ("petror90_r", "petror90") if name in names), None)
    values = catalog.read([names["x"], names["y"], *([size] if size else [])])
    x, y, *sizes = (np.ma.filled(np.ma.asarray(column).astype(float), np.nan) for column in values.values())
    images = [str(name) for name in catalog.read(["image"])["image"]] if "image" in names else []
    return x + 1, y + 1, sizes[0] if sizes else np.full(len(x), np.nan), images


def _lines(
    results: Results,
    groups: Sequence[str],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    radius: NDArray[np.float64],
    images: Sequence[str],
    *,
    unit: str,
) -> Iterator[str]:
    order = results.schema.labels if results.schema.is_classes else results.schema.questions[0].answers
    colours = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(order)}
    digits = 7 if unit else 2
    for row, group in enumerate(groups):
        if not np.isfinite(x[row] + y[row]):
            continue
        position = f"{x[row]:.{digits}f},{y[row]:.{digits}f}"
        has_radius = np.isfinite(radius[row]) and radius[row] > 0
        shape = f"circle({position},{radius[row]:.2f}{unit})" if has_radius else f"point({position})"
        tags = [f"tag={{{name}}}" for name in (group or _UNCLASSIFIED, *images[row : row + 1])]
        properties = [f"color={colours.get(group, GREY)}", f"text={{{results.label[row] if group else ''}}}", *tags]
        yield f"{shape} # {' '.join(properties if has_radius else ['point=cross', *properties])}\n"
