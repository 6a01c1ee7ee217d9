"""Inference: a model made ready for a device, and batches through it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from galmorph import registry
from galmorph.dataset import Dataset, orientations, plain_view
from galmorph.errors import GalmorphError
from galmorph.model import Model

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def pick_device(name: str) -> torch.device:
    """Return the device of a name; ``auto`` is CUDA where there is one, else the CPU.

    Raises
    ------
    GalmorphError
        If the device does not exist here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise GalmorphError(f"The device {name!r} cannot be used: {str(error).splitlines()[0]}.") from error
    return device


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the number format of a name; ``auto`` is bfloat16 where the processor computes with it natively.

    What the processor says decides, never a timing, so the same command gives the same bytes.

    Raises
    ------
    GalmorphError
        If the name is unknown.
    """
    if name == "auto":
        native = torch.cuda.is_bf16_supported() if device.type == "cuda" else _cpu_has_bfloat16()
        return torch.bfloat16 if native else torch.float32
    if name not in DTYPES:
        raise GalmorphError(registry.unknown("dtype", name, [*DTYPES, "auto"]))
    return DTYPES[name]


def _cpu_has_bfloat16() -> bool:
    return any(getattr(torch.cpu, f"_is_{unit}_supported", bool)() for unit in ("avx512_bf16", "amx_tile"))


# What oneDNN computes together with a convolution, by its name there and with its constants.
_ACTIVATIONS: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.Hardswish: ("hardswish", []),
}


def prepare(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Return a copy of a network for inference: batch normalisation folded into the convolutions, channels last.

    On the CPU the activation that follows a convolution is computed with it, which leaves the numbers as they are and
    nearly halves the time of a MobileNet V2, as its speed is that of the memory.
    """
    from torch.fx.experimental.optimization import fuse
    from torch.fx.proxy import TraceError

    network = copy.deepcopy(network).float().cpu().eval()
    try:
        network = fuse(network)
    except (TraceError, TypeError):  # its path depends on the input: it runs as it is
        return network.to(device, dtype).to(memory_format=torch.channels_last)
    network = network.to(device, dtype).to(memory_format=torch.channels_last)
    return _joined(network) if device.type == "cpu" and _has_joint_convolution() else network


def _has_joint_convolution() -> bool:
    """Whether this build of torch has the operation that torch.compile uses on CPUs."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


class _JointConvolution(nn.Module):
    """A convolution and the activation behind it, in one operation."""

    def __init__(self, convolution: nn.Conv2d, activation: nn.Module) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias
        shape = (convolution.padding, convolution.stride, convolution.dilation)
        self.options = [*map(list, shape), convolution.groups, *_ACTIVATIONS[type(activation)], ""]

    def forward(self, images: Tensor) -> Tensor:
        return torch.ops.mkldnn._convolution_pointwise(images, self.weight, self.bias, *self.options)


def _joined(network: nn.Module) -> nn.Module:
    """Join each convolution of a traced network with its activation."""
    from torch.fx import GraphModule

    traced = cast(GraphModule, network)
    for node in list(traced.graph.nodes):
        users = list(node.users)
        if len(users) != 1 or {node.op, users[0].op} != {"call_module"}:
            continue
        convolution, activation = (traced.get_submodule(str(n.target)) for n in (node, users[0]))
        # A subclass may compute something else, and padding may be a word.
        if type(convolution) is not nn.Conv2d or convolution.padding_mode != "zeros":
            continue
        if not isinstance(convolution.padding, str) and type(activation) in _ACTIVATIONS:
            traced.set_submodule(str(node.target), _JointConvolution(convolution, activation))
            users[0].replace_all_uses_with(node)
            traced.graph.erase_node(users[0])
    traced.recompile()
    return traced


class Predictor:
    """A model on a device: pictures in, probabilities out.

    Parameters
    ----------
    model : Model
    device, dtype : str
        As in :func:`pick_device` and :func:`pick_dtype`.
    tta : int
        Orientations averaged, 1 to 8.

    Raises
    ------
    GalmorphError
        If device, dtype or tta cannot be used.
    """

    def __init__(self, model: Model, device: str = "auto", dtype: str = "auto", tta: int = 1) -> None:
        if not 1 <= tta <= 8:
            raise GalmorphError(f"--tta {tta}: a square has 1 to 8 orientations.")
        self.model = model
        self.device = pick_device(device)
        self.dtype = pick_dtype(dtype, self.device)
        self.tta = tta
        self.network = prepare(model.network, self.device, self.dtype)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Return probabilities, float32 (n, n_labels), of network inputs (n, 3, y, x)."""
        images = images.to(self.device, self.dtype, memory_format=torch.channels_last)
        views = [self.model.probabilities(self.network(view)) for view in orientations(images, self.tta)]
        return torch.stack(views).mean(dim=0)

    def dataset(self, dataset: Dataset, rows: NDArray[np.int64], batch_size: int = 64) -> NDArray[np.float32]:
        """Return probabilities, float32 (n, n_labels), of some rows of a labelled dataset."""
        return np.concatenate([p.cpu().numpy() for p in self._batches(dataset, rows, batch_size)])

    def _batches(self, dataset: Dataset, rows: NDArray[np.int64], batch_size: int) -> Iterator[Tensor]:
        normalization = self.model.card.inputs[0].normalization
        for start in range(0, len(rows), batch_size):
            images, _ = dataset.batch(rows[start : start + batch_size])
            rgb = plain_view(images.to(self.device), dataset.view, normalization.input_size)
            yield self(normalization.network_input(rgb))
