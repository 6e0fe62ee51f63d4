"""A backdrop that moves by itself, as training takes it."""

from __future__ import annotations

import torch

from nldf_engine.training.backdrop import MovingBackdrop

SIDE = 96


def clip() -> tuple[torch.Tensor, torch.Tensor]:
    """Three frames of a grey wall that grows lighter, with sharp stripes, and a red speaker before it."""
    frames = torch.full((3, SIDE, SIDE, 3), 60, dtype=torch.uint8)
    frames += (40 * torch.arange(3, dtype=torch.uint8))[:, None, None, None]
    frames[:, :, ::6] += 20
    labels = torch.zeros(3, SIDE, SIDE, dtype=torch.uint8)
    for k in range(3):
        labels[k, 30:, 30 + 5 * k : 60 + 5 * k] = 1
    frames[labels > 0] = torch.tensor([250, 0, 0], dtype=torch.uint8)
    return frames, labels


def test_every_frame_has_its_own() -> None:
    """Clear of the speaker the frame itself stands behind; within him, the wall about him."""
    frames, labels = clip()
    backdrop = MovingBackdrop(frames, labels)
    order = torch.tensor([2, 0])
    pixels = torch.arange(SIDE * SIDE).expand(2, -1)
    behind = backdrop.behind(order, pixels).view(2, SIDE, SIDE, 3)
    real = frames[order].float() / 255
    assert torch.equal(behind[:, :25], real[:, :25]) and torch.equal(behind[:, :, :24], real[:, :, :24])
    inside = behind[labels[order] > 0]
    assert float((inside[:, 0] - inside[:, 1]).abs().max()) < 0.01
    wall = (torch.tensor([140.0, 60.0]) + 20 / 6) / 255
    for k in range(2):
        assert abs(float(behind[k][labels[order[k]] > 0].mean()) - float(wall[k])) < 0.02


def test_nothing_but_speaker() -> None:
    """A frame that the speaker fills gets an even grey, and any size of frame has a place for every pixel."""
    frames = torch.full((1, 20, 31, 3), 200, dtype=torch.uint8)
    backdrop = MovingBackdrop(frames, torch.ones(1, 20, 31, dtype=torch.uint8))
    behind = backdrop.behind(torch.tensor([0]), torch.arange(620)[None])
    assert behind.shape == (1, 620, 3) and torch.allclose(behind, torch.tensor(127 / 255))
