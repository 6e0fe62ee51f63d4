"""NLDF: a light field that gives the colours of a ray's M segments in one evaluation (nldf section 3).

F(beam, audio) -> {c_i}, pixel = sum of c_i, equations (1) and (7). Beside the paper's colours it gives the
ray's opacity, so that the background can be any and rays outside of the head need no evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from nldf_engine.nn.frequency import frequency_dim
from nldf_engine.nn.resmlp import ResMLP
from nldf_engine.ops.beams import BeamEncoding
from nldf_engine.rendering.fields import Bounds, RayColors, RayField, Rays
from nldf_engine.systems.common.conditions import ConditionConfig, make_encoder

# Beyond this many layers a configuration from a file is a mistake.
MOST_LAYERS = 1024


@dataclass(frozen=True)
class LightFieldConfig:
    """An NLDF student. The defaults are the paper's network, with the eyes added to the code.

    Args:
        bounds: between which distances the beam's points are.
        conditions: the per-frame code.
        width, depth: of the residual MLP.
        points: K, points of the beam.
        frequencies: L of the beam's encoding; 0 gives the raw 3K coordinates.
        segments: M.
    """

    bounds: Bounds
    conditions: ConditionConfig = field(default_factory=ConditionConfig)
    width: int = 256
    depth: int = 88
    points: int = 16
    frequencies: int = 0
    segments: int = 4

    def __post_init__(self) -> None:
        if min(self.segments, self.points) < 1:
            raise ValueError(f"LightFieldConfig: segments and points must be positive, got {self}")
        if self.depth > MOST_LAYERS:
            raise ValueError(f"LightFieldConfig: depth must be at most {MOST_LAYERS}, got {self.depth}")


class LightField(RayField):
    """The NLDF network: beam encoder, audio net, residual MLP."""

    system = "nldf"

    def __init__(self, config: LightFieldConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = make_encoder(config.conditions)
        code = config.conditions.code_dim
        beam = frequency_dim(3 * config.points, config.frequencies)
        self.network = ResMLP(beam + code, 3 * config.segments + 1, config.width, config.depth, code)

    def forward(self, rays: Rays, code: Tensor) -> RayColors:
        """Segment colours and opacity of rays [F, P] under codes [F, C]."""
        config = self.config
        frames, count, _ = rays.origins.shape
        encoding = BeamEncoding(
            config.bounds.near, config.bounds.far, config.points, config.frequencies, 1 / config.bounds.radius
        )
        out = self.network.forward_beams(rays.origins, rays.directions, encoding, code, self.backend)
        opacity = torch.sigmoid(out[..., -1])
        # Colours come weighted by opacity: a ray beside the head adds nothing, not a little noise.
        colors = out[..., :-1] * opacity[..., None]
        return RayColors(colors.reshape(frames, count, config.segments, 3), opacity)

    @property
    def macs(self) -> int:
        """Multiply-adds a ray, weights only."""
        return self.network.macs
