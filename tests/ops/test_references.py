"""ops.gather_references against its reference, torch's own lookup, closed forms and bad input."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nldf_engine import ops
from nldf_engine.ops.reference import references_reference

NAMES = ("points", "projections", "maps", "offsets")
LEAVES = (0, 2, 3)  # what gradients flow to


def draw(points: int, count: int, height: int, width: int, channels: int, seed: int = 0) -> list[Tensor]:
    """Points of a head's box seen by cameras 0.7 m away, some of them behind, and offsets of some pixels."""
    g = torch.Generator().manual_seed(seed)
    pose = torch.eye(4).repeat(count, 1, 1)
    turn = 0.1 * torch.randn(count, 3, 3, generator=g)
    pose[:, :3, :3] = torch.linalg.matrix_exp(turn - turn.mT)
    pose[:, :3, 3] = torch.tensor([0.0, 0.0, 0.7]) + 0.02 * torch.randn(count, 3, generator=g)
    camera = torch.tensor([[1.8 * width, 0, 0.5 * width], [0, 1.8 * width, 0.5 * height], [0, 0, 1]])
    x = 0.3 * torch.rand(points, 3, generator=g) - 0.15
    x[::11] = torch.tensor([0.1, 0.2, -2.0])
    return [
        x,
        (camera @ pose[:, :3]).contiguous(),
        torch.randn(count, height, width, channels, generator=g),
        2 * torch.randn(points, count, 2, generator=g),
    ]


def case(points: int, count: int, height: int, width: int, channels: int) -> list[Tensor]:
    """Draws until no place lies where features or slopes jump: on a pixel's border or centre."""
    for seed in range(1000):
        inputs = draw(points, count, height, width, channels, seed)
        twice = 2 * references_reference(*(x.double() for x in inputs))[1]
        if not ((twice - twice.round()).abs() < 1e-4).any():
            return inputs
    raise AssertionError("every seed has a place at a jump")


def run(op, inputs: list[Tensor | None], nearest: bool = False) -> list[Tensor]:
    """Features and places, then the gradients of points, maps and offsets under fixed cotangents."""
    given_ = [None if x is None else x.clone().requires_grad_(i in LEAVES) for i, x in enumerate(inputs)]
    outputs = op(*given_, nearest=nearest)
    g = torch.Generator().manual_seed(1)
    cotangents = [torch.randn(out.shape, generator=g).to(out) for out in outputs]
    leaves = [x for x in given_ if x is not None and x.requires_grad]
    v = torch.autograd.grad(outputs, leaves, cotangents)
    return [*(out.detach() for out in outputs), *v]


def in_double(inputs: list[Tensor | None]) -> list[Tensor | None]:
    return [None if x is None else x.double() for x in inputs]


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("channels", [5, 32])
def test_agrees_with_the_reference(device, compare, channels, moved, nearest):
    """Features, places and gradients are as accurate as the reference's in float32."""
    inputs = case(150, 4, 20, 30, channels)
    inputs = inputs if moved else [*inputs[:3], None]
    got = run(ops.gather_references, [None if x is None else x.to(device) for x in inputs], nearest)
    single = run(references_reference, inputs, nearest)
    compare(got, single, run(references_reference, in_double(inputs), nearest))


@pytest.mark.parametrize("channels", [1, 3, 7, 16, 24, 37, 128])
def test_every_instruction_set_agrees(isa, compare, channels):
    """With vectors of any width, whole or not: as accurate as the reference, whatever C is."""
    inputs = case(80, 3, 9, 8, channels)
    double = run(references_reference, in_double(inputs))
    compare(run(ops.gather_references, inputs), run(references_reference, inputs), double)


