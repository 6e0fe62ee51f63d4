"""Playing filmed footage for any length without a visible jump: where to jump back, and how long to blend.

The footage runs forward. Where the sound is longer, it either jumps back from a frame to an earlier one in
which the head stands, moves and looks nearly alike, and the two are blended for a third of a second; or it
turns at two frames in which the head stands still, and runs backward between them, which needs no blending.
Whatever shows less is done.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat

import numpy as np
import torch

from nldf_engine.geometry.rotations import head_numbers

# Frames over which the footage before a jump fades into that behind it.
BLENDED = 8
# Frames between a jump and the next one, at least: shorter loops are seen as such.
SHORTEST = 50
# What counts as much as one another, from frame to frame: degrees, metres, and eye openness.
DEGREE, METRE, EYES = 1.0, 200.0, 20.0
# Speeds are weighed against places by this many frames.
AHEAD = 4.0
# What running backward is worth avoiding by: breath and hair show it.
BACKWARD = 1.5
# Each second that a loop is longer is worth so much of the above.
LONGER = 0.02
CANDIDATES = 400


@dataclass(frozen=True)
class Loop:
    """Which frames of the footage are shown, one after the other.

    Args:
        first: int64 [T] the frame that is shown.
        second: int64 [T] the frame that it is blended with; the same where it is not.
        share: float32 [T] of the second frame, in [0, 1].
        cycle: so many of its last steps are repeated ever after; 0 where it ends.
    """

    first: np.ndarray
    second: np.ndarray
    share: np.ndarray
    cycle: int = 0

    def __len__(self) -> int:
        return len(self.first)

    def places(self, numbers: np.ndarray) -> np.ndarray:
        """Which of its T steps comes as number [N], from 0; to any number where it is repeated."""
        if not self.cycle:
            return numbers
        before = len(self) - self.cycle
        return np.where(numbers < before, numbers, before + (numbers - before) % self.cycle)

    def steps(self) -> Iterator[tuple[int, int, float]]:
        """(first, second, share) of one step after the other; without end where it is repeated."""
        every = list(zip(self.first.tolist(), self.second.tolist(), self.share.tolist(), strict=True))
        if not self.cycle:
            return iter(every)
        return chain(every, chain.from_iterable(repeat(every[-self.cycle :])))

    def blended(self, values: np.ndarray) -> np.ndarray:
        """[T, ...]: values [N, ...] of the footage's frames along the loop, blended as the frames are."""
        share = self.share.reshape(-1, *[1] * (values.ndim - 1))
        return (1 - share) * values[self.first] + share * values[self.second]


def usable_stretch(usable: np.ndarray, shots: Sequence[int] = ()) -> tuple[int, int]:
    """The longest run [begin, end) of frames that are usable [N] bool, within one shot.

    Args:
        usable: as said.
        shots: frames that begin one.

    Raises:
        ValueError: none is.
    """
    ranges = np.split(np.arange(len(usable)), sorted(set(shots) - {0}))
    runs = [_runs(usable[part]) + part[0] for part in ranges if len(part)]
    begins, ends = np.concatenate(runs or [np.zeros((0, 2), int)]).T
    if not len(begins):
        raise ValueError("usable: expected at least one usable frame, got none")
    longest = int((ends - begins).argmax())
    return int(begins[longest]), int(ends[longest])


def _runs(usable: np.ndarray) -> np.ndarray:
    """[R, 2] of every run of True: its begin and end."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(usable, np.int8), [0]])))
    return edges.reshape(-1, 2)


@dataclass(frozen=True)
class Return:
    """How footage is begun again.

    Args:
        end, begin: frames of it: at `end` it goes back to `begin`.
        turns: whether it runs backward in between, instead of jumping.
        cost: how much it shows, in degrees.
    """

    end: int
    begin: int
    turns: bool
    cost: float


def states_of(poses: np.ndarray, eyes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How the head stands and looks, [N, 7] float64 in degrees and the like, and how that changes.

    Args:
        poses: [N, 4, 4] camera to head.
        eyes: [N] eye openness.

    Returns:
        what it is, and its change over `AHEAD` frames.

    Raises:
        ValueError: the stretch is too short to loop.
    """
    count = len(poses)
    if count < SHORTEST + 2 * BLENDED:
        raise ValueError(
            f"poses: expected a stretch of at least {SHORTEST + 2 * BLENDED} frames to loop, got {count}"
        )
    numbers = head_numbers(torch.from_numpy(np.ascontiguousarray(poses))).numpy()
    state = np.concatenate([numbers * ([DEGREE] * 3 + [METRE] * 3), EYES * np.asarray(eyes)[:, None]], 1)
    state = state.astype(np.float64)
    return state, AHEAD * np.gradient(state, axis=0)


