"""The Sloan Digital Sky Survey: https://www.sdss4.org/dr17/imaging/."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from galmorph.images.surveys import SurveyFacts, survey_words


def _recognises(cards: Mapping[str, Any]) -> bool:
    frame = "RUN" in cards and "CAMCOL" in cards
    telescope = "NMGY" in cards or cards.get("ORIGIN") == "SDSS" or cards.get("TELESCOP") == "2.5m"
    return "sdss" in survey_words(cards) or (frame and telescope)


FACTS = SurveyFacts(
    name="sdss",
    pixscale=0.396,
    # Medians of the imaging: https://www.sdss4.org/dr17/imaging/other_info/
    seeing={"u": 1.53, "g": 1.44, "r": 1.32, "i": 1.26, "z": 1.29},
    recognises=_recognises,
)
