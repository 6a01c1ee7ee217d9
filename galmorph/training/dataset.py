"""Datasets: labelled samples decoded once into a memory-mapped cache, split by galaxy, augmented in batches."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from galmorph.errors import SampleError
from galmorph.files.record import file_sha256
from galmorph.images.framing import Framing
from galmorph.models.model import TRAINED_CONTENTS, TRAINED_GALAXIES
from galmorph.schemas import LabelSchema
from galmorph.training.decoding import Pictures, decode, without_unreadable
from galmorph.training.losses import clip
from galmorph.training.reading import excluded_keys, plain, read_sample
from galmorph.training.samples import Sample, content_hash
from galmorph.training.split import Split

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """Decoded pictures with labels.

    Attributes
    ----------
    images : ndarray, uint8, shape (n, 3, side, side)
        Memory-mapped: each picture's framed square, with a margin for rotation where the picture offers one.
    fractions : Tensor, float32, shape (n, n_labels)
    galaxies : ndarray of str, shape (n,)
    contents : ndarray, int64, shape (n,)
    source : ndarray of str, shape (n,)
        The sample's name.
    sha256 : dict
        Hash of each sample, by name.
    view : float
        The framed width as a share of ``side``.
    framing : Framing
        The framed width on the sky.
    votes : Tensor, float32, shape (n,)
        How many people answered the first question; NaN where unknown.
    skipped : dict
        How many rows of each sample were left out, by name, where some were.
    samples : tuple of Sample
        The samples, in order.
    lower, upper : Tensor, float32, shape (n, n_labels), optional
        Bounds on fractions without an exact label; NaN where there is none.
    excluded : tuple of dict
        ``name``, ``sha256`` of each table of galaxies to leave out, and the number ``n`` of rows that it left out.
    """

    images: NDArray[np.uint8] | Pictures
    fractions: Tensor
    galaxies: NDArray[np.object_]
    contents: NDArray[np.int64]
    source: NDArray[np.object_]
    sha256: dict[str, str]
    view: float
    framing: Framing
    votes: Tensor
    skipped: dict[str, int]
    samples: tuple[Sample, ...] = ()
    lower: Tensor | None = None
    upper: Tensor | None = None
    excluded: tuple[Mapping[str, Any], ...] = ()

    def __len__(self) -> int:
        return len(self.fractions)

    @cached_property
    def unlabelled(self) -> NDArray[np.bool_]:
        """Which rows belong to samples without labels, shape (n,)."""
        masks = [np.full(len(sample), not sample.labelled) for sample in self.samples]
        return np.concatenate(masks) if masks else np.zeros(len(self), dtype=bool)

    @cached_property
    def scored(self) -> dict[str, NDArray[np.bool_]]:
        """The rows that are scored together, by name: each sample; but all folders of single classes as one."""
        together = [sample.name for sample in self.samples if sample.one_class]
        groups: dict[str, NDArray[np.bool_]] = {}
        for sample in self.samples:
            name = ", ".join(together) if sample.one_class else sample.name
            groups[name] = groups.get(name, np.zeros(len(self), dtype=bool)) | (self.source == sample.name)
        return groups

    def parts(self, split: Split, classes: NDArray[np.int64]) -> NDArray[np.str_]:
        """Return each galaxy's part: the one that its sample gives, else the one that a split draws.

        Where a sample is split only into training and test, the validation galaxies are drawn from its training part.

        Parameters
        ----------
        split : Split
        classes : ndarray of int64, shape (n,)
            Negative where unknown.
        """
        parts = split.parts(list(self.galaxies), classes)
        first = 0
        for sample in self.samples:
            rows = slice(first, first + len(sample))
            first += len(sample)
            if sample.parts is not None:
                validates = "val" not in sample.parts and (sample.parts == "train") & (parts[rows] == "val")
                parts[rows] = np.where(validates, "val", sample.parts)
        return parts

    def fractions_of_twins(self) -> Tensor:
        """Return the fractions, shape (n, n_labels), where only bounds are at hand those of the same galaxy elsewhere.

        Each fraction is that of the first sample that has it, moved into the bounds.
        """
        if self.lower is None or self.upper is None:
            return self.fractions
        has_any = ~self.fractions.isnan().all(dim=1).numpy() & ~self.unlabelled
        bounded = (~self.lower.isnan() | ~self.upper.isnan()).any(dim=1).numpy() & ~has_any
        by_galaxy: dict[str, Tensor] = {}
        for row in np.flatnonzero(has_any):
            earlier = by_galaxy.get(galaxy := self.galaxies[row])
            own = self.fractions[row]
            by_galaxy[galaxy] = own if earlier is None else own.where(earlier.isnan(), earlier)
        fractions = self.fractions.clone()
        for row in np.flatnonzero(bounded):
            if (of_twin := by_galaxy.get(self.galaxies[row])) is not None:
                fractions[row] = clip(of_twin, self.lower[row], self.upper[row])
        return fractions

    def batch(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return pictures, uint8 (n, 3, side, side), and fractions (n, n_labels) of some rows."""
        return torch.from_numpy(self.images[rows]), self.fractions[torch.from_numpy(rows)]

    def apparent(self, row: int) -> tuple[float, float]:
        """Return R90 in arcsec and the signal to noise of a galaxy, NaN where its sample has none."""
        for sample in self.samples:
            if row < len(sample):
                return (math.nan, math.nan) if sample.apparent is None else sample.apparent(row)
            row -= len(sample)
        return math.nan, math.nan


