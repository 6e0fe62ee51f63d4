"""Pictures with opacity, and how a frame is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from nldf_engine import ops
from nldf_engine.geometry.cameras import Camera
from nldf_engine.rendering.fields import Rays


@dataclass(frozen=True)
class Layer:
    """A picture with opacity: premultiplied color [H, W, 3] and alpha [H, W], float32 in [0, 1]."""

    color: Tensor
    alpha: Tensor

    def over(self, under: Tensor) -> Tensor:
        """[H, W, 3]: this layer in front of an opaque picture."""
        return self.color + (1 - self.alpha[..., None]) * under

    def over_layer(self, under: Layer) -> Layer:
        """This layer in front of another one."""
        return Layer(self.over(under.color), self.alpha + (1 - self.alpha) * under.alpha)


@dataclass(frozen=True)
class View:
    """How one frame is looked at.

    Args:
        camera: of the head; its size is the frame's.
        pose: [4, 4] float32, camera to head.
        motion: [2, 3] float32, the torso's: plate to frame, in units of the frame's width.
    """

    camera: Camera
    pose: Tensor
    motion: Tensor

    def pixels(self) -> Tensor:
        """[H * W, 2] pixel centres on the pose's device; shared, not to be written to."""
        return pixel_centres(self.camera, self.pose.device)

    def points(self) -> Tensor:
        """[H * W, 2] pixel centres in units of the frame's width."""
        return self.pixels() / self.camera.width


@dataclass(frozen=True)
class Views:
    """How F frames of one size are looked at.

    Args:
        intrinsics: [F, 4] float32 fx, fy, cx, cy of the head's cameras, in pixels.
        poses: [F, 4, 4] float32, camera to head.
        motions: [F, 2, 3] float32, the torso's: plate to frame, in units of the frame's width.
    """

    intrinsics: Tensor
    poses: Tensor
    motions: Tensor

    @classmethod
    def of(cls, view: View) -> Views:
        """A single frame's."""
        return cls(intrinsics_of(view.camera, view.pose.device)[None], view.pose[None], view.motion[None])

    def torso_motions(self) -> Tensor:
        """[F, 6]: a frame's points p are the plate's inverse @ (p - shift); the inverse, then the shift."""
        # inv_ex does not check the result, which would synchronise with the device.
        inverse = torch.linalg.inv_ex(self.motions[:, :, :2]).inverse
        return torch.cat([inverse.flatten(1), self.motions[:, :, 2]], 1)


@lru_cache(maxsize=16)
def intrinsics_of(camera: Camera, device: torch.device) -> Tensor:
    """[4] fx, fy, cx, cy of a camera, made once for a device: bringing them there waits for it. Not to be
    written to."""
    with torch.inference_mode(False):
        return camera.intrinsics(device)


def pixel_centres(camera: Camera, device: torch.device) -> Tensor:
    """[H * W, 2] x, y of a camera's pixel centres, made once for a size and device."""
    return _centres(camera.width, camera.height, device)


@lru_cache(maxsize=4)
def _centres(width: int, height: int, device: torch.device) -> Tensor:
    # Kept between calls, so it must be usable outside of inference mode as well.
    with torch.inference_mode(False):
        return Camera(width, height, 1.0, 1.0, 0.0, 0.0).pixels(device)


def frame_rays(camera: Camera, pose: Tensor, pixels: Tensor, backend: str = "native") -> Rays:
    """Rays through `pixels` [F, P, 2] (x, y in pixels) of frames with `pose` [F, 4, 4]."""
    intrinsics = intrinsics_of(camera, pose.device).expand(len(pose), 4).contiguous()
    both = ops.generate_rays(pose.contiguous(), intrinsics, pixels.contiguous(), backend=backend)
    return Rays(*both, pose[:, :3, 2])


def resized(layer: Layer, height: int, width: int) -> Layer:
    """The layer at another size: bilinear, averaged over where it shrinks."""
    both = torch.cat([layer.color, layer.alpha[..., None]], -1).permute(2, 0, 1)[None]
    shrinks = height < layer.alpha.shape[0]
    both = F.interpolate(both, (height, width), mode="bilinear", align_corners=False, antialias=shrinks)
    color, alpha = both[0].permute(1, 2, 0).split([3, 1], -1)
    return Layer(color.contiguous(), alpha[..., 0].contiguous())


def straight(layer: Layer) -> Tensor:
    """[H, W, 4]: straight (not premultiplied) colour and alpha."""
    alpha = layer.alpha.clamp(0, 1)[..., None]
    return torch.cat([torch.where(alpha > 1 / 512, layer.color / alpha.clamp_min(1 / 512), 0.0), alpha], -1)


def to_uint8(picture: Tensor, out: Tensor | None = None) -> Tensor:
    """Float [0, 1] to uint8, clamped and rounded to the nearest; into `out`, on any device, where given."""
    levels = (picture * 255).round_().clamp_(0, 255)
    if out is None:
        return levels.to(torch.uint8)
    # Off the device as bytes, a quarter of the floats.
    return out.copy_(levels if levels.device == out.device else levels.to(torch.uint8))
