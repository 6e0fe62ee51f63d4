"""ops.encode_beams against its reference, closed forms and bad input."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nldf_engine import ops
from nldf_engine.ops.reference import beams_reference

NUMBERS = {"near": 0.4, "far": 1.3, "points": 16, "frequencies": 10, "scale": 2.0}


def case(rays: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> list[Tensor]:
    g = torch.Generator().manual_seed(seed)
    origins = 0.5 * torch.randn(rays, 3, generator=g)
    directions = torch.nn.functional.normalize(torch.randn(rays, 3, generator=g), dim=-1)
    return [origins.to(dtype), directions.to(dtype)]


def run(op, inputs: list[Tensor], **numbers: float) -> list[Tensor]:
    """The encoding, then the gradients of origins and directions under a fixed cotangent."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    out = op(*leaves, **numbers)
    cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
    return [out.detach(), *torch.autograd.grad(out, leaves, cotangent)]


def test_agrees_with_the_reference(device, compare):
    """Encoding and gradients are as accurate as the reference's in float32."""
    inputs = case(300)
    got = run(ops.encode_beams, [x.to(device) for x in inputs], **NUMBERS)
    single = run(beams_reference, inputs, **NUMBERS)
    double = run(beams_reference, [x.double() for x in inputs], **NUMBERS)
    compare(got, single, double)


@pytest.mark.parametrize("points", [1, 15, 16, 23])
def test_every_instruction_set_agrees(isa, compare, points):
    """With vectors of any width: encoding and gradients as accurate as the reference's, fp16 rounded."""
    inputs, numbers = case(40), NUMBERS | {"points": points}
    got = run(ops.encode_beams, inputs, **numbers)
    double = run(beams_reference, [x.double() for x in inputs], **numbers)
    compare(got, run(beams_reference, inputs, **numbers), double)
    assert torch.equal(ops.encode_beams(*inputs, **numbers, dtype=torch.float16), got[0].half())


@settings(max_examples=40, deadline=None)
@given(
    rays=st.sampled_from([0, 1, 2, 15, 16, 17, 33]), points=st.integers(1, 18), frequencies=st.integers(0, 4)
)
def test_any_size(rays, points, frequencies):
    """Every number of rays, points and frequencies gives the reference's encoding and gradients."""
    numbers = NUMBERS | {"points": points, "frequencies": frequencies}
    inputs = case(rays)
    want = run(beams_reference, [x.double() for x in inputs], **numbers)
    for got, expected in zip(run(ops.encode_beams, inputs, **numbers), want, strict=True):
        torch.testing.assert_close(got.double(), expected, rtol=2e-5, atol=1e-4)


@pytest.mark.parametrize("pad_to", [1, 16, 64])
def test_half_is_the_float_result_rounded(device, pad_to):
    """In float16 the encoding is the float32 one, rounded by torch's own rule; the padding is zero."""
    inputs = [x.to(device) for x in case(40)]
    half = ops.encode_beams(*inputs, **NUMBERS, dtype=torch.float16, pad_to=pad_to)
    single = ops.encode_beams(*inputs, **NUMBERS, pad_to=pad_to)
    assert half.dtype == torch.float16 and half.shape[1] % pad_to == 0 and half.shape[1] - 1008 < pad_to
    assert torch.equal(half, single.half())
    assert not half[:, 1008:].any() and not single[:, 1008:].any()
    assert torch.equal(single[:, :1008], ops.encode_beams(*inputs, **NUMBERS))


def test_rounding_to_half_is_torchs():
    """Every kind of float, among them ties, subnormals, infinities and NaN, rounds as torch rounds it."""
    bits = torch.arange(-(2**31), 2**31, 65537 * 3, dtype=torch.int64).to(torch.int32)
    halves = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.float16).float()
    ties = (halves[:-1].double() + halves[1:].double()).mul(0.5).float()
    edges = torch.tensor([65504.0, 65519.99, 65520.0, 2.0**-24, 2.0**-25, 1e-45, -0.0, torch.inf])
    values = torch.cat([bits.view(torch.float32), halves, ties, edges])
    values = torch.cat([values, values.new_zeros(-len(values) % 3)]).view(-1, 3)
    # One point at distance 0 of a ray without direction is the origin itself.
    point = {"near": 0.0, "far": 1.0, "points": 1, "frequencies": 0}
    got = ops.encode_beams(values, torch.zeros_like(values), **point, dtype=torch.float16)
    torch.testing.assert_close(got, values.half(), rtol=0, atol=0, equal_nan=True)


