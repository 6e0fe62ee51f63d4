"""The hair: a cap and swept locks, one mesh traced from both, with strand directions."""

from __future__ import annotations

import numpy as np

from nldf_engine.synthetic.shapes import (
    Part,
    bell,
    carve,
    ellipsoid,
    grid_triangles,
    join,
    outward,
    smoothstep,
    spread,
    trace,
)

HAIR_CENTRE = np.array([0.0, -0.045, 0.004], np.float32)
# Locks as arcs: begin, bend, end (metres), and the radius in the middle.
LOCKS: tuple[
    tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float], float], ...
] = (
    ((-0.052, -0.074, -0.058), (-0.050, -0.132, -0.088), (0.010, -0.136, -0.066), 0.0165),
    ((-0.038, -0.080, -0.070), (-0.030, -0.140, -0.108), (0.034, -0.130, -0.076), 0.0175),
    ((-0.022, -0.083, -0.076), (-0.004, -0.140, -0.112), (0.052, -0.116, -0.076), 0.0170),
    ((-0.006, -0.084, -0.078), (0.020, -0.130, -0.108), (0.066, -0.098, -0.066), 0.0155),
    ((0.010, -0.084, -0.076), (0.040, -0.112, -0.096), (0.075, -0.076, -0.052), 0.0135),
    ((0.030, -0.082, -0.070), (0.058, -0.096, -0.076), (0.079, -0.055, -0.038), 0.0115),
    ((-0.058, -0.068, -0.046), (-0.082, -0.100, -0.045), (-0.070, -0.128, -0.006), 0.0150),
    ((-0.062, -0.056, -0.042), (-0.084, -0.068, -0.034), (-0.086, -0.072, 0.014), 0.0120),
    ((-0.040, -0.112, -0.052), (-0.020, -0.150, -0.040), (0.036, -0.140, -0.016), 0.0185),
    ((-0.050, -0.116, -0.020), (-0.020, -0.152, -0.006), (0.040, -0.136, 0.020), 0.0185),
    ((0.030, -0.122, -0.040), (0.066, -0.120, -0.020), (0.083, -0.078, 0.012), 0.0165),
    ((0.040, -0.112, 0.000), (0.078, -0.102, 0.024), (0.084, -0.052, 0.040), 0.0160),
    ((-0.050, -0.112, 0.010), (-0.082, -0.092, 0.030), (-0.084, -0.044, 0.044), 0.0160),
    ((-0.010, -0.130, 0.030), (-0.020, -0.130, 0.085), (-0.024, -0.080, 0.108), 0.0190),
    ((0.020, -0.128, 0.030), (0.040, -0.126, 0.080), (0.042, -0.070, 0.102), 0.0190),
)


def _lock_points(count: int = 10) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    t = np.linspace(0, 1, count)[:, None]
    centres, radii, along = [], [], []
    for begin, bend, end, radius in LOCKS:
        a, b, c = (np.array(v) for v in (begin, bend, end))
        centres.append((1 - t) ** 2 * a + 2 * t * (1 - t) * b + t * t * c)
        tangent = 2 * (1 - t) * (b - a) + 2 * t * (c - b)
        along.append(tangent / np.linalg.norm(tangent, axis=1, keepdims=True))
        radii.append(radius * (0.62 + 0.46 * np.sin(np.pi * t[:, 0] ** 0.85)) * (1 - 0.35 * t[:, 0] ** 3))
    return (
        np.stack(centres).astype(np.float32),
        np.stack(radii).astype(np.float32),
        np.stack(along).astype(np.float32),
    )


def _cap(p: np.ndarray) -> np.ndarray:
    q = np.concatenate([np.abs(p[..., :1]), p[..., 1:]], -1)
    d = ellipsoid(q, (0, -0.040, 0.016), (0.0845, 0.0905, 0.102))
    d = carve(d, ellipsoid(q, (0, 0.012, -0.110), (0.066, 0.088, 0.100)), 0.010)  # the face
    d = carve(d, ellipsoid(q, (0.082, 0.022, 0.004), (0.022, 0.034, 0.030)), 0.010)  # around the ears
    return np.maximum(d, p[..., 1] - 0.062)


