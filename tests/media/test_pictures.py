"""Pictures: what is written is read back, the bytes are OpenCV's own, and nothing is half-written."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from nldf_engine.base.errors import FileProblem
from nldf_engine.media.pictures import encode_png, fill_hidden, read_picture, write_picture


def picture(channels: int) -> np.ndarray:
    return np.random.default_rng(channels).integers(0, 256, (5, 7, channels), np.uint8)


def test_round_trip(tmp_path: Path) -> None:
    """A picture is read back pixel by pixel, into a folder that is made for it; older files are replaced."""
    path = tmp_path / "new" / "a.png"
    for made in (picture(3), 255 - picture(3)):
        write_picture(path, made)
        assert np.array_equal(read_picture(path, "draw it again"), made)
    assert [item.name for item in path.parent.iterdir()] == ["a.png"]


@pytest.mark.parametrize("compression", [None, 1])
def test_bytes(compression: int | None) -> None:
    """RGB and RGBA go out in the order that PNG has, as OpenCV encodes them, also from a view."""
    settings = [] if compression is None else [cv2.IMWRITE_PNG_COMPRESSION, compression]
    for made, order in ((picture(3), [2, 1, 0]), (picture(4), [2, 1, 0, 3])):
        wanted = cv2.imencode(".png", np.ascontiguousarray(made[..., order]), settings)[1].tobytes()
        assert encode_png(made, compression) == wanted
        assert encode_png(np.flip(np.flip(made, 1).copy(), 1), compression) == wanted
        read = cv2.imdecode(np.frombuffer(wanted, np.uint8), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(read[..., order], made)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_wrong_pictures(wrong: np.ndarray, tmp_path: Path) -> None:
    """Another dtype or shape is refused with what came, and no file appears."""
    with pytest.raises(ValueError, match=r"picture: expected uint8 \[H, W, 3\].*" + str(wrong.dtype)):
        write_picture(tmp_path / "a.png", wrong)
    assert not list(tmp_path.iterdir())


def test_where_none_can_be_written(tmp_path: Path) -> None:
    """A folder in the place of the file is a clear error."""
    (tmp_path / "a.png").mkdir()
    with pytest.raises(FileProblem, match=r"a\.png: it is a folder"):
        write_picture(tmp_path / "a.png", picture(3))


def test_holes_are_filled_from_what_surrounds_them() -> None:
    """A hole in an even slope takes its colours; what is seen stays; a picture without any is gray."""
    slope = np.tile(np.linspace(20, 220, 64), (64, 1))
    picture = np.repeat(slope[..., None], 3, -1).round().astype(np.uint8)
    hidden = np.zeros((64, 64), bool)
    hidden[20:44, 24:40] = True
    spoilt = np.where(hidden[..., None], np.uint8(0), picture)
    filled = fill_hidden(spoilt, hidden)
    np.testing.assert_array_equal(filled[~hidden], picture[~hidden])
    assert np.abs(filled[hidden].astype(int) - picture[hidden]).max() < 25
    assert fill_hidden(picture, ~hidden & False) is picture
    assert (fill_hidden(picture, np.ones_like(hidden)) == 127).all()
