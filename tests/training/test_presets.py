"""Presets and how a recipe is changed from the command line."""

import copy
import dataclasses
from pathlib import Path

import pytest

from fields import field_of
from nldf_engine.avatar import Avatar
from nldf_engine.datasets.dataset import Dataset
from nldf_engine.rendering.fields import Bounds
from nldf_engine.synthetic import SyntheticConfig
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.nldf.model import LightField, LightFieldConfig
from nldf_engine.systems.registry import build_head, systems
from nldf_engine.training import Preset, TrainConfig, check_settings, find_preset, presets, train
from nldf_engine.training.recipe import changed
from nldf_engine.training.run import _sized


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


def _own_preset(name: str = "") -> Preset:
    """A light field of 7 points, which no registered preset has."""
    recipe = changed(find_preset("nldf-tiny").recipe, {"rays": 64, "pool.on": False, "speech_steps": 2})
    return Preset(
        "nldf", recipe,
        lambda bounds, conditions: LightFieldConfig(bounds, conditions, width=16, depth=4, points=7), name,
    )  # fmt: skip


def test_a_preset_made_in_python_is_trained(synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """Its own network is trained by its own recipe under the run's settings, and provenance names it."""
    config = TrainConfig(steps=2, overrides={"frames": "1"})
    assert train(_own_preset("mine"), synthetic_dataset.path, tmp_path / "me", config).steps == 2
    avatar = Avatar.load(tmp_path / "me")
    settings = avatar.provenance["settings"]
    assert (avatar.system, settings["preset"]) == ("nldf", "mine")
    assert avatar.portrait.head.config.points == 7
    recipe, sampling = settings["recipe"], settings["recipe"]["sampling"]
    assert (recipe["steps"], recipe["size"], recipe["pool"]["on"]) == (2, 32, False)
    assert (sampling["rays"], sampling["frames"]) == (64, 1)
    assert "mine" not in presets(), "it is not registered"


def test_a_preset_without_a_name_is_called_by_its_system() -> None:
    """A registered one has the name that it is registered by."""
    assert (_own_preset().label, _own_preset("mine").label) == ("nldf", "mine")
    assert find_preset("nldf-tiny").label == "nldf-tiny"


def test_a_preset_made_in_python_is_checked_like_a_registered_one() -> None:
    """An unknown system, an unknown setting and a value out of range are refused by name."""
    check_settings(_own_preset(), TrainConfig(overrides={"rays": "32"}))
    with pytest.raises(ValueError, match=r"system: expected one of .*nldf.*, got 'wav2lip'"):
        check_settings(dataclasses.replace(_own_preset(), system="wav2lip"), TrainConfig())
    for overrides, problem in (
        ({"wings": "2"}, "wings: the recipe has no such"),
        ({"rays": "0"}, "rays: expe"),
    ):
        with pytest.raises(ValueError, match=problem):
            check_settings(_own_preset(), TrainConfig(overrides=overrides))
    with pytest.raises(ValueError, match="size: expected 16 to 2048 pixels, got 8"):
        check_settings(_own_preset(), TrainConfig(size=8))
    with pytest.raises(ValueError, match=r"preset: expected one of .*nldf-tiny"):
        check_settings("mine", TrainConfig())


@pytest.mark.parametrize(("filmed", "size"), [(900, 512), (512, 512), (440, 512), (430, 256), (100, 256)])
def test_a_preset_takes_the_largest_size_that_a_video_fills(filmed: float, size: int) -> None:
    """Enlarging by less than a sixth is not seen; a preset without sizes keeps its own."""
    choosing = dataclasses.replace(find_preset("nldf-fast"), sizes={256: {}, 512: {}})
    assert choosing.at_size_of(filmed).recipe.size == size
    assert dataclasses.replace(choosing, sizes={}).at_size_of(filmed) == dataclasses.replace(
        choosing, sizes={}
    )


def test_a_size_brings_its_settings_unless_they_are_set() -> None:
    """Whoever chose the size; named by any of its names, a setting that somebody made stays."""
    usual = find_preset("nldf-fast")
    large = dataclasses.replace(usual, recipe=dataclasses.replace(usual.recipe, size=512))
    sharpening = large.fitted({}).recipe.sharpening  # type: ignore[attr-defined]
    assert (sharpening.weight, sharpening.side) == (0.1, 96)
    assert usual.fitted({}) == usual
    larger = dataclasses.replace(usual, recipe=dataclasses.replace(usual.recipe, size=1024))
    assert larger.fitted({}).recipe.sharpening == sharpening  # type: ignore[attr-defined]
    between = dataclasses.replace(usual, recipe=dataclasses.replace(usual.recipe, size=384))
    assert between.fitted({}) == between
    kept = large.fitted({"side": "64", "rays": "4096"}).recipe.sharpening  # type: ignore[attr-defined]
    assert (kept.weight, kept.side) == (0.1, 64)


def test_steps_that_a_size_brings_are_taken_unless_told(synthetic_dataset: Dataset, tmp_path: Path) -> None:
    """A size may take more steps; whoever says how many gets as many."""
    preset = dataclasses.replace(find_preset("nldf-fast-tiny"), sizes={32: {"steps": "4"}})
    assert train(preset, synthetic_dataset.path, tmp_path / "a").steps == 4
    assert train(preset, synthetic_dataset.path, tmp_path / "b", TrainConfig(steps=2)).steps == 2


def test_a_run_chooses_its_size_by_the_video_unless_told(
    synthetic_dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A square that was cut out of few pixels is trained small; standard error says why; a set size wins."""
    preset = dataclasses.replace(find_preset("nldf-fast-tiny"), sizes={24: {}, 64: {}})
    small, whole = (copy.copy(synthetic_dataset) for _ in range(2))
    small.info = dataclasses.replace(small.info, source={**small.info.source, "crop": [5, 5, 30]})
    assert (small.filmed_width, whole.filmed_width) == (30, 64)
    assert _sized(preset, TrainConfig(), [whole]).recipe.size == 64
    assert _sized(preset, TrainConfig(), [whole, small]).recipe.size == 24
    assert "24 x 24" in (said := capsys.readouterr().err) and "30 pixels" in said
    for set_size in (TrainConfig(size=48), TrainConfig(overrides={"size": "48"})):
        assert _sized(preset, set_size, [small]) is preset and capsys.readouterr().err == ""
    result = train(preset, synthetic_dataset.path, tmp_path / "a", TrainConfig(steps=2))
    assert Avatar.load(result.avatar).camera.width == 64
