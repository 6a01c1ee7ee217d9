"""Models: a backbone with the head of a label schema; loading and saving weights; probabilities of logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

import galmorph
from galmorph import registry
from galmorph.environment import Variable
from galmorph.errors import ModelError, WeightsUnavailable, first_line
from galmorph.files.record import file_sha256
from galmorph.files.writing import write_file
from galmorph.images.gpu.tensors import index
from galmorph.models import card as cards
from galmorph.models.backbones import Backbone
from galmorph.models.card import ModelCard
from galmorph.models.unlikeness import Unlikeness
from galmorph.schemas import LabelSchema

# Names of the extra tensors in a model's file, beside the network's parameters; all begin with the same word.
_EXTRA = "galmorph."
TRAINED_GALAXIES, TRAINED_CONTENTS = "galmorph.trained_galaxies", "galmorph.trained_contents"


class Model(nn.Module):
    """A network with its card: pictures in, probabilities out.

    Parameters
    ----------
    card : ModelCard
    network : nn.Module
        The backbone, with one output for each label of the schema.
    trained : mapping of name to Tensor, int64
        Hashes of the galaxies and pictures that took part in training (``TRAINED_GALAXIES``, ``TRAINED_CONTENTS``).
    sha256 : str
        Hash of the weights file, empty for a model that has none.
    unlikeness : Unlikeness, optional
        The features of the training part; its threshold is in the card's calibration.
    """

    def __init__(
        self,
        card: ModelCard,
        network: nn.Module,
        trained: Mapping[str, Tensor] | None = None,
        sha256: str = "",
        unlikeness: Unlikeness | None = None,
    ) -> None:
        super().__init__()
        self.card = card
        self.schema = card.label_schema
        self.network = network
        self.trained = dict(trained or {})
        self.sha256 = sha256
        self.unlikeness = unlikeness
        self.temperature = card.calibration.get("temperature")

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, n_labels) of network inputs (n, 3, y, x)."""
        return self.network(images)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return calibrated probabilities in cumulative form, float32 (n, n_labels), of logits."""
        return probabilities(self.schema, logits.float(), self.temperature)


def probabilities(schema: LabelSchema, logits: Tensor, temperature: Sequence[float | Tensor] | None = None) -> Tensor:
    """Turn logits into probabilities of the tree.

    The softmax inside each question, times the summed probability of the answers after which it is asked.

    Parameters
    ----------
    schema : LabelSchema
    logits : Tensor, shape (n, n_labels)
    temperature : sequence of float, optional
        Divides each question's logits.

    Returns
    -------
    Tensor, shape (n, n_labels)
        Cumulative: roots add up to 1, every other question to its parents.
    """
    shares = question_shares(schema, logits, temperature)
    fractions: list[Tensor] = []
    for columns, parents in zip(schema.slices, schema.parents, strict=True):
        share = shares[:, columns]
        if parents:
            so_far = torch.cat(fractions, dim=1)
            share = share * so_far.index_select(1, index(parents, share.device)).sum(dim=1, keepdim=True)
        fractions.append(share)
    return torch.cat(fractions, dim=1)


def question_shares(schema: LabelSchema, logits: Tensor, temperature: Sequence[float | Tensor] | None = None) -> Tensor:
    """Return the softmax inside each question, shape (n, n_labels)."""
    temperature = temperature or [1.0] * len(schema.questions)
    return torch.cat(
        [(logits[:, columns] / t).softmax(dim=1) for columns, t in zip(schema.slices, temperature, strict=True)], dim=1
    )


def build(backbone: str, n_outputs: int, pretrained: str = "none") -> nn.Module:
    """Build a network.

    Parameters
    ----------
    backbone : str
        Name of an entry of ``backbones/``.
    pretrained : str
        ``none``; ``imagenet`` (the folder ``GALMORPH_PRETRAINED``, then torchvision's hub); or a weights file, of which
        only the head may differ; it is kept where it has as many outputs.

    Raises
    ------
    ModelError
        If the weights cannot be had or do not belong to the backbone.
    """
    entry: Backbone = registry.load("backbones", backbone)
    network = entry.build(n_outputs)
    if pretrained == "none":
        return network
    state = _imagenet_state(entry) if pretrained == "imagenet" else _file_state(Path(pretrained))
    state = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    expected = {name: value.shape for name, value in network.state_dict().items()}
    differing = {name for name in expected.keys() | state.keys() if expected.get(name) != _shape(state.get(name))}
    if not all(name.startswith(entry.head) for name in differing):
        raise ModelError(f"The pretrained weights {pretrained!r} do not belong to the backbone {entry.name!r}.")
    network.load_state_dict({name: value for name, value in state.items() if name not in differing}, strict=False)
    return network


def _shape(value: Tensor | None) -> torch.Size | None:
    return None if value is None else value.shape


def _imagenet_state(entry: Backbone) -> dict[str, Tensor]:
    folder = Variable.PRETRAINED.read()
    if folder:
        stem = entry.name.rpartition(":")[2]
        for pattern in (f"{stem}.imagenet.safetensors", f"{stem}.imagenet.fp16.safetensors"):
            if (path := Path(folder) / pattern).is_file():
                return _file_state(path)
        for path in sorted(Path(folder).glob(f"{stem}-*.pth")):  # torchvision's names
            return _file_state(path)
    try:
        if entry.fetch:
            return dict(entry.fetch())
        reason = "torchvision has none"
    except (OSError, RuntimeError) as error:
        reason = f"they could not be fetched ({error})"
    raise WeightsUnavailable(
        f"weights unavailable: no ImageNet weights for {entry.name} in the folder GALMORPH_PRETRAINED "
        f"({folder or 'not set'}), and {reason}. Start from {_instead(entry.name)}."
    )


def _instead(backbone: str) -> str:
    """Return what a training can start from where ImageNet's weights are absent."""
    models = [name for name, path in cards.shipped().items() if cards.read_card(path).backbone == backbone]
    models.sort(key=lambda name: name != cards.DEFAULT_MODEL)
    ways = [f"a model of galaxies (--pretrained {name})" for name in models[:1]]
    return " or from ".join([*ways, "a weights file (--pretrained FILE)", "nothing (--pretrained none)"])


def _file_state(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == cards.SUFFIX:
            return {k: v for k, v in load_file(path).items() if not k.startswith(_EXTRA)}
        state = torch.load(path, map_location="cpu", weights_only=True)
        return state.get("state_dict", state)
    except FileNotFoundError as error:
        raise ModelError(f"There is no weights file {path}.") from error
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError, AttributeError) as error:
        raise ModelError(f"{path} cannot be read as weights: {error}.") from error
    except Exception as error:  # torch.load raises pickle.UnpicklingError for anything that is not plain tensors
        reason = str(error).partition("\n")[0]
        raise ModelError(f"{path} holds more than tensors, which is refused for safety: {reason}.") from error


def load(name: str | Path) -> Model:
    """Load a shipped model by its name, or a model file.

    Raises
    ------
    ModelError
        If there is none, the file is damaged, or its weights do not fit its card.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = cards.find(name)
    card = cards.read_card(path)
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged: {error}.") from error
    broken = next((key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()), "")
    if broken:
        raise ModelError(f"{path} is damaged: {broken} holds values that are not finite. Get it or train it again.")
    extra = {key: state.pop(key) for key in list(state) if key.startswith(_EXTRA)}
    trained = {key: extra[key] for key in (TRAINED_GALAXIES, TRAINED_CONTENTS) if key in extra}
    entry: Backbone = registry.load("backbones", card.backbone)
    network = entry.build(len(card.label_schema.labels))
    try:
        network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
        unlikeness = Unlikeness.from_tensors(extra)
    except (RuntimeError, ValueError) as error:
        fit = f"its weights do not fit its card ({card.backbone}, {card.schema})"
        raise ModelError(f"{path}: {fit}: {first_line(error)}") from error
    return Model(card, network.eval(), trained, file_sha256(path), unlikeness)


def save(model: Model, path: Path, *, half: bool = True) -> None:
    """Write a model, its card inside: to a temporary name, synced, then renamed.

    Parameters
    ----------
    model : Model
    path : Path
        Ends in ``.safetensors``.
    half : bool
        Round the parameters to 16 bits, which halves the file.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    from safetensors.torch import save as serialize

    state = {
        name: (value.half() if half and value.is_floating_point() else value).detach().cpu().contiguous()
        for name, value in model.network.state_dict().items()
    }
    extra = {**model.trained, **(model.unlikeness.tensors() if model.unlikeness else {})}
    data = serialize({**state, **extra}, metadata={cards.KEY: model.card.to_json()})
    write_file(path, data)


def save_with_card(model: Model, path: Path) -> None:
    """Write a model as :func:`save` does, and its card to the same name with ``.json``."""
    save(model, path)
    write_file(path.with_suffix(".json"), (model.card.to_json(indent=1) + "\n").encode())


def versions() -> dict[str, str]:
    """Return the versions of the software that made a model, for its card."""
    import torchvision

    return {"galmorph": galmorph.__version__, "torch": torch.__version__, "torchvision": torchvision.__version__}
