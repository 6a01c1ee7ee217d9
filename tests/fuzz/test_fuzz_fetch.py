"""Seeded fuzzing of what `galmorph fetch` reads from others: answers, addresses, pictures and manifests.

Nothing but the errors that callers expect may come out.
"""

import bz2
import io
import random
import shutil
import sqlite3

import numpy as np
import pytest
from hypothesis import strategies as st
from mutations import FACTOR, fuzzed, mutated, tried
from PIL import Image
from raw_server import RawServer, response
from standin import StandIn

from galmorph.errors import GalmorphError
from galmorph.files.fits import card, image
from galmorph.files.pictures import read_picture
from galmorph.images.cutout import read_cutout
from galmorph.retrieval.addresses import Credentials
from galmorph.retrieval.client import Answer, Failure, retry_after_s
from galmorph.retrieval.enrolment import STATES
from galmorph.retrieval.fetch import fetch, status
from galmorph.retrieval.request import Request
from galmorph.retrieval.surveys import Imaging, decals, sdss

QUICK = {"rate": 1e5, "backoff_s": 0.001, "size": 8, "retries": 2, "timeout_s": 20.0}
REQUEST = Request("t", 10.0, 5.0, 8, 0.262)


def cube(request):
    bands = "grz"
    text = request.wcs_cards + card("BANDS", bands) + card("VERSION", "DR9")
    text += "".join(card(f"BAND{n}", band) for n, band in enumerate(bands))
    pixels = np.random.default_rng(1).normal(1, 0.1, (3, request.size, request.size)).astype(np.float32)
    return b"".join(map(bytes, image(text, pixels)))


@fuzzed(300, body=mutated(cube(REQUEST)))
def test_cutouts(body):
    delivery, failure = tried(lambda: decals.Viewer(Imaging())._accept(Answer("u", 200, {}, body), REQUEST), Failure)
    assert failure is None or str(failure).isprintable()
    if failure is None:
        assert delivery.cutout.flux.shape == (3, 8, 8)
        assert np.isfinite(delivery.cutout.flux).all()


TABLE = (
    b"#Table1\nra,dec,run,rerun,camcol,field,mode,rowc,colc\n10,5,94,301,3,7,1,700,900\n10.01,5,125,301,3,8,2,1,2000\n"
)


@fuzzed(200, body=mutated(TABLE))
def test_tables_of_the_skyserver(body):
    rows, failure = tried(lambda: sdss._read_rows(Answer("u", 200, {}, body)), Failure)
    assert failure is None or str(failure).isprintable()
    if failure is None:
        assert len(sdss._match(np.array([(10.0, 5.0)]), rows)) == 1


FRAME = b"".join(
    map(
        bytes,
        image(
            REQUEST.wcs_cards + card("RUN", 94) + card("CAMCOL", 3) + card("FRAME", 7) + card("FILTER", "r"),
            np.ones((8, 8), np.float32),
        ),
    )
)


@fuzzed(100, body=st.one_of(mutated(FRAME).map(bz2.compress), mutated(bz2.compress(FRAME))))
def test_frames(body):
    plane, failure = tried(lambda: sdss._decode(body, url="u", field=sdss.SdssField(94, 301, 3, 7), band="r"), Failure)
    assert failure is None or str(failure).isprintable()
    if failure is None:
        assert plane.data.ndim == 2


def encoded(kind):
    out = io.BytesIO()
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(out, kind)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "GIF"])
@fuzzed(40, data=st.data())
def test_pictures(kind, data):
    try:
        picture = read_picture(data.draw(mutated(encoded(kind))), most_pixels=1 << 20)
    except GalmorphError:
        return
    assert picture.shape[2] == 3


@fuzzed(200, text=st.text(max_size=40) | st.from_regex(r"https?://[^ ]{0,20}@?[^ ]{0,20}", fullmatch=True))
def test_addresses(text):
    try:
        bare = Credentials().take(text, "--base-url")
    except GalmorphError:
        return
    assert bare.startswith("http")
    assert "@" not in bare


@fuzzed(
    200,
    text=st.text(max_size=40)
    | st.from_regex(r"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d+ \d+:\d+:\d+ .{0,6}", fullmatch=True),
)
def test_retry_after(text):
    assert retry_after_s(text, 0.0) >= 0


ANSWER = response(cube(REQUEST), "Content-Type: image/fits", "Retry-After: 0", "ETag: x")


