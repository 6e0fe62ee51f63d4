"""From frames to an mp4: rendering and encoding in a pipeline of two threads, against one after the other.

The avatar is an untrained light field (16 layers of 64) with a torso, at 256 x 256; the encoder works on
the same picture sizes and the renderer does the same arithmetic as with a trained one. Before anything is
timed, both files must hold the same frames.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from avatars import tiny_avatar
from nldf_engine.avatar import Avatar
from nldf_engine.engine import Engine
from nldf_engine.engine.clip import PRESET, Clip
from nldf_engine.media.video import VideoWriter, read_frames
from nldf_engine.rendering.fields import Bounds
from nldf_engine.rendering.heads import RayHead
from nldf_engine.rendering.layer import Layer, to_uint8
from nldf_engine.rendering.portrait import Portrait
from nldf_engine.systems.nldf.model import LightField, LightFieldConfig

FRAMES = 12


@pytest.fixture
def engine() -> Engine:
    plain = tiny_avatar(size=256)
    field = LightField(LightFieldConfig(Bounds(0.6, 1.0), width=64, depth=16))
    portrait = Portrait(RayHead(field, plain.portrait.head.region), plain.portrait.torso).eval()
    avatar = Avatar(
        portrait, plain.camera, plain.frontend, plain.background, plain.poses, plain.eye_openness, {}
    )
    return Engine(avatar, torch.device("cpu"))


def features() -> np.ndarray:
    return np.random.default_rng(0).random((FRAMES, 16, 29)).astype(np.float32)


def one_after_the_other(clip: Clip, path: Path) -> None:
    """What `Clip.save` would be without its second thread, each frame in memory of its own."""
    _, height, width, _ = clip.frames.shape
    with VideoWriter(path, width, height, fps=clip.fps, audio=clip.audio, preset=PRESET) as writer:
        for frame in clip.frames:
            writer.write(frame)


def test_saving_in_a_pipeline(race, engine: Engine, tmp_path: Path) -> None:
    clip = engine.render(features())
    in_turn, pipelined = tmp_path / "in_turn.mp4", tmp_path / "pipelined.mp4"
    one_after_the_other(clip, in_turn)
    clip.save(pipelined)
    for a, b in zip(read_frames(in_turn), read_frames(pipelined), strict=True):
        np.testing.assert_array_equal(a, b)
    race(
        {
            "pipelined": lambda: clip.save(pipelined),
            "in turn": lambda: one_after_the_other(clip, in_turn),
        },
        device=torch.device("cpu"),
        units={"pipelined": FRAMES, "in turn": FRAMES},
        unit="frames",
        rounds=10,
    )


def test_compositing_without_layers(race, engine: Engine) -> None:
    """A frame behind its rays' colours: `Portrait.picture` into kept memory, and layers over a background."""
    clip = engine.render(features())
    scene, portrait = clip.frames.scene, engine.renderer.portrait
    drawn = scene.view(0), scene.codes[0]
    canvas, frame = torch.empty_like(scene.background), torch.empty(256, 256, 3, dtype=torch.uint8)
    # What is compared is all but the network, whose colours both ways get for nothing.
    seen = portrait.head.seen(*drawn)
    portrait.head.seen = lambda *_: seen

    def layers() -> torch.Tensor:
        layer: Layer = portrait.layer(*drawn)
        return to_uint8(layer.over(scene.background))

    def picture() -> torch.Tensor:
        return portrait.picture(*drawn, scene.background, out=frame, canvas=canvas)

    with torch.inference_mode():
        assert int((picture().int() - layers().int()).abs().max()) <= 1
        race(
            {"picture": picture, "layers": layers},
            device=torch.device("cpu"),
            units={"picture": 256 * 256, "layers": 256 * 256},
            unit="pixels",
            rounds=40,
        )
