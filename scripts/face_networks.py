"""Makes the asset of the face networks: MediaPipe's six .tflite files as one safetensors file.

    pip install ai-edge-litert mediapipe==0.10.21
    python scripts/face_networks.py SITE_PACKAGES/mediapipe/modules OUT.safetensors

The weights stay the half-precision numbers that they are in the files. The graphs become lists of a dozen
operations, which the header holds as JSON and `nldf_engine/faces/network.py` runs. On the way constants are
folded, activations and paddings join their convolutions, and what only copies is dropped. Prints the digest
that network.py expects.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as tflite
from flatbuffers import flexbuffers
from safetensors.torch import save_file

from nldf_engine.base.files import sha256

FILES = {
    "near": "face_detection/face_detection_short_range.tflite",
    "far": "face_detection/face_detection_full_range_sparse.tflite",
    "mesh": "face_landmark/face_landmark_with_attention.tflite",
    "person": "selfie_segmentation/selfie_segmentation.tflite",
    "palm": "palm_detection/palm_detection_lite.tflite",
    "hand": "hand_landmark/hand_landmark_lite.tflite",
}
OUTPUTS: dict[str, list[str | None]] = {  # None: left out
    "near": ["boxes", "scores"],
    "far": ["boxes", "scores"],
    # Right and left are the person's, as in geometry/face_mesh.py; MediaPipe's graph names them as seen.
    "mesh": ["mesh", "lips", "right_eye", "left_eye", "right_iris", "left_iris", "presence"],
    "person": ["mask"],
    "palm": ["boxes", "scores"],
    "hand": ["points", "presence", None, None],  # the others: which hand it is, and points in metres
}
NAMES = {value: name for name, value in vars(tflite.BuiltinOperator).items() if not name.startswith("_")}
TYPES = {tflite.TensorType.FLOAT32: "<f4", tflite.TensorType.FLOAT16: "<f2", tflite.TensorType.INT32: "<i4"}
WEIGHTS = {"weight", "bias", "slope"}  # what nodes name tensors by
AFFINE = np.ix_([0], [0, 1], [0, 1, 3])  # of a 4x4 matrix, what moves points of a plane


@dataclass
class Graph:
    """One network while it is converted: its operators, constants by tensor number, and what came of them."""

    name: str
    model: Any
    tensors: dict[str, torch.Tensor]
    constants: dict[int, np.ndarray] = field(default_factory=dict)
    same: dict[int, int] = field(default_factory=dict)  # tensors that are another one's copy
    padded: dict[int, tuple[int, list[int]]] = field(default_factory=dict)  # -> what was padded, and how
    nodes: list[dict[str, Any]] = field(default_factory=list)

    def shape(self, tensor: int) -> list[int]:
        """Of a tensor, by its number."""
        return [int(n) for n in self.model.subgraphs[0].tensors[tensor].shape]

    def source(self, tensor: int) -> int:
        """The tensor that a copy is of."""
        while tensor in self.same:
            tensor = self.same[tensor]
        return tensor

    def store(self, name: str, value: np.ndarray) -> str:
        """Stores a weight in half precision, and returns its name in the file."""
        name = f"{self.name}.{name}"
        half = torch.from_numpy(np.array(value, np.float16, order="C"))
        assert np.array_equal(half.float().numpy(), value.astype(np.float32)), f"{name} is no half precision"
        self.tensors[name] = half
        return name

    def emit(self, op: str, inputs: list[int], output: int, **attributes: Any) -> None:
        """Appends an operation."""
        inputs = [self.source(tensor) for tensor in inputs]
        self.nodes.append({"op": op, "in": inputs, "out": output, **attributes})


def constant(model: Any, tensor: int) -> np.ndarray | None:
    """The constant that a file holds for a tensor; sparse ones made dense. None for what is computed."""
    described = model.subgraphs[0].tensors[tensor]
    data = model.buffers[described.buffer].data
    if data is None:
        return None
    values = np.frombuffer(bytes(data), TYPES[described.type])
    shape = [int(n) for n in described.shape] if described.shape is not None else []
    return dense(values, described.sparsity, shape) if described.sparsity else values.reshape(shape)


def dense(values: np.ndarray, sparsity: Any, shape: list[int]) -> np.ndarray:
    """A tensor from TensorFlow's block-sparse form: levels of dimensions, each dense or compressed.

    Dimensions after the tensor's own are blocks along those that `blockMap` names.
    """
    rank = len(shape)
    blocks = [int(n) for n in sparsity.blockMap] if sparsity.blockMap is not None else []
    sizes = {}
    for level, order in enumerate(sparsity.traversalOrder):
        if int(order) >= rank:
            sizes[int(order)] = sparsity.dimMetadata[level].denseSize
    out = np.zeros(shape, values.dtype)
    taken = iter(values)

    def walk(level: int, position: int, index: dict[int, int]) -> None:
        if level == len(sparsity.traversalOrder):
            at = [index[d] for d in range(rank)]
            for k, d in enumerate(blocks):
                at[d] = at[d] * sizes[rank + k] + index[rank + k]
            out[tuple(at)] = next(taken)
            return
        described, order = sparsity.dimMetadata[level], int(sparsity.traversalOrder[level])
        if described.format == tflite.DimensionType.DENSE:
            for i in range(described.denseSize):
                walk(level + 1, position * described.denseSize + i, {**index, order: i})
        else:
            segments, places = described.arraySegments.values, described.arrayIndices.values
            for i in range(int(segments[position]), int(segments[position + 1])):
                walk(level + 1, i, {**index, order: int(places[i])})

    walk(0, 0, {})
    return out


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Before and after, in TensorFlow's "SAME" mode."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def convolution(graph: Graph, op: Any, depthwise: bool) -> None:
    """Weights [O, I/groups, kh, kw]; a padding before it joins it."""
    x, weight, bias = (int(n) for n in op.inputs)
    options = op.builtinOptions
    assert options.dilationHFactor == options.dilationWFactor == 1 and options.strideH == options.strideW
    values = graph.constants[weight]
    values = values.transpose(3, 0, 1, 2) if depthwise else values.transpose(0, 3, 1, 2)
    kernel, stride = values.shape[2:], int(options.strideH)
    x, (top, bottom, left, right) = graph.padded.get(x, (x, [0, 0, 0, 0]))
    if options.padding == tflite.Padding.SAME:
        _, height, width, _ = graph.shape(x)
        (top, bottom), (left, right) = (
            same_padding(n, k, stride) for n, k in zip((height, width), kernel, strict=True)
        )
    emit_convolution(
        graph,
        op,
        x,
        values,
        graph.constants[bias],
        stride=stride,
        pad=[left, right, top, bottom],
        groups=int(values.shape[0]) if depthwise else 1,
    )


def emit_convolution(
    graph: Graph, op: Any, x: int, weight: np.ndarray, bias: np.ndarray, **attributes: Any
) -> None:
    """A convolution with the activation that the operator names."""
    output, activation = int(op.outputs[0]), op.builtinOptions.fusedActivationFunction
    kinds = tflite.ActivationFunctionType
    assert activation in (kinds.NONE, kinds.RELU, kinds.RELU6)
    clipped = activation == kinds.RELU6
    graph.emit(
        "conv",
        [x],
        -output if clipped else output,
        weight=graph.store(f"{output}.weight", weight),
        bias=graph.store(f"{output}.bias", bias),
        relu=activation == kinds.RELU,
        **attributes,
    )
    if clipped:
        graph.emit("relu6", [-output], output)


def fully_connected(graph: Graph, op: Any) -> None:
    """A convolution of the single pixel that a mean over the picture leaves."""
    x, weight, bias = (int(n) for n in op.inputs)
    values = graph.constants[weight][:, :, None, None]
    emit_convolution(graph, op, x, values, graph.constants[bias], stride=1, pad=[0, 0, 0, 0], groups=1)


def mean(graph: Graph, op: Any) -> None:
    """Over rows and columns."""
    assert sorted(graph.constants[int(op.inputs[1])].tolist()) == [1, 2]
    graph.emit("mean", [int(op.inputs[0])], int(op.outputs[0]))


def pad(graph: Graph, op: Any) -> None:
    """Of channels: an operation; of rows and columns: part of the convolution that follows."""
    x, amounts = (int(n) for n in op.inputs)
    output = int(op.outputs[0])
    (b0, b1), (top, bottom), (left, right), (c0, c1) = graph.constants[amounts].tolist()
    assert b0 == b1 == c0 == 0
    if c1:
        assert top == bottom == left == right == 0
        graph.emit("pad_channels", [x], output, channels=c1)
    else:
        graph.padded[output] = (graph.source(x), [top, bottom, left, right])


def binary(name: str) -> Any:
    """Adds or multiplies, by a constant as well."""

    def convert(graph: Graph, op: Any) -> None:
        output = int(op.outputs[0])
        fixed = [int(n) for n in op.inputs if int(n) in graph.constants]
        moving = [int(n) for n in op.inputs if int(n) not in graph.constants]
        extra: dict[str, Any] = {}
        if fixed:
            values = graph.constants[fixed[0]].astype(np.float32)
            extra["by"] = (values[AFFINE][0] if values.ndim == 3 else values).tolist()
        if getattr(op.builtinOptions, "fusedActivationFunction", 0) == tflite.ActivationFunctionType.RELU:
            extra["relu"] = True
        graph.emit("scale" if fixed else name, moving, output, **extra)

    return convert


def unary(name: str) -> Any:
    """An operation of one tensor without attributes."""
    return lambda graph, op: graph.emit(name, [int(op.inputs[0])], int(op.outputs[0]))


def prelu(graph: Graph, op: Any) -> None:
    """One slope a channel."""
    output = int(op.outputs[0])
    slope = graph.constants[int(op.inputs[1])].reshape(-1)
    graph.emit("prelu", [int(op.inputs[0])], output, slope=graph.store(f"{output}.slope", slope))


def pool(graph: Graph, op: Any) -> None:
    """Maxima of squares of two, or the mean of the whole picture."""
    x, options = int(op.inputs[0]), op.builtinOptions
    size = (options.filterHeight, options.filterWidth)
    if size == (2, 2):
        assert (options.strideH, options.strideW) == (2, 2)
        graph.emit("max_pool", [x], int(op.outputs[0]))
    else:
        assert list(size) == graph.shape(x)[1:3]
        graph.emit("mean", [x], int(op.outputs[0]))


def reshape(graph: Graph, op: Any) -> None:
    """Rows of what a place holds; the shape's first dimension, the batch, stays open."""
    output = int(op.outputs[0])
    graph.emit("reshape", [int(op.inputs[0])], output, shape=graph.shape(output)[1:])


