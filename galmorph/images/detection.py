"""Detection: the objects of a survey image, their shapes and sizes.

Objects are detected with sep (SExtractor's algorithms: Bertin & Arnouts 1996, A&AS 117, 393; Barbary 2016, JOSS 1, 58)
on the sum of all bands, each less its background and in units of its noise. So bands in different units weigh alike,
and a band without signal costs little.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import CutoutError
from galmorph.images.cutout import Cutout
from galmorph.images.flags import DetectionFlag
from galmorph.images.radius import ANNULUS, FIELD_R90, light_radius, measure_r90, petrosian_aperture
from galmorph.images.stars import find_galaxies
from galmorph.images.survey_image import REFERENCE_BAND, Planes
from galmorph.images.surveys import typical_seeing

Array = NDArray[Any]

# Side in pixels of the squares in which background and noise are measured: wider than galaxies (67 arcsec in the Legacy
# Surveys), whose light would otherwise count as sky.
BACKGROUND_PX = 256
# The image is smoothed by a Gaussian somewhat narrower than the seeing (4.5 px in the Legacy Surveys): wide enough to
# detect faint extended light, narrow enough to separate neighbours.
SMOOTHING_FWHM_PX = 3.0
THRESHOLD_SIGMA = 2.5
MIN_AREA_PX = 5
# Objects that touch are split if each has this share of the flux. With SExtractor's 0.005 (and 32 levels) 3 % of the
# galaxies in simulated fields are lost beside brighter stars; the disadvantage is that nearby spirals are split.
DEBLEND_LEVELS, DEBLEND_CONTRAST = 64, 0.0005
# Flux is measured in the Kron ellipse, like SExtractor's AUTO: 2.5 Kron radii, at least 3.5 px.
KRON_FACTOR, MIN_KRON_PX = 2.5, 3.5
KRON_ELLIPSE = 6.0
# Radii of the growth curve: a ratio of sqrt(1.25), so that Petrosian annuli (0.8 to 1.25 r) end on these radii.
GROWTH_RATIO, GROWTH_RADII = math.sqrt(ANNULUS[1]), 34
# The largest radius, in Kron ellipses: there the Petrosian flux of a de Vaucouleurs profile is complete.
GROWTH_KRON = 2.0
# R90 is measured on a square that reaches at least this many pixels to each side. Nearer to the edge of the image the
# growth curve gives it.
MIN_HALF_PX = 12
_PIXEL_STACK = 3_000_000
STRIP_ROWS = 32


@dataclass(frozen=True, eq=False)
class Detection:
    """The objects detected in a survey image.

    Attributes
    ----------
    objects : structured ndarray
        One record an object, stars included: ``x``, ``y`` (px from 0, the centre of the first pixel), ``flux``,
        ``flux_err`` (band; nanomaggies per native pixel summed over pixels), ``light`` (of all bands, in units of
        noise), ``snr``, ``kron``, ``r50``, ``r90`` (px) and their ``_err``, ``axis_ratio``,
        ``theta`` (rad from x to y) and their ``_err``, ``flag``, ``galaxy``.
    seeing_px : float
        Full width at half maximum of the stars; the survey's typical one where none stand out, else NaN.
    measured : ndarray
        The plane on which radii are measured: r, or the sum of all bands, less the background.
    pixscale : float
        Arcsec; 0.262 where unknown.
    sigma : float
        Of the measured pixels.
    noise, sky : ndarray
        Of each band's pixels, standard deviation and mean background.
    segmentation : ndarray
        int32 (y, x): the number of the object from 1, 0 for none.
    """

    objects: Array
    seeing_px: float
    measured: NDArray[np.float32]
    pixscale: float
    sigma: float
    noise: NDArray[np.float64]
    sky: NDArray[np.float64]
    segmentation: NDArray[np.int32]

    @property
    def n_bytes(self) -> int:
        """Of the image planes that it keeps."""
        return self.measured.nbytes + self.segmentation.nbytes

    def r90_px(self, x: Array, y: Array) -> NDArray[np.float64]:
        """Measure R90 (px) at positions; NaN where there is no signal.

        An object there determines how far light is summed and what belongs to neighbours.
        """
        inside = self.segmentation[_clipped(y, self.segmentation.shape[0]), _clipped(x, self.segmentation.shape[1])]
        on_object = inside > 0
        numbers = np.where(on_object, inside, len(self.objects) + 1).astype(np.int32)
        reach = np.full(len(x), GROWTH_KRON * KRON_FACTOR * MIN_KRON_PX)
        reach[on_object] = self.objects["reach"][inside[on_object] - 1]
        radii, growth = _growth(self.measured, x, y, reach, self.segmentation, numbers)
        return _r90_px(self.measured, x, y, _petrosian(radii, growth, self.sigma)["r90"], self.pixscale)


def _clipped(values: Array, size: int) -> NDArray[np.intp]:
    return np.clip(np.rint(np.nan_to_num(values)), 0, size - 1).astype(np.intp)


def detect(planes: Planes) -> Detection:
    """Detect and measure the objects of a survey image.

    Raises
    ------
    CutoutError
        If the image is too crowded to separate its objects.
    """
    image, measured, sigma, noise, sky, empty = _sum_of_bands(planes)
    fields = [(name, "f8") for name in ("x", "y", "light", "snr", "kron", "r50", "r50_err", "r90", "r90_err", "reach")]
    fields += [(name, "f8") for name in ("axis_ratio", "axis_ratio_err", "theta", "theta_err")]
    n_bands = len(planes.bands)
    record = np.dtype(
        [*fields, *((f, "f8", (n_bands,)) for f in ("flux", "flux_err")), ("flag", "i2"), ("galaxy", "?")]
    )
    pixscale = planes.pixscale if math.isfinite(planes.pixscale) else 0.262
    with _errors_of_sep(planes.name):
        raw, segmentation = _extract(image, empty)
    objects = np.zeros(len(raw), record)
    if not len(raw):
        return Detection(objects, math.nan, measured, pixscale, sigma, noise, sky, segmentation)
    with _errors_of_sep(planes.name):
        _measure(objects, raw, image, measured, sigma, segmentation)
        for i, plane in enumerate(planes.flux):
            flux, area = _kron_flux(plane, objects, raw, segmentation)
            objects["flux"][:, i] = flux - sky[i] * area
            objects["flux_err"][:, i] = noise[i] * np.sqrt(area)
    objects["flag"] = _flags(raw, objects, planes, segmentation)
    objects["galaxy"], seeing_px = find_galaxies(
        objects, image, segmentation, typical_seeing(planes.survey, REFERENCE_BAND) / planes.pixscale
    )
    objects["r90"] = _r90_px(measured, objects["x"], objects["y"], objects["r90"], pixscale, objects["galaxy"])
    return Detection(objects, seeing_px, measured, pixscale, sigma, noise, sky, segmentation)


@contextmanager
def _errors_of_sep(name: str) -> Iterator[None]:
    """Turn the plain Exceptions of sep (full buffers, overflows) into CutoutErrors."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise CutoutError(
            f"The objects of the image {name} cannot be measured: {error}. Is it a picture of the sky, without pixels "
            "of absurd values?"
        ) from error