def jump(state: np.ndarray, speed: np.ndarray) -> Return:
    """The best jump of a stretch from a frame to one that is far before it; see `states_of`.

    Frames `end`, `end + 1`, ... look like `begin`, `begin + 1`, ... for `BLENDED` frames.
    """
    known = np.concatenate([state, speed[:, :6]], 1)
    known = known[: len(state) - BLENDED]  # what is blended must still be there behind a jump
    every = max(1, len(known) // CANDIDATES)
    ends = np.arange(SHORTEST, len(known), every)
    begins = np.arange(0, len(known) - SHORTEST, every)
    cost = np.sqrt(np.square(known[ends][:, None] - known[begins][None]).sum(2))
    length = ends[:, None] - begins[None]
    cost = np.where(length >= SHORTEST, cost - LONGER * length / 25, np.inf)
    end, begin = np.unravel_index(int(cost.argmin()), cost.shape)
    return Return(int(ends[end]), int(begins[begin]), False, float(cost[end, begin]))


def turn(speed: np.ndarray) -> Return:
    """The best two frames of a stretch to turn at, which are far apart; see `states_of`."""
    # Where it turns, its speed becomes the opposite.
    cost = 2 * np.linalg.norm(speed, axis=1)
    count = len(cost)
    stillest = np.minimum.accumulate(cost)  # the best beginning up to a frame
    ends = np.arange(SHORTEST, count)
    both = np.maximum(cost[ends], stillest[ends - SHORTEST])
    lasting = both - 2 * LONGER * (ends - SHORTEST) / 25
    end = int(ends[lasting.argmin()])
    begin = int(cost[: end - SHORTEST + 1].argmin())
    return Return(end, begin, True, float(max(cost[end], cost[begin]) - 2 * LONGER * (end - begin) / 25))


def returning(poses: np.ndarray, eyes: np.ndarray) -> Return:
    """How a stretch is best begun again: by a jump, or by turning where that shows clearly less.

    Raises:
        ValueError: the stretch is too short to loop.
    """
    state, speed = states_of(poses, eyes)
    jumps, turns = jump(state, speed), turn(speed)
    return turns if turns.cost + BACKWARD < jumps.cost else jumps


def plan_loop(
    poses: np.ndarray, eyes: np.ndarray, usable: np.ndarray, frames: int | None, shots: Sequence[int] = ()
) -> Loop:
    """The frames of the footage for a clip of so many frames, or for one without end.

    Args:
        poses: [N, 4, 4] camera to head; eyes: [N] eye openness.
        usable: [N] bool, frames that may be shown; the longest run of them is.
        frames: T, of the clip; None where it is not known.
        shots: frames that begin a shot; what is shown stays within one.

    Raises:
        ValueError: no frame is usable, or the longest run is too short to loop.
    """
    begin, end = usable_stretch(usable, shots)
    if frames is not None and frames <= end - begin:
        run = np.arange(begin, begin + frames)
        return Loop(run, run, np.zeros(frames, np.float32))
    endless = _endless(begin, returning(poses[begin:end], eyes[begin:end]))
    if frames is None:
        return endless
    place = endless.places(np.arange(frames))
    return Loop(endless.first[place], endless.second[place], endless.share[place])


def _endless(begin: int, found: Return) -> Loop:
    """Forward from `begin` to where it returns, and from then on round and round."""
    last, back = found.end + begin, found.begin + begin
    if found.turns:
        there_and_back = np.concatenate([np.arange(last, back, -1), np.arange(back, last)])
        run = np.concatenate([np.arange(begin, last), there_and_back])
        return Loop(run, run, np.zeros(len(run), np.float32), len(there_and_back))
    rest = np.arange(back + BLENDED, last)
    blend = np.pad((np.arange(BLENDED) + 0.5) / BLENDED, (last - begin, len(rest)))
    first = np.concatenate([np.arange(begin, last), np.arange(last, last + BLENDED), rest])
    second = np.concatenate([np.arange(begin, last), np.arange(back, back + BLENDED), rest])
    return Loop(first, second, blend.astype(np.float32), BLENDED + len(rest))
