"""ops.encode_landmarks against its reference, closed forms and bad input."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nldf_engine import ops
from nldf_engine.ops.reference import landmarks_reference

NAMES = ("points", "landmarks", "rotations", "log_scales", "axis")
CUT = 4.3


def draw(frames: int, points: int, count: int, seed: int) -> list[Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [
        0.3 * torch.rand(frames, points, 3, generator=g) - 0.15,
        0.15 * torch.rand(frames, count, 3, generator=g) - 0.075,
        torch.randn(count, 4, generator=g),
        (0.03 + 0.02 * torch.rand(count, 3, generator=g)).log(),
        torch.nn.functional.normalize(torch.randn(frames, 3, generator=g), dim=1),
    ]


def case(frames: int, points: int, count: int) -> list[Tensor]:
    """Draws until no point lies at a cut, where float32 and float64 may differ by a whole weight."""
    for seed in range(100):
        inputs = draw(frames, points, count, seed)
        exact = [x.double() for x in inputs[:4]]
        near, far = (landmarks_reference(*exact, cut=cut) > 0 for cut in (CUT - 2e-5, CUT + 2e-5))
        if torch.equal(near, far):
            return inputs
    raise AssertionError("every seed has a point at a cut")


def run(op, inputs: list[Tensor], levels: int = 3, depth: bool = True) -> list[Tensor]:
    """The features, then the gradients of all but the axis under a fixed cotangent."""
    leaves = [x.clone().requires_grad_() for x in inputs[:4]]
    if op is landmarks_reference:
        out = op(*leaves, inputs[4] if depth else None, levels)
    else:
        out = op(*leaves, inputs[4], levels=levels, depth=depth)
    cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
    return [out.detach(), *torch.autograd.grad(out, leaves, cotangent)]


def in_double(inputs: list[Tensor]) -> list[Tensor]:
    return [x.double() for x in inputs]


@pytest.mark.parametrize(("levels", "depth"), [(3, True), (0, True), (7, True), (3, False)])
@pytest.mark.parametrize("count", [49, 68])
def test_agrees_with_the_reference(device, compare, count, levels, depth):
    """Features and gradients are as accurate as the reference's in float32."""
    inputs = case(2, 150, count)
    got = run(ops.encode_landmarks, [x.to(device) for x in inputs], levels, depth)
    single = run(landmarks_reference, inputs, levels, depth)
    compare(got, single, run(landmarks_reference, in_double(inputs), levels, depth))


@pytest.mark.parametrize("count", [1, 5, 16, 21, 49])
def test_every_instruction_set_agrees(isa, compare, count):
    """With vectors of any width, whole or reaching back: as accurate as the reference, whatever L is."""
    inputs = case(2, 40, count)
    double = run(landmarks_reference, in_double(inputs))
    compare(run(ops.encode_landmarks, inputs), run(landmarks_reference, inputs), double)


@settings(max_examples=40, deadline=None)
@given(
    frames=st.integers(0, 2),
    points=st.sampled_from([0, 1, 15, 16, 17, 257]),
    count=st.sampled_from([0, 1, 4, 15, 16, 17, 33]),
    levels=st.integers(0, 5),
    depth=st.booleans(),
)
def test_any_size(frames, points, count, levels, depth):
    """Every number of frames, points, landmarks and levels gives the reference's features and gradients."""
    inputs = case(frames, points, count)
    want = run(landmarks_reference, in_double(inputs), levels, depth)
    for got, expected in zip(run(ops.encode_landmarks, inputs, levels, depth), want, strict=True):
        size = expected.abs().max().clamp_min(1) if expected.numel() else 1
        torch.testing.assert_close(got.double() / size, expected / size, rtol=0, atol=1e-5)


def test_rows_past_the_caches_are_the_same():
    """A result so large that it is streamed equals, to the bit, the same points' in small pieces."""
    inputs = draw(1, 4800, 68, 0)
    whole = ops.encode_landmarks(*inputs)
    assert whole.numel() * 4 > 8 << 20
    parts = [ops.encode_landmarks(p.contiguous(), *inputs[1:]) for p in inputs[0].split(160, 1)]
    assert torch.equal(whole, torch.cat(parts, 1))


def test_threads_give_the_same_bits():
    """Features and gradients don't depend on how many threads share the points."""
    inputs, threads, results = draw(2, 1500, 33, 0), torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            results.append(run(ops.encode_landmarks, inputs))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("depth", [True, False])
@pytest.mark.parametrize("backend", ["native", "reference"])
def test_gradients_are_derivatives(backend, depth):
    """The gradients of the kernel, and of its reference, are their finite differences in float64."""
    inputs = [x.double() for x in case(2, 3, 3)]
    leaves = [x.requires_grad_() for x in inputs[:4]]
    torch.autograd.gradcheck(
        lambda *given: ops.encode_landmarks(*given, inputs[4], levels=2, depth=depth, backend=backend), leaves
    )


