"""Torsos: the layer of neck and shoulders between the head and the background, and how it moves.

In each frame an affine motion moves it. Where no tracked motion is given (new poses), the motion is predicted
linearly from the head's pose.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from nldf_engine.base.timing import stage
from nldf_engine.ops import PortraitPart
from nldf_engine.ops.products import exact_products
from nldf_engine.rendering.heads import Head
from nldf_engine.rendering.layer import Layer, View, Views

POSE_FEATURES = 7


@exact_products()
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
    # The head's position in camera space: it does not change as the head turns, unlike poses' translations.
    place = -(rotation.transpose(1, 2) @ poses[:, :3, 3:])[:, :, 0]
    return torch.cat([skew / 2, place, torch.ones_like(skew[:, :1])], 1)


class Torso(nn.Module, ABC):
    """A torso: its motion, and its layer in a frame.

    Motions are [T, 2, 3]: plate coordinates -> frame coordinates, both in units of the frame's width
    (0 left, 1 right; pixel centres at +0.5), so that they are independent of the resolution. They are tracked
    together with a clip's poses, or predicted from the poses.

    Subclasses implement `draw`, or `sample` where colours are known at any point, and `describe`.

    Buffers: `motion_weights` [7, 6], the linear prediction; `present`, whether there is a torso at all.
    """

    motion_weights: Tensor
    present: Tensor
    backend: str = "native"

    def __init__(self) -> None:
        super().__init__()
        identity = torch.zeros(POSE_FEATURES, 6)
        identity[-1] = torch.tensor([1.0, 0, 0, 0, 1, 0])
        self.register_buffer("motion_weights", identity)
        self.register_buffer("present", torch.tensor(False))
        self._shown: tuple[Tensor, int, bool] | None = None

    @property
    def in_front(self) -> bool:
        """Whether the torso is in front of the head; else it is behind."""
        return False

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Its entry in avatar.json, from which `systems.registry.read_torso` makes one without weights."""
        ...

    def check_head(self, head: Head) -> None:
        """Checks that the torso can be combined with an avatar's head; this class takes any.

        Raises:
            ValueError: it cannot.
        """

    def shows(self) -> bool:
        """Whether there is a torso; read from the device only when it has changed, not at every frame."""
        flag = self.present
        if self._shown is None or self._shown[0] is not flag or self._shown[1] != flag._version:
            self._shown = (flag, flag._version, bool(flag))
        return self._shown[2]

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

    @exact_products()
    def predict_motion(self, poses: Tensor) -> Tensor:
        """[T, 2, 3] motions for poses [T, 4, 4]."""
        return (pose_features(poses) @ self.motion_weights).reshape(-1, 2, 3)

    @staticmethod
    @exact_products()
    def on_plate(points: Tensor, motion: Tensor) -> Tensor:
        """[F, P, 2] plate coordinates of frame points [F, P, 2], by the inverse of `motion` [F, 2, 3]."""
        inverse = torch.linalg.inv(motion[:, :, :2])
        return (points - motion[:, None, :, 2]) @ inverse.transpose(1, 2)

    @abstractmethod
    def draw(self, view: View, code: Tensor) -> Layer:
        """The torso's layer in a frame, for the head's code [C]; empty where there is no torso."""
        ...

    def with_head(self, view: View, code: Tensor, head: Head) -> Layer:
        """The whole speaker in a frame: head over torso, or torso over head where `in_front`."""
        own = self.draw(view, code)
        return own.over_layer(head.draw(view, code)) if self.in_front else head.draw(view, code, own)

    def blend_with_head(
        self, view: View, code: Tensor, head: Head, background: Tensor, out: Tensor
    ) -> Tensor:
        """The whole speaker composited over an opaque background [H, W, 3], written to `out` [H, W, 3]."""
        if self.in_front:
            return out.copy_(self.with_head(view, code, head).over(background))
        return head.blend(view, code, self.blend(view, code, background, out))

    def blend(self, view: View, code: Tensor, background: Tensor, out: Tensor) -> Tensor:
        """The torso composited over an opaque background [H, W, 3], written to `out` [H, W, 3] float32."""
        return out.copy_(self.draw(view, code).over(background) if self.shows() else background)

    def portrait_part(self, views: Views) -> PortraitPart | None:
        """The torso as part of F frames that `ops.PortraitFrames` draws in one pass each; else None."""
        return None

    def empty(self, view: View) -> Layer:
        """A fully transparent layer."""
        alpha = view.motion.new_zeros(view.camera.height, view.camera.width)
        return Layer(alpha[..., None].expand(-1, -1, 3), alpha)


class SampledTorso(Torso):
    """A torso whose colours are known at any point of the plate without a code."""

    @abstractmethod
    def sample(self, points: Tensor, motion: Tensor, poses: Tensor) -> tuple[Tensor, Tensor]:
        """Colour and opacity of the torso at `points` [F, P, 2] of F frames.

        Args:
            points: frame coordinates, in units of the frame's width.
            motion: [F, 2, 3], of the frames.
            poses: [F, 4, 4] camera to head; a plate looks the same under every pose.

        Returns:
            color [F, P, 3] float32 and alpha [F, P] float32, not premultiplied.
        """
        ...

    def draw(self, view: View, code: Tensor) -> Layer:
        """See `Torso`."""
        if not self.shows():
            return self.empty(view)
        shape = view.camera.height, view.camera.width
        with stage("composite"):
            color, alpha = self.sample(view.points()[None], view.motion[None], view.pose[None])
            return Layer((color[0] * alpha[0, :, None]).view(*shape, 3), alpha[0].view(shape))

    def blend(self, view: View, code: Tensor, background: Tensor, out: Tensor) -> Tensor:
        """See `Torso`; without an intermediate layer."""
        if not self.shows():
            return out.copy_(background)
        with stage("composite"):
            color, alpha = self.sample(view.points()[None], view.motion[None], view.pose[None])
            flat, shape = background.view(-1, 3), (view.camera.height * view.camera.width, 3)
            torch.lerp(flat, color[0], alpha[0, :, None].expand(shape), out=out.view(shape))
            return out
