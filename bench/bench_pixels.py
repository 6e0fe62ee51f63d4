"""ops.draw_pixels and ops.look_at_pixels: a training step's pixels of nldf-fast, on the CPU."""

from __future__ import annotations

import torch

from nldf_engine import ops

FRAMES, RAYS, TOTAL, SIDE = 8, 1024, 20, 256


def test_draw_and_look(race):
    torch.manual_seed(0)
    labels = torch.zeros(TOTAL, SIDE, SIDE, dtype=torch.uint8)
    labels[:, 40:, 60:200] = 1
    speaker = (labels > 0).sum(-1, dtype=torch.int32).cumsum(1, dtype=torch.int32)
    boxes = torch.tensor([80, 90, 140, 120]).repeat(3, TOTAL, 1)
    pictures = torch.randint(0, 256, (TOTAL, SIDE, SIDE, 3)).to(torch.uint8)
    background, plate = torch.rand(SIDE, SIDE, 3), torch.rand(SIDE, SIDE, 4)
    motions, frames = torch.eye(2, 3).repeat(TOTAL, 1, 1), torch.randint(TOTAL, (FRAMES,))
    even, parts, here = torch.rand(FRAMES, RAYS, 2), (300, 60, 60, 400, 104, 100), torch.device("cpu")

    def run(backend: str) -> ops.Looked:
        pixels = ops.draw_pixels(
            even, frames, labels, speaker, speaker, boxes, parts, 0, (1,), backend=backend
        )
        given = background, frames, pixels, pictures, labels, plate, motions, 2, 0, (1,)
        return ops.look_at_pixels(*given, here, backend=backend)

    assert torch.equal(run("native").target, run("reference").target)
    race(
        {name: lambda b=name: run(b) for name in ("native", "reference")},
        device=here, units=FRAMES * RAYS, unit="pixels", moved=61.0,
    )  # fmt: skip
