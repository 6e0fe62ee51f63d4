"""A frame in one pass against the frame made of layers."""

from __future__ import annotations

import math

import pytest
import torch

from nldf_engine import ops
from nldf_engine.geometry.cameras import Camera
from nldf_engine.nn.linear import FrameLinear
from nldf_engine.rendering.fields import Bounds, Rays
from nldf_engine.rendering.heads import RayHead
from nldf_engine.rendering.layer import View, Views, frame_rays, intrinsics_of, to_uint8
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.rendering.region import HeadRegion
from nldf_engine.systems.common.torso_layer import TorsoLayer
from nldf_engine.systems.nldf_fast.model import GridLightField, GridLightFieldConfig

PLANES = [(0.0,), (-0.04, 0.0, 0.05)]


def portrait(planes: tuple[float, ...]) -> Portrait:
    """A head before a torso, both with visible structure and soft edges."""
    torch.manual_seed(0)
    layers = 4 - len(planes)  # three behind one plane, one behind three
    field = GridLightField(GridLightFieldConfig(Bounds(0.6, 1.0), planes=planes, layers=layers))
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
    return Portrait(RayHead(field, region), torso).eval()


def one_pass(part: Portrait, view: View, code: torch.Tensor) -> bool:
    """Whether head and torso are drawn by the fused kernel."""
    views = Views.of(view)
    return None not in (part.head.portrait_part(views, code[None]), part.torso.portrait_part(views))


def scene(part: Portrait, size: int) -> tuple[View, torch.Tensor, torch.Tensor]:
    """What `Portrait.picture` takes, of a frame that isn't square."""
    camera = Camera(size, size - 7, 1.9 * size, 1.9 * size, size / 2, size / 2)
    pose = torch.eye(4)
    pose[:3, 3] = torch.tensor([0.01, -0.02, -0.8])
    code = torch.randn(part.head.field.config.conditions.code_dim, generator=torch.Generator().manual_seed(1))
    motion = torch.tensor([[1.02, 0.03, 0.01], [-0.02, 0.98, -0.03]])
    background = torch.rand(camera.height, camera.width, 3, generator=torch.Generator().manual_seed(2))
    return View(camera, pose, motion), code, background


@torch.no_grad()
@pytest.mark.parametrize("torso", [True, False])
@pytest.mark.parametrize("planes", PLANES)
@pytest.mark.parametrize("size", [31, 72])
def test_one_pass_is_the_layers(size, planes, torso, monkeypatch):
    """The frame in one pass differs from torch's layers by at most one in 255, and by over 60 dB PSNR."""
    part = portrait(planes)
    part.torso.present.fill_(torso)
    view, code, background = scene(part, size)
    assert one_pass(part, view, code)
    out = torch.empty(*background.shape, dtype=torch.uint8)
    got = part.picture(view, code, background, out=out)
    assert got is out
    monkeypatch.setattr(GridLightField, "fusable", lambda *_: False)
    layer = part.layer(view, code)
    assert 0.05 < layer.alpha.mean() < 0.95
    difference = (got.int() - to_uint8(layer.over(background)).int()).abs()
    assert difference.max() <= 1
    assert 10 * math.log10(255**2 / max(difference.float().square().mean().item(), 1e-9)) > 60


def in_8_bits(part: Portrait) -> Portrait:
    part.head.field.precision = part.torso.precision = "int8"
    return part


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    error = (a.double() - b.double()).square().mean().item()
    return 10 * math.log10(255**2 / max(error, 1e-9))


@torch.no_grad()
@pytest.mark.parametrize("planes", PLANES)
@pytest.mark.parametrize("size", [31, 72, 500])
def test_a_head_in_8_bits(size, planes):
    """At every second pixel of every second row the frame is what the operation on rays makes of 8 bits.
    Between these the warp is a mean, where pixels are closer than the warp's grid; else nothing differs."""
    part = in_8_bits(portrait(planes))
    part.torso.present.fill_(False)
    view, code, background = scene(part, size)
    assert one_pass(part, view, code)
    got, want = part.picture(view, code, background), to_uint8(part.layer(view, code).over(background))
    differs = (got != want).float()
    assert differs[::2, ::2].mean() < 0.001
    assert bool(differs.mean() < 0.001) is (size < 500)
    assert psnr(got, want) > 40


