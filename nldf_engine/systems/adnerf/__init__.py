"""AD-NeRF: audio-driven radiance fields of head and torso."""

from nldf_engine.systems.adnerf.model import RadianceField, RadianceFieldConfig
from nldf_engine.systems.registry import ray_system

SYSTEM = ray_system(
    RadianceField,
    RadianceFieldConfig,
    "nldf_engine.systems.adnerf.recipe",
    "nldf_engine.systems.adnerf.importer",
)
