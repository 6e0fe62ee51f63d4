"""`python -m bench.faces`: how far apart two programs are, by hand, and what it says where one is missing."""

import sys
from pathlib import Path

import numpy as np
import pytest

from bench.faces.__main__ import main
from bench.faces.compare import SIDE, Pair, apart, middle


def test_the_middle_square_is_taken() -> None:
    """Of a wide frame, its middle, scaled to 512."""
    frame = np.zeros((100, 200, 3), np.uint8)
    frame[:, 50:150] = 200
    assert middle(frame).shape == (SIDE, SIDE, 3) and (middle(frame) == 200).all()


def test_distances_and_who_found_it() -> None:
    """One pixel to the side in one frame, nothing in another, a face that only one sees in a third."""
    points = np.zeros((4, 3))
    found = [(points, points[:, :2] + (1, 0)), (None, None), (points, None)]
    row = apart("mesh", found)
    assert (row["calls"], row["both"], row["ours alone"], row["theirs alone"]) == (3, 1, 1, 0)
    assert row["mean"] == row["median"] == row["largest"] == 1.0
    assert apart("near", [(None, None)])["mean"] is None


def test_hands_are_matched_by_place() -> None:
    """In whatever order; one far from all others is another hand."""
    hand = np.zeros((21, 2))
    row = apart("hands", [(np.stack([hand, hand + 100]), [hand + 102, hand + 300])])
    assert (row["both"], row["ours alone"], row["theirs alone"]) == (1, 1, 1)
    assert row["mean"] == pytest.approx(2 * 2**0.5)


def test_both_are_called_and_timed() -> None:
    """Ours first; what they return is kept."""
    called: list[str] = []
    pair = Pair(lambda frame: called.append("ours") or 1, lambda frame: called.append("theirs") or 2)
    for _ in range(3):
        pair.look(np.zeros((2, 2, 3), np.uint8))
    assert called == ["ours", "theirs"] * 3 and pair.found == [(1, 2)] * 3
    assert set(pair.costs()) == {"ms", "ms mediapipe", "ratio"}


def test_what_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without mediapipe, and without frames, in one line."""
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    assert main([str(tmp_path / "none.mp4")]) == 1
    assert "pip install mediapipe==0.10.21" in capsys.readouterr().err
    assert main([str(tmp_path / "none.mp4"), "--frames", "0"]) == 2
    assert "--frames must be at least 1" in capsys.readouterr().err
