"""The mouth's travel: gain, sliders, and lips that close in silence. For avatars that have motion codes.

Everything is expressed in the landmarks that the codes stand for. A measure of the mouth, its opening say, is
linear in the codes: b + a . c. Codes have unit variance and no correlation over the training video, so |a| is
what the measure varies by, and the least change of codes that moves one measure and leaves the others is the
likeliest face that does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nldf_engine.base.clock import FPS
from nldf_engine.engine.edits.curves import Curve
from nldf_engine.systems.common.motion import MOUTH, MotionBasis

SLIDERS = ("jaw", "width", "smile")
WIDEST = 3.0
STRONGEST = 4.0
# How far from the mean, in standard deviations, closed lips may be.
FURTHEST = 3.0
_CORNERS = MOUTH.index(61), MOUTH.index(291)
_UPPER, _LOWER = MOUTH.index(13), MOUTH.index(14)


def is_slider(name: str) -> bool:
    """Whether a slider, or a column of a curve, has that name."""
    return name in SLIDERS or (name.startswith("code") and name[4:].isdigit())


@dataclass(frozen=True)
class Gate:
    """When lips close: the sound's level is below a threshold for a while.

    Args:
        threshold: dB below the level of the voice, from which on a sound is speech.
        ahead: seconds by which lips part before the sound.
        hold: seconds that they stay free after it.
        attack, release: seconds that opening and closing take.

    Raises:
        ValueError: a threshold of 0 dB or more, or a time that is negative or beyond its reach.
    """

    threshold: float = -32.0
    ahead: float = 0.12
    hold: float = 0.20
    attack: float = 0.08
    release: float = 0.24

    def __post_init__(self) -> None:
        if not -50 < self.threshold < 0:
            raise ValueError(f"Gate: threshold must be between -50 and 0 dB, got {self.threshold!r}")
        if not 0 <= self.ahead <= 0.14 or not 0 <= self.hold <= 10:
            raise ValueError(f"Gate: expected ahead of 0 to 0.14 s and hold of 0 to 10 s, got {self}")
        if not 0.04 <= self.attack <= 5 or not 0.04 <= self.release <= 5:
            raise ValueError(f"Gate: attack and release must be 0.04 to 5 s, got {self}")


@dataclass(frozen=True)
class MouthEdit:
    """How far the mouth moves.

    Args:
        gain: how far it leaves its rest, closed lips: 1 as predicted from the speech, 0 at rest, 1.2 wider.
        sliders: what is added to a measure of the mouth, in standard deviations of the training video: "jaw"
            (opening), "width" (corners apart), "smile" (corners up), or "code0", "code1", ... single codes.
        curve: columns of the same names, added as well, and "mouth", a factor of the gain.
        gate: closes the lips in silence; None where the speech alone decides.

    Raises:
        ValueError: a number out of its range, or an unknown slider or column.
    """

    gain: float = 1.0
    sliders: Mapping[str, float] = field(default_factory=dict)
    curve: Curve | None = None
    gate: Gate | None = None

    def __post_init__(self) -> None:
        good = isinstance(self.gain, int | float) and not isinstance(self.gain, bool)
        if not good or not 0 <= self.gain <= WIDEST:
            raise ValueError(f"mouth: expected a number from 0 to {WIDEST:g}, got {self.gain!r}")
        names = set(self.sliders) | (set() if self.curve is None else set(self.curve.columns) - {"mouth"})
        for name in sorted(names):
            if not is_slider(name):
                known = ", ".join(SLIDERS)
                raise ValueError(f"mouth: there is no slider {name!r}; expected {known} or code0, code1, ...")
        for name, value in self.sliders.items():
            if not math.isfinite(value) or abs(value) > STRONGEST:
                raise ValueError(f"mouth: {name} must be -{STRONGEST:g} to {STRONGEST:g}, got {value!r}")

    @property
    def idle(self) -> bool:
        """Whether it changes nothing."""
        still = all(value == 0 for value in self.sliders.values())
        return self.gain == 1 and still and self.curve is None and self.gate is None


class MouthShape:
    """Measures of the mouth as linear functions of a basis' codes.

    Args:
        basis: of the avatar.
    """

    def __init__(self, basis: MotionBasis) -> None:
        codes = len(basis.scale)
        unit = torch.eye(codes, dtype=torch.float64, device=basis.scale.device)
        zero = torch.zeros(1, codes, dtype=torch.float64, device=basis.scale.device)

        def measures(of: Tensor) -> Tensor:
            placed = basis.decode(of.float()).double()
            corners = placed[:, list(_CORNERS)]
            opening = placed[:, _LOWER, 1] - placed[:, _UPPER, 1]
            width = (corners[:, 0, 0] - corners[:, 1, 0]).abs()
            middle = (placed[:, _UPPER, 1] + placed[:, _LOWER, 1]) / 2
            return torch.stack([opening, width, middle - corners[:, :, 1].mean(1)], 1)

        self._offset = measures(zero)[0]
        self._slope = (measures(unit) - self._offset).T  # [measures, K]
        self._spread = self._slope.norm(dim=1)
        self._ways = torch.linalg.pinv(self._slope)  # [K, measures]
        # At rest the lips just touch, and all else is as on the average.
        closed = (-self._offset[0]).clamp_min(-FURTHEST * self._spread[0])
        self.rest = (self._slope[0] * closed / self._slope[0].square().sum().clamp_min(1e-12)).float()

    def way(self, name: str) -> Tensor:
        """[K] float32: the change of codes that one unit of the slider `name` is.

        Raises:
            ValueError: there is no such code.
        """
        codes = len(self.rest)
        if name in SLIDERS:
            place = SLIDERS.index(name)
            return (self._ways[:, place] * self._spread[place]).float()
        number = int(name[4:])
        if number >= codes:
            raise ValueError(f"mouth: this avatar has the codes code0 to code{codes - 1}, got {name!r}")
        return torch.eye(codes, device=self.rest.device)[number]


class GateState:
    """The gate over consecutive frames: 1 where the mouth is free, 0 where the lips are closed.

    Args:
        gate: its times.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._silent = math.inf
        self._linear = 0.0

    def push(self, active: Tensor) -> Tensor:
        """[n] float32 for the next n frames; `active` [n] bool: where there is speech, `ahead` included."""
        gate, opened = self._gate, []
        for speech in active.tolist():
            self._silent = 0.0 if speech else self._silent + 1 / FPS
            rate = 1 / gate.attack if self._silent <= gate.hold else -1 / gate.release
            self._linear = min(1.0, max(0.0, self._linear + rate / FPS))
            opened.append(self._linear * self._linear * (3 - 2 * self._linear))
        return torch.tensor(opened)


