"""The real-time path: audio in, chunk by chunk; each frame out as soon as its look-ahead has arrived.

    session = engine.session()
    for chunk in microphone():
        for frame in session.push(chunk):
            show(frame.picture, at=frame.time)

`edit`, `background` and `poses` may be replaced at any time, and take effect from the next frame on. Time per
frame and memory do not grow with the length of the audio.
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
from nldf_engine.engine.into import Pasting, Staging, check_into
from nldf_engine.engine.renderer import Poses, Renderer, Scene
from nldf_engine.engine.scenes import RETURNING, SceneMaker, Setting
from nldf_engine.geometry.tracks import Track
from nldf_engine.rendering.backgrounds import Background

Sound = np.ndarray | tuple[np.ndarray, int]
"""A chunk of audio: float32 [N] mono at 16 kHz, or (samples [N] or [N, channels], rate)."""

# Samples at 16 kHz that are processed at once: the first frame of a long chunk need not wait for its last.
PIECE = 3200


@dataclass(frozen=True)
class Frame:
    """A frame of a session.

    Args:
        picture: uint8 [H, W, 3], or [H, W, 4] with straight alpha where the background is transparent.
        number: of the frame in its session, from 0.
    """

    picture: np.ndarray
    number: int

    @property
    def time(self) -> float:
        """Presentation time in the session's audio, seconds."""
        return self.number / FPS


class Session:
    """A running conversation: audio is pushed in, frames come out. Made with `Engine.session`.

    Frame k has the presentation time k / 25 s. After `finish` or `interrupt` the next utterance starts at the
    time of the next frame: audio that an interruption drops does not advance the clock. Poses, blinks and
    background continue across utterances.

    Push audio and take frames from one thread at a time. Any thread may replace `edit`, `background` and
    `poses`.

    Args:
        renderer: what renders.
        poses, background, size, mouth, edit, edges: as for `Engine.stream`.
        staging: how footage is shown that the pictures are pasted into, at its own size; None for none.

    Raises:
        FileProblem: a file that can't be used.
        ValueError: a wrong shape, size or value, or the avatar's audio front-end can't stream.
    """

    def __init__(
        self, renderer: Renderer, poses: Poses | LivePoses = None, *, background: Background = None,
        size: int | None = None, mouth: float = 1.0, edit: Edit | None = None, edges: str = "clean",
        staging: Staging | None = None,
    ) -> None:  # fmt: skip
        self._renderer, self._edges, self._background = renderer, edges, background
        self._pasting: Pasting | None = None
        if staging is not None:
            check_into(staging.region, poses, background, edit)
            self._pasting, poses = Pasting(staging, live=True), staging.track
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
    def size(self) -> tuple[int, int]:
        """(width, height) of the pictures."""
        camera = self._setting.camera
        return (camera.width, camera.height) if self._pasting is None else self._pasting.size

    @property
    def number(self) -> int:
        """Number of the last frame that was returned; -1 before the first."""
        return self._scenes.done - 1

    @property
    def time(self) -> float:
        """Presentation time of the last frame that was returned, seconds; 0 before the first."""
        return max(0, self.number) / FPS

    @property
    def edit(self) -> Edit | None:
        """Edit of head, eyes, brows and mouth, from the next frame on; None for none.

        Raises, when it is set:
            ValueError: an edit that can't be used (see `Editor`); the previous one stays.
        """
        return self._setting.editor.edit

    @edit.setter
    def edit(self, edit: Edit | None) -> None:
        self._check_into(edit=edit)
        old = self._setting.editor
        self._replace_editor(Editor(self._renderer, edit, old.poses, old.mouth, old))

    @property
    def poses(self) -> Poses | LivePoses:
        """Head poses, from the next frame on.

        Raises, when they are set:
            FileProblem, ValueError: they can't be used (see `Editor`); the previous ones stay.
        """
        return self._setting.editor.poses

    @poses.setter
    def poses(self, poses: Poses | LivePoses) -> None:
        old = self._setting.editor
        if self._pasting is not None:
            self._check_into(poses=None if poses is old.poses else poses)
            poses = old.poses
        self._replace_editor(Editor(self._renderer, old.edit, poses, old.mouth))

    def _check_into(self, poses: object = None, background: object = None, edit: Edit | None = None) -> None:
        """Raises ValueError where footage leaves no room for what is to be set."""
        if self._pasting is not None:
            check_into(self._pasting.staging.region, poses, background, edit)

    def _replace_editor(self, editor: Editor) -> None:
        editor.warn()
        self._setting = replace(self._setting, editor=editor)

    @property
    def background(self) -> Background:
        """The background, from the next frame on.

        Raises, when it is set:
            FileProblem, ValueError: it can't be used; the previous one stays.
        """
        return self._background

    @background.setter
    def background(self, background: Background) -> None:
        self._check_into(background=background)
        behind, plate = self._renderer.backdrop(background, self._edges, self._setting.camera)
        self._background = background
        self._setting = replace(self._setting, background=behind, plate=plate)

    def push(self, samples: Sound) -> list[Frame]:
        """The rendered frames that a chunk of audio completes; see `frames`."""
        return list(self.frames(samples))

    def finish(self) -> list[Frame]:
        """Ends the utterance: its remaining frames, rendered as if silence followed."""
        return list(self.frames(None))

    def frames(self, samples: Sound | None) -> Iterator[Frame]:
        """As `push` or, for None, `finish`, but lazy: each frame is rendered when it is taken.

        The call itself queues the audio. Frames that are not taken are returned by the next call.

        Args:
            samples: see `Sound`; the rate may not change within an utterance.

        Raises:
            TypeError, ValueError: not a `Sound`, or another rate than before.
        """
        with stage("audio"):
            piece = self._sound.finish() if samples is None else self._sound.push(samples)
            self._queue.extend(piece[first : first + PIECE] for first in range(0, len(piece), PIECE))
            if samples is None:
                self._queue.append(None)
                self._sound = SoundStream()
        return self._draw()

    def interrupt(self, returning: int = RETURNING) -> None:
        """Drops all audio whose frames were not taken yet (barge-in).

        The next audio begins a new utterance at the time of the next frame. Its features do not depend on
        what was dropped. Push silence while the avatar listens: `latency` seconds of it (at 16 kHz) in one
        call give the next frame immediately.

        Args:
            returning: of so many of its first frames the codes are blended with that of the last frame
                returned.
        """
        self._queue.clear()
        self._sound, self._features = SoundStream(), FeatureStream(self._renderer.avatar.frontend)
        self._scenes.restart(returning)
        self._drawn_from = None

    def skip(self) -> bool:
        """Passes over the next frame without drawing it; False where it is not ready.

        For who is too late for it: poses, blinks and the clock go on as if it had been drawn.
        """
        made = self._next_scene()
        while made is None and self._queue:
            self._follow(self._queue.popleft())
            made = self._next_scene()
        if made is None:
            return False
        scene, setting = made
        if setting.editor.live is not None:
            setting.editor.live(self._scenes.done)
        self._drawn_from = None
        self._scenes.drawn(scene.codes[0])
        return True

    def close(self) -> None:
        """Lets go of the footage that it pastes into, where there is any; no frame can be taken then."""
        if self._pasting is not None:
            self._pasting.close()

    def _draw(self) -> Iterator[Frame]:
        while True:
            while (made := self._next_scene()) is not None:
                yield from self._draw_scene(*made)
            if not self._queue:
                return
            self._follow(self._queue.popleft())

    def _follow(self, piece: np.ndarray | None) -> None:
        """The features of a piece of sound, or of the end of an utterance."""
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
        """The frames of a scene, until the setting is replaced or another scene is drawn."""
        self._drawn_from = scene
        canvas, live = self._renderer.canvas(scene), setting.editor.live
        for number in range(len(scene)):
            done = self._scenes.done
            if live is None:
                picture = self._renderer.frame(scene, number, None, canvas)
            else:  # live poses are read as late as possible, for the lowest input latency
                picture = self._renderer.frame(_moved(scene, number, live(done)), 0, None, canvas)
            self._scenes.drawn(scene.codes[number])
            if self._pasting is not None:
                picture = self._pasting.shown(done, picture)
            yield Frame(picture, done)
            if self._drawn_from is not scene or self._setting is not setting:
                return


