"""ops.attend_slots against its reference, and against the layers of DFRF's fusion one by one: 4096 points in
the references of `dfrf-small`, and of its tables."""

from __future__ import annotations

import pytest
import torch

from nldf_engine import ops
from nldf_engine.systems.dfrf.fusion import FusionSizes, SlotFusion

POINTS = 4096
# References, features and width, hidden, encoded point.
CASES = {"dfrf-small": (3, 32, 16, 39), "tables": (4, 16, 12, 33)}


@pytest.mark.parametrize("case", CASES)
def test_forward(race, device, case):
    if device.type != "cpu":
        pytest.skip("ops.attend_slots has no CUDA kernel: the CPU's is measured")
    torch.manual_seed(0)
    references, width, hidden, points = CASES[case]
    fusion = SlotFusion(points, width, FusionSizes(2, width, 2, hidden)).requires_grad_(False)
    shares, places = torch.randn(POINTS, references, hidden + width), torch.rand(POINTS, references, 2)
    encoded, packed = torch.randn(POINTS, points), ops.pack_slots(fusion.folded())

    def run(backend: str) -> torch.Tensor:
        if backend == "layers":
            return torch.cat([fusion(shares, places, encoded), encoded], 1)
        return ops.attend_slots(shares, places, encoded, packed, backend=backend)

    for other in ("reference", "layers"):
        torch.testing.assert_close(run("native"), run(other), rtol=0, atol=1e-5)
    of_point, of_reference = fusion.macs
    race(
        {name: lambda b=name: run(b) for name in ("native", "reference", "layers")},
        device=device, units=POINTS, unit="points", flops=2.0 * (of_point + references * of_reference),
        moved=4 * (references * (hidden + width + 2) + 2 * (points + width)),
    )  # fmt: skip
