"""Inference: a network made ready for a device computes what it computed in training, in fewer steps."""

import pytest
import torch
from torch import nn

from galmorph import registry
from galmorph.inference import _has_joint_convolution, prepare

CPU = torch.device("cpu")


def network(name, n_outputs=4):
    """A fresh backbone whose batch normalisation has statistics of some pictures."""
    torch.manual_seed(0)
    made = registry.load("backbones", name).build(n_outputs)
    with torch.no_grad():
        made.train()(torch.randn(8, 3, 64, 64))
    return made.eval()


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small"])
def test_prepared_network_computes_the_same(name):
    plain = network(name)
    images = torch.randn(3, 3, 64, 64)
    with torch.inference_mode():
        expected = plain(images)
        got = prepare(plain, CPU, torch.float32)(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.skipif(not _has_joint_convolution(), reason="this build of torch has no joint convolution")
def test_activations_are_computed_with_their_convolutions():
    prepared = prepare(network("mobilenet_v2"), CPU, torch.float32)
    left = [n for n in prepared.graph.nodes if n.op == "call_module"]
    kinds = {type(prepared.get_submodule(n.target)) for n in left}
    assert not kinds & {nn.ReLU6, nn.BatchNorm2d}


def test_convolution_whose_result_goes_elsewhere_too_is_left():
    class Branch(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution, self.activation = nn.Conv2d(3, 3, 1), nn.ReLU()

        def forward(self, images):
            before = self.convolution(images)
            return before + self.activation(before)

    plain, images = Branch().eval(), torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(prepare(plain, CPU, torch.float32)(images), plain(images))


def test_network_whose_path_depends_on_its_input_runs_as_it_is():
    class Fork(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution = nn.Conv2d(3, 3, 1)

        def forward(self, images):
            return self.convolution(images) if images.mean() > 0 else images

    images = torch.ones(1, 3, 8, 8)
    plain = Fork().eval()
    torch.testing.assert_close(prepare(plain, CPU, torch.float32)(images), plain(images))
