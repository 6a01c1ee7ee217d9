"""Class folders: a folder of pictures or FITS cutouts that is named for a class, or one folder of such folders.

``spirals/*.jpg`` beside ``ellipticals/*.jpg``, each given by its own ``--data``, or ``own/spiral/*.jpg`` and
``own/elliptical/*.jpg`` as ``own``. The names are read as a column of labels is. Pictures are taken whole, and by
default count as wide as the frame of a model (5.12 R90). Files of other kinds, and pictures
that cannot be read, are left out. Folders ``train``, ``val`` and ``test`` of such folders are the parts of the split.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from galmorph.classification.reading.rows import Row
from galmorph.errors import SampleError
from galmorph.images.framing import Framing
from galmorph.schemas import LabelSchema
from galmorph.training.samples import Layout, Sample, galaxy_keys, with_bounds
from galmorph.training.samples._classes import class_numbers, majorities
from galmorph.training.samples._pictures import FRAMING as COMPOSED
from galmorph.training.samples._pictures import is_image, read_rows

# The frame of the default model: pictures are taken whole.
WHOLE = Framing(radii=5.12)
# The parts of a split, by the names that their folders have.
_PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


class ClassFile(NamedTuple):
    """A file, its class, and the part of the split that it is given to ('': none)."""

    name: str
    path: Path
    part: str = ""


def class_files(path: Path) -> list[ClassFile]:
    """Return the files of each class.

    Raises
    ------
    SampleError
        If it is not clear which folders are classes.
    """
    own, folders = _images(path), _folders(path)
    classes = {folder.name: files for folder in folders if (files := _images(folder))}
    if own and classes:
        raise SampleError(
            f"{path} holds pictures itself ({own[0].name}) and folders of them ({next(iter(classes))}): move them into "
            "a folder that is named for their class."
        )
    deeper = [folder for folder in folders if folder.name not in classes and any(map(_images, _folders(folder)))]
    if deeper and not classes and all(folder.name.lower() in _PARTS for folder in deeper):
        return [file._replace(part=_PARTS[folder.name.lower()]) for folder in deeper for file in class_files(folder)]
    if deeper:
        raise SampleError(
            f"{deeper[0]} holds folders of pictures: a folder of a class holds its pictures itself. Only folders named "
            "train, val and test may hold those of the classes."
        )
    classes = {path.resolve().name: own} if own else classes
    return [ClassFile(name, file) for name, files in classes.items() for file in files]


def _images(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(folder / entry.name for entry in entries if is_image(entry.name) and entry.is_file())


def _folders(path: Path) -> list[Path]:
    with os.scandir(path) as entries:
        return sorted(path / entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _matches(path: Path) -> bool:
    return path.is_dir() and bool(class_files(path))


def labels_of(path: Path, **_: str) -> tuple[str, ...]:
    """Return the names of the classes."""
    return tuple(dict.fromkeys(file.name for file in class_files(path)))


def read(path: Path, schema: LabelSchema) -> Sample:
    """Read class folders.

    Raises
    ------
    SampleError
        If a folder's name is not a label of the schema, or no file can be read.
    """
    files = class_files(path)
    names = np.array([file.name for file in files], dtype=object)
    fractions = np.full((len(files), len(schema.labels)), np.nan, np.float32)
    lower: NDArray[np.float32] | None = None
    wrong: dict[int, str] = {}
    if schema.learns and schema.has_classes:
        numbers, wrong = class_numbers(names, schema)
        fractions = schema.from_classes(numbers)
    elif schema.learns:
        lower, wrong = majorities(names, schema)
    if wrong:
        reason = next(iter(wrong.values()))
        raise SampleError(
            f"{path}: the folder {reason} Name folders of pictures after their labels, or write a labels.csv."
        )
    whole = hashlib.sha256("\n".join(names).encode())
    read = read_rows([Row(file.path) for file in files], whole.update)
    if not read.rows:
        raise SampleError(f"No file in {path} can be read; first: {read.skipped[0]}")
    name = path.resolve().name
    parts = np.array([file.part for file in files], dtype=object)[read.numbers]
    if divided := bool(parts[0]):
        whole.update("\n".join(parts).encode())
    sample = read.sample(
        name,
        galaxy_keys(name, [file.path.relative_to(path).as_posix() for file in files], {}),
        fractions,
        whole.hexdigest(),
        COMPOSED if read.composed else WHOLE,
        one_class=len(set(names)) == 1,
        parts=parts if divided else None,
    )
    return with_bounds(sample, schema, None if lower is None else lower[read.numbers])


SAMPLE = Layout(
    name="classes",
    description="folder of pictures or FITS cutouts named for their class, a folder of such folders, or train, val and "
    "test with such folders in them",
    matches=_matches,
    read=read,
    labels_of=labels_of,
)
