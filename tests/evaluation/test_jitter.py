"""Jitter and flicker, against closed forms."""

import math

import numpy as np
import pytest

from nldf_engine.evaluation.metrics.flicker import Flicker, still_region
from nldf_engine.evaluation.metrics.jitter import head_jitter, jitter_scores, mouth_jitter
from nldf_engine.geometry.cameras import Camera
from nldf_engine.geometry.face_mesh import RIGID

CAMERA = Camera(256, 256, 500.0, 500.0, 128.0, 128.0)


def turning_head(frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Poses [T, 4, 4] of a head that turns and shifts, and its landmarks [T, 478, 2] in pixels at 512.

    Projected by a pinhole written out here, apart from the code under test.
    """
    shape = np.random.default_rng(0).uniform(-0.08, 0.08, (478, 3))
    poses, seen = np.tile(np.eye(4), (frames, 1, 1)), np.empty((frames, 478, 2))
    for t in range(frames):
        angle = 0.3 * math.sin(t / 3)
        turn = np.array(
            [[math.cos(angle), 0, math.sin(angle)], [0, 1, 0], [-math.sin(angle), 0, math.cos(angle)]]
        )
        place = np.array([0.02 * math.cos(t / 2), 0.01, 0.7])
        seen_from = shape @ turn.T + place  # head to camera
        seen[t] = 2 * (500 * seen_from[:, :2] / seen_from[:, 2:] + 128)
        poses[t, :3, :3], poses[t, :3, 3] = turn.T, -turn.T @ place
    return poses, seen


def test_a_sinusoid_beside_the_pose_gives_its_closed_form() -> None:
    """A head that shakes by A px with a period of P frames beside its pose has 4 A sin^2(pi/P) / sqrt 2."""
    poses, seen = turning_head(240)
    assert head_jitter(seen, poses, CAMERA) == pytest.approx(0, abs=1e-3)
    for amplitude, period in ((0.5, 4), (2.0, 12)):
        shaken = seen.copy()
        shaken[..., 0] += amplitude * np.sin(2 * math.pi * np.arange(240) / period + 0.4)[:, None]
        want = 4 * amplitude * math.sin(math.pi / period) ** 2 / math.sqrt(2)
        assert head_jitter(shaken, poses, CAMERA) == pytest.approx(want, rel=0.01)
        scores = jitter_scores(shaken + 0.0, seen + (shaken - seen) / 4, poses, CAMERA)
        assert scores.jitter_ratio == pytest.approx(4, rel=0.02) and not scores.reason


def test_a_lively_pose_is_taken_out_and_a_wrong_one_is_not() -> None:
    """The head's own motion counts nothing under its poses, and in full under poses that stand still."""
    poses, seen = turning_head(60)
    wrong = np.repeat(poses[:1], 60, 0)
    lively = head_jitter(seen, wrong, CAMERA)
    assert lively is not None and lively > 3 and (head_jitter(seen, poses, CAMERA) or 0) < 1e-3


def test_lost_faces_are_left_out_and_too_few_give_none() -> None:
    """Frames without a face take their neighbours' differences with them; two frames have no figure."""
    poses, seen = turning_head(90)
    seen[:, list(RIGID), 1] += np.where(np.arange(90) % 2, 1.0, -1.0)[:, None]  # second difference 4
    seen[10] = seen[40:43] = np.nan
    assert head_jitter(seen, poses, CAMERA) == pytest.approx(4, rel=0.01)
    scores = jitter_scores(seen[:2], seen[:2], poses[:2], CAMERA)
    assert scores.jitter is None and scores.jitter_ratio is None and "3 frames" in scores.reason
    with pytest.raises(ValueError, match="poses: expected"):
        head_jitter(seen, poses[:5], CAMERA)


def test_the_mouth_counts_about_its_centre() -> None:
    """A mouth that jumps as a whole counts nothing; one landmark of forty that jumps counts its share."""
    still = np.zeros((20, 478, 2))
    jump = np.where(np.arange(20) % 2, 1.0, -1.0)
    assert mouth_jitter(still + jump[:, None, None]) == pytest.approx(0, abs=1e-12)
    still[:, 13, 0] += jump
    assert mouth_jitter(still) == pytest.approx(4 * math.sqrt(1 / 40 - 1 / 1600), rel=1e-9)


def test_flicker_sees_the_still_region_alone() -> None:
    """A ramp counts nothing, an alternation of +-A counts 4 A, and where the person is does not count."""
    labels = np.zeros((3, 8, 8), np.uint8)
    labels[1, 3, 3] = 1
    mask = still_region(labels, 2)
    assert (~mask).sum() == 13  # the diamond of radius two
    calm, restless = Flicker(mask), Flicker(mask)
    for t in range(30):
        frame = np.full((8, 8, 3), 2 * t, np.uint8)
        frame[3, 3] = 255 * (t % 2)
        calm.add(frame)
        restless.add(np.full((8, 8, 3), 100 + (3 if t % 2 else -3), np.uint8))
    assert calm.value == 0 and restless.value == pytest.approx(12)
    assert Flicker(mask).value is None
