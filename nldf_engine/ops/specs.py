"""What describes an operation: the shape of a grid, the parameters of networks. Plain data, no kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from nldf_engine.ops.check import Checker

# x, y of a place in a reference; the most slots that a point may have.
PLACE, MOST_SLOTS = 2, 64

_MOST_LEVELS = 32
_MOST_FEATURES = 8
_FINEST = 1 << 16
_FINEST_SCALED = 1 << 24  # other programs' levels may be finer than float32 tells points apart
_MOST_LOG2_TABLE = 24
_INTERPOLATIONS = ("linear", "smoothstep")
BORDERS = ("clamp", "zero", "wrap")  # GridBorder of csrc/ops/grid.h
_SHARINGS = ("hash", "tile")
FOURTH_PRIME = 1367130559  # the first prime above 2^32 / pi
STAGGERED_PRIME = 3674653429  # tiny-cuda-nn's and RAD-NeRF's
_MOST_PLANES = 16

Linear = tuple[Tensor, Tensor | None]
"""A layer's weight [out, in] and bias [out]; None where the bias comes with each call."""


Placing = tuple[tuple[float, ...], float, int, bool, int, int]
"""`GridSpec.placing`: scales (none for a grid without), shift, border, tiled, alignment, fourth prime."""


def _real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(name: str, value: Any, least: int, most: int) -> None:
    Checker("GridSpec").integer(name, value, least, most)


