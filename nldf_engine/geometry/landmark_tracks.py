"""The 68 landmarks of a face as 3-D points in head space, from those of the mesh that were tracked in a
video.

A video of one camera shows where a landmark's ray is, and not how far along it the landmark is. The depth is
taken from the shape of the face: each landmark stays on its plane z = depth of head space, so that it is
exact in the picture that it was tracked in, and as wrong in depth as the skin moves towards the camera (a
chin that drops goes back by some millimetres).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nldf_engine.geometry.cameras import Camera
from nldf_engine.geometry.face_mesh import LANDMARKS, MARKS, RIGHT_EYE_OUTER
from nldf_engine.geometry.face_template import rest_landmarks


def on_planes(seen: Tensor, poses: Tensor, camera: Camera, depth: Tensor) -> Tensor:
    """Where the rays of pixels meet planes z = depth of head space.

    Args:
        seen: [T, L, 2] pixels of `camera`; NaN where unknown.
        poses: [T, 4, 4] camera to head.
        camera: the view.
        depth: [L] metres.

    Returns:
        [T, L, 2] x and y in metres, in double precision's rounding to float32; NaN where unknown.
    """
    seen, poses = seen.double(), poses.double()
    focal = seen.new_tensor([camera.fx, camera.fy])
    center = seen.new_tensor([camera.cx, camera.cy])
    views = torch.cat([(seen - center) / focal, torch.ones_like(seen[..., :1])], -1)
    directions = views @ poses[:, :3, :3].transpose(1, 2)
    origins = poses[:, None, :3, 3]
    distance = (depth.double() - origins[..., 2]) / directions[..., 2]
    return (origins[..., :2] + distance[..., None] * directions[..., :2]).float()


def face_depth(shape: np.ndarray | None, landmarks: Sequence[int] = MARKS) -> Tensor:
    """[L] float32 metres along the head's z axis of landmarks of the mesh.

    Args:
        shape: [N, 3] of the speaker, metres in head space, N at least 468; None for that of a face at rest.
        landmarks: numbers of the L landmarks. A shape may come without the irises; a lid's depth is theirs.
    """
    known = rest_landmarks() if shape is None else np.asarray(shape, np.float64)
    numbers = [n if n < len(known) else RIGHT_EYE_OUTER for n in landmarks]
    return torch.from_numpy(known[numbers, 2]).float()


def landmark_track(
    landmarks: Tensor, poses: Tensor, camera: Camera, shape: np.ndarray | None = None
) -> tuple[Tensor, int]:
    """The 68 landmarks of every frame of a video, in head space.

    Args:
        landmarks: [T, 478, 2] pixels of `camera`; NaN in frames without a face.
        poses: [T, 4, 4] camera to head.
        camera: the view.
        shape: see `face_depth`.

    Returns:
        [T, 68, 3] float32 metres, and how many frames had no face: they are interpolated linearly in time
        between their neighbours, and repeat the nearest one at either end.

    Raises:
        ValueError: another shape, or no frame with a face.
    """
    if landmarks.dim() != 3 or tuple(landmarks.shape[1:]) != (LANDMARKS, 2):
        raise ValueError(f"landmarks: expected [T, {LANDMARKS}, 2], got {list(landmarks.shape)}")
    depth = face_depth(shape)
    placed = on_planes(landmarks[:, list(MARKS)], poses, camera, depth)
    known = placed.flatten(1).isfinite().all(1)
    if not bool(known.any()):
        raise ValueError(f"landmarks: expected a face in some of the {len(landmarks)} frames, got none")
    filled = between(placed, known)
    return torch.cat([filled, depth[:, None].expand(len(filled), -1, 1)], 2), int((~known).sum())


def between(values: Tensor, known: Tensor) -> Tensor:
    """Values [T, ...] whose rows that are not `known` [T] bool are interpolated linearly between those that
    are.

    Before the first and behind the last known row the nearest one is repeated. At least one is known.
    """
    if bool(known.all()):
        return values
    frames = torch.arange(len(values), device=values.device)
    numbers = known.nonzero()[:, 0]
    after = torch.searchsorted(numbers, frames).clamp_max(len(numbers) - 1)
    later = numbers[after]
    earlier = numbers[(after - (later > frames).long()).clamp_min(0)]
    share = ((frames - earlier) / (later - earlier).clamp_min(1)).clamp(0, 1).to(values.dtype)
    share = share.view(-1, *[1] * (values.dim() - 1))
    mixed = torch.lerp(values[earlier], values[later], share.expand_as(values))
    return torch.where(known.view(share.shape), values, mixed)


def reprojected(points: Tensor, poses: Tensor, camera: Camera) -> Tensor:
    """[T, L, 2] pixels of `camera` where points [T, L, 3] of head space are seen under poses [T, 4, 4]."""
    away = points.double() - poses[:, None, :3, 3].double()
    seen = away @ poses[:, :3, :3].double()
    focal = seen.new_tensor([camera.fx, camera.fy])
    center = seen.new_tensor([camera.cx, camera.cy])
    return (seen[..., :2] / seen[..., 2:] * focal + center).float()
