"""R90 on made galaxies of known R90."""

import math

import numpy as np
import pytest
from galaxies import cutout, noise, petrosian_r90, sersic, star

from galmorph.images import radius
from galmorph.images.radius import measure_r90, neighbour_share


@pytest.mark.parametrize(
    ("n", "axis_ratio", "r50", "tolerance"),
    [
        (1, 1, 1.5, 0.10),
        (1, 1, 3.0, 0.10),
        (1, 1, 5.0, 0.10),
        (1, 0.5, 3.0, 0.10),
        (1, 0.25, 3.0, 0.10),
        (4, 1, 3.0, 0.15),
        (4, 1, 5.0, 0.15),
        (4, 0.5, 4.0, 0.15),
    ],
)
def test_r90_of_known_profiles(n, axis_ratio, r50, tolerance):
    image = sersic(r50=r50, n=n, axis_ratio=axis_ratio, oversample=5 if n > 1 else 3) + noise()
    assert measure_r90(cutout(image)) == pytest.approx(petrosian_r90(n, axis_ratio) * r50, rel=tolerance)


@pytest.mark.parametrize("n", [1, 2.5])
def test_pixel_scale_does_not_matter(n):
    found = []
    for pixscale in (0.1, 0.262, 0.396):
        side = round(60 / pixscale / 2) * 2
        image = sersic(side, pixscale, r50=3, n=n, axis_ratio=0.6, flux=500) + noise(side, pixscale)
        found.append(measure_r90(cutout(image, pixscale)))
    assert max(found) < 1.05 * min(found)


def test_brightness_and_size_of_the_cutout_do_not_matter():
    image = sersic(400, r50=2.5, n=1.5, flux=300) + noise(400)
    whole = measure_r90(cutout(image))
    assert measure_r90(cutout(image[100:-100, 100:-100])) == pytest.approx(whole, rel=0.06)
    assert measure_r90(cutout(0.3 * image)) == pytest.approx(whole, rel=1e-3)


@pytest.mark.parametrize("residual", [-0.3, 0.1, 1.0])
def test_a_residual_of_the_sky_does_not_matter(residual):
    image = sersic(r50=3, axis_ratio=0.6) + noise()
    assert measure_r90(cutout(image + residual * 0.012)) == pytest.approx(measure_r90(cutout(image)), rel=0.01)


@pytest.mark.parametrize(
    "neighbour",
    [
        star(flux=60, x=6, y=5),
        star(flux=600, x=9, y=-8),  # brighter than the galaxy
        sersic(r50=1.5, flux=100, x=-8, y=6),
    ],
    ids=["star", "bright star", "galaxy"],
)
@pytest.mark.parametrize("axis_ratio", [1.0, 0.25])
def test_neighbours_do_not_matter(axis_ratio, neighbour):
    image = sersic(r50=2.5, axis_ratio=axis_ratio) + noise()
    assert measure_r90(cutout(image + neighbour)) == pytest.approx(measure_r90(cutout(image)), rel=0.08)


def test_a_galaxy_off_the_centre_is_found():
    image = sersic(r50=3, x=1.3, y=-0.8) + noise()
    assert measure_r90(cutout(image)) == pytest.approx(measure_r90(cutout(sersic(r50=3) + noise())), rel=0.03)


@pytest.mark.parametrize("pixscale", [0.1, 0.262, 0.396])
def test_nothing_is_measured_on_noise(pixscale):
    found = [measure_r90(cutout(noise(pixscale=pixscale, seed=seed), pixscale)) for seed in range(20)]
    assert np.isnan(found).all()


def test_a_galaxy_that_fills_the_cutout_has_a_lower_limit():
    image = sersic(r50=30, flux=20000) + noise()
    assert 256 * 0.262 / 4 < measure_r90(cutout(image)) < petrosian_r90(1) * 30


def test_bad_pixels_are_filled_from_across_the_centre():
    image = sersic(r50=3) + noise()
    expected = measure_r90(cutout(image))
    masked = image.copy()
    masked[140:170, 120:150] = 1e6
    mask = masked == 1e6
    damaged = image.copy()
    damaged[140:170, 120:150] = np.nan
    uncovered = image.copy()
    uncovered[:, 150:] = 0
    assert measure_r90(cutout(masked, mask=mask)) == pytest.approx(expected, rel=0.03)
    assert measure_r90(cutout(damaged)) == pytest.approx(expected, rel=0.03)
    assert measure_r90(cutout(uncovered)) == pytest.approx(expected, rel=0.05)


def test_the_r_band_is_measured_where_there_is_one():
    wide, narrow = sersic(r50=5) + noise(), sersic(r50=2) + noise(seed=1)
    assert measure_r90(cutout([wide, narrow], bands="gr")) == measure_r90(cutout(narrow))
    assert measure_r90(cutout([wide, narrow], bands="gz")) > 1.2 * measure_r90(cutout(narrow))


@pytest.mark.parametrize("shape", [(2, 2), (2, 300), (3, 5), (7, 7), (16, 16), (33, 200)])
@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, np.nan, np.inf, 3e38])
def test_no_image_makes_it_fail(shape, value):
    image = np.random.default_rng(0).normal(size=shape)
    image[: shape[0] // 2 + 1] = value
    for planes in (image, np.full(shape, value)):
        found = measure_r90(cutout(planes))
        assert math.isnan(found) or found > 0


@pytest.mark.parametrize("flux", [20, 40, 100])
@pytest.mark.parametrize("distance", [4.0, 6.0])
def test_share_of_neighbours(flux, distance):
    galaxy = sersic(r50=3.5) + noise()
    blend = galaxy + star(flux=flux, x=distance * 0.8, y=-distance * 0.6)
    r90 = measure_r90(cutout(galaxy))
    assert neighbour_share(cutout(galaxy), r90) < 0.01
    assert neighbour_share(cutout(blend), r90) == pytest.approx(flux / (0.9 * 200), rel=0.15)
    assert math.isnan(neighbour_share(cutout(galaxy), math.nan))
    # A placeholder so large that its width overflows.
    assert math.isfinite(neighbour_share(cutout(galaxy), 1.7e308))


def test_neighbours_beyond_the_radius_do_not_count(monkeypatch):
    """To the last bit: only the pixels that count are looked at."""
    image = sersic(r50=3.5) + noise() + star(flux=40, x=3, y=-2) + star(flux=300, x=14, y=9)
    radii = (0.1, 1.0, 4.0, 9.3, 20.0, 60.0)
    shares = [neighbour_share(cutout(image), r90) for r90 in radii]
    separated = radius._separated
    monkeypatch.setattr(radius, "_separated", lambda *arguments, reach: separated(*arguments))  # the whole square
    assert [neighbour_share(cutout(image), r90) for r90 in radii] == shares