@dataclass(frozen=True)
class GridSpec:
    """The shape of a multiresolution grid.

    Its parameters are a table [entries, features]; level by level, from `offsets` on. A
    level of resolution r has r vertices along every axis of [0, 1]^D, at k / (r - 1). Where r^D is at most
    2^log2_table it is dense: vertex (i_0, .., i_{D-1}) has the entry sum_d i_d r^d, the first axis being
    the fastest. Above, it is hashed: its 2^log2_table entries are shared by the hash of Mueller et al.
    2022, eq. (4). Coordinates outside of [0, 1] are clamped to the border.

    The options from `scales` on are for tables that other programs trained; see `staggered`. A grid that
    leaves them alone is computed by kernels that know nothing of them.

    Args:
        dims: D, 2 to 4.
        features: of one level, 1 to 8.
        resolutions: of the levels, each 2 to 65536, with `scales` to 2^24; at most 32 levels. See `geometric`
            for the usual progression.
        log2_table: logarithm of the most entries of a level, 1 to 24.
        interpolation: "linear" (bi-, tri-, quadrilinear), or "smoothstep": the fraction t in a cell becomes
            t^2 (3 - 2 t), so that the gradient with respect to the coordinates is continuous.
        scales: of each level, how many cells a unit of coordinates holds, any positive number; None: r - 1.
            The resolution is the stride from a row of vertices to the next then, and bounds the cells.
        shift: cells between the first vertex and the coordinate 0: x lies at x * scale + shift.
        border: what a point outside of [0, 1]^D gets: "clamp" the features of the nearest inside, "zero"
            zeros, "wrap" those of cells that go on, where the index repeats after the last entry.
        sharing: how vertices share entries above 2^log2_table: "hash", or "tile", the index of a dense level
            modulo the entries, made of no more axes than it takes to pass the last entry (each further one
            is ignored).
        alignment: the entries of a level are rounded up to a multiple of this power of two, which is at most
            2^log2_table.
        fourth_prime: of the hash in four dimensions, odd, below 2^32; the paper names three.

    Raises:
        TypeError, ValueError: an argument doesn't fit.

    Example:
        >>> spec = GridSpec(dims=2, features=4, resolutions=(16, 64, 256))
        >>> spec.out_features, spec.offsets
        (12, (0, 256, 4352, 69888))
    """

    dims: int
    features: int
    resolutions: tuple[int, ...]
    log2_table: int = 19
    interpolation: str = "linear"
    scales: tuple[float, ...] | None = None
    shift: float = 0.0
    border: str = "clamp"
    sharing: str = "hash"
    alignment: int = 1
    fourth_prime: int = FOURTH_PRIME

    def __post_init__(self) -> None:
        _whole("dims", self.dims, 2, 4)
        _whole("features", self.features, 1, _MOST_FEATURES)
        if not isinstance(self.resolutions, Sequence) or isinstance(self.resolutions, str):
            raise TypeError(
                f"GridSpec: resolutions must be a tuple of int, got {type(self.resolutions).__name__}"
            )
        object.__setattr__(self, "resolutions", tuple(self.resolutions))
        if not 1 <= len(self.resolutions) <= _MOST_LEVELS:
            raise ValueError(
                f"GridSpec: resolutions must name 1 to {_MOST_LEVELS} levels, got {len(self.resolutions)}"
            )
        for i, resolution in enumerate(self.resolutions):
            _whole(f"resolutions[{i}]", resolution, 2, _FINEST if self.scales is None else _FINEST_SCALED)
        _whole("log2_table", self.log2_table, 1, _MOST_LOG2_TABLE)
        if self.interpolation not in _INTERPOLATIONS:
            raise ValueError(
                f"GridSpec: interpolation must be 'linear' or 'smoothstep', got {self.interpolation!r}"
            )
        self._check_placing()

    def _check_placing(self) -> None:
        """Checks the options from `scales` on."""
        if self.scales is not None:
            object.__setattr__(self, "scales", tuple(self.scales))
            levels = len(self.resolutions)
            if len(self.scales) != levels or not all(_real(s) and s > 0 for s in self.scales):
                raise ValueError(
                    f"GridSpec: scales must be {levels} positive numbers, one a level, got {self.scales}"
                )
        if not _real(self.shift):
            raise ValueError(f"GridSpec: shift must be a finite number, got {self.shift!r}")
        for name, known in (("border", BORDERS), ("sharing", _SHARINGS)):
            value = getattr(self, name)
            if value not in known:
                raise ValueError(f"GridSpec: {name} must be {' or '.join(map(repr, known))}, got {value!r}")
        _whole("alignment", self.alignment, 1, 1 << self.log2_table)
        if self.alignment & (self.alignment - 1):
            raise ValueError(f"GridSpec: alignment must be a power of two, got {self.alignment}")
        _whole("fourth_prime", self.fourth_prime, 3, (1 << 32) - 1)
        if not self.fourth_prime % 2:
            raise ValueError(f"GridSpec: fourth_prime must be odd, got {self.fourth_prime}")

    @classmethod
    def staggered(
        cls, dims: int, levels: int, features: int, base_resolution: int, growth: float, log2_table: int = 19,
        interpolation: str = "linear", *, margin: int = 0, shift: float = 0.5, border: str = "wrap",
        sharing: str = "hash",
    ) -> GridSpec:  # fmt: skip
        """Levels as tiny-cuda-nn and the grid encoder of RAD-NeRF place and index them, Mueller et al. 2022,
        appendix A: each level is shifted by half a cell, so that no two have vertices in the same places.

        Level l has base_resolution * growth^l - 1 cells a unit, computed in single precision as theirs, and
        the next whole number of vertices. The defaults are tiny-cuda-nn's "HashGrid" (and with a `log2_table`
        of 24 its "DenseGrid" as far as that reaches). RAD-NeRF's grids have a margin of 1, the border "zero",
        and the sharing "hash" or "tile" by their kind; where they align corners, margin and shift are 0.

        Args:
            dims, levels, features, log2_table, interpolation: as above.
            base_resolution: of the coarsest level, at least 2.
            growth: from level to level, at least 1.
            margin: vertices more along each axis.
            shift, border, sharing: as above.

        Example:
            >>> spec = GridSpec.staggered(3, 4, 2, base_resolution=16, growth=2.0, log2_table=14)
            >>> spec.scales, spec.entries
            ((15.0, 31.0, 63.0, 127.0), 53248)
        """
        _whole("levels", levels, 1, _MOST_LEVELS)
        _whole("base_resolution", base_resolution, 2, _FINEST)
        _whole("margin", margin, 0, 1)
        if not _real(growth) or growth < 1:
            raise ValueError(f"GridSpec: growth must be a number of at least 1, got {growth!r}")
        steps = np.arange(levels, dtype=np.float32) * np.float32(math.log2(growth))
        scales = np.exp2(steps) * np.float32(base_resolution) - np.float32(1)
        resolutions = np.ceil(scales).astype(np.int64) + 1 + margin
        return cls(
            dims, features, tuple(resolutions.tolist()), log2_table, interpolation, tuple(scales.tolist()),
            shift, border, sharing, alignment=min(8, 1 << log2_table), fourth_prime=STAGGERED_PRIME,
        )  # fmt: skip

    @classmethod
    def geometric(
        cls, dims: int, levels: int, features: int, base_resolution: int, finest_resolution: int,
        log2_table: int = 19, interpolation: str = "linear",
    ) -> GridSpec:  # fmt: skip
        """Levels whose resolutions grow by a constant factor, Mueller et al. 2022, eq. (2) and (3).

        Example:
            >>> GridSpec.geometric(2, 5, 4, base_resolution=16, finest_resolution=256).resolutions
            (16, 32, 64, 128, 256)
        """
        _whole("levels", levels, 1, _MOST_LEVELS)
        _whole("base_resolution", base_resolution, 2, _FINEST)
        _whole("finest_resolution", finest_resolution, base_resolution, _FINEST)
        growth = math.log(finest_resolution / base_resolution) / max(levels - 1, 1)
        resolutions = tuple(round(base_resolution * math.exp(growth * level)) for level in range(levels))
        return cls(dims, features, resolutions, log2_table, interpolation)

    @property
    def levels(self) -> int:
        """How many levels there are."""
        return len(self.resolutions)

    @property
    def out_features(self) -> int:
        """Size of the encoding: levels * features."""
        return len(self.resolutions) * self.features

    @property
    def offsets(self) -> tuple[int, ...]:
        """First entry of every level, and behind them the number of all entries: levels + 1 numbers."""
        return level_offsets(self.dims, self.resolutions, self.log2_table, self.alignment)

    @property
    def placed(self) -> bool:
        """Whether its vertices or entries lie elsewhere than a plain grid's."""
        return self.scales is not None or (self.shift, self.border, self.sharing) != (0, "clamp", "hash")

    @property
    def placing(self) -> Placing:
        """The options from `scales` on as the operations take them."""
        scales = self.scales or tuple(r - 1.0 for r in self.resolutions)
        return (
            scales if self.placed else (), float(self.shift), BORDERS.index(self.border),
            self.sharing == "tile", self.alignment, self.fourth_prime,
        )  # fmt: skip

    @property
    def entries(self) -> int:
        """Rows of the table."""
        return self.offsets[-1]

    @property
    def hashed(self) -> tuple[bool, ...]:
        """Which levels are hashed."""
        return tuple(shared and self.sharing == "hash" for shared in self.shared)

    @property
    def shared(self) -> tuple[bool, ...]:
        """In which levels vertices share entries."""
        return tuple(r**self.dims > 1 << self.log2_table for r in self.resolutions)


