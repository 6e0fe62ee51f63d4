"""Frames of a dataset in any order."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator

import numpy as np

from nldf_engine.datasets.dataset import Dataset

KEPT = 64  # frames that a small step back finds again


class Footage:
    """Frames of a dataset, decoded one after the other; a jump back begins at the first one again.

    Any thread may read.

    Args:
        dataset: whose frames; of any layout.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._frames: Iterator[np.ndarray] = iter(())
        self._next = len(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, number: int) -> np.ndarray:
        """Frame `number`, uint8 [H, W, 3]; not to be written to.

        Raises:
            IndexError: there is no such frame.
            FileProblem: a file is damaged.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"frame {number} of a dataset of {len(self)} frames")
        with self._lock:
            if number not in self._kept:
                self._decode(number)
            self._kept.move_to_end(number)
            return self._kept[number]

    def _decode(self, number: int) -> None:
        if number < self._next:
            self._frames, self._next = self.dataset.read_frames(number, len(self)), number
        for frame in self._frames:
            self._next += 1
            if self._next > number - KEPT:
                self._kept[self._next - 1] = frame
            if self._next > number:
                break
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