@settings(max_examples=60, deadline=None)
@given(
    points=st.sampled_from([0, 1, 63, 64, 65, 257]),
    count=st.integers(0, 3),
    height=st.integers(1, 4),
    width=st.integers(1, 4),
    channels=st.sampled_from([0, 1, 4, 15, 16, 17, 33]),
    nearest=st.booleans(),
)
def test_any_size(points, count, height, width, channels, nearest):
    """Every number of points, references, pixels and channels gives the reference's outputs and gradients."""
    inputs = case(points, count, height, width, channels)
    want = run(references_reference, in_double(inputs), nearest)
    for got, expected in zip(run(ops.gather_references, inputs, nearest), want, strict=True):
        assert got.shape == expected.shape
        size = expected.abs().max().clamp_min(1) if expected.numel() else 1
        torch.testing.assert_close(got.double() / size, expected / size, rtol=0, atol=2e-5)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_agrees_with_torch(backend):
    """Features and their gradients are those of torch's grid_sample with its border, at the places."""
    points, projections, maps, offsets = in_double(case(200, 3, 20, 30, 5))
    maps.requires_grad_()
    offsets.requires_grad_()
    features, places = ops.gather_references(points, projections, maps, offsets, backend=backend)
    moved = places.detach().requires_grad_()
    at = moved.permute(1, 0, 2)[:, :, None] / torch.tensor([30.0, 20.0]) * 2 - 1
    looked = torch.nn.functional.grid_sample(
        maps.permute(0, 3, 1, 2), at, padding_mode="border", align_corners=False
    )
    want = looked[..., 0].permute(2, 0, 1)
    torch.testing.assert_close(features, want)
    v = torch.randn(features.shape, generator=torch.Generator().manual_seed(2)).double()
    got = torch.autograd.grad(features, [maps, offsets], v)
    for mine, theirs in zip(got, torch.autograd.grad(want, [maps, moved], v), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_places_are_those_of_the_cameras():
    """A point at a pixel's centre, at any depth, is found in that pixel."""
    g = torch.Generator().manual_seed(0)
    turn = 0.2 * torch.randn(3, 3, generator=g, dtype=torch.float64)
    rotation, position = torch.linalg.matrix_exp(turn - turn.T), torch.randn(3, generator=g).double()
    camera = torch.tensor([[50.0, 0, 4], [0, 40, 3], [0, 0, 1]], dtype=torch.float64)
    pixels = torch.cartesian_prod(torch.arange(6.0), torch.arange(8.0)).flip(1).double() + 0.5  # x, y
    depth = 0.1 + torch.rand(len(pixels), 1, generator=g).double()
    seen = torch.cat([pixels, torch.ones(len(pixels), 1)], 1) @ camera.inverse().T * depth
    points = seen @ rotation.T + position
    projection = camera @ torch.cat([rotation.T, -(rotation.T @ position)[:, None]], 1)
    maps = torch.randn(1, 6, 8, 3, generator=g).double()
    features, places = ops.gather_references(points, projection[None], maps)
    torch.testing.assert_close(places[:, 0], pixels)
    torch.testing.assert_close(features[:, 0], maps.view(-1, 3))


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("backend", ["native", "reference"])
def test_gradients_are_derivatives(backend, nearest):
    """The gradients of the kernel, and of its reference, are their finite differences in float64."""
    points, projections, maps, offsets = in_double(case(12, 2, 5, 4, 3))
    leaves = [x.requires_grad_() for x in (points, maps, offsets)]
    torch.autograd.gradcheck(
        lambda x, m, o: ops.gather_references(x, projections, m, o, nearest=nearest, backend=backend), leaves
    )


def test_threads_give_the_same_bits():
    """Features and gradients don't depend on how many threads share the points, maps and channels."""
    inputs, threads, results = draw(1500, 3, 16, 16, 70), torch.get_num_threads(), []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(run(ops.gather_references, inputs))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("wanted", [(0,), (2,), (3,), (0, 3), (2, 3)])
def test_gradients_are_left_out_where_not_wanted(wanted):
    """Whichever gradients are wanted, they are the same ones."""
    inputs = case(70, 3, 6, 5, 20)
    every = dict(zip(LEAVES, run(ops.gather_references, inputs)[2:], strict=True))
    leaves = [x.clone().requires_grad_(i in wanted) for i, x in enumerate(inputs)]
    outputs = [out for out in ops.gather_references(*leaves) if out.requires_grad]
    g = torch.Generator().manual_seed(1)
    cotangents = [torch.randn(shape, generator=g) for shape in ((70, 3, 20), (70, 3, 2))][: len(outputs)]
    got = torch.autograd.grad(outputs, [leaves[i] for i in wanted], cotangents)
    for i, gradient in zip(wanted, got, strict=True):
        assert torch.equal(gradient, every[i])


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_outputs_have_gradients_of_their_own(backend):
    """A loss of features alone or of places alone has the gradients of that output."""
    points, projections, maps, offsets = in_double(case(20, 2, 6, 5, 3))
    offsets.requires_grad_()
    features, places = ops.gather_references(points, projections, maps, offsets, backend=backend)
    v = torch.autograd.grad(places.sum(), offsets, retain_graph=True)[0]
    assert torch.equal(v, torch.ones_like(offsets))
    both = torch.autograd.grad(features.sum() + places.sum(), offsets, retain_graph=True)[0]
    torch.testing.assert_close(torch.autograd.grad(features.sum(), offsets)[0], both - 1)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_nearest_is_the_pixel_that_a_place_lies_in(backend):
    """Pixel i holds the places from i up to i + 1, the outermost ones all beyond; none moves a feature."""
    maps = torch.arange(4.0).view(1, 1, 4, 1)
    x = torch.tensor([-3.0, -0.1, 0.0, 0.9, 1.0, 1.99, 2.5, 3.0, 3.99, 4.0, 1e30])
    offsets = torch.stack([x, torch.zeros_like(x)], 1)[:, None].contiguous().requires_grad_()
    at_zero = torch.tensor([[[0.0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]])
    features, _ = ops.gather_references(
        torch.zeros(len(x), 3), at_zero, maps.requires_grad_(), offsets, nearest=True, backend=backend
    )
    assert features.flatten().tolist() == [0, 0, 0, 0, 1, 1, 2, 3, 3, 3, 3]
    v_maps, v_offsets = torch.autograd.grad(features.sum(), [maps, offsets], materialize_grads=True)
    assert v_maps.flatten().tolist() == [4, 2, 1, 4] and not v_offsets.any()


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_interpolation_is_clamped_to_the_outermost_centres(backend):
    """Between two centres features are linear, beyond the outermost ones constant and without a slope."""
    maps = torch.tensor([10.0, 20.0, 40.0]).view(1, 3, 1, 1)
    y = torch.tensor([-5.0, 0.25, 0.5, 0.75, 1.5, 2.0, 2.5, 2.6, 90.0])
    offsets = torch.stack([torch.zeros_like(y), y], 1)[:, None].contiguous().requires_grad_()
    at_zero = torch.tensor([[[0.0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]])
    features, places = ops.gather_references(torch.zeros(9, 3), at_zero, maps, offsets, backend=backend)
    torch.testing.assert_close(features.flatten(), torch.tensor([10, 10, 10, 12.5, 20, 30, 40, 40, 40]))
    assert torch.equal(places, offsets)
    slopes = torch.autograd.grad(features.sum(), offsets)[0]
    assert slopes[:, 0, 1].tolist() == [0, 0, 10, 10, 20, 20, 20, 0, 0] and not slopes[:, 0, 0].any()


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_points_behind_a_camera(backend):
    """At or behind a camera a point is seen in the map's corner, moved by its offset; it has no gradient."""
    projection = torch.tensor([[[100.0, 0, 2, 0], [0, 100, 2, 0], [0, 0, 1, 0]]])
    points = torch.tensor([[0.01, 0, -1], [0, 0.02, 0], [3, 0, 1e-6], [0.01, 0.005, 1]]).requires_grad_()
    offsets = torch.full((4, 1, 2), 1.5)
    maps = torch.randn(1, 4, 4, 3, generator=torch.Generator().manual_seed(0))
    features, places = ops.gather_references(points, projection, maps, offsets, backend=backend)
    torch.testing.assert_close(places[:, 0], torch.tensor([[1.5, 1.5]] * 3 + [[4.5, 4.0]]))
    torch.testing.assert_close(features[:3, 0], maps[0, 1, 1].expand(3, 3))
    v = torch.autograd.grad(features.sum() + places.sum(), points)[0]
    assert not v[:3].any() and v[3].any() and v.isfinite().all()


HOSTILE = (math.nan, math.inf, -math.inf, 1e30, -1e30, 3e38, 1e9, -1e9)


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("channels", [3, 16])
def test_hostile_places_read_inside_the_map(isa, channels, nearest):
    """NaN looks up the first pixel, everything else that is far away the nearest border; slopes are zero."""
    maps = torch.randn(1, 3, 5, channels, generator=torch.Generator().manual_seed(0)).requires_grad_()
    offsets = torch.cartesian_prod(torch.tensor(HOSTILE), torch.tensor(HOSTILE))[:, None].contiguous()
    offsets.requires_grad_()
    points = torch.zeros(len(offsets), 3)
    at_zero = torch.tensor([[[0.0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]])
    features, places = ops.gather_references(points, at_zero, maps, offsets, nearest=nearest)
    torch.testing.assert_close(places, offsets, equal_nan=True)
    x, y = ((offsets[:, 0, i] > 0).long() * (size - 1) for i, size in enumerate((5, 3)))
    assert torch.equal(features[:, 0], maps[0, y, x])
    v_maps, v_offsets = torch.autograd.grad(features.sum(), [maps, offsets], materialize_grads=True)
    assert v_maps.sum() == features.numel() and not v_offsets.any()


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_hostile_points_stay_with_themselves(isa, backend):
    """Points that are NaN, infinite or huge spoil neither other points' features nor the maps' gradient."""
    points, projections, maps, offsets = draw(100, 2, 6, 7, 5)
    bad = torch.cartesian_prod(*[torch.tensor(HOSTILE)] * 3)
    mixed = torch.cat([points, bad])
    far = torch.zeros(len(bad), 2, 2)
    maps.requires_grad_()
    features, places = ops.gather_references(
        mixed, projections, maps, torch.cat([offsets, far]), backend=backend
    )
    want, want_places = ops.gather_references(points, projections, maps, offsets, backend=backend)
    assert torch.equal(features[:100], want) and torch.equal(places[:100], want_places)
    assert features.isfinite().all()  # clamped: features are of the map, whatever the place
    assert places[100].isnan().all()  # the place itself stays NaN
    assert torch.autograd.grad(features.sum(), maps)[0].isfinite().all()


def test_linear_layers_commute_with_the_lookup():
    """A layer on every looked-up feature gives the same as on every pixel, its bias included."""
    points, projections, maps, offsets = in_double(case(50, 2, 6, 7, 8))
    layer = torch.nn.Linear(8, 11).double()
    behind = layer(ops.gather_references(points, projections, maps, offsets)[0])
    before = ops.gather_references(points, projections, layer(maps).contiguous(), offsets)[0]
    torch.testing.assert_close(before, behind)


@pytest.mark.parametrize("nearest", [False, True])
def test_opcheck(nearest):
    """Schema, fake tensors and dispatch of both operations hold, whatever is given and wanted."""
    points, projections, maps, offsets = draw(7, 2, 4, 5, 6)
    forward = torch.ops.nldf.references.default
    torch.library.opcheck(forward, (points, projections, maps, offsets, nearest))
    torch.library.opcheck(forward, (points, projections, maps, None, nearest))
    places = forward(points, projections, maps, offsets, nearest)[1]
    v_features, v_places = torch.randn(7, 2, 6), torch.randn(7, 2, 2)
    backward = torch.ops.nldf.references_backward.default
    inputs = (points, projections, maps, places, v_features)
    torch.library.opcheck(backward, (*inputs, v_places, nearest, True, True, True))
    torch.library.opcheck(backward, (*inputs, None, nearest, False, True, False))


def test_reference_backend_is_the_reference():
    """backend="reference" runs the reference itself."""
    inputs = draw(9, 2, 4, 5, 3)
    for nearest in (False, True):
        got = ops.gather_references(*inputs, nearest=nearest, backend="reference")
        assert all(
            torch.equal(a, b) for a, b in zip(got, references_reference(*inputs, nearest), strict=True)
        )


BAD = {
    "points no tensor": ({"points": 1.0}, TypeError, r"points must be a torch.Tensor, got float"),
    "points shape": ({"points": torch.zeros(5, 4)}, ValueError, r"points must .* \[P, 3\], got \[5, 4\]"),
    "points dtype": ({"points": torch.zeros(5, 3).half()}, TypeError, r"points must be torch.float32"),
    "points layout": ({"points": torch.zeros(3, 5).mT}, ValueError, r"points must be contiguous"),
    "projections shape": (
        {"projections": torch.zeros(2, 4, 4)},
        ValueError,
        r"projections must .* \[R, 3, 4\], got \[2, 4, 4\]",
    ),
    "projections gradient": (
        {"projections": torch.zeros(2, 3, 4).requires_grad_()},
        ValueError,
        r"projections must not require a gradient",
    ),
    "maps references": ({"maps": torch.zeros(3, 4, 5, 6)}, ValueError, r"maps must .* \[R=2, H"),
    "maps dtype": ({"maps": torch.zeros(2, 4, 5, 6).double()}, TypeError, r"maps must be torch.float32 as"),
    "maps layout": (
        {"maps": torch.zeros(2, 6, 4, 5).permute(0, 2, 3, 1)},
        ValueError,
        r"maps must be contiguous, got strides",
    ),
    "maps device": (
        {"maps": torch.zeros(2, 4, 5, 6, device="meta")},
        ValueError,
        r"maps must be on cpu as points is, got meta",
    ),
    "no rows": ({"maps": torch.zeros(2, 0, 5, 6)}, ValueError, r"maps' H must be in \[1, 65536\], got 0"),
    "no columns": ({"maps": torch.zeros(2, 4, 0, 6)}, ValueError, r"maps' W must be in \[1, 65536\], got 0"),
    "wide": ({"maps": torch.zeros(2, 1, 65537, 1)}, ValueError, r"maps' W must be in .*, got 65537"),
    "offsets points": ({"offsets": torch.zeros(4, 2, 2)}, ValueError, r"offsets must .* \[P=5, R=2, 2\]"),
    "offsets references": ({"offsets": torch.zeros(5, 1, 2)}, ValueError, r"offsets must .* \[P=5, R=2, 2\]"),
    "offsets type": ({"offsets": 0.5}, TypeError, r"offsets must be a torch.Tensor, got float"),
    "nearest": ({"nearest": 1}, TypeError, r"nearest must be a bool, got int"),
    "backend": ({"backend": "cuda"}, ValueError, r"backend must be 'native' or 'reference', got 'cuda'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    """Each wrong argument raises the right error, naming the operation, the argument and what came."""
    change, error, message = BAD[name]
    arguments = dict(zip(NAMES, draw(5, 2, 4, 5, 6), strict=True)) | change
    with pytest.raises(error, match=r"gather_references: " + message):
        ops.gather_references(**arguments)


def test_compiles_as_one_graph():
    """torch.compile takes the call, its checks and its gradient without a graph break."""
    points, projections, maps, offsets = draw(9, 2, 4, 5, 6)

    def loss(maps: Tensor, offsets: Tensor) -> Tensor:
        features, places = ops.gather_references(points, projections, maps, offsets)
        return features.square().sum() + places.square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    gradients = []
    for function in (loss, compiled):
        leaves = [maps.clone().requires_grad_(), offsets.clone().requires_grad_()]
        function(*leaves).backward()
        gradients.append([leaf.grad for leaf in leaves])
    torch.testing.assert_close(gradients[1], gradients[0])
