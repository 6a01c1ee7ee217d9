"""Inference: a network made ready for a device computes what it computed in training, in fewer steps."""

import operator

import numpy as np
import pytest
import torch
from torch import nn

from galmorph import registry
from galmorph.images.gpu.tensors import to_device
from galmorph.models import cpu_fusion
from galmorph.models.cpu_fusion import _has_joint_convolution, _round_kernels, prepare
from galmorph.models.model import load
from galmorph.models.predictor import Predictor
from galmorph.training import dataset
from galmorph.training.evaluation.predicting import predict

CPU = torch.device("cpu")


def network(name, n_outputs=4):
    """A fresh backbone whose batch normalisation has statistics of some pictures."""
    torch.manual_seed(0)
    made = registry.load("backbones", name).build(n_outputs)
    with torch.no_grad():
        made.train()(torch.randn(8, 3, 64, 64))
    return made.eval()


def operations(prepared):
    """The types of the modules and the functions that a prepared network calls, those of its first layers too."""
    kinds = set()
    for module in prepared.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            if node.op in ("call_module", "call_function"):
                kinds.add(type(module.get_submodule(node.target)) if node.op == "call_module" else node.target)
    return kinds


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "resnet50"])
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
    assert not operations(prepared) & {nn.ReLU6, nn.BatchNorm2d}


@pytest.mark.skipif(not _has_joint_convolution(), reason="this build of torch has no joint convolution")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2", "resnet50"])
def test_first_layers_take_some_pictures_at_a_time(name, dtype, monkeypatch):
    plain, images = network(name), torch.randn(6, 3, 64, 64).to(memory_format=torch.channels_last)
    seen = []
    with torch.inference_mode():
        prepared = prepare(plain, CPU, dtype, 64)
        prepared.in_chunks.front.register_forward_hook(lambda _, inputs, output: seen.append((len(inputs[0]), output)))
        got = prepared(images)
        monkeypatch.setattr(cpu_fusion, "_front", lambda nodes, large_px: [])
        expected = prepare(plain, CPU, dtype, 64)(images)
    assert [n for n, _ in seen] == [4, 2]
    assert all(output.shape[-1] <= 8 for _, output in seen), "behind the large maps"
    torch.testing.assert_close(
        got, expected, rtol=0.02 if dtype == torch.bfloat16 else 1e-5, atol=float(expected.abs().max()) / 50
    )


def test_nothing_is_of_one_processor_alone(monkeypatch):
    """On ARM, or with a build of torch without oneDNN, the same code computes in float32."""
    plain, images = load("galaxyzoo2-mobilenet_v2"), torch.randn(2, 3, 64, 64)
    expected = Predictor(plain, "cpu", "float32")(images)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    for unit in ("avx512_bf16", "amx_tile"):
        monkeypatch.delattr(torch.cpu, f"_is_{unit}_supported", raising=False)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    predictor = Predictor(plain, "cpu", "auto")
    assert predictor.dtype == torch.float32
    assert not any(isinstance(module, cpu_fusion._JointConvolution) for module in predictor.network.modules())
    torch.testing.assert_close(predictor(images), expected, rtol=0, atol=1e-4)


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


class Calls(nn.Module):
    """Convolutions put together in a way that a test names."""

    def __init__(self, way):
        super().__init__()
        self.way = way
        self.first, self.second, self.third = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.relu, self.bounded, self.idle = nn.ReLU(), nn.ReLU6(), nn.Identity()

    def forward(self, images):
        return self.way(self, images)


def reads_what_it_adds_to(net, x):
    before = net.first(x)
    return net.second(before) + before


def read_again_later(net, x):
    before = net.first(x)
    total = net.second(x) + before
    return total + net.third(before)


def view_of_the_earlier(net, x):
    before = net.first(x)
    view = before[:, 1:]
    return (net.second(x) + before)[:, 1:] - view


def of_other_shape(net, x):
    before = net.first(x)
    return before + net.second(x.mean((2, 3), keepdim=True))