def _moved(scene: Scene, number: int, track: Track) -> Scene:
    """Frame `number` of a scene as a scene of one frame, with poses and motion of the track."""
    to = scene.poses.device
    return replace(
        scene, poses=track.poses.to(to), codes=scene.codes[number : number + 1], motions=track.torso.to(to),
        views=track.views,
    )  # fmt: skip


class FrameStream(Iterator[np.ndarray]):
    """Frames of streamed audio: an iterator of uint8 [H, W, 3] (4 when transparent), with number and time.

    Close it, or use it in a `with` block, to end it before the audio has ended.

    Args:
        session: what makes the frames.
        chunks: the audio.
        ahead: how many frames a second thread renders in advance; 0 for no thread.

    Attributes:
        session: as given; its `edit`, `background` and `poses` may be replaced.
        number: of the last frame that was returned; -1 before the first.
        latency: look-ahead, seconds of audio after its own time that a frame needs.

    Raises:
        ValueError: `ahead` is not an integer of at least 0.
    """

    def __init__(self, session: Session, chunks: Iterable[Sound], ahead: int = 0) -> None:
        frames = _every(session, chunks)
        self._frames = frames if ahead == 0 else make_ahead(frames, ahead)
        self.session, self.number, self.latency = session, -1, session.latency

    @property
    def time(self) -> float:
        """Presentation time of the last frame that was returned, seconds; 0 before the first."""
        return max(0, self.number) / FPS

    def __next__(self) -> np.ndarray:
        frame = next(self._frames)
        self.number = frame.number
        return frame.picture

    def close(self) -> None:
        """Ends the stream: no further chunk is taken, and the thread that renders in advance stops."""
        close = getattr(self._frames, "close", None)
        if close is not None:
            close()
        self.session.close()

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
