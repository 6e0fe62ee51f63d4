"""The grid-encoded light field: a field like the others, sane beyond its training video, simple to pack."""

import itertools
import json

import pytest
import torch

from nldf_engine.base.json import encode
from nldf_engine.rendering.fields import Bounds, Conditions, RayColors, Rays
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.common.plane_network import refined
from nldf_engine.systems.nldf_fast.model import FRAME_LIMIT, GridLightField, GridLightFieldConfig
from nldf_engine.systems.nldf_fast.recipe import network_of_size, usual_network
from nldf_engine.systems.registry import build_field

SIZES = {"resolutions": (4, 8), "warp_resolutions": (4,), "width": 16, "ambient": 2}


def small(planes: tuple[float, ...] = (-0.05, 0.03), **changes: object) -> GridLightField:
    torch.manual_seed(0)
    return GridLightField(GridLightFieldConfig(Bounds(0.6, 1.0), planes=planes, **(SIZES | changes)))


def some_rays(frames: int, rays: int) -> Rays:
    torch.manual_seed(1)
    origins = torch.tensor([0.0, 0, -0.8]).repeat(frames, 1, 1) + 0.05 * torch.randn(frames, 1, 3)
    directions = torch.tensor([0.0, 0, 1]) + 0.15 * torch.randn(frames, rays, 3)
    return Rays(origins.expand(-1, rays, -1).contiguous(), torch.nn.functional.normalize(directions, dim=-1))


def clip(frames: int) -> Conditions:
    torch.manual_seed(2)
    return Conditions(torch.randn(frames, 16, 29), 0.3 + 0.05 * torch.randn(frames))


@pytest.mark.parametrize("planes", [(0.0,), (-0.05, 0.03), (-0.08, -0.03, 0.02, 0.06)])
def test_one_segment_a_plane_and_an_opacity(planes: tuple[float, ...]) -> None:
    """M planes give [F, P, M, 3] finite colours and opacities in [0, 1]."""
    model = small(planes)
    with torch.no_grad():
        seen = model(some_rays(3, 7), model.encode_frames(clip(3)))
    assert seen.segments.shape == (3, 7, len(planes), 3) and bool(seen.segments.isfinite().all())
    assert seen.opacity.shape == (3, 7)
    assert float(seen.opacity.min()) >= 0 and float(seen.opacity.max()) <= 1


def test_rays_of_mixed_frames_equal_those_of_whole_frames() -> None:
    """[F P, 1] rays with a code each, as culled batches have them, are the same as [F, P]; so are chunks."""
    model, rays = small(), some_rays(3, 10)
    code = torch.randn(3, 65)
    whole = model(rays, code)
    apart = model(
        Rays(rays.origins.reshape(30, 1, 3), rays.directions.reshape(30, 1, 3)), code.repeat_interleave(10, 0)
    )
    torch.testing.assert_close(apart.segments.view(3, 10, 2, 3), whole.segments)
    torch.testing.assert_close(apart.opacity.view(3, 10), whole.opacity)
    pieces = RayColors.join([model(part, code) for part in rays.chunks(4)])
    torch.testing.assert_close(pieces.segments, whole.segments)


@pytest.mark.parametrize("layers", [1, 3])
def test_chosen_rays_in_one_operation_equal_the_layers(layers: int) -> None:
    """Some rays of some frames, by the fused operation, have the layers' colours and gradients."""
    model, rays, inside = small(layers=layers), some_rays(3, 60), torch.arange(180).view(3, 60) % 2 == 0
    with torch.no_grad():
        model.grids[0].table.normal_()
    code = torch.randn(3, 65)
    results = []
    for backend in ("native", "reference"):
        model.backend = backend
        directions, leaf = rays.directions.clone().requires_grad_(), code.clone().requires_grad_()
        seen = model.of_inside(Rays(rays.origins, directions), leaf, inside)
        learned = [p for name, p in model.named_parameters() if not name.startswith("encoder")]
        loss = seen.segments.square().sum() + seen.opacity.sum()
        results.append(
            [seen.segments, seen.opacity, *torch.autograd.grad(loss, [directions, leaf, *learned])]
        )
    for ours, layers in zip(*results, strict=True):
        torch.testing.assert_close(
            ours, layers, rtol=1e-4, atol=2e-5 * float(layers.detach().abs().max().clamp_min(1))
        )


def test_no_rays_give_no_colours() -> None:
    """A culled batch in which no ray may meet the head is empty, and no error."""
    seen = small()(Rays(torch.zeros(0, 1, 3), torch.ones(0, 1, 3)), torch.zeros(0, 65))
    assert seen.segments.shape == (0, 1, 2, 3) and seen.opacity.shape == (0, 1)


def test_every_parameter_gets_a_gradient() -> None:
    """Grids, warp net, audio net and all layers are reached by the loss."""
    model = small()
    seen = model(some_rays(2, 400), model.encode_frames(clip(6), torch.tensor([2, 3])))
    (seen.color.square().sum() + seen.opacity.sum()).backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert silent == []


def test_native_and_reference_backends_agree() -> None:
    """The compiled grid and its reference give the same picture."""
    model, rays, code = small(), some_rays(2, 50), torch.randn(2, 65)
    native = model(rays, code)
    model.backend = "reference"
    reference = model(rays, code)
    torch.testing.assert_close(native.segments, reference.segments, atol=1e-5, rtol=1e-4)


