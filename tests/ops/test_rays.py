"""ops.generate_rays against its reference, closed forms and bad input."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nldf_engine import ops
from nldf_engine.ops.reference import rays_reference


def case(frames: int, per_frame: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> list[Tensor]:
    """Poses (not quite orthonormal), intrinsics and pixels."""
    g = torch.Generator().manual_seed(seed)
    pose = torch.eye(4, dtype=torch.float64).repeat(frames, 1, 1)
    pose[:, :3] += 0.2 * torch.randn(frames, 3, 4, generator=g, dtype=torch.float64)
    sizes = torch.tensor([500.0, 520.0, 120.0, 130.0], dtype=torch.float64)
    intrinsics = sizes + 10 * torch.randn(frames, 4, generator=g, dtype=torch.float64)
    pixels = 256 * torch.rand(frames, per_frame, 2, generator=g, dtype=torch.float64)
    return [x.float().to(dtype) for x in (pose, intrinsics, pixels)]


def cotangents(frames: int, per_frame: int, seed: int = 1) -> list[Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(frames, per_frame, 3, generator=g) for _ in range(2)]


def run(op, inputs: list[Tensor], cotangent: list[Tensor]) -> list[Tensor]:
    """Outputs, then the gradients of pose and intrinsics."""
    pose, intrinsics = (x.clone().requires_grad_() for x in inputs[:2])
    out = op(pose, intrinsics, inputs[2])
    moved = [c.to(out[0]) for c in cotangent]
    return [*(o.detach() for o in out), *torch.autograd.grad(out, (pose, intrinsics), moved)]


def test_agrees_with_the_reference(device, compare):
    """Rays and gradients are as accurate as the reference's in float32."""
    inputs, cotangent = case(3, 2500), cotangents(3, 2500)
    got = run(ops.generate_rays, [x.to(device) for x in inputs], cotangent)
    single = run(rays_reference, inputs, cotangent)
    double = run(rays_reference, [x.double() for x in inputs], cotangent)
    compare(got, single, double)


@pytest.mark.parametrize("per_frame", [15, 16, 17, 1100])
def test_every_instruction_set_agrees(isa, compare, per_frame):
    """With vectors of any width, rays and gradients are as accurate as the reference's."""
    inputs, cotangent = case(2, per_frame), cotangents(2, per_frame)
    double = run(rays_reference, [x.double() for x in inputs], cotangent)
    compare(run(ops.generate_rays, inputs, cotangent), run(rays_reference, inputs, cotangent), double)


@settings(max_examples=25, deadline=None)
@given(frames=st.integers(0, 3), per_frame=st.sampled_from([0, 1, 2, 3, 31, 1023, 1024, 1025, 4097]))
def test_any_size(frames, per_frame):
    """Every number of frames and pixels gives the reference's rays and gradients, none included."""
    inputs, cotangent = case(frames, per_frame), cotangents(frames, per_frame)
    double = [x.double() for x in inputs]
    for got, want in zip(
        run(ops.generate_rays, inputs, cotangent), run(rays_reference, double, cotangent), strict=True
    ):
        torch.testing.assert_close(got.double(), want, rtol=2e-5, atol=2e-5)


def test_gradients_are_derivatives():
    """The gradients of the kernel are its finite differences in float64."""
    pose, intrinsics, pixels = case(2, 5, torch.float64)
    torch.autograd.gradcheck(
        lambda p, k: ops.generate_rays(p, k, pixels), (pose.requires_grad_(), intrinsics.requires_grad_())
    )


def test_opcheck():
    """Schema, fake tensors and dispatch of both operations hold."""
    inputs, cotangent = case(2, 7), cotangents(2, 7)
    torch.library.opcheck(torch.ops.nldf.rays.default, tuple(inputs))
    torch.library.opcheck(torch.ops.nldf.rays_backward.default, (*inputs, *cotangent))


def test_principal_point_looks_along_the_camera_axis():
    """The pixel (cx, cy) looks along the pose's third column from its fourth."""
    turn = torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    pose = torch.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, torch.tensor([1.0, 2.0, 3.0])
    origins, directions = ops.generate_rays(
        pose[None], torch.tensor([[100.0, 100.0, 31.5, 20.0]]), torch.tensor([[[31.5, 20.0]]])
    )
    assert origins.tolist() == [[[1, 2, 3]]]
    assert directions.tolist() == [[[1, 0, 0]]]


