"""Frames: cut out and resampled; any radius takes bounded memory and time."""

import tracemalloc

import numpy as np
import pytest
import torch

from galmorph.images import framing
from galmorph.images.cutout import Cutout
from galmorph.images.flags import Flag
from galmorph.images.framing import cut, frame
from galmorph.images.quality import Flagger, is_blended, quality
from galmorph.images.survey_image import Planes

RNG = np.random.default_rng(8)
PLANES = RNG.normal(1, 0.2, (3, 61, 80)).astype(np.float32)


@pytest.mark.parametrize("n_out", [64, 224])
@pytest.mark.parametrize("centre", [None, (3.2, 55.7), (-20.0, 30.0)])
@pytest.mark.parametrize("width", [17.3, 100.5, 170.0, 1234.5])
def test_frames_are_the_same_with_and_without_padding(n_out, centre, width, monkeypatch):
    monkeypatch.setattr(framing, "MAX_PADDING", 0.0)
    from_weights = frame(PLANES, width, n_out, centre)
    monkeypatch.setattr(framing, "MAX_PADDING", 1e9)
    monkeypatch.setattr(framing, "MAX_PADDED_PX", 1e9)
    np.testing.assert_allclose(from_weights, frame(PLANES, width, n_out, centre), atol=2e-5)


@pytest.mark.parametrize("width", [9770.0, 195_400.0, 1e21, 1e-30, 0.0])
def test_a_frame_of_any_width_takes_little_memory(width):
    tracemalloc.start()
    framed = frame(PLANES, width, 224)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert framed.shape == (3, 224, 224)
    assert np.isfinite(framed).all()
    assert peak < 20e6
    if 80 < width < 1e6:  # all light of the image is in it
        assert framed[0].sum() * (width / 224) ** 2 == pytest.approx(PLANES[0].sum(), rel=0.05)


def test_a_wide_frame_in_a_large_image_takes_little_memory():
    plane = np.ones((1, 200, 5000), np.float32)
    tracemalloc.start()
    framed = frame(plane, 9999.0, 224)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6
    assert framed.max() > 0


@pytest.mark.parametrize("width", [9770.0, 195_400.0, 1e21, 1e-30])
def test_stamps_of_a_survey_image_of_any_width(width):
    x, y = np.array([40.0]), np.array([30.0])
    (stamp,) = cut(PLANES, x, y, np.array([width]), 64)
    assert stamp.shape == (3, 64, 64)
    assert torch.isfinite(stamp).all()
    flagger = Flagger(Planes("x", "decals", ("g", "r", "z"), PLANES, pixscale=0.262), np.ones(3), np.zeros(3), 4.5)
    (flag,) = flagger(("g", "r", "z"), x, y, np.array([width]), np.array([width / 5]))
    assert flag & (Flag.LARGER_THAN_CUTOUT if width > 1 else Flag.TOO_SMALL)


@pytest.mark.parametrize("radius", [500.0, 9999.0, 99999.0, 1e20, 1e-30])
@pytest.mark.parametrize("survey", ["decals", ""])
def test_a_radius_that_cannot_be_is_flagged(radius, survey):
    cutout = Cutout("x", survey, ("g", "r", "z"), PLANES, 0.262, 0.262)
    flag = quality(cutout, "grz", 5.12 * radius, radius)
    assert flag & (Flag.LARGER_THAN_CUTOUT if radius > 1 else Flag.TOO_SMALL)
    is_blended(cutout, radius)
