"""Gauss-Newton alignment: known motions of a head and a torso are found again from pictures alone."""

import numpy as np
import pytest
import torch
from torch import Tensor

from nldf_engine.apps.cli.bundled import bundled_avatar
from nldf_engine.avatar import Avatar
from nldf_engine.geometry.cameras import Camera
from nldf_engine.geometry.rotations import exponential
from nldf_engine.prepare.refine_step import (
    Compared,
    HeadSurface,
    align_head,
    align_torso,
    disagreement,
    head_flow,
)
from nldf_engine.rendering.fields import Conditions
from nldf_engine.rendering.layer import View

OUTLYING = 0.12
FRAME = 40


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    return Avatar.load(bundled_avatar())


@pytest.fixture(scope="module")
def surface() -> HeadSurface:
    """The front of an ellipsoid, about a head's size."""
    x, y = np.meshgrid(np.linspace(-0.08, 0.08, 15), np.linspace(-0.1, 0.1, 15))
    z = -0.1 * np.sqrt(np.maximum(1 - (x / 0.09) ** 2 - (y / 0.13) ** 2, 0.05))
    return HeadSurface(np.stack([x, y, z], -1).reshape(-1, 3))


def moved(pose: Tensor, turn: list[float], shift: list[float]) -> Tensor:
    """A pose whose camera turned about the head's origin and was shifted."""
    rotation = torch.from_numpy(exponential(np.array(turn)))
    out = pose.double().clone()
    out[:3] = rotation @ out[:3]
    out[:3, 3] += torch.tensor(shift, dtype=torch.float64)
    return out.to(pose.dtype)


def project(points: Tensor, pose: Tensor, camera: Camera) -> Tensor:
    seen = (points - pose[:3, 3]) @ pose[:3, :3]
    return torch.stack(
        [
            camera.fx * seen[:, 0] / seen[:, 2] + camera.cx,
            camera.fy * seen[:, 1] / seen[:, 2] + camera.cy,
        ],
        1,
    )


def test_the_flow_is_the_projections_derivative(avatar: Avatar) -> None:
    """head_flow agrees with finite differences of the projection, in all six numbers."""
    camera, pose = avatar.camera, avatar.poses[FRAME]
    points = 0.08 * torch.randn(50, 3) - torch.tensor([0, 0, 0.05])
    flow = head_flow(points, pose, camera)
    step = 1e-5
    for number in range(6):
        numbers = np.zeros(6)
        numbers[number] = step
        ahead = moved(pose.double(), list(numbers[:3]), list(numbers[3:]))
        behind = moved(pose.double(), list(-numbers[:3]), list(-numbers[3:]))
        slope = (project(points.double(), ahead, camera) - project(points.double(), behind, camera)) / (
            2 * step
        )
        torch.testing.assert_close(flow[:, :, number].double(), slope, rtol=2e-3, atol=0.05)


def pictures(avatar: Avatar) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A frame's code and motion, and the pixels well inside its head and its torso."""
    portrait, camera = avatar.portrait.eval(), avatar.camera
    silence = torch.zeros(1, 16, avatar.frontend.dim)
    conditions = Conditions(silence, torch.tensor([0.3]))
    assert avatar.torso_motion is not None
    with torch.no_grad():
        code, motion = portrait.head.encode_frames(conditions)[0], avatar.torso_motion[FRAME]
        view = View(camera, avatar.poses[FRAME], motion)
        head = portrait.head.draw(view, code).alpha.flatten()
        torso = portrait.torso.draw(view, code).alpha.flatten()
    return code, motion, (head > 0.95).nonzero()[:, 0], ((torso > 0.95) & (head < 0.05)).nonzero()[:, 0]


@pytest.mark.parametrize(
    ("turn", "shift"),
    [([0.0, 0.0, 0.006], [0.0015, -0.001, 0.0]), ([0.004, -0.005, 0.0], [0.001, 0.0015, -0.004])],
)
def test_a_heads_motion_is_found(avatar: Avatar, surface: HeadSurface, turn, shift) -> None:
    """Three steps take away six sevenths of a known error of the pose, in the picture."""
    code, motion, head, _ = pictures(avatar)
    camera, portrait = avatar.camera, avatar.portrait
    background = torch.from_numpy(avatar.background).float() / 255
    true = avatar.poses[FRAME]
    tracked = moved(true, turn, shift)

    def picture(pose: Tensor) -> Tensor:
        return portrait.picture(View(camera, pose, motion), code, background).float() / 255

    real, found = picture(true), tracked
    for _ in range(3):
        found = align_head(Compared.of(picture(found), real, OUTLYING), head, found, camera, surface)
    marks = torch.tensor(
        [[-0.04, -0.03, -0.07], [0.04, -0.03, -0.07], [0.0, 0.04, -0.08], [0.0, -0.06, -0.08]]
    )
    wrong, left = (
        float((project(marks, pose, camera) - project(marks, true, camera)).norm(dim=1).mean())
        for pose in (tracked, found)
    )
    assert wrong > 0.4, "the test's own error is too small to tell"
    assert left < 0.15 * wrong


