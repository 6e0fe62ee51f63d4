"""A frame in one pass against the frame made of layers."""

from __future__ import annotations

import math

import pytest
import torch

from nldf_engine.geometry.cameras import Camera
from nldf_engine.rendering.fields import Bounds, Rays
from nldf_engine.rendering.layer import frame_rays, to_uint8
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.rendering.region import HeadRegion
from nldf_engine.systems.common.torso_layer import TorsoLayer
from nldf_engine.systems.nldf_fast.model import GridLightField, GridLightFieldConfig

PLANES = [(0.0,), (-0.04, 0.0, 0.05)]


def portrait(planes: tuple[float, ...]) -> Portrait:
    """A head before a torso, both with visible structure and soft edges."""
    torch.manual_seed(0)
    field = GridLightField(GridLightFieldConfig(Bounds(0.6, 1.0), planes=planes))
    torso = TorsoLayer()
    with torch.no_grad():
        field.box.copy_(torch.tensor([-0.15, -0.18, 0.15, 0.18]))
        torso.box.copy_(torch.tensor([0.05, 0.4, 0.95, 1.1]))
        torso.occupancy[:, :9] = 0
        for module in (field, torso):
            for name, value in module.named_parameters():
                if name.endswith("table"):
                    value.uniform_(-1, 1)
                elif name.endswith("weight") and "encoder" not in name:
                    value.normal_(0, value.shape[1] ** -0.5)
    torso.present.fill_(True)
    region = HeadRegion()
    region.clear()
    region.occupancy[26:66, 30:64] = 1
    return Portrait(field, region, torso).eval()


def scene(part: Portrait, size: int) -> tuple:
    """What `Portrait.picture` takes, of a frame that isn't square."""
    camera = Camera(size, size - 7, 1.9 * size, 1.9 * size, size / 2, size / 2)
    pose = torch.eye(4)
    pose[:3, 3] = torch.tensor([0.01, -0.02, -0.8])
    code = torch.randn(part.field.config.conditions.code_dim, generator=torch.Generator().manual_seed(1))
    motion = torch.tensor([[1.02, 0.03, 0.01], [-0.02, 0.98, -0.03]])
    background = torch.rand(camera.height, camera.width, 3, generator=torch.Generator().manual_seed(2))
    return camera, pose, code, motion, background


@torch.no_grad()
@pytest.mark.parametrize("torso", [True, False])
@pytest.mark.parametrize("planes", PLANES)
@pytest.mark.parametrize("size", [31, 72])
def test_one_pass_is_the_layers(size, planes, torso, monkeypatch):
    """The frame in one pass differs from torch's layers by at most one in 255, and by over 60 dB PSNR."""
    part = portrait(planes)
    part.torso.present.fill_(torso)
    camera, pose, code, motion, background = scene(part, size)
    assert part._in_one_pass("native", pose, code, motion, background)
    out = torch.empty(camera.height, camera.width, 3, dtype=torch.uint8)
    got = part.picture(camera, pose, code, motion, background, out=out)
    assert got is out
    monkeypatch.setattr(GridLightField, "fusable", lambda *_: False)
    layer = part.layer(camera, pose, code, motion)
    assert 0.05 < layer.alpha.mean() < 0.95
    difference = (got.int() - to_uint8(layer.over(background)).int()).abs()
    assert difference.max() <= 1
    assert 10 * math.log10(255**2 / max(difference.float().square().mean().item(), 1e-9)) > 60


@torch.no_grad()
def test_field_in_one_operation_is_its_layers(monkeypatch):
    """GridLightField's forward gives the same by `ops.planes` as by torch's layers."""
    part = portrait(PLANES[1])
    camera, pose, code, *_ = scene(part, 24)
    rays = frame_rays(camera, pose[None], part.pixels(camera)[None])
    fused = part.field(rays, code[None])
    monkeypatch.setattr(GridLightField, "fusable", lambda *_: False)
    layers = part.field(rays, code[None])
    torch.testing.assert_close(fused.segments, layers.segments, rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(fused.opacity, layers.opacity, rtol=1e-4, atol=2e-5)


@torch.no_grad()
def test_changed_weights_reach_the_next_frame():
    """Packed weights are kept between frames, and packed anew behind a change in place."""
    part = portrait(PLANES[0])
    view = scene(part, 24)
    before = part.picture(*view)
    kept = part.field.packed()
    assert part.field.packed() is kept
    part.field.tail.bias.add_(0.5)
    assert part.field.packed() is not kept
    assert not torch.equal(part.picture(*view), before)
    fresh = portrait(PLANES[0])
    fresh.field.tail.bias.add_(0.5)
    assert torch.equal(part.picture(*view), fresh.picture(*view))


def test_recording_and_training_take_the_layers():
    """Where a gradient is wanted, or in training mode, the generic path runs and gradients flow."""
    part = portrait(PLANES[0])
    camera, pose, code, motion, background = scene(part, 24)
    code.requires_grad_()
    assert not part._in_one_pass("native", pose, code, motion, background)
    rays = frame_rays(camera, pose[None], part.pixels(camera)[None])
    part.field(Rays(rays.origins, rays.directions), code[None]).color.sum().backward()
    assert code.grad.abs().sum() > 0
    with torch.no_grad():
        assert part._in_one_pass("native", pose, code, motion, background)
        assert not part._in_one_pass("reference", pose, code, motion, background)
        assert not part.train()._in_one_pass("native", pose, code, motion, background)


@torch.no_grad()
@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device on this machine: the kernel isn't run"
)
@pytest.mark.parametrize("planes", PLANES)
def test_one_pass_on_cuda(planes):
    """On a CUDA device the frame in fp16 is the CPU's, but for the rounding: over 45 dB PSNR."""
    part = portrait(planes)
    camera, *view = scene(part, 200)
    want = part.picture(camera, *view)
    part.cuda()
    view = [tensor.cuda() for tensor in view]
    assert not part._in_one_pass("native", *view)
    part.field.precision = part.torso.precision = "fp16"
    assert part._in_one_pass("native", *view)
    out = torch.empty(want.shape, dtype=torch.uint8)
    assert part.picture(camera, *view, out=out) is out
    error = (out.int() - want.int()).float().square().mean().item()
    assert 10 * math.log10(255**2 / max(error, 1e-9)) > 45


def test_wrong_outputs_are_named():
    """A buffer of another size or type is refused by name."""
    part = portrait(PLANES[0])
    view = scene(part, 24)
    with torch.no_grad(), pytest.raises(ValueError, match=r"portrait: out must be contiguous uint8 \[17, 24"):
        part.picture(*view, out=torch.empty(17, 24, 4, dtype=torch.uint8))
