"""With every file of weights at hand, every figure is measured: here with random numbers in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nldf_engine.evaluation import EvaluateConfig, RealClip, evaluate_clip
from nldf_engine.evaluation.metrics.optional.fid import Inception
from nldf_engine.evaluation.metrics.optional.syncnet import SyncNet
from tests.evaluation.weight_files import random_like, save_lpips

SHORT = 12


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("cache")))


def test_lpips_and_fid_are_in_the_report(
    painted: RealClip, painter: Any, pixel_detector: Any, tmp_path: Path
) -> None:
    """Equal frames are 0 apart in both, dimmed ones are not; the network that has no file stays null."""
    weights = tmp_path / "weights"
    weights.mkdir()
    save_lpips(weights, "alex")
    torch.save(random_like(Inception()), weights / "pt_inception-2015-12-05-6726825d.pth")
    config = EvaluateConfig(pictures=False, weights=weights, every=10)
    found = evaluate_clip(painted, painter(), tmp_path / "same", {}, config, pixel_detector)
    assert found["lpips"] == 0.0 and found["fid"] == pytest.approx(0, abs=1e-6)
    assert found["lpips_vgg"] is None and "vgg16-397923af.pth" in found["lpips_vgg_reason"]
    dim = evaluate_clip(painted, painter(lambda f: f // 3), tmp_path / "dim", {}, config, pixel_detector)
    assert dim["lpips"] > 0 and dim["fid"] > 1e-3


def test_syncnet_scores_the_real_the_rendered_and_the_wrong_lips(
    painted: RealClip, painter: Any, pixel_detector: Any, without: Callable[..., RealClip], tmp_path: Path
) -> None:
    """Rendered frames equal to the real ones have their very score; at another rate there is none."""
    torch.save(random_like(SyncNet(), 3), tmp_path / "syncnet_v2.model")
    names = ("labels", "landmarks", "valid", "features", "poses", "eyes")
    cut = {name: getattr(painted, name)[:SHORT] for name in names}
    cut["valid"] = np.ones(SHORT, bool)
    sound = np.random.default_rng(0).normal(0, 0.1, SHORT * 640).astype(np.float32)
    frames = list(painter()(painted.features[:SHORT], painted.poses[:SHORT], painted.eyes[:SHORT]))
    clip = without(painted, frames=lambda: iter(frames), samples=sound, **cut)
    config = EvaluateConfig(pictures=False, weights=tmp_path)
    found = evaluate_clip(clip, painter(), tmp_path / "out", {}, config, pixel_detector)
    assert -15 <= found["sync_offset"] <= 15 and found["sync_confidence"] >= 0
    for key in ("sync_offset", "sync_confidence", "sync_distance"):
        assert found[key] == found[f"{key}_real"] and found[f"{key}_shuffled"] is not None
    assert found["sync_distance_shuffled"] != found["sync_distance"]
    slow = EvaluateConfig(pictures=False, weights=tmp_path, every=2)
    slow_found = evaluate_clip(clip, painter(), tmp_path / "slow", {}, slow, pixel_detector)
    assert slow_found["sync_offset"] is None and "25 frames a second" in slow_found["sync_offset_reason"]
