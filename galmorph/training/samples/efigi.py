"""EFIGI: a folder of pictures with ``labels.csv`` that has EFIGI's columns, the attributes with their bounds.

The pictures are scaled to the isophotal diameter, so the galaxy fills them. They are about 3.5 galaxy radii (R90) wide,
by the radius of 80 % of the light compared with the Galaxy Zoo challenge (3.8 if the edge of the picture were sky).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from galmorph.images.framing import Framing
from galmorph.training.samples import Layout
from galmorph.training.samples.labelled import LABELS, read

FRAMING = Framing(radii=3.5)


def _matches(path: Path) -> bool:
    if not (path / LABELS).is_file():
        return False
    with (path / LABELS).open() as stream:
        return {"PGC_name", "Bulge_to_Total"} <= set(stream.readline().strip().split(","))


SAMPLE = Layout(
    name="efigi",
    description=f"EFIGI: folder with {LABELS} (columns PGC_name, Bulge_to_Total, ...) and pictures",
    matches=_matches,
    read=partial(read, framing=FRAMING),
    before=("labelled", "classes"),
    labels_of=lambda _, **__: "efigi",
)
