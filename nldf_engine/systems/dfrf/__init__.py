"""DFRF: a radiance field that looks up reference pictures: a new speaker from seconds of video."""

from nldf_engine.systems.dfrf.model import ReferenceField, ReferenceFieldConfig
from nldf_engine.systems.registry import ray_system

SYSTEM = ray_system(
    ReferenceField,
    ReferenceFieldConfig,
    "nldf_engine.systems.dfrf.recipe",
    "nldf_engine.systems.dfrf.importer",
)
