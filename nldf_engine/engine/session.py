"""The real-time path: sound in, piece by piece; frames out as soon as their look-ahead has come.

    session = engine.session()
    for chunk in microphone():
        for frame in session.push(chunk):
            show(frame.picture, at=frame.time)

What changes how frames are made (`edit`, `background`, `poses`) may be replaced at any moment and acts from
the next frame on. The work for a frame does not grow with the sound, and neither does the memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from types import TracebackType

import numpy as np

from nldf_engine.audio import FeatureStream, SoundStream
from nldf_engine.base.ahead import make_ahead
from nldf_engine.base.clock import FPS
from nldf_engine.base.timing import stage
from nldf_engine.engine.edits.edit import Edit, Editor
from nldf_engine.engine.edits.live import LivePoses
from nldf_engine.engine.renderer import Poses, Renderer, Scene
from nldf_engine.engine.scenes import SceneMaker, Setting
from nldf_engine.geometry.tracks import Track
from nldf_engine.rendering.backgrounds import Background

Sound = np.ndarray | tuple[np.ndarray, int]
"""A piece of sound: float32 [N] mono at 16 kHz, or (samples [N] or [N, channels], rate)."""

# Samples at 16 kHz that are treated at once: a long chunk's first frame need not wait for its last.
PIECE = 3200


@dataclass(frozen=True)
class Frame:
    """A frame of a session.

    Args:
        picture: uint8 [H, W, 3], or [H, W, 4] with straight alpha before a transparent background.
        number: of the frame in its session, from 0.
    """

    picture: np.ndarray
    number: int

    @property
    def time(self) -> float:
        """The moment of the session's sound that it belongs to, in seconds."""
        return self.number / FPS


class Session:
    """A running conversation: sound is pushed in, frames come out. Made with `Engine.session`.

    Frame k belongs to k / 25 s of the session's sound. A sound that ends (`finish`) or is cut off
    (`interrupt`) is followed by the next one at the next frame's moment; what an interruption drops was never
    part of the clock. Poses, blinks and background continue over all sounds.

    One thread at a time pushes sound and takes frames. Any thread may replace `edit`, `background` and
    `poses`.

    Args:
        renderer: what renders.
        poses, background, size, mouth, edit, edges: as for `Engine.stream`.

    Raises:
        FileProblem: a file that can't be used.
        ValueError: a wrong shape, size or value, or the avatar's audio front-end can't stream.
    """

    def __init__(
        self, renderer: Renderer, poses: Poses | LivePoses = None, *, background: Background = None,
        size: int | None = None, mouth: float = 1.0, edit: Edit | None = None, edges: str = "clean",
    ) -> None:  # fmt: skip
        self._renderer, self._edges, self._background = renderer, edges, background
        camera = renderer.camera(size)
        behind, plate = renderer.backdrop(background, edges, camera)
        editor = Editor(renderer, edit, poses, mouth)
        editor.warn()
        self._setting = Setting(camera, editor, behind, plate)
        self._features = FeatureStream(renderer.avatar.frontend)
        self._sound = SoundStream()
        self._queue: deque[np.ndarray | None] = deque()  # pieces at 16 kHz; None ends an utterance
        self._scenes = SceneMaker(renderer)
        self._drawn_from: Scene | None = None
        self.latency = renderer.latency

    @property
    def number(self) -> int:
        """Of the frame given last, -1 before the first."""
        return self._scenes.done - 1

    @property
    def time(self) -> float:
        """The moment of the session's sound that the frame given last belongs to, in seconds."""
        return max(0, self.number) / FPS

    @property
    def edit(self) -> Edit | None:
        """What is changed of head, eyes, brows and mouth, from the next frame on; None for nothing.

        Raises, where it is replaced:
            ValueError: it can't be (see `Editor`); the edit before it stays.
        """
        return self._setting.editor.edit

    @edit.setter
    def edit(self, edit: Edit | None) -> None:
        old = self._setting.editor
        self._replace_editor(Editor(self._renderer, edit, old.poses, old.mouth, old))

    @property
    def poses(self) -> Poses | LivePoses:
        """How the head moves, from the next frame on.

        Raises, where they are replaced:
            FileProblem, ValueError: they can't be used (see `Editor`); the poses before them stay.
        """
        return self._setting.editor.poses

    @poses.setter
    def poses(self, poses: Poses | LivePoses) -> None:
        old = self._setting.editor
        self._replace_editor(Editor(self._renderer, old.edit, poses, old.mouth))

    def _replace_editor(self, editor: Editor) -> None:
        editor.warn()
        self._setting = replace(self._setting, editor=editor)

    @property
    def background(self) -> Background:
        """What is behind, from the next frame on.

        Raises, where it is replaced:
            FileProblem, ValueError: it can't be used; the background before it stays.
        """
        return self._background

    @background.setter
    def background(self, background: Background) -> None:
        behind, plate = self._renderer.backdrop(background, self._edges, self._setting.camera)
        self._background = background
        self._setting = replace(self._setting, background=behind, plate=plate)

    def push(self, samples: Sound) -> list[Frame]:
        """The frames that a piece of sound completes, drawn; see `frames`."""
        return list(self.frames(samples))

    def finish(self) -> list[Frame]:
        """The frames that are left when the sound has ended; silence follows it."""
        return list(self.frames(None))

    def frames(self, samples: Sound | None) -> Iterator[Frame]:
        """As `push` and, for None, as `finish`; each frame is drawn when it is taken.

        The sound is queued by the call itself. Frames that are not taken come with the next sound's.

        Args:
            samples: see `Sound`; all of one rate until the sound ends.

        Raises:
            TypeError, ValueError: no such sound, or another rate than before.
        """
        with stage("audio"):
            piece = self._sound.finish() if samples is None else self._sound.push(samples)
            self._queue.extend(piece[first : first + PIECE] for first in range(0, len(piece), PIECE))
            if samples is None:
                self._queue.append(None)
                self._sound = SoundStream()
        return self._draw()

    def interrupt(self) -> None:
        """Drops all sound whose frames were not taken; the mouth returns to rest as the next sound begins.

        That sound begins a new utterance at the next frame's moment: its front-end knows nothing of what was
        dropped, and in the first three frames the face goes over from the frame given last. Push silence for
        as long as the avatar listens: `latency` seconds of it at once give the next frame at once.
        """
        self._queue.clear()
        self._sound, self._features = SoundStream(), FeatureStream(self._renderer.avatar.frontend)
        self._scenes.restart(interrupted=True)
        self._drawn_from = None

    def _draw(self) -> Iterator[Frame]:
        while True:
            while (made := self._next_scene()) is not None:
                yield from self._draw_scene(*made)
            if not self._queue:
                return
            piece = self._queue.popleft()
            with stage("audio"):
                if piece is None:
                    self._scenes.push(self._features.finish(), last=True)
                    self._features = FeatureStream(self._renderer.avatar.frontend)
                else:
                    self._scenes.push(self._features.push(piece))

    def _next_scene(self) -> tuple[Scene, Setting] | None:
        setting = self._setting
        with stage("audio"):
            scene = self._scenes.scene(setting)
        return None if scene is None else (scene, setting)

    def _draw_scene(self, scene: Scene, setting: Setting) -> Iterator[Frame]:
        """The frames of a scene, as long as its setting holds and nothing else was drawn."""
        self._drawn_from = scene
        canvas, live = self._renderer.canvas(scene), setting.editor.live
        for number in range(len(scene)):
            done = self._scenes.done
            if live is None:
                picture = self._renderer.frame(scene, number, None, canvas)
            else:  # taken as late as can be: what a hand does is seen in the next frame
                picture = self._renderer.frame(_moved(scene, number, live(done)), 0, None, canvas)
            self._scenes.drawn(scene.codes[number])
            yield Frame(picture, done)
            if self._drawn_from is not scene or self._setting is not setting:
                return


