"""Sound that waits to be said: mono at one rate, bounded, cut into utterances."""

from __future__ import annotations

from collections import deque

import numpy as np


class SoundQueue:
    """A first-in, first-out queue of samples.

    Args:
        most: samples that it holds at most.

    Attributes:
        ends: places, counted in samples from the first one ever pushed, where utterances end that wait.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._pieces: deque[np.ndarray] = deque()
        self._arrivals: deque[tuple[int, float]] = deque()  # (place behind a chunk, time of its arrival)
        self._begin = self._end = 0
        self.ends: deque[int] = deque()

    def __len__(self) -> int:
        """How many samples wait."""
        return self._end - self._begin

    @property
    def room(self) -> int:
        """How many more samples it takes."""
        return self._most - len(self)

    @property
    def ended(self) -> bool:
        """Whether an utterance that waits has its end already."""
        return bool(self.ends)

    def arrived(self, until: float) -> int:
        """How many of the samples that wait had arrived at the time `until`."""
        count = 0
        for end, at in self._arrivals:
            if at > until:
                break
            count = end - self._begin
        return count

    def push(self, mono: np.ndarray, now: float) -> None:
        """Appends samples [n] float32 that arrive at the time `now`, seconds."""
        if len(mono):
            self._pieces.append(mono)
            self._end += len(mono)
            self._arrivals.append((self._end, now))

    def end(self) -> None:
        """The utterance ends behind the last sample that was pushed."""
        self.ends.append(self._end)

    def take(self, count: int) -> tuple[np.ndarray, list[int], float | None]:
        """The first `count` samples, or fewer where there are no more.

        Returns:
            (samples [n] float32, how many of them come before each utterance's end among them, time when
            the last of them arrived or None where there are none).
        """
        count = min(count, len(self))
        taken, left = [], count
        while left:
            piece = self._pieces.popleft()
            if len(piece) > left:
                self._pieces.appendleft(piece[left:])
                piece = piece[:left]
            taken.append(piece)
            left -= len(piece)
        first, self._begin = self._begin, self._begin + count
        ends = []
        while self.ends and self.ends[0] <= self._begin:
            ends.append(self.ends.popleft() - first)
        arrived = None
        if count:
            while self._arrivals[0][0] < self._begin:
                self._arrivals.popleft()
            arrived = self._arrivals[0][1]
            if self._arrivals[0][0] == self._begin:
                self._arrivals.popleft()
        return np.concatenate(taken) if taken else np.zeros(0, np.float32), ends, arrived

    def trim(self, most: int) -> int:
        """Drops the oldest samples of the utterance that has no end yet, but for its last `most`; returns how
        many. Utterances that have their end stay whole."""
        first = self.ends[-1] if self.ends else self._begin
        extra = max(0, self._end - first - most)
        if extra:
            whole = np.concatenate(self._pieces)
            place = first - self._begin
            self._pieces = deque([np.concatenate([whole[:place], whole[place + extra :]])])
            self._end -= extra
            arrivals = [(end if end <= first else max(first, end - extra), at) for end, at in self._arrivals]
            self._arrivals = deque((end, at) for end, at in arrivals if end > self._begin)
        return extra

    def clear(self) -> int:
        """Drops all samples; returns how many there were."""
        dropped = len(self)
        self._pieces.clear()
        self._arrivals.clear()
        self.ends.clear()
        self._begin = self._end
        return dropped
