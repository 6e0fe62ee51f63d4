"""HeadNeRF: a head as a volume of features, rendered to a small map that a 2-D network makes a picture of.

The whole picture is drawn at one size, `HeadNeRFConfig.size`; frames of other sizes are that picture,
resized. Rays of the map that can't meet the head are not evaluated: what they show is one learned vector.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from nldf_engine.base.timing import stage
from nldf_engine.geometry.cameras import Camera
from nldf_engine.rendering.fields import Bounds
from nldf_engine.rendering.heads import Head
from nldf_engine.rendering.layer import Layer, View, frame_rays, pixel_centres, resized
from nldf_engine.rendering.region import HeadRegion
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.headnerf.codes import CodeSizes, FaceDriver
from nldf_engine.systems.headnerf.neural import NeuralRenderer, RendererSizes
from nldf_engine.systems.headnerf.volume import Volume, VolumeSizes

LARGEST_PICTURE = 4096


def check_picture(name: str, side: int, stages: int) -> None:
    """Checks that the upsampling stages can reach a side of a picture.

    Raises:
        ValueError: they can't.
    """
    step = 1 << stages
    if side % step or not step <= side <= LARGEST_PICTURE:
        near = min(max(step, round(side / step) * step), LARGEST_PICTURE)
        raise ValueError(
            f"{name}: {stages} upsampling stages reach multiples of {step} pixels up to {LARGEST_PICTURE}, "
            f"got {side}; train at another size (nearest {name}: {near}) or crop the video"
        )


@dataclass(frozen=True)
class HeadNeRFConfig:
    """A HeadNeRF. The defaults are the paper's sizes where it says any, HeadNeRF's (Hong et al. 2022)
    elsewhere.

    Args:
        bounds: depths between which the head is; its radius scales points.
        conditions: what drives the expression, and how many speakers there are.
        size: width of the pictures that it draws, pixels; a multiple of 2^stages.
        codes, volume, renderer: see there.

    Raises:
        ValueError: a size that the stages can't reach.
    """

    bounds: Bounds
    conditions: ConditionConfig = field(default_factory=ConditionConfig)
    size: int = 512
    codes: CodeSizes = field(default_factory=CodeSizes)
    volume: VolumeSizes = field(default_factory=VolumeSizes)
    renderer: RendererSizes = field(default_factory=RendererSizes)

    def __post_init__(self) -> None:
        check_picture("size", self.size, self.renderer.stages)


class FeatureField(nn.Module):
    """What speakers of one run share: codes, volume, 2-D renderer; and what an empty ray shows.

    Args:
        config: all sizes.
    """

    def __init__(self, config: HeadNeRFConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = FaceDriver(config.conditions, config.codes)
        volume = config.volume
        self.volume = Volume(volume, config.codes, config.bounds.radius)
        self.renderer = NeuralRenderer(volume.features, config.renderer)
        self.empty = nn.Parameter(torch.zeros(volume.features))


class HeadNeRF(Head):
    """The head of headnerf section 3.2.

    Args:
        config: all sizes.
        network: shared with other speakers of a run; a new one where None.
        region: the rays that may meet the head; all of a square about it where None.

    In precision "fp16", on CUDA, volume and 2-D renderer compute in half precision; compositing stays in
    single.
    """

    system = "headnerf"
    precisions = ("fp16",)

    def __init__(
        self, config: HeadNeRFConfig, network: FeatureField | None = None, region: HeadRegion | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.field = network or FeatureField(config)
        self.region = region or HeadRegion()

    @property
    def driver(self) -> FaceDriver:
        """See `Head`."""
        return self.field.encoder

    @property
    def macs(self) -> int:
        """Multiply-adds for each ray of the feature map, weights only: volume and 2-D renderer."""
        return self.field.volume.macs + self.field.renderer.macs

    def map_camera(self, camera: Camera) -> Camera:
        """The camera of the feature map, for one whose width is `config.size`; a height that the stages do
        not reach is exceeded, and what is too much cut off."""
        step = 1 << self.config.renderer.stages
        width, height = camera.width // step, -(-camera.height // step)
        return Camera(width, height, camera.fx / step, camera.fy / step, camera.cx / step, camera.cy / step)

    def picture(
        self, camera: Camera, poses: Tensor, code: Tensor, noise: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Colour [F, H, W, 3], premultiplied, and opacity [F, H, W] of frames, with gradients.

        Args:
            camera: of width `config.size`.
            poses: [F, 4, 4] camera to head.
            code: [F, C], of the driver.
            noise: draws the samples' places in training.
        """
        with self._half(code):
            color, alpha = self.field.renderer(*self._feature_map(camera, poses, code, noise))
        color, alpha = color[..., : camera.height, :], alpha[..., : camera.height, :]
        return (color * alpha[:, None]).permute(0, 2, 3, 1), alpha

    def _half(self, like: Tensor) -> AbstractContextManager[None]:
        if self.precision == "fp16" and like.device.type == "cuda":
            return torch.autocast("cuda", torch.float16)
        return nullcontext()

    def _feature_map(
        self, camera: Camera, poses: Tensor, code: Tensor, noise: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Map [F, C, h, w] and opacity [F, h, w]."""
        small, frames = self.map_camera(camera), len(poses)
        with stage("rays"):
            pixels = pixel_centres(small, poses.device).expand(frames, -1, 2)
            rays = frame_rays(small, poses, pixels, self.backend)
            # One choice for all frames, so that each has as many rays: neighbours look alike.
            chosen = self.region.select(rays.origins, rays.directions).any(0).nonzero()[:, 0]
            kept = rays.select(chosen)
        with stage("network"):
            features, opacity = self.field.volume(kept, code, noise, self.backend)
            features = features + (1 - opacity)[..., None] * self.field.empty
        empty = self.field.empty.to(features).expand(frames, small.height * small.width, -1)
        features = empty.index_copy(1, chosen, features)
        opacity = opacity.new_zeros(frames, small.height * small.width).index_copy(1, chosen, opacity)
        shape = frames, small.height, small.width
        return features.view(*shape, -1).permute(0, 3, 1, 2), opacity.view(shape)

    @torch.no_grad()
    def draw(self, view: View, code: Tensor, under: Layer | None = None) -> Layer:
        """See `Head`. A view of another width than `config.size` gets the picture resized."""
        wanted = view.camera
        own = wanted if wanted.width == self.config.size else wanted.scaled(self.config.size)
        color, alpha = self.picture(own, view.pose[None], code[None])
        with stage("composite"):
            layer = Layer(color[0], alpha[0])
            if own is not wanted:
                layer = resized(layer, wanted.height, wanted.width)
            return layer if under is None else layer.over_layer(under)
