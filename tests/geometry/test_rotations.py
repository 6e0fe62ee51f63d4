"""Rotations as vectors, matrices and head angles, against geometry written out by hand."""

import math

import numpy as np
import pytest
import torch

from nldf_engine.geometry.poses import check_poses
from nldf_engine.geometry.rotations import (
    about,
    camera_angles,
    exponential,
    head_numbers,
    left_jacobian,
    logarithm,
    nearest_rotation,
    poses_of,
    skew,
)


def random_numbers(count: int) -> torch.Tensor:
    torch.manual_seed(2)
    angles = (torch.rand(count, 3, dtype=torch.float64) - 0.5) * torch.tensor([150.0, 80.0, 150.0])
    return torch.cat([angles, torch.randn(count, 3, dtype=torch.float64) * 0.1 + 0.5], 1)


def test_numbers_and_poses_are_inverse() -> None:
    """Yaw, pitch, roll and place survive the way to a pose and back; the pose is rigid."""
    numbers = random_numbers(50)
    poses = poses_of(numbers)
    check_poses(poses)
    torch.testing.assert_close(head_numbers(poses), numbers, atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    ("name", "point", "moves"),
    [("yaw", (0.0, 0, -1), (1, 0)), ("pitch", (0.0, 0, -1), (0, -1)), ("roll", (0.0, -1, 0), (1, 0))],
)
def test_angles_turn_as_they_say(name: str, point: tuple[float, ...], moves: tuple[int, int]) -> None:
    """Yaw turns the nose to the picture's right, pitch raises it, roll tips the crown to the right."""
    numbers = torch.zeros(1, 6)
    numbers[0, 5], numbers[0, ("yaw", "pitch", "roll").index(name)] = 2.0, 10.0
    to_head = poses_of(numbers)[0].double()
    seen = torch.linalg.inv(to_head) @ torch.tensor([*point, 1.0], dtype=torch.float64)
    middle = torch.linalg.inv(to_head)[:3, 3]
    assert middle.tolist() == pytest.approx([0, 0, 2], abs=1e-6)
    sine = math.sin(math.radians(10))
    want = [sine * moves[0], sine * moves[1] + math.cos(math.radians(10)) * point[1]]
    assert (seen[:2] - middle[:2]).tolist() == pytest.approx(want, abs=1e-6)


def test_vectors_and_their_jacobian() -> None:
    """exp and log are inverse, and the left Jacobian is the derivative of exp."""
    rng = np.random.default_rng(0)
    v = np.concatenate([rng.normal(size=(20, 3)), rng.normal(size=(3, 3)) * 1e-7])
    assert np.allclose(logarithm(exponential(v)), v, atol=1e-6)
    d = rng.normal(size=v.shape) * 1e-6
    step = exponential(np.einsum("nij,nj->ni", left_jacobian(v), d)) @ exponential(v)
    assert np.allclose(exponential(v + d), step, atol=1e-10)
    assert np.allclose(skew(v)[0] @ d[0], np.cross(v[0], d[0]))


def test_log_and_exp_are_inverse_up_to_half_a_turn() -> None:
    """exp(log R) = R and log(exp v) = v for angles from 0 to just below pi."""
    axis = np.random.default_rng(0).normal(size=(60, 3))
    vector = axis / np.linalg.norm(axis, axis=1, keepdims=True) * np.linspace(0, 3.1, 60)[:, None]
    np.testing.assert_allclose(logarithm(exponential(vector)), vector, atol=1e-6)


@pytest.mark.parametrize(("axis", "begin", "end"), [("x", 1, 2), ("y", 2, 0), ("z", 0, 1)])
def test_turns_about_an_axis(axis: str, begin: int, end: int) -> None:
    """A quarter turn about an axis takes the next axis to the one after it; any turn is the vector's."""
    unit = np.eye(3)
    np.testing.assert_allclose(about(axis, np.array(np.pi / 2)) @ unit[begin], unit[end], atol=1e-15)
    angle = np.linspace(-3, 3, 7)
    vector = angle[:, None] * unit["xyz".index(axis)]
    np.testing.assert_allclose(about(axis, angle), exponential(vector), atol=1e-15)


def test_the_nearest_rotation_is_one_and_is_nearest() -> None:
    """Rotations stay; mirrored and stretched matrices become rotations that no small turn brings nearer."""
    random = np.random.default_rng(1)
    rotation = torch.from_numpy(exponential(random.normal(size=(20, 3))))
    torch.testing.assert_close(nearest_rotation(rotation), rotation, atol=1e-12, rtol=0)
    matrix = torch.from_numpy(random.normal(size=(20, 3, 3)))
    assert (torch.linalg.det(matrix) < 0).any()
    nearest = nearest_rotation(matrix)
    torch.testing.assert_close(torch.linalg.det(nearest), torch.ones(20, dtype=torch.float64))
    for _ in range(20):
        other = nearest @ torch.from_numpy(exponential(0.05 * random.normal(size=(20, 3))))
        assert ((other - matrix).norm(dim=(1, 2)) >= (nearest - matrix).norm(dim=(1, 2))).all()


def test_camera_angles_are_those_of_the_product() -> None:
    """Rx(a) Ry(b) Rz(c) gives back a, b and c."""
    a, b, c = angles = np.random.default_rng(2).uniform(-1.4, 1.4, (3, 30))
    given = torch.from_numpy(about("x", a) @ about("y", b) @ about("z", c))
    np.testing.assert_allclose(camera_angles(given).numpy(), angles.T, atol=1e-12)
