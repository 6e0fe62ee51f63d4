"""The U-Net torso: it begins as the head over the background, and completes any frame of any size."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor

from nldf_engine.geometry.cameras import Camera
from nldf_engine.nn.deformable import DeformableConv, sample_deformed
from nldf_engine.rendering.heads import Head
from nldf_engine.rendering.layer import Layer, View
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.systems.common.torso import TorsoPlate
from nldf_engine.systems.common.torso_unet import UnetConfig, UnetTorso
from nldf_engine.systems.registry import read_torso

CONFIG = UnetConfig(24, 32, (4, 8, 8), 1, 2)


class Square(Head):
    """A square in the middle of the frame, half opaque; red, or of another colour."""

    driver = None  # type: ignore[assignment]

    def __init__(self, color: tuple[float, float, float] = (1.0, 0, 0)) -> None:
        super().__init__()
        self.color = torch.tensor(color)

    def draw(self, view: View, code: Tensor, under: Layer | None = None) -> Layer:
        height, width = view.camera.height, view.camera.width
        alpha = torch.zeros(height, width)
        alpha[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = 0.5
        layer = Layer(alpha[..., None] * self.color, alpha)
        return layer if under is None else layer.over_layer(under)


def view(width: int = 32) -> View:
    camera = Camera(32, 24, 40.0, 40.0, 16.0, 12.0).scaled(width)
    return View(camera, torch.eye(4), torch.eye(2, 3))


def torso(trained: bool = False) -> UnetTorso:
    torch.manual_seed(0)
    made = UnetTorso(CONFIG)
    made.place(torch.rand(24, 32, 3), TorsoPlate(24, 32))
    if trained:
        torch.nn.init.normal_(made.network.out.weight, std=0.3)
    return made.eval()


def test_it_begins_as_the_head_over_the_background() -> None:
    """Untrained, colours are the picture that it was given, and the opacity is the head's to a thousandth."""
    made = torso()
    head = Square().draw(view(), torch.zeros(1))
    color, logit = made.complete(head.color[None], head.alpha[None])
    torch.testing.assert_close(color[0], head.over(made.background))
    torch.testing.assert_close(torch.sigmoid(logit[0]), head.alpha, atol=1.1e-3, rtol=0)


def test_before_its_own_background_the_frame_is_the_network_s() -> None:
    """An unsure opacity lets none of the background in twice; before another one it is seen through."""
    square = Square((0.6, 0.5, 0.4))  # so that premultiplied colours have room on both sides
    made, head = torso(True), square.draw(view(), torch.zeros(1))
    with torch.no_grad():
        made.network.out.weight.mul_(0.02)
        color, logit = made.complete(head.color[None], head.alpha[None])
    layer = made.with_head(view(), torch.zeros(1), square)
    unsure = (head.alpha > 0) & (layer.alpha > 0.3) & (layer.alpha < 0.7)
    assert int(unsure.sum()) > 100
    torch.testing.assert_close(layer.alpha, torch.sigmoid(logit[0]))
    torch.testing.assert_close(layer.over(made.background)[unsure], color[0][unsure], atol=1e-5, rtol=0)
    seen = color[0] - (1 - layer.alpha[..., None]) * made.background
    torch.testing.assert_close(layer.over(torch.zeros(24, 32, 3))[unsure], seen[unsure], atol=1e-5, rtol=0)


def test_a_plate_behind_the_head_is_part_of_what_is_completed() -> None:
    """Untrained, the picture is the head before the plate, wherever that has moved; avatar.json says it has
    one."""
    plate = TorsoPlate(24, 32)
    plate.color.copy_(torch.tensor([0, 0, 1.0]))
    plate.alpha[16:] = 1
    plate.present.fill_(True)
    made = UnetTorso(replace(CONFIG, plate=True))
    made.place(torch.rand(24, 32, 3), plate)
    moved = replace(view(), motion=torch.tensor([[1.0, 0, 0], [0, 1, -4 / 32]]))
    code = torch.zeros(1)
    wanted = Square().draw(moved, code, plate.draw(moved, code))
    begun = made.begun(moved, code, Square().draw(moved, code))
    torch.testing.assert_close(begun.color, wanted.color)
    torch.testing.assert_close(begun.alpha, wanted.alpha)
    shown = made.with_head(moved, code, Square())
    solid = wanted.alpha > 0.999
    assert bool(solid[14:20].all()), "moved up by four pixels"
    torch.testing.assert_close(shown.color[solid], wanted.color[solid], atol=2e-3, rtol=0)
    again = read_torso(made.describe())
    again.load_state_dict(made.state_dict())
    assert torch.equal(again.with_head(moved, code, Square()).color, shown.color)


