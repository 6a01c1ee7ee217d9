"""Each survey's source: what it asks for, what it believes, and what it makes of answers that lie."""

import asyncio
import dataclasses
import io
import math

import numpy as np
import pytest
from astropy.io import fits
from standin import Box, Galaxy, Sky, StandIn
from standin.answers import Answer as StandInAnswer

from galmorph import registry
from galmorph.errors import CannotContinue, GalmorphError
from galmorph.files.fits import card, image
from galmorph.images.surveys import native_pixscale, typical_seeing
from galmorph.retrieval.client import Answer, Client, FinalFailure, Limits, PassingFailure, Session
from galmorph.retrieval.fetch import fetch
from galmorph.retrieval.request import Request
from galmorph.retrieval.surveys import Imaging, NoCoverage, Survey, _bricks, decals, hips, sdss
from galmorph.retrieval.surveys._bricks import bricks_at

QUICK = Limits(rate=1000.0, backoff_s=0.01, timeout_s=60.0)
OFF = Box(0, 360, -90, -70)
NO_R = Box(50, 60, 0, 10)
EMPTY = Box(70, 80, 0, 10)
SKY = Sky(holes=((NO_R, "r"), (EMPTY, "ugriz")), galaxies=(Galaxy(10.0, 5.0, arms=0.0),))


@pytest.fixture
def server():
    with StandIn(SKY) as server:
        yield server


def viewer(server, **imaging):
    return decals.Viewer(Imaging(base_url=f"{server.url}/viewer", **imaging))


def deliver(source, request, limits=QUICK):
    async def run():
        async with Client(limits) as client:
            if source.images(request) is None:
                (images,) = await source.locate(Session(client), [request])
                return await source.deliver(Session(client), dataclasses.replace(request, images=images))
            return await source.deliver(Session(client), request)

    return asyncio.run(run())


def request(ra=10.0, dec=5.0, size=40, pixscale=0.262, **more):
    return Request("t", ra, dec, size, pixscale, **more)


# All surveys


@pytest.mark.parametrize("name", registry.names("surveys"))
def test_every_survey(name, tmp_path):
    survey = registry.load("surveys", name)
    assert isinstance(survey, Survey)
    assert survey.name == name
    source = survey.source(Imaging(folder=tmp_path))
    assert source.bands == survey.bands
    assert 0.1 < source.pixscale < 2
    assert source.pixscale == native_pixscale(source.survey)
    assert all(0.5 < typical_seeing(source.survey, band) < 2.5 for band in source.bands)
    assert source.identity(request()) != source.identity(request(ra=11.0))
    assert "http" not in source.identity(request())
    layout = np.zeros(3, [("ra", "f8"), ("dec", "f8"), ("size", "i4"), ("pixscale", "f4")])
    layout["size"] = 256
    requests, n_bytes = source.cost(layout)
    assert requests >= 3
    assert n_bytes >= 3 * 4 * 3 * 256**2
    with pytest.raises(GalmorphError):
        survey.source(Imaging(folder=tmp_path, extras=("psf",)))


def test_tangent_cards_are_a_celestial_wcs():
    from astropy.wcs import WCS

    wcs = WCS(fits.Header.fromstring(request(ra=123.45678901, dec=-5.4321, size=101, pixscale=0.3).wcs_cards))
    place = wcs.pixel_to_world(50, 50)
    assert (place.ra.deg, place.dec.deg) == (pytest.approx(123.45678901, abs=1e-10), pytest.approx(-5.4321, abs=1e-10))
    east = wcs.pixel_to_world(49, 50)
    assert east.separation(place).arcsec == pytest.approx(0.3)
    assert east.ra > place.ra


# The Legacy Surveys viewer


def test_a_cube(server):
    delivery = deliver(viewer(server), request())
    cutout = delivery.cutout
    assert (cutout.bands, cutout.flux.shape, cutout.survey) == (("g", "r", "z"), (3, 40, 40), "decals")
    assert cutout.flux[1].argmax() in (19 * 40 + 19, 19 * 40 + 20, 20 * 40 + 19, 20 * 40 + 20)
    assert delivery.release == "DR9"
    (asked,) = server.seen.requests
    assert {"ra", "dec", "layer", "pixscale", "size", "bands"} == set(asked.query)
    assert delivery.url == server.url + asked.target


