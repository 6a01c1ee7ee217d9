"""Any image HiPS through CDS hips2fits, one band a request.

Protocol: https://alasky.cds.unistra.fr/hips-image-services/hips2fits. It resamples without conserving flux, so values
stay per native pixel of the survey. Outside the coverage it sends an image of NaN with status 200, and now and then it
does so inside, when it fails; the MocServer says which it is.
"""

from __future__ import annotations

import re
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from galmorph.errors import GalmorphError
from galmorph.images.surveys import native_pixscale
from galmorph.retrieval.addresses import printable
from galmorph.retrieval.answers import check_grid, float_planes, read_images
from galmorph.retrieval.client import Answer, FinalFailure, PassingFailure, Session
from galmorph.retrieval.request import Request, degrees
from galmorph.retrieval.surveys import Delivery, Imaging, NoCoverage, Source, Survey

BASE_URLS = ("https://alasky.cds.unistra.fr", "https://alaskybis.cds.unistra.fr")
DEFAULT_HIPS = "CDS/P/DESI-Legacy-Surveys/DR10"
# Number of requests for a blank image of a covered position; the mirrors take turns.
_ROUNDS = 2


# Survey and release of HiPS that are in nanomaggies per native pixel, by their registry records and renders. The key is
# the identifier without the band. The units of other HiPS are unknown.
_IN_NANOMAGGIES = {
    "CDS/P/DESI-Legacy-Surveys/DR10": ("decals", "DR10"),
    "CDS/P/DECaLS/DR5": ("decals", "DR5"),
    "CDS/P/SDSS9": ("sdss", "DR9"),
}


class Hips2Fits(Source):
    """One HiPS, a band of which is ``<identifier>/<band>``, or the identifier with ``{band}`` replaced."""

    def __init__(self, imaging: Imaging) -> None:
        if imaging.extras:
            raise GalmorphError(f"A HiPS has no {' or '.join(imaging.extras)}.")
        self.hips = (imaging.hips or DEFAULT_HIPS).strip("/")
        self.bands = imaging.bands or SURVEY.bands
        if not re.fullmatch(r"[!-~]+", self.hips):
            raise GalmorphError(f"{printable(self.hips)!r} is not an identifier of a HiPS, such as {DEFAULT_HIPS}.")
        if self.hips.lower().endswith("/color"):
            raise GalmorphError(f"{self.hips} is a colour picture, without flux: choose the HiPS of single bands.")
        last = self.hips.rpartition("/")[2]
        if len(self.bands) == 1 and last == self.bands[0]:
            self.hips = self.hips.removesuffix(f"/{last}")
        self.survey, self.release = _IN_NANOMAGGIES.get(self.hips, ("", ""))
        self.pixscale = native_pixscale(self.survey)
        self.footprint = self.hips.replace("/", "-")
        self.base_urls = imaging.base_url.rstrip("/").split(",") if imaging.base_url else BASE_URLS

    def _identifier(self, band: str) -> str:
        return self.hips.replace("{band}", band) if "{band}" in self.hips else f"{self.hips}/{band}"

    def _query(self, request: Request, band: str) -> str:
        return (
            f"hips={quote(self._identifier(band), safe='/')}&width={request.size}&height={request.size}&projection=TAN"
            f"&coordsys=icrs&ra={degrees(request.ra)}&dec={degrees(request.dec)}"
            f"&fov={request.pixscale * request.size / 3600:.10g}&format=fits"
        )

    def identity(self, request: Request) -> str:
        """Return the query of the first band and the letters of all."""
        return f"hips2fits?{self._query(request, self.bands[0])} {''.join(self.bands)}"

    def cost(self, grids: NDArray[np.void]) -> tuple[int, int]:
        """Return requests and bytes: one request a band."""
        n_cutouts, n_bytes = super().cost(grids)
        return n_cutouts * len(self.bands), n_bytes

    async def deliver(self, session: Session, request: Request) -> Delivery:
        """Fetch the bands one after another; if all are blank, ask whether the position is covered."""
        for turn in range(_ROUNDS):
            planes = [await self._plane(session, request, band, turn) for band in self.bands]
            if any(plane.any() for plane in planes):
                break
            if not any([await self._is_covered(session, request, band) for band in self.bands]):
                raise NoCoverage(f"outside the coverage of {self.hips}, as the MocServer says")
        else:
            raise PassingFailure(f"{self.hips} covers ra={request.ra} dec={request.dec}, but sends blank images.")
        url = f"{self.base_urls[0]}/hips-image-services/hips2fits?{self._query(request, self.bands[0])}"
        release, unit = (self.release, "nanomaggy") if self.survey else (self.hips, "unknown")
        return self.delivery(request, np.concatenate(planes), url, release, unit=unit)

    async def _plane(self, session: Session, request: Request, band: str, turn: int) -> NDArray[np.float32]:
        """Return one band, float32 (1, y, x), with 0 where there is no data; each round starts with another mirror."""

        def accept(answer: Answer) -> NDArray[np.float32]:
            if answer.status >= 500:
                raise PassingFailure(f"{answer.url} answered {answer.status}: {answer.text}")
            if answer.status != 200:
                raise FinalFailure(f"{self._identifier(band)}: the service answered {answer.status}: {answer.text}")
            image, *_ = read_images(answer.body)
            if image.data.ndim != 2:
                raise FinalFailure(f"{self._identifier(band)} is a colour picture, without flux.")
            check_grid(image.cards, request.ra, request.dec, request.size, request.pixscale)
            plane = float_planes(image.data)
            blank = image.cards.get("BLANK")
            has_data = np.isfinite(plane) & (plane != blank) if isinstance(blank, int | float) else np.isfinite(plane)
            return np.where(has_data, plane, np.float32(0))

        query = self._query(request, band)
        first = turn % len(self.base_urls)
        mirrors = (*self.base_urls[first:], *self.base_urls[:first])
        urls = [f"{mirror}/hips-image-services/hips2fits?{query}" for mirror in mirrors]
        return await session.get(*urls, accept=accept, at_most=8 * request.size**2 + 20 * 2880)

    async def _is_covered(self, session: Session, request: Request, band: str) -> bool:
        """Ask the MocServer whether the HiPS covers the position."""

        def accept(answer: Answer) -> bool:
            if answer.status != 200:
                raise PassingFailure(f"{answer.url} answered {answer.status}: {answer.text}")
            return self._identifier(band) in answer.body.decode("utf-8", "replace").split()

        radius = request.pixscale * request.size / 7200
        query = (
            f"RA={degrees(request.ra)}&DEC={degrees(request.dec)}&SR={radius:.6f}"
            f"&expr={quote(f'ID={self._identifier(band)}', safe='/')}&get=id"
        )
        urls = [f"{base}/MocServer/query?{query}" for base in self.base_urls]
        return await session.get(*urls, accept=accept, at_most=1 << 16)


SURVEY = Survey("hips", ("g", "r", "z"), source=Hips2Fits)
