"""Answers of a broken or malicious service: each ends its own target, in bounded time and memory, and no other."""

import bz2
import gzip
import json
import sqlite3
import struct
import zlib
from dataclasses import dataclass

import numpy as np
import pytest
from raw_server import Asked, RawServer, response

from galmorph.errors import CannotContinue, GalmorphError
from galmorph.files.fits import card, image
from galmorph.retrieval.client import Answer, FinalFailure, PassingFailure
from galmorph.retrieval.fetch import fetch
from galmorph.retrieval.request import Request
from galmorph.retrieval.surveys import Imaging, _bricks, hips, sdss

SIDE = 16


@dataclass(frozen=True)
class Evil:
    """What a service answers to a cutout (or, once that is a 500, to a picture), and what becomes of the target."""

    name: str
    answer: object
    status: str = "failed"
    says: str = ""


def cutout(query, pixels=None, **cards):
    """Return a good answer of the viewer, with some cards changed."""
    size = int(query["size"])
    wanted = Request("t", float(query["ra"]), float(query["dec"]), size, float(query["pixscale"]))
    bands = query["bands"]
    text = wanted.wcs_cards + card("BANDS", bands) + card("VERSION", "DR9")
    text += "".join(card(f"BAND{n}", band) for n, band in enumerate(bands))
    data = np.random.default_rng(1).normal(1, 0.1, (len(bands), size, size)).astype(np.float32)
    if pixels is not None:
        data[0, 3, 3] = pixels
    body = b"".join(map(bytes, image(text, data)))
    for keyword, value in cards.items():
        start = body.index(f"{keyword:<8}=".encode())
        body = body[:start] + f"{keyword:<8}= {value:>20}".encode().ljust(80)[:80] + body[start + 80 :]
    return body


def extension(pcount=0, naxis1=0):
    cards = f"{'XTENSION'}= 'IMAGE   '", "BITPIX  = 8", "NAXIS   = 1", f"NAXIS1  = {naxis1}", f"PCOUNT  = {pcount}"
    return "".join(text.ljust(80) for text in (*cards, "GCOUNT  = 1", "END")).ljust(2880).encode()


def appended(more):
    return lambda query: response(cutout(query) + more)


def changed(says="", status="failed", pixels=None, **cards):
    name = " ".join(f"{key}={value}" for key, value in cards.items())
    return Evil(name, lambda query: response(cutout(query, pixels, **cards)), status, says)


def packed(encoding, content, **more):
    return Evil(
        f"encoding {encoding[:20]}",
        lambda query: response(content(cutout(query)), f"Content-Encoding: {encoding}"),
        **more,
    )


def row_of_pixels(body):
    """Return a cutout that says it has one axis, whose other cards of axes are left."""
    at = body.index(b"NAXIS   =")
    start = body.index(b"END".ljust(80)) // 2880 * 2880 + 2880
    return body[:at] + b"NAXIS   =                    1".ljust(80) + body[at + 80 : start] + bytes(2880)


def bomb(query):
    return b"".join(gzip.compress(bytes(1 << 24)) for _ in range(4))


def redirect(location):
    return Evil(f"to {location!r}", lambda query: response(b"", b"Location: " + location, status="302 Found"))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(side, *chunks):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(65 * 64)))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def picture(name, body, status="failed", says="not a whole picture"):
    """A service that has no cutout, and this picture of the position."""

    def answer(query, path):
        return response(body) if "jpeg" in path else response(b"<h1>Server Error (500)</h1>", status="500 E")

    return Evil(f"picture {name}", answer, status, says)


GIF = b"GIF89a\x08\0\x08\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x08\0\x08\0\0\x02\x07\x84\x8f\xa9\xcb\xed\xa3+\0;"

