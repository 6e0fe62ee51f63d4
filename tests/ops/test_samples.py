"""ops.resample against its reference, its distribution and bad input."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nldf_engine import ops
from nldf_engine.ops.reference import samples_reference


def case(rays: int, samples: int, count: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Increasing distances, weights of which a third are zero, and a jitter."""
    g = torch.Generator().manual_seed(0)
    distances = torch.sort(0.4 + 0.8 * torch.rand(rays, samples, generator=g), 1).values
    weights = torch.rand(rays, samples, generator=g) * (torch.rand(rays, samples, generator=g) > 0.3)
    jitter = torch.rand(rays, count, generator=g)
    return [x.to(dtype) for x in (distances, weights, jitter)]


def spread(rays: int, samples: int) -> Tensor:
    return torch.linspace(0, 1, samples).repeat(rays, 1)


@pytest.mark.parametrize("jittered", [False, True])
@pytest.mark.parametrize(("samples", "count"), [(64, 128), (3, 1), (33, 31), (65, 64)])
def test_agrees_with_the_reference(device, compare, samples, count, jittered):
    """Merged distances are as accurate as the reference's in float32, with and without jitter."""
    distances, weights, jitter = case(200, samples, count)
    weights = weights + 0.01  # a bin of the floor's mass alone turns rounding into whole bin widths

    def run(op, dtype: torch.dtype, where: str | torch.device = "cpu") -> list[Tensor]:
        t, w, u = (x.to(dtype).to(where) for x in (distances, weights, jitter))
        return [op(t, w, count, u if jittered else None)]

    compare(
        run(ops.resample, torch.float32, device),
        run(samples_reference, torch.float32),
        run(samples_reference, torch.float64),
    )


@settings(max_examples=60, deadline=None)
@given(
    rays=st.sampled_from([0, 1, 2, 63, 64, 65]),
    samples=st.sampled_from([3, 4, 5, 31, 32, 33, 34, 35]),
    count=st.sampled_from([1, 2, 31, 32, 33]),
)
def test_any_size(rays, samples, count):
    """Every number of rays, samples and draws gives the reference's result in float64."""
    distances, weights, jitter = case(rays, samples, count, torch.float64)
    got = ops.resample(distances, weights, count, jitter)
    torch.testing.assert_close(got, samples_reference(distances, weights, count, jitter))
    assert got.shape == (rays, samples + count)


WEIGHTS = st.one_of(
    st.floats(0, 1, width=32),
    st.sampled_from([0.0, -1.0, 1e-30, 1e30, float("nan"), float("inf"), float("-inf")]),
)


@settings(max_examples=150, deadline=None)
@given(weights=st.lists(WEIGHTS, min_size=3, max_size=12), count=st.integers(1, 9))
def test_any_weights(weights, count):
    """Whatever the weights, the result is finite, in order, and holds the coarse distances."""
    distances = spread(1, len(weights))
    merged = ops.resample(distances, torch.tensor([weights]), count)
    assert bool(merged.isfinite().all()) and bool((merged[:, 1:] >= merged[:, :-1]).all())
    assert set(distances[0].tolist()) <= set(merged[0].tolist())
    drawn = merged[0, (merged[0] >= 0) & (merged[0] <= 1)]
    assert len(drawn) == len(weights) + count


def test_no_weight_is_sampled_evenly():
    """Without weights the draws are spread evenly between the first and the last middle."""
    merged = ops.resample(spread(2, 5), torch.zeros(2, 5), 4)
    want = torch.tensor([0, 0.21875, 0.25, 0.40625, 0.5, 0.59375, 0.75, 0.78125, 1])
    torch.testing.assert_close(merged, want.expand(2, 9))


@pytest.mark.parametrize("jittered", [False, True])
def test_goes_where_the_weight_is(jittered):
    """With all weight on one sample, the draws fall about it."""
    weights = torch.zeros(1, 21)
    weights[0, 10] = 1
    merged = ops.resample(spread(1, 21), weights, 64, torch.rand(1, 64) if jittered else None)
    assert int(((merged > 0.47) & (merged < 0.53)).sum()) >= 64


def test_follows_the_distribution():
    """The share of draws below a quantile is the distribution's, within the sampling error."""
    weights = torch.linspace(0, 1, 65).repeat(200, 1)
    merged = ops.resample(spread(200, 65), weights, 256, torch.rand(200, 256))
    below = (merged < 0.5).sum() - 200 * 32
    assert abs(float(below) / (200 * 256) - 0.25) < 0.01


def test_equal_distances_keep_their_order():
    """Samples at one place make bins without length: draws stand there, and nothing is lost."""
    merged = ops.resample(torch.full((3, 7), 0.5), torch.rand(3, 7), 9)
    assert torch.equal(merged, torch.full((3, 16), 0.5))


def test_no_gradient():
    """The result is outside of the graph, with both backends."""
    distances, weights, _ = case(3, 8, 4)
    for backend in ("native", "reference"):
        out = ops.resample(distances.requires_grad_(), weights.requires_grad_(), 4, backend=backend)
        assert not out.requires_grad


def test_opcheck():
    """Schema, fake tensors and dispatch hold, with a jitter and without."""
    distances, weights, jitter = case(5, 8, 4)
    for u in (jitter, None):
        torch.library.opcheck(torch.ops.nldf.samples.default, (distances, weights, u, 4))


def test_reference_backend_is_the_reference():
    """backend="reference" runs the reference itself."""
    distances, weights, jitter = case(5, 8, 4)
    got = ops.resample(distances, weights, 4, jitter, backend="reference")
    assert torch.equal(got, samples_reference(distances, weights, 4, jitter))


def test_compiles_as_one_graph():
    """torch.compile takes the call without a graph break."""
    distances, weights, _ = case(4, 8, 4)
    compiled = torch.compile(lambda t, w: ops.resample(t, w, 4) * 2, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(distances, weights), ops.resample(distances, weights, 4) * 2)


BAD = {
    "distances no tensor": ({"distances": 1.0}, TypeError, r"distances must be a torch.Tensor, got float"),
    "distances fp16": ({"distances": torch.ones(5, 8).half()}, TypeError, r"distances must be torch.float32"),
    "distances few": (
        {"distances": torch.ones(5, 2), "weights": torch.ones(5, 2)},
        ValueError,
        r"distances must have at least 3 samples a ray, got 2",
    ),
    "distances layout": ({"distances": torch.ones(8, 5).T}, ValueError, r"distances must be contiguous"),
    "weights shape": (
        {"weights": torch.ones(5, 7)},
        ValueError,
        r"weights must .* \[R=5, S=8\], got \[5, 7\]",
    ),
    "weights dtype": ({"weights": torch.ones(5, 8).double()}, TypeError, r"weights must be torch.float32 as"),
    "jitter shape": ({"jitter": torch.ones(5, 3)}, ValueError, r"jitter must .* \[R=5, 4\], got \[5, 3\]"),
    "jitter dtype": ({"jitter": torch.ones(5, 4).long()}, TypeError, r"jitter must be torch.float32 as"),
    "count zero": ({"count": 0}, ValueError, r"count must be at least 1, got 0"),
    "count float": ({"count": 4.0}, TypeError, r"count must be an int, got float"),
    "backend": ({"backend": "fast"}, ValueError, r"backend must be 'native' or 'reference', got 'fast'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    """Each wrong argument raises the right error, naming the operation, the argument and what came."""
    change, error, message = BAD[name]
    distances, weights, _ = case(5, 8, 4)
    with pytest.raises(error, match=r"resample: " + message):
        ops.resample(**({"distances": distances, "weights": weights, "count": 4} | change))
