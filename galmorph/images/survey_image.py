"""Planes: a survey image in a few bands (a brick, a mosaic, a tile), read from FITS files and resampled to one grid.

Bands, survey, flux and pixels are found as for cutouts (`galmorph.images.cutout`), with these differences:

- bands whose grids differ by half a pixel or more are resampled to the grid of r (or of the first band) by their WCS;
- a pixel is bad where ``MASKBITS`` says so (an extension, or the Legacy Surveys' ``...-maskbits...`` beside
  ``...-image-{band}...``), or where it reaches the card ``SATURATE``;
- without a WCS and without ``PIXSCALE`` the pixel scale is that of the survey, else it is unknown;
- zero points that the user gives hold, whatever the headers say.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import CutoutError, GalmorphError
from galmorph.images.cutout import bad_pixels
from galmorph.images.fits_file import MAX_FIELD_BYTES, FileImages, StoredImage, open_images, plain_image, quiet
from galmorph.images.hdus import choose_pictures
from galmorph.images.headers import (
    band,
    band_files,
    band_template,
    cube_bands,
    flux_pixscale,
    is_celestial,
    kind,
    number,
    pixel_scale,
    split_band,
    stated_scale,
    survey,
)
from galmorph.images.surveys import native_pixscale
from galmorph.images.units import check_linear, make_linear, nanomaggies, zero_point_factor
from galmorph.images.wcs import read_wcs, same_grid

log = logging.getLogger(__name__)

# Other bands are resampled to this grid: r is the deepest band of the surveys, and radii are measured in it.
REFERENCE_BAND = "r"
# Zero points as the user gives them: one for all bands, as a number or text, or by band.
ZeroPoint = float | str | Mapping[str, float] | None
# Range of valid magnitudes: 0 are maggies, 25 to 35 counts.
MAX_ZERO_POINT = 50


@dataclass(frozen=True, eq=False)
class Planes:
    """A survey image.

    Attributes
    ----------
    name : str
        The file's name without band and suffix.
    survey : str
        ``''`` where the header names none that galmorph knows.
    flux : ndarray
        float32 (band, y, x): nanomaggies per native pixel; 0 where there are no data or no finite value.
    bad : ndarray or None
        bool (y, x): masked or saturated; None if there is no mask.
    lost : ndarray or None
        bool (y, x): not finite in a band as it was read; None where all are.
    flux_pixscale, pixscale : float
        Arcsec, as of a `Cutout`; NaN where unknown.
    """

    name: str
    survey: str
    bands: tuple[str, ...]
    flux: NDArray[np.float32] = field(repr=False)
    bad: NDArray[np.bool_] | None = field(default=None, repr=False)
    lost: NDArray[np.bool_] | None = field(default=None, repr=False)
    flux_pixscale: float = math.nan
    pixscale: float = math.nan
    header_text: str = field(default="", repr=False)

    @property
    def wcs(self) -> Any:
        """The celestial WCS as an astropy WCS; None where there is none."""
        return self._wcs[0]

    @property
    def wcs_problem(self) -> str:
        """Why the celestial coordinates in the header cannot be used; ``''`` where they can, or there are none."""
        return self._wcs[1]

    @cached_property
    def _wcs(self) -> tuple[Any, str]:
        return read_wcs(self.header_text)

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels along y and x."""
        return self.flux.shape[1], self.flux.shape[2]

    @property
    def n_bytes(self) -> int:
        """Of all planes."""
        return sum(part.nbytes for part in (self.flux, self.bad, self.lost) if part is not None)


@dataclass(eq=False)
class _Image:
    """The planes of one file or one extension."""

    path: str
    bands: tuple[str, ...]
    flux: NDArray[np.float32]
    survey: str
    flux_pixscale: float
    pixscale: float
    header_text: str
    bad: NDArray[np.bool_] | None = None


def image_templates(paths: Iterable[str]) -> list[str]:
    """Return one path for each survey image: with ``{band}`` where it has one file a band.

    Parameters
    ----------
    paths : iterable of str
        Files, or paths that hold ``{band}``. Files whose names differ only in the band they end in are one image.
    """
    sets: dict[str, list[str]] = {}
    for path in paths:
        sets.setdefault(path if "{band}" in path else band_template(path), []).append(path)
    return [template if len(set(files)) > 1 else files[0] for template, files in sets.items()]


def image_files(path: str) -> dict[str, str]:
    """Return the files of a survey image by band; by ``''`` where it is one file.

    Raises
    ------
    CutoutError
        If there are none.
    """
    if "{band}" not in path:
        if not Path(path).is_file():
            raise CutoutError(f"There is no file {path}.")
        return {"": path}
    return band_files(path)


