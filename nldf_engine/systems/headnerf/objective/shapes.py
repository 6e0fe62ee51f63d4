"""Pictures of one speaker in the shape of another: real frames, warped by what tells the two faces apart.

No frame of a run shows one speaker's shape under another's colours, so the identity and the albedo, the two
vectors that each speaker has one of, could each hold a part of both. A frame of one speaker whose landmarks
are moved to where the other's face would have them shows just that, and is learned like a frame, with the
other's identity: so colours have no place in the identity, and shapes none in the albedo.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nldf_engine.geometry.face_mesh import BROWS, EYE_RIMS, OUTER_LIP, OVAL, RIGID
from nldf_engine.geometry.landmark_tracks import reprojected
from nldf_engine.geometry.warps import thin_plate
from nldf_engine.training.scene import Batch, Scene

# Points of the mesh that carry the warp; what the mesh has between them, and the hair about it, follows.
CARRIERS = tuple(dict.fromkeys((*OVAL, *RIGID, *BROWS[::3], *EYE_RIMS[::4], *OUTER_LIP[::5])))
# What bending costs: landmarks of two people's meshes differ by noise too, which no picture should follow.
SMOOTHING = 1e-4


class FaceShapes:
    """The faces at rest of a run's speakers.

    Args:
        scenes: of the run. A dataset that holds no shape of its speaker's face (one of another project) takes
            no part.
    """

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self.points: dict[int, Tensor] = {}
        for scene in scenes:
            shape = scene.dataset.face_points
            if shape is not None:
                self.points[scene.identity] = torch.from_numpy(shape)[list(CARRIERS)]

    def others(self, own: int) -> list[int]:
        """Numbers of the speakers whose shape a frame of speaker `own` can take."""
        return [number for number in self.points if number != own] if own in self.points else []

    def moves(self, scene: Scene, other: int, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Where landmarks [F, P, 2] of frames are and how far the other's face would have them elsewhere.

        Both in widths of the picture, which the smoothing is in units of.
        """
        width = scene.camera.width
        scale = 1 / scene.dataset.camera.width
        seen = torch.from_numpy(scene.dataset.landmarks)[frames.cpu()][:, list(CARRIERS)] * scale
        poses = scene.poses[frames.cpu()]
        own, theirs = (
            reprojected(self.points[number].expand(len(poses), -1, -1), poses, scene.camera)
            for number in (scene.identity, other)
        )
        return seen.float(), (theirs - own) / width

    def reshaped(self, scene: Scene, other: int, batch: Batch) -> Batch:
        """A batch of whole frames of `scene`, as speaker `other` would be seen in them.

        Colours, mask and labels are those of the place that each pixel's comes from; the batch's identity is
        `other`.

        Args:
            scene: of the frames.
            other: one of `others`.
            batch: with a grid.
        """
        assert batch.grid is not None
        height, width = batch.grid
        seen, moves = self.moves(scene, other, batch.frames)
        places = scene.points(torch.arange(height * width)) / width
        # A map back from the new places is wanted, so the moved points are the known ones.
        back = thin_plate(seen + moves, -moves, places, SMOOTHING)
        grid = (places + back) * torch.tensor([2.0, 2.0 * width / height]) - 1
        grid = grid.view(-1, height, width, 2).to(batch.target)
        labels = _sampled(batch.labels[..., None].float(), grid, "nearest")[..., 0].to(batch.labels.dtype)
        return dataclasses.replace(
            batch, target=_sampled(batch.target, grid), labels=labels,
            mask=_sampled(batch.mask[..., None], grid)[..., 0], identity=other,
        )  # fmt: skip


def _sampled(values: Tensor, grid: Tensor, mode: str = "bilinear") -> Tensor:
    """Values [F, P, C] of whole frames at places [F, H, W, 2] in [-1, 1]; the border's beyond it."""
    frames, height, width, _ = grid.shape
    picture = values.view(frames, height, width, -1).permute(0, 3, 1, 2)
    seen = F.grid_sample(picture, grid, mode, "border", align_corners=False)
    return seen.flatten(2).transpose(1, 2)