def resize(graph: Graph, op: Any) -> None:
    """Bilinear, pixel centres at halves."""
    assert op.builtinOptions.halfPixelCenters and not op.builtinOptions.alignCorners
    output = int(op.outputs[0])
    graph.emit("resize", [int(op.inputs[0])], output, size=graph.shape(output)[1:3])


def depth_to_space(graph: Graph, op: Any) -> None:
    """Squares of two from four groups of channels."""
    assert op.builtinOptions.blockSize == 2
    graph.emit("depth_to_space", [int(op.inputs[0])], int(op.outputs[0]))


def copied(graph: Graph, op: Any) -> None:
    """A slice that takes everything."""
    assert graph.shape(int(op.inputs[0])) == graph.shape(int(op.outputs[0]))
    graph.same[int(op.outputs[0])] = int(op.inputs[0])


def deconvolution(graph: Graph, op: Any) -> None:
    """Of kernel and stride 2 to one channel: a convolution to four, which become squares of two."""
    x, weight, bias = (int(n) for n in op.inputs)
    output = int(op.outputs[0])
    assert np.frombuffer(bytes(op.customOptions), "<i4").tolist() == [1, 2, 2]
    values = graph.constants[weight]
    assert values.shape[:3] == (1, 2, 2)
    four = -output
    graph.emit(
        "conv",
        [x],
        four,
        weight=graph.store(f"{output}.weight", values.reshape(4, -1, 1, 1)),
        bias=graph.store(f"{output}.bias", np.repeat(graph.constants[bias], 4)),
        stride=1,
        pad=[0, 0, 0, 0],
        groups=1,
        relu=False,
    )
    graph.emit("depth_to_space", [four], output)


