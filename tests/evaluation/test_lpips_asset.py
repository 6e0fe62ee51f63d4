"""LPIPS's AlexNet that comes with the package: half precision is enough, and nothing else passes for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from nldf_engine.base.assets import ASSETS, read_asset
from nldf_engine.base.errors import FileProblem
from nldf_engine.evaluation.metrics.optional.lpips import Lpips, load_lpips
from nldf_engine.nn import lpips
from nldf_engine.nn.lpips import ALEX_ASSET, BACKBONES
from nldf_engine.nn.weights import WeightAsset
from scripts.lpips_asset import half_weights
from tests.evaluation.weight_files import save_lpips


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """An empty torch cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("cache")))


def picture(height: int, width: int) -> np.ndarray:
    """Waves, a disc and a box, uint8 [H, W, 3]: edges, colours and textures without anybody in them."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = np.stack([np.sin(25 * x + 9 * y), np.sin(40 * y), np.sin(60 * x * y)], -1)
    made = 128 + 60 * waves
    made[(x - 0.4) ** 2 + (y - 0.5) ** 2 < 0.05] += (50, -40, 20)
    made[(abs(x - 0.7) < 0.1) & (abs(y - 0.3) < 0.15)] = (20, 30, 160)
    return np.clip(made, 0, 255).astype(np.uint8)


def altered(frame: np.ndarray) -> dict[str, np.ndarray]:
    """Copies of a picture that differ from it a little or altogether."""
    noise = np.random.default_rng(0)
    mean = (frame[:-2].astype(int) + frame[1:-1] + frame[2:]) // 3
    return {
        "moved": np.roll(frame, 3, axis=1),
        "blurred": np.pad(mean, ((1, 1), (0, 0), (0, 0)), mode="edge").astype(np.uint8),
        "noisy": np.clip(frame + noise.normal(0, 12, frame.shape), 0, 255).astype(np.uint8),
        "dim": frame // 2,
        "random": noise.integers(0, 256, frame.shape, dtype=np.uint8),
    }


SINGLE_PRECISION: dict[tuple[int, int], dict[str, float]] = {
    (96, 128): {"moved": 0.051504, "blurred": 0.006678, "noisy": 0.176111, "dim": 0.111055,
                "random": 1.428057},
    (256, 256): {"moved": 0.030858, "blurred": 0.005039, "noisy": 0.281823, "dim": 0.105479,
                 "random": 1.543860},
}  # fmt: skip
"""LPIPS of the public fp32 files (alexnet-owt-7be5be79.pth, lpips_alex.pth) for the same pictures."""


@pytest.mark.parametrize("size", SINGLE_PRECISION)
def test_half_precision_changes_lpips_by_less_than_a_thousandth(size: tuple[int, int]) -> None:
    """Against the public files in single precision, on several pairs at two sizes; equal pictures are 0."""
    model, reason = load_lpips(None, *size)
    assert model is not None and reason == "" and model.files == (ALEX_ASSET.path,)
    frame = picture(*size)
    assert model(frame, frame) == 0.0
    found = {name: model(other, frame) for name, other in altered(frame).items()}
    assert found == pytest.approx(SINGLE_PRECISION[size], abs=1e-3)
    assert max(abs(found[name] - value) for name, value in SINGLE_PRECISION[size].items()) < 3e-4


def test_the_asset_is_alexnets_convolutions_and_the_heads_in_half_precision() -> None:
    """Names and shapes of the public files, nothing else, in under 5 MB."""
    tensors = load_file(ALEX_ASSET.path)
    backbone = BACKBONES["alex"]()
    shapes = {f"features.{name}": value.shape for name, value in backbone.network().state_dict().items()}
    shapes |= {f"lin{k}.model.1.weight": (1, width, 1, 1) for k, width in enumerate(backbone.widths)}
    assert {name: value.shape for name, value in tensors.items()} == shapes
    assert {value.dtype for value in tensors.values()} == {torch.float16}
    assert ALEX_ASSET.path.stat().st_size < 5_000_000


def test_the_notices_of_both_licences_are_beside_the_asset() -> None:
    """BSD asks that copyright notice, conditions and disclaimer go with copies."""
    folder = ALEX_ASSET.path.parent
    for name, holder in (("LICENSE-torchvision", "Soumith Chintala"), ("LICENSE-LPIPS", "Richard Zhang")):
        text = (folder / name).read_text()
        assert holder in text and "Redistributions in binary form" in text and "DISCLAIMED" in text
        assert f"lpips/{name}" in (ASSETS / "README.md").read_text()


def test_files_of_ones_own_come_first(tmp_path: Path) -> None:
    """A folder with the public files is used; one without them leaves the asset; half of them is an error."""
    model, _ = load_lpips(tmp_path, 64, 64)
    assert model is not None and model.files == (ALEX_ASSET.path,)
    save_lpips(tmp_path, "alex")
    model, _ = load_lpips(tmp_path, 64, 64)
    assert model is not None and [path.parent for path in model.files] == [tmp_path, tmp_path]
    (tmp_path / "alexnet-owt-7be5be79.pth").unlink()
    model, reason = load_lpips(tmp_path, 64, 64)
    assert model is None and "alexnet-owt-7be5be79.pth" in reason


def spoil(path: Path, how: str) -> None:
    """Changes a copy of the asset, or another file in its place."""
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(content[:-1000])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "one bit":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif how == "swapped":
        save_file({name: value * 0 for name, value in load_file(path).items()}, path)
    elif how == "folder":
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize("how", ["missing", "truncated", "empty", "one bit", "swapped", "folder"])
def test_an_asset_that_is_not_as_shipped_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Missing, cut, flipped or exchanged: the path, what is wrong with it, and what to do."""
    path = tmp_path / "alex.safetensors"
    path.write_bytes(ALEX_ASSET.path.read_bytes())
    monkeypatch.setattr(lpips, "ALEX_ASSET", WeightAsset(path, ALEX_ASSET.sha256))
    assert Lpips("alex").files == (path,)
    spoil(path, how)
    with pytest.raises(FileProblem) as caught:
        load_lpips(None, 64, 64)
    wrong = "the installation lacks it" if how in ("missing", "folder") else "not the file that was shipped"
    assert wrong in str(caught.value) and str(path) in str(caught.value)
    assert "install the package again" in str(caught.value)


def test_an_asset_is_read_as_it_is(tmp_path: Path) -> None:
    """The bytes of a file whose SHA-256 is the given one."""
    (tmp_path / "a").write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert read_asset(tmp_path / "a", digest) == b"abc"


def test_the_script_takes_the_convolutions_and_heads_alone(tmp_path: Path) -> None:
    """From files in the shape of the public ones: all in half precision, the classifier left out."""
    save_lpips(tmp_path, "alex")
    made = half_weights(tmp_path)
    assert set(made) == set(load_file(ALEX_ASSET.path))
    public = torch.load(tmp_path / "alexnet-owt-7be5be79.pth", weights_only=True)
    assert torch.equal(made["features.0.weight"], public["features.0.weight"].half())


def test_neither_torchvision_nor_the_lpips_package_is_needed() -> None:
    """A process in which both can't be imported measures LPIPS."""
    code = (
        "import sys; sys.modules['torchvision'] = sys.modules['lpips'] = None\n"
        "import numpy as np\n"
        "from nldf_engine.evaluation.metrics.optional.lpips import load_lpips\n"
        "black = np.zeros((64, 64, 3), np.uint8)\n"
        "print(load_lpips(None, 64, 64)[0](black, black + 255) > 0.1)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "True"
