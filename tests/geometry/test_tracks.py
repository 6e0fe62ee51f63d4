"""Smoothing of poses over time, of whole tracks and of poses that arrive one by one."""

import math

import numpy as np
import pytest
import torch

from nldf_engine.geometry.poses import check_poses
from nldf_engine.geometry.rotations import exponential, head_numbers, poses_of
from nldf_engine.geometry.tracks import PoseFilter, smooth_poses


def test_an_even_turn_is_left_alone_whatever_its_axis() -> None:
    """A head that turns evenly about a slanted axis, far beyond where Euler angles bend, stays as it is."""
    axis = np.array([1.0, 2.0, 0.5]) / np.linalg.norm([1.0, 2.0, 0.5])
    poses = torch.eye(4, dtype=torch.float64).repeat(90, 1, 1)
    poses[:, :3, :3] = torch.from_numpy(exponential(np.arange(90)[:, None] * 0.06 * axis))
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
