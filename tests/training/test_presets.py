"""Presets and how a recipe is changed from the command line."""

import pytest

from fields import field_of
from nldf_engine.rendering.fields import Bounds
from nldf_engine.synthetic import SyntheticConfig
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.nldf.model import LightField
from nldf_engine.systems.registry import build_head, systems
from nldf_engine.training import TrainConfig, find_preset, presets


@pytest.mark.parametrize("name", list(presets()))
def test_every_preset_builds_the_system_that_it_names(name: str) -> None:
    """The preset's system and the network's agree."""
    preset = find_preset(name)
    head = build_head(preset.system, preset.config(Bounds(0.5, 1.0), ConditionConfig()))
    known = [system for system in systems() if name == system or name.startswith(f"{system}-")]
    assert head.system == preset.system == max(known, key=len)


def test_nldf_88_is_the_papers_network() -> None:
    """88 layers of 256, 16 beam points, 4 segments, lambda 0.2, 4096 rays of one frame, 90 % in the face."""
    preset = find_preset("nldf-88")
    field = field_of(preset, Bounds(0.5, 1.0))
    assert isinstance(field, LightField)
    config, recipe = field.config, preset.recipe
    sampling = recipe.sampling
    assert (config.depth, config.width, config.points, config.segments) == (88, 256, 16, 4)
    assert (recipe.distillation.segment_weight, sampling.rays, sampling.frames, sampling.face_share) == (
        0.2,
        4096,
        1,
        0.9,
    )


def test_overrides_are_parsed_by_type() -> None:
    """Words become booleans, numbers become numbers; anything else is refused by name."""
    recipe = find_preset("nldf-small", {"distillation": "off", "rays": "128", "learning_rate": "1e-4"}).recipe
    assert (recipe.distillation.on, recipe.sampling.rays, recipe.learning_rate) == (False, 128, 1e-4)
    bad = [("distilation", "off"), ("rays", "many"), ("distillation", "maybe"), ("system", "x")]
    bad += [
        ("rays", "0"),
        ("face_share", "7"),
        ("learning_rate", "-1"),
        ("mouth_share", "0.95"),
        ("audio_noise", "nan"),
    ]
    for key, value in bad:
        with pytest.raises(ValueError, match=key):
            find_preset("nldf-small", {key: value})
    with pytest.raises(ValueError, match="nldf-88"):
        find_preset("nldf-99")


@pytest.mark.parametrize(
    "key", ["size", "steps", "rays", "frames", "distilled_frames", "pool_capacity", "pool_batch"]
)
def test_absurd_counts_are_refused(key: str) -> None:
    """A number that could only exhaust the memory is refused by name, with the bounds."""
    with pytest.raises(ValueError, match=f"{key}: expected 1 to "):
        find_preset("nldf-tiny", {key: "1000000000000"})


@pytest.mark.parametrize("seed", [-1, 2**32, 10**30])
def test_seeds_out_of_range_are_refused(seed: int) -> None:
    """A seed that some generator can't take is refused at once."""
    with pytest.raises(ValueError, match="seed: expected 0 to 4294967295"):
        TrainConfig(seed=seed)
    with pytest.raises(ValueError, match="seed"):
        SyntheticConfig(seed=seed)
