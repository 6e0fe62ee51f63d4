"""ops.compare_matte: a head over a torso over a background, compared with a picture."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nldf_engine import ops
from nldf_engine.ops.reference import matte_reference

WEIGHTS = ops.MatteWeights(outside=2.0, inside=8.0, parts=0.3, hidden=2.0, sharp=0.03, weight=0.02)
LABELS = 0, 1, 3


def problem(rays: int = 700, planes: int = 2, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """What is seen of two frames, and what it is compared with."""
    g = torch.Generator().manual_seed(rays)
    shapes = ((planes, 3), (), (3,), (), (3,), (3,), (), (), (3,), ())
    given = [torch.rand(2, rays, *shape, generator=g).to(dtype) for shape in shapes]
    for place in (6, 7):  # mask and interior are one or zero
        given[place] = given[place].round()
    return [*given, torch.randint(0, 5, (2, rays), generator=g).to(torch.uint8)]


def call(given: list[Tensor], weights: ops.MatteWeights = WEIGHTS) -> ops.Compared:
    segments, opacity, color, alpha, behind, target, mask, interior, plate, dense, labels = given
    return ops.compare_matte(
        (segments, opacity), (color, alpha), behind, target, mask, interior, (plate, dense), labels, LABELS,
        weights,
    )  # fmt: skip


def run(op, given: list[Tensor]) -> list[Tensor]:
    """All that comes of it, and the gradients of head and torso of the total and of the error."""
    own = [x.clone().requires_grad_() for x in given[:4]]
    error, total, pixel, opacity = op([*own, *given[4:]])
    weights = torch.randn(error.shape, generator=torch.Generator().manual_seed(1)).to(error)
    both = torch.autograd.grad(total, own, retain_graph=True) + torch.autograd.grad(
        (error * weights).sum(), own
    )
    return [*(x.detach() for x in (error, total, pixel, opacity)), *both]


@pytest.mark.parametrize(("rays", "planes"), [(1, 1), (255, 2), (700, 3)])
def test_agrees_with_its_reference(rays, planes):
    """Errors, loss and gradients are the reference's, in both precisions."""
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        given = problem(rays, planes, dtype)
        got = run(call, given)
        want = run(lambda x: matte_reference(*x, LABELS, WEIGHTS), given)
        for ours, expected in zip(got, want, strict=True):
            torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)


def test_threads_change_nothing():
    """Sums are of pieces that do not depend on the number of threads."""
    given, former, results = problem(3000), torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(run(call, given))
    finally:
        torch.set_num_threads(former)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_a_perfect_picture_costs_the_edges_least():
    """Where all is as it should be, only the root of the smallest error is left."""
    rays = 40
    labels = torch.arange(2 * rays).view(2, rays).remainder(2).mul(3).to(torch.uint8)  # background and torso
    torso = (labels == 3).float()
    color, behind = torch.rand(2, rays, 3) * torso[..., None], torch.rand(2, rays, 3)
    zero = torch.zeros(2, rays)
    target = color + (1 - torso)[..., None] * behind
    given = [torch.zeros(2, rays, 1, 3), zero, color, torso, behind, target, zero, zero, color, torso, labels]
    compared = call(given)
    assert float(compared.pixel) < 1e-12 and float(compared.opacity) < 1e-12
    assert float(compared.total) == pytest.approx(3 * WEIGHTS.sharp * 1e-3, rel=1e-3)


def test_opcheck():
    """Schema, fake tensors and dispatch of both operations hold."""
    given = problem(5)
    numbers = list(LABELS), list(WEIGHTS)
    torch.library.opcheck(torch.ops.nldf.matte.default, (*given, *numbers))
    for v_error, v_total in ((None, torch.rand(())), (torch.rand(2, 5, 3), None)):
        torch.library.opcheck(torch.ops.nldf.matte_backward.default, (*given, v_error, v_total, *numbers))


def test_bad_input_is_named():
    """A wrong argument raises an error that names it."""
    given = problem(5)
    with pytest.raises(ValueError, match=r"compare_matte: target must have the shape \[F=2, P=5, 3\]"):
        call([*given[:5], torch.rand(2, 4, 3), *given[6:]])
    with pytest.raises(ValueError, match="compare_matte: labels must be uint8"):
        call([*given[:10], given[10].float()])