def test_its_segments_lie_on_their_planes() -> None:
    """With the warp and the other inputs silenced, a ray is known by its crossing of the plane alone."""
    model = small((0.04,), ambient=0)
    with torch.no_grad():
        model.warp_tail.weight.zero_()
        model.warp_tail.bias.zero_()
        model.head.linear.weight[:, 8:].zero_()
    target = torch.tensor([0.02, -0.03, 0.04])
    origins = torch.tensor([[0.1, 0.0, -0.8], [-0.2, 0.1, -0.7]])[:, None]
    rays = Rays(origins, torch.nn.functional.normalize(target - origins, dim=-1))
    seen = model(rays, torch.zeros(2, 65))
    torch.testing.assert_close(seen.color[0], seen.color[1], atol=1e-5, rtol=1e-4)
    other = model(
        Rays(origins, torch.nn.functional.normalize(target + 0.02 - origins, dim=-1)), torch.zeros(2, 65)
    )
    assert not torch.allclose(other.color[0], seen.color[0], atol=1e-6)


def test_calibration_scales_its_inputs_and_holds_what_lies_outside() -> None:
    """Training frames come in with unit spread; a camera metres away counts as one at the limit."""
    model = small()
    poses = torch.eye(4).repeat(50, 1, 1)
    poses[:, :3, 3] = torch.tensor([0.1, 0, -0.7]) + 0.04 * torch.randn(50, 3)
    conditions = clip(50)
    model.calibrate(poses, conditions, torch.tensor([[-0.1, -0.2], [0.1, 0.15]]))
    inputs = model.frame_inputs(poses[:, :3, 3], model.encode_frames(conditions))
    torch.testing.assert_close(inputs[:, :3].std(0), torch.ones(3), atol=0.1, rtol=0)
    torch.testing.assert_close(inputs[:, -1].std(), torch.tensor(1.0), atol=0.1, rtol=0)
    assert float(model.box[0]) < -0.1 and float(model.box[3]) > 0.15
    far = model.frame_inputs(torch.full((1, 3), 9.0), torch.zeros(1, 65))
    assert float(far.abs().max()) == FRAME_LIMIT


def test_shut_eyes_are_told_from_half_shut_ones() -> None:
    """Blinks of a few frames in a thousand stay within the inputs' limits, each apart."""
    model, poses = small(), torch.eye(4).repeat(1000, 1, 1)
    poses[:, :3, 3] = torch.tensor([0.0, 0, -0.7])
    eyes = 0.3 + 0.02 * torch.randn(1000)
    eyes[:3] = torch.tensor([0.2, 0.1, 0.0])
    conditions = Conditions(torch.zeros(1000, *clip(1).audio.shape[1:]), eyes)
    model.calibrate(poses, conditions, torch.tensor([[-0.1, -0.2], [0.1, 0.15]]))
    told = model.frame_inputs(poses[:, :3, 3], model.encode_frames(conditions))[:3, -1].detach()
    assert float(told[2]) >= -FRAME_LIMIT and float(told.diff().max()) < -0.5


def test_configurations_survive_json_and_wrong_ones_are_refused() -> None:
    """Tuples come back as tuples; empty, mistyped and huge lists are named."""
    model = small(conditions=ConditionConfig(motion=4))
    again = build_field("nldf-fast", json.loads(json.dumps(encode(model.config))))
    assert again.config == model.config
    again.load_state_dict(model.state_dict())
    good = encode(model.config)
    for name, value in [
        ("planes", []), ("planes", ["a"]), ("planes", 0.1), ("resolutions", [8] * 100),
        ("resolutions", [1 << 20]), ("resolutions", [1]), ("resolutions", [8.5]), ("width", 0),
        ("layers", 0), ("layers", 65), ("layers", 1.5),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=rf"{name}|planes|GridSpec"):
            build_field("nldf-fast", {**good, name: value})


def test_files_that_name_no_layers_have_three() -> None:
    """As all avatars had before there was a choice."""
    config = encode(small().config)
    del config["layers"]
    model = build_field("nldf-fast", config)
    assert isinstance(model, GridLightField) and model.config.layers == 3 and len(model.body) == 2


@pytest.mark.parametrize(("width", "layers"), [(256, 2), (500, 2), (512, 3), (1100, 3)])
def test_larger_pictures_have_more_layers(width: int, layers: int) -> None:
    """Where the grids get further levels, the colours' network has one more layer."""
    make = network_of_size(usual_network, width)
    assert make(Bounds(0.6, 1.0), ConditionConfig()).layers == layers


def test_its_cost_is_counted_without_what_a_frame_pays_once() -> None:
    """Two planes: 14 x 64 + 64 x 64 + 64 x 8 for the warp, 44 x 64 + 64 x 7 and what layers have between."""
    for layers in (1, 2, 3):
        model = GridLightField(GridLightFieldConfig(Bounds(0.6, 1.0), layers=layers))
        assert model.macs == 14 * 64 + 64 * 64 + 64 * 8 + 44 * 64 + (layers - 1) * 64 * 64 + 64 * 7


@pytest.mark.parametrize(("width", "finest"), [(128, 256), (256, 256), (500, 256), (512, 512), (1100, 1024)])
def test_grids_are_as_fine_as_the_pictures(width: int, finest: int) -> None:
    """Levels are doubled on until the next would be finer than a pixel of the width; none is taken away."""
    levels = refined((16, 32, 64, 128, 256), width)
    assert levels[:5] == (16, 32, 64, 128, 256) and levels[-1] == finest
    assert all(b == 2 * a for a, b in itertools.pairwise(levels))
