"""Normalization: flux to the pictures that models were trained on."""

import math

import numpy as np
import pytest
import torch

from galmorph.errors import ModelError
from galmorph.images import colours
from galmorph.images.framing import Framing, frame
from galmorph.images.normalization import Normalization

ZERO, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def normalization(kind, **options):
    values = {
        "bands": ("z", "r", "g"),
        "scales": (0.019, 0.014, 0.008),
        "flux_pixscale": 0.262,
        "framing": Framing(radii=5.0),
        "input_size": 64,
        "mean": ZERO,
        "std": ONE,
    }
    return Normalization(kind, **{**values, **options})


VIEWER = normalization("lupton", scales=(2.2, 3.4, 6.0), offset=0.03)
ZOO = normalization("galaxyzoo_decals")


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["example_a", "example_b", "example_c"])
def test_galaxy_zoo_decals_mapping_gives_the_published_picture(shared, name):
    from astropy.io import fits
    from PIL import Image

    flux = fits.getdata(shared / "fits" / "ls-cubes" / f"{name}.fits").astype(np.float32)
    rgb = ZOO.rgb(torch.from_numpy(flux[[2, 1, 0]])[None])[0].permute(1, 2, 0).numpy()
    picture = np.asarray(Image.open(shared / "fits" / "ls-cubes" / f"{name}.jpeg").convert("RGB")) / 255
    assert np.abs(rgb[::-1] - picture).mean() < 1 / 255
    # The agreement is of the flip and of the band order too: neither is matched by the other way round.
    assert np.abs(rgb - picture).mean() > 5 / 255
    assert np.abs(rgb[::-1, :, ::-1] - picture).mean() > 1 / 255


def legacy_viewer(g, r, z):
    """The viewer's mapping for one pixel, from its formula (legacysurvey/imagine, dr2_rgb's constants)."""
    m, q = 0.03, 20
    scaled = {"r": z * 2.2 + m, "g": r * 3.4 + m, "b": g * 6.0 + m}
    intensity = sum(max(0, value) for value in scaled.values()) / 3
    f = math.asinh(q * intensity) / math.sqrt(q)
    intensity = intensity or 1e-6
    return [min(1, max(0, value * f / intensity)) for value in scaled.values()]


@pytest.mark.parametrize("pixel", [(0, 0, 0), (0.1, 0.3, 0.6), (5, 20, 40), (-0.2, 0.05, 0.1), (-1, -1, -1)])
def test_legacy_viewer_mapping(pixel):
    g, r, z = pixel
    flux = torch.tensor([z, r, g], dtype=torch.float32).view(1, 3, 1, 1)
    assert VIEWER.rgb(flux).flatten().tolist() == pytest.approx(legacy_viewer(g, r, z), abs=1e-5)


def test_sky_of_the_viewer_is_32_of_255():
    assert VIEWER.rgb(torch.zeros(1, 3, 1, 1)).flatten().tolist() == pytest.approx([0.1272] * 3, abs=1e-4)


@pytest.mark.parametrize("model", [VIEWER, ZOO], ids=["viewer", "zoo"])
def test_a_device_maps_as_the_processor_does(model):
    flux = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    flux[0, :, 0, 0] = 0
    kept = flux.clone()
    mapping = colours.MAPPINGS[model.kind]
    factors = torch.tensor([mapping.factor(scale) for scale in model.scales])[:, None, None]
    there = mapping.colours(flux * factors, torch, model.softening, model.offset)
    assert torch.allclose(model.rgb(flux), there, atol=1e-6)
    assert torch.equal(flux, kept)


@pytest.mark.parametrize("model", [VIEWER, ZOO], ids=["viewer", "zoo"])
def test_a_batch_is_mapped_as_its_galaxies(model):
    flux = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    one_by_one = torch.cat([model.rgb(galaxy[None]) for galaxy in flux])
    assert torch.equal(model.rgb(flux), one_by_one)
    assert flux.isfinite().all()


