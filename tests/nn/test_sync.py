"""The judge of lips and sound: what cancels out of its input, its loss, and where the gradient goes."""

from __future__ import annotations

import math

import pytest
import torch

from nldf_engine.geometry.face_mesh import LEFT_EYE_OUTER, LIPS, LOWER_INNER, RIGHT_EYE_OUTER, RIGID
from nldf_engine.geometry.face_template import rest_landmarks
from nldf_engine.nn.sync import (
    SyncJudge,
    cosine,
    cut,
    draw_negatives,
    info_nce,
    last_rows,
    lip_movement,
)


def talking(frames: int = 40, seed: int = 0) -> torch.Tensor:
    """[F, 478, 2] float64 pixels of a face at rest whose lower lip goes up and down."""
    generator = torch.Generator().manual_seed(seed)
    points = 1000 * torch.from_numpy(rest_landmarks())[:, :2].repeat(frames, 1, 1) + 200
    gap = torch.rand(frames, 1, generator=generator, dtype=torch.float64) * 10
    points[:, [LOWER_INNER, 17], 1] += gap
    return points


def moved(points: torch.Tensor) -> torch.Tensor:
    """The same face turned in the plane, half as large, elsewhere, each frame differently."""
    angle = torch.linspace(-0.5, 0.7, len(points)).to(points)
    turn = torch.stack(
        [torch.stack([angle.cos(), angle.sin()], 1), torch.stack([-angle.sin(), angle.cos()], 1)], 1
    )
    return 0.5 * points @ turn + 10 * angle[:, None, None] + 30


def test_movement_ignores_where_the_head_is_and_how_large() -> None:
    """Turned, shrunk and shifted frame by frame: the same lips, in eye distances of the face at rest."""
    points = talking()
    found = lip_movement(points)
    torch.testing.assert_close(lip_movement(moved(points)), found)
    eyes = (points[0, RIGHT_EYE_OUTER] - points[0, LEFT_EYE_OUTER]).norm()
    place = LIPS.index(LOWER_INNER)
    opened = found[1:, place] - found[:-1, place]
    torch.testing.assert_close(opened, (points[1:, LOWER_INNER] - points[:-1, LOWER_INNER]) / eyes)


def test_movement_without_a_face_is_nan_and_other_shapes_are_refused() -> None:
    """A frame of NaN stays one; 68 landmarks are not enough."""
    points = talking(3)
    points[1] = math.nan
    assert lip_movement(points).isnan().flatten(1).all(1).tolist() == [False, True, False]
    with pytest.raises(ValueError, match=r"expected \[..., 478, 2\], got \[3, 68, 2\]"):
        lip_movement(torch.zeros(3, 68, 2))


def test_the_gradient_reaches_the_lips_and_the_rigid_points() -> None:
    """InfoNCE of a frozen judge moves the landmarks: lips and what aligns them, and nothing else."""
    torch.manual_seed(0)
    judge = SyncJudge(6, 5, width=8).eval().requires_grad_(False)
    points = talking(24).float().requires_grad_(True)
    lips = judge.lips(cut(lip_movement(points), 6))
    audio = judge.audio(torch.randn(len(lips), 6, 2, 5))
    loss = info_nce(lips, audio, audio[draw_negatives(torch.arange(len(lips)), 4, 6)])
    loss.backward()
    assert points.grad is not None and points.grad.isfinite().all()
    touched = points.grad.abs().sum((0, 2)).nonzero()[:, 0].tolist()
    assert touched == sorted({*LIPS, *RIGID})
    assert all(weight.grad is None for weight in judge.parameters())


def test_lips_ignore_a_constant_offset() -> None:
    """The mean over a window is taken out: another mouth's place or width at rest changes nothing."""
    judge = SyncJudge(7, 3).eval()
    movement = 0.05 * torch.randn(4, 7, 40, 2)
    torch.testing.assert_close(
        judge.lips(movement + torch.randn(4, 1, 40, 2)), judge.lips(movement), atol=1e-4, rtol=1e-4
    )


def test_info_nce_is_the_papers_formula() -> None:
    """Written out for every anchor; log(K + 1) where all are equal; less for the true audio."""
    lips, audio, others = torch.randn(5, 8), torch.randn(5, 8), torch.randn(5, 10, 8)

    def near(a: torch.Tensor, b: torch.Tensor) -> float:
        return math.exp(float(a @ b / (a.norm() * b.norm())) / 0.5)

    expected = 0.0
    for a, b, rest in zip(lips, audio, others, strict=True):
        true = near(a, b)
        expected -= math.log(true / (true + sum(near(a, c) for c in rest))) / 5
    assert float(info_nce(lips, audio, others)) == pytest.approx(expected, rel=1e-5)
    same = torch.ones(5, 8)
    assert float(info_nce(same, same, same[:, None].repeat(1, 10, 1))) == pytest.approx(math.log(11))
    assert float(info_nce(lips, lips, -lips[:, None], 0.01)) == pytest.approx(0, abs=1e-6)


def test_negatives_are_far_away_and_differ_where_they_can() -> None:
    """At least ten frames from their anchor, none twice; a short clip repeats them, a shorter has none."""
    starts = torch.arange(40)
    drawn = draw_negatives(starts)
    assert drawn.shape == (40, 10)
    assert ((starts[drawn] - starts[:, None]).abs() >= 10).all()
    assert all(len(set(row)) == 10 for row in drawn.tolist())
    assert draw_negatives(torch.tensor([0, 20])).unique(dim=1).tolist() == [[1], [0]]
    with pytest.raises(ValueError, match="expected windows 10 frames apart"):
        draw_negatives(torch.arange(9))


def test_windows_of_a_clip() -> None:
    """Each of consecutive frames, none of a shorter clip; the last rows of a frame's features."""
    values = torch.arange(12).view(6, 2)
    assert cut(values, 4).shape == (3, 4, 2) and torch.equal(cut(values, 4)[2], values[2:])
    assert cut(values, 7).shape == (0, 7, 2)
    assert torch.equal(last_rows(values.view(1, 6, 2))[0], values[4:])
    assert cosine(torch.eye(3), 2 * torch.eye(3)).tolist() == torch.eye(3).tolist()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SyncJudge(0), "frames=0"),
        (lambda: SyncJudge(4, 3).lips(torch.zeros(2, 5, 40, 2)), r"expected \[N, 4, 40, 2\], got \[2, 5"),
        (lambda: SyncJudge(4, 3).audio(torch.zeros(2, 4, 3)), r"expected \[N, 4, 2, 3\], got \[2, 4, 3\]"),
        (lambda: info_nce(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 3)), "negatives"),
        (lambda: info_nce(torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0, 1, 3)), "at least 1"),
        (lambda: info_nce(torch.ones(1, 3), torch.ones(1, 3), torch.ones(1, 1, 3), 0.0), "temperature"),
        (lambda: cut(torch.zeros(3), 0), "length"),
        (lambda: last_rows(torch.zeros(3, 1, 5)), "at least 2"),
    ],
)
def test_what_does_not_fit_is_refused(call, message: str) -> None:  # type: ignore[no-untyped-def]
    """Sizes, shapes and numbers out of range are named."""
    with pytest.raises(ValueError, match=message):
        call()
