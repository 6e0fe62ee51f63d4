"""What the face does, from its landmarks: eye openness and mouth opening, free of head turn."""

from __future__ import annotations

import numpy as np

# fmt: off
LIDS = (((160, 144), (159, 145), (158, 153)), ((385, 380), (386, 374), (387, 373)))  # upper, lower; per eye
CORNERS = ((33, 133), (362, 263))
# fmt: on
LIPS = (13, 14)  # middle of the inner lips
FACE = (10, 152)


def _plane(landmarks: np.ndarray, poses: np.ndarray, shape: np.ndarray, pair: tuple[int, int]) -> np.ndarray:
    """Vertical distance [T] of two landmarks over the length that a metre down the head has there.

    Dividing by the projected axis takes out distance, turn and nod of the head.
    """
    spot = (shape[pair[0]] + shape[pair[1]]) / 2
    to_camera = poses[:, :3, :3].transpose(0, 2, 1)
    centre = np.einsum("tij,tj->ti", to_camera, spot - poses[:, :3, 3])
    down = to_camera[:, :, 1]
    metre = (down[:, :2] - centre[:, :2] / centre[:, 2:] * down[:, 2:]) / centre[:, 2:]
    length = np.maximum(np.linalg.norm(metre, axis=1, keepdims=True), 1e-6)
    gap = landmarks[:, pair[1], :2] - landmarks[:, pair[0], :2]
    return (gap * metre / length).sum(1) / length[:, 0]


def eye_openness(landmarks: np.ndarray, poses: np.ndarray, shape: np.ndarray, focal: float) -> np.ndarray:
    """Gap between the lids over the width of the eye, mean of both eyes: float32 [T].

    A closed eye is near 0 (0.05 with this tracker), an open one usually 0.25 to 0.4; clipped to [0, 1].

    Args:
        landmarks: [T, 478, 2+], pixels.
        poses: [T, 4, 4] camera-to-head.
        shape: [478, 3] mean landmarks in head space.
        focal: pixels.
    """
    eyes = []
    for lids, (a, b) in zip(LIDS, CORNERS, strict=True):
        gap = np.mean([_plane(landmarks, poses, shape, lid) for lid in lids], axis=0) / focal
        eyes.append(gap / np.linalg.norm(shape[a] - shape[b]))
    return np.clip(np.mean(eyes, axis=0), 0, 1).astype(np.float32)


def mouth_opening(landmarks: np.ndarray, poses: np.ndarray, shape: np.ndarray, focal: float) -> np.ndarray:
    """Gap between the inner lips over the face's height (forehead to chin): float32 [T]."""
    face = np.linalg.norm(shape[FACE[0]] - shape[FACE[1]])
    return np.maximum(_plane(landmarks, poses, shape, LIPS) / focal / face, 0).astype(np.float32)