def zero_points(given: ZeroPoint) -> dict[str, float]:
    """Return AB magnitudes of a pixel value of 1 by band; by ``''`` for all bands.

    Parameters
    ----------
    given : float, str, mapping or None
        One number, or text: a number, or ``g=25.1,r=24.9``. 0 is that of maggies, 22.5 of nanomaggies.

    Raises
    ------
    GalmorphError
        If it is neither.
    """
    if given is None:
        return {}
    if isinstance(given, Mapping):
        pairs: list[tuple[str, Any]] = [(str(name), value) for name, value in given.items()]
    else:
        split = [text.rpartition("=") for text in str(given).split(",")]
        pairs = [(name.strip(), value) for name, _, value in split]
    try:
        points = {name: float(value) for name, value in pairs}
    except (TypeError, ValueError):
        points = {}
    if not points or len(points) < len(pairs) or not all(abs(value) < MAX_ZERO_POINT for value in points.values()):
        raise GalmorphError(
            f"--zero-point {given}: one AB magnitude for all bands (30), or one a band (g=25.1,r=24.9), each of them "
            f"between -{MAX_ZERO_POINT} and {MAX_ZERO_POINT}."
        )
    return points


def read_planes(path: str, hdu: int | str | None = None, zero_point: ZeroPoint = None) -> Planes:
    """Read a survey image: a cube, one extension a band, or one file a band.

    Parameters
    ----------
    path : str
        The file; ``{band}`` in it stands for one file a band, and all that exist are read.
    hdu : int or str, optional
        Number or EXTNAME of the HDU to use.
    zero_point : float, str or mapping, optional
        See `zero_points`. For pixels whose unit is missing or wrong in the headers; the median is subtracted.

    Raises
    ------
    CutoutError
        If it cannot be read, its unit or its bands are unknown, or the bands cannot be resampled to one grid.
    """
    points = zero_points(zero_point)
    images: list[_Image] = []
    for letter, file in image_files(path).items():
        images += _read(file, letter, hdu, points)
    bands = tuple(name for image in images for name in image.bands)
    if "" in bands or len(set(bands)) < len(bands):
        raise CutoutError(
            f"{path}: its planes are the bands {', '.join(map(repr, bands))}, which are not different names. Name "
            "the files by band and give --images 'name-{band}.fits', or add cards BAND."
        )
    if strange := set(points) - {"", *bands}:
        raise CutoutError(f"{path}: has the bands {', '.join(bands)}, and --zero-point names {', '.join(strange)}.")
    first = next((image for image in images if REFERENCE_BAND in image.bands), images[0])
    if len({image.survey for image in images}) > 1:
        raise CutoutError(f"{path}: its bands are of several surveys.")
    for image in images:
        if image is not first:
            _bring(image, first)
    flux = images[0].flux if len(images) == 1 else np.concatenate([image.flux for image in images])
    masks = [image.bad for image in images if image.bad is not None]
    sibling = _maskbits_beside(path)
    if sibling is not None and sibling.shape == flux.shape[1:]:
        masks.append(sibling)
    finite = np.isfinite(flux)
    lost = None if finite.all() else ~finite.all(axis=0)
    if lost is not None:
        flux[~finite] = 0
    return Planes(
        name=split_band(Path(path).name)[0],
        survey=first.survey,
        bands=bands,
        flux=flux,
        bad=np.logical_or.reduce(masks) if masks else None,
        lost=lost,
        flux_pixscale=first.flux_pixscale,
        pixscale=first.pixscale,
        header_text=first.header_text,
    )


def _read(path: str, letter: str, hdu: int | str | None, points: Mapping[str, float]) -> list[_Image]:
    """Read the images of one file; the file's name gives the band if the path has ``{band}``."""
    image = plain_image(path, math.inf, MAX_FIELD_BYTES) if hdu is None else None
    if image is not None:
        pictures = choose_pictures(path, FileImages([image], {}))
        return [_read_planes(picture, letter, None, points) for picture in pictures]
    with open_images(path, MAX_FIELD_BYTES) as content:
        pictures = choose_pictures(path, content, hdu, one_grid=False)
        mask = next((i for i in content.images if kind(i) == "maskbits" and i.shape == pictures[0].shape[-2:]), None)
        bits = bad_pixels(mask.load()) if mask is not None else None
        return [_read_planes(picture, letter, bits if picture is pictures[0] else None, points) for picture in pictures]


