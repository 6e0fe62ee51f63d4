"""Points to Gaussian landmark features (Gaussian-landmark NeRF, section III-C, eq. (8a) and (8b))."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nldf_engine.ops import native
from nldf_engine.ops.check import Checker
from nldf_engine.ops.reference import landmarks_reference

MOST_LEVELS = 16
_BLOCK = 256  # points whose gradients are summed in one go


def _landmarks(
    points: Tensor, landmarks: Tensor, rotations: Tensor, log_scales: Tensor, axis: Tensor | None,
    levels: int, depth_scale: float, cut: float,
) -> Tensor:  # fmt: skip
    features = _landmarks_fake(
        points, landmarks, rotations, log_scales, axis, levels, depth_scale, cut
    )  # fmt: skip
    frames, per_frame, _ = points.shape
    factors = points.new_empty(9, landmarks.shape[1])
    native.launch(
        "landmarks",
        {
            "points": points, "landmarks": landmarks, "rotations": rotations, "log_scales": log_scales,
            "axis": axis,
        },
        {"factors": factors, "features": features},
        frames=frames, per_frame=per_frame, count=landmarks.shape[1],
        levels=levels, depth_scale=depth_scale, cut=cut,
    )  # fmt: skip
    if factors.is_cpu:
        _refuse(factors)
    return features


def _refuse(factors: Tensor) -> None:
    """Raises ValueError where a landmark's A isn't finite."""
    bad = factors.isfinite().all(0).logical_not()
    if bad.any():
        raise ValueError(
            "encode_landmarks: rotations must not be zero, and log_scales must be finite and above -88; "
            f"those of landmark {int(bad.nonzero()[0])} give no finite precision matrix"
        )


def _landmarks_fake(
    points: Tensor, landmarks: Tensor, rotations: Tensor, log_scales: Tensor, axis: Tensor | None,
    levels: int, depth_scale: float, cut: float,
) -> Tensor:  # fmt: skip
    columns = landmarks.shape[1] * (1 if axis is None else 1 + 2 * levels)
    return points.new_empty(points.shape[0], points.shape[1], columns)


def _landmarks_backward(
    points: Tensor, landmarks: Tensor, rotations: Tensor, log_scales: Tensor, axis: Tensor | None,
    v_features: Tensor, levels: int, depth_scale: float, cut: float, to_points: bool,
) -> list[Tensor]:  # fmt: skip
    (frames, per_frame, _), count = points.shape, landmarks.shape[1]
    gradients = _landmarks_backward_fake(
        points, landmarks, rotations, log_scales, axis, v_features, levels, depth_scale, cut, to_points
    )
    v_landmarks, v_rotations, v_log_scales, *v_points = gradients
    native.launch(
        "landmarks_backward",
        {
            "points": points, "landmarks": landmarks, "rotations": rotations, "log_scales": log_scales,
            "axis": axis, "v_features": v_features,
        },
        {
            "factors": points.new_empty(9, count),
            "partial": points.new_empty(frames, -(-per_frame // _BLOCK), 10, count),
            "v_points": v_points[0] if to_points else None,
            "v_landmarks": v_landmarks, "v_rotations": v_rotations, "v_log_scales": v_log_scales,
        },
        frames=frames, per_frame=per_frame, count=count,
        levels=levels, depth_scale=depth_scale, cut=cut, block=_BLOCK,
    )  # fmt: skip
    return gradients


def _landmarks_backward_fake(
    points: Tensor, landmarks: Tensor, rotations: Tensor, log_scales: Tensor, axis: Tensor | None,
    v_features: Tensor, levels: int, depth_scale: float, cut: float, to_points: bool,
) -> list[Tensor]:  # fmt: skip
    like = (landmarks, rotations, log_scales, *((points,) if to_points else ()))
    return [tensor.new_empty(tensor.shape) for tensor in like]


_call_landmarks = native.register(
    "landmarks(Tensor points, Tensor landmarks, Tensor rotations, Tensor log_scales, Tensor? axis,"
    " int levels, float depth_scale, float cut) -> Tensor",
    _landmarks,
    _landmarks_fake,
)
# The gradient to the points comes last, where it is wanted: a field's points are seldom learned.
_call_landmarks_backward = native.register(
    "landmarks_backward(Tensor points, Tensor landmarks, Tensor rotations, Tensor log_scales, Tensor? axis,"
    " Tensor v_features, int levels, float depth_scale, float cut, bool to_points) -> Tensor[]",
    _landmarks_backward,
    _landmarks_backward_fake,
)


class _Landmarks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, points: Tensor, landmarks: Tensor, rotations: Tensor, log_scales: Tensor,
        axis: Tensor | None, *numbers: Any,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(points, landmarks, rotations, log_scales, axis)
        ctx.numbers = numbers
        return _call_landmarks(points, landmarks, rotations, log_scales, axis, *numbers)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_features: Tensor) -> tuple[Any, ...]:
        to_points = ctx.needs_input_grad[0]
        shapes = _call_landmarks_backward(*ctx.saved_tensors, v_features, *ctx.numbers, to_points)
        v_points = shapes[3] if to_points else None
        return v_points, *shapes[:3], None, *(None for _ in ctx.numbers)


def encode_landmarks(
    points: Tensor, landmarks: Tensor, rotations: Tensor, log_scales: Tensor, axis: Tensor | None = None,
    *, levels: int = 3, depth_scale: float = 5.0, depth: bool = True, cut: float = 4.3,
    backend: str = "native",
) -> Tensor:  # fmt: skip
    """How near a point is to each facial landmark, by learned Gaussians, times its encoded relative depth.

    With d = x - landmark_l and the covariance Sigma_l = R S S^T R^T of eq. (8b), where R is the rotation's
    and S = diag(exp(log_scale)), landmark l gives, eq. (8a),

        r_l(x) = exp(-1/2 d^T Sigma_l^-1 d) gamma(d_z),    d_z = depth_scale * (axis . d),
        gamma(z) = [z, sin(pi z), cos(pi z), sin(2 pi z), cos(2 pi z), ..., cos(2^(levels - 1) pi z)].

    gamma has a period of 2, so d_z has to be of order 1 for its first level to tell depths apart, and metres
    are not: a Gaussian of 0.05 m ends 0.2 m from its landmark, which the default of 5 per metre makes 1.

    From the Mahalanobis distance `cut` on a weight is exactly zero, and so are its gradients; whole vectors
    of such landmarks are skipped. Beside eq. (8a) a feature is wrong by less than exp(-cut^2 / 2) (9.7e-5 by
    default), times |d_z| where it is the first one of gamma. Sigma^-1 = A^T A with A = S^-1 R^T is made once
    a call.

    Gradients flow to points, landmarks, rotations and log_scales; those of rotations and log_scales are
    summed over frames.

    Args:
        points: [F, N, 3] in head space, metres; N of each frame. float32 (or float64 on the CPU), like all
            others.
        landmarks: [F, L, 3] in head space, metres.
        rotations: [L, 4] quaternions w, x, y, z, of any length but 0; they are normalised here.
        log_scales: [L, 3] natural logarithms of the Gaussians' standard deviations in metres.
        axis: [F, 3] the camera's z axis in head space, of unit length: the third column of the pose. It may
            be left out where `depth` is False, and isn't read there.
        levels: of gamma, in [0, 16].
        depth_scale: of d_z, per metre.
        depth: False gives the weights exp(...) alone.
        cut: the Mahalanobis distance from which on weights are zero, above 0.
        backend: "native" or "reference".

    Returns:
        [F, N, L * (1 + 2 * levels)] in blocks of L: w_l z for every landmark, then w_l sin(pi z), then
        w_l cos(pi z), and so on; [F, N, L], the weights, where `depth` is False.

    Raises:
        TypeError, ValueError: an argument doesn't fit; `axis` asks for a gradient; on the CPU, a rotation or
            log_scale gives no finite Sigma^-1. On CUDA, where looking would wait for the device, the features
            of such a landmark are NaN.
        MissingBackend: the kernel for this device isn't built.

    Example:
        >>> points, nose = torch.tensor([[[0.0, 0.0, 0.05]]]), torch.zeros(1, 1, 3)
        >>> identity, scales = torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.full((1, 3), 0.1).log()
        >>> axis = torch.tensor([[0.0, 0.0, 1.0]])
        >>> features = encode_landmarks(points, nose, identity, scales, axis, levels=1)
        >>> [round(value, 4) for value in features.flatten().tolist()]  # w = exp(-1/8), z = 1/4
        [0.2206, 0.624, 0.624]
    """
    check = Checker("encode_landmarks")
    check.tensor("points", points, ("F", "N", 3))
    check.tensor("landmarks", landmarks, ("F", "L", 3))
    check.tensor("rotations", rotations, ("L", 4))
    check.tensor("log_scales", log_scales, ("L", 3))
    if not isinstance(depth, bool):
        raise TypeError(f"encode_landmarks: depth must be a bool, got {type(depth).__name__}")
    if depth or axis is not None:
        check.tensor("axis", axis, ("F", 3))
    if axis is not None and axis.requires_grad:
        raise ValueError("encode_landmarks: axis must not require a gradient, none flows to it; detach() it")
    check.integer("levels", levels, 0, MOST_LEVELS)
    check.number("depth_scale", depth_scale)
    check.number("cut", cut)
    if cut <= 0:
        raise ValueError(f"encode_landmarks: cut must be greater than 0, got {cut}")
    seen = axis if depth else None
    if not native.use_native("encode_landmarks", backend):
        return landmarks_reference(
            points, landmarks, rotations, log_scales, seen, levels, depth_scale, cut
        )  # fmt: skip
    given = (points, landmarks, rotations, log_scales)
    if torch.is_grad_enabled() and any(x.requires_grad for x in given):
        return _Landmarks.apply(*given, seen, levels, depth_scale, cut)
    return _call_landmarks(*given, seen, levels, depth_scale, cut)