@settings(max_examples=40, deadline=None)
@given(
    rays=st.sampled_from([0, 1, 2, 17]),
    points=st.integers(1, 18),
    frequencies=st.integers(0, 3),
    pad_to=st.sampled_from([1, 8, 16, 100]),
)
def test_padding_of_any_size(rays, points, frequencies, pad_to):
    """Rows of any width are padded with zeros as in the reference; gradients ignore the padding."""
    numbers = NUMBERS | {"points": points, "frequencies": frequencies, "pad_to": pad_to}
    inputs = case(rays, torch.float64)
    for got, want in zip(
        run(ops.encode_beams, inputs, **numbers), run(beams_reference, inputs, **numbers), strict=True
    ):
        torch.testing.assert_close(got, want)


def test_half_has_no_gradient():
    """A gradient through float16 is refused, with the ways out, and never silently missing."""
    origins, directions = case(3)
    with pytest.raises(ValueError, match=r"encode_beams: dtype=torch.float16 has no gradient; ask for"):
        ops.encode_beams(origins.requires_grad_(), directions, **NUMBERS, dtype=torch.float16)
    with torch.no_grad():
        ops.encode_beams(origins, directions, **NUMBERS, dtype=torch.float16)


def test_gradients_are_derivatives():
    """The gradients of the kernel are its finite differences in float64."""
    inputs = [x.requires_grad_() for x in case(3, torch.float64)]
    for points in (1, 6):
        torch.autograd.gradcheck(
            lambda o, d, points=points: ops.encode_beams(o, d, 0.4, 1.3, points, 3, scale=1.5), inputs
        )


def test_opcheck():
    """Schema, fake tensors and dispatch of both operations hold."""
    inputs = case(5)
    torch.library.opcheck(torch.ops.nldf.beams.default, (*inputs, 0.4, 1.3, 4, 2, 1.0))
    torch.library.opcheck(
        torch.ops.nldf.beams_backward.default, (*inputs, torch.randn(5, 60), 0.4, 1.3, 4, 2, 1.0)
    )
    torch.library.opcheck(torch.ops.nldf.beams.default, (*inputs, 0.4, 1.3, 4, 2, 1.0, 16, True))


def test_points_run_from_near_to_far_inclusive():
    """Without frequencies the output is the points, point by point, the ends exactly at near and far."""
    origins, directions = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.0, 0.0, 1.0]])
    out = ops.encode_beams(origins, directions, 0.3, 1.1, points=5, frequencies=0, scale=1.0)
    points = out.view(5, 3)
    assert points[:, :2].tolist() == [[1.0, 2.0]] * 5
    assert points[0, 2] == torch.tensor(3.0) + torch.tensor(0.3)
    assert points[-1, 2] == torch.tensor(3.0) + torch.tensor(1.1)
    torch.testing.assert_close(points[:, 2], 3 + torch.linspace(0.3, 1.1, 5))


def test_layout_is_raw_then_sines_and_cosines_by_frequency():
    """Blocks of 3K: x, sin x, cos x, sin 2x, cos 2x, ... with frequencies 2^k and no pi."""
    inputs = case(2)
    x = ops.encode_beams(*inputs, 0.4, 1.3, points=7, frequencies=0, scale=2.0)
    out = ops.encode_beams(*inputs, 0.4, 1.3, points=7, frequencies=3, scale=2.0).view(2, 7, 21)
    assert torch.equal(out[:, 0], x)
    for level in range(3):
        torch.testing.assert_close(out[:, 2 * level + 1], torch.sin(2**level * x))
        torch.testing.assert_close(out[:, 2 * level + 2], torch.cos(2**level * x))


def test_scale_multiplies_the_points():
    """scale s gives the encoding of the scene shrunk by s."""
    origins, directions = case(4)
    scaled = ops.encode_beams(origins, directions, 0.5, 1.5, 4, 2, scale=0.25)
    shrunk = ops.encode_beams(origins / 4, directions, 0.125, 0.375, 4, 2)
    torch.testing.assert_close(scaled, shrunk)


