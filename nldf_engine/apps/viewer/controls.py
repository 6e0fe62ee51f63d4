"""The sliders and choices that an avatar answers to, and the edit that they make.

Nothing here knows of systems: a control is offered where the engine takes an edit with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from nldf_engine.engine import Engine, Renderer
from nldf_engine.engine.edits import (
    Edit,
    Editor,
    EyesEdit,
    Gate,
    HeadEdit,
    LandmarkEdit,
    LookEdit,
    MouthEdit,
    UpperEdit,
)
from nldf_engine.engine.edits import eyes as eyes_edit
from nldf_engine.engine.edits import look as look_edit
from nldf_engine.engine.edits import mouth as mouth_edit
from nldf_engine.engine.edits import upper as upper_edit
from nldf_engine.engine.edits.edit import trained_of
from nldf_engine.engine.edits.head import LIMITS
from nldf_engine.geometry.rotations import HEAD_NUMBERS, head_numbers

# Parts of an edit before anything is changed.
PARTS: dict[str, Any] = {
    "head": HeadEdit(limit="clamp"),
    "eyes": EyesEdit(),
    "mouth": MouthEdit(),
    "upper": UpperEdit(),
    "look": LookEdit(),
    "landmarks": LandmarkEdit(lids=(1.0, 1.0), limit="clamp"),
}
# Sliders of the head lead so far beyond what was trained, as a share of its range.
BEYOND = 0.4
# Landmarks are moved by so many millimetres at most here; edits take more.
FARTHEST = 8.0
MOST_SPEAKERS = 64
OWN = "own"


@dataclass(frozen=True)
class Control:
    """A number that a person can set.

    Args:
        name: of the control.
        folder: the group that it stands in.
        label: what is written beside it, with the unit.
        low, high, step, usual: its range, and the value that changes nothing.
        part, field: of the `Edit` that it sets.
        key: of the entry, where the field is a tuple or mapping.
        hint: a sentence more.
        seen: (low, high) that the training video shows, where that is known.
    """

    name: str
    folder: str
    label: str
    low: float
    high: float
    step: float
    usual: float
    part: str
    field: str
    key: int | str | None = None
    hint: str = ""
    seen: tuple[float, float] | None = None

    def clamp(self, value: float) -> float:
        """The value held in the control's range; the usual one where it is no number."""
        return self.usual if value != value else min(self.high, max(self.low, float(value)))

    def rounded(self, value: float) -> float:
        """The value to its steps, as a slider shows it."""
        return round(self.step * round(value / self.step), 6)


@dataclass(frozen=True)
class Choice:
    """One of several words that a person can choose; the first is the usual one.

    Args:
        name, folder, label, part, field, hint: as for `Control`.
        options: the words, and what the edit's field becomes by each.
    """

    name: str
    folder: str
    label: str
    part: str
    field: str
    options: Mapping[str, Any]
    hint: str = ""

    @property
    def usual(self) -> str:
        """The first word."""
        return next(iter(self.options))


_UNITS = "standard deviations of the training video"
_HEAD = (
    ("yaw", "turn (degrees)"),
    ("pitch", "raise (degrees)"),
    ("roll", "tilt (degrees)"),
    ("x", "move right (m)"),
    ("y", "move down (m)"),
    ("z", "move away (m)"),
)
_FACE = (
    Control("eyes", "Eyes", "openness", 0.0, eyes_edit.WIDEST, 0.05, 1.0, "eyes", "scale"),
    Control(
        "gaze right", "Eyes", "gaze right", -3.0, 3.0, 0.1, 0.0, "upper", "gaze", 0, f"in {_UNITS}"
    ),
    Control("gaze down", "Eyes", "gaze down", -3.0, 3.0, 0.1, 0.0, "upper", "gaze", 1, f"in {_UNITS}"),
    Control(
        "brows", "Eyes", "brows", -upper_edit.HIGHEST, upper_edit.HIGHEST, 0.1, 0.0, "upper", "brows",
        None, f"raised by {_UNITS}",
    ),
    Control("lively", "Eyes", "liveliness", 0.0, upper_edit.LIVELIEST, 0.05, 1.0, "upper", "scale",
        None, "how far brows and gaze move: 1 as in the training video"),
    Control("mouth", "Mouth", "strength", 0.0, mouth_edit.WIDEST, 0.05, 1.0, "mouth", "gain",
        None, "how far the mouth moves: 0 closed, 1 as predicted from the speech"),
    *(
        Control(name, "Mouth", name, -mouth_edit.STRONGEST, mouth_edit.STRONGEST, 0.1, 0.0, "mouth",
            "sliders", name, f"added, in {_UNITS}")
        for name in mouth_edit.SLIDERS
    ),
    Control("expression", "Look", "expression", 0.0, look_edit.STRONGEST, 0.05, 1.0, "look", "expression"),
    *(
        Control(f"light {label}", "Look", f"light {label}", -look_edit.BRIGHTEST, look_edit.BRIGHTEST, 0.02,
            0.0, "look", "light", place)
        for place, label in enumerate(("brightness", "from the right", "from below"))
    ),
    Control("left lid", "Landmarks", "lid at the left", 0.0, 2.0, 0.05, 1.0, "landmarks", "lids", 0),
    Control("right lid", "Landmarks", "lid at the right", 0.0, 2.0, 0.05, 1.0, "landmarks", "lids", 1),
    Control("outline", "Landmarks", "mouth and outline", 0.0, 2.0, 0.05, 1.0, "landmarks", "mouth"),
    *(
        Control(f"landmark {field}", "Landmarks", f"{label} (mm)", -FARTHEST, FARTHEST, 0.1, 0.0, "landmarks",
            field)
        for field, label in (("jaw", "jaw down"), ("lip_corners", "lip corners up"),
                             ("mouth_width", "lips wider"), ("brows", "brows up"))
    ),
)  # fmt: skip
_CHOICES = (
    Choice("limit", "Head", "beyond the training video", "head", "limit",
        {word: word for word in ("clamp", *(word for word in LIMITS if word != "clamp"))},
        "clamp holds poses that were never seen; the others show what becomes of them"),
    Choice("blink", "Eyes", "blinks", "eyes", "blink", {word: word for word in eyes_edit.BLINKS}),
    Choice("gate", "Mouth", "close the lips in silence", "mouth", "gate", {"no": None, "yes": Gate()}),
)  # fmt: skip


