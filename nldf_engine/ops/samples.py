"""Distances drawn where a coarse pass saw density, merged with the coarse ones (AD-NeRF section 3.3)."""

from __future__ import annotations

from torch import Tensor

from nldf_engine.ops import native
from nldf_engine.ops.check import Checker
from nldf_engine.ops.reference import samples_reference

MOST_ON_CUDA = 1024
"""Most values of a ray, 2 S + N, that the CUDA kernel holds in a warp's shared memory."""


def _samples(distances: Tensor, weights: Tensor, jitter: Tensor | None, count: int) -> Tensor:
    merged = _samples_fake(distances, weights, jitter, count)
    rays, samples = distances.shape
    native.launch(
        "samples",
        {"distances": distances, "weights": weights, "jitter": jitter},
        {"merged": merged},
        rays=rays, samples=samples, count=count,
    )  # fmt: skip
    return merged


def _samples_fake(distances: Tensor, weights: Tensor, jitter: Tensor | None, count: int) -> Tensor:
    return distances.new_empty(distances.shape[0], distances.shape[1] + count)


_call_samples = native.register(
    "samples(Tensor distances, Tensor weights, Tensor? jitter, int count) -> Tensor",
    _samples,
    _samples_fake,
)


def resample(
    distances: Tensor, weights: Tensor, count: int, jitter: Tensor | None = None, *, backend: str = "native"
) -> Tensor:
    """Draws `count` distances a ray by the inverse of the coarse weights' distribution, merged in order.

    With m_j = (t_j + t_{j+1}) / 2, the density is constant between neighbouring m and its mass there is
    w_{j+1} + 1e-5: a ray without weights is sampled evenly, and the outermost weights have no bin. Draw k
    is at the quantile (k + jitter_k) / count; a jitter of k / (count - 1) makes that k / (count - 1), both
    ends included. Weights that are negative or NaN count as zero.

    No gradient flows, by design: the places of samples are no function to be optimised (AD-NeRF section
    3.3 detaches them too). The result is outside of the graph whatever the inputs require.

    Args:
        distances: [R, S] increasing, S at least 3, metres. Their order is not checked.
        weights: [R, S], w_k = transmittance times opacity of the coarse samples, as
            `composite_segments(..., return_weights=True)` returns them.
        count: N, at least 1. On CUDA 2 S + N is at most 1024.
        jitter: [R, N] in [0, 1], drawn evenly for training; None takes the quantiles' middles.
        backend: "native" or "reference".

    Returns:
        [R, S + N] increasing: the coarse distances and the drawn ones.

    Raises:
        TypeError, ValueError: an argument doesn't fit.
        MissingBackend: the kernel for this device isn't built.

    Example:
        >>> t = torch.tensor([[0.0, 1.0, 2.0, 3.0, 4.0]])
        >>> merged = resample(t, torch.tensor([[0.0, 0.0, 1.0, 0.0, 0.0]]), 2)
        >>> [round(value, 3) for value in merged[0].tolist()]
        [0.0, 1.0, 1.75, 2.0, 2.25, 3.0, 4.0]
    """
    check = Checker("resample")
    check.tensor("distances", distances, ("R", "S"))
    check.tensor("weights", weights, ("R", "S"))
    check.integer("count", count, 1)
    if jitter is not None:
        check.tensor("jitter", jitter, ("R", count))
    samples = distances.shape[1]
    if samples < 3:
        raise ValueError(f"resample: distances must have at least 3 samples a ray, got {samples}")
    distances, weights = distances.detach(), weights.detach()
    jitter = None if jitter is None else jitter.detach()
    if not native.use_native("resample", backend):
        return samples_reference(distances, weights, count, jitter)
    if distances.device.type == "cuda" and 2 * samples + count > MOST_ON_CUDA:
        raise ValueError(
            f"resample: 2 S + count must be at most {MOST_ON_CUDA} on CUDA, got 2 * {samples} + {count}"
        )
    return _call_samples(distances, weights, jitter, count)
