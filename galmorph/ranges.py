"""Ranges: which numbers an option may have. Each is stated once here, and checked wherever a number comes in."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from galmorph.errors import GalmorphError


@dataclass(frozen=True)
class Range:
    """Numbers from `least` to `most`, of which NaN and infinity are none.

    Attributes
    ----------
    least, most : float
    whole : bool
        Whether only whole numbers are meant.
    """

    least: float
    most: float
    whole: bool = False

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, Integral if self.whole else Real):
            return False
        number: Any = value
        return bool(self.least <= number <= self.most)

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        least, most = (f"{value:,}".removesuffix(".0") for value in (self.least, self.most))
        return f"{kind} from {least} to {most}"

    def check(self, option: str, value: Any) -> None:
        """Raise a GalmorphError if a value is outside; None is left as it is.

        Parameters
        ----------
        option : str
            The option as users write it, up to its value: ``--hdu `` or ``size=``.
        """
        if value is not None and value not in self:
            raise GalmorphError(f"{option}{str(value)[:40]}: {self}.")


def whole(least: int, most: int) -> Range:
    """Return a range of whole numbers."""
    return Range(least, most, whole=True)


def positive(most: float) -> Range:
    """Return the range of numbers above 0, by enough to divide by them, up to `most`."""
    return Range(1e-9, most)


# Far more than helps anywhere: a number beyond these is a mistake that would only show when memory or time is spent.
MAX_BATCH = 4096
MAX_WORKERS = 256
MAX_REQUESTS_IN_FLIGHT = 64
MAX_REQUESTS_PER_S = 1_000_000
MAX_ATTEMPTS = 100
MAX_TIMEOUT_S = 86_400

BATCH = whole(1, MAX_BATCH)
WORKERS = whole(1, MAX_WORKERS)
ORIENTATIONS = whole(1, 8)
HDU = whole(0, 10_000)
ROWS = whole(0, 10**12)
EPOCHS = whole(1, 10_000)
PATIENCE = whole(0, 10_000)
LEARNING_RATE = positive(10.0)
SEED = whole(0, 2**32 - 1)
SEEDS = whole(1, 1000)
# Of `galmorph fetch`; a service bears no more connections of one user.
IN_FLIGHT = whole(1, MAX_REQUESTS_IN_FLIGHT)
RATE = Range(0.001, MAX_REQUESTS_PER_S)
ATTEMPTS = whole(1, MAX_ATTEMPTS)
TIMEOUT_S = Range(0.01, MAX_TIMEOUT_S)
FETCHED_PIXSCALE = Range(0.01, 60)
BACKOFF_S = Range(0.001, 3600)
# A degree a pixel; a picture of the whole sky; a thousand times a galaxy's radius.
PIXSCALE = positive(3600.0)
WIDTH_ARCSEC = positive(1_296_000.0)
WIDTH_R90 = positive(1000.0)
SHARE = Range(0, 1)


OPTION = "--{} "


def bounded(allowed: Range, default: Any = dataclasses.MISSING) -> Any:
    """Return a dataclass's field of a number that `check_fields` compares with a range."""
    return dataclasses.field(default=default, metadata={"range": allowed})


def ranges_of(kind: Any) -> Iterator[tuple[str, Range]]:
    """Yield the names and ranges of a dataclass's bounded fields."""
    for field in dataclasses.fields(kind):
        if (allowed := field.metadata.get("range")) is not None:
            yield field.name, allowed


def check_fields(options: Any, naming: str = "{}=") -> None:
    """Raise a GalmorphError if a bounded field of a dataclass is outside its range.

    Parameters
    ----------
    options : dataclass instance
    naming : str
        How a message names a field; an option of the command line (``--{} ``) has hyphens.
    """
    for name, allowed in ranges_of(options):
        shown = name.replace("_", "-") if naming == OPTION else name
        allowed.check(naming.format(shown), getattr(options, name))
