"""Edges before another background: what stays, what is solid, and whose light is on the rim."""

import numpy as np
import pytest
import torch

from avatars import tiny_avatar
from nldf_engine.engine import Engine
from nldf_engine.rendering.layer import Layer
from nldf_engine.rendering.matte import clean_layer
from nldf_engine.synthetic import Controls, Speaker


@pytest.fixture(scope="module")
def speaker() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Colour and coverage of the synthetic speaker, and a plate of two colours: all exactly known."""
    made = Speaker(128)
    picture = made.render(Controls())
    coverage = torch.from_numpy(picture.coverage).clone()
    # Whole pixels keep their colour; where the picture is a mixture, that of the nearest whole ones is meant.
    image = torch.from_numpy(picture.image).float() / 255
    whole = (coverage > 0.99).float()
    for _ in range(6):
        weight = torch.nn.functional.avg_pool2d(whole[None, None], 3, 1, 1)[0, 0]
        near = torch.nn.functional.avg_pool2d((image * whole[..., None]).permute(2, 0, 1)[None], 3, 1, 1)[0]
        fresh = (whole == 0) & (weight > 0)
        image[fresh] = (near.permute(1, 2, 0) / weight.clamp_min(1e-6)[..., None])[fresh]
        whole[fresh] = 1
    plate = torch.full((128, 128, 3), 0.85)
    plate[:, 64:] = torch.tensor([0.3, 0.5, 0.8])
    return image, coverage, plate


def errors(layer: Layer, image: torch.Tensor, alpha: torch.Tensor) -> dict[str, float]:
    """RMS error in grey levels over saturated backgrounds, on the rim and inside."""
    rim = (
        torch.nn.functional.max_pool2d(((alpha > 0.02) & (alpha < 0.98)).float()[None, None], 5, 1, 2)[0, 0]
        > 0
    )
    inside = (alpha > 0.98) & ~rim
    found: dict[str, list[float]] = {"rim": [], "inside": []}
    for color in ((0.0, 1, 0), (1.0, 0, 1), (0.0, 0, 0), (1.0, 1, 1)):
        behind = torch.tensor(color).expand_as(image)
        truth = alpha[..., None] * image + (1 - alpha[..., None]) * behind
        error = 255 * (layer.over(behind) - truth)
        found["rim"].append(float(error[rim].square().mean()))
        found["inside"].append(float(error[inside].square().mean()))
    return {name: float(np.sqrt(np.mean(values))) for name, values in found.items()}


def test_a_layer_that_mistook_its_opacity_is_told_apart(
    speaker: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    """Right before its own plate, opacities off on the rim and inside: both errors over others shrink."""
    image, alpha, plate = speaker
    picture = alpha[..., None] * image + (1 - alpha[..., None]) * plate
    blurred = torch.nn.functional.avg_pool2d(alpha[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
    mistaken = torch.where(blurred > 0.99, 0.94 * blurred, blurred)
    color = (picture - (1 - mistaken[..., None]) * plate).clamp_min(0)
    layer = Layer(torch.minimum(color, mistaken[..., None]), mistaken)
    before, after = errors(layer, image, alpha), errors(clean_layer(layer, plate), image, alpha)
    assert before["inside"] > 5 and after["inside"] < 0.5 * before["inside"], (before, after)
    assert before["rim"] > 15 and after["rim"] < 0.65 * before["rim"], (before, after)


def test_before_its_own_plate_and_where_it_is_right_a_layer_stays(
    speaker: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    """A true layer changes over its plate by under half a grey level; nothing stays nothing."""
    image, alpha, plate = speaker
    true = Layer(alpha[..., None] * image, alpha)
    cleaned = clean_layer(true, plate)
    assert float((255 * (cleaned.over(plate) - true.over(plate))).abs().mean()) < 0.5
    assert errors(cleaned, image, alpha)["inside"] < 1 and errors(cleaned, image, alpha)["rim"] < 12
    assert float((cleaned.color - cleaned.alpha[..., None]).max()) <= 0 <= float(cleaned.color.min())
    empty = Layer(torch.zeros(9, 7, 3), torch.zeros(9, 7))
    none = clean_layer(empty, torch.rand(9, 7, 3))
    assert float(none.alpha.max()) == 0 == float(none.color.max())


def test_the_own_background_is_rendered_as_ever_and_others_by_either_way() -> None:
    """edges= changes nothing before the own plate, something before a colour, and is refused when unknown."""
    engine = Engine(tiny_avatar(), torch.device("cpu"))
    features = np.zeros((2, 16, 29), np.float32)
    for background, same in ((None, True), ("lime", False), ("transparent", False)):
        a, b = (engine.render(features, background=background, edges=e).frames[0] for e in ("clean", "fast"))
        assert np.array_equal(a, b) == same, background
    with pytest.raises(ValueError, match="edges: expected 'clean' or 'fast'"):
        engine.render(features, edges="soft")
