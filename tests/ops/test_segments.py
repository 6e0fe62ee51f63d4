"""ops.composite_segments against its reference, closed forms and bad input."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nldf_engine import ops
from nldf_engine.ops.reference import segments_reference

# Of a feature map 48, 64 and 256; fewer and more than whole vectors of every instruction set, and warps.
CHANNELS = (1, 2, 5, 17, 33, 48, 64, 70, 256)


def case(
    rays: int, samples: int, dtype: torch.dtype = torch.float32, seed: int = 0, channels: int = 3,
    opaque: float = 1e4,
) -> list[Tensor]:  # fmt: skip
    """Densities (a third of them empty, some opaque), colours or features, and lengths."""
    g = torch.Generator().manual_seed(seed)
    sigma = 30 * torch.rand(rays, samples, generator=g) * (torch.rand(rays, samples, generator=g) > 0.3)
    sigma = torch.where(torch.rand(rays, samples, generator=g) > 0.99, opaque, sigma)
    features = torch.rand(rays, samples, channels, generator=g)
    delta = 0.02 * torch.rand(rays, samples, generator=g)
    return [x.to(dtype) for x in (sigma, features, delta)]


def run(op, inputs: list[Tensor], segments: int) -> list[Tensor]:
    """Colours and opacity, then the gradients of all inputs under a fixed cotangent."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    out = op(*leaves, segments=segments)[:2]
    g = torch.Generator().manual_seed(1)
    cotangent = [torch.randn(o.shape, generator=g).to(o) for o in out]
    return [*(o.detach() for o in out), *torch.autograd.grad(out, leaves, cotangent)]


@pytest.mark.parametrize(("samples", "segments"), [(64, 1), (192, 4), (60, 5), (7, 7)])
def test_agrees_with_the_reference(device, compare, samples, segments):
    """Colours, opacity, weights and gradients are as accurate as the reference's in float32."""
    inputs = case(200, samples)
    moved = [x.to(device) for x in inputs]
    double = [x.double() for x in inputs]
    compare(
        run(ops.composite_segments, moved, segments),
        run(segments_reference, inputs, segments),
        run(segments_reference, double, segments),
    )
    weights = ops.composite_segments(*moved, segments=segments, return_weights=True)[2]
    compare([weights], [segments_reference(*inputs, segments)[2]], [segments_reference(*double, segments)[2]])


def extras(rays: int, samples: int, dtype: torch.dtype = torch.float32, channels: int = 3) -> list[Tensor]:
    """A background and increasing distances."""
    g = torch.Generator().manual_seed(5)
    distances = torch.sort(0.4 + torch.rand(rays, samples, generator=g), 1).values
    return [torch.rand(rays, channels, generator=g).to(dtype), distances.to(dtype)]


def run_all(op, inputs: list[Tensor], segments: int) -> list[Tensor]:
    """Colours, opacity and depth with a background, and the gradients of all five inputs."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    out = op(*leaves[:3], segments=segments, background=leaves[3], distances=leaves[4])
    out = [out[0], out[1], out[-1]]
    g = torch.Generator().manual_seed(1)
    cotangent = [torch.randn(o.shape, generator=g).to(o) for o in out]
    return [*(o.detach() for o in out), *torch.autograd.grad(out, leaves, cotangent)]


@pytest.mark.parametrize(("samples", "segments"), [(64, 1), (192, 4), (60, 5), (7, 7)])
def test_background_and_depth_agree_with_the_reference(device, compare, samples, segments):
    """With a background and distances, results and all gradients are as accurate as the reference's."""
    inputs = [*case(200, samples), *extras(200, samples)]
    compare(
        run_all(ops.composite_segments, [x.to(device) for x in inputs], segments),
        run_all(segments_reference, inputs, segments),
        run_all(segments_reference, [x.double() for x in inputs], segments),
    )