@pytest.mark.parametrize("bands", ["r", "zrg", "gz", "zirg"])
def test_bands_keep_their_order(server, bands):
    cutout = deliver(viewer(server, layer="ls-dr10", bands=tuple(bands)), request()).cutout
    assert cutout.bands == tuple(bands)
    if bands == "zrg":
        assert cutout.flux[0].sum() > cutout.flux[1].sum() > cutout.flux[2].sum()


@pytest.mark.parametrize(
    ("layer", "bands", "release", "survey"),
    [
        ("ls-dr10", "grz", "DR10", "decals"),
        ("ls-dr10-grz", "grz", "DR10", "decals"),
        ("ls-dr9-south", "grz", "DR9-south", "decals"),
        ("decals-dr5", "grz", "DR5", "decals"),
        ("mzls+bass-dr6", "grz", "DR6", "decals"),
        ("dr8", "grz", "DR8", "decals"),
        ("sdss", "gri", "", "sdss"),
    ],
)
def test_layers(server, layer, bands, release, survey):
    source = viewer(server, layer=layer)
    delivery = deliver(source, request(pixscale=source.pixscale))
    assert (delivery.cutout.bands, delivery.release, delivery.cutout.survey) == (tuple(bands), release, survey)
    assert delivery.cutout.flux_pixscale == (0.396 if survey == "sdss" else 0.262)


@pytest.mark.parametrize(
    ("imaging", "message"),
    [
        ({"layer": "ls-dr9-nroth"}, "Did you mean 'ls-dr9-north'"),
        ({"layer": "foo"}, "no layer 'foo'"),
        ({"bands": ("g", "x")}, "has the bands g, r, z"),
        ({"bands": ("g", "i")}, "has the bands g, r, z"),
        ({"bands": ("g", "g")}, "has the bands g, r, z"),
        # The viewer has no z of SDSS and would send g, r, i.
        ({"layer": "sdss", "bands": ("g", "r", "z")}, "sdss has the bands g, r, i"),
    ],
)
def test_what_the_viewer_would_ignore_is_refused_beforehand(imaging, message):
    with pytest.raises(GalmorphError, match=message):
        decals.Viewer(Imaging(**imaging))


def test_a_layer_that_the_service_lacks(server):
    with pytest.raises(GalmorphError, match="does not know the layer 'ls-dr12'") as caught:
        deliver(viewer(server, layer="ls-dr12"), request())
    assert not isinstance(caught.value, FinalFailure)


def test_extras(server):
    planes = deliver(viewer(server, extras=("maskbits", "invvar")), request()).planes
    assert planes["INVVAR"].shape == (3, 40, 40)
    assert planes["MASKBITS"].shape == (40, 40)


def test_extras_are_not_missed_where_pixels_are_binned(server):
    assert deliver(viewer(server, extras=("invvar",)), request(pixscale=0.6)).planes == {}


@pytest.mark.parametrize(("dec", "attempts"), [(-80.0, 2)])
def test_off_the_footprint(server, dec, attempts):
    with pytest.raises(NoCoverage, match="uniform picture"):
        deliver(viewer(server), request(dec=dec))
    assert server.seen.count("fits-cutout") == attempts
    assert server.seen.count("jpeg-cutout") == 1


def test_500_once(server):
    server.inject("500")
    assert deliver(viewer(server), request()).cutout.flux.any()
    assert len(server.seen.requests) == 2


def test_500_where_there_is_a_picture_is_the_servers_fault(server):
    server.inject("500", when=lambda request: "fits" in request.path, times=None)
    with pytest.raises(FinalFailure, match="the fault is the server's"):
        deliver(viewer(server), request())
    assert server.seen.count("fits-cutout") == 2


def test_500_everywhere(server):
    server.inject("500", times=None)
    with pytest.raises(PassingFailure, match="answered 500"):
        deliver(viewer(server), request())


