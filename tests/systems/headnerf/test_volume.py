"""The volume: compositing of features, samples within the head, and which code reaches what."""

from __future__ import annotations

import math

import pytest
import torch

from nldf_engine import ops
from nldf_engine.rendering.fields import Rays
from nldf_engine.rendering.volume import slab_distances
from nldf_engine.systems.headnerf.codes import CodeSizes
from nldf_engine.systems.headnerf.volume import Volume, VolumeSizes

CODES = CodeSizes(identity=2, expression=3, albedo=2, illumination=1, lip=2)
SIZES = VolumeSizes(width=16, depth=3, skip=1, frequencies=3, samples=6, features=12)


def rays(frames: int = 2, count: int = 5) -> Rays:
    generator = torch.Generator().manual_seed(0)
    directions = torch.tensor([0.0, 0, 1]) + 0.2 * torch.randn(frames, count, 3, generator=generator)
    origins = torch.tensor([0.0, 0, -0.8]).expand(frames, count, 3).contiguous()
    return Rays(origins, torch.nn.functional.normalize(directions, dim=-1))


def test_samples_fill_the_slab() -> None:
    """The middles of even strata between the two planes; drawn ones stay in their strata."""
    given = rays()
    distance, length = slab_distances(given, (-0.15, 0.13), 7)
    heights = given.origins[..., 2:] + distance * given.directions[..., 2:]
    step = 0.28 / 7
    wanted = -0.15 + step * (torch.arange(7) + 0.5)
    torch.testing.assert_close(heights, wanted.expand_as(heights))
    torch.testing.assert_close(length * given.directions[..., 2:], torch.full_like(length, step))
    drawn, _ = slab_distances(given, (-0.15, 0.13), 7, torch.Generator().manual_seed(1))
    assert bool(((drawn - distance).abs() <= length / 2 + 1e-6).all()) and not torch.equal(drawn, distance)


def test_steep_and_near_rays_stay_finite() -> None:
    """A ray beside the slab, or from within it, has increasing positive distances."""
    directions = torch.tensor([[[1.0, 0, 0], [0, 0, -1], [0, 0, 1]]])
    origins = torch.tensor([[[0.0, 0, -0.8], [0, 0, -0.8], [0, 0, 0.0]]])
    distance, length = slab_distances(Rays(origins, directions), (-0.15, 0.13), 4)
    assert bool(distance.isfinite().all()) and bool((distance > 0).all()) and bool((length > 0).all())


def evaluated(volume: Volume, code: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Density and hidden features at some points."""
    points = 0.1 * torch.randn(1, 4, 5, 3, generator=torch.Generator().manual_seed(1))
    return volume.evaluate(points, rays(1, 4).directions, code)


def test_each_code_has_its_own_way() -> None:
    """Albedo and illumination change features and no density; identity, where it moves no point, the density
    and no feature; expression and lips both."""
    torch.manual_seed(0)
    volume = Volume(SIZES, CODES, 0.25)
    torch.nn.init.zeros_(volume.shift.weight)
    code = torch.randn(1, 10)
    density, hidden = evaluated(volume, code)
    changes = {}
    for name, place in CODES.places().items():
        other = code.clone()
        other[:, place] += 1
        found = evaluated(volume, other)
        changes[name] = (not torch.equal(found[0], density), not torch.equal(found[1], hidden))
    assert changes == {
        "expression": (True, True), "lip": (True, True), "identity": (True, False),
        "albedo": (False, True), "illumination": (False, True),
    }  # fmt: skip


def test_identity_moves_points() -> None:
    """With a shift, what is seen at a point under one identity is seen elsewhere under another."""
    torch.manual_seed(0)
    volume = Volume(SIZES, CODES, 0.25)
    code = torch.randn(1, 10)
    other = code.clone()
    other[:, CODES.places()["identity"]] += 1
    assert not torch.equal(evaluated(volume, other)[1], evaluated(volume, code)[1])


def test_the_last_layer_behind_compositing_is_the_last_layer_before_it() -> None:
    """What is computed once a ray equals compositing M(x) of every sample."""
    torch.manual_seed(0)
    volume, given, code = Volume(SIZES, CODES, 0.25), rays(1, 5), torch.randn(1, 10)
    distance, length = slab_distances(given, SIZES.slab, SIZES.samples)
    points = given.origins[:, :, None] + distance[..., None] * given.directions[:, :, None]
    sigma, hidden = volume.evaluate(points, given.directions, code)
    every = volume.out(hidden)[0].contiguous()
    wanted, _ = ops.composite_segments(sigma[0], every, length[0].contiguous(), segments=1)
    torch.testing.assert_close(volume(given, code)[0][0], wanted[:, 0], atol=1e-5, rtol=1e-5)


def test_light_from_one_side_is_linear_in_the_place() -> None:
    """Twice as far from the axis it adds twice as much, under twice the code twice as much again; a ray that
    never meets the head's plane stays finite."""
    torch.manual_seed(0)
    volume = Volume(SIZES, CODES, 0.25)
    torch.nn.init.normal_(volume.light.weight)
    origins = torch.tensor([[[0.0, 0, -0.8], [0.05, 0.02, -0.8], [0.1, 0.04, -0.8], [0, 0, -0.8]]])
    directions = torch.tensor([[[0.0, 0, 1], [0, 0, 1], [0, 0, 1], [1, 0, 0]]])
    given, code = Rays(origins, directions), torch.randn(1, 10)
    lit = volume.lit(given, code)[0]
    assert float(lit[0].abs().max()) == 0 and bool(lit.isfinite().all()) and float(lit[1].abs().max()) > 0.01
    torch.testing.assert_close(lit[2], 2 * lit[1])
    torch.testing.assert_close(volume.lit(given, 2 * code)[0], 2 * lit)


def test_every_weight_learns() -> None:
    """No parameter is left without a gradient."""
    torch.manual_seed(0)
    volume = Volume(SIZES, CODES, 0.25)
    features, opacity = volume(rays(), torch.randn(2, 10), torch.Generator().manual_seed(0))
    (features.square().sum() + opacity.sum()).backward()
    silent = [name for name, p in volume.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert silent == []


def test_the_paper_s_sizes_have_headnerf_s_cost() -> None:
    """1.5 million weights (Hong et al. 2022); those on codes are used once a frame, the last layer once a
    ray."""
    volume = Volume(VolumeSizes(), CodeSizes(), 0.25)
    whole = sum(p.numel() for name, p in volume.named_parameters() if name.endswith("weight"))
    assert math.isclose(whole, 1.51e6, rel_tol=0.1)
    assert 1.1e6 < volume.macs / 64 < 1.4e6


@pytest.mark.parametrize(
    "changes",
    [
        {"samples": 0},
        {"width": 1},
        {"slab": (0.1, -0.1)},
        {"slab": (0.1,)},
        {"slab": (float("-inf"), 0.1)},
        {"density_scale": float("inf")},
        {"samples": 65536},
        {"depth": 999},
    ],
)
def test_sizes_that_can_not_be_meant_are_refused(changes: dict) -> None:
    with pytest.raises(ValueError, match="VolumeSizes"):
        VolumeSizes(**changes)
