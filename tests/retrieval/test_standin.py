"""The stand-in is as awkward as the services that it stands for."""

import io
import urllib.error
import urllib.request

import numpy as np
import pytest
from astropy.io import fits
from standin import Box, Sky, StandIn


@pytest.fixture(scope="module")
def server():
    sky = Sky(off=(Box(0, 360, -90, -70),), holes=((Box(50, 60, 0, 10), "r"),))
    with StandIn(sky, frame_shape=(60, 80)) as server:
        yield server


def get(server, path):
    try:
        with urllib.request.urlopen(server.url + path) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code, answer.headers, answer.read()


def cutout(server, query):
    status, headers, body = get(server, f"/viewer/fits-cutout?{query}")
    assert (status, headers["Content-Type"]) == (200, "image/fits")
    assert len(body) % 2880 == 0
    with fits.open(io.BytesIO(body)) as hdus:
        return hdus[0].header, hdus[0].data.copy()


@pytest.mark.real_data
def test_headers_are_the_viewers(server, shared):
    path = shared / "fits/ls-cubes/temp_small.fits"
    real = path.read_bytes()[:2880].decode()
    ra, dec = (fits.getheader(path)[key] for key in ("CRVAL1", "CRVAL2"))
    query = f"ra={ra}&dec={dec}&size=225&layer=decals-dr5&bands=grz"
    _, headers, body = get(server, f"/viewer/cutout.fits?{query}")
    made = body[:2880].decode()
    changed = {"VERSION", "IMAGETYP", "IMAGEW", "IMAGEH", "SURVEY"}
    for start in range(0, 2880, 80):
        a, b = real[start : start + 80], made[start : start + 80]
        assert a == b or a[:8].strip() in changed, (a, b)
    assert headers["Content-Disposition"] == f'attachment; filename="cutout_{ra:.4f}_{dec:.4f}.fits"'


def test_silent_changes(server):
    assert cutout(server, "ra=1&dec=1&size=4000&bands=g")[1].shape == (3000, 3000)
    assert cutout(server, "ra=1&dec=1&size=8&bands=x")[0]["BANDS"] == "grz"
    assert cutout(server, "ra=1&dec=1&size=8&layer=sdss&bands=grz")[0]["BANDS"] == "gri"
    assert cutout(server, "ra=1&dec=1&size=8&layer=ls-dr10")[0]["BANDS"] == "griz"
    assert cutout(server, "ra=1&dec=1&size=8&bands=zr")[0]["BANDS"] == "zr"


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/viewer/fits-cutout?dec=1", 400, b"Need ra,dec keywords"),
        ("/viewer/fits-cutout?ra=x&dec=1", 400, b"Need ra,dec keywords"),
        ("/viewer/fits-cutout?ra=1&dec=1&layer=foo", 200, b"no such layer"),
        ("/viewer/mistyped?ra=1&dec=1", 200, b"<!DOCTYPE html>"),
        ("/viewer/ls-dr9/cat.fits?ralo=1", 200, b"No catalog sources"),
        ("/viewer/fits-cutout?ra=1&dec=-80", 500, b"Server Error"),
        ("/viewer/fits-cutout?ra=1&dec=1&size=x", 500, b"Server Error"),
        ("/viewer/fits-cutout?ra=1&dec=1&rotate=30", 500, b"Server Error"),
        ("/dr17/SkyServerWS/ImgCutout/getjpeg?ra=1", 400, b"BadRequest"),
        ("/sas/dr17/eboss/photoObj/frames/301/94/1/frame-g-000094-1-9999.fits.bz2", 404, b"404"),
        ("/hips-image-services/hips2fits?hips=x&ra=1&dec=1", 404, b"does not exist"),
    ],
)
def test_ways_to_say_no(server, path, status, text):
    answer = get(server, path)
    assert answer[0] == status
    assert text in answer[2]


def test_pictures(server):
    from PIL import Image

    def pixels(path):
        status, headers, body = get(server, path)
        assert headers["Content-Type"] == "image/jpeg"
        return status, np.asarray(Image.open(io.BytesIO(body)))

    status, grey = pixels("/viewer/jpeg-cutout?ra=1&dec=-80&size=30")
    assert (status, np.unique(grey).tolist()) == (200, [32])
    status, sky = pixels("/viewer/jpeg-cutout?ra=1&dec=1&size=30")
    assert np.ptp(sky) > 10
    assert pixels("/dr17/SkyServerWS/ImgCutout/getjpeg?ra=200&dec=0")[0] == 404
    assert pixels("/dr17/SkyServerWS/ImgCutout/getjpeg?ra=1&dec=0&width=9999&height=10")[1].shape[:2] == (64, 2048)


def test_partial_coverage_is_zeros(server):
    _, data = cutout(server, "ra=55&dec=5&size=16")
    assert [bool(plane.any()) for plane in data] == [True, False, True]
    _, edge = cutout(server, "ra=50&dec=5&size=16")
    assert 0.4 < (edge[1] == 0).mean() < 0.6


def test_extensions(server):
    _, _, body = get(server, "/viewer/fits-cutout?ra=1&dec=1&size=16&invvar&maskbits")
    with fits.open(io.BytesIO(body)) as hdus:
        assert [hdu.header["IMAGETYP"] for hdu in hdus] == ["IMAGE", "INVVAR", "MASKBITS"]
        assert hdus[2].data.shape == (16, 16)
    _, _, body = get(server, "/viewer/fits-cutout?ra=1&dec=1&size=16&pixscale=0.6&invvar")
    with fits.open(io.BytesIO(body)) as hdus:
        assert len(hdus) == 1


@pytest.mark.real_data
def test_subimage_is_like_the_real_one(server, shared):
    _, _, body = get(server, "/viewer/fits-cutout?ra=59.1067&dec=-30.4848&layer=ls-dr9-south&subimage&size=64")
    real_path = shared / "fits/ls-subimage/cutout_59.1067_-30.4848.fits"
    with fits.open(io.BytesIO(body)) as made, fits.open(real_path) as real:
        assert len(made) == len(real)
        for ours, theirs in zip(made, real, strict=True):
            for key in ("SURVEY", "VERSION", "BRICK", "BAND"):
                assert ours.header.get(key) == theirs.header.get(key)
            assert ours.header["IMAGETYP"].lower() == theirs.header["IMAGETYP"].lower()


@pytest.mark.real_data
def test_frames_are_like_the_real_one(server, shared):
    import bz2

    path = "/sas/dr17/eboss/photoObj/frames/301/94/4/frame-r-000094-4-0005.fits.bz2"
    status, _, body = get(server, path)
    assert status == 200
    with (
        fits.open(io.BytesIO(bz2.decompress(body))) as made,
        fits.open(shared / "fits/sdss-frame-small/frame-r-001000-1-0100.fits.bz2") as real,
    ):
        assert [type(hdu) for hdu in made] == [type(hdu) for hdu in real]
        for key in ("CTYPE1", "CTYPE2", "CUNIT1", "RERUN", "FILTER"):
            assert made[0].header[key] == real[0].header[key]
        assert made[2].columns.names == real[2].columns.names
        # Columns run along declination in the equatorial stripes.
        assert abs(made[0].header["CD2_1"]) > 10 * abs(made[0].header["CD1_1"])
