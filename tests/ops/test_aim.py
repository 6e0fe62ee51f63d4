"""ops.aim_rays and ops.rays_to_lines: rays as a training step sees them, and as lines in a box."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nldf_engine import ops
from nldf_engine.ops.reference import aim_lines_reference, aim_reference

BOX = torch.tensor([-0.2, -0.25, 0.22, 0.2])


def problem(frames: int = 3, rays: int = 200, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Cameras before the face, rays about it, some of them past the map, moves, turns, a map, its size."""
    g = torch.Generator().manual_seed(0)
    origins = torch.tensor([0.02, -0.03, -0.8]) + 0.02 * torch.randn(frames, 1, 3, generator=g)
    towards = 0.3 * torch.randn(frames, rays, 3, generator=g)
    towards[..., 2] = 1
    turns = 0.02 * torch.randn(frames, 6, generator=g)
    drawn = [
        origins.expand(frames, rays, 3).contiguous(), torch.nn.functional.normalize(towards, dim=-1),
        0.01 * torch.randn(frames, 3, generator=g), turns,
    ]  # fmt: skip
    cells = (torch.rand(16, 16, generator=g) > 0.3).to(torch.uint8)
    return [*(x.to(dtype) for x in drawn), cells, torch.tensor(0.3, dtype=dtype)]


def run(op, given: list[Tensor]) -> list[Tensor]:
    """Origins, directions, inside, and the gradient of the turns."""
    turns = given[3].clone().requires_grad_()
    moved, turned, inside = op(*given[:3], turns, *given[4:], -0.04)
    weights = torch.randn(turned.shape, generator=torch.Generator().manual_seed(1)).to(turned)
    return [moved, turned.detach(), inside, *torch.autograd.grad((turned * weights).sum(), turns)]


@pytest.mark.parametrize("rays", [1, 7, 1500])
def test_agrees_with_its_reference(rays):
    """Rays, cells and the turns' gradient are the reference's, in both precisions."""
    for dtype, tolerance in ((torch.float32, 2e-5), (torch.float64, 1e-11)):
        given = problem(rays=rays, dtype=dtype)
        got, want = run(ops.aim_rays, given), run(aim_reference, given)
        for ours, expected in zip(got, want, strict=True):
            size = float(expected.double().abs().max().clamp_min(1))
            torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance * size)
        assert rays < 100 or 0 < int(got[2].sum()) < got[2].numel()


def test_still_rays_stay():
    """Without moves and turns rays are what they were, and the map is asked where they cross the plane."""
    given = problem()
    given[2].zero_()
    given[3].zero_()
    moved, turned, inside = ops.aim_rays(*given, -0.04)
    assert torch.equal(moved, given[0])
    torch.testing.assert_close(turned, given[1], atol=1e-6, rtol=0)
    given[4].fill_(1)
    place = given[0] - given[0][..., 2:] / given[1][..., 2:] * given[1]
    assert torch.equal(ops.aim_rays(*given, -0.04)[2], (place[..., :2].abs() < 0.3).all(-1))
    assert not bool((inside & ~ops.aim_rays(*given, -0.04)[2]).any())


def test_lines_and_their_gradients():
    """Rays as lines, and the gradients to both origins and directions, are the reference's."""
    origins, directions, *_ = problem(dtype=torch.float64)
    box = BOX.double()
    given = [x.clone().requires_grad_() for x in (origins, directions)]
    weights = torch.randn(3, 200, 4, dtype=torch.float64)
    results = []
    for op in (ops.rays_to_lines, aim_lines_reference):
        made = op(*given, box)
        results.append([made.detach(), *torch.autograd.grad((made * weights).sum(), given)])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-11)
    plain = ops.rays_to_lines(origins, directions.requires_grad_(), box)
    (alone,) = torch.autograd.grad((plain * weights).sum(), directions)
    torch.testing.assert_close(alone, results[0][2])


def test_rays_of_no_numbers_do_no_harm():
    """A ray along the plane has no place on it; without a gradient of its own it leaves the turns theirs."""
    given = problem(1, 5)
    given[1][0, 2] = torch.tensor([1.0, 0.0, 0.0])
    turns = given[3].clone().requires_grad_()
    moved, turned, inside = ops.aim_rays(*given[:3], turns, *given[4:], -0.04)
    assert not bool(inside[0, 2])
    lines = ops.rays_to_lines(moved, turned, BOX)
    lines[:, [0, 1, 3, 4]].sum().backward()
    assert bool(turns.grad.isfinite().all()) and float(turns.grad.abs().max()) > 0


def test_opcheck():
    """Schema, fake tensors and dispatch of all operations hold."""
    given = problem(2, 5)
    check, nldf = torch.library.opcheck, torch.ops.nldf
    check(nldf.aim.default, (*given, -0.04))
    check(nldf.aim_backward.default, (*given, torch.rand(2, 5, 3), -0.04))
    check(nldf.aim_lines.default, (*given[:2], BOX))
    for to_origins in (True, False):
        check(nldf.aim_lines_backward.default, (*given[:2], BOX, torch.rand(2, 5, 4), to_origins))


def test_bad_input_is_named():
    """A wrong argument raises an error that names it."""
    given = problem(2, 5)
    with pytest.raises(ValueError, match=r"aim_rays: turns must have the shape \[F=2, 6\]"):
        ops.aim_rays(*given[:3], torch.zeros(2, 5), *given[4:], -0.04)
    with pytest.raises(ValueError, match="aim_rays: occupancy must be a square of uint8"):
        ops.aim_rays(*given[:4], torch.zeros(4, 4), given[5], -0.04)
    with pytest.raises(ValueError, match=r"rays_to_lines: box must have the shape \[4\]"):
        ops.rays_to_lines(*given[:2], torch.zeros(3))
