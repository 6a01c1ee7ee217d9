"""Surveys: facts about their images, and the interface of a source of their cutouts.

Each module defines ``SURVEY``. Nothing else knows a server; what the modules share is here. A run of
`galmorph.retrieval.fetch.fetch` turns every target into a `galmorph.retrieval.request.Request` and asks one `Source` to
deliver it.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.environment import Variable
from galmorph.files.fits import BLOCK, padded
from galmorph.images.cutout import Cutout
from galmorph.retrieval.addresses import Credentials
from galmorph.retrieval.client import Session
from galmorph.retrieval.mosaic import Downloads, Plane, compose
from galmorph.retrieval.request import Request

# A galaxy that every layer and release has (ra, dec), the first of the Galaxy10 DECaLS list: a service without
# it is down, whatever it answers.
CONTROL = (331.66405522, -0.48415457)


class NoCoverage(Exception):
    """The survey has no image of the position; the message gives the evidence."""


@dataclass(frozen=True)
class Delivery:
    """A cutout as received, checked, and its origin.

    Parameters
    ----------
    cutout : Cutout
        Pixels without data are exactly 0 in every survey. They may be in the byte order of FITS.
    url : str
        The request, without secrets; the first one if there were several.
    release : str
        The survey's data release.
    planes : mapping from EXTNAME to ndarray
        Extensions beside the image, ``INVVAR`` (band, y, x) or ``MASKBITS`` (y, x).
    unit : str
        Unit of the flux. Files in another unit than nanomaggies are not classified.
    """

    cutout: Cutout
    url: str
    release: str
    planes: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    unit: str = "nanomaggy"


@dataclass(frozen=True)
class Imaging:
    """The settings of all cutouts of a run; None means the survey's default.

    Parameters
    ----------
    layer : str, optional
        The data release or layer, as the service names it.
    hips : str, optional
        The identifier of a HiPS.
    bands : tuple of str, optional
    extras : tuple of str
        ``'invvar'``, ``'maskbits'``.
    base_url : str, optional
        Replaces the service's address; without a password.
    folder : Path
        Folder for files that a source needs for several targets.
    credentials : Credentials
        User names and passwords of the servers; `address` adds to them.
    """

    layer: str | None = None
    hips: str | None = None
    bands: tuple[str, ...] | None = None
    extras: tuple[str, ...] = ()
    base_url: str | None = None
    folder: Path = Path()
    credentials: Credentials = field(default_factory=Credentials)

    def address(self, variable: Variable) -> str:
        """Return the address in an environment variable, without a password, ``''`` where it is not set."""
        value = variable.read()
        return self.credentials.take(value, str(variable)) if value else ""


class Source(ABC):
    """A source of cutouts.

    Attributes
    ----------
    survey : str
        Name of the survey whose pixels they are, ``''`` where that is unknown.
    bands : tuple of str
        The planes of every cutout.
    pixscale : float
        The survey's own pixel, arcsec; NaN where that is unknown.
    footprint : str
        The name of the footprint (a MOC) that its images cover.
    automatic : bool
        Whether it may be chosen automatically as the cheapest, if the user names no way.
    """

    survey: str
    bands: tuple[str, ...]
    pixscale: float
    footprint: str
    automatic: bool = True

    @abstractmethod
    def identity(self, request: Request) -> str:
        """Return a text that is the same only for the same pixels; no address of a server is in it."""

    def images(self, request: Request) -> str | None:  # noqa: ARG002
        """Return `Request.images`, so that requests of one image follow one another; None: ask `locate`."""
        return ""

    async def locate(self, session: Session, requests: Sequence[Request]) -> list[str | None]:  # noqa: ARG002
        """Return `Request.images` of several requests, None where the survey has no image."""
        return [""] * len(requests)

    @abstractmethod
    async def deliver(self, session: Session, request: Request) -> Delivery:
        """Fetch and check one cutout.

        Raises
        ------
        NoCoverage
            If the survey has no image there.
        Failure
            If the cutout cannot be had, or not now.
        """

    def delivery(self, request: Request, flux: NDArray[np.float32], url: str, release: str, **more: Any) -> Delivery:
        """Return the delivery of flux (band, y, x) on the request's own grid; for `more` see `Delivery`."""
        cutout = Cutout(
            target_id=request.target_id,
            survey=self.survey,
            bands=self.bands,
            flux=flux,
            flux_pixscale=request.pixscale if math.isnan(self.pixscale) else self.pixscale,
            pixscale=request.pixscale,
            radius_arcsec=request.radius_arcsec,
            header_text=request.wcs_cards,
        )
        return Delivery(cutout, url, release, **more)

    async def control(self, session: Session) -> None:
        """Ask for something that the service certainly has; raise a Failure if the answer is not sensible."""
        try:
            pixscale = 1.0 if math.isnan(self.pixscale) else self.pixscale
            await self.deliver(session, Request("control", *CONTROL, 32, pixscale))
        except NoCoverage:
            return

    def cost(self, grids: NDArray[np.void]) -> tuple[int, int]:
        """Return about how many requests and bytes a list of cutouts needs; see `galmorph.retrieval.layout.grids`."""
        data = 4 * len(self.bands) * grids["size"].astype(np.int64) ** 2
        return len(grids), int(np.sum(padded(data) + BLOCK))


class ImageSource(Source):
    """A source that cuts its cutouts from larger images (bricks, fields), each of which is one file a band.

    Attributes
    ----------
    release : int
        Number of the data release.
    most_bytes : int
        Of a file.
    """

    release: int
    downloads: Downloads
    most_bytes: int
    _proven = False

    @abstractmethod
    def url(self, image: Any, band: str) -> str:
        """Return the address of an image."""

    @abstractmethod
    def decode(self, body: bytes, image: Any, band: str) -> Plane:
        """Check and decompress an image; raise a Failure if it is damaged or another one."""

    async def plane(self, session: Session, image: Any, band: str) -> Plane | None:
        """Download an image, if it is not here yet; None if there is no such file."""
        decode = functools.partial(self.decode, image=image, band=band)
        return await self.downloads.plane(session, self.url(image, band), decode, at_most=self.most_bytes)

    async def cut(self, session: Session, request: Request, images: Sequence[Any]) -> Delivery:
        """Cut a request out of the images that may show it, the best one first.

        Raises
        ------
        NoCoverage
            If none of them does.
        Failure
            If one that is needed cannot be had.
        CannotContinue
            If there is no file of anything.
        """
        planes = [
            await compose(request, [functools.partial(self.plane, session, image, band) for image in images])
            for band in self.bands
        ]
        flux = np.stack(planes)
        there = bool(flux.any())
        if not there and not self._proven:
            # A wrong address has no files at all.
            await session.client.confirm_alive(math.inf, self.control)
        self._proven = True
        if not there:
            raise NoCoverage(f"no image of DR{self.release} shows it: {', '.join(map(str, images))}")
        return self.delivery(request, flux, self.url(images[0], self.bands[0]), f"DR{self.release}")


@dataclass(frozen=True)
class Survey:
    """An imaging survey.

    Parameters
    ----------
    name : str
    bands : tuple of str
        The bands that are fetched by default.
    source : callable
        Makes the `Source` of a run.
    bulk : callable, optional
        Makes a source of the same cutouts that cuts them from whole files; returns None where the layer has none.
    """

    name: str
    bands: tuple[str, ...]
    source: Callable[[Imaging], Source]
    bulk: Callable[[Imaging], Source | None] | None = None
