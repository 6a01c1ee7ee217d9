"""The options of a run of `galmorph fetch`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from galmorph.errors import GalmorphError
from galmorph.images.sizes import MAX_SIDE_PX
from galmorph.ranges import FETCHED_PIXSCALE, ROWS, WIDTH_R90, bounded, check_fields, whole
from galmorph.retrieval.addresses import Credentials, printable
from galmorph.retrieval.client import Limits
from galmorph.retrieval.surveys import Imaging


@dataclass(frozen=True)
class FetchOptions:
    """What to fetch, and how.

    Parameters
    ----------
    survey : str
        A name of ``registry.names("surveys")``.
    layer : str, optional
        The survey's layer or data release. Default: the survey's default.
    hips : str, optional
        The identifier of a HiPS, for the survey ``hips``.
    bands : str, optional
        A letter each, in the order wanted. Default: the survey's.
    size : int
        Width and height in pixels, where galaxies are not framed by their size.
    pixscale : float, optional
        arcsec per pixel. Default: the survey's own.
    size_factor : float, optional
        Width of each cutout in units of the catalog's size column; `galmorph.retrieval.layout.GALAXY_ZOO_FACTOR` is
        what the images of Galaxy Zoo span. Default: every cutout has the same width.
    extras : tuple of str
        ``'invvar'`` and ``'maskbits'``: extensions beside the image, where the survey has them.
    base_url : str, optional
        Replaces the service's address.
    way : str, optional
        ``'cutouts'`` or ``'bricks'``. Default: the cheaper one, or cutouts where `base_url` is given and the
        environment variable ``GALMORPH_BRICKS_URL`` does not say where the bricks are.
    workers, rate, retries, timeout_s, backoff_s
        See `galmorph.retrieval.client.Limits`.
    limit : int, optional
        Only the first `limit` rows.
    retry_failed : bool
        Repeat requests that failed in an earlier run.
    verify : bool
        Compare every cutout with its recorded hash, even if its size and time have not changed.

    Raises
    ------
    GalmorphError
        If a number is out of its range, or `bands` or `base_url` are invalid.
    """

    survey: str = "decals"
    layer: str | None = None
    hips: str | None = None
    bands: str | None = None
    size: int = bounded(whole(1, MAX_SIDE_PX), 256)
    pixscale: float | None = bounded(FETCHED_PIXSCALE, None)
    size_factor: float | None = bounded(WIDTH_R90, None)
    extras: tuple[str, ...] = ()
    base_url: str | None = None
    way: str | None = None
    workers: int = Limits.workers
    rate: float = Limits.rate
    retries: int = Limits.retries
    timeout_s: float = Limits.timeout_s
    backoff_s: float = Limits.backoff_s
    limit: int | None = bounded(ROWS, None)
    retry_failed: bool = False
    verify: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if self.bands is not None and not re.fullmatch("[A-Za-z0-9]{1,16}", self.bands):
            raise GalmorphError(f"bands={printable(self.bands)!r} must be a letter each, such as grz.")
        _ = self.limits

    @property
    def limits(self) -> Limits:
        """The limits on the load of the service."""
        return Limits(self.workers, self.rate, self.retries, self.timeout_s, self.backoff_s)

    def imaging(self, folder: Path) -> Imaging:
        """Return the settings of all cutouts; sources may keep files in `folder`."""
        bands = tuple(self.bands) if self.bands else None
        credentials = Credentials()
        mirrors = self.base_url.split(",") if self.base_url else []
        base_url = ",".join(credentials.take(mirror, "--base-url") for mirror in mirrors) or None
        return Imaging(self.layer, self.hips, bands, tuple(self.extras), base_url, folder, credentials)
