"""Named cuts: published thresholds on vote fractions, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_TABLE_3 = "Willett et al. 2013, MNRAS 435, 2835, table 3 (for 20 votes or more)"
_DISK = "share_smooth_or_featured_featured_or_disk >= 0.430"
_FACE_ON = f"{_DISK} and share_disk_edge_on_no >= 0.715"
_SPIRAL = f"{_FACE_ON} and share_has_spiral_arms_yes >= 0.619"


@dataclass(frozen=True)
class Cut:
    """A named cut.

    Attributes
    ----------
    schema : str
        The schema of its labels.
    condition : str
        As an expression of `galmorph.selection.expression`.
    meaning, source : str
    """

    schema: str
    condition: str
    meaning: str
    source: str = _TABLE_3


def _answers(question: str, condition: str) -> Cut:
    return Cut("galaxyzoo2", condition, f"galaxies whose answers to {question} count: enough people were asked it")


CUTS: Mapping[str, Cut] = {
    "gz2_disk_edge_on": _answers("disk_edge_on", _DISK),
    "gz2_bar": _answers("bar", _FACE_ON),
    "gz2_has_spiral_arms": _answers("has_spiral_arms", _FACE_ON),
    "gz2_bulge_size": _answers("bulge_size", _FACE_ON),
    "gz2_how_rounded": _answers("how_rounded", "share_smooth_or_featured_smooth >= 0.469"),
    "gz2_odd_feature": _answers("odd_feature", "share_something_odd_yes >= 0.420"),
    "gz2_bulge_shape": _answers("bulge_shape", f"{_DISK} and share_disk_edge_on_yes >= 0.602"),
    "gz2_spiral_winding": _answers("spiral_winding", _SPIRAL),
    "gz2_spiral_arm_count": _answers("spiral_arm_count", _SPIRAL),
}
