"""The torso as a learned layer: a small grid and network in the plate's coordinates.

Where a `TorsoPlate` is one picture under an affine motion, this layer adds what the motion leaves: folds,
the shadow of the chin, shoulders that turn. It answers to the same calls.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nldf_engine.nn.grid import GridEncoding
from nldf_engine.nn.linear import FrameLinear
from nldf_engine.nn.planes import FEWEST_RAYS, PlanesModule
from nldf_engine.ops import GridSpec, PlanesNetwork, PortraitPart, shade_lines
from nldf_engine.systems.common.torso import POSE_FEATURES, TorsoMotion, TorsoPlate, pose_features

MOTION_NUMBERS = 6
FRAME_DIM = POSE_FEATURES - 1 + MOTION_NUMBERS
# As for the head's field: inputs of a frame are held within so many standard deviations.
FRAME_LIMIT = 3.0
SMALLEST_SPREAD = 2e-3
FRAME_NOISE = 0.05
WARP_SCALE = 0.05
OPACITY_SLOPE = 3.0
GRID_INIT = 1e-2
OCCUPANCY = 64
OCCUPIED = 0.02
GROWTH = 2
BOX_MARGIN = 0.1
PIECE = {"cpu": 4096, "cuda": 1 << 19}


@dataclass(frozen=True)
class TorsoLayerConfig:
    """Sizes of a torso layer.

    Args:
        resolutions, warp_resolutions: of the grids for the colours and for the warp.
        features: of one level.
        width: of all layers.

    Raises:
        ValueError: a width below one.
    """

    resolutions: tuple[int, ...] = (16, 32, 64, 128, 256)
    warp_resolutions: tuple[int, ...] = (8, 16)
    features: int = 4
    width: int = 32

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"TorsoLayerConfig: expected a width of at least 1, got {self.width}")


class TorsoLayer(TorsoMotion, PlanesModule):
    """A learned torso.

    Parameters and buffers, all float32 but the occupancy, in the order in which a point meets them (V =
    width, f = features):

        box           [4]        x, y of a corner and of the opposite one, units of the frame's width: a point
                                 p of the plate has unit coordinates u = (p - box[:2]) / (box[2:] - box[:2])
        occupancy     [64, 64] uint8 over the box, rows along y: points in empty cells are not evaluated
        frame_mean, frame_scale [12]; a frame's input is ((6 pose features, 6 numbers of the motion, row by
                                 row) - mean) / scale, held within +-FRAME_LIMIT
        warp_grid.table, warp_head.linear [V, f L_w + 2 + 12] (features, 2 u - 1, frame), warp_tail [2, V]
        grid.table, head.linear [V, f L + 12], body [V, V], tail [4, V]

    ReLU follows every layer but the two tails. Colours are c + 1 / 2, opacity is sigmoid(OPACITY_SLOPE * o).
    """

    box: Tensor
    occupancy: Tensor
    frame_mean: Tensor
    frame_scale: Tensor

    def __init__(self, config: TorsoLayerConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or TorsoLayerConfig()
        self.register_buffer("box", torch.tensor([0.0, 0.0, 1.0, 1.0]))
        self.register_buffer("occupancy", torch.ones(OCCUPANCY, OCCUPANCY, dtype=torch.uint8))
        self.register_buffer("frame_mean", torch.zeros(FRAME_DIM))
        self.register_buffer("frame_scale", torch.ones(FRAME_DIM))
        width = config.width
        warp = GridSpec(2, config.features, config.warp_resolutions)
        self.warp_grid = GridEncoding(warp, GRID_INIT)
        self.warp_head = FrameLinear(warp.out_features + 2, FRAME_DIM, 0, width)
        self.warp_tail = nn.Linear(width, 2)
        nn.init.normal_(self.warp_tail.weight, 0, 1e-3)
        nn.init.zeros_(self.warp_tail.bias)
        spec = GridSpec(2, config.features, config.resolutions)
        self.grid = GridEncoding(spec, GRID_INIT)
        self.head = FrameLinear(spec.out_features, FRAME_DIM, 0, width)
        self.body = nn.Linear(width, width)
        self.tail = nn.Linear(width, 4)

    @torch.no_grad()
    def calibrate(self, plate: TorsoPlate, poses: Tensor, motion: Tensor) -> None:
        """Takes over what a fitted plate knows: where the torso is, and how it moves with the head.

        Args:
            plate: fitted to the training video.
            poses: [T, 4, 4] of the frames that may be used.
            motion: [T, 2, 3] of the same frames.
        """
        self.present.copy_(plate.present)
        self.motion_weights.copy_(plate.motion_weights)
        inputs = torch.cat([pose_features(poses)[:, :-1], motion.flatten(1)], 1)
        self.frame_mean.copy_(inputs.mean(0))
        self.frame_scale.copy_(inputs.std(0).clamp_min(SMALLEST_SPREAD))
        height, width = plate.alpha.shape
        rows, columns = (plate.alpha > OCCUPIED).nonzero(as_tuple=True)
        if not len(rows):
            return
        low = torch.stack([columns.min(), rows.min()]) / width
        high = torch.stack([columns.max() + 1, rows.max() + 1]) / width
        # Wide enough that the box's own border is empty where the frame does not cut the torso off: points
        # outside of the box count as their nearest cell.
        margin = BOX_MARGIN * (high - low) + 2 / width
        low, high = low - margin, high + margin
        self.box.copy_(torch.cat([low, high]))
        # What moves in from below the frame belongs to the torso too: the plate's border goes on outside.
        fine = 4 * OCCUPANCY
        steps = (torch.arange(fine) + 0.5) / fine
        y, x = torch.meshgrid(
            low[1] + steps * (high - low)[1], low[0] + steps * (high - low)[0], indexing="ij"
        )
        where = torch.stack([x, y * width / height], -1)[None] * 2 - 1
        alpha = F.grid_sample(plate.alpha[None, None], where, "bilinear", "border", align_corners=False)
        cells = F.max_pool2d((alpha > OCCUPIED).float(), 4)
        for _ in range(GROWTH):
            cells = F.max_pool2d(cells, 3, 1, 1)
        self.occupancy.copy_(cells[0, 0].to(torch.uint8))

    def _inputs(self, motion: Tensor, poses: Tensor) -> Tensor:
        inputs = torch.cat([pose_features(poses)[:, :-1], motion.flatten(1)], 1)
        inputs = (inputs - self.frame_mean) / self.frame_scale
        if self.training:
            inputs = inputs + FRAME_NOISE * torch.randn_like(inputs)
        return inputs.clamp(-FRAME_LIMIT, FRAME_LIMIT)

    def planes_network(self) -> PlanesNetwork:
        """The parameters as `ops.planes` takes them: one plane, and points for lines without slope."""
        warp_tail, body, tail = ((part.weight, part.bias) for part in (self.warp_tail, self.body, self.tail))
        return PlanesNetwork(
            self.box, (0.0,), self.warp_grid.spec, self.warp_grid.table, self.grid.spec, (self.grid.table,),
            ((self.warp_head.point_weight, None), warp_tail), ((self.head.point_weight, None), body, tail),
            WARP_SCALE, OPACITY_SLOPE,
        )  # fmt: skip

    def portrait_part(self, motion: Tensor, pose: Tensor) -> PortraitPart:
        """What `ops.render_portrait` needs of this layer for a motion [2, 3] and a pose [4, 4]."""
        inputs = self._inputs(motion[None], pose[None])
        biases = self.warp_head.frame_bias(inputs), self.head.frame_bias(inputs)
        return PortraitPart(self.packed(), *biases, self.occupancy)

    def _occupied(self, points: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
        """[F * N, 2] unit coordinates of points [F, N, 2], and the numbers of those in occupied cells."""
        size = self.box[2:] - self.box[:2]
        unit = ((self.on_plate(points, motion) - self.box[:2]) / size).flatten(0, 1)
        cells = (unit.clamp(0, 1 - 1e-6) * OCCUPANCY).long()
        return unit, self.occupancy.view(-1).take(cells[:, 1] * OCCUPANCY + cells[:, 0]).nonzero()[:, 0]

    def premultiplied(self, points: Tensor, motion: Tensor, poses: Tensor) -> tuple[Tensor, Tensor]:
        """As `sample`, but colours times opacity: on the CPU one operation with gradients."""
        frames, count, _ = points.shape
        unit, chosen = self._occupied(points, motion)
        if not self.on_cpu(points, motion, poses) or len(chosen) < FEWEST_RAYS * frames:
            color, alpha = self.sample(points, motion, poses)
            return color * alpha[..., None], alpha
        inputs = self._inputs(motion, poses)
        biases = self.warp_head.frame_bias(inputs), self.head.frame_bias(inputs)
        starts = torch.searchsorted(chosen, count * torch.arange(frames + 1)).tolist()
        lines = F.pad(unit.index_select(0, chosen), (0, 2))  # a point is a line without slope
        segments, opacity = shade_lines(lines, starts, *biases, self.planes_network())
        color = unit.new_zeros(frames * count, 3).index_copy(0, chosen, segments[:, 0])
        alpha = unit.new_zeros(frames * count).index_copy(0, chosen, opacity)
        return color.view(frames, count, 3), alpha.view(frames, count)

    def sample(self, points: Tensor, motion: Tensor, poses: Tensor) -> tuple[Tensor, Tensor]:
        """See `TorsoPlate.sample`. Gradients flow to the parameters."""
        frames, count, _ = points.shape
        unit, chosen = self._occupied(points, motion)
        inputs = self._inputs(motion, poses)
        if frames == 1:  # in pieces that stay in the cache
            pieces = unit[chosen].split(PIECE.get(points.device.type, PIECE["cpu"]))
            out = torch.cat([self._network(piece[None], inputs) for piece in pieces])
        else:
            out = self._network(unit[chosen][:, None], inputs[chosen // count])
        color = torch.zeros(frames * count, 3, dtype=out.dtype, device=out.device)
        alpha = torch.zeros(frames * count, dtype=out.dtype, device=out.device)
        color = color.index_copy(0, chosen, out[:, :3] + 0.5)
        alpha = alpha.index_copy(0, chosen, torch.sigmoid(OPACITY_SLOPE * out[:, 3]))
        return color.view(frames, count, 3), alpha.view(frames, count)

    def _network(self, unit: Tensor, inputs: Tensor) -> Tensor:
        """[F * N, 4] of unit coordinates [F, N, 2] under frame inputs [F, 12]."""
        frames, count, _ = unit.shape
        flat = unit.flatten(0, 1)
        seen = torch.cat([self.warp_grid(flat, backend=self.backend), 2 * flat - 1], 1)
        hidden = F.relu(
            self.warp_head(seen.view(frames, count, self.warp_head.sizes[0]), inputs), inplace=True
        ).flatten(0, 1)
        moved = flat + WARP_SCALE * self.warp_tail(hidden)
        features = self.grid(moved, backend=self.backend)
        hidden = F.relu(
            self.head(features.view(frames, count, self.head.sizes[0]), inputs), inplace=True
        ).flatten(0, 1)
        return self.tail(F.relu(self.body(hidden), inplace=True))