@pytest.mark.parametrize(
    "kind", ["half", "chunked", "unsized", "short", "empty", "elsewhere", "reset", "429", "502", "503", "504"]
)
def test_damage_that_passes(server, kind):
    server.inject(kind)
    assert deliver(viewer(server), request()).cutout.flux.shape == (3, 40, 40)
    assert len(server.seen.requests) == 2


def test_a_web_page_is_final(server):
    server.inject("html")
    with pytest.raises(FinalFailure, match=r"not FITS.*Sorry"):
        deliver(viewer(server), request())
    assert len(server.seen.requests) == 1


def test_a_wrong_base_url(server):
    source = decals.Viewer(Imaging(base_url=f"{server.url}/viewer/typo"))
    with pytest.raises(FinalFailure, match="not FITS"):
        deliver(source, request())


def served(pixels=None, *, ra=10.0, dec=5.0, **changed):
    """Return what the viewer would send for `request()`, with cards and pixels changed."""
    data = np.ones((3, 40, 40), ">f4") if pixels is None else pixels
    header = fits.Header.fromstring(request(ra=ra, dec=dec).wcs_cards)
    header.update({"BANDS": "grz", "BAND0": "g", "BAND1": "r", "BAND2": "z", "VERSION": "DR9", **changed})
    out = io.BytesIO()
    fits.PrimaryHDU(data, header).writeto(out)
    return Answer("http://127.0.0.1/x", 200, {}, out.getvalue())


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (served(BANDS="gri"), FinalFailure, "bands 'gri' instead of 'grz'"),
        (served(BAND1="i"), FinalFailure, "instead of 'grz'"),
        (served(ra=10.00001), PassingFailure, "another position"),
        (served(dec=5.00001), PassingFailure, "another position"),
        (served(CD1_1=-0.4 / 3600), FinalFailure, "0.4000 arcsec per pixel"),
        (served(CRPIX1=3.0), PassingFailure, "not centred"),
        (served(np.ones((3, 30, 30), ">f4")), FinalFailure, "30 x 30 px instead of 40"),
        (served(np.ones((2, 40, 40), ">f4")), FinalFailure, "2 planes"),
        (served(np.ones((3, 40, 40), ">f8")), FinalFailure, "pixels of the type"),
        (served(np.full((3, 40, 40), np.nan, ">f4")), PassingFailure, "not finite"),
        (served(np.full((3, 40, 40), np.inf, ">f4")), PassingFailure, "not finite"),
        (Answer("u", 400, {}, b"Need ra,dec keywords"), FinalFailure, "400: Need ra,dec"),
        (Answer("u", 404, {}, b""), FinalFailure, "404"),
        (Answer("u", 200, {}, b"SIMPLE  = garbage"), PassingFailure, "damaged"),
    ],
)
def test_nothing_is_believed(answer, kind, message):
    with pytest.raises(kind, match=message):
        decals.Viewer(Imaging())._accept(answer, request())


def test_right_ascension_wraps():
    decals.Viewer(Imaging())._accept(served(ra=0.0), request(ra=0.0))
    decals.Viewer(Imaging())._accept(served(ra=359.9999999), request(ra=0.0))


def test_trailing_bytes_are_damage():
    answer = served()
    for body in (answer.body + b"\0" * 100, answer.body[:-1], answer.body[:-2880]):
        with pytest.raises(PassingFailure, match=r"damaged|cut short"):
            decals.Viewer(Imaging())._accept(dataclasses.replace(answer, body=body), request())


@pytest.mark.real_data
def test_real_cubes(shared):
    for path in sorted((shared / "fits/ls-cubes").glob("example_?.fits")):
        header = fits.getheader(path)
        wanted = Request("t", header["CRVAL1"], header["CRVAL2"], 424, header["CD2_2"] * 3600)
        delivery = decals.Viewer(Imaging())._accept(Answer("u", 200, {}, path.read_bytes()), wanted)
        np.testing.assert_array_equal(delivery.cutout.flux, fits.getdata(path))
        assert delivery.release == header["VERSION"]


