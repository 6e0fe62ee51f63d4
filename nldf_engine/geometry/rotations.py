"""Rigid motions: the head's angles and place as a camera sees them, and smoothing on the rotation group.

A pose is camera-to-head, [4, 4], OpenCV axes. What a person would say of it is of the head in the camera's
view, six numbers: yaw, pitch and roll in degrees (the face turns to the picture's right, rises, the top of
the head tips to the right) and its place x, y, z in metres (right, down, away). The head's rotation is
Ry(-yaw) Rx(-pitch) Rz(roll).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

HEAD_NUMBERS = ("yaw", "pitch", "roll", "x", "y", "z")
UNITS = ("degrees", "degrees", "degrees", "m", "m", "m")
# Newton steps of the mean on the group: rotations within a filter's reach are close, and the first is
# already right to third order in their angle.
MEAN_STEPS = 3
SMALL_ANGLE = 1e-6
# How a One Euro filter follows: its cutoff rises by so much for each radian (or metre, times 3) a second.
ONE_EURO_SLOPE = 1.5
ONE_EURO_SPEED_CUTOFF = 1.0


def head_numbers(poses: Tensor) -> Tensor:
    """[T, 6] float64 (see `HEAD_NUMBERS`) of poses [T, 4, 4]."""
    rotation = poses[:, :3, :3].double().transpose(1, 2)
    place = -(rotation @ poses[:, :3, 3:].double())[:, :, 0]
    yaw = -torch.atan2(rotation[:, 0, 2], rotation[:, 2, 2])
    pitch = torch.asin(rotation[:, 1, 2].clamp(-1, 1))
    roll = torch.atan2(rotation[:, 1, 0], rotation[:, 1, 1])
    return torch.cat([torch.stack([yaw, pitch, roll], 1) * (180 / math.pi), place], 1)


def poses_of(numbers: Tensor) -> Tensor:
    """Poses [T, 4, 4] float32 of numbers [T, 6]: the inverse of `head_numbers`."""
    yaw, pitch, roll = (numbers[:, :3].double() * (math.pi / 180)).unbind(1)
    yaw, pitch = -yaw, -pitch
    one, zero = torch.ones_like(yaw), torch.zeros_like(yaw)

    def matrix(*entries: Tensor) -> Tensor:
        return torch.stack(entries, 1).view(-1, 3, 3)

    around_y = matrix(yaw.cos(), zero, yaw.sin(), zero, one, zero, -yaw.sin(), zero, yaw.cos())
    around_x = matrix(one, zero, zero, zero, pitch.cos(), -pitch.sin(), zero, pitch.sin(), pitch.cos())
    around_z = matrix(roll.cos(), -roll.sin(), zero, roll.sin(), roll.cos(), zero, zero, zero, one)
    turned = (around_y @ around_x @ around_z).transpose(1, 2)
    poses = torch.eye(4, dtype=torch.float64).repeat(len(numbers), 1, 1)
    poses[:, :3, :3] = turned
    poses[:, :3, 3] = -(turned @ numbers[:, 3:, None].double())[:, :, 0]
    return poses.float()


def rotation_log(rotation: Tensor) -> Tensor:
    """The rotation vector [..., 3] of rotations [..., 3, 3] by less than pi; axis times angle in radians."""
    skew = torch.stack(
        [
            rotation[..., 2, 1] - rotation[..., 1, 2],
            rotation[..., 0, 2] - rotation[..., 2, 0],
            rotation[..., 1, 0] - rotation[..., 0, 1],
        ],
        -1,
    )
    sine = skew.norm(dim=-1) / 2
    cosine = (rotation.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    angle = torch.atan2(sine, cosine)
    factor = torch.where(sine > SMALL_ANGLE, angle / (2 * sine.clamp_min(SMALL_ANGLE)), 0.5)
    return factor[..., None] * skew


def rotation_exp(vector: Tensor) -> Tensor:
    """Rotations [..., 3, 3] of rotation vectors [..., 3] (Rodrigues' formula)."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).view(*vector.shape[:-1], 3, 3)
    return torch.linalg.matrix_exp(cross)


def smooth_poses(poses: Tensor, frames: float) -> Tensor:
    """Poses [T, 4, 4] under a Gaussian over time on the rotation group: zero phase, so nothing lags.

    The rotation of frame t becomes the weighted mean of its neighbours' in the sense of Karcher, which no
    choice of Euler angles bends: the R with sum_k w_k log(R^T R_{t+k}) = 0. Of the head's place the Gaussian
    takes the plain mean. Beyond its ends the track is thought to stand still.

    Args:
        poses: camera to head.
        frames: standard deviation; 0 leaves the poses as they are.
    """
    if frames <= 0 or len(poses) < 2:
        return poses
    reach = max(1, round(3 * frames))
    steps = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (steps / frames).square())
    weights = weights / weights.sum()
    near = (torch.arange(len(poses))[:, None] + steps.long()).clamp(0, len(poses) - 1)
    rotation = poses[:, :3, :3].double().transpose(1, 2)  # the head's, in the camera's view
    place = -(rotation @ poses[:, :3, 3:].double())[:, :, 0]
    mean, around = rotation, rotation[near]
    for _ in range(MEAN_STEPS):
        off = rotation_log(mean[:, None].transpose(2, 3) @ around)
        mean = mean @ rotation_exp((weights[:, None] * off).sum(1))
    return _assembled(mean, (weights[:, None] * place[near]).sum(1), poses)