class Mouth:
    """Motion codes under a `MouthEdit`, for consecutive frames.

    Args:
        edit: what is changed.
        shape: of the avatar's mouth.
    """

    def __init__(self, edit: MouthEdit, shape: MouthShape) -> None:
        self._edit, self._shape = edit, shape
        names = set() if edit.curve is None else set(edit.curve.columns) - {"mouth"}
        self._ways = {name: shape.way(name) for name in sorted(names | set(edit.sliders))}

    def __call__(self, codes: Tensor, index: Tensor, free: Tensor | None) -> Tensor:
        """Codes [N, K] of the frames `index` [N]; a gate leaves the mouth `free` [N] of its way."""
        edit, rest = self._edit, self._shape.rest
        travel = torch.full((len(codes), 1), float(edit.gain), device=codes.device)
        factor = None if edit.curve is None else edit.curve.at("mouth", index)
        if factor is not None:
            travel = travel * factor.clamp(0, WIDEST)[:, None].to(codes)
        if free is not None:
            travel = travel * free[:, None].to(codes)
        moved = rest + travel * (codes - rest)
        for name, way in self._ways.items():
            amount = torch.full((len(codes),), float(edit.sliders.get(name, 0.0)), dtype=torch.float64)
            column = None if edit.curve is None else edit.curve.at(name, index)
            amount = amount if column is None else (amount + column).clamp(-STRONGEST, STRONGEST)
            moved = moved + amount[:, None].to(codes) * way
        return moved
