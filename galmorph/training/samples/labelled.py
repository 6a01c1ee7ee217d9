"""A folder of pictures with ``labels.csv``: a column ``file`` and columns of labels.

Label columns are named as :meth:`galmorph.schemas.LabelSchema.from_columns` says; what a row does not tell is unknown.
Pictures in the look of Galaxy Zoo DECaLS are framed like Kaggle's (8.48 radii wide), which is taken for all.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from galmorph.errors import SampleError
from galmorph.images.framing import Framing
from galmorph.schemas import LabelSchema
from galmorph.training.samples import TOTAL_VOTES, Layout, Sample, picture_folder

LABELS = "labels.csv"
FRAMING = Framing(radii=8.48)


def read(path: Path, schema: LabelSchema, framing: Framing = FRAMING) -> Sample:
    """Read a folder with ``labels.csv``.

    Parameters
    ----------
    path : Path
    schema : LabelSchema
    framing : Framing
        Of the pictures.

    Raises
    ------
    SampleError
        If the table has no column ``file`` or none of the schema's, or pictures are missing.
    """
    import pandas as pd

    table = pd.read_csv(path / LABELS)
    if "file" not in table.columns:
        raise SampleError(f"{path / LABELS} has no column 'file' that names the pictures.")
    numbers = table.select_dtypes("number")
    sample = picture_folder(
        path,
        path / LABELS,
        "file",
        table["file"],
        [path / name for name in table["file"]],
        schema.from_columns({name: numbers[name].to_numpy(float) for name in numbers.columns}),
        framing,
    )
    total = next((numbers[name].to_numpy(np.float32) for name in TOTAL_VOTES if name in numbers), None)
    return dataclasses.replace(sample, votes=total)


SAMPLE = Layout(
    name="labelled",
    description=f"folder with {LABELS} (columns 'file' and labels) and pictures",
    matches=lambda path: (path / LABELS).is_file(),
    read=read,
)