def edit_of(controls: Sequence[Control | Choice], values: Mapping[str, Any]) -> Edit:
    """The edit that these values make.

    Args:
        controls: that an avatar has.
        values: by the controls' names: a number for a `Control`, a word for a `Choice`; what is missing is
            usual.

    Raises:
        ValueError: a name that no control has, a word that is no option, or a number out of an edit's range.
    """
    known = {control.name: control for control in controls}
    parts: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"{name}: expected one of {', '.join(known)}")
        control = known[name]
        if value != control.usual:
            now = parts.get(control.part, PARTS[control.part])
            parts[control.part] = _changed(now, control, value)
    return Edit(**parts)


def _changed(part: Any, control: Control | Choice, value: Any) -> Any:
    if isinstance(control, Choice):
        if value not in control.options:
            raise ValueError(f"{control.name}: expected one of {', '.join(control.options)}, got {value!r}")
        return replace(part, **{control.field: control.options[value]})
    value, now = float(value), getattr(part, control.field)
    if isinstance(control.key, int):
        value = tuple(value if place == control.key else old for place, old in enumerate(now))
    elif control.key is not None:
        value = {**now, control.key: value}
    return replace(part, **{control.field: value})


def controls_of(engine: Engine) -> tuple[Control | Choice, ...]:
    """The controls that the engine's avatar answers to, in the order in which they are shown."""
    renderer = engine.renderer
    codes = [
        Control(f"code{k}", "Codes", f"code {k}", -mouth_edit.STRONGEST, mouth_edit.STRONGEST, 0.1, 0.0,
            "mouth", "sliders", f"code{k}", f"a motion code of the mouth; in {_UNITS}")
        for k in range(engine.motion_codes)
    ]  # fmt: skip
    speakers = [
        Choice(name, "Look", label, "look", name, {OWN: None, **{str(k): k for k in range(count)}})
        for name, label in (("identity", "shape of speaker"), ("albedo", "colours of speaker"))
        if (count := _speakers(renderer, name)) > 1
    ]
    offered = [*_face(renderer, _FACE), *codes, *_face(renderer, _CHOICES), *speakers]
    folders = ("Eyes", "Mouth", "Look", "Landmarks", "Codes")
    head = [*_head(renderer), *(item for item in offered if item.folder == "Head")]
    return (*head, *(item for folder in folders for item in offered if item.folder == folder))


def _face(renderer: Renderer, controls: Sequence[Any]) -> list[Any]:
    return [control for control in controls if _takes(renderer, control)]


def _takes(renderer: Renderer, control: Control | Choice) -> bool:
    """Whether the avatar takes an edit in which this control alone is not usual."""
    other = list(control.options)[-1] if isinstance(control, Choice) else control.high
    try:
        Editor(renderer, edit_of([control], {control.name: other}))
    except ValueError:
        return False
    return True


def _speakers(renderer: Renderer, name: str) -> int:
    """How many speakers the avatar can show the shape or colours of."""
    for count in range(MOST_SPEAKERS):
        try:
            Editor(renderer, Edit(look=LookEdit(**{name: count})))  # type: ignore[arg-type]
        except ValueError:
            return count
    return MOST_SPEAKERS


def _head(renderer: Renderer) -> list[Control]:
    """Offsets of the head about its most central pose, some way beyond what was trained."""
    trained = trained_of(renderer).range
    middle = head_numbers(renderer.open_track("still")(torch.arange(1)).poses)[0]
    found = []
    for place, (name, label) in enumerate(_HEAD):
        low, high = (float(end[place] - middle[place]) for end in (trained.low, trained.high))
        step = 0.1 if place < 3 else 0.001
        more = BEYOND * (high - low)
        least, most = (round(step * round(end / step), 6) for end in (low - more, high + more))
        field, key = (name, None) if place < 3 else ("shift", place - 3)
        found.append(
            Control(name, "Head", label, least, most, step, 0.0, "head", field, key, seen=(low, high))
        )
    assert [control.name for control in found] == list(HEAD_NUMBERS)
    return found
