"""Solid shapes as signed distances, blended smoothly, and meshes traced from them.

Points are float [..., 3] in metres, in the head's axes: x right, y down, z away from the camera.
A distance is negative inside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

Field = Callable[[np.ndarray], np.ndarray]
TRACE_STEPS = 56
TRACE_CLOSE = 1e-5  # metres
TRACE_SHARE = 0.75  # of the distance a step: an ellipsoid's is only nearly one
FARTHEST = 0.34  # metres from the centre where tracing begins


def ellipsoid(points: np.ndarray, centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    """Nearly the distance to an ellipsoid, exact in sign and at its surface."""
    p = (points - np.asarray(centre, np.float32)) / np.asarray(radii, np.float32)
    k0 = np.sqrt((p * p).sum(-1)) + 1e-9
    p = p / np.asarray(radii, np.float32)
    return k0 * (k0 - 1) / (np.sqrt((p * p).sum(-1)) + 1e-9)


def sphere(points: np.ndarray, centre: tuple[float, ...], radius: float) -> np.ndarray:
    """The distance to a sphere."""
    d: np.ndarray = points - np.asarray(centre, np.float32)
    return np.sqrt((d * d).sum(-1)) - radius


def capsule(
    points: np.ndarray, a: tuple[float, ...], b: tuple[float, ...], ra: float, rb: float
) -> np.ndarray:
    """The distance to a rod from `a` to `b` whose radius goes from `ra` to `rb`."""
    start, along = np.asarray(a, np.float32), np.asarray(b, np.float32) - np.asarray(a, np.float32)
    d: np.ndarray = points - start
    h = np.clip((d @ along) / float(along @ along), 0, 1)
    d = d - h[..., None] * along
    return np.sqrt((d * d).sum(-1)) - (ra + (rb - ra) * h)


def join(a: np.ndarray, b: np.ndarray, k: float) -> np.ndarray:
    """Union whose seam is rounded over `k` metres."""
    h = np.maximum(k - np.abs(a - b), 0) / k
    return np.minimum(a, b) - h * h * (k / 4)


def carve(a: np.ndarray, b: np.ndarray, k: float) -> np.ndarray:
    """`a` without `b`, the edge rounded over `k` metres."""
    return -join(-a, b, k)


def smoothstep(low: float, high: float, x: np.ndarray) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between; `low` may exceed `high`."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def bell(x: np.ndarray, width: float) -> np.ndarray:
    """exp(-(x / width)^2)."""
    return np.exp(-np.square(x / width))


def trace(solid: Field, centre: np.ndarray, directions: np.ndarray, start: float = FARTHEST) -> np.ndarray:
    """Radii [...] at which rays from far outside towards `centre` first meet `solid`; 0 where none does."""
    flat = directions.reshape(-1, 3).astype(np.float32)
    radius = np.full(len(flat), start, np.float32)
    going = np.arange(len(flat))
    for _ in range(TRACE_STEPS):
        step = TRACE_SHARE * solid(centre + radius[going, None] * flat[going])
        radius[going] -= step
        going = going[(np.abs(step) > TRACE_CLOSE) & (radius[going] > 0)]
        if not len(going):
            break
    return np.where(radius > 1e-3, radius, 0).reshape(directions.shape[:-1])


def spread(low: float, high: float, count: int, density: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """`count` values from `low` to `high`, closer together where `density` is higher."""
    fine = np.linspace(low, high, 4001)
    mass = np.concatenate([[0], np.cumsum(density((fine[1:] + fine[:-1]) / 2))])
    return np.interp(np.linspace(0, mass[-1], count), mass, fine)


def grid_triangles(rows: int, columns: int, closed: bool = False) -> np.ndarray:
    """int64 [.., 3]: two triangles for every cell of a grid; `closed` joins its last column to the first."""
    index = np.arange(rows * columns).reshape(rows, columns)
    if closed:
        index = np.concatenate([index, index[:, :1]], 1)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    return np.concatenate([np.stack([a, b, d], -1).reshape(-1, 3), np.stack([a, d, c], -1).reshape(-1, 3)])


def vertex_normals(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit normals [V, 3], the mean of the adjacent triangles' weighted by area."""
    corner = points[triangles]
    face = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    total = np.zeros((len(points), 3))
    for k in range(3):
        for axis in range(3):
            total[:, axis] += np.bincount(triangles[:, k], face[:, axis], len(points))
    return (total / (np.linalg.norm(total, axis=1, keepdims=True) + 1e-20)).astype(np.float32)


@dataclass
class Part:
    """One piece of the character.

    Args:
        name: of the material it is shaded with.
        points: float32 [V, 3], head space at rest.
        triangles: int64 [T, 3], wound so that the outside is in front.
        albedo: float32 [V, 3], linear colour, the ambient darkening included.
        follows: "head", "neck" or "torso": the body that moves it.
        normals: float32 [V, 3].
        rest: float32 [V, 3], the coordinates that its textures are painted in.
        shapes: displacement fields [V, 3] by name, as `head.py` makes them.
        lit: float32 [V], ambient light that arrives, 0..1.
        key: float32 [V], share of the key light that arrives, 0..1.
        strand: float32 [V, 3], direction of the hair; empty elsewhere.
    """

    name: str
    points: np.ndarray
    triangles: np.ndarray
    albedo: np.ndarray
    follows: str = "head"
    normals: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.float32))
    rest: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.float32))
    shapes: dict[str, np.ndarray] = field(default_factory=dict)
    lit: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    key: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    strand: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.float32))

    def __post_init__(self) -> None:
        self.points = self.points.astype(np.float32)
        if not len(self.normals):
            self.normals = vertex_normals(self.points, self.triangles)
        if not len(self.rest):
            self.rest = self.points
        self.albedo = np.broadcast_to(np.asarray(self.albedo, np.float32), self.points.shape).copy()


def outward(points: np.ndarray, triangles: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """The triangles, all turned over when their normals point to `centre` rather than away from it."""
    corner = points[triangles]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    facing = ((corner.mean(1) - centre) * normal).sum()
    return triangles if facing > 0 else triangles[:, [0, 2, 1]]
