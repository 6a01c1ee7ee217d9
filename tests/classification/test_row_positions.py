"""Rows and cutouts that both have a position: the galaxy is looked for where the row says."""

import json
import math

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from galaxies import NATIVE, noise, sersic, wcs_cards
from typer.testing import CliRunner

from galmorph.classification.classify import classify
from galmorph.classification.prepare import CENTRE_TOLERANCE_PX, MAX_OFFSET, prepare
from galmorph.cli import app
from galmorph.images.cutout import Cutout, write_cutout
from galmorph.images.flags import Flag
from galmorph.models.model import load

FAST = {"device": "cpu", "dtype": "float32", "batch_size": 4, "workers": 1}
RA, DEC, SIDE, R90 = 150.0, 2.0, 128, 4.0


def write(path, x=0.0, wcs=True, columns=slice(None)):
    """A cutout of a galaxy `x` pixels right of the middle, of which some columns are kept; its WCS goes with them."""
    light = sersic(SIDE, r50=2.0, axis_ratio=0.5, x=x * NATIVE)
    planes = np.stack([light * share + noise(SIDE, seed=i) for i, share in enumerate((0.5, 1.0, 1.5))])[:, :, columns]
    header = wcs_cards(SIDE, ra=RA, dec=DEC)
    header["CRPIX1"] -= columns.start or 0
    planes = np.ascontiguousarray(planes, dtype=np.float32)
    text = header.tostring() if wcs else ""
    write_cutout(Cutout(path.stem, "decals", ("g", "r", "z"), planes, NATIVE, NATIVE, header_text=text), path)
    return path


def east(pixels):
    """The right ascension so many pixels right of the middle (to the west)."""
    return RA - pixels * NATIVE / 3600 / math.cos(math.radians(DEC))


def test_a_trimmed_cutout_is_framed_at_the_row_s_position(model, tmp_path):
    card = load(model).card
    whole = prepare(write(tmp_path / "whole.fits"), card, R90, position=(RA, DEC))
    trimmed = write(tmp_path / "trimmed.fits", columns=slice(20, SIDE))
    framed = prepare(trimmed, card, R90, position=(RA, DEC))
    assert framed.flag & Flag.OFF_CENTRE
    assert not whole.flag & Flag.OFF_CENTRE
    np.testing.assert_allclose(framed.flux, whole.flux, atol=1e-4 * whole.flux.max())
    without = prepare(trimmed, card, R90)
    assert np.abs(without.flux - whole.flux).max() > 0.1 * whole.flux.max()


def test_what_is_measured_is_measured_around_the_position(model, tmp_path):
    card = load(model).card
    expected = prepare(write(tmp_path / "whole.fits"), card, math.nan, position=(RA, DEC))
    path = write(tmp_path / "t.fits", columns=slice(12, SIDE))
    framed = prepare(path, card, math.nan, position=(RA, DEC))
    assert framed.flag == expected.flag == Flag.RADIUS_MEASURED
    np.testing.assert_allclose(framed.flux, expected.flux, atol=0.1 * expected.flux.max())


def test_the_flag_begins_at_the_stated_share_of_the_frame(model, tmp_path):
    card = load(model).card
    path = write(tmp_path / "g.fits")
    width_px = card.inputs[0].normalization.framing.width_arcsec(R90) / NATIVE
    for share, flagged in ((0.95, False), (1.05, True)):
        position = east(share * MAX_OFFSET * width_px), DEC
        assert bool(prepare(path, card, R90, position=position).flag & Flag.OFF_CENTRE) == flagged


@pytest.mark.parametrize(
    ("frame", "names"), [("fk4", ("RAB1950", "DEB1950")), ("galactic", ("GLON", "GLAT")), ("icrs", ("ra", "dec"))]
)
def test_positions_in_another_system_are_compared_after_conversion(model, tmp_path, frame, names):
    path = write(tmp_path / "g.fits")
    sky = SkyCoord(RA * u.deg, DEC * u.deg).transform_to(frame).spherical
    rows = {"cutout": [path.name], names[0]: [sky.lon.deg], names[1]: [sky.lat.deg], "petroR90_r": [R90]}
    Table(rows).write(tmp_path / "t.csv")
    summary = classify(tmp_path / "t.csv", model=model, out=tmp_path / "o.csv", **FAST)
    assert (summary.classified, summary.off_centre) == (1, 0)


def test_a_cutout_of_whole_pixels_is_framed_at_its_centre(model, tmp_path):
    card = load(model).card
    path = write(tmp_path / "g.fits")
    centred = prepare(path, card, R90).flux
    near = prepare(path, card, R90, position=(east(0.9 * CENTRE_TOLERANCE_PX), DEC)).flux
    assert np.array_equal(near, centred)
    farther = prepare(path, card, R90, position=(east(1.1 * CENTRE_TOLERANCE_PX), DEC)).flux
    assert not np.array_equal(farther, centred)


@pytest.mark.parametrize(
    "position",
    [(east(SIDE / 2 + 1), DEC), (RA, DEC + 1), (10.0, -45.0), (RA + 180, -DEC)],
    ids=["beside", "one degree", "elsewhere", "antipode"],
)
def test_there_is_no_probability_where_the_position_lies_outside(model, tmp_path, position):
    prepared = prepare(write(tmp_path / "g.fits"), load(model).card, R90, position=position)
    assert prepared.flux is None
    assert prepared.flag == Flag.OFF_CENTRE
    assert "outside the image" in prepared.reason


