"""Distances between faces, with and without what the head's place, turn and size explain.

An unaligned distance (the LMD of most papers) holds head motion and mouth shape at once. The aligned one
first moves each rendered face onto the real one by the similarity (turn, size, shift) that fits its rigid
points best, so that only expression is left. All in pixels of a frame whose longer side is 512.
"""

from __future__ import annotations

import numpy as np

from nldf_engine.evaluation.metrics.inputs import checked_faces
from nldf_engine.geometry.face_mesh import LIPS, RIGID

FACE = 468
"""The first 468 points are the face's surface; the last ten are the irises."""


def align(rendered: np.ndarray, real: np.ndarray) -> np.ndarray:
    """The rendered landmarks, each frame moved onto the real one by its rigid points.

    Least squares over similarities of the plane, z -> a z + b with points as complex numbers:
    a = sum conj(p) q / sum |p|^2 over the centred rigid points p of the rendered and q of the real face.

    Args:
        rendered: [T, 478, 2] pixels; NaN where no face was found.
        real: [T, 478, 2], likewise.

    Returns:
        [T, 478, 2] float64; NaN where either frame has no face.

    Raises:
        ValueError: wrong shapes, or lengths that differ.
    """
    a, b = (points[..., 0] + 1j * points[..., 1] for points in checked_faces(rendered, real))
    p, q = a[:, RIGID], b[:, RIGID]
    p_mean, q_mean = p.mean(1, keepdims=True), q.mean(1, keepdims=True)
    p, q = p - p_mean, q - q_mean
    power = (np.abs(p) ** 2).sum(1, keepdims=True)
    with np.errstate(invalid="ignore"):
        turn = (p.conj() * q).sum(1, keepdims=True) / np.where(power > 0, power, np.nan)
    moved = turn * (a - p_mean) + q_mean
    return np.stack([moved.real, moved.imag], -1)


def distance(rendered: np.ndarray, real: np.ndarray, points: tuple[int, ...] | slice) -> np.ndarray:
    """[T] the mean distance of the chosen landmarks of each pair of frames; NaN without both faces."""
    a, b = checked_faces(rendered, real)
    return np.asarray(np.linalg.norm(a[:, points] - b[:, points], axis=2).mean(axis=1))


def face_distance(rendered: np.ndarray, real: np.ndarray, aligned: bool = False) -> np.ndarray:
    """The mean distance of the 468 points of the face's surface (F-LMD).

    Args:
        rendered: [T, 478, 2] pixels at 512; NaN where no face was found.
        real: [T, 478, 2], likewise.
        aligned: after `align`.

    Returns:
        [T] float64 pixels at 512.
    """
    return distance(align(rendered, real) if aligned else rendered, real, slice(0, FACE))


def aligned_mouth_distance(rendered: np.ndarray, real: np.ndarray) -> np.ndarray:
    """[T] the mean distance of the 40 lip landmarks after `align`, pixels at 512."""
    return distance(align(rendered, real), real, LIPS)
