"""The model's card: what you need to know to use a model, as canonical JSON inside its weights file.

Reading cards needs no torch: the header of a safetensors file is enough.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from galmorph import registry
from galmorph.errors import GalmorphError, ModelError
from galmorph.files.record import file_sha256
from galmorph.images.framing import Framing
from galmorph.images.inputs import ImageInput
from galmorph.images.normalization import Normalization
from galmorph.schemas import LabelSchema, schema_from_mapping

# Format of a card that names a schema of galmorph, and of one that holds the schema itself; older versions read 1 only.
FORMAT, FORMAT_WITH_SCHEMA = 1, 2
KEY = "galmorph"  # one metadata key only: the order of several would differ from run to run
SUFFIX = ".safetensors"
# The fields of a card that people write; training fills the others.
TEXTS = ("description", "intended_use", "limits", "licence")
# Pixel scales (arcsec) that a model of resolved galaxies takes; beyond them the framing resamples too far.
PIXSCALE_RANGE = (0.02, 2.0)
_MAX_HEADER_BYTES = 100_000_000  # the format's own bound


@dataclass(frozen=True)
class ModelCard:
    """What a model is, what it takes and returns, and how good it is.

    Attributes
    ----------
    name, description, intended_use, limits, licence : str
    backbone, schema : str
        Names of the backbone and of the label schema.
    schema_definition : dict
        The schema itself, where it is none of galmorph's own (:meth:`galmorph.schemas.LabelSchema.to_mapping`).
    inputs : tuple of ImageInput
    trained_on : tuple of dict
        ``name``, ``sha256`` and ``n`` of each sample, and ``n_train``, how many galaxies were in the training part.
    split : dict
        ``method``, ``seed``, ``val``, ``test``: a pure function of galaxy and seed.
    training : dict
        Recipe and every option of the run.
    metrics : dict
        Scores by part and sample, with the intervals and the command's settings.
    calibration : dict
        What was fitted after training, on the validation part; empty: nothing. ``temperature``: one number a question.
        ``spread``: one ``concentration`` a question, of vote fractions around the expected ones.
        ``conformal``: ``level`` and ``thresholds``, one for each number of orientations averaged, of the sets of
        classes. ``unlikeness``: ``quantile`` and ``threshold`` of the distance to the training part.
    versions : dict
        Versions of galmorph, torch and torchvision that trained it.
    learnt : tuple of str
        The labels that at least one training galaxy had; empty: not stated, all of them.
    format : int
        Version of this layout.
    """

    name: str
    backbone: str
    schema: str
    inputs: tuple[ImageInput, ...]
    description: str = ""
    intended_use: str = ""
    limits: str = ""
    licence: str = "BSD-3-Clause"
    trained_on: tuple[Mapping[str, Any], ...] = ()
    split: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    learnt: tuple[str, ...] = ()
    format: int = FORMAT
    schema_definition: Mapping[str, Any] = field(default_factory=dict)
    # Of pydantic, which reads cards: no value is taken for one of another type.
    __pydantic_config__: ClassVar[dict[str, Any]] = {"strict": True, "allow_inf_nan": False, "extra": "forbid"}

    @cached_property
    def label_schema(self) -> LabelSchema:
        """The schema itself.

        Raises
        ------
        ModelError
            If the card's own schema is damaged.
        """
        if not self.schema_definition:
            return registry.load("schemas", self.schema)
        try:
            return schema_from_mapping(self.schema_definition, f"the card of the model {self.name}")
        except GalmorphError as error:
            raise ModelError(f"The model's card is damaged: {error}") from error

    @property
    def unlearnt(self) -> list[int]:
        """Indices of the labels that no training galaxy had: the model cannot predict them."""
        labels = self.label_schema.labels
        return [index for index, label in enumerate(labels) if self.learnt and label not in self.learnt]

    @property
    def input_size(self) -> int:
        """Side of the network's input in pixels."""
        return self.inputs[0].normalization.input_size

    def set_threshold(self, tta: int = 1) -> float | None:
        """Return the probability from which on a class is in the conformal set, None where the model has no sets."""
        thresholds = self.calibration.get("conformal", {}).get("thresholds")
        return thresholds[tta - 1] if thresholds else None

    @property
    def concentration(self) -> list[float] | None:
        """Concentration of each question's vote fractions (:mod:`galmorph.models.vote_spread`); None: unknown."""
        return self.calibration.get("spread", {}).get("concentration")

    @property
    def unlikeness_threshold(self) -> float | None:
        """The distance to the training part above which a galaxy is flagged, None where the model has none."""
        return self.calibration.get("unlikeness", {}).get("threshold")

    def input_for(self, survey: str, bands: tuple[str, ...], pixscale: float) -> ImageInput | None:
        """Return the first input that matches a cutout, or None."""
        return next((i for i in self.inputs if i.matches(survey, bands, pixscale)), None)

    def refusal(self, survey: str, bands: tuple[str, ...], pixscale: float) -> tuple[bool, str]:
        """Return whether an image that no input matches only lacks a band, and the reason as text."""
        takes = "; ".join(
            f"{i.survey or 'unnamed survey'} {''.join(i.bands)} at {low}..{high} arcsec/px"
            for i in self.inputs
            for low, high in [i.pixscale_range]
        )
        reason = (
            f"the model {self.name} takes {takes}; this is {survey or 'an unnamed survey'} {''.join(bands)} at "
            f"{pixscale:.3f} arcsec/px."
        )
        same_survey = [i for i in self.inputs if i.survey == survey]
        return bool(same_survey) and not any(set(i.bands) <= set(bands) for i in same_survey), reason

    def to_json(self, indent: int | None = None) -> str:
        """Return the card as canonical JSON: sorted keys, no NaN."""
        separators = (",", ":") if indent is None else None
        values = dataclasses.asdict(self)
        if self.schema_definition:
            values["format"] = max(self.format, FORMAT_WITH_SCHEMA)
        else:
            del values["schema_definition"]
        if not self.learnt:
            del values["learnt"]
        return json.dumps(values, sort_keys=True, separators=separators, indent=indent, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Read a card.

        Raises
        ------
        ModelError
            If it is damaged or of a format newer than this version of galmorph knows.
        """
        # pydantic takes time to import.
        from galmorph.files.checked_json import read_json
        from galmorph.models._card_fields import WHERE, check_notes

        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"The model's card is damaged: {error}.") from error
        newer = document.get("format") if isinstance(document, dict) else None
        if isinstance(newer, int) and newer > FORMAT_WITH_SCHEMA:
            raise ModelError(
                f"The model's card has format {newer}, this galmorph knows up to {FORMAT_WITH_SCHEMA}: "
                "upgrade with pip install -U galmorph-survey."
            )
        card = read_json(cls, text, WHERE, ModelError)
        if not card.inputs:
            raise ModelError("The model's card names no inputs.")
        check_notes(document, card.label_schema)
        try:
            card.to_json()
        except ValueError as error:  # a number in a note
            raise ModelError(f"The model's card is damaged: {error}.") from error
        return card


def survey_inputs(
    input_size: int, framing: Framing, mean: tuple[float, ...], std: tuple[float, ...]
) -> tuple[ImageInput, ...]:
    """Return the inputs of a model trained on pictures of SDSS and of Galaxy Zoo DECaLS.

    Cutouts of the Legacy Surveys become Galaxy Zoo DECaLS's picture (scales of zooniverse/decals, for nanomaggies per
    0.262 arcsec pixel); SDSS g, r, i the viewer's composite (legacysurvey/imagine, ``sdss`` layer, per 0.396 arcsec
    pixel); SDSS g, r, z, of which no published pictures exist, the picture of Galaxy Zoo DECaLS.
    """
    zoo = Normalization(
        kind="galaxyzoo_decals",
        bands=("z", "r", "g"),
        scales=(0.019, 0.014, 0.008),
        flux_pixscale=0.262,
        framing=framing,
        input_size=input_size,
        mean=mean,
        std=std,
    )
    viewer = dataclasses.replace(
        zoo, kind="lupton", bands=("i", "r", "g"), scales=(1.0, 1.5, 2.5), flux_pixscale=0.396, offset=0.02
    )
    return (
        ImageInput("decals", ("g", "r", "z"), PIXSCALE_RANGE, zoo),
        ImageInput("sdss", ("g", "r", "i"), PIXSCALE_RANGE, viewer),
        ImageInput("sdss", ("g", "r", "z"), PIXSCALE_RANGE, zoo),
        ImageInput("", ("g", "r", "z"), PIXSCALE_RANGE, zoo),
        ImageInput("", ("g", "r", "i"), PIXSCALE_RANGE, viewer),
    )


def read_about(path: Path) -> dict[str, str]:
    """Read the texts of a card from a JSON file.

    Raises
    ------
    ModelError
        If it cannot be read or holds something else.
    """
    from galmorph.files.checked_json import read_json_file

    texts = read_json_file(dict[str, str], path, ModelError)
    if not set(texts) <= set(TEXTS):
        raise ModelError(f"{path} may hold the texts {', '.join(TEXTS)}.")
    return texts


def read_card(path: Path) -> ModelCard:
    """Read the card in a weights file without reading its weights.

    Raises
    ------
    ModelError
        If the file is missing, damaged or holds no card.
    """
    try:
        with path.open("rb") as stream:
            prefix = stream.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
            if not 2 <= length <= min(_MAX_HEADER_BYTES, path.stat().st_size):
                raise ModelError(f"{path} is not a safetensors file, or it is cut short: get it again.")
            header = json.loads(stream.read(length))
        text = header.get("__metadata__", {}).get(KEY)
    except FileNotFoundError as error:
        raise ModelError(f"There is no model file {path}.") from error
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read as a safetensors file: {error}.") from error
    if not isinstance(text, str):
        raise ModelError(f"{path} holds weights but no galmorph card: train or convert it with galmorph train.")
    return ModelCard.from_json(text)


# Which model is meant where none is named.
DEFAULT_MODEL = "galaxyzoo2-mobilenet_v2"


def folders() -> tuple[Path, ...]:
    """Return the folders where shipped models may be: in the installed package, then in the checkout."""
    package = Path(__file__).parents[1]
    return (package / "weights", package.parent / "weights")


def shipped() -> dict[str, Path]:
    """Return the shipped models by name."""
    models: dict[str, Path] = {}
    for folder in folders():
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            models.setdefault(path.name.removesuffix(SUFFIX), path)
    return models


def find(name: str | Path) -> Path:
    """Return the weights file of a shipped model's name, or of a path.

    Raises
    ------
    ModelError
        If there is neither such a model nor such a file; the message lists the models and the closest name.
    """
    models = shipped()
    if str(name) in models:
        return models[str(name)]
    path = Path(name)
    if path.is_dir() and (path / f"model{SUFFIX}").is_file():  # a folder that galmorph train wrote
        return path / f"model{SUFFIX}"
    if path.is_file():
        return path
    if path.suffix == SUFFIX or path.name != str(name):
        raise ModelError(f"{registry.missing_file(path)} Shipped models: {', '.join(sorted(models)) or 'none'}.")
    raise ModelError(registry.unknown("model", str(name), models))


def describe(path: Path) -> dict[str, Any]:
    """Return a model's line in a list: name, schema, backbone, file, hash, size and main scores."""
    card = read_card(path)
    tested = card.metrics.get("test", {})
    scores = {
        f"{sample} {name}": values[name]
        for sample, values in tested.items()
        for name in ("rmse", "accuracy")
        if name in values
    }
    return {
        "name": card.name,
        "schema": card.schema,
        "backbone": card.backbone,
        "file": str(path),
        "sha256": file_sha256(path),
        "bytes": path.stat().st_size,
        "scores": scores,
    }
