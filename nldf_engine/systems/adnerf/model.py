"""AD-NeRF: an audio-conditioned radiance field, sampled coarse to fine (ad_nerf sections 3.2-3.4).

One class for every part of the body; what differs is the configuration. Names and order of the
parameters follow the paper's released network, so that its checkpoints map onto it one to one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nldf_engine import ops
from nldf_engine.nn.frequency import encode_frequencies, frequency_dim
from nldf_engine.nn.linear import FrameLinear
from nldf_engine.rendering.fields import Bounds, RayColors, RayField, Rays
from nldf_engine.rendering.volume import SAMPLINGS, sample_lengths
from nldf_engine.systems.common.conditions import ConditionConfig, make_encoder

# What a sparse rendering leaves out: rays of which the coarse pass sees less than half a step of a byte, and
# samples where it gives no weight worth mentioning.
UNSEEN_RAY = 0.5 / 255
UNSEEN_SAMPLE = 2e-5
# No weight depends on the numbers of samples, so that a file could name any: beyond these they are a mistake.
MOST_SAMPLES, MOST_LAYERS = 4096, 1024


@dataclass(frozen=True)
class RadianceFieldConfig:
    """An AD-NeRF field and how it is sampled. The defaults are the paper's, with the eyes added to the code.

    Args:
        bounds: depths between which the head is.
        conditions: the per-frame code.
        width, depth: size of the trunk; the encoded point enters again behind layer `skip`.
        view_layers: layers of the colour branch, of half the width.
        position_frequencies, direction_frequencies: of the encodings.
        coarse, fine: samples a ray of the two passes; coarse + fine is a multiple of `segments`.
        segments: M, into which the fine pass is split for a student.
        density_scale: density = scale * softplus(raw) per metre, or with `relu` scale * relu(raw).
        density: "relu" (the paper) or "softplus" (no dead start in small networks).
        sampling: how rays are sampled, of `rendering.volume.SAMPLINGS`: "strata" of even distance, or even
            "depths" with both ends, which the authors' own program trains and renders with; the bounds are
            depths then.
    """

    bounds: Bounds
    conditions: ConditionConfig = field(default_factory=ConditionConfig)
    width: int = 256
    depth: int = 8
    skip: int = 4
    view_layers: int = 3
    position_frequencies: int = 10
    direction_frequencies: int = 4
    coarse: int = 64
    fine: int = 128
    segments: int = 4
    density_scale: float = 1.0
    density: str = "relu"
    sampling: str = "strata"

    def __post_init__(self) -> None:
        sizes = (self.segments, self.width, self.depth, self.view_layers, self.fine, self.coarse - 2)
        if min(sizes) < 1:
            raise ValueError(f"RadianceFieldConfig: expected positive sizes and coarse >= 3, got {self}")
        if max(self.coarse, self.fine) > MOST_SAMPLES or max(self.depth, self.view_layers) > MOST_LAYERS:
            raise ValueError(
                f"RadianceFieldConfig: expected at most {MOST_SAMPLES} samples of a pass and {MOST_LAYERS} "
                f"layers, got {self}"
            )
        if (self.coarse + self.fine) % self.segments:
            raise ValueError(
                f"RadianceFieldConfig: coarse + fine must be a multiple of segments, got "
                f"{self.coarse} + {self.fine} and {self.segments}"
            )
        if self.density not in ("relu", "softplus"):
            raise ValueError(
                f"RadianceFieldConfig: density must be 'relu' or 'softplus', got {self.density!r}"
            )
        if self.sampling not in SAMPLINGS:
            known = " or ".join(map(repr, SAMPLINGS))
            raise ValueError(f"RadianceFieldConfig: sampling must be {known}, got {self.sampling!r}")

    @property
    def feature_dim(self) -> int:
        """Features of a point that its network takes beside place, direction and code; none here."""
        return 0


class RadianceMLP(nn.Module):
    """F(audio, direction, point) -> (colour, density), AD-NeRF eq. (1), NLDF eq. (2).

    Where the configuration has a `feature_dim`, features of the point come before its encoded place.
    """

    def __init__(self, config: RadianceFieldConfig) -> None:
        super().__init__()
        self.config = config
        points = config.feature_dim + frequency_dim(3, config.position_frequencies)
        views = frequency_dim(3, config.direction_frequencies)
        code, width, half = config.conditions.code_dim, config.width, config.width // 2
        self.pts_linears = nn.ModuleList()
        for layer in range(config.depth):
            if layer == 0:
                self.pts_linears.append(FrameLinear(points, code, 0, width))
            elif layer == config.skip + 1:
                self.pts_linears.append(FrameLinear(points, code, width, width))
            else:
                self.pts_linears.append(nn.Linear(width, width))
        self.views_linears = nn.ModuleList(
            nn.Linear(width + views if layer == 0 else half, half) for layer in range(config.view_layers)
        )
        self.rgb_linear = nn.Linear(half, 3)
        self.alpha_linear = nn.Linear(width, 1)

    def forward(
        self, points: Tensor, views: Tensor, code: Tensor, chosen: Tensor | None = None,
        features: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Colour and density of samples.

        Args:
            points: [F, N, S, 3], in units of the bounds' radius.
            views: [F, N, 3] unit directions.
            code: [F, C].
            chosen: [n] numbers among the N S samples of one frame that are evaluated; the others are empty.
            features: [F, N S, E + D] of the samples, or [1, n, E + D] of the chosen ones: E of the
                `feature_dim`, and behind them the encoded places; the encoded places alone where None.

        Returns:
            rgb [F, N, S, 3] in [0, 1], density [F, N, S] per metre.
        """
        config = self.config
        frames, rays, samples, _ = points.shape
        points = points.reshape(frames, rays * samples, 3)
        if chosen is not None:
            points = points[:, chosen]
        count = frames * points.shape[1]
        encoded = encode_frequencies(points, config.position_frequencies) if features is None else features
        hidden = encoded
        for i, layer in enumerate(self.pts_linears):
            if isinstance(layer, FrameLinear):
                skip = hidden.view(frames, count // frames, -1) if i else None
                hidden = layer(encoded, code, skip)
                hidden = F.relu(hidden, inplace=True).view(count, -1)
            else:
                hidden = F.relu(layer(hidden), inplace=True)
        raw = self.alpha_linear(hidden)[..., 0]
        density = F.relu(raw) if config.density == "relu" else F.softplus(raw - 1)
        # The view is one vector a ray: its share of the first layer is computed once and broadcast.
        weight: Tensor = self.views_linears[0].weight  # type: ignore[assignment]
        bias: Tensor = self.views_linears[0].bias  # type: ignore[assignment]
        w_hidden, w_views = weight[:, : config.width], weight[:, config.width :]
        seen = F.linear(encode_frequencies(views, config.direction_frequencies), w_views, bias)
        branch = F.linear(hidden, w_hidden)
        if chosen is None:
            branch = (branch.view(frames, rays, samples, -1) + seen[:, :, None]).view(count, -1)
        else:
            branch = branch + seen[0].index_select(0, chosen // samples)
        branch = F.relu(branch, inplace=True)
        for layer in self.views_linears[1:]:
            branch = F.relu(layer(branch), inplace=True)
        rgb = torch.sigmoid(self.rgb_linear(branch))
        density = config.density_scale * density
        if chosen is not None:
            rgb = rgb.new_zeros(rays * samples, 3).index_copy_(0, chosen, rgb)
            density = density.new_zeros(rays * samples).index_copy_(0, chosen, density)
        return rgb.view(frames, rays, samples, 3), density.view(frames, rays, samples)


@dataclass(frozen=True)
class KnownSamples:
    """What the coarse pass has found out about samples of the fine one, which takes its places as well.

    Args:
        features: [n, E + D] of coarse samples, as `RadianceMLP` takes them.
        places: [N S] int64 of the fine pass's samples in them, -1 where they are new.
    """

    features: Tensor
    places: Tensor

    @classmethod
    def of(cls, features: Tensor, distances: Tensor, rows: Tensor, merged: Tensor) -> KnownSamples:
        """From the coarse features [R S, E + D], distances [r, S] of the rays `rows` [r] and the merged ones
        [r, S + N]."""
        samples = distances.shape[1]
        numbers = rows[:, None] * samples + torch.arange(samples, device=rows.device)
        places = torch.full_like(merged, -1, dtype=torch.int64)
        return cls(features, places.scatter_(1, torch.searchsorted(merged, distances), numbers).view(-1))


class RadianceField(RayField):
    """Audio net, coarse and fine networks, and the two-pass rendering of AD-NeRF (section 3.3).

    The paper puts the background's pixel into a last sample of infinite length. That sample receives
    what transmittance is left, so here it is the opacity that is returned: any background can be
    behind it afterwards.

    Where `sparse` is set, the fine pass of a frame leaves out what its coarse pass has found empty or hidden:
    whole rays, and samples of others. Off, every sample of every ray is evaluated, as in the paper.
    """

    system = "adnerf"

    def __init__(self, config: RadianceFieldConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = make_encoder(config.conditions)
        self.coarse = RadianceMLP(config)
        self.fine = RadianceMLP(config)
        self.sampling = SAMPLINGS[config.sampling](config.bounds, config.coarse)
        self.sparse = False

    @property
    def samples_per_ray(self) -> int:
        """How many network evaluations a ray takes at once, in its largest pass."""
        return self.config.coarse + self.config.fine

    def context(self) -> Any:
        """What both passes need beside rays and code, made once for the two; nothing here."""
        return None

    def evaluate(
        self, network: RadianceMLP, points: Tensor, views: Tensor, code: Tensor, chosen: Tensor | None,
        context: Any, known: KnownSamples | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:  # fmt: skip
        """Colour and density of samples in a pass, as `RadianceMLP`; `context` is of `context()`.

        Last come the features of one frame's samples, [N S, E + D] or of the chosen ones, where the fine pass
        need not make those of the coarse samples again (`known`); None else.
        """
        rgb, density = network(points, views, code, chosen)
        return rgb, density, None

    def _pass(
        self, network: RadianceMLP, rays: Rays, code: Tensor, distances: Tensor, end: Tensor,
        segments: int, context: Any, chosen: Tensor | None = None, known: KnownSamples | None = None,
    ) -> tuple[RayColors, Tensor, Tensor | None]:  # fmt: skip
        frames, count, _ = rays.origins.shape
        t = distances.view(frames, count, -1, 1)
        points = (rays.origins[:, :, None] + t * rays.directions[:, :, None]) / self.config.bounds.radius
        rgb, sigma, found = self.evaluate(network, points, rays.directions, code, chosen, context, known)
        samples = distances.shape[1]
        colors, opacity, weights = ops.composite_segments(
            sigma.reshape(-1, samples), rgb.reshape(-1, samples, 3),
            sample_lengths(distances, end).contiguous(),
            segments=segments, return_weights=True, backend=self.backend,
        )  # fmt: skip
        shape = frames, count
        return RayColors(colors.view(*shape, segments, 3), opacity.view(shape)), weights, found

    def passes(
        self, rays: Rays, code: Tensor, noise: torch.Generator | None = None, context: Any = None
    ) -> tuple[RayColors, RayColors]:
        """(fine, coarse) colours of rays [F, P] under codes [F, C]; the coarse one has one segment.

        Samples are drawn by `noise` in training; without it they lie where `config.sampling` puts them.
        `context` is the field's own where it is None.
        """
        context = self.context() if context is None else context
        config = self.config
        distances, end = self.sampling.places(rays, noise)
        coarse, weights, found = self._pass(self.coarse, rays, code, distances, end, 1, context)
        jitter = self.sampling.quantiles(distances, config.fine, noise)
        merged = ops.resample(distances, weights, config.fine, jitter, backend=self.backend)
        known = None
        if found is not None:
            rows = torch.arange(len(distances), device=distances.device)
            known = KnownSamples.of(found, distances, rows, merged)
        fine, *_ = self._pass(self.fine, rays, code, merged, end, config.segments, context, known=known)
        return fine, coarse

    def forward(self, rays: Rays, code: Tensor) -> RayColors:
        """The fine pass, without random sampling."""
        if self.sparse and len(rays.origins) == 1 and not torch.is_grad_enabled():
            return self._sparse(rays, code)
        return self.passes(rays, code)[0]

    def _sparse(self, rays: Rays, code: Tensor) -> RayColors:
        """The fine pass of one frame's rays, of those samples alone that may be seen."""
        config, count, context = self.config, rays.origins.shape[1], self.context()
        distances, end = self.sampling.places(rays)
        coarse, weights, found = self._pass(self.coarse, rays, code, distances, end, 1, context)
        colors = coarse.segments.new_zeros(count, config.segments, 3)
        opacity = coarse.opacity.new_zeros(count)
        hit = self._chosen(coarse.opacity[0] > UNSEEN_RAY)
        if len(hit):
            kept, weights = rays.select(hit), weights.index_select(0, hit)
            distances, end = distances.index_select(0, hit), end.index_select(0, hit)
            jitter = self.sampling.quantiles(distances, config.fine)
            merged = ops.resample(distances, weights, config.fine, jitter, backend=self.backend)
            # What a sample may weigh, by the coarse samples of its stratum and of those beside it.
            near = F.max_pool1d(weights[None], 3, 1, 1)[0]
            seen = near.gather(1, self.sampling.nearest(kept, merged)) > UNSEEN_SAMPLE
            marked = self._chosen(seen.view(-1))
            known = None if found is None else KnownSamples.of(found, distances, hit, merged)
            fine, *_ = self._pass(self.fine, kept, code, merged, end, config.segments, context, marked, known)
            colors.index_copy_(0, hit, fine.segments[0])
            opacity.index_copy_(0, hit, fine.opacity[0])
        return RayColors(colors[None], opacity[None])

    def _chosen(self, mask: Tensor) -> Tensor:
        """[n] int64 places where a mask [N] holds; on CUDA their number is waited for."""
        order, count = ops.compact_rays(mask, backend=self.backend)
        return order[: int(count)].long()

    def of_chosen(self, rays: Rays, code: Tensor, chosen: Tensor) -> RayColors:
        """See `RayField`; frame by frame, since the layers are efficient for many samples a code."""
        if rays.origins.shape[1] == 1:
            return super().of_chosen(rays, code, chosen)
        return self.frame_by_frame(rays, code, chosen)

    @property
    def macs(self) -> int:
        """Multiply-adds a ray, weights only, without what is paid once a frame (code) or a ray (view)."""
        return self.macs_per_sample * (2 * self.config.coarse + self.config.fine)

    @property
    def macs_per_sample(self) -> int:
        """The same a sample."""
        config = self.config
        layers = [m for m in self.fine.modules() if isinstance(m, nn.Linear)]
        sample = sum(layer.in_features * layer.out_features for layer in layers)
        framed = [m for m in self.fine.modules() if isinstance(m, FrameLinear)]
        sample -= sum(config.conditions.code_dim * layer.linear.out_features for layer in framed)
        sample -= frequency_dim(3, config.direction_frequencies) * (config.width // 2)
        return sample
