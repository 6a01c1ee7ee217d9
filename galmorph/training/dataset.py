"""Datasets: labelled samples decoded once into a memory-mapped cache, split by galaxy, augmented in batches."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from galmorph import registry
from galmorph.environment import cache_folder
from galmorph.errors import CutoutError, OutputError, SampleError
from galmorph.files.writing import Output, write_errors
from galmorph.images.framing import Framing
from galmorph.schemas import LabelSchema
from galmorph.training.samples import Layout, Sample, content_hash

log = logging.getLogger(__name__)

T = TypeVar("T")

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
    """

    images: NDArray[np.uint8]
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

    def __len__(self) -> int:
        return len(self.fractions)

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


def read_sample(path: str | Path, schema: LabelSchema) -> Sample:
    """Read labelled data by whichever layout it has.

    Parameters
    ----------
    path : str or Path
        A folder or file; ``PATH:question,question`` uses the labels of these questions alone. Votes of two projects on
        one question differ systematically, and a sample that was selected by its labels teaches the selection.
    schema : LabelSchema

    Raises
    ------
    SampleError
        If it is missing, empty, of no known layout or of several, or if a question is unknown.
    """
    path, questions = _with_questions(path)
    if not path.exists():
        raise SampleError(registry.missing_file(path))
    sample = _layout_of(path).read(path, schema)
    if not len(sample):
        raise SampleError(f"{path} holds no galaxies.")
    return _restricted(sample, schema, questions) if questions else sample


def _layout_of(path: Path) -> Layout:
    """Return the layout of a folder or file.

    Raises
    ------
    SampleError
        If no layout matches, or several of which none gives way.
    """
    layouts: list[Layout] = [registry.load("samples", name) for name in registry.names("samples")]
    matching = [layout for layout in layouts if layout.matches(path)]
    general = {name for layout in matching for name in layout.before}
    chosen = [layout for layout in matching if layout.name not in general]
    if not chosen:
        known = "; ".join(f"{layout.name}: {layout.description}" for layout in layouts)
        raise SampleError(f"{path} has no known layout. Known: {known}.")
    if len(chosen) > 1:
        both = "; ".join(f"{layout.name}: {layout.description}" for layout in chosen)
        raise SampleError(f"{path} has several layouts: {both}. Give each a folder of its own.")
    return chosen[0]


def _with_questions(path: str | Path) -> tuple[Path, list[str]]:
    before, separator, after = str(path).rpartition(":")
    return (Path(before), after.split(",")) if separator and not Path(path).exists() else (Path(path), [])


def _restricted(sample: Sample, schema: LabelSchema, questions: Sequence[str]) -> Sample:
    """Return a sample with the labels of some questions alone; the others are unknown."""
    known = [question.name for question in schema.questions]
    fractions = np.full_like(sample.fractions, np.nan)
    for question in questions:
        if question not in known:
            raise SampleError(registry.unknown("question", question, known))
        part = schema.slices[known.index(question)]
        fractions[:, part] = sample.fractions[:, part]
    return dataclasses.replace(sample, fractions=fractions)


def load(paths: Sequence[str | Path], schema: LabelSchema, input_size: int, radii: float) -> Dataset:
    """Read, join and decode samples.

    Parameters
    ----------
    paths : sequence of str or Path
        As for :func:`read_sample`.
    schema : LabelSchema
    input_size : int
        Side of the network's input; the framed part of a picture is stored at about this size.
    radii : float
        Framed full width in radii, for pictures that are framed by size; others are framed whole, and so are all for a
        model framed by angle (0).

    Raises
    ------
    SampleError
        If a sample cannot be used or a picture cannot be decoded.
    """
    samples = [read_sample(path, schema) for path in paths]
    if len({sample.framing for sample in samples}) > 1:
        raise SampleError("Samples whose pictures are framed differently cannot be joined.")
    framing = samples[0].framing
    view = 1.0
    if framing.radii and radii:
        view = min(1.0, radii / framing.radii)
        framing = Framing(radii=min(radii, framing.radii))
    # An even margin, so that the plain view is a crop of whole pixels.
    side = input_size + 2 * round(input_size * (1 / view - 1) / 2)
    view = input_size / side
    images = [decode(sample, side) for sample in samples]
    samples = [_without_unreadable(sample, side) for sample in samples]
    votes = [np.full(len(s), np.nan, np.float32) if s.votes is None else s.votes for s in samples]
    return Dataset(
        images=images[0] if len(images) == 1 else np.concatenate(images),
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
    )


