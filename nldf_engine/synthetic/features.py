"""Eyeballs, ears, teeth, tongue and the mouth's cavity, as meshes in head space."""

from __future__ import annotations

import numpy as np

from nldf_engine.synthetic.head import EYE_CENTRE, EYE_RADIUS, MOUTH_Y
from nldf_engine.synthetic.shapes import (
    Part,
    bell,
    carve,
    ellipsoid,
    grid_triangles,
    join,
    outward,
    smoothstep,
    trace,
)

EAR_PLACE = np.array([0.0780, 0.003, 0.010])
BLUSH = np.array([1.05, 0.72, 0.66])


def dome(rows: int, columns: int, reach: float = np.pi) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors [rows * columns, 3] around -z out to the angle `reach`, and their triangles."""
    polar = np.linspace(1e-3, reach - (1e-3 if reach > 3.1 else 0), rows)
    around = np.arange(columns) * (2 * np.pi / columns)
    a, b = np.meshgrid(polar, around, indexing="ij")
    points = np.stack([np.sin(a) * np.cos(b), np.sin(a) * np.sin(b), -np.cos(a)], -1).reshape(-1, 3)
    return points, outward(points, grid_triangles(rows, columns, closed=True), np.zeros(3))


def eyeball(sign: int) -> Part:
    """The front of one eyeball, at x of this sign. Its rest coordinates are directions from its centre."""
    unit, triangles = dome(14, 28, 1.45)
    centre = EYE_CENTRE * [sign, 1, 1]
    return Part(
        "eye",
        centre + EYE_RADIUS * unit,
        triangles,
        np.ones(3),
        normals=unit.astype(np.float32),
        rest=unit.astype(np.float32),
    )


def _ear_solid(p: np.ndarray) -> np.ndarray:
    """Signed distance in the ear's own axes: x forward, y down, z out."""
    d = ellipsoid(p, (-0.001, -0.003, 0.0), (0.0185, 0.0270, 0.0078))
    d = join(d, ellipsoid(p, (0.004, 0.0215, 0.0005), (0.0095, 0.0110, 0.0058)), 0.008)
    d = carve(d, ellipsoid(p, (0.0025, -0.004, 0.0095), (0.0118, 0.0185, 0.0080)), 0.005)
    d = carve(d, ellipsoid(p, (0.0050, 0.004, 0.0065), (0.0070, 0.0090, 0.0085)), 0.004)
    return join(d, ellipsoid(p, (0.0125, 0.003, 0.0030), (0.0035, 0.0058, 0.0030)), 0.004)  # tragus


def ear(sign: int) -> Part:
    """One ear, flared from the head."""
    unit, triangles = dome(30, 40)
    unit = unit[:, [0, 1, 2]] * [1, 1, -1]
    centre = np.array([0.0, 0.0, -0.0035], np.float32)
    radius = trace(_ear_solid, centre, unit.astype(np.float32), 0.06)
    local = centre + radius[:, None] * unit
    flare, tip = 0.66, 0.16
    out = np.array([np.cos(flare), 0, -np.sin(flare)])  # away from the head and a little forward
    forward = np.array([-np.sin(flare), 0, -np.cos(flare)])
    down = np.array([0, 1.0, 0])
    forward, down = forward * np.cos(tip) + down * np.sin(tip), down * np.cos(tip) - forward * np.sin(tip)
    points = EAR_PLACE + local[:, :1] * forward + local[:, 1:2] * down + local[:, 2:] * out
    points = points * [sign, 1, 1]
    triangles = outward(points, triangles, (EAR_PLACE + centre[2] * out) * [sign, 1, 1])
    hollow = bell(local[:, 0] - 0.003, 0.010) * bell(local[:, 1] + 0.002, 0.015)
    hollow = hollow * smoothstep(0.006, 0.001, local[:, 2])
    tint = 1 - 0.6 * hollow[:, None] * np.array([0.55, 0.9, 0.95])
    blush = 1 + (BLUSH - 1) * 0.55
    return Part("ear", points, triangles, tint * blush)


def _arch(x: np.ndarray, depth: float) -> np.ndarray:
    """z of the row of teeth at `x`."""
    return depth + 27.0 * x * x


def teeth(upper: bool) -> Part:
    """A row of teeth; its rest coordinates are (arc length, height within the row, 0)."""
    x = np.linspace(-0.0200, 0.0200, 37)
    v = np.linspace(0, 1, 7)
    across, down = np.meshgrid(x, v)
    arc = np.sign(across) * np.abs(across) * (1 + 4 * np.abs(across))
    top, bottom = (MOUTH_Y - 0.0085, MOUTH_Y + 0.0040) if upper else (MOUTH_Y + 0.0042, MOUTH_Y + 0.0150)
    edge = bottom - 0.0020 * (np.abs(across) / 0.0200) ** 2 if upper else bottom
    y = top + (edge - top) * down
    z = _arch(across, -0.0905 if upper else -0.0880) + 0.0012 * (2 * down - 1) ** 2
    points = np.stack([across, y, z], -1).reshape(-1, 3)
    rest = np.stack([arc, down if upper else 1 - down, np.full_like(arc, 0)], -1).reshape(-1, 3)
    triangles = outward(points, grid_triangles(7, 37), np.array([0, points[:, 1].mean(), 0.05]))
    return Part("teeth", points, triangles, np.ones(3), rest=rest.astype(np.float32))


def tongue() -> Part:
    """The tongue, lying behind the lower teeth."""
    unit, triangles = dome(14, 24)
    points = unit * [0.0185, 0.0085, 0.026]
    points[:, 1] += 0.0022 * bell(points[:, 0], 0.004)  # the furrow
    points = points + np.array([0, MOUTH_Y + 0.0135, -0.056])
    return Part("tongue", points, outward(points, triangles, points.mean(0)), np.ones(3))


def cavity() -> Part:
    """The dark inside of the mouth, seen from within."""
    unit, triangles = dome(16, 28)
    points = unit * [0.036, 0.034, 0.036] + [0, MOUTH_Y + 0.010, -0.046]
    inward = outward(points, triangles, points.mean(0))[:, [0, 2, 1]]
    back = points[inward].mean(1)[:, 2] > -0.058
    return Part("cavity", points, inward[back], np.ones(3))