WAYS = {
    "sum": lambda net, x: net.first(x) + net.second(x),
    "sum, relu": lambda net, x: net.relu(net.idle(net.first(x) + net.second(x))),
    "sum, relu6": lambda net, x: net.bounded(net.first(x) + net.second(x)),
    "weighted sum": lambda net, x: torch.add(net.first(x), net.second(x), alpha=2),
    "twice the same": lambda net, x: net.relu(net.first(net.first(x))) + net.first(x),
    "doubled": lambda net, x: (lambda y: y + y)(net.first(x)),
    "with a number": lambda net, x: net.first(x) + 1,
    "with the input": lambda net, x: net.first(x) + x,
    "chain": lambda net, x: net.relu(net.third(net.relu(net.first(x) + net.second(x))) + net.second(x)),
    "reads what it adds to": reads_what_it_adds_to,
    "read again later": read_again_later,
    "view of the earlier": view_of_the_earlier,
    "of other shape": of_other_shape,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_joined_additions_compute_the_same(way):
    torch.manual_seed(0)
    plain, images = Calls(way).eval(), torch.randn(2, 3, 8, 8)
    kept = images.clone()
    with torch.inference_mode():
        got = prepare(plain, CPU, torch.float32, 8)(images)
        torch.testing.assert_close(got, plain(images))
        assert images.equal(kept)


@pytest.mark.skipif(not _has_joint_convolution(), reason="this build of torch has no joint convolution")
@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2", "timm:resnet50"])
def test_additions_are_computed_with_their_convolutions(name):
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    prepared = prepare(registry.load("backbones", name).build(4), CPU, torch.float32, 64)
    assert not operations(prepared) & {
        nn.ReLU,
        nn.ReLU6,
        nn.BatchNorm2d,
        nn.Identity,
        nn.Conv2d,
        operator.add,
        torch.add,
    }


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_batches_arrive_on_the_gpu_whole():
    gpu = torch.device("cuda")
    batches = [torch.full((64, 3, 64, 64), float(i)) for i in range(8)]
    there = [to_device(batch, gpu) for batch in batches]
    again = [to_device(batch, gpu) for batch in there]
    assert all(batch.equal(other.cpu()) for batch, other in zip(batches, again, strict=True))
    assert all(other.data_ptr() == one.data_ptr() for one, other in zip(there, again, strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet50"])
def test_prepared_network_computes_the_same_on_the_gpu(name):
    plain, images = network(name), torch.randn(3, 3, 64, 64)
    gpu = torch.device("cuda")
    with torch.inference_mode():
        expected = plain(images).softmax(dim=1)
        got = prepare(plain, gpu, torch.float32)(to_device(images, gpu).contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(got.softmax(dim=1).cpu(), expected, rtol=0, atol=0.02)


def test_weights_are_laid_out_for_whole_batches(monkeypatch):
    shapes = []
    lay_out = torch.ops.mkldnn._reorder_convolution_weight

    def recorded(*arguments):
        shapes.append(arguments[-1])
        return lay_out(*arguments)

    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_convolution_weight", recorded)
    prepare(network("mobilenet_v2"), CPU, torch.bfloat16, 192)
    assert shapes[0] == [cpu_fusion.CPU_CHUNK, 3, 192, 192]
    numbers = [shape[0] for shape in shapes]
    assert numbers == sorted(numbers), "chunks, then whole batches"
    assert set(numbers) == {cpu_fusion.CPU_CHUNK, cpu_fusion.CPU_BATCH}, (
        "for one picture the layout is another, and slow"
    )


# Shorter number formats


def test_rounding_errors_cancel_within_a_kernel():
    convolution = nn.Conv2d(8, 16, 3)
    exact = convolution.weight.detach().clone()
    _round_kernels(convolution, torch.bfloat16)
    rounded = convolution.weight.detach()
    assert rounded.equal(rounded.bfloat16().float())
    assert (rounded - exact).abs().max() <= 2**-7 * exact.abs().max()
    smallest = exact.flatten(2).abs().amin(dim=-1)
    # What is left is the rounding of the last, smallest weight with all that was carried into it.
    lost = (rounded - exact).sum(dim=(2, 3)).abs()
    plain = (exact.bfloat16().float() - exact).sum(dim=(2, 3)).abs()
    assert (lost <= 2**-8 * (smallest + 2**-8 * exact.abs().max()) + 1e-6).all()
    assert lost.mean() < plain.mean() / 4


def in_order(traced):
    """Return the layers of a traced network as they are computed, also those that take some pictures at a time."""
    layers = []
    for node in traced.graph.nodes:
        if node.op == "call_module":
            layer = traced.get_submodule(node.target)
            layers += in_order(layer.front) if hasattr(layer, "front") else [layer]
    return layers


def test_mobilenet_begins_in_float32_and_resnet_does_not():
    for name, begins in (("mobilenet_v2", 2), ("mobilenet_v1", 2), ("mobilenet_v3_small", 2), ("resnet50", 0)):
        prepared = prepare(network(name), CPU, torch.bfloat16, 64)
        layers = in_order(prepared)
        kinds = [layer.weight.dtype for layer in layers if hasattr(layer, "weight")]
        assert kinds[:begins] == [torch.float32] * begins, name
        assert set(kinds[begins:]) == {torch.bfloat16}, name
        with torch.inference_mode():
            assert prepared(torch.zeros(1, 3, 64, 64)).dtype == torch.bfloat16


def test_bfloat16_stays_nearer_than_rounding_alone(monkeypatch):
    model, (y, x) = load("galaxyzoo2-mobilenet_v2"), np.mgrid[-80:80, -80:80]
    light = [np.exp(-np.hypot(x, y * q) / r) for r in (6, 12, 24) for q in (1, 1.5, 3)]
    images = torch.from_numpy(np.stack(light)).float()[:, None] * torch.tensor([0.9, 0.8, 0.7]).view(3, 1, 1) + 0.03
    images = model.card.inputs[0].normalization.network_input(images)

    def error():
        one, other = (Predictor(model, "cpu", dtype)(images) for dtype in ("float32", "bfloat16"))
        return float((one - other).square().mean().sqrt())

    kept = error()
    monkeypatch.setattr(cpu_fusion, "_round_kernels", lambda network, dtype: None)
    kernels = error()
    monkeypatch.setattr(cpu_fusion, "_stem", lambda traced: list(traced.graph.nodes)[:1])
    assert 0 < kept < 0.7 * error(), (kept, kernels, error())


@pytest.mark.real_data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("galaxyzoo2-mobilenet_v2", "galaxyzoo_kaggle"),
        ("galaxyzoo2-mobilenet_v2", "decals_rings"),
        ("galaxy10_sdss-mobilenet_v2", "galaxy10_sdss/Galaxy10_SDSS_subset.h5"),
    ],
)
def test_bfloat16_and_float32_agree_on_real_galaxies(shared, name, data):
    model = load(name)
    sample = dataset.load([shared / "data" / data], model.schema, model.card.input_size, 5.12)
    rows = np.arange(200)
    one, other = (predict(Predictor(model, "cpu", dtype), sample, rows, 16) for dtype in ("float32", "bfloat16"))
    assert 0 < np.abs(one - other).max() <= 0.02
