"""ops.linear against its reference and torch's float32: the widest layer of Whisper base, 160 rows."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nldf_engine import ops

ROWS = (4, 160)


@pytest.mark.parametrize(("inputs", "outputs"), [(512, 2048), (2048, 512)])
@pytest.mark.parametrize("rows", ROWS)
def test_forward(race, device, rows, inputs, outputs):
    if device.type != "cpu":
        pytest.skip("ops.linear has no CUDA kernel: the CPU's is measured")
    g = torch.Generator().manual_seed(0)
    weight = torch.randint(-127, 128, (outputs, inputs), generator=g, dtype=torch.int8)
    scale, bias = torch.full((outputs,), 1e-3), torch.randn(outputs, generator=g)
    packed, single = ops.pack_linear(weight, scale, bias), weight.float() * 1e-3
    x = torch.randn(rows, inputs, generator=g)

    def run(backend: str) -> torch.Tensor:
        if backend == "torch":
            return F.gelu(F.linear(x, single, bias))
        return ops.linear(x, packed, gelu=True, backend=backend)

    torch.testing.assert_close(run("native"), run("reference"), rtol=1e-3, atol=0.2)
    race(
        {name: lambda b=name: run(b) for name in ("native", "reference", "torch")},
        device=device, units=rows, unit="rows", flops=2.0 * inputs * outputs,
        moved=4 * (inputs + outputs) + inputs * outputs / rows,
    )  # fmt: skip
