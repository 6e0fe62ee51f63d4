"""The torso as a learned layer: a small plane network in the plate's coordinates.

Where a `TorsoPlate` is one picture under an affine motion, this layer adds what the motion leaves: folds,
the shadow of the chin, shoulders that turn. It answers to the same calls.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nldf_engine.nn.noise import normal_like
from nldf_engine.ops import PortraitPart
from nldf_engine.ops.products import exact_products
from nldf_engine.rendering.fields import masks
from nldf_engine.rendering.layer import Views
from nldf_engine.rendering.torsos import POSE_FEATURES, SampledTorso, pose_features
from nldf_engine.systems.common.plane_network import OPACITY_SLOPE, PlaneNetwork, PlaneShape
from nldf_engine.systems.common.torso import TorsoPlate

MOTION_NUMBERS = 6
FRAME_DIM = POSE_FEATURES - 1 + MOTION_NUMBERS
# As for the head's field: inputs of a frame are held within so many standard deviations.
FRAME_LIMIT = 3.0
SMALLEST_SPREAD = 2e-3
FRAME_NOISE = 0.05
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


@dataclass(frozen=True)
class TorsoFrames:
    """What a torso layer makes of motions and poses: once for a video, of which a step takes its frames.

    Args:
        inputs: [F, C] scaled frame inputs, neither noisy nor limited yet.
        to_lines: [F, 3, 4] from (x, y, 1), in units of the frame's width, to lines in unit coordinates.
    """

    inputs: Tensor
    to_lines: Tensor

    def at(self, frames: Tensor) -> TorsoFrames:
        """Those of some frames [N]."""
        return TorsoFrames(self.inputs[frames], self.to_lines[frames])


class TorsoLayer(SampledTorso, PlaneNetwork):
    """A learned torso: a `PlaneNetwork` of one plane, points of the plate for lines without slope.

    The frame input is (6 pose features, 6 numbers of the motion, row by row), C = 12. Beside the network's:

        box           [4]        as there, in units of the frame's width
        occupancy     [64, 64] uint8 over the box, rows along y: points in empty cells are not evaluated
    """

    occupancy: Tensor

    def __init__(self, config: TorsoLayerConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or TorsoLayerConfig()
        self.register_buffer("box", torch.tensor([0.0, 0.0, 1.0, 1.0]))
        self.register_buffer("occupancy", torch.ones(OCCUPANCY, OCCUPANCY, dtype=torch.uint8))
        shape = PlaneShape(
            (0.0,), config.resolutions, config.warp_resolutions, config.features, 0, config.width, 0, 1,
            FRAME_DIM, FRAME_LIMIT,
        )  # fmt: skip
        self.build_network(shape, {"grids.0.": "grid.", "body.0.": "body."})

    def describe(self) -> dict[str, Any]:
        """See `Torso`."""
        return {"layer": asdict(self.config)}

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
        # What moves in from below the frame belongs to the torso too: the plate's border continues outside.
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

    def _scaled(self, motion: Tensor, poses: Tensor) -> Tensor:
        inputs = torch.cat([pose_features(poses)[:, :-1], motion.flatten(1)], 1)
        return (inputs - self.frame_mean) / self.frame_scale

    def _limited(self, scaled: Tensor, noise: Tensor | None) -> Tensor:
        if noise is not None:
            scaled = torch.add(scaled, noise, alpha=FRAME_NOISE)
        return scaled.clamp(-FRAME_LIMIT, FRAME_LIMIT)

    def _inputs(self, motion: Tensor, poses: Tensor, noise: torch.Generator | None = None) -> Tensor:
        scaled = self._scaled(motion, poses)
        return self._limited(scaled, None if noise is None else normal_like(scaled, noise))

    def portrait_part(self, views: Views) -> PortraitPart | None:
        """See `Torso`."""
        return self.one_pass_part(self._inputs(views.motions, views.poses), self.occupancy)

    def _occupied(self, points: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
        """[F * N, 2] unit coordinates of points [F, N, 2], and [F * N] bool of those in occupied cells."""
        size = self.box[2:] - self.box[:2]
        unit = ((self.on_plate(points, motion) - self.box[:2]) / size).flatten(0, 1)
        return unit, self.occupancy.view(-1).take(self._cells(unit)) > 0

    def _masked(self, unit: Tensor, inside: Tensor, frames: int, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """As `sample`, of all points [F * N, 2], empty where not `inside`: waits for no device."""
        out = self.layers_of(unit.view(frames, -1, 2), None, inputs)
        color = torch.where(inside[:, None], out[:, :3] + 0.5, 0.0)
        alpha = torch.where(inside, torch.sigmoid(OPACITY_SLOPE * out[:, 3]), 0.0)
        return color.view(frames, -1, 3), alpha.view(frames, -1)

    @exact_products()
    def frames_of(self, motion: Tensor, poses: Tensor) -> TorsoFrames:
        """Frames with motions [F, 2, 3] and poses [F, 4, 4], as `premultiplied` takes them."""
        size = self.box[2:] - self.box[:2]
        back = torch.linalg.inv(motion[:, :, :2]).transpose(1, 2) / size
        shift = -(motion[:, None, :, 2] @ back) - self.box[:2] / size
        return TorsoFrames(self._scaled(motion, poses), F.pad(torch.cat([back, shift], 1), (0, 2)))

    def premultiplied(
        self, points: Tensor, frames: TorsoFrames, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As `sample`, but colours times opacity: one operation with gradients, where it can be.

        Args:
            points: as in `sample`.
            frames: made by `frames_of`.
            noise: [F, C] standard normal, on the frame inputs, which training adds; None for no noise.
        """
        count, cells = points.shape[1], self.occupancy.view(-1)
        with exact_products():  # a point is a line without slope
            lines = torch.baddbmm(frames.to_lines[:, 2:], points, frames.to_lines[:, :2])
        inside = cells.take(self._cells(lines)) > 0
        inputs = self._limited(frames.inputs, noise)
        if self.shades(count, points, inputs):
            segments, opacity = self.shade(lines, inside, inputs)
            return segments[:, :, 0], opacity
        unit = lines[..., :2].reshape(-1, 2).contiguous()
        color, alpha = self._colored(unit, inside.flatten(), len(points), inputs)
        return color * alpha[..., None], alpha

    @staticmethod
    def _cells(unit: Tensor) -> Tensor:
        """[...] int64 cells of unit coordinates [..., 2 or more]."""
        cells = (unit.clamp(0, 1 - 1e-6) * OCCUPANCY).long()
        return torch.add(cells[..., 0], cells[..., 1], alpha=OCCUPANCY)

    def sample(
        self, points: Tensor, motion: Tensor, poses: Tensor, noise: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """See `SampledTorso` and `premultiplied`. Gradients flow to the parameters."""
        unit, inside = self._occupied(points, motion)
        return self._colored(unit, inside, len(points), self._inputs(motion, poses, noise))

    def _colored(self, unit: Tensor, inside: Tensor, frames: int, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """As `sample`, of points [F * N, 2] in unit coordinates and whether they are in occupied cells."""
        count = len(unit) // max(1, frames)
        if frames > 1 and masks(unit.device):
            return self._masked(unit, inside, frames, inputs)
        chosen = inside.nonzero()[:, 0]
        if frames == 1:  # in pieces that stay in the cache
            pieces = unit[chosen].split(PIECE.get(unit.device.type, PIECE["cpu"]))
            out = torch.cat([self.layers_of(piece[None], None, inputs) for piece in pieces])
        else:
            out = self.layers_of(unit[chosen][:, None], None, inputs[chosen // count])
        color = torch.zeros(frames * count, 3, dtype=out.dtype, device=out.device)
        alpha = torch.zeros(frames * count, dtype=out.dtype, device=out.device)
        color = color.index_copy(0, chosen, out[:, :3] + 0.5)
        alpha = alpha.index_copy(0, chosen, torch.sigmoid(OPACITY_SLOPE * out[:, 3]))
        return color.view(frames, count, 3), alpha.view(frames, count)
