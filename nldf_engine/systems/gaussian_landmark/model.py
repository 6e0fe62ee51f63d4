"""The radiance field of Gaussian landmarks (gaussian landmark 4.C): F(landmarks, x, d) -> (c, sigma), eq. 6.

A point's features are those of a multiresolution grid and, beside them, where it is relative to each
landmark (`encoding`). One small network makes the density of them and what a second one needs to make the
colour, which also depends on the direction. Samples are even strata between two planes of head space.

Shapes: F frames, N rays of each, S samples, L landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nldf_engine import ops
from nldf_engine.geometry.face_mesh import MARKS, MARKS_BROWS, MARKS_EYES, MARKS_JAW, MARKS_LIPS
from nldf_engine.nn.frequency import encode_frequencies, frequency_dim
from nldf_engine.nn.grid import GridEncoding
from nldf_engine.nn.landmarks import LandmarkSpeechSizes
from nldf_engine.nn.linear import FrameLinear
from nldf_engine.ops import GridSpec
from nldf_engine.rendering.fields import (
    Bounds,
    Conditions,
    Driver,
    RayColors,
    RayField,
    Rays,
    check_windows,
)
from nldf_engine.rendering.volume import slab_distances
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.gaussian_landmark.driver import LandmarkDriver
from nldf_engine.systems.gaussian_landmark.encoding import ENCODINGS, EncodingSizes

# No weight depends on the number of samples, so that a file could name any: beyond it is a mistake.
MOST_SAMPLES, MOST_LAYERS = 1024, 64
BOX_MARGIN = 0.06
THINNED = MARKS_JAW[::2] + MARKS_BROWS[::2] + MARKS_EYES + MARKS_LIPS
"""Of the 68, 46: lids and lips, every other one of outline and brows, and none of the nose, which does not
move in head space."""


@dataclass(frozen=True)
class GaussianFieldConfig:
    """A radiance field of Gaussian landmarks. The defaults are the paper's sizes where it says any,
    RAD-NeRF's elsewhere.

    Args:
        bounds: depths between which the head is; kept for what renders beside this field.
        conditions: the audio features that landmarks are predicted from.
        speech: sizes of the network that predicts them.
        encoding: how the field is conditioned on them.
        thinned: on 46 of the 68 landmarks alone.
        resolutions, features, log2_table: of the grid (see `ops.GridSpec`).
        width, depth: of the network that makes the density; `depth` hidden layers.
        geometry: numbers that it hands on to the colour's.
        view_frequencies: L of the encoded direction.
        samples: S of a ray, a multiple of `segments`.
        segments: M, into which they are split for a student.
        slab: (front, back), z in metres of head space between which the head is; the face looks towards -z.
        density_scale: density = scale * softplus(raw - 1) per metre.

    Raises:
        ValueError: a size below one or beyond what can be meant, or planes in the wrong order.
    """

    bounds: Bounds
    conditions: ConditionConfig = field(default_factory=ConditionConfig)
    speech: LandmarkSpeechSizes = field(default_factory=LandmarkSpeechSizes)
    encoding: EncodingSizes = field(default_factory=EncodingSizes)
    thinned: bool = False
    resolutions: tuple[int, ...] = GridSpec.geometric(3, 16, 2, 16, 2048).resolutions
    features: int = 2
    log2_table: int = 16
    width: int = 64
    depth: int = 2
    geometry: int = 64
    view_frequencies: int = 2
    samples: int = 64
    segments: int = 4
    slab: tuple[float, float] = (-0.15, 0.13)
    density_scale: float = 40.0

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.geometry, self.samples, self.segments) < 1:
            raise ValueError(f"GaussianFieldConfig: expected positive sizes, got {self}")
        if self.samples > MOST_SAMPLES or self.depth > MOST_LAYERS or self.view_frequencies > 16:
            raise ValueError(
                f"GaussianFieldConfig: expected at most {MOST_SAMPLES} samples, {MOST_LAYERS} layers and 16 "
                f"view_frequencies, got {self}"
            )
        if self.samples % self.segments:
            raise ValueError(
                f"GaussianFieldConfig: samples must be a multiple of segments, got {self.samples} and "
                f"{self.segments}"
            )
        if len(self.slab) != 2 or not self.slab[0] < self.slab[1] or not self.density_scale > 0:
            raise ValueError(
                f"GaussianFieldConfig: expected slab as (front, back) with front < back and a density_scale "
                f"above 0, got {self}"
            )

    @property
    def marks(self) -> tuple[int, ...]:
        """Numbers of the L landmarks, of the 68, that the field is conditioned on."""
        return THINNED if self.thinned else tuple(range(len(MARKS)))

    @property
    def grid(self) -> GridSpec:
        """The grid's shape."""
        return GridSpec(3, self.features, self.resolutions, self.log2_table)


class MarksEncoder(Driver):
    """The code of a frame: its 68 landmarks and nothing else, [N, 204] metres (see `LandmarkDriver`).

    Args:
        config: audio features and sizes of the network from audio to landmarks.
    """

    def __init__(self, config: GaussianFieldConfig) -> None:
        super().__init__()
        given = config.conditions
        self._audio = given.audio_window, given.audio_dim
        self.landmarks = LandmarkDriver(given.audio_dim, given.audio_window, given.speech, config.speech)
        self.dim = self.landmarks.dim

    @property
    def reach(self) -> tuple[int, int]:
        """See `Driver`."""
        return self.landmarks.reach

    def forward(self, conditions: Conditions, index: Tensor) -> Tensor:
        """See `Driver`.

        Raises:
            ValueError: the audio features have another shape than the network was built for.
        """
        check_windows(conditions.audio, self._audio)
        made: Tensor = self.landmarks(conditions, index)
        return made


