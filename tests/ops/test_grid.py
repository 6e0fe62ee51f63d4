"""ops.encode_grid against its reference, a hand-written grid, torch's own sampling, and bad input."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nldf_engine import ops
from nldf_engine.nn.grid import GridEncoding, grid_parameters
from nldf_engine.ops import GridSpec
from nldf_engine.ops.reference import grid_reference

# A dense level, a level of the smallest size, and (from 2 dimensions on) hashed ones.
RESOLUTIONS = (5, 2, 9, 37, 301)


# What other programs' tables need, one of each: real scales, half a cell of shift, every border, tiles.
STAGGERED = GridSpec.staggered(2, 2, 2, base_resolution=3, growth=3.1, log2_table=6)
PLACED = {
    "wrapped": {"border": "wrap"},
    "tiled": {"border": "zero", "sharing": "tile", "margin": 1},
    "hashed": {"border": "zero", "margin": 1},
    "clamped": {"border": "clamp", "sharing": "tile", "shift": 0.25, "margin": 1},
    "corners": {"border": "zero", "shift": 0.0},
}


def placed(name: str, dims: int, features: int, interpolation: str = "linear", **more) -> GridSpec:
    """A grid of dense and shared levels with one of these placings."""
    options = {"base_resolution": 3, "growth": 2.3, "log2_table": 8} | more
    return GridSpec.staggered(dims, 5, features, interpolation=interpolation, **options, **PLACED[name])


def case(
    spec: GridSpec, points: int, dtype: torch.dtype = torch.float32, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Points of which some lie outside, and a table."""
    g = torch.Generator().manual_seed(seed)
    x = 1.2 * torch.rand(points, spec.dims, generator=g) - 0.1
    return x.to(dtype), torch.randn(spec.entries, spec.features, generator=g).to(dtype)


def run(op, x: Tensor, table: Tensor, spec: GridSpec, **options) -> list[Tensor]:
    """The encoding, then the gradients of points and table under a fixed cotangent."""
    leaves = [x.clone().requires_grad_(), table.clone().requires_grad_()]
    out = op(*leaves, spec, **options)
    cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
    return [out.detach(), *torch.autograd.grad(out, leaves, cotangent)]


@contextlib.contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Inside the block the kernels use so many threads."""
    former = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(former)


def away_from_vertices(x: Tensor, spec: GridSpec, margin: float = 1e-4) -> Tensor:
    """The points whose coordinates lie off every vertex and border, where the gradient has no jump."""
    keep = torch.ones(len(x), dtype=torch.bool)
    for resolution in spec.resolutions:
        position = x.double() * (resolution - 1)
        keep &= ((position - position.round()).abs() > margin * resolution).all(1)
    return x[keep].contiguous()


@pytest.mark.parametrize("interpolation", ["linear", "smoothstep"])
@pytest.mark.parametrize("features", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("dims", [2, 3, 4])
def test_agrees_with_the_reference(device, compare, dims, features, interpolation):
    """Features and both gradients are as accurate as the reference's in float32, dense levels and hashed."""
    spec = GridSpec(dims, features, RESOLUTIONS, log2_table=10, interpolation=interpolation)
    assert any(spec.hashed) and not all(spec.hashed)
    x, table = case(spec, 400)
    x = away_from_vertices(x, spec, 1e-5)
    assert len(x) > 300 and (x < 0).any() and (x > 1).any()
    compare(
        run(ops.encode_grid, x.to(device), table.to(device), spec),
        run(grid_reference, x, table, spec),
        run(grid_reference, x.double(), table.double(), spec),
    )


def off_vertices(x: Tensor, spec: GridSpec, margin: float = 1e-4) -> Tensor:
    """`away_from_vertices` for levels with a placing."""
    keep = ((x - x.round()).abs() > margin).all(1)
    for scale in spec.scales or ():
        position = x.double() * scale + spec.shift
        keep &= ((position - position.round()).abs() > margin * scale).all(1)
    return x[keep].contiguous()


