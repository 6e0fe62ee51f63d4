"""The field with references: what is precomputed equals what the paper writes; pictures decide who it is."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nldf_engine import ops
from nldf_engine.base.json import encode
from nldf_engine.nn.frequency import encode_frequencies
from nldf_engine.ops.reference import slots_reference
from nldf_engine.rendering.fields import Rays
from nldf_engine.systems.dfrf.fusion import EPSILON, FusionSizes, SlotFusion
from nldf_engine.systems.dfrf.model import ReferenceField, ReferenceFieldConfig
from nldf_engine.systems.dfrf.references import Extractor, ExtractorSizes, References
from nldf_engine.systems.dfrf.warp import WarpSizes
from nldf_engine.systems.registry import build_field
from tests.systems.dfrf.fields import small_field, some_references


def some_rays(frames: int, rays: int) -> Rays:
    generator = torch.Generator().manual_seed(1)
    origins = torch.tensor([0.0, 0, -0.8]).repeat(frames, rays, 1)
    spread = 0.1 * torch.randn(frames, rays, 3, generator=generator)
    return Rays(origins, F.normalize(torch.tensor([0.0, 0, 1]) + spread, dim=-1))


def code(frames: int) -> Tensor:
    return torch.randn(frames, 5, generator=torch.Generator().manual_seed(2))


def looked_up(features: Tensor, places: Tensor, nearest: bool) -> Tensor:
    """[P, R, C] by torch's own sampling."""
    height, width = features.shape[1:3]
    grid = 2 * places.transpose(0, 1)[:, None] / torch.tensor([width, height]) - 1
    made = F.grid_sample(
        features.permute(0, 3, 1, 2),
        grid,
        "nearest" if nearest else "bilinear",
        "border",
        align_corners=False,
    )
    return made[:, :, 0].permute(2, 0, 1)


def slots_as_written(fusion: SlotFusion, inputs: Tensor) -> Tensor:
    """Slot attention as its paper's algorithm has it, with every layer applied where it says."""
    inputs = fusion.norm_input(inputs)
    keys, values = fusion.to_k(inputs), fusion.to_v(inputs)
    slots = fusion.slots_mu.expand(len(inputs), -1, -1)
    for _ in range(fusion.sizes.iterations):
        before = slots
        query = fusion.to_q(fusion.norm_slots(slots))
        dots = torch.einsum("pkd,prd->pkr", query, keys) * fusion.sizes.width**-0.5
        weights = dots.softmax(1) + EPSILON
        weights = weights / weights.sum(-1, keepdim=True)
        updates = torch.einsum("prd,pkr->pkd", values, weights)
        slots = fusion.gru(updates.flatten(0, 1), before.flatten(0, 1)).view_as(before)
        slots = slots + fusion.mlp(fusion.norm_pre_ff(slots))
    return slots


def features_as_written(field: ReferenceField, points: Tensor, of: Tensor) -> Tensor:
    """Eq. (1), (3), (4) and the fusion of points [P, 3] in radii under one code [C], nothing precomputed."""
    references, warp, fusion = field.references.references, field.position_warp, field.fusion
    count, height, width, _ = references.pictures.shape
    colors = encode_frequencies(references.pictures.to(points) / 255, 2)
    places = encode_frequencies(references.poses[:, :3, 3] / 0.25, 3)
    both = torch.cat([colors, places[:, None, None].expand(-1, height, width, -1)], -1)
    hidden = field.extractor.conv2(field.extractor.conv1(both.permute(0, 3, 1, 2)))
    features = field.extractor.fc(hidden.permute(0, 2, 3, 1))
    metres, encoded = 0.25 * points, encode_frequencies(points, 4)[:, None].expand(-1, count, -1)
    spots = []
    for pose, view in zip(references.poses, references.views, strict=True):
        seen = (metres - pose[:3, 3]) @ pose[:3, :3]
        spots.append(width * (seen[:, :2] / seen[:, 2:] * view[:2] + view[2:]))
    spot = torch.stack(spots, 1)
    if warp is not None:
        rough = looked_up(features, spot, nearest=True)
        given = torch.cat([encoded, of.expand(len(points), count, -1), rough], -1)
        spot = spot + width * warp.limit * warp.mlp(given).clamp(-1, 1)
    own = torch.cat([looked_up(features, spot, nearest=False), spot / width], -1)
    mixed = fusion.fc7(torch.cat([own, encoded, fusion.fc6(fusion.fc1(own))], -1))
    return slots_as_written(fusion, mixed).flatten(1)


