"""JSON files, read as if a stranger had sent them: those that this package wrote, with known fields, and others."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeAlias, get_args

from .whole_files import write_json

Fields: TypeAlias = Mapping[str, type | UnionType]

CHECKSUM = "checksum"  # of the other fields

_MOST_BYTES = 2**24
_IN_WORDS = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    dict: "an object",
    list: "a list",
    NoneType: "null",
}
_SHOWN = 60  # characters of what was found


def write_object(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON object with a checksum of its fields, whole or not at all.

    Raises:
        OSError: if it cannot be written; says which file and why.
    """
    write_json(path, {**values, CHECKSUM: _checksum(values)})


def read_object(path: Path, fields: Fields, remedy: str) -> dict[str, Any]:
    """Read a JSON object and check that it has the fields it should have, and its checksum, if there is one.

    Args:
        path: of the file.
        fields: the type of each.
        remedy: what to do where it is damaged, for the message.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no regular file, no JSON object, a field is missing or of another type, or something was
            changed; says which.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there")
    try:
        values = _load(path)
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({str(error)[:200]}): {remedy}") from None
    check_fields(values, fields, str(path), remedy)
    checksum = values.pop(CHECKSUM, None)
    if checksum is not None and checksum != _checksum(values):
        raise ValueError(f"{path} is damaged (its content does not have the checksum it was written with): {remedy}")
    return values


def read_mapping(path: str | Path) -> dict[str, Any]:
    """Read a JSON object that somebody has made.

    Raises:
        ValueError: if it cannot be read, or is something else; says which file and why.
    """
    try:
        values = _load(Path(path))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot read {path}: {str(error)[:200]}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} should hold a JSON object, found {_shown(values)}")
    return values


def check_fields(values: Any, fields: Fields, where: str, remedy: str) -> None:
    """Check what was read from JSON.

    Args:
        values: should be an object.
        fields: the type of each field.
        where: it was found, for the message.
        remedy: what to do, for the message.

    Raises:
        ValueError: if it is no object, or a field is missing or of another type; says which.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{where} is damaged (expected an object, found {_shown(values)}): {remedy}")
    for name, kind in fields.items():
        if name not in values:
            raise ValueError(f"{where} is damaged ({name!r} is missing): {remedy}")
        kinds = get_args(kind) or (kind,)
        value = values[name]
        # True is a number to Python only
        if not isinstance(value, kinds) or isinstance(value, bool):
            wanted = " or ".join(_IN_WORDS[kind] for kind in kinds)
            raise ValueError(f"{where} is damaged ({name!r} should be {wanted}, found {_shown(value)}): {remedy}")


def _load(path: Path) -> Any:
    if not path.is_file():
        raise ValueError("it is no regular file")
    if (size := path.stat().st_size) > _MOST_BYTES:
        raise ValueError(f"{size} bytes are more than such a file ever has")
    return json.loads(path.read_text(encoding="utf-8"))


def _checksum(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."
