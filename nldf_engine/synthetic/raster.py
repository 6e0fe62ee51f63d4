"""A small z-buffer rasteriser over numpy arrays: which triangle is seen at every sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

EDGE = -1e-5  # barycentric tolerance: neighbouring triangles overlap rather than leave a crack


@dataclass(frozen=True)
class Visible:
    """The samples that show a surface.

    Args:
        sample: int64 [N], index of the sample, row by row.
        triangle: int64 [N], the nearest triangle there.
        weights: float32 [N, 3], barycentric coordinates in it.
    """

    sample: np.ndarray
    triangle: np.ndarray
    weights: np.ndarray


Cut = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _nearest(near: np.ndarray, sample: np.ndarray, count: int) -> np.ndarray:
    """Numbers of the nearest hits, one a sample of `count`, of hits with 1/z `near` in `sample`."""
    nearest = np.zeros(count, np.float32)
    np.maximum.at(nearest, sample, near)
    winner = np.full(count, -1, np.int64)
    seen = np.flatnonzero(near == nearest[sample])
    winner[sample[seen]] = seen
    return winner[winner >= 0]


def _boxes(corners: tuple[np.ndarray, ...], width: int, height: int) -> tuple[np.ndarray, ...]:
    """First and last column and row of the samples about triangles, given as x0, x1, x2, y0, y1, y2."""
    x0, x1, x2, y0, y1, y2 = corners
    left = np.maximum(np.ceil(np.minimum(np.minimum(x0, x1), x2) - 0.5), 0)
    right = np.minimum(np.floor(np.maximum(np.maximum(x0, x1), x2) - 0.5), width - 1)
    top = np.maximum(np.ceil(np.minimum(np.minimum(y0, y1), y2) - 0.5), 0)
    bottom = np.minimum(np.floor(np.maximum(np.maximum(y0, y1), y2) - 0.5), height - 1)
    return left, right, top, bottom


def rasterise(
    points: np.ndarray,
    inverse_depth: np.ndarray,
    triangles: np.ndarray,
    width: int,
    height: int,
    cut: Cut | None = None,
    cuttable: np.ndarray | None = None,
) -> Visible:
    """Finds the nearest front-facing triangle at the centre of every sample.

    Args:
        points: float32 [V, 2], projected vertices in samples, the first sample's centre at (0.5, 0.5).
        inverse_depth: float32 [V], 1/z, positive in front of the camera.
        triangles: int [T, 3], wound so that a front face has a positive area in image axes.
        width, height: size of the picture in samples.
        cut: called with (triangle [C], weights [C, 3]) of covered samples of cuttable triangles; True
            where the surface has a hole.
        cuttable: bool [T], which triangles `cut` decides about.
    """
    first, second, third = np.ascontiguousarray(triangles.T)
    x, y = np.ascontiguousarray(points[:, 0]), np.ascontiguousarray(points[:, 1])
    x0, y0 = x[first], y[first]
    area = (x[second] - x0) * (y[third] - y0) - (x[third] - x0) * (y[second] - y0)
    kept = np.flatnonzero(area > 1e-7)
    x0, x1, x2 = x0[kept], x[second[kept]], x[third[kept]]
    y0, y1, y2 = y0[kept], y[second[kept]], y[third[kept]]
    left, right, top, bottom = _boxes((x0, x1, x2, y0, y1, y2), width, height)
    some = np.flatnonzero((right >= left) & (bottom >= top))
    x0, x1, x2, y0, y1, y2 = (v[some] for v in (x0, x1, x2, y0, y1, y2))
    left, right, top, bottom, kept = (v[some] for v in (left, right, top, bottom, kept))
    area = area[kept]
    wide = (right - left + 1).astype(np.int64)
    count = wide * (bottom - top + 1).astype(np.int64)

    # w1 and w2 are planes over the picture: value at the box's corner, and slopes.
    ax, ay = (y2 - y0) / area, (x0 - x2) / area
    bx, by = (y0 - y1) / area, (x1 - x0) / area
    from_x, from_y = left + 0.5 - x0, top + 0.5 - y0
    ends = np.cumsum(count)
    total = int(ends[-1]) if len(ends) else 0
    which = np.repeat(np.arange(len(kept), dtype=np.int32), count)
    inside_box = np.arange(total, dtype=np.int32) - np.repeat((ends - count).astype(np.int32), count)
    row = inside_box // wide.astype(np.int32)[which]
    column = inside_box - row * wide.astype(np.int32)[which]
    dx, dy = from_x[which] + column.astype(np.float32), from_y[which] + row.astype(np.float32)
    w1 = ax[which] * dx + ay[which] * dy
    w2 = bx[which] * dx + by[which] * dy
    hit = np.flatnonzero((w1 >= EDGE) & (w2 >= EDGE) & (w1 + w2 <= 1 - EDGE))
    which, w1, w2 = which[hit], w1[hit], w2[hit]
    sample = (top.astype(np.int64)[which] + row[hit]) * width + left.astype(np.int64)[which] + column[hit]
    triangle = kept[which]
    if cut is not None and cuttable is not None:
        questioned = np.flatnonzero(cuttable[triangle])
        weights = np.stack([1 - w1[questioned] - w2[questioned], w1[questioned], w2[questioned]], 1)
        gone = questioned[cut(triangle[questioned], weights)]
        if len(gone):
            stay = np.ones(len(triangle), bool)
            stay[gone] = False
            triangle, sample, w1, w2 = triangle[stay], sample[stay], w1[stay], w2[stay]
    z = inverse_depth[triangles[triangle]]
    near = z[:, 0] + w1 * (z[:, 1] - z[:, 0]) + w2 * (z[:, 2] - z[:, 0])
    seen = _nearest(near, sample, width * height)
    weights = np.stack([1 - w1[seen] - w2[seen], w1[seen], w2[seen]], 1)
    return Visible(sample[seen], triangle[seen], weights)
