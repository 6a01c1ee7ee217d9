"""Inference: a model made ready for a device, and batches through it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from galmorph import registry
from galmorph.errors import GalmorphError
from galmorph.models.backbones import take_head
from galmorph.models.cpu_fusion import prepare
from galmorph.models.cuda_graph import Graphs
from galmorph.models.model import Model
from galmorph.ranges import ORIENTATIONS

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
        torch.zeros(1, device=device).item()  # a device such as meta holds no numbers
    except (RuntimeError, AssertionError) as error:
        raise GalmorphError(
            f"The device {name!r} cannot be used: auto, cpu, cuda, ...; galmorph doctor lists what there is."
        ) from error
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


class Predictor:
    """A model on a device: pictures in, probabilities out.

    Parameters
    ----------
    device, dtype : str
        As in :func:`pick_device` and :func:`pick_dtype`.
    tta : int
        Orientations averaged, 1 to 8: their logits, so the probabilities are the normalised geometric mean inside each
        question, as confident as those of one. Their arithmetic mean is right as often but less confident than it ought
        to be.

    Raises
    ------
    GalmorphError
        If device, dtype or tta cannot be used.
    """

    def __init__(self, model: Model, device: str = "auto", dtype: str = "auto", tta: int = 1) -> None:
        ORIENTATIONS.check("--tta ", tta)  # a square has eight
        self.model = model
        self.device = pick_device(device)
        self.dtype = pick_dtype(dtype, self.device)
        self.tta = tta
        network = prepare(model.network, self.device, self.dtype, model.card.input_size)
        self.network = nn.Sequential(network, take_head(network, registry.load("backbones", model.card.backbone).head))
        self.unlikeness = None if model.unlikeness is None else model.unlikeness.to(self.device)
        self._graphs = Graphs(self._judge, self.device) if self.device.type == "cuda" else None

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Return probabilities, float32 (n, n_labels), of network inputs (n, 3, y, x)."""
        return self.judge(images)[0]

    @torch.inference_mode()
    def judge(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities, and the unlikeness to the training part, float32 (n,), of network inputs (n, 3, y, x).

        The unlikeness is that of the inputs as they are, for which its threshold holds, however many orientations are
        averaged; NaN where the model has none.
        """
        return self.judge_with_features(images)[:2]

    @torch.inference_mode()
    def judge_with_features(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what :meth:`judge` does, and the features of the inputs as they are, float32 (n, n_features)."""
        images = images.to(self.device, torch.float32, memory_format=torch.channels_last)
        probabilities, distance, features = self._judge(images) if self._graphs is None else self._graphs(images)
        return probabilities, distance, features

    def _judge(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        first = torch.empty(0)
        distance = torch.full((len(images),), torch.nan, device=self.device)
        logits = torch.zeros(len(images), len(self.model.schema.labels), device=self.device)
        for view, features in enumerate(self.features(images)):
            if not view:
                first = features.flatten(1).float()
            if not view and self.unlikeness is not None:
                distance = self.unlikeness(features)
            logits += self.logits(features)
        return self.model.probabilities(logits / self.tta), distance, first

    @torch.inference_mode()
    def warm_up(self, batch_size: int) -> None:
        """Let batches of a size run as a CUDA graph, where there is a GPU."""
        if self._graphs is not None:
            size = self.model.card.input_size
            images = torch.zeros(batch_size, 3, size, size, device=self.device)
            self._graphs.capture(images.contiguous(memory_format=torch.channels_last))

    @property
    def n_features(self) -> int:
        """How many features enter the network's last layer."""
        size = self.model.card.input_size
        return self.judge_with_features(torch.zeros(1, 3, size, size))[2].shape[1]

    @torch.inference_mode()
    def features(self, images: Tensor) -> Iterator[Tensor]:
        """Yield what enters the last layer, (n, n_features), for each orientation of network inputs (n, 3, y, x)."""
        images = images.to(self.device, torch.float32, memory_format=torch.channels_last)
        for view in orientations(images, self.tta):
            yield self.network[0](view)

    @torch.inference_mode()
    def logits(self, features: Tensor) -> Tensor:
        """Return the logits, float32 (n, n_labels), of features."""
        return self.network[1](features).float()


def orientations(rgb: Tensor, n_views: int) -> Iterator[Tensor]:
    """Yield up to eight orientations of a batch (n, 3, y, x): the quarter turns, then those of the mirror image."""
    for turn in range(n_views):
        yield torch.rot90(rgb if turn < 4 else rgb.flip(-1), turn % 4, dims=(-2, -1))


def on_devices(model: Model, devices: str, dtype: str = "auto", tta: int = 1) -> list[Predictor]:
    """Return a model's predictors, one for each of the devices (``cuda:0,cuda:1``).

    Raises
    ------
    GalmorphError
        If one cannot be used, or they are of several types, whose numbers differ.
    """
    names = [name.strip() for name in devices.split(",")]
    if len({name.partition(":")[0] for name in names}) > 1:
        raise GalmorphError(f"--device {devices}: several devices must be of one type, cuda:0,cuda:1.")
    return [Predictor(model, name, dtype, tta) for name in names]
