"""Head angles and smoothing on the rotation group, against geometry written out by hand."""

import math

import pytest
import torch

from nldf_engine.geometry.poses import check_poses
from nldf_engine.geometry.rotations import (
    PoseFilter,
    head_numbers,
    poses_of,
    rotation_exp,
    rotation_log,
    smooth_poses,
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


def test_log_and_exp_are_inverse_up_to_half_a_turn() -> None:
    """exp(log R) = R and log(exp v) = v for angles from 0 to just below pi."""
    torch.manual_seed(0)
    axis = torch.nn.functional.normalize(torch.randn(60, 3, dtype=torch.float64), dim=1)
    vector = axis * torch.linspace(0, 3.1, 60, dtype=torch.float64)[:, None]
    torch.testing.assert_close(rotation_log(rotation_exp(vector)), vector, atol=1e-6, rtol=0)


def test_an_even_turn_is_left_alone_whatever_its_axis() -> None:
    """A head that turns evenly about a slanted axis, far beyond where Euler angles bend, stays as it is."""
    axis = torch.nn.functional.normalize(torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64), dim=0)
    poses = torch.eye(4, dtype=torch.float64).repeat(90, 1, 1)
    poses[:, :3, :3] = rotation_exp(axis * (torch.arange(90, dtype=torch.float64) * 0.06)[:, None])
    calm = smooth_poses(poses, 3.0)
    torch.testing.assert_close(calm[12:-12], poses[12:-12], atol=1e-7, rtol=0)
    check_poses(calm.float())
    assert smooth_poses(poses, 0) is poses


def test_smoothing_damps_a_shake_as_a_gaussian_does_and_does_not_lag() -> None:
    """A small shake of period P keeps exp(-2 (pi s / P)^2) of its size and its phase; places likewise."""
    period, strength, frames = 12, 2.0, torch.arange(120, dtype=torch.float64)
    shake = torch.sin(2 * math.pi * frames / period)
    numbers = torch.zeros(120, 6, dtype=torch.float64)
    numbers[:, 0], numbers[:, 3], numbers[:, 5] = 1.5 * shake, 0.01 * shake, 0.8
    left = head_numbers(smooth_poses(poses_of(numbers).double(), strength))
    keeps = math.exp(-2 * (math.pi * strength / period) ** 2)
    inner = slice(10, -10)
    torch.testing.assert_close(left[inner, 0], keeps * numbers[inner, 0], atol=5e-3, rtol=0)
    torch.testing.assert_close(left[inner, 3], keeps * numbers[inner, 3], atol=5e-5, rtol=0)


def test_the_causal_filter_calms_a_resting_head_and_follows_a_turning_one() -> None:
    """Noise on a still head is more than halved; after a turn of 20 degrees the head is there in 0.4 s."""
    torch.manual_seed(1)
    noisy = torch.zeros(200, 6, dtype=torch.float64)
    noisy[:, :3], noisy[:, 5] = 0.3 * torch.randn(200, 3), 0.8
    still = PoseFilter(3.0)
    left = head_numbers(torch.stack([still.push(pose) for pose in poses_of(noisy)]))
    assert float(left[50:, :3].std()) < 0.5 * float(noisy[50:, :3].std())
    turned = torch.zeros(60, 6)
    turned[:, 5], turned[20:, 0] = 0.8, 20.0
    follow = PoseFilter(3.0)
    yaw = head_numbers(torch.stack([follow.push(pose) for pose in poses_of(turned)]))[:, 0]
    assert float(yaw[19]) == pytest.approx(0, abs=1e-6) and float(yaw[30]) > 18
    assert float((yaw[1:] - yaw[:-1]).min()) > -0.5, "it swings over"
    same = PoseFilter(0.0)
    assert torch.equal(torch.stack([same.push(pose) for pose in poses_of(turned)])[0], poses_of(turned)[0])