def region(graph: Graph, op: Any) -> None:
    """The upright square crop around some landmarks, as a matrix from its pixels to those of the features."""
    given = flexbuffers.Loads(bytes(op.customOptions))
    assert given["target_rotation_radians"] == 0 and given["output_height"] == given["output_width"]
    assert given["scale_x"] == given["scale_y"]
    makers = {node["out"]: node for node in graph.nodes}
    landmarks, factor = int(op.inputs[0]), 1.0
    while makers[landmarks]["op"] in ("scale", "reshape"):
        factor *= float(np.prod(makers[landmarks].get("by", 1.0)))
        landmarks = makers[landmarks]["in"][0]
    graph.emit(
        "region",
        [landmarks],
        int(op.outputs[0]),
        factor=factor,
        level=[given["left_rotation_idx"], given["right_rotation_idx"]],
        points=np.array(given["subset_idxs"]).reshape(-1).tolist(),
        scale=given["scale_x"],
        size=given["output_height"],
    )


def sample(graph: Graph, op: Any) -> None:
    """Features at a region's pixels."""
    given = flexbuffers.Loads(bytes(op.customOptions))
    assert given["output_height"] == given["output_width"]
    graph.emit("sample", [int(n) for n in op.inputs], int(op.outputs[0]), size=given["output_height"])


