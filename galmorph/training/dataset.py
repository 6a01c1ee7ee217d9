"""Datasets: labelled samples decoded once into a memory-mapped cache, split by galaxy, augmented in batches."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from galmorph.errors import SampleError
from galmorph.images.framing import Framing
from galmorph.models.card import file_sha256
from galmorph.schemas import LabelSchema
from galmorph.training.decoding import Pictures, decode, without_unreadable
from galmorph.training.reading import excluded_keys, read_sample
from galmorph.training.samples import Sample, content_hash

log = logging.getLogger(__name__)

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """Which part a galaxy belongs to: a pure function of its key and the seed, and of its class where that is wanted.

    A galaxy's draw is a number in 0..1 from the SHA-256 of ``seed:galaxy``; the lowest draws are the test part, the
    next the validation part. Where classes are rare, draws leave some out of a part by chance; :meth:`fitted` sets
    edges between the parts for each class so that every part has its share of it.

    Attributes
    ----------
    seed : int
    val, test : float
        Shares of the galaxies.
    by_class : bool
        Whether each class has its own edges.
    edges : tuple of (float, float)
        For each class the draws below which a galaxy is in the test part and in one of the two held-out parts; empty
        until fitted.
    """

    seed: int = 0
    val: float = 0.08
    test: float = 0.12
    by_class: bool = False
    edges: tuple[tuple[float, float], ...] = ()

    def parts(self, galaxies: Sequence[str], classes: NDArray[np.int64] | None = None) -> NDArray[np.str_]:
        """Return ``train``, ``val`` or ``test`` for each galaxy's key.

        Parameters
        ----------
        galaxies : sequence of str, length n
        classes : ndarray of int64, shape (n,), optional
            Each galaxy's class, negative where unknown; needed where the split has edges by class.
        """
        draws = self._draws(galaxies)
        edges = np.full((len(draws), 2), (self.test, self.test + self.val))
        if self.edges and classes is not None:
            common = _common_classes(galaxies, classes)
            edges[common >= 0] = np.array(self.edges)[common[common >= 0]]
        return np.where(draws < edges[:, 0], "test", np.where(draws < edges[:, 1], "val", "train"))

    def fitted(self, galaxies: Sequence[str], classes: NDArray[np.int64], n_classes: int) -> Split:
        """Return the split with edges by class for these galaxies; itself where none are wanted.

        Of each class, to the nearest galaxy, the wanted shares; of three galaxies or more at least one in each part
        that is wanted at all, of two one to train on and one to test, a single one to train on.
        """
        if not self.by_class:
            return self
        first = np.unique(np.array(galaxies, dtype=str), return_index=True)[1]
        draws, common = self._draws(galaxies)[first], _common_classes(galaxies, classes)[first]
        edges = tuple(self._edges(np.sort(draws[common == c])) for c in range(n_classes))
        return dataclasses.replace(self, edges=edges)

    def _edges(self, draws: NDArray[np.float64]) -> tuple[float, float]:
        """Return a class's edges: halfway between its last draw of a part and the next one."""
        n = len(draws)
        if not n:
            return self.test, self.test + self.val
        n_test = min(max(round(self.test * n), int(self.test > 0)), n - 1)
        n_val = min(max(round(self.val * n), int(self.val > 0)), n - 1 - n_test)
        between = np.concatenate([[0.0], (draws[1:] + draws[:-1]) / 2])
        return float(between[n_test]), float(between[n_test + n_val])

    def card(self) -> dict[str, Any]:
        """Return what a model's card says of the split."""
        card = {"method": "sha256(seed:galaxy)", "seed": self.seed, "val": self.val, "test": self.test}
        return card | {"edges": [list(pair) for pair in self.edges]} if self.by_class else card

    @classmethod
    def from_card(cls, card: Mapping[str, Any]) -> Split:
        """Return the split that a model's card tells of."""
        edges = tuple((low, high) for low, high in card.get("edges", ()))
        return cls(card["seed"], card["val"], card["test"], by_class=bool(edges), edges=edges)

    def _draws(self, galaxies: Sequence[str]) -> NDArray[np.float64]:
        digests = (hashlib.sha256(f"{self.seed}:{galaxy}".encode()).digest() for galaxy in galaxies)
        return np.array([int.from_bytes(digest[:8], "big") / 2**64 for digest in digests], dtype=float)


