"""The networks: what their outputs mean, and what their configurations refuse."""

import sys
from pathlib import Path

import pytest
import torch

from nldf_engine.base.json import encode
from nldf_engine.rendering.fields import Bounds, Conditions, RayColors, Rays
from nldf_engine.systems.adnerf.model import RadianceField, RadianceFieldConfig, RadianceMLP
from nldf_engine.systems.nldf.model import LightField, LightFieldConfig
from nldf_engine.systems.registry import build_field, systems
from tests.packages import install

BOUNDS = Bounds(0.6, 1.0)


def some_rays(frames: int, rays: int) -> Rays:
    torch.manual_seed(1)
    origins = torch.tensor([0.0, 0, -0.8]).expand(frames, rays, 3) + 0.01 * torch.randn(frames, rays, 3)
    directions = torch.nn.functional.normalize(
        torch.tensor([0.0, 0, 1]) + 0.1 * torch.randn(frames, rays, 3), dim=-1
    )
    return Rays(origins.contiguous(), directions.contiguous())


def small_field(**changes: object) -> RadianceField:
    torch.manual_seed(0)
    sizes = {"width": 16, "depth": 4, "skip": 2, "coarse": 8, "fine": 8, "density": "softplus"} | changes
    return RadianceField(RadianceFieldConfig(BOUNDS, **sizes))


def clip(frames: int) -> Conditions:
    torch.manual_seed(2)
    return Conditions(torch.randn(frames, 16, 29), torch.full((frames,), 0.3))


@pytest.mark.parametrize("model", [small_field(), LightField(LightFieldConfig(BOUNDS, width=16, depth=4))])
def test_codes_of_chosen_frames_equal_those_of_the_whole_clip(model: torch.nn.Module) -> None:
    """Encoding single frames looks at the same neighbours as encoding the clip."""
    conditions = clip(30)
    every = model.encode_frames(conditions)
    some = model.encode_frames(conditions, torch.tensor([0, 17, 29]))
    torch.testing.assert_close(some, every[[0, 17, 29]])


def test_the_paper_s_field_has_its_cost() -> None:
    """AD-NeRF's head: 593,408 multiply-adds a sample and 256 samples a ray, code and view shares included."""
    mlp = RadianceMLP(RadianceFieldConfig(BOUNDS))
    linears = [m for m in mlp.modules() if isinstance(m, torch.nn.Linear)]
    eyes = 2 * 256
    assert sum(m.in_features * m.out_features for m in linears) - eyes == 593_408


def test_segments_of_the_teacher_sum_to_its_pixel() -> None:
    """The M segment colours and the background's share give the volume-rendered pixel (eq. 3 and 5)."""
    rays = some_rays(2, 5)
    one, four = small_field(segments=1), small_field(segments=4)
    four.load_state_dict(one.state_dict())
    code = torch.randn(2, 65)
    a, b = one(rays, code), four(rays, code)
    assert b.segments.shape == (2, 5, 4, 3)
    torch.testing.assert_close(a.color, b.color)
    torch.testing.assert_close(a.opacity, b.opacity)


def mostly_empty(rays: Rays, code: torch.Tensor) -> RadianceField:
    """A field whose networks agree, and which is dense at a twentieth of the coarse samples."""
    field = small_field(coarse=32, fine=32, width=32, density_scale=20.0, position_frequencies=2)
    alpha, seen = field.coarse.alpha_linear, []
    alpha.weight.data.mul_(400)
    hook = alpha.register_forward_hook(lambda _, __, out: seen.append(out))
    field.passes(rays, code)
    hook.remove()
    alpha.bias.data.sub_(seen[0].quantile(0.95))
    field.fine.load_state_dict(field.coarse.state_dict())
    return field.eval()


