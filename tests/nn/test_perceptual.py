"""Pictures as losses see them: VGG16's features where its file is there, a stated substitute where it is
not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nldf_engine.base.errors import FileProblem, MissingBackend
from nldf_engine.nn.perceptual import (
    LpipsLoss,
    PictureLoss,
    StructureLoss,
    VggLoss,
    picture_loss,
    structural_similarity,
)
from nldf_engine.nn.weights import VGG16


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file named and shaped as VGG16's, of random weights; torch's cache is elsewhere."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "nowhere"))
    sizes = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256)]
    numbers = [0, 2, 5, 7, 10, 12, 14]
    state = {}
    for number, (a, b) in zip(numbers, sizes, strict=True):
        state[f"features.{number}.weight"] = torch.randn(b, a, 3, 3) * (2 / (9 * a)) ** 0.5
        state[f"features.{number}.bias"] = torch.zeros(b)
    torch.save(state, tmp_path / VGG16.name)
    return tmp_path


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(2, 3, 8, 8), 32, mode="bicubic").clamp(0, 1)
    return smooth, torch.nn.functional.avg_pool2d(torch.nn.functional.pad(smooth, (2, 2, 2, 2)), 5, 1)


def losses(folder: Path) -> list[PictureLoss]:
    return [VggLoss(folder, 3), StructureLoss()]


def test_equal_pictures_cost_nothing_and_blurred_ones_do(folder: Path) -> None:
    """Zero for the picture itself; more for a blurred one than for a hardly darker one."""
    real, blurred = pictures()
    for loss in losses(folder):
        assert float(loss(real, real)) == pytest.approx(0, abs=1e-5)
        assert float(loss(blurred, real)) > 3 * float(loss(0.98 * real, real)) > 0


def test_gradients_reach_the_rendered_picture_alone(folder: Path) -> None:
    """The network is frozen; following the gradient makes the loss smaller."""
    real, blurred = pictures()
    for loss in losses(folder):
        given = blurred.clone().requires_grad_()
        before = loss(given, real)
        before.backward()
        assert given.grad is not None
        step = given.detach() - 1e-2 * given.grad / given.grad.abs().max()
        assert float(loss(step, real)) < float(before)
        assert all(p.grad is None for p in loss.parameters())


def test_fewer_blocks_need_fewer_layers(folder: Path) -> None:
    """Features of one block are a picture's size, of three a quarter."""
    real, _ = pictures()
    assert [x.shape[1:] for x in VggLoss(folder, 1).features(real)] == [(64, 32, 32)]
    assert [tuple(x.shape[1:]) for x in VggLoss(folder, 3).features(real)][-1] == (256, 8, 8)
    with pytest.raises(ValueError, match="blocks: expected 1 to 5, got 6"):
        VggLoss(folder, 6)


def test_without_the_file_there_is_a_substitute_and_a_reason(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The substitute says its name; a damaged file is an error and no reason to take it."""
    loss, why = picture_loss(folder)
    assert (loss.name, why) == ("VGG16", "")
    empty = tmp_path / "empty"
    empty.mkdir()
    loss, why = picture_loss(empty)
    assert loss.name == "SSIM and gradients" and VGG16.name in why and str(empty) in why
    with pytest.raises(MissingBackend, match=r"vgg16-397923af\.pth"):
        VggLoss(empty)
    (empty / VGG16.name).write_bytes(b"no weights")
    with pytest.raises(FileProblem, match="does not hold VGG16's weights"):
        picture_loss(empty)
    with pytest.raises(FileProblem, match="no such folder"):
        picture_loss(tmp_path / "mistyped")


def test_structural_similarity_is_that_of_the_library() -> None:
    """scikit-image's, over uniform windows of 7, without its correction for small samples."""
    from skimage.metrics import structural_similarity as library

    real, blurred = pictures()
    ours = float(structural_similarity(real[:1], blurred[:1]))
    pair = [x[0].permute(1, 2, 0).double().numpy() for x in (real, blurred)]
    theirs = library(*pair, data_range=1.0, channel_axis=2, use_sample_covariance=False)
    assert ours == pytest.approx(float(theirs), abs=1e-4)
    with pytest.raises(ValueError, match="at least 7"):
        structural_similarity(real[..., :5], real[..., :5])


def test_lpips_as_a_loss_is_the_metric_and_pulls_towards_the_real_picture() -> None:
    """The mean of what reports call LPIPS; steps against its gradient bring a blurred picture back."""
    from nldf_engine.evaluation.metrics.optional.lpips import Lpips

    real, blurred = (picture.mul(255).round() for picture in pictures())
    loss, metric = LpipsLoss(), Lpips()
    frames = [[picture.permute(1, 2, 0).byte().numpy() for picture in batch] for batch in (blurred, real)]
    expected = sum(metric(a, b) for a, b in zip(*frames, strict=True)) / 2
    assert float(loss(blurred / 255, real / 255)) == pytest.approx(expected, rel=1e-4)
    assert float(loss(real / 255, real / 255)) == 0
    made = (blurred / 255).requires_grad_()
    optimizer = torch.optim.Adam([made], 3e-3)
    for _ in range(30):
        optimizer.zero_grad()
        loss(made, real / 255).backward()
        assert made.grad is not None and bool(made.grad.isfinite().all())
        optimizer.step()
    assert float(loss(made.detach(), real / 255)) < 0.5 * expected


def test_the_gradient_of_lpips_is_finite_where_features_are_none() -> None:
    """Flat pictures have positions without any feature: their length is nought, its gradient none."""
    loss = LpipsLoss()
    made = torch.zeros(1, 3, 32, 32, requires_grad=True)
    loss(made, torch.ones(1, 3, 32, 32)).backward()
    assert made.grad is not None and bool(made.grad.isfinite().all())
