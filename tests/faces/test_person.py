"""The person before the background."""

from __future__ import annotations

import numpy as np
import pytest

from nldf_engine.faces import PersonMask


def test_the_person_is_in_front(photo: np.ndarray) -> None:
    """The face is the person's, an upper corner is not, and the mask has the frame's size."""
    mask = PersonMask()(photo)
    assert mask.shape == (300, 300) and mask.dtype == np.float32 and mask.min() >= 0 and mask.max() <= 1
    assert mask[90:150, 130:180].mean() > 0.95
    wide = np.full((200, 500, 3), 110, np.uint8)
    assert PersonMask()(wide).shape == (200, 500)


def test_it_agrees_with_mediapipe(photo: np.ndarray) -> None:
    """The mask of MediaPipe 0.10.21, on average to a thousandth."""
    mediapipe = pytest.importorskip("mediapipe", reason="mediapipe, the oracle, is not installed")
    if not hasattr(mediapipe, "solutions"):
        pytest.skip("this mediapipe is one without its solutions")
    with mediapipe.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0) as theirs:
        expected = theirs.process(photo).segmentation_mask
    assert np.abs(PersonMask()(photo) - expected).mean() < 1e-3
