"""Dataset to avatar: one trainer for all systems, in stages; distillation, and the active pool."""

from nldf_engine.training.config import TrainConfig, TrainResult
from nldf_engine.training.presets import Preset, find_preset, presets
from nldf_engine.training.recipe import Recipe
from nldf_engine.training.run import check_settings, train

__all__ = [
    "Preset", "Recipe", "TrainConfig", "TrainResult", "check_settings", "find_preset", "presets", "train",
]  # fmt: skip
