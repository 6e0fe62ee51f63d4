"""Edits as JSON: the parts of `engine.edits.Edit` without what is read from a file.

{"head": {"yaw": 5}, "eyes": {"blink": "natural"}, "mouth": {"gain": 1.2, "gate": {"hold": 0.3}}}
"""

from __future__ import annotations

import dataclasses
from typing import Any

from nldf_engine.base.json import decode, field_types, nested
from nldf_engine.engine.edits import Edit
from nldf_engine.rendering.backgrounds import COLORS, parse_color

PARTS: dict[str, type] = {
    name: part for name, kind in field_types(Edit).items() if (part := nested(kind)) is not None
}
"""The parts of an `Edit`, by its fields."""
FROM_FILES = ("curve",)
POSES = ("track", "still")
LONGEST_NAME = 64


def _body(kind: type) -> type:
    """The dataclass of a part's fields that JSON can give."""
    types, fields = field_types(kind), []
    for item in dataclasses.fields(kind):
        if item.name in FROM_FILES:
            continue
        made = item.default_factory is not dataclasses.MISSING
        default = dataclasses.field(default_factory=item.default_factory) if made else item.default
        expected = dict[str, float] if item.name == "sliders" else types[item.name]
        fields.append((item.name, expected, default))
    return dataclasses.make_dataclass(kind.__name__, fields, frozen=True)


BODIES = {name: _body(kind) for name, kind in PARTS.items()}


def edit_of(value: Any) -> Edit:
    """The edit that JSON describes; {} is none.

    Raises:
        ValueError: an unknown part or field, or a value of another type or out of its range.
    """
    if not isinstance(value, dict) or not set(value) <= set(PARTS):
        raise ValueError(f"edit: expected an object with keys among {', '.join(PARTS)}, got {_shown(value)}")
    parts = {}
    for name, given in value.items():
        if given is None:
            continue
        body: Any = decode(BODIES[name], given, f"edit.{name}")
        kept = {item.name: getattr(body, item.name) for item in dataclasses.fields(BODIES[name])}
        try:
            parts[name] = PARTS[name](**kept)
        except (TypeError, OverflowError) as error:
            raise ValueError(f"edit.{name}: {error}") from error
    return Edit(**parts)


def background_of(value: Any) -> str | None:
    """A colour's name or #rrggbb; None for the avatar's own. Never a path.

    Raises:
        ValueError: anything else.
    """
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > LONGEST_NAME or parse_color(value) is None:
        raise ValueError(
            f"background: expected null, #rrggbb or one of {', '.join(COLORS)}, got {_shown(value)}"
        )
    return value


def poses_of(value: Any) -> str:
    """ "track" or "still"; never a path.

    Raises:
        ValueError: anything else.
    """
    if value not in POSES:
        raise ValueError(f"poses: expected one of {', '.join(POSES)}, got {_shown(value)}")
    return str(value)


CHANGES = {"edit": edit_of, "background": background_of, "poses": poses_of}
"""What may be changed of a session, and what reads it from JSON."""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "..."
