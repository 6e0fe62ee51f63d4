"""Small convolutional networks on pictures: a graph, packed once, runs as one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor

from nldf_engine.ops import native
from nldf_engine.ops.check import Checker

PANEL = 16  # channels whose weights lie together
KERNELS = (3, 5)  # of depthwise convolutions
Node = Mapping[str, Any]
Shape = tuple[int, int, int]  # height, width, channels
# As csrc/ops/convnet.h has them.
KINDS = (
    *("conv", "depthwise", "add", "multiply", "max_pool", "mean", "resize", "hard_swish", "sigmoid"),
    *("region", "sample", "output", "relu6"),
)
FIELDS = (
    *("kind", "a", "b", "out", "height", "width", "channels", "out_height", "out_width", "out_channels"),
    *("b_channels", "kernel", "stride", "top", "left", "weights", "bias", "slopes"),
)


@dataclass(frozen=True)
class PackedConvnet:
    """A network as the kernel reads it.

    Attributes:
        size: side of the pictures.
        steps: [N, 18] int64, see csrc/ops/convnet.h.
        weights: float32, of all layers.
        memory: numbers that a picture's tensors take.
        outputs: by tensor number, where an output begins among a picture's, and its shape.
    """

    size: int
    steps: Tensor
    weights: Tensor
    memory: int
    outputs: Mapping[int, tuple[int, tuple[int, ...]]]


def _wide(channels: int) -> int:
    return -(-channels // PANEL) * PANEL


@dataclass
class _Step:
    """One step while a graph is packed: what it reads by tensor number, and its numbers by field."""

    kind: str
    inputs: list[int]
    out: int
    numbers: dict[str, int]


@dataclass
class _Packer:
    """What has been packed of a graph."""

    size: int
    entry: int
    tensors: Mapping[str, Tensor]
    shapes: dict[int, Shape] = field(default_factory=dict)
    weights: list[Tensor] = field(default_factory=list)
    steps: list[_Step] = field(default_factory=list)
    regions: set[int] = field(default_factory=set)
    padded: dict[int, int] = field(default_factory=dict)  # tensors with more channels, all zeros -> of which

    def store(self, values: Tensor) -> int:
        """Appends weights, and returns where they begin; always at a whole panel."""
        begin = sum(map(len, self.weights))
        flat = values.to(torch.float32).flatten()
        self.weights.append(torch.nn.functional.pad(flat, (0, -len(flat) % PANEL)))
        return begin

    def add(self, kind: str, node: Node, shape: Shape, inputs: Sequence[int] = (), **numbers: int) -> None:
        """Appends a step with the output's shape."""
        inputs = list(inputs or node["in"])
        if inputs[0] == self.entry and kind != "conv":
            raise ValueError(f"{node['op']}: a picture goes through a convolution first")
        numbers |= zip(("height", "width", "channels"), self.shapes[inputs[0]], strict=True)
        numbers |= zip(("out_height", "out_width", "out_channels"), shape, strict=True)
        self.shapes[node["out"]] = shape
        self.steps.append(_Step(kind, inputs, node["out"], numbers))


