"""A head as one small network over the plane z = 0 of head space: a system that another package brings.

The register finds `SYSTEM` by the entry point in pyproject.toml. Nothing of nldf_engine is edited.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from nldf_engine.nn.frequency import encode_frequencies, frequency_dim
from nldf_engine.rendering.fields import Bounds, RayColors, RayField, Rays
from nldf_engine.rendering.region import plane_points
from nldf_engine.systems.common.conditions import ConditionConfig, make_encoder
from nldf_engine.systems.registry import ray_system


@dataclass(frozen=True)
class PlaneConfig:
    """Sizes of the network.

    Args:
        bounds: depths between which the head is.
        conditions: the per-frame code.
        width: of the hidden layers.
        frequencies: L of the encoded point.
    """

    bounds: Bounds
    conditions: ConditionConfig = field(default_factory=ConditionConfig)
    width: int = 64
    frequencies: int = 5


class PlaneMLP(RayField):
    """Colour and opacity of a ray from where it crosses the plane, and from the frame's code."""

    system = "plane-mlp"

    def __init__(self, config: PlaneConfig) -> None:
        super().__init__()
        self.config, self.encoder = config, make_encoder(config.conditions)
        inputs = frequency_dim(2, config.frequencies) + config.conditions.code_dim
        self.layers = nn.Sequential(
            nn.Linear(inputs, config.width), nn.ReLU(), nn.Linear(config.width, config.width), nn.ReLU(),
            nn.Linear(config.width, 4),
        )  # fmt: skip

    def forward(self, rays: Rays, code: Tensor) -> RayColors:
        """See `RayField`: one segment."""
        frames, count, _ = rays.origins.shape
        points = plane_points(rays.origins, rays.directions) / self.config.bounds.radius
        seen = encode_frequencies(points.clamp(-4, 4).reshape(-1, 2), self.config.frequencies)
        codes = code[:, None].expand(frames, count, code.shape[1]).reshape(frames * count, -1)
        out = torch.sigmoid(self.layers(torch.cat([seen, codes], 1))).view(frames, count, 4)
        opacity = out[..., 3]
        return RayColors((out[..., :3] * opacity[..., None])[:, :, None], opacity)


SYSTEM = ray_system(PlaneMLP, PlaneConfig, "plane_mlp.recipe")
