"""The proportions of a face: the same head made wider, longer or of another jaw, so that speakers differ in
shape."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nldf_engine.synthetic.shapes import smoothstep

SMALLEST, LARGEST = 0.8, 1.25
# Heights in metres of head space between which the jaw's factor sets in: below the eyes, at the chin.
JAW_FROM, JAW_TO = 0.0, 0.09


@dataclass(frozen=True)
class Proportions:
    """Factors of a head's sizes, 1 as the character is modelled.

    Args:
        width: of the head.
        length: of the head, along its height.
        jaw: of the width towards the chin, beside `width`.

    Raises:
        ValueError: a factor out of 0.8..1.25.
    """

    width: float = 1.0
    length: float = 1.0
    jaw: float = 1.0

    def __post_init__(self) -> None:
        for name, factor in vars(self).items():
            if not SMALLEST <= factor <= LARGEST:
                raise ValueError(f"Proportions: {name} must be in {SMALLEST:g}..{LARGEST:g}, got {factor!r}")

    def factors(self, points: np.ndarray) -> np.ndarray:
        """[N, 3] factors of the coordinates of head-space points [N, 3] in metres, in their dtype."""
        made = np.ones_like(points)
        made[:, 0] = self.width * (1 + (self.jaw - 1) * smoothstep(JAW_FROM, JAW_TO, points[:, 1]))
        made[:, 1] = self.length
        return made

    def apply(self, points: np.ndarray) -> np.ndarray:
        """[N, 3] where head-space points [N, 3] of the modelled head are on this one."""
        return points * self.factors(points)


AS_MODELLED = Proportions()
