"""One browser's side of the viewer, without the browser: what is set, and what can be done to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from nldf_engine.apps.viewer.artist import Artist, Pace
from nldf_engine.apps.viewer.camera_path import Key
from nldf_engine.apps.viewer.codes import CodeEdit
from nldf_engine.apps.viewer.controls import Choice, Control
from nldf_engine.apps.viewer.picture import AvatarPictures, Picture
from nldf_engine.apps.viewer.playhead import Playhead
from nldf_engine.apps.viewer.state import PATH, STILL, TRACK, VIDEO, ViewState
from nldf_engine.apps.viewer.take import Take, silent_take
from nldf_engine.apps.viewer.turning import Turning
from nldf_engine.engine import Engine


class Desk:
    """The state of one browser. Any thread may change it; a thread of its own draws.

    Args:
        engine: of the avatar; used by this desk alone.
        take: what is said first; silence where None.
        controls: see `AvatarPictures`.
        show: takes each picture and whether it is at full width.
        complain: takes what went wrong.
        now: a clock in seconds.

    Attributes:
        pictures: what draws.
        playhead: the time line.
        turning: drags of the camera.
    """

    def __init__(
        self, engine: Engine, take: Take | None, controls: Sequence[Control | Choice] | None,
        show: Callable[[Picture, bool], None],
        complain: Callable[[Exception], None], now: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.engine, self._now = engine, now
        self.pictures = AvatarPictures(engine, take or silent_take(engine), controls)
        self.playhead = Playhead(len(self.pictures.take), now)
        self._lock = threading.RLock()
        self._state = self._fresh()
        head = {c.name: c for c in self.pictures.controls if isinstance(c, Control) and c.folder == "Head"}
        self.turning = Turning(head)
        pace = Pace(engine.avatar.camera.width)
        self.artist: Artist[ViewState, Picture] = Artist(self._draw, show, complain, pace, self._moving)

    @property
    def state(self) -> ViewState:
        """The state now, at the frame that the time line is at."""
        return replace(self._state, frame=self.playhead.frame)

    def start(self) -> None:
        """Begins to draw."""
        self.artist.start()
        self.redraw()

    def close(self) -> None:
        """Ends the drawing."""
        self.playhead.pause()
        self.artist.stop()

    def redraw(self) -> None:
        """Draws the state again."""
        self.artist.change(self.state)

    # Changes.

    def set(self, name: str, value: Any) -> None:
        """Sets a control; a number is held in its range.

        Raises:
            ValueError: the avatar has no such control, or the word is no option of it.
        """
        control = next((each for each in self.pictures.controls if each.name == name), None)
        if control is None:
            raise ValueError(f"{name}: the avatar has no such control")
        if isinstance(control, Control):
            value = control.clamp(float(value))
        elif value not in control.options:
            raise ValueError(f"{name}: expected one of {', '.join(control.options)}, got {value!r}")
        with self._lock:
            self._state = self._state.with_value(name, value)
        self.redraw()

    def change(self, **fields: Any) -> None:
        """Replaces fields of the state (see `ViewState`).

        Raises:
            ValueError: a word that the avatar or the take does not have.
        """
        for name, known in (("motion", self.pictures.motions), ("shown", self.pictures.shown)):
            if fields.get(name, known[0]) not in known:
                raise ValueError(f"{name}: expected one of {', '.join(known)}, got {fields[name]!r}")
        with self._lock:
            self._state = replace(self._state, **fields)
        self.redraw()

    def drag(self, wxyz: Any, position: Any) -> dict[str, float]:
        """Turns and moves the head as a camera was dragged; returns the controls that changed."""
        with self._lock:
            moved = self.turning.drag(wxyz, position, dict(self._state.values))
            for name, value in moved.items():
                self._state = self._state.with_value(name, value)
        if moved:
            self.redraw()
        return moved

    def reset(self) -> None:
        """All controls as usual; motion, background, path and codes stay."""
        self.turning.rest()
        self.change(values={})

    def say(self, take: Take) -> None:
        """Something else to say, from its beginning."""
        pictures = self.pictures.said(take)
        with self._lock:
            old, self.pictures = self._state, pictures
            self.playhead = Playhead(len(take), self._now)
            self._state = replace(self._fresh(), values=old.values, background=old.background, path=old.path)
            if old.motion == STILL or (old.motion == PATH and old.path.keys):
                self._state = replace(self._state, motion=old.motion)
        self.redraw()

    # The time line.

    def play(self) -> None:
        """Plays on, or from the beginning where it is at its end."""
        self.playhead.play()
        self.redraw()

    def pause(self) -> None:
        """Stops."""
        self.playhead.pause()
        self.redraw()

    def seek(self, frame: int) -> None:
        """Moves to a frame."""
        self.playhead.seek(frame)
        self.redraw()

    # The camera path, and the codes.

    def set_key(self) -> None:
        """Makes the head's numbers at this frame a key frame of the path.

        Raises:
            ValueError: the path has too many.
        """
        state = self.state
        head = self.pictures.head(state)
        with self._lock:
            self._state = replace(self._state, path=self._state.path.with_key(Key(state.frame, head)))
        self.redraw()

    def drop_key(self) -> None:
        """Takes the key frame nearest to this frame out of the path."""
        with self._lock:
            path = self._state.path.without(self.playhead.frame)
            motion = TRACK if self._state.motion == PATH and not path.keys else self._state.motion
            self._state = replace(self._state, path=path, motion=motion)
        self.redraw()

    def preview_path(self) -> None:
        """Plays the path from the beginning, with the head's controls at rest: they are in its key frames.

        Raises:
            ValueError: it has no key frames.
        """
        with self._lock:
            self._state.path.poses(1)
            values = {k: v for k, v in self._state.values.items() if k not in self.turning.names}
            self._state = replace(self._state, values=values, motion=PATH)
        self.playhead.seek(0)
        self.play()

    def add_codes(self, edit: CodeEdit) -> None:
        """Changes a motion code over a stretch of the take.

        Raises:
            ValueError: the avatar has no such code.
        """
        if edit.code >= self.engine.motion_codes:
            raise ValueError(
                f"codes: the avatar has {self.engine.motion_codes} motion codes, got {edit.code}"
            )
        self.change(codes=(*self._state.codes, edit))

    # Drawing.

    def _fresh(self) -> ViewState:
        return ViewState(motion=VIDEO if self.pictures.take.poses is not None else TRACK)

    def _moving(self) -> ViewState | None:
        return self.state if self.playhead.playing else None

    def _draw(self, state: ViewState, width: int | None) -> Picture:
        return self.pictures.draw(state, width)