@pytest.mark.parametrize("grey", [False, True])
def test_inputs_are_filled_as_a_batch_is_mapped(grey):
    model = normalization("lupton", grey=grey)
    flux = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    inputs = torch.full((5, 8, 8, 3), 7.0).permute(0, 3, 1, 2)
    model.fill(inputs[1:4], list(flux))
    assert torch.equal(inputs[1:4], model.network_input(model.rgb(flux)))
    assert bool((inputs[::4] == 7).all())


def test_grey_models_see_no_colour():
    grey = normalization("lupton", grey=True)
    seen = grey.network_input(torch.rand(2, 3, 4, 4))
    assert torch.equal(seen[:, 0], seen[:, 2])


def galaxy(side, sigma, x=0.0, y=0.0):
    """A round Gaussian of unit flux, off the centre by x, y pixels."""
    v, u = np.mgrid[:side, :side] - (side - 1) / 2
    return (np.exp(-((u - x) ** 2 + (v - y) ** 2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)).astype(np.float32)


@pytest.mark.parametrize("side", [160, 161])
@pytest.mark.parametrize("width", [60.0, 97.3, 128.0, 160.0])
def test_framing_keeps_centre_and_surface_brightness(side, width):
    framed = frame(galaxy(side, 8.0)[None], width, 64)[0]
    assert framed.shape == (64, 64)
    y, x = (np.mgrid[:64, :64] * framed).sum(axis=(1, 2)) / framed.sum()
    assert x == pytest.approx(31.5, abs=0.02)
    assert y == pytest.approx(31.5, abs=0.02)
    assert framed.sum() * (width / 64) ** 2 == pytest.approx(1.0, rel=0.01)


def test_framing_scales_the_galaxy_to_a_fraction_of_a_pixel():
    def spread(width):
        framed = frame(galaxy(160, 8.0)[None], width, 64)[0]
        return np.sqrt((framed * (np.mgrid[:64, :64][1] - 31.5) ** 2).sum() / framed.sum())

    assert spread(100.0) / spread(101.0) == pytest.approx(1.01, rel=2e-3)


def test_framing_larger_than_the_cutout_is_sky_outside():
    framed = frame(np.ones((1, 40, 40), np.float32), 80.0, 64)[0]
    assert framed[32, 32] == 1
    assert framed[:14].max() == 0
    assert framed.sum() == pytest.approx(32 * 32, rel=0.07)


def test_no_aliasing_when_the_cutout_shrinks():
    stripes = np.tile(np.arange(256) % 2, (256, 1)).astype(np.float32)[None]
    assert frame(stripes, 256.0, 64).std() < 0.01


def test_width_follows_the_radius():
    assert Framing(radii=5.12).width_arcsec(10.0) == pytest.approx(51.2)
    assert Framing(size_arcsec=67.0).width_arcsec(math.nan) == 67.0
    assert math.isnan(Framing(radii=5.12).width_arcsec(math.nan))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Framing(),
        lambda: Framing(radii=1, size_arcsec=1),
        lambda: normalization("sepia"),
        lambda: normalization("lupton", scales=(1.0, 2.0)),
        lambda: normalization("lupton", scales=(1.0, 2.0, 0.0)),
        lambda: normalization("lupton", input_size=8),
    ],
)
def test_impossible_preprocessing_is_refused(make):
    with pytest.raises(ModelError):
        make()


@pytest.mark.parametrize("module", [np, torch])
@pytest.mark.parametrize("vectorised", [True, False])
def test_arcsinh_is_right_for_every_flux(module, vectorised, monkeypatch):
    monkeypatch.setattr(colours, "_numpy_has_arcsinh", lambda: vectorised)
    values = np.concatenate([-np.logspace(4, -9, 400), [0.0], np.logspace(-9, 17, 400), [np.nan]]).astype(np.float32)
    got = np.asarray(colours._arcsinh(module.asarray(values.copy()), module))
    np.testing.assert_allclose(got, np.arcsinh(values.astype(np.float64)), rtol=3e-7, atol=3e-7)
