"""Playing filmed footage for any length without a visible jump: where to jump back, and how long to blend.

The footage runs forward. Where the sound is longer, it jumps back from a frame to an earlier one in which the
head stands, moves and looks nearly alike, and the two are blended for a third of a second.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    """

    first: np.ndarray
    second: np.ndarray
    share: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    def blended(self, values: np.ndarray) -> np.ndarray:
        """[T, ...]: values [N, ...] of the footage's frames along the loop, blended as the frames are."""
        share = self.share.reshape(-1, *[1] * (values.ndim - 1))
        return (1 - share) * values[self.first] + share * values[self.second]


def usable_stretch(usable: np.ndarray) -> tuple[int, int]:
    """The longest run [begin, end) of frames that are usable [N] bool.

    Raises:
        ValueError: none is.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(usable, np.int8), [0]])))
    begins, ends = edges[::2], edges[1::2]
    if not len(begins):
        raise ValueError("usable: expected at least one usable frame, got none")
    longest = int((ends - begins).argmax())
    return int(begins[longest]), int(ends[longest])


def jump(poses: np.ndarray, eyes: np.ndarray) -> tuple[int, int]:
    """From which frame of a stretch to which earlier one to jump; the best of those that are far apart.

    Args:
        poses: [N, 4, 4] camera to head.
        eyes: [N] eye openness.

    Returns:
        (end, begin): frames `end`, `end + 1`, ... look like `begin`, `begin + 1`, ... for `BLENDED` frames.

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
    speed = AHEAD * np.gradient(state[:, :6], axis=0)
    known = np.concatenate([state, speed], 1).astype(np.float64)
    known = known[: count - BLENDED]  # what is blended must still be there behind a jump
    every = max(1, len(known) // CANDIDATES)
    ends = np.arange(SHORTEST, len(known), every)
    begins = np.arange(0, len(known) - SHORTEST, every)
    cost = np.sqrt(np.square(known[ends][:, None] - known[begins][None]).sum(2))
    length = ends[:, None] - begins[None]
    cost = np.where(length >= SHORTEST, cost - LONGER * length / 25, np.inf)
    end, begin = np.unravel_index(int(cost.argmin()), cost.shape)
    return int(ends[end]), int(begins[begin])


def plan_loop(poses: np.ndarray, eyes: np.ndarray, usable: np.ndarray, frames: int) -> Loop:
    """The frames of the footage for a clip of so many frames.

    Args:
        poses: [N, 4, 4] camera to head; eyes: [N] eye openness.
        usable: [N] bool, frames that may be shown; the longest run of them is.
        frames: T, of the clip.

    Raises:
        ValueError: no frame is usable, or the longest run is too short to loop.
    """
    begin, end = usable_stretch(usable)
    if frames <= end - begin:
        run = np.arange(begin, begin + frames)
        return Loop(run, run, np.zeros(frames, np.float32))
    last, back = jump(poses[begin:end], eyes[begin:end])
    last, back = last + begin, back + begin
    first, second, share = [np.arange(begin, last)], [np.arange(begin, last)], [np.zeros(last - begin)]
    blend = (np.arange(BLENDED) + 0.5) / BLENDED
    rest = np.arange(back + BLENDED, last)
    while sum(map(len, first)) < frames:
        first += [np.arange(last, last + BLENDED), rest]
        second += [np.arange(back, back + BLENDED), rest]
        share += [blend, np.zeros(len(rest))]
    made = [np.concatenate(parts)[:frames] for parts in (first, second, share)]
    return Loop(made[0], made[1], made[2].astype(np.float32))
