"""Problems for the kernels of `matte`."""

from __future__ import annotations

import torch
from torch import Tensor

from nldf_engine.ops.matte import _BACKWARD, _PIECE, _SEEN
from nldf_engine.ops.reference import matte_reference
from nldf_engine.ops.specs import MatteWeights
from simt.problem import Problem, case, gradients
from simt.runner import Source

MATTE = Source("csrc/ops/matte_cuda.cu", "ops/matte.h", ("matte", "matte_backward"))
PLANES, LABELS = 2, (0, 1, 3)
WEIGHTS = MatteWeights(2.0, 8.0, 0.3, 2.0, 0.03, 0.02)


def _matte_problem(size: int, backward: bool) -> Problem:
    rays = 7 * size  # more than the runner's three blocks have threads
    g = torch.Generator().manual_seed(size)
    shapes = ((PLANES, 3), (), (3,), (), (3,), (3,), (), (), (3,), ())
    drawn = [torch.rand(rays, *shape, generator=g) for shape in shapes]
    labels = torch.randint(0, 5, (rays,), generator=g).to(torch.uint8)
    v_error, v_total = torch.randn(rays, 3, generator=g), torch.rand(1, generator=g)

    def reference(dtype: torch.dtype) -> dict[str, Tensor]:
        given = [x.to(dtype, copy=True).requires_grad_() for x in drawn]
        error, total, pixel, opacity = matte_reference(*given, labels, LABELS, WEIGHTS)
        if not backward:
            figures = torch.stack([total.detach(), pixel, opacity])
            return {"error": error.detach(), "figures": figures}
        made = gradients([error, total[None]], [v_error, v_total], given[:4])
        return dict(zip(_BACKWARD, made, strict=True))

    inputs = dict(zip(_SEEN, [*drawn, labels], strict=True))
    numbers = {
        "rays": rays, "planes": PLANES, **dict(zip(("background", "head", "torso"), LABELS, strict=True)),
        **WEIGHTS._asdict(),
    }  # fmt: skip
    forward = {"error": (rays, 3), "figures": (3,), "partial": (-(-rays // _PIECE), 3)}
    back = {name: tuple(x.shape) for name, x in zip(_BACKWARD, drawn, strict=False)}
    if not backward:
        none = dict.fromkeys((*_BACKWARD, "v_error", "v_total"))
        return Problem(inputs, forward | none, numbers, reference)
    inputs |= {"v_error": v_error, "v_total": v_total}
    return Problem(inputs, back | dict.fromkeys(forward), numbers, reference)


@case(MATTE)
def matte(size: int) -> Problem:
    return _matte_problem(size, False)


@case(MATTE)
def matte_backward(size: int) -> Problem:
    return _matte_problem(size, True)
