"""The kernels that run on csrc/simt, and a problem of any size for each. A new one is one function here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nldf_engine.ops.reference import beams_reference, rays_reference, segments_reference
from simt.runner import Library, Source

Twin = Callable[[torch.dtype], dict[str, Tensor]]
SIZES = (0, 1, 64, 127, 128, 129, 255)


@dataclass(frozen=True)
class Problem:
    """What a kernel is given, and what it should give.

    Args:
        inputs: tensors by the names of its argument struct.
        outputs: shapes of what it writes, tensors it updates, or None for a null pointer.
        numbers: the other fields.
        twin: the outputs in plain PyTorch, computed in the dtype it is given.
        slack: added to the tolerance, relative to the largest value.
        dtype: of the outputs that are given as shapes.
    """

    inputs: dict[str, Tensor]
    outputs: dict[str, Any]
    numbers: dict[str, float]
    twin: Twin
    slack: float = 1e-6
    dtype: type = np.float32


@dataclass(frozen=True)
class Case:
    """A kernel: its source, its launcher's name, and problems by size."""

    source: Source
    kernel: str
    problem: Callable[[int], Problem]


CASES: dict[str, Case] = {}


def case(source: Source, kernel: str = "") -> Callable[[Callable[[int], Problem]], Callable[[int], Problem]]:
    """Adds a function (size -> Problem) to CASES; the function's name is the kernel's."""

    def add(problem: Callable[[int], Problem]) -> Callable[[int], Problem]:
        name = problem.__name__
        CASES[name] = Case(source, kernel or name, problem)
        return problem

    return add


def check(library: Library, kernel: str, problem: Problem, seed: int) -> None:
    """Runs the kernel and asserts err(kernel, ref64) <= 2 err(ref32, ref64) + slack for every output.

    Raises:
        Fault: the runner found one.
        AssertionError: a result is wrong.
    """
    inputs = {name: tensor.numpy() for name, tensor in problem.inputs.items()}
    outputs = {n: o.numpy() if isinstance(o, Tensor) else o for n, o in problem.outputs.items()}
    got = library.run(kernel, inputs, outputs, seed=seed, dtype=problem.dtype, **problem.numbers)
    single, double = problem.twin(torch.float32), problem.twin(torch.float64)
    for name, want in double.items():
        result = torch.from_numpy(got[name])
        assert result.shape == want.shape, f"{name}: {list(result.shape)} and {list(want.shape)}"
        if not want.numel():
            continue
        size = want.abs().max().clamp_min(1)
        error = (result.double() - want).abs().max() / size
        allowed = 2 * (single[name].double() - want).abs().max() / size + problem.slack
        assert error <= allowed, f"{name}: error {error:.3e}, allowed {allowed:.3e}, seed {seed}"


def gradients(outputs: list[Tensor], cotangents: list[Tensor], leaves: list[Tensor]) -> list[Tensor]:
    """Gradients of the leaves; zeros where there is nothing to differentiate."""
    if not outputs[0].numel():
        return [torch.zeros_like(leaf) for leaf in leaves]
    return list(torch.autograd.grad(outputs, leaves, [c.to(outputs[0]) for c in cotangents]))


def leaves(tensors: dict[str, Tensor], dtype: torch.dtype, *names: str) -> list[Tensor]:
    """Copies in this dtype that require gradients."""
    return [tensors[name].detach().to(dtype).clone().requires_grad_() for name in names]


# --- rays ---------------------------------------------------------------------------------------------------

RAYS = Source("csrc/rays_cuda.cu", "rays.h", ("rays", "rays_backward"))