def _moved(scene: Scene, number: int, track: Track) -> Scene:
    """Frame `number` of a scene alone, its head as in a track of one frame."""
    to = scene.poses.device
    return replace(
        scene, poses=track.poses.to(to), codes=scene.codes[number : number + 1], motions=track.torso.to(to),
        views=track.views,
    )  # fmt: skip


class FrameStream(Iterator[np.ndarray]):
    """Frames of a running sound: an iterator of uint8 [H, W, 3] that knows its clock.

    Close it, or use it in a `with` block, to end it before the sound has ended.

    Args:
        session: what makes the frames.
        chunks: the sound, piece by piece.
        ahead: how many frames a second thread makes ahead of their use; none where 0.

    Attributes:
        session: as given; its `edit`, `background` and `poses` may be replaced.
        number: of the frame given last, -1 before the first.
        latency: seconds of sound beyond its moment that a frame needs.

    Raises:
        ValueError: `ahead` is no whole number of at least 0.
    """

    def __init__(self, session: Session, chunks: Iterable[Sound], ahead: int = 0) -> None:
        frames = _every(session, chunks)
        self._frames = frames if ahead == 0 else make_ahead(frames, ahead)
        self.session, self.number, self.latency = session, -1, session.latency

    @property
    def time(self) -> float:
        """Moment of the sound that the frame given last belongs to, in seconds."""
        return max(0, self.number) / FPS

    def __next__(self) -> np.ndarray:
        frame = next(self._frames)
        self.number = frame.number
        return frame.picture

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


def _every(session: Session, chunks: Iterable[Sound]) -> Iterator[Frame]:
    for chunk in chunks:
        yield from session.frames(chunk)
    yield from session.frames(None)
