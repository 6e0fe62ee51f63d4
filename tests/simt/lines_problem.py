"""The light field over planes as it is trained, on the runner: networks, lines, both passes, comparison."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nldf_engine.ops import PlanesNetwork, shade_lines
from nldf_engine.ops.lines import _BLOCKS, _ROOM, _numbers, _parameters, _rows, _Sizes
from nldf_engine.ops.reference import lines_reference
from nldf_engine.ops.specs import Linear
from simt.planes_problem import Shape, network
from simt.problem import gradients
from simt.runner import Library, Source

LINES = Source("csrc/ops/lines_cuda.cu", "ops/lines.h", ("lines", "lines_backward"))
FRAME = 3
MULTIPROCESSORS = 2


@dataclass(frozen=True)
class Trained:
    """A network, lines of which some are evaluated, and the gradients of what is seen."""

    net: PlanesNetwork
    lines: Tensor
    inside: Tensor | None
    inputs: Tensor
    v_out: tuple[Tensor, Tensor]


def trained(shape: Shape, frames: int, rays: int, chosen: bool = True) -> Trained:
    """A problem; of its lines, where not all are evaluated, a whole group is not, and holds no numbers."""
    g = torch.Generator().manual_seed(rays)
    net = network(shape)

    def framed(layers: tuple[Linear, ...]) -> tuple[Linear, ...]:
        weight = layers[0][0]
        more, bias = torch.randn(len(weight), FRAME, generator=g), torch.randn(len(weight), generator=g)
        return ((torch.cat([weight, 0.3 * more], 1), 0.3 * bias), *layers[1:])

    net = replace(net, warp_layers=framed(net.warp_layers), layers=framed(net.layers))
    lines = torch.rand(frames, rays, 4, generator=g) * 1.2 - 0.1
    inside = None
    if chosen:
        inside = torch.rand(frames, rays, generator=g) < 0.6
        inside[0, : _ROOM + 1] = False
        lines[0, : _ROOM + 1] = torch.inf
    v_out = (
        torch.randn(frames, rays, len(shape.depths), 3, generator=g),
        torch.randn(frames, rays, generator=g),
    )
    return Trained(net, lines, inside, torch.randn(frames, FRAME, generator=g), v_out)


def run(library: Library, given: Trained, seed: int = 0) -> list[Tensor]:
    """Segments, opacity, and the gradients of lines, inputs and parameters, of one launch of either pass."""
    parameters, (sizes, scales) = _parameters(given.net), _numbers(given.net)
    frames, rays, _ = given.lines.shape
    own, planes = _Sizes(*sizes[: len(_Sizes._fields)]), len(given.net.depths)
    layers = parameters[planes + 1 :]
    arrays = [t.numpy() for t in parameters]
    half = planes + 1 + len(layers) // 2
    specs = {"warp_": given.net.warp_spec, "": given.net.spec}
    held: dict[str, Any] = {
        "depths": torch.tensor(scales[:-2], dtype=torch.float64).numpy(), "tables": arrays[: planes + 1],
        "weights": arrays[planes + 1 : half], "biases": arrays[half:],
        **{f"{name}resolutions": torch.tensor(spec.resolutions).numpy() for name, spec in specs.items()},
        **{f"{name}offsets": torch.tensor(spec.offsets).numpy() for name, spec in specs.items()},
    }  # fmt: skip
    numbers = {**own._asdict(), "warp_scale": scales[-2], "opacity_slope": scales[-1]}
    numbers = {f"network.{name}": number for name, number in numbers.items()} | {
        "frames": frames,
        "rays": rays,
    }
    inputs = {"lines": given.lines.numpy(), "inputs": given.inputs.numpy()}
    absent: dict[str, Any] = {} if given.inside is not None else {"inside": None}
    if given.inside is not None:
        inputs["inside"] = given.inside.numpy()
    inputs |= {f"network.{name}": array for name, array in held.items()}
    seen = library.run(
        "lines", inputs,
        {
            "segments": tuple(given.v_out[0].shape), "opacity": (frames, rays),
            "kept": (frames * (rays + _ROOM), own.kept), **absent,
        },
        seed=seed, **numbers,
    )  # fmt: skip
    groups = frames * -(-rays // _ROOM)
    parts = max(1, min(groups, _BLOCKS * MULTIPROCESSORS))
    widest = max(size for layer in layers for size in layer.shape)
    each = sum(layer.numel() for layer in layers) + 2 * widest * _ROOM
    rows = _rows(parameters, planes + 1)
    v_segments, v_opacity = (v.numpy() for v in given.v_out)
    back = library.run(
        "lines_backward",
        inputs | {"kept": seen["kept"], "v_segments": v_segments, "v_opacity": v_opacity},
        {
            "v_lines": tuple(given.lines.shape), "v_inputs": tuple(given.inputs.shape),
            "v_parameters": (sum(rows),), "scratch": (parts * each + groups * FRAME,), **absent,
        },
        seed=seed, parts=parts, **numbers,
    )  # fmt: skip
    got = [
        torch.from_numpy(t) for t in (seen["segments"], seen["opacity"], back["v_lines"], back["v_inputs"])
    ]
    flat = torch.from_numpy(back["v_parameters"]).split(rows)
    return got + [v[: p.numel()].view(p.shape) for v, p in zip(flat, parameters, strict=True)]


def with_parameters(net: PlanesNetwork, own: list[Tensor]) -> PlanesNetwork:
    """The network of other parameters, in the order of `_parameters`; its box is where they are."""
    planes, first = len(net.depths), len(net.warp_layers)
    half = planes + 1 + first + len(net.layers)
    layers = list(zip(own[planes + 1 : half], own[half:], strict=True))
    return replace(
        net, box=net.box.to(own[0]), warp_table=own[0], tables=tuple(own[1 : planes + 1]),
        warp_layers=tuple(layers[:first]), layers=tuple(layers[first:]),
    )  # fmt: skip


def on_device(given: Trained, device: torch.device) -> list[Tensor]:
    """What `run` gives, by the operation with gradients on a device."""
    leaves = [x.to(device).requires_grad_() for x in (given.lines, given.inputs, *_parameters(given.net))]
    lines, inputs, *own = leaves
    inside = None if given.inside is None else given.inside.to(device)
    out = list(shade_lines(lines, inside, inputs, with_parameters(given.net, own)))
    cotangents = [v.to(device) for v in given.v_out]
    return [x.detach().cpu() for x in (*out, *gradients(out, cotangents, leaves))]


def wanted(given: Trained, dtype: torch.dtype) -> list[Tensor]:
    """The same in plain PyTorch."""
    leaves = [
        x.to(dtype, copy=True).requires_grad_() for x in (given.lines, given.inputs, *_parameters(given.net))
    ]
    lines, inputs, *own = leaves
    out = list(lines_reference(lines, given.inside, inputs, with_parameters(given.net, own)))
    return [x.detach() for x in out] + gradients(out, list(given.v_out), leaves)


def assert_agrees(got: list[Tensor], given: Trained) -> None:
    """err(kernel, ref64) <= 2 err(ref32, ref64) + eps in the norm, for what is seen and all gradients: one
    ReLU that rounding turns would be the largest error of either."""
    single, double = wanted(given, torch.float32), wanted(given, torch.float64)
    for i, (op, reference, want) in enumerate(zip(got, single, double, strict=True)):
        assert op.shape == want.shape
        size = want.norm().clamp_min(1e-3)
        error, allowed = ((x.double() - want).norm() / size for x in (op, reference))
        assert error <= 2 * allowed + 2e-6, f"output {i}: error {error:.3e}, the reference's {allowed:.3e}"