@np.errstate(over="ignore", invalid="ignore")
def _read_planes(image: StoredImage, letter: str, bad: NDArray[np.bool_] | None, points: Mapping[str, float]) -> _Image:
    names = cube_bands(image) if image.n_planes > 1 else (letter or band(image),)
    units = [_unit(image, points.get(name, points.get(""))) for name in names]
    flux = make_linear(image, image.load().reshape(-1, *image.shape[-2:]))
    saturation = number(image, "SATURATE")
    if saturation > 0:
        full = np.asarray((flux >= saturation).any(axis=0))
        bad = full if bad is None else bad | full
    for plane, (factor, counts) in zip(flux, units, strict=True):
        if factor != 1:
            plane *= np.float32(factor)
        if counts:  # these include the sky
            plane -= np.nanmedian(plane)
    name = survey(image)
    scale = _scale(image)
    native = flux_pixscale(image) if math.isfinite(scale) else math.nan
    return _Image(image.path, names, flux, name, native, scale, image.header_text, bad)


def _unit(image: StoredImage, zero_point: float | None) -> tuple[float, bool]:
    """Return the factor from pixel values to nanomaggies, and whether they may include the sky."""
    if zero_point is None:
        return nanomaggies(image)
    check_linear(image)
    return zero_point_factor(zero_point), True


def _scale(image: StoredImage) -> float:
    """Return arcsec per pixel; the survey's, or NaN, if the header has neither a WCS nor a card for it."""
    if is_celestial(image) or not math.isnan(stated_scale(image)):
        return pixel_scale(image)
    return native_pixscale(survey(image))


def _bring(image: _Image, first: _Image) -> None:
    """Resample an image to the grid of the first, where its own differs; flux per native pixel of the first."""
    shape = first.flux.shape[1:]
    (there, why), (here, why_here) = read_wcs(image.header_text), read_wcs(first.header_text)
    if there is None and here is None:
        if image.flux.shape[1:] != shape:
            raise CutoutError(
                f"{image.path}: has {image.flux.shape[1:]} pixels and {first.path} {shape}, and without a WCS they "
                "cannot be brought to one grid."
            )
        return
    if there is None or here is None:
        path, why = (image.path, why) if there is None else (first.path, why_here)
        raise CutoutError(f"{path}: {why or 'has no WCS'}, and the other bands have a WCS.")
    if image.flux.shape[1:] == shape and same_grid(first.header_text, image.header_text, shape):
        return
    from reproject import reproject_interp

    log.info("%s is resampled to the grid of %s", image.path, first.path)
    with quiet():
        no_data = image.flux == 0
        planes = [reproject_interp((plane, there), here, shape, order="bicubic")[0] for plane in image.flux]
        # Pixels with and without data must not be mixed.
        gaps = [
            reproject_interp((gap.astype(np.float32), there), here, shape, order="bilinear")[0] > 0
            if gap.any()
            else None
            for gap in no_data
        ]
        if image.bad is not None:
            bad, _ = reproject_interp((image.bad.astype(np.float32), there), here, shape, order="bilinear")
            image.bad = np.asarray(bad > 0)
    flux = np.stack(planes).astype(np.float32)
    outside = np.isnan(planes[0])
    if outside.all():
        raise CutoutError(f"{image.path}: shows a different area of the sky than {first.path}.")
    flux *= np.float32((first.flux_pixscale / image.flux_pixscale) ** 2)
    flux[:, outside] = 0
    for plane, gap in zip(flux, gaps, strict=True):
        if gap is not None:
            plane[gap] = 0
    image.flux = flux


def _maskbits_beside(path: str) -> NDArray[np.bool_] | None:
    """Read the mask of a brick of the Legacy Surveys, if it is beside its images."""
    name = Path(path).name
    if "-image-{band}" not in name:
        return None
    file = Path(path).with_name(name.replace("-image-{band}", "-maskbits"))
    if not file.is_file():
        return None
    with open_images(file, MAX_FIELD_BYTES) as content:
        return next((bad_pixels(i.load()) for i in content.images if kind(i) in ("maskbits", "")), None)


def read_grid(path: str, hdu: int | str | None = None) -> tuple[str, tuple[int, int]]:
    """Return the header of a survey image's grid and its pixels along y and x; no pixels are read.

    Raises
    ------
    CutoutError
        As `read_planes`.
    """
    files = image_files(path)
    with open_images(files.get(REFERENCE_BAND) or next(iter(files.values())), MAX_FIELD_BYTES) as content:
        pictures = choose_pictures(path, content, hdu, one_grid=False)
        first = next((i for i in pictures if i.n_planes == 1 and band(i) == REFERENCE_BAND), pictures[0])
        return first.header_text, (first.shape[-2], first.shape[-1])