def load(
    paths: Sequence[str | Path],
    schema: LabelSchema,
    input_size: int,
    radii: float,
    *,
    unlabelled: Sequence[str | Path] = (),
    exclude: Sequence[str | Path] = (),
) -> Dataset:
    """Read, join and decode samples.

    Parameters
    ----------
    paths : sequence of str or Path
        As for :func:`galmorph.training.reading.read_sample`.
    input_size : int
        Side of the network's input; the framed part of a picture is stored at about this size.
    radii : float
        Framed full width in radii, for pictures that are framed by size; others are taken whole, and so are all
        for a model framed by angle (0). The smallest width of the samples is kept: wider pictures are cropped.
    unlabelled : sequence of str or Path
        Samples whose labels are not used.
    exclude : sequence of str or Path
        Tables of galaxies that are left out of all samples (:func:`galmorph.training.reading.excluded_keys`).

    Raises
    ------
    SampleError
        If a sample cannot be used or a picture cannot be decoded.
    """
    listed = {str(path): excluded_keys(path) for path in exclude}
    samples = [read_sample(path, schema) for path in paths]
    samples += [read_sample(path, schema, labelled=False) for path in unlabelled]
    samples = _joined_by_picture(samples)
    _check_names(samples, [plain(path).resolve() for path in (*paths, *unlabelled)])
    width, framing = _common_framing(samples, radii)
    view = framing.radii / width if framing.radii else 1.0
    # An even margin, so that the plain view is a crop of whole pixels.
    side = input_size + 2 * round(input_size * (1 / view - 1) / 2)
    view = input_size / side
    images = [decode(sample, side, width) for sample in samples]
    samples = [without_unreadable(sample, side, width) for sample in samples]
    samples, chosen, excluded = _without_excluded(samples, listed)
    votes = [np.full(len(s), np.nan, np.float32) if s.votes is None else s.votes for s in samples]
    return Dataset(
        images=Pictures(tuple(zip(images, chosen, strict=True))),
        fractions=torch.from_numpy(np.concatenate([sample.fractions for sample in samples])),
        galaxies=np.concatenate([sample.galaxies for sample in samples]),
        contents=np.concatenate([sample.contents for sample in samples]),
        source=np.concatenate([np.full(len(sample), sample.name, dtype=object) for sample in samples]),
        sha256={sample.name: sample.sha256 for sample in samples},
        view=view,
        framing=framing,
        votes=torch.from_numpy(np.concatenate(votes)),
        skipped={sample.name: len(sample.skipped) for sample in samples if sample.skipped},
        samples=tuple(samples),
        lower=_joined(samples, "lower"),
        upper=_joined(samples, "upper"),
        excluded=excluded,
    )


