"""The site file (TOML): what belongs to a cluster and not to a run, read into checked values."""

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from core.errors import BadInput
from core.numbers import finite
from core.reading import Unreadable, printable, read_bytes, shown

T = TypeVar("T")

SITE_BYTES = 1 << 20

WORDS = {int: "a whole number", float: "a number", str: "text", tuple: "a list of texts", bool: "true or false"}


def read_site(path: Path | None) -> dict[str, Any]:
    """The site file as a dictionary; empty without one.

    Raises:
      BadInput: the file is missing or not TOML.
    """
    if path is None:
        return {}
    try:
        return tomllib.loads(read_bytes(path, SITE_BYTES).decode())
    except FileNotFoundError:
        raise BadInput(f"--site={path}: no such file") from None
    except Unreadable as error:
        raise BadInput(f"--site={path}: {error.why}") from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"--site={path}: not readable as TOML ({printable(str(error))})") from None


def from_table(kind: type[T], table: object, name: str) -> T:
    """A frozen dataclass from the table [name] of the site file.

    Raises:
      BadInput: no table, an unknown key or a wrong type.
    """
    if not isinstance(table, Mapping):
        raise BadInput(f"[{name}] of the site file must be a table")
    return from_keys(kind, table)


def from_keys(kind: type[T], values: Mapping[str, Any], **more: Any) -> T:
    """A frozen dataclass from keys of the site file, each of the type of its default.

    Args:
      more: fields that are no keys, as they are.

    Raises:
      BadInput: an unknown key or a wrong type.
    """
    fields: dict[str, dataclasses.Field[Any]] = {
        field.name: field
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]  # T is a dataclass
        if field.name not in more
    }
    converted = {}
    for key, value in values.items():
        if key not in fields:
            raise BadInput(f"unknown key {shown(key)} in the site file: allowed are {', '.join(fields)}")
        default = fields[key].default
        if isinstance(default, tuple):
            if not (isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)):
                raise BadInput(f"{key}={shown(value)}: must be a list of texts")
            value = tuple(value)
        elif isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = finite(value)
        elif key in ("time", "pack") and type(value) is int:
            value = str(value)
        if type(value) is not type(default):
            raise BadInput(f"{key}={shown(value)}: must be {WORDS[type(default)]}")
        converted[key] = value
    return kind(**converted, **more)
