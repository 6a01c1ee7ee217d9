"""SkyServer look-ups and the static frames of the Science Archive Server, for a made-up stripe on the equator.

Columns of a frame run along declination and rows along right ascension, as in a real stripe. Two runs are interleaved
so that the six camera columns of one fill the gaps of the other; fields and strips overlap a little.
"""

from __future__ import annotations

import bz2
import email.parser
import io
import json
import math
import re
from dataclasses import dataclass

import numpy as np

from standin.answers import Answer, html
from standin.sky import LS_PIXEL, Sky
from standin.viewer import grey_jpeg

PIXEL = 0.396
RUNS = (94, 125)
RIGHT_EDGE = 60.0  # degrees of right ascension where the stripe ends
OFFSETS = {"u": (-6.2, 3.1), "g": (3.3, -2.1), "r": (0.0, 0.0), "i": (1.4, 2.6), "z": (-4.2, 5.7)}
OBJECTS_EVERY = 15 / 3600  # degrees between catalogued objects


@dataclass(frozen=True)
class Field:
    run: int
    camcol: int
    field: int
    ra: float
    dec: float


class Sdss:
    def __init__(self, sky: Sky, frame_shape: tuple[int, int]):
        self.sky = sky
        self.rows, self.columns = frame_shape
        self._frames: dict[str, bytes] = {}

    def answer(self, request, path: str) -> Answer:
        if request.path.startswith("/sas"):
            return self._frame(path)
        if path.lower().endswith("/x_results.aspx"):
            return self._cross_id(request)
        if path.startswith("/SkyServerWS/ImgCutout/getjpeg"):
            return self._jpeg(request.query)
        return html(404, "<h1>Not Found</h1>")

    # Geometry

    def _strip_pitch(self) -> float:
        return self.columns * PIXEL / 3600 * 0.93

    def _field_pitch(self) -> float:
        return self.rows * (1 - 128 / 1489) * PIXEL / 3600

    def primary(self, ra: float, dec: float) -> tuple[Field, float, float] | None:
        """Return the field that owns a position, and its row and column there."""
        strip = round(dec / self._strip_pitch() + 5.5)
        if not 0 <= strip < 12 or not 0 <= ra < RIGHT_EDGE or not self.sky.covered(np.float64(ra), np.float64(dec)):
            return None
        found = self._field(RUNS[strip % 2], strip // 2 + 1, math.floor(ra / self._field_pitch()) + 1)
        row = (ra - found.ra) * 3600 / PIXEL + self.rows / 2
        column = (dec - found.dec) * 3600 / PIXEL + self.columns / 2
        return found, row, column

    def _field(self, run: int, camcol: int, field: int) -> Field:
        strip = 2 * (camcol - 1) + RUNS.index(run)
        return Field(run, camcol, field, (field - 0.5) * self._field_pitch(), (strip - 5.5) * self._strip_pitch())

    # Answers

    def _cross_id(self, request) -> Answer:
        text = f"Content-Type: {request.headers['Content-Type']}\n\n".encode() + request.body
        message = email.parser.BytesParser().parsebytes(text)
        parts = {part.get_param("name", header="content-disposition"): part for part in message.get_payload()}
        values = {name: part.get_payload(decode=True).decode() for name, part in parts.items()}
        names = re.findall(r"p\.(\w+)", values["uquery"].split(" FROM ")[0])
        radius = float(values["radius"]) / 60
        if radius >= 0.05:
            return Answer(200, {"Content-Type": "text/csv"}, b"error_message: radius must be less than 3 arcmin")
        lines = values["upload"].strip().splitlines()
        has_name = lines[0].split()[0] == "name"
        rows = []
        for line in lines[1:]:
            ra, dec = (float(word) for word in line.split()[has_name : has_name + 2])
            x, y = (round(ra / OBJECTS_EVERY) * OBJECTS_EVERY, round(dec / OBJECTS_EVERY) * OBJECTS_EVERY)
            found = self.primary(x, y)
            if found is None or math.hypot((x - ra) * math.cos(math.radians(dec)), y - dec) > radius:
                continue
            field, row, column = found
            facts = {"ra": x, "dec": y, "run": field.run, "rerun": 301, "camcol": field.camcol, "field": field.field}
            facts.update({"mode": 1, "rowc": row, "colc": column, "type": "GALAXY", "objid": 1237653651835781245})
            rows.append(",".join(str(facts[name]) for name in names) + ",GALAXY")
        body = "#Table1\n" + ",".join([*names, "type"]) + "\n" + "".join(f"{row}\n" for row in rows)
        return Answer(200, {"Content-Type": "text/csv; charset=utf-8"}, body.encode())

    def _frame(self, path: str) -> Answer:
        pattern = r"/dr17/eboss/photoObj/frames/301/(\d+)/(\d)/frame-([ugriz])-(\d{6})-\2-(\d{4})\.fits\.bz2"
        match = re.fullmatch(pattern, path)
        if match is None or int(match[1]) != int(match[4]) or int(match[1]) not in RUNS:
            return html(404, "<h1>404 Not Found</h1>")
        field = self._field(int(match[1]), int(match[2]), int(match[5]))
        if not 0 <= field.ra < RIGHT_EDGE or not self.sky.observed(
            match[3], np.float64(field.ra), np.float64(field.dec)
        ):
            return html(404, "<h1>404 Not Found</h1>")
        if path not in self._frames:
            self._frames[path] = bz2.compress(self._render(field, match[3]), 1)
        return Answer(200, {"Content-Type": "application/x-bzip2", "Accept-Ranges": "bytes"}, self._frames[path])

    def _render(self, field: Field, band: str) -> bytes:
        from astropy.io import fits
        from astropy.wcs import WCS

        dx, dy = OFFSETS[band]
        turn = math.radians(0.2)
        step = PIXEL / 3600
        header = fits.Header()
        header.update({"RUN": field.run, "FRAME": field.field, "CAMCOL": field.camcol, "FILTER": band, "RERUN": "301"})
        header.update({"NMGY": 0.00478, "BUNIT": "nanomaggy", "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"})
        header.update({"CUNIT1": "deg", "CUNIT2": "deg", "CRVAL1": field.ra, "CRVAL2": field.dec})
        header.update({"CRPIX1": (self.columns + 1) / 2 + dx, "CRPIX2": (self.rows + 1) / 2 + dy})
        header.update({"CD1_1": -step * math.sin(turn), "CD1_2": step * math.cos(turn)})
        header.update({"CD2_1": step * math.cos(turn), "CD2_2": step * math.sin(turn)})
        y, x = np.mgrid[: self.rows, : self.columns]
        plane = self.sky.noise_plane(x.shape, field, band).copy()
        if self.sky.galaxies:
            ra, dec = WCS(header).all_pix2world(x, y, 0)
            plane += (self.sky.flux(band, ra, dec) * (PIXEL / LS_PIXEL) ** 2).astype(np.float32)
        sky = fits.BinTableHDU.from_columns(
            [
                fits.Column("ALLSKY", "12E", dim="(4,3)", array=np.full((1, 3, 4), 150, np.float32)),
                fits.Column("XINTERP", f"{self.columns}E", array=np.zeros((1, self.columns), np.float32)),
                fits.Column("YINTERP", f"{self.rows}E", array=np.zeros((1, self.rows), np.float32)),
            ]
        )
        astrans = fits.BinTableHDU.from_columns([fits.Column("run", "J", array=np.array([field.run], np.int32))])
        calibration = fits.ImageHDU(np.full(self.columns, 0.00478, np.float32))
        out = io.BytesIO()
        fits.HDUList([fits.PrimaryHDU(plane, header), calibration, sky, astrans]).writeto(out)
        return out.getvalue()

    def _jpeg(self, query: dict[str, str]) -> Answer:
        try:
            ra, dec = float(query["ra"]), float(query["dec"])
        except (KeyError, ValueError):
            fault = {"ErrorCode": 400, "ErrorType": "BadRequest", "ErrorMessage": "ra, dec", "LogMessageID": "1"}
            return Answer(400, {"Content-Type": "application/json"}, json.dumps(fault).encode())
        width, height = (min(max(int(query.get(name, 128)), 64), 2048) for name in ("width", "height"))
        picture = grey_jpeg(width, height, 22)
        if self.primary(ra, dec) is None:
            reason = "NOT FOUND. Requested (ra, dec) is outside the SDSS footprint."
            return Answer(404, picture.headers, picture.body, reason)
        return picture