def _assembled(rotation: Tensor, place: Tensor, like: Tensor) -> Tensor:
    turned = rotation.transpose(-1, -2)
    poses = torch.eye(4, dtype=torch.float64).expand(*turned.shape[:-2], 4, 4).clone()
    poses[..., :3, :3] = turned
    poses[..., :3, 3] = -(turned @ place[..., None])[..., 0]
    return poses.to(like.dtype)


class PoseFilter:
    """A causal filter for poses that arrive one by one: One Euro (Casiez 2012) on rotation group and place.

    A head at rest is held still, a quick turn is followed at once: the cutoff rises with the speed, which
    comes from the logarithm of the turn since the last frame and not from differences of angles.

    Args:
        frames: strength; the standard deviation of the Gaussian that calms a head at rest about as much.
        rate: poses a second.

    Raises:
        ValueError: a negative strength.
    """

    def __init__(self, frames: float, rate: float = 25.0) -> None:
        if frames < 0:
            raise ValueError(f"frames: expected a strength of at least 0, got {frames!r}")
        self._step = 1 / rate
        # Of white noise a Gaussian leaves 1 / (2 sqrt(pi) frames), one pole a / (2 - a): the a that do alike.
        left = min(1.0, 1 / (2 * math.sqrt(math.pi) * frames)) if frames else 1.0
        share = 2 * left / (1 + left)
        self._cutoff = share / max(1e-9, 1 - share) / (2 * math.pi * self._step)
        self._rotation: Tensor | None = None
        self._place = self._speed = torch.zeros(3, dtype=torch.float64)
        self._turning = torch.zeros(3, dtype=torch.float64)

    def push(self, pose: Tensor) -> Tensor:
        """The filtered pose [4, 4] of the next one."""
        rotation = pose[:3, :3].double().T
        place = -(rotation @ pose[:3, 3].double())
        if self._rotation is None:
            self._rotation, self._place = rotation, place
            return pose
        turn, shift = rotation_log(self._rotation.T @ rotation), place - self._place
        calm = self._share(ONE_EURO_SPEED_CUTOFF)
        self._turning = self._turning + calm * (turn / self._step - self._turning)
        self._speed = self._speed + calm * (shift / self._step - self._speed)
        by_turn = self._share(self._cutoff + ONE_EURO_SLOPE * float(self._turning.norm()))
        by_place = self._share(self._cutoff + 3 * ONE_EURO_SLOPE * float(self._speed.norm()))
        self._rotation = self._rotation @ rotation_exp(by_turn * turn)
        self._place = self._place + by_place * shift
        return _assembled(self._rotation, self._place, pose)

    def _share(self, cutoff: float) -> float:
        slope = 2 * math.pi * cutoff * self._step
        return slope / (1 + slope)