def test_gradient_to_points_is_left_out_where_not_wanted():
    """Without a gradient to the points the landmarks' are the same ones."""
    inputs = case(1, 50, 20)
    want = run(ops.encode_landmarks, inputs)[2:]
    leaves = [x.clone().requires_grad_() for x in inputs[1:4]]
    out = ops.encode_landmarks(inputs[0], *leaves, inputs[4])
    cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    for got, expected in zip(torch.autograd.grad(out, leaves, cotangent), want, strict=True):
        assert torch.equal(got, expected)


def test_opcheck():
    """Schema, fake tensors and dispatch of both operations hold, with and without axis and points."""
    inputs, numbers = draw(2, 5, 6, 0), (2, 5.0, CUT)
    torch.library.opcheck(torch.ops.nldf.landmarks.default, (*inputs, *numbers))
    torch.library.opcheck(torch.ops.nldf.landmarks.default, (*inputs[:4], None, *numbers))
    backward = torch.ops.nldf.landmarks_backward.default
    torch.library.opcheck(backward, (*inputs, torch.randn(2, 5, 30), *numbers, True))
    torch.library.opcheck(backward, (*inputs[:4], None, torch.randn(2, 5, 6), *numbers, False))


def test_weights_are_those_of_the_covariance():
    """w = exp(-d^T Sigma^-1 d / 2) with Sigma = R S S^T R^T inverted as it stands, eq. (8a) and (8b)."""
    points, landmarks, rotations, log_scales, _ = in_double(case(1, 20, 7))
    got = ops.encode_landmarks(points, landmarks, rotations, log_scales, depth=False, cut=30.0)
    for k in range(7):
        angle = 2 * torch.acos(rotations[k, 0] / rotations[k].norm())
        n = torch.nn.functional.normalize(rotations[k, 1:], dim=0).tolist()
        cross = torch.tensor([[0, -n[2], n[1]], [n[2], 0, -n[0]], [-n[1], n[0], 0]], dtype=torch.float64)
        scaled = torch.matrix_exp(angle * cross) @ log_scales[k].exp().diag()
        d = points[0] - landmarks[0, k]
        want = torch.exp(-0.5 * (d @ (scaled @ scaled.T).inverse() * d).sum(1))
        torch.testing.assert_close(got[0, :, k], want)


def test_layout_is_blocks_of_landmarks():
    """w z, w sin(pi z), w cos(pi z), w sin(2 pi z), ... in blocks of L, with z = depth_scale (axis . d)."""
    inputs = in_double(case(2, 6, 5))
    points, landmarks, _, _, axis = inputs
    out = ops.encode_landmarks(*inputs, levels=6, depth_scale=3.0).view(2, 6, 13, 5)
    w = ops.encode_landmarks(*inputs, depth=False)
    z = 3.0 * ((points[:, :, None] - landmarks[:, None]) * axis[:, None, None]).sum(3)
    torch.testing.assert_close(out[:, :, 0], w * z)
    for level in range(6):
        torch.testing.assert_close(out[:, :, 2 * level + 1], w * torch.sin(math.pi * 2**level * z))
        torch.testing.assert_close(out[:, :, 2 * level + 2], w * torch.cos(math.pi * 2**level * z))


@pytest.mark.parametrize("levels", [4, 16])
def test_doubled_angles_keep_their_digits(device, levels):
    """Sine and cosine of every level are right to 3e-6 for depths that float32 holds exactly."""
    z = torch.linspace(-1, 1, 2049)  # steps of 2^-10
    points = torch.zeros(1, len(z), 3)
    points[0, :, 2] = z
    identity, wide = torch.tensor([[1.0, 0, 0, 0]]), torch.full((1, 3), 1e4).log()
    given = (points, torch.zeros(1, 1, 3), identity, wide, torch.tensor([[0.0, 0, 1]]))
    out = ops.encode_landmarks(*(x.to(device) for x in given), levels=levels, depth_scale=1.0)
    out = out.cpu()[0].double()
    for level in range(levels):
        angle = math.pi * 2**level * z.double()
        assert (out[:, 2 * level + 1] - angle.sin()).abs().max() < 3e-6
        assert (out[:, 2 * level + 2] - angle.cos()).abs().max() < 3e-6


def test_cut_is_exact_and_its_error_is_bounded():
    """Beyond the cut all is exactly zero, gradients too; what is lost is below exp(-cut^2 / 2)."""
    inputs = case(1, 500, 49)
    cut, whole = (ops.encode_landmarks(*inputs, depth=False, cut=c) for c in (CUT, 13.0))
    beyond = whole < math.exp(-(CUT**2) / 2)
    assert 0.1 < beyond.float().mean() < 0.9
    assert not cut[beyond].any() and torch.equal(cut[~beyond], whole[~beyond])
    lost = (whole - cut).max()
    assert 5e-5 < lost < 9.7e-5
    far = inputs[0][:, :1] + 1
    results = run(ops.encode_landmarks, [far, *inputs[1:]])
    assert not any(result.any() for result in results)


