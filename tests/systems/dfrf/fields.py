"""Small fields with references, untrained, and what they look at."""

from __future__ import annotations

from typing import Any

import torch

from nldf_engine.rendering.fields import Bounds
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.dfrf.fusion import FusionSizes
from nldf_engine.systems.dfrf.model import ReferenceField, ReferenceFieldConfig
from nldf_engine.systems.dfrf.references import ExtractorSizes, References
from nldf_engine.systems.dfrf.warp import WarpSizes

CONDITIONS = ConditionConfig(motion=4)


def some_references(count: int = 3, height: int = 20, width: int = 24, seed: int = 0) -> References:
    """Noise, seen from cameras 0.8 m in front of the face that stand apart."""
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.randint(0, 256, (count, height, width, 3), generator=generator, dtype=torch.uint8)
    poses = torch.eye(4).repeat(count, 1, 1)
    poses[:, 2, 3] = -0.8
    poses[:, 0, 3] = 0.03 * torch.arange(count)
    return References(pictures, poses, torch.tensor([[1.9, 1.9, 0.5, 0.4]]).repeat(count, 1))


def small_config(**changes: Any) -> ReferenceFieldConfig:
    sizes = {
        "conditions": CONDITIONS, "width": 16, "depth": 4, "skip": 2, "view_layers": 1,
        "coarse": 8, "fine": 8,
        "position_frequencies": 4, "direction_frequencies": 2, "density": "softplus", "references": 3,
        "picture": (20, 24), "extractor": ExtractorSizes(6, 5, 2, 3), "warp": WarpSizes((9, 7), 0.02),
        "fusion": FusionSizes(2, 10, 2, 5),
    }  # fmt: skip
    return ReferenceFieldConfig(Bounds(0.6, 1.0), **(sizes | changes))


def small_field(seed: int = 0, **changes: Any) -> ReferenceField:
    """With references, and a warp whose offsets are neither nothing nor at their limit."""
    torch.manual_seed(seed)
    field = ReferenceField(small_config(**changes))
    field.keep_references(some_references())
    if field.position_warp is not None:
        torch.nn.init.normal_(field.position_warp.mlp[4].weight, std=1.0)
    return field.eval()
