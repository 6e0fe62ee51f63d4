"""The face networks against LiteRT's numbers, torch's twin, and files that are not what was shipped."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nldf_engine.base.errors import FileProblem, MissingBackend
from nldf_engine.faces import network
from nldf_engine.faces.network import Network, load_network
from nldf_engine.ops import native
from tests.faces.waves import some, waves

EXPECTED = json.loads((Path(__file__).parent / "litert.json").read_text())
NAMES = ("near", "far", "mesh", "person", "palm", "hand")


def described(name: str) -> tuple[dict, dict]:
    """A fresh graph, and all tensors."""
    tensors, graphs = network.load_tensors(network.ASSET_PATH, network.DIGEST)
    return json.loads(graphs[name]), tensors


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_outputs_are_those_of_litert(name: str, backend: str) -> None:
    """The same picture gives what Google's own runtime gives, to float32's rounding."""
    net = load_network(name, backend)
    found = net(torch.from_numpy(waves(net.size)))
    for key, values in EXPECTED[name].items():
        np.testing.assert_allclose(some(found[key].numpy()), values, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_kernel_is_as_exact_as_torch(name: str) -> None:
    """Its error against float64 is at most twice torch's in float32, and 5e-5 of the largest number."""
    graph, tensors = described(name)
    first = torch.from_numpy(waves(graph["size"]))
    pictures = torch.cat([first, first.flip(2), first * 0.5])
    found = Network(graph, tensors)(pictures)
    usual = Network(graph, tensors, "reference")(pictures)
    torch.set_default_dtype(torch.float64)
    try:
        twin = Network(graph, {key: value.double() for key, value in tensors.items()}, "reference")
        exact = twin(pictures.double())
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.keys() == exact.keys()
    for key, values in exact.items():
        assert found[key].shape == values.shape
        allowed = 2 * (usual[key] - values).abs().max() + 5e-5 * values.abs().max()
        assert (found[key] - values).abs().max() <= allowed, key


@pytest.mark.parametrize("name", NAMES)
def test_pictures_do_not_touch_each_other(name: str) -> None:
    """A picture's outputs are the same in whichever batch."""
    net = load_network(name)
    first = torch.from_numpy(waves(net.size))
    pictures = torch.cat([first, first.flip(2), first * 0.5])
    together, alone = net(pictures), net(pictures[1:2])
    for key, values in alone.items():
        torch.testing.assert_close(values, together[key][1:2], rtol=1e-6, atol=1e-6)


def test_the_kernel_runs_most_of_each_graph() -> None:
    """Torch is left with less than a tenth of the nodes: so the choice between the two is one of speed."""
    for name in NAMES:
        graph, tensors = described(name)
        net = Network(graph, tensors)
        assert len(net._steps) < 0.1 * len(graph["nodes"]), name
        assert len(Network(graph, tensors, "reference")._steps) == len(graph["nodes"])


def test_without_the_module_the_error_says_how_to_build_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """No silent change to the slow twin."""
    monkeypatch.setattr(native, "_C", None)
    graph, tensors = described("near")
    with pytest.raises(MissingBackend, match=r"convnet.*pip install \."):
        Network(graph, tensors)(torch.zeros(1, 128, 128, 3))


def test_another_asset_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was changed, cut short or is missing is not read; the error names it."""
    good = network.ASSET_PATH.read_bytes()
    path = tmp_path / "faces.safetensors"
    monkeypatch.setattr(network, "ASSET_PATH", path)
    load = network._asset.__wrapped__
    for content in (good[:-1], good[: len(good) // 2], b"", good[:100] + b"x" + good[101:]):
        path.write_bytes(content)
        with pytest.raises(FileProblem, match="not the file that was shipped"):
            load()
    path.unlink()
    with pytest.raises(FileProblem, match="the installation lacks it"):
        load()


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize(
    "change",
    [
        lambda nodes: nodes[0].update(op="__import__"),
        lambda nodes: nodes[0].update(weight="nobody's"),
        lambda nodes: nodes[1].update({"in": [10**6]}),
        lambda nodes: nodes[1].update({"in": []}),
        lambda nodes: nodes.pop(0),
        lambda nodes: nodes.pop(),
        lambda nodes: nodes.reverse(),
    ],
)
def test_a_graph_that_does_not_fit_is_refused(change, backend: str) -> None:
    """Nodes that read, name or leave out what they should not raise ValueError when the network is made."""
    graph, tensors = described("mesh")
    graph = copy.deepcopy(graph)
    change(graph["nodes"])
    with pytest.raises(ValueError, match="graph"):
        Network(graph, tensors, backend)


def test_weights_of_another_shape_never_reach_the_kernel() -> None:
    """Sizes are checked where the graph is packed: the kernel reads no memory but its own."""
    for name, change in (
        ("near.weight", lambda w: w[:, :1]),
        ("near.weight", lambda w: w[:-1]),
        ("near.weight", lambda w: w[..., :-1]),
        ("near.bias", lambda b: b[:-1]),
    ):
        graph, tensors = described("near")
        node = next(n for n in graph["nodes"] if n["op"] == "conv" and n["groups"] == 1 and n["in"] != [0])
        key = node[name.split(".")[1]]
        with pytest.raises(ValueError):
            Network(graph, {**tensors, key: change(tensors[key])})
    graph, tensors = described("mesh")
    next(n for n in graph["nodes"] if n["op"] == "region")["points"][0] = 468
    with pytest.raises(ValueError, match="landmarks"):
        Network(graph, tensors)


def test_pictures_that_do_not_fit_are_refused() -> None:
    """Another size or type raises before anything is read."""
    net = load_network("near")
    with pytest.raises(ValueError, match="pictures"):
        net(torch.zeros(1, 127, 128, 3))
    with pytest.raises(TypeError, match="pictures"):
        net(torch.zeros(1, 128, 128, 3, dtype=torch.float64))
    assert net(torch.zeros(0, 128, 128, 3))["boxes"].shape == (0, 896, 16)
