"""Small avatars made on the spot, for tests that need one and not a trained one."""

import numpy as np
import torch

from nldf_engine.audio import FrontendConfig
from nldf_engine.avatar import Avatar
from nldf_engine.geometry.cameras import Camera
from nldf_engine.rendering.fields import Bounds
from nldf_engine.rendering.heads import RayHead
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.rendering.region import HeadRegion
from nldf_engine.systems.adnerf.model import RadianceField, RadianceFieldConfig
from nldf_engine.systems.common.torso import TorsoPlate
from nldf_engine.systems.nldf.model import LightField, LightFieldConfig


def tiny_avatar(system: str = "nldf", size: int = 24, frames: int = 40) -> Avatar:
    """An untrained avatar with a torso, looking at a camera 0.8 m away that sways a little."""
    torch.manual_seed(0)
    bounds = Bounds(0.6, 1.0)
    if system == "nldf":
        field = LightField(LightFieldConfig(bounds, width=16, depth=4, points=4, frequencies=2))
    else:
        field = RadianceField(
            RadianceFieldConfig(bounds, width=16, depth=3, skip=1, view_layers=1, coarse=8, fine=8)
        )
    torso = TorsoPlate(size, size)
    torso.color.uniform_()
    torso.alpha[size // 2 :] = 1
    torso.present.fill_(True)
    region = HeadRegion()
    region.clear()
    region.occupancy[30:66, 30:66] = 1
    poses = torch.eye(4).repeat(frames, 1, 1)
    poses[:, 2, 3] = -0.8
    poses[:, 0, 3] = 0.02 * torch.sin(torch.arange(frames) / 8)
    background = np.random.default_rng(0).integers(0, 255, (size, size, 3), dtype=np.uint8)
    camera = Camera(size, size, 1.9 * size, 1.9 * size, size / 2, size / 2)
    eyes = torch.full((frames,), 0.28)
    portrait = Portrait(RayHead(field, region), torso).eval()
    return Avatar(portrait, camera, FrontendConfig(), background, poses, eyes, {"note": "test"})