@pytest.mark.parametrize("warp", [True, False])
def test_features_are_the_paper_s(warp: bool) -> None:
    """Shares that are computed once a pixel, a frame or a point change nothing, and offsets move places."""
    field = small_field(warp=WarpSizes((9, 7), 0.02, warp)).double()
    points = torch.rand(40, 3, dtype=torch.double, generator=torch.Generator().manual_seed(3)) - 0.5
    found, offsets = field.look_up(points[None], code(1).double(), field.context())
    torch.testing.assert_close(
        found[0, :, :20], features_as_written(field, points, code(1)[0].double()), rtol=1e-9, atol=1e-9
    )
    assert (offsets is None) == (not warp)
    if offsets is not None:
        sizes = offsets.detach().abs()
        assert float(sizes.mean()) > 0.002 and float(sizes.max()) <= 0.02


def test_a_point_is_looked_up_where_the_camera_sees_it() -> None:
    """Eq. (1) for a camera that is turned and moved, by the camera's own rays."""
    from nldf_engine.geometry.cameras import Camera
    from nldf_engine.rendering.layer import frame_rays

    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(4)))[0]
    pose = torch.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, torch.tensor([0.1, -0.2, -0.7])
    camera = Camera(24, 20, 40.0, 44.0, 11.0, 9.0)
    pixels = torch.tensor([[[3.5, 4.5], [20.1, 18.2]]])
    rays = frame_rays(camera, pose[None], pixels)
    points = rays.origins[0] + 0.8 * rays.directions[0]
    pictures = torch.zeros(1, 20, 24, 3, dtype=torch.uint8)
    references = References(pictures, pose[None], (camera.intrinsics() / 24).view(1, 4))
    seen = references.projections()[0] @ F.pad(points, (0, 1), value=1.0).t()
    torch.testing.assert_close((seen[:2] / seen[2]).t(), pixels[0], rtol=1e-5, atol=1e-4)


def test_slots_compete_without_noise() -> None:
    """Slot attention as it is written, to the bit the same twice; slots differ from the beginning."""
    torch.manual_seed(0)
    fusion = SlotFusion(6, 5, FusionSizes(3, 8, 3, 4))
    inputs = torch.randn(7, 4, 8)
    torch.testing.assert_close(fusion.attend(inputs), slots_as_written(fusion, inputs))
    fusion.requires_grad_(False)
    assert torch.equal(fusion.attend(inputs), fusion.attend(inputs))
    assert float((fusion.attend(inputs)[:, 0] - fusion.attend(inputs)[:, 1]).abs().max()) > 0.01


def test_the_order_of_references_does_not_matter() -> None:
    """The same pictures in another order give the same colours."""
    field, own = small_field(), some_references()
    rays = some_rays(1, 12)
    with torch.no_grad():
        one = field(rays, code(1)).color
        turned = torch.tensor([2, 0, 1])
        field.keep_references(References(own.pictures[turned], own.poses[turned], own.views[turned]))
        torch.testing.assert_close(field(rays, code(1)).color, one, rtol=1e-4, atol=1e-5)


def test_references_of_another_person_change_the_picture() -> None:
    """Who is seen depends on the references, before any training; and maps of old ones are not kept."""
    field, rays = small_field(), some_rays(1, 30)
    with torch.no_grad():
        before = field(rays, code(1)).color
        assert torch.equal(field(rays, code(1)).color, before)
        field.keep_references(some_references(seed=9))
        changed = (field(rays, code(1)).color - before).abs()
        assert float(changed.max()) > 1e-4
        field.keep_references(some_references(2, 30, 16))
        assert field(rays, code(1)).color.shape == before.shape
    assert (field.config.references, field.config.picture) == (2, (30, 16))


