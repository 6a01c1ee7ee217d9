"""Splits: which part a galaxy belongs to, by its key."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galmorph.ranges import SEED, SHARE, bounded

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """Which part a galaxy belongs to: a pure function of its key and the seed, and of its class where that is wanted.

    A galaxy's draw is a number in 0..1 from the SHA-256 of ``seed:galaxy``; the lowest draws are the test part, the
    next the validation part. Where classes are rare, draws leave some out of a part by chance; :meth:`fitted` sets
    edges between the parts for each class so that every part has its share of it.

    Attributes
    ----------
    val, test : float
        Shares of the galaxies.
    by_class : bool
        Whether each class has its own edges.
    edges : tuple of (float, float)
        For each class the draws below which a galaxy is in the test part and in one of the two held-out parts; empty
        until fitted.
    """

    seed: int = bounded(SEED, 0)
    val: float = bounded(SHARE, 0.08)
    test: float = bounded(SHARE, 0.12)
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

        Each class has the wanted shares, to the nearest galaxy. A class of three galaxies or more has at least one in
        each part that is wanted at all. Of two galaxies one is for training and one for the test; a single one is for
        training.
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
        """Return the split as a model's card states it."""
        card = {"method": "sha256(seed:galaxy)", "seed": self.seed, "val": self.val, "test": self.test}
        return card | {"edges": [list(pair) for pair in self.edges]} if self.by_class else card

    @classmethod
    def from_card(cls, card: Mapping[str, Any]) -> Split:
        """Return the split in a model's card."""
        edges = tuple((low, high) for low, high in card.get("edges", ()))
        return cls(card["seed"], card["val"], card["test"], by_class=bool(edges), edges=edges)

    def _draws(self, galaxies: Sequence[str]) -> NDArray[np.float64]:
        digests = (hashlib.sha256(f"{self.seed}:{galaxy}".encode()).digest() for galaxy in galaxies)
        return np.array([int.from_bytes(digest[:8], "big") / 2**64 for digest in digests], dtype=float)


def _common_classes(galaxies: Sequence[str], classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the lowest class of each galaxy, so that pictures of one galaxy with different classes stay together."""
    _, inverse = np.unique(np.array(galaxies, dtype=str), return_inverse=True)
    lowest = np.full(inverse.max(initial=-1) + 1, np.iinfo(np.int64).max)
    has_class = classes >= 0
    np.minimum.at(lowest, inverse[has_class], classes[has_class])
    common = lowest[inverse]
    return np.where(common == np.iinfo(np.int64).max, -1, common)
