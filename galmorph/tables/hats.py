"""HATS catalogs on disk: the files of rows, and the other files of a copy with more columns.

A catalog is a folder of Parquet files, one or several for each partition (a pixel of the sky), with its properties and
the metadata of the whole. A collection is a folder of such catalogs: the main one, margins (the rows around each
partition once more) and indexes. The package hats, on which lsdb is built, knows the layout.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import galmorph
from galmorph.errors import CannotContinue, CatalogError
from galmorph.files.writing import sync
from galmorph.tables.catalog import Column, open_catalog
from galmorph.tables.formats import Card

if TYPE_CHECKING:
    from hats.catalog.dataset.table_properties import TableProperties

log = logging.getLogger(__name__)

_COLLECTION = "collection.properties"
_COMMON = Path("dataset", "_common_metadata")
_METADATA = Path("dataset", "_metadata")
_THUMBNAIL, _STATISTICS = "data_thumbnail.parquet", "per_partition_statistics.parquet"
_WRITTEN_ANEW = ("hats.properties", "properties", _THUMBNAIL, _STATISTICS)
# Kinds whose rows are targets; an index or an association has no galaxies.
_KINDS = ("object", "source", "margin")


def is_hats(path: Path) -> bool:
    """Return whether a path is the folder of a HATS catalog or collection, even an unreadable or outdated one."""
    names = ("hats.properties", _COLLECTION, "partition_info.csv")
    return path.is_dir() and any((path / name).exists() for name in names)


@dataclass(frozen=True)
class Member:
    """One catalog of rows: alone, or the main catalog or a margin of a collection.

    Attributes
    ----------
    folder : Path
        Relative to the root.
    properties : TableProperties
        As hats reads them.
    files : tuple of Path
        The Parquet files of the partitions, relative to the root.
    """

    folder: Path
    properties: TableProperties
    files: tuple[Path, ...]


@dataclass(frozen=True)
class HatsCatalog:
    """A HATS catalog or collection; made by `open_hats`.

    Attributes
    ----------
    members : tuple of Member
        The main catalog first.
    others : tuple of Path
        Catalogs of the collection that hold no targets (indexes), relative to the root.
    """

    root: Path
    members: tuple[Member, ...]
    others: tuple[Path, ...]

    @property
    def n_rows(self) -> int:
        """The number of rows, with those of the margins, as the properties give it."""
        return sum(member.properties.total_rows or 0 for member in self.members)

    @property
    def n_files(self) -> int:
        """The number of Parquet files of all partitions."""
        return sum(len(member.files) for member in self.members)

    @property
    def position_columns(self) -> dict[str, str]:
        """The columns of right ascension and declination that the properties name, as options of `open_catalog`."""
        properties = self.members[0].properties
        if not (properties.ra_column and properties.dec_column):
            return {}
        return {"ra_column": properties.ra_column, "dec_column": properties.dec_column}

    def schemas(self) -> Iterator[Path]:
        """Yield a Parquet file with the columns of each member."""
        for member in self.members:
            common = self.root / member.folder / _COMMON
            if common.exists() or member.files:
                yield common if common.exists() else self.root / member.files[0]

    def fingerprint(self) -> str:
        """Return a hash of the folder's path and the names of all files; changes inside the files do not change it."""
        names = [self.root, *(path for member in self.members for path in member.files)]
        return hashlib.sha256("\n".join(map(str, names)).encode()).hexdigest()

    def complete(self, copy: Path, columns: Sequence[Column], cards: Sequence[Card], *, replace: bool) -> None:
        """Write all files of a copy besides those of its partitions, which must exist.

        Parameters
        ----------
        copy : Path
            The copy's root.
        columns, cards, replace
            What was appended to each partition, as for ``Catalog.append``; the card ``GMDATE`` is the copy's date.
        """
        for member in self.members:
            _complete(self.root / member.folder, copy / member.folder, member, columns, cards, replace)
        for folder in self.others:
            shutil.copytree(self.root / folder, copy / folder, dirs_exist_ok=True)
        if (self.root / _COLLECTION).exists():
            _copy_files(self.root, copy)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except CatalogError:
        raise
    except (OSError, ValueError, KeyError) as error:  # errors of pydantic and Arrow too
        raise CatalogError(f"{path} cannot be read as a HATS catalog: {error}") from error


def open_hats(root: Path) -> HatsCatalog:
    """Open a HATS catalog or collection.

    Raises
    ------
    CatalogError
        If it cannot be read, lacks a partition, or holds no rows of its own (an index, an association).
    """
    from hats.catalog.dataset.collection_properties import CollectionProperties

    if not (root / _COLLECTION).exists():
        with _reading(root):
            return HatsCatalog(root, (_member(root, Path()),), ())
    with _reading(root):
        collection = CollectionProperties.read_from_dir(root)
        named = [collection.hats_primary_table_url, *(collection.all_margins or ())]
        for name in named:
            if Path(name).is_absolute() or ".." in Path(name).parts or not (root / name).is_dir():
                raise CatalogError(f"{root} names the catalog {name}, which is not in its folder: copy it there.")
        members = tuple(_member(root, Path(name)) for name in named)
    folders = {path.relative_to(root) for path in root.iterdir() if is_hats(path)}
    return HatsCatalog(root, members, tuple(sorted(folders - {member.folder for member in members})))


