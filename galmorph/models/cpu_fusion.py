"""A network made ready for inference: on CPUs with bfloat16 operations are joined as oneDNN computes them.

Only :func:`prepare` is for others. What it returns agrees with the plain network; a test compares them.
"""

from __future__ import annotations

import copy
import math
import operator
from collections import Counter
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.fx import GraphModule

# What oneDNN computes together with a convolution, by its name there and with its constants.
_ACTIVATIONS: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.Hardswish: ("hardswish", []),
}


# What leaves the numbers of a trained network as they are.
_IDLE = (nn.Identity, nn.Dropout)
# A batch on the CPU: its intermediate results stay in a core's own cache, nearly twice as fast as those of 64. Weights
# are laid out for it: laid out for a single picture, some are in an order that each batch must change again, at up to
# five times the network's time.
CPU_BATCH = 16
# The first layers, whose maps are large, take so many pictures of it at a time, for the same reason, and since glibc
# gives blocks of more than 32 MiB back to the system each time: new pages must be cleared.
CPU_CHUNK = 4
# Large maps: those of more than so much of the input's side.
LARGE_MAP = 1 / 8
# The operations of torch that torch.compile uses for it on CPUs.
_JOINT = ("_convolution_pointwise", "_convolution_pointwise_", "_reorder_convolution_weight")


def prepare(network: nn.Module, device: torch.device, dtype: torch.dtype, input_size: int = 224) -> nn.Module:
    """Return a copy of a network for inference: batch normalisation folded into the convolutions, channels last.

    It takes pictures in float32. In a shorter number format all is computed but MobileNet's first layers: most of a
    picture is sky of nearly one value, which rounding there shifts as a whole, and with it the probabilities.

    On the CPU what follows a convolution (an addition, an activation) is computed with it, which leaves the numbers as
    they are and nearly halves the time of MobileNet V2 and ResNet50, as their speed is that of the memory. The weights
    are laid out as the processor takes them for a batch of pictures of the size given; others are computed rightly too.
    """
    from torch.fx.experimental.optimization import fuse
    from torch.fx.proxy import TraceError

    network = copy.deepcopy(network).float().cpu().eval()
    try:
        network = fuse(network, inplace=True)  # it is a copy already
    except (TraceError, TypeError):  # its path depends on the input: it runs as it is
        network.register_forward_pre_hook(lambda _, images: (images[0].to(dtype),))
        return network.to(device, dtype).to(memory_format=torch.channels_last)
    if dtype != torch.float32:
        _shorten(cast("GraphModule", network), dtype)
    network = network.to(device).to(memory_format=torch.channels_last)
    if device.type != "cpu" or not _has_joint_convolution():
        return network
    example = torch.zeros(1, 3, input_size, input_size).contiguous(memory_format=torch.channels_last)
    return _joined(cast("GraphModule", network), example)


def _shorten(traced: GraphModule, dtype: torch.dtype) -> None:
    """Let a traced network compute in a shorter number format behind its stem."""
    _round_kernels(traced, dtype)
    stem = _stem(traced)
    exact = {str(node.target): copy.deepcopy(module) for node in stem if (module := _module(traced, node))}
    traced.to(dtype)
    for name, module in exact.items():
        traced.set_submodule(name, module)
    for node in stem:
        if behind := [user for user in node.users if user not in stem]:
            with traced.graph.inserting_after(node):
                short = traced.graph.call_method("to", (node, dtype))
            for user in behind:
                user.replace_input_with(node, short)
    traced.recompile()


def _stem(traced: GraphModule) -> list[Any]:
    """Return the nodes up to the third convolution, where the second one is depthwise, as it costs little.

    In other networks (ResNet, VGG) they take a third of all the time and gain little: there it is the input alone.
    """
    nodes = list(traced.graph.nodes)
    modules = [_module(traced, node) for node in nodes]
    layers = [i for i, module in enumerate(modules) if isinstance(module, nn.Conv2d | nn.Linear)]
    second = modules[layers[1]] if len(layers) > 2 else None
    depthwise = isinstance(second, nn.Conv2d) and second.groups == second.in_channels > 1
    return nodes[: layers[2 if depthwise else 0]]


