"""Blinks: how often, how long, how deep, and never none."""

import numpy as np
import pytest
import torch

from nldf_engine.engine.edits import EyesEdit, curve_of
from nldf_engine.engine.edits.eyes import Eyes, NaturalBlinks, blinks_a_minute, lids

HOUR = torch.arange(3600 * 25)


@pytest.mark.parametrize(("rate", "seed"), [(10.0, 0), (15.0, 3), (20.0, 7)])
def test_natural_blinks_come_and_last_as_a_persons_do(rate: float, seed: int) -> None:
    """Over an hour: the rate asked for to 10 %, durations of 100 to 400 ms, each shut in some frame."""
    blinks = NaturalBlinks(rate, seed)
    share = blinks.at(HOUR).numpy()
    begins, lasts = np.array(blinks.begins), np.array(blinks.lasts)
    begins, lasts = begins[begins < 3599], lasts[begins < 3599]
    assert len(begins) / 60 == pytest.approx(rate, rel=0.1)
    assert lasts.min() >= 0.1 and lasts.max() <= 0.4 and 0.18 < lasts.mean() < 0.28
    assert (begins[1:] >= begins[:-1] + lasts[:-1]).all(), "blinks overlap"
    depths = [
        share[int(np.ceil(25 * a)) : int(25 * (a + b)) + 1].min() for a, b in zip(begins, lasts, strict=True)
    ]
    assert max(depths) < 0.1 and share.min() >= 0 and share.max() == 1
    assert np.diff(begins).max() < 15, "the eyes freeze open"
    waits = np.diff(begins)
    assert waits.std() > 0.5 * waits.mean(), "blinks come like clockwork"


def test_blinks_are_the_same_for_a_seed_and_do_not_depend_on_how_they_are_read() -> None:
    """Frame by frame, backwards or at once: the same openness; another seed blinks at other moments."""
    whole = NaturalBlinks(15, 1).at(torch.arange(2000))
    slow = NaturalBlinks(15, 1)
    assert torch.equal(torch.cat([slow.at(torch.arange(k, k + 40)) for k in range(0, 2000, 40)]), whole)
    assert torch.equal(slow.at(torch.arange(2000).flip(0)).flip(0), whole)
    assert not torch.equal(NaturalBlinks(15, 2).at(torch.arange(2000)), whole)
    assert slow.at(torch.arange(0)).shape == (0,)


def blinking_track() -> torch.Tensor:
    eyes = torch.full((1500,), 0.3)
    eyes[::150] = 0.02
    return eyes


def test_auto_takes_the_track_where_it_blinks_and_makes_blinks_up_where_it_does_not() -> None:
    """A track of ten blinks a minute is kept to the bit; one of open eyes gets natural ones."""
    track, index = blinking_track(), torch.arange(1500)
    assert blinks_a_minute(track) == pytest.approx(10)
    assert torch.equal(Eyes(EyesEdit(), track)(index, track), track)
    staring = torch.full((1500,), 0.28)
    assert blinks_a_minute(staring) == 0
    made = Eyes(EyesEdit(), staring)(index, staring)
    assert blinks_a_minute(made) > 5 and float(made.max()) == pytest.approx(0.28)
    assert torch.equal(Eyes(EyesEdit("track"), staring)(index, staring), staring)


def test_openness_is_a_share_between_this_persons_lids() -> None:
    """none with a scale is constant; a curve's 1 is the usual openness, its 0 the track's most closed."""
    track, index = blinking_track(), torch.arange(50)
    usual, closed = lids(track)
    assert (usual, closed) == pytest.approx((0.3, 0.02))
    half = Eyes(EyesEdit("none", scale=0.5), track)(index, track[:50])
    torch.testing.assert_close(half, torch.full((50,), 0.16))
    ramp = Eyes(EyesEdit(curve=curve_of({"frame": [0, 49], "eyes": [1, 0]})), track)(index, track[:50])
    assert float(ramp[0]) == pytest.approx(usual) and float(ramp[-1]) == pytest.approx(closed, abs=1e-6)
    scaled = Eyes(EyesEdit("track", scale=0.0), track)(index, track[:50])
    torch.testing.assert_close(scaled, torch.full((50,), closed))


@pytest.mark.parametrize(
    "fields", [{"blink": "never"}, {"scale": -0.1}, {"rate": 100.0}, {"curve": curve_of({"yaw": [1.0]})}]
)
def test_eyes_that_can_not_be_are_refused(fields: dict[str, object]) -> None:
    """Unknown ways, shares and rates out of range, and curves without eyes are told."""
    with pytest.raises(ValueError, match=r"EyesEdit|curve"):
        EyesEdit(**fields)  # type: ignore[arg-type]
