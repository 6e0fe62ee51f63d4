"""From windows of features to scenes: what frames look like under an edit that may change on the way."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nldf_engine.base.clock import FPS
from nldf_engine.base.progress import Bar
from nldf_engine.engine.edits.edit import Editor
from nldf_engine.engine.renderer import Renderer, Scene
from nldf_engine.geometry.cameras import Camera
from nldf_engine.rendering.fields import Conditions

# Frames whose features are kept for the gate of a new edit: beyond its longest hold (10 s) and release (5 s),
# its state depends on nothing.
REMEMBERED = round(16 * FPS)
# Frames in which the face usually goes over to a new utterance after an interruption.
RETURNING = 3
# Frames whose landmarks are made at once.
FOLLOWED_AT_ONCE = 512


@dataclass(frozen=True)
class Setting:
    """How frames are made: all that a session can change on the way.

    Args:
        camera: the view.
        editor: poses and edit.
        background: [H, W, 3] float32, or None for transparent frames.
        plate: as in `Scene`.
    """

    camera: Camera
    editor: Editor
    background: Tensor | None
    plate: Tensor | None = None


@dataclass(frozen=True)
class Given:
    """Tracks of a clip of T frames that take the place of its own; None leaves it.

    Args:
        eyes: [T] eye openness.
        torso: [T, 2, 3] motion of the torso.
        upper: [T, E] codes of brows, lids and gaze.
        motion: [T, K] motion codes of the mouth, on the renderer's device.
        sound: (samples, rate) that the features are of.
        landmarks: [T, 68, 3] metres in head space, on the renderer's device.
    """

    eyes: Tensor | None = None
    torso: Tensor | None = None
    upper: Tensor | None = None
    motion: Tensor | None = None
    sound: tuple[np.ndarray, int] | None = None
    landmarks: Tensor | None = None


class SceneMaker:
    """Windows of features to scenes of consecutive frames, as soon as the frames' neighbours are known.

    Frames are numbered from the first window on, over all utterances. What is kept does not grow with the
    sound: a window for each neighbour that a frame's code looks at, and 16 seconds of them for the gate.

    Args:
        renderer: what renders.
        given: tracks that take the place of the clip's own; of one utterance.

    Attributes:
        done: how many frames were drawn.
    """

    def __init__(self, renderer: Renderer, given: Given | None = None) -> None:
        self._renderer, self._given = renderer, given or Given()
        self._before, self._after = renderer.reach
        self.done = 0
        self._first = self._ready = 0
        self._windows: np.ndarray | None = None  # of the frames from `_first` on
        self._free: Tensor | None = None  # of the gate, for the frames from `_first` on that it has seen
        self._past: deque[np.ndarray] = deque(maxlen=REMEMBERED)
        self._followed = Followed(renderer)
        self._editor: Editor | None = None
        self._ended = False
        self._code: Tensor | None = None  # [C] of the frame drawn last
        # Frame and code at which an interruption came, and frames in which the face leaves that code.
        self._left: tuple[int, Tensor, int] | None = None

    def push(self, windows: np.ndarray, last: bool = False) -> None:
        """Takes the next windows [n, W, D] float32.

        `last` ends the utterance: once its frames are drawn, the next windows begin another one.
        """
        if self._ended:
            self.restart()
        if self._windows is None:
            self._windows = windows
        else:
            spent = max(0, self.done - self._before - self._first)
            self._first += spent
            self._free = None if self._free is None else self._free[spent:].clone()
            self._followed.drop(spent)
            self._windows = np.concatenate([self._windows[spent:], windows])
        self._past.extend(windows)
        if self._given.landmarks is None:
            self._followed.push(windows, last)
        end = self._first + len(self._windows)
        self._ready = end if last else max(self.done, end - self._after)
        self._ended = last

    def restart(self, returning: int | None = None) -> None:
        """The next windows begin a new utterance; those of frames that were not drawn are dropped.

        Args:
            returning: in how many frames the face goes over from the frame drawn last to the new utterance;
                None behind an utterance that came to its end.
        """
        if self._windows is not None:
            for _ in range(self._first + len(self._windows) - self.done):
                self._past.pop()
        self._windows = self._free = self._editor = None
        self._followed = Followed(self._renderer)
        self._first = self._ready = self.done
        self._ended = False
        if returning is not None:
            self._past.clear()  # a gate is shut behind an interruption, and holds nothing open
            self._left = (self.done, self._code, returning) if returning and self._code is not None else None

    def drawn(self, code: Tensor) -> None:
        """The next frame was drawn, under its code [C]."""
        self.done += 1
        self._code = code

    @torch.no_grad()
    def scene(self, setting: Setting) -> Scene | None:
        """The scene of the frames from number `done` on that are ready; None where there are none.

        Raises:
            ValueError: the setting's gate needs a sound (see `Editor.free`), or features that the avatar's
                network does not take.
        """
        if self._windows is None or self.done >= self._ready:
            return None
        renderer, editor = self._renderer, setting.editor
        free = self._gated(editor)
        # The frames known so far are a small clip: its ends are the sound's own, or out of reach.
        every = range(self._first, self._first + len(self._windows))
        drawn = range(self.done, self._ready)
        tracks = self._followed.tracks(len(every))
        scene = compose(renderer, setting, self._windows, every, drawn, self._given, tracks, free)
        return replace(scene, codes=self._returning(scene.codes))

    def _gated(self, editor: Editor) -> Tensor | None:
        """[T] how far the gate leaves the mouth free in the frames from `_first` on; None without a gate."""
        assert self._windows is not None
        if editor is not self._editor:  # its gate has to catch up with what it has not seen
            editor.restart_gate()
            self._editor = editor
            known = self._given.sound is not None or len(self._windows) >= len(self._past)
            whole = self._windows if known else np.stack(self._past)
            free = editor.free(whole, self._given.sound)
            self._free = None if free is None else free[len(free) - len(self._windows) :]
        elif self._free is not None and len(self._free) < len(self._windows):
            more = editor.free(self._windows[len(self._free) :])
            self._free = None if more is None else torch.cat([self._free, more])
        return self._free

    def _returning(self, codes: Tensor) -> Tensor:
        """Codes [N, C] of the frames from `done` on, blended with the last one behind an interruption."""
        if self._left is None:
            return codes
        first, code, returning = self._left
        share = torch.arange(self.done - first + 1, self.done - first + 1 + len(codes)) / (returning + 1)
        if self.done - first >= returning:
            self._left = None
            return codes
        return torch.lerp(code.expand_as(codes), codes, share.clamp_max(1)[:, None].to(codes))


class Followed:
    """The tracks that an avatar's driver makes of a sound from its beginning (`rendering.fields.Follower`),
    as far as they are still needed.

    Args:
        renderer: of the avatar; most have a driver that makes none.
    """

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer
        self._follower = renderer.portrait.head.driver.follow()
        self._rows: dict[str, Tensor] = {}

    @torch.no_grad()
    def push(self, windows: np.ndarray, last: bool) -> None:
        """Takes the next windows [n, W, D], the last ones of an utterance where `last`.

        In pieces: windows overlap, and a network over those of an hour at once would take gigabytes.
        """
        if self._follower is None:
            return
        self._renderer.check_windows(windows)
        every, device = _as_tensor(windows), self._renderer.device
        made: dict[str, list[Tensor]] = {name: [rows] for name, rows in self._rows.items()}
        with Bar("follow the speech", len(every), "frame") as bar:
            for piece in every.split(FOLLOWED_AT_ONCE):
                ends = last and bar.done + len(piece) == len(every)
                for name, rows in self._follower.push(piece.to(device), ends).items():
                    made.setdefault(name, []).append(rows)
                bar.step(len(piece))
        self._rows = {name: torch.cat(rows) for name, rows in made.items()}

    def drop(self, frames: int) -> None:
        """Forgets the first frames of those that are kept."""
        self._rows = {name: rows[frames:] for name, rows in self._rows.items()}

    def tracks(self, frames: int) -> dict[str, Tensor]:
        """The tracks [frames, ...]; of frames that are not ready yet, the last ready one's values."""
        return {
            name: torch.cat([rows, rows[-1:].expand(frames - len(rows), *rows.shape[1:])])
            for name, rows in self._rows.items() if len(rows)
        }  # fmt: skip


