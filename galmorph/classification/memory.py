"""Tables in memory: the rows of an astropy Table are classified, and the result is a Table too."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from astropy.table import Table

from galmorph.classification.matching import match
from galmorph.classification.sources import Addition, CatalogSource, Result
from galmorph.classification.summary import Summary
from galmorph.errors import GalmorphError, OutputError
from galmorph.tables import formats as tables
from galmorph.tables.blocks import checked_blocks
from galmorph.tables.catalog import catalog_of
from galmorph.tables.memory import MemoryTable

# What messages call it.
_PATH = Path("the table")


class MemorySource(CatalogSource):
    """The rows of an astropy Table, which name their cutouts; the result is a Table too.

    Parameters
    ----------
    table : astropy.table.Table
        With a column ``cutout``, or `cutouts` holds ``<id>.fits``.
    cutouts : path, optional
        Folder that the cutout paths are relative to, and may not leave; default: the current one.
    image_hdu : int or str, optional
        HDU of the cutouts.
    **columns
        The options of columns of `galmorph.tables.catalog.open_catalog`.

    Attributes
    ----------
    result : astropy.table.Table
        The table with the columns, once they are written.
    """

    result: Table

    def __init__(
        self, table: Table, cutouts: str | Path | None, image_hdu: int | str | None = None, **columns: Any
    ) -> None:
        self._memory = MemoryTable(table)
        catalog = catalog_of(cast(tables.Table, self._memory), _PATH, "table", needs_position=False, **columns)
        super().__init__(*match(catalog, cutouts, Path.cwd()), image_hdu)
        # The journal of the run lies here.
        self._scratch = tempfile.mkdtemp(prefix="galmorph-")
        weakref.finalize(self, shutil.rmtree, self._scratch, ignore_errors=True)

    @property
    def default_output(self) -> Path:
        """No file: where the run keeps its results until they are all there."""
        return Path(self._scratch) / "table"

    def fingerprint(self) -> dict[str, Any]:
        """Nothing: a run in memory is not resumed."""
        return {}

    def check_output(self, destination: Path) -> None:
        """Raise OutputError if a file was named."""
        if destination != self.default_output:
            raise OutputError("A table in memory is given back in memory: leave out `out`, and write what you get.")

    def finish(self, summary: Summary) -> Table:  # noqa: ARG002
        """Return the table."""
        return self.result

    def write(self, destination: Path, added: Addition, results: Iterable[Result]) -> None:  # noqa: ARG002
        """Make the table with the columns appended."""
        dropped, provenance = self.catalog.changes(added.columns, added.cards, replace=added.replace)
        new = checked_blocks(added.columns, (values for _, values in results), self.n_rows)
        self.result = self._memory.appended(tables.Added(added.columns, new, provenance, dropped))


def memory_source(
    table: Any, cutouts: str | Path | None, image_hdu: int | str | None = None, **columns: Any
) -> MemorySource:
    """Return the source of a table in memory; anything else is a GalmorphError."""
    if not isinstance(table, Table):
        raise GalmorphError(f"A survey is a path or an astropy Table, not a {type(table).__name__}.")
    return MemorySource(table, cutouts, image_hdu, **columns)