def _sum_of_bands(planes: Planes) -> tuple[Array, Array, float, Array, Array, NDArray[np.bool_]]:
    """Return the sum of all bands in units of noise, what radii are measured on, noises and skies, and no-data."""
    noise, sky = np.full(len(planes.bands), np.nan), np.zeros(len(planes.bands))
    total = np.zeros(planes.shape, np.float32)
    n_bands = np.zeros(planes.shape, np.uint8)
    scratch: NDArray[np.float32] | None = None
    measured: NDArray[np.float32] | None = None
    for i, (name, plane) in enumerate(zip(planes.bands, planes.flux, strict=True)):
        gap = plane == 0
        background = _background(plane, gap)
        if background is None:
            continue
        noise[i], sky[i] = background.globalrms, background.globalback
        # New memory costs more than the arithmetic: all bands except the one that is kept share an array.
        if name == REFERENCE_BAND or scratch is None:
            less = plane.copy()
        else:
            less = scratch
            np.copyto(less, plane)
        background.subfrom(less)
        less[gap] = 0
        if name == REFERENCE_BAND:
            measured = less
        else:
            scratch = less
        for rows in _strips(len(total)):
            total[rows] += less[rows] / np.float32(noise[i])
            n_bands[rows] += ~gap[rows]
    empty = n_bands == 0
    for rows in _strips(len(total)):
        total[rows] /= np.sqrt(np.maximum(n_bands[rows], 1), dtype=np.float32)
    background = _background(total, empty)
    if background is not None:  # depth varies over the image, and resampling correlates pixels
        rms = background.rms(dtype=np.float32)
        total /= np.maximum(rms, np.float32(0.1), out=rms)
    if measured is not None:
        return total, measured, float(noise[planes.bands.index(REFERENCE_BAND)]), noise, sky, empty
    return total, total, 1.0, noise, sky, empty


