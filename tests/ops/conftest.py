"""What the tests of operations share: the devices, and the rule by which results are compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from nldf_engine import ops
from nldf_engine.ops import native

Compare = Callable[[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]], None]


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Every device with a kernel."""
    if request.param == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device on this machine: the CUDA kernel isn't run")
        if not ops.backends()["cuda"]:
            pytest.skip("nldf_engine._C was built without CUDA: the CUDA kernel isn't run")
    return torch.device(request.param)


@pytest.fixture
def compare() -> Compare:
    """Asserts err(op, ref64) <= 2 * err(ref32, ref64) + eps, with eps of 1e-6 times the largest value."""

    def assert_close(got: Sequence[Tensor], ref32: Sequence[Tensor], ref64: Sequence[Tensor]) -> None:
        assert len(got) == len(ref32) == len(ref64)
        for i, (op, single, double) in enumerate(zip(got, ref32, ref64, strict=True)):
            assert op.shape == double.shape, f"output {i}: {op.shape} and {double.shape}"
            assert op.dtype == single.dtype
            if not double.numel():
                continue
            size = double.abs().max().clamp_min(1)
            error = (op.double().cpu() - double).abs().max() / size
            allowed = 2 * (single.double().cpu() - double).abs().max() / size + 1e-6
            assert error <= allowed, f"output {i}: error {error:.3e}, allowed {allowed:.3e}"

    return assert_close


def available() -> list[str]:
    """The instruction sets that this processor and this build have."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("portable", "avx2", "avx512"):
            patch.setenv("NLDF_CPU_ISA", name)
            try:
                native._C.cpu_isa()
            except ValueError:
                continue
            found.append(name)
    return found


@pytest.fixture(params=["portable", "avx2", "avx512"])
def isa(request, monkeypatch) -> str:
    """Every instruction set in turn."""
    if request.param not in available():
        pytest.skip(f"this processor or this build has no {request.param}")
    monkeypatch.setenv("NLDF_CPU_ISA", request.param)
    return request.param
