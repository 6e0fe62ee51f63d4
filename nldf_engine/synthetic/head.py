"""The skin of the head: one mesh traced from smooth solids, slit along the lips, with its displacements.

The mesh is a grid over directions from the head's centre. One row of it runs along the lip line; between
the mouth's corners that row exists twice, so that the lips part, and behind both copies strips of inner
lip lead into the mouth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from nldf_engine.synthetic.shapes import (
    Part,
    bell,
    capsule,
    carve,
    ellipsoid,
    grid_triangles,
    join,
    outward,
    smoothstep,
    sphere,
    spread,
    trace,
    vertex_normals,
)

CENTRE = np.array([0.0, 0.012, 0.0], np.float32)
ROWS, COLUMNS = 104, 117
MOUTH_HALF = 0.0255  # metres from the middle of the mouth to its corner
MOUTH_Y = 0.0585
JAW_HINGE = np.array([0.0, 0.018, 0.012])
JAW_ANGLE = 0.2  # radians at jaw_open = 1
EYE_CENTRE = np.array([0.0295, 0.0, -0.0655])
EYE_RADIUS = 0.0200
LID_RADIUS = 0.0216
EYE_INNER, EYE_OUTER = 0.0138, 0.0450
EYE_MIDDLE, EYE_HALF = (EYE_INNER + EYE_OUTER) / 2, (EYE_OUTER - EYE_INNER) / 2
INNER_LIP = ((0.0012, 0.0009), (0.0035, 0.0022), (0.0065, 0.0045), (0.0105, 0.0085))  # back, away
SHAPES = ("jaw", "close", "width", "round", "brows")


def skin_solid(p: np.ndarray) -> np.ndarray:
    """Signed distance of the head at rest, without lips and ears."""
    q = np.concatenate([np.abs(p[..., :1]), p[..., 1:]], -1)  # it is symmetric
    d = ellipsoid(q, (0, -0.032, 0.012), (0.0765, 0.086, 0.094))
    d = join(d, ellipsoid(q, (0, 0.022, -0.022), (0.0630, 0.073, 0.066)), 0.05)
    d = join(d, ellipsoid(q, (0, 0.077, -0.060), (0.028, 0.022, 0.026)), 0.045)  # chin
    d = join(d, ellipsoid(q, (0.038, 0.030, -0.060), (0.023, 0.024, 0.022)), 0.035)  # cheeks
    d = join(d, ellipsoid(q, (0.0, 0.058, -0.070), (0.030, 0.020, 0.023)), 0.025)  # behind the lips
    d = join(d, capsule(q, (0.010, -0.0285, -0.0745), (0.044, -0.029, -0.062), 0.0075, 0.006), 0.022)
    d = carve(d, ellipsoid(q, (0.0305, 0.001, -0.094), (0.0190, 0.0135, 0.0150)), 0.016)  # sockets
    d = join(d, sphere(q, tuple(EYE_CENTRE), LID_RADIUS), 0.006)
    d = join(d, capsule(q, (0, -0.010, -0.0780), (0, 0.026, -0.0965), 0.0068, 0.0082), 0.018)  # nose
    d = join(d, ellipsoid(q, (0, 0.0305, -0.1000), (0.0118, 0.0098, 0.0108)), 0.009)
    d = join(d, ellipsoid(q, (0.0112, 0.0350, -0.0905), (0.0066, 0.0062, 0.0080)), 0.006)
    return carve(d, ellipsoid(q, (0.0062, 0.0418, -0.0985), (0.0032, 0.0030, 0.0042)), 0.004)  # nostrils


def lip_line(x: np.ndarray) -> np.ndarray:
    """Height y of the line between the closed lips at `x`: a gentle smile."""
    s = np.clip(np.abs(x) / MOUTH_HALF, 0, 1.6)
    return MOUTH_Y - 0.0050 * s**2.2 + 0.0010 * bell(x, 0.006)


def lip_heights(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far the red of the upper and of the lower lip reaches from the lip line at `x`, metres."""
    s = np.minimum(np.abs(x) / (MOUTH_HALF * 1.02), 1)
    taper = np.sqrt(np.maximum(1 - s * s, 0))
    upper = 0.0074 * taper * (1 - 0.22 * bell(x, 0.0035)) * (1 - 0.25 * s)
    lower = 0.0088 * np.maximum(1 - s**2.2, 0) ** 0.8
    return upper, lower