@torch.no_grad()
@pytest.mark.parametrize("planes", PLANES)
@pytest.mark.parametrize("size", [31, 72, 500])
def test_a_frame_in_8_bits(size, planes):
    """Over a torso too, whose warp is a mean in all of these, frames stay 40 dB close to those in float32."""
    part = portrait(planes)
    frame = scene(part, size)
    want, got = part.picture(*frame), in_8_bits(part).picture(*frame)
    assert not torch.equal(got, want) and psnr(got, want) > 40


@torch.no_grad()
@pytest.mark.parametrize("size", [72, 500])
def test_blocks_without_the_head_are_left_out(size):
    """Where pixels are close, rows within a block of 8 x 8 are left out whose first and last row are fainter
    than a byte's step; all others are drawn. Colours here are so bright that the faintest head shows."""
    part = portrait((0.0,))
    part.torso.present.fill_(False)
    part.head.region.occupancy.fill_(1)
    field = part.head.field
    field.grids[0].table[1400:] = 0  # coarse levels alone: blocks are small beside what they show
    field.tail.weight[3] *= 10
    field.tail.bias[:3], field.tail.bias[3] = 1000.0, -2.2
    view, code, background = scene(in_8_bits(part), size)
    view = View(Camera(size, size, 1.9 * size, 1.9 * size, size / 2, size / 2), view.pose, view.motion)
    background = torch.zeros(size, size, 3)
    alpha, drawn = part.layer(view, code).alpha, part.picture(view, code, background).amax(2) > 0
    whole = size // 8 * 8
    blocks, shown = (x[:whole, :whole].unflatten(0, (-1, 8)).unflatten(2, (-1, 8)) for x in (alpha, drawn))
    edge, inner = blocks[:, ::7].amax((1, 3)), shown[:, 1:7].float().mean((1, 3))
    faint, clear = edge < 0.5 / 256, edge > 2 / 256
    assert faint.any() and clear.any()
    assert (inner[clear] == 1).all()
    assert (inner[faint] == 0).all() if size == 500 else (inner[faint] > 0.5).all()


@torch.no_grad()
def test_field_in_one_operation_is_its_layers(monkeypatch):
    """GridLightField's forward gives the same by `ops.planes` as by torch's layers."""
    part = portrait(PLANES[1])
    view, code, _ = scene(part, 24)
    rays = frame_rays(view.camera, view.pose[None], view.pixels()[None])
    fused = part.head.field(rays, code[None])
    monkeypatch.setattr(GridLightField, "fusable", lambda *_: False)
    layers = part.head.field(rays, code[None])
    torch.testing.assert_close(fused.segments, layers.segments, rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(fused.opacity, layers.opacity, rtol=1e-4, atol=2e-5)


@torch.no_grad()
def test_changed_weights_reach_the_next_frame():
    """Packed weights are kept between frames, and packed anew behind a change in place."""
    part = portrait(PLANES[0])
    frame = scene(part, 24)
    before = part.picture(*frame)
    kept = part.head.field.packed()
    assert part.head.field.packed() is kept
    part.head.field.tail.bias.add_(0.5)
    assert part.head.field.packed() is not kept
    assert not torch.equal(part.picture(*frame), before)
    fresh = portrait(PLANES[0])
    fresh.head.field.tail.bias.add_(0.5)
    assert torch.equal(part.picture(*frame), fresh.picture(*frame))


def test_recording_and_training_take_the_layers():
    """Where a gradient is wanted, or in training mode, the generic path runs and gradients flow."""
    part = portrait(PLANES[0])
    view, code, _ = scene(part, 24)
    code.requires_grad_()
    assert not one_pass(part, view, code)
    rays = frame_rays(view.camera, view.pose[None], view.pixels()[None])
    part.head.field(Rays(rays.origins, rays.directions), code[None]).color.sum().backward()
    assert code.grad.abs().sum() > 0
    with torch.no_grad():
        assert one_pass(part, view, code)
        part.use_backend("reference")
        assert not one_pass(part, view, code)
        part.use_backend("native")
        assert one_pass(part, view, code) and not one_pass(part.train(), view, code)


@torch.no_grad()
@pytest.mark.device
@pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device on this machine: the kernel isn't run"
)
@pytest.mark.parametrize("planes", PLANES)
def test_one_pass_on_cuda(planes):
    """On a CUDA device the frame in fp16 is the CPU's, but for the rounding: over 45 dB PSNR."""
    part = portrait(planes)
    view, code, background = scene(part, 200)
    want = part.picture(view, code, background)
    part.cuda()
    view, code = View(view.camera, view.pose.cuda(), view.motion.cuda()), code.cuda()
    assert not one_pass(part, view, code)
    part.head.field.precision = part.torso.precision = "fp16"
    assert one_pass(part, view, code)
    out = torch.empty(want.shape, dtype=torch.uint8)
    assert part.picture(view, code, background.cuda(), out=out) is out
    error = (out.int() - want.int()).float().square().mean().item()
    assert 10 * math.log10(255**2 / max(error, 1e-9)) > 45


