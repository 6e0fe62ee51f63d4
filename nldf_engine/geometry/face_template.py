"""478 landmarks on the character in the face mesh's usual numbering, as 3D points that move with the face."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from nldf_engine.synthetic.head import (
    COLUMNS,
    EYE_CENTRE,
    EYE_HALF,
    EYE_MIDDLE,
    EYE_RADIUS,
    MOUTH_HALF,
    SHAPES,
    head_skin,
    lid_lines,
    lip_heights,
    lip_line,
    skin_solid,
)

COUNT = 478
TABLE = Path(__file__).with_name("face_template.csv")
# From the image's left corner to its right one.
OUTER_UPPER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
OUTER_LOWER = (146, 91, 181, 84, 17, 314, 405, 321, 375)
INNER_UPPER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
INNER_LOWER = (95, 88, 178, 87, 14, 317, 402, 318, 324)
UPPER_LIDS: tuple[tuple[int, ...], ...] = (
    (246, 161, 160, 159, 158, 157, 173),
    (398, 384, 385, 386, 387, 388, 466),
)
LOWER_LIDS: tuple[tuple[int, ...], ...] = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133),
    (362, 382, 381, 380, 374, 373, 390, 249, 263),
)
IRISES: tuple[tuple[int, ...], ...] = (
    (468, 469, 470, 471, 472),
    (473, 474, 475, 476, 477),
)  # centre, right, top, left, bottom
IRIS_RADIUS = 0.425 * EYE_RADIUS
LID_STEPS = 5


def _surface(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """z of the face's front at (x, y), float64."""
    z = np.full(np.shape(x), -0.16)
    for _ in range(60):
        p = np.stack([x, y, z], -1)
        z = z + 0.7 * skin_solid(p)
    return z


@lru_cache(maxsize=1)
def _tables() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rest points [478, 3], displacements [S, 478 * 3], lid landmarks [L], their places [LID_STEPS, L, 3]."""
    rest = np.loadtxt(TABLE, delimiter=",", comments="#")
    skin = head_skin()
    vertices = skin.part.points.astype(np.float64)
    grid = len(skin.lower_lip) + int(skin.lower_lip[0])
    side = skin.lower[:grid]
    lips = skin.lip_row * COLUMNS + np.concatenate(
        [[skin.lip_columns[0] - 1], skin.lip_columns, [skin.lip_columns[-1] + 1]]
    )
    want: dict[int, bool] = {}
    indices: tuple[int, ...]
    for indices, lower in ((OUTER_UPPER, False), (OUTER_LOWER, True)):
        x = np.linspace(-1, 1, 11) * MOUTH_HALF
        x = x[1:-1] if lower else x
        x = np.sign(x) * MOUTH_HALF * (np.abs(x) / MOUTH_HALF) ** 0.9
        edge = lip_line(x) + (lip_heights(x)[1] if lower else -lip_heights(x)[0])
        for k, index in enumerate(indices):
            rest[index, :2] = x[k], edge[k]
            want[index] = lower
    inner_line = vertices[lips]
    for indices, lower in ((INNER_UPPER, False), (INNER_LOWER, True)):
        x = np.linspace(-1, 1, 11) * MOUTH_HALF * 0.93
        x = x[1:-1] if lower else x
        for k, index in enumerate(indices):
            rest[index] = [np.interp(x[k], inner_line[:, 0], inner_line[:, axis]) for axis in range(3)]
            want[index] = lower
    shapes = np.stack([skin.part.shapes[name] for name in SHAPES]).astype(np.float64)[:, :grid]
    moves = np.zeros((len(SHAPES), COUNT, 3))
    for index in range(IRISES[0][0]):
        allowed = np.arange(grid)
        if index in want:
            allowed = np.flatnonzero(side == want[index])
        outline = index in OUTER_UPPER or index in OUTER_LOWER  # on which z is yet to be found
        gap = np.linalg.norm((vertices[allowed] - rest[index]) * [1, 1, 0 if outline else 0.5], axis=1)
        four = np.argpartition(gap, 4)[:4]
        near, share = allowed[four], 1 / (gap[four] + 1e-5)
        share = share / share.sum()
        moves[:, index] = np.einsum("k,skc->sc", share, shapes[:, near])
        if outline:
            rest[index, 2] = share @ vertices[near, 2]
    lids: list[int] = []
    across: list[float] = []
    is_upper: list[bool] = []
    for upper, pair in ((True, UPPER_LIDS), (False, LOWER_LIDS)):
        for sign, indices in zip((-1, 1), pair, strict=True):
            count = len(indices)
            along = np.linspace(-1, 1, count + 2)[1:-1] if upper else np.linspace(-1, 1, count)
            lids += indices
            across += list(sign * EYE_MIDDLE + EYE_HALF * along)
            is_upper += [upper] * count
    x = np.tile(np.array(across), (LID_STEPS, 1))
    top, bottom = lid_lines(x, np.linspace(0, 1, LID_STEPS)[:, None])
    y = np.where(is_upper, top, bottom)
    places = np.stack([x, y, _surface(x, y)], -1)
    rest[lids] = places[-1]
    for sign, indices in ((-1, IRISES[0]), (1, IRISES[1])):
        centre = EYE_CENTRE * [sign, 1, 1]
        depth = np.sqrt(EYE_RADIUS**2 - IRIS_RADIUS**2)
        rest[indices[0]] = centre - [0, 0, EYE_RADIUS]
        for index, (dx, dy) in zip(indices[1:], ((1, 0), (0, -1), (-1, 0), (0, 1)), strict=True):
            rest[index] = centre + np.array([dx * IRIS_RADIUS, dy * IRIS_RADIUS, -depth])
    return rest, moves.reshape(len(SHAPES), -1), np.array(lids), places


def rest_landmarks() -> np.ndarray:
    """float64 [478, 3] in head space: the face at rest, lips closed and eyes open."""
    return _tables()[0].copy()


def landmarks_3d(
    weights: np.ndarray, openness: float, gaze: tuple[np.ndarray, np.ndarray] | None = None
) -> np.ndarray:
    """float64 [478, 3] in head space.

    Args:
        weights: [5] of the displacements in the order of `head.SHAPES`.
        openness: of the eyes, 0..1.
        gaze: for the left and right eye in the image, [3, 3] whose columns are the eye's axes; straight
            ahead by default.
    """
    rest, moves, lids, places = _tables()
    points = rest + (np.asarray(weights, np.float64) @ moves).reshape(-1, 3)
    at = np.clip(openness, 0, 1) * (LID_STEPS - 1)
    low = min(int(at), LID_STEPS - 2)
    points[lids] = places[low] + (at - low) * (places[low + 1] - places[low])
    if gaze is not None:
        for sign, indices, turn in zip((-1, 1), IRISES, gaze, strict=True):
            centre = EYE_CENTRE * [sign, 1, 1]
            points[list(indices)] = centre + (rest[list(indices)] - centre) @ np.asarray(turn, np.float64).T
    return points
