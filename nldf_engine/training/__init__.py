"""Dataset to avatar: one trainer for all systems, distillation, and the active pool."""

from nldf_engine.training.presets import PRESETS, Recipe, find_preset
from nldf_engine.training.run import TrainConfig, TrainResult, check_settings, train

__all__ = ["PRESETS", "Recipe", "TrainConfig", "TrainResult", "check_settings", "find_preset", "train"]
