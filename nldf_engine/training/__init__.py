"""Dataset to avatar: one trainer for all systems, distillation, and the active pool."""

from nldf_engine.training.presets import PRESETS, Recipe, find_preset
from nldf_engine.training.run import TrainConfig, TrainResult, train

__all__ = ["PRESETS", "Recipe", "TrainConfig", "TrainResult", "find_preset", "train"]
