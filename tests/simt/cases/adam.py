"""Problems for the kernel of `adam`."""

from __future__ import annotations

import torch
from torch import Tensor

from nldf_engine.ops.reference import adam_reference
from simt.problem import Problem, case
from simt.runner import Source

ADAM = Source("csrc/ops/adam_cuda.cu", "ops/adam.h", ("adam",))
FEATURES = 3
NUMBERS = {"step": 0.02, "root": 0.3, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-15}


@case(ADAM)
def adam(size: int) -> Problem:
    return of_size(size, NUMBERS)


@case(ADAM, "adam")
def adam_of_rates(size: int) -> Problem:
    """The step and its root are read where the kernel runs; what the launch was given doesn't count."""
    problem = of_size(size, NUMBERS | {"step": 1e6, "root": 1e6})
    problem.inputs["rates"] = torch.tensor([NUMBERS["step"], NUMBERS["root"]])
    del problem.outputs["rates"]
    return problem


def of_size(size: int, given: dict[str, float]) -> Problem:
    entries = 5 * size  # more than the runner's three blocks have threads
    g = torch.Generator().manual_seed(size)
    gradient = torch.randn(entries, FEATURES, generator=g) * (torch.rand(entries, 1, generator=g) > 0.7)
    state = {
        "table": torch.randn(entries, FEATURES, generator=g),
        "first": torch.randn(entries, FEATURES, generator=g),
        "second": torch.rand(entries, FEATURES, generator=g),
    }

    def reference(dtype: torch.dtype) -> dict[str, Tensor]:
        table, first, second = (x.to(dtype, copy=True) for x in state.values())
        adam_reference(table, gradient.to(dtype), first, second, *NUMBERS.values())
        return {"table": table, "first": first, "second": second}

    numbers = {"entries": entries, "features": FEATURES, "new1": 0.1, "new2": 0.01, **given}
    return Problem({"v_table": gradient}, {"rates": None, **state}, numbers, reference)
