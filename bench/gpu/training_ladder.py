"""The ladder of the kernels that nldf-fast trains with: lines through planes, aimed rays, mattes, Adam.

Forward and backward, from one ray to a second group for every block, against float64 on the CPU: the problems
of the runner that executes the .cu sources there (tests/simt).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.gpu import rows
from nldf_engine.ops import native

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))

from simt import lines_problem
from simt.cases import ADAM, AIM, MATTE
from simt.planes_problem import Shape
from simt.problem import CASES, Problem, assert_close

CASE_SOURCES = ADAM, AIM, MATTE
KERNELS = ("lines", *(name for name, case in CASES.items() if case.source in CASE_SOURCES))
LINES = Shape(width=32, hidden=2, warp_hidden=2)
# Lines of a group, and blocks of a multiprocessor, of the kernel that takes most for itself.
GROUP, BLOCKS = 32, 4


def sizes(multiprocessors: int) -> tuple[int, ...]:
    """Numbers of rays: about one group, about four, and one more than a group for every block."""
    return (1, GROUP - 1, GROUP + 1, 127, 129, BLOCKS * multiprocessors * GROUP + 1)


def rungs(multiprocessors: int) -> Iterator[tuple[str, int]]:
    """Kernels and numbers of rays, the smallest problems of all first."""
    for rays in sizes(multiprocessors):
        for kernel in KERNELS:
            yield kernel, rays


def launched(kernel: str, problem: Problem, device: torch.device) -> dict[str, Tensor]:
    """What one launch gives, on the CPU; what it does not write is NaN."""
    outputs: dict[str, Tensor | None] = {
        name: what.to(device, copy=True) if isinstance(what, Tensor)
        else what and torch.full(what, float("nan"), device=device)
        for name, what in problem.outputs.items()
    }  # fmt: skip
    inputs = {name: tensor.to(device) for name, tensor in problem.inputs.items()}
    every: dict[str, Any] = inputs | outputs
    dtypes = {name: tensor.dtype for name, tensor in every.items() if tensor is not None}
    native.launch(kernel, inputs, outputs, dtypes, **problem.numbers)
    return {name: tensor.cpu() for name, tensor in outputs.items() if tensor is not None}


def climb(kernel: str, rays: int, device: torch.device) -> rows.Row:
    """The row of one rung; "problem" is empty where it agrees."""
    row = {"part": "training ladder", "kernel": kernel, "rays": rays, "problem": ""}
    try:
        if kernel == "lines":
            given = lines_problem.trained(LINES, 2, rays)
            lines_problem.assert_agrees(lines_problem.on_device(given, device), given)
        else:
            problem = CASES[kernel].problem(rays)
            assert_close(launched(CASES[kernel].kernel, problem, device), problem)
    except AssertionError as error:
        row["problem"] = str(error)
    return row


def main(file: str, climbed: Callable[..., rows.Row] = climb) -> None:
    """Climbs on the device, appending rows to `file`; fails where a rung did, with that kernel left out above
    it."""
    device = torch.device("cuda", torch.cuda.current_device())
    red: set[str] = set()
    for kernel, rays in rungs(torch.cuda.get_device_properties(0).multi_processor_count):
        if kernel in red:
            continue
        row = climbed(kernel, rays, device)
        rows.add(file, row)
        if row["problem"]:
            red.add(kernel)
    if red:
        raise SystemExit(f"training ladder: {', '.join(sorted(red))} failed")
