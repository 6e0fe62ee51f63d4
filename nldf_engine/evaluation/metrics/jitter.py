"""Jitter of the face's landmarks: second differences over time, x[t-1] - 2 x[t] + x[t+1].

Even motion counts nothing, alternation from frame to frame counts fourfold. The motion that the head's pose
explains is subtracted first, so a lively head does not jitter, and a head that shakes beside its pose does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nldf_engine.evaluation.landmark_detector import landmark_scale
from nldf_engine.evaluation.metrics.statistics import FEWEST_FRAMES
from nldf_engine.geometry.cameras import Camera
from nldf_engine.geometry.face_mesh import LANDMARKS, LIPS, RIGID

# How much a point's depth is held to that of the head's middle, beside what turning the head says of it:
# a head that never turns says nothing, and any depth then gives the same projections.
DEPTH_RIDGE = 1e-6


@dataclass(frozen=True)
class JitterScores:
    """Jitter of a clip's landmarks, pixels at 512, RMS; None where it has no meaning.

    Args:
        jitter: of the rendered face's rigid landmarks about where the poses put them.
        jitter_real: of the real face's, measured in the same way: the jitter of detector, tracking
            and compression by themselves.
        jitter_ratio: the first over the second; 1 is as calm as the real clip.
        jitter_mouth: of the rendered lips about their centre, speech included.
        jitter_mouth_real: of the real lips, likewise.
        reason: why a value is None; empty otherwise.
    """

    jitter: float | None
    jitter_real: float | None
    jitter_ratio: float | None
    jitter_mouth: float | None
    jitter_mouth_real: float | None
    reason: str = ""


def second_difference_rms(points: np.ndarray) -> float | None:
    """sqrt(mean |x[t-1] - 2 x[t] + x[t+1]|^2) over frames and points; None without three known in a row.

    Args:
        points: [T, L, 2] float; NaN where unknown.

    A sinusoid of amplitude A and period P frames along one axis has 4 A sin^2(pi / P) / sqrt(2).
    """
    change = points[:-2] - 2 * points[1:-1] + points[2:]
    squares = np.square(change.astype(np.float64)).sum(-1)
    known = np.isfinite(squares)
    return math.sqrt(float(squares[known].mean())) if known.any() else None


def posed_points(seen: np.ndarray, poses: np.ndarray, camera: Camera, scale: float) -> np.ndarray:
    """Where points that are fixed in head space are seen: each is triangulated from all frames.

    Args:
        seen: [T, L, 2] pixels of `camera`, times `scale`; NaN where unknown.
        poses: [T, 4, 4] camera to head.
        camera: the view.
        scale: pixels of `seen` per pixel of the camera.

    Returns:
        [T, L, 2] in the pixels of `seen`; NaN for points that are never known.
    """
    poses = poses.astype(np.float64)
    focal = scale * np.array([camera.fx, camera.fy])
    center = scale * np.array([camera.cx, camera.cy])
    known = np.isfinite(seen).all(-1)
    views = np.concatenate([(np.nan_to_num(seen) - center) / focal, np.ones((*seen.shape[:2], 1))], -1)
    rays = np.einsum("tij,tlj->tli", poses[:, :3, :3], views)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    # The point nearest to all rays: sum of (I - d d^T)(X - o) = 0, and X near the head's middle.
    across = (np.eye(3) - rays[..., :, None] * rays[..., None, :]) * known[..., None, None]
    ridge = DEPTH_RIDGE * known.sum(0).clip(1)[:, None, None] * np.eye(3)
    places = np.einsum("tlij,tj->li", across, poses[:, :3, 3])
    points = np.linalg.solve(across.sum(0) + ridge, places[..., None])[..., 0]
    inside = np.einsum("tji,tlj->tli", poses[:, :3, :3], points[None] - poses[:, None, :3, 3])
    projected = inside[..., :2] / inside[..., 2:] * focal + center
    return np.where(known.any(0)[:, None], projected, np.nan)


def head_jitter(
    landmarks: np.ndarray, poses: np.ndarray, camera: Camera, points: tuple[int, ...] = RIGID
) -> float | None:
    """RMS second difference, in pixels at 512, of landmarks about where the poses put them.

    Args:
        landmarks: [T, 478, 2] pixels at 512 (see `evaluation.landmark_detector`); NaN without a face.
        poses: [T, 4, 4] camera to head, of the same frames.
        camera: the view, at any size.
        points: which landmarks.

    Returns:
        the value, or None without three frames in a row that have a face.

    Raises:
        ValueError: landmarks of another shape, or another number of poses.
    """
    if landmarks.ndim != 3 or landmarks.shape[1:] != (LANDMARKS, 2):
        raise ValueError(f"landmarks: expected [T, {LANDMARKS}, 2], got {list(landmarks.shape)}")
    if poses.shape != (len(landmarks), 4, 4):
        raise ValueError(f"poses: expected [{len(landmarks)}, 4, 4], got {list(poses.shape)}")
    seen = landmarks[:, list(points)].astype(np.float64)
    scale = landmark_scale(camera.width, camera.height)
    return second_difference_rms(seen - posed_points(seen, poses, camera, scale))


def mouth_jitter(landmarks: np.ndarray) -> float | None:
    """RMS second difference of the 40 lip landmarks [T, 478, 2] about their centre, pixels at 512."""
    lips = landmarks[:, list(LIPS)].astype(np.float64)
    return second_difference_rms(lips - lips.mean(1, keepdims=True))


def jitter_scores(rendered: np.ndarray, real: np.ndarray, poses: np.ndarray, camera: Camera) -> JitterScores:
    """Jitter of a rendered clip beside that of the real one that it repeats.

    Args:
        rendered, real: [T, 478, 2] landmarks in pixels at 512; NaN where no face was found.
        poses: [T, 4, 4] camera to head that both clips follow.
        camera: the view, at any size.

    Raises:
        ValueError: wrong shapes, or lengths that differ.
    """
    ours, theirs = head_jitter(rendered, poses, camera), head_jitter(real, poses, camera)
    mouths = mouth_jitter(rendered), mouth_jitter(real)
    if ours is None or theirs is None:
        reason = f"jitter needs {FEWEST_FRAMES} frames in a row with both faces found"
        return JitterScores(ours, theirs, None, *mouths, reason)
    if theirs < 1e-9:
        return JitterScores(ours, theirs, None, *mouths, "the real landmarks do not tremble at all")
    return JitterScores(ours, theirs, ours / theirs, *mouths)
