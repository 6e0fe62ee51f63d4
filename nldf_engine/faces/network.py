"""The networks that find faces, their landmarks and the person: graphs from the package's asset."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from nldf_engine.base.assets import ASSETS, load_tensors
from nldf_engine.faces.operations import OPERATIONS

ASSET_PATH = ASSETS / "faces.safetensors"
DIGEST = "40493e505d94ba2e0b12d472da9c830651a1deb7859c828c941f511c46706305"


class Network:
    """A graph of the operations of `operations.py`, run one after the other.

    Args:
        graph: `{"size", "input", "nodes": [{"op", "in", "out", ...}], "outputs": {name: tensor number}}`.
        tensors: float32, by the names that the nodes use.

    Raises:
        ValueError: a node names an operation, a tensor or a weight that is not there.
    """

    def __init__(self, graph: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        self.size = int(graph["size"])
        """Pixels: it looks at squares of this side."""
        self._outputs = dict(graph["outputs"])
        self._entry = graph["input"]
        last = {number: k for k, node in enumerate(graph["nodes"]) for number in node["in"]}
        kept = set(self._outputs.values())
        known = {self._entry}
        self._steps = []
        for k, node in enumerate(graph["nodes"]):
            inputs = list(node["in"])
            if node["op"] not in OPERATIONS or not known.issuperset(inputs):
                raise ValueError(f"node {k} ({node['op']}) of the graph needs what is not there: {inputs}")
            try:
                step = OPERATIONS[node["op"]](node, tensors)
            except KeyError as error:
                raise ValueError(f"node {k} ({node['op']}) of the graph lacks {error}") from error
            done = [number for number in set(inputs) if last[number] == k and number not in kept]
            self._steps.append((step, inputs, node["out"], done))
            known.add(node["out"])
        if not known.issuperset(kept):
            raise ValueError(f"the graph makes no {sorted(kept - known)}, which it is to return")

    @torch.inference_mode()
    def __call__(self, pictures: Tensor) -> dict[str, Tensor]:
        """What the network says of a batch.

        Args:
            pictures: float32 [B, size, size, 3], in the range that the network was trained on.

        Returns:
            its outputs by name, each [B, ...].
        """
        values = {self._entry: pictures}
        for step, inputs, output, done in self._steps:
            values[output] = step(*[values[number] for number in inputs])
            for number in done:
                del values[number]
        return {name: values[number] for name, number in self._outputs.items()}


@lru_cache(maxsize=1)
def _asset() -> tuple[dict[str, Tensor], dict[str, str]]:
    return load_tensors(ASSET_PATH, DIGEST)


@lru_cache
def load_network(name: str) -> Network:
    """One of the networks that come with the package; loaded once, and free of state.

    Args:
        name: "near" and "far" (face detection), "mesh" (landmarks), "person" (segmentation).

    Raises:
        FileProblem: the installation lacks the asset, or has another one.
    """
    tensors, graphs = _asset()
    return Network(json.loads(graphs[name]), tensors)