@pytest.mark.parametrize("interpolation", ["linear", "smoothstep"])
@pytest.mark.parametrize("features", [1, 2, 3, 4])
@pytest.mark.parametrize("dims", [2, 3, 4])
@pytest.mark.parametrize("name", PLACED)
def test_placed_grids_agree_with_the_reference(device, compare, name, dims, features, interpolation):
    """Features and both gradients of grids as other programs place them, at points inside and outside."""
    spec = placed(name, dims, features, interpolation)
    assert any(spec.shared) and not all(spec.shared) and spec.placed
    x, table = case(spec, 400)
    x = off_vertices(3 * x - 1, spec, 1e-5)
    assert len(x) > 200 and (x < 0).any() and (x > 1).any()
    compare(
        run(ops.encode_grid, x.to(device), table.to(device), spec),
        run(grid_reference, x, table, spec),
        run(grid_reference, x.double(), table.double(), spec),
    )


@settings(max_examples=40, deadline=None)
@given(
    points=st.sampled_from([0, 1, 63, 64, 65, 1100]),
    name=st.sampled_from(list(PLACED)),
    dims=st.integers(2, 4),
    features=st.integers(1, 8),
    base=st.integers(2, 20),
    log2_table=st.sampled_from([3, 4, 9, 12]),
    threads=st.integers(1, 4),
)
def test_placed_grids_of_any_size(points, name, dims, features, base, log2_table, threads):
    """Every number of points, dims, features and entries gives the reference's results in float64."""
    spec = placed(name, dims, features, base_resolution=base, log2_table=log2_table)
    x, table = case(spec, points, torch.float64)
    x = off_vertices(x, spec, 1e-9)
    with on_threads(threads):
        got = run(ops.encode_grid, x, table, spec)
    for result, expected in zip(got, run(grid_reference, x, table, spec), strict=True):
        torch.testing.assert_close(result, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", PLACED)
def test_placed_gradients_are_derivatives(name):
    """The gradients of table and points are the finite differences in float64, outside as well."""
    spec = placed(name, 3, 2, base_resolution=2, growth=1.6, log2_table=5)
    x, table = case(spec, 12, torch.float64)
    x = off_vertices(2 * x - 0.5, spec)
    assert len(x) > 4 and ((x < 0) | (x > 1)).any()
    torch.autograd.gradcheck(
        lambda x, t: ops.encode_grid(x, t, spec), (x.requires_grad_(), table.requires_grad_())
    )


@pytest.mark.parametrize("name", PLACED)
def test_placed_grids_answer_anything(name):
    """Far outside, infinite and NaN coordinates read inside the table and harm no other point."""
    spec = placed(name, 2, 2)
    x, table = case(spec, 70)
    usual = ops.encode_grid(x, table, spec)
    for row, value in enumerate((torch.nan, torch.inf, -torch.inf, 1e30, -1e30, 3e9)):
        x[10 * row, row % 2] = value
    told = torch.arange(70) % 10 == 0
    told[60] = False
    for backend in ("native", "reference"):
        out = ops.encode_grid(x, table, spec, backend=backend)
        assert torch.equal(out[~told], usual[~told]) or backend == "reference"
        assert out[0].isnan().all() and not out[~told].isnan().any()
    if spec.border == "zero":
        assert torch.equal(out[10:60:10], torch.zeros(5, spec.out_features))


@settings(max_examples=40, deadline=None)
@given(
    points=st.sampled_from([0, 1, 7, 63, 64, 65, 129, 1023, 1024, 1025, 1100]),
    dims=st.integers(2, 4),
    features=st.integers(1, 8),
    resolutions=st.lists(st.sampled_from([2, 3, 5, 16, 33, 500, 65536]), min_size=1, max_size=6),
    log2_table=st.sampled_from([1, 4, 9, 12]),
    interpolation=st.sampled_from(["linear", "smoothstep"]),
    threads=st.integers(1, 4),
)
def test_any_size(points, dims, features, resolutions, log2_table, interpolation, threads):
    """Every number of points, dims, features and levels gives the reference's results, on any threads."""
    spec = GridSpec(dims, features, tuple(resolutions), log2_table, interpolation)
    x, table = case(spec, points)
    with on_threads(threads):
        got = run(ops.encode_grid, x, table, spec)
    want = run(grid_reference, x, table, spec)
    slope = max(resolutions) * max(features, 4)
    for result, expected, size in zip(got, want, (1, slope, 1), strict=True):
        torch.testing.assert_close(result, expected, rtol=1e-3, atol=2e-4 * size)


@pytest.mark.parametrize("interpolation", ["linear", "smoothstep"])
@pytest.mark.parametrize(("dims", "features"), [(2, 4), (3, 2), (4, 1), (2, 3), (3, 8)])
def test_gradients_are_derivatives(dims, features, interpolation):
    """The gradients of table and points are the finite differences in float64."""
    spec = GridSpec(dims, features, (2, 5), log2_table=3, interpolation=interpolation)
    assert spec.hashed == (dims > 3, True)
    x, table = case(spec, 9, torch.float64)
    x = away_from_vertices(x, spec)
    assert len(x) > 3
    torch.autograd.gradcheck(
        lambda x, t: ops.encode_grid(x, t, spec), (x.requires_grad_(), table.requires_grad_())
    )


def test_opcheck():
    """Schema, fake tensors and dispatch of both operations hold."""
    spec = GridSpec(3, 2, (3, 9), log2_table=6)
    x, table = case(spec, 5)
    v_out = torch.randn(5, spec.out_features)
    shape = (spec.resolutions, spec.log2_table)
    for yes in (False, True):
        placing = (STAGGERED if yes else spec).placing
        torch.library.opcheck(torch.ops.nldf.grid.default, (x, table, *shape, yes, *spec.placing))
        torch.library.opcheck(
            torch.ops.nldf.grid_backward.default,
            (x, table, v_out, yes, not yes, *shape, False, (2.0, 8.5) if yes else (), *placing[1:4], 1, 7),
        )


def by_hand(x: list[float], table: Tensor, resolution: int, log2_table: int) -> Tensor:
    """One hashed level at one point, written out in Python's own integers and floats."""
    total = torch.zeros(table.shape[1], dtype=torch.float64)
    primes = {0: 1, 1: 2_654_435_761, 2: 805_459_861, 3: 1_367_130_559}
    for corner in range(2 ** len(x)):
        weight, code = 1.0, 0
        for d, coordinate in enumerate(x):
            position = min(max(coordinate, 0.0), 1.0) * (resolution - 1)
            cell = min(int(position), resolution - 2)
            upper = corner // 2**d % 2
            weight *= position - cell if upper else 1 - (position - cell)
            code ^= (cell + upper) * primes[d] % 2**32
        total += weight * table[code % 2**log2_table].double()
    return total


@pytest.mark.parametrize("dims", [2, 3, 4])
def test_hashed_levels_are_the_paper_s_hash(dims):
    """Kernel and reference read the entries that the hash of Mueller et al., eq. (4), names."""
    spec = GridSpec(dims, 2, (1021,), log2_table=12)
    assert spec.hashed == (True,) and spec.entries == 4096
    x, table = case(spec, 40, torch.float64)
    want = torch.stack([by_hand(point.tolist(), table, 1021, 12) for point in x])
    torch.testing.assert_close(ops.encode_grid(x, table, spec), want)
    torch.testing.assert_close(grid_reference(x, table, spec), want)


@pytest.mark.parametrize("dims", [2, 3])
def test_dense_level_is_torch_s_grid_sample(dims):
    """A dense level is torch's grid_sample with aligned corners and border padding, gradients included."""
    spec = GridSpec(dims, 3, (17,))
    x, table = case(spec, 200, torch.float64)
    x = away_from_vertices(x, spec)

    def sampled(x: Tensor, table: Tensor, spec: GridSpec) -> Tensor:
        picture = table.T.reshape(1, spec.features, *[spec.resolutions[0]] * spec.dims)
        where = (2 * x - 1).reshape(1, -1, *[1] * (spec.dims - 1), spec.dims)
        out = torch.nn.functional.grid_sample(
            picture, where, mode="bilinear", padding_mode="border", align_corners=True
        )
        return out.reshape(spec.features, -1).T

    got, want = run(ops.encode_grid, x, table, spec), run(sampled, x, table, spec)
    for ours, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("interpolation", ["linear", "smoothstep"])
def test_vertices_give_their_own_entries(interpolation):
    """On a vertex the encoding is its entry; the first axis is the fastest."""
    spec = GridSpec(3, 2, (5,), interpolation=interpolation)
    _, table = case(spec, 0)
    k = torch.arange(5) / 4
    z, y, x = torch.meshgrid(k, k, k, indexing="ij")
    points = torch.stack([x, y, z], -1).reshape(-1, 3)
    assert torch.equal(ops.encode_grid(points, table, spec), table)


@pytest.mark.parametrize("interpolation", ["linear", "smoothstep"])
def test_border_clamps(interpolation):
    """Outside of [0, 1] a point encodes as its nearest on the border, and its gradient is zero there."""
    spec = GridSpec(2, 2, (4, 40), log2_table=8, interpolation=interpolation)
    _, table = case(spec, 0)
    outside = torch.tensor([[-0.5, 0.3], [1.5, 0.3], [0.3, -1e-6], [0.3, 1e30], [-torch.inf, torch.inf]])
    inside = outside.clamp(0, 1)
    assert torch.equal(ops.encode_grid(outside, table, spec), ops.encode_grid(inside, table, spec))
    _, v_x, _ = run(ops.encode_grid, outside, table, spec)
    assert torch.equal(v_x == 0, (outside < 0) | (outside > 1))


def test_gradient_on_the_border_and_on_vertices_is_the_reference_s():
    """At 0, at 1 and on vertices, where a derivative has two sides, kernel and reference take the same."""
    spec = GridSpec(2, 4, (3, 5))
    _, table = case(spec, 0)
    k = torch.arange(5) / 4
    points = torch.cartesian_prod(k, k).contiguous()
    for got, want in zip(
        run(ops.encode_grid, points, table, spec), run(grid_reference, points, table, spec), strict=True
    ):
        torch.testing.assert_close(got, want)


def test_nan_stays_where_it_is():
    """A NaN coordinate gives NaN features at its own point, and harms no other."""
    spec = GridSpec(2, 4, (4, 300), log2_table=8)
    x, table = case(spec, 70)
    x[3, 1] = torch.nan
    for backend in ("native", "reference"):
        out = ops.encode_grid(x, table, spec, backend=backend)
        assert torch.equal(out.isnan().any(1), torch.arange(70) == 3)


def test_gradient_repeats_for_the_same_threads():
    """The table's gradient is the same bit by bit from run to run, whatever the number of threads."""
    spec = GridSpec(2, 4, (16, 64, 128))
    x, table = case(spec, 60_000)
    for threads in (1, 2, 3):
        with on_threads(threads):
            first, second = (run(ops.encode_grid, x, table, spec) for _ in range(2))
            assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    torch.testing.assert_close(first, run(grid_reference, x, table, spec), rtol=1e-3, atol=1e-2)


def test_gradients_that_nobody_asked_for_are_not_made():
    """Only the inputs that require a gradient receive one, and each alone is the same as both."""
    spec = GridSpec(2, 2, (4, 9))
    x, table = case(spec, 30)
    _, v_x, v_table = run(ops.encode_grid, x, table, spec)
    cotangent = torch.randn(30, 4, generator=torch.Generator().manual_seed(1))
    for leaf, other, want in ((x, table, v_x), (table, x, v_table)):
        leaf.requires_grad_()
        ops.encode_grid(x, table, spec).backward(cotangent)
        assert other.grad is None and torch.equal(leaf.grad, want)
        leaf.requires_grad_(False).grad = None


def test_reference_backend_is_the_reference():
    """backend="reference" runs the reference itself."""
    spec = GridSpec(2, 2, (4, 9))
    x, table = case(spec, 6)
    assert torch.equal(ops.encode_grid(x, table, spec, backend="reference"), grid_reference(x, table, spec))


def test_geometric_progression():
    """Resolutions grow by a constant factor between the two that are named, both included."""
    spec = GridSpec.geometric(3, 16, 2, base_resolution=16, finest_resolution=2048, log2_table=16)
    assert (spec.levels, spec.resolutions[0], spec.resolutions[-1]) == (16, 16, 2048)
    growth = [b / a for a, b in zip(spec.resolutions, spec.resolutions[1:], strict=False)]
    assert max(growth) / min(growth) < 1.06
    assert spec.hashed == tuple(r > 40 for r in spec.resolutions)  # 40^3 < 2^16 < 41^3
    assert spec.entries == sum(min(r**3, 65536) for r in spec.resolutions)
    assert GridSpec.geometric(2, 1, 2, 16, 16).resolutions == (16,)


GOOD = {"dims": 2, "features": 4, "resolutions": (4, 8)}
BAD_SPECS = {
    "dims low": ({"dims": 1}, ValueError, r"dims must be in \[2, 4\], got 1"),
    "dims float": ({"dims": 2.0}, TypeError, r"dims must be an int, got float"),
    "features": ({"features": 9}, ValueError, r"features must be in \[1, 8\], got 9"),
    "resolutions type": ({"resolutions": 4}, TypeError, r"resolutions must be a tuple of int, got int"),
    "resolutions none": ({"resolutions": ()}, ValueError, r"resolutions must name 1 to 32 levels, got 0"),
    "resolutions many": ({"resolutions": (4,) * 33}, ValueError, r"resolutions must name .* got 33"),
    "resolutions low": ({"resolutions": (4, 1)}, ValueError, r"resolutions\[1\] must be in .* got 1"),
    "log2_table": ({"log2_table": 25}, ValueError, r"log2_table must be in \[1, 24\], got 25"),
    "interpolation": ({"interpolation": "cubic"}, ValueError, r"interpolation must be .* got 'cubic'"),
    "scales few": ({"scales": (3.0,)}, ValueError, r"scales must be 2 positive numbers, one a level, got \("),
    "scales zero": ({"scales": (3.0, 0.0)}, ValueError, r"scales must be 2 positive numbers"),
    "scales NaN": ({"scales": (3.0, float("nan"))}, ValueError, r"scales must be 2 positive numbers"),
    "shift": ({"shift": float("inf")}, ValueError, r"shift must be a finite number, got inf"),
    "border": ({"border": "mirror"}, ValueError, r"border must be 'clamp' or 'zero' or 'wrap', got 'mirror'"),
    "sharing": ({"sharing": "none"}, ValueError, r"sharing must be 'hash' or 'tile', got 'none'"),
    "alignment": ({"alignment": 6}, ValueError, r"alignment must be a power of two, got 6"),
    "alignment big": (
        {"alignment": 32, "log2_table": 4},
        ValueError,
        r"alignment must be in \[1, 16\], got 32",
    ),
    "prime even": ({"fourth_prime": 4}, ValueError, r"fourth_prime must be odd, got 4"),
    "prime big": ({"fourth_prime": 1 << 33}, ValueError, r"fourth_prime must be in .* got 8589934592"),
}


@pytest.mark.parametrize("name", BAD_SPECS)
def test_bad_spec_is_named(name):
    """Each wrong field of a spec raises the right error, naming the field and what came."""
    change, error, message = BAD_SPECS[name]
    with pytest.raises(error, match="GridSpec: " + message):
        GridSpec(**GOOD | change)


def test_bad_progression_is_named():
    """A progression that would shrink is refused."""
    with pytest.raises(ValueError, match=r"GridSpec: finest_resolution must be in \[64, 65536\], got 16"):
        GridSpec.geometric(2, 3, 4, base_resolution=64, finest_resolution=16)
    with pytest.raises(ValueError, match=r"GridSpec: growth must be a number of at least 1, got 0.5"):
        GridSpec.staggered(2, 3, 4, base_resolution=64, growth=0.5)


BAD = {
    "x no tensor": ({"x": None}, TypeError, r"x must be a torch.Tensor, got NoneType"),
    "x bf16": ({"x": torch.ones(5, 2).bfloat16()}, TypeError, r"x must be torch.float32 .*bfloat16"),
    "x shape": ({"x": torch.ones(5, 3)}, ValueError, r"x must have the shape \[N, 2\], got \[5, 3\]"),
    "x layout": ({"x": torch.ones(2, 5).T}, ValueError, r"x must be contiguous"),
    "table shape": ({"table": torch.ones(79, 4)}, ValueError, r"table must .* \[80, 4\], got \[79, 4\]"),
    "table dtype": ({"table": torch.ones(80, 4).double()}, TypeError, r"table must be torch.float32 as x is"),
    "spec": ({"spec": (4, 8)}, TypeError, r"spec must be a GridSpec, got tuple"),
    "backend": ({"backend": ""}, ValueError, r"backend must be 'native' or 'reference', got ''"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    """Each wrong argument raises the right error, naming the operation, the argument and what came."""
    change, error, message = BAD[name]
    spec = GridSpec(**GOOD)
    arguments = {"x": torch.rand(5, 2), "table": torch.rand(80, 4), "spec": spec} | change
    with pytest.raises(error, match="encode_grid: " + message):
        ops.encode_grid(**arguments)


def test_raw_operation_refuses_a_short_table():
    """Whoever calls torch.ops.nldf directly with too short a table gets an error, not a stray read."""
    with pytest.raises(ValueError, match="grid: table must have 80 rows, got 79"):
        torch.ops.nldf.grid(torch.rand(5, 2), torch.rand(79, 4), (4, 8), 19, False, *GridSpec(**GOOD).placing)
    with pytest.raises(ValueError, match="grid: scales must be none or 2, got 1"):
        torch.ops.nldf.grid(
            torch.rand(5, 2), torch.rand(80, 4), (4, 8), 19, False, (3.0,), 0.5, 0, False, 1, 7
        )


def test_compiles_as_one_graph():
    """torch.compile takes the call, its checks and its gradient without a graph break."""
    spec = GridSpec(2, 4, (4, 30), log2_table=8)
    x, table = case(spec, 9)

    def loss(table: Tensor) -> Tensor:
        return ops.encode_grid(x, table, spec).square().sum()

    gradients = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        leaf = table.clone().requires_grad_()
        function(leaf).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(gradients[1], gradients[0])


def test_spec_is_a_value():
    """A spec can be compared, hashed, changed and written as plain data."""
    spec = GridSpec(2, 4, (4, 8))
    again = GridSpec(**dataclasses.asdict(spec) | {"resolutions": [4, 8]})
    assert again == spec and hash(again) == hash(spec)
    assert dataclasses.replace(spec, features=2).entries == spec.entries


def test_module_learns_a_function():
    """GridEncoding with Adam on its own parameter group fits a smooth function of the plane."""
    encoding = GridEncoding(GridSpec(2, 2, (4, 8, 16)))
    assert encoding.table.abs().max() <= 1e-4 and encoding.out_features == 6
    optimizer = torch.optim.Adam([grid_parameters(encoding, lr=0.05)])
    for _ in range(80):
        x = torch.rand(512, 2)
        error = encoding(x).sum(1) - torch.sin(5 * x[:, 0]) * torch.cos(4 * x[:, 1])
        optimizer.zero_grad()
        error.square().mean().backward()
        optimizer.step()
    assert error.square().mean() < 1e-3
    with pytest.raises(ValueError, match="module must hold a GridEncoding, got Linear"):
        grid_parameters(torch.nn.Linear(2, 2))
