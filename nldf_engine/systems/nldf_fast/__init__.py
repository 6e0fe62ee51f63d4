"""The grid-encoded light field that trains in minutes on a CPU."""

from nldf_engine.systems.nldf_fast.model import GridLightField, GridLightFieldConfig
from nldf_engine.systems.registry import ray_system

SYSTEM = ray_system(GridLightField, GridLightFieldConfig, "nldf_engine.systems.nldf_fast.recipe")
