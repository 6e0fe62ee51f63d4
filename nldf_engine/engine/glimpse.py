"""Single frames of a sound, in any order: what a time line and sliders need.

    glimpse = Glimpse(engine.renderer, features)
    scene = glimpse.scene(120, setting)
    picture = engine.renderer.frame(scene, 0)

A frame costs the same whether its sound lasts a second or an hour, and equals that of `Engine.render`.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from torch import Tensor

from nldf_engine.engine.edits.mouth import Gate
from nldf_engine.engine.renderer import Renderer, Scene
from nldf_engine.engine.scenes import Followed, Given, Setting, compose


class Glimpse:
    """Frames of one sound, each by itself under a setting of its own.

    Args:
        renderer: what renders.
        windows: [T, W, D] float32 features of the avatar's front-end, T at least 1.

    Raises:
        ValueError: no windows, or windows that the avatar's network does not take.
    """

    def __init__(self, renderer: Renderer, windows: np.ndarray) -> None:
        if not len(windows):
            raise ValueError("windows: expected features of at least one frame, got none")
        renderer.check_windows(windows)
        self._renderer, self._windows = renderer, windows
        self._before, self._after = renderer.reach
        followed = Followed(renderer)
        followed.push(windows, last=True)
        self._tracks = followed.tracks(len(windows))
        self._free: tuple[Gate | None, Tensor | None] = (None, None)

    def __len__(self) -> int:
        return len(self._windows)

    def scene(self, number: int, setting: Setting, given: Given | None = None) -> Scene:
        """The scene of the one frame `number`.

        Args:
            number: of the frame, from 0.
            setting: how it is made; its poses are known beforehand.
            given: tracks of T frames that take the place of the sound's own, and the sound itself for a gate.

        Raises:
            IndexError: the sound has no such frame.
            ValueError: the setting's gate needs a sound (see `Editor.free`).
        """
        if not 0 <= number < len(self):
            raise IndexError(f"frame {number} of a sound of {len(self)} frames")
        every = range(max(0, number - self._before), min(len(self), number + self._after + 1))
        cut = slice(every.start, every.stop)
        given = given or Given()
        rows: dict[str, Any] = {
            field.name: value[cut]
            for field in fields(Given)
            if isinstance(value := getattr(given, field.name), Tensor)
        }
        free = self._gated(setting, given.sound)
        return compose(
            self._renderer, setting, self._windows[cut], every, range(number, number + 1), Given(**rows),
            {name: track[cut] for name, track in self._tracks.items()}, None if free is None else free[cut],
        )  # fmt: skip

    def _gated(self, setting: Setting, sound: tuple[np.ndarray, int] | None) -> Tensor | None:
        """[T] how far the setting's gate leaves the mouth free; kept while the gate stays the same."""
        mouth = setting.editor.edit.mouth
        gate = None if mouth is None else mouth.gate
        if gate is None:
            return None
        if self._free[0] != gate:
            setting.editor.restart_gate()
            self._free = gate, setting.editor.free(self._windows, sound)
        return self._free[1]
