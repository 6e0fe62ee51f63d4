"""The light field over planes with gradients, for the lines of a batch: what trains nldf-fast."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nldf_engine.ops import native
from nldf_engine.ops.check import Checker
from nldf_engine.ops.packed_planes import MOST_LEVELS
from nldf_engine.ops.packing import whole_panels
from nldf_engine.ops.reference import lines_reference
from nldf_engine.ops.specs import PlanesNetwork, check_network

MOST_LAYERS = 32
# Lines of a group on CUDA, and the most that a frame's last group is filled up by.
_ROOM = 32
# Blocks of a multiprocessor that the way back on CUDA is cut for.
_BLOCKS = 2


class _Sizes(NamedTuple):
    """All numbers of a network; the schema has them in this order."""

    features: int
    planes: int
    ambient: int
    width: int
    warp_hidden: int
    hidden: int
    frame: int
    warp_levels: int
    levels: int

    @property
    def kept(self) -> int:
        """Numbers that are kept of a line, as csrc's lines_kept() counts them."""
        inputs = self.planes * self.levels * self.features + self.ambient
        ends = (
            self.warp_levels * self.features + 2, 2 * self.planes + self.ambient, inputs, 3 * self.planes + 1
        )  # fmt: skip
        hidden = (self.warp_hidden + self.hidden) * whole_panels(self.width)
        return 2 * (self.planes + 1) + sum(map(whole_panels, ends)) + hidden


def _numbers(network: PlanesNetwork) -> tuple[list[int], list[float]]:
    """A network without its tensors, as the schema says it: sizes with the levels behind them, and scales."""
    specs, frame = (network.warp_spec, network.spec), network.frame
    sizes = _Sizes(
        network.spec.features, len(network.depths), network.ambient, network.layers[0][0].shape[0],
        len(network.warp_layers) - 1, len(network.layers) - 1, frame, *(spec.levels for spec in specs),
    )  # fmt: skip
    levels = [number for spec in specs for number in (*spec.resolutions, *spec.offsets)]
    middle = sum(network.depths) / len(network.depths)
    return [*sizes, *levels], [*network.depths, middle, network.warp_scale, network.opacity_slope]


def _parameters(network: PlanesNetwork) -> list[Tensor]:
    """All that learns: tables, then weights, then biases."""
    layers = (*network.warp_layers, *network.layers)
    biases = [bias for _, bias in layers if bias is not None]
    return [network.warp_table, *network.tables, *(weight for weight, _ in layers), *biases]


class _Host:
    """The kernel's struct of a network, `fields`, with the memory that it points to."""

    def __init__(self, parameters: Sequence[Tensor], sizes: Sequence[int], scales: Sequence[float]) -> None:
        like = parameters[0]
        if any(t.dtype != like.dtype or t.device != like.device for t in parameters):
            raise TypeError(f"shade_lines: parameters must all be {like.dtype} on {like.device}")
        self._parameters = [t.contiguous() for t in parameters]
        self.sizes = made = _Sizes(*sizes[: len(_Sizes._fields)])
        addresses = [t.data_ptr() for t in self._parameters]
        tables, layers = made.planes + 1, made.warp_hidden + made.hidden + 2
        self._held: dict[str, array[Any]] = {
            "tables": array("q", addresses[:tables]), "depths": array("d", scales[:-2]),
            "weights": array("q", addresses[tables : tables + layers]),
            "biases": array("q", addresses[tables + layers :]),
        }  # fmt: skip
        start = len(_Sizes._fields)
        for name, count in (("warp_", made.warp_levels), ("", made.levels)):
            self._held[f"{name}resolutions"] = array("q", sizes[start : start + count])
            self._held[f"{name}offsets"] = array("q", sizes[start + count : start + 2 * count + 1])
            start += 2 * count + 1
        self.fields = {
            **{name: held.buffer_info()[0] for name, held in self._held.items()}, **made._asdict(),
            "warp_scale": scales[-2], "opacity_slope": scales[-1],
        }  # fmt: skip


