"""Whole frames of the grid-encoded light field: in one pass, and by torch's layers on the same grids.

On CUDA the pass computes in fp16, on a CPU in float32, in int16 and in 8 bits. The networks have their usual
sizes; the head covers about 45 % of the picture and the torso a third.
"""

from __future__ import annotations

import pytest
import torch

from nldf_engine.geometry.cameras import Camera
from nldf_engine.rendering.fields import Bounds
from nldf_engine.rendering.heads import RayHead
from nldf_engine.rendering.layer import View, to_uint8
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.rendering.region import HeadRegion
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.common.torso_layer import TorsoLayer
from nldf_engine.systems.nldf_fast.model import GridLightField
from nldf_engine.systems.nldf_fast.recipe import network_of_size, usual_network

LEAST_PSNR = 50.0  # dB, of what is drawn in 8 bits, to the layers


def portrait(size: int) -> Portrait:
    """Untrained networks as pictures of that width have them."""
    torch.manual_seed(0)
    field = GridLightField(network_of_size(usual_network, size)(Bounds(0.6, 1.0), ConditionConfig()))
    torso = TorsoLayer()
    torso.box.copy_(torch.tensor([0.0, 0.65, 1.0, 1.1]))
    torso.occupancy[0] = 0
    torso.present.fill_(True)
    region = HeadRegion()
    region.clear()
    region.occupancy[25:60, 29:66] = 1
    return Portrait(RayHead(field, region), torso).eval()


def in_precision(name: str, size: int) -> Portrait:
    part = portrait(size)
    part.head.field.precision = part.torso.precision = name
    return part


@torch.no_grad()
@pytest.mark.parametrize("size", [256, 512])
def test_frame(race, size, device, monkeypatch):
    part = in_precision("fp16" if device.type == "cuda" else "fp32", size).to(device)
    camera = Camera(size, size, 1.9 * size, 1.9 * size, size / 2, size / 2)
    pose = torch.eye(4)
    pose[2, 3] = -0.8
    code = torch.randn(part.head.field.config.conditions.code_dim)
    motion, background = torch.eye(3)[:2].contiguous(), torch.rand(size, size, 3).to(device)
    out = torch.empty(size, size, 3, dtype=torch.uint8, device=device)
    drawn = View(camera, pose.to(device), motion.to(device)), code.to(device)

    def layers() -> torch.Tensor:
        with monkeypatch.context() as patch:
            patch.setattr(GridLightField, "fusable", lambda *_: False)
            return to_uint8(part.layer(*drawn).over(background))

    def one_pass(part: Portrait = part) -> torch.Tensor:
        return part.picture(*drawn, background, out=out)

    most = 1 if device.type == "cpu" else 3
    assert (one_pass().int() - layers().int()).abs().max() <= most
    runs = {"one pass": one_pass, "layers": layers}
    if device.type == "cpu":
        int16, int8 = in_precision("int16", size), in_precision("int8", size)
        assert (one_pass(int16).int() - layers().int()).abs().max() <= most
        error = (one_pass(int8).double() - layers().double()).square().mean()
        assert 10 * torch.log10(255**2 / error) > LEAST_PSNR
        runs |= {"one pass int16": lambda: one_pass(int16), "one pass int8": lambda: one_pass(int8)}
    pixels = dict.fromkeys(runs, size * size)
    race(runs, device=device, units=pixels, unit="pixels", rounds=9)
