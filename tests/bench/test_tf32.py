"""bench.tf32: what a GPU rounds to TF32 while it trains, rounded on a CPU; and what it must not round."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from bench.tf32 import Rounded, compare, rounded
from nldf_engine.avatar import Avatar
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.ops.products import exact_products, products, rounded_now
from nldf_engine.rendering.torsos import SampledTorso, pose_features
from nldf_engine.systems.common.torso_layer import TorsoLayer
from nldf_engine.systems.dfrf.references import References
from nldf_engine.training import TrainConfig, train
from nldf_engine.training import run as run_module
from nldf_engine.training import trainer as trainer_module
from nldf_engine.training.trainer import Trainer

# Decibels and share of the loss by which a run in TF32 may fall behind. Two runs of so few steps that differ
# in their last bits alone are as close as that.
WORSE_PSNR, WORSE_LOSS = 0.3, 0.03
QUICK = {"speech_steps": "3", "torso_steps": "8", "spread": "off"}


def test_numbers_are_rounded_to_the_nearest() -> None:
    """To 10 bits of the mantissa, a half to the even one; carries, signs, zero and infinity are right."""
    ulp = 2.0**-10
    ones = [1 + ulp / 2, 1 + 1.5 * ulp, 1 + 0.49 * ulp, 1 + 0.51 * ulp, 2 - ulp / 4]
    found = rounded(torch.tensor([*ones, -3.0001, 0.0, 1e-40, float("inf")]), 10)
    assert found[:5].tolist() == [1.0, 1 + 2 * ulp, 1.0, 1 + ulp, 2.0] and found[5] == -3.0
    assert found[6] == 0 and found[8] == float("inf")
    values = torch.randn(9999, generator=torch.Generator().manual_seed(0))
    off = (rounded(values, 10) / values - 1).abs()
    assert 0.9 * ulp / 2 < off.max() <= ulp / 2
    assert torch.equal(rounded(values.double(), 10), values.double())


def test_products_are_rounded_where_torch_is_set_so() -> None:
    """Operands of both directions, of convolutions too; biases and everything else are left."""
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(5, 7, generator=generator).requires_grad_() for _ in range(2))
    bias = torch.randn(5, generator=generator)

    def run() -> tuple[torch.Tensor, ...]:
        out = F.linear(x, weight, bias)
        return out.detach(), *torch.autograd.grad(out.square().sum(), (x, weight))

    plain = run()
    with Rounded() as mode:
        assert all(torch.equal(a, b) for a, b in zip(run(), plain, strict=True)) and mode.calls[0] == 0
        with products("tf32"):
            seen = run()
    rounded_x, rounded_weight = rounded(x.detach(), 10), rounded(weight.detach(), 10)
    wanted = F.linear(rounded_x, rounded_weight, bias)
    assert torch.allclose(seen[0], wanted) and not torch.allclose(seen[0], plain[0])
    slope = rounded(2 * wanted, 10)
    assert torch.allclose(seen[1], slope @ rounded_weight) and torch.allclose(seen[2], slope.t() @ rounded_x)
    picture, kernel = (
        torch.randn(1, 2, 6, 6, generator=generator),
        torch.randn(3, 2, 3, 3, generator=generator),
    )
    with Rounded(), products("tf32"):
        assert torch.equal(F.conv2d(picture, kernel), F.conv2d(rounded(picture, 10), rounded(kernel, 10)))


def test_settings_are_put_back() -> None:
    """As they were, also when a step fails; a part that must be exact is, and only there."""
    before = rounded_now()
    with pytest.raises(ZeroDivisionError), products("tf32"):
        assert rounded_now() == (True, True)
        with exact_products():
            assert rounded_now() == (False, True)
        assert rounded_now() == (True, True)
        raise ZeroDivisionError
    with products("fp32"):
        assert rounded_now() == (False, False)
    assert rounded_now() == before
    with exact_products():
        assert rounded_now() == before
    with pytest.raises(ValueError, match="matmul: expected tf32 or fp32, got 'fp16'"):
        TrainConfig(matmul="fp16")


def test_threads_that_render_change_nothing() -> None:
    """A thread beside the one that trains neither loses the training its TF32 nor leaves it on."""
    before = rounded_now()
    entered, left = threading.Event(), threading.Event()

    def render() -> None:
        with exact_products():
            entered.set()
            left.wait(20)

    with products("tf32"):
        beside = threading.Thread(target=render)
        beside.start()
        assert entered.wait(20) and rounded_now() == (True, True)
    left.set()
    beside.join()
    assert rounded_now() == before


@pytest.mark.skipif(
    not hasattr(torch.backends.cudnn, "conv"), reason="torch before 2.9 has one way to say it"
)
def test_programs_may_say_it_in_either_way() -> None:
    """What a program has set, by the older or the newer attribute, holds and can be read afterwards."""
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    try:
        matmul.fp32_precision = "tf32"
        with exact_products(), products("fp32"), exact_products():
            assert rounded_now() == (False, False)
        assert matmul.fp32_precision == "tf32"
        matmul.fp32_precision = before
        torch.set_float32_matmul_precision("medium")
        with products("tf32"), exact_products():
            assert rounded_now() == (False, True)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
        matmul.fp32_precision = before


@pytest.mark.parametrize("matmul", ["tf32", "fp32"])
def test_steps_alone_are_in_tf32(
    synthetic_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, matmul: str
) -> None:
    """Forwards and backwards, with a choice; what validates keeps torch's settings."""
    before = rounded_now()
    seen: dict[str, set[tuple[bool, bool]]] = {"step": set(), "validation": set()}
    stepped, validated = Trainer._stepped, trainer_module.validation_frame

    def step(self: Trainer, total: torch.Tensor, logged: Any) -> Any:
        total.register_hook(lambda gradient: seen["step"].add(rounded_now()))
        return stepped(self, total, logged)

    def validate(*given: Any) -> Any:
        seen["validation"].add(rounded_now())
        return validated(*given)

    monkeypatch.setattr(Trainer, "_stepped", step)
    monkeypatch.setattr(trainer_module, "validation_frame", validate)
    config = TrainConfig(steps=3, device="cpu", matmul=matmul, overrides=QUICK)
    train("nldf-tiny", synthetic_dataset.path, tmp_path / "me", config)
    assert seen == {"step": {(matmul == "tf32",) * 2}, "validation": {before}} and rounded_now() == before