@torch.no_grad()
def compose(
    renderer: Renderer, setting: Setting, windows: np.ndarray, every: range, drawn: range, given: Given,
    tracks: Mapping[str, Tensor], free: Tensor | None,
) -> Scene:  # fmt: skip
    """The scene of the frames `drawn`, of what is known of the frames `every` about them.

    Args:
        renderer: what renders.
        setting: how the frames are made.
        windows: [T, W, D] float32 features of the frames `every`.
        every: numbers of T consecutive frames: those drawn, and the neighbours that their codes look at.
        drawn: numbers of consecutive frames among them.
        given: tracks of the frames `every` that take the place of their own.
        tracks: what a follower made of the sound (see `Followed`), [T, ...] each.
        free: [T] how far a gate leaves the mouth free; None without one.

    Raises:
        ValueError: features that the avatar's network does not take.
    """
    editor, device = setting.editor, renderer.device
    index, first = torch.arange(every.start, every.stop), drawn.start - every.start
    track = editor.track(index)
    eyes = track.eyes if given.eyes is None else given.eyes
    upper = track.upper if given.upper is None else editor.upper(index, given.upper)
    conditions = Conditions(_as_tensor(windows), eyes, upper=upper).to(device)
    conditions = conditions.replaced(landmarks=given.landmarks, **tracks)
    conditions = editor.conditions(conditions, given.motion, index, free)
    if drawn == every:
        codes = renderer.codes(conditions)
    else:
        codes = renderer.codes(conditions, torch.arange(first, first + len(drawn), device=device))
        track = editor.track(torch.arange(drawn.start, drawn.stop))
    torso = track.torso if given.torso is None else given.torso[first : first + len(drawn)]
    return Scene(
        editor.portrait, setting.camera, track.poses.to(device), codes, torso.to(device),
        setting.background, track.views, setting.plate,
    )  # fmt: skip