EVILS = (
    Evil("good", lambda query: response(cutout(query)), "ok"),
    packed("gzip", gzip.compress, status="ok"),
    packed("gzip", lambda body: body, says="damaged gzip"),
    packed("gzip", lambda body: gzip.compress(body)[:-20], says="cut short"),
    packed("gzip", bomb, says="more than"),
    packed("gzip, gzip", lambda body: gzip.compress(gzip.compress(body)), says="was not requested"),
    packed("br", lambda body: body, says="was not requested"),
    packed("\x1b[31mfoo", lambda body: body, says=""),
    packed(", ".join(["gzip"] * 3000), lambda body: body, says="was not requested"),
    *map(
        redirect, (b"file:///etc/passwd", b"ftp://127.0.0.1/x", b"data:,x", b"http://[::1", b"http://127.0.0.1:99999/")
    ),
    *map(redirect, (b"", b"http://", b"http://xn--/", b"http://a b/", b"http://\xff\xfe/", b"http://127.0.0.1:1/")),
    Evil("no status", lambda query: b"garbage" * 99),
    Evil("status 999", lambda query: response(b"x", status="999 X"), says="answered 999"),
    Evil("status 101", lambda query: response(b"x", status="101 S")),
    Evil("endless line", lambda query: b"HTTP/1.1 200 OK\r\nX: " + bytes(1 << 20)),
    Evil("length", lambda query: response(cutout(query), length=10**30)),
    Evil("chunks", lambda query: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffffffff\r\nx"),
    Evil("escapes", lambda query: response(b"\x1b[2J evil", status="404 \x1b[31m red"), says="answered 404: [2J evil"),
    Evil("empty", lambda query: response(b""), says="empty"),
    *(
        Evil(f"PCOUNT {n}", lambda query, n=n: response(cutout(query) + extension(n)), says="damaged")
        for n in (-2880, -9999)
    ),
    Evil("PCOUNT large", appended(extension(10**12)), says="cut short"),
    Evil("side", appended(extension(0, 10**20)), says="damaged"),
    Evil("a row of pixels", lambda query: response(row_of_pixels(cutout(query))), says="pixels of the shape"),
    Evil("no END", lambda query: response(cutout(query).replace(b"END".ljust(80), b"XXX".ljust(80))), says="damaged"),
    *(changed(says="another position", **{key: "NaN"}) for key in ("CRVAL1", "CRVAL2")),
    changed(says="another position", CRVAL1="1E400"),
    changed(says="arcsec per pixel", CD1_1="NaN"),
    changed(says="arcsec per pixel", CD1_1="1E400"),
    changed(says="not centred", CRPIX1="NaN"),
    changed(says="not centred", CRPIX2="NaN"),
    changed(says="another position", CRVAL1="NaN", CRVAL2="NaN", CD1_1="NaN", CRPIX1="NaN", CRPIX2="NaN"),
    *(changed(says="damaged", NAXIS=value) for value in ("T", "99999999", "-3", "'x'")),
    *(changed(NAXIS1=value) for value in ("-64", "0", "9999999999999", "6.4E1", "T")),
    *(changed(says="damaged", BITPIX=value) for value in ("7", "T", "'x'")),
    *(changed(says="control characters", VERSION=value) for value in ("'\x00'", "'\n\r'", "'\x1b[31m'")),
    changed(status="ok", VERSION="'a''b&'"),
    changed(status="ok", VERSION="9" * 65),
    changed(says="not finite", pixels=np.nan),
    changed(says="not finite", pixels=np.inf),
    picture("EPS", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n0 0 9 9 rectfill showpage\n"),
    picture("FITS", b"".join(map(bytes, image("", np.zeros((9, 9), np.float32))))),
    picture(
        "GIF",
        b"GIF89a\x08\0\x08\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x08\0\x08\0\0\x02\x07\x84\x8f\xa9\xcb\xed\xa3+\0;",
    ),
    picture("of 4 megapixels", png(2048), says="read at most"),
    picture("of 900 megapixels", png(30_000), says=""),
    picture("with text", png(64, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80_000_000))))),
    picture("cut", png(64)[:60]),
    picture("html", b"<html>"),
    picture("grey", png(64), "no_coverage", "uniform"),
)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Fetch one target for each kind of answer, all in one run."""
    folder = tmp_path_factory.mktemp("hostile")
    table, out = folder / "t.csv", folder / "out"
    table.write_text("name,ra,dec\n" + "".join(f"t{n},{n},1\n" for n in range(len(EVILS))))

    def answer(asked: Asked) -> bytes:
        evil = EVILS[round(float(asked.query["ra"]))] if float(asked.query["dec"]) == 1 else EVILS[0]
        function = evil.answer
        return function(asked.query, asked.path) if evil.name.startswith("picture") else function(asked.query)

    with RawServer(answer) as server:
        fetch(table, out=out, base_url=server.url, size=SIDE, rate=1e5, retries=2, backoff_s=0.001, timeout_s=20.0)
    db = sqlite3.connect(out / "manifest.sqlite")
    rows = {row: (status, error or "") for row, status, error in db.execute("SELECT row, status, error FROM manifest")}
    db.close()
    return rows


@pytest.mark.parametrize("number", range(len(EVILS)), ids=[evil.name for evil in EVILS])
def test_one_answer_ends_one_target(outcomes, number):
    status, error = outcomes[number]
    evil = EVILS[number]
    assert status == evil.status, error
    assert evil.says in error
    assert "unexpected" not in error
    assert error.isprintable()


@pytest.mark.parametrize("header", ["Retry-After: 100000", "Retry-After: \xb2"])
def test_a_service_that_never_has_time(tmp_path, header):
    (tmp_path / "t.csv").write_text("ra,dec\n1,1\n")
    wish = {"size": 8, "retries": 2, "backoff_s": 0.001, "rate": 1e5}
    busy = response(b"", header.encode("latin-1"), status="503 B")
    with RawServer(lambda asked: busy) as server, pytest.raises(CannotContinue):
        fetch(tmp_path / "t.csv", out=tmp_path / "o", base_url=server.url, **wish)


# SDSS


BZ2_BOMB = bz2.compress(bytes(60_000_000))
ROW = {"ra": "10", "dec": "0", "run": "94", "rerun": "301", "camcol": "3", "field": "7", "mode": "1"}
ROW |= {"rowc": "700", "colc": "900"}


def table(**changed):
    row = ROW | changed
    return f"#Table1\n{','.join(row)}\n{','.join(row.values())}\n"


@pytest.mark.parametrize(
    "text",
    [
        *(table(**{name: value}) for name in ("ra", "run", "mode") for value in ("nan", "inf", "1e400", "", "x", "-1")),
        table(dec="91"),
        table(camcol="7"),
        table(field="1e300"),
        table(rowc="nan"),
        table().replace("run,", "", 1),
        table() + "10,0\n",
        table(ra='"1'),
        "",
        "#Table1\n",
        "[]",
        json.dumps([{"Rows": [ROW]}]),
        '{"ErrorCode": 400}',
        "error_message\nrunning out",
        "\0" * 100,
        "ra,dec,run,rerun,camcol,field,mode,rowc,colc\n" + "1" * 200_000 + ",1,1,1,1,1,1,1,1\n",
    ],
)
def test_tables_of_the_skyserver(text):
    with pytest.raises(PassingFailure) as caught:
        sdss._read_rows(Answer("u", 200, {}, text.encode()))
    assert str(caught.value).isprintable()


def test_a_good_table_of_the_skyserver():
    (row,) = sdss._read_rows(Answer("u", 200, {}, table().encode()))
    assert row["run"] == 94


@pytest.mark.parametrize(
    "content",
    [BZ2_BOMB, bz2.compress(b"SIMPLE  ="), bz2.compress(bytes(9999))[:30], b"BZh9", b"", b"<\x1b"],
    ids=["bomb", "no FITS", "cut", "head", "empty", "html"],
)
def test_frames_are_bounded_once_they_are_unpacked(content):
    with pytest.raises(PassingFailure, match="damaged") as caught:
        sdss._decode(content, url="u", field=sdss.SdssField(94, 301, 3, 7), band="r")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("change", [("ZNAXIS1", 10**9), ("ZNAXIS2", 10**5), ("ZTILE1", 10**9), ("ZTILE2", -1)])
def test_compressed_images_are_bounded_before_they_are_unpacked(monkeypatch, change):
    import io

    from astropy.io import fits

    monkeypatch.setattr(_bricks, "SIDE_PX", 60)
    header = fits.Header.fromstring(Request("t", 39.483013, -20.25, 60, 0.262).wcs_cards)
    out = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(np.ones((60, 60), np.float32), header)]).writeto(out)
    body, (keyword, value) = out.getvalue(), change
    start = body.index(f"{keyword:<8}=".encode())
    body = body[:start] + f"{keyword:<8}= {value:>20}".encode().ljust(80) + body[start + 80 :]
    with pytest.raises(FinalFailure, match="not the image of its brick"):
        _bricks._decode(body, url="u", centre=(39.483013, -20.25), pixscale=0.262)


# HiPS


def test_an_identifier_is_text_and_no_template():
    source = hips.Hips2Fits(Imaging(hips="a/{band}{0}{x!r}", bands=("r",)))
    assert source._identifier("r") == "a/r{0}{x!r}"


@pytest.mark.parametrize("name", ["a b", "a\n", "\x1b[31m", "é"])
def test_identifiers_that_are_none(name):
    with pytest.raises(GalmorphError, match="not an identifier of a HiPS"):
        hips.Hips2Fits(Imaging(hips=name))