@pytest.mark.parametrize(("samples", "segments"), [(192, 4), (1100, 2), (51, 3), (5, 5)])
def test_every_instruction_set_agrees(isa, compare, samples, segments):
    """With vectors of any width, results and all gradients are as accurate as the reference's."""
    inputs = [*case(70, samples), *extras(70, samples)]
    compare(
        run_all(ops.composite_segments, inputs, segments),
        run_all(segments_reference, inputs, segments),
        run_all(segments_reference, [x.double() for x in inputs], segments),
    )


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize(("samples", "segments"), [(64, 1), (75, 5)])
def test_features_agree_with_the_reference(device, compare, channels, samples, segments):
    """With any number of channels, results and gradients are as accurate as the reference's."""
    inputs = case(60, samples, channels=channels, opaque=60.0)
    compare(
        run(ops.composite_segments, [x.to(device) for x in inputs], segments),
        run(segments_reference, inputs, segments),
        run(segments_reference, [x.double() for x in inputs], segments),
    )
    inputs += extras(60, samples, channels=channels)
    compare(
        run_all(ops.composite_segments, [x.to(device) for x in inputs], segments),
        run_all(segments_reference, inputs, segments),
        run_all(segments_reference, [x.double() for x in inputs], segments),
    )


@pytest.mark.parametrize("channels", CHANNELS)
def test_features_agree_with_every_instruction_set(isa, compare, channels):
    """With vectors of any width, features of any number of channels are as accurate as the reference's."""
    inputs = [*case(21, 51, channels=channels, opaque=60.0), *extras(21, 51, channels=channels)]
    compare(
        run_all(ops.composite_segments, inputs, 3),
        run_all(segments_reference, inputs, 3),
        run_all(segments_reference, [x.double() for x in inputs], 3),
    )


@pytest.mark.parametrize("channels", [250, 256])
def test_gradients_that_go_past_the_caches(isa, compare, channels):
    """Gradients of 8 MiB and more, which are stored past the caches, are as accurate as the reference's."""
    inputs = case(140, 64, channels=channels, opaque=60.0)
    assert inputs[1].nbytes > 8 << 20
    compare(
        run(ops.composite_segments, inputs, 1),
        run(segments_reference, inputs, 1),
        run(segments_reference, [x.double() for x in inputs], 1),
    )


@pytest.mark.parametrize("channels", [3, 48, 256])
def test_threads_change_nothing(channels):
    """Results and gradients are the same to the bit on any number of threads."""
    inputs = [*case(150, 64, channels=channels), *extras(150, 64, channels=channels)]
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(run_all(ops.composite_segments, inputs, 2))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(got, want) for got, want in zip(other, results[0], strict=True))


def test_channels_do_not_meet():
    """Every channel is composited by itself: as a colour's, so in the midst of others."""
    sigma, features, delta = case(40, 48, channels=70)
    wide, opacity = ops.composite_segments(sigma, features, delta, segments=2)
    for first in (0, 31, 67):
        rgb = features[..., first : first + 3].contiguous()
        colors, same = ops.composite_segments(sigma, rgb, delta, segments=2)
        torch.testing.assert_close(wide[..., first : first + 3], colors)
        assert torch.equal(opacity, same)


@pytest.mark.parametrize("channels", [3, 5, 64])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_stays_where_it_is(device, channels, bad):
    """Features that are not finite reach their ray, segment and channel alone; densities, what is behind."""
    sigma, features, delta = case(9, 32, channels=channels)
    features[4, 20, channels - 1] = bad
    sigma[6, 17], delta[6, 17] = bad, 1.0
    inputs = [x.to(device) for x in (sigma, features, delta)]
    got = run(ops.composite_segments, inputs, 2)
    for op, want in zip(got, run(segments_reference, [sigma, features, delta], 2), strict=True):
        torch.testing.assert_close(op[:6].cpu(), want[:6], equal_nan=True, rtol=1e-4, atol=1e-4)
    composited, opacity = got[0].cpu(), got[1].cpu()
    assert not composited[4, 1, channels - 1].isfinite()
    rest = composited[:6].clone()
    rest[4, 1, channels - 1] = 0
    assert rest.isfinite().all() and composited[6, 0].isfinite().all()
    assert composited[7:].isfinite().all() and opacity[6].isnan() == math.isnan(bad)


