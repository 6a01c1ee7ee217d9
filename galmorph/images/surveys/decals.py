"""The DESI Legacy Imaging Surveys (DECaLS, BASS, MzLS): https://www.legacysurvey.org."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from galmorph.images.surveys import SurveyFacts, survey_words

_NAMES = frozenset({"legacysurvey", "legacysurveys", "legacy", "decals", "bass", "mzls"})
_BESIDE = frozenset({"desi", "imaging", "survey", "surveys", "dr", "north", "south"})


def _recognises(cards: Mapping[str, Any]) -> bool:
    words = survey_words(cards)
    return bool(words & _NAMES) and words <= _NAMES | _BESIDE


FACTS = SurveyFacts(
    name="decals",
    pixscale=0.262,
    # Median of the DECam images, Dey et al. 2019 (AJ 157, 168), table 3.
    seeing={"g": 1.29, "r": 1.18, "z": 1.11},
    recognises=_recognises,
)
