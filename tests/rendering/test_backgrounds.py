"""Backgrounds: colours, pictures, transparency."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from nldf_engine.base.errors import FileProblem
from nldf_engine.rendering.backgrounds import fit_picture, parse_color, resolve_background

PLATE = np.full((10, 10, 3), 51, np.uint8)


def test_every_kind_of_background_resolves(tmp_path: Path) -> None:
    """None is the plate, a colour fills, a picture is cut to size, 'transparent' is None."""
    cv2.imwrite(str(tmp_path / "wall.png"), np.full((30, 90, 3), (255, 0, 0), np.uint8))
    assert float(resolve_background(None, PLATE, 8, 8).mean()) == pytest.approx(0.2)
    assert resolve_background("#ff0000", PLATE, 4, 6)[0, 0].tolist() == [1, 0, 0]
    assert resolve_background(tmp_path / "wall.png", PLATE, 5, 7)[2, 2].tolist() == [0, 0, 1]
    assert resolve_background("transparent", PLATE, 5, 7) is None


def test_a_picture_of_another_aspect_is_cut_about_its_middle() -> None:
    """Left and right of a wide picture go; its middle stays undistorted."""
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200
    assert (fit_picture(wide, 10, 10) == 200).all()


def test_a_small_picture_is_enlarged_smoothly() -> None:
    """As OpenCV's cubic interpolation does, within what its integers round."""
    small = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8), (0, 0), 2)
    wanted = cv2.resize(small, (33, 33), interpolation=cv2.INTER_CUBIC)
    assert np.abs(fit_picture(small, 33, 33).astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("spec", ["missing.png", "notacolour"])
def test_an_unusable_background_names_the_alternatives(spec: str) -> None:
    """The error names the file and says what else a background can be."""
    with pytest.raises(FileProblem, match="transparent"):
        resolve_background(spec, PLATE, 4, 4)


def test_colour_words() -> None:
    """Short and long hex forms and names are colours, other words are not."""
    assert parse_color("#0f8") == (0, 255, 136) and parse_color("White") == (255, 255, 255)
    assert parse_color("#12345") is None and parse_color("room.png") is None