@settings(max_examples=30, deadline=None)
@given(
    rays=st.sampled_from([0, 1, 7, 9]),
    segments=st.integers(1, 3),
    per_segment=st.sampled_from([0, 1, 2, 4, 5, 17, 33]),
    channels=st.sampled_from([0, *CHANNELS]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_features_of_any_size(rays, segments, per_segment, channels, dtype):
    """Every number of rays, segments, samples and channels gives the reference's results and gradients."""
    samples = segments * per_segment
    inputs = [*case(rays, samples, dtype, channels=channels), *extras(rays, samples, dtype, channels)]
    want = run_all(segments_reference, [x.double() for x in inputs], segments)
    for got, expected in zip(run_all(ops.composite_segments, inputs, segments), want, strict=True):
        torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(
    rays=st.sampled_from([0, 1, 7, 8, 65]),
    segments=st.integers(1, 3),
    per_segment=st.sampled_from([0, 1, 2, 15, 16, 17, 33]),
)
def test_background_and_depth_of_any_size(rays, segments, per_segment):
    """Every number of rays, segments and samples gives the reference's background and depth."""
    samples = segments * per_segment
    inputs = [*case(rays, samples, torch.float64), *extras(rays, samples, torch.float64)]
    want = run_all(segments_reference, inputs, segments)
    for got, expected in zip(run_all(ops.composite_segments, inputs, segments), want, strict=True):
        torch.testing.assert_close(got, expected)


def test_background_is_a_last_sample_of_infinite_length():
    """A background gives the colours of a further opaque sample in the last segment; opacity stays."""
    sigma, rgb, delta = case(20, 16)
    background = extras(20, 16)[0]
    got, opacity = ops.composite_segments(sigma, rgb, delta, segments=1, background=background)
    longer = [torch.cat([x, x[:, :1]], 1) for x in (sigma, rgb, delta)]
    longer[0][:, -1], longer[1][:, -1], longer[2][:, -1] = 1.0, background, 1e10
    torch.testing.assert_close(got, ops.composite_segments(*longer, segments=1)[0])
    assert torch.equal(opacity, ops.composite_segments(sigma, rgb, delta)[1])


def test_depth_is_the_expected_distance():
    """An opaque sample's depth is its distance; of two half ones it is the weighted sum, not divided."""
    distances = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    sigma = torch.tensor([[0.0, 1e6, 1.0, 1.0]])
    ones = torch.ones(1, 4)
    colors, opacity, weights, depth = ops.composite_segments(
        sigma, torch.ones(1, 4, 3), ones, distances=distances, return_weights=True
    )
    assert float(depth) == 2 and float(opacity) == 1 and colors.shape == (1, 4, 3)
    thin = torch.tensor([[0.0, math.log(2), 0.0, math.log(2)]])
    *_, weights, depth = ops.composite_segments(
        thin, torch.ones(1, 4, 3), ones, distances=distances, return_weights=True
    )
    assert (
        float(depth) == pytest.approx(0.5 * 2 + 0.25 * 4) == pytest.approx(float((weights * distances).sum()))
    )


@settings(max_examples=50, deadline=None)
@given(
    rays=st.sampled_from([0, 1, 7, 8, 63, 64, 65, 129]),
    segments=st.integers(1, 5),
    per_segment=st.sampled_from([0, 1, 2, 3, 15, 16, 17, 31, 32, 33, 48]),
)
def test_any_size(rays, segments, per_segment):
    """Every number of rays, segments and samples gives the reference's results and gradients."""
    inputs = case(rays, segments * per_segment)
    want = run(segments_reference, [x.double() for x in inputs], segments)
    for got, expected in zip(run(ops.composite_segments, inputs, segments), want, strict=True):
        torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3, 7])
def test_gradients_are_derivatives(channels):
    """The gradients of the kernel are its finite differences in float64."""
    g = torch.Generator().manual_seed(2)
    inputs = [torch.rand(3, 12, *tail, generator=g, dtype=torch.float64) for tail in ((), (channels,), ())]
    torch.autograd.gradcheck(
        lambda s, c, d: ops.composite_segments(s, c, d, segments=3), [x.requires_grad_() for x in inputs]
    )
    more = [*inputs, *(x.requires_grad_() for x in extras(3, 12, torch.float64, channels))]
    torch.autograd.gradcheck(
        lambda s, c, d, b, t: ops.composite_segments(s, c, d, segments=3, background=b, distances=t), more
    )