@pytest.mark.parametrize(("wcs", "position"), [(False, (10.0, -45.0)), (True, (math.nan, math.nan))])
def test_without_both_positions_nothing_is_compared(model, tmp_path, wcs, position):
    path = write(tmp_path / "g.fits", wcs=wcs)
    prepared = prepare(path, load(model).card, R90, position=position)
    assert not prepared.flag & Flag.OFF_CENTRE
    assert np.array_equal(prepared.flux, prepare(path, load(model).card, R90).flux)


@pytest.mark.parametrize(
    ("cards", "said"),
    [
        ({"CTYPE1": "RA---TNX", "CTYPE2": "DEC--TNX", "WAT1_001": "wtype=tnx axtype=ra"}, "CTYPE1 'RA---TNX'"),
        ({"CRVAL1": None}, "lack numbers in CRVAL1"),
        ({"RADESYS": "GAPPT"}, "RADESYS 'GAPPT'"),
    ],
)
def test_a_position_that_cannot_be_compared_is_flagged_and_said(model, tmp_path, cards, said):
    card = load(model).card
    path = write(tmp_path / "g.fits")
    with fits.open(path, mode="update") as hdus:
        for keyword, value in cards.items():
            hdus[0].header.remove(keyword, ignore_missing=True) if value is None else hdus[0].header.set(keyword, value)
        for keyword in ("CHECKSUM", "DATASUM"):
            del hdus[0].header[keyword]
    for options in ({"position": (RA, DEC)}, {"position": (math.nan, math.nan), "locate": True}):
        prepared = prepare(path, card, R90, **options)
        assert prepared.flag == Flag.WCS_UNUSABLE
        assert said in prepared.reason
        assert prepared.flux is not None
    assert prepare(path, card, R90).flag == 0


def test_a_row_with_another_galaxy_s_file_gets_no_probability_and_is_counted(model, tmp_path):
    for name in "ab":
        write(tmp_path / f"{name}.fits")
    table = Table({"id": ["a", "b"], "ra": [RA, 10.0], "dec": [DEC, -45.0], "cutout": ["a.fits", "b.fits"]})
    table["petroR90_r"] = [R90, R90]
    table.write(tmp_path / "t.fits")
    command = ["classify", str(tmp_path / "t.fits"), "--model", str(model), "--device", "cpu", "--json"]
    done = CliRunner().invoke(app.app, command)
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["off_centre"], summary["failed"], summary["classified"]) == (1, 1, 1)
    assert "off_centre 1" in done.stderr
    result = Table.read(tmp_path / "t_morph.fits")
    assert result["morph_flag"].tolist() == [0, 1024]
    assert result["morph_ok"].tolist() == [True, False]
    assert np.isnan(np.ma.filled(result["p_smooth_or_featured_smooth"], np.nan)).tolist() == [False, True]


def test_a_field_without_a_position_in_its_table_goes_by_the_cutouts_alone(model, tmp_path):
    write(tmp_path / "a.fits", x=20)
    Table({"id": ["a"], "cutout": ["a.fits"]}).write(tmp_path / "t.csv")
    classify(tmp_path / "t.csv", model=model, **FAST)
    assert not int(Table.read(tmp_path / "t_morph.csv")["morph_flag"][0]) & Flag.OFF_CENTRE


def test_pixels_of_plain_tangent_headers_are_those_of_astropy():
    from astropy.coordinates import SkyCoord
    from astropy.wcs import WCS

    from galmorph.images import wcs as module

    rng = np.random.default_rng(1)
    for angle in (0.0, 33.0, 200.0):
        for dec in (-89.9, -30.0, 0.0, 88.0):
            header = wcs_cards(100, angle=angle, ra=float(rng.uniform(0, 360)), dec=dec)
            cd = fits.Header(header)
            pc = fits.Header({k: v for k, v in header.items() if not k.startswith("CD")})
            for i in (1, 2):
                pc[f"CDELT{i}"] = 2e-4
                for j in (1, 2):
                    pc[f"PC{i}_{j}"] = header[f"CD{i}_{j}"] / 2e-4
            simple = fits.Header({k: v for k, v in header.items() if not k.startswith("CD")})
            simple["CDELT1"], simple["CDELT2"] = -7e-5, 7e-5
            for each in (cd, pc, simple):
                x, y = rng.uniform(-20, 120, 2)
                place = WCS(each).pixel_to_world(x, y).icrs
                text = each.tostring()
                assert module._is_plain_tangent(module.parse_cards(text))
                got = module.pixel_at(text, (100, 100), place.ra.deg, place.dec.deg)
                assert got == pytest.approx((x, y), abs=1e-5)
    other = wcs_cards(100)
    other["RADESYS"], other["EQUINOX"] = "FK4", 1950.0
    assert not module._is_plain_tangent(module.parse_cards(other.tostring()))
    place = SkyCoord(150.0, 2.0, frame="fk4", unit="deg").icrs
    got = module.pixel_at(other.tostring(), (100, 100), place.ra.deg, place.dec.deg)
    assert got == pytest.approx((49.5, 49.5), abs=0.2)
    assert module.pixel_at("", (100, 100), 150.0, 2.0) is None
