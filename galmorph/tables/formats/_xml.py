"""XML with byte offsets: the content of each element and its range of bytes, for editing the file there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import NamedTuple
from xml.parsers import expat

from galmorph.errors import CatalogError
from galmorph.files.reading import CHUNK, Input
from galmorph.files.writing import Output

# Shared by all events without attributes, which are most.
_NO_ATTRIBUTES: Mapping[str, str] = MappingProxyType({})


class Event(NamedTuple):
    """A tag or text.

    Parameters
    ----------
    kind : {'start', 'end', 'text'}
        An empty element is a start followed by an end.
    name : str
        The element, without the prefix of its namespace; the text itself for text.
    prefix : str
        The prefix of the namespace with its colon, or ''.
    attributes : mapping
        The attributes of a start; see `events` for those of the end of a row.
    offset, stop : int
        Where it begins, and where the next one does.
    """

    kind: str
    name: str
    prefix: str
    attributes: Mapping[str, str]
    offset: int
    stop: int


def events(source: Input, *, text: bool = True, cells: bool = True) -> Iterator[Event]:
    """Iterate over the events of a file, in memory that does not grow with it.

    Parameters
    ----------
    source : Input
        The file, from its first byte.
    text : bool
        Whether to yield text. The blanks between tags, which are most of it, are always left out.
    cells : bool
        Whether to yield the cells (TD) and their text, which are most of a file. If not, the end of a row (TR) has
        their number as its attribute ``TD``.

    Raises
    ------
    CatalogError
        If the file is not well-formed XML, or declares entities.
    """
    seen: list[tuple[str, str, Mapping[str, str], int]] = []
    parser = expat.ParserCreate()
    n_cells = 0

    def start(name: str, attributes: Mapping[str, str]) -> None:
        if not cells and (name == "TD" or name.endswith(":TD")):
            parser.CharacterDataHandler = None
        else:
            seen.append(("start", name, attributes or _NO_ATTRIBUTES, parser.CurrentByteIndex))

    def end(name: str) -> None:
        nonlocal n_cells
        attributes = _NO_ATTRIBUTES
        if not cells and (name == "TD" or name.endswith(":TD")):
            parser.CharacterDataHandler = characters if text else None
            n_cells += 1
            return
        if not cells and (name == "TR" or name.endswith(":TR")):
            attributes, n_cells = {"TD": str(n_cells)}, 0
        seen.append(("end", name, attributes, parser.CurrentByteIndex))

    def characters(data: str) -> None:
        if not data.isspace() or (seen and seen[-1][0] == "text"):
            seen.append(("text", data, _NO_ATTRIBUTES, parser.CurrentByteIndex))

    def refuse(*_: object) -> None:
        raise CatalogError(f"{source.path} declares XML entities, which a VOTable has no need of")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = characters if text else None
    parser.EntityDeclHandler = refuse
    try:
        while data := source.read(CHUNK):
            parser.Parse(data, False)
            # The last one waits until the next one shows its end.
            yield from _events(seen)
            del seen[:-1]
        parser.Parse(b"", True)
    except (expat.ExpatError, LookupError, ValueError) as error:  # also for an encoding that Python does not have
        raise CatalogError(f"{source.path} is not well-formed XML: {error}") from error
    seen.append(("end", "", _NO_ATTRIBUTES, parser.CurrentByteIndex))
    yield from _events(seen)


def _events(seen: list[tuple[str, str, Mapping[str, str], int]]) -> Iterator[Event]:
    for (kind, name, attributes, offset), (*_, stop) in pairwise(seen):
        if kind != "text" and ":" in name:
            prefix, colon, local = name.rpartition(":")
            yield Event(kind, local, prefix + colon, attributes, offset, stop)
        else:
            yield Event(kind, name, "", attributes, offset, stop)


class Splice:
    """Copies a file with some bytes left out and others inserted.

    Parameters
    ----------
    source : Input
        The file, from its first byte.
    output : Output
        Where the result goes.
    """

    def __init__(self, source: Input, output: Output) -> None:
        self._source = source
        self._output = output
        self._at = 0
        self._new = bytearray()

    def copy(self, offset: int) -> None:
        """Copy all that is before a byte of the file and not yet copied or skipped."""
        for data in self._source.chunks(offset - self._at):
            self.insert(data)
        self._at = max(self._at, offset)

    def skip(self, offset: int) -> None:
        """Leave out all that is before a byte of the file and not yet copied."""
        for _ in self._source.chunks(offset - self._at):
            pass
        self._at = max(self._at, offset)

    def insert(self, data: bytes) -> None:
        """Put in bytes."""
        self._new += data
        if len(self._new) > CHUNK:
            self._output.write(bytes(self._new))
            self._new.clear()

    def finish(self) -> None:
        """Copy the rest."""
        for data in self._source.chunks():
            self.insert(data)
        self._output.write(bytes(self._new))
        self._new.clear()