def decode(sample: Sample, side: int) -> NDArray[np.uint8]:
    """Return a sample's pictures, uint8 (n, 3, side, side), memory-mapped; decoded once and kept in the cache.

    Pictures of a lenient sample that cannot be decoded are not among them; their rows and the reasons are kept beside.

    Raises
    ------
    SampleError
        If a picture cannot be decoded, or none of a lenient sample's.
    OutputError
        If the cache cannot be written.
    """
    path = _cached(sample, side)
    if not path.exists():
        try:
            with write_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
            with Output(path) as output:
                unreadable = _decode(sample, side, output)
                output.beside(_reasons(path), json.dumps(unreadable).encode())
        except OutputError as error:
            raise OutputError(f"{error} Choose another folder for the cache with GALMORPH_CACHE.") from error
    return np.load(path, mmap_mode="r")


def _cached(sample: Sample, side: int) -> Path:
    return cache_folder() / f"{sample.name}-{sample.sha256[:16]}-{side}.npy"


def _reasons(path: Path) -> Path:
    return path.with_suffix(".unreadable.json")


def _decode(sample: Sample, side: int, output: Output) -> dict[int, str]:
    """Write the decoded pictures; return the rows of those that cannot be decoded, with the reasons."""
    unreadable: dict[int, str] = {}
    with ThreadPoolExecutor() as pool:
        output.write(_npy_header(len(sample), side))
        for index, image in enumerate(pool.map(lambda i: _resized(sample, i, side), range(len(sample)))):
            if isinstance(image, str):
                unreadable[index] = image
            else:
                output.write(image.tobytes())
            if isinstance(image, str) and not sample.lenient:
                raise SampleError(image)
        if len(unreadable) == len(sample):
            raise SampleError(f"No picture of {sample.name} can be used; first: {unreadable[0]}")
        # The header leaves room for any number of rows, so its length stays.
        output.patch(0, _npy_header(len(sample) - len(unreadable), side))
    return unreadable


def _npy_header(n: int, side: int) -> bytes:
    header = io.BytesIO()
    shape = (n, 3, side, side)
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue()


def _resized(sample: Sample, index: int, side: int) -> NDArray[np.uint8] | str:
    """Return a picture (3, side, side), or why it cannot be decoded."""
    from PIL import Image

    try:
        picture = Image.fromarray(sample.image(index))
        return np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    except (OSError, ValueError, CutoutError) as error:
        return f"{sample.name}: picture {sample.galaxies[index]} cannot be decoded: {error}."


def _without_unreadable(sample: Sample, side: int) -> Sample:
    """Return a lenient sample without the rows that were left out when it was decoded, which are told."""
    if not sample.lenient:
        return sample
    unreadable = json.loads(_reasons(_cached(sample, side)).read_text())
    skipped = (*sample.skipped, *unreadable.values())
    if skipped:
        n_rows = len(sample) + len(sample.skipped)
        log.warning("%s: %d of %d rows are left out; first: %s", sample.name, len(skipped), n_rows, skipped[0])
    good = np.setdiff1d(np.arange(len(sample)), [int(row) for row in unreadable])
    return dataclasses.replace(
        sample,
        galaxies=sample.galaxies[good],
        fractions=sample.fractions[good],
        contents=sample.contents[good],
        votes=None if sample.votes is None else sample.votes[good],
        image=_of_rows(sample.image, good),
        apparent=None if sample.apparent is None else _of_rows(sample.apparent, good),
        skipped=skipped,
    )


def _of_rows(function: Callable[[int], T], rows: NDArray[np.int64]) -> Callable[[int], T]:
    return lambda index: function(int(rows[index]))


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
