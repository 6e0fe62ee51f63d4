"""Faces cut out of a training video, eyes at fixed places, and the same faces under other shapes, colours,
lights.

Shapes: T frames, N faces; a face is [3, 48, 48].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nldf_engine.geometry.face_mesh import LEFT_EYE_OUTER, RIGHT_EYE_OUTER
from nldf_engine.geometry.tracks import smooth_motion
from nldf_engine.nn.sync import lip_movement
from nldf_engine.systems.headnerf.codes import LIGHT_NUMBERS
from nldf_engine.systems.headnerf.extractor import FACE_SIDE, face_places, within
from nldf_engine.training.scene import Scene

# A face is so many outer eye distances wide, and its middle so much of one below the eyes.
WIDE, BELOW = 2.3, 0.45
# A face is cut out larger by this factor, so that a stretched one has what to show at its rim.
ROOM = 1.25
# The light is measured within this ellipse of the face, as shares of its half width and height.
ELLIPSE = 0.62, 0.8
DARKEST = 1 / 64
# Standard deviation in frames of the low pass on the light: its numbers must not depend on what the mouth
# does.
LIGHT_SMOOTHING = 8.0
PIECE = 64


def _known(values: Tensor, good: Tensor) -> Tensor:
    """Values [T, ...] where frames that are not `good` [T] take the nearest good one's."""
    where = good.nonzero()[:, 0]
    if not len(where):
        raise ValueError("landmarks: expected a face in at least one frame, got none")
    nearest = (torch.arange(len(values))[:, None] - where).abs().argmin(1)
    return values[where[nearest]]


def face_frames(landmarks: Tensor) -> Tensor:
    """[T, 2, 3] maps from a face's coordinates, [-1, 1] in both, to pixels of the frame.

    Args:
        landmarks: [T, 478, 2] pixels; NaN where no face was found.

    Raises:
        ValueError: no frame has a face.
    """
    eyes = landmarks[:, [RIGHT_EYE_OUTER, LEFT_EYE_OUTER]]
    eyes = _known(eyes, eyes.flatten(1).isfinite().all(1))
    along = eyes[:, 1] - eyes[:, 0]
    down = torch.stack([-along[:, 1], along[:, 0]], 1)
    middle = eyes.mean(1) + BELOW * down
    return torch.stack([WIDE / 2 * along, WIDE / 2 * down, middle], 2)


def cut_faces(scene: Scene, numbers: Tensor) -> Tensor:
    """[N, 3, S, S] uint8 of the frames `numbers` [N], S = 60: faces with room about them.

    Raises:
        ValueError: no frame has a face.
    """
    scale = scene.camera.width / scene.dataset.camera.width
    maps = face_frames(torch.from_numpy(scene.dataset.landmarks).float() * scale)
    height, width = scene.camera.height, scene.camera.width
    to_unit = torch.tensor([2 / width, 2 / height])
    side = round(ROOM * FACE_SIDE)
    made = []
    for part in numbers.cpu().split(PIECE):
        theta = maps[part] * to_unit[:, None]
        theta[:, :, :2] *= ROOM
        theta[:, :, 2] -= 1
        pictures = scene.frames[part].permute(0, 3, 1, 2).float()
        grid = F.affine_grid(theta, [len(part), 3, side, side], align_corners=False)
        # Averaged over two by two places each, for frames much larger than the faces.
        fine = F.interpolate(grid.permute(0, 3, 1, 2), scale_factor=2, mode="bilinear", align_corners=False)
        seen = F.grid_sample(pictures, fine.permute(0, 2, 3, 1), "bilinear", "border", align_corners=False)
        made.append(F.avg_pool2d(seen, 2).round().to(torch.uint8))
    return torch.cat(made)


@dataclass(frozen=True)
class Looks:
    """How faces are changed, N of them.

    Args:
        stretch: [N, 2] factors of width and height: another shape.
        tint: [N, 3] natural logarithms of factors of the colours, of zero sum: another albedo.
        light: [N, 3] light numbers that are added (see `codes.LIGHT_NUMBERS`).
    """

    stretch: Tensor
    tint: Tensor
    light: Tensor

    @staticmethod
    def none(count: int) -> Looks:
        """Faces as they are."""
        return Looks(torch.ones(count, 2), torch.zeros(count, 3), torch.zeros(count, LIGHT_NUMBERS))


def changed_faces(cut: Tensor, looks: Looks) -> Tensor:
    """[N, 3, 48, 48] float32 in [0, 1] of faces with room [N, 3, S, S] uint8."""
    count = len(cut)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = 1 / (ROOM * looks.stretch[:, 0]), 1 / (ROOM * looks.stretch[:, 1])
    grid = F.affine_grid(theta, [count, 3, FACE_SIDE, FACE_SIDE], align_corners=False)
    seen = F.grid_sample(cut.float() / 255, grid, "bilinear", "border", align_corners=False)
    x, y = face_places()
    glow = light_field(looks.light[:, :, None, None], x, y)
    return (seen * torch.exp(looks.tint[:, :, None, None]) * glow[:, None]).clamp(0, 1)


def light_field(numbers: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The factor of the colours under light numbers [F, 3, ...] at x and y, both in units of 0.1 m."""
    return torch.exp(numbers[:, 0] + numbers[:, 1] * x + numbers[:, 2] * y)


def measured_light(faces: Tensor) -> Tensor:
    """[N, 3] light numbers of faces [N, 3, 48, 48]: the best plane through the logarithm of their
    brightness."""
    x, y = face_places()
    inside = within(ELLIPSE)
    basis = torch.stack([torch.ones_like(x), x, y], -1)[inside].double()
    level = faces.mean(1).clamp_min(DARKEST).log()[:, inside].double()
    return (torch.linalg.pinv(basis) @ level.t()).t().float()


def light_track(scene: Scene) -> Tensor:
    """[T, 3] light numbers of all frames, low-passed."""
    numbers, good = torch.zeros(len(scene.frames), 3), torch.zeros(len(scene.frames), dtype=torch.bool)
    for part in scene.kept.split(PIECE):
        numbers[part] = measured_light(changed_faces(cut_faces(scene, part), Looks.none(len(part))))
    good[scene.kept] = True
    return smooth_motion(_known(numbers, good), LIGHT_SMOOTHING)


def expression_measures(scene: Scene) -> Tensor:
    """[T, M] what faces do, comparable between people: lips, lids and brows, each in standard deviations of
    the frames that are trained on."""
    landmarks = torch.from_numpy(scene.dataset.landmarks).float()
    landmarks = _known(landmarks, landmarks.flatten(1).isfinite().all(1))
    lips = lip_movement(landmarks)
    parts = [lips.flatten(1), scene.conditions.eyes.cpu()[:, None].repeat(1, 8)]
    if scene.conditions.upper is not None:
        parts.append(scene.conditions.upper.cpu()[:, :2].repeat(1, 4))
    every = torch.cat(parts, 1)
    mean, spread = every[scene.fit].mean(0), every[scene.fit].std(0).clamp_min(1e-4)
    return (every - mean) / spread
