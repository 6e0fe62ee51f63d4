"""The plane network: grids of features on planes, a learned warp, two small networks.

Its inputs are where rays cross the planes z = z_i (nldf-fast's head), or points of one plane (the learned
torso). One evaluation gives one segment colour a plane, and the opacity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nldf_engine.nn.grid import GridEncoding
from nldf_engine.nn.hooks import on_load, on_save
from nldf_engine.nn.linear import FrameLinear
from nldf_engine.nn.planes import FEWEST_RAYS, PlanesModule
from nldf_engine.ops import GridSpec, PlanesNetwork, PortraitPart, shade_lines
from nldf_engine.ops.specs import Linear

# Displacement of a point, in units of the planes' box, for a warp output of 1.
WARP_SCALE = 0.05
OPACITY_SLOPE = 3.0
GRID_INIT = 1e-2


@dataclass(frozen=True)
class PlaneShape:
    """Sizes of a plane network.

    Args:
        planes: z_i, M of them.
        resolutions: of the levels of each plane's grid.
        warp_resolutions: of the levels of the warp net's grid.
        features: of one level of a grid.
        ambient: extra outputs of the warp net, which the second network takes as inputs.
        width: of all layers.
        warp_hidden, hidden: layers of width x width between the first and the last, of the warp net and of
            the second network.
        frame: size of the per-frame input.
        frame_limit: per-frame inputs are clamped to this many standard deviations of the training video, so
            that a pose just outside of it does not give inputs that the network was never trained on.
    """

    planes: tuple[float, ...]
    resolutions: tuple[int, ...]
    warp_resolutions: tuple[int, ...]
    features: int
    ambient: int
    width: int
    warp_hidden: int
    hidden: int
    frame: int
    frame_limit: float


def refined(resolutions: tuple[int, ...], width: int) -> tuple[int, ...]:
    """The levels of a grid, doubled on until another one would be finer than pictures of that width.

    Example:
        >>> refined((64, 128), 600)
        (64, 128, 256, 512)
    """
    while 2 * resolutions[-1] <= width:
        resolutions = (*resolutions, 2 * resolutions[-1])
    return resolutions


class PlaneNetwork(PlanesModule):
    """The network; subclasses define its per-frame inputs and its unit coordinates.

    Parameters and buffers, all float32, in the order of evaluation (W = width, M = planes,
    L = levels, f = features, A = ambient, C = frame):

        box           [4]          x, y of two opposite corners: a point p of a plane has the unit
                                   coordinates u = (p - box[:2]) / (box[2:] - box[:2])
        frame_mean, frame_scale    [C]; a frame's input is (input - mean) / scale, within +-frame_limit
        warp_grid.table            [entries, f], `ops.GridSpec` order; read at u of the plane z = mean(z_i)
        warp_head.linear           [W, f L_w + 2 + C]: columns are warp features, 2 u - 1, frame input
        warp_body                  `warp_hidden` times [W, W]
        warp_tail                  [2 M + A, W]: the warp of every plane (x, y), then the ambient coordinates
        grids.{i}.table            [entries, f], read at u_i + WARP_SCALE * warp_i
        head.linear                [W, M f L + A + C]: features of plane 0, 1, .., ambient, frame input
        body                       `hidden` times [W, W]
        tail                       [3 M + 1, W]: colours of the segments, then the opacity

    ReLU follows every layer except the two tails. Opacity is sigmoid(OPACITY_SLOPE * o), and segment colours
    are (c_i + 1 / (2 M)) * opacity. The columns of the frame input give a bias, which is
    computed once a frame.

    `names` renames entries of state dictionaries, for files that other versions wrote.

    Args:
        shape: see `PlaneShape`.
        names: prefix of an entry here to its prefix in state dictionaries.
    """

    box: Tensor
    frame_mean: Tensor
    frame_scale: Tensor

    def build_network(self, shape: PlaneShape, names: dict[str, str] | None = None) -> None:
        """Makes parameters and buffers; see the class."""
        self.shape = shape
        planes, width = len(shape.planes), shape.width
        self.register_buffer("frame_mean", torch.zeros(shape.frame))
        self.register_buffer("frame_scale", torch.ones(shape.frame))
        warp = GridSpec(2, shape.features, shape.warp_resolutions)
        self.warp_grid = GridEncoding(warp, GRID_INIT)
        self.warp_head = FrameLinear(warp.out_features + 2, shape.frame, 0, width)
        self.warp_body = nn.ModuleList(nn.Linear(width, width) for _ in range(shape.warp_hidden))
        self.warp_tail = small_linear(width, 2 * planes + shape.ambient)
        spec = GridSpec(2, shape.features, shape.resolutions)
        self.grids = nn.ModuleList(GridEncoding(spec, GRID_INIT) for _ in shape.planes)
        self.head = FrameLinear(planes * spec.out_features + shape.ambient, shape.frame, 0, width)
        self.body = nn.ModuleList(nn.Linear(width, width) for _ in range(shape.hidden))
        self.tail = nn.Linear(width, 3 * planes + 1)
        if names:
            on_save(self, lambda _, state, prefix, __: rename(state, prefix, names))
            back = {new: old for old, new in names.items()}
            on_load(self, lambda _, state, prefix, *__: rename(state, prefix, back))

    def scale_inputs(self, inputs: Tensor) -> Tensor:
        """[F, C] normalised and clamped frame inputs."""
        scaled = (inputs - self.frame_mean) / self.frame_scale
        return scaled.clamp(-self.shape.frame_limit, self.shape.frame_limit)

    def frame_biases(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The biases, twice [F, W], of scaled frame inputs [F, C] in the first layers of both networks."""
        return self.warp_head.frame_bias(inputs), self.head.frame_bias(inputs)

    def planes_network(self) -> PlanesNetwork:
        """The parameters in the form of `ops.planes`."""
        return self._network((self.warp_head.point_weight, None), (self.head.point_weight, None))

    def lines_network(self) -> PlanesNetwork:
        """The parameters in the form of `ops.shade_lines`."""
        return self._network(*((head.weight, head.bias) for head in (self.warp_head, self.head)))

    def _network(self, warp_first: Linear, first: Linear) -> PlanesNetwork:
        warp = (warp_first, *map(weight_and_bias, (*self.warp_body, self.warp_tail)))
        layers = (first, *map(weight_and_bias, (*self.body, self.tail)))
        grids = [grid for grid in self.grids if isinstance(grid, GridEncoding)]
        return PlanesNetwork(
            self.box, self.shape.planes, self.warp_grid.spec, self.warp_grid.table, grids[0].spec,
            tuple(grid.table for grid in grids), warp, layers, WARP_SCALE, OPACITY_SLOPE,
        )  # fmt: skip

    def one_pass_part(self, inputs: Tensor, cells: Tensor) -> PortraitPart | None:
        """The network as a part of `ops.PortraitFrames`, or None where it can't be.

        Args:
            inputs: [F, C] scaled frame inputs.
            cells: [N, N] occupancy of the region.
        """
        if self.backend != "native" or self.training:
            return None
        network = self.planes_network()
        if not self.fusable(inputs, network=network) or not self.fits_frame(network):
            return None
        biases = self.warp_head.lone_biases(inputs), self.head.lone_biases(inputs)
        return PortraitPart(self.packed(network), *biases, cells)

    def shade(self, lines: Tensor, inside: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Segment colours [F, P, M, 3] and opacity [F, P] of lines, by one operation with gradients.

        Args:
            lines: [F, P, 4] start and slope in unit coordinates.
            inside: [F, P] bool, the lines that are evaluated; the others' colours are zeros.
            inputs: [F, C] scaled frame inputs.
        """
        return shade_lines(lines, inside, inputs, self.lines_network())

    def layers_of(self, start: Tensor, slope: Tensor | None, inputs: Tensor) -> Tensor:
        """The raw outputs [F * N, 3 M + 1], by torch's layers, with gradients.

        Args:
            start: [F, N, 2] unit coordinates where the lines cross the plane z = 0.
            slope: [F, N, 2] the change of these coordinates with z; None for points of one plane.
            inputs: [F, C] scaled frame inputs.
        """
        frames, count, _ = start.shape
        start = start.flatten(0, 1)
        slope = None if slope is None else slope.flatten(0, 1)
        planes = self.shape.planes
        middle = start if slope is None else start + sum(planes) / len(planes) * slope
        seen = torch.cat([self.warp_grid(middle, backend=self.backend), 2 * middle - 1], 1)
        hidden = self._first(self.warp_head, seen, inputs, frames, count)
        warp = self.warp_tail(_through(self.warp_body, hidden))
        parts = []
        for i, (z, grid) in enumerate(zip(planes, self.grids, strict=True)):
            at = start if slope is None else start + z * slope
            parts.append(grid(at + WARP_SCALE * warp[:, 2 * i : 2 * i + 2], backend=self.backend))
        ambient = [warp[:, 2 * len(planes) :]] if self.shape.ambient else []
        features = torch.cat([*parts, *ambient], 1) if len(parts) + len(ambient) > 1 else parts[0]
        hidden = self._first(self.head, features, inputs, frames, count)
        return self.tail(_through(self.body, hidden))

    @staticmethod
    def _first(layer: FrameLinear, seen: Tensor, inputs: Tensor, frames: int, count: int) -> Tensor:
        out = layer(seen.view(frames, count, layer.sizes[0]), inputs)
        return F.relu(out, inplace=True).flatten(0, 1)

    def shades(self, rays: int, *inputs: Tensor) -> bool:
        """Whether `shade` can be taken, and so many rays a frame are enough for it to pay."""
        return rays >= FEWEST_RAYS and self.trains_fused(*inputs)


def _through(layers: nn.ModuleList, hidden: Tensor) -> Tensor:
    for layer in layers:
        hidden = F.relu(layer(hidden), inplace=True)
    return hidden


def rename(state: dict[str, Tensor], prefix: str, names: dict[str, str]) -> None:
    """Renames the entries below `prefix` of a state dictionary, in place, by prefix."""
    for old, new in names.items():
        for name in [name for name in state if name.startswith(prefix + old)]:
            state[prefix + new + name[len(prefix + old) :]] = state.pop(name)


def weight_and_bias(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """The parameters of a linear layer."""
    if not isinstance(layer, nn.Linear):
        raise TypeError(f"layer: expected a Linear, got {type(layer).__name__}")
    return layer.weight, layer.bias


def small_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer initialised near zero, so that a warp begins as the identity."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, 0, 1e-3)
    nn.init.zeros_(layer.bias)
    return layer


def linear_macs(module: nn.Module, skip: Sequence[str] = ()) -> int:
    """Multiply-adds of the linear layers of `module` outside of `skip`, without per-frame columns."""
    named = [(name, part) for name, part in module.named_modules() if not name.startswith(tuple(skip))]
    total = sum(p.in_features * p.out_features for _, p in named if isinstance(p, nn.Linear))
    return total - sum(p.sizes[1] * p.linear.out_features for _, p in named if isinstance(p, FrameLinear))
