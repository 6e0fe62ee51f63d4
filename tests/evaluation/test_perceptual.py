"""LPIPS as far as it goes without its weights: a stand-in package shows how ours is called and filled."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nldf_engine.base.errors import FileProblem, MissingBackend
from nldf_engine.evaluation.perceptual import BACKBONE_FILE, load_lpips

BLACK, GREY = np.zeros((40, 40, 3), np.uint8), np.full((40, 40, 3), 128, np.uint8)


class Stub(nn.Module):
    """The package's shape: a backbone cut into slices whose layers keep their numbers."""

    def __init__(self, net: str, version: str, pnet_rand: bool, verbose: bool) -> None:
        super().__init__()
        assert (net, version) == ("alex", "0.1")
        assert pnet_rand, "with pnet_rand=False the package downloads weights"
        self.net = nn.Module()
        self.net.slice1 = nn.ModuleDict({"0": nn.Conv2d(3, 2, 1)})
        self.net.slice2 = nn.ModuleDict({"3": nn.Conv2d(2, 1, 1)})

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        first, second = (self.net.slice2["3"](self.net.slice1["0"](x)) for x in (a, b))
        return (first - second).abs().mean()


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=Stub))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))


def save_weights(path: Path) -> None:
    state = {
        "features.0.weight": torch.full((2, 3, 1, 1), 0.5), "features.0.bias": torch.zeros(2),
        "features.3.weight": torch.full((1, 2, 1, 1), 0.25), "features.3.bias": torch.ones(1),
        "classifier.1.weight": torch.zeros(1),
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)


def test_without_the_package_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """No package: no LPIPS, and the reason says what to install; asked for by name it is an error."""
    monkeypatch.setitem(sys.modules, "lpips", None)
    model, reason = load_lpips(None, 64, 64)
    assert model is None and "pip install lpips" in reason
    with pytest.raises(MissingBackend, match="lpips package"):
        load_lpips(Path("alex.pth"), 64, 64)


def test_without_weights_there_is_a_reason(package: None, tmp_path: Path) -> None:
    """An empty cache: no LPIPS, and the reason says which file belongs where."""
    model, reason = load_lpips(None, 64, 64)
    assert model is None
    assert str(tmp_path / "hub" / "checkpoints" / BACKBONE_FILE) in reason


def test_weights_in_the_cache_fill_the_backbone(package: None, tmp_path: Path) -> None:
    """Each slice gets the layer of its number; frames come as [-1, 1]: the value has its closed form."""
    save_weights(tmp_path / "hub" / "checkpoints" / BACKBONE_FILE)
    model, reason = load_lpips(None, 40, 40)
    assert model is not None and reason == ""
    assert model(GREY, GREY) == 0.0
    assert model(GREY, BLACK) == pytest.approx(128 / 127.5 * 3 * 0.5 * 2 * 0.25, rel=1e-5)


@pytest.mark.parametrize("content", [b"", b"not weights", None])
def test_a_file_that_holds_no_alexnet_is_named(package: None, tmp_path: Path, content: Any) -> None:
    """Weights named by the user that are empty, garbage or missing are a FileProblem with their path."""
    path = tmp_path / "mine.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FileProblem, match=r"mine\.pth"):
        load_lpips(path, 40, 40)


def test_frames_too_small_for_the_network_have_a_reason() -> None:
    """Below 32 pixels AlexNet has no features left."""
    model, reason = load_lpips(None, 31, 64)
    assert model is None and "31x64" in reason
