"""The environment variables of galmorph, declared here and read nowhere else; and the clock, which one of them sets."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Literal

from galmorph.errors import GalmorphError

PREFIX = "GALMORPH_"


class Variable(Enum):
    """An environment variable; its text is its whole name, such as ``GALMORPH_CACHE``.

    Attributes
    ----------
    meaning : str
        Meaning of the value.
    kind : {'folder', 'new folder', 'address', 'switch'}
        A ``folder`` must exist; a ``new folder`` is made where it does not.
    """

    CACHE = ("folder of decoded training pictures", "new folder")
    PRETRAINED = ("folder of ImageNet weights", "folder")
    FOOTPRINTS = ("folder of survey footprints", "folder")
    BRICKS_URL = ("address of the Legacy Surveys' bricks", "address")
    SDSS_SKYSERVER_URL = ("address of the SDSS SkyServer", "address")
    SDSS_SAS_URL = ("address of the SDSS Science Archive Server", "address")
    LOG_JSON = ("messages and progress as JSON lines", "switch")
    DEBUG = ("tracebacks of errors on stderr", "switch")

    def __init__(self, meaning: str, kind: Literal["folder", "new folder", "address", "switch"]) -> None:
        self.meaning = meaning
        self.kind = kind

    def __str__(self) -> str:
        return PREFIX + self.name

    def read(self) -> str:
        """Return the value, ``''`` where it is not set."""
        return os.environ.get(str(self), "")

    def is_on(self) -> bool:
        """Return whether a switch is set to something other than nothing, 0, false, no or off."""
        return self.read().strip().lower() not in ("", "0", "false", "no", "off")


def cache_folder() -> Path:
    """Return the folder of decoded pictures: ``GALMORPH_CACHE`` or ``~/.cache/galmorph``.

    Raises
    ------
    GalmorphError
        If neither is set: there is no home folder.
    """
    if folder := Variable.CACHE.read():
        return Path(folder)
    try:
        return Path.home() / ".cache" / "galmorph"
    except RuntimeError as error:
        raise GalmorphError(f"There is no home folder for the cache: set {Variable.CACHE} to a folder.") from error


def now(seconds: float | None = None) -> datetime:
    """Return the time for a header, UTC.

    ``SOURCE_DATE_EPOCH`` (https://reproducible-builds.org/specs/source-date-epoch) replaces the clock, so that the same
    run writes the same bytes.

    Parameters
    ----------
    seconds : float, optional
        A time in seconds since 1970; default: the present.

    Raises
    ------
    GalmorphError
        If ``SOURCE_DATE_EPOCH`` is not a time of the years 1970 to 9999.
    """
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    try:
        if not (text.isascii() and text.isdigit()):
            raise ValueError
        return datetime.fromtimestamp(int(text), UTC)
    except (ValueError, OverflowError, OSError):
        raise GalmorphError(
            f"SOURCE_DATE_EPOCH is {text[:40]!r}: give seconds since 1970 as a whole number, such as 1763769600, or "
            "unset it."
        ) from None
