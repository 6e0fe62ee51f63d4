"""The grid-encoded light field: an NLDF (nldf section 3) that trains in minutes on a CPU.

F(ray, frame) -> {c_i}, pixel = sum of c_i, equations (1) and (7), in one evaluation a ray. A ray is known by
where it crosses M planes z = z_i of head space, one to a segment. Each plane has its own multiresolution
grid of features (Mueller et al. 2022), read where a small warp net says; one small network turns the
features of all planes into the segments' colours.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nldf_engine.nn.grid import GridEncoding
from nldf_engine.nn.linear import FrameLinear
from nldf_engine.nn.planes import FEWEST_RAYS, PlanesModule
from nldf_engine.ops import GridSpec, PlanesNetwork, PortraitPart, planes, shade_lines
from nldf_engine.rendering.fields import Bounds, Conditions, RayColors, Rays
from nldf_engine.systems.common.conditions import ConditionConfig, FrameEncoder

# How far the warp net moves a point for an output of one, in units of the planes' box.
WARP_SCALE = 0.05
# Inputs of a frame beyond this many standard deviations of the training video are held there, so that a
# pose just outside of it does not lead where the network never was.
FRAME_LIMIT = 3.5
SMALLEST_SPREAD = 5e-3
OPACITY_SLOPE = 3.0
GRID_INIT = 1e-2
BOX_MARGIN = 0.06
HIDDEN = 3


@dataclass(frozen=True)
class GridLightFieldConfig:
    """A grid-encoded light field.

    Args:
        bounds: where the head lies along a ray; kept for what renders beside this field.
        conditions: the per-frame code.
        planes: z_i, metres in head space, the segments' planes (the face looks towards -z).
        resolutions: of the grid of one plane.
        warp_resolutions: of the grid that the warp net reads.
        features: of one level of a grid.
        ambient: coordinates that the warp net adds beside the warp.
        width: of all layers.

    Raises:
        ValueError: no plane, or a size below one.
    """

    bounds: Bounds
    conditions: ConditionConfig = field(default_factory=ConditionConfig)
    planes: tuple[float, ...] = (-0.06, 0.03)
    resolutions: tuple[int, ...] = (16, 32, 64, 128, 256)
    warp_resolutions: tuple[int, ...] = (16, 32, 64)
    features: int = 4
    ambient: int = 4
    width: int = 64

    def __post_init__(self) -> None:
        if not self.planes or self.width < 1 or self.ambient < 0:
            raise ValueError(
                f"GridLightFieldConfig: expected at least one plane, width >= 1 and ambient >= 0, got {self}"
            )


class GridLightField(PlanesModule):
    """The grid-encoded light field.

    Parameters and buffers, all float32, in the order in which a ray meets them (W = width, M = planes,
    L = levels, f = features, A = ambient, C = size of the code):

        box           [4]          x, y of a corner and of the opposite one, metres: unit coordinates of a
                                   point p of a plane are u = (p - box[:2]) / (box[2:] - box[:2])
        frame_mean, frame_scale    [3 + C]; a frame's input is ((camera position, code) - mean) / scale,
                                   held within +-FRAME_LIMIT
        warp_grid.table            [entries, f], `ops.GridSpec` order; read at u of the plane z = mean(z_i)
        warp_head.linear           [W, f L_w + 2 + 3 + C]: columns are warp features, 2 u - 1, frame input
        warp_body                  [W, W]
        warp_tail                  [2 M + A, W]: the warp of every plane (x, y), then the ambient coordinates
        grids.{i}.table            [entries, f], read at u_i + WARP_SCALE * warp_i
        head.linear                [W, M f L + A + 3 + C]: features of plane 0, 1, .., ambient, frame input
        body.{0,1}                 [W, W]
        tail                       [3 M + 1, W]: colours of the segments, then the opacity

    ReLU follows every layer but the two tails. Opacity is sigmoid(OPACITY_SLOPE * o), and segment colours
    are (c_i + 1 / (2 M)) * opacity. The frame input's columns are a bias that a frame pays once.
    """

    system = "nldf-fast"
    config_type = GridLightFieldConfig
    samples_per_ray = 1

    box: Tensor
    frame_mean: Tensor
    frame_scale: Tensor

    def __init__(self, config: GridLightFieldConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = FrameEncoder(config.conditions)
        planes, width, features = len(config.planes), config.width, config.features
        frame = 3 + config.conditions.code_dim
        radius = config.bounds.radius
        self.register_buffer("box", torch.tensor([-radius, -radius, radius, radius]))
        self.register_buffer("frame_mean", torch.zeros(frame))
        self.register_buffer("frame_scale", torch.ones(frame))
        warp = GridSpec(2, features, config.warp_resolutions)
        self.warp_grid = GridEncoding(warp, GRID_INIT)
        self.warp_head = FrameLinear(warp.out_features + 2, frame, 0, width)
        self.warp_body = nn.Linear(width, width)
        self.warp_tail = small_linear(width, 2 * planes + config.ambient)
        spec = GridSpec(2, features, config.resolutions)
        self.grids = nn.ModuleList(GridEncoding(spec, GRID_INIT) for _ in config.planes)
        self.head = FrameLinear(planes * spec.out_features + config.ambient, frame, 0, width)
        self.body = nn.ModuleList(nn.Linear(width, width) for _ in range(HIDDEN - 1))
        self.tail = nn.Linear(width, 3 * planes + 1)
        self.backend = "native"

    def encode_frames(self, conditions: Conditions, index: Tensor | None = None) -> Tensor:
        """[N, C] codes of the frames `index` of a clip (all where None)."""
        return self.encoder(conditions, index)

    @torch.no_grad()
    def calibrate(self, poses: Tensor, conditions: Conditions, points: Tensor) -> None:
        """Fits the scales of the inputs to the training video, before the first step.

        Args:
            poses: [T, 4, 4] camera to head.
            conditions: of the same T frames.
            points: [N, 2] metres on the plane z = 0 of head space, where the head was seen.
        """
        places = poses[:, :3, 3]
        self.frame_mean[:3] = places.mean(0)
        self.frame_scale[:3] = places.std(0).clamp_min(SMALLEST_SPREAD)
        if self.config.conditions.eyes:
            code = self.encoder.scale_eyes(conditions.eyes)
            self.frame_mean[-1] = code.mean()
            # Eyes are shut in so few frames that they lie many deviations off: their range has to fit.
            farthest = (code - code.mean()).abs().max() / FRAME_LIMIT
            self.frame_scale[-1] = torch.maximum(code.std(), farthest).clamp_min(SMALLEST_SPREAD)
        low, high = points.amin(0), points.amax(0)
        margin = BOX_MARGIN * (high - low)
        self.box.copy_(torch.cat([low - margin, high + margin]))

    def frame_inputs(self, origins: Tensor, code: Tensor) -> Tensor:
        """[F, 3 + C] scaled inputs of frames with camera positions [F, 3] and codes [F, C]."""
        inputs = (torch.cat([origins, code], 1) - self.frame_mean) / self.frame_scale
        return inputs.clamp(-FRAME_LIMIT, FRAME_LIMIT)

    def planes_network(self) -> PlanesNetwork:
        """The parameters as `ops.planes` takes them."""
        warp = ((self.warp_head.point_weight, None), *map(weight_and_bias, (self.warp_body, self.warp_tail)))
        layers = ((self.head.point_weight, None), *map(weight_and_bias, (*self.body, self.tail)))
        grids = [grid for grid in self.grids if isinstance(grid, GridEncoding)]
        return PlanesNetwork(
            self.box, self.config.planes, self.warp_grid.spec, self.warp_grid.table, grids[0].spec,
            tuple(grid.table for grid in grids), warp, layers, WARP_SCALE, OPACITY_SLOPE,
        )  # fmt: skip

    def portrait_part(self, pose: Tensor, code: Tensor, cells: Tensor) -> PortraitPart:
        """What `ops.render_portrait` needs for a pose [4, 4], a code [C] and the cells of a region."""
        inputs = self.frame_inputs(pose[None, :3, 3], code[None])
        biases = self.warp_head.frame_bias(inputs), self.head.frame_bias(inputs)
        return PortraitPart(self.packed(), *biases, cells)

    def forward(self, rays: Rays, code: Tensor) -> RayColors:
        """Segment colours and opacity of rays [F, P] under codes [F, C]; a frame has one camera position.

        Without gradients this is one operation, `ops.planes`: on the CPU, and on CUDA in precision "fp16".
        """
        inputs = self.frame_inputs(rays.origins[:, 0], code)
        if rays.origins.shape[1] >= FEWEST_RAYS and self.fusable(rays.origins, rays.directions, code):
            network = self.planes_network()
            biases = self.warp_head.frame_bias(inputs), self.head.frame_bias(inputs)
            out = planes(rays.origins, rays.directions, *biases, network, packed=self.packed(network))
            return RayColors(*out)
        return self._layers(rays, inputs)

    def of_chosen(self, rays: Rays, code: Tensor, chosen: Tensor) -> RayColors:
        """Segment colours [N, M, 3] and opacity [N] of some of the rays [F, P] under codes [F, C].

        On the CPU this is one operation with gradients, `ops.shade_lines`, where frames have rays enough.

        Args:
            rays: a frame has one camera position.
            code: of the frames.
            chosen: [N] numbers of rays out of F * P, increasing.
        """
        frames, count, _ = rays.origins.shape
        origins, directions = rays.origins.flatten(0, 1), rays.directions.flatten(0, 1)
        if not self.on_cpu(origins, code) or len(chosen) < FEWEST_RAYS * frames:
            seen = self(Rays(origins[chosen, None], directions[chosen, None]), code[chosen // count])
            return RayColors(seen.segments[:, 0], seen.opacity[:, 0])
        inputs = self.frame_inputs(rays.origins[:, 0], code)
        biases = self.warp_head.frame_bias(inputs), self.head.frame_bias(inputs)
        starts = torch.searchsorted(chosen, count * torch.arange(frames + 1)).tolist()
        lines = torch.cat(self._lines(origins, directions), 1).index_select(0, chosen)
        return RayColors(*shade_lines(lines, starts, *biases, self.planes_network()))

    def _lines(self, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Rays [N, 3] as start and slope [N, 2]: unit coordinates of a plane z are start + z * slope."""
        size = self.box[2:] - self.box[:2]
        slope = directions[:, :2] / directions[:, 2:]
        return (origins[:, :2] - origins[:, 2:] * slope - self.box[:2]) / size, slope / size

    def _layers(self, rays: Rays, inputs: Tensor) -> RayColors:
        """The same by torch's layers, with gradients."""
        frames, count, _ = rays.origins.shape
        planes = self.config.planes
        start, slope = self._lines(rays.origins.flatten(0, 1), rays.directions.flatten(0, 1))
        middle = start + sum(planes) / len(planes) * slope
        seen = torch.cat([self.warp_grid(middle, backend=self.backend), 2 * middle - 1], 1)
        hidden = F.relu(
            self.warp_head(seen.view(frames, count, self.warp_head.sizes[0]), inputs), inplace=True
        ).flatten(0, 1)
        warp = self.warp_tail(F.relu(self.warp_body(hidden), inplace=True))
        parts = [
            grid(start + z * slope + WARP_SCALE * warp[:, 2 * i : 2 * i + 2], backend=self.backend)
            for i, (z, grid) in enumerate(zip(planes, self.grids, strict=True))
        ]
        features = torch.cat([*parts, warp[:, 2 * len(planes) :]], 1)
        hidden = F.relu(
            self.head(features.view(frames, count, self.head.sizes[0]), inputs), inplace=True
        ).flatten(0, 1)
        for layer in self.body:
            hidden = F.relu(layer(hidden), inplace=True)
        out = self.tail(hidden)
        opacity = torch.sigmoid(OPACITY_SLOPE * out[:, -1:])
        colors = (out[:, :-1] + 0.5 / len(planes)) * opacity
        return RayColors(colors.view(frames, count, len(planes), 3), opacity.view(frames, count))

    @property
    def macs(self) -> int:
        """Multiply-adds a ray, weights only, without what is paid once a frame."""
        return linear_macs(self, skip="encoder")


def weight_and_bias(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """The parameters of a linear layer."""
    if not isinstance(layer, nn.Linear):
        raise TypeError(f"layer: expected a Linear, got {type(layer).__name__}")
    return layer.weight, layer.bias


def small_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer that starts near zero: a warp that begins as the identity."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, 0, 1e-3)
    nn.init.zeros_(layer.bias)
    return layer


def linear_macs(module: nn.Module, skip: str = "-") -> int:
    """Multiply-adds of the linear layers of `module` but those under `skip`, codes' columns left out."""
    named = [(name, part) for name, part in module.named_modules() if not name.startswith(skip)]
    total = sum(p.in_features * p.out_features for _, p in named if isinstance(p, nn.Linear))
    return total - sum(p.sizes[1] * p.linear.out_features for _, p in named if isinstance(p, FrameLinear))
