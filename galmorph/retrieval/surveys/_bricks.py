"""Cutouts of the Legacy Surveys from whole bricks, for many targets in a small area.

A brick is 0.25 degrees of declination and about as much of sky in right ascension; its images are 3600 px (0.262
degrees) wide, so that neighbours overlap. https://www.legacysurvey.org/dr9/files/, and desiutil.brick for the geometry.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from galmorph.environment import Variable
from galmorph.files.fits import Hdu
from galmorph.images.fits_file import quiet
from galmorph.retrieval.addresses import printable
from galmorph.retrieval.answers import read_images
from galmorph.retrieval.client import FinalFailure, PassingFailure, Session
from galmorph.retrieval.mosaic import Downloads, Plane
from galmorph.retrieval.request import Request
from galmorph.retrieval.surveys import CONTROL, Delivery, ImageSource, Imaging, Source

BASE_URL = "https://portal.nersc.gov/cfs/cosmo/data/legacysurvey"
SIDE_PX = 3600
SIDE_DEG = 0.25
# North of this declination and of the Galactic plane the merged layers show BASS and MzLS.
NORTH_DEC = 32.375
# Typical size of a file of one band.
_USUAL_BYTES = 11_000_000
# A brick's three bands and those of its neighbours; decoded they have 52 MB each.
MOST_DECODED = 9
MOST_ON_DISK = 20_000_000_000


@dataclass(frozen=True)
class Brick:
    """A brick of the scheme.

    Parameters
    ----------
    row, number : int
        Its row, from the south pole, and its number in the row, from ra=0.
    """

    row: int
    number: int

    def __str__(self) -> str:
        return self.name

    @property
    def centre(self) -> tuple[float, float]:
        """Right ascension and declination, degrees."""
        return (self.number + 0.5) * 360 / _in_row(np.array(self.row)).item(), self.row * SIDE_DEG - 90

    @property
    def name(self) -> str:
        """Its name, such as ``0591m305``."""
        ra, dec = self.centre
        return f"{int(ra * 10):04d}{'m' if dec < 0 else 'p'}{int(abs(dec) * 10):03d}"

    @property
    def is_north(self) -> bool:
        """Whether the merged layers show BASS and MzLS there."""
        ra, dec = self.centre
        return dec > NORTH_DEC and _sine_of_galactic_latitude(ra, dec) > 0


def bricks_at(ra: float, dec: float, width_arcsec: float = 0.0) -> list[Brick]:
    """Return the brick of a position (degrees), then those that a square around it overlaps."""
    rows, numbers = _touched(np.array([ra]), np.array([dec]), np.array([width_arcsec]))
    return [Brick(*pair) for pair in dict.fromkeys(zip(rows.tolist(), numbers.tolist(), strict=True))]


def _touched(
    ra: NDArray[np.float64], dec: NDArray[np.float64], width_arcsec: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows and numbers of the bricks at the centres and at the corners of squares."""
    half = width_arcsec / 7200
    aside = half / np.maximum(np.cos(np.radians(dec)), 1e-3)
    around_ra = np.concatenate([ra, ra - aside, ra - aside, ra + aside, ra + aside]) % 360
    around_dec = np.clip(np.concatenate([dec, dec - half, dec + half, dec - half, dec + half]), -90, 90)
    row = np.clip(np.floor((around_dec + 90 + SIDE_DEG / 2) / SIDE_DEG), 0, 720).astype(np.int64)
    return row, np.floor(around_ra / (360 / _in_row(row))).astype(np.int64)


