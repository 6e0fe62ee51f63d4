"""Combs of fields that nobody has flagged, on made pictures."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from nldf_engine.media.deinterlace import COMBED, combing


def scene(shift: float, blur: float = 1.5) -> np.ndarray:
    """Blobs of all sizes with a little noise, moved sideways by some pixels, uint8 [144, 176]."""
    rng = np.random.default_rng(0)
    wide = cv2.GaussianBlur(rng.uniform(0, 255, (144, 240)).astype(np.float32), (0, 0), blur)
    wide = (wide - wide.mean()) / wide.std() * 40 + 128
    moved = cv2.warpAffine(wide, np.array([[1, 0, shift], [0, 1, 0.0]]), (240, 144))[:, 32:208]
    return (moved + rng.normal(0, 2, moved.shape)).clip(0, 255).astype(np.uint8)


def woven(shift: float, blur: float = 1.5) -> np.ndarray:
    """Two moments of it in one picture."""
    made = scene(0, blur)
    made[1::2] = scene(shift, blur)[1::2]
    return made


@pytest.mark.parametrize("shift", [4.0, -7.0, 12.0])
def test_fields_of_two_moments_show_combs(shift: float) -> None:
    """Whatever the motion, and of soft pictures as well."""
    assert combing(woven(shift)) > COMBED and combing(woven(shift, 4.0)) > COMBED


@pytest.mark.parametrize("blur", [0.6, 1.0, 4.0, 20.0])
def test_detail_of_one_moment_shows_none(blur: float) -> None:
    """Neither fine detail nor noise, nor a plain picture, nor one of a few rows."""
    assert combing(scene(3.0, blur)) < COMBED
    assert combing(np.full((8, 8), 128, np.uint8)) == 0 and combing(np.zeros((5, 1), np.uint8)) == 0


def test_lines_and_steps_are_no_combs() -> None:
    """A line of one row, a step from black to white, stripes of a shirt."""
    rows = np.zeros((96, 64), np.uint8)
    rows[40], rows[60:] = 255, 255
    assert combing(rows) < COMBED
    stripes = np.repeat((np.arange(96) // 2 % 2 * 200).astype(np.uint8)[:, None], 64, 1)
    assert combing(stripes) < COMBED
