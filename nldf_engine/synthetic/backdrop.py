"""The static backdrop: a wall in soft light with things out of focus before it."""

from __future__ import annotations

import numpy as np

from nldf_engine.synthetic.looks import Looks, linear
from nldf_engine.synthetic.shapes import bell, smoothstep


def _disc(x: np.ndarray, y: np.ndarray, at: tuple[float, float], radius: float, blur: float) -> np.ndarray:
    distance = np.hypot(x - at[0], y - at[1])
    return smoothstep(radius + blur, radius - blur, distance) * (
        0.85 + 0.15 * smoothstep(0, radius, distance)
    )


def _box(
    x: np.ndarray, y: np.ndarray, at: tuple[float, float], half: tuple[float, float], blur: float
) -> np.ndarray:
    across = smoothstep(half[0] + blur, half[0] - blur, np.abs(x - at[0]))
    return across * smoothstep(half[1] + blur, half[1] - blur, np.abs(y - at[1]))


def backdrop(size: int, looks: Looks) -> np.ndarray:
    """The scene without the person in linear light, float32 [size, size, 3]; the same at every size."""
    axis = (np.arange(size) + 0.5) / size
    x, y = np.meshgrid(axis, axis)
    wall, dark, bright = (linear(c) for c in looks.backdrop)
    glow = bell(np.hypot(x - 0.30, (y - 0.32) * 0.9), 0.55)
    picture = dark + (wall - dark) * (0.25 + 0.75 * glow)[..., None]
    picture = picture * (1.04 - 0.22 * y)[..., None]

    def put(mask: np.ndarray, colour: np.ndarray, opacity: float) -> None:
        nonlocal picture
        picture = picture + (opacity * mask)[..., None] * (colour - picture)

    put(_box(x, y, (0.11, 0.27), (0.085, 0.19), 0.020), bright, 0.75)  # a window and its bars
    put(_box(x, y, (0.11, 0.27), (0.007, 0.19), 0.012), wall, 0.8)
    put(_box(x, y, (0.11, 0.25), (0.085, 0.007), 0.012), wall, 0.8)
    put(_box(x, y, (0.90, 0.565), (0.17, 0.012), 0.012), dark * 0.55, 0.85)  # a shelf with books
    for k, (left, tall, share) in enumerate(
        (
            (0.775, 0.115, 0.0),
            (0.803, 0.140, 0.45),
            (0.834, 0.095, 0.8),
            (0.868, 0.125, 0.2),
            (0.960, 0.10, 1.0),
        )
    ):
        cover = linear(looks.jumper) * (1 - share) + linear(looks.lips) * share
        put(
            _box(x, y, (left, 0.552 - tall / 2), (0.013, tall / 2), 0.010),
            cover * (0.75 + 0.1 * (k % 2)),
            0.7,
        )
    leaf = linear((96, 128, 84))
    for dx, dy, radius in (
        (-0.03, 0.0, 0.045),
        (0.015, -0.035, 0.05),
        (0.045, 0.01, 0.042),
        (0.0, 0.03, 0.045),
    ):
        put(_disc(x, y, (0.07 + dx, 0.66 + dy), radius, 0.020), leaf * (0.8 + 6 * dy), 0.75)
    put(_box(x, y, (0.07, 0.755), (0.038, 0.055), 0.014), linear((188, 104, 72)), 0.8)  # in a pot
    for at, radius, opacity in (
        ((0.66, 0.10), 0.034, 0.30), ((0.76, 0.17), 0.048, 0.34), ((0.88, 0.09), 0.040, 0.38),
        ((0.95, 0.24), 0.030, 0.30), ((0.83, 0.31), 0.022, 0.26), ((0.57, 0.05), 0.022, 0.22),
    ):  # fmt: skip
        put(_disc(x, y, at, radius, 0.008), bright * 1.1, opacity)
    return picture.astype(np.float32)
