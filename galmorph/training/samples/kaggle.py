"""The layout of Kaggle's "Galaxy Zoo - The Galaxy Challenge".

``images_training_rev1/<GalaxyID>.jpg`` and ``training_solutions_rev1.csv``. Empty cells are unknown answers. The
pictures span 8.48 x petroR90_r: 424 px of 0.02 petroR90_r (Dieleman et al. 2015, MNRAS 450, 1441, section 3).
"""

from __future__ import annotations

from pathlib import Path

from galmorph.classification.reading.rows import Row
from galmorph.errors import SampleError
from galmorph.images.framing import Framing
from galmorph.schemas import LabelSchema
from galmorph.training.samples import Layout, Sample
from galmorph.training.samples._pictures import picture_folder

LABELS = "training_solutions_rev1.csv"
IMAGES = "images_training_rev1"
FRAMING = Framing(radii=8.48)


def read(path: Path, schema: LabelSchema) -> Sample:
    """Read a folder in Kaggle's layout.

    Raises
    ------
    SampleError
        If labels are missing or damaged, pictures are missing, or the schema is another one.
    """
    import pandas as pd

    table = pd.read_csv(path / LABELS, dtype={"GalaxyID": str})
    if "GalaxyID" not in table.columns:
        raise SampleError(f"{path / LABELS} has no column GalaxyID.")
    identifiers = table.pop("GalaxyID")
    return picture_folder(
        path,
        path / LABELS,
        "GalaxyID",
        identifiers,
        [Row(path / IMAGES / f"{galaxy}.jpg") for galaxy in identifiers],
        schema.from_columns({name: table[name].to_numpy(float) for name in table.columns}),
        FRAMING,
    )


SAMPLE = Layout(
    name="kaggle",
    description=f"folder with {LABELS} and {IMAGES}/<GalaxyID>.jpg",
    matches=lambda path: (path / LABELS).is_file(),
    read=read,
    before=("labelled", "classes"),
    labels_of=lambda _, **__: "galaxyzoo2",
)