@pytest.mark.real_data
def test_a_real_truncated_cube(shared):
    body = (shared / "fits/ls-truncated/example_incomplete.fits").read_bytes()
    with pytest.raises(PassingFailure, match="cut short: 1389044 of"):
        decals.Viewer(Imaging())._accept(Answer("u", 200, {}, body), request())


@pytest.mark.parametrize("pixscale", [0.1, 0.262, 0.4, 0.6])
def test_flux_is_kept_at_any_scale(server, pixscale):
    cutout = deliver(viewer(server), request(size=round(80 / pixscale), pixscale=pixscale)).cutout
    total = cutout.flux[1].sum() * (pixscale / cutout.flux_pixscale) ** 2
    assert total == pytest.approx(400, rel=0.05)


def test_control(server):
    source = viewer(server)

    async def run():
        async with Client(QUICK) as client:
            await source.control(Session(client))

    asyncio.run(run())
    server.inject("500", when=lambda request: "fits" in request.path, times=None)
    with pytest.raises(FinalFailure):
        asyncio.run(run())


def test_a_control_position_that_is_not_covered_is_an_answer_too():
    with StandIn(Sky(off=(Box(0, 360, -90, 90),))) as server:

        async def run():
            async with Client(QUICK) as client:
                await viewer(server).control(Session(client))

        asyncio.run(run())
    assert server.seen.count("jpeg-cutout") == 1


# Bricks


@pytest.mark.parametrize(
    ("ra", "dec", "name"),
    [
        # Names from files of the survey: a cutout by bricks, a catalog, and an image of one.
        (59.1067, -30.4848, "0591m305"),
        (330.1, -0.26, "3301m002"),
        (39.483013293944, -20.25, "0394m202"),
        (0.0, 0.0, "0001p000"),
        (359.99, 0.0, "3598p000"),
        (10.0, 90.0, "1800p900"),
        (10.0, -90.0, "1800m900"),
    ],
)
def test_names_of_bricks(ra, dec, name):
    assert bricks_at(ra, dec)[0].name == name


def test_a_square_at_an_edge_touches_neighbours():
    edge = bricks_at(10.1, 0.125, 60.0)
    assert [brick.name for brick in edge] == ["0101p002", "0101p000"]
    assert len(bricks_at(0.0, 0.125, 60.0)) == 4
    assert len(bricks_at(10.1, 0.0, 60.0)) == 1


def test_the_north_is_another_survey():
    imaging = Imaging(layer="ls-dr10")
    source = decals.bricks(imaging)
    north, south, cap = (bricks_at(*place)[0] for place in ((180.0, 50.0), (180.0, 20.0), (30.0, 35.0)))
    assert "/dr9/north/coadd/" in source.url(north, "g")
    assert "/dr10/south/coadd/" in source.url(south, "g")
    assert "/dr10/south/coadd/" in source.url(cap, "g")


def test_layers_without_bricks():
    for layer in ("decals-dr5", "sdss", "ls-dr9-model"):
        assert decals.bricks(Imaging(layer=layer)) is None
    assert decals.bricks(Imaging(extras=("invvar",))) is None


def test_a_wrong_archive_of_bricks_ends_the_run(server, monkeypatch, tmp_path):
    monkeypatch.setenv("GALMORPH_BRICKS_URL", f"{server.url}/cfs/typo")
    (tmp_path / "t.csv").write_text("ra,dec\n10,5\n11,5\n")
    with pytest.raises(CannotContinue, match="has no brick 3316m005"):
        fetch(tmp_path / "t.csv", out=tmp_path / "out", way="bricks", bands="r", rate=1000.0, backoff_s=0.01)


