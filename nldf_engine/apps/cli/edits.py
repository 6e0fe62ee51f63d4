"""The flags that change how an avatar moves, and what they mean to the engine."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from nldf_engine.apps.cli.command import UsageError, checking_flags, optional, value

if TYPE_CHECKING:
    from nldf_engine.engine.edits import Edit

OWN_POSES = ("track", "still")


@dataclass(frozen=True)
class EditFlags:
    """how head, eyes, brows and mouth move, and the look"""

    yaw: Annotated[float, value("DEG")] = 0.0
    """turn the face to the picture's right"""
    pitch: Annotated[float, value("DEG")] = 0.0
    """raise the face"""
    roll: Annotated[float, value("DEG")] = 0.0
    """tip the top of the head to the picture's right"""
    shift: Annotated[str, value("X,Y,Z[h]")] = "0,0,0"
    """move the head right, down, away from the camera: metres, or head widths with an h; with a negative
    first number write --shift=-0.1h,0,0"""
    curves: Annotated[Path | None, optional("FILE")] = None
    """CSV or JSON with columns to add frame by frame: yaw, pitch, roll, x, y, z, eyes, brows, mouth, jaw,
    width, smile, code0, ...; a column time (seconds) or frame says when"""
    smooth: Annotated[float, value("FRAMES")] = 0.0
    """calm the head's track: standard deviation of a Gaussian over time on the rotation group"""
    center_poses: bool = False
    """move foreign --poses to where this avatar's head usually is"""
    pose_limit: Annotated[str, value("warn|clamp|off")] = "warn"
    """beyond the poses of the training video: say so, hold them softly, or neither"""
    blink: Annotated[str, value("auto|natural|track|none|FILE")] = "auto"
    """auto is the training video's blinks where it has any, else natural ones; a FILE has a column eyes
    (1 as usual, 0 closed)"""
    eyes: Annotated[float, value("SHARE")] = 1.0
    """scale the eyes' openness, 0 to 1.5"""
    blink_seed: Annotated[int, value("N")] = 0
    """chooses the moments of natural blinks"""
    brows: Annotated[float, value("N")] = 0.0
    """raise the brows by standard deviations of the training video, -3 to 3"""
    gaze: Annotated[str, value("RIGHT,DOWN")] = "0,0"
    """turn the eyes to the picture's right and down by standard deviations of the training video, -3 to 3"""
    lively: Annotated[float, value("GAIN")] = 1.0
    """how far brows and gaze move, 0 to 2: 1 as in the training video"""
    mouth: Annotated[float, value("GAIN")] = 1.0
    """how far the mouth opens, 0 to 3"""
    sliders: Annotated[str, optional("NAME=N,...")] = ""
    """shape the mouth: jaw, width, smile, code0, ... in standard deviations of the training video"""
    gate: Annotated[bool, value("")] = False
    """close the lips in silence"""
    expression: Annotated[float, value("GAIN")] = 1.0
    """how far the whole face leaves its usual expression, 0 to 2, for avatars with a code of it"""
    identity: Annotated[int | None, optional("N")] = None
    """show the shape of another speaker that the avatar was trained with: 0 for the first dataset, ..."""
    albedo: Annotated[int | None, optional("N")] = None
    """show the colours of another speaker that the avatar was trained with, likewise"""
    light: Annotated[str, value("B,R,D")] = "0,0,0"
    """change the light: brightness, slope to the right, slope downwards, each -1 to 1, for avatars with a
    code of it"""

    lids: Annotated[str, value("GAIN[,GAIN]")] = "1"
    """open the lids so far, 0 to 2, or the one at the picture's left and the one at its right; this and the
    flags below are for avatars that are driven by landmarks"""
    mouth_gain: Annotated[float, value("GAIN")] = 1.0
    """how far outline and lips leave their usual place, 0 to 2"""
    jaw: Annotated[float, value("MM")] = 0.0
    """lower the lower lip and the chin"""
    lip_corners: Annotated[float, value("MM")] = 0.0
    """raise the corners of the lips"""
    mouth_width: Annotated[float, value("MM")] = 0.0
    """widen the lips"""
    brow_height: Annotated[float, value("MM")] = 0.0
    """raise the brows"""
    landmark_limit: Annotated[str, value("warn|clamp|off")] = "warn"
    """beyond the landmarks of the training video: say so, hold them softly, or neither"""

    def edit(self, poses: str) -> Edit:
        """The edit that the flags ask for, given `--poses`.

        Raises:
            UsageError: a value out of its range or that can't be read.
            FileProblem: a curve file that can't be used.
        """
        from nldf_engine.base.errors import FileProblem
        from nldf_engine.engine.edits import (
            Edit,
            EyesEdit,
            Gate,
            HeadEdit,
            LandmarkEdit,
            LookEdit,
            MouthEdit,
            UpperEdit,
            load_curve,
        )
        from nldf_engine.engine.edits.eyes import BLINKS

        with checking_flags():
            head = HeadEdit(
                self.yaw, self.pitch, self.roll, _shift(self.shift),
                smooth=self.smooth, centred=self.center_poses, limit=self.pose_limit,
            )  # fmt: skip
            changed = dataclasses.replace(head, limit="warn") != HeadEdit()
            known = self.blink if self.blink in BLINKS else "auto"
            eyes = EyesEdit(known, scale=self.eyes, seed=self.blink_seed)
            mouth = MouthEdit(self.mouth, _sliders(self.sliders), gate=Gate() if self.gate else None)
            upper = UpperEdit(self.lively, self.brows, gaze=_gaze(self.gaze))
            marks = LandmarkEdit(
                _lids(self.lids), self.mouth_gain, self.jaw, self.lip_corners, self.mouth_width,
                self.brow_height, self.landmark_limit,
            )  # fmt: skip
            look = LookEdit(self.identity, self.albedo, self.expression, _light(self.light))
        edit = Edit(
            head if changed or poses not in OWN_POSES else None, eyes,
            None if mouth.idle else mouth, None if upper.idle else upper, None if look.idle else look,
            None if marks == LandmarkEdit() else marks,
        )  # fmt: skip
        if self.blink not in BLINKS:
            blinks = load_curve(self.blink)
            try:
                edit = dataclasses.replace(edit, eyes=dataclasses.replace(eyes, curve=blinks))
            except ValueError as error:
                raise FileProblem(self.blink, str(error), "give it one column 'eyes'") from error
        if self.curves is not None:
            curve = load_curve(self.curves)
            try:
                edit = edit.with_curve(curve)
            except ValueError as error:
                raise FileProblem(self.curves, str(error), "see nldf render --help") from error
            if edit.head is not None:
                edit = dataclasses.replace(edit, head=dataclasses.replace(edit.head, limit=self.pose_limit))
        return edit


