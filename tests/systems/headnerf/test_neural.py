"""The 2-D renderer: sizes, the blur, opacity, and features that land where they belong."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nldf_engine.systems.headnerf.neural import NeuralRenderer, RendererSizes, blur


@pytest.mark.parametrize("stages", [1, 2, 3])
@pytest.mark.parametrize("shape", [(8, 8), (4, 6)])
@torch.no_grad()
def test_each_stage_doubles(stages: int, shape: tuple[int, int]) -> None:
    """[F, C, h, w] becomes pictures of 2^stages the size, colours and opacity within [0, 1]."""
    torch.manual_seed(0)
    renderer = NeuralRenderer(12, RendererSizes(stages, 3, 8))
    color, alpha = renderer(torch.randn(2, 12, *shape), torch.rand(2, *shape))
    height, width = (side << stages for side in shape)
    assert color.shape == (2, 3, height, width) and alpha.shape == (2, height, width)
    assert float(color.min()) >= 0 and float(color.max()) <= 1
    assert float(alpha.min()) >= 0 and float(alpha.max()) <= 1


def test_the_blur_keeps_flat_pictures_and_sums() -> None:
    """A flat picture stays to its border; a point spreads as 1-2-1 times 1-2-1 over sixteen."""
    flat = torch.full((1, 2, 5, 4), 3.0)
    torch.testing.assert_close(blur(flat), flat)
    point = torch.zeros(1, 1, 5, 5)
    point[0, 0, 2, 2] = 16
    row = torch.tensor([1.0, 2, 1])
    torch.testing.assert_close(blur(point)[0, 0, 1:4, 1:4], torch.outer(row, row))


def plain(renderer: NeuralRenderer, features: Tensor, opacity: Tensor) -> tuple[Tensor, Tensor]:
    """The 2-D renderer in the words of headnerf section 3.2: convolutions, pixel shuffle, sums."""

    def smooth(x: Tensor) -> Tensor:
        near = F.pad(x, (1, 1, 1, 1), mode="replicate")
        rows = (near[:, :, :-2] + 2 * near[:, :, 1:-1] + near[:, :, 2:]) / 4
        return (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 4

    x, picture = features, renderer.skips[0](features)
    picture = picture + F.pad(8 * (opacity - 0.5)[:, None], (0, 0, 0, 0, 3, 0))
    for stage, skip in zip(renderer.stages, list(renderer.skips)[1:], strict=True):
        wide = stage.second(F.leaky_relu(stage.first(x), 0.2))
        wide = F.leaky_relu(wide + x.repeat_interleave(4, 1), 0.2)
        x = F.leaky_relu(stage.last(smooth(F.pixel_shuffle(wide, 2))), 0.2)
        picture = smooth(F.interpolate(picture, scale_factor=2, mode="bilinear")) + skip(x)
    picture = picture.sigmoid()
    return picture[:, :3], picture[:, 3]


@pytest.mark.parametrize("kernel", [1, 3])
def test_it_agrees_with_plain_convolutions(kernel: int) -> None:
    """Channels last or not, pictures and gradients are those of the plain writing in float64."""
    torch.manual_seed(0)
    renderer = NeuralRenderer(12, RendererSizes(2, kernel, 8))
    features, opacity = torch.randn(2, 12, 6, 5), torch.rand(2, 6, 5)
    double = copy.deepcopy(renderer).double()
    made = torch.cat([part.flatten() for part in renderer(features, opacity)])
    wanted = torch.cat([part.flatten() for part in plain(double, features.double(), opacity.double())])
    torch.testing.assert_close(made.double(), wanted, atol=1e-6, rtol=1e-5)
    weights = torch.randn(len(made))
    (made @ weights).backward()
    (wanted @ weights.double()).backward()
    for one, other in zip(renderer.parameters(), double.parameters(), strict=True):
        scale = float(other.grad.abs().max())
        assert float((one.grad.double() - other.grad).abs().max()) < 1e-5 * scale


@torch.no_grad()
def test_the_volumes_opacity_begins_the_pictures() -> None:
    """Without weights in the way, an empty map is transparent and a full one opaque."""
    renderer = NeuralRenderer(12, RendererSizes(2, 1, 8))
    for skip in renderer.skips:
        torch.nn.init.zeros_(skip.weight)
        torch.nn.init.zeros_(skip.bias)
    opacity = torch.zeros(1, 8, 8)
    opacity[:, :, 4:] = 1
    _, alpha = renderer(torch.randn(1, 12, 8, 8), opacity)
    assert float(alpha[0, :, :12].max()) < 0.1 and float(alpha[0, :, 20:].min()) > 0.9


def test_a_picture_moves_with_its_map() -> None:
    """Shifted by a pixel of the map, the picture shifts by 2^stages: views stay consistent."""
    torch.manual_seed(0)
    renderer = NeuralRenderer(12, RendererSizes(2, 3, 8))
    wide = torch.randn(1, 12, 8, 13)
    first, _ = renderer(wide[..., :12], torch.zeros(1, 8, 12))
    second, _ = renderer(wide[..., 1:], torch.zeros(1, 8, 12))
    torch.testing.assert_close(first[..., 4 + 12 : -12], second[..., 12 : -12 - 4], atol=1e-5, rtol=1e-5)


def test_a_kernel_of_one_sees_the_blurs_reach_alone() -> None:
    """A changed feature changes the picture about its own pixel, and nothing at the other end."""
    torch.manual_seed(0)
    renderer = NeuralRenderer(12, RendererSizes(1, 1, 8))
    features = torch.randn(1, 12, 8, 8)
    other = features.clone()
    other[0, :, 0, 0] += 1
    first, second = (renderer(x, torch.zeros(1, 8, 8))[0] for x in (features, other))
    changed = (first != second).any(1)[0]
    assert bool(changed[0, 0]) and not bool(changed[4:].any()) and not bool(changed[:, 4:].any())


def test_every_weight_learns() -> None:
    torch.manual_seed(0)
    renderer = NeuralRenderer(12, RendererSizes(2, 3, 8))
    color, alpha = renderer(torch.randn(1, 12, 4, 4), torch.rand(1, 4, 4))
    (color.square().sum() + alpha.sum()).backward()
    assert [name for name, p in renderer.named_parameters() if p.grad is None or not bool(p.grad.any())] == []


@pytest.mark.parametrize("changes", [{"stages": 0}, {"stages": 7}, {"kernel": 2}, {"narrowest": 0}])
def test_sizes_that_can_not_be_meant_are_refused(changes: dict) -> None:
    with pytest.raises(ValueError, match="RendererSizes"):
        RendererSizes(**changes)