@torch.no_grad()
def _round_kernels(network: nn.Module, dtype: torch.dtype) -> None:
    """Round the convolutions' weights to a number format so that the errors within a kernel cancel.

    Neighbouring pixels are alike, so that an error of a kernel's sum shifts all that follows, while errors that cancel
    do little. Each weight is rounded together with what the rounding before it in its kernel left (error feedback): the
    sum is off by the last one's rounding alone. It halves what bfloat16 does to probabilities.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and math.prod(module.kernel_size) > 1:
            # From the largest weight to the smallest, whose rounding is all that is left.
            kernels = module.weight.flatten(2)
            order = kernels.abs().argsort(dim=-1, descending=True)
            kernels = kernels.gather(-1, order)
            left = torch.zeros_like(kernels[..., 0])
            for weight in kernels.unbind(-1):  # views: it is done in order
                left += weight
                weight.copy_(left.to(dtype))
                left -= weight
            module.weight.flatten(2).scatter_(-1, order, kernels)


def _has_joint_convolution() -> bool:
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in _JOINT)


class _JointConvolution(nn.Module):
    """A convolution and what follows it, in one operation: the addition of a tensor, an activation, both or neither."""

    def __init__(self, convolution: nn.Conv2d, shape: torch.Size) -> None:
        super().__init__()
        sides = (convolution.padding, convolution.stride, convolution.dilation)
        self.options = [*map(list, sides), convolution.groups]
        self.weight, bias = convolution.weight.detach(), convolution.bias
        self.shape = shape
        self.bias = None if bias is None else bias.detach()
        self.activation: tuple[str, list[float]] | None = None

    def lay_out(self, n_pictures: int) -> None:
        """Lay the weights out for batches of so many pictures."""
        batch = [n_pictures, *self.shape[1:]]
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *self.options, batch)

    def forward(self, images: Tensor, added: Tensor | None = None) -> Tensor:
        if added is None:
            activation = (*(self.activation or ("none", [])), "")
            return torch.ops.mkldnn._convolution_pointwise(images, self.weight, self.bias, *self.options, *activation)
        # The sum takes the memory of what is added.
        join = torch.ops.mkldnn._convolution_pointwise_.binary
        activation = ("add", 1.0, *(self.activation or (None, [])), None)
        return join(added, images, self.weight, self.bias, *self.options, *activation)


def _joined(traced: GraphModule, example: Tensor) -> GraphModule:
    """Join each convolution of a traced network with the addition and the activation behind it."""
    with torch.inference_mode():
        _note_shapes(traced, example)
    calls = Counter(node.target for node in traced.graph.nodes)
    for node in list(traced.graph.nodes):  # in the order in which they are computed
        module = _module(traced, node)
        if isinstance(module, _IDLE):
            _leave_out(node, node.args[0])
        # A subclass may compute something else, and padding may be a word.
        elif type(module) is nn.Conv2d and module.padding_mode == "zeros" and calls[node.target] == 1:
            if not isinstance(module.padding, str):
                traced.set_submodule(str(node.target), _JointConvolution(module, _shape(node.args[0])))
        elif type(module) in _ACTIVATIONS:
            _join_activation(traced, node)
        elif node.op == "call_function" and node.target in (operator.add, torch.add):
            _join_addition(traced, node)
    front = _front(list(traced.graph.nodes), example.shape[-1] * LARGE_MAP)
    for node in traced.graph.nodes:
        if isinstance(layer := _module(traced, node), _JointConvolution):
            layer.lay_out(CPU_CHUNK if node in front else CPU_BATCH)
    if front:
        _take_in_chunks(traced, front)
    traced.recompile()
    return traced


def _front(nodes: list[Any], large_px: float) -> list[Any]:
    """Return the first nodes, from the one behind the input to the first on which alone all the rest depends.

    They are all whose maps are larger than so many pixels; none where maps never are, or never cease to be.
    """
    shapes = [tuple(_shape(node) or ()) for node in nodes]
    sides = [shape[-1] if len(shape) == 4 else 0 for shape in shapes]
    last_large = max((i for i, side in enumerate(sides) if i and side > large_px), default=len(nodes))
    number = {node: i for i, node in enumerate(nodes)}
    reach = 0  # the last node that reads one before this one
    for i, node in enumerate(nodes):
        if last_large < i and sides[i] and reach <= i < len(nodes) - 2:
            return nodes[1 : i + 1]
        reach = max([reach, *(number[user] for user in node.users)])
    return []


class _InChunks(nn.Module):
    """The first layers of a network, which take some pictures of a batch at a time."""

    def __init__(self, front: nn.Module) -> None:
        super().__init__()
        self.front = front

    def forward(self, images: Tensor) -> Tensor:
        chunks = [self.front(chunk) for chunk in images.split(CPU_CHUNK)]
        return chunks[0] if len(chunks) == 1 else torch.cat(chunks)


def _take_in_chunks(traced: GraphModule, front: list[Any]) -> None:
    """Put the first nodes of a traced network into a module of their own."""
    from torch.fx import Graph, GraphModule

    images = next(node for node in traced.graph.nodes if node.op == "placeholder")
    graph = Graph()
    copies = {images: graph.placeholder("images")}
    for node in front:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(copies[front[-1]])
    traced.add_module("in_chunks", _InChunks(GraphModule(traced, graph)))
    with traced.graph.inserting_after(front[-1]):
        taken = traced.graph.call_module("in_chunks", (images,))
    front[-1].replace_all_uses_with(taken)
    for node in reversed(front):
        traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()


def _module(traced: GraphModule, node: Any) -> nn.Module | None:
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None


def _note_shapes(traced: GraphModule, example: Tensor) -> None:
    """Note the shape of each node's result. ShapeProp does it too, but imports sympy: a fifth of a run's start."""
    from torch.fx import Interpreter

    class Shapes(Interpreter):
        def run_node(self, n: Any) -> Any:
            result = super().run_node(n)
            n.meta["shape"] = getattr(result, "shape", None)
            return result

    Shapes(traced).run(example)


def _shape(node: Any) -> torch.Size:
    return node.meta["shape"]


def _leave_out(node: Any, instead: Any) -> None:
    node.replace_all_uses_with(instead)
    node.graph.erase_node(node)


def _join_activation(traced: GraphModule, node: Any) -> None:
    kind, before = type(traced.get_submodule(node.target)), node.args[0]
    convolution = _module(traced, before)
    if not isinstance(convolution, _JointConvolution) or convolution.activation or len(before.users) > 1:
        return
    if len(before.args) == 1 or kind is nn.ReLU:  # behind an addition there is no other
        convolution.activation = _ACTIVATIONS[kind]
        _leave_out(node, before)


def _join_addition(traced: GraphModule, node: Any) -> None:
    """Let the later of two convolutions add its result to that of the earlier, where nothing else needs that one."""
    order = {each: i for i, each in enumerate(traced.graph.nodes)}
    if node.kwargs or len(set(node.args) & order.keys()) < 2:
        return
    earlier, later = sorted(node.args, key=order.__getitem__)
    convolution = _module(traced, later)
    readers = [user for user in earlier.users if user is not node]
    if not isinstance(convolution, _JointConvolution) or convolution.activation:
        return
    # A view of the earlier result would change with it: only convolutions may have read it, and all of them before.
    joint = all(isinstance(_module(traced, each), _JointConvolution) for each in (earlier, *readers))
    free = joint and all(order[user] < order[later] for user in readers)
    if free and len(later.users) == len(later.args) == 1 and _shape(earlier) == _shape(later):
        later.args = (*later.args, earlier)
        _leave_out(node, later)
