"""The grid-encoded light field: an NLDF (nldf section 3) that trains in minutes on a CPU.

F(ray, frame) -> {c_i}, pixel = sum of c_i, equations (1) and (7), in one evaluation a ray. A ray is known by
where it crosses M planes z = z_i of head space, one to a segment. Each plane has its own multiresolution
grid of features (Mueller et al. 2022), read where a small warp net says; one small network turns the
features of all planes into the segments' colours.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from nldf_engine.nn.planes import FEWEST_RAYS
from nldf_engine.ops import PortraitPart, planes, rays_to_lines
from nldf_engine.rendering.fields import Bounds, Conditions, RayColors, RayField, Rays
from nldf_engine.systems.common.conditions import ConditionConfig, FrameEncoder
from nldf_engine.systems.common.drivers import scale_eyes
from nldf_engine.systems.common.plane_network import OPACITY_SLOPE, PlaneNetwork, PlaneShape, linear_macs

# Inputs of a frame are clamped at this many standard deviations of the training video.
FRAME_LIMIT = 3.5
SMALLEST_SPREAD = 5e-3
BOX_MARGIN = 0.06
# Beyond this many layers a configuration from a file is a mistake.
MOST_LAYERS = 64


@dataclass(frozen=True)
class GridLightFieldConfig:
    """A grid-encoded light field.

    Args:
        bounds: depths between which the head is; kept for what renders beside this field.
        conditions: the per-frame code.
        planes: z_i, metres in head space, the segments' planes (the face looks towards -z).
        resolutions: of the grid of one plane.
        warp_resolutions: of the grid that the warp net reads.
        features: of one level of a grid.
        ambient: coordinates that the warp net adds beside the warp.
        width: of all layers.
        layers: hidden layers of the network that makes the colours. The default is what avatars have whose
            files do not name it.

    Raises:
        ValueError: no plane, a size below one, or more layers than `MOST_LAYERS`.
    """

    bounds: Bounds
    conditions: ConditionConfig = field(default_factory=ConditionConfig)
    planes: tuple[float, ...] = (-0.06, 0.03)
    resolutions: tuple[int, ...] = (16, 32, 64, 128, 256)
    warp_resolutions: tuple[int, ...] = (16, 32, 64)
    features: int = 4
    ambient: int = 4
    width: int = 64
    layers: int = 3

    def __post_init__(self) -> None:
        if not self.planes or self.width < 1 or self.ambient < 0 or not 1 <= self.layers <= MOST_LAYERS:
            raise ValueError(
                "GridLightFieldConfig: expected at least one plane, width >= 1, ambient >= 0 and 1 to "
                f"{MOST_LAYERS} layers, got {self}"
            )


class GridLightField(PlaneNetwork, RayField):
    """The grid-encoded light field: a `PlaneNetwork` whose frame input is camera position and code.

    `box` is in metres of head space.
    """

    system, cheap = "nldf-fast", True

    def __init__(self, config: GridLightFieldConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = FrameEncoder(config.conditions)
        radius = config.bounds.radius
        self.register_buffer("box", torch.tensor([-radius, -radius, radius, radius]))
        shape = PlaneShape(
            config.planes, config.resolutions, config.warp_resolutions, config.features, config.ambient,
            config.width, 1, config.layers - 1, 3 + config.conditions.code_dim, FRAME_LIMIT,
        )  # fmt: skip
        self.build_network(shape, {"warp_body.0.": "warp_body."})

    @torch.no_grad()
    def calibrate(self, poses: Tensor, conditions: Conditions, points: Tensor) -> None:
        """See `RayField`: the scales of the frame inputs, and the box about the head."""
        places = poses[:, :3, 3]
        self.frame_mean[:3] = places.mean(0)
        self.frame_scale[:3] = places.std(0).clamp_min(SMALLEST_SPREAD)
        if self.config.conditions.eyes:
            code = scale_eyes(conditions.eyes)
            self.frame_mean[-1] = code.mean()
            # Eyes are shut in so few frames that they are many deviations off: their range has to fit.
            farthest = (code - code.mean()).abs().max() / FRAME_LIMIT
            self.frame_scale[-1] = torch.maximum(code.std(), farthest).clamp_min(SMALLEST_SPREAD)
        low, high = points.amin(0), points.amax(0)
        margin = BOX_MARGIN * (high - low)
        self.box.copy_(torch.cat([low - margin, high + margin]))

    def frame_inputs(self, origins: Tensor, code: Tensor) -> Tensor:
        """[F, 3 + C] scaled inputs of frames with camera positions [F, 3] and codes [F, C]."""
        return self.scale_inputs(torch.cat([origins, code], 1))

    def portrait_part(self, poses: Tensor, codes: Tensor, cells: Tensor) -> PortraitPart | None:
        """See `RayField`."""
        return self.one_pass_part(self.frame_inputs(poses[:, :3, 3], codes), cells)

    def forward(self, rays: Rays, code: Tensor) -> RayColors:
        """Segment colours and opacity of rays [F, P] under codes [F, C]; a frame has one camera position.

        Without gradients this is one operation, `ops.planes`: on the CPU, and on CUDA in precision "fp16".
        """
        inputs = self.frame_inputs(rays.origins[:, 0], code)
        if rays.origins.shape[1] >= FEWEST_RAYS and self.fusable(rays.origins, rays.directions, code):
            network = self.planes_network()
            biases = self.frame_biases(inputs)
            fused = planes(rays.origins, rays.directions, *biases, network, packed=self.packed(network))
            return RayColors(*fused)
        frames, count, _ = rays.origins.shape
        start, slope = (part.contiguous() for part in self._lines(rays).split(2, -1))
        out = self.layers_of(start, slope, inputs)
        opacity = torch.sigmoid(OPACITY_SLOPE * out[:, -1:])
        segments = len(self.config.planes)
        colors = (out[:, :-1] + 0.5 / segments) * opacity
        return RayColors(colors.view(frames, count, segments, 3), opacity.view(frames, count))

    def of_inside(self, rays: Rays, code: Tensor, inside: Tensor) -> RayColors:
        """See `RayField`; one operation, `ops.shade_lines`, where frames have rays enough."""
        if not self.shades(rays.origins.shape[1], rays.origins, code):
            return super().of_inside(rays, code, inside)
        inputs = self.frame_inputs(rays.origins[:, 0], code)
        return RayColors(*self.shade(self._lines(rays), inside, inputs))

    def _lines(self, rays: Rays) -> Tensor:
        """[F, P, 4] start and slope of rays [F, P]: unit coordinates of a plane z are start + z * slope."""
        return rays_to_lines(
            rays.origins.contiguous(), rays.directions.contiguous(), self.box, backend=self.backend
        )

    @property
    def macs(self) -> int:
        """Multiply-adds a ray, weights only, without what is paid once a frame."""
        return linear_macs(self, skip=("encoder",))
