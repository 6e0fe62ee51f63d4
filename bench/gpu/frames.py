"""Whole frames and training on the device: what users get, end to end, beside what a kernel could give.

Frames a second of `Engine.render(...)` without an encoder, in float32 and in the precision that "auto" takes,
with the PSNR of the two; and how much of the matrix product's rate the network's arithmetic comes to.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bench.gpu import rows
from nldf_engine.apps.cli.bundled import bundled_avatar
from nldf_engine.audio import FrontendConfig
from nldf_engine.avatar import Avatar
from nldf_engine.engine import Engine
from nldf_engine.geometry.cameras import Camera
from nldf_engine.rendering.fields import Bounds
from nldf_engine.rendering.heads import RayHead
from nldf_engine.rendering.layer import frame_rays, pixel_centres
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.rendering.region import HeadRegion
from nldf_engine.systems.common.torso import TorsoPlate
from nldf_engine.systems.nldf.model import LightField, LightFieldConfig
from nldf_engine.training import TrainConfig, train

WARM_UP = 16
HEAD = slice(25, 60), slice(29, 66)  # of the region's cells: about 45 % of a frame, as a speaker's head


def untrained_light_field(side: int, frames: int) -> Avatar:
    """NLDF-88 of the paper's size, with random weights, before a camera that sways a little."""
    torch.manual_seed(0)
    field, torso, region = (
        LightField(LightFieldConfig(Bounds(0.6, 1.0))),
        TorsoPlate(side, side),
        HeadRegion(),
    )
    torso.color.uniform_()
    torso.alpha[side // 2 :] = 1
    torso.present.fill_(True)
    region.clear()
    region.occupancy[HEAD] = 1
    poses = torch.eye(4).repeat(frames, 1, 1)
    poses[:, 2, 3] = -0.8
    poses[:, 0, 3] = 0.02 * torch.sin(torch.arange(frames) / 8)
    camera = Camera(side, side, 1.9 * side, 1.9 * side, side / 2, side / 2)
    behind = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
    portrait = Portrait(RayHead(field, region), torso).eval()
    return Avatar(
        portrait, camera, FrontendConfig(), behind, poses, torch.full((frames,), 0.28), {"note": "untrained"}
    )


def rays_of_head(engine: Engine, side: int) -> int:
    """How many rays of the first frame are in the head's region."""
    camera, head = engine.renderer.camera(side), engine.renderer.portrait.head
    pose = engine.avatar.poses[:1].to(engine.device)
    rays = frame_rays(camera, pose, pixel_centres(camera, pose.device)[None])
    return int(head.region.select(rays.origins, rays.directions).sum())


@dataclass(frozen=True)
class Drawn:
    """What was drawn: frames a second, how many were timed, the first eight [8, H, W, 3], and whether in one
    pass."""

    rate: float
    frames: int
    first: np.ndarray
    in_one_pass: bool


def draw(engine: Engine, side: int, count: int) -> Drawn:
    """Draws a clip of `count` frames behind some for warm-up."""
    shape = engine.renderer.portrait.head.config.conditions
    made = np.random.default_rng(0).standard_normal((WARM_UP + count, shape.audio_window, shape.audio_dim))
    frames = engine.render((0.5 * made).astype(np.float32), size=side).frames
    first, begun = [], 0.0
    for number, frame in enumerate(frames.reused(5)):
        if number < 8:
            first.append(frame.copy())
        if number == WARM_UP - 1:
            begun = time.perf_counter()
    rate = count / (time.perf_counter() - begun)
    return Drawn(rate, count, np.stack(first), frames.scene.one_pass is not None)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """dB between pictures of bytes."""
    error = float(np.square(a.astype(float) - b).mean())
    return math.inf if not error else 10 * math.log10(255**2 / error)


AVATARS: dict[str, Callable[[int], Avatar]] = {
    "nldf-fast": lambda side: Avatar.load(bundled_avatar()),
    "nldf-88": lambda side: untrained_light_field(side, 64),
}


def frames(
    file: str, matmul: str, name: str, device: str = "cuda", seconds: str = "3", sides: str = "512,256"
) -> None:
    """Appends a row for every size and precision of an avatar.

    Args:
        file: of the rows.
        matmul: file with the rate of the matrix product, beside which the network's is set, where there is
            one.
        name: one of AVATARS.
        device: where it runs.
        seconds: about how long each may take.
        sides: of the pictures.
    """
    known = json.loads(Path(matmul).read_text()) if Path(matmul).is_file() else {}
    ceiling = known.get("float16_tflops")
    for side in map(int, sides.split(",")):
        avatar, wanted = AVATARS[name](side), None
        for precision in ("fp32", "auto"):
            engine = Engine(avatar, torch.device(device), precision=precision)
            count = int(min(2000, max(4, float(seconds) * draw(engine, side, 4).rate)))
            drawn, said = draw(engine, side, count), engine.describe()
            tflops = 2e-12 * said["macs_per_ray"] * rays_of_head(engine, side) * drawn.rate
            rows.add(file, {
                "part": "frames", "avatar": name, "side": side, "asked": precision,
                "precision": said["precision"], "kernel": said["kernel"], "in_one_pass": drawn.in_one_pass,
                "frames": drawn.frames, "frames_per_second": drawn.rate, "head_tflops": tflops,
                "share_of_matmul": tflops / ceiling if ceiling else None,
                "psnr_to_fp32": None if wanted is None else psnr(drawn.first, wanted),
            })  # fmt: skip
            wanted = drawn.first if wanted is None else wanted


def training(file: str, dataset: str, folder: str, preset: str = "nldf-fast", **budget: str) -> None:
    """Trains on a prepared dataset and appends a row: steps a second and the validation's PSNR.

    Audio features are of the "mel" front-end, which needs no weights, whatever the dataset was prepared with.

    Args:
        file: of the rows.
        dataset: the folder that was carried along.
        folder: for the avatar.
        preset: which.
        budget: minutes=..., or steps=..., device=..., graphs=off, matmul=fp32, and settings of the recipe.
    """
    minutes, steps = budget.pop("minutes", None), budget.pop("steps", None)
    graphs, matmul = budget.pop("graphs", "on") == "on", budget.pop("matmul", "tf32")
    config = TrainConfig(
        minutes=None if minutes is None else float(minutes), steps=None if steps is None else int(steps),
        device=budget.pop("device", "cuda"), graphs=graphs, matmul=matmul, overrides=budget,
        audio_frontend="mel",
    )  # fmt: skip
    begun = time.perf_counter()
    result = train(preset, dataset, Path(folder) / preset, config)
    rows.add(file, {
        "part": "training", "preset": preset, "graphs": graphs, "matmul": matmul, "steps": result.steps,
        "seconds": result.seconds,
        "steps_per_second": result.steps / max(result.seconds, 1e-9),
        "wall_seconds": time.perf_counter() - begun,
        "validation_psnr": result.validation_psnr,
    })  # fmt: skip
