"""The real-time path: chunks of sound in, frames out as soon as their look-ahead has come.

The work for a frame does not grow with the sound, and neither does the memory: what is kept is 32 ms of
samples, ten seconds of levels and a window of features for each neighbour that a frame's code looks at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nldf_engine.audio import FeatureStream, SoundStream, look_ahead_seconds
from nldf_engine.base.ahead import make_ahead
from nldf_engine.base.timing import stage
from nldf_engine.engine.clip import FPS, Scene
from nldf_engine.geometry.cameras import Camera
from nldf_engine.geometry.tracks import Track
from nldf_engine.rendering.fields import Conditions

if TYPE_CHECKING:
    from nldf_engine.engine.edits.edit import Editor
    from nldf_engine.engine.edits.live import LiveTrack
    from nldf_engine.engine.engine import Engine

# Samples at 16 kHz that are treated at once: a long chunk's first frame need not wait for its last.
PIECE = 3200


@dataclass(frozen=True)
class Setting:
    """What stays the same in a stream.

    Args:
        camera: the view.
        poses: as `Engine.open_track` takes them.
        background: [H, W, 3] float32, or None for transparent frames.
        editor: what is changed of the motion; of this stream alone.
        plate: as in `clip.Scene`.
        live: what the head follows in the place of `poses`, frame by frame.
    """

    camera: Camera
    poses: Any
    background: Tensor | None
    editor: Editor
    plate: Tensor | None = None
    live: LiveTrack | None = None


class FrameStream(Iterator[np.ndarray]):
    """Frames of a running sound: an iterator of uint8 [H, W, 3] that knows its clock.

    Close it, or use it in a `with` block, to end it before the sound has ended.

    Attributes:
        number: of the frame given last, -1 before the first.
        latency: seconds of sound beyond its moment that a frame needs.
    """

    def __init__(self, frames: Iterator[np.ndarray], latency: float) -> None:
        self._frames = frames
        self.number, self.latency = -1, latency

    @property
    def time(self) -> float:
        """Moment of the sound that the frame given last belongs to, in seconds."""
        return max(0, self.number) / FPS

    def __next__(self) -> np.ndarray:
        frame = next(self._frames)
        self.number += 1
        return frame

    def close(self) -> None:
        """Ends the stream: no further chunk is taken, and the thread that renders ahead ends."""
        close = getattr(self._frames, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> FrameStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class CodeStream:
    """Windows of features to scenes of consecutive frames, as soon as the frames' neighbours are known.

    Args:
        engine: whose field makes the codes.
        setting: what stays the same.

    Raises:
        FileProblem, ValueError: poses that can't be used.
    """

    def __init__(self, engine: Engine, setting: Setting) -> None:
        self._engine, self._setting = engine, setting
        self._track = setting.editor.track(setting.poses)
        self._before, self._after = reach(engine)
        self._windows: np.ndarray | None = None  # of the frames from `_first` on
        self._free: Tensor | None = None  # likewise
        self._first = self._done = 0

    @torch.no_grad()
    def push(self, windows: np.ndarray, last: bool = False) -> Scene | None:
        """The scene of the frames that these windows [n, W, D] complete; None where there is none."""
        known = windows if self._windows is None else np.concatenate([self._windows, windows])
        free = self._setting.editor.free(windows)
        if free is not None and self._free is not None:
            free = torch.cat([self._free, free])
        end = self._first + len(known)
        ready = end if last else max(self._done, end - self._after)
        scene = None
        if ready > self._done:
            engine, setting = self._engine, self._setting
            # The frames known so far are a small clip: its ends are the sound's own, or out of reach.
            every = torch.arange(self._first, end)
            moved = self._track(every)
            conditions = Conditions(torch.from_numpy(known), moved.eyes, upper=moved.upper).to(engine.device)
            conditions = setting.editor.conditions(conditions, None, every, free)
            place = torch.arange(self._done - self._first, ready - self._first, device=engine.device)
            driven = self._track(torch.arange(self._done, ready))
            scene = Scene(
                setting.camera,
                driven.poses.to(engine.device),
                engine._portrait.field.encode_frames(conditions, place),
                driven.torso.to(engine.device),
                setting.background,
                driven.views,
                setting.plate,
                setting.editor.portrait,
            )
            self._done = ready
        spent = max(0, self._done - self._before - self._first)
        self._windows, self._first = known[spent:].copy(), self._first + spent
        self._free = None if free is None else free[spent:].clone()
        return scene


def reach(engine: Engine) -> tuple[int, int]:
    """How many frames before and after a frame its code depends on."""
    return engine._portrait.field.encoder.reach  # type: ignore[attr-defined]


def latency(engine: Engine) -> float:
    """See `Engine.latency`."""
    return look_ahead_seconds(engine.avatar.frontend) + reach(engine)[1] / FPS


def scenes(engine: Engine, chunks: Iterable[Any], setting: Setting) -> Iterator[Scene]:
    """Scenes of consecutive frames, each as soon as its sound has come; see `Engine.stream`.

    Raises:
        ValueError: the avatar's audio front-end can't stream, or poses are no rigid motions.
        FileProblem: poses that can't be read.
    """
    sound, features = SoundStream(), FeatureStream(engine.avatar.frontend)
    codes = CodeStream(engine, setting)

    def of(samples: np.ndarray) -> Iterator[Scene]:
        for first in range(0, len(samples), PIECE):
            with stage("audio"):
                scene = codes.push(features.push(samples[first : first + PIECE]))
            if scene is not None:
                yield scene

    def every() -> Iterator[Scene]:
        for chunk in chunks:
            with stage("audio"):
                samples = sound.push(chunk)
            yield from of(samples)
        yield from of(sound.finish())
        with stage("audio"):
            scene = codes.push(features.finish(), last=True)
        if scene is not None:
            yield scene

    return every()


def _turned(scene: Scene, number: int, track: Track) -> Scene:
    """Frame `number` of a scene alone, its head as in a track of one frame."""
    to = scene.poses.device
    return replace(
        scene, poses=track.poses.to(to), codes=scene.codes[number : number + 1], motions=track.torso.to(to),
        views=track.views,
    )  # fmt: skip


def render_stream(engine: Engine, chunks: Iterable[Any], setting: Setting, ahead: int = 0) -> FrameStream:
    """See `Engine.stream`.

    Raises:
        ValueError: as `scenes`, or `ahead` is no whole number of at least 0.
        FileProblem: as `scenes`.
    """

    def draw(prepared: Iterator[Scene]) -> Iterator[np.ndarray]:
        drawn = 0
        for scene in prepared:
            canvas = engine._canvas(scene)
            for number in range(len(scene.poses)):
                if setting.live is None:
                    yield engine._frame(scene, number, None, canvas)
                else:  # taken as late as can be: what a hand does is seen in the next frame
                    yield engine._frame(_turned(scene, number, setting.live(drawn)), 0, None, canvas)
                drawn += 1

    frames = draw(scenes(engine, chunks, setting))
    return FrameStream(frames if ahead == 0 else make_ahead(frames, ahead), latency(engine))
