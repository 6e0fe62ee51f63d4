"""Which frames of a video become an avatar's reference pictures: a spread of poses and mouths, open eyes."""

from __future__ import annotations

import torch
from torch import Tensor

from nldf_engine.geometry.rotations import head_numbers

# Frames whose eyes are less open than this share of the usual are blinks.
OPEN = 0.75
# Standard deviations beyond which a pose counts no farther: an extreme one may be a slip of the tracking.
FARTHEST = 2.0
SMALLEST_SPREAD = 1e-6


def choose_frames(poses: Tensor, opening: Tensor, eyes: Tensor, count: int) -> Tensor:
    """[count] row numbers: the frame nearest to the usual pose and mouth, then each time the one farthest
    from those that are chosen; the same for the same video.

    Args:
        poses: [N, 4, 4] camera to head, of the frames to choose from.
        opening: [N] of the mouth, in any unit.
        eyes: [N] eye openness.
        count: how many, 1 to N.

    Raises:
        ValueError: fewer frames than that.

    Example:
        >>> poses = torch.eye(4).repeat(3, 1, 1)
        >>> choose_frames(poses, torch.tensor([0.0, 0.1, 0.9]), torch.ones(3), 2).tolist()
        [1, 2]
    """
    if not 1 <= count <= len(poses):
        raise ValueError(f"count: expected 1 to {len(poses)} frames to choose, got {count}")
    numbers = torch.cat([head_numbers(poses)[:, :3], opening[:, None].double().nan_to_num(0)], 1)
    numbers = numbers - numbers.median(0).values
    scale = numbers.std(0, correction=0).clamp_min(SMALLEST_SPREAD)
    numbers = (numbers / scale).clamp(-FARTHEST, FARTHEST)
    seen = torch.nan_to_num(eyes, 0.0) >= OPEN * eyes.nanmedian()
    if int(seen.sum()) < count:
        seen = torch.ones_like(seen)
    # Frames that may not be chosen are nearer than any that may.
    chosen = [int(numbers.norm(dim=1).where(seen, torch.inf).argmin())]
    while len(chosen) < count:
        apart = torch.cdist(numbers, numbers[chosen]).amin(1)
        apart[chosen] = -torch.inf
        chosen.append(int(apart.where(seen, -torch.inf).argmax()))
    return torch.tensor(chosen)
