"""SDSS imaging: positions are looked up in the SkyServer, and cutouts are cut from whole frames of its archive.

SDSS serves no small FITS images. The unit is a field of 2048 x 1489 px, one file (frame) a band. Bands are offset by
some pixels, rotated, and cut off at different edges, so each band is resampled to the cutout's grid. Positions are
looked up with the form of the SkyServer's cross-identification, .../dr17/en/tools/crossid/crossid.aspx. astroquery
knows the addresses of frames; every request itself goes through galmorph's own client.
"""

from __future__ import annotations

import asyncio
import bz2
import csv
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from galmorph.environment import Variable
from galmorph.errors import GalmorphError
from galmorph.images.surveys.sdss import FACTS
from galmorph.images.wcs import read_wcs
from galmorph.retrieval.addresses import printable
from galmorph.retrieval.answers import read_images
from galmorph.retrieval.client import Answer, FinalFailure, PassingFailure, Session
from galmorph.retrieval.mosaic import Downloads, Plane
from galmorph.retrieval.request import Request, degrees
from galmorph.retrieval.surveys import CONTROL, Delivery, ImageSource, Imaging, NoCoverage, Survey

SKYSERVER_URL = "https://skyserver.sdss.org"
SAS_URL = "https://data.sdss.org/sas"
DEFAULT_RELEASE = 17

# The nearest catalogued object gives the field; there is one within this distance everywhere.
_NEAREST_OBJECT_ARCMIN = 1.0
# Largest distance between points of a cutout that are looked up: a third of a field.
_POINTS_APART_ARCSEC = 240.0
_MOST_POINTS = 1000
# The SkyServer rejects more than 60 queries a minute.
_LOOKUP_EVERY_S = 1.0
_COLUMNS = ("ra", "dec", "run", "rerun", "camcol", "field", "mode", "rowc", "colc")
# Ranges of the columns; NaN is outside.
_RANGES = {"ra": (0, 360), "dec": (-90, 90), "rowc": (-1e4, 1e4), "colc": (-1e4, 1e4), "mode": (0, 9)}
_RANGES |= {"run": (0, 999_999), "rerun": (0, 99_999), "camcol": (1, 6), "field": (0, 9_999)}
_FORM = {
    "searchtool": "CrossID",
    "searchType": "photo",
    "photoScope": "nearPrim",
    "photoUpType": "ra-dec",
    "firstcol": "1",
    "radius": str(_NEAREST_OBJECT_ARCMIN),
    "format": "csv",
    "uquery": f"SELECT {', '.join(f'p.{name}' for name in _COLUMNS)} FROM #upload u JOIN #x x ON x.up_id = u.up_id "
    "JOIN PhotoObjAll AS p ON p.objID = x.objID ORDER BY x.up_id",
}
# The answer to a look-up has about 100 bytes a point.
_MOST_TABLE_BYTES = 1_000 * _MOST_POINTS
_FIELD_ROWS, _FIELD_COLUMNS = 1489, 2048

# Typical size of a compressed frame.
_USUAL_BYTES = 3_500_000
# A frame has 12.2 MB of pixels, and tables of the sky and the astrometry.
_MOST_FRAME_BYTES = 40_000_000
# Decoded frames have 12 MB each.
_MOST_DECODED = 24
_MOST_ON_DISK = 20_000_000_000


@dataclass(frozen=True)
class SdssField:
    """A field: the location of its frames in the archive."""

    run: int
    rerun: int
    camcol: int
    number: int

    def __str__(self) -> str:
        return f"{self.run:06d}-{self.rerun}-{self.camcol}-{self.number:04d}"

    @classmethod
    def parse(cls, text: str) -> SdssField:
        """Return the field of a text; raise ValueError if it is not valid."""
        run, rerun, camcol, number = map(int, text.split("-"))
        return cls(run, rerun, camcol, number)

    def beside(self, step: int) -> SdssField:
        """Return a field of the same run and camera column."""
        return SdssField(self.run, self.rerun, self.camcol, self.number + step)


