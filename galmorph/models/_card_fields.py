"""The form of a card: types and ranges of all that is relied on, checked where a card is read."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from galmorph.errors import ModelError
from galmorph.files.checked_json import read_json
from galmorph.schemas import LabelSchema

WHERE = "The model's card"
Share = Annotated[float, Field(ge=0, le=1)]
# Beyond these a division overflows or gives nothing but 0.
Factor = Annotated[float, Field(gt=1e-6, lt=1e6)]


@dataclass
class _Spread:
    concentration: list[Annotated[float, Field(ge=0)]]


@dataclass
class _Conformal:
    # One for each number of orientations averaged.
    thresholds: Annotated[list[Share], Field(min_length=8, max_length=8)]
    level: Share


@dataclass
class _Unlikeness:
    threshold: Annotated[float, Field(ge=0)]
    quantile: Share


# A value that may be left out, but is not null where it is given.
_ABSENT: Any = None


@dataclass
class _Calibration:
    temperature: list[Factor] = _ABSENT
    spread: _Spread = _ABSENT
    conformal: _Conformal = _ABSENT
    unlikeness: _Unlikeness = _ABSENT
    method: str = ""


@dataclass
class _Named:
    name: str
    sha256: str


@dataclass
class _Ancestor(_Named):
    trained_on: list[_Named] = field(default_factory=list)
    excluded: list[_Named] | None = None


@dataclass
class _Training:
    ancestors: list[_Ancestor] = field(default_factory=list)
    excluded: list[_Named] = field(default_factory=list)


@dataclass
class _Split:
    seed: int
    val: Share
    test: Share
    edges: list[tuple[Share, Share]] = field(default_factory=list)


@dataclass
class _Noted:
    """The mappings of a card, in which further keys are notes."""

    calibration: _Calibration = field(default_factory=_Calibration)
    training: _Training = field(default_factory=_Training)
    trained_on: list[_Named] = field(default_factory=list)
    split: _Split | None = None
    metrics: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, allow_inf_nan=False, extra="ignore")


def check_notes(document: dict[str, Any], schema: LabelSchema) -> None:
    """Raise ModelError if the mappings of a card do not hold what is relied on, or are not those of its schema."""
    wanted = _Noted.__dataclass_fields__.keys() & document.keys()
    relied_on = {key: document[key] for key in wanted if document[key] != {}}
    noted = read_json(_Noted, json.dumps(relied_on), WHERE, ModelError)
    calibration, n = noted.calibration, len(schema.questions)
    each: dict[str, list[float] | None] = {"temperature": calibration.temperature}
    each["spread.concentration"] = calibration.spread.concentration if calibration.spread else None
    for name, values in each.items():
        if values is not None and len(values) != n:
            raise ModelError(
                f"The model's card is damaged: calibration.{name} has {len(values)} numbers, not one for each of the "
                f"{n} questions of {schema.name}."
            )
