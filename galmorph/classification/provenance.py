"""Provenance of a classified output, as header cards in it and as PROV-JSON beside it.

A record follows the W3C's PROV (https://www.w3.org/submissions/prov-json/) with the attributes of the IVOA Provenance
Data Model 1.0 (https://www.ivoa.net/documents/ProvenanceDM/): entities (inputs, model, output, each file with its
SHA-256), one activity (the run) and one agent (galmorph, with the versions of what it computed with).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import galmorph
from galmorph.environment import now
from galmorph.errors import CatalogError, CutoutError
from galmorph.files.reading import read_bounded
from galmorph.files.record import file_sha256
from galmorph.files.remote import Remote, is_remote
from galmorph.images.headers import band_files
from galmorph.images.picture import PictureWidth
from galmorph.models.card import ModelCard

SUFFIX = ".prov.json"
# A record has only names of files and options; a larger file is not galmorph's.
_MAX_RECORD_BYTES = 1 << 26
# A user's schema as JSON: in headers, and in the record beside the output.
SCHEMA_CARD, _SCHEMA_ATTRIBUTE = "GMLABELS", "galmorph:labels"
_PREFIXES = {
    "voprov": "http://www.ivoa.net/documents/ProvenanceDM/index.html#",
    "galmorph": "urn:galmorph:",
}
_LIBRARIES = ("torch", "numpy", "astropy")

Attributes = dict[str, Any]


def provenance(predictor: Any) -> list[tuple[str, Any, str]]:
    """Return the header cards with the origin of the columns."""
    card = predictor.model.card
    own = [(SCHEMA_CARD, schema_text(card), "the label schema itself")] if card.schema_definition else []
    return [
        ("GMVERS", galmorph.__version__, "galmorph version"),
        ("GMMODEL", card.name, "model of morphology"),
        ("GMSHA256", predictor.model.sha256, "SHA-256 of the weights"),
        ("GMSCHEMA", card.schema, "label schema"),
        *own,
        ("GMCALIB", card.calibration.get("method", "none"), "calibration"),
        ("GMDTYPE", str(predictor.dtype).removeprefix("torch."), "number format of the network"),
        ("GMTTA", predictor.tta, "orientations averaged"),
        ("GMDATE", now().strftime("%Y-%m-%dT%H:%M:%S"), "when classified (UTC)"),
    ]


@dataclass
class _Entities:
    """The fields of a record that are read."""

    entity: dict[str, dict[str, Any]]


def schema_text(card: ModelCard) -> str:
    """Return a card's own schema as JSON."""
    return json.dumps(card.schema_definition, sort_keys=True)


def recorded_schema(output: Path) -> str:
    """Return the schema (JSON) in the record beside an output; '' where there is none."""
    path = record_path(output)
    if not is_record(path):
        return ""
    model = _entities(path).get("run:model", {})
    return str(model.get(_SCHEMA_ATTRIBUTE, ""))


def _entities(record: Path) -> dict[str, dict[str, Any]]:
    from galmorph.files.checked_json import read_json_file

    return read_json_file(_Entities, record, CatalogError).entity


def picture_cards(width: PictureWidth) -> list[tuple[str, Any, str]]:
    """Return the cards of a run with cutouts that are pictures."""
    cards = [("GMINPUT", "8-bit pictures", "of the rows with bit 4096 of the flag")]
    return [*cards, ("GMWIDTH", str(width), "full width of the pictures")] if str(width) else cards


