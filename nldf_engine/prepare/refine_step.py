"""Moves a frame's head and torso to where a model draws them: one robust Gauss-Newton step each.

Landmarks give a pose to about a pixel, and moving brows and cheeks bias them. A model that has
learned a speaker knows every mark on the skin: where its picture of a frame differs from the video, the
pictures' gradients say which small motion would correct it (Lucas and Kanade 1981; Baker and Matthews 2004).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nldf_engine.geometry.cameras import Camera
from nldf_engine.geometry.rotations import exponential

# Standard deviations of what tracking leaves: turns (radians) and shifts (metres) of the camera about the
# head's origin, and the six numbers of the torso's affine motion. They decide where the picture is silent.
HEAD_SPREAD = (0.01, 0.01, 0.01, 0.003, 0.003, 0.006)
TORSO_SPREAD = (0.01,) * 6
# Errors of neighbouring pixels are alike: about so many of them count as one observation.
CORRELATED = 12.0
LEAST_NOISE = 1e-3
FEWEST_PIXELS = 60
SURFACE_HALF = 0.25  # metres
SURFACE_CELLS = 101
SURFACE_BLUR = 3.0  # cells
FIRST_DEPTH = -0.03  # metres
DEPTH_ROUNDS = 3
TORSO_MIDDLE = (0.5, 0.85)


class HeadSurface:
    """How deep the face is, as a height field over x and y of head space, from a mean shape.

    Args:
        shape: [L, 3] metres, landmarks in head space; outside of them the nearest one's depth continues.
    """

    def __init__(self, shape: np.ndarray) -> None:
        import cv2
        from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator

        places, depths = np.asarray(shape[:, :2], np.float64), np.asarray(shape[:, 2], np.float64)
        steps = np.linspace(-SURFACE_HALF, SURFACE_HALF, SURFACE_CELLS)
        x, y = np.meshgrid(steps, steps, indexing="xy")
        depth = LinearNDInterpolator(places, depths)(x, y)
        outside = np.isnan(depth)
        depth[outside] = NearestNDInterpolator(places, depths)(x, y)[outside]
        self.depth = torch.from_numpy(cv2.GaussianBlur(depth, (0, 0), SURFACE_BLUR)).float()

    def meet(self, origin: Tensor, directions: Tensor) -> Tensor:
        """[N, 3] points where rays from `origin` [3] along [N, 3] meet the surface."""
        depth = torch.full((len(directions),), FIRST_DEPTH)
        for _ in range(DEPTH_ROUNDS):
            points = origin + ((depth - origin[2]) / directions[:, 2])[:, None] * directions
            cells = (points[:, :2] + SURFACE_HALF) * ((SURFACE_CELLS - 1) / (2 * SURFACE_HALF))
            cells = cells.round().long().clamp(0, SURFACE_CELLS - 1)
            depth = self.depth[cells[:, 1], cells[:, 0]]
        return origin + ((depth - origin[2]) / directions[:, 2])[:, None] * directions


@dataclass(frozen=True)
class Compared:
    """A rendered frame against the real one.

    Args:
        error: [H*W, 3] rendered less real, float32.
        slope_x, slope_y: [H*W, 3] of the rendered picture, a pixel.
        outlying: sum of the absolute errors of three channels beyond which a pixel loses weight.
    """

    error: Tensor
    slope_x: Tensor
    slope_y: Tensor
    outlying: float

    @staticmethod
    def of(rendered: Tensor, real: Tensor, outlying: float) -> Compared:
        """Of pictures [H, W, 3] float32, both blurred a little so that a pixel's motion is in the slopes."""
        pictures = torch.stack([rendered - real, rendered]).permute(0, 3, 1, 2)
        weights = torch.tensor([0.25, 0.5, 0.25])
        kernel = (weights[:, None] * weights).expand(3, 1, 3, 3)
        error, picture = F.conv2d(F.pad(pictures, (1, 1, 1, 1), "replicate"), kernel, groups=3)
        padded = F.pad(picture[None], (1, 1, 1, 1), "replicate")[0]
        across = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2
        down = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2
        flat = [part.flatten(1).t().contiguous() for part in (error, across, down)]
        return Compared(flat[0], flat[1], flat[2], outlying)

    def solve(self, pixels: Tensor, flow: Tensor, spread: tuple[float, ...]) -> Tensor:
        """The motion numbers [K] float64 that take the error away, as far as their `spread` lets them.

        Args:
            pixels: [N] numbers of the pixels to look at.
            flow: [N, 2, K] how the content of a pixel moves, in pixels, with each number.
            spread: [K] their standard deviations.
        """
        # The picture moved by a flow f is, to first order, itself less slope . f.
        across, down = self.slope_x[pixels, :, None], self.slope_y[pixels, :, None]
        design = -(across * flow[:, None, 0] + down * flow[:, None, 1])
        wanted = -self.error[pixels]
        weight = 1 / (1 + (wanted.abs().sum(1) / self.outlying).square())
        noise = float((weight * wanted.square().sum(1)).sum() / weight.sum() / 3) + LEAST_NOISE**2
        weighted = (design * weight[:, None, None]).flatten(0, 1).t()
        scale = 1 / (noise * CORRELATED)
        normal = (weighted @ design.flatten(0, 1)).double() * scale
        right = (weighted @ wanted.flatten()).double() * scale
        prior = torch.diag(1 / torch.tensor(spread, dtype=torch.float64).square())
        return torch.linalg.solve(normal + prior, right)


