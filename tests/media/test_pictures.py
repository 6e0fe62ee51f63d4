"""Holes in pictures."""

from __future__ import annotations

import numpy as np

from nldf_engine.media.pictures import fill_hidden


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
