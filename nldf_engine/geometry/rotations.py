"""Rotations: as matrices, as vectors, and as the angles that a person would name.

Numpy for what is fitted and made (float64), torch for what avatars are driven by. A pose is camera-to-head,
[4, 4], OpenCV axes. What a person would say of it is of the head in the camera's view, six numbers: yaw,
pitch and roll in degrees (the face turns to the picture's right, rises, the top of the head tips to the
right) and its place x, y, z in metres (right, down, away). The head's rotation is
Ry(-yaw) Rx(-pitch) Rz(roll).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

HEAD_NUMBERS = ("yaw", "pitch", "roll", "x", "y", "z")
UNITS = ("degrees", "degrees", "degrees", "m", "m", "m")
# For each axis, the plane that a turn about it moves: (from, to).
PLANES = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}


def skew(v: np.ndarray) -> np.ndarray:
    """[..., 3] -> [..., 3, 3] with skew(v) @ u = v x u."""
    zero = np.zeros(v.shape[:-1])
    rows = [zero, -v[..., 2], v[..., 1], v[..., 2], zero, -v[..., 0], -v[..., 1], v[..., 0], zero]
    return np.stack(rows, -1).reshape(*v.shape[:-1], 3, 3)


def _angle(v: np.ndarray) -> np.ndarray:
    return np.maximum(np.linalg.norm(v, axis=-1), 1e-9)[..., None, None]


def exponential(v: np.ndarray) -> np.ndarray:
    """Rotation vectors [..., 3] (axis times angle in radians) -> matrices [..., 3, 3]: Rodrigues' formula."""
    angle, cross = _angle(v), skew(v)
    return np.eye(3) + np.sin(angle) / angle * cross + (1 - np.cos(angle)) / angle**2 * cross @ cross


def logarithm(matrix: np.ndarray) -> np.ndarray:
    """Matrices [3, 3] or [T, 3, 3] -> rotation vectors [3] or [T, 3] of angles up to pi."""
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


def about(axis: str, angle: np.ndarray) -> np.ndarray:
    """Rotations [..., 3, 3] about the axis "x", "y" or "z" by angles [...] in radians."""
    begin, end = PLANES[axis]
    turned = np.zeros((*np.shape(angle), 3, 3))
    turned[..., "xyz".index(axis), "xyz".index(axis)] = 1
    turned[..., begin, begin] = turned[..., end, end] = np.cos(angle)
    turned[..., end, begin] = np.sin(angle)
    turned[..., begin, end] = -turned[..., end, begin]
    return turned


def nearest_rotation(matrix: Tensor) -> Tensor:
    """The rotations nearest to matrices [..., 3, 3] (least squares): what their mean is projected by."""
    u, _, v = torch.linalg.svd(matrix)
    sign = torch.ones_like(matrix[..., 0])
    sign[..., 2] = torch.linalg.det(u @ v).sign()
    return (u * sign[..., None, :]) @ v


def head_numbers(poses: Tensor) -> Tensor:
    """[T, 6] float64 (see `HEAD_NUMBERS`) of poses [T, 4, 4]."""
    rotation = poses[:, :3, :3].double().transpose(1, 2)
    place = -(rotation @ poses[:, :3, 3:].double())[:, :, 0]
    yaw = -torch.atan2(rotation[:, 0, 2], rotation[:, 2, 2])
    pitch = torch.asin(rotation[:, 1, 2].clamp(-1, 1))
    roll = torch.atan2(rotation[:, 1, 0], rotation[:, 1, 1])
    return torch.cat([torch.stack([yaw, pitch, roll], 1) * (180 / math.pi), place], 1)


def poses_of(numbers: Tensor) -> Tensor:
    """Poses [T, 4, 4] float32 of numbers [T, 6]: the inverse of `head_numbers`."""
    yaw, pitch, roll = np.radians(numbers[:, :3].double().numpy()).T
    turned = torch.from_numpy(about("y", -yaw) @ about("x", -pitch) @ about("z", roll))
    return pose_from_head(turned, numbers[:, 3:].double()).float()


def pose_from_head(rotation: Tensor, place: Tensor) -> Tensor:
    """Poses [..., 4, 4] of the head's rotations [..., 3, 3] and places [..., 3] in the camera's view."""
    turned = rotation.transpose(-1, -2)
    poses = torch.eye(4, dtype=rotation.dtype).expand(*turned.shape[:-2], 4, 4).clone()
    poses[..., :3, :3] = turned
    poses[..., :3, 3] = -(turned @ place[..., None])[..., 0]
    return poses


def camera_angles(rotation: Tensor) -> Tensor:
    """[F, 3] angles a, b, c in radians of rotations [F, 3, 3] = Rx(a) Ry(b) Rz(c); zeros for the identity."""
    return torch.stack(
        [
            torch.atan2(-rotation[:, 1, 2] + 0.0, rotation[:, 2, 2]),
            torch.asin(rotation[:, 0, 2].clamp(-1, 1)),
            torch.atan2(-rotation[:, 0, 1] + 0.0, rotation[:, 0, 0]),
        ],
        1,
    )