def lid_lines(x: np.ndarray, openness: float | np.ndarray = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Heights y of the upper and lower lid's edges at `x` (either eye); they meet where the eye is shut."""
    e = np.clip((np.abs(x) - EYE_MIDDLE) / EYE_HALF, -1, 1)
    base = 0.0010 - 0.0022 * (e + 1) / 2
    skew = e + 0.18 * (1 - e * e)  # the highest point is towards the nose, the lowest away from it
    upper = base - 0.0102 * (1 - np.abs(e - 0.12 * (1 - e * e)) ** 2.3)
    lower = base + 0.0076 * (1 - np.abs(skew - 0.36 * (1 - e * e)) ** 2.1)
    o = np.asarray(openness, np.float64)
    edge = lower - 0.35 * (lower - base) * (1 - o)
    return edge + (upper - lower) * o, edge


@dataclass(frozen=True)
class HeadSkin:
    """The skin mesh and what is needed to find places on it.

    Args:
        part: mesh and displacement fields: "jaw", "width", "round", "brows" are the displacement of each
            vertex at a control of 1; "close" that at jaw_open = lip_close = 1.
        lip_columns: columns of the grid strictly between the mouth's corners.
        lip_row: the grid's row that runs along the (upper) lip.
        lower_lip: int [len(lip_columns)], the row's second copy.
        lower: bool [V], vertices below the lip line.
    """

    part: Part
    lip_columns: np.ndarray
    lip_row: int
    lower_lip: np.ndarray
    lower: np.ndarray


def _directions(theta: np.ndarray, phi: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(phi) * np.sin(theta), np.sin(phi), -np.cos(phi) * np.cos(theta)], -1)


