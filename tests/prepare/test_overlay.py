"""Writing burnt into the picture, drawn on synthetic speakers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pytest

from nldf_engine.prepare.overlay import Captions, caption_problems
from nldf_engine.synthetic import Speaker, SyntheticConfig
from nldf_engine.synthetic.make import controls_at, plan, torso_affine

FPS, EVERY = 5, 5  # pictures a second that are looked at, of 25
SIDE = 256


def look_for_captions(frames: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> dict[str, Any]:
    captions = Captions(FPS)
    passed = list(captions.watch(frames, labels))
    assert len(passed) == len(labels) and np.array_equal(passed, labels)
    return captions.found()


Pictures = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(scope="module", params=[0, 1])
def speaker(request: pytest.FixtureRequest) -> Pictures:
    """Frames and labels of eight seconds, five a second, and the torso's motion [T, 2, 3] (pixels)."""
    config = SyntheticConfig(seconds=8, size=SIDE, seed=request.param)
    _, visemes, motion = plan(config)
    renderer = Speaker(config.size, config.palette, config.proportions)
    shown = range(0, config.frames, EVERY)
    made = [renderer.render(controls_at(visemes, motion, k), motion.poses[k], motion.torso[k]) for k in shown]
    moved, _, _ = torso_affine(motion, config)
    return np.stack([m.image for m in made]), np.stack([m.labels for m in made]), moved[::EVERY]


def written(words: str) -> np.ndarray:
    """uint8 [SIDE, SIDE, 2]: a line before the chest, and its rim."""
    layers = []
    for thick in (1, 4):
        layer = np.zeros((SIDE, SIDE), np.uint8)
        cv2.putText(layer, words, (66, 240), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, thick, cv2.LINE_AA)
        layers.append(layer)
    return np.stack(layers, -1)


def burnt(frame: np.ndarray, layers: np.ndarray) -> np.ndarray:
    """The frame with white letters that have a black rim."""
    letters, rim = (layers[..., k : k + 1].astype(np.float32) / 255 for k in (0, 1))
    return ((frame * (1 - rim)) * (1 - letters) + 255 * letters).astype(np.uint8)


def test_a_speaker_without(speaker: Pictures) -> None:
    """Stripes of a jumper, shelves and hair are no writing."""
    frames, labels, _ = speaker
    found = look_for_captions(frames, labels)
    assert found == {"captions": None, "caption_frames": []}
    assert not caption_problems(found, FPS)


@pytest.mark.parametrize("lines", [["BREAKING NEWS"], ["so what we did", "and of course"]])
def test_writing_before_the_chest_is_told(speaker: Pictures, lines: list[str]) -> None:
    """One line that stays, or two that take turns: place and seconds are said."""
    frames, labels, _ = speaker
    drawn = [burnt(frame, written(lines[k // 10 % len(lines)])) for k, frame in enumerate(frames)]
    found = look_for_captions(drawn, labels)
    left, top, right, bottom = found["captions"]
    assert 0.2 < left < right < 0.85 and 0.85 < top < bottom < 1.0
    assert sum(end - begin for begin, end in found["caption_frames"]) >= 10
    (problem,) = caption_problems(found, FPS)
    assert problem.severity == "warning" and "captions" in str(problem) and " s" in str(problem)


def test_writing_that_comes_late(speaker: Pictures) -> None:
    """What is shown in the second half is told of that half only."""
    frames, labels, _ = speaker
    half = len(frames) // 2
    drawn = [burnt(f, written("BREAKING NEWS")) if k >= half else f for k, f in enumerate(frames)]
    found = look_for_captions(drawn, labels)
    assert found["caption_frames"][0][0] >= half


def test_writing_on_the_clothes(speaker: Pictures) -> None:
    """Letters that move with the torso belong to it."""
    frames, labels, moved = speaker
    layers = written("BREAKING NEWS")
    drawn = [burnt(f, cv2.warpAffine(layers, m, (SIDE, SIDE))) for f, m in zip(frames, moved, strict=True)]
    assert look_for_captions(drawn, labels)["captions"] is None


def test_writing_on_who_stands_still(speaker: Pictures) -> None:
    """Nobody can tell what belongs to a torso that never moves, and it does no harm."""
    frames, labels, _ = speaker
    drawn = [burnt(frames[0], written("BREAKING NEWS"))] * 20
    assert look_for_captions(drawn, [labels[0]] * 20)["captions"] is None