def test_sines_of_large_angles_keep_their_digits(device):
    """Sines and cosines are right to 2e-7 up to 4e5 radians, and to 5e-7 up to 6e6."""
    g = torch.Generator().manual_seed(3)
    x = torch.cat([torch.linspace(-3, 3, 3000), 190 * torch.randn(3000, generator=g).clamp(-1, 1)])
    special = torch.tensor([0.0, -0.0, math.pi / 4, math.pi / 2, math.pi, 1e-30, 100.0, -177.5, 64.0])
    x = torch.cat([x, special])[:, None].expand(-1, 3).contiguous()
    # Directions of zero: the coordinates are the origins, exactly.
    out = ops.encode_beams(x.to(device), torch.zeros_like(x).to(device), 0.0, 1.0, points=1, frequencies=16)
    out = out.cpu().double().view(len(x), 33, 3)
    for level in range(16):
        angle = x.double() * 2**level
        allowed = torch.where(angle.abs() < 4e5, 2e-7, 5e-7)
        assert ((out[:, 2 * level + 1] - angle.sin()).abs() < allowed).all()
        assert ((out[:, 2 * level + 2] - angle.cos()).abs() < allowed).all()


def test_not_a_number_stays_one():
    """A NaN in an origin shows in the encoding of its ray, and in no other."""
    origins, directions = case(3)
    origins[1, 0] = math.nan
    out = ops.encode_beams(origins, directions, 0.4, 1.3, points=16, frequencies=2)
    assert out[1].view(-1, 3)[:, 0].isnan().all()
    assert not out[[0, 2]].isnan().any()


def test_reference_backend_is_the_reference():
    """backend="reference" runs the reference itself."""
    inputs = case(3)
    assert torch.equal(
        ops.encode_beams(*inputs, **NUMBERS, backend="reference"), beams_reference(*inputs, **NUMBERS)
    )


BAD = {
    "dtype bf16": ({"dtype": torch.bfloat16}, TypeError, r"dtype must be None, torch.float32 or, .*bfloat16"),
    "dtype double": ({"dtype": torch.float64}, TypeError, r"dtype must be None, .* got torch.float64"),
    "pad_to zero": ({"pad_to": 0}, ValueError, r"pad_to must be in \[1, 1024\], got 0"),
    "pad_to float": ({"pad_to": 16.0}, TypeError, r"pad_to must be an int, got float"),
    "origins no tensor": ({"origins": 1.0}, TypeError, r"origins must be a torch.Tensor, got float"),
    "origins int": (
        {"origins": torch.zeros(5, 3).int()},
        TypeError,
        r"origins must be torch.float32 .*int32",
    ),
    "origins shape": ({"origins": torch.zeros(5, 4)}, ValueError, r"origins must .* \[R, 3\], got \[5, 4\]"),
    "origins layout": ({"origins": torch.zeros(3, 5).T}, ValueError, r"origins must be contiguous"),
    "directions dtype": (
        {"directions": torch.ones(5, 3).double()},
        TypeError,
        r"directions must be torch.float32",
    ),
    "directions rays": (
        {"directions": torch.ones(4, 3)},
        ValueError,
        r"directions must .* \[R=5, 3\], got \[4, 3",
    ),
    "near tensor": ({"near": torch.tensor(0.4)}, TypeError, r"near must be a float, got Tensor"),
    "near infinite": ({"near": -math.inf}, ValueError, r"near must be finite, got -inf"),
    "far below near": ({"far": 0.2}, ValueError, r"far must be greater than near=0.4, got 0.2"),
    "points zero": ({"points": 0}, ValueError, r"points must be at least 1, got 0"),
    "points float": ({"points": 4.0}, TypeError, r"points must be an int, got float"),
    "frequencies many": ({"frequencies": 17}, ValueError, r"frequencies must be in \[0, 16\], got 17"),
    "scale": ({"scale": math.nan}, ValueError, r"scale must be finite, got nan"),
    "backend": ({"backend": "cuda"}, ValueError, r"backend must be 'native' or 'reference', got 'cuda'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    """Each wrong argument raises the right error, naming the operation, the argument and what came."""
    change, error, message = BAD[name]
    arguments = dict(zip(("origins", "directions"), case(5), strict=True)) | NUMBERS | change
    with pytest.raises(error, match=r"encode_beams: " + message):
        ops.encode_beams(**arguments)


def test_compiles_as_one_graph():
    """torch.compile takes the call, its checks and its gradient without a graph break."""
    origins, directions = case(4)

    def loss(origins: Tensor) -> Tensor:
        return ops.encode_beams(origins, directions, 0.4, 1.3, points=4, frequencies=2).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    gradients = []
    for function in (loss, compiled):
        leaf = origins.clone().requires_grad_()
        function(leaf).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(gradients[1], gradients[0])