class GaussianField(RayField):
    """Grid, landmark encoding and two networks, rendered by eq. (4) and (5).

    d_z of eq. (8a) is measured along the line from the camera to the head's centre. It differs from the
    paper's axis of the camera by the angle under which the head is off the picture's middle, and so a camera
    that turns about itself changes nothing.

    Buffers: `box` [2, 3], metres, the corners of the space that the grid covers.
    """

    system = "gaussian-landmark"
    box: Tensor

    def __init__(self, config: GaussianFieldConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = MarksEncoder(config)
        self.marks = list(config.marks)
        self.encoding = ENCODINGS[config.encoding.kind](self.marks, config.encoding)
        self.grid = GridEncoding(config.grid)
        radius = config.bounds.radius
        corner = [-radius, -radius, config.slab[0]], [radius, radius, config.slab[1]]
        self.register_buffer("box", torch.tensor(corner))
        width = config.width
        points = self.grid.out_features + self.encoding.point_dim
        self.first = FrameLinear(points, self.encoding.frame_dim, 0, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(config.depth - 1))
        self.out = nn.Linear(width, 1 + config.geometry)
        self.view = nn.Linear(frequency_dim(3, config.view_frequencies), width)
        self.shade = nn.Linear(config.geometry, width, bias=False)
        self.color = nn.Linear(width, 3)

    @property
    def samples_per_ray(self) -> int:
        """See `RayField`."""
        return self.config.samples

    @property
    def macs(self) -> int:
        """Multiply-adds a ray, weights only, without what is paid once a frame or a ray."""
        layers = [*self.hidden, self.out, self.shade, self.color]
        sample = sum(layer.weight.numel() for layer in layers)
        return (sample + self.first.point_weight.numel()) * self.config.samples

    @torch.no_grad()
    def calibrate(self, poses: Tensor, conditions: Conditions, points: Tensor) -> None:
        """See `RayField`: the grid's box about the head, and scales of the landmarks."""
        low, high = points.amin(0), points.amax(0)
        margin = BOX_MARGIN * (high - low)
        self.box[0, :2], self.box[1, :2] = low - margin, high + margin
        index = torch.arange(len(conditions), device=conditions.audio.device)
        self.encoding.calibrate(self._landmarks(self.encoder(conditions, index)))

    def _landmarks(self, code: Tensor) -> Tensor:
        """[F, L, 3] metres, the landmarks of codes [F, 204] that the field is conditioned on."""
        return code.unflatten(1, (-1, 3))[:, self.marks]

    def evaluate(
        self, points: Tensor, origins: Tensor, directions: Tensor, code: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Density and colour of points, eq. (6).

        Args:
            points: [F, N, S, 3] metres in head space.
            origins: [F, 3] metres, the cameras' places.
            directions: [F, N, 3] unit vectors.
            code: [F, 204].

        Returns:
            density [F, N, S] per metre, colour [F, N, S, 3] in [0, 1].
        """
        frames, rays, samples, _ = points.shape
        flat, landmarks = points.reshape(frames, rays * samples, 3), self._landmarks(code).contiguous()
        usual = self.encoder.landmarks.usual[self.marks]
        axes = F.normalize(-origins, dim=-1)
        places, beside = self.encoding.about(flat, landmarks, usual, axes, self.backend)
        unit = ((places - self.box[0]) / (self.box[1] - self.box[0])).clamp(0, 1)
        cells = self.grid(unit.view(-1, 3).contiguous(), backend=self.backend).view(*flat.shape[:2], -1)
        hidden = self.first(torch.cat([cells, *beside], -1), self.encoding.of_frames(landmarks))
        hidden = F.relu(hidden, inplace=True)
        for layer in self.hidden:
            hidden = F.relu(layer(hidden), inplace=True)
        raw, geometry = self.out(hidden).split([1, self.config.geometry], -1)
        density = self.config.density_scale * F.softplus(raw[..., 0] - 1)
        seen = self.view(encode_frequencies(directions, self.config.view_frequencies))
        branch = self.shade(geometry).view(frames, rays, samples, -1) + seen[:, :, None]
        color = torch.sigmoid(self.color(F.relu(branch, inplace=True)))
        return density.view(frames, rays, samples), color

    def render(self, rays: Rays, code: Tensor, noise: torch.Generator | None = None) -> RayColors:
        """Colours of rays [F, N] under codes [F, 204]; the rays of a frame have one origin.

        Samples are drawn in their strata by `noise` in training, and are their middles where it is None.
        """
        config, (frames, count, _) = self.config, rays.origins.shape
        distance, length = slab_distances(rays, config.slab, config.samples, noise)
        points = rays.origins[:, :, None] + distance[..., None] * rays.directions[:, :, None]
        density, color = self.evaluate(points, rays.origins[:, 0], rays.directions, code)
        flat = frames * count, config.samples
        segments, opacity = ops.composite_segments(
            density.reshape(flat), color.reshape(*flat, 3), length.reshape(flat).contiguous(),
            segments=config.segments, backend=self.backend,
        )  # fmt: skip
        return RayColors(segments.view(frames, count, -1, 3), opacity.view(frames, count))

    def forward(self, rays: Rays, code: Tensor) -> RayColors:
        """See `RayField`; without random sampling."""
        return self.render(rays, code)

    def of_chosen(self, rays: Rays, code: Tensor, chosen: Tensor) -> RayColors:
        """See `RayField`; frame by frame, since landmarks are a frame's."""
        return self.frame_by_frame(rays, code, chosen)
