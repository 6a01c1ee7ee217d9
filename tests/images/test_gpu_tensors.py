"""Constants of a device: made once, and whole numbers and others apart."""

import torch

from galmorph.images.gpu.tensors import constant, index

CPU = torch.device("cpu")


def test_constants_are_made_once():
    assert constant((0.5, 1), CPU) is constant([0.5, 1.0], CPU)
    assert constant((0, 1), CPU).dtype == torch.float32
    assert index((0, 1), CPU).dtype == torch.int64
    assert index((0, 1), CPU).tolist() == [0, 1]


def test_gradients_pass_a_constant_that_inference_made_first():
    with torch.inference_mode():
        factor = constant((2.25, 3.25), CPU)
    x = torch.ones(2, requires_grad=True)
    (x * factor).sum().backward()
    assert x.grad.tolist() == [2.25, 3.25]