@pytest.mark.parametrize("width", [32, 16, 64])
def test_frames_of_other_sizes_are_the_picture_resized(width: int) -> None:
    """Layers of the view's size, and any background behind them."""
    portrait = Portrait(Square(), torso(True))
    layer, own = portrait.layer(view(width), torch.zeros(1)), portrait.layer(view(), torch.zeros(1))
    assert layer.alpha.shape == (view(width).camera.height, width)
    assert bool((layer.color <= layer.alpha[..., None] + 1e-6).all())
    torch.testing.assert_close(layer.alpha.mean(), own.alpha.mean(), atol=0.01, rtol=0)
    background = torch.rand(*layer.alpha.shape, 3)
    picture = portrait.picture(view(width), torch.zeros(1), background)
    expected = (layer.over(background) * 255).round().clamp(0, 255)
    assert float((picture.float() - expected).abs().max()) <= 1


def test_it_is_described_and_made_again() -> None:
    """avatar.json's entry gives the same network; another entry is refused."""
    made = torso(True)
    again = read_torso(made.describe())
    again.load_state_dict(made.state_dict())
    layers = [one.with_head(view(), torch.zeros(1), Square()) for one in (made, again.eval())]
    assert torch.equal(layers[0].color, layers[1].color) and torch.equal(layers[0].alpha, layers[1].alpha)
    for wrong, message in (
        ({"groups": 3}, "groups must divide"),
        ({"deformable": 3}, "fewer deformable"),
        ({"widths": [4]}, "two levels"),
        ({"height": 1 << 14}, "sides of 1 to 4096"),
    ):
        with pytest.raises(ValueError, match=message):
            read_torso({"unet": asdict(CONFIG) | wrong})


def test_without_a_torso_the_head_is_all() -> None:
    """A video that shows none leaves the network out."""
    made = UnetTorso(CONFIG)
    layer = made.with_head(view(), torch.zeros(1), Square())
    assert torch.equal(layer.alpha, Square().draw(view(), torch.zeros(1)).alpha)
    assert float(made.draw(view(), torch.zeros(1)).alpha.max()) == 0


def test_a_new_deformable_convolution_is_a_mean_of_nine() -> None:
    """Both maps begin at zero: the layer is its two projections about a 3 x 3 mean with zeros outside."""
    torch.manual_seed(0)
    layer, x = DeformableConv(6, 3), torch.randn(2, 6, 5, 7)
    mean = torch.nn.functional.avg_pool2d(layer.inward(x), 3, 1, 1)
    torch.testing.assert_close(layer(x), layer.outward(mean), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="multiple of groups"):
        DeformableConv(6, 4)


def test_places_and_weights_are_each_group_s_own() -> None:
    """Against a loop: offsets in pixels, x before y, bilinear, zeros outside."""
    torch.manual_seed(1)
    x = torch.randn(1, 4, 4, 5, dtype=torch.float64)
    offsets = 2 * torch.randn(1, 4, 5, 2, 9, 2, dtype=torch.float64)
    weights = torch.rand(1, 4, 5, 2, 9, dtype=torch.float64)
    got, wanted = sample_deformed(x, offsets, weights), torch.zeros(1, 4, 4, 5, dtype=torch.float64)
    for channel in range(4):
        for row in range(4):
            for column in range(5):
                for k in range(9):
                    shift = offsets[0, row, column, channel // 2, k]
                    at = column + k % 3 - 1 + float(shift[0]), row + k // 3 - 1 + float(shift[1])
                    share = weights[0, row, column, channel // 2, k]
                    wanted[0, channel, row, column] += share * bilinear(x[0, channel], *at)
    torch.testing.assert_close(got, wanted)


def bilinear(picture: Tensor, x: float, y: float) -> float:
    total = 0.0
    for row in range(picture.shape[0]):
        for column in range(picture.shape[1]):
            total += max(0, 1 - abs(x - column)) * max(0, 1 - abs(y - row)) * float(picture[row, column])
    return total