def test_forty_five_degrees():
    """A pixel one focal length right of the centre looks 45 degrees to the right, at unit length."""
    _, directions = ops.generate_rays(
        torch.eye(4)[None], torch.tensor([[50.0, 80.0, 0.0, 0.0]]), torch.tensor([[[50.0, 0.0], [0.0, 80.0]]])
    )
    half = 0.5**0.5
    torch.testing.assert_close(directions, torch.tensor([[[half, 0, half], [0, half, half]]]))


def test_points_on_rays_project_back():
    """A point anywhere on a ray projects to the pixel that the ray came from."""
    pose, intrinsics, pixels = case(2, 100, torch.float64)
    pose[:, :3, :3] = torch.linalg.qr(pose[:, :3, :3]).Q
    origins, directions = ops.generate_rays(pose, intrinsics, pixels)
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(2, 100, dtype=torch.float64))
    points = origins + 0.7 * directions
    camera = (points - pose[:, None, :3, 3]) @ pose[:, :3, :3]
    seen = camera[..., :2] / camera[..., 2:] * intrinsics[:, None, :2] + intrinsics[:, None, 2:]
    torch.testing.assert_close(seen, pixels)


def test_gradients_repeat_bit_for_bit():
    """The sums over pixels don't depend on the number of threads."""
    inputs, cotangent = case(2, 5000), cotangents(2, 5000)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(run(ops.generate_rays, inputs, cotangent))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_reference_backend_is_the_reference():
    """backend="reference" runs the reference itself."""
    inputs = case(2, 9)
    for got, want in zip(
        ops.generate_rays(*inputs, backend="reference"), rays_reference(*inputs), strict=True
    ):
        assert torch.equal(got, want)


BAD = {
    "pose no tensor": ({"pose": [[1.0]]}, TypeError, r"pose must be a torch.Tensor, got list"),
    "pose half": ({"pose": torch.zeros(2, 4, 4).half()}, TypeError, r"pose must be torch.float32 .*float16"),
    "pose shape": (
        {"pose": torch.zeros(2, 3, 4)},
        ValueError,
        r"pose must have the shape \[F, 4, 4\], got \[2, 3",
    ),
    "pose layout": ({"pose": torch.zeros(2, 4, 4).mT}, ValueError, r"pose must be contiguous"),
    "pose device": (
        {"pose": torch.zeros(2, 4, 4, device="meta")},
        ValueError,
        r"pose must be on the CPU or a",
    ),
    "intrinsics dtype": (
        {"intrinsics": torch.ones(2, 4).double()},
        TypeError,
        r"intrinsics must be torch.float32",
    ),
    "intrinsics frames": (
        {"intrinsics": torch.ones(3, 4)},
        ValueError,
        r"intrinsics must .* \[F=2, 4\], got \[3, 4",
    ),
    "pixels shape": (
        {"pixels": torch.ones(2, 5, 3)},
        ValueError,
        r"pixels must .* \[F=2, P, 2\], got \[2, 5, 3\]",
    ),
    "pixels layout": (
        {"pixels": torch.ones(5, 2, 2).transpose(0, 1)},
        ValueError,
        r"pixels must be contiguous",
    ),
    "pixels device": (
        {"pixels": torch.ones(2, 5, 2, device="meta")},
        ValueError,
        r"pixels must be on cpu as pose",
    ),
    "pixels gradient": (
        {"pixels": torch.ones(2, 5, 2, requires_grad=True)},
        ValueError,
        r"pixels must not require",
    ),
    "backend": ({"backend": "fast"}, ValueError, r"backend must be 'native' or 'reference', got 'fast'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    """Each wrong argument raises the right error, naming the operation, the argument and what came."""
    change, error, message = BAD[name]
    arguments = dict(zip(("pose", "intrinsics", "pixels"), case(2, 5), strict=True)) | change
    with pytest.raises(error, match=r"generate_rays: " + message):
        ops.generate_rays(**arguments)


def test_compiles_as_one_graph():
    """torch.compile takes the call, its checks and its gradient without a graph break."""
    pose, intrinsics, pixels = case(2, 6)

    def loss(pose: Tensor) -> Tensor:
        origins, directions = ops.generate_rays(pose, intrinsics, pixels)
        return (origins * directions * 2).sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    gradients = []
    for function in (loss, compiled):
        leaf = pose.clone().requires_grad_()
        function(leaf).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(gradients[1], gradients[0])
