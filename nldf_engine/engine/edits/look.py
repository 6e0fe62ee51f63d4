"""The look: whose shape and colours, how strong an expression, which light. For avatars with a code to each.

Each number becomes a track of the conditions that the avatar's driver knows (`rendering.fields.Driver.part`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nldf_engine.rendering.fields import Conditions, Driver

STRONGEST = 2.0
BRIGHTEST = 1.0


@dataclass(frozen=True)
class LookEdit:
    """What a head looks like.

    Args:
        identity: number of the speaker, of those that the avatar was trained with, whose shape is shown; None
            for the avatar's own. Numbers begin at 0, in the order of the datasets.
        albedo: of the speaker whose colours are shown, likewise.
        expression: how far mouth, brows, lids and gaze together leave the usual face: 1 as they are, 0 not at
            all.
        light: what is added to the light: brightness, slope to the picture's right, slope downwards, in
            natural logarithms; slopes over 0.1 m of the face.

    Raises:
        ValueError: a number out of its range.
    """

    identity: int | None = None
    albedo: int | None = None
    expression: float = 1.0
    light: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        for name in ("identity", "albedo"):
            number = getattr(self, name)
            if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 0):
                raise ValueError(f"{name}: expected the number of a speaker, 0 or more, got {number!r}")
        if not 0 <= self.expression <= STRONGEST:
            raise ValueError(f"expression: expected 0 to {STRONGEST:g}, got {self.expression!r}")
        if len(self.light) != 3 or not all(math.isfinite(v) and abs(v) <= BRIGHTEST for v in self.light):
            raise ValueError(
                f"light: expected three numbers of -{BRIGHTEST:g} to {BRIGHTEST:g} (brightness, to the "
                f"right, downwards), got {self.light!r}"
            )

    @property
    def idle(self) -> bool:
        """Whether it changes nothing."""
        return self == LookEdit()


class Look:
    """A `LookEdit` made ready for one avatar.

    Args:
        edit: what is changed.
        driver: of the avatar's head.

    Raises:
        ValueError: the avatar has no code for what is changed, or no speaker of that number.
    """

    def __init__(self, edit: LookEdit, driver: Driver) -> None:
        self._rows: Mapping[str, Tensor] = {
            **_speaker(driver, "identity", edit.identity),
            **_speaker(driver, "albedo", edit.albedo),
            **_number(driver, "expression", "expression", "strength", edit.expression, 1.0),
            **_number(driver, "light", "illumination", "light", edit.light, (0.0, 0.0, 0.0)),
        }

    def __call__(self, conditions: Conditions) -> Conditions:
        """The conditions with the tracks that the edit gives."""
        frames, device = len(conditions), conditions.audio.device
        return conditions.replaced(
            **{name: row.to(device).expand(frames, *row.shape) for name, row in self._rows.items()}
        )


def _speaker(driver: Driver, name: str, number: int | None) -> dict[str, Tensor]:
    if number is None:
        return {}
    part = driver.part(name)
    known = 1 if part is None else len(part.table)
    if known < 2:
        raise ValueError(
            f"{name}: expected an avatar of several speakers to swap between, got one speaker's; train "
            "them together: nldf train PRESET DATA1 DATA2 ..."
        )
    if number >= known:
        raise ValueError(f"{name}: the avatar was trained with the speakers 0 to {known - 1}, got {number}")
    return {name: torch.tensor(number)}


def _number(driver: Driver, name: str, part: str, track: str, value: Any, usual: Any) -> dict[str, Tensor]:
    if value == usual:
        return {}
    if driver.part(part) is None:
        raise ValueError(
            f"{name}: expected an avatar with a code of its {part}, got one without; leave it out, or train "
            "a preset that has one (nldf train --help)"
        )
    return {track: torch.tensor(value, dtype=torch.float32)}
