"""Values and JSON: frozen dataclasses to plain values and back, their canonical text, their fields by dotted key."""

import contextlib
import dataclasses
import functools
import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from core.errors import BadInput
from core.numbers import parse_float, parse_int
from core.reading import printable, shown
from core.suggest import did_you_mean

T = TypeVar("T")

LARGEST = 2**63  # whole numbers below it fit wherever numbers are kept: in arrays, tables and other languages


def to_json(value: Any) -> Any:
    """A dataclass as plain JSON values."""
    return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_json(value)
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def canonical_json(value: Any) -> str:
    """Every field of a dataclass in sorted order without spaces: what a run's identity is the hash of.

    A field whose metadata says identity "if set" is left out at its default, so that a field added later does not
    rename the runs that were trained before it.
    """
    tree = _identifying(value, to_json(value))
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _identifying(value: Any, tree: dict[str, Any]) -> dict[str, Any]:
    kept = {}
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        if field.metadata.get("identity") == "if set" and inner == field.default:
            continue
        nested = dataclasses.is_dataclass(inner)
        kept[field.name] = _identifying(inner, tree[field.name]) if nested else tree[field.name]
    return kept


def from_json(kind: type[T], value: Any, where: str = "") -> T:
    """Build the frozen dataclass `kind` from JSON values; a missing key takes its default.

    Raises:
      BadInput: an unknown or wrong-typed key, naming the key, the value and what is allowed.
    """
    if not isinstance(value, Mapping):
        raise BadInput(f"{where or kind.__name__}={shown(value)}: must be an object with keys")
    hints = _hints(typing.cast(Any, kind))
    names = [field.name for field in dataclasses.fields(typing.cast(Any, kind))]
    for key in value:
        if key not in names:
            near = did_you_mean(str(key), names)
            raise BadInput(f"unknown key {printable(_dotted(where, key))}{near} {', '.join(names)}")
    return kind(**{key: _convert(hints[key], item, _dotted(where, key)) for key, item in value.items()})


def typed(kind: type[T], value: Any, where: str = "") -> T:
    """JSON values as `kind`: a TypedDict, a dataclass, or a list or dict of those.

    A TypedDict keeps keys that it does not name: a later version of the project may write them.

    Raises:
      BadInput: a key is missing or holds a value of another type; the message names it.
    """
    return typing.cast(T, _convert(kind, value, where))


def _typed_dict(kind: Any, value: Any, key: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise BadInput(f"{key or kind.__name__}={shown(value)}: must be an object with keys")
    missing = sorted(kind.__required_keys__ - value.keys())
    if missing:
        raise BadInput(f"{_dotted(key, missing[0])} is missing")
    hints = _hints(kind)
    return {
        name: _convert(hints[name], item, _dotted(key, name)) if name in hints else item
        for name, item in value.items()
    }


def _dotted(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)


@functools.lru_cache(maxsize=64)
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _convert(hint: Any, value: Any, key: str) -> Any:
    if type(value) is hint and (hint is str or hint is bool or -LARGEST < value < LARGEST):
        return value  # almost always: the specs of 10,000 runs hold half a million values
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return from_json(typing.cast(type, hint), value, key)
    if typing.is_typeddict(hint):
        return _typed_dict(hint, value, key)
    if hint is Any:
        return value
    if origin is Literal:
        if value not in arguments:
            raise BadInput(f"{key}={shown(value)}: must be one of {', '.join(map(str, arguments))}")
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _convert(next(item for item in arguments if item is not type(None)), value, key)
    if origin in (tuple, list):
        if not isinstance(value, (list, tuple)):
            raise BadInput(f"{key}={shown(value)}: must be a list")
        if origin is tuple:
            return tuple(_convert(arguments[0], item, key) for item in value)
        return [_convert(arguments[0], item, _dotted(key, place)) for place, item in enumerate(value)]
    if origin is dict:
        if not isinstance(value, Mapping):
            raise BadInput(f"{key or 'value'}={shown(value)}: must be an object with keys")
        return {name: _convert(arguments[1], item, _dotted(key, name)) for name, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise BadInput(f"{key}={shown(value)}: must be a number that a float can hold") from None
    if hint is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise BadInput(f"{key}={shown(value)}: must be {_described(hint)}")
    if hint is float and not math.isfinite(value):
        raise BadInput(f"{key}={value}: must be a finite number")
    if hint is int and not -LARGEST < value < LARGEST:
        raise BadInput(f"{key}={shown(value)}: must be a whole number below 2^63")
    return value


def _described(hint: type) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[hint]


def with_settings(value: T, settings: Mapping[str, str]) -> T:
    """Replace fields of a dataclass by dotted key: {"model.width": "96"}. Settings are JSON, or bare text.

    Raises:
      BadInput: an unknown key or a value that the field cannot take.
    """
    tree = to_json(value)
    for key, text in settings.items():
        node, parts = tree, key.split(".")
        for part in parts[:-1]:
            if not isinstance(node.get(part), dict):
                raise _unknown_key(key, tree)
            node = node[part]
        if parts[-1] not in node or isinstance(node[parts[-1]], dict):
            raise _unknown_key(key, tree)
        try:
            node[parts[-1]] = json.loads(text)
        except (ValueError, RecursionError):
            node[parts[-1]] = _number_or_text(text, node[parts[-1]])
    return from_json(type(value), tree)


def _unknown_key(key: str, tree: Mapping[str, Any]) -> BadInput:
    known = flat_keys(tree)
    return BadInput(f"unknown key {printable(key)}{did_you_mean(key, known)} {', '.join(known)}")


def _number_or_text(text: str, default: Any) -> Any:
    """100k for a number; what is left of it as text, for a field of another kind or to be refused by name."""
    if isinstance(default, int | float) and not isinstance(default, bool):
        with contextlib.suppress(ValueError):
            return parse_float(text) if isinstance(default, float) else parse_int(text)
    return text


def flat_keys(tree: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of all leaves."""
    return [
        name
        for key, value in tree.items()
        for name in (flat_keys(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key])
    ]