def _strips(n_rows: int) -> Iterator[slice]:
    """Yield rows that stay in the processor's cache."""
    return (slice(first, first + STRIP_ROWS) for first in range(0, n_rows, STRIP_ROWS))


def _background(plane: NDArray[np.float32], gap: NDArray[np.bool_]) -> Any:
    """Return sep's background of a plane; None where it has no noise (no data, one value)."""
    import sep

    if gap.all():
        return None
    mesh = min(BACKGROUND_PX, *plane.shape)
    background = sep.Background(plane, mask=gap if gap.any() else None, bw=mesh, bh=mesh)
    return background if background.globalrms > 0 and math.isfinite(background.globalrms) else None


def _extract(image: NDArray[np.float32], empty: NDArray[np.bool_]) -> tuple[Array, NDArray[np.int32]]:
    import sep

    side = np.arange(-3, 4)
    kernel = np.exp(-4 * math.log(2) * (side[:, None] ** 2 + side**2) / SMOOTHING_FWHM_PX**2).astype(np.float32)
    before = sep.get_extract_pixstack()
    sep.set_extract_pixstack(max(before, _PIXEL_STACK))
    try:
        return sep.extract(
            image,
            THRESHOLD_SIGMA,
            err=1.0,
            mask=empty if empty.any() else None,
            minarea=MIN_AREA_PX,
            filter_kernel=kernel,
            deblend_nthresh=DEBLEND_LEVELS,
            deblend_cont=DEBLEND_CONTRAST,
            segmentation_map=True,
        )
    finally:
        sep.set_extract_pixstack(before)


def _measure(
    objects: Array, raw: Array, image: Array, measured: Array, sigma: float, segmentation: NDArray[np.int32]
) -> None:
    """Fill in positions, sizes and shapes, the uncertainties after Condon 1997 (PASP 109, 166)."""
    import sep

    numbers = np.arange(1, len(raw) + 1, dtype=np.int32)
    # Windowed positions are as good as a fit of the profile, except close to neighbours.
    half_width = np.sqrt(raw["a"] * raw["b"])
    x, y, failed = sep.winpos(image, raw["x"], raw["y"], half_width)
    stray = (failed != 0) | (np.hypot(x - raw["x"], y - raw["y"]) > half_width) | (raw["flag"] != 0)
    objects["x"], objects["y"] = np.where(stray, raw["x"], x), np.where(stray, raw["y"], y)
    theta = np.clip(raw["theta"], -math.pi / 2, math.pi / 2)
    kron, _ = sep.kron_radius(
        image, raw["x"], raw["y"], raw["a"], raw["b"], theta, KRON_ELLIPSE, seg_id=numbers, segmap=segmentation
    )
    # In the direction of the major axis.
    least = MIN_KRON_PX / np.sqrt(raw["a"] * raw["b"])
    objects["kron"] = raw["a"] * np.maximum(KRON_FACTOR * np.nan_to_num(kron), least)
    flux, area = _kron_flux(image, objects, raw, segmentation)
    objects["light"] = flux
    snr = objects["snr"] = flux / np.sqrt(area)
    objects["reach"] = GROWTH_KRON * objects["kron"] * np.sqrt(raw["b"] / raw["a"])
    radii, growth = _growth(measured, objects["x"], objects["y"], objects["reach"], segmentation, numbers)
    for name, values in _petrosian(radii, growth, sigma).items():
        objects[name] = values
    ratio = objects["axis_ratio"] = raw["b"] / raw["a"]
    objects["theta"] = theta
    with np.errstate(divide="ignore", invalid="ignore"):
        objects["axis_ratio_err"] = np.minimum(2 * ratio / snr, 1)
        # A round object has no direction: the uncertainty is that of a uniform distribution.
        error = 2 / snr * ratio / (1 - ratio**2)
        objects["theta_err"] = np.clip(np.nan_to_num(error, nan=9), 0, math.pi / math.sqrt(12))