@torch.no_grad()
@pytest.mark.parametrize("torso", [True, False])
def test_frames_together_are_frames_alone(torso):
    """Frames that were prepared together are, to the bit, those that were prepared one by one."""
    part = portrait(PLANES[1])
    part.torso.present.fill_(torso)
    view, code, background = scene(part, 40)
    g = torch.Generator().manual_seed(3)
    count = 7
    poses = view.pose.repeat(count, 1, 1)
    poses[:, :3, 3] += 0.01 * torch.randn(count, 3, generator=g)
    motions = view.motion + 0.01 * torch.randn(count, 2, 3, generator=g)
    codes = code + torch.randn(count, len(code), generator=g)
    views = Views(intrinsics_of(view.camera, poses.device).expand(count, 4), poses, motions)
    together = part.frames(views, codes, background)
    alone = [
        part.picture(View(view.camera, poses[i], motions[i]), codes[i], background) for i in range(count)
    ]
    assert torch.equal(together.pictures(), torch.stack(alone))
    assert torch.equal(together.picture(4), alone[4])
    assert not torch.equal(alone[0], alone[1])


@torch.no_grad()
def test_prepared_frames_are_checked():
    """Frames that do not exist, biases of other frames and outputs of another size are refused by name."""
    part = portrait(PLANES[0])
    view, code, background = scene(part, 24)
    frames = part.frames(Views.of(view), code[None], background)
    with pytest.raises(IndexError, match="frames 1 to 2 of 1"):
        frames.picture(1)
    with pytest.raises(ValueError, match=r"portrait: out must be contiguous uint8 \[1, 17, 24, 3\]"):
        frames.pictures(torch.empty(17, 24, 3, dtype=torch.uint8))
    twice = Views(torch.ones(2, 4), view.pose.expand(2, 4, 4), view.motion.expand(2, 2, 3))
    head = part.head.portrait_part(twice, code.expand(2, -1))
    seen = ops.PortraitView(view.pose[None], torch.ones(1, 4), 0.4, torch.zeros(1, 6))
    with pytest.raises(ValueError, match=r"head warp_bias must have the shape \[1, W"):
        ops.PortraitFrames(seen, head, None, background)


@torch.no_grad()
@pytest.mark.parametrize(("inputs", "outputs"), [(15, 64), (12, 32), (20, 64), (70, 64), (12, 16)])
def test_biases_are_each_frame_s_own(inputs, outputs):
    """The biases of many frames in one operation are, to the bit, those of each frame alone."""
    torch.manual_seed(0)
    layer, codes = FrameLinear(18, inputs, 0, outputs), torch.randn(300, inputs)
    alone = torch.cat([layer.lone_biases(code[None]) for code in codes])
    for count in (2, 7, 300):
        assert torch.equal(torch.cat([layer.lone_biases(part) for part in codes.split(count)]), alone)
    torch.testing.assert_close(alone, layer.frame_bias(codes))


def test_wrong_outputs_are_named():
    """A buffer of another size or type is refused by name."""
    part = portrait(PLANES[0])
    frame = scene(part, 24)
    with torch.no_grad(), pytest.raises(ValueError, match=r"portrait: out must be contiguous uint8 \[17, 24"):
        part.picture(*frame, out=torch.empty(17, 24, 4, dtype=torch.uint8))
