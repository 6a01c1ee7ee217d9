"""Reading JSON that others may have written or damaged: it is checked as a whole."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from galmorph.errors import GalmorphError
from galmorph.files.reading import read_bounded

T = TypeVar("T")

# More than any of galmorph's JSON files has.
MAX_JSON_BYTES = 1 << 26
_LONGEST_SHOWN = 60
_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)


def read_json(kind: type[T], text: str | bytes, where: str, error_type: type[GalmorphError] = GalmorphError) -> T:
    """Return JSON as an object whose values have the types that its class declares.

    Parameters
    ----------
    kind : type
        A type that pydantic can read, such as a dataclass.
    text : str or bytes
    where : str
        The subject of messages: ``"The model's card"``.
    error_type : type
        Class of the error.

    Raises
    ------
    GalmorphError
        If it is not JSON, or a value has another type; the message names the first one by its path.
    """
    try:
        return _adapter(kind).validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
        given = "" if first["type"] == "missing" else f" ({str(first['input'])[:_LONGEST_SHOWN]!r} is given)"
        raise error_type(f"{where} is damaged: {path or 'all of it'}: {first['msg']}{given}.") from error


def read_json_file(kind: type[T], path: Path, error_type: type[GalmorphError] = GalmorphError) -> T:
    """Return the content of a file of JSON; see `read_json`.

    Raises
    ------
    GalmorphError
        If the file cannot be read (see `read_bounded`), or `read_json` refuses it.
    """
    try:
        content = read_bounded(path, MAX_JSON_BYTES)
    except OSError as error:
        raise error_type(f"{path} cannot be read: {error.strerror}.") from error
    return read_json(kind, content, str(path), error_type)
