"""Frames that come one after the other, in any order."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np

from nldf_engine.datasets.dataset import Dataset

KEPT = 64  # frames that a small step back finds again


class FramesByNumber:
    """Decoded frames by number: a step forward goes on where it is, a jump back begins anew.

    Any thread may read.

    Args:
        count: how many frames there are.
        begin: makes an iterator over the frames from a number on.
    """

    def __init__(self, count: int, begin: Callable[[int], Iterator[np.ndarray]]) -> None:
        self._count, self._begin = count, begin
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._frames: Iterator[np.ndarray] = iter(())
        self._next = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> np.ndarray:
        """Frame `number`; not to be written to.

        Raises:
            IndexError: there is no such frame.
            FileProblem: a file is damaged.
        """
        if not 0 <= number < self._count:
            raise IndexError(f"frame {number} of {self._count} frames")
        with self._lock:
            if number not in self._kept:
                self._decode(number)
            self._kept.move_to_end(number)
            return self._kept[number]

    def _decode(self, number: int) -> None:
        if number < self._next:
            self._frames, self._next = self._begin(number), number
        for frame in self._frames:
            self._next += 1
            if self._next > number - KEPT:
                self._kept[self._next - 1] = frame
            if self._next > number:
                break
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)


def frames_of(dataset: Dataset) -> FramesByNumber:
    """A dataset's frames, uint8 [H, W, 3]."""
    return FramesByNumber(len(dataset), lambda first: dataset.read_frames(first, len(dataset)))


def label_maps_of(dataset: Dataset) -> FramesByNumber:
    """A dataset's label maps, uint8 [H, W]."""
    return FramesByNumber(len(dataset), lambda first: islice(dataset.label_maps(), first, None))
