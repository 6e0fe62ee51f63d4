"""Rotations as vectors, in batches: exponential, logarithm and the Jacobian between them."""

from __future__ import annotations

import numpy as np


def skew(v: np.ndarray) -> np.ndarray:
    """[..., 3] -> [..., 3, 3] with skew(v) @ u = v x u."""
    zero = np.zeros(v.shape[:-1])
    rows = [zero, -v[..., 2], v[..., 1], v[..., 2], zero, -v[..., 0], -v[..., 1], v[..., 0], zero]
    return np.stack(rows, -1).reshape(*v.shape[:-1], 3, 3)


def _angle(v: np.ndarray) -> np.ndarray:
    return np.maximum(np.linalg.norm(v, axis=-1), 1e-9)[..., None, None]


def exponential(v: np.ndarray) -> np.ndarray:
    """Rotation vectors [..., 3] (axis times angle in radians) -> matrices [..., 3, 3]."""
    angle, cross = _angle(v), skew(v)
    return np.eye(3) + np.sin(angle) / angle * cross + (1 - np.cos(angle)) / angle**2 * cross @ cross


def logarithm(matrix: np.ndarray) -> np.ndarray:
    """Matrices [T, 3, 3] -> rotation vectors [T, 3]."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(matrix).as_rotvec()


def left_jacobian(v: np.ndarray) -> np.ndarray:
    """J [..., 3, 3] with exp(v + d) = exp(J d) exp(v) for small d."""
    angle, cross = _angle(v), skew(v)
    first = (1 - np.cos(angle)) / angle**2
    second = (angle - np.sin(angle)) / angle**3
    small = angle < 1e-4
    first, second = np.where(small, 0.5, first), np.where(small, 1 / 6, second)
    return np.eye(3) + first * cross + second * cross @ cross


def degrees(matrix: np.ndarray) -> np.ndarray:
    """Head-to-camera rotations [T, 3, 3] -> [T, 3] degrees: pitch (down +), yaw (to the right +), roll."""
    from scipy.spatial.transform import Rotation

    yaw, pitch, roll = Rotation.from_matrix(matrix).as_euler("YXZ", degrees=True).T
    return np.stack([pitch, yaw, roll], 1)