def disagreement(rendered: Tensor, real: Tensor, pixels: Tensor, outlying: float) -> float:
    """What a step makes smaller: the mean Cauchy loss of the pixels [N] of pictures [H, W, 3]; 0 for none.

    `outlying` is as for `Compared`, whose weights are those of this loss.
    """
    error = (rendered - real).view(-1, 3)[pixels].abs().sum(1)
    return float((error / outlying).square().log1p().mean()) if len(error) else 0.0


def head_flow(points: Tensor, pose: Tensor, camera: Camera) -> Tensor:
    """[N, 2, 6] motion in the image, pixels, of points [N, 3] of head space as the camera [4, 4] moves.

    The first three numbers turn the camera about the head's origin (radians), the others shift it (metres):
    to the camera, a point x is where x - w x x - t was.
    """
    rotation = pose[:3, :3]
    seen = (points - pose[:3, 3]) @ rotation
    unit = torch.eye(3)
    turns = [-torch.cross(axis.expand_as(points), points, dim=1) for axis in unit]
    moves = torch.stack([*turns, *(-axis.expand_as(points) for axis in unit)], 1) @ rotation
    depth = seen[:, None, 2]
    x = camera.fx * (moves[..., 0] - seen[:, None, 0] / depth * moves[..., 2]) / depth
    y = camera.fy * (moves[..., 1] - seen[:, None, 1] / depth * moves[..., 2]) / depth
    return torch.stack([x, y], 1)


def align_head(
    compared: Compared, pixels: Tensor, pose: Tensor, camera: Camera, surface: HeadSurface
) -> Tensor:
    """The pose [4, 4] under which the rendered head matches the real one; as it is with few pixels."""
    if len(pixels) < FEWEST_PIXELS:
        return pose
    places = torch.stack([pixels % camera.width, pixels // camera.width], 1) + 0.5
    centred = (places - torch.tensor([camera.cx, camera.cy])) / torch.tensor([camera.fx, camera.fy])
    directions = torch.cat([centred, torch.ones(len(pixels), 1)], 1) @ pose[:3, :3].t()
    points = surface.meet(pose[:3, 3], directions)
    numbers = compared.solve(pixels, head_flow(points, pose, camera), HEAD_SPREAD)
    turn = torch.from_numpy(exponential(numbers[:3].numpy()))
    moved = pose.double().clone()
    moved[:3, :3] = turn @ moved[:3, :3]
    moved[:3, 3] = turn @ moved[:3, 3] + numbers[3:]
    return moved.float()


def align_torso(compared: Compared, pixels: Tensor, motion: Tensor, camera: Camera) -> Tensor:
    """The motion [2, 3] under which the rendered torso matches the real one; see `align_head`."""
    if len(pixels) < FEWEST_PIXELS:
        return motion
    middle = torch.tensor(TORSO_MIDDLE)
    places = torch.stack([pixels % camera.width, pixels // camera.width], 1) + 0.5
    x, y = (places / camera.width - middle).unbind(1)
    row = torch.stack([x, y, torch.ones_like(x)], 1)
    rows = torch.stack([torch.cat([row, 0 * row], 1), torch.cat([0 * row, row], 1)], 1)
    numbers = compared.solve(pixels, camera.width * rows, TORSO_SPREAD).view(2, 3)
    turn, middle = torch.eye(2, dtype=torch.float64) + numbers[:, :2], middle.double()[:, None]
    linear, shift = motion.double()[:, :2], motion.double()[:, 2:]
    return torch.cat([turn @ linear, turn @ (shift - middle) + middle + numbers[:, 2:]], 1).float()
