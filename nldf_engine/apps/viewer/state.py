"""All that one browser has set. A state and an avatar determine the picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nldf_engine.apps.viewer.camera_path import CameraPath
from nldf_engine.apps.viewer.codes import CodeEdit
from nldf_engine.rendering.backgrounds import Background

RENDERED, BESIDE, ERROR = "rendered", "real beside rendered", "real, rendered, error"
SHOWN = (RENDERED, BESIDE, ERROR)
TRACK, STILL, VIDEO, PATH = "as in training", "still", "as in the video", "camera path"
MOTIONS = (TRACK, STILL, VIDEO, PATH)


@dataclass(frozen=True, eq=False)
class ViewState:
    """What one browser shows.

    Args:
        values: of the controls that are not at their usual value (see `controls.edit_of`).
        frame: number of the frame, from 0.
        motion: how the head moves, one of MOTIONS.
        shown: one of SHOWN; anything but RENDERED needs a video to compare with.
        background: what is behind the head (see `Engine.render`); no path of a file.
        path: key frames for the motion PATH.
        codes: changes of the motion codes.

    Raises:
        ValueError: an unknown word.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    frame: int = 0
    motion: str = TRACK
    shown: str = RENDERED
    background: Background = None
    path: CameraPath = field(default_factory=CameraPath)
    codes: tuple[CodeEdit, ...] = ()

    def __post_init__(self) -> None:
        for name, known in (("motion", MOTIONS), ("shown", SHOWN)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: expected one of {', '.join(known)}, got {getattr(self, name)!r}")

    def with_value(self, name: str, value: Any) -> ViewState:
        """The same with another value of a control."""
        return replace(self, values={**self.values, name: value})

    def like(self, other: ViewState | None) -> bool:
        """Whether both show the same but for the frame's number."""
        if other is None:
            return False
        same = all(
            getattr(self, name) == getattr(other, name) for name in ("values", "motion", "path", "codes")
        )
        return same and self.shown == other.shown and self.background is other.background