@torch.no_grad()
def test_sparse_rendering_leaves_out_what_is_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer samples give the same picture; with nothing left out the dense one, with all an empty one."""
    rays, code = some_rays(1, 300), torch.randn(1, 65)
    field = mostly_empty(rays, code)
    dense = field(rays, code)
    assert 0.05 < float((dense.opacity > 0.5).float().mean()) < 0.95, "some of it must be empty"
    asked: list[int] = []
    forward = RadianceMLP.forward

    def counted(self, points, views, code, chosen=None):  # type: ignore[no-untyped-def]
        asked.append(points.shape[:3].numel() if chosen is None else len(chosen))
        return forward(self, points, views, code, chosen)

    monkeypatch.setattr(RadianceMLP, "forward", counted)
    field.sparse = True
    sparse = field(rays, code)
    assert asked[0] == 300 * 32 and 0 < asked[1] < 0.5 * 300 * 64
    assert float((sparse.segments - dense.segments).abs().max()) < 0.02
    assert float((sparse.opacity - dense.opacity).abs().max()) < 0.02
    monkeypatch.setattr("nldf_engine.systems.adnerf.model.UNSEEN_RAY", -1.0)
    monkeypatch.setattr("nldf_engine.systems.adnerf.model.UNSEEN_SAMPLE", -1.0)
    every = field(rays, code)
    torch.testing.assert_close(every.segments, dense.segments, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(every.opacity, dense.opacity, atol=1e-5, rtol=1e-5)
    monkeypatch.setattr("nldf_engine.systems.adnerf.model.UNSEEN_RAY", 2.0)
    nothing = field(rays, code)
    assert nothing.segments.shape == dense.segments.shape and not nothing.segments.any()


def test_a_background_of_infinite_depth_equals_the_papers_last_sample() -> None:
    """color + (1 - opacity) background is what a last, infinitely long sample of that colour gives."""
    from nldf_engine import ops

    torch.manual_seed(0)
    sigma, rgb, delta = torch.rand(6, 8) * 20, torch.rand(6, 8, 3), torch.full((6, 8), 0.02)
    back = torch.rand(6, 3)
    colors, opacity = ops.composite_segments(sigma, rgb, delta, segments=1)
    ours = RayColors(colors[None], opacity[None]).over(back[None])[0]
    far = torch.full((6, 1), 1e10)
    last, _ = ops.composite_segments(
        torch.cat([sigma, torch.ones(6, 1)], 1), torch.cat([rgb, back[:, None]], 1),
        torch.cat([delta, far], 1), segments=1,
    )  # fmt: skip
    torch.testing.assert_close(ours, last[:, 0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("model", [small_field(), LightField(LightFieldConfig(BOUNDS, width=16, depth=4))])
def test_every_parameter_gets_a_gradient(model: torch.nn.Module) -> None:
    """Nothing in the network is left out of the loss."""
    code = model.encode_frames(clip(6), torch.tensor([2, 3]))
    seen = model(some_rays(2, 40), code)
    loss = seen.color.square().sum() + seen.opacity.square().sum()
    if isinstance(model, RadianceField):
        _, coarse = model.passes(some_rays(2, 40), code)
        loss = loss + coarse.color.square().sum() + coarse.opacity.sum()
    loss.backward()
    silent = [
        name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)
    ]
    assert silent == []


def test_configurations_survive_json() -> None:
    """A network built from its configuration's JSON has the same parameters; wrong JSON is refused."""
    import json

    model = small_field()
    again = build_field("adnerf", json.loads(json.dumps(encode(model.config))))
    again.load_state_dict(model.state_dict())
    for config in ({}, {"bounds": 3}, {"bounds": {"near": 0.5, "far": 1}, "density": "sharp"}, None):
        with pytest.raises(ValueError, match=r"config|density|Bounds"):
            build_field("adnerf", config)
    with pytest.raises(ValueError, match="system"):
        build_field("nerf", {})


def test_no_rays_of_a_light_field_have_no_colours() -> None:
    """A culled batch in which no ray meets the head is empty, and no error."""
    seen = LightField(LightFieldConfig(BOUNDS, width=16, depth=4))(
        Rays(torch.zeros(0, 1, 3), torch.ones(0, 1, 3)), torch.zeros(0, 65)
    )
    assert seen.segments.shape[:2] == (0, 1) and seen.opacity.shape == (0, 1)


def test_chunks_join_to_the_whole() -> None:
    """Rendering rays in pieces changes nothing."""
    model = LightField(LightFieldConfig(BOUNDS, width=16, depth=4))
    rays, code = some_rays(1, 37), torch.randn(1, 65)
    whole = model(rays, code)
    pieces = RayColors.join([model(part, code) for part in rays.chunks(8)])
    torch.testing.assert_close(whole.segments, pieces.segments)
    torch.testing.assert_close(whole.opacity, pieces.opacity)


@pytest.mark.parametrize(
    ("system", "sizes"),
    [
        ("adnerf", {"coarse": 65536}),
        ("adnerf", {"fine": 65536}),
        ("adnerf", {"depth": 65536}),
        ("nldf", {"depth": 65536}),
    ],
)
def test_sizes_that_no_weight_bears_out_are_limited(system: str, sizes: dict[str, int]) -> None:
    """Samples have no weights whose shapes could be checked, and layers are made before theirs are."""
    with pytest.raises(ValueError, match="at most"):
        build_field(system, {"bounds": {"near": 0.5, "far": 1.0}, **sizes})


@pytest.mark.parametrize(
    "code, problem",
    [
        ("import nowhere_to_be_found", "ModuleNotFoundError"),
        ("SYSTEM = 3", "expected a System at broken_package:SYSTEM, got a int"),
        ("from nldf_engine.systems.nldf import SYSTEM", "there is another system named 'nldf'"),
    ],
)
def test_a_broken_outside_package_is_left_out(
    code: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = "[nldf_engine.systems]\nbroken = broken_package:SYSTEM\n"
    install(tmp_path, monkeypatch, "broken_package", code, points)
    monkeypatch.delitem(sys.modules, "broken_package", raising=False)
    with pytest.warns(UserWarning, match="the system 'broken' of the package broken_package") as told:
        known = systems.__wrapped__()
    assert problem in str(told[0].message) and "pip uninstall broken_package" in str(told[0].message)
    assert set(known) == set(systems())
