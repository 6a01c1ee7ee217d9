"""DESI Legacy Imaging Surveys (DECaLS, BASS, MzLS) through the cutout service of their viewer.

Protocol: https://www.legacysurvey.org/viewer and the service's source, github.com/legacysurvey/imagine. It rarely says
no: it clamps sizes, ignores bands that it lacks, answers a mistyped path or layer with 200, a position off the
footprint with 500, and fills what it has no data for with zeros. So everything taken from it is checked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np

from galmorph import registry
from galmorph.errors import CutoutError, GalmorphError
from galmorph.files.pictures import read_picture
from galmorph.images.surveys import native_pixscale
from galmorph.retrieval.addresses import printable
from galmorph.retrieval.answers import check_grid, read_images
from galmorph.retrieval.client import Answer, FinalFailure, PassingFailure, Session
from galmorph.retrieval.mosaic import Downloads
from galmorph.retrieval.request import Request, degrees
from galmorph.retrieval.surveys import Delivery, Imaging, NoCoverage, Source, Survey
from galmorph.retrieval.surveys._bricks import MOST_DECODED, MOST_ON_DISK, Bricks

BASE_URL = "https://www.legacysurvey.org/viewer"
EXTRAS = ("invvar", "maskbits")
# The spread (of 255) that JPEG rounding can give to a uniform picture, which is how the viewer shows "no survey here".
_UNIFORM = 4
_JPEG_SIDE_PX = 64
# A service may send more than was requested, but only within limits.
_MOST_PICTURE_PIXELS = 1 << 20


@dataclass(frozen=True)
class Layer:
    """One layer of the viewer.

    Parameters
    ----------
    bands : str
        The bands that it has, a letter each.
    survey : str
        Name of the survey whose pixels it shows.
    release : str
        Where the image itself does not say.
    """

    name: str
    bands: str
    survey: str = "decals"
    release: str = ""

    @property
    def pixscale(self) -> float:
        """The native pixel, arcsec; the flux is per such a pixel."""
        return native_pixscale(self.survey)


_LAYERS = {
    layer.name: layer
    for layer in (
        *(Layer(f"ls-dr{n}", "griz" if n == 10 else "grz", release=f"DR{n}") for n in (8, 9, 10, 11)),
        Layer("decals-dr5", "grz", release="DR5"),
        Layer("decals-dr7", "grz", release="DR7"),
        Layer("mzls+bass-dr6", "grz", release="DR6"),
        # The viewer has no z image of SDSS, and sends g, r, i instead.
        Layer("sdss", "gri", "sdss"),
    )
}
_ALIASES = {"dr8": "ls-dr8", "sdss2": "sdss", "sdssco": "sdss"}


def layer(name: str) -> Layer:
    """Return the facts about a layer.

    Raises
    ------
    GalmorphError
        If there is no such layer.
    """
    name = _ALIASES.get(name, name)
    if name in _LAYERS:
        return _LAYERS[name]
    match = re.fullmatch(r"(ls-dr(\d+))(-north|-south)?(-model|-resid)?(-grz|-gri)?", name)
    if match is None:
        raise GalmorphError(registry.unknown("layer", name, [*_LAYERS, "ls-dr10-grz", "ls-dr9-south", "ls-dr9-north"]))
    whole = _LAYERS.get(match[1])
    bands = (match[5] or "").lstrip("-") or (whole.bands if whole else "grz")
    return Layer(name, bands, release=f"DR{match[2]}{match[3] or ''}")


def choose_bands(chosen: Layer, bands: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the bands to request: those given if the layer has them, else g, r, z or the layer's.

    Raises
    ------
    GalmorphError
        If the layer lacks a band: the service would send other bands instead.
    """
    if bands is None:
        return tuple("grz" if set("grz") <= set(chosen.bands) else chosen.bands)
    lacking = [band for band in bands if band not in chosen.bands]
    if lacking or len(set(bands)) < len(bands) or not bands:
        raise GalmorphError(
            f"The layer {chosen.name} has the bands {', '.join(chosen.bands)}; requested: {', '.join(bands)}."
        )
    return bands


class ServerError(PassingFailure):
    """Status 500: there is no brick nearby, or the server is broken; at most two attempts."""

    def __init__(self, message: str) -> None:
        super().__init__(message, attempts=2)


