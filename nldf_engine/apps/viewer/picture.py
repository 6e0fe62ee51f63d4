"""A state becomes a picture."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nldf_engine.apps.viewer.codes import changed
from nldf_engine.apps.viewer.compare import beside
from nldf_engine.apps.viewer.controls import PARTS, Choice, Control, controls_of, edit_of
from nldf_engine.apps.viewer.state import ERROR, PATH, RENDERED, SHOWN, STILL, TRACK, VIDEO, ViewState
from nldf_engine.apps.viewer.take import Take
from nldf_engine.engine import Clip, Engine
from nldf_engine.engine.edits import Edit, Editor, HeadEdit
from nldf_engine.engine.edits.edit import trained_of
from nldf_engine.engine.glimpse import Glimpse
from nldf_engine.engine.renderer import Poses
from nldf_engine.engine.scenes import Given, Setting
from nldf_engine.geometry.rotations import head_numbers

SETTINGS_KEPT = 4


@dataclass(frozen=True)
class Picture:
    """What is shown.

    Args:
        pixels: uint8 [H, W, 3 or 4]; wider than one frame where several stand in a row.
        psnr: in dB, of the rendered frame against the real one; None without one.
        frame: its number.
    """

    pixels: np.ndarray
    psnr: float | None
    frame: int


class AvatarPictures:
    """Draws an avatar as states say. Its engine and what it keeps are its own: one for each browser.

    Threads take turns in it.

    Args:
        engine: of the avatar; used by this object alone.
        take: what is said.
        controls: that the avatar answers to, where they are known; they take a second to find out.

    Attributes:
        engine, take, controls: as given.
    """

    def __init__(
        self, engine: Engine, take: Take, controls: Sequence[Control | Choice] | None = None
    ) -> None:
        self.engine, self.take = engine, take
        self.controls = tuple(controls_of(engine) if controls is None else controls)
        self._lock = threading.RLock()
        self._glimpse = Glimpse(engine.renderer, take.features)
        self._settings: OrderedDict[int, tuple[ViewState, Setting]] = OrderedDict()
        self._spoken: Tensor | None = None
        self._codes: tuple[ViewState | None, Tensor | None] = (None, None)

    def said(self, take: Take) -> AvatarPictures:
        """The same engine with something else to say."""
        made = AvatarPictures(self.engine, take, self.controls)
        made._lock = self._lock  # both draw with one engine
        return made

    @property
    def motions(self) -> tuple[str, ...]:
        """How its head can move: of `state.MOTIONS`."""
        return (TRACK, STILL, *([] if self.take.poses is None else [VIDEO]), PATH)

    @property
    def shown(self) -> tuple[str, ...]:
        """What can be shown: of `state.SHOWN`."""
        return (RENDERED,) if self.take.real is None else SHOWN

    @property
    def codes(self) -> Tensor | None:
        """[T, K] motion codes of the mouth as predicted from the speech; None where the avatar has none."""
        if not self.engine.motion_codes:
            return None
        with self._lock:
            if self._spoken is None:
                self._spoken = torch.from_numpy(self.engine.motion(self.take.features)).to(self.engine.device)
            return self._spoken

    def head(self, state: ViewState) -> tuple[float, ...]:
        """The head's six numbers as a state has them, before it is held in what the avatar knows."""
        with self._lock:
            setting = self._setting(state, None)
        index = torch.tensor([state.frame])
        base = self.engine.open_track(setting.editor.poses)(index).poses  # type: ignore[arg-type]
        head = setting.editor.edit.head or HeadEdit()
        return tuple((head_numbers(base)[0] + head.offsets(index)[0]).tolist())

    def draw(self, state: ViewState, width: int | None = None) -> Picture:
        """The picture of a state.

        Args:
            state: what is shown; frames beyond the last one show the last one.
            width: of one frame in pixels; the avatar's own where None.

        Raises:
            ValueError: values that the avatar does not take, or a path without key frames.
            FileProblem: a file of the dataset is damaged.
        """
        number = min(state.frame, len(self.take) - 1)
        with self._lock:
            scene = self._glimpse.scene(number, self._setting(state, width), self._given(state))
            pixels = self.engine.renderer.frame(scene, 0)
        if state.shown == RENDERED or self.take.real is None:
            return Picture(pixels, None, number)
        row, psnr = beside(pixels, self.take.real[number], state.shown == ERROR)
        return Picture(row, psnr, number)

    def clip(self, state: ViewState, width: int | None = None) -> Clip:
        """The whole take as a state has it, to be saved; it shows the rendered head alone.

        Raises:
            ValueError: as `draw`.
        """
        given, engine = self._given(state), self.engine
        return engine.render(
            self.take.features if self.take.sound is None else self.take.sound,
            self._poses(state), background=state.background, size=engine.renderer.camera(width).width,
            eyes=given.eyes, torso=given.torso, upper=given.upper, landmarks=given.landmarks,
            motion=None if given.motion is None else given.motion.cpu(),
            edit=self.edit(state),
        )  # fmt: skip

    def edit(self, state: ViewState) -> Edit:
        """The edit of the controls; poses that are not the avatar's are held in what it knows."""
        edit = edit_of(self.controls, state.values)
        return replace(edit, head=PARTS["head"]) if state.motion == PATH and edit.head is None else edit

    def _given(self, state: ViewState) -> Given:
        """Tracks in the place of the avatar's own: those of the video where it moves as there."""
        whole, edit = self.take.given, self.edit(state)
        kept = whole if state.motion == VIDEO else Given(sound=whole.sound)
        # A person who moves the lids wants to see it.
        return replace(kept, motion=self._edited_codes(state), eyes=kept.eyes if edit.eyes is None else None)

    def _poses(self, state: ViewState) -> Poses:
        if state.motion == VIDEO and self.take.poses is None:
            raise ValueError("motion: there is no video to move as; open the viewer with --data DATASET")
        return {
            TRACK: lambda: None,
            STILL: lambda: "still",
            VIDEO: lambda: self.take.poses,
            PATH: lambda: state.path.poses(len(self.take)),
        }[state.motion]()

    def _setting(self, state: ViewState, width: int | None) -> Setting:
        key = width or 0
        known = self._settings.get(key)
        if known is not None and known[0].like(state):
            return known[1]
        renderer = self.engine.renderer
        camera = renderer.camera(width)
        behind, plate = renderer.backdrop(state.background, "fast", camera)
        editor = Editor(renderer, self.edit(state), self._poses(state))
        self._settings[key] = state, Setting(camera, editor, behind, plate)
        self._settings.move_to_end(key)
        while len(self._settings) > SETTINGS_KEPT:
            self._settings.popitem(last=False)
        return self._settings[key][1]

    def _edited_codes(self, state: ViewState) -> Tensor | None:
        if not state.codes or self.codes is None:
            return None
        if self._codes[0] is None or self._codes[0].codes is not state.codes:
            self._codes = state, changed(self.codes, state.codes)
        return self._codes[1]


def ranges_beyond(pictures: AvatarPictures, state: ViewState) -> str:
    """Which numbers of a head that was moved lead beyond the training video, in one line; empty for none."""
    if pictures.edit(state).head is None:
        return ""
    trained = trained_of(pictures.engine.renderer).range
    numbers = torch.tensor([pictures.head(state)], dtype=torch.float64)
    return trained.beyond(numbers, torch.ones(6, dtype=torch.bool))
