"""The networks that find faces, their landmarks, hands and the person: graphs from the package's asset."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from nldf_engine.base.assets import ASSETS, load_tensors
from nldf_engine.faces.operations import OPERATIONS, Step
from nldf_engine.ops import native
from nldf_engine.ops.convnet import PACKERS, convnet, pack_convnet

ASSET_PATH = ASSETS / "faces.safetensors"
DIGEST = "b82a3adda590a599538378649ba7940eb63de441b892c2472920a22656e7c7ca"


class Network:
    """A graph of the operations of `operations.py`.

    The kernel `ops.convnet` runs what it has of them, from the picture on, in one call; torch the few that
    are left. With `backend="reference"` torch runs them all.

    Args:
        graph: `{"size", "input", "nodes": [{"op", "in", "out", ...}], "outputs": {name: number}}`.
        tensors: float32, by the names that the nodes use.
        backend: "native" or "reference".

    Raises:
        ValueError: a node names an operation, a tensor or weights that are not there, or that don't fit.
    """

    def __init__(
        self, graph: Mapping[str, Any], tensors: Mapping[str, Tensor], backend: str = "native"
    ) -> None:
        self.size = int(graph["size"])
        """Pixels: it looks at squares of this side."""
        self._entry = graph["input"]
        self._outputs = dict(graph["outputs"])
        nodes = list(graph["nodes"])
        check_graph(self._entry, nodes, self._outputs)
        compiled, rest = _split(self._entry, nodes) if native.use_native("convnet", backend) else ([], nodes)
        self._packed = None
        try:
            if compiled:
                known = {node["out"] for node in compiled}
                read = [number for node in rest for number in node["in"]] + list(self._outputs.values())
                wanted = sorted(known.intersection(read))
                self._packed = pack_convnet(self.size, self._entry, compiled, tensors, wanted)
            self._steps = _steps(rest, tensors, set(self._outputs.values()))
        except KeyError as error:
            raise ValueError(f"the graph names {error}, which is not there") from error

    @torch.inference_mode()
    def __call__(self, pictures: Tensor) -> dict[str, Tensor]:
        """What the network says of a batch.

        Args:
            pictures: float32 [B, size, size, 3], in the range that the network was trained on.

        Returns:
            its outputs by name, each [B, ...].
        """
        values = {self._entry: pictures}
        if self._packed is not None:
            values = convnet(pictures, self._packed)
        for step, inputs, output, done in self._steps:
            values[output] = step(*[values[number] for number in inputs])
            for number in done:
                del values[number]
        return {name: values[number] for name, number in self._outputs.items()}


def check_graph(entry: int, nodes: Sequence[Mapping[str, Any]], outputs: Mapping[str, int]) -> None:
    """Raises ValueError where a node or an output needs what is not there before it."""
    known = {entry}
    for k, node in enumerate(nodes):
        if node["op"] not in OPERATIONS:
            raise ValueError(f"node {k} of the graph: there is no operation {node['op']!r}")
        if not node["in"] or not known.issuperset(node["in"]):
            raise ValueError(
                f"node {k} ({node['op']}) of the graph reads {node['in']}, which are not there yet"
            )
        known.add(node["out"])
    if not known.issuperset(outputs.values()):
        raise ValueError(f"the graph makes no {sorted(set(outputs.values()) - known)}, which it is to return")


def _split(
    entry: int, nodes: Sequence[Mapping[str, Any]]
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """The nodes that the kernel runs, and those behind them."""
    compiled: list[Mapping[str, Any]] = []
    rest: list[Mapping[str, Any]] = []
    known = {entry}
    for node in nodes:
        ours = node["op"] in PACKERS and known.issuperset(node["in"])
        (compiled if ours else rest).append(node)
        if ours:
            known.add(node["out"])
    return compiled, rest


def _steps(
    nodes: Sequence[Mapping[str, Any]], tensors: Mapping[str, Tensor], kept: set[int]
) -> list[tuple[Step, list[int], int, list[int]]]:
    """What torch runs: (what computes it, tensors read, tensor made, tensors that nothing reads any more)."""
    last = {number: k for k, node in enumerate(nodes) for number in node["in"]}
    steps = []
    for k, node in enumerate(nodes):
        done = [number for number in set(node["in"]) if last[number] == k and number not in kept]
        steps.append((OPERATIONS[node["op"]](node, tensors), list(node["in"]), node["out"], done))
    return steps


@lru_cache(maxsize=1)
def _asset() -> tuple[dict[str, Tensor], dict[str, str]]:
    return load_tensors(ASSET_PATH, DIGEST)


@lru_cache
def load_network(name: str, backend: str = "native") -> Network:
    """One of the networks that come with the package; loaded once, and free of state.

    Args:
        name: "near" and "far" (face detection), "mesh" (landmarks), "person" (segmentation), "palm" (hand
            detection), "hand" (its points).
        backend: "native" or "reference".

    Raises:
        FileProblem: the installation lacks the asset, or has another one.
        MissingBackend: the kernels are not built.
    """
    tensors, graphs = _asset()
    return Network(json.loads(graphs[name]), tensors, backend)