def test_a_torsos_motion_is_found(avatar: Avatar) -> None:
    """Two steps take away six sevenths of a known error of the torso's motion, in the picture."""
    code, motion, _, torso = pictures(avatar)
    camera, portrait, pose = avatar.camera, avatar.portrait, avatar.poses[FRAME]
    background = torch.from_numpy(avatar.background).float() / 255
    tracked = motion + torch.tensor([[0.004, -0.002, 0.004], [0.002, 0.003, -0.005]])

    def picture(of: Tensor) -> Tensor:
        return portrait.picture(View(camera, pose, of), code, background).float() / 255

    real, found = picture(motion), tracked
    for _ in range(2):
        found = align_torso(Compared.of(picture(found), real, OUTLYING), torso, found, camera)
    marks = torch.tensor([[0.3, 0.9, 1], [0.7, 0.9, 1], [0.5, 0.85, 1]])
    wrong, left = (
        camera.width * float(((of - motion) @ marks.t()).norm(dim=0).mean()) for of in (tracked, found)
    )
    assert wrong > 0.5
    assert left < 0.15 * wrong


def test_what_moves_by_itself_hardly_counts(avatar: Avatar) -> None:
    """Beside a part that moves on its own, a small scale of the errors leaves a torso where it lies well; a
    large one brings a torso nearer that lies badly."""
    code, motion, _, torso = pictures(avatar)
    camera, portrait, pose = avatar.camera, avatar.portrait, avatar.poses[FRAME]
    background = torch.from_numpy(avatar.background).float() / 255

    def picture(of: Tensor) -> Tensor:
        return portrait.picture(View(camera, pose, of), code, background).float() / 255

    real = picture(motion)
    across = slice(round(0.35 * camera.width), round(0.45 * camera.width))
    real[:, across] = picture(motion + torch.tensor([[0.0, 0.0, -0.02], [0.0, 0.0, 0.0]]))[:, across]
    marks = torch.tensor([[0.3, 0.9, 1], [0.7, 0.9, 1], [0.5, 0.85, 1]])

    def left(tracked: Tensor, outlying: float) -> float:
        compared = Compared.of(picture(tracked), real, outlying)
        moved = align_torso(compared, torso, tracked, camera) - motion
        return camera.width * float((moved @ marks.t()).norm(dim=0).mean())

    assert left(motion, 0.05) < 0.25 * left(motion, 0.5)
    off = motion + torch.tensor([[0.0, 0.0, 0.003], [0.0, 0.0, -0.004]])
    assert left(off, 0.5) < 0.5 * left(off, 0.05)


def test_disagreement() -> None:
    """It is 0 for the same pictures and for no pixels, and log 2 where every error is `outlying`."""
    flat = torch.full((4, 5, 3), 0.5)
    pixels = torch.arange(20)
    assert disagreement(flat, flat, pixels, 0.12) == 0
    assert disagreement(flat + 1, flat, pixels[:0], 0.12) == 0
    assert disagreement(flat + 0.04, flat, pixels, 0.12) == pytest.approx(float(np.log(2)), rel=1e-5)


def test_a_silent_picture_moves_nothing(avatar: Avatar, surface: HeadSurface) -> None:
    """Where the pictures agree, or too few pixels are seen, pose and motion stay as they are."""
    pose, camera = avatar.poses[FRAME], avatar.camera
    flat = torch.full((camera.height, camera.width, 3), 0.5)
    same = Compared.of(flat, flat, OUTLYING)
    pixels = torch.arange(5000)
    torch.testing.assert_close(align_head(same, pixels, pose, camera, surface), pose, rtol=0, atol=1e-6)
    other = Compared.of(torch.rand_like(flat), flat, OUTLYING)
    assert torch.equal(align_head(other, pixels[:20], pose, camera, surface), pose)
    motion = torch.eye(2, 3)
    assert torch.equal(align_torso(other, pixels[:20], motion, camera), motion)
