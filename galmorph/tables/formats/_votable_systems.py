"""Systems of coordinates in a VOTable: COOSYS, groups of STC, and PARAMs such as FITS and TOPCAT have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from galmorph.tables.systems import declared_frame, is_frame_name

# Elements within which a system counts for all columns that name no other.
_SCOPES = ("VOTABLE", "RESOURCE", "TABLE")


@dataclass
class _Group:
    """An open GROUP, or what is outside of all groups of a scope."""

    stc: bool = False
    id: str = ""
    ref: str = ""
    system: str | None = None
    equinox: str = ""
    columns: list[str] = field(default_factory=list)

    @property
    def frame(self) -> str | None:
        return declared_frame(self.system or "", self.equinox) if self.system is not None or self.equinox else None


class Systems:
    """The coordinate systems of a VOTable's columns, gathered from its elements.

    Sources: VOTable 1.4, sections 3.1 and 4.1; "Referencing STC in VOTable" (IVOA note of 2010).
    """

    _SYSTEM: ClassVar = ("coordrefframe", "coord_system_id", "spaceframe.name", "spaceframe", "astrocoordsystem.href")
    _NAMES: ClassVar = ("cs_frame", "radesys", "radecsys", "coord_frame", "coordrefframe", "cooframe")

    def __init__(self) -> None:
        self._by_id: dict[str, str] = {}
        self._scopes: list[tuple[list[tuple[str, str]], _Group]] = []
        self._groups: list[_Group] = []
        self._grouped: dict[str, str] = {}
        self._referred: list[tuple[list[str], str]] = []

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """Take the start of an element."""
        if name in _SCOPES:
            self._scopes.append(([], _Group()))
        elif name == "COOSYS":
            frame = declared_frame(attributes.get("system", "eq_FK5"), attributes.get("equinox", ""))
            self._declare(attributes.get("ID", ""), frame)
        elif name == "GROUP":
            stc = "stc" in attributes.get("utype", "").lower() or any(group.stc for group in self._groups)
            self._groups.append(_Group(stc, attributes.get("ID", ""), attributes.get("ref", "")))
        elif name == "FIELDref" and self._groups:
            self._groups[-1].columns.append(attributes.get("ref", ""))
        elif name in ("PARAM", "INFO") and self._scopes:
            self._take(self._groups[-1] if self._groups else self._scopes[-1][1], attributes)

    def end(self, name: str) -> None:
        """Take the end of an element."""
        if name in _SCOPES and self._scopes:
            self._scopes.pop()
        elif name == "GROUP" and self._groups:
            self._close(self._groups.pop())

    def frames(self, columns: Sequence[Mapping[str, str]]) -> list[str]:
        """Return the frame of each column of the open table, by the attributes of its FIELD."""
        for ids, ref in self._referred:
            self._grouped |= dict.fromkeys(ids, self._by_id[ref]) if ref in self._by_id else {}
        used = {column.get("ref", "") for column in columns}
        lone = [each for scope, _ in self._scopes for each in scope]
        lone = lone or [("", frame) for _, loose in self._scopes if (frame := loose.frame) is not None][-1:]
        # A system that is the only one, and that no column refers to, counts for all that refer to none.
        only = lone[0][1] if len(lone) == 1 and (not lone[0][0] or lone[0][0] not in used) else ""
        frames = []
        for column in columns:
            own = self._grouped.get(column["ID"]) if column.get("ID") else None
            frames.append(self._by_id.get(column.get("ref", ""), only) if own is None else own)
        return frames

    def _declare(self, id: str, frame: str) -> None:
        if id:
            self._by_id[id] = frame
        if self._scopes:
            self._scopes[-1][0].append((id, frame))

    def _take(self, group: _Group, attributes: Mapping[str, str]) -> None:
        value = attributes.get("value", "").rpartition("#")[2].strip()
        utype = attributes.get("utype", "").lower().rpartition(":")[2]
        name = attributes.get("name", "").lower()
        if utype.endswith("equinox") or name == "equinox":
            group.equinox = value
            return
        by_ucd = group.stc and attributes.get("ucd", "").lower() == "pos.frame"
        by_name = name in self._NAMES and (group.stc or is_frame_name(value))
        if utype.endswith(self._SYSTEM) or by_ucd or by_name:
            group.system = value

    def _close(self, group: _Group) -> None:
        """Give the columns of a group its system; what lacks one or the other goes to the group around it."""
        frame = group.frame
        if frame is not None and group.id:
            self._by_id[group.id] = frame
        if frame is not None and group.columns:
            self._grouped |= dict.fromkeys(group.columns, frame)
        elif group.ref and group.columns:
            self._referred.append((group.columns, group.ref))
        elif self._groups:
            around = self._groups[-1]
            around.columns += group.columns
            if frame is not None:
                around.system, around.equinox = group.system, group.equinox
        elif frame is not None and self._scopes:
            self._scopes[-1][0].append((group.id, frame))
