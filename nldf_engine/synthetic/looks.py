"""Palettes: the colours of skin, hair, eyes, clothes and backdrop, chosen by the seed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class Looks:
    """Colours in sRGB, 0..255."""

    skin: tuple[int, int, int]
    lips: tuple[int, int, int]
    hair: tuple[int, int, int]
    iris: tuple[int, int, int]
    jumper: tuple[int, int, int]
    stripe: tuple[int, int, int]
    backdrop: tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]


PALETTES: tuple[Looks, ...] = (
    Looks(
        skin=(240, 186, 152), lips=(204, 104, 96), hair=(112, 62, 36), iris=(70, 128, 112),
        jumper=(38, 118, 122), stripe=(244, 226, 190),
        backdrop=((240, 214, 178), (196, 150, 122), (250, 232, 200)),
    ),
    Looks(
        skin=(168, 112, 80), lips=(150, 74, 68), hair=(40, 28, 26), iris=(96, 62, 36),
        jumper=(226, 160, 62), stripe=(120, 52, 48),
        backdrop=((176, 204, 206), (110, 146, 156), (226, 240, 236)),
    ),
    Looks(
        skin=(246, 204, 178), lips=(212, 118, 112), hair=(196, 120, 56), iris=(74, 120, 170),
        jumper=(178, 66, 66), stripe=(250, 236, 214),
        backdrop=((186, 200, 226), (128, 142, 178), (236, 240, 250)),
    ),
    Looks(
        skin=(226, 176, 134), lips=(190, 96, 88), hair=(34, 32, 40), iris=(84, 56, 38),
        jumper=(92, 84, 148), stripe=(240, 210, 160),
        backdrop=((206, 220, 184), (146, 168, 126), (242, 246, 222)),
    ),
)  # fmt: skip


@lru_cache(maxsize=256)
def linear(colour: tuple[int, int, int]) -> np.ndarray:
    """sRGB 0..255 as linear light 0..1, float32."""
    c = np.asarray(colour, np.float64) / 255
    light = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4).astype(np.float32)
    light.setflags(write=False)  # the same array is given out again
    return light


def encoded(light: np.ndarray) -> np.ndarray:
    """Linear light as sRGB 0..1, highlights rolled off softly above 0.8."""
    c = np.maximum(light, 0)
    over = np.maximum(c - 0.8, 0)
    c = np.minimum(c, 0.8) + 0.2 * (1 - np.exp(-over / 0.2))
    return np.where(c <= 0.0031308, c * 12.92, 1.055 * c ** (1 / 2.4) - 0.055)
