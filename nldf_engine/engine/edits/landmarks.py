"""Landmarks moved by sliders (gaussian landmark 5.D), for avatars that are driven by them.

A slider moves a landmark along a straight line, farther the farther it is pushed. The field that draws the
landmarks has seen a range of them: beyond it, one warning says so, and `limit="clamp"` holds them.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nldf_engine.engine.edits.head import LIMITS, hold_between
from nldf_engine.geometry.face_mesh import MARKS_BROWS, MARKS_EYES, MARKS_JAW, MARKS_LIPS, MARKS_SPEECH
from nldf_engine.rendering.fields import Conditions

WIDEST = 2.0
"""Largest gain of lids and mouth, as in the paper."""
FARTHEST = 20.0
"""Largest move, millimetres."""
MILLIMETRE = 1e-3
# Upper and lower lids of the 68, one above the other: the eye at the picture's left, then at its right.
UPPER_LIDS, LOWER_LIDS = ((37, 38), (43, 44)), ((41, 40), (47, 46))
# Where lids meet, from the lower one to the upper one: the upper lid makes most of the way.
MEETING = 0.25
# What goes along with the corners of the lips, and how far.
CORNERS = {48: 1.0, 54: 1.0, 60: 1.0, 64: 1.0, **dict.fromkeys((49, 53, 55, 59, 61, 63, 65, 67), 0.4)}
LOWER_LIP = (55, 56, 57, 58, 59, 65, 66, 67)
CHIN = 8
# Beyond the training video is what leads out of its landmarks' range by so many metres, in so many of the
# frames. Of unseen parts of a speaker's own video, under a hundredth of the frames do, and some blinks.
MARGIN, SAID_FROM = 2e-3, 0.02
GROUPS = {
    "outline": MARKS_JAW, "brows": MARKS_BROWS, "nose": tuple(range(27, 36)), "eyes": MARKS_EYES,
    "lips": MARKS_LIPS,
}  # fmt: skip


class LandmarkWarning(UserWarning):
    """Landmarks lead beyond what the avatar was trained on."""


@dataclass(frozen=True)
class LandmarkEdit:
    """How landmarks are moved; given ones as well as those made of speech.

    Args:
        lids: how far the eyes are open: 0 closed, 1 as they are, 2 twice as far; for the eye at the picture's
            left and at its right (the paper's alpha 1 and 2), or one number for both.
        mouth: how far outline and lips leave their usual place: 0 not at all, 1 as they do, 2 twice as far
            (the paper's alpha 3).
        jaw: millimetres that the lower lip and the chin are lowered by.
        lip_corners: millimetres that the corners of the lips are raised by.
        mouth_width: millimetres that the lips are widened by, from corner to corner.
        brows: millimetres that the brows are raised by.
        limit: beyond the training video's landmarks, "warn" says so once, "clamp" also holds what is beyond
            (softly: it comes to rest a little outside), "off" does neither.

    Raises:
        ValueError: a number out of its range (gains 0 to 2, moves -20 to 20 mm), or an unknown limit.
    """

    lids: float | tuple[float, ...] = 1.0
    mouth: float = 1.0
    jaw: float = 0.0
    lip_corners: float = 0.0
    mouth_width: float = 0.0
    brows: float = 0.0
    limit: str = "warn"

    def __post_init__(self) -> None:
        if len(self.both_lids) != 2:
            raise ValueError(f"lids: expected one number or two, got {self.lids!r}")
        for name, gain in (*(("lids", lid) for lid in self.both_lids), ("mouth", self.mouth)):
            if not 0 <= gain <= WIDEST:
                raise ValueError(f"{name}: expected 0 to {WIDEST:g}, got {gain!r}")
        for name in ("jaw", "lip_corners", "mouth_width", "brows"):
            move = getattr(self, name)
            if not math.isfinite(move) or abs(move) > FARTHEST:
                raise ValueError(f"{name}: expected -{FARTHEST:g} to {FARTHEST:g} millimetres, got {move!r}")
        if self.limit not in LIMITS:
            raise ValueError(f"limit: expected one of {', '.join(LIMITS)}, got {self.limit!r}")

    @property
    def both_lids(self) -> tuple[float, ...]:
        """The gains of both lids."""
        return tuple(self.lids) if isinstance(self.lids, tuple | list) else (self.lids, self.lids)

    @property
    def idle(self) -> bool:
        """Whether it moves nothing."""
        moves = self.mouth - 1, self.jaw, self.lip_corners, self.mouth_width, self.brows
        return self.both_lids == (1, 1) and not any(moves)

    def __call__(self, landmarks: Tensor, usual: Tensor) -> Tensor:
        """Landmarks [T, 68, 3] moved; `usual` [68, 3] are the speaker's. Metres in head space: y grows
        downwards."""
        moved = landmarks.clone()
        if self.mouth != 1:
            speech = list(MARKS_SPEECH)
            moved[:, speech] = usual[speech] + self.mouth * (landmarks[:, speech] - usual[speech])
        self._open_lids(moved)
        lips = list(MARKS_LIPS)
        if self.mouth_width:
            left, right = moved[:, 48:49, 0], moved[:, 54:55, 0]
            share = (moved[:, lips, 0] - (left + right) / 2) / (right - left).clamp_min(MILLIMETRE)
            moved[:, lips, 0] += MILLIMETRE * self.mouth_width * share
        for number, along in CORNERS.items():
            moved[:, number, 1] -= MILLIMETRE * self.lip_corners * along
        moved[:, list(LOWER_LIP), 1] += MILLIMETRE * self.jaw
        for number in MARKS_JAW:  # the chin all the way, the hinges not at all
            dropped = math.cos(math.pi / 2 * (number - CHIN) / CHIN) ** 2
            moved[:, number, 1] += MILLIMETRE * self.jaw * dropped
        moved[:, list(MARKS_BROWS), 1] -= MILLIMETRE * self.brows
        return moved

    def _open_lids(self, moved: Tensor) -> None:
        for gain, upper, lower in zip(self.both_lids, UPPER_LIDS, LOWER_LIDS, strict=True):
            if gain == 1:
                continue
            top, bottom = moved[:, list(upper), 1:], moved[:, list(lower), 1:]
            meeting = bottom + MEETING * (top - bottom)
            moved[:, list(upper), 1:] = meeting + gain * (top - meeting)
            moved[:, list(lower), 1:] = meeting + gain * (bottom - meeting)


class Landmarks:
    """A `LandmarkEdit` made ready for one avatar.

    Args:
        edit: what is moved.
        part: the avatar's part "landmarks": it makes landmarks, and has `usual`, `low` and `high` [68, 3].
    """

    def __init__(self, edit: LandmarkEdit, part: Any) -> None:
        self._edit, self._part, self._said = edit, part, False
        self._low, self._high = part.low - MARGIN, part.high + MARGIN

    @torch.no_grad()
    def __call__(self, conditions: Conditions) -> Conditions:
        """The conditions with the track "landmarks", where landmarks are given or moved."""
        if self._edit.idle and conditions.get("landmarks") is None:
            return conditions
        index = torch.arange(len(conditions), device=conditions.audio.device)
        moved = self._edit(self._part.landmarks(conditions, index), self._part.usual)
        if self._edit.limit != "off":
            self._warn(moved)
        if self._edit.limit == "clamp":
            moved = hold_between(moved, self._low, self._high)
        return conditions.replaced(landmarks=moved)

    def beyond(self, landmarks: Tensor) -> str:
        """Which parts of a face [T, 68, 3] are out of the training video's range, in one line; empty for
        none."""
        over = torch.maximum(landmarks - self._high, self._low - landmarks).amax(-1)
        said = []
        for name, numbers in GROUPS.items():
            far = over[:, list(numbers)].amax(1)
            share = float((far > 0).double().mean())
            if share > SAID_FROM:
                said.append(
                    f"{name} by up to {1e3 * float(far.max()):.1f} mm in {100 * share:.0f} % of the frames"
                )
        return "; ".join(said)

    def _warn(self, landmarks: Tensor) -> None:
        said = "" if self._said else self.beyond(landmarks)
        if said:
            self._said = True
            clamped = self._edit.limit == "clamp"
            end = "held there" if clamped else "expect flaws there, or hold them (--landmark-limit clamp)"
            warnings.warn(f"landmarks lead beyond the training video: {said}; {end}", LandmarkWarning, 3)
