"""All edits of a clip or stream, made ready for one avatar."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nldf_engine.audio.activity import speech_active
from nldf_engine.engine.edits.curves import Curve
from nldf_engine.engine.edits.eyes import Eyes, EyesEdit
from nldf_engine.engine.edits.head import RARE, EditedTrack, HeadEdit, HeadRange
from nldf_engine.engine.edits.live import LiveTrack, is_live
from nldf_engine.engine.edits.mouth import GateState, Mouth, MouthEdit, MouthShape
from nldf_engine.engine.edits.unseen import without_unseen
from nldf_engine.engine.edits.upper import NO_UPPER, Upper, UpperEdit
from nldf_engine.geometry.rotations import HEAD_NUMBERS
from nldf_engine.geometry.tracks import Track
from nldf_engine.rendering.fields import Conditions

if TYPE_CHECKING:
    from nldf_engine.engine.engine import Engine

NO_MOTION = (
    "motion, mouth: this avatar is driven by audio without motion codes; train one with them "
    "(--set motion_codes=8)"
)
# Frames of a stream whose poses are looked at for the warning before it begins: a minute.
LOOKED_AT = 1500


@dataclass(frozen=True)
class Edit:
    """What is changed of a rendering; None leaves a part as track and speech tell it.

    Eyes whose track never blinks blink by themselves, unless `EyesEdit("track")` says otherwise.

    Args:
        head: how it moves.
        eyes: how they blink.
        mouth: how far it travels.
        upper: how brows and gaze move.
    """

    head: HeadEdit | None = None
    eyes: EyesEdit | None = None
    mouth: MouthEdit | None = None
    upper: UpperEdit | None = None

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
    """An `Edit` for one clip or stream of one engine. Frames go through `codes` once and in their order.

    Args:
        engine: whose avatar is edited.
        edit: what is changed; None for nothing.
        mouth: gain of the mouth, in the place of `edit.mouth`.

    Attributes:
        portrait: what to render with, once `track` was called.

    Raises:
        ValueError: a mouth or brows are edited that have no codes, or a mouth twice.
    """

    def __init__(self, engine: Engine, edit: Edit | None, mouth: float = 1.0) -> None:
        self._engine, self._edit = engine, edit or Edit()
        self.portrait = engine._portrait
        wanted = self._edit.mouth
        if wanted is None or mouth != 1:
            if wanted is not None:
                raise ValueError(f"mouth: expected it once, got {mouth!r} and edit.mouth as well")
            wanted = MouthEdit(mouth)
        self._mouth: Mouth | None = None
        self._gate: GateState | None = None
        self._wanted = wanted
        self._upper: Upper | None = None
        if self._edit.upper is not None and not self._edit.upper.idle:
            if not engine.upper_codes:
                raise ValueError(NO_UPPER)
            self._upper = Upper(self._edit.upper, engine._portrait.field.encoder.upper)  # type: ignore[attr-defined]
        if wanted.idle:
            return
        if not engine.motion_codes:
            raise ValueError(NO_MOTION)
        basis = engine._portrait.field.encoder.motion.basis  # type: ignore[attr-defined]
        self._mouth = Mouth(wanted, MouthShape(basis))
        self._gate = None if wanted.gate is None else GateState(wanted.gate)

    def track(self, poses: Any) -> Callable[[Tensor], Track]:
        """How head, eyes and torso move under the poses and the edit, for any frame numbers [N].

        Raises:
            FileProblem, ValueError: poses that can't be used, or that arrive one by one (see `live`).
        """
        if is_live(poses):
            raise ValueError(
                "poses: poses that arrive one by one drive Engine.stream; here expected [T, 4, 4] at once, "
                f"got {type(poses).__name__}"
            )
        edit, avatar = self._edit, self._engine.avatar
        head = edit.head
        base = self._engine.open_track(poses, head.smooth, head.centred) if head else (
            self._engine.open_track(poses)
        )  # fmt: skip
        if head is not None:
            base = self._moved_head(base, head, poses)
        eyes, under = Eyes(edit.eyes or EyesEdit(), avatar.eye_openness.cpu()), base

        def blinking(index: Tensor) -> Track:
            track = under(index)
            return dataclasses.replace(
                track, eyes=eyes(index, track.eyes), upper=self.upper(index, track.upper)
            )

        return blinking

    def live(self, poses: Any) -> LiveTrack | None:
        """How the head moves under poses that arrive one by one; None where they are known beforehand.

        Raises:
            ValueError: the edit wants such poses centred, for which it would have to know all of them.
        """
        if not is_live(poses):
            return None
        head = self._edit.head or HeadEdit()
        if head.centred:
            raise ValueError(
                "edit: centred needs all poses beforehand, and these come one by one; leave it off"
            )
        return LiveTrack(poses, self._moved_head(self._engine.open_track(None, head.smooth), head, None))

    def upper(self, index: Tensor, codes: Tensor | None) -> Tensor | None:
        """[N, E] codes of the upper face in the frames `index` [N] under the edit, of those that are told."""
        return codes if self._upper is None or codes is None else self._upper(index, codes)

    def _moved_head(self, base: Callable[[Tensor], Track], head: HeadEdit, poses: Any) -> EditedTrack:
        engine, avatar = self._engine, self._engine.avatar

        @torch.no_grad()
        def predict(of: Tensor) -> Tensor:
            return engine._portrait.torso.predict_motion(of.to(engine.device)).cpu()

        own = avatar.poses.cpu()
        trained = predict(own) if avatar.torso_motion is None else avatar.torso_motion.cpu()
        self.portrait = without_unseen(engine, trained)
        places = HeadRange.of(own, RARE).shrunk()
        is_own = poses is None or (isinstance(poses, str) and poses in ("track", "still"))
        return EditedTrack(base, head, HeadRange.of(own), places, avatar.camera, predict, trained, is_own)

    def warn(self, poses: Any, frames: int = LOOKED_AT) -> None:
        """Says once where the first frames' heads lead beyond the training video; live poses say it later."""
        if self._edit.head is not None and not is_live(poses):
            head = self._edit.head
            base = self._engine.open_track(poses, head.smooth, head.centred)
            self._moved_head(base, head, poses).warn(torch.arange(frames))

    def free(self, windows: np.ndarray, sound: Any = None) -> Tensor | None:
        """[T] where the gate leaves the mouth free in the next T frames; None where there is no gate.

        Args:
            windows: [T, W, D] of the avatar's front-end.
            sound: (samples, rate) that they are of, for front-ends that do not tell levels.

        Raises:
            ValueError: features without their sound, of a front-end that does not tell levels.
        """
        if self._gate is None or self._wanted.gate is None:
            return None
        if self._engine.avatar.frontend.name != "mel":
            from nldf_engine import audio

            if sound is None:
                raise ValueError("mouth: the gate needs the sound itself, or features of the front-end 'mel'")
            mel = audio.features(audio.speech_of(*sound), "mel")
            windows = np.pad(mel, ((0, max(0, len(windows) - len(mel))), (0, 0), (0, 0)))[: len(windows)]
        return self._gate.push(
            torch.from_numpy(speech_active(windows, self._wanted.gate.threshold, self._wanted.gate.ahead))
        )

    def conditions(
        self, conditions: Conditions, motion: Tensor | None, index: Tensor, free: Tensor | None
    ) -> Conditions:
        """The conditions of the frames `index` [T] with motion codes where those are given or edited.

        Args:
            conditions: what drives them.
            motion: [T, K] codes in the place of the speech's, or None.
            index: numbers of the frames in the clip.
            free: of the gate.
        """
        if motion is None and self._mouth is None:
            return conditions
        codes = self._engine._speech(conditions) if motion is None else motion
        if self._mouth is not None:
            codes = self._mouth(codes, index, free)
        return dataclasses.replace(conditions, motion=codes)
