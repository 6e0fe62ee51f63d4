"""ops.gather_references against its reference, and against torch's grid_sample behind the same projection:
512 rays' 32 samples in order, through a head's box, in 4 maps of 128x128 that other cameras have seen."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nldf_engine import ops
from nldf_engine.ops.reference import references_reference

RAYS, SAMPLES, REFERENCES, SIDE = 512, 32, 4, 128
POINTS = RAYS * SAMPLES
CHANNELS = (32, 128)
# Of a lookup: the projection (18 and 2 divisions), the offset (2), four weights (8); a channel is four
# products and their sum. Back: a channel's four dots and four additions of a product, then the slopes (10)
# and the point's share (20). Whatever the maps' pixels cost that aren't in the cache is left out.
LOOKUP, CHANNEL, BACKWARD, BACKWARD_CHANNEL = 30, 7, 60, 16


def case(device: torch.device, channels: int) -> list[Tensor]:
    """Points, projections, maps and offsets; no place within 1e-4 pixels of where slopes jump."""
    g = torch.Generator().manual_seed(0)
    turn = 0.15 * torch.randn(REFERENCES + 1, 3, 3, generator=g)
    rotations = torch.linalg.matrix_exp(turn - turn.mT)  # head to camera
    middle = torch.tensor([0.0, 0.0, 0.7])
    camera = torch.tensor([[230.0, 0, SIDE / 2], [0, 230, SIDE / 2], [0, 0, 1]])
    projections = camera @ torch.cat([rotations, middle.expand(len(rotations), 3)[..., None]], 2)
    pixels = torch.cat([SIDE * torch.rand(RAYS, 2, generator=g), torch.ones(RAYS, 1)], 1)
    depths = torch.linspace(0.55, 0.85, SAMPLES)
    seen = (pixels @ camera.inverse().T)[:, None] * depths[:, None]
    points = ((seen - middle) @ rotations[-1]).reshape(POINTS, 3)
    projections, points = projections[:-1].contiguous(), points.contiguous()
    maps = torch.randn(REFERENCES, SIDE, SIDE, channels, generator=g)
    offsets = torch.randn(POINTS, REFERENCES, 2, generator=g)
    places = references_reference(*(x.double() for x in (points, projections, maps[..., :1], offsets)))[1]
    offsets += 1e-3 * ((places - 0.5 - (places - 0.5).round()).abs() < 1e-4)
    return [x.to(device) for x in (points, projections, maps, offsets)]


def sample(points: Tensor, projections: Tensor, planar: Tensor, offsets: Tensor) -> Tensor:
    """What torch's own lookup makes of maps [R, C, H, W]: features [R, C, P]."""
    seen = points @ projections[:, :, :3].mT + projections[:, None, :, 3]
    places = seen[..., :2] / seen[..., 2:] + offsets.transpose(0, 1)
    at = places[:, :, None] * (2 / SIDE) - 1
    return torch.nn.functional.grid_sample(planar, at, padding_mode="border", align_corners=False)[..., 0]


@pytest.mark.parametrize("channels", CHANNELS)
def test_forward(race, device, channels):
    points, projections, maps, offsets = inputs = case(device, channels)
    planar = maps.permute(0, 3, 1, 2).contiguous()

    def run(backend: str) -> Tensor:
        return ops.gather_references(*inputs, backend=backend)[0]

    torch.testing.assert_close(run("native"), run("reference"), rtol=0, atol=1e-3)
    torch.testing.assert_close(
        run("native"), sample(points, projections, planar, offsets).permute(2, 0, 1), rtol=0, atol=1e-3
    )
    contestants = {name: lambda b=name: run(b) for name in ("native", "reference")}
    contestants["grid_sample"] = lambda: sample(points, projections, planar, offsets)
    race(
        contestants, device=device, units=POINTS, unit="points",
        flops=REFERENCES * (LOOKUP + CHANNEL * channels), moved=4 * (3 + REFERENCES * (4 + channels)),
    )  # fmt: skip


@pytest.mark.parametrize("to_points", [True, False])
@pytest.mark.parametrize("channels", CHANNELS)
def test_forward_and_backward(race, device, channels, to_points):
    points, projections, maps, offsets = case(device, channels)
    planar = maps.permute(0, 3, 1, 2).contiguous().requires_grad_()
    leaves = [x.requires_grad_() for x in ([points] if to_points else []) + [offsets]]
    maps.requires_grad_()
    g = torch.Generator().manual_seed(1)
    cotangent = torch.randn(POINTS, REFERENCES, channels, generator=g).to(device)
    planar_cotangent = cotangent.permute(1, 2, 0).contiguous()

    def run(backend: str) -> tuple[Tensor, ...]:
        out = ops.gather_references(points, projections, maps, offsets, backend=backend)[0]
        return torch.autograd.grad(out, [maps, *leaves], cotangent)

    def run_sample() -> tuple[Tensor, ...]:
        return torch.autograd.grad(
            sample(points, projections, planar, offsets), [planar, *leaves], planar_cotangent
        )

    for got, want in zip(run("native"), run("reference"), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4 * float(want.abs().max()))
    v_maps = run("native")[0]
    torch.testing.assert_close(
        run_sample()[0].permute(0, 2, 3, 1), v_maps, rtol=1e-3, atol=1e-4 * float(v_maps.abs().max())
    )
    contestants = {name: lambda b=name: run(b) for name in ("native", "reference")}
    pixels = REFERENCES * SIDE * SIDE / POINTS
    race(
        contestants | {"grid_sample": run_sample}, device=device, units=POINTS, unit="points",
        flops=REFERENCES * (LOOKUP + BACKWARD + (CHANNEL + BACKWARD_CHANNEL) * channels),
        moved=4 * (3 * (1 + to_points) + REFERENCES * (8 + 2 * channels) + pixels * channels),
    )  # fmt: skip
