"""Footage without end: what is shown once is shown in order, and a jump is one that hardly shows."""

from itertools import islice

import numpy as np
import pytest
from torch import from_numpy

from nldf_engine.geometry.loops import (
    BLENDED,
    SHORTEST,
    jump,
    plan_loop,
    returning,
    states_of,
    turn,
    usable_stretch,
)
from nldf_engine.geometry.rotations import poses_of


def nodding(frames: int, period: float = 90.0) -> tuple[np.ndarray, np.ndarray]:
    """Poses of a head that turns to and fro and drifts a little, and its eyes."""
    time = np.arange(frames)
    numbers = np.zeros((frames, 6))
    numbers[:, 0] = 8 * np.sin(2 * np.pi * time / period)
    numbers[:, 1] = 3 * np.cos(2 * np.pi * time / 37.0)
    numbers[:, 5] = 0.8 + 2e-5 * time
    return poses_of(from_numpy(numbers)).numpy(), np.full(frames, 0.3, np.float32)


def test_short_clips_run_straight_through() -> None:
    """No blend, and nothing that isn't usable."""
    poses, eyes = nodding(300)
    usable = np.ones(300, bool)
    usable[40] = False
    loop = plan_loop(poses, eyes, usable, 200)
    assert (loop.first == np.arange(41, 241)).all() and (loop.share == 0).all() and len(loop) == 200
    assert usable_stretch(usable) == (41, 300)


def test_long_clips_jump_where_it_hardly_shows() -> None:
    """Frames rise by one, jumps are blended, and the head never leaps."""
    poses, eyes = nodding(400)
    loop = plan_loop(poses, eyes, np.ones(400, bool), 1500)
    assert len(loop) == 1500 and loop.first.max() < 400 and loop.second.max() < 400
    jumps = np.flatnonzero(np.diff(loop.first) != 1)
    assert len(jumps) >= 3 and (np.diff(jumps) >= SHORTEST - BLENDED).all()
    for number in jumps:  # the second run has taken over before the first one ends
        assert loop.first[number + 1] == loop.second[number] + 1
    yaw = loop.blended(8 * np.sin(2 * np.pi * np.arange(400) / 90.0))
    own = np.abs(np.diff(8 * np.sin(2 * np.pi * np.arange(400) / 90.0))).max()
    assert np.abs(np.diff(yaw)).max() < 1.6 * own


def test_the_jump_is_the_best_of_all() -> None:
    """A place where pose, speed and eyes agree is found among noise, unless the eyes are shut there."""
    rng = np.random.default_rng(0)
    numbers = np.cumsum(rng.normal(0, 0.4, (300, 6)) * ([1, 1, 1, 1e-4, 1e-4, 1e-4]), 0)
    numbers[240:260] = numbers[30:50]
    numbers[:, 5] += 0.8
    eyes = np.full(300, 0.3)
    poses = poses_of(from_numpy(numbers)).numpy()
    found = jump(*states_of(poses, eyes))
    assert 240 <= found.end < 260 and found.begin == found.end - 210 and not found.turns
    eyes[235:265] = 0.0
    assert jump(*states_of(poses, eyes)).end not in range(241, 259)


def swaying(frames: int, drift: float) -> tuple[np.ndarray, np.ndarray]:
    """Poses of a head that turns to and fro, ever further to one side, and its eyes."""
    numbers = np.zeros((frames, 6))
    numbers[:, 0] = 6 * np.cos(2 * np.pi * np.arange(frames) / 60.0) + drift * np.arange(frames)
    numbers[:, 5] = 0.8
    return poses_of(from_numpy(numbers)).numpy(), np.full(frames, 0.3, np.float32)


def test_it_turns_where_the_head_stands_still() -> None:
    """At the ends of the head's turns; not while a lid falls, and only where it shows less than a jump."""
    poses, eyes = swaying(200, 0.0)
    assert not returning(poses, eyes).turns  # it comes back to where it was
    poses, eyes = swaying(200, 0.3)
    found = returning(poses, eyes)
    assert found.turns and found.end - found.begin >= SHORTEST
    speed = np.abs(np.gradient(6 * np.cos(2 * np.pi * np.arange(200) / 60.0) + 0.3 * np.arange(200)))
    assert speed.max() > 0.8 and max(speed[found.end], speed[found.begin]) < 0.06
    eyes[found.end - 3 : found.end + 4] = np.linspace(0.3, 0, 7)
    eyes[found.end + 4 :] = 0.0
    assert abs(turn(states_of(poses, eyes)[1]).end - found.end) > 1


def test_to_and_fro() -> None:
    """From the first usable frame on, in steps of one, between the two turns, without a blend."""
    poses, eyes = swaying(200, 0.3)
    usable = np.ones(200, bool)
    usable[:7] = False
    loop = plan_loop(poses, eyes, usable, 1000)
    found = returning(poses[7:], eyes[7:])
    assert len(loop) == 1000 and loop.first[0] == 7 and (loop.share == 0).all()
    assert set(np.abs(np.diff(loop.first))) == {1} and loop.first.max() == found.end + 7
    turned = np.flatnonzero(np.diff(np.diff(loop.first)))
    assert set(loop.first[turned + 1]) == {found.end + 7, found.begin + 7}


def test_what_cant_loop_is_refused() -> None:
    """Nothing usable, or too little of it."""
    poses, eyes = nodding(60)
    with pytest.raises(ValueError, match="at least one usable"):
        plan_loop(poses, eyes, np.zeros(60, bool), 10)
    with pytest.raises(ValueError, match="stretch of at least"):
        plan_loop(poses, eyes, np.ones(60, bool), 61)


@pytest.mark.parametrize("drift", [0.0, 0.3])
def test_a_plan_without_end_goes_as_a_long_one(drift: float) -> None:
    """By jumps as by turns; its steps are those of its places."""
    poses, eyes = swaying(200, drift)
    usable = np.ones(200, bool)
    endless, long = plan_loop(poses, eyes, usable, None), plan_loop(poses, eyes, usable, 1000)
    place = endless.places(np.arange(1000))
    for name in ("first", "second", "share"):
        np.testing.assert_array_equal(getattr(endless, name)[place], getattr(long, name))
    steps = list(islice(endless.steps(), 1000))
    assert steps == list(long.steps()) and 0 < endless.cycle < len(endless) < 500
