"""The face mesh's 478 landmarks on the character, as 3D points that move with the face."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from nldf_engine.geometry.face_mesh import LANDMARKS
from nldf_engine.geometry.face_template import rest_landmarks
from nldf_engine.synthetic.head import (
    EYE_CENTRE,
    EYE_HALF,
    EYE_MIDDLE,
    SHAPES,
    head_skin,
    lid_lines,
    skin_solid,
)

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
LID_STEPS = 5


def _surface(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """z of the face's front at (x, y), float64."""
    z = np.full(np.shape(x), -0.16)
    for _ in range(60):
        p = np.stack([x, y, z], -1)
        z = z + 0.7 * skin_solid(p)
    return z


def _moves(rest: np.ndarray) -> np.ndarray:
    """[S, 478, 3] displacements of landmarks by the shapes, as the skin's nearest vertices have them."""
    skin = head_skin()
    grid = len(skin.lower_lip) + int(skin.lower_lip[0])
    vertices, lower = skin.part.points[:grid].astype(np.float64), skin.lower[:grid]
    shapes = np.stack([skin.part.shapes[name] for name in SHAPES]).astype(np.float64)[:, :grid]
    upper_lip, lower_lip = OUTER_UPPER + INNER_UPPER, OUTER_LOWER + INNER_LOWER
    moves = np.zeros((len(SHAPES), LANDMARKS, 3))
    for index in range(IRISES[0][0]):
        # Where the lips meet, a landmark goes with its own.
        own = lower if index in lower_lip else ~lower if index in upper_lip else np.ones(grid, bool)
        allowed = np.flatnonzero(own)
        outline = index in OUTER_UPPER or index in OUTER_LOWER
        gap = np.linalg.norm((vertices[allowed] - rest[index]) * [1, 1, 0 if outline else 0.5], axis=1)
        four = np.argpartition(gap, 4)[:4]
        near, share = allowed[four], 1 / (gap[four] + 1e-5)
        moves[:, index] = np.einsum("k,skc->sc", share / share.sum(), shapes[:, near])
    return moves


def _lids() -> tuple[np.ndarray, np.ndarray]:
    """Numbers [L] of the lids' landmarks, and their places [LID_STEPS, L, 3] from shut to open."""
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
    return np.array(lids), np.stack([x, y, _surface(x, y)], -1)


@lru_cache(maxsize=1)
def _tables() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rest points [478, 3], displacements [S, 478 * 3], lid landmarks [L], their places [LID_STEPS, L, 3]."""
    rest = rest_landmarks()
    return rest, _moves(rest).reshape(len(SHAPES), -1), *_lids()


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