def landmarks_of(renderer: Renderer, windows: np.ndarray, eyes: Tensor) -> Tensor:
    """[T, 68, 3] metres in head space, of windows [T, W, D] of audio features and eye openness [T].

    Raises:
        ValueError: the avatar is not driven by landmarks, or windows of another shape.
    """
    followed = Followed(renderer)
    followed.push(windows, last=True)
    conditions = Conditions(_as_tensor(windows), eyes).to(renderer.device)
    return renderer.landmarks(conditions.replaced(**followed.tracks(len(windows))))


def _as_tensor(windows: np.ndarray) -> Tensor:
    """The windows, without a copy where they allow it: they overlap, and of an hour a copy takes 400 MB.

    The tensor is only read. Torch warns of arrays that say they are read-only: of such a view it is made of
    the array that owns the memory.
    """
    owner = windows
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    if min(windows.strides) < 0 or not (owner.flags.writeable and owner.flags.c_contiguous):
        return torch.from_numpy(windows.copy())
    offset = windows.__array_interface__["data"][0] - owner.__array_interface__["data"][0]
    return torch.from_numpy(np.ndarray(windows.shape, windows.dtype, owner, offset, windows.strides))


def scene_of(renderer: Renderer, windows: np.ndarray, setting: Setting, given: Given | None = None) -> Scene:
    """The scene of a whole clip.

    Args:
        renderer: what renders.
        windows: [T, W, D] float32 features of the avatar's front-end, T at least 1.
        setting: how its frames are made.
        given: tracks of T frames that take the place of its own.

    Raises:
        ValueError: no windows; and as `SceneMaker.scene`.
    """
    maker = SceneMaker(renderer, given)
    maker.push(windows, last=True)
    scene = maker.scene(setting)
    if scene is None:
        raise ValueError(f"audio: expected features of at least one frame, got {list(windows.shape)}")
    return scene
