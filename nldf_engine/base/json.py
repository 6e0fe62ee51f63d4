"""Dataclasses to JSON and back, strictly: unknown keys, wrong types and values out of range are errors.

    config = decode(Config, {"width": 64}, "config")     # ValueError: config.width: expected ...
    encode(config)                                        # {"width": 64}

Values from a command line come as text: `decode(kind, value, where, text=True)` reads numbers and booleans
from strings as well, by the same rules otherwise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

T = TypeVar("T")
WORDS = {"on": True, "yes": True, "true": True, "off": False, "no": False, "false": False}


@cache
def field_types(kind: type) -> dict[str, Any]:
    """The resolved types of a dataclass' fields that its constructor takes, by name."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.init}


def nested(expected: Any) -> type | None:
    """The dataclass that a field of the type `expected` holds, alone or optionally; else None."""
    if get_origin(expected) in (Union, UnionType):
        held = [part for part in get_args(expected) if part is not NoneType]
        return nested(held[0]) if len(held) == 1 else None
    return expected if isinstance(expected, type) and dataclasses.is_dataclass(expected) else None


def decode(kind: type[T], value: Any, where: str, text: bool = False) -> T:
    """The dataclass `kind` of what JSON said.

    Args:
        kind: a dataclass; its fields may be dataclasses, tuples, lists, dictionaries and optional.
        value: a dictionary, as `json` reads it.
        where: what it is, for messages: "config" gives "config.width: ...".
        text: numbers and booleans may be strings.

    Raises:
        ValueError: an unknown or missing key, or a value of another type or out of its range.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Size:
        ...     width: int
        ...     scale: float = 1.0
        >>> decode(Size, {"width": 3}, "size")
        Size(width=3, scale=1.0)
        >>> decode(Size, {"width": "three"}, "size")
        Traceback (most recent call last):
        ValueError: size.width: Expected `int`, got `str`
    """
    known = check_keys(kind, value, where, text)
    try:
        return msgspec.convert(known, kind, strict=not text)
    except msgspec.ValidationError as error:
        said, _, place = str(error).partition(" - at `$")
        raise ValueError(f"{where}{place.rstrip('`')}: {said}") from error


def check_keys(kind: type, value: Any, where: str, text: bool = False) -> dict[str, Any]:
    """`value` as a dictionary whose keys, and those of nested dataclasses, are fields of `kind`.

    Raises:
        ValueError: it is no dictionary, or has a key that `kind` lacks.
    """
    known = field_types(kind)
    unknown = set(value) - set(known) if isinstance(value, Mapping) else {repr(value)}
    if unknown:
        came = ", ".join(sorted(map(str, unknown)))
        raise ValueError(f"{where}: expected an object with keys among {', '.join(known)}, got {came}")
    out: dict[str, Any] = {}
    for name, item in value.items():
        inner = nested(known[name])
        if inner is not None and isinstance(item, Mapping):
            item = check_keys(inner, item, f"{where}.{name}", text)
        elif text and known[name] is bool and isinstance(item, str):
            item = WORDS.get(item.lower(), item)
        out[name] = item
    return out


def encode(value: Any) -> dict[str, Any]:
    """A dataclass as dictionaries, numbers and text; tuples stay tuples, as in `dataclasses.asdict`."""
    return dataclasses.asdict(value)


def read_back(value: Any) -> dict[str, Any]:
    """A dataclass as it is read from JSON again: lists for tuples, so that the two compare as equal."""
    made: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(encode(value)))
    return made