@pytest.mark.parametrize("channels", [3, 18])
def test_opcheck(channels):
    """Schema, fake tensors and dispatch of both operations hold."""
    inputs = case(5, 8, channels=channels)
    for weights in (False, True):
        torch.library.opcheck(torch.ops.nldf.segments.default, (*inputs, 4, weights))
        torch.library.opcheck(
            torch.ops.nldf.segments_backward.default,
            (*inputs, torch.randn(5, 4, channels), torch.randn(5), weights),
        )
    more = extras(5, 8, channels=channels)
    torch.library.opcheck(torch.ops.nldf.segments.default, (*inputs, 4, True, *more))
    torch.library.opcheck(
        torch.ops.nldf.segments_backward.default,
        (*inputs, torch.randn(5, 4, channels), torch.randn(5), True, *more, torch.randn(5)),
    )


@pytest.mark.parametrize("samples", [4, 64, 256])
def test_slab_of_constant_density(samples):
    """A slab's opacity is 1 - exp(-sigma L) however finely it is sampled, and so are its segments'."""
    sigma, length = 3.0, 0.8
    color = torch.tensor([0.2, 0.5, 0.9])
    colors, opacity = ops.composite_segments(
        torch.full((1, samples), sigma),
        color.repeat(1, samples, 1),
        torch.full((1, samples), length / samples),
        segments=4,
    )
    assert float(opacity) == pytest.approx(1 - math.exp(-sigma * length), abs=1e-6)
    edges = torch.exp(-sigma * length * torch.arange(5) / 4)
    torch.testing.assert_close(colors[0], (edges[:-1] - edges[1:])[:, None] * color, rtol=1e-5, atol=1e-6)


def test_segments_sum_to_the_pixel():
    """The M colours sum to the pixel that volume rendering of the whole ray gives, eq. (3) and (5)."""
    inputs = case(50, 48)
    whole, opacity = ops.composite_segments(*inputs, segments=1)
    for segments in (2, 4, 16, 48):
        parts, same = ops.composite_segments(*inputs, segments=segments)
        torch.testing.assert_close(parts.sum(1), whole[:, 0])
        assert torch.equal(same, opacity)


def test_last_sample_of_infinite_length_is_the_background():
    """With a last length of 1e10 the ray is opaque, and what is left of it takes the last colour."""
    sigma, rgb, delta = case(20, 16)
    front = [x[:, :-1].contiguous() for x in (sigma, rgb, delta)]
    without, opacity = ops.composite_segments(*front, segments=1)
    sigma[:, -1], delta[:, -1] = 1.0, 1e10
    colors, opaque = ops.composite_segments(sigma, rgb, delta, segments=1)
    assert torch.equal(opaque, torch.ones(20))
    torch.testing.assert_close(colors[:, 0], without[:, 0] + (1 - opacity[:, None]) * rgb[:, -1])


def test_gradients_behind_an_opaque_sample_are_finite(compare):
    """Samples with alpha = 1 and lengths of 1e10 give the reference's gradients, all finite."""
    sigma, rgb, delta = case(30, 16)
    sigma[:, 5] = 1e6
    sigma[:, -1], delta[:, -1] = 0.7, 1e10
    got = run(ops.composite_segments, [sigma, rgb, delta], 4)
    assert all(x.isfinite().all() for x in got)
    double = run(segments_reference, [x.double() for x in (sigma, rgb, delta)], 4)
    compare(got, run(segments_reference, [sigma, rgb, delta], 4), double)


def test_empty_space_shows_nothing():
    """Without density colours, opacity and weights are exactly zero, even over an infinite length."""
    delta = torch.full((3, 8), 0.1)
    delta[:, -1] = 1e10
    for out in ops.composite_segments(torch.zeros(3, 8), torch.ones(3, 8, 3), delta, return_weights=True):
        assert not out.any()


def test_weights_sum_to_the_opacity_and_carry_no_gradient():
    """The weights are not negative, sum to the opacity, and are outside of the graph."""
    sigma, rgb, delta = case(100, 64)
    for backend in ("native", "reference"):
        leaf = sigma.clone().requires_grad_()
        _, opacity, weights = ops.composite_segments(leaf, rgb, delta, return_weights=True, backend=backend)
        assert opacity.requires_grad and not weights.requires_grad
        assert (weights >= 0).all()
        torch.testing.assert_close(weights.sum(1), opacity.detach())


def test_gradients_that_nobody_asked_for_are_not_made():
    """Only the inputs that require a gradient receive one."""
    sigma, rgb, delta = case(4, 8)
    rgb.requires_grad_()
    colors, _ = ops.composite_segments(sigma, rgb, delta)
    colors.sum().backward()
    assert rgb.grad is not None and sigma.grad is None and delta.grad is None