class Viewer(Source):
    """The viewer's cutout service: one request a target, all bands in one cube."""

    def __init__(self, imaging: Imaging) -> None:
        self.layer = layer(imaging.layer or "ls-dr9")
        self.survey = self.layer.survey
        self.bands = choose_bands(self.layer, imaging.bands)
        self.pixscale = self.layer.pixscale
        self.footprint = self.layer.name
        self.extras = tuple(sorted(imaging.extras))
        if not set(self.extras) <= set(EXTRAS):
            raise GalmorphError(f"extras are {' and '.join(EXTRAS)}, not {', '.join(self.extras)}.")
        self.base_url = (imaging.base_url or BASE_URL).rstrip("/")
        self._layer_text, self._bands_text = quote(self.layer.name), "".join(self.bands)
        self._extras_text = "".join(f"&{extra}" for extra in self.extras)

    def identity(self, request: Request) -> str:
        """Return the path and query of a request."""
        return f"fits-cutout?{self._query(request, request.size)}{self._extras_text}"

    def _query(self, request: Request, size: int) -> str:
        return (
            f"ra={degrees(request.ra)}&dec={degrees(request.dec)}&layer={self._layer_text}"
            f"&pixscale={request.pixscale:.6g}&size={size}&bands={self._bands_text}"
        )

    async def deliver(self, session: Session, request: Request) -> Delivery:
        """Fetch and check one cube; the cause of a status 500 is determined."""
        url = f"{self.base_url}/{self.identity(request)}"
        n_images = 1 + len(self.extras)
        at_most = n_images * (4 * len(self.bands) * request.size**2 + 4 * 2880)
        try:
            return await session.get(url, accept=lambda answer: self._accept(answer, request), at_most=at_most)
        except ServerError as error:
            if await self._is_grey(session, request):
                raise NoCoverage(f"off the footprint of {self.layer.name}: no image, and a uniform picture") from None
            raise FinalFailure(f"{error} The position is covered, so the fault is the server's.") from error

    def _accept(self, answer: Answer, request: Request) -> Delivery:
        if answer.status == 500:
            raise ServerError(f"{answer.url} answered 500 (internal server error).")
        if answer.status != 200:
            raise FinalFailure(f"{answer.url} answered {answer.status}: {answer.text}")
        if b"no such layer" in answer.body[:100]:
            raise GalmorphError(f"The service does not know the layer {self.layer.name!r}; choose another --layer.")
        try:
            return self._read(answer, request)
        except FinalFailure as error:
            is_text = not answer.body.startswith(b"SIMPLE")
            raise FinalFailure(f"{answer.url}: {error}{' It says: ' + answer.text if is_text else ''}") from None
        except PassingFailure as error:
            raise PassingFailure(f"{answer.url}: {error}") from None

    def _read(self, answer: Answer, request: Request) -> Delivery:
        image, *others = read_images(answer.body)
        cards = image.cards
        # If a band is missing, the service sends others, and only the header shows it.
        served = str(cards.get("BANDS", ""))
        named = tuple(str(cards.get(f"BAND{n}", "")) for n in range(len(self.bands)))
        if served != "".join(self.bands) or named != self.bands:
            raise FinalFailure(f"the answer has the bands {served!r} instead of {''.join(self.bands)!r}.")
        check_grid(cards, request.ra, request.dec, request.size, request.pixscale)
        if image.data.dtype != np.dtype(">f4"):
            raise FinalFailure(f"the answer has pixels of the type {image.data.dtype}.")
        if image.data.shape[-2:] != (request.size, request.size):
            raise FinalFailure(f"the answer has pixels of the shape {image.data.shape}.")
        # Left in the byte order of FITS, in which they are written.
        flux = np.asarray(image.data, ">f4").reshape(-1, request.size, request.size)
        if len(flux) != len(self.bands):
            raise FinalFailure(f"the answer has {len(flux)} planes instead of {len(self.bands)}.")
        if not np.isfinite([flux.min(), flux.max()]).all():
            raise PassingFailure("the answer has pixels that are not finite.")
        planes = {str(other.cards.get("IMAGETYP", "")).upper(): other.data for other in others}
        # The service silently drops both if the pixels are binned.
        if request.pixscale < 2 * self.pixscale and not {extra.upper() for extra in self.extras} <= set(planes):
            raise FinalFailure(f"the answer lacks {' or '.join(self.extras)}.")
        for extra in self.extras:
            if (plane := planes.get(extra.upper())) is not None and plane.shape[-2:] != flux.shape[-2:]:
                raise FinalFailure(f"the answer has {extra} of the shape {plane.shape}.")
        release = str(cards.get("VERSION", "")) or self.layer.release
        return self.delivery(request, flux, answer.url, release, planes=planes)

    async def _is_grey(self, session: Session, request: Request) -> bool:
        """Ask for a small picture of the same position: off the footprint it is plain grey."""
        url = f"{self.base_url}/jpeg-cutout?{self._query(request, min(request.size, _JPEG_SIDE_PX))}"
        return await session.get(url, accept=_uniform, at_most=1 << 20)


def _uniform(answer: Answer) -> bool:
    """Return whether a picture shows a uniform colour."""
    if answer.status != 200:
        raise PassingFailure(f"{answer.url} answered {answer.status}.", attempts=2)
    try:
        pixels = read_picture(answer.body, name="the picture", most_pixels=_MOST_PICTURE_PIXELS)
    except CutoutError as error:
        raise FinalFailure(f"{answer.url}: {printable(str(error))} It says: {answer.text}") from error
    return bool(np.ptp(pixels.astype(np.int16), axis=(0, 1)).max() <= _UNIFORM)


def bricks(imaging: Imaging) -> Source | None:
    """Return the source that cuts a layer's cutouts from whole bricks; None if it has no bricks, or for `extras`."""
    viewer = Viewer(imaging)
    match = re.fullmatch(r"ls-dr(8|9|10)(?:-(north|south))?(?:-grz|-gri)?", viewer.layer.name)
    if match is None or viewer.extras:
        return None
    downloads = Downloads(imaging.folder, MOST_ON_DISK, MOST_DECODED)
    return Bricks(viewer, int(match[1]), match[2] or "", imaging, downloads)


SURVEY = Survey("decals", ("g", "r", "z"), source=Viewer, bulk=bricks)
