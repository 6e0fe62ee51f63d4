"""HLG and PQ pictures (ITU-R BT.2100) as ordinary ones (BT.709).

What the camera saw is kept, not what a bright display makes of it: a grey card has the brightness that it
has in ordinary video, and white, which ITU-R BT.2408 puts at 75 % of HLG and at 203 cd/m2 of PQ, lies a
little below the highest level. What is brighter is compressed into the rest, in its own hue.
"""

from __future__ import annotations

import functools

import numpy as np

PQ, HLG = 16, 18  # transfer characteristics of ITU-T H.273
WHITE_NITS, WHITE_HLG = 203.0, 0.75
KNEE = 0.7  # of white, linear, from which highlights are compressed
LEVELS = 1 << 16
STEPS = 1 << 12  # of linear light, in the table back to levels
BT709, BT2020, P3 = 1, 9, 12  # primaries of ITU-T H.273; what is none of them is taken for BT.2020's
# From other primaries, of the same white, to BT.709's: rows are what red, green and blue become.
TO_BT709 = {
    BT2020: np.array(
        [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
    ),
    P3: np.array([[1.2249, -0.2249, 0.0], [-0.0421, 1.0421, 0.0], [-0.0196, -0.0786, 1.0983]], np.float32),
}


def is_hdr(transfer: int) -> bool:
    """Whether a transfer characteristic of ITU-T H.273 is HLG or PQ."""
    return transfer in _LINEAR


def graded(picture: np.ndarray, transfer: int, primaries: int) -> np.ndarray:
    """A picture of HLG or PQ as it is in BT.709, uint8 [H, W, 3].

    Args:
        picture: uint16 [H, W, 3] RGB over the whole range of its type.
        transfer, primaries: of it, as ITU-T H.273 numbers them.

    Raises:
        KeyError: another transfer.
    """
    import cv2

    light = _linear(transfer)[picture]
    if primaries != BT709:
        light = cv2.transform(light, TO_BT709.get(primaries, TO_BT709[BT2020]))
    brightest = np.maximum(np.maximum(light[..., 0], light[..., 1]), light[..., 2])
    bright = brightest > KNEE
    if bright.any():
        over = (brightest[bright] - KNEE) / (1 - KNEE)
        light[bright] *= ((KNEE + (1 - KNEE) * -np.expm1(-over)) / brightest[bright])[:, None]
    steps = (light * (STEPS - 1) + 0.5).clip(0, STEPS - 1).astype(np.uint16)
    made: np.ndarray = _levels()[steps]
    return made


def _hlg(signal: np.ndarray) -> np.ndarray:
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)


def _pq(signal: np.ndarray) -> np.ndarray:
    """What BT.709's curve and a display of gamma 2.4 show as the light of PQ, 203 cd/m2 being white there.

    This is the way back through an ordinary display, and not the reference OOTF of BT.2100.
    """
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = signal ** (1 / m2)
    nits = 10_000 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
    seen = (nits / WHITE_NITS) ** (1 / 2.4)
    return np.where(seen < 4.5 * 0.018, seen / 4.5, ((seen + 0.099) / 1.099) ** (1 / 0.45))


_LINEAR = {PQ: _pq, HLG: lambda signal: _hlg(signal) / _hlg(np.array(WHITE_HLG))}


@functools.lru_cache(maxsize=2)
def _linear(transfer: int) -> np.ndarray:
    """Light of the scene for each level, white being 1, float32 [LEVELS]."""
    return _LINEAR[transfer](np.arange(LEVELS) / (LEVELS - 1)).astype(np.float32)


@functools.lru_cache(maxsize=1)
def _levels() -> np.ndarray:
    """BT.709's level for each step of light, uint8 [STEPS]."""
    light = np.arange(STEPS) / (STEPS - 1)
    return np.round(255 * np.where(light < 0.018, 4.5 * light, 1.099 * light**0.45 - 0.099)).astype(np.uint8)