def test_a_damaged_brick(server, monkeypatch, tmp_path):
    """A real image of a brick that was damaged: cut to 724 px, its last bytes lost."""
    monkeypatch.setattr(_bricks, "SIDE_PX", 60)
    header = fits.Header.fromstring(request(ra=39.483013, dec=-20.25, size=60).wcs_cards)
    out = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(np.ones((60, 60), np.float32), header)]).writeto(out)
    body = out.getvalue()
    facts = {"url": "u", "centre": (39.483013, -20.25), "pixscale": 0.262}
    assert _bricks._decode(body, **facts).data.sum() == 3600
    for damaged in (body[:-1], body[:-2880], body[: len(body) // 2], b""):
        with pytest.raises(PassingFailure, match="damaged"):
            _bricks._decode(damaged, **facts)
    with pytest.raises(FinalFailure, match="not FITS"):
        _bricks._decode(b"<html>", **facts)
    with pytest.raises(FinalFailure, match="not the image of its brick"):
        _bricks._decode(body, **facts | {"centre": (39.2, -20.25)})


@pytest.mark.real_data
def test_a_real_damaged_brick(shared):
    body = (shared / "fits/ls-coadd-damaged/cut_legacysurvey-0394m202-invvar-g.fits.fz").read_bytes()
    with pytest.raises(PassingFailure, match="damaged"):
        _bricks._decode(body, url="u", centre=(39.483013, -20.25), pixscale=0.262)


# SDSS


@pytest.fixture
def stripe(monkeypatch):
    """A stand-in with small frames, and galaxies: inside a field, across two fields, across two camera columns."""
    with StandIn(frame_shape=(240, 300)) as plain:
        geometry = plain.routes[-1][1]
        field, *_ = geometry.primary(10.0, 0.01)
    places = (
        (field.ra, field.dec),
        (field.ra + geometry._field_pitch() / 2, field.dec),
        (field.ra, field.dec + geometry._strip_pitch() / 2),
    )
    galaxies = tuple(Galaxy(*place, flux=3000.0, radius_arcsec=3.0, arms=0.0) for place in places)
    with StandIn(Sky(galaxies=galaxies), frame_shape=(240, 300)) as server:
        monkeypatch.setenv("GALMORPH_SDSS_SKYSERVER_URL", server.url)
        monkeypatch.setenv("GALMORPH_SDSS_SAS_URL", f"{server.url}/sas")
        monkeypatch.setattr(sdss, "_LOOKUP_EVERY_S", 0.0)
        yield server


@pytest.mark.parametrize("which", [0, 1, 2])
def test_frames_become_one_grid(stripe, tmp_path, which):
    galaxy = stripe.sky.galaxies[which]
    source = sdss.Frames(Imaging(bands=("g", "z"), folder=tmp_path))
    delivery = deliver(source, request(round(galaxy.ra, 8), round(galaxy.dec, 8), 80, 0.396))
    cutout = delivery.cutout
    assert (cutout.survey, cutout.flux_pixscale, delivery.release) == ("sdss", 0.396, "DR17")
    assert (cutout.flux != 0).all()
    assert cutout.flux[0].sum() == pytest.approx(3000 * 0.55, rel=0.06)
    # The bands are offset by pixels in the frames, and are not any more.
    for plane in cutout.flux:
        y, x = np.indices(plane.shape)
        bright = np.where(plane > plane.max() / 3, plane, 0)
        assert (bright * x).sum() / bright.sum() == pytest.approx(39.5, abs=0.3)
        assert (bright * y).sum() / bright.sum() == pytest.approx(39.5, abs=0.3)
    paths = {request.path for request in stripe.seen.requests}
    assert sum("frame-" in path for path in paths) == (2 if which == 0 else 4)
    assert stripe.seen.count("X_Results") == 1
    assert all("galmorph" in agent for agent in stripe.seen.agents)


def test_many_targets_are_looked_up_at_once(stripe, tmp_path):
    source = sdss.Frames(Imaging(folder=tmp_path))
    requests = [request(10 + i / 100, 0.01, 80, 0.396) for i in range(40)] + [request(200.0, 0.0)]

    async def run():
        async with Client(QUICK) as client:
            return await source.locate(Session(client), requests)

    places = asyncio.run(run())
    assert stripe.seen.count("X_Results") == 1
    assert places[-1] is None
    assert all(places[:-1])
    assert len(set(places)) > 5


@pytest.mark.parametrize("kind", ["html", "error-message", "503", "empty", "half"])
def test_errors_of_the_skyserver_pass(stripe, tmp_path, kind):
    stripe.inject(kind)
    source = sdss.Frames(Imaging(bands=("r",), folder=tmp_path))
    assert deliver(source, request(10.0, 0.01, 30, 0.396)).cutout.flux.all()
    assert stripe.seen.count("X_Results") == 2


@pytest.mark.parametrize("kind", ["short", "half", "empty", "html", "reset"])
def test_a_damaged_frame_is_asked_for_again(stripe, tmp_path, kind):
    stripe.inject(kind, when=lambda request: "frame-" in request.path)
    source = sdss.Frames(Imaging(bands=("r",), folder=tmp_path))
    assert deliver(source, request(10.0, 0.01, 30, 0.396)).cutout.flux.all()
    assert stripe.seen.count("frame-") == 2


def test_a_list_from_frames(stripe, tmp_path):
    """Each frame once however many targets lie in it, no second look-up, and nothing left behind."""
    places = [(round(g.ra, 6), round(g.dec, 6)) for g in stripe.sky.galaxies[:2]]
    places += [(places[0][0], places[0][1] + 0.003), (200.0, 0.0)]
    table, out = tmp_path / "t.csv", tmp_path / "out"
    table.write_text("name,ra,dec\n" + "".join(f"t{i},{ra},{dec}\n" for i, (ra, dec) in enumerate(places)))
    wish = {"survey": "sdss", "bands": "r", "size": 60, "rate": 1000.0, "backoff_s": 0.01}
    first = fetch(table, out=out, limit=1, **wish)
    assert (first.ok, first.requests) == (1, 2)
    summary = fetch(table, out=out, **wish)
    assert (summary.ok, summary.no_coverage, summary.failed) == (3, 1, 0)
    frames = [request.path for request in stripe.seen.requests if "frame-" in request.path]
    assert len(frames[1:]) == len(set(frames[1:]))
    assert not (out / ".downloads").exists()
    stripe.forget()
    assert fetch(table, out=out, **wish).requests == 0


def test_a_skyserver_that_is_down_fails_no_target(stripe, tmp_path):
    table, out = tmp_path / "t.csv", tmp_path / "out"
    table.write_text("ra,dec\n10,0.01\n10.01,0.01\n")
    wish = {"survey": "sdss", "bands": "r", "size": 30, "rate": 1000.0, "backoff_s": 0.01, "retries": 2}
    stripe.inject("503", times=None, when=lambda request: "X_Results" in request.path)
    with pytest.raises(CannotContinue):
        fetch(table, out=out, **wish)
    stripe.faults.clear()
    assert fetch(table, out=out, **wish).ok == 2


def test_an_archive_that_is_down_fails_no_target(stripe, tmp_path, monkeypatch):
    """That the SkyServer answers is no proof that the archive does."""
    monkeypatch.setattr(sdss, "CONTROL", (10.02, 0.01))
    table, out = tmp_path / "t.csv", tmp_path / "out"
    table.write_text("ra,dec\n" + "".join(f"{10 + i / 50},0.01\n" for i in range(6)))
    wish = {"survey": "sdss", "bands": "r", "size": 30, "rate": 1000.0, "backoff_s": 0.01, "retries": 2}
    stripe.inject("503", times=None, when=lambda request: "frame-" in request.path)
    with pytest.raises(CannotContinue):
        fetch(table, out=out, **wish)
    stripe.faults.clear()
    assert fetch(table, out=out, **wish).ok == 6


@pytest.mark.parametrize("control", [(10.02, 0.01), (200.0, 0.0)])
def test_frames_that_are_not_there(stripe, tmp_path, monkeypatch, control):
    """Missing files are no proof of missing coverage, unless the control position has its own."""
    monkeypatch.setattr(sdss, "CONTROL", control)
    table, out = tmp_path / "t.csv", tmp_path / "out"
    table.write_text("ra,dec\n10,0.01\n10.01,0.01\n")
    wish = {"survey": "sdss", "bands": "r", "size": 30, "rate": 1000.0, "backoff_s": 0.01}
    stripe.inject("404", times=None, when=lambda request: "frame-" in request.path)
    if control[0] == 200.0:
        assert fetch(table, out=out, **wish).no_coverage == 2
        return
    with pytest.raises(CannotContinue, match="has no frame of the field"):
        fetch(table, out=out, **wish)
    stripe.faults.clear()
    assert fetch(table, out=out, **wish).ok == 2


def test_several_rows_at_one_position():
    row = {"ra": 10.0, "dec": 0.0, "run": 1, "rerun": 301, "camcol": 2, "field": 3, "mode": 1, "rowc": 700, "colc": 900}
    secondary = row | {"run": 9, "mode": 2}
    at_the_edge = row | {"run": 8, "rowc": 3}
    far = row | {"ra": 10.5, "run": 7}
    points = np.array([(10.001, 0.001), (10.5, 0.0), (12.0, 0.0)])
    found = sdss._match(points, [secondary, at_the_edge, row, far])
    assert [field and field.run for field in found] == [1, 7, None]
    assert sdss._match(points, []) == [None] * 3


def test_large_cutouts_are_looked_up_everywhere():
    points = sdss._points(request(10.0, 60.0, 3000, 0.396))
    assert points.shape == (1 + 6 * 6, 2)
    assert np.ptp(points[:, 1]) == pytest.approx(0.33)
    assert np.ptp(points[:, 0]) * math.cos(math.radians(60)) == pytest.approx(0.33, rel=0.01)


@pytest.mark.parametrize(
    ("release", "path"),
    [
        ("dr12", "/dr12/boss/photoObj/frames/301/1904/3/frame-g-001904-3-0163.fits.bz2"),
        ("dr17", "/dr17/eboss/photoObj/frames/301/1904/3/frame-g-001904-3-0163.fits.bz2"),
        ("dr18", "/dr18/prior-surveys/sdss4-dr17-eboss/photoObj/frames/301/1904/3/frame-g-001904-3-0163.fits.bz2"),
    ],
)
def test_addresses_of_frames(release, path, monkeypatch, tmp_path):
    monkeypatch.delenv("GALMORPH_SDSS_SAS_URL", raising=False)
    source = sdss.Frames(Imaging(layer=release, folder=tmp_path))
    assert source.url(sdss.SdssField(1904, 301, 3, 163), "g") == "https://data.sdss.org/sas" + path


@pytest.mark.parametrize(("layer", "bands"), [("ls-dr9", None), ("dr7", None), (None, ("g", "y"))])
def test_what_sdss_lacks(layer, bands, tmp_path):
    with pytest.raises(GalmorphError, match="SDSS"):
        sdss.Frames(Imaging(layer=layer, bands=bands, folder=tmp_path))


@pytest.mark.real_data
def test_a_real_frame(shared):
    body = (shared / "fits/sdss-frame-small/frame-r-001000-1-0100.fits.bz2").read_bytes()
    plane = sdss._decode(body, url="u", field=sdss.SdssField(1000, 301, 1, 100), band="r")
    assert plane.data.shape == (100, 100)
    assert plane.pixscale == pytest.approx(0.396, abs=1e-3)
    with pytest.raises(FinalFailure, match="another field or band"):
        sdss._decode(body, url="u", field=sdss.SdssField(1000, 301, 1, 101), band="r")


# HiPS


def test_a_hips_is_asked_for_band_by_band(server):
    source = hips.Hips2Fits(Imaging(base_url=server.url))
    delivery = deliver(source, request(size=200))
    assert delivery.cutout.flux.shape == (3, 200, 200)
    assert (delivery.cutout.survey, delivery.cutout.flux_pixscale, delivery.release) == ("decals", 0.262, "DR10")
    assert [request.query["hips"][-1] for request in server.seen.requests] == ["g", "r", "z"]
    assert delivery.cutout.flux[1].sum() == pytest.approx(400, rel=0.05)


def test_sdss_hips_has_its_own_pixel(server):
    source = hips.Hips2Fits(Imaging(base_url=server.url, hips="CDS/P/SDSS9/r", bands=("r",)))
    cutout = deliver(source, request(size=200, pixscale=0.396)).cutout
    assert (cutout.survey, cutout.flux_pixscale) == ("sdss", 0.396)
    assert cutout.flux.sum() == pytest.approx(400, rel=0.05)


def test_a_band_that_the_hips_lacks_there(server):
    cutout = deliver(hips.Hips2Fits(Imaging(base_url=server.url)), request(55.0, 5.0)).cutout
    assert [bool(plane.any()) for plane in cutout.flux] == [True, False, True]


def test_a_list_from_a_hips(server, tmp_path):
    table, out = tmp_path / "t.csv", tmp_path / "out"
    table.write_text("name,ra,dec\na,10,5\nb,55,5\nc,75,5\n")
    wish = {"survey": "hips", "base_url": server.url, "size": 16, "rate": 1000.0, "backoff_s": 0.01}
    summary = fetch(table, out=out, **wish)
    assert (summary.ok, summary.partial, summary.no_coverage) == (1, 1, 1)
    assert fetch(table, out=out, **wish).requests == 0


@pytest.mark.parametrize(
    ("row", "cards"),
    [(np.array([7, 7, -99, 0], np.int16), card("BLANK", -99)), (np.array([7, 7, np.nan, 0]), "")],
)
def test_blank_pixels_become_zeros(server, monkeypatch, row, cards):
    """A HiPS of integers has no NaN but a card BLANK, and a service may answer in doubles."""
    pieces = image(request(size=4).wcs_cards + cards, np.stack([row] * 4))
    body = b"".join(map(bytes, pieces))
    route = dict(server.routes)["/hips-image-services"]
    monkeypatch.setattr(route, "_image", lambda query: StandInAnswer(200, {"Content-Type": "image/fits"}, body))
    source = hips.Hips2Fits(Imaging(base_url=server.url, bands=("r",)))
    assert deliver(source, request(size=4)).cutout.flux[0, 0].tolist() == [7, 7, 0, 0]


def test_outside_the_hips(server):
    with pytest.raises(NoCoverage, match="MocServer"):
        deliver(hips.Hips2Fits(Imaging(base_url=server.url)), request(75.0, 5.0))
    assert server.seen.count("MocServer") == 3


def test_a_blank_rendering_is_not_taken_for_no_coverage(server, monkeypatch):
    route = dict(server.routes)["/MocServer"]
    monkeypatch.setattr(route, "_moc", lambda query: type(route)._moc(route, query | {"RA": "10"}))
    with pytest.raises(PassingFailure, match=r"covers .* but sends blank"):
        deliver(hips.Hips2Fits(Imaging(base_url=server.url)), request(75.0, 5.0))


@pytest.mark.parametrize(
    ("name", "message"),
    [("CDS/P/Nothing", "404.*does not exist"), ("CDS/P/SDSS9/colour", "404")],
)
def test_unknown_hips(server, name, message):
    source = hips.Hips2Fits(Imaging(base_url=server.url, hips=name))
    with pytest.raises(FinalFailure, match=message):
        deliver(source, request(pixscale=1.0))


def test_colour_is_not_data(server):
    with pytest.raises(GalmorphError, match="colour picture"):
        hips.Hips2Fits(Imaging(hips="CDS/P/DESI-Legacy-Surveys/DR10/color"))
    source = hips.Hips2Fits(Imaging(base_url=server.url, hips="CDS/P/SDSS9/color{band}", bands=("",)))
    with pytest.raises(FinalFailure, match="colour picture"):
        deliver(source, request(pixscale=0.396))


def test_the_mirror_helps(server):
    server.inject("503", when=lambda request: "localhost" not in request.headers["Host"], times=None)
    mirrors = f"{server.url},{server.url.replace('127.0.0.1', 'localhost')}"
    assert deliver(hips.Hips2Fits(Imaging(base_url=mirrors)), request()).cutout.flux.any()


def test_the_unit_of_another_hips_is_unknown(server, monkeypatch):
    monkeypatch.setattr(hips, "_IN_NANOMAGGIES", {})
    source = hips.Hips2Fits(Imaging(base_url=server.url, hips="CDS/P/SDSS9"))
    assert math.isnan(source.pixscale)
    assert deliver(source, request(pixscale=0.396)).unit == "unknown"