@pytest.mark.parametrize("which", ["colors", "opacity", "depth"])
def test_any_result_alone_has_its_gradients(which):
    """A loss of one result gives all inputs the reference's gradients: those of the others count as zero."""
    inputs = [x.requires_grad_() for x in (*case(6, 8, torch.float64), *extras(6, 8, torch.float64))]
    gradients = []
    for backend in ("native", "reference"):
        colors, opacity, weights, depth = ops.composite_segments(
            *inputs[:3], background=inputs[3], distances=inputs[4], return_weights=True, backend=backend
        )
        one = {"colors": colors, "opacity": opacity, "depth": depth}[which]
        assert weights.shape == (6, 8)
        gradients.append(torch.autograd.grad(one.square().sum(), inputs, materialize_grads=True))
    for got, want in zip(*gradients, strict=True):
        torch.testing.assert_close(got, want)


def test_reference_backend_is_the_reference():
    """backend="reference" runs the reference itself."""
    inputs = case(6, 8)
    got = ops.composite_segments(*inputs, return_weights=True, backend="reference")
    for op, reference in zip(got, segments_reference(*inputs)[:3], strict=True):
        assert torch.equal(op, reference)


BAD = {
    "sigma no tensor": ({"sigma": None}, TypeError, r"sigma must be a torch.Tensor, got NoneType"),
    "sigma bf16": (
        {"sigma": torch.ones(5, 8).bfloat16()},
        TypeError,
        r"sigma must be torch.float32 .*bfloat16",
    ),
    "sigma shape": ({"sigma": torch.ones(5, 8, 1)}, ValueError, r"sigma must .* \[R, S\], got \[5, 8, 1\]"),
    "sigma layout": ({"sigma": torch.ones(8, 5).T}, ValueError, r"sigma must be contiguous"),
    "features shape": (
        {"features": torch.ones(5, 7, 3)},
        ValueError,
        r"features must .* \[R=5, S=8, C\], got \[5, 7, 3\]",
    ),
    "features expanded": (
        {"features": torch.ones(1, 1, 3).expand(5, 8, 3)},
        ValueError,
        r"features must be contiguous",
    ),
    "features half": (
        {"features": torch.ones(5, 8, 64).half()},
        TypeError,
        r"features must be torch.float32 as sigma is",
    ),
    "delta dtype": (
        {"delta": torch.ones(5, 8).double()},
        TypeError,
        r"delta must be torch.float32 as sigma is",
    ),
    "delta shape": ({"delta": torch.ones(8)}, ValueError, r"delta must .* \[R=5, S=8\], got \[8\]"),
    "background shape": (
        {"background": torch.ones(5, 4)},
        ValueError,
        r"background must .* \[R=5, C=3\], got \[5, 4\]",
    ),
    "distances dtype": (
        {"distances": torch.ones(5, 8).half()},
        TypeError,
        r"distances must be torch.float32 as sigma is",
    ),
    "segments zero": ({"segments": 0}, ValueError, r"segments must be at least 1, got 0"),
    "segments bool": ({"segments": True}, TypeError, r"segments must be an int, got bool"),
    "segments divide": ({"segments": 3}, ValueError, r"segments must divide the samples S=8, got 3"),
    "backend": ({"backend": ""}, ValueError, r"backend must be 'native' or 'reference', got ''"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    """Each wrong argument raises the right error, naming the operation, the argument and what came."""
    change, error, message = BAD[name]
    arguments = dict(zip(("sigma", "features", "delta"), case(5, 8), strict=True)) | change
    with pytest.raises(error, match=r"composite_segments: " + message):
        ops.composite_segments(**arguments)


@pytest.mark.parametrize("channels", [3, 64])
def test_compiles_as_one_graph(channels):
    """torch.compile takes the call, its checks and its gradient without a graph break."""
    sigma, features, delta = case(4, 8, channels=channels)

    def loss(sigma: Tensor) -> Tensor:
        colors, opacity, weights = ops.composite_segments(sigma, features, delta, return_weights=True)
        return colors.square().sum() + opacity.sum() + weights.sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    gradients = []
    for function in (loss, compiled):
        leaf = sigma.clone().requires_grad_()
        function(leaf).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(gradients[1], gradients[0])
