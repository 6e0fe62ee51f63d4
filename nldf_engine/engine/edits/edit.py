"""All edits of a clip or session, made ready for one avatar."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from nldf_engine.audio.activity import speech_active
from nldf_engine.engine.edits.curves import Curve
from nldf_engine.engine.edits.eyes import Eyes, EyesEdit
from nldf_engine.engine.edits.head import EditedTrack, HeadEdit, Trained
from nldf_engine.engine.edits.landmarks import LandmarkEdit, Landmarks
from nldf_engine.engine.edits.live import LivePoses, LiveTrack, is_live
from nldf_engine.engine.edits.look import Look, LookEdit
from nldf_engine.engine.edits.mouth import SLIDERS, GateState, Mouth, MouthEdit, MouthShape, is_slider
from nldf_engine.engine.edits.upper import Upper, UpperEdit
from nldf_engine.engine.renderer import NO_LANDMARKS, NO_MOTION, NO_UPPER, Poses, Renderer
from nldf_engine.geometry.rotations import HEAD_NUMBERS
from nldf_engine.geometry.tracks import Track
from nldf_engine.rendering.fields import Conditions

_TRAINED: WeakKeyDictionary[Renderer, Trained] = WeakKeyDictionary()
# Frames of a session whose poses are looked at for the warning before it begins: a minute.
LOOKED_AT = 1500


@dataclass(frozen=True)
class Edit:
    """What is changed of a rendering; None leaves a part as track and speech have it.

    Eyes whose track never blinks blink by themselves, unless `EyesEdit("track")` says otherwise.

    Args:
        head: how it moves.
        eyes: how they blink.
        mouth: how far it travels.
        upper: how brows and gaze move.
        look: whose shape and colours are shown, how strong the expression is, and in which light.
        landmarks: how landmarks are moved, for avatars that are driven by them.
    """

    head: HeadEdit | None = None
    eyes: EyesEdit | None = None
    mouth: MouthEdit | None = None
    upper: UpperEdit | None = None
    look: LookEdit | None = None
    landmarks: LandmarkEdit | None = None

    def with_curve(self, curve: Curve) -> Edit:
        """The same with a curve whose columns go to the parts that they name.

        Columns: yaw, pitch, roll, x, y, z; eyes; brows; mouth, jaw, width, smile, code0, code1, ...

        Raises:
            ValueError: a column that no part knows.
        """

        def part(names: list[str]) -> Curve | None:
            return Curve(curve.frames, {name: curve.columns[name] for name in names}) if names else None

        head = [name for name in curve.columns if name in HEAD_NUMBERS]
        eyes = [name for name in curve.columns if name == "eyes"]
        upper = [name for name in curve.columns if name == "brows"]
        mouth = [name for name in curve.columns if name not in (*HEAD_NUMBERS, "eyes", "brows")]
        if unknown := sorted(name for name in mouth if name != "mouth" and not is_slider(name)):
            known = ", ".join((*HEAD_NUMBERS, "eyes", "brows", "mouth", *SLIDERS))
            raise ValueError(f"curve: no column is named {unknown[0]!r}; expected {known} or code0, ...")
        made = self
        for name, kind, columns in (
            ("head", HeadEdit, head), ("eyes", EyesEdit, eyes), ("mouth", MouthEdit, mouth),
            ("upper", UpperEdit, upper),
        ):  # fmt: skip
            if columns:
                now: Any = getattr(made, name) or kind()
                changed = dataclasses.replace(now, curve=part(columns))
                made = dataclasses.replace(made, **{name: changed})
        return made


class Editor:
    """An `Edit` and poses, made ready for one clip or session of one renderer.

    Args:
        renderer: of the avatar that is edited.
        edit: what is changed; None for nothing.
        poses: known beforehand (see `Renderer.open_track`), or arriving one by one (see `edits.live`).
        mouth: gain of the mouth, in the place of `edit.mouth`.
        before: the editor that this one replaces. What both have alike is taken from it, and live poses
            continue from where it is.

    Attributes:
        edit, poses, mouth: as given.
        portrait: what to render with.
        live: moves the head under poses that arrive one by one; None where they are known beforehand.

    Raises:
        FileProblem: poses that can't be read.
        ValueError: poses that are no rigid motions; a mouth, brows or a look are edited that have no codes,
            or a mouth twice; or poses that arrive one by one are to be centred.
    """

    def __init__(
        self, renderer: Renderer, edit: Edit | None = None, poses: Poses | LivePoses = None,
        mouth: float = 1.0, before: Editor | None = None,
    ) -> None:  # fmt: skip
        self._renderer = renderer
        self.edit, self.poses, self.mouth = edit or Edit(), poses, mouth
        self._open_mouth()
        self._upper = self._open_upper()
        look = self.edit.look
        self._look = None if look is None or look.idle else Look(look, renderer.portrait.head.driver)
        self._landmarks = self._open_landmarks()
        blinks = self.edit.eyes or EyesEdit()
        alike = before is not None and before._eyes.edit == blinks
        self._eyes: Eyes = (
            before._eyes if before and alike else Eyes(blinks, renderer.avatar.eye_openness.cpu())
        )
        self.live: LiveTrack | None = None
        head = self.edit.head
        items = poses if is_live(poses) else None
        whole = None if items is not None else cast(Poses, poses)
        if items is not None:
            if head is not None and head.centred:
                raise ValueError(
                    "edit: centred needs all poses beforehand, and these come one by one; leave it off"
                )
            head = head or HeadEdit()
        smooth, centred = (head.smooth, head.centred) if head else (0.0, False)
        continued = before if before is not None and before.poses is poses else None
        self._said: bool = continued is not None and continued._said
        self._opened = smooth, centred
        if continued is not None and continued._opened == self._opened:
            self._base: Callable[[Tensor], Track] = continued._base
        else:
            self._base = renderer.open_track(whole, smooth, centred)
        self._moved = None if head is None else self._moved_head(head, whole)
        self.portrait = renderer.portrait if head is None else renderer.edited_portrait
        if items is not None and self._moved is not None:
            known = None if continued is None else continued.live
            self.live = LiveTrack(items, self._moved) if known is None else known.under(self._moved)

    def _open_mouth(self) -> None:
        wanted = self.edit.mouth
        if wanted is None or self.mouth != 1:
            if wanted is not None:
                raise ValueError(f"mouth: expected it once, got {self.mouth!r} and edit.mouth as well")
            wanted = MouthEdit(self.mouth)
        self._mouth: Mouth | None = None
        self._gate: GateState | None = None
        self._wanted = wanted
        if wanted.idle:
            return
        basis = self._renderer.motion_basis
        if basis is None:
            raise ValueError(NO_MOTION)
        self._mouth = Mouth(wanted, MouthShape(basis))
        self.restart_gate()

    def _open_upper(self) -> Upper | None:
        edit, basis = self.edit.upper, self._renderer.upper_basis
        if edit is None or edit.idle:
            return None
        if basis is None:
            raise ValueError(NO_UPPER)
        return Upper(edit, basis)

    def _open_landmarks(self) -> Landmarks | None:
        edit, part = self.edit.landmarks, self._renderer.landmark_part
        if part is not None:
            return Landmarks(edit or LandmarkEdit(), part)
        if edit is None or edit.idle:
            return None
        raise ValueError(NO_LANDMARKS)

    def _moved_head(self, head: HeadEdit, poses: Poses) -> EditedTrack:
        renderer, avatar = self._renderer, self._renderer.avatar
        is_own = poses is None or (isinstance(poses, str) and poses in ("track", "still"))
        return EditedTrack(
            self._base, head, trained_of(renderer), avatar.camera, renderer.predict_motion, is_own
        )  # fmt: skip

    def track(self, index: Tensor) -> Track:
        """Head, eyes, brows and torso of the frames `index` [N] int64, from 0 to any number; on the CPU.

        Where poses arrive one by one, `live` has head and torso, and only eyes and brows count here.
        """
        track = self._base(index) if self._moved is None or self.live is not None else self._moved(index)
        return dataclasses.replace(
            track, eyes=self._eyes(index, track.eyes), upper=self.upper(index, track.upper)
        )

    def upper(self, index: Tensor, codes: Tensor | None) -> Tensor | None:
        """[N, E] codes of the upper face in the frames `index` [N]: `codes` [N, E] under the edit."""
        return codes if self._upper is None or codes is None else self._upper(index, codes)

    def warn(self, frames: int = LOOKED_AT) -> None:
        """Says where the first frames' heads lead beyond the training video; live poses say it later.

        Once for the same poses under however many edits, also where a later one leads beyond elsewhere.
        """
        if self._moved is not None and self.live is None and not self._said:
            self._said = self._moved.warn(torch.arange(frames))

    def restart_gate(self) -> None:
        """The mouth's gate begins again, in silence."""
        self._gate = None if self._wanted.gate is None else GateState(self._wanted.gate)

    def free(self, windows: np.ndarray, sound: tuple[np.ndarray, int] | None = None) -> Tensor | None:
        """[T] float32, how far the gate leaves the mouth free in the next T frames; None without a gate.

        Args:
            windows: [T, W, D] of the avatar's front-end.
            sound: (samples, rate) that they are of, for front-ends whose features hold no levels.

        Raises:
            ValueError: features without their sound, of a front-end whose features hold no levels.
        """
        if self._gate is None or self._wanted.gate is None:
            return None
        gate, frontend = self._wanted.gate, self._renderer.avatar.frontend
        if frontend.kind.levels is None:
            from nldf_engine import audio

            if sound is None:
                raise ValueError("mouth: the gate needs the sound itself, or features of the front-end 'mel'")
            frontend = audio.FrontendConfig("mel")
            mel = audio.features(audio.speech_of(*sound), frontend)
            windows = np.pad(mel, ((0, max(0, len(windows) - len(mel))), (0, 0), (0, 0)))[: len(windows)]
        return self._gate.push(torch.from_numpy(speech_active(windows, frontend, gate.threshold, gate.ahead)))

    def conditions(
        self, conditions: Conditions, motion: Tensor | None, index: Tensor, free: Tensor | None
    ) -> Conditions:
        """The conditions of the frames `index` [T] under the edit, with motion codes where those are given.

        Args:
            conditions: what drives them, on the renderer's device.
            motion: [T, K] codes in the place of the speech's, or None.
            index: numbers of the frames in the clip, on the CPU.
            free: of the gate.
        """
        if self._look is not None:
            conditions = self._look(conditions)
        if self._landmarks is not None:
            conditions = self._landmarks(conditions)
        if motion is None and self._mouth is None:
            return conditions
        codes = self._renderer.speech_codes(conditions) if motion is None else motion
        if self._mouth is not None:
            codes = self._mouth(codes, index, free)
        return conditions.replaced(motion=codes)


def trained_of(renderer: Renderer) -> Trained:
    """What the training track of the renderer's avatar holds edits to; worked out once for a renderer."""
    known = _TRAINED.get(renderer)
    if known is None:
        known = _TRAINED[renderer] = Trained.of(renderer.avatar.poses.cpu(), renderer.own_motion)
    return known
