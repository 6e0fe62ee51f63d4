"""A problem for a kernel that runs on the emulator: what it is given, and what it should give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from simt.runner import Library, Source

Reference = Callable[[torch.dtype], dict[str, Tensor]]
SIZES = (0, 1, 64, 127, 128, 129, 255)


@dataclass(frozen=True)
class Problem:
    """What a kernel is given, and what it should give.

    Args:
        inputs: tensors by the names of its argument struct.
        outputs: shapes of what it writes, tensors it updates, or None for a null pointer.
        numbers: the other fields.
        reference: the outputs in plain PyTorch, computed in the dtype it is given.
        slack: added to the tolerance, relative to the largest value.
        dtype: of the outputs that are given as shapes.
    """

    inputs: dict[str, Tensor]
    outputs: dict[str, Any]
    numbers: dict[str, float]
    reference: Reference
    slack: float = 1e-6
    dtype: type = np.float32


@dataclass(frozen=True)
class Case:
    """A kernel: its source, its launcher's name, and problems by size."""

    source: Source
    kernel: str
    problem: Callable[[int], Problem]


CASES: dict[str, Case] = {}


def case(source: Source, kernel: str = "") -> Callable[[Callable[[int], Problem]], Callable[[int], Problem]]:
    """Adds a function (size -> Problem) to CASES; the function's name is the kernel's."""

    def add(problem: Callable[[int], Problem]) -> Callable[[int], Problem]:
        name = problem.__name__
        CASES[name] = Case(source, kernel or name, problem)
        return problem

    return add


def check(library: Library, kernel: str, problem: Problem, seed: int) -> None:
    """Runs the kernel and asserts err(kernel, ref64) <= 2 err(ref32, ref64) + slack for every output.

    Raises:
        Fault: the runner found one.
        AssertionError: a result is wrong.
    """
    inputs = {name: tensor.numpy() for name, tensor in problem.inputs.items()}
    outputs = {n: o.numpy() if isinstance(o, Tensor) else o for n, o in problem.outputs.items()}
    got = library.run(kernel, inputs, outputs, seed=seed, dtype=problem.dtype, **problem.numbers)
    assert_close({name: torch.from_numpy(array) for name, array in got.items()}, problem, f", seed {seed}")


def assert_close(got: dict[str, Tensor], problem: Problem, where: str = "") -> None:
    """Asserts err(kernel, ref64) <= 2 err(ref32, ref64) + slack for every output of the reference."""
    single, double = problem.reference(torch.float32), problem.reference(torch.float64)
    for name, want in double.items():
        result = got[name]
        assert result.shape == want.shape, f"{name}: {list(result.shape)} and {list(want.shape)}"
        if not want.numel():
            continue
        size = want.abs().max().clamp_min(1)
        error = (result.double() - want).abs().max() / size
        allowed = 2 * (single[name].double() - want).abs().max() / size + problem.slack
        assert error <= allowed, f"{name}: error {error:.3e}, allowed {allowed:.3e}{where}"


def gradients(outputs: list[Tensor], cotangents: list[Tensor], leaves: list[Tensor]) -> list[Tensor]:
    """Gradients of the leaves; zeros where there is nothing to differentiate."""
    if not outputs[0].numel():
        return [torch.zeros_like(leaf) for leaf in leaves]
    return list(torch.autograd.grad(outputs, leaves, [c.to(outputs[0]) for c in cotangents]))


def leaves(tensors: dict[str, Tensor], dtype: torch.dtype, *names: str) -> list[Tensor]:
    """Copies in this dtype that require gradients."""
    return [tensors[name].detach().to(dtype).clone().requires_grad_() for name in names]