def _in_row(row: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of bricks in a row: even, and such that none is wider than 0.25 degrees."""
    nearest_dec = np.abs(row * SIDE_DEG - 90) - SIDE_DEG / 2
    count = (np.ceil(360 / SIDE_DEG * np.cos(np.radians(nearest_dec)) / 2) * 2).astype(np.int64)
    return np.where((row == 0) | (row == 720), 1, count)


class Bricks(ImageSource):
    """The same cutouts as those of another source, cut from bricks.

    Parameters
    ----------
    like : Source
        The cutout service; its requests are this source's too, so that the files are the same ones.
    release : int
        Number of the data release.
    half : str
        ``'north'``, ``'south'`` or ``''`` for both merged.
    """

    most_bytes = 4 * SIDE_PX**2

    def __init__(self, like: Source, release: int, half: str, imaging: Imaging, downloads: Downloads) -> None:
        self.like = like
        self.survey, self.bands, self.pixscale, self.footprint = like.survey, like.bands, like.pixscale, like.footprint
        self.release = release
        self.half = half
        given = imaging.address(Variable.BRICKS_URL)
        self.base_url = given or BASE_URL
        # If the user names another service, galmorph does not use the archive of the original one.
        self.automatic = imaging.base_url is None or bool(given)
        self.downloads = downloads

    def identity(self, request: Request) -> str:
        """Return the request of the cutout service."""
        return self.like.identity(request)

    def images(self, request: Request) -> str:
        """Return the brick of the centre."""
        return bricks_at(request.ra, request.dec)[0].name

    def cost(self, grids: NDArray[np.void]) -> tuple[int, int]:
        """Return requests and bytes: each brick once a band."""
        row, number = _touched(grids["ra"], grids["dec"], grids["size"] * grids["pixscale"].astype(float))
        n_files = len(np.unique(row * 2000 + number)) * len(self.bands)
        return n_files, n_files * _USUAL_BYTES

    def url(self, image: Brick, band: str) -> str:
        """Return the address of a brick's image."""
        half = self.half or ("north" if image.is_north else "south")
        # The northern images of data release 10 are those of 9.
        release = 9 if half == "north" and self.release == 10 else self.release
        name = image.name
        return f"{self.base_url}/dr{release}/{half}/coadd/{name[:3]}/{name}/legacysurvey-{name}-image-{band}.fits.fz"

    async def deliver(self, session: Session, request: Request) -> Delivery:
        """Download the bricks of the cutout, if they are not here yet, and cut it out."""
        return await self.cut(session, request, bricks_at(request.ra, request.dec, request.size * request.pixscale))

    def decode(self, body: bytes, image: Brick, band: str) -> Plane:
        """Check and decompress the image of a brick."""
        return _decode(body, url=self.url(image, band), centre=image.centre, pixscale=self.pixscale)

    async def control(self, session: Session) -> None:
        """Ask for a brick that every release has."""
        brick = bricks_at(*CONTROL)[0]
        if await self.plane(session, brick, "r" if "r" in self.bands else self.bands[0]) is None:
            raise FinalFailure(f"{self.base_url} has no brick {brick.name}.")


def _decode(body: bytes, *, url: str, centre: tuple[float, float], pixscale: float) -> Plane:
    from astropy.io import fits
    from astropy.wcs import WCS

    try:
        hdus = read_images(body)
        # A few kilobytes can claim any number of pixels: the size is checked before decompression.
        sides = [tuple(hdu.cards.get(f"ZNAXIS{axis}") for axis in (1, 2)) for hdu in hdus if "ZIMAGE" in hdu.cards]
        if sides != [(SIDE_PX, SIDE_PX)] or any(_tile_pixels(hdu) > SIDE_PX**2 for hdu in hdus):
            raise FinalFailure(f"not the image of its brick: {sides} px compressed.")
        with quiet():
            with fits.open(io.BytesIO(body), disable_image_compression=True) as hdus:
                intact = all(0 not in (hdu.verify_checksum(), hdu.verify_datasum()) for hdu in hdus)
            with fits.open(io.BytesIO(body)) as hdus:
                data = np.array(hdus[1].data, np.float32)
                plane = Plane(data, WCS(hdus[1].header))
    except FinalFailure as error:
        raise FinalFailure(f"{url}: {error}") from None
    except Exception as error:  # astropy raises errors of any kind
        raise PassingFailure(f"{url} is damaged: {printable(str(error))}") from error
    if not intact or not np.isfinite(data).all():
        raise PassingFailure(f"{url} is damaged: its checksum is wrong or pixels are not finite.")
    found = plane.wcs.wcs.crval
    right = data.shape == (SIDE_PX, SIDE_PX) and abs(plane.pixscale / pixscale - 1) < 1e-3
    if not right or max(abs(found - centre)) > 1e-4:
        raise FinalFailure(f"{url} is not the image of its brick: {data.shape} px around {found}.")
    return plane


def _tile_pixels(hdu: Hdu) -> float:
    """Return the pixels of a tile of a compressed image; infinity where the cards are not numbers."""
    sides = [hdu.cards.get(f"ZTILE{axis}", 1) for axis in range(1, 1 + 2)]
    return math.prod(side if isinstance(side, int) and side > 0 else math.inf for side in sides)


def _sine_of_galactic_latitude(ra: float, dec: float) -> float:
    # The pole of the Galaxy is at ra=192.85948, dec=27.12825.
    pole = math.radians(27.12825)
    angle, height = math.radians(ra - 192.85948), math.radians(dec)
    return math.sin(height) * math.sin(pole) + math.cos(height) * math.cos(pole) * math.cos(angle)
