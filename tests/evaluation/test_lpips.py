"""LPIPS with random weights: the formula, the loading, and the reasons why there is none."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from nldf_engine.base.errors import FileProblem, MissingBackend
from nldf_engine.evaluation.metrics.optional.lpips import Lpips, load_lpips
from nldf_engine.nn.lpips import BACKBONES, MEAN, SCALE
from tests.evaluation.weight_files import save_lpips

RNG = np.random.default_rng(0)
REAL = RNG.integers(0, 256, (40, 52, 3), dtype=np.uint8)
NOISY = np.clip(REAL + RNG.normal(0, 30, REAL.shape), 0, 255).astype(np.uint8)


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """An empty torch cache, and no lpips package."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("cache")))
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "lpips" else found(name))


def features(picture: np.ndarray, state: dict[str, torch.Tensor], net: str) -> list[torch.Tensor]:
    """Layer by layer in float64, from the file's own names."""
    x = torch.from_numpy(picture.astype(np.float64) / 127.5 - 1).permute(2, 0, 1)[None]
    x = (x - torch.tensor(MEAN, dtype=torch.float64)[:, None, None]) / torch.tensor(SCALE)[:, None, None]
    seen = []
    for number, (kind, *sizes) in enumerate(BACKBONES[net]().layers):
        if kind == "conv":
            weight, bias = (state[f"features.{number}.{part}"].double() for part in ("weight", "bias"))
            x = functional.conv2d(x, weight, bias, stride=sizes[3], padding=sizes[4])
        elif kind == "pool":
            x = functional.max_pool2d(x, sizes[0], sizes[1])
        else:
            x = x.clamp(min=0)
            seen.append(x)
    return seen


@pytest.mark.parametrize(("net", "looks"), [("alex", (0, 1, 2, 3, 4)), ("vgg", (1, 3, 6, 9, 12))])
def test_lpips_is_the_formula_over_the_files_layers(tmp_path: Path, net: str, looks: tuple[int, ...]) -> None:
    """Unit-normalised features, squared differences weighed by the heads, averaged over pixels, summed."""
    save_lpips(tmp_path, net)
    state = torch.load(tmp_path / BACKBONES[net]().weights.name, weights_only=True)
    heads = torch.load(tmp_path / f"lpips_{net}.pth", weights_only=True)
    expected = 0.0
    ours, theirs = features(NOISY, state, net), features(REAL, state, net)
    for order, look in enumerate(looks):
        a, b = (x / x.norm(dim=1, keepdim=True).clamp(min=1e-10) for x in (ours[look], theirs[look]))
        weight = heads[f"lin{order}.model.1.weight"].double()
        expected += float((weight * (a - b) ** 2).sum(1).mean())
    model = Lpips(net, tmp_path)
    assert model(NOISY, REAL) == pytest.approx(expected, rel=1e-4)
    assert model(REAL, REAL) == 0.0


def test_the_networks_are_those_of_the_public_files() -> None:
    """Names and shapes are AlexNet's and VGG16's: the counts of their convolutional parameters are known."""
    counts = {net: sum(p.numel() for p in make().network().parameters()) for net, make in BACKBONES.items()}
    assert counts == {"alex": 2_469_696, "vgg": 14_714_688}
    assert BACKBONES["alex"]().widths == (64, 192, 384, 256, 256)
    assert BACKBONES["vgg"]().widths == (64, 128, 256, 512, 512)


def test_torchs_cache_and_the_packages_heads_are_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The backbone in torch's cache and the heads inside an installed lpips package are enough."""
    cache, package = tmp_path / "hub" / "checkpoints", tmp_path / "site" / "lpips"
    cache.mkdir(parents=True)
    (package / "weights" / "v0.1").mkdir(parents=True)
    save_lpips(cache, "vgg")
    (cache / "lpips_vgg.pth").rename(package / "weights" / "v0.1" / "vgg.pth")
    (package / "__init__.py").write_text("raise RuntimeError('it is not imported')")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.undo()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    importlib.invalidate_caches()
    model, reason = load_lpips(None, 64, 64, "vgg")
    assert model is not None and reason == ""
    assert model.files[1] == package / "weights" / "v0.1" / "vgg.pth"


def test_without_weights_there_is_a_reason(tmp_path: Path) -> None:
    """No file: no LPIPS over VGG16, and the reason names the file, the folders and where it comes from."""
    model, reason = load_lpips(tmp_path, 64, 64, "vgg")
    assert model is None
    assert "vgg16-397923af.pth" in reason and str(tmp_path) in reason and "://" not in reason
    save_lpips(tmp_path, "alex")
    (tmp_path / "lpips_alex.pth").unlink()
    model, reason = load_lpips(tmp_path, 64, 64)
    assert model is None and "lpips_alex.pth" in reason and "pip install --no-deps lpips" in reason
    with pytest.raises(MissingBackend):
        Lpips("vgg", tmp_path)


@pytest.mark.parametrize("content", [b"", b"not weights", {"features.0.weight": torch.zeros(3)}, [1, 2]])
def test_a_file_that_holds_no_alexnet_is_named(tmp_path: Path, content: Any) -> None:
    """Weights that are empty, garbage, another network's or no table are a FileProblem with their path."""
    save_lpips(tmp_path, "alex")
    path = tmp_path / "alexnet-owt-7be5be79.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(FileProblem, match=r"alexnet-owt-7be5be79\.pth: it does not hold AlexNet's weights"):
        load_lpips(tmp_path, 40, 40)


def test_code_in_a_weight_file_is_not_run(tmp_path: Path) -> None:
    """A pickle that would call something when read is refused, and calls nothing."""
    import pickle

    class Evil:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    save_lpips(tmp_path, "alex")
    (tmp_path / "alexnet-owt-7be5be79.pth").write_bytes(pickle.dumps({"features.0.weight": Evil()}))
    with pytest.raises(FileProblem):
        load_lpips(tmp_path, 40, 40)
    assert not (tmp_path / "ran").exists()


def test_frames_too_small_for_the_network_have_a_reason() -> None:
    """Below 32 pixels AlexNet has no features left."""
    model, reason = load_lpips(None, 31, 64)
    assert model is None and "31x64" in reason


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    """A mistyped weights folder is an error, not a silent absence."""
    with pytest.raises(FileProblem, match="there is no such folder"):
        load_lpips(tmp_path / "nowhere", 64, 64)
