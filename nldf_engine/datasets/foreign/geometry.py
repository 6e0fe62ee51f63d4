"""Cameras of the foreign layouts <-> ours.

Theirs: camera-to-head matrices with OpenGL axes (x right, y up, looking along -z), in a head space
whose y points up and whose z points out of the face. Ours: OpenCV axes (x right, y down, z forward) on
both sides. The two differ by the same half turn about x before and behind the matrix, which flips signs
and rounds nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from nldf_engine.geometry.cameras import Camera

HALF_TURN = np.diag([1.0, -1.0, -1.0, 1.0])
NEAR_MARGIN, FAR_MARGIN = 0.2, 0.4  # metres before and behind the head's mean depth, as AD-NeRF writes them


def turn(poses: np.ndarray) -> np.ndarray:
    """Their matrices [..., 4, 4] as ours, or ours as theirs: the turn is its own inverse.

    Example:
        >>> turn(np.eye(4))[2, 2], bool((turn(turn(np.eye(4))) == np.eye(4)).all())
        (1.0, True)
    """
    return HALF_TURN @ np.asarray(poses, np.float64) @ HALF_TURN


def off_rigid(poses: np.ndarray) -> np.ndarray:
    """[T] by how much matrices [T, 4, 4] are no rotation with a translation; infinite for a mirroring."""
    rotation = poses[:, :3, :3]
    off = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    off = np.maximum(off, np.abs(poses[:, 3] - [0, 0, 0, 1]).max(axis=1))
    return np.where(np.linalg.det(rotation) < 0, np.inf, off)


def rigid(poses: np.ndarray) -> np.ndarray:
    """[T, 4, 4] the nearest rotations, for matrices that rounding took a little off."""
    u, _, v = np.linalg.svd(poses[:, :3, :3])
    out = poses.copy()
    out[:, :3, :3] = u @ v
    return out


def depths(poses: np.ndarray) -> np.ndarray:
    """[T] how far in front of the camera the origin of head space lies, metres, of our poses [T, 4, 4]."""
    return -np.einsum("ti,ti->t", poses[:, :3, 2], poses[:, :3, 3])


def usual_bounds(poses: np.ndarray) -> tuple[float, float]:
    """(near, far) as AD-NeRF's preparation chooses them from our poses [T, 4, 4]."""
    middle = float(depths(poses).mean())
    return max(0.05 * middle, middle - NEAR_MARGIN), middle + FAR_MARGIN


def intrinsics(meta: Mapping[str, Any], size: tuple[int, int], half_pixel: float) -> Camera:
    """The camera of a transforms file.

    Args:
        meta: its `focal_len`, `fl_x` and `fl_y`, or `camera_angle_x` and `camera_angle_y`; `cx`, `cy`.
        size: (width, height) of the pictures.
        half_pixel: see `Kind`.

    Raises:
        ValueError: no focal length, or a value that is no positive number.
    """

    def number(key: str) -> float:
        value = meta[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{key} must be a number, and is {value!r}")
        return float(value)

    width, height = size
    if "focal_len" in meta:
        fx = fy = number("focal_len")
    elif "fl_x" in meta or "fl_y" in meta:
        fx, fy = number("fl_x" if "fl_x" in meta else "fl_y"), number("fl_y" if "fl_y" in meta else "fl_x")
    elif "camera_angle_x" in meta or "camera_angle_y" in meta:
        sides = {"camera_angle_x": width, "camera_angle_y": height}
        found = [s / (2 * math.tan(number(k) / 2)) for k, s in sides.items() if k in meta]
        fx, fy = found[0], found[-1]
    else:
        raise ValueError("it gives no focal length (focal_len, fl_x or camera_angle_x)")
    if min(fx, fy) <= 0:
        raise ValueError(f"the focal length must be positive, and is {min(fx, fy):g}")
    cx = number("cx") + half_pixel if "cx" in meta else width / 2
    cy = number("cy") + half_pixel if "cy" in meta else height / 2
    return Camera(width, height, fx, fy, cx, cy)