def hair_solid(p: np.ndarray) -> np.ndarray:
    """Signed distance of the hair; locks keep visible seams between them."""
    centres, radii, _ = _lock_points()
    flat, size = p.reshape(-1, 3).astype(np.float32), p.shape[:-1]
    nearest = np.full(len(flat), 1.0, np.float32)
    for lock, radius in zip(centres, radii, strict=True):
        step, grow = np.diff(lock, axis=0), np.diff(radius)
        # Distances to all the tapered segments of one lock: |p - a - h s| - r(h), h the foot on each.
        square = (step * step).sum(1)
        foot = np.clip((flat @ step.T - (lock[:-1] * step).sum(1)) / square, 0, 1)
        ahead = flat @ step.T - (lock[:-1] * step).sum(1)
        far = (flat * flat).sum(1)[:, None] - 2 * flat @ lock[:-1].T + (lock[:-1] ** 2).sum(1)
        distance = far - foot * (2 * ahead - foot * square)
        one = (np.sqrt(np.maximum(distance, 0)) - radius[:-1] - foot * grow).min(1)
        nearest = join(nearest, one, 0.004)
    return join(_cap(p), nearest.reshape(size), 0.010)


def hair() -> Part:
    """The hair; rest coordinates: metres across the strands, the lock's number, metres to its line."""
    theta = spread(-np.pi, np.pi, 133, lambda t: 0.45 + bell(t, 1.0))[:-1]
    phi = np.concatenate([np.linspace(-1.55, 0.25, 58), np.linspace(0.28, 0.92, 13)])
    across, down = np.meshgrid(theta, phi)
    unit = np.stack([np.cos(down) * np.sin(across), np.sin(down), -np.cos(down) * np.cos(across)], -1)
    radius = trace(hair_solid, HAIR_CENTRE, unit.astype(np.float32), 0.20)
    for axis in (0, 1):  # the mesh cuts corners where the hair ends steeply: round them
        side = np.roll(radius, 1, axis) + np.roll(radius, -1, axis)
        radius[1:-1] = (0.5 * radius + 0.25 * side)[1:-1]
    points = (HAIR_CENTRE + radius[..., None] * unit).reshape(-1, 3)
    triangles = grid_triangles(len(phi), len(theta), closed=True)
    triangles = outward(points, triangles, HAIR_CENTRE)
    centres, _, tangents = _lock_points()
    gap = np.linalg.norm(points[:, None, None] - centres[None], axis=-1)  # [V, locks, points]
    weights = np.exp(-np.square(gap / 0.020)) + 1e-12
    strand = (weights[..., None] * tangents[None]).sum((1, 2)) / weights.sum((1, 2))[:, None]
    strand = strand / np.linalg.norm(strand, axis=1, keepdims=True)
    # Coordinates across the strands, from each lock's own line, blended so that streaks run on.
    outwards = points - HAIR_CENTRE
    side = np.cross(strand, outwards / np.linalg.norm(outwards, axis=1, keepdims=True))
    nearest = gap.argmin(2)
    foot = centres[np.arange(len(LOCKS))[None], nearest]  # [V, locks, 3]
    share = np.exp(-np.square(gap.min(2) / 0.012)) + 1e-9
    share = share / share.sum(1, keepdims=True)
    offset = (((points[:, None] - foot) * side[:, None]).sum(-1) * share).sum(1)
    lock_index = share @ np.arange(len(LOCKS))
    shade = 0.80 + 0.28 * smoothstep(0.02, -0.02, points[:, 2]) * bell(offset, 0.02)
    part = Part("hair", points, triangles, shade[:, None] * np.ones(3))
    part.rest = np.stack([offset, lock_index * 0.37, gap.min((1, 2))], 1).astype(np.float32)
    part.strand = strand.astype(np.float32)
    return part
