"""Class folders: a folder of pictures or FITS cutouts that is named for a class, or one folder of such folders.

``spirals/*.jpg`` beside ``ellipticals/*.jpg``, each given by its own ``--data``, or ``own/spiral/*.jpg`` and
``own/elliptical/*.jpg`` as ``own``. The names are read as a column of labels is. Pictures are taken whole, and by
default count as wide as the frame of a model (5.12 R90). Files of other kinds, and pictures
that cannot be read, are left out.
"""

from __future__ import annotations

import hashlib
import os
from functools import partial
from pathlib import Path
from shlex import quote

import numpy as np
from numpy.typing import NDArray

from galmorph.classification.sources import Row
from galmorph.errors import SampleError
from galmorph.images.framing import Framing
from galmorph.schemas import LabelSchema
from galmorph.training.samples import Layout, Sample, content_hash, galaxy_keys, with_bounds
from galmorph.training.samples._classes import class_numbers, majorities
from galmorph.training.samples._pictures import FRAMING as COMPOSED
from galmorph.training.samples._pictures import apparent, content, is_image, is_picture, picture

# The frame of the default model: pictures are taken whole.
WHOLE = Framing(radii=5.12)
_SPLIT_NAMES = ("train", "training", "val", "valid", "validation", "test", "testing")


def class_files(path: Path) -> dict[str, list[Path]]:
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
    if deeper and all(folder.name.lower() in _SPLIT_NAMES for folder in deeper):
        names, options = (
            ", ".join(folder.name for folder in deeper),
            " ".join(f"--data {quote(str(f))}" for f in deeper),
        )
        raise SampleError(f"{path} is divided into {names} already, and galmorph divides by itself: give {options}.")
    if deeper:
        raise SampleError(f"{deeper[0]} holds folders of pictures: a folder of a class holds its pictures itself.")
    return {path.resolve().name: own} if own else classes


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
    return tuple(class_files(path))


def read(path: Path, schema: LabelSchema) -> Sample:
    """Read class folders.

    Raises
    ------
    SampleError
        If a folder's name is no label of the schema, or no file can be read.
    """
    classes = class_files(path)
    names = np.array([name for name, files in classes.items() for _ in files], dtype=object)
    files = [file for several in classes.values() for file in several]
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
    rows, good, contents, skipped = [], [], [], []
    whole = hashlib.sha256("\n".join(names).encode())
    for number, file in enumerate(files):
        try:
            data = content(file)
        except OSError as error:
            skipped.append(f"{file}: {error}")
            continue
        whole.update(data)
        contents.append(content_hash(data))
        rows.append(Row(file))
        good.append(number)
    if not good:
        raise SampleError(f"No file in {path} can be read; first: {skipped[0]}")
    composed = not all(is_picture(files[number]) for number in good)
    name = path.resolve().name
    identifiers = [files[number].relative_to(path).as_posix() for number in good]
    sample = Sample(
        name=name,
        galaxies=galaxy_keys(name, identifiers, {}),
        fractions=fractions[good],
        image=partial(picture, rows),
        contents=np.array(contents, dtype=np.int64),
        sha256=whole.hexdigest(),
        framing=COMPOSED if composed else WHOLE,
        lenient=True,
        skipped=tuple(skipped),
        apparent=partial(apparent, rows),
        composed=composed,
        one_class=len(classes) == 1,
    )
    return with_bounds(sample, schema, None if lower is None else lower[good])


SAMPLE = Layout(
    name="classes",
    description="folder of pictures or FITS cutouts named for their class, or a folder of such folders",
    matches=_matches,
    read=read,
    labels_of=labels_of,
)
