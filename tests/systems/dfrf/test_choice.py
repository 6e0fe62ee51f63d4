"""Which frames become references."""

from __future__ import annotations

import pytest
import torch

from nldf_engine.geometry.rotations import poses_of
from nldf_engine.systems.dfrf.choice import choose_frames


def video(frames: int = 200) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A head that sways to both sides, a mouth that opens, a blink."""
    time = torch.arange(frames) / 25
    numbers = torch.zeros(frames, 6, dtype=torch.double)
    numbers[:, 0] = 12 * torch.sin(0.8 * time)
    numbers[:, 5] = 0.8
    eyes = torch.full((frames,), 0.3)
    eyes[50:55] = 0.02
    return poses_of(numbers), 0.01 * torch.sin(3 * time).clamp_min(0), eyes


def test_they_are_spread() -> None:
    """The usual one first, then both sides; frames differ more than any evenly spaced ones."""
    poses, opening, eyes = video()
    chosen = choose_frames(poses, opening, eyes, 4)
    yaw = poses[:, 0, 2]
    assert float(yaw[chosen].max()) > 0.8 * float(yaw.max()) and float(yaw[chosen].min()) < 0.8 * float(
        yaw.min()
    )
    assert abs(float(yaw[chosen[0]])) < 0.03
    assert len(set(chosen.tolist())) == 4
    assert float(opening[chosen].max()) > 0.7 * float(opening.max()), "an open mouth is among them"


def test_the_same_video_gives_the_same() -> None:
    """More references begin with those of fewer."""
    poses, opening, eyes = video()
    assert (
        choose_frames(poses, opening, eyes, 5)[:3].tolist() == choose_frames(poses, opening, eyes, 3).tolist()
    )


def test_shut_eyes_are_left_out() -> None:
    """A blink is no reference, unless there is nothing else."""
    poses, opening, eyes = video()
    poses[52] = poses_of(torch.tensor([[60.0, 0, 0, 0, 0, 0.8]], dtype=torch.double))[0]
    assert not {50, 51, 52, 53, 54} & set(choose_frames(poses, opening, eyes, 8).tolist())
    assert len(choose_frames(poses[49:56], opening[49:56], eyes[49:56], 7)) == 7


def test_a_slip_of_the_tracking_counts_no_farther() -> None:
    """One frame that looks backwards does not make all others look alike."""
    poses, opening, eyes = video()
    poses[120] = poses_of(torch.tensor([[170.0, 0, 0, 0, 0, 0.8]], dtype=torch.double))[0]
    yaw = poses[:, 0, 2]
    chosen = [n for n in choose_frames(poses, opening, eyes, 4).tolist() if n != 120]
    assert float(yaw[chosen].max() - yaw[chosen].min()) > 0.2


@pytest.mark.parametrize("count", [0, 4])
def test_too_few_frames_are_refused(count: int) -> None:
    """With what was expected and what came."""
    poses, opening, eyes = (x[:3] for x in video())
    with pytest.raises(ValueError, match=f"count: expected 1 to 3 frames to choose, got {count}"):
        choose_frames(poses, opening, eyes, count)


def test_unknown_landmarks_are_no_obstacle() -> None:
    """Foreign folders may lack an opening or the eyes of some frames."""
    poses, opening, eyes = video()
    opening[3], eyes[4] = torch.nan, torch.nan
    assert len(choose_frames(poses, opening, eyes, 4)) == 4
