"""Problems for the kernels of `aim`."""

from __future__ import annotations

import torch
from torch import Tensor

from nldf_engine.ops.reference import aim_lines_reference, aim_reference
from simt.problem import Problem, case, gradients
from simt.runner import Source

AIM = Source("csrc/ops/aim_cuda.cu", "ops/aim.h", ("aim", "aim_backward", "aim_lines", "aim_lines_backward"))
FRAMES, CELLS, DEPTH = 4, 12, -0.04


def _rays(size: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(size)
    origins = torch.tensor([0.02, -0.03, -0.8]) + 0.02 * torch.randn(FRAMES, 1, 3, generator=g)
    towards = 0.2 * torch.randn(FRAMES, size, 3, generator=g)
    towards[..., 2] = 1
    return origins.expand(FRAMES, size, 3).contiguous(), torch.nn.functional.normalize(towards, dim=-1)


def _aim_problem(size: int, backward: bool) -> Problem:
    g = torch.Generator().manual_seed(size + 1)
    drawn = [
        *_rays(size),
        0.01 * torch.randn(FRAMES, 3, generator=g),
        0.02 * torch.randn(FRAMES, 6, generator=g),
    ]
    occupancy = (torch.rand(CELLS, CELLS, generator=g) > 0.3).to(torch.uint8)
    half_size, v_turned = torch.tensor([0.4]), torch.randn(FRAMES, size, 3, generator=g)

    def reference(dtype: torch.dtype) -> dict[str, Tensor]:
        given = [x.to(dtype, copy=True).requires_grad_() for x in drawn]
        moved, turned, _ = aim_reference(*given, occupancy, half_size.to(dtype), DEPTH)
        if backward:
            return {"v_turns": gradients([turned], [v_turned], given[3:])[0]}
        return {"moved": moved.detach(), "turned": turned.detach()}

    names = ("origins", "directions", "moves", "turns", "occupancy", "half_size")
    inputs = dict(zip(names, [*drawn, occupancy, half_size], strict=True))
    numbers = {"depth": DEPTH, "frames": FRAMES, "rays": size, "cells": CELLS}
    if backward:
        outputs = {"v_turns": (FRAMES, 6), **dict.fromkeys(("moved", "turned", "inside"))}
        return Problem(inputs | {"v_turned": v_turned}, outputs, numbers, reference)
    shape = (FRAMES, size, 3)
    outputs = {
        "moved": shape, "turned": shape, "inside": torch.zeros(FRAMES, size, dtype=torch.uint8),
        "v_turned": None, "v_turns": None,
    }  # fmt: skip
    return Problem(inputs, outputs, numbers, reference)


def _lines_problem(size: int, backward: bool) -> Problem:
    rays = [x.flatten(0, 1) for x in _rays(size)]
    box = torch.tensor([-0.2, -0.25, 0.22, 0.2])
    v_lines = torch.randn(FRAMES * size, 4, generator=torch.Generator().manual_seed(1))

    def reference(dtype: torch.dtype) -> dict[str, Tensor]:
        given = [x.to(dtype, copy=True).requires_grad_() for x in rays]
        lines = aim_lines_reference(*given, box.to(dtype))
        if not backward:
            return {"lines": lines.detach()}
        return dict(zip(("v_origins", "v_directions"), gradients([lines], [v_lines], given), strict=True))

    inputs = {"origins": rays[0], "directions": rays[1], "box": box}
    numbers, shape = {"rays": FRAMES * size}, (FRAMES * size, 3)
    if not backward:
        outputs = {"lines": tuple(v_lines.shape), **dict.fromkeys(("v_lines", "v_origins", "v_directions"))}
        return Problem(inputs, outputs, numbers, reference)
    outputs = {"v_origins": shape, "v_directions": shape, "lines": None}
    return Problem(inputs | {"v_lines": v_lines}, outputs, numbers, reference)


@case(AIM)
def aim(size: int) -> Problem:
    return _aim_problem(size, False)


@case(AIM)
def aim_backward(size: int) -> Problem:
    return _aim_problem(size, True)


@case(AIM)
def aim_lines(size: int) -> Problem:
    return _lines_problem(size, False)


@case(AIM)
def aim_lines_backward(size: int) -> Problem:
    return _lines_problem(size, True)
