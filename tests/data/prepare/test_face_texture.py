"""Poses refined on the picture: a textured head of known motion is followed better than by its landmarks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from nldf_engine.data.prepare.face_texture import CHIN, EYES, NOSE_TIP, Surface, follow_face
from nldf_engine.data.prepare.parsing import OVAL

SIDE, FRAMES, FOCAL = 160, 70, 300.0
AXES = np.array([0.075, 0.105, 0.085])


def on_head(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Points [N, 3] of the ellipsoid's front at x, y."""
    z = -AXES[2] * np.sqrt(np.clip(1 - (x / AXES[0]) ** 2 - (y / AXES[1]) ** 2, 0, 1))
    return np.stack([x, y, z], 1)


def head_shape() -> np.ndarray:
    """478 points on the ellipsoid: an oval, two eyes, nose, chin, the rest anywhere."""
    rng = np.random.default_rng(1)
    radius, angle = 0.85 * np.sqrt(rng.uniform(0, 1, 478)), rng.uniform(0, 2 * np.pi, 478)
    x, y = AXES[0] * radius * np.cos(angle), AXES[1] * radius * np.sin(angle)
    round_about = np.linspace(0, 2 * np.pi, len(OVAL), endpoint=False) - np.pi / 2
    x[list(OVAL)], y[list(OVAL)] = 0.065 * np.cos(round_about), 0.09 * np.sin(round_about)
    for eye, middle in zip(EYES, (-0.03, 0.03), strict=True):
        turn = np.linspace(0, 2 * np.pi, len(eye), endpoint=False)
        x[list(eye)], y[list(eye)] = middle + 0.012 * np.cos(turn), -0.02 + 0.006 * np.sin(turn)
    x[[NOSE_TIP, CHIN]], y[[NOSE_TIP, CHIN]] = 0, (0.02, 0.09)
    return on_head(x, y)


def true_poses() -> tuple[np.ndarray, np.ndarray]:
    """Head-to-camera rotations [T, 3, 3] and places [T, 3] of a head that turns and nods."""
    t = np.arange(FRAMES) / 25
    angles = np.stack([0.12 * np.sin(2.1 * t), 0.18 * np.sin(1.3 * t + 1), 0.06 * np.sin(0.9 * t)], 1)
    place = np.stack([0.01 * np.sin(0.8 * t), 0.008 * np.cos(1.1 * t), 0.6 + 0.02 * np.sin(0.5 * t)], 1)
    return Rotation.from_rotvec(angles).as_matrix(), place


def render(turn: np.ndarray, place: np.ndarray, level: float, mouth: float) -> np.ndarray:
    """uint8 [SIDE, SIDE, 3]: the textured ellipsoid before a wall, with a mouth that opens and light."""
    y, x = (np.mgrid[:SIDE, :SIDE] + 0.5 - SIDE / 2) / FOCAL
    rays = np.stack([x, y, np.ones_like(x)], -1) @ turn  # in head space
    start = -turn.T @ place
    a, b = (rays / AXES) ** 2, (rays / AXES) * (start / AXES)
    a, b, c = a.sum(-1), b.sum(-1), ((start / AXES) ** 2).sum() - 1
    hit = b**2 - a * c > 0
    far = (-b - np.sqrt(np.maximum(b**2 - a * c, 0))) / a
    spot = start + far[..., None] * rays
    u, v = spot[..., 0] * 1000, spot[..., 1] * 1000
    skin = 130 + 25 * np.sin(u / 7 + np.sin(v / 9)) + 20 * np.cos(v / 6 + u / 15)
    lips = (np.abs(u) < 25) & (np.abs(v - 55) < 3 + 10 * mouth)
    picture = np.where(hit, np.where(lips, 30, skin), 80) * level
    noise = np.random.default_rng(round(1e6 * mouth)).normal(0, 1.5, picture.shape)
    return np.clip(np.repeat((picture + noise)[..., None], 3, 2), 0, 255).astype(np.uint8)


def to_poses(turn: np.ndarray, place: np.ndarray) -> np.ndarray:
    poses = np.tile(np.eye(4), (len(turn), 1, 1))
    poses[:, :3, :3] = turn.transpose(0, 2, 1)
    poses[:, :3, 3] = -np.einsum("tji,tj->ti", turn, place)
    return poses


def seen_at(poses: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Pixels [T, N, 2] of points of the head."""
    camera = (points - poses[:, None, :3, 3]) @ poses[:, :3, :3]
    return FOCAL * camera[..., :2] / camera[..., 2:]


@pytest.fixture(scope="module")
def clip() -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Frames, true poses, and poses as landmarks give them, with jitter that lasts over some frames."""
    turn, place = true_poses()
    rng = np.random.default_rng(2)
    level, mouth = 1 + 0.05 * np.sin(np.arange(FRAMES) / 9), np.abs(np.sin(np.arange(FRAMES) / 3))
    frames = [render(turn[k], place[k], level[k], mouth[k]) for k in range(FRAMES)]
    noise = rng.normal(size=(FRAMES + 2, 6)) * [0.008, 0.008, 0.005, 0.0008, 0.0008, 0.002]
    noise = (noise[2:] + noise[1:-1] + noise[:-2]) / np.sqrt(3)
    rough = Rotation.from_rotvec(noise[:, :3]).as_matrix() @ turn
    return frames, to_poses(turn, place), to_poses(rough, place + noise[:, 3:])


def test_follows_the_picture(clip) -> None:
    """Jitter of the pose shrinks to less than half in the picture, also where no texture was learned."""
    frames, truth, rough = clip
    valid = np.ones(FRAMES, bool)
    valid[30:33] = False
    camera = FOCAL / SIDE, 0.5, 0.5
    found = follow_face(frames, rough, head_shape(), valid, camera, 56)
    points = Surface.of(head_shape()).points[::40]
    for part in (slice(0, 30), slice(56, None)):
        errors = []
        for poses in (rough, found.poses):
            off = (seen_at(poses, points) - seen_at(truth, points))[part]
            errors.append(np.sqrt(np.square(off - off.mean(0)).sum(-1).mean()))
        assert errors[1] < 0.5 * errors[0]
    rotation = found.poses[:, :3, :3]
    assert np.allclose(rotation @ rotation.transpose(0, 2, 1), np.eye(3), atol=1e-9)
    assert found.after[valid].mean() < 0.8 * found.before[valid].mean() and found.moved > 0
    assert np.abs(found.poses[30:33] - truth[30:33]).max() < 0.03


def test_surface_is_rigid_skin() -> None:
    """Points lie on the head above the mouth and out of the eyes, and their normals look out of the face."""
    surface = Surface.of(head_shape())
    points, normals = surface.points, surface.normals
    assert 500 < len(points) < 4000 and points[:, 1].max() < 0.035
    assert np.abs(points - on_head(points[:, 0], points[:, 1])).max() < 0.006
    assert np.allclose(np.linalg.norm(normals, axis=1), 1) and (normals[:, 2] < 0).all()
    wanted = points / AXES**2
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    assert np.median((normals * wanted).sum(1)) > 0.97
    for middle in (-0.03, 0.03):
        assert np.hypot(points[:, 0] - middle, points[:, 1] + 0.02).min() > 0.005


def test_few_frames_are_left_alone(clip) -> None:
    """With too few frames of a face to learn a texture from, poses come back as they are."""
    frames, _, rough = clip
    valid = np.zeros(FRAMES, bool)
    valid[:20] = True
    found = follow_face(frames, rough, head_shape(), valid, (FOCAL / SIDE, 0.5, 0.5), 56)
    assert np.array_equal(found.poses, rough) and found.moved == 0