CONVERTERS = {
    "CONV_2D": lambda graph, op: convolution(graph, op, False),
    "DEPTHWISE_CONV_2D": lambda graph, op: convolution(graph, op, True),
    "FULLY_CONNECTED": fully_connected,
    "PAD": pad,
    "ADD": binary("add"),
    "MUL": binary("multiply"),
    "CONCATENATION": lambda graph, op: graph.emit("concat", [int(n) for n in op.inputs], int(op.outputs[0])),
    "RELU": unary("relu"),
    "HARD_SWISH": unary("hard_swish"),
    "LOGISTIC": unary("sigmoid"),
    "PRELU": prelu,
    "MAX_POOL_2D": pool,
    "AVERAGE_POOL_2D": pool,
    "MEAN": mean,
    "RESHAPE": reshape,
    "RESIZE_BILINEAR": resize,
    "DEPTH_TO_SPACE": depth_to_space,
    "STRIDED_SLICE": copied,
    "Convolution2DTransposeBias": deconvolution,
    "Landmarks2TransformMatrix": region,
    "TransformTensorBilinear": sample,
    "TransformLandmarks": lambda graph, op: graph.emit(
        "transform", [int(n) for n in op.inputs], int(op.outputs[0])
    ),
}


def fuse_relu(graph: Graph) -> None:
    """An activation that alone uses a convolution's or a sum's result joins it."""
    makers = {node["out"]: node for node in graph.nodes}
    uses: dict[int, int] = {}
    for node in graph.nodes:
        for tensor in node["in"]:
            uses[tensor] = uses.get(tensor, 0) + 1
    kept: list[dict[str, Any]] = []
    for node in graph.nodes:
        maker = makers.get(node["in"][0])
        if node["op"] == "relu" and maker and maker["op"] in ("conv", "add") and uses[node["in"][0]] == 1:
            maker["relu"], maker["out"] = True, node["out"]
        else:
            kept.append(node)
    graph.nodes = kept


def drop_unused(graph: Graph, outputs: list[int]) -> None:
    """Nodes that nothing follows, and their weights."""
    wanted, kept = set(outputs), []
    for node in reversed(graph.nodes):
        if node["out"] in wanted:
            wanted.update(node["in"])
            kept.append(node)
        else:
            for key in WEIGHTS & node.keys():
                del graph.tensors[node[key]]
    graph.nodes = kept[::-1]


def convert(name: str, path: Path, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """One file to a description of its graph; its weights are put into `tensors`."""
    content = path.read_bytes()
    model = tflite.ModelT.InitFromObj(tflite.Model.GetRootAsModel(content, 0))
    graph = Graph(name, model, tensors)
    described = model.subgraphs[0]
    for number in range(len(described.tensors)):
        value = constant(model, number)
        if value is not None:
            graph.constants[number] = value
    for op in described.operators:
        code = model.operatorCodes[op.opcodeIndex]
        builtin = NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]
        kind = code.customCode.decode() if builtin == "CUSTOM" else builtin
        if kind in ("DEQUANTIZE", "DENSIFY"):
            graph.constants[int(op.outputs[0])] = graph.constants[int(op.inputs[0])]
        else:
            CONVERTERS[kind](graph, op)
    numbers = [graph.source(int(n)) for n in described.outputs]
    outputs = {key: number for key, number in zip(OUTPUTS[name], numbers, strict=True) if key is not None}
    drop_unused(graph, list(outputs.values()))
    fuse_relu(graph)
    entry = int(described.inputs[0])
    print(f"{name}: {len(described.operators)} operators -> {len(graph.nodes)}")
    return {"size": graph.shape(entry)[1], "input": entry, "nodes": graph.nodes, "outputs": outputs}


def main(modules: str, out: str) -> None:
    """Converts, stores, and prints the digest."""
    tensors: dict[str, torch.Tensor] = {}
    graphs = {name: convert(name, Path(modules) / file, tensors) for name, file in FILES.items()}
    save_file(
        tensors, out, {name: json.dumps(graph, separators=(",", ":")) for name, graph in graphs.items()}
    )
    print(sha256(Path(out)))


if __name__ == "__main__":
    main(*sys.argv[1:])
