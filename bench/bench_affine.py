"""ops.affine against its reference: Whisper base's second convolution, a pair of rows and ten seconds."""

from __future__ import annotations

import pytest
import torch

from nldf_engine import ops

INPUTS, OUTPUTS, STEP = 3 * 512, 512, 2 * 512


@pytest.mark.parametrize("rows", (2, 500))
def test_forward(race, device, rows):
    if device.type != "cpu":
        pytest.skip("ops.affine has no CUDA kernel: the CPU's is measured")
    g = torch.Generator().manual_seed(0)
    weight = torch.randn(OUTPUTS, INPUTS, generator=g) / INPUTS**0.5
    packed = ops.pack_affine(weight, torch.randn(OUTPUTS, generator=g))
    x = torch.randn(2 * rows + 1, 512, generator=g)

    def run(backend: str) -> torch.Tensor:
        return ops.affine(x, packed, step=STEP, gelu=True, backend=backend)

    torch.testing.assert_close(run("native"), run("reference"), rtol=1e-4, atol=1e-5)
    race(
        {name: lambda b=name: run(b) for name in ("native", "reference")},
        device=device, units=rows, unit="rows", flops=2.0 * INPUTS * OUTPUTS,
        moved=4 * (STEP + OUTPUTS + INPUTS * OUTPUTS / rows),
    )  # fmt: skip