def test_length_of_a_quaternion_does_not_matter():
    """Rotations are normalised: twice the quaternion, or its negative, gives the same features."""
    points, landmarks, rotations, log_scales, axis = case(1, 30, 9)
    want = ops.encode_landmarks(points, landmarks, rotations, log_scales, axis)
    for factor in (2.0, -1.0):
        got = ops.encode_landmarks(points, landmarks, factor * rotations, log_scales, axis)
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("count", [5, 40])
def test_not_a_number_stays_one(count):
    """A NaN in a point shows in all of its features, one in a landmark in that landmark's, no others."""
    points, *others = case(1, 20, count)
    points[0, 3, 1] = math.nan
    out = ops.encode_landmarks(points, *others)
    assert out[0, 3].isnan().all() and not out[0, torch.arange(20) != 3].isnan().any()
    points[0, 3, 1] = 0
    others[0][0, 4, 2] = math.nan
    bad = ops.encode_landmarks(points, *others).view(20, 7, count).isnan()
    assert bad[:, :, 4].all() and not bad[:, :, torch.arange(count) != 4].any()


def test_reference_backend_is_the_reference():
    """backend="reference" runs the reference itself."""
    inputs = draw(1, 5, 6, 0)
    assert torch.equal(
        ops.encode_landmarks(*inputs, cut=3.0, backend="reference"), landmarks_reference(*inputs, cut=3.0)
    )


BAD = {
    "points no tensor": ({"points": 1.0}, TypeError, r"points must be a torch.Tensor, got float"),
    "points shape": ({"points": torch.zeros(5, 3)}, ValueError, r"points must .* \[F, N, 3\], got \[5, 3\]"),
    "points dtype": ({"points": torch.zeros(1, 5, 3).half()}, TypeError, r"points must be torch.float32"),
    "points layout": ({"points": torch.zeros(1, 3, 5).mT}, ValueError, r"points must be contiguous"),
    "landmarks frames": ({"landmarks": torch.zeros(2, 6, 3)}, ValueError, r"landmarks must .* \[F=1, L"),
    "landmarks dtype": (
        {"landmarks": torch.zeros(1, 6, 3).double()},
        TypeError,
        r"landmarks must be torch.f",
    ),
    "landmarks device": (
        {"landmarks": torch.zeros(1, 6, 3, device="meta")},
        ValueError,
        r"landmarks must be on cpu as points is, got meta",
    ),
    "rotations": ({"rotations": torch.ones(5, 4)}, ValueError, r"rotations must .* \[L=6, 4\], got \[5, 4\]"),
    "log_scales": ({"log_scales": torch.ones(6)}, ValueError, r"log_scales must .* \[L=6, 3\], got \[6\]"),
    "axis missing": ({"axis": None}, TypeError, r"axis must be a torch.Tensor, got NoneType"),
    "axis shape": ({"axis": torch.ones(2, 3)}, ValueError, r"axis must .* \[F=1, 3\], got \[2, 3\]"),
    "axis gradient": ({"axis": torch.ones(1, 3).requires_grad_()}, ValueError, r"axis must not require a"),
    "levels": ({"levels": 17}, ValueError, r"levels must be in \[0, 16\], got 17"),
    "levels float": ({"levels": 3.0}, TypeError, r"levels must be an int, got float"),
    "depth_scale": ({"depth_scale": math.inf}, ValueError, r"depth_scale must be finite, got inf"),
    "depth": ({"depth": 1}, TypeError, r"depth must be a bool, got int"),
    "cut": ({"cut": 0.0}, ValueError, r"cut must be greater than 0, got 0.0"),
    "cut nan": ({"cut": math.nan}, ValueError, r"cut must be finite, got nan"),
    "no rotation": ({"rotations": torch.zeros(6, 4)}, ValueError, r"rotations must not be zero.*landmark 0"),
    "small scales": ({"log_scales": torch.full((6, 3), -90.0)}, ValueError, r".*log_scales must be finite"),
    "nan scales": ({"log_scales": torch.full((6, 3), math.nan)}, ValueError, r".*log_scales must be finite"),
    "backend": ({"backend": "cuda"}, ValueError, r"backend must be 'native' or 'reference', got 'cuda'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    """Each wrong argument raises the right error, naming the operation, the argument and what came."""
    change, error, message = BAD[name]
    arguments = dict(zip(NAMES, draw(1, 5, 6, 0), strict=True)) | change
    with pytest.raises(error, match=r"encode_landmarks: " + message):
        ops.encode_landmarks(**arguments)


def test_compiles_as_one_graph():
    """torch.compile takes the call, its checks and its gradient without a graph break."""
    inputs = draw(1, 5, 6, 0)

    def loss(log_scales: Tensor) -> Tensor:
        return ops.encode_landmarks(*inputs[:3], log_scales, inputs[4]).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    gradients = []
    for function in (loss, compiled):
        leaf = inputs[3].clone().requires_grad_()
        function(leaf).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(gradients[1], gradients[0])
