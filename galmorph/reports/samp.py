"""SAMP: send a table to the programs that run on this machine (TOPCAT, Aladin, DS9) through their hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import galmorph
from galmorph.environment import cache_folder
from galmorph.errors import GalmorphError
from galmorph.tables.catalog import Catalog, open_catalog

_FITS, _VOTABLE = "table.load.fits", "table.load.votable"
_METADATA = {"samp.name": "galmorph", "author.affiliation": "galmorph", "galmorph.version": galmorph.__version__}


def samp_module() -> Any:
    """Return the SAMP package: that of pyvo, or astropy's before its version 8."""
    try:
        return import_module("pyvo.samp")
    except ImportError:
        return import_module("astropy.samp")


@contextmanager
def hub() -> Iterator[Any]:
    """Connect to the hub that runs here; the context has the client.

    Raises
    ------
    GalmorphError
        If none runs.
    """
    samp = samp_module()
    with samp.conf.set_temp("use_internet", False):
        client = samp.SAMPIntegratedClient(name="galmorph", metadata=_METADATA)
        try:
            client.connect()
        except (samp.SAMPHubError, OSError) as error:
            raise GalmorphError(
                "No SAMP hub runs on this machine: start TOPCAT, Aladin or DS9 (which have one), or leave out --samp."
            ) from error
        try:
            yield client
        finally:
            client.disconnect()


def send(path: str | Path) -> list[str]:
    """Send a table to the programs that are connected to the hub.

    Parameters
    ----------
    path : path
        FITS is sent as it is to programs that accept it; others get a VOTable of its columns (a copy in the cache).

    Returns
    -------
    list of str
        Names of the programs that got it.

    Raises
    ------
    GalmorphError
        If there is no hub, or no table.
    """
    path = Path(path).resolve()
    catalog = open_catalog(path, needs_position=False)
    names = []
    with hub() as client:
        takes_fits = set(client.get_subscribed_clients(_FITS)) if catalog.format == "fits" else set()
        takes_votable = set(client.get_subscribed_clients(_VOTABLE)) - takes_fits
        copies = {_FITS: path, _VOTABLE: _as_votable(catalog) if takes_votable else path}
        for kind, receivers in ((_FITS, takes_fits), (_VOTABLE, takes_votable)):
            parameters = {"url": copies[kind].as_uri(), "name": path.name, "table-id": path.as_uri()}
            for receiver in sorted(receivers):
                client.notify(receiver, {"samp.mtype": kind, "samp.params": parameters})
                names.append(str(client.get_metadata(receiver).get("samp.name", receiver)))
    return names


def _as_votable(catalog: Catalog) -> Path:
    """Return a copy as VOTable, which all programs read, with the columns that have one value a cell."""
    from astropy.table import Table

    names = [catalog.column_names[position] for position in catalog.scalar_columns]
    values = catalog.read(names)
    table = Table({name: array.astype(str) if array.dtype == object else array for name, array in values.items()})
    for name, unit in catalog.units.items():
        if name in table.colnames:
            table[name].unit = unit
    copy = cache_folder() / "samp" / f"{catalog.path.name.partition('.')[0]}.vot"
    copy.parent.mkdir(parents=True, exist_ok=True)
    table.write(copy, format="votable", overwrite=True)
    return copy