def _rays_inputs(pixels: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(pixels)
    pose = torch.eye(4).repeat(2, 1, 1)
    pose[:, :3] += 0.2 * torch.randn(2, 3, 4, generator=g)
    intrinsics = torch.tensor([500.0, 520.0, 120.0, 130.0]) + 10 * torch.randn(2, 4, generator=g)
    return {"pose": pose, "intrinsics": intrinsics, "pixels": 256 * torch.rand(2, pixels, 2, generator=g)}


@case(RAYS)
def rays(size: int) -> Problem:
    inputs = _rays_inputs(size)

    def twin(dtype: torch.dtype) -> dict[str, Tensor]:
        out = rays_reference(*(x.to(dtype) for x in inputs.values()))
        return dict(zip(("origins", "directions"), out, strict=True))

    shape = (2, size, 3)
    return Problem(inputs, {"origins": shape, "directions": shape}, {"frames": 2, "per_frame": size}, twin)


@case(RAYS)
def rays_backward(size: int) -> Problem:
    inputs = _rays_inputs(size)
    g = torch.Generator().manual_seed(1)
    cotangents = [torch.randn(2, size, 3, generator=g) for _ in range(2)]
    block = 100

    # `partial` sums over blocks of pixels: the twin's gradient, block by block.
    def twin(dtype: torch.dtype) -> dict[str, Tensor]:
        pieces = []
        for begin in range(0, size, block):
            part = slice(begin, begin + block)
            pose, intrinsics = leaves(inputs, dtype, "pose", "intrinsics")
            out = rays_reference(pose, intrinsics, inputs["pixels"][:, part].to(dtype))
            v = gradients(list(out), [c[:, part] for c in cotangents], [pose, intrinsics])
            pieces.append(torch.cat([v[0][:, :3].reshape(2, 12), v[1]], 1))
        return {"partial": torch.stack(pieces, 1) if pieces else torch.zeros(2, 0, 16, dtype=dtype)}

    given = inputs | {"v_origins": cotangents[0], "v_directions": cotangents[1]}
    numbers = {"frames": 2, "per_frame": size, "block": block}
    return Problem(given, {"partial": (2, -(-size // block), 16)}, numbers, twin)


# --- beams --------------------------------------------------------------------------------------------------

BEAMS = Source("csrc/beams_cuda.cu", "beams.h", ("beams", "beams_backward"))
_BEAM = {"near": 0.4, "far": 1.3, "points": 11, "frequencies": 3, "scale": 2.0}


def _beams_inputs(rays: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(rays)
    directions = torch.nn.functional.normalize(torch.randn(rays, 3, generator=g), dim=-1)
    return {"origins": 0.5 * torch.randn(rays, 3, generator=g), "directions": directions}


@case(BEAMS)
def beams(size: int) -> Problem:
    inputs = _beams_inputs(size)

    def twin(dtype: torch.dtype) -> dict[str, Tensor]:
        return {"encoded": beams_reference(*(x.to(dtype) for x in inputs.values()), **_BEAM)}

    return Problem(inputs, {"encoded": (size, 33 * 7)}, {"rays": size, **_BEAM}, twin)


@case(BEAMS)
def beams_backward(size: int) -> Problem:
    inputs = _beams_inputs(size)
    cotangent = torch.randn(size, 33 * 7, generator=torch.Generator().manual_seed(1))

    def twin(dtype: torch.dtype) -> dict[str, Tensor]:
        both = leaves(inputs, dtype, "origins", "directions")
        v = gradients([beams_reference(*both, **_BEAM)], [cotangent], both)
        return {"v_origins": v[0], "v_directions": v[1]}

    outputs = {"v_origins": (size, 3), "v_directions": (size, 3)}
    return Problem(inputs | {"v_encoded": cotangent}, outputs, {"rays": size, **_BEAM}, twin)


# --- segments -----------------------------------------------------------------------------------------------

SEGMENTS = Source("csrc/segments_cuda.cu", "segments.h", ("segments", "segments_backward"))
_SAMPLES, _SEGMENTS = 4 * 18, 4  # a segment is more than 16 lanes, and no multiple of them


def _segments_inputs(rays: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(rays)
    sigma = 30 * torch.rand(rays, _SAMPLES, generator=g)
    sigma *= torch.rand(rays, _SAMPLES, generator=g) > 0.3
    delta = 0.02 * torch.rand(rays, _SAMPLES, generator=g)
    return {"sigma": sigma, "rgb": torch.rand(rays, _SAMPLES, 3, generator=g), "delta": delta}


@case(SEGMENTS)
def segments(size: int) -> Problem:
    inputs = _segments_inputs(size)

    def twin(dtype: torch.dtype) -> dict[str, Tensor]:
        out = segments_reference(*(x.to(dtype) for x in inputs.values()), _SEGMENTS)
        return dict(zip(("colors", "opacity", "weights"), out, strict=True))

    outputs = {"colors": (size, _SEGMENTS, 3), "opacity": (size,), "weights": (size, _SAMPLES)}
    return Problem(inputs, outputs, {"rays": size, "samples": _SAMPLES, "segments": _SEGMENTS}, twin)


@case(SEGMENTS)
def segments_backward(size: int) -> Problem:
    inputs = _segments_inputs(size)
    g = torch.Generator().manual_seed(1)
    v_colors, v_opacity = torch.randn(size, _SEGMENTS, 3, generator=g), torch.randn(size, generator=g)

    def twin(dtype: torch.dtype) -> dict[str, Tensor]:
        all_three = leaves(inputs, dtype, "sigma", "rgb", "delta")
        out = segments_reference(*all_three, _SEGMENTS)[:2]
        v = gradients(list(out), [v_colors, v_opacity], all_three)
        return dict(zip(("v_sigma", "v_rgb", "v_delta"), v, strict=True))

    shape = (size, _SAMPLES)
    return Problem(
        inputs | {"v_colors": v_colors, "v_opacity": v_opacity},
        {"v_sigma": shape, "v_rgb": (*shape, 3), "v_delta": shape},
        {"rays": size, "samples": _SAMPLES, "segments": _SEGMENTS},
        twin,
    )


# --- layers: what the fused network's kernels are made of ---------------------------------------------------

MMA_BLOCK = Source("tests/simt/mma_block.cu", "layers.h", ("mma_block",))
WGMMA_RING = Source("tests/simt/wgmma_ring.cu", "layers.h", ("wgmma_ring",))


def swizzle(weights: Tensor) -> Tensor:
    """[N, K] to chunks [K / 64, N, 64] whose 16-byte columns j lie at j ^ (n % 8), as wgmma reads them."""
    rows, width = weights.shape
    chunks = weights.reshape(rows, width // 64, 8, 8).transpose(0, 1)
    columns = torch.arange(8)[None] ^ (torch.arange(rows) % 8)[:, None]
    packed = torch.empty_like(chunks)
    packed.scatter_(2, columns[None, :, :, None].expand_as(chunks), chunks)
    return packed.contiguous()


@case(MMA_BLOCK)
def mma_block(size: int) -> Problem:
    g = torch.Generator().manual_seed(size)
    given = {
        "x": torch.randn(size, 64, generator=g).half(),
        "w1": (0.2 * torch.randn(64, 64, generator=g)).half(),
        "b1": 0.5 * torch.randn(64, generator=g),
        "w2": (0.2 * torch.randn(64, 64, generator=g)).half(),
        "b2": 0.5 * torch.randn(64, generator=g),
    }

    # In float32 halves are rounded where the kernel rounds them, in float64 nowhere.
    def twin(dtype: torch.dtype) -> dict[str, Tensor]:
        x, w1, b1, w2, b2 = (value.to(dtype) for value in given.values())
        hidden = torch.relu(x @ w1.T + b1)
        if dtype == torch.float32:
            hidden = hidden.half().float()
        y = torch.relu(x + hidden @ w2.T + b2)
        return {"y": y.half() if dtype == torch.float32 else y}

    return Problem(given, {"y": (size, 64)}, {"rows": size}, twin, dtype=np.float16)


@case(WGMMA_RING)
def wgmma_ring(size: int) -> Problem:
    g = torch.Generator().manual_seed(size)
    x = torch.randn(size, 256, generator=g).half()
    weights = (0.1 * torch.randn(128, 256, generator=g)).half()
    b = 0.5 * torch.randn(128, generator=g)

    def twin(dtype: torch.dtype) -> dict[str, Tensor]:
        return {"y": torch.relu(x.to(dtype) @ weights.to(dtype).T + b.to(dtype))}

    inputs = {"x": x, "packed": swizzle(weights), "b": b}
    return Problem(inputs, {"y": (size, 128)}, {"rows": size}, twin)
