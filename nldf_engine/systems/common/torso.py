"""The torso: how it moves, and a soft-edged plate of it.

Between the field of the head and the background lies the layer of neck and shoulders, with an opacity. A
frame shows it under an affine motion; where no tracked motion is given (new poses), the motion is
predicted linearly from the head's pose.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nldf_engine.base.timing import stage

POSE_FEATURES = 7


def pose_features(poses: Tensor) -> Tensor:
    """[T, 7] float32 of poses [T, 4, 4]: viewing rotation (3 skew entries), translation (3), and 1."""
    rotation = poses[:, :3, :3]
    skew = torch.stack(
        [
            rotation[:, 2, 1] - rotation[:, 1, 2],
            rotation[:, 0, 2] - rotation[:, 2, 0],
            rotation[:, 1, 0] - rotation[:, 0, 1],
        ],
        1,
    )
    # The camera in head space moves with the head's turn; in camera space it is the head's own place.
    place = -(rotation.transpose(1, 2) @ poses[:, :3, 3:])[:, :, 0]
    return torch.cat([skew / 2, place, torch.ones_like(skew[:, :1])], 1)


class TorsoMotion(nn.Module):
    """How a torso moves: what a plate and a learned layer have in common.

    Motions are [T, 2, 3]: plate coordinates -> frame coordinates, both in units of the frame's width
    (0 left, 1 right; pixel centres at +0.5), so that they hold at every resolution. They come tracked with a
    clip's poses, or are predicted from the poses.
    """

    motion_weights: Tensor
    present: Tensor

    def __init__(self) -> None:
        super().__init__()
        identity = torch.zeros(POSE_FEATURES, 6)
        identity[-1] = torch.tensor([1.0, 0, 0, 0, 1, 0])
        self.register_buffer("motion_weights", identity)
        self.register_buffer("present", torch.tensor(False))
        self._seen: tuple[Tensor, int, bool] | None = None
        self.backend = "native"

    @property
    def in_front(self) -> bool:
        """Whether the torso stands before the head; else the head stands before it."""
        return False

    @property
    def sampled(self) -> bool:
        """Whether `sample` gives its colours at any points; a field is drawn by `draw` alone."""
        return True

    def shows(self) -> bool:
        """Whether there is a torso; read back from the device once, not at every frame."""
        flag = self.present
        if self._seen is None or self._seen[0] is not flag or self._seen[1] != flag._version:
            self._seen = (flag, flag._version, bool(flag))
        return self._seen[2]

    def fit_motion(self, poses: Tensor, motion: Tensor, ridge: float = 1e-3) -> None:
        """Fits the linear prediction of `motion` [T, 2, 3] from `poses` [T, 4, 4] by ridge regression."""
        features = pose_features(poses).double()
        scale = features[:, :-1].std(0).clamp_min(1e-6)
        mean = features[:, :-1].mean(0)
        x = torch.cat([(features[:, :-1] - mean) / scale, features[:, -1:]], 1)
        y = motion.reshape(-1, 6).double()
        penalty = ridge * len(x) * torch.eye(POSE_FEATURES, dtype=torch.float64)
        penalty[-1, -1] = 0
        weights = torch.linalg.solve(x.T @ x + penalty, x.T @ y)
        slope = weights[:-1] / scale[:, None]
        offset = weights[-1] - mean @ slope
        self.motion_weights.copy_(torch.cat([slope, offset[None]]).float())

    def predict_motion(self, poses: Tensor) -> Tensor:
        """[T, 2, 3] motions for poses [T, 4, 4]."""
        return (pose_features(poses) @ self.motion_weights).reshape(-1, 2, 3)

    @staticmethod
    def on_plate(points: Tensor, motion: Tensor) -> Tensor:
        """[F, P, 2] plate coordinates of points [F, P, 2] of frames under `motion` [F, 2, 3]."""
        inverse = torch.linalg.inv(motion[:, :, :2])
        return (points - motion[:, None, :, 2]) @ inverse.transpose(1, 2)

    def sample(self, points: Tensor, motion: Tensor, poses: Tensor) -> tuple[Tensor, Tensor]:
        """The torso where F frames' `points` [F, P, 2] fall under `motion` [F, 2, 3].

        Args:
            points: in units of the frame's width, as motions are.
            motion: of the frames.
            poses: [F, 4, 4] camera to head; a plate looks the same under every pose.

        Returns:
            color [F, P, 3] float32 and alpha [F, P] float32, not premultiplied.
        """
        raise NotImplementedError

    def draw(
        self, points: Tensor, motion: Tensor, pose: Tensor, code: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """One frame's torso at `points` [P, 2], for rendering.

        Args:
            points: in units of the frame's width.
            motion: [2, 3].
            pose: [4, 4] camera to head.
            code: [C], the head's; None where it is not a field.

        Returns:
            color [P, 3] float32 premultiplied, and alpha [P].
        """
        with stage("composite"):
            color, alpha = self.sample(points[None], motion[None], pose[None])
            return color[0] * alpha[0, :, None], alpha[0]


class TorsoPlate(TorsoMotion):
    """A torso that is one picture [H, W, 4].

    Args:
        height, width: size of the plate in pixels.
    """

    color: Tensor
    alpha: Tensor

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.register_buffer("color", torch.zeros(height, width, 3))
        self.register_buffer("alpha", torch.zeros(height, width))

    def sample(self, points: Tensor, motion: Tensor, poses: Tensor) -> tuple[Tensor, Tensor]:
        """See `TorsoMotion.sample`."""
        plate = self.on_plate(points, motion)
        height, width = self.alpha.shape
        grid = plate * plate.new_tensor([2.0, 2.0 * width / height]) - 1
        layer = torch.cat([self.color, self.alpha[..., None]], -1).permute(2, 0, 1)[None]
        # The plate is the same for all frames: one row of the grid a frame, one call for all.
        out = F.grid_sample(layer, grid[None], "bilinear", "border", align_corners=False)[0]
        return out[:3].permute(1, 2, 0), out[3]
