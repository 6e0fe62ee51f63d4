"""Small heads and avatars of HeadNeRF, untrained, and clips that drive them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from nldf_engine.audio import FrontendConfig
from nldf_engine.avatar import Avatar
from nldf_engine.geometry.cameras import Camera
from nldf_engine.rendering.fields import Bounds, Conditions
from nldf_engine.rendering.layer import View
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.systems.common.conditions import ConditionConfig
from nldf_engine.systems.common.torso import TorsoPlate
from nldf_engine.systems.headnerf.codes import CodeSizes
from nldf_engine.systems.headnerf.model import HeadNeRF, HeadNeRFConfig
from nldf_engine.systems.headnerf.neural import RendererSizes
from nldf_engine.systems.headnerf.volume import VolumeSizes

SIZES = CodeSizes(5, 7, 4, 3, 6)
CONDITIONS = ConditionConfig(motion=4, upper=2, speakers=2)


def config(size: int = 32, stages: int = 2, **changes: Any) -> HeadNeRFConfig:
    given = {"conditions": CONDITIONS, "codes": SIZES} | changes
    volume = VolumeSizes(width=16, depth=3, skip=1, frequencies=3, samples=6, features=12)
    return HeadNeRFConfig(
        Bounds(0.6, 1.0), size=size, volume=volume, renderer=RendererSizes(stages, 3, 8), **given
    )


def small_head(size: int = 32, stages: int = 2, **changes: Any) -> HeadNeRF:
    """A head whose rays in the middle of the picture may meet it, with visible differences between codes."""
    torch.manual_seed(0)
    head = HeadNeRF(config(size, stages, **changes))
    head.region.clear()
    head.region.occupancy[28:68, 28:68] = 1
    for skip in head.field.renderer.skips:
        skip.weight.data.mul_(4)
    return head.eval()


def poses_of(frames: int) -> torch.Tensor:
    """[F, 4, 4] of a camera 0.8 m in front of the face that sways."""
    poses = torch.eye(4).repeat(frames, 1, 1)
    poses[:, 2, 3] = -0.8
    poses[:, 0, 3] = 0.02 * torch.sin(torch.arange(frames) / 3)
    return poses


def camera(width: int = 32, height: int | None = None) -> Camera:
    height = height or width
    return Camera(width, height, 1.9 * width, 1.9 * width, width / 2, height / 2)


def view(width: int = 32, height: int | None = None) -> View:
    return View(camera(width, height), poses_of(1)[0], torch.eye(3)[:2])


def clip(frames: int = 20, **tracks: torch.Tensor) -> Conditions:
    generator = torch.Generator().manual_seed(2)
    audio = torch.randn(frames, 16, 29, generator=generator)
    given = {
        "motion": torch.randn(frames, 4, generator=generator),
        "upper": torch.randn(frames, 2, generator=generator),
    }
    return Conditions(audio, torch.full((frames,), 0.28), **(given | tracks))


def small_avatar(frames: int = 40, **changes: Any) -> Avatar:
    """An untrained avatar of two speakers with a torso."""
    head = small_head(**changes)
    for driver in (head.driver.identity, head.driver.albedo):
        driver.table.data = driver.table.data.half().float()  # as avatars keep tables
    torso = TorsoPlate(32, 32)
    torso.color.uniform_()
    torso.alpha[24:] = 1
    torso.present.fill_(True)
    background = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    upper = torch.zeros(frames, 2)
    return Avatar(
        Portrait(head, torso).eval(), camera(), FrontendConfig(), background, poses_of(frames),
        torch.full((frames,), 0.28), {"note": "test"}, upper=upper,
    )  # fmt: skip
