"""Fits the torso plate: one picture of neck and shoulders, gathered along the tracked motion."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nldf_engine.datasets.dataset import LABELS, Dataset
from nldf_engine.systems.common.torso import TorsoPlate

GATHERED_FRAMES = 80
SEEN_ENOUGH = 0.05
FILL_STEPS = 64


def tracked_motion(dataset: Dataset) -> Tensor:
    """[T, 2, 3] torso motion in units of the frame's width; identity where the dataset has no track."""
    motion = dataset.torso_motion()
    return torch.eye(2, 3).repeat(len(dataset.poses), 1, 1) if motion is None else torch.from_numpy(motion)


def _spread(color: Tensor, alpha: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Fills what no frame shows (it is behind the head) with what is nearest to it."""
    values = torch.cat([color, alpha[..., None]], -1).permute(2, 0, 1)[None]
    known = seen[None, None].float()
    for _ in range(FILL_STEPS):
        if bool(known.bool().all()):
            break
        weight = F.avg_pool2d(known, 3, 1, 1)
        spread = F.avg_pool2d(values * known, 3, 1, 1) / weight.clamp_min(1e-6)
        fresh = (weight > 0) & (known == 0)
        values = torch.where(fresh, spread, values)
        known = torch.where(fresh, torch.ones_like(known), known)
    return values[0, :3].permute(1, 2, 0), values[0, 3]


def fit_torso(frames: Tensor, labels: Tensor, poses: Tensor, motions: Tensor, fit: Tensor) -> TorsoPlate:
    """The plate and its motion model.

    Args:
        frames: [T, H, W, 3] uint8.
        labels: [T, H, W] uint8, `datasets.dataset.LABELS`.
        poses: [T, 4, 4].
        motions: [T, 2, 3] in units of the frame's width, plate to frame.
        fit: [N] numbers of the frames that may be used.

    Returns:
        TorsoPlate of the frames' size; marked absent where no frame shows a torso.
    """
    _, height, width, _ = frames.shape
    plate = TorsoPlate(height, width)
    y, x = torch.meshgrid(
        (torch.arange(height) + 0.5) / width, (torch.arange(width) + 0.5) / width, indexing="ij"
    )
    points = torch.stack([x, y], -1)
    total = torch.zeros(height, width, 3)
    torso = torch.zeros(height, width)
    soft = torch.zeros(height, width)
    other = torch.zeros(height, width)
    chosen = fit[torch.linspace(0, len(fit) - 1, min(GATHERED_FRAMES, len(fit))).long()].unique()
    for number in chosen.tolist():
        where = points @ motions[number, :, :2].T + motions[number, :, 2]
        grid = where * where.new_tensor([2.0, 2.0 * width / height]) - 1
        label = labels[number]
        body = ((label == LABELS["torso"]) | (label == LABELS["neck"])).float()
        free = (label == LABELS["background"]).float()
        stack = torch.cat([frames[number].float() / 255, body[..., None], free[..., None]], -1)
        seen = F.grid_sample(
            stack.permute(2, 0, 1)[None], grid[None], "bilinear", "zeros", align_corners=False
        )[0]
        # A colour counts where the pixel is all torso: half-covered edges would carry the backdrop's colour.
        sure = (seen[3] > 0.99).float() + 1e-3 * seen[3]
        total += seen[:3].permute(1, 2, 0) * sure[..., None]
        torso += sure
        other += seen[4]
        soft += seen[3]
    covered = soft + other
    seen_enough = covered > SEEN_ENOUGH * len(chosen)
    if float(torso.sum()) < 1 or not bool(seen_enough.any()):
        return plate
    alpha = soft / covered.clamp_min(1e-6)
    has_color = torso > 1e-3
    color, _ = _spread(total / torso.clamp_min(1e-6)[..., None], alpha, has_color)
    _, alpha = _spread(color, alpha, seen_enough)
    plate.color.copy_(color)
    plate.alpha.copy_(alpha.clamp(0, 1))
    plate.present.fill_(True)
    plate.fit_motion(poses[fit], motions[fit])
    return plate
