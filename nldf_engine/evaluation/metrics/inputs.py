"""Checks of what metrics are given: pairs of frames and of landmarks, rendered beside real."""

from __future__ import annotations

import numpy as np

from nldf_engine.geometry.face_mesh import LANDMARKS


def checked_frames(rendered: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two uint8 [H, W, 3] frames as float64 in [0, 1].

    Raises:
        ValueError: another dtype, or shapes that differ.
    """
    for name, image in (("rendered", rendered), ("real", real)):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"{name}: expected a uint8 [H,W,3] frame, got {image.dtype} {list(image.shape)}")
    if rendered.shape != real.shape:
        raise ValueError(
            f"rendered: expected the real frame's shape {list(real.shape)}, got {list(rendered.shape)}"
        )
    return rendered.astype(np.float64) / 255.0, real.astype(np.float64) / 255.0


def checked_landmarks(landmarks: np.ndarray, name: str) -> np.ndarray:
    """[T, 478, 2] landmarks as float64; `name` is the argument's, for messages.

    Raises:
        ValueError: another shape.
    """
    if landmarks.ndim != 3 or landmarks.shape[1:] != (LANDMARKS, 2):
        raise ValueError(f"{name}: expected landmarks [T,{LANDMARKS},2], got {list(landmarks.shape)}")
    return landmarks.astype(np.float64)


def checked_faces(rendered: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks of two clips as float64 [T, 478, 2].

    Raises:
        ValueError: wrong shapes, or lengths that differ.
    """
    a, b = checked_landmarks(rendered, "rendered"), checked_landmarks(real, "real")
    if len(a) != len(b):
        raise ValueError(f"rendered: expected {len(b)} frames, as many as the real ones, got {len(a)}")
    return a, b