def _grid() -> tuple[np.ndarray, int, np.ndarray]:
    """Points [ROWS, COLUMNS, 3] on the solid, the lip row, and the columns between the mouth's corners."""
    theta = spread(-2.1, 2.1, COLUMNS, lambda t: 0.42 + 1.0 * bell(t, 0.32) + 0.55 * bell(t, 0.85))
    theta = (theta - theta[::-1]) / 2
    phi = spread(-1.18, 1.42, ROWS, lambda f: 0.35 + 0.55 * bell(f - 0.05, 0.5) + 1.9 * bell(f - 0.44, 0.16))
    across, down = np.meshgrid(theta, phi)
    start = _directions(across, down)
    radius = trace(skin_solid, CENTRE, start.astype(np.float32))
    row = int(np.argmin(np.abs(CENTRE[1] + radius[:, COLUMNS // 2] * np.sin(phi) - MOUTH_Y)))
    line = down[row].copy()
    for _ in range(8):
        place = _directions(theta, line)
        r = trace(skin_solid, CENTRE, place.astype(np.float32))
        point = CENTRE + r[:, None] * place
        target = lip_line(np.clip(point[:, 0], -1.5 * MOUTH_HALF, 1.5 * MOUTH_HALF))
        line += (target - point[:, 1]) / np.maximum(r, 0.05) * 0.9
    shift = (line - phi[row]) * bell(theta, 0.6)
    down = down + shift[None, :] * bell(phi - phi[row], 0.30)[:, None]
    direction = _directions(across, down)
    radius = trace(skin_solid, CENTRE, direction.astype(np.float32))
    points = CENTRE + radius[..., None] * direction
    inner = np.flatnonzero(np.abs(points[row, :, 0]) < MOUTH_HALF - 0.0004)
    # The corners are the next columns: move them to exactly where the lips end.
    for column, sign in ((inner[0] - 1, -1), (inner[-1] + 1, 1)):
        points[row, column, 0] = sign * MOUTH_HALF
        points[row, column, 1] = lip_line(np.array(MOUTH_HALF))
    return points, row, inner


def _lip_relief(p: np.ndarray, below: np.ndarray) -> np.ndarray:
    """How far the lips protrude from the solid at points [..., 3]; `below`: which belong to the lower lip."""
    s = np.abs(p[..., 0]) / MOUTH_HALF
    t = p[..., 1] - lip_line(p[..., 0])
    taper = np.sqrt(np.maximum(1 - np.minimum(s, 1) ** 2, 0))
    upper = 0.0034 * np.exp(-np.square((t + 0.0035) / 0.0038))
    upper = upper - 0.0010 * bell(p[..., 0], 0.004) * bell(t + 0.012, 0.005)  # philtrum
    lower = 0.0046 * np.exp(-np.square((t - 0.0042) / 0.0044))
    lower = lower - 0.0022 * bell(p[..., 0], 0.017) * bell(t - 0.0135, 0.005)  # the dip above the chin
    relief = np.where(below, lower, upper) * np.where(np.abs(t) < 0.02, np.maximum(taper, 0.0), 0)
    crease = 0.0017 * bell(t, 0.0016) * smoothstep(1.25, 0.95, s)
    dimple = 0.0016 * np.exp(-np.square((s - 1.1) / 0.13)) * bell(t - 0.0005, 0.004)
    return relief - crease - dimple


def _displacements(p: np.ndarray, lower: np.ndarray) -> dict[str, np.ndarray]:
    """Displacement fields [V, 3] of the skin; p [V, 3] at rest, `lower` [V] which are below the slit."""
    x, y = p[:, 0], p[:, 1]
    s, t = x / MOUTH_HALF, y - lip_line(x)
    front = smoothstep(0.035, -0.03, p[:, 2])
    # The nose is no part of the mouth.
    still = 1 - smoothstep(-0.0035, -0.0150, t) * smoothstep(0.034, 0.015, np.abs(x))
    gap = np.sqrt(np.maximum(1 - s * s, 0))
    far = 0.42 * smoothstep(-0.015, 0.0, t) + 0.58 * smoothstep(0.0, 0.026, t)
    weight = far + gap * np.where(lower, 1 - far, -far)
    # Away from the mouth's front the jaw line fades out towards the ears.
    weight = weight * front * (1 - 0.75 * smoothstep(0.045, 0.075, np.abs(x)))
    lever = p - JAW_HINGE
    swing = np.stack([np.zeros_like(x), -lever[:, 2], lever[:, 1]], 1)
    jaw = JAW_ANGLE * weight[:, None] * swing
    # Cheeks are drawn in a little as the mouth opens.
    jaw[:, 0] -= 0.004 * np.sign(x) * bell(np.abs(x) - 0.042, 0.018) * bell(t - 0.004, 0.022) * front
    lift = np.array([0, -0.0030, 0.0006])  # the upper lip rises and shows the teeth
    jaw += (gap * np.where(lower, 0, bell(t, 0.014) * still) * front)[:, None] * lift
    drop = gap[:, None] * (JAW_ANGLE * swing - lift)  # by which the lower lip leaves the upper one
    shut = np.where(lower, -0.74 * bell(t, 0.017), 0.26 * bell(t, 0.010) * still)
    close = (shut * front)[:, None] * drop
    near = bell(t, 0.020) * front * still
    side = np.tanh(s * 1.1) * bell(np.maximum(np.abs(s) - 1, 0), 0.9)
    width = np.zeros_like(p)
    width[:, 0] = 0.0062 * side * near
    width[:, 1] = -0.0030 * np.square(np.tanh(s)) * near * bell(np.maximum(np.abs(s) - 1, 0), 0.8)
    width[:, 2] = 0.0035 * np.square(np.tanh(s)) * near
    width[:, 2] -= 0.0022 * bell(np.abs(x) - 0.040, 0.012) * bell(y - 0.028, 0.014)  # cheeks lift
    width[:, 1] -= 0.0022 * bell(np.abs(x) - 0.040, 0.014) * bell(y - 0.030, 0.016)
    pucker = np.zeros_like(p)
    pucker[:, 0] = -0.0122 * side * near
    pucker[:, 1] = 0.0052 * np.square(np.tanh(1.3 * s)) * near
    pucker[:, 2] = -0.0092 * bell(s, 0.85) * bell(t, 0.013) * front * still
    brows = np.zeros_like(p)
    lift = bell(y + 0.034, 0.016) * smoothstep(0.075, 0.05, np.abs(x)) * front
    brows[:, 1] = -0.0062 * lift
    return {"jaw": jaw, "close": close, "width": width, "round": pucker, "brows": brows}


def _inner_lips(
    points: np.ndarray, fields: dict[str, np.ndarray], lower: np.ndarray, edge: np.ndarray, copies: np.ndarray
) -> tuple[list[np.ndarray], dict[str, list[np.ndarray]], list[np.ndarray], list[np.ndarray]]:
    """Strips of inner lip, from each copy of the lip row into the mouth.

    Args:
        points: [V, 3]; fields: displacements of each [V, 3]; lower: bool [V].
        edge, copies: vertices of the lip row between the corners, upper and lower copy.

    Returns:
        What is added to points, fields and lower, strip by strip, and the triangles between the strips.
    """
    corner = np.array([edge[0] - 1, edge[-1] + 1])
    rest: list[np.ndarray] = []
    triangles: list[np.ndarray] = []
    side: list[np.ndarray] = []
    shapes: dict[str, list[np.ndarray]] = {name: [] for name in fields}
    count = len(points)
    for is_lower, row in ((False, edge), (True, copies)):
        line = np.concatenate([corner[:1], row, corner[1:]])
        fade = np.sqrt(np.maximum(1 - (points[line, 0] / MOUTH_HALF) ** 2, 0))
        strips = [line]
        for back, away in INNER_LIP:
            here = points[line].copy()
            here[:, 1] += away * (1 if is_lower else -1) * fade
            here[:, 2] += back * (0.4 + 0.6 * fade)
            here[:, 0] *= 1 - 6 * back
            rest.append(here)
            for name in shapes:
                shapes[name].append(fields[name][line])
            side.append(np.full(len(line), is_lower))
            strips.append(count + np.arange(len(line)))
            count += len(line)
        rows = np.stack(strips)
        faces = rows.reshape(-1)[grid_triangles(*rows.shape)]
        triangles.append(faces if is_lower else faces[:, [0, 2, 1]])
    return rest, shapes, side, triangles


@lru_cache(maxsize=1)
def head_skin() -> HeadSkin:
    """Builds the skin; its albedo is white and is painted by `shading.skin`."""
    grid, row, inner = _grid()
    triangles = grid_triangles(ROWS, COLUMNS)
    points = grid.reshape(-1, 3)
    row_of = np.repeat(np.arange(ROWS), COLUMNS)
    lower = row_of > row
    # The second copy of the lip row, used by the triangles below it.
    base = row * COLUMNS
    copies = len(points) + np.arange(len(inner))
    replace = np.arange(len(points))
    replace[base + inner] = copies
    under = triangles.min(1) >= base
    triangles = np.where(under[:, None], replace[triangles], triangles)
    points = np.concatenate([points, points[base + inner]])
    lower = np.concatenate([lower, np.ones(len(inner), bool)])
    normals = vertex_normals(points, outward(points, triangles, CENTRE))
    relief = _lip_relief(points, lower)
    push = 0.35 * normals + np.array([0, 0, -0.65])
    points = points + relief[:, None] * push
    points[copies] = points[base + inner] = (points[copies] + points[base + inner]) / 2
    fields = _displacements(points, lower)
    triangles = outward(points, triangles, CENTRE)

    rest, shapes, side, extra = _inner_lips(points, fields, lower, base + inner, copies)
    rest_points = np.concatenate([points, *rest])
    inside = np.concatenate(extra)
    # The inner lip faces the gap: the upper one down, the lower one up.
    corners = rest_points[inside]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lower_all = np.concatenate([lower, *side])
    is_lower = lower_all[inside].all(1)
    wrong = (normal[:, 1] > 0) == is_lower
    inside = np.where(wrong[:, None], inside[:, [0, 2, 1]], inside)
    every = np.concatenate([triangles, inside])
    part = Part(
        name="skin",
        points=rest_points,
        triangles=every,
        albedo=np.ones(3),
        shapes={
            name: np.concatenate([value, *shapes[name]]).astype(np.float32) for name, value in fields.items()
        },
    )
    return HeadSkin(part, inner, row, copies, lower_all)
