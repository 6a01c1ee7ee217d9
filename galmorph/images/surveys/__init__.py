"""Surveys: facts about their images that do not depend on the service, one file a survey.

Each module defines ``FACTS``. Where cutouts of a survey come from is in `galmorph.retrieval.surveys`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from galmorph import registry


@dataclass(frozen=True)
class SurveyFacts:
    """Facts about a survey's images.

    Attributes
    ----------
    pixscale : float
        Side of the native pixel, arcsec. Services send flux per native pixel at any requested scale.
    seeing : mapping from band to float
        Typical full width at half maximum of the point spread function, arcsec.
    recognises : callable
        ``recognises(cards)`` says whether an image with these header cards is one of the survey's.
    """

    name: str
    pixscale: float
    seeing: Mapping[str, float]
    recognises: Callable[[Mapping[str, Any]], bool]


@cache
def _all() -> dict[str, SurveyFacts]:
    return {name: registry.load("survey_facts", name) for name in registry.names("survey_facts")}


def survey_of(cards: Mapping[str, Any]) -> str:
    """Return the survey of an image with these header cards; ``''`` for an unknown one."""
    return next((name for name, facts in _all().items() if facts.recognises(cards)), "")


def native_pixscale(survey: str) -> float:
    """Return the side of a survey's native pixel in arcsec; NaN for an unknown survey."""
    return _all()[survey].pixscale if survey in _all() else math.nan


def typical_seeing(survey: str, band: str) -> float:
    """Return the typical seeing of a survey in a band, arcsec; NaN where it is unknown."""
    return _all()[survey].seeing.get(band, math.nan) if survey in _all() else math.nan


def survey_words(cards: Mapping[str, Any]) -> set[str]:
    """Return the words of the card ``SURVEY``, in lower case."""
    return set(re.findall("[a-z]+", str(cards.get("SURVEY", "")).lower()))