def test_pictures_by_one_operation_are_those_of_the_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn without gradients, by `ops.attend_slots`, is what is trained, within 1e-5; and it follows
    a weight that is changed in place."""
    field, rays = small_field(), some_rays(1, 60)
    calls = []
    attend = ops.attend_slots
    monkeypatch.setattr(ops, "attend_slots", lambda *a, **k: calls.append(len(a[0])) or attend(*a, **k))
    for _ in range(2):
        trained = field(rays, code(1))
        assert trained.color.requires_grad and not calls
        with torch.no_grad():
            drawn = field(rays, code(1))
        assert calls == [60 * 8, 60 * 8]  # the fine pass looks its own samples up, not the coarse ones again
        torch.testing.assert_close(drawn.segments, trained.segments, rtol=0, atol=1e-5)
        torch.testing.assert_close(drawn.opacity, trained.opacity, rtol=0, atol=1e-5)
        calls.clear()
        with torch.no_grad():
            field.fusion.to_v.weight.mul_(1.5)


def test_layers_are_folded_exactly() -> None:
    """What has no activation between may be multiplied: in float64 the folded layers give the same."""
    torch.manual_seed(0)
    fusion = SlotFusion(6, 5, FusionSizes(3, 8, 3, 4)).double()
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    shares, places, encoded = (torch.randn(7, 2, n, dtype=torch.double) for n in (12, 2, 6))
    given = shares, places, encoded[:, 0].contiguous()
    with torch.no_grad():
        want = torch.cat([fusion(*given), given[2]], 1)
        torch.testing.assert_close(slots_reference(*given, fusion.folded()), want, rtol=1e-6, atol=1e-7)


def test_maps_follow_the_weights() -> None:
    """A weight that is changed in place, or trained, changes what was kept."""
    field, rays = small_field(), some_rays(1, 30)
    with torch.no_grad():
        before = field(rays, code(1)).color
        field.extractor.fc.weight.mul_(3)
        assert float((field(rays, code(1)).color - before).abs().max()) > 1e-4
    field.train()
    seen = field(rays, code(1))
    (seen.color.sum() + seen.opacity.sum()).backward()
    assert float(field.extractor.conv1[0].weight.grad.abs().max()) > 0


def test_every_parameter_learns() -> None:
    """Both passes together reach every weight; the warp is reached through the places alone."""
    field = small_field().train()
    maps = field.maps(field.references.references, bends=True)
    fine, coarse = field.passes(some_rays(2, 40), code(2), torch.Generator().manual_seed(0), maps)
    (fine.color.square().sum() + coarse.color.square().sum() + fine.opacity.sum()).backward()
    field.encode_frames  # noqa: B018 - drivers are trained by themselves
    silent = [
        name for name, p in field.named_parameters()
        if p.requires_grad and (p.grad is None or not bool(p.grad.abs().sum() > 0))
    ]  # fmt: skip
    assert silent == []
    assert maps.bends is not None and len(maps.bends) == 2
    offsets, density = maps.bends[1]
    assert offsets.shape == (2 * 40 * 16, 3, 2) and density.shape == (2 * 40 * 16,)


def test_sparse_rendering_leaves_out_what_is_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing left out it is the dense picture."""
    field, rays = small_field(), some_rays(1, 50)
    monkeypatch.setattr("nldf_engine.systems.adnerf.model.UNSEEN_RAY", -1.0)
    monkeypatch.setattr("nldf_engine.systems.adnerf.model.UNSEEN_SAMPLE", -1.0)
    with torch.no_grad():
        dense = field(rays, code(1))
        field.sparse = True
        torch.testing.assert_close(field(rays, code(1)).segments, dense.segments, rtol=1e-4, atol=1e-5)