def _common_classes(galaxies: Sequence[str], classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the lowest class known of each galaxy: pictures of it with contradictory classes stay together."""
    _, inverse = np.unique(np.array(galaxies, dtype=str), return_inverse=True)
    lowest = np.full(inverse.max(initial=-1) + 1, np.iinfo(np.int64).max)
    known = classes >= 0
    np.minimum.at(lowest, inverse[known], classes[known])
    common = lowest[inverse]
    return np.where(common == np.iinfo(np.int64).max, -1, common)


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
        Of each sample, by name.
    view : float
        The framed width as a share of ``side``.
    framing : Framing
        The framed width on the sky.
    votes : Tensor, float32, shape (n,)
        How many people answered the first question; NaN where unknown.
    skipped : dict
        How many rows of each sample were left out, by name, where some were.
    samples : tuple of Sample
        What was joined, in order.
    lower, upper : Tensor, float32, shape (n, n_labels), optional
        Bounds on fractions that are not known exactly; NaN where there is none.
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
        """Which rows are of samples whose labels are not used, shape (n,)."""
        parts = [np.full(len(sample), not sample.labelled) for sample in self.samples]
        return np.concatenate(parts) if parts else np.zeros(len(self), dtype=bool)

    def batch(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return pictures, uint8 (n, 3, side, side), and fractions (n, n_labels) of some rows."""
        return torch.from_numpy(self.images[rows]), self.fractions[torch.from_numpy(rows)]

    def apparent(self, row: int) -> tuple[float, float]:
        """Return R90 in arcsec and the signal to noise of a galaxy, NaN where its sample does not know them."""
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
    schema : LabelSchema
    input_size : int
        Side of the network's input; the framed part of a picture is stored at about this size.
    radii : float
        Framed full width in radii, for pictures that are framed by size; others are framed whole, and so are all for a
        model framed by angle (0). Of samples of different width the smallest is kept: wider pictures are cropped.
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


def _common_framing(samples: Sequence[Sample], radii: float) -> tuple[float, Framing]:
    """Return the width in radii at which pictures are stored (0: whole) and the framed one.

    An unlabelled sample does not narrow the others' margin: around its pictures they are mirrored.
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
    parts = [np.full_like(s.fractions, np.nan) if getattr(s, name) is None else getattr(s, name) for s in samples]
    return torch.from_numpy(np.concatenate(parts))


def _without_excluded(
    samples: Sequence[Sample], listed: Mapping[str, set[str]]
) -> tuple[list[Sample], list[NDArray[np.int64]], tuple[Mapping[str, Any], ...]]:
    """Return samples without the listed galaxies, the rows that were kept of each, and what was left out by what."""
    twins = {own: key for sample in samples for own, key in sample.twins.items()}
    shared = {path: {twins.get(key, key) for key in keys} for path, keys in listed.items()}
    whole = set().union(*shared.values())
    kept = [np.flatnonzero([galaxy not in whole for galaxy in sample.galaxies]) for sample in samples]
    told = []
    for path, keys in shared.items():
        n = sum(galaxy in keys for sample in samples for galaxy in sample.galaxies)
        if not n:
            log.warning("%s lists no galaxy of these samples: nothing is left out.", path)
        told.append({"name": Path(path).name, "sha256": file_sha256(Path(path)), "n": n})
    return [sample.take(rows) for sample, rows in zip(samples, kept, strict=True)], kept, tuple(told)


@dataclass(frozen=True)
class Augmentation:
    """Random changes that leave a galaxy's type as it is: the sky has no up or down, and surveys differ in colour.

    Attributes
    ----------
    rotate, reflect : bool
        By any angle; about an axis.
    shift : float
        Largest shift along an axis, as a share of the framed width.
    zoom : float
        Largest change of the framed width, as a factor minus 1 (log-uniform both ways).
    grey : float
        Probability of losing all colour.
    colour : float
        Largest change of each colour's brightness and of contrast, as a share: another survey's bands and stretch.
    noise : float
        Largest standard deviation of added noise, of 1.
    blur : float
        Largest loss of resolution: the picture is sampled up to this factor coarser.
    """

    rotate: bool = True
    reflect: bool = True
    shift: float = 0.02
    zoom: float = 0.12
    grey: float = 0.0
    colour: float = 0.0
    noise: float = 0.0
    blur: float = 0.0

    def __call__(self, images: Tensor, view: float, size: int, generator: torch.Generator) -> Tensor:
        """Augment a batch.

        Parameters
        ----------
        images : Tensor, uint8, shape (n, 3, side, side)
        view : float
            Framed width as a share of the side.
        size : int
            Side wanted.
        generator : torch.Generator

        Returns
        -------
        Tensor, float32, shape (n, 3, size, size)
            Red, green, blue in 0..1.
        """
        n = len(images)

        def draw(low: float, high: float, *shape: int) -> Tensor:
            values = torch.rand(*(shape or (n,)), generator=generator) * (high - low) + low
            return values.to(images.device)

        angle = draw(-math.pi, math.pi) if self.rotate else torch.zeros(n, device=images.device)
        mirror = draw(0, 1).round() * 2 - 1 if self.reflect else torch.ones(n, device=images.device)
        scale = view * (draw(-1, 1) * math.log1p(self.zoom)).exp()
        offset = draw(-1, 1, n, 2) * (2 * self.shift * view)
        cos, sin = angle.cos() * scale, angle.sin() * scale
        theta = torch.stack(
            [torch.stack([cos * mirror, -sin, offset[:, 0]], 1), torch.stack([sin * mirror, cos, offset[:, 1]], 1)], 1
        )
        grid = functional.affine_grid(theta, [n, 3, size, size], align_corners=False)
        rgb = functional.grid_sample(images.float() / 255, grid, align_corners=False, padding_mode="reflection")
        if self.blur:
            rgb = self._blurred(rgb, draw)
        if self.grey:
            lost = (draw(0, 1) < self.grey).view(n, 1, 1, 1)
            rgb = rgb.where(~lost, rgb.mean(dim=1, keepdim=True))
        if self.colour:
            gain = draw(1 - self.colour, 1 + self.colour, n, 3, 1, 1) * draw(
                1 - self.colour, 1 + self.colour, n, 1, 1, 1
            )
            gamma = (draw(-1, 1, n, 1, 1, 1) * self.colour).exp()
            rgb = (rgb.clamp(min=1e-4) ** gamma) * gain + draw(-1, 1, n, 3, 1, 1) * (0.2 * self.colour)
        if self.noise:
            sigma = draw(0, self.noise, n, 1, 1, 1)
            rgb = rgb + sigma * torch.randn(rgb.shape, generator=generator).to(rgb.device)
        return rgb.clamp(0, 1)

    def _blurred(self, rgb: Tensor, draw: Callable[..., Tensor]) -> Tensor:
        size = rgb.shape[-1]
        coarse = max(8, int(size / float(draw(1, self.blur, 1))))
        small = functional.interpolate(rgb, size=coarse, mode="bilinear", antialias=True)
        again = functional.interpolate(small, size=size, mode="bilinear", align_corners=False)
        return again.where(draw(0, 1, len(rgb), 1, 1, 1) < 0.5, rgb)


PLAIN = Augmentation(rotate=False, reflect=False, shift=0, zoom=0)


def plain_view(images: Tensor, view: float, size: int) -> Tensor:
    """Return the framed part of pictures, uint8 (n, 3, side, side), as float32 (n, 3, size, size) in 0..1."""
    return PLAIN(images, view, size, torch.Generator())


def galaxy_hashes(galaxies: Sequence[str]) -> NDArray[np.int64]:
    """Return a 64-bit hash of each galaxy's key."""
    return np.array([content_hash(galaxy.encode()) for galaxy in galaxies], dtype=np.int64)
