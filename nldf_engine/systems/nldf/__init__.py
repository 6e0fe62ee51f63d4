"""Neural light dynamic fields: a light field distilled from a radiance field."""

from nldf_engine.systems.nldf.model import LightField, LightFieldConfig
from nldf_engine.systems.registry import ray_system

SYSTEM = ray_system(LightField, LightFieldConfig, "nldf_engine.systems.nldf.recipe")
