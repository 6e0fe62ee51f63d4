"""Neck, jumper and collar, as meshes in head space at rest."""

from __future__ import annotations

import numpy as np

from nldf_engine.synthetic.shapes import (
    Part,
    bell,
    capsule,
    ellipsoid,
    grid_triangles,
    join,
    outward,
    smoothstep,
    trace,
)

RAISED = 0.018  # metres by which the whole torso is higher than it was drawn
TORSO_CENTRE = np.array([0.0, 0.300 - RAISED, 0.048], np.float32)
NECK_TOP, NECK_BOTTOM = 0.058, 0.185
BENDS_FROM, BENDS_TO = 0.075, 0.150  # heights between which the neck passes from the head to the torso


def torso_solid(p: np.ndarray) -> np.ndarray:
    """Signed distance of the dressed torso."""
    q = np.concatenate([np.abs(p[..., :1]), p[..., 1:2] + RAISED, p[..., 2:]], -1)
    d = ellipsoid(q, (0, 0.300, 0.050), (0.128, 0.125, 0.082))
    d = join(d, capsule(q, (0.0, 0.214, 0.055), (0.112, 0.232, 0.055), 0.045, 0.044), 0.05)
    d = join(d, capsule(q, (0.126, 0.238, 0.055), (0.156, 0.420, 0.045), 0.045, 0.042), 0.022)
    d = join(d, capsule(q, (0.0, 0.180, 0.050), (0.070, 0.200, 0.055), 0.034, 0.028), 0.045)
    d = join(d, ellipsoid(q, (0, 0.205, 0.040), (0.064, 0.036, 0.064)), 0.03)  # below the collar
    return join(d, ellipsoid(q, (0.052, 0.285, -0.010), (0.055, 0.060, 0.030)), 0.05)


def neck_weight(y: np.ndarray) -> np.ndarray:
    """How far a neck point at height `y` follows the torso rather than the head, 0..1."""
    return smoothstep(BENDS_FROM, BENDS_TO, y)


def neck() -> Part:
    """The neck: a tapered tube with a hint of its muscles."""
    rows, columns = 26, 56
    y = np.linspace(NECK_TOP, NECK_BOTTOM, rows)
    around = np.arange(columns) * (2 * np.pi / columns)
    height, a = np.meshgrid(y, around, indexing="ij")
    t = (height - NECK_TOP) / (NECK_BOTTOM - NECK_TOP)
    flare = 0.010 * t**2 + 0.004 * (1 - t) ** 2
    wide, deep = 0.0425 + flare, 0.0455 + 0.004 * (1 - t) ** 2
    front = np.maximum(np.sin(a), 0)
    muscle = 0.0022 * bell(np.abs(np.cos(a)) - (0.62 - 0.42 * t), 0.16) * front
    apple = 0.0022 * bell(height - 0.118, 0.012) * bell(np.cos(a), 0.25) * front
    grow = 1 + (muscle + apple) / 0.047
    points = np.stack(
        [wide * grow * np.cos(a), height + 0 * a, 0.026 + 0.012 * t - deep * grow * np.sin(a)], -1
    ).reshape(-1, 3)
    triangles = grid_triangles(rows, columns, closed=True)
    axis = np.stack([np.zeros(len(points)), points[:, 1], np.full(len(points), 0.03)], 1)
    corner = points[triangles]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    if ((corner - axis[triangles]).mean(1) * normal).sum() < 0:
        triangles = triangles[:, [0, 2, 1]]
    return Part("neck", points, triangles, np.ones(3), follows="neck")


def torso() -> Part:
    """The jumper down to below the picture's edge."""
    theta = np.linspace(-np.pi, np.pi, 96, endpoint=False)
    phi = np.concatenate([np.linspace(-1.5, -0.55, 22), np.linspace(-0.52, 0.40, 24)])
    across, down = np.meshgrid(theta, phi)
    unit = np.stack([np.cos(down) * np.sin(across), np.sin(down), -np.cos(down) * np.cos(across)], -1)
    radius = trace(torso_solid, TORSO_CENTRE, unit.astype(np.float32), 0.40)
    points = (TORSO_CENTRE + radius[..., None] * unit).reshape(-1, 3)
    triangles = outward(points, grid_triangles(len(phi), len(theta), closed=True), TORSO_CENTRE)
    # Soft folds run from the shoulders to the chest.
    fold = np.sin(52 * points[:, 1] + 40 * np.abs(points[:, 0])) * bell(np.abs(points[:, 0]) - 0.115, 0.03)
    fold = fold * bell(points[:, 1] - 0.257, 0.05)
    points = points + 0.0016 * fold[:, None] * np.array([0, 0.2, -1])
    return Part("jumper", points, triangles, np.ones(3), follows="torso")


def collar() -> Part:
    """The ribbed collar: a tube around the neck, lower at the front. Rest: (angle, around the tube, 0)."""
    columns, rows = 120, 14
    a = np.arange(columns) * (2 * np.pi / columns)
    b = np.arange(rows) * (2 * np.pi / rows)
    around, tube = np.meshgrid(a, b)
    front = 0.5 + 0.5 * np.sin(around)
    path = np.stack(
        [
            0.0580 * np.cos(around),
            0.1480 - RAISED + 0.0200 * front**1.4,
            0.040 - 0.0560 * np.sin(around),
        ],
        -1,
    )
    out = np.stack([np.cos(around), 0.35 + 0 * around, -np.sin(around)], -1)
    out = out / np.linalg.norm(out, axis=-1, keepdims=True)
    up = np.array([0, -1.0, 0]) + 0.42 * np.stack([-np.cos(around), 0 * around, np.sin(around)], -1)
    up = up / np.linalg.norm(up, axis=-1, keepdims=True)
    rib = 1 + 0.035 * np.sin(64 * around)
    points = path + 0.0080 * rib[..., None] * np.cos(tube)[..., None] * out
    points = (points + 0.0140 * np.sin(tube)[..., None] * up).reshape(-1, 3)
    triangles = grid_triangles(rows, columns, closed=True)
    index = np.arange(rows * columns).reshape(rows, columns)
    last = np.stack([index[-1], index[0]])
    last = last.reshape(-1)[grid_triangles(2, columns, closed=True)]
    triangles = np.concatenate([triangles, last])
    corner = points[triangles]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    if ((corner - path.reshape(-1, 3)[triangles]).mean(1) * normal).sum() < 0:
        triangles = triangles[:, [0, 2, 1]]
    rest = np.stack([around, tube, np.zeros_like(tube)], -1).reshape(-1, 3).astype(np.float32)
    # A tube's texture jumps where its angle starts again; sine and cosine would do, but ribs repeat anyway.
    return Part("collar", points, triangles, np.ones(3), follows="torso", rest=rest)