def _lines(
    lines: Tensor, inside: Tensor | None, keep: bool, inputs: Tensor,
    parameters: Sequence[Tensor], sizes: Sequence[int], scales: Sequence[float],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    keep = keep or lines.is_cuda  # there layers hand on through this memory
    segments, opacity, kept = _lines_fake(lines, inside, keep, inputs, parameters, sizes, scales)
    host = _Host(parameters, sizes, scales)
    native.launch(
        "lines",
        {"lines": lines, "inside": inside, "inputs": inputs},
        {"segments": segments, "opacity": opacity, "kept": kept if keep else None},
        {"inside": torch.bool}, network=host.fields, frames=lines.shape[0], rays=lines.shape[1],
    )  # fmt: skip
    return segments, opacity, kept


def _lines_fake(
    lines: Tensor, inside: Tensor | None, keep: bool, inputs: Tensor,
    parameters: Sequence[Tensor], sizes: Sequence[int], scales: Sequence[float],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    made = _Sizes(*sizes[: len(_Sizes._fields)])
    frames, rays, _ = lines.shape
    rows = frames * (rays + _ROOM) if keep or lines.is_cuda else 0
    return (
        lines.new_empty(frames, rays, made.planes, 3), lines.new_empty(frames, rays),
        lines.new_empty(rows, made.kept),
    )  # fmt: skip


def _lines_backward(
    lines: Tensor, inside: Tensor | None, inputs: Tensor, v_segments: Tensor, v_opacity: Tensor, kept: Tensor,
    parameters: Sequence[Tensor], sizes: Sequence[int], scales: Sequence[float],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    v_lines, v_inputs, v_parameters = _lines_backward_fake(
        lines, inside, inputs, v_segments, v_opacity, kept, parameters, sizes, scales
    )
    host = _Host(parameters, sizes, scales)
    parts, scratch = torch.get_num_threads(), None
    if lines.is_cuda:
        groups = lines.shape[0] * -(-lines.shape[1] // _ROOM)
        parts = max(1, min(groups, _BLOCKS * _multiprocessors(lines.device)))
        layers = parameters[host.sizes.planes + 1 :]
        widest = max(size for layer in layers for size in layer.shape)
        each = sum(layer.numel() for layer in layers) + 2 * widest * _ROOM
        scratch = lines.new_empty(parts * each + groups * host.sizes.frame)
    native.launch(
        "lines_backward",
        {
            "lines": lines, "inside": inside, "inputs": inputs, "v_segments": v_segments,
            "v_opacity": v_opacity, "kept": kept,
        },
        {"v_lines": v_lines, "v_inputs": v_inputs, "v_parameters": v_parameters, "scratch": scratch},
        {"inside": torch.bool}, network=host.fields, frames=lines.shape[0], rays=lines.shape[1], parts=parts,
    )  # fmt: skip
    return v_lines, v_inputs, v_parameters


def _lines_backward_fake(
    lines: Tensor, inside: Tensor | None, inputs: Tensor, v_segments: Tensor, v_opacity: Tensor, kept: Tensor,
    parameters: Sequence[Tensor], sizes: Sequence[int], scales: Sequence[float],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    rows = _rows(parameters, sizes[1] + 1)
    return torch.empty_like(lines), torch.empty_like(inputs), lines.new_empty(sum(rows))


@cache
def _multiprocessors(device: torch.device) -> int:
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def _rows(parameters: Sequence[Tensor], tables: int) -> list[int]:
    """The numbers that each parameter's gradient takes: tables are filled up to a multiple of four."""
    sizes = [parameter.numel() for parameter in parameters]
    return [size + -size % 4 if i < tables else size for i, size in enumerate(sizes)]


_NETWORK = "Tensor[] parameters, int[] sizes, float[] scales"
_call_lines = native.register(
    f"lines(Tensor lines, Tensor? inside, bool keep, Tensor inputs, {_NETWORK}) -> (Tensor, Tensor, Tensor)",
    _lines,
    _lines_fake,
)
_call_lines_backward = native.register(
    "lines_backward(Tensor lines, Tensor? inside, Tensor inputs, Tensor v_segments, Tensor v_opacity,"
    f" Tensor kept, {_NETWORK}) -> (Tensor, Tensor, Tensor)",
    _lines_backward,
    _lines_backward_fake,
)


class _Lines(torch.autograd.Function):
    """Takes a network's numbers, lines, which are inside, the frames' inputs, and all that learns."""

    @staticmethod
    def forward(
        ctx: Any, numbers: tuple[list[int], list[float]], lines: Tensor, inside: Tensor | None,
        inputs: Tensor, *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        ctx.numbers = numbers
        segments, opacity, kept = _call_lines(lines, inside, True, inputs, parameters, *numbers)
        ctx.save_for_backward(lines, inside, inputs, kept, *parameters)
        return segments, opacity

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_segments: Tensor, v_opacity: Tensor) -> tuple[Tensor | None, ...]:
        lines, inside, inputs, kept, *parameters = ctx.saved_tensors
        v_lines, v_inputs, v_parameters = _call_lines_backward(
            lines, inside, inputs, v_segments, v_opacity, kept, parameters, *ctx.numbers
        )
        starts = accumulate(_rows(parameters, ctx.numbers[0][1] + 1), initial=0)
        found = (
            v_parameters.narrow(0, start, parameter.numel()).view(parameter.shape)
            for parameter, start in zip(parameters, starts, strict=False)
        )
        return None, v_lines, None, v_inputs, *found


def shade_lines(
    lines: Tensor, inside: Tensor | None, inputs: Tensor, network: PlanesNetwork, *, backend: str = "native"
) -> tuple[Tensor, Tensor]:
    """`ops.planes` for lines in unit coordinates, with gradients.

    Gradients flow to lines, the frames' inputs, tables, weights and biases. Between the passes the
    activations are kept: about 1.8 KB a line for nldf-fast. The result does not depend on the number of
    threads; the gradients of what all lines share are sums whose order does, and on CUDA those of tables are
    added by atomics, in any order.

    Args:
        lines: [F, P, 4] start x, y and slope x, y in unit coordinates of the network's box: a line crosses
            the plane z at start + z * slope.
        inside: [F, P] bool, the lines that are evaluated; the others see nothing. None: all are.
        inputs: [F, C] what a frame has once.
        network: the parameters, with the frames' columns and a bias in both first layers (`frame` is C).

    Returns:
        segments [F, P, M, 3] and opacity [F, P], zeros where a line is not inside.

    Raises:
        TypeError, ValueError: an argument doesn't fit.
        MissingBackend: the kernel for this device isn't built.
    """
    check = Checker("shade_lines")
    check.tensor("lines", lines, ("F", "P", 4))
    check.tensor("inputs", inputs, ("F", "C"))
    if inside is not None and (inside.dtype != torch.bool or inside.shape != lines.shape[:2]):
        raise ValueError(
            f"shade_lines: inside must be bool of the shape {list(lines.shape[:2])}, got {inside.dtype} of "
            f"{list(inside.shape)}"
        )
    check_network(check, network, "C")
    check.integer("the number of layers", len(network.warp_layers) + len(network.layers), 4, MOST_LAYERS)
    most = max(network.warp_spec.levels, network.spec.levels)
    check.integer("the number of levels", most, 1, MOST_LEVELS)
    if not native.use_native("shade_lines", backend):
        return lines_reference(lines, inside, inputs, network)
    numbers, parameters = _numbers(network), _parameters(network)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (lines, inputs, *parameters)):
        return _Lines.apply(numbers, lines, inside, inputs, *parameters)
    segments, opacity, _ = _call_lines(lines, inside, False, inputs, parameters, *numbers)
    return segments, opacity
