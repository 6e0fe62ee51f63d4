"""All parts of the character in one set of arrays, with the light that reaches each vertex baked in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from nldf_engine.synthetic import body, features, hair
from nldf_engine.synthetic.head import EYE_CENTRE, SHAPES, head_skin, skin_solid
from nldf_engine.synthetic.shading import KEY, MATERIALS
from nldf_engine.synthetic.shapes import Part, ellipsoid, smoothstep

LABEL_OF = {"neck": 2, "jumper": 3, "collar": 3}
TAPS = (0.004, 0.010, 0.020, 0.036, 0.060)
BODIES = ("head", "neck", "torso", "eye_left", "eye_right", "jaw")


@dataclass(frozen=True)
class Scene:
    """The character at rest.

    Args:
        points, normals, strand: float32 [V, 3].
        attributes: float32 [V, 8]: rest coordinates, albedo, ambient and key light.
        triangles: int64 [T, 3], wound for the rasteriser.
        cuttable: bool [T] around the eyes.
        group: int8 [T], index into `groups`: (material, whether its paint is fine, label).
        bodies: slices of vertices by what moves them; skin: slice of the face's vertices.
        shapes, normal_shapes: float32 [S, skin vertices * 3], how points and normals move, as `SHAPES`.
        neck_weight: float32 [neck vertices]; breathes: float32 [torso vertices], share of a breath.
    """

    points: np.ndarray
    normals: np.ndarray
    attributes: np.ndarray
    strand: np.ndarray
    triangles: np.ndarray
    cuttable: np.ndarray
    bodies: dict[str, slice]
    skin: slice
    shapes: np.ndarray
    normal_shapes: np.ndarray
    neck_weight: np.ndarray
    breathes: np.ndarray
    group: np.ndarray
    groups: tuple[tuple[str, bool, int], ...]


class _Around:
    """A nearly star-shaped part as radii over directions: a fast stand-in for its signed distance."""

    def __init__(self, points: np.ndarray, centre: np.ndarray) -> None:
        self.centre = centre
        d = points - centre
        radius = np.linalg.norm(d, axis=1)
        u, v = self._cells(d / radius[:, None])
        total = np.bincount(v * 96 + u, radius, 96 * 64)
        count = np.bincount(v * 96 + u, minlength=96 * 64)
        table = np.where(count > 0, total / np.maximum(count, 1), np.nan).reshape(64, 96)
        for _ in range(8):  # cells that hold no vertex take the mean of their neighbours
            near = np.stack([np.roll(table, s, a) for s, a in ((1, 0), (-1, 0), (1, 1), (-1, 1))])
            known = np.isfinite(near)
            mean = np.where(known, near, 0).sum(0) / np.maximum(known.sum(0), 1)
            table = np.where(np.isfinite(table), table, np.where(known.any(0), mean, np.nan))
        self.table = np.nan_to_num(table, nan=0.0).astype(np.float32)

    @staticmethod
    def _cells(d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        u = (np.arctan2(d[:, 0], -d[:, 2]) / (2 * np.pi) + 0.5) * 96
        v = (np.arcsin(np.clip(d[:, 1], -1, 1)) / np.pi + 0.5) * 64
        return u.astype(np.int64) % 96, np.clip(v.astype(np.int64), 0, 63)

    def __call__(self, p: np.ndarray) -> np.ndarray:
        d = p - self.centre
        length = np.linalg.norm(d, axis=1) + 1e-9
        u, v = self._cells(d / length[:, None])
        return 0.8 * (length - self.table[v, u])


def _solid(hair_field: _Around) -> Callable[[np.ndarray], np.ndarray]:
    def field(p: np.ndarray) -> np.ndarray:
        d = np.minimum(skin_solid(p), body.torso_solid(p))
        d = np.minimum(d, hair_field(p))
        q = np.concatenate([np.abs(p[..., :1]), p[..., 1:]], -1)
        d = np.minimum(d, ellipsoid(q, (0.085, 0.004, 0.014), (0.008, 0.026, 0.016)))
        neck = np.sqrt(p[..., 0] ** 2 + (p[..., 2] - 0.032) ** 2) - 0.046
        return np.minimum(d, np.maximum(neck, np.maximum(0.06 - p[..., 1], p[..., 1] - 0.25)))

    return field


def _ambient(
    solid: Callable[[np.ndarray], np.ndarray], points: np.ndarray, normals: np.ndarray
) -> np.ndarray:
    dark = np.zeros(len(points))
    for reach in TAPS:
        gap = solid(points + reach * normals)
        dark += 0.34 * np.clip(1 - gap / reach, 0, 1.2) * (0.6 if reach > 0.03 else 1.0)
    return np.clip(1 - dark, 0.12, 1)


def _key_light(
    solid: Callable[[np.ndarray], np.ndarray], points: np.ndarray, normals: np.ndarray
) -> np.ndarray:
    clear = np.ones(len(points))
    travelled = np.full(len(points), 0.010)
    start = points + 0.004 * normals
    for _ in range(14):
        gap = solid((start + travelled[:, None] * KEY).astype(np.float32))
        clear = np.minimum(clear, 0.5 + 0.5 * gap / (0.12 * travelled + 0.001))
        travelled += np.clip(np.abs(gap), 0.006, 0.03)
    return smoothstep(0.0, 1.0, clear)


def _smooth(values: np.ndarray, triangles: np.ndarray, rounds: int = 3) -> np.ndarray:
    """Each vertex takes the mean of its triangles, `rounds` times."""
    count = sum(np.bincount(triangles[:, k], minlength=len(values)) for k in range(3))
    for _ in range(rounds):
        face = values[triangles].mean(1)
        total = sum(np.bincount(triangles[:, k], face, len(values)) for k in range(3))
        values = np.where(count > 0, total / np.maximum(count, 1), values)
    return values


def _parts() -> list[Part]:
    return [
        head_skin().part, features.ear(-1), features.ear(1), hair.hair(), features.teeth(True),
        features.cavity(), features.teeth(False), features.tongue(),
        features.eyeball(-1), features.eyeball(1), body.neck(), body.torso(), body.collar(),
    ]  # fmt: skip


@lru_cache(maxsize=1)
def scene() -> Scene:
    """Builds the character once in a process."""
    parts = _parts()
    names = tuple(MATERIALS)
    solid = _solid(_Around(parts[3].points, hair.HAIR_CENTRE))
    offset, triangles, material, starts = 0, [], [], []
    for part in parts:
        starts.append(offset)
        triangles.append(part.triangles[:, [0, 2, 1]] + offset)
        material.append(np.full(len(part.triangles), names.index(part.name), np.int8))
        offset += len(part.points)
        baked = part.name in ("skin", "ear", "hair", "neck", "jumper", "collar")
        part.lit = part.key = np.ones(len(part.points))
        if baked:
            part.lit = _smooth(_ambient(solid, part.points, part.normals), part.triangles)
            part.key = _smooth(_key_light(solid, part.points, part.normals), part.triangles, 5)
        if not len(part.strand):
            part.strand = np.zeros_like(part.points)
    ends = [*starts[1:], offset]
    head = parts[0]
    normals = _normal_shapes(head)
    every = np.concatenate(triangles)
    kind = np.concatenate(material)
    points = np.concatenate([p.points for p in parts])
    near = np.abs(np.abs(points[:, 0]) - EYE_CENTRE[0]) < 0.022
    near &= (np.abs(points[:, 1]) < 0.018) & (points[:, 2] < -0.03)
    attributes = [np.concatenate([p.rest, p.albedo, p.lit[:, None], p.key[:, None]], 1) for p in parts]
    points = np.concatenate([p.points for p in parts])
    kept = _not_buried(parts, starts, every, solid)
    every, kind = every[kept], kind[kept]
    fine = np.isin(kind, [names.index(n) for n in ("eye", "teeth")])
    fine |= (kind == names.index("skin")) & _detailed(points)[every].any(1)
    groups = tuple((n, f, LABEL_OF.get(n, 1)) for n in names for f in (False, True))
    chest = points[starts[11] : ends[12]]
    return Scene(
        points=points,
        normals=np.concatenate([p.normals for p in parts]),
        attributes=np.concatenate(attributes).astype(np.float32),
        strand=np.concatenate([p.strand for p in parts]).astype(np.float32),
        triangles=every,
        cuttable=(kind == names.index("skin")) & near[every].any(1),
        bodies={
            "head": slice(starts[0], ends[5]), "jaw": slice(starts[6], ends[7]),
            "eye_left": slice(starts[8], ends[8]), "eye_right": slice(starts[9], ends[9]),
            "neck": slice(starts[10], ends[10]), "torso": slice(starts[11], ends[12]),
        },
        skin=slice(starts[0], ends[0]),
        shapes=np.stack([head.shapes[n].reshape(-1) for n in SHAPES]),
        normal_shapes=normals,
        neck_weight=body.neck_weight(parts[10].points[:, 1]).astype(np.float32),
        breathes=smoothstep(0.13, 0.20, chest[:, 1]).astype(np.float32),
        group=(2 * kind + fine).astype(np.int8),
        groups=groups,
    )  # fmt: skip


def _detailed(points: np.ndarray) -> np.ndarray:
    """bool [V]: places of the face whose paint has edges: eyes, brows, nostrils and lips."""
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    eyes = (x > 0.008) & (x < 0.055) & (y > -0.040) & (y < 0.013)
    lips = (x < 0.032) & (y > 0.040) & (y < 0.074)
    return (eyes | lips) & (z < -0.02)


def _not_buried(
    parts: list[Part], starts: list[int], triangles: np.ndarray, solid: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """bool [T]: triangles that can be seen in some pose; the others are deep in another part."""
    buried = []
    cover = _Around(parts[3].points, hair.HAIR_CENTRE)
    for part in parts:
        p = part.points
        hidden = np.zeros(len(p), bool)
        if part.name in ("skin", "ear"):
            hidden = cover(p) < -0.012
        elif part.name == "hair":
            hidden = (skin_solid(p) < -0.010) | (np.linalg.norm(p - hair.HAIR_CENTRE, axis=1) < 0.02)
        elif part.name == "neck":
            hidden = (skin_solid(p) < -0.02) | (body.torso_solid(p) < -0.012)
        elif part.name == "jumper":
            hidden = p[:, 2] > 0.075
        buried.append(hidden)
    return ~np.concatenate(buried)[triangles].all(1)


def _normal_shapes(head: Part) -> np.ndarray:
    """How the normals change with each displacement, to first order: [S, V * 3]."""
    from nldf_engine.synthetic.shapes import vertex_normals

    made = []
    for name in SHAPES:
        moved = vertex_normals(head.points + 0.5 * head.shapes[name], head.triangles)
        made.append(((moved - head.normals) / 0.5).reshape(-1))
    return np.stack(made).astype(np.float32)
