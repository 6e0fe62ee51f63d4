"""ops.attend against torch's attention: pieces of 162 rows of Whisper base, and of eight rows among them."""

from __future__ import annotations

import pytest
import torch

from nldf_engine import ops

LENGTH, WIDTH, HEADS = 162, 512, 8


@pytest.mark.parametrize("seeing", (LENGTH, 8))
@pytest.mark.parametrize("pieces", (1, 8))
def test_forward(race, device, pieces, seeing):
    if device.type != "cpu":
        pytest.skip("ops.attend has no CUDA kernel: the CPU's is measured")
    g = torch.Generator().manual_seed(0)
    rows = torch.randn(pieces, LENGTH, 2 * WIDTH, generator=g)
    query = torch.randn(pieces, seeing, WIDTH, generator=g)

    def run(backend: str) -> torch.Tensor:
        return ops.attend(rows, HEADS, query, backend=backend)

    torch.testing.assert_close(run("native"), run("reference"), rtol=1e-4, atol=1e-5)
    race(
        {"native": lambda: run("native"), "torch": lambda: run("reference")},
        device=device, units=pieces * seeing, unit="rows", flops=4.0 * LENGTH * WIDTH,
        moved=4 * (2 * WIDTH + 2 * WIDTH * LENGTH / seeing),
    )  # fmt: skip