def _joined_by_picture(samples: Sequence[Sample]) -> list[Sample]:
    """Return samples in which a picture has the key that the same bytes have in an earlier sample."""
    first: dict[int, str] = {}
    joined = []
    for sample in samples:
        keys = sample.galaxies.copy()
        for row, content in enumerate(sample.contents.tolist()):
            keys[row] = first.setdefault(content, keys[row])
        joined.append(dataclasses.replace(sample, galaxies=keys))
    return joined


def _check_names(samples: Sequence[Sample], paths: Sequence[Path]) -> None:
    """Raise SampleError if two files or folders have the same name: their galaxies would get the same keys."""
    first: dict[str, Path] = {}
    for sample, path in zip(samples, paths, strict=True):
        if (other := first.setdefault(sample.name, path)) != path:
            raise SampleError(f"{other} and {path} are both samples named {sample.name!r}: rename one of them.")


def _common_framing(samples: Sequence[Sample], radii: float) -> tuple[float, Framing]:
    """Return the width in radii at which pictures are stored (0: whole) and the framed one.

    An unlabelled sample does not reduce the margin of the others: its pictures are mirrored at their edges.
    """
    framings = {sample.framing for sample in samples}
    if all(framing.radii for framing in framings):
        width = min(sample.framing.radii for sample in samples if sample.labelled)
        narrowest = min(framing.radii for framing in framings)
        return width, Framing(radii=min(radii or narrowest, narrowest))
    if len(framings) > 1:
        raise SampleError("Samples whose pictures are framed differently (by radius, by angle) cannot be joined.")
    return 0.0, samples[0].framing


def _joined(samples: Sequence[Sample], name: str) -> Tensor | None:
    """Return a bound of all rows, None where no sample has bounds."""
    if all(getattr(sample, name) is None for sample in samples):
        return None
    bounds = [np.full_like(s.fractions, np.nan) if getattr(s, name) is None else getattr(s, name) for s in samples]
    return torch.from_numpy(np.concatenate(bounds))


def _without_excluded(
    samples: Sequence[Sample], listed: Mapping[str, set[str]]
) -> tuple[list[Sample], list[NDArray[np.int64]], tuple[Mapping[str, Any], ...]]:
    """Return samples without the listed galaxies, the rows that were kept of each, and the entries of the card."""
    twins = {own: key for sample in samples for own, key in sample.twins.items()}
    shared = {path: {twins.get(key, key) for key in keys} for path, keys in listed.items()}
    every = set().union(*shared.values())
    kept = [np.flatnonzero([galaxy not in every for galaxy in sample.galaxies]) for sample in samples]
    left_out = []
    for path, keys in shared.items():
        n = sum(galaxy in keys for sample in samples for galaxy in sample.galaxies)
        if not n:
            log.warning("%s lists no galaxy of these samples: nothing is left out.", path)
        left_out.append({"name": Path(path).name, "sha256": file_sha256(Path(path)), "n": n})
    return [sample.take(rows) for sample, rows in zip(samples, kept, strict=True)], kept, tuple(left_out)


def n_seen(trained: Mapping[str, Tensor], galaxies: NDArray[np.object_], contents: NDArray[np.int64]) -> int:
    """Return how many galaxies were in the training data, by the hashes of keys and pictures in the model's file."""
    own = {TRAINED_GALAXIES: galaxy_hashes(galaxies), TRAINED_CONTENTS: contents}
    seen = [np.isin(hashes, trained[name].numpy()) for name, hashes in own.items() if name in trained]
    return int(np.any(seen, axis=0).sum())


def galaxy_hashes(galaxies: Iterable[str]) -> NDArray[np.int64]:
    """Return a 64-bit hash of each galaxy's key."""
    return np.array([content_hash(galaxy.encode()) for galaxy in galaxies], dtype=np.int64)
