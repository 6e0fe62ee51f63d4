"""Untrained networks and training targets of a preset, for tests that need one."""

import torch

from nldf_engine.rendering.fields import Bounds, RayField
from nldf_engine.rendering.heads import RayHead
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.rendering.torsos import Torso
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.registry import build_field
from nldf_engine.training import Preset, find_preset
from nldf_engine.training.scene import RayScene
from nldf_engine.training.targets import HeadTarget


def field_of(preset: Preset | str, bounds: Bounds, conditions: ConditionConfig | None = None) -> RayField:
    """The untrained network of a preset."""
    preset = find_preset(preset) if isinstance(preset, str) else preset
    return build_field(preset.system, preset.config(bounds, conditions or ConditionConfig()))


def head_target(scene: RayScene, preset: Preset | str, torso: Torso | None = None) -> HeadTarget:
    """An untrained head of a preset on a torso, the scene's plate where None."""
    field = field_of(preset, scene.bounds)
    return HeadTarget(Portrait(RayHead(field, scene.region), torso or scene.torso), scene)


def seeded(seed: int = 0) -> torch.Generator:
    """A generator on the CPU."""
    return torch.Generator().manual_seed(seed)