def _kron_flux(plane: Array, objects: Array, raw: Array, segmentation: NDArray[np.int32]) -> tuple[Array, Array]:
    """Return the sum in the Kron ellipse, corrected for the pixels of neighbours, and the ellipse's area (px)."""
    import sep

    scale = objects["kron"] / raw["a"]
    theta = np.clip(raw["theta"], -math.pi / 2, math.pi / 2)
    numbers = np.arange(1, len(raw) + 1, dtype=np.int32)
    shape = (objects["x"], objects["y"], raw["a"], raw["b"], theta, scale)
    flux, _, _ = sep.sum_ellipse(plane, *shape, segmap=segmentation, seg_id=numbers, subpix=3)
    return flux, math.pi * raw["a"] * raw["b"] * scale**2


def _growth(
    plane: Array, x: Array, y: Array, reach: Array, segmentation: NDArray[np.int32], numbers: NDArray[np.int32]
) -> tuple[Array, Array]:
    """Return radii (px) and the flux within each, both (n, `GROWTH_RADII`)."""
    import sep

    reach = np.clip(reach, 4.0, max(plane.shape) / 2)
    radii = reach[:, None] * GROWTH_RATIO ** np.arange(1.0 - GROWTH_RADII, 1.0)
    circles = (x[:, None], y[:, None], radii)
    flux, _, _ = sep.sum_circle(plane, *circles, segmap=segmentation, seg_id=numbers[:, None], subpix=3)
    return radii, np.atleast_2d(flux)


def _petrosian(radii: Array, growth: Array, sigma: float) -> dict[str, NDArray[np.float64]]:
    """Return the radii of half and of 90 % of the Petrosian flux, defined as in `galmorph.images.radius.measure_r90`.

    Parameters
    ----------
    radii : ndarray (n, k)
        Rising by `GROWTH_RATIO`.
    growth : ndarray (n, k)
        Flux within each.
    sigma : float
        Noise of a pixel.

    Returns
    -------
    dict of str to ndarray (n,)
        ``r50``, ``r90`` and ``r50_err``, ``r90_err``: the noise within the circle over the slope of the growth there.
        NaN where there is no flux.
    """
    values = {name: np.full(len(radii), np.nan) for name in ("r50", "r50_err", "r90", "r90_err")}
    for i, (r, within) in enumerate(zip(radii, growth, strict=True)):
        total = float(np.interp(petrosian_aperture(r, within), r, within))
        for name, share in (("r50", 0.5), ("r90", 0.9)):
            values[name][i], slope = light_radius(r, within, share * total)
            values[f"{name}_err"][i] = sigma * math.sqrt(math.pi) * values[name][i] / slope
    return values


def _r90_px(
    plane: Array, x: Array, y: Array, growth_r90: Array, pixscale: float, wanted: Array | None = None
) -> NDArray[np.float64]:
    """Return R90 (px) as on cutouts, without light that has no counterpart across the centre.

    The growth curve leaves out only pixels of other objects, not their wings: among near neighbours its R90, which
    stays where a square cannot be had, is a third too large.
    """
    result = np.array(growth_r90)
    for i in np.flatnonzero(np.isfinite(growth_r90) if wanted is None else wanted & np.isfinite(growth_r90)):
        column, row = round(float(x[i])), round(float(y[i]))
        room = min(column, row, plane.shape[1] - 1 - column, plane.shape[0] - 1 - row)
        half = min(room, max(MIN_HALF_PX, math.ceil(FIELD_R90 / 2 * growth_r90[i])))
        if half >= MIN_HALF_PX:
            square = plane[None, row - half : row + half + 1, column - half : column + half + 1]
            r90 = measure_r90(Cutout("", "", (REFERENCE_BAND,), square, pixscale, pixscale))
            result[i] = r90 / pixscale if math.isfinite(r90) else result[i]
    return result


def _flags(raw: Array, objects: Array, planes: Planes, segmentation: NDArray[np.int32]) -> NDArray[np.int16]:
    height, width = planes.shape
    flag = np.where(raw["flag"] & 1, DetectionFlag.DEBLENDED, 0)
    kron, x, y = objects["kron"], objects["x"], objects["y"]
    outside = (x < kron) | (y < kron) | (x > width - 1 - kron) | (y > height - 1 - kron)
    flag |= np.where(outside | (raw["flag"] & 2 > 0), DetectionFlag.EDGE, 0)
    if planes.bad is not None:
        touched = np.bincount(segmentation[planes.bad], minlength=len(raw) + 1)[1:] > 0
        flag |= np.where(touched, DetectionFlag.SATURATED, 0)
    return flag.astype(np.int16)