def test_pictures_may_have_any_size() -> None:
    """Places and offsets are in units of the width: a picture twice as large, of the same things, is looked
    up at the same places."""
    field = small_field()
    with torch.no_grad():
        for layer in (field.extractor.conv1[0], field.extractor.conv2[0]):  # as seen through one pixel alone
            layer.weight[:, :, [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 0
        field.keep_references(
            References(torch.full((3, 20, 24, 3), 90, dtype=torch.uint8), *_seen(some_references()))
        )
        rays = some_rays(1, 20)
        small = field(rays, code(1)).color
        field.keep_references(
            References(torch.full((3, 40, 48, 3), 90, dtype=torch.uint8), *_seen(some_references()))
        )
        torch.testing.assert_close(field(rays, code(1)).color, small, rtol=1e-4, atol=1e-5)


def _seen(references: References) -> tuple[Tensor, Tensor]:
    return references.poses, references.views


def test_the_paper_s_sizes_take_its_weights() -> None:
    """Names and shapes of the public code's checkpoints, by which they are imported."""
    with torch.device("meta"):
        field = build_field("dfrf", {"bounds": {"near": 0.5, "far": 1.0}, "conditions": {"eyes": False}})
    shapes = {name: list(value.shape) for name, value in field.state_dict().items()}
    for network in ("coarse", "fine"):
        assert shapes[f"{network}.pts_linears.0.linear.weight"] == [256, 383]
        assert shapes[f"{network}.pts_linears.5.linear.weight"] == [256, 639]
        assert shapes[f"{network}.views_linears.0.weight"] == [128, 283]
    assert shapes["extractor.conv1.0.weight"] == [64, 66, 3, 3]
    assert shapes["extractor.conv2.0.weight"] == [64, 64, 3, 3]
    assert shapes["extractor.fc.weight"] == [128, 64]
    assert [shapes[f"position_warp.mlp.{n}.weight"] for n in (0, 2, 4)] == [[128, 255], [32, 128], [2, 32]]
    assert [shapes[f"fusion.{n}.weight"] for n in ("fc1.0", "fc6", "fc7.0")] == [
        [32, 130],
        [32, 32],
        [128, 225],
    ]
    for name in ("to_q", "to_k", "to_v", "mlp.0", "mlp.2"):
        assert shapes[f"fusion.{name}.weight"] == [128, 128]
    for name in ("norm_input", "norm_slots", "norm_pre_ff"):
        assert shapes[f"fusion.{name}.weight"] == [128]
    assert shapes["fusion.gru.weight_ih"] == shapes["fusion.gru.weight_hh"] == [384, 128]
    assert shapes["fusion.slots_mu"] == [2, 128]


def test_its_cost_is_the_layers_sum() -> None:
    """Multiply-adds a sample: trunk, warp and fusion, without what is shared by points or pixels."""
    with torch.device("meta"):
        field = build_field("dfrf", {"bounds": {"near": 0.5, "far": 1.0}, "conditions": {"eyes": False}})
    assert isinstance(field, ReferenceField)
    # AD-NeRF's trunk with 256 features more in two layers, no share of code or view.
    trunk = (383 - 64 + 639 - 64 + 6 * 256) * 256 + 256 + 256 * 128 + 2 * 128 * 128 + 3 * 128
    warp = 63 * 128 + 4 * (128 * 32 + 32 * 2)
    assert field.macs_per_sample == trunk + warp + sum(
        count * macs for count, macs in zip((1, 4), field.fusion.macs, strict=True)
    )
    assert 750_000 < field.macs_per_sample < 1_400_000, "the paper's: 724k + 147k + 861k, nothing shared"


def test_the_camera_s_share_is_that_of_its_channels() -> None:
    """A convolved picture of ones gives what the camera's constant channels give, at borders too."""
    torch.manual_seed(0)
    extractor, own = Extractor(ExtractorSizes(6, 5, 2, 3), 0.25), some_references()
    colors = encode_frequencies(own.pictures.float() / 255, 2)
    places = encode_frequencies(own.poses[:, :3, 3] / 0.25, 3)
    both = torch.cat([colors, places[:, None, None].expand(-1, 20, 24, -1)], -1).permute(0, 3, 1, 2)
    direct = extractor.fc(extractor.conv2(extractor.conv1(both)).permute(0, 2, 3, 1))
    torch.testing.assert_close(extractor(own), direct, rtol=1e-5, atol=1e-5)
    assert isinstance(extractor.conv1[0], nn.Conv2d)


def test_configurations_survive_json() -> None:
    """An avatar's file makes the same network; the references' number and size come with it."""
    field = small_field()
    field.keep_references(some_references(2, 30, 16))
    again = build_field("dfrf", json.loads(json.dumps(encode(field.config))))
    again.load_state_dict(field.state_dict())
    assert isinstance(again.config, ReferenceFieldConfig) and again.config == field.config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"references": 0}, "references: expected 1 to 32, got 0"),
        ({"references": 65000}, "references: expected 1 to 32, got 65000"),
        ({"picture": [0, 16]}, "picture: expected .height, width. of 1 to 4096"),
        ({"picture": [20]}, "picture"),
        ({"warp": {"limit": 2.0}}, "WarpSizes"),
        ({"warp": {"widths": [4]}}, "WarpSizes: expected two widths"),
        ({"fusion": {"slots": 0}}, "FusionSizes: expected sizes of at least 1"),
        ({"fusion": {"iterations": 9999}}, "FusionSizes"),
        ({"extractor": {"features": 0}}, "ExtractorSizes"),
    ],
)
def test_sizes_that_can_not_be_are_refused(changes: dict[str, object], message: str) -> None:
    """Before anything is allocated."""
    with pytest.raises(ValueError, match=message):
        build_field("dfrf", {"bounds": {"near": 0.5, "far": 1.0}, **changes})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pictures": torch.zeros(0, 4, 4, 3, dtype=torch.uint8)}, r"pictures: expected \[R, H, W, 3\], got"),
        ({"pictures": torch.zeros(3, 4, 4, dtype=torch.uint8)}, "pictures: expected"),
        ({"pictures": torch.zeros(3, 4, 4, 3)}, "pictures: expected uint8, got torch.float32"),
        ({"poses": torch.zeros(2, 4, 4)}, r"poses: expected \[3, 4, 4\], got \[2, 4, 4\]"),
        ({"views": torch.zeros(3, 3)}, r"views: expected \[3, 4\]"),
    ],
)
def test_references_that_can_not_be_are_refused(given: dict[str, Tensor], message: str) -> None:
    """With the argument, what was expected and what came."""
    own = some_references()
    parts = {"pictures": own.pictures, "poses": own.poses, "views": own.views} | given
    with pytest.raises((TypeError, ValueError), match=message):
        References(**parts)