def test_avatars_say_which_it_was(
    synthetic_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that a GPU trained; a CPU has no choice."""
    saved = run_module._Training._save

    def on_a_gpu(self: Any, *given: Any) -> None:
        saved(self, *given)
        assert "matmul" not in Avatar.load(self.avatars[0]).provenance
        self.run_.device = torch.device("cuda")
        saved(self, *given)

    monkeypatch.setattr(run_module._Training, "_save", on_a_gpu)
    config = TrainConfig(steps=2, device="cpu", matmul="fp32", overrides=QUICK)
    result = train("nldf-tiny", synthetic_dataset.path, tmp_path / "me", config)
    assert Avatar.load(result.avatar).provenance["matmul"] == "fp32"


@pytest.mark.parametrize("preset", ["adnerf-tiny", "nldf-tiny"])
def test_a_loss_does_not_suffer(synthetic_dataset: Dataset, tmp_path: Path, preset: str) -> None:
    """Loss and validation of short runs are those of float32, within a tolerance."""
    found = compare(
        preset, synthetic_dataset.path, tmp_path, ("fp32", "tf32"), say=lambda line: None,
        steps=50, overrides=QUICK,
    )  # fmt: skip
    exact, rough = found["fp32"], found["tf32"]
    assert rough["loss"] != exact["loss"]  # it was rounded
    assert rough["psnr"] > exact["psnr"] - WORSE_PSNR and rough["loss"] < (1 + WORSE_LOSS) * exact["loss"]


def test_where_something_is_stays_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Points, poses and projections are coordinates, whose 10 bits would be a quarter of a pixel."""
    generator = torch.Generator().manual_seed(0)
    poses = torch.eye(4).repeat(3, 1, 1) + 0.1 * torch.rand(3, 4, 4, generator=generator)
    motion = torch.eye(2, 3).repeat(3, 1, 1) + 0.1 * torch.rand(3, 2, 3, generator=generator)
    points = torch.rand(3, 9, 2, generator=generator)
    pictures = torch.zeros(3, 8, 9, 3, dtype=torch.uint8)
    references = References(pictures, poses, torch.rand(3, 4, generator=generator))
    torso = TorsoLayer()
    monkeypatch.setattr(torso, "shades", lambda *given: True)
    monkeypatch.setattr(torso, "shade", lambda lines, inside, inputs: (lines[:, :, None], inside))
    torso.motion_weights.copy_(torch.randn(7, 6, generator=generator))

    def places() -> list[torch.Tensor]:
        frames = torso.frames_of(motion, poses)
        return [
            pose_features(poses), SampledTorso.on_plate(points, motion), torso.predict_motion(poses),
            frames.to_lines, references.projections(), torso.premultiplied(points, frames)[0],
        ]  # fmt: skip

    plain = places()
    with Rounded() as mode, products("tf32"):
        again = places()
    assert mode.calls[0] == 0 and mode.calls[1] >= 7
    assert all(torch.equal(a, b) for a, b in zip(again, plain, strict=True))
