"""Flags of made cutouts: each is raised by what it stands for, and by nothing else."""

import numpy as np
import pytest
from galaxies import NATIVE, cutout, noise, sersic, star

from galmorph.images.flags import Flag
from galmorph.images.quality import BAD_FRACTION, BLENDED_SHARE, MIN_R90_SEEING, PARTIAL_FRACTION, is_blended, quality

R90 = 6.8
WIDTH = 40.0


@pytest.fixture
def planes():
    return np.stack([factor * sersic(r50=3) + noise(seed=seed) for seed, factor in enumerate((0.5, 1, 2))])


def flags(planes, bands="grz", wanted="grz", width=WIDTH, radius=R90, seeing=1.2, **values):
    return quality(cutout(planes, bands=bands, **values), wanted, width, radius, seeing_arcsec=seeing)


def test_a_good_cutout_has_no_flag(planes):
    assert flags(planes) == Flag(0)
    assert flags(planes, width=np.inf) == Flag(0)
    assert flags(planes, radius=np.nan, seeing=np.nan) == Flag(0)
    assert flags(planes[1:2], bands="r", wanted="r") == Flag(0)


@pytest.mark.parametrize("value", [0.0, 0.3, np.nan])
def test_a_plane_of_one_value_is_a_missing_band(planes, value):
    planes[0] = value
    assert Flag.MISSING_BAND in flags(planes)
    assert flags(planes, wanted="rz") == Flag(0)


def test_an_absent_band_is_missing(planes):
    assert flags(planes[1:], bands="rz") == Flag.MISSING_BAND
    assert flags(planes[1:], bands="rz", wanted="rz") == Flag(0)


def test_a_plane_with_data_in_one_corner_is_not_missing(planes):
    planes[0, 10:, :] = 0
    assert flags(planes) == Flag.PARTIAL


def test_exact_zeros_in_the_frame_are_partial_coverage(planes):
    side = round(WIDTH / NATIVE)
    margin = (256 - side) // 2
    planes[2, :, : margin - 1] = 0
    assert flags(planes) == Flag(0)  # outside the frame
    planes[2, :, : margin + round(2 * PARTIAL_FRACTION * side)] = 0
    assert flags(planes) == Flag.PARTIAL
    assert flags(planes, wanted="gr") == Flag(0)


def test_a_frame_beyond_the_cutout(planes):
    assert flags(planes, width=256 * NATIVE * 1.01) == Flag(0)
    assert flags(planes, width=256 * NATIVE * 1.05) == Flag.LARGER_THAN_CUTOUT
    assert flags(planes[:, 78:178]) == Flag.PARTIAL  # an image that ends above and below


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_finite(planes, value):
    planes[1, 128, 128] = value
    assert flags(planes) == Flag.BAD_PIXELS
    planes[1] = planes[0]
    planes[1, 2, 2] = value
    assert flags(planes) == Flag(0)  # outside the frame


def test_masked_pixels(planes):
    side = round(WIDTH / NATIVE)
    mask = np.zeros((256, 256), bool)
    mask[128, 128] = True
    assert flags(planes, mask=mask) == Flag(0)
    mask[128, 100 : 100 + round(1.5 * BAD_FRACTION * side**2)] = True
    assert flags(planes, mask=mask) == Flag.BAD_PIXELS
    mask[120 : 121 + round(PARTIAL_FRACTION * side), 50:206] = True
    assert flags(planes, mask=mask) == Flag.BAD_PIXELS | Flag.PARTIAL


@pytest.mark.parametrize("pixscale", [0.1, 0.262, 0.396])
def test_sky_is_blank(pixscale):
    skies = (noise(pixscale=pixscale, seed=seed) for seed in range(30))
    assert {quality(cutout(sky, pixscale), "r", 20.0, R90) for sky in skies} == {Flag.BLANK}


@pytest.mark.parametrize("pixscale", [0.1, 0.262, 0.396])
def test_a_faint_galaxy_is_blank_at_any_pixel_scale(pixscale):
    side = round(50 / pixscale / 2) * 2
    galaxy, sky = sersic(side, pixscale, r50=3), noise(side, pixscale)
    seen = [quality(cutout(k * galaxy + sky, pixscale), "r", WIDTH, R90) for k in (0.0005, 0.1)]
    assert seen == [Flag.BLANK, Flag(0)]


def test_one_band_with_signal_is_enough():
    planes = np.stack([noise(seed=1), noise(seed=2), sersic(r50=3) + noise(seed=3)])
    assert flags(planes) == Flag(0)


def test_too_small_for_the_seeing(planes):
    assert flags(planes, radius=1.01 * MIN_R90_SEEING * 1.2) == Flag(0)
    assert flags(planes, radius=0.99 * MIN_R90_SEEING * 1.2) == Flag.TOO_SMALL
    assert flags(planes, radius=np.nan) == Flag(0)


def test_blended():
    galaxy = sersic(r50=3) + noise()
    assert not is_blended(cutout(galaxy), R90)
    assert not is_blended(cutout(galaxy + star(flux=0.4 * BLENDED_SHARE * 200, x=4)), R90)
    assert is_blended(cutout(galaxy + star(flux=1.5 * BLENDED_SHARE * 200, x=4)), R90)
    assert not is_blended(cutout(galaxy + star(flux=400, x=14)), R90)  # outside R90
    assert not is_blended(cutout(galaxy), np.nan)


@pytest.mark.parametrize("shape", [(2, 2), (3, 40), (17, 17)])
@pytest.mark.parametrize("value", [0.0, 1.0, np.nan, np.inf, 3e38])
@pytest.mark.parametrize("width", [0.01, 5.0, 1e9, np.inf, np.nan])
def test_no_image_makes_it_fail(shape, value, width):
    image = np.random.default_rng(0).normal(size=shape)
    for planes in (np.full(shape, value), np.where(np.arange(shape[1]) < 2, value, image)):
        assert isinstance(quality(cutout(planes), "r", width), Flag)
