"""Bundle adjustment on a head of known shape: poses, focal length and axes are recovered."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from nldf_engine.prepare.eyes import eye_openness
from nldf_engine.prepare.pose import solve_poses

SIDE = 512


def head_shape() -> np.ndarray:
    """478 points on half an ellipsoid in head space (x right, y down, z away), named ones at their places."""
    rng = np.random.default_rng(1)
    theta, phi = rng.uniform(-1.2, 1.2, 478), rng.uniform(-1.2, 1.2, 478)
    points = np.stack([0.075 * np.sin(theta), 0.1 * np.sin(phi), -0.09 * np.cos(theta) * np.cos(phi)], 1)
    points += rng.normal(size=points.shape) * 0.004
    points[[33, 263]] = [[-0.045, 0, -0.055], [0.045, 0, -0.055]]
    points[[133, 362]] = [[-0.017, 0, -0.07], [0.017, 0, -0.07]]
    points[[10, 152]] = [[0, -0.07, -0.08], [0, 0.11, -0.08]]
    points[168] = [0, -0.005, -0.085]
    return points


def degrees(rotation: np.ndarray) -> np.ndarray:
    """[T, 3] turns about y, x and z of head-to-camera rotations [T, 3, 3]."""
    return Rotation.from_matrix(rotation).as_euler("YXZ", degrees=True)


def talking(frames: int, swing: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Head-to-camera rotations and translations of a head that turns and nods."""
    t = np.arange(frames) / 25
    angles = swing * np.stack([0.15 * np.sin(2.1 * t), 0.22 * np.sin(1.3 * t + 1), 0.08 * np.sin(0.9 * t)], 1)
    move = np.stack([0.02 * np.sin(0.8 * t), 0.01 * np.cos(1.1 * t), 0.8 + 0.03 * np.sin(0.5 * t)], 1)
    return Rotation.from_rotvec(angles).as_matrix(), move


def project(
    points: np.ndarray, rotation: np.ndarray, move: np.ndarray, focal: float, noise: float
) -> np.ndarray:
    """[T, 478, 3]: pixels, and the relative depth in pixels that a face mesh gives."""
    camera = points @ rotation.transpose(0, 2, 1) + move[:, None]
    image = focal * camera[..., :2] / camera[..., 2:] + SIDE / 2
    depth = (camera[..., 2:] - move[:, None, 2:]) * focal / move[:, None, 2:]
    image = image + np.random.default_rng(2).normal(size=image.shape) * noise
    return np.concatenate([image, depth], -1)


@pytest.mark.parametrize(("focal", "distance"), [(1000.0, 0.8), (700.0, 0.55)])
def test_poses_and_focal(focal: float, distance: float) -> None:
    """Half a pixel of noise, 200 frames: focal within 8 %, angles within 0.4 degrees, shape within 2 mm."""
    shape, (rotation, move) = head_shape(), talking(200)
    move[:, 2] += distance - 0.8
    seen = project(shape, rotation, move, focal, 0.5)
    found = solve_poses(seen, np.ones(200, bool), (SIDE / 2, SIDE / 2), SIDE)
    assert abs(found.focal / focal - 1) < 0.08
    turned = found.poses[:, :3, :3].transpose(0, 2, 1)
    # The axes are those of the named points, which differ from the ellipsoid's by a fixed turn.
    fixed = Rotation.from_matrix(turned.transpose(0, 2, 1) @ rotation).mean().as_matrix()
    off = Rotation.from_matrix(turned @ fixed @ rotation.transpose(0, 2, 1)).magnitude()
    assert np.degrees(np.sqrt((off**2).mean())) < 0.4
    assert np.degrees(Rotation.from_matrix(fixed).magnitude()) < 2
    assert np.linalg.norm(found.shape[33] - found.shape[263]) == pytest.approx(0.09, abs=1e-6)
    rigid = found.shape @ fixed - (found.shape @ fixed).mean(0) - (shape - shape.mean(0))
    assert np.median(np.linalg.norm(rigid, axis=1)) < 0.003
    centre = -np.einsum("tij,tj->ti", turned, found.poses[:, :3, 3])
    assert np.abs(centre[:, 2] / move[:, 2] - 1).max() < 0.12
    assert np.nanmax(found.rms) < 1.2


