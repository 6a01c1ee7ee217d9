"""A network alone on one thread: as it was trained, as ``classify`` runs it, through torch.compile and OpenVINO.

``python benchmarks/network.py [--backbone resnet50] [--input-size 224] [--batch-size 16] [--rounds 4] [--compile]``
prints images a second of processor time in bfloat16, the best of the rounds, which are interleaved, and how far the
softmax of ten outputs is from float32. OpenVINO is there where it is installed; torch.compile needs a C++ compiler, and
the time it takes is printed too.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from galmorph import registry
from galmorph.models.cpu_fusion import prepare


def openvino(network: nn.Module, images: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the network compiled by OpenVINO for one thread, in bfloat16."""
    import openvino
    from openvino.properties import hint, inference_num_threads, num_streams

    converted = openvino.convert_model(network, example_input=images, input=[tuple(images.shape)])
    settings = {hint.inference_precision: "bf16", inference_num_threads: 1, num_streams: 1}
    compiled = openvino.Core().compile_model(converted, "CPU", settings)
    return lambda batch: torch.from_numpy(compiled(batch.numpy())[0])


def compiled(network: nn.Module, images: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the network as torch.compile makes it for inference: weights constant, normalisations folded."""
    import torch._inductor.config as inductor

    inductor.freezing = True
    made = torch.compile(network)
    started = time.perf_counter()
    with torch.inference_mode():
        made(images)
    print(f"torch.compile took {time.perf_counter() - started:.0f} s")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--input-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = registry.load("backbones", options.backbone).build(10)
    images = torch.randn(options.batch_size, 3, options.input_size, options.input_size)
    with torch.no_grad():
        network.train()(images)
    network.eval()
    full = images.contiguous(memory_format=torch.channels_last)
    half = full.bfloat16()
    trained = copy.deepcopy(network).bfloat16().to(memory_format=torch.channels_last)
    prepared = prepare(network, torch.device("cpu"), torch.bfloat16, options.input_size)
    ways: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
        "as trained": (trained, half),
        "galmorph": (prepared, full),
    }
    if options.compile:
        ways["torch.compile"] = compiled(copy.deepcopy(trained), half), half
    try:
        ways["openvino"] = openvino(network, images), images
    except ImportError:
        print("openvino is not installed")
    seconds = dict.fromkeys(ways, float("inf"))
    with torch.inference_mode():
        expected = network(images).softmax(dim=1)
        answers = {name: way(batch).float().softmax(dim=1) for name, (way, batch) in ways.items()}
        for _ in range(options.rounds):
            for name, (way, batch) in ways.items():
                started = time.process_time()
                way(batch)
                seconds[name] = min(seconds[name], time.process_time() - started)
    for name, best in seconds.items():
        apart = (answers[name] - expected).abs().max()
        print(f"{name:10s} {options.batch_size / best:8.1f} images/processor s, softmax within {apart:.4f}")


if __name__ == "__main__":
    main()
