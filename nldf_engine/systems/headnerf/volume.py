"""The volume: density and features of points under a frame's codes, rendered to a small feature map.

D(x, v, C, F_lip) = (sigma(x), M(x)), headnerf eq. (1). The camera enters by the points and directions of its
rays. The order of inputs is HeadNeRF's: expression, identity and lips before the density, albedo and
illumination behind it, so that neither colour nor light can move the face.

Shapes: F frames, N rays of each, S samples, C features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nldf_engine import ops
from nldf_engine.nn.frequency import encode_frequencies, frequency_dim
from nldf_engine.nn.linear import FrameLinear
from nldf_engine.rendering.fields import Rays
from nldf_engine.rendering.region import plane_points
from nldf_engine.rendering.volume import slab_distances
from nldf_engine.systems.headnerf.codes import CodeSizes

# Shapes of people differ by what is coarse.
WARP_FREQUENCIES = 2
# Metres of one unit of the places that light depends on, and how far from the axis it goes on changing.
LIGHT_SCALE, LIGHT_REACH = 0.1, 2.0
SMALL = 0.1
# Sizes from a file that no weight bears out are a mistake beyond these.
MOST_SAMPLES, MOST_LAYERS = 1024, 256


@dataclass(frozen=True)
class VolumeSizes:
    """Sizes of the volume's network and how it is sampled. The defaults are HeadNeRF's.

    Args:
        width, depth: of the trunk; the encoded point enters again behind layer `skip`.
        skip: see there.
        frequencies: L of the encoded point.
        view_frequencies: of the encoded direction.
        samples: S, even strata of a ray between the planes `slab`.
        features: C.
        slab: (front, back), z in metres of head space between which the head is; the face looks towards -z.
        density_scale: density = scale * softplus(raw - 1) per metre.

    Raises:
        ValueError: a size below one or beyond what can be meant, planes in the wrong order, or a number that
            is not finite.
    """

    width: int = 384
    depth: int = 8
    skip: int = 4
    frequencies: int = 10
    view_frequencies: int = 1
    samples: int = 64
    features: int = 256
    slab: tuple[float, float] = (-0.15, 0.13)
    density_scale: float = 40.0

    def __post_init__(self) -> None:
        if min(self.width // 2, self.depth, self.samples, self.features) < 1 or self.density_scale <= 0:
            raise ValueError(f"VolumeSizes: expected positive sizes and a width of at least 2, got {self}")
        if self.samples > MOST_SAMPLES or self.depth > MOST_LAYERS:
            raise ValueError(
                f"VolumeSizes: expected at most {MOST_SAMPLES} samples and {MOST_LAYERS} layers, got {self}"
            )
        if not all(math.isfinite(number) for number in (self.density_scale, *self.slab)):
            raise ValueError(f"VolumeSizes: expected finite numbers, got {self}")
        if len(self.slab) != 2 or not self.slab[0] < self.slab[1]:
            raise ValueError(f"VolumeSizes: slab must be (front, back) with front < back, got {self.slab}")


class Volume(nn.Module):
    """The network of the volume.

    Args:
        sizes: of the network.
        codes: of a frame, in their order.
        radius: metres, by which points are divided before they are encoded.
    """

    def __init__(self, sizes: VolumeSizes, codes: CodeSizes, radius: float) -> None:
        super().__init__()
        self.sizes, self.radius = sizes, radius
        self.parts = [codes.expression + codes.lip, codes.identity, codes.albedo + codes.illumination]
        face, identity, appearance = self.parts
        points, views = frequency_dim(3, sizes.frequencies), frequency_dim(3, sizes.view_frequencies)
        width, half = sizes.width, sizes.width // 2
        coarse = frequency_dim(3, min(sizes.frequencies, WARP_FREQUENCIES))
        self.warp = FrameLinear(coarse, identity, 0, half)
        self.shift = nn.Linear(half, 3)
        self.trunk = nn.ModuleList()
        for layer in range(sizes.depth):
            if layer in (0, sizes.skip + 1):
                self.trunk.append(FrameLinear(points, face, width if layer else 0, width))
            else:
                self.trunk.append(nn.Linear(width, width))
        self.solid = FrameLinear(width, identity, 0, half)
        self.density = nn.Linear(half, 1)
        self.feature = FrameLinear(width, appearance, 0, half)
        self.view = nn.Linear(views, half, bias=False)
        self.out = nn.Linear(half, sizes.features)
        self.light = nn.Linear(codes.illumination, 2 * sizes.features, bias=False)
        self._begin_alike()

    @torch.no_grad()
    def _begin_alike(self) -> None:
        """Everyone begins with nearly one shape and every frame with nearly one face: these codes are as
        large as points are, and random functions of them would have to be unlearned before the mean face is
        learned."""
        self.shift.weight.mul_(SMALL)
        self.shift.bias.zero_()
        self.light.weight.zero_()
        for layer in self.modules():
            if isinstance(layer, FrameLinear) and layer is not self.feature:
                layer.weight.split(layer.sizes, 1)[1].mul_(SMALL)

    @property
    def macs(self) -> int:
        """Multiply-adds a ray, weights only, without what is paid once a frame."""
        layers = sum(layer.weight.numel() for layer in self.modules() if isinstance(layer, nn.Linear))
        frame = sum(
            layer.sizes[1] * layer.weight.shape[0]
            for layer in self.modules()
            if isinstance(layer, FrameLinear)
        )
        ray = self.out.weight.numel() + self.view.weight.numel()
        return self.sizes.samples * (layers - frame - ray - self.light.weight.numel()) + ray

    def evaluate(self, points: Tensor, views: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
        """Density [F, N, S] per metre and hidden features [F, N, S, width / 2], of which `out` makes M(x).

        Args:
            points: [F, N, S, 3] metres.
            views: [F, N, 3] unit directions.
            code: [F, C].
        """
        frames, rays, samples, _ = points.shape
        face, identity, appearance = code.split(self.parts, 1)
        places = points.reshape(frames, -1, 3) / self.radius
        coarse = encode_frequencies(places, min(self.sizes.frequencies, WARP_FREQUENCIES))
        places = places + self.shift(F.relu(self.warp(coarse, identity), inplace=True))
        encoded = encode_frequencies(places, self.sizes.frequencies)
        hidden = encoded
        for number, layer in enumerate(self.trunk):
            if isinstance(layer, FrameLinear):
                hidden = F.relu(layer(encoded, face, hidden if number else None), inplace=True)
            else:
                hidden = F.relu(layer(hidden), inplace=True)
        solid = F.relu(self.solid(hidden, identity), inplace=True)
        raw = self.density(solid).view(frames, rays, samples)
        branch = self.feature(hidden, appearance).view(frames, rays, samples, self.out.in_features)
        seen = self.view(encode_frequencies(views, self.sizes.view_frequencies))
        branch = F.relu(branch + seen[:, :, None], inplace=True)
        return self.sizes.density_scale * F.softplus(raw - 1), branch

    def forward(
        self, rays: Rays, code: Tensor, noise: torch.Generator | None = None, backend: str = "native"
    ) -> tuple[Tensor, Tensor]:
        """Composited features [F, N, C] and opacity [F, N] of rays [F, N] under codes [F, C].

        Args:
            rays: through the feature map's pixels.
            code: [F, C], of the driver.
            noise: draws the places of the samples in training.
            backend: "native" or "reference".
        """
        frames, count, _ = rays.origins.shape
        sizes = self.sizes
        distance, length = slab_distances(rays, sizes.slab, sizes.samples, noise)
        points = rays.origins[:, :, None] + distance[..., None] * rays.directions[:, :, None]
        sigma, hidden = self.evaluate(points, rays.directions, code)
        flat = (frames * count, sizes.samples)
        composited, opacity = ops.composite_segments(
            sigma.reshape(flat).float(), hidden.reshape(*flat, self.out.in_features).float(),
            length.reshape(flat).contiguous(), segments=1, backend=backend,
        )  # fmt: skip
        hidden = composited[:, 0]
        # The last layer is linear: of the composited features it makes what compositing its outputs would,
        # once a ray and not once a sample.
        features = F.linear(hidden, self.out.weight) + opacity[:, None] * self.out.bias
        shape = frames, count
        features, opacity = features.view(*shape, self.out.out_features), opacity.view(shape)
        return features + opacity[..., None] * self.lit(rays, code), opacity

    def lit(self, rays: Rays, code: Tensor) -> Tensor:
        """[F, N, C]: what light adds to the features across a face, linear in the place.

        A light that falls from one side brightens by the place of a point. A network of places and codes
        alone would have to find that product; as features it is one product a ray.

        Args:
            rays: [F, N].
            code: [F, C], of the driver.
        """
        illumination = code[:, -self.light.in_features :]
        across, down = self.light(illumination)[:, None].chunk(2, -1)
        places = plane_points(rays.origins, rays.directions) / LIGHT_SCALE
        places = places.nan_to_num(0.0).clamp(-LIGHT_REACH, LIGHT_REACH)
        return places[..., :1] * across + places[..., 1:] * down