def level_offsets(
    dims: int, resolutions: Sequence[int], log2_table: int, alignment: int = 1
) -> tuple[int, ...]:
    """The first entry of every level of a grid, then the number of all entries; see `GridSpec`."""
    offsets = [0]
    for resolution in resolutions:
        rounded = -(-(resolution**dims) // alignment) * alignment
        offsets.append(offsets[-1] + min(rounded, 1 << log2_table))
    return tuple(offsets)


@dataclass(frozen=True)
class PlanesNetwork:
    """The parameters of a light field over M planes, or of a learned picture (one plane).

    Args:
        box: [4] x, y of the corner at (0, 0) of unit coordinates, and of the one at (1, 1).
        depths: z of the planes.
        warp_spec, warp_table: the grid that the warp net reads; specs are two-dimensional and linear.
        spec, tables: the grid of every plane; as many features a level as the warp's.
        warp_layers: (weight, bias) of the warp net: hidden layers, then a tail with 2 M outputs (x, y of
            every plane's warp) and A further ones. The first bias is None: it comes with the frame.
            `shade_lines` makes that bias itself: for it both first layers have a bias, and the columns of the
            frame's numbers behind the others.
        layers: the same of the second network, whose tail has 3 M + 1 outputs.
        warp_scale: what one unit of the warp net moves a point in unit coordinates.
        opacity_slope: of the sigmoid of the opacity.
    """

    box: Tensor
    depths: tuple[float, ...]
    warp_spec: GridSpec
    warp_table: Tensor
    spec: GridSpec
    tables: tuple[Tensor, ...]
    warp_layers: tuple[Linear, ...]
    layers: tuple[Linear, ...]
    warp_scale: float
    opacity_slope: float

    @property
    def ambient(self) -> int:
        """A, outputs of the warp net behind the warp."""
        return self.warp_layers[-1][0].shape[0] - 2 * len(self.depths)

    @property
    def frame(self) -> int:
        """C, columns of the frame's numbers in the first layers."""
        return self.warp_layers[0][0].shape[1] - self.warp_spec.out_features - 2


class MatteWeights(NamedTuple):
    """How `compare_matte` weighs its parts.

    Attributes:
        outside, inside: of the opacity's errors off the speaker, and in the interior.
        parts: of the head's own opacity, beside the whole speaker's.
        hidden: of the torso behind the head.
        sharp: of the edges' error, over the squared one.
        weight: of the opacity's error.
    """

    outside: float
    inside: float
    parts: float
    hidden: float
    sharp: float
    weight: float


def check_network(check: Checker, network: PlanesNetwork, frame: str = "") -> None:
    """Checks the parameters of a network against each other.

    Args:
        check: what tells of faults.
        network: the parameters.
        frame: the name by which the checker knows the size of the frame's numbers, where both first layers
            have their columns and a bias; else they have neither.

    Raises:
        TypeError, ValueError: a parameter doesn't fit the others.
    """
    if not isinstance(network, PlanesNetwork):
        raise TypeError(f"{check.op}: network must be a PlanesNetwork, got {type(network).__name__}")
    planes, features = len(network.depths), network.spec.features
    check.integer("the number of planes", planes, 1, _MOST_PLANES)
    check.tensor("box", network.box, (4,))
    for name, spec in (("warp_spec", network.warp_spec), ("spec", network.spec)):
        plain = spec.dims == 2 and spec.interpolation == "linear" and not spec.placed and spec.alignment == 1
        if not plain or spec.features != features:
            raise ValueError(
                f"{check.op}: {name} must be two-dimensional and linear with {features} features and no "
                f"further options, got {spec}"
            )
    check.tensor("warp_table", network.warp_table, (network.warp_spec.entries, features))
    if len(network.tables) != planes:
        raise ValueError(f"{check.op}: tables must be {planes} as depths are, got {len(network.tables)}")
    for i, table in enumerate(network.tables):
        check.tensor(f"tables[{i}]", table, (network.spec.entries, features))
    check.integer("the warp net's further outputs", network.ambient, 0)
    warp_inputs = network.warp_spec.out_features + 2
    _check_layers(check, "warp_layers", network.warp_layers, warp_inputs, None, frame)
    inputs = planes * network.spec.out_features + network.ambient
    _check_layers(check, "layers", network.layers, inputs, 3 * planes + 1, frame)


def _check_layers(
    check: Checker, name: str, layers: tuple[Linear, ...], inputs: int, outputs: int | None, frame: str
) -> None:
    if len(layers) < 2 or (layers[0][1] is None) != (not frame):
        with_bias = "with" if frame else "without"
        raise ValueError(f"{check.op}: {name} must be a layer {with_bias} bias, and at least one more")
    sizes: list[int | str] = [inputs] + ["W"] * (len(layers) - 1) + [outputs or f"{name}'s outputs"]
    sizes[0] = inputs + (check.sizes[frame] if frame else 0)
    for i, (weight, bias) in enumerate(layers):
        check.tensor(f"{name}[{i}] weight", weight.contiguous(), (sizes[i + 1], sizes[i]))
        if bias is not None:
            check.tensor(f"{name}[{i}] bias", bias, (sizes[i + 1],))


@dataclass(frozen=True)
class ResmlpWeights:
    """The parameters of a residual MLP of B blocks, as `torch.nn.Linear` keeps them.

    Args:
        head: [W, in] weight of the first layer; its bias comes with each call, one a frame.
        body: 2B weights [W, W]: fc1, fc2 of the first block, then of the second, ...
        body_bias: 2B biases [W].
        tail: [out, W].
        tail_bias: [out].
    """

    head: Tensor
    body: tuple[Tensor, ...]
    body_bias: tuple[Tensor, ...]
    tail: Tensor
    tail_bias: Tensor


@dataclass(frozen=True)
class SlotsWeights:
    """The layers of slot attention as `attend_slots` applies them: W wide, h numbers of a reference before
    the point comes in, E of an encoded point, K slots.

    Layers are pairs of a weight [outputs, inputs] and a bias [outputs].

    Attributes:
        near: [h, 2], of a place in a reference.
        point: [W, E], of the encoded point.
        mix: [W, 2 + h], of the place and of what comes of `near`; its bias is the point's.
        query: [W, W], from a slot to what references' inputs are multiplied by.
        score: [1, W], from a slot to what is added to these products.
        gates, own: [3 W, W], the gated unit's reset, keep and new, from what a slot found and from itself.
        first, second: [W, W], of the network behind the gated unit.
        start: [K, W], the slots at first.
        rounds: of attention.

    Raises:
        TypeError, ValueError: sizes that don't fit each other, or other kinds of numbers.
    """

    near: tuple[Tensor, Tensor]
    point: tuple[Tensor, Tensor]
    mix: Tensor
    query: tuple[Tensor, Tensor]
    score: tuple[Tensor, Tensor]
    gates: tuple[Tensor, Tensor]
    own: tuple[Tensor, Tensor]
    first: tuple[Tensor, Tensor]
    second: tuple[Tensor, Tensor]
    start: Tensor
    rounds: int

    def __post_init__(self) -> None:
        check = Checker("SlotsWeights")
        check.tensor("start", self.start, ("K", "W"))
        slots, width = self.start.shape
        hidden, points = len(self.near[1]), self.point[0].shape[-1]
        check.integer("K", slots, 1, MOST_SLOTS)
        check.integer("rounds", self.rounds, 1)
        check.tensor("mix", self.mix, (width, PLACE + hidden))
        for name, outputs, inputs in (
            ("near", hidden, PLACE), ("point", width, points), ("query", width, width), ("score", 1, width),
            ("gates", 3 * width, width), ("own", 3 * width, width), ("first", width, width),
            ("second", width, width),
        ):  # fmt: skip
            weight, bias = getattr(self, name)
            check.tensor(f"{name}[0]", weight, (outputs, inputs))
            check.tensor(f"{name}[1]", bias, (outputs,))
