"""ops.attend_slots against its reference, and against the layers of DFRF's fusion one by one: 4096 points in
the references of `dfrf-small`, and of its tables. And rays of `dfrf-small` as it draws them, in which coarse
samples are looked up once, against what it trains."""

from __future__ import annotations

import pytest
import torch

from nldf_engine import ops
from nldf_engine.rendering.fields import Bounds, Rays
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.dfrf.fusion import FusionSizes, SlotFusion
from nldf_engine.systems.dfrf.model import ReferenceField
from nldf_engine.systems.dfrf.references import References
from nldf_engine.training.presets import find_preset

POINTS, RAYS, SIDE = 4096, 170, 128
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


def test_rays(race, device):
    if device.type != "cpu":
        pytest.skip("ops.attend_slots has no CUDA kernel: the CPU's is measured")
    torch.manual_seed(0)
    config = find_preset("dfrf-small").config(Bounds(0.6, 1.0), ConditionConfig(motion=8))
    field = ReferenceField(config).eval().requires_grad_(False)
    poses, view = torch.eye(4).repeat(3, 1, 1), torch.tensor([1.9, 1.9, 0.5, 0.5])
    poses[:, 0, 3], poses[:, 2, 3] = torch.tensor([-0.1, 0.0, 0.1]), -0.8
    pictures = torch.randint(0, 256, (3, SIDE, SIDE, 3), dtype=torch.uint8)
    maps = field.maps(References(pictures, poses, view.repeat(3, 1)))
    ahead = torch.tensor([0.0, 0.0, 1.0]) + 0.1 * torch.randn(1, RAYS, 3)
    rays = Rays(poses[1, :3, 3].repeat(1, RAYS, 1), torch.nn.functional.normalize(ahead, dim=-1))
    code = torch.randn(1, field.config.conditions.code_dim)

    def run(learns: bool) -> torch.Tensor:
        with torch.set_grad_enabled(learns):
            return field.passes(rays, code, context=maps)[0].color

    torch.testing.assert_close(run(False), run(True), rtol=0, atol=1e-5)
    race(
        {"drawn": lambda: run(False), "trained": lambda: run(True)},
        device=device, units=RAYS, unit="rays", flops=2.0 * field.macs, moved=0,
    )  # fmt: skip