def test_answers_as_they_come_over_the_network(tmp_path):
    """Each target gets another damaged answer; each ends in a state of the table, and the run at its end."""
    luck = random.Random(17)
    n = 60 * FACTOR
    head = ANSWER.index(b"\r\n\r\n") + 4

    def damaged(body):
        body = bytearray(body)
        for _ in range(luck.randint(1, 3)):
            at = luck.randrange(head if luck.random() < 0.7 else len(body))
            body[at : at + luck.randint(0, 3)] = luck.choice(
                [b"", b"\0", b"\r\n", b"9" * 30, b":", b"gzip", b"\xff", b"chunked", b"\r\nLocation: //x\r\n", b"30"]
            )
        return bytes(body)

    (tmp_path / "t.csv").write_text("name,ra,dec\n" + "".join(f"t{i},{i / 10},5\n" for i in range(n)))

    def answer(asked):
        ra, dec = float(asked.query["ra"]), float(asked.query["dec"])
        good = cube(Request("t", ra, dec, int(asked.query["size"]), float(asked.query["pixscale"])))
        return damaged(response(good, "Content-Type: image/fits")) if dec == 5 else response(good)

    with RawServer(answer) as server:
        summary = fetch(tmp_path / "t.csv", out=tmp_path / "o", base_url=server.url, **QUICK | {"timeout_s": 2.0})
    db = sqlite3.connect(tmp_path / "o" / "manifest.sqlite")
    rows = db.execute("SELECT status, COALESCE(error, '') FROM manifest").fetchall()
    db.close()
    assert len(rows) == summary.targets == n
    assert {state for state, _ in rows} <= set(STATES)
    assert not [error for _, error in rows if "unexpected" in error or not error.isprintable()]


# Manifests


@pytest.fixture(scope="module")
def fetched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "t.csv").write_text("name,ra,dec\n" + "".join(f"t{i},{10 + i},5\n" for i in range(4)))
    with StandIn() as server:
        fetch(folder / "t.csv", out=folder / "out", base_url=f"{server.url}/viewer", **QUICK)
        yield folder, f"{server.url}/viewer"


def check(folder, url, out):
    """Run on a folder whose manifest was changed: all is well at the end, or one message says what is wrong."""
    _, error = tried(lambda: status(out), GalmorphError)
    assert error is None or error.exit_code in (2, 3)
    summary, error = tried(lambda: fetch(folder / "t.csv", out=out, base_url=url, **QUICK), GalmorphError)
    if error:
        assert error.exit_code in (2, 3)
        return
    assert summary.targets == 4
    lines = (out / "targets.csv").read_text().splitlines()[1:]
    for line in lines:
        name, ra, _, path, state = line.split(",")
        if state == "ok":
            cutout = read_cutout(out / path)
            assert cutout.header["CRVAL1"] == float(ra), name


@fuzzed(25, data=st.data())
def test_manifests_with_damaged_bytes(fetched, tmp_path_factory, data):
    folder, url = fetched
    out = shutil.copytree(folder / "out", tmp_path_factory.mktemp("copy") / "out")
    manifest = out / "manifest.sqlite"
    content = bytearray(manifest.read_bytes())
    for _ in range(data.draw(st.integers(1, 30))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    manifest.write_bytes(content[: data.draw(st.sampled_from([len(content), len(content) - 100, 4096, 100]))])
    check(folder, url, out)
    shutil.rmtree(out.parent, ignore_errors=True)  # SQLite removes its own files when it closes


COLUMNS = ["first_row", "target_id", "ra", "dec", "size", "pixscale", "radius", "place", "request", "path", "status"]
COLUMNS += ["attempts", "bytes", "sha256", "coverage", "error", "note", "time", "mtime_ns"]


@fuzzed(25, data=st.data())
def test_manifests_with_damaged_values(fetched, tmp_path_factory, data):
    folder, url = fetched
    out = shutil.copytree(folder / "out", tmp_path_factory.mktemp("copy") / "out")
    value = st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=20) | st.binary(max_size=9)
    db = sqlite3.connect(out / "manifest.sqlite")
    with db:
        for column in data.draw(st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=4)):
            if (new := data.draw(value)) is None and column in ("status", "attempts"):
                continue
            db.execute(f"UPDATE requests SET {column} = ? WHERE target_id = 't1'", (new,))
    db.close()
    check(folder, url, out)
    shutil.rmtree(out.parent, ignore_errors=True)  # SQLite removes its own files when it closes
