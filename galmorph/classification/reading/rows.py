"""Rows: a target with its cutout, and what reads and frames it, in this process or in another."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from galmorph.classification.picture import prepare_picture
from galmorph.classification.prepare import Prepared, cutout_state, patiently, prepare, unexpected
from galmorph.errors import CutoutError, GalmorphError
from galmorph.files.pictures import is_picture
from galmorph.files.remote import Remote
from galmorph.images.flags import Flag
from galmorph.images.picture import PictureWidth
from galmorph.models.card import ModelCard


class Row(NamedTuple):
    """A target with its cutout.

    Attributes
    ----------
    cutout : Path, Remote or str
        Its cutout's file, or the reason (text) why it has none.
    radius_arcsec : float
        R90 of the catalog, NaN where unknown.
    ra, dec : float
        ICRS degrees of the catalog, NaN where unknown.
    """

    cutout: Path | Remote | str
    radius_arcsec: float = math.nan
    ra: float = math.nan
    dec: float = math.nan

    def prepare(
        self,
        card: ModelCard,
        *,
        hdu: int | str | None = None,
        locate: bool = False,
        pictures: PictureWidth | None = None,
    ) -> Prepared:
        """Read and frame the cutout: FITS by `galmorph.classification.prepare`, pictures by `picture` there."""
        if isinstance(self.cutout, str):
            return Prepared(Flag.UNREADABLE, reason=self.cutout)
        if isinstance(self.cutout, Remote):
            return self._copied(self.cutout, card, hdu=hdu, locate=locate, pictures=pictures)
        if is_picture(self.cutout):
            return prepare_picture(self.cutout, card, self.radius_arcsec, pictures)
        return prepare(self.cutout, card, self.radius_arcsec, position=(self.ra, self.dec), hdu=hdu, locate=locate)

    def _copied(self, remote: Remote, card: ModelCard, **options: Any) -> Prepared:
        """Copy a remote cutout, then read and frame it."""

        def read() -> Prepared:
            with remote.copied() as path:
                prepared = self._replace(cutout=path).prepare(card, **options)
                return replace(prepared, reason=prepared.reason.replace(str(path), str(remote)))

        try:
            return patiently(remote, read)
        except CutoutError as error:
            absent = isinstance(error.__cause__, FileNotFoundError)
            reason = "there is no such file." if absent else f"cannot be read: {error}"
            return Prepared(Flag.UNREADABLE, reason=f"{remote}: {reason}")

    @property
    def state(self) -> int:
        """A number that changes when the cutout's file changes; 0: there is no file, or it is remote."""
        return cutout_state(self.cutout) if isinstance(self.cutout, Path) else 0


@dataclass(frozen=True)
class RowReader:
    """Reads a row's cutout and frames it: all that it takes, to be sent to another process.

    Attributes
    ----------
    card : ModelCard
    hdu : int or str, optional
    locates : bool
        Whether the position of the cutout's centre is wanted.
    pictures : PictureWidth
        How wide cutouts that are pictures are.
    """

    card: ModelCard
    hdu: int | str | None
    locates: bool
    pictures: PictureWidth

    def __call__(self, row: Row) -> Prepared:
        """Return the row read and framed; what is unexpected ends a row and not the run."""
        state = row.state  # before reading: a change during reading is detected when the run is resumed
        try:
            prepared = row.prepare(self.card, hdu=self.hdu, locate=self.locates, pictures=self.pictures)
        except GalmorphError:
            raise
        except Exception as error:
            prepared = unexpected(str(row.cutout), error)
        return replace(prepared, state=state)
