"""ops.planes: the grid-encoded light field of rays in one operation."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nldf_engine import ops
from nldf_engine.ops import GridSpec, PackedPlanes, PlanesNetwork
from nldf_engine.ops.packing import whole_panels
from nldf_engine.ops.reference import aim_lines_reference, grid_reference, planes_reference

SHAPES = {  # depths, features, ambient, width, layers of the warp net and of the second network
    "usual": ((0.0,), 4, 4, 64, 3, 4),
    "four planes": ((-0.05, 0.0, 0.04, 0.1), 4, 3, 48, 3, 4),
    "three features": ((0.0, 0.02), 3, 0, 128, 2, 3),
    "eight features": ((0.0,), 8, 5, 40, 3, 4),
    "one hidden layer": ((-0.06, 0.03), 4, 4, 64, 3, 2),
    "least": ((0.1,), 1, 0, 1, 2, 2),
}


def network(shape: str | tuple, dtype: torch.dtype = torch.float32, **changes: object) -> PlanesNetwork:
    """Random parameters whose warp and opacity vary over the picture; of a named shape, or of one."""
    depths, features, ambient, width, warp_count, count = SHAPES[shape] if isinstance(shape, str) else shape
    g = torch.Generator().manual_seed(0)

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, generator=g, dtype=torch.float64).to(dtype)

    warp_spec, spec = GridSpec(2, features, (4, 9)), GridSpec(2, features, (5, 16, 40))

    def layers(inputs: int, hidden: int, outputs: int) -> tuple[tuple[Tensor, Tensor | None], ...]:
        sizes = [inputs, *[width] * hidden, outputs]
        return tuple(
            (draw(b, a) / a**0.5, None if i == 0 else draw(b) * 0.1)
            for i, (a, b) in enumerate(pairwise(sizes))
        )

    made = PlanesNetwork(
        box=torch.tensor([-0.2, -0.25, 0.22, 0.2], dtype=dtype),
        depths=depths,
        warp_spec=warp_spec,
        warp_table=draw(warp_spec.entries, features),
        spec=spec,
        tables=tuple(draw(spec.entries, features) for _ in depths),
        warp_layers=layers(warp_spec.out_features + 2, warp_count - 1, 2 * len(depths) + ambient),
        layers=layers(len(depths) * spec.out_features + ambient, count - 1, 3 * len(depths) + 1),
        warp_scale=0.05,
        opacity_slope=3.0,
    )
    return replace(made, **changes)


def rays(net: PlanesNetwork, frames: int, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rays towards the planes, some beside the box, and the frames' biases."""
    g = torch.Generator().manual_seed(1)
    dtype, width = net.box.dtype, net.layers[0][0].shape[0]
    origins = torch.tensor([0.01, 0.02, -0.8]).repeat(frames, count, 1)
    directions = 0.2 * torch.randn(frames, count, 3, generator=g)
    directions[..., 2] = 1
    biases = [torch.randn(frames, width, generator=g).to(dtype) for _ in range(2)]
    return origins.to(dtype), directions.to(dtype), *biases


def on(net: PlanesNetwork, device: torch.device) -> PlanesNetwork:
    """The same parameters on a device."""

    def layers(made: tuple) -> tuple:
        return tuple((w.to(device), None if b is None else b.to(device)) for w, b in made)

    return replace(
        net, box=net.box.to(device), warp_table=net.warp_table.to(device), layers=layers(net.layers),
        tables=tuple(t.to(device) for t in net.tables), warp_layers=layers(net.warp_layers),
    )  # fmt: skip


def double(net: PlanesNetwork) -> PlanesNetwork:
    """The same parameters in float64."""

    def wide(layers: tuple) -> tuple:
        return tuple((w.double(), None if b is None else b.double()) for w, b in layers)

    return replace(
        net, box=net.box.double(), warp_table=net.warp_table.double(), layers=wide(net.layers),
        tables=tuple(t.double() for t in net.tables), warp_layers=wide(net.warp_layers),
    )  # fmt: skip