def test_axes() -> None:
    """A frontal head gets the identity: x right, y down, z away, face to -z, the camera before it."""
    shape, (rotation, move) = head_shape(), talking(60, swing=0.6)
    found = solve_poses(project(shape, rotation, move, 1000, 0.2), np.ones(60, bool), (256, 256), SIDE)
    assert np.abs(degrees(found.poses[:, :3, :3].transpose(0, 2, 1)).mean(0)).max() < 5
    assert (found.poses[:, 2, 3] < -0.4).all()
    assert found.shape[168, 2] < -0.03 and found.shape[152, 1] > 0.05
    assert found.shape[263, 0] > 0.04 > -0.04 > found.shape[33, 0]


def test_gaps_and_outliers() -> None:
    """Frames without a face, and frames whose landmarks fit no head, keep their place and are bridged."""
    shape, (rotation, move) = head_shape(), talking(120)
    seen, valid = project(shape, rotation, move, 1000, 0.3), np.ones(120, bool)
    valid[40:50] = False
    seen[40:50] = 0
    seen[80] = np.random.default_rng(0).uniform(0, 512, (478, 3))
    found = solve_poses(seen, valid, (256, 256), SIDE)
    assert np.flatnonzero(~found.valid).tolist() == [*range(40, 50), 80]
    assert np.isnan(found.rms[~found.valid]).all()
    angle = degrees(found.poses[:, :3, :3].transpose(0, 2, 1))
    assert np.abs(np.diff(angle, axis=0)).max() < 1.5
    truth = degrees(rotation)
    assert np.abs((angle - angle.mean(0)) - (truth - truth.mean(0)))[80].max() < 1


def test_smoothing() -> None:
    """Smoothing halves the jitter of noisy landmarks and leaves the motion."""
    shape, (rotation, move) = head_shape(), talking(150)
    seen = project(shape, rotation, move, 1000, 2.0)
    jitter, off = [], []
    for strength in (0.0, 0.65):
        found = solve_poses(seen, np.ones(150, bool), (256, 256), SIDE, strength)
        angle, truth = degrees(found.poses[:, :3, :3].transpose(0, 2, 1)), degrees(rotation)
        jitter.append(np.abs(np.diff(angle, 2, axis=0)).mean())
        off.append(np.std((angle - truth), axis=0).mean())
    assert jitter[1] < 0.5 * jitter[0]
    assert off[1] < off[0]


def test_few_frames() -> None:
    """One or two frames give poses too; none is refused."""
    shape, (rotation, move) = head_shape(), talking(2)
    seen = project(shape, rotation, move, 1000, 0.2)
    for count in (1, 2):
        found = solve_poses(seen[:count], np.ones(count, bool), (256, 256), SIDE)
        assert found.poses.shape == (count, 4, 4) and np.isfinite(found.poses).all()
    with pytest.raises(ValueError, match="no frame"):
        solve_poses(seen, np.zeros(2, bool), (256, 256), SIDE)


def test_eye_openness_ignores_pose() -> None:
    """Lids of a known gap read the same ratio however the head turns, and a blink reads as one."""
    shape, (rotation, move) = head_shape(), talking(100)
    gaps = np.full(100, 0.3)
    gaps[50:54] = 0.03
    eyes = ((33, 133, (160, 159, 158), (144, 145, 153)), (362, 263, (385, 386, 387), (380, 374, 373)))
    points = np.repeat(shape[None], 100, 0)
    for a, b, uppers, lowers in eyes:
        wide, middle = np.linalg.norm(shape[a] - shape[b]), (shape[a] + shape[b]) / 2
        for row, sign in ((uppers, -0.5), (lowers, 0.5)):
            points[:, row] = middle
            points[:, row, 1] += (sign * gaps * wide)[:, None]
    camera = np.einsum("tij,tnj->tni", rotation, points) + move[:, None]
    seen = 1000 * camera[..., :2] / camera[..., 2:] + 256
    poses = np.tile(np.eye(4), (100, 1, 1))
    poses[:, :3, :3] = rotation.transpose(0, 2, 1)
    poses[:, :3, 3] = -np.einsum("tji,tj->ti", rotation, move)
    read = eye_openness(seen, poses, points.mean(0), 1000.0)
    assert np.abs(read - gaps).max() < 0.02
