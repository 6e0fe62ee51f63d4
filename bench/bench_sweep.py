"""What a frame of the light field costs: against its size, depth, width, segments, and the rays that meet it.

Whole pipelines with random weights: rays, compaction, beams, network, composite. One race a parameter, so
that the ratios within it hold on a busy machine; few rounds.
"""

from __future__ import annotations

import pytest
import torch

from bench.timing import kernel_of, use_precision
from nldf_engine import ops
from nldf_engine.geometry.cameras import Camera
from nldf_engine.rendering.fields import Bounds
from nldf_engine.rendering.layer import frame_rays
from nldf_engine.rendering.query import chunk_rays
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.nldf.model import LightField, LightFieldConfig

# What the others are while one parameter varies: small enough for a CPU.
FRAME = {"side": 128, "width": 128, "depth": 18, "segments": 4, "share": 1.0}
CASES = {
    "side": (128, 256, 512),
    "depth": (8, 18, 44, 88),
    "width": (64, 128, 256),
    "segments": (1, 2, 4, 8),
    "share": (1.0, 0.5, 0.25),
}
ROUNDS = 6


class Frame:
    """One frame of a light field: `share` of its pixels reach the network."""

    def __init__(
        self, device: torch.device, side: int, width: int, depth: int, segments: int, share: float
    ) -> None:
        torch.manual_seed(0)
        config = LightFieldConfig(
            Bounds(0.6, 1.0), ConditionConfig(eyes=False), width=width, depth=depth, segments=segments
        )
        self.field = LightField(config).to(device).eval()
        self.camera = Camera(side, side, 2.1 * side, 2.1 * side, side / 2, side / 2)
        self.pixels = self.camera.pixels(device)[None]
        self.pose = torch.eye(4, device=device)[None]
        self.pose[0, 2, 3] = -0.8
        # A block of rows, as a head is a block of rays.
        self.mask = torch.arange(side * side, device=device) < round(share * side * side)
        self.code = torch.randn(1, 64).to(device)
        self.chunk = chunk_rays(self.field, device)

    def render(self, backend: str = "native") -> torch.Tensor:
        """[side * side, 3], and 0 where no ray reached the network."""
        self.field.backend = backend
        rays = frame_rays(self.camera, self.pose, self.pixels, backend)
        order, count = ops.compact_rays(self.mask, backend=backend)
        chosen = order[: int(count)]
        kept = rays.select(chosen)
        seen = [self.field(part, self.code) for part in kept.chunks(self.chunk)]
        colors = torch.cat([part.color[0] for part in seen])
        opacity = torch.cat([part.opacity[0] for part in seen])
        return ops.composite_rays(colors, opacity, order, None, backend=backend)[0]

    @property
    def flops(self) -> float:
        """Of the network, a pixel of the frame."""
        return 2.0 * self.field.macs * float(self.mask.double().mean())


@pytest.mark.parametrize(
    "parameter",
    [
        name if name in ("depth", "share") else pytest.param(name, marks=pytest.mark.thorough)
        for name in CASES
    ],
)
def test_cost(race, pace, device, precision, parameter):
    values = [v for v in CASES[parameter] if v != 512 or pace.mode == "full"]
    if pace.mode == "quick":
        values = values[:3]
    with torch.inference_mode():
        frames = {f"{parameter} {v:g}": Frame(device, **FRAME | {parameter: v}) for v in values}
        allowed = max(use_precision(frame.field, precision) for frame in frames.values())
        smallest = next(iter(frames.values()))
        got = smallest.render()
        torch.testing.assert_close(got, smallest.render("reference"), rtol=allowed, atol=allowed)
        assert float(got.std()) > 0, "the pixels don't vary: nothing is being computed"
        race(
            {name: frame.render for name, frame in frames.items()},
            device=device, unit="frames", units=1, rounds=ROUNDS, case=parameter,
            flops={name: frame.flops * len(frame.mask) for name, frame in frames.items()},
            kernels={name: kernel_of(frame.field, device) for name, frame in frames.items()},
        )  # fmt: skip