def _conv(pack: _Packer, node: Node) -> None:
    weight, bias = pack.tensors[node["weight"]], pack.tensors[node["bias"]]
    outputs, inputs, high, wide = weight.shape
    height, width, channels = pack.shapes[node["in"][0]]
    left, right, top, bottom = node["pad"]
    stride, groups = node["stride"], node["groups"]
    if high != wide or inputs * groups != channels or bias.shape != (outputs,) or stride < 1:
        raise ValueError(f"conv {node['out']}: weights {list(weight.shape)} don't fit {channels} channels")
    size = [(n + a + b - high) // stride + 1 for n, a, b in ((height, top, bottom), (width, left, right))]
    if min(size) < 1:
        raise ValueError(f"conv {node['out']}: the kernel is larger than the picture")
    if groups > 1:
        if groups != channels or outputs != channels or high not in KERNELS:
            raise ValueError(f"conv {node['out']}: groups must be single channels with kernels of {KERNELS}")
        taps = weight.reshape(channels, high * wide)
        kind = "depthwise"
    else:
        taps = weight.permute(0, 2, 3, 1).reshape(outputs, -1)
        kind = "conv"
    filled = torch.nn.functional.pad(taps, (0, 0, 0, -outputs % PANEL))
    pack.add(
        kind,
        node,
        (size[0], size[1], outputs),
        kernel=high,
        stride=stride,
        top=top,
        left=left,
        weights=pack.store(filled.view(-1, PANEL, taps.shape[1]).transpose(1, 2)),
        bias=pack.store(bias),
        slopes=pack.store(torch.zeros(outputs)) if node["relu"] else -1,
    )


def _pad_channels(pack: _Packer, node: Node) -> None:
    """Adds no step: sums, which alone read it, take it for what it is."""
    pack.padded[node["out"]] = node["in"][0]


def _add(pack: _Packer, node: Node) -> None:
    a, b = (pack.padded.get(number, number) for number in node["in"])
    if pack.shapes[b][2] > pack.shapes[a][2]:
        a, b = b, a
    relu = pack.store(torch.zeros(pack.shapes[a][2])) if node.get("relu") else -1
    if pack.shapes[a][:2] != pack.shapes[b][:2]:
        raise ValueError(f"add {node['out']}: the sizes {pack.shapes[a]} and {pack.shapes[b]} differ")
    pack.add("add", node, pack.shapes[a], [a, b], b_channels=pack.shapes[b][2], slopes=relu)


def _prelu(pack: _Packer, node: Node) -> None:
    slopes, shape = pack.tensors[node["slope"]], pack.shapes[node["in"][0]]
    if slopes.shape != shape[2:]:
        raise ValueError(f"prelu {node['out']}: slopes {list(slopes.shape)} don't fit {shape[2]} channels")
    pack.add("add", node, shape, slopes=pack.store(slopes))


def _relu(pack: _Packer, node: Node) -> None:
    shape = pack.shapes[node["in"][0]]
    pack.add("add", node, shape, slopes=pack.store(torch.zeros(shape[2])))


def _same(pack: _Packer, node: Node) -> None:
    pack.add(node["op"], node, pack.shapes[node["in"][0]])


def _multiply(pack: _Packer, node: Node) -> None:
    a, b = node["in"]
    if pack.shapes[a][:2] == (1, 1):
        a, b = b, a
    if pack.shapes[b] != (1, 1, pack.shapes[a][2]):
        raise ValueError(f"multiply {node['out']}: expected one number a channel, got {pack.shapes[b]}")
    pack.add("multiply", node, pack.shapes[a], [a, b])


def _max_pool(pack: _Packer, node: Node) -> None:
    height, width, channels = pack.shapes[node["in"][0]]
    pack.add("max_pool", node, (height // 2, width // 2, channels))


def _mean(pack: _Packer, node: Node) -> None:
    pack.add("mean", node, (1, 1, pack.shapes[node["in"][0]][2]))


def _resize(pack: _Packer, node: Node) -> None:
    height, width = node["size"]
    if min(height, width) < 1:
        raise ValueError(f"resize {node['out']}: expected a size of at least one pixel, got {node['size']}")
    pack.add("resize", node, (height, width, pack.shapes[node["in"][0]][2]))


def _region(pack: _Packer, node: Node) -> None:
    given = [
        *node["level"],
        node["factor"],
        node["scale"],
        node["size"],
        len(node["points"]),
        *node["points"],
    ]
    shape = pack.shapes[node["in"][0]]
    if shape[:2] != (1, 1) or not all(0 <= 3 * k < shape[2] for k in (*node["level"], *node["points"])):
        raise ValueError(f"region {node['out']}: the landmarks are not among {shape}")
    pack.regions.add(node["out"])
    pack.add("region", node, (1, 1, 6), weights=pack.store(torch.tensor(given, dtype=torch.float32)))


def _sample(pack: _Packer, node: Node) -> None:
    features, matrix = node["in"]
    if matrix not in pack.regions:
        raise ValueError(f"sample {node['out']}: {matrix} is no region")
    pack.add("sample", node, (node["size"], node["size"], pack.shapes[features][2]))


PACKERS: dict[str, Callable[[_Packer, Node], None]] = {
    "conv": _conv,
    "pad_channels": _pad_channels,
    "add": _add,
    "prelu": _prelu,
    "relu": _relu,
    "relu6": _same,
    "hard_swish": _same,
    "sigmoid": _same,
    "multiply": _multiply,
    "max_pool": _max_pool,
    "mean": _mean,
    "resize": _resize,
    "region": _region,
    "sample": _sample,
}
"""By the operations that the kernel has."""


def _fuse(steps: list[_Step], shapes: Mapping[int, Shape], wanted: Iterable[int]) -> list[_Step]:
    """Sums and slopes become the end of the convolution that they follow, where nothing else reads it."""
    uses: dict[int, int] = dict.fromkeys(wanted, 2)
    for step in steps:
        for number in step.inputs:
            uses[number] = uses.get(number, 0) + 1
    makers = {step.out: step for step in steps}
    gone = set()
    for step in steps:
        if step.kind != "add":
            continue
        for number in step.inputs:
            maker, others = makers.get(number), [n for n in step.inputs if n != number]
            if maker is None or maker.kind not in ("conv", "depthwise", "add") or uses[number] > 1:
                continue
            if maker.numbers.get("slopes", -1) >= 0 or (others and len(maker.inputs) > 1):
                continue
            if shapes[number][2] < shapes[step.out][2]:
                continue
            if others:
                maker.numbers["b_channels"] = shapes[others[0]][2]
            maker.numbers["slopes"] = step.numbers.get("slopes", -1)
            # It runs where the sum stood: by then all that it reads is there.
            step.kind, step.inputs, step.numbers = maker.kind, maker.inputs + others, maker.numbers
            gone.add(id(maker))
            break
    return [step for step in steps if id(step) not in gone]


def _place(steps: list[_Step], shapes: Mapping[int, Shape]) -> tuple[dict[int, int], int]:
    """Where each tensor lies, and how much memory they take; those that don't meet share it."""
    last = {number: k for k, step in enumerate(steps) for number in step.inputs}
    taken: list[tuple[int, int, int]] = []  # begin, end, tensor
    places: dict[int, int] = {}
    most = 0
    for k, step in enumerate(steps):
        if step.kind != "output":
            height, width, channels = shapes[step.out]
            wanted, begin = height * width * _wide(channels), 0
            for first, end, _ in sorted(taken):
                if first - begin >= wanted:
                    break
                begin = max(begin, end)
            places[step.out] = begin
            taken.append((begin, begin + wanted, step.out))
            most = max(most, begin + wanted)
        taken = [one for one in taken if last.get(one[2], -1) > k]
    return places, most


def pack_convnet(
    size: int, entry: int, nodes: Sequence[Node], tensors: Mapping[str, Tensor], wanted: Sequence[int]
) -> PackedConvnet:
    """Packs a graph of the operations of `PACKERS`.

    Args:
        size: pixels: pictures are squares of this side, with three channels.
        entry: the picture's tensor number.
        nodes: in their order, `{"op", "in": tensor numbers, "out": tensor number, ...}`.
        tensors: the weights, by the names that nodes use; convolutions have [O, I / groups, k, k] and [O].
        wanted: the tensors that `convnet` returns.

    Raises:
        KeyError: a node names an operation, a tensor or weights that are not there.
        ValueError: a node doesn't fit what it reads.
    """
    pack = _Packer(size, entry, tensors, {entry: (size, size, 3)})
    for node in nodes:
        PACKERS[node["op"]](pack, node)
    steps = _fuse(pack.steps, pack.shapes, wanted)
    outputs: dict[int, tuple[int, tuple[int, ...]]] = {}
    begin = 0
    for number in wanted:
        shape = pack.shapes[number]
        numbers = dict(zip(("height", "width", "channels"), shape, strict=True))
        steps.append(_Step("output", [number], -1, {**numbers, "out": begin}))
        outputs[number] = begin, (2, 3) if number in pack.regions else shape
        begin += prod(shape)
    places, memory = _place(steps, pack.shapes)
    rows = []
    for step in steps:
        row = {**dict.fromkeys(FIELDS, 0), **dict.fromkeys(("a", "b", "weights", "bias", "slopes"), -1)}
        row.update(step.numbers)
        row["kind"] = KINDS.index(step.kind)
        row["a"] = places.get(step.inputs[0], -1)
        if len(step.inputs) > 1:
            row["b"] = places[step.inputs[1]]
        if step.kind != "output":
            row["out"] = places[step.out]
        rows.append([row[name] for name in FIELDS])
    return PackedConvnet(size, torch.tensor(rows), torch.cat(pack.weights), memory, outputs)


def convnet(pictures: Tensor, packed: PackedConvnet) -> dict[int, Tensor]:
    """The wanted tensors of a batch of pictures, on the CPU and without a gradient.

    A picture's outputs are the same to the bit whichever pictures come with it, on any number of threads:
    these share the pictures among them.

    Args:
        pictures: [B, S, S, 3] float32.
        packed: the network, from `pack_convnet`.

    Returns:
        [B, H, W, C] by tensor number; regions are [B, 2, 3].

    Raises:
        TypeError, ValueError: `pictures` doesn't fit.
        MissingBackend: the kernel isn't built.
    """
    check = Checker("convnet", (torch.float32,), "torch.float32")
    check.tensor("pictures", pictures, ("B", packed.size, packed.size, 3))
    if not pictures.is_cpu:
        raise ValueError(f"convnet: pictures must be on the CPU, got {pictures.device}")
    batch, numbers = len(pictures), sum(prod(shape) for _, shape in packed.outputs.values())
    out = torch.empty(batch, numbers)
    native.launch(
        "convnet",
        {"pictures": pictures, "weights": packed.weights, "steps": packed.steps},
        {"out": out},
        {"steps": torch.int64},
        batch=batch,
        size=packed.size,
        count=len(packed.steps),
        memory=packed.memory,
        numbers=numbers,
    )
    return {
        number: out[:, begin : begin + prod(shape)].reshape(batch, *shape)
        for number, (begin, shape) in packed.outputs.items()
    }