def _shift(text: str) -> tuple[float, float, float]:
    from nldf_engine.engine.edits import HEAD_WIDTH

    numbers = []
    for part in text.split(","):
        plain = part.strip().removesuffix("h").strip()
        try:
            number = float(plain)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise UsageError(f"--shift is X,Y,Z in metres, or in head widths as 0.2h; it is {text!r}")
        numbers.append(number * (HEAD_WIDTH if part.strip().endswith("h") else 1.0))
    if len(numbers) != 3:
        raise UsageError(f"--shift is X,Y,Z; {text!r} has {len(numbers)} numbers")
    return numbers[0], numbers[1], numbers[2]


def _lids(text: str) -> float | tuple[float, ...]:
    try:
        gains = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--lids is one number or two, as 0.5 or 1,0; it is {text!r}") from error
    return gains[0] if len(gains) == 1 else gains


def _gaze(text: str) -> tuple[float, float]:
    try:
        right, down = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"--gaze is RIGHT,DOWN, two numbers; it is {text!r} (a negative first one: --gaze=-1,0)"
        ) from error
    return right, down


def _light(text: str) -> tuple[float, float, float]:
    parts = text.split(",")
    try:
        brightness, right, down = (float(part) for part in parts)
    except ValueError as error:
        raise UsageError(
            f"--light is B,R,D, three numbers; it is {text!r} (a negative first one: --light=-0.2,0,0)"
        ) from error
    return brightness, right, down


def _sliders(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, amount = part.partition("=")
        try:
            found[name.strip()] = float(amount)
        except ValueError:
            equals = ""
        if not equals:
            raise UsageError(f"--sliders is NAME=NUMBER,...; it has {part!r}")
    return found