class Frames(ImageSource):
    """Cutouts from the frames of one data release."""

    survey = "sdss"
    footprint = "sdss"
    most_bytes = 60_000_000

    def __init__(self, imaging: Imaging) -> None:
        from astroquery.sdss import SDSSClass

        if imaging.extras:
            raise GalmorphError(f"SDSS frames have no {' or '.join(imaging.extras)}.")
        name = imaging.layer or f"dr{DEFAULT_RELEASE}"
        if not name.startswith("dr") or not name[2:].isdigit() or int(name[2:]) < 8:
            raise GalmorphError(f"There is no SDSS data release {name!r} with frames: dr8 to dr19, such as dr17.")
        self.release = int(name[2:])
        self.bands = imaging.bands or SURVEY.bands
        if not set(self.bands) <= set("ugriz") or len(set(self.bands)) < len(self.bands):
            raise GalmorphError(f"SDSS has the bands u, g, r, i, z; requested: {', '.join(self.bands)}.")
        self.pixscale = FACTS.pixscale
        base_url = imaging.base_url or ""
        self.skyserver_url = imaging.address(Variable.SDSS_SKYSERVER_URL) or base_url or SKYSERVER_URL
        self.sas_url = imaging.address(Variable.SDSS_SAS_URL) or (f"{base_url}/sas" if base_url else SAS_URL)
        self.downloads = Downloads(imaging.folder, _MOST_ON_DISK, _MOST_DECODED)
        self._frame_address = SDSSClass.IMAGING_URL_SUFFIX
        self._looked_up_at = -math.inf

    def identity(self, request: Request) -> str:
        """Return a text of release, bands, position and grid."""
        return (
            f"sdss dr{self.release} bands={''.join(self.bands)} ra={degrees(request.ra)} dec={degrees(request.dec)}"
            f" size={request.size} pixscale={request.pixscale:.6g}"
        )

    def images(self, request: Request) -> None:  # noqa: ARG002
        """Return None: the SkyServer must be asked."""
        return None

    def cost(self, grids: NDArray[np.void]) -> tuple[int, int]:
        """Return requests and bytes, as if no two targets shared a field."""
        n_frames = len(grids) * len(self.bands)
        return n_frames + -(-len(grids) * 5 // _MOST_POINTS), n_frames * _USUAL_BYTES

    async def locate(self, session: Session, requests: Sequence[Request]) -> list[str | None]:
        """Return the fields that each cutout lies on, the one of its centre first."""
        points = [_points(request) for request in requests]
        every = np.concatenate(points)
        at_points: list[SdssField | None] = []
        for start in range(0, len(every), _MOST_POINTS):
            at_points += await self._look_up(session, every[start : start + _MOST_POINTS])
        images: list[str | None] = []
        first = 0
        for own in points:
            fields = at_points[first : first + len(own)]
            first += len(own)
            # If the centre is not covered, the galaxy is not.
            images.append(" ".join(dict.fromkeys(str(field) for field in fields if field)) if fields[0] else None)
        return images

    async def _look_up(self, session: Session, points: NDArray[np.float64]) -> list[SdssField | None]:
        """Return the field of each point (ra, dec), None where nothing is catalogued near it."""
        await asyncio.sleep(max(0.0, self._looked_up_at + _LOOKUP_EVERY_S - time.monotonic()))
        self._looked_up_at = time.monotonic()
        # The file has the name of the form's field; its first line names the columns.
        lines = [f"p{n} {degrees(ra)} {degrees(dec)}" for n, (ra, dec) in enumerate(points.tolist())]
        upload = {"upload": ("positions.txt", "\n".join(["name ra dec", *lines]))}
        url = f"{self.skyserver_url}{self._look_up_path}"
        rows = await session.post(url, data=_FORM, files=upload, accept=_read_rows, at_most=_MOST_TABLE_BYTES)
        return await asyncio.to_thread(_match, points, rows)

    @property
    def _look_up_path(self) -> str:
        """The path of the cross-identification, which moved twice."""
        if self.release > 10:
            return f"/dr{self.release}/en/tools/search/X_Results.aspx"
        return f"/dr{self.release}/en/tools/crossid/x_crossid.{'aspx' if self.release == 10 else 'asp'}"

    def url(self, image: SdssField, band: str) -> str:
        """Return the address of a frame."""
        newest = "prior-surveys/sdss4-dr17-eboss" if self.release > 17 else "eboss"
        instrument = newest if self.release > 12 else "boss"
        return self._frame_address.format(
            base=self.sas_url,
            dr=self.release,
            instrument=instrument,
            rerun=image.rerun,
            run=image.run,
            camcol=image.camcol,
            field=image.number,
            band=band,
        )

    async def deliver(self, session: Session, request: Request) -> Delivery:
        """Download the frames of the cutout, if they are not here yet, and resample the bands to one grid."""
        try:
            return await self._cut_from(session, request, request.images)
        except (NoCoverage, ValueError, IndexError):
            # An earlier run looked up these fields: look them up again before concluding anything.
            (images,) = await self.locate(session, [request])
            if images is None:
                raise NoCoverage("off the footprint") from None
            if images == request.images:
                raise
            return await self._cut_from(session, request, images)

    async def _cut_from(self, session: Session, request: Request, images: str) -> Delivery:
        fields = [SdssField.parse(text) for text in images.split()]
        # The nearest object may be on the next field, and bands have different edges.
        fields += [fields[0].beside(-1), fields[0].beside(1)]
        fields = list(dict.fromkeys(field for field in fields if field.number > 0))
        return await self.cut(session, request, fields)

    def decode(self, body: bytes, image: SdssField, band: str) -> Plane:
        """Check and decompress a frame."""
        return _decode(body, url=self.url(image, band), field=image, band=band)

    async def control(self, session: Session) -> None:
        """Look up a galaxy that every release has, and ask for one of its frames."""
        images, *_ = await self.locate(session, [Request("control", *CONTROL, 32, self.pixscale)])
        if images and await self.plane(session, field := SdssField.parse(images.split()[0]), "r") is None:
            raise FinalFailure(f"{self.sas_url} has no frame of the field {field}.")


def _points(request: Request) -> NDArray[np.float64]:
    """Return the points (ra, dec) of a cutout that are looked up: its centre, and a grid from corner to corner."""
    half = request.size * request.pixscale / 7200
    n_side = max(2, math.ceil(2 * half * 3600 / _POINTS_APART_ARCSEC) + 1)
    steps = np.linspace(-half, half, n_side)
    dec = np.clip(request.dec + np.repeat(steps, n_side), -90, 90)
    ra = (request.ra + np.tile(steps, n_side) / np.maximum(np.cos(np.radians(dec)), 1e-3)) % 360
    return np.concatenate([[(request.ra, request.dec)], np.stack([ra, dec], axis=1)])


def _read_rows(answer: Answer) -> list[dict[str, float]]:
    """Return the rows of the SkyServer's CSV. Errors also have status 200, as a web page or within the CSV."""
    if answer.status != 200:
        kind = PassingFailure if answer.status >= 500 else FinalFailure
        raise kind(f"{answer.url} answered {answer.status}: {answer.text}")
    text = answer.body.decode("utf-8", "replace")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if "error_message" in text or not lines or not set(_COLUMNS) <= set(lines[0].split(",")):
        raise PassingFailure(f"{answer.url} sent no table: {answer.text}")
    try:
        rows = [{name: float(row[name]) for name in _COLUMNS} for row in csv.DictReader(lines)]
    except (ValueError, TypeError, KeyError, csv.Error) as error:
        raise PassingFailure(f"{answer.url} sent a damaged table: {printable(str(error))}.") from error
    for row in rows:
        if not all(low <= row[name] <= high for name, (low, high) in _RANGES.items()):
            raise PassingFailure(f"{answer.url} sent a damaged table: {printable(str(row))}.")
    return rows


def _match(points: NDArray[np.float64], rows: list[dict[str, float]]) -> list[SdssField | None]:
    """Return the field of the row nearest to each point; for several at one position the one farthest from an edge."""
    from astropy.coordinates import SkyCoord

    primary = [row for row in rows if row["mode"] == 1] or rows
    if not primary:
        return [None] * len(points)
    primary.sort(key=_from_edge, reverse=True)
    catalogued = SkyCoord([row["ra"] for row in primary], [row["dec"] for row in primary], unit="deg")
    nearest, apart, _ = SkyCoord(points[:, 0], points[:, 1], unit="deg").match_to_catalog_sky(catalogued)
    fields = [SdssField(*(int(row[name]) for name in ("run", "rerun", "camcol", "field"))) for row in primary]
    return [
        fields[index] if distance <= _NEAREST_OBJECT_ARCMIN else None
        for index, distance in zip(nearest.tolist(), apart.arcmin.tolist(), strict=True)
    ]


def _from_edge(row: dict[str, float]) -> float:
    return min(row["rowc"], _FIELD_ROWS - row["rowc"], row["colc"], _FIELD_COLUMNS - row["colc"])


def _decode(body: bytes, *, url: str, field: SdssField, band: str) -> Plane:
    try:
        inflate = bz2.BZ2Decompressor()
        content = inflate.decompress(body, _MOST_FRAME_BYTES)
        if not inflate.eof:
            raise PassingFailure(f"it is cut short, or of more than {_MOST_FRAME_BYTES} bytes.")
        image, *_ = read_images(content)
    except (OSError, ValueError, EOFError) as error:
        text = body[:100].decode("utf-8", "replace") if body[:1] == b"<" else str(error)
        raise PassingFailure(f"{url} is damaged: {printable(text)}.") from error
    except (PassingFailure, FinalFailure) as error:
        raise PassingFailure(f"{url} is damaged: {error}") from None
    cards = image.cards
    named = tuple(cards.get(key) for key in ("RUN", "CAMCOL", "FRAME"))
    if named != (field.run, field.camcol, field.number) or cards.get("FILTER") != band:
        raise FinalFailure(f"{url} is the frame of another field or band: {named}, {cards.get('FILTER')}.")
    data = image.data.astype(np.float32)
    if data.ndim != 2 or cards.get("BUNIT", "nanomaggy") != "nanomaggy":
        raise FinalFailure(f"{url} is not an image in nanomaggies.")
    if not np.isfinite(data).all():
        raise PassingFailure(f"{url} has pixels that are not finite.")
    wcs, problem = read_wcs(image.header_text)
    if wcs is None:
        raise PassingFailure(f"{url} has a WCS that cannot be read: {printable(problem)}.")
    return Plane(data, wcs)


SURVEY = Survey("sdss", ("g", "r", "z"), source=Frames)
