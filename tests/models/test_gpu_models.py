"""Inference on a GPU: the CPU's probabilities, the same bytes each time, and no memory that grows."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from galmorph.images.normalization import fused_kernel
from galmorph.models.model import load
from galmorph.models.predictor import Predictor

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
MODEL = "galaxyzoo2-mobilenet_v2"


def made(dtype="auto"):
    predictor = Predictor(load(MODEL), "cuda", dtype)
    predictor.warm_up(24)
    return predictor


@pytest.fixture(scope="module")
def images():
    """Network inputs of smooth blobs, as galaxies are."""
    generator = torch.Generator().manual_seed(0)
    width = torch.rand(24, 3, 1, 1, generator=generator) * 30 + 10
    r = torch.arange(192) - 96.0
    blobs = torch.exp(-(r[:, None] ** 2 + r[None, :] ** 2) / width**2) + torch.randn(24, 3, 192, 192) * 0.02
    return ((blobs - 0.2) / 0.2).contiguous()


@pytest.fixture(scope="module")
def expected(images):
    return Predictor(load(MODEL), "cpu", "float32").judge(images)


@pytest.mark.parametrize(("dtype", "within"), [("float32", 0.01), ("bfloat16", 0.02)])
def test_probabilities_are_those_of_the_cpu(images, expected, dtype, within):
    predictor = made(dtype)
    p, distance = (result.cpu() for result in predictor.judge(images))
    assert (p - expected[0]).abs().max() < within
    assert (distance / expected[1] - 1).abs().max() < 0.05
    assert all(captured is not None for captured in predictor._graphs._captured.values())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_equal_bytes_whatever_else_is_in_the_batch(images, dtype):
    first = made(dtype).judge_with_features(images)
    predictor = made(dtype)
    for _ in range(3):
        predictor(torch.randn_like(images))
        again = predictor.judge_with_features(images)
        assert all(one.equal(other) for one, other in zip(first, again, strict=True))
    others = torch.cat([images[:12], torch.zeros_like(images[12:])])
    pairs = zip(first, predictor.judge_with_features(others), strict=True)
    assert all(one[:12].equal(other[:12]) for one, other in pairs)


def test_threads_share_a_graph(images):
    predictor = made()
    batches = [images.roll(shift, 0) for shift in range(24)]
    alone = [predictor(batch).cpu() for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda batch: predictor(batch).cpu(), batches))
    assert all(one.equal(other) for one, other in zip(alone, together, strict=True))


def test_memory_does_not_grow(images):
    predictor = made()
    predictor(images)
    before = torch.cuda.memory_allocated()
    for _ in range(5):
        predictor(images)
    assert torch.cuda.memory_allocated() == before


def test_colours_in_one_kernel_are_those_of_the_steps():
    pytest.importorskip("triton")
    normalization = load(MODEL).card.inputs[0].normalization
    flux = torch.randn(3, 3, 50, 50) * torch.tensor([0.01, 1.0, 300.0]).view(3, 1, 1, 1)
    flux[0, :, :5] = 0
    assert fused_kernel(torch.device("cuda", 0)) is not None
    expected = normalization.network_input(normalization.rgb(flux))
    torch.testing.assert_close(normalization.network_inputs(flux.cuda()).cpu(), expected, rtol=0, atol=1e-4)