class Record:
    """The provenance of one run; made before its output is written, because that may replace an input.

    Parameters
    ----------
    fingerprint : mapping
        What identifies the run, as in the journal: ``source`` (of which the files are read here), ``model``
        (the SHA-256 of its weights), and options and versions by name; ``model_file`` too, where the model does not
        ship with galmorph.
    started : float
        When the run began, seconds since 1970.
    output : Path
        Paths in the record are relative to its folder.
    """

    def __init__(self, fingerprint: Mapping[str, Any], card: ModelCard, started: float, output: Path) -> None:
        self._output = output
        self._folder = output.parent.resolve()
        self._started = started
        self._options = {
            k: v
            for k, v in fingerprint.items()
            if k not in ("model", "model_file") and isinstance(v, str | int | float)
        }
        source = fingerprint.get("source")
        source = source if isinstance(source, Mapping) else {}
        self._options |= {k: v for k in ("hdu", "size", "address") if isinstance(v := source.get(k), str | int)}
        self._used = [(role, self._entity(path)) for role, path in _files(source)]
        model = {"prov:label": card.name, "galmorph:sha256": fingerprint["model"], "galmorph:schema": card.schema}
        if file := fingerprint.get("model_file"):
            model["voprov:location"] = location(Path(file), self._folder)
        own = {_SCHEMA_ATTRIBUTE: schema_text(card)} if card.schema_definition else {}
        self._used.append(("model", model | {"galmorph:backbone": card.backbone} | own))

    def of(self, content: Path) -> tuple[Path, bytes, bool]:
        """Return the path of the record, its content, and whether it may replace an existing file.

        Parameters
        ----------
        content : Path
            The complete output, before it gets its name.

        With ``SOURCE_DATE_EPOCH`` set, the same run writes the same bytes.
        """
        path = record_path(self._output)
        started, ended = (now(seconds).strftime("%Y-%m-%dT%H:%M:%S+00:00") for seconds in (self._started, None))
        body = self._body(self._entity(self._output, content), started, ended)
        # Unique names, made of the content: the same run always has the same ones.
        run = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        document = {"prefix": _PREFIXES | {"run": f"urn:sha256:{run}:"}, **body}
        return path, json.dumps(document, indent=1).encode() + b"\n", is_record(path)

    def _body(self, output: Attributes, started: str, ended: str) -> dict[str, dict[str, Attributes]]:
        names = [f"run:{role}" for role, _ in self._used]
        names = [name if names.count(name) == 1 else f"{name}-{i + 1}" for i, name in enumerate(names)]
        agent: Attributes = {
            "prov:type": {"$": "prov:SoftwareAgent", "type": "prov:QUALIFIED_NAME"},
            "voprov:name": "galmorph",
            "galmorph:version": galmorph.__version__,
            "galmorph:python": platform.python_version(),
        }
        agent |= {f"galmorph:{name}": importlib.metadata.version(name) for name in _LIBRARIES}
        activity: Attributes = {"prov:startTime": started, "prov:endTime": ended, "voprov:name": "galmorph classify"}
        versions = {"galmorph", *_LIBRARIES}
        activity |= {f"galmorph:{name}": value for name, value in self._options.items() if name not in versions}
        this: Attributes = {"prov:activity": "run:classify"}
        made_of = [name for name in names if name != "run:model"]
        return {
            "entity": {
                **{name: entity for name, (_, entity) in zip(names, self._used, strict=True)},
                "run:output": output | {"voprov:generatedAtTime": {"$": ended, "type": "xsd:dateTime"}},
            },
            "activity": {"run:classify": activity},
            "agent": {"run:galmorph": agent},
            "used": {
                f"_:used-{i}": this | {"prov:entity": name, "prov:role": role}
                for i, (name, (role, _)) in enumerate(zip(names, self._used, strict=True))
            },
            "wasGeneratedBy": {
                "_:made": {"prov:entity": "run:output", **this, "prov:time": ended, "prov:role": "output"}
            },
            "wasAssociatedWith": {"_:by": this | {"prov:agent": "run:galmorph"}},
            "wasAttributedTo": {"_:of": {"prov:entity": "run:output", "prov:agent": "run:galmorph"}},
            "wasDerivedFrom": {
                f"_:from-{i}": {"prov:generatedEntity": "run:output", "prov:usedEntity": name, **this}
                for i, name in enumerate(made_of)
            },
        }

    def _entity(self, path: Path, content: Path | None = None) -> Attributes:
        if is_remote(path):
            address = Remote.of(path)
            return {"prov:label": address.name, "voprov:location": str(address)}
        entity: Attributes = {"prov:label": path.name, "voprov:location": location(path, self._folder)}
        content = content or path
        if content.is_file():
            entity |= {"galmorph:bytes": content.stat().st_size, "galmorph:sha256": file_sha256(content)}
        elif path.is_dir():
            entity["prov:type"] = {"$": "prov:Collection", "type": "prov:QUALIFIED_NAME"}
        return entity


def record_path(output: Path) -> Path:
    """Return the path of an output's record: ``<output>.prov.json``."""
    return output.with_name(output.name + SUFFIX)


def recorded(output: Path, role: str) -> list[Path]:
    """Return the files or folders of an output's inputs, by the record beside it.

    It is empty if there is no record, or if one of them is missing. The role is ``cutouts``, ``input``, ``image`` or
    ``catalog``.
    """
    if not is_record(record_path(output)):
        return []
    entities = _entities(record_path(output))
    named = [value for key, value in entities.items() if re.fullmatch(rf"run:{role}(-\d+)?", key)]
    texts = [str(value.get("voprov:location", "")) for value in named]
    paths = [output.parent / Path(text).expanduser() for text in texts if text and not is_remote(text)]
    return paths if all(path.exists() for path in paths) else []


def is_record(path: Path) -> bool:
    """Whether a file is a record that galmorph wrote."""
    try:
        prefixes = json.loads(read_bounded(path, _MAX_RECORD_BYTES))["prefix"]
        return not path.is_symlink() and isinstance(prefixes, dict) and prefixes.items() >= _PREFIXES.items()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def location(path: Path, folder: Path) -> str:
    """Return the path of a file relative to a folder; a home folder that does not contain both becomes ``~``."""
    path, home = path.resolve(), Path.home().resolve()
    common = Path(os.path.commonpath([path, folder]))
    above_home = home != common and home.is_relative_to(common)
    if common != Path(common.anchor) and not above_home:
        return Path(os.path.relpath(path, folder)).as_posix()
    return f"~/{path.relative_to(home).as_posix()}" if path.is_relative_to(home) else path.as_posix()


def _files(source: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """Yield the files and folders that a source's fingerprint names, each with its role."""
    if "path" in source:
        path = Path(source["path"])
        if "{band}" not in path.name:
            is_folder = "files" in source and (path.is_dir() or is_remote(path))
            yield "cutouts" if is_folder else "input", path
        else:
            with suppress(CutoutError):
                yield from (("input", Path(file)) for file in band_files(str(path)).values())
    for image in source.get("images", ()):
        yield "image", Path(image["path"])
    if "catalog" in source:
        yield "catalog", Path(source["catalog"]["path"])
    if "cutouts" in source:
        yield "cutouts", Path(source["cutouts"])
