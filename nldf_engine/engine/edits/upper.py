"""Brows and gaze: how far they move, and where they are moved. For avatars with codes of the upper face.

They are not predicted from audio: they are those of the avatar's own video, unless others are given. As
with the mouth, a measure of the face is linear in the codes, b + a . c, and |a| is what it varies by.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nldf_engine.engine.edits.curves import Curve
from nldf_engine.geometry.face_mesh import BROWS, EYE_RIMS, IRISES
from nldf_engine.systems.common.motion import UpperBasis

LIVELIEST = 2.0
HIGHEST = 3.0
# Measures that the codes hardly tell apart are not pulled apart.
ALIKE = 0.15
# Irises whose place varies by less, in metres, are the tracker's noise.
LEAST_GAZE = 3e-4


@dataclass(frozen=True)
class UpperEdit:
    """How brows and gaze move.

    Args:
        scale: how far they leave their rest: 1 as in the training video, 0 a calm face.
        brows: raises the brows by so many standard deviations of the training video; below 0 lowers them.
        gaze: (right, down) turns the eyes to the picture's right and down by so many standard deviations of
            the training video.
        curve: a column "brows", added frame by frame.

    Raises:
        ValueError: a number out of its range, or a curve without the column.
    """

    scale: float = 1.0
    brows: float = 0.0
    curve: Curve | None = None
    gaze: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if not 0 <= self.scale <= LIVELIEST:
            raise ValueError(f"UpperEdit: scale must be 0 to {LIVELIEST:g}, got {self.scale!r}")
        if not math.isfinite(self.brows) or abs(self.brows) > HIGHEST:
            raise ValueError(f"UpperEdit: brows must be -{HIGHEST:g} to {HIGHEST:g}, got {self.brows!r}")
        if len(self.gaze) != 2 or not all(math.isfinite(v) and abs(v) <= HIGHEST for v in self.gaze):
            raise ValueError(
                f"UpperEdit: gaze must be two numbers of -{HIGHEST:g} to {HIGHEST:g} (to the right, down), "
                f"got {self.gaze!r}"
            )
        if self.curve is not None and "brows" not in self.curve.check(("brows",)).columns:
            raise ValueError("UpperEdit: the curve has no column 'brows'")

    @property
    def idle(self) -> bool:
        """Whether it changes nothing."""
        return self.scale == 1 and self.brows == 0 and self.curve is None and not any(self.gaze)


class Upper:
    """Codes of the upper face for any frame number under an `UpperEdit`.

    Args:
        edit: how they move.
        basis: of the avatar.

    Raises:
        ValueError: a gaze, for an avatar whose codes hold none.
    """

    def __init__(self, edit: UpperEdit, basis: UpperBasis) -> None:
        self._edit = edit
        moved = dict(zip(basis.landmarks, basis.components.unbind(1), strict=True))

        def mean(of: tuple[int, ...]) -> Tensor:
            return torch.stack([moved[number] for number in of]).mean(0)  # [E, 2]

        # What a code of one raises the brows by (y falls), and moves the irises by between the lids.
        rise = -mean(BROWS)[:, 1] * basis.scale
        turn = (mean(IRISES) - mean(EYE_RIMS)) * basis.scale[:, None]
        self._way = (rise / rise.norm().clamp_min(1e-12)).cpu()
        # The least change that turns the eyes one way and leaves the other and the brows where they are.
        slope = torch.cat([rise[None], turn.T]).double()
        spread = slope.norm(dim=1)
        self._gaze = (torch.linalg.pinv(slope, rtol=ALIKE) * spread)[:, 1:].T.float().cpu()
        if any(edit.gaze) and float(spread[1:].max()) < LEAST_GAZE:
            raise ValueError(
                "gaze: the eyes of this avatar's training video hardly turn apart from the head, so it can't "
                "turn them; leave --gaze off"
            )

    def __call__(self, index: Tensor, tracked: Tensor) -> Tensor:
        """[N, E] codes of the frames `index` [N], whose track has `tracked` [N, E]."""
        rise = torch.full((len(index),), self._edit.brows, dtype=torch.float64)
        added = None if self._edit.curve is None else self._edit.curve.at("brows", index)
        rise = rise if added is None else rise + added
        held = rise.clamp(-HIGHEST, HIGHEST).to(tracked.dtype)
        gaze = torch.tensor(self._edit.gaze, dtype=tracked.dtype) @ self._gaze.to(tracked.dtype)
        return self._edit.scale * tracked + held[:, None] * self._way + gaze