ANY_SHAPE = st.tuples(
    st.lists(st.floats(-0.1, 0.1), min_size=1, max_size=4).map(tuple), st.integers(1, 8), st.integers(0, 6),
    st.integers(1, 130), st.integers(2, 3), st.integers(2, 4),
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(shape=ANY_SHAPE, frames=st.integers(1, 3), count=st.sampled_from([0, 1, 15, 16, 17, 47, 48, 49]))
def test_sizes_of_any_kind(shape, frames, count):
    """Any number of planes, features, hidden units, layers, frames and rays gives the reference's result."""
    net = network(shape, torch.float64)
    given = rays(net, frames, count)
    for got, want in zip(ops.planes(*given, net), planes_reference(*given, net), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-11)
    single, given = network(shape), [x.float() for x in given]
    exact = planes_reference(*(x.double() for x in given), double(single))
    for got, want in zip(ops.planes(*given, single), exact, strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("count", [0, 1, 17, 47, 48, 200])
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_its_reference(shape, count, compare):
    """Segments and opacity are those of the reference, whatever the numbers of planes, features and rays."""
    net = network(shape)
    given = rays(net, 2, count)
    exact = planes_reference(*(t.double() for t in given), double(net))
    compare(ops.planes(*given, net), planes_reference(*given, net), exact)


@pytest.mark.parametrize("shape", SHAPES)
def test_devices_agree(shape, device):
    """Every device gives the reference's colours; CUDA to the rounding of fp16."""
    net = network(shape)
    given = rays(net, 2, 333)
    want = planes_reference(*(t.double() for t in given), double(net))
    moved = on(net, device)
    got = ops.planes(*(t.to(device) for t in given), moved)
    again = ops.planes(*(t.to(device) for t in given), moved, packed=ops.pack_planes(moved))
    for op, same, exact in zip(got, again, want, strict=True):
        assert torch.equal(op, same)
        error = (op.cpu().double() - exact).norm() / exact.norm()
        assert error < (1e-5 if device.type == "cpu" else 2e-2)


def test_float64_is_exact():
    """In float64 the kernel and the reference agree to rounding."""
    net = double(network("four planes"))
    given = rays(net, 2, 50)
    for got, want in zip(ops.planes(*given, net), planes_reference(*given, net), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-12)


def test_hashed_levels(compare):
    """Levels that share entries by the hash are read where the reference reads them."""
    net = network("usual")
    spec = GridSpec(2, 4, (5, 40), log2_table=8)
    table = torch.randn(spec.entries, 4, generator=torch.Generator().manual_seed(2))
    head = torch.randn(64, 2 * 4 + 4, generator=torch.Generator().manual_seed(3))
    net = replace(net, spec=spec, tables=(table,), layers=((head, None), *net.layers[1:]))
    given = rays(net, 1, 100)
    exact = planes_reference(*(t.double() for t in given), double(net))
    compare(ops.planes(*given, net), planes_reference(*given, net), exact)


@pytest.mark.parametrize("precision", ["fp32", "int16", "int8"])
def test_threads_and_pieces_change_nothing(precision):
    """A ray's colours don't depend on the number of threads, nor on the rays beside it."""
    net = network("usual")
    given, packed = rays(net, 1, 500), ops.pack_planes(net, precision)
    some = [t[:, 100:333].contiguous() for t in given[:2]]
    whole = ops.planes(*given, net, packed=packed)
    part = ops.planes(*some, *given[2:], net, packed=packed)
    former = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        threaded = ops.planes(*given, net, packed=packed)
    finally:
        torch.set_num_threads(former)
    for first, second, cut in zip(whole, threaded, part, strict=True):
        assert torch.equal(first, second) and torch.equal(first[:, 100:333], cut)


@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512"])
def test_instruction_sets_agree(isa):
    """Every instruction set that the processor has gives the same colours, to float32's rounding."""
    program = f"""
import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})
import torch, test_planes as t
from nldf_engine import ops
net = t.network("four planes"); given = t.rays(net, 1, 70)
for got, want in zip(ops.planes(*given, net), t.planes_reference(*given, net)):
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
"""
    environment = os.environ | {"NLDF_CPU_ISA": isa}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    if "one that this processor has" in done.stderr:
        pytest.skip(f"this processor has no {isa}")
    assert done.returncode == 0, done.stderr


def decibels(made: Tensor, exact: Tensor) -> float:
    """How far the error lies below the signal."""
    return float(10 * torch.log10(exact.square().mean() / (made - exact).square().mean()))


@pytest.mark.parametrize("count", [1, 17, 48, 200])
@pytest.mark.parametrize("shape", SHAPES)
def test_int16_stays_close(isa, shape, count):
    """With the layers' products in integers, colours stay 60 dB above the rounding, with no calibration."""
    net = network(shape)
    given = rays(net, 2, count)
    want = planes_reference(*(t.double() for t in given), double(net))
    packed = ops.pack_planes(net, "int16")
    got = ops.planes(*given, net, packed=packed)
    assert packed.numbers.levels >= 8000
    for made, plain, exact in zip(got, ops.planes(*given, net), want, strict=True):
        assert decibels(made, exact) > 60
        assert not torch.equal(made, plain), "nothing was rounded"


@pytest.mark.parametrize("count", [1, 17, 48, 200])
@pytest.mark.parametrize("shape", SHAPES)
def test_int8_stays_close(isa, shape, count):
    """In 8 bits colours stay 25 dB above the rounding of random networks, with no calibration."""
    net = network(shape)
    given = rays(net, 2, count)
    want = planes_reference(*(t.double() for t in given), double(net))
    for made, exact in zip(ops.planes(*given, net, packed=ops.pack_planes(net, "int8")), want, strict=True):
        assert decibels(made, exact) > 25


def rounded(x: Tensor, bias: Tensor, layers: list, low: bool) -> Tensor:
    """x [N, in] through layers of 8 bits (integers, worth, bias), as torch has them in float64."""
    for number, (integers, worth, own) in enumerate(layers):
        least = x.amin(1, keepdim=True) if low and number == 0 else torch.zeros(len(x), 1)
        range_ = x.amax(1, keepdim=True) - least
        steps = ((x - least) * (255 / range_.clamp_min(1e-30))).round().double()
        filled = integers[:, : x.shape[1]].double()
        made = (steps @ filled.t()) * (range_ / 255) + least * filled.sum(1)
        x = (made * worth + (bias if own is None else own)).float()
        x = x.relu() if number + 1 < len(layers) else x
    return x


def test_int8_is_its_arithmetic(isa):
    """Every instruction set has the sums of these very integers: what torch makes of the packed weights."""
    net = network("usual")
    packed, given = ops.pack_planes(net, "int8"), rays(net, 1, 200)
    made = integers_of(packed, net)
    assert all(integers.dtype == torch.int8 and integers.abs().max() <= 127 for integers, _ in made)
    biases = [
        None if b is None else F.pad(b, (0, whole_panels(len(b)) - len(b)))
        for layers in (net.warp_layers, net.layers)
        for _, b in layers
    ]
    layers = [(*both, bias) for both, bias in zip(made, biases, strict=True)]
    warp_count = len(net.warp_layers)
    lines = aim_lines_reference(*given[:2], net.box)[0]
    start = lines[:, :2].contiguous()
    seen = torch.cat([grid_reference(start, net.warp_table, net.warp_spec), 2 * start - 1], 1)
    warp = rounded(seen, given[2], layers[:warp_count], low=True)[:, : 2 + net.ambient]
    features = grid_reference(start + net.warp_scale * warp[:, :2], net.tables[0], net.spec)
    out = rounded(torch.cat([features, warp[:, 2:]], 1), given[3], layers[warp_count:], low=True)[:, :4]
    opacity = torch.sigmoid(net.opacity_slope * out[:, 3:])
    want = ((out[:, :3] + 0.5) * opacity, opacity)
    got = ops.planes(*given, net, packed=packed)
    for made_, exact in zip((got[0][0, :, 0], got[1][0, :, None]), want, strict=True):
        # An input on the border of two steps may fall to either side.
        difference = (made_ - exact).abs()
        assert difference.median() < 1e-5 and difference.max() < 0.1
        assert (difference.amax(1) < 1e-4).float().mean() > 0.8


def integers_of(packed: PackedPlanes, net: PlanesNetwork) -> list[tuple[Tensor, Tensor]]:
    """Each layer's integers [out', in'] and what they are worth [out'], read back from the kernel's order."""
    made, integers, worth, sums = [], packed.integers, packed.worth, packed.sums
    each = 2 if integers.dtype == torch.int16 else 4
    for layers in (net.warp_layers, net.layers):
        for i, (weight, _) in enumerate(layers):
            outputs = whole_panels(weight.shape[0])
            inputs = packed.width if i else weight.shape[1] + -weight.shape[1] % each
            panels, integers = integers[: outputs * inputs], integers[outputs * inputs :]
            scale, worth = worth[:outputs], worth[outputs:]
            panels = panels.view(-1, inputs // each, 16, each).transpose(1, 2).reshape(outputs, inputs)
            made.append((panels, scale))
            if each == 4:
                torch.testing.assert_close(sums[:outputs], panels.sum(1) * scale)
                sums = sums[outputs:]
    assert not len(integers) and not len(worth) and not len(sums)
    return made


@pytest.mark.parametrize("precision", ["int16", "int8"])
@pytest.mark.parametrize("shape", SHAPES)
def test_integer_weights_are_the_weights(shape, precision):
    """Integers times their worth are the weights to half a step, and no sum of theirs leaves int32."""
    net = network(shape)
    packed = ops.pack_planes(net, precision)
    weights = [weight for layers in (net.warp_layers, net.layers) for weight, _ in layers]
    for (integers, worth), weight in zip(integers_of(packed, net), weights, strict=True):
        outputs, inputs = weight.shape
        wide = integers.double() * worth.double()[:, None]
        assert (wide[:outputs, :inputs] - weight).abs().le(0.51 * worth[:outputs, None].double()).all()
        assert not integers[outputs:].any() and not integers[:, inputs:].any()
        assert integers.long().abs().sum(1).max() * packed.numbers.levels < 2**31


@pytest.mark.parametrize(("precision", "most"), [("int16", 2e-3), ("int8", 0.1)])
@pytest.mark.parametrize("shape", SHAPES)
def test_integers_agree_across_instruction_sets(isa, shape, precision, most):
    """Their integers are the same, and the rest differs by its order of rounding alone."""
    net = network(shape)
    packed, given = ops.pack_planes(net, precision), rays(net, 2, 200)
    got = ops.planes(*given, net, packed=packed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NLDF_CPU_ISA", "portable")
        want = ops.planes(*given, net, packed=packed)
    for a, b in zip(got, want, strict=True):
        # A tie may be rounded to either side: an integer's step in one input, in few of the rays.
        difference = (a - b).abs()
        assert difference.max() < most and difference.median() < 2e-6


@pytest.mark.parametrize("precision", ["int16", "int8"])
def test_integers_are_made_of_float32(precision):
    """Of nothing else."""
    with pytest.raises(TypeError, match=rf"{precision} must be made of torch\.float32"):
        ops.pack_planes(double(network("usual")), precision)


def test_opcheck():
    """Schema, fake tensors and dispatch of the operation hold."""
    net = network("usual")
    torch.library.opcheck(torch.ops.nldf.planes.default, (*rays(net, 2, 5), *ops.pack_planes(net).arguments))


def test_packed_once_serves_many_calls():
    """Packed parameters give the result of packing in the call; they hold copies of the weights."""
    net = network("usual")
    given = rays(net, 1, 20)
    packed = ops.pack_planes(net)
    want = ops.planes(*given, net)
    net.layers[1][0].zero_()
    for got, before in zip(ops.planes(*given, net, packed=packed), want, strict=True):
        assert torch.equal(got, before)


def test_a_gradient_is_refused():
    """The kernel has no gradient: asking for one is an error, and the reference gives it."""
    net = network("usual")
    origins, directions, warp_bias, bias = rays(net, 1, 20)
    bias.requires_grad_()
    with pytest.raises(ValueError, match="planes: the kernel has no gradient"):
        ops.planes(origins, directions, warp_bias, bias, net)
    ops.planes(origins, directions, warp_bias, bias, net, backend="reference")[0].sum().backward()
    assert bias.grad.abs().sum() > 0


BAD = {
    "tables": ({"tables": ()}, ValueError, "tables must be 1 as depths are, got 0"),
    "table": ({"warp_table": torch.ones(3, 4)}, ValueError, r"warp_table must have the shape \[97, 4\]"),
    "spec": ({"spec": GridSpec(3, 4, (4,))}, ValueError, "spec must be two-dimensional and linear"),
    "depths": ({"depths": ()}, ValueError, r"the number of planes must be in \[1, 16\], got 0"),
    "layers": ({"layers": ()}, ValueError, "layers must be a layer without bias, and at least one more"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_networks_are_named(name):
    """Each wrong parameter raises the right error, naming it and what came."""
    change, error, message = BAD[name]
    net = network("usual")
    given = rays(net, 1, 3)
    with pytest.raises(error, match="planes: " + message):
        ops.planes(*given, replace(net, **change))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("precision", ["fp32", "int16", "int8"])
def test_arguments_and_back(shape, precision):
    """What a packed network is in an operation's schema gives the same network again."""
    packed = ops.pack_planes(network(shape), precision)
    again = PackedPlanes.from_arguments(*packed.arguments)
    assert (again.warp_levels, again.levels, again.numbers) == (
        packed.warp_levels,
        packed.levels,
        packed.numbers,
    )
    assert len(again.tables) == len(packed.tables) == again.planes
    tensors = ("box", "depths", "warp_table", "weights", "biases", "integers", "worth", "sums")
    assert all(getattr(again, name) is getattr(packed, name) for name in tensors)
    assert all(a is b for a, b in zip(again.tables, packed.tables, strict=True))
