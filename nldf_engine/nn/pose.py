"""The head's pose, encoded, as a condition of a field that does not move with it (AD-NeRF 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nldf_engine.geometry.rotations import camera_angles
from nldf_engine.nn.frequency import encode_frequencies, frequency_dim
from nldf_engine.nn.noise import normal_like

NUMBERS = 6
# Poses beyond this many standard deviations of the training video are held there.
LIMIT = 3.0
SMALLEST_SPREAD = 2e-3
NOISE = 0.05


def pose_dim(frequencies: int) -> int:
    """Size of an encoded pose: three angles and three coordinates, each encoded by itself."""
    return 2 * frequency_dim(3, frequencies)


def pose_numbers(poses: Tensor) -> Tensor:
    """[F, 6] of poses [F, 4, 4]: angles a, b, c with rotation = Rx(a) Ry(b) Rz(c), radians; camera position.

    Example:
        >>> pose_numbers(torch.eye(4)[None]).tolist()
        [[0.0, 0.0, 0.0, 0.0, 0.0, 0.0]]
    """
    return torch.cat([camera_angles(poses[:, :3, :3]), poses[:, :3, 3]], 1)


class PoseEncoder(nn.Module):
    """A frame's code with the head's pose behind it.

    Buffers: `mean`, `scale` [6], by which `pose_numbers` are brought to unit variance, and `limit`, within
    which they are held then. Until `calibrate` they leave the numbers as they are, as AD-NeRF does.

    Args:
        frequencies: L of the encodings, the numbers themselves included (3 in AD-NeRF).
    """

    mean: Tensor
    scale: Tensor
    limit: Tensor

    def __init__(self, frequencies: int) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.register_buffer("mean", torch.zeros(NUMBERS))
        self.register_buffer("scale", torch.ones(NUMBERS))
        self.register_buffer("limit", torch.tensor(torch.finfo(torch.float32).max))

    @torch.no_grad()
    def calibrate(self, poses: Tensor) -> None:
        """Fits mean, scale and limit to the poses [T, 4, 4] of the training video."""
        numbers = pose_numbers(poses)
        self.mean.copy_(numbers.mean(0))
        self.scale.copy_(numbers.std(0).clamp_min(SMALLEST_SPREAD))
        self.limit.fill_(LIMIT)

    def forward(self, code: Tensor, poses: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """[F, C + pose_dim] of codes [F, C] and poses [F, 4, 4].

        Args:
            code, poses: of the frames.
            noise: draws the noise on the pose that training adds; None for no noise.
        """
        numbers = (pose_numbers(poses) - self.mean) / self.scale
        if noise is not None:
            numbers = numbers + NOISE * normal_like(numbers, noise)
        numbers = torch.minimum(torch.maximum(numbers, -self.limit), self.limit)
        angles, place = numbers[:, :3], numbers[:, 3:]
        encoded = [encode_frequencies(part, self.frequencies) for part in (angles, place)]
        return torch.cat([code, *encoded], 1)
