"""The detector behind the lip figures; what needs a real face runs where NLDF_REAL_VIDEO names a video."""

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nldf_engine.base.errors import MissingBackend
from nldf_engine.evaluation.landmark_detector import FaceMesh, detect, landmark_scale
from nldf_engine.evaluation.metrics.lips import lip_scores
from nldf_engine.media.video import frames_at
from nldf_engine.ops import native

REAL_VIDEO = os.environ.get("NLDF_REAL_VIDEO", "")


@pytest.fixture(scope="module")
def real_frames() -> np.ndarray:
    """30 frames of a real face, square and 256 wide."""
    import cv2

    if not Path(REAL_VIDEO).is_file():
        pytest.skip("NLDF_REAL_VIDEO names no video of a talking person")
    frames = itertools.islice(frames_at(REAL_VIDEO), 50, 80)
    return np.stack([cv2.resize(frame, (256, 256), interpolation=cv2.INTER_AREA) for frame in frames])


def test_the_longer_side_becomes_512() -> None:
    """A wide, a tall and a 512 frame scale by their longer side."""
    assert [landmark_scale(*size) for size in ((256, 128), (128, 256), (512, 512))] == [2.0, 2.0, 1.0]


def test_a_frame_without_a_face_has_no_landmarks() -> None:
    """A plain picture gives NaN and is not valid, whatever its size."""
    landmarks, valid = detect(np.full((2, 40, 56, 3), 90, np.uint8))
    assert landmarks.shape == (2, 478, 2) and np.isnan(landmarks).all() and not valid.any()


def test_the_kernels_missing_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the compiled module the error says how to build it."""
    monkeypatch.setattr(native, "_C", None)
    with pytest.raises(MissingBackend, match=r"pip install \."):
        FaceMesh()(np.zeros((8, 8, 3), np.uint8))


def test_an_injected_detector_sees_every_frame_once_and_is_closed(pixel_detector: Any) -> None:
    """`detect` hands the frames over in their order and closes the detector."""
    pixel_detector.closed = 0
    frames = np.zeros((3, 48, 48, 3), np.uint8)
    frames[1, 8:44, 10:38] = 100
    _, valid = detect(frames, pixel_detector())
    assert valid.tolist() == [False, True, False] and pixel_detector.closed == 1


def test_a_real_face_is_found_and_a_blurred_one_agrees(real_frames: np.ndarray) -> None:
    """On a real face: found in all frames, blur moves the lips by under 2 px, half a second by more."""
    import cv2

    real, valid = detect(real_frames)
    blurred, _ = detect(np.stack([cv2.GaussianBlur(frame, (0, 0), 1.0) for frame in real_frames]))
    assert valid.all()
    soft, late = lip_scores(blurred, real), lip_scores(np.roll(real, 12, axis=0), real)
    assert soft["lmd_centred"] < 2 < 1.5 * late["lmd_centred"]
    assert soft["lmd_centred"] < 0.6 * late["lmd_centred"]
    assert soft["lip_correlation"] > 0.8 > late["lip_correlation"]


def test_a_real_face_has_its_landmarks_in_pixels_at_512(real_frames: np.ndarray) -> None:
    """The same face at half the size has the same landmarks to 2 pixels at 512."""
    import cv2

    small = np.stack([cv2.resize(f, (128, 128), interpolation=cv2.INTER_AREA) for f in real_frames[:10]])
    difference = np.linalg.norm(detect(small)[0] - detect(real_frames[:10])[0], axis=2)
    assert np.median(difference) < 2