def _member(root: Path, folder: Path) -> Member:
    from hats.catalog.dataset.table_properties import TableProperties
    from hats.catalog.partition_info import PartitionInfo
    from hats.io import paths

    path = root / folder
    if not (path / "hats.properties").exists() and not (path / "properties").exists():
        raise CatalogError(f"{path} has no hats.properties: it is an older HiPSCat catalog, or not complete.")
    properties = TableProperties.read_from_dir(path)
    if properties.catalog_type not in _KINDS:
        raise CatalogError(f"{path} is a HATS catalog of kind {properties.catalog_type}, which holds no galaxies.")
    files: list[Path] = []
    for pixel in PartitionInfo.read_from_dir(path).get_healpix_pixels():
        partition = Path(str(paths.pixel_catalog_file(path, pixel, npix_suffix=properties.npix_suffix)))
        inside = sorted(p for p in partition.iterdir() if p.name[0] not in "._") if partition.is_dir() else [partition]
        if not all(file.is_file() for file in inside):
            raise CatalogError(f"{path} lacks the partition {partition.relative_to(path)}.")
        files += inside
    return Member(folder, properties, tuple(file.relative_to(root) for file in files))


def _complete(
    origin: Path, copy: Path, member: Member, columns: Sequence[Column], cards: Sequence[Card], replace: bool
) -> None:
    from hats.io.parquet_metadata import write_parquet_metadata

    (copy / "dataset").mkdir(parents=True, exist_ok=True)
    _copy_files(origin, copy)
    if member.files:
        metadata = (origin / _METADATA).exists()
        summaries: dict[str, Any] = {
            "create_thumbnail": (origin / _THUMBNAIL).exists(),
            "create_per_partition_stats": (origin / _STATISTICS).exists(),
        }
        try:
            write_parquet_metadata(copy, create_metadata=metadata, **summaries)
        except (StopIteration, IndexError):  # hats cannot make them from files without rows
            log.warning("%s has files without rows: thumbnail and statistics are left out.", origin)
            write_parquet_metadata(copy, create_metadata=metadata)
    # The catalog's own file may describe the columns where the partitions do not.
    if (origin / _COMMON).exists():
        open_catalog(origin / _COMMON).append(copy / _COMMON, columns, [], cards=cards, replace=replace)
        if not member.files and (origin / _METADATA).exists():
            shutil.copyfile(copy / _COMMON, copy / _METADATA)
    names = [column.name for column in columns]
    changes: dict[str, Any] = {
        "hats_builder": f"galmorph v{galmorph.__version__}",
        "hats_creation_date": next(str(value) for key, value, _ in cards if key == "GMDATE")[:16] + "UTC",
        "hats_estsize": sum(path.stat().st_size for path in copy.rglob("*") if path.is_file()) // 1024,
    }
    shown = member.properties.default_columns
    if shown:
        changes["default_columns"] = [*(name for name in shown if name not in names), *names]
    member.properties.copy_and_update(**changes).to_properties_file(copy)


def _copy_files(origin: Path, copy: Path) -> None:
    """Copy the files, without folders, that are not written again."""
    copy.mkdir(parents=True, exist_ok=True)
    for path in origin.iterdir():
        if path.is_file() and path.name not in _WRITTEN_ANEW and not path.name.startswith("."):
            shutil.copy2(path, copy / path.name)


def swap(new: Path, destination: Path, aside: Path, *, overwrite: bool) -> None:
    """Give a finished folder its name after syncing it to the disk.

    Parameters
    ----------
    new, destination : Path
        The folder as it is, and as it is to be named.
    aside : Path
        Where a catalog that has the name is put before it is removed.
    overwrite : bool
        Whether a HATS catalog that has the name is removed; anything else is kept.

    Raises
    ------
    CannotContinue
        If something that is not removed has the name.
    """
    for path in (new, *new.rglob("*")):
        sync(path)
    if overwrite and is_hats(destination):
        shutil.rmtree(aside, ignore_errors=True)
        destination.rename(aside)
    try:
        new.rename(destination)  # fails unless the name is free or that of an empty folder
    except OSError as error:
        raise CannotContinue(
            f"{destination} cannot be written: {error.strerror}. It appeared while the run was going on, or is not a "
            "HATS catalog: move it away, then go on with the same command."
        ) from error
    shutil.rmtree(aside, ignore_errors=True)
