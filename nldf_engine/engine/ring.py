"""Frames on their way from a GPU to the host: drawn several to a launch, copied on a stream of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

# Frames of a launch: a launch and a copy cost the host the same for one as for eight, and a viewer of a
# picture of 512 x 512 waits a millisecond more.
LAUNCHED = 8


class _Slot:
    """Room for the frames of one launch, on the device and in memory of the host that the device reaches."""

    def __init__(self, shape: tuple[int, ...], device: torch.device) -> None:
        self.made = torch.empty(shape, dtype=torch.uint8, device=device)
        self.host: Tensor = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        self.frames = list(self.host.numpy())
        self.address = self.made.data_ptr()
        self.drawn, self.copied = torch.cuda.Event(), torch.cuda.Event()


class Ring:
    """Slots that are drawn, copied and read in turn: while the host reads one, the next is under way.

    Everything is allocated here. A launch then costs an event, a launch and a copy, and the host waits only
    for frames that it is about to read.

    Args:
        shape: (H, W, 3) of a frame.
        device: a CUDA device.
        kept: how many frames that were given out stay as they are.

    Attributes:
        slots: how many there are.
    """

    def __init__(self, shape: tuple[int, int, int], device: torch.device, kept: int) -> None:
        self._device = device
        # The one that is read, one that is under way, and those that the kept frames are in.
        self.slots = 2 + -(-kept // LAUNCHED)
        self._slots = [_Slot((LAUNCHED, *shape), device) for _ in range(self.slots)]
        self._copies = torch.cuda.Stream(device)

    def frames(self, draw: Callable[[int, int, int], None], count: int) -> Iterator[np.ndarray]:
        """Frames 0 ... count - 1 in order, uint8 [H, W, 3]; each is overwritten after `kept` further ones.

        Args:
            draw: launches frames (first, how many, address) on torch's current stream.
            count: of the frames.
        """
        batches = [(first, min(LAUNCHED, count - first)) for first in range(0, count, LAUNCHED)]
        for number, (_, held) in enumerate(batches):
            for ahead in range(number + (number > 0), min(number + 2, len(batches))):
                self._begin(self._slots[ahead % self.slots], draw, *batches[ahead])
            slot = self._slots[number % self.slots]
            slot.copied.synchronize()
            yield from slot.frames[:held]

    def _begin(self, slot: _Slot, draw: Callable[[int, int, int], None], first: int, count: int) -> None:
        drawing = torch.cuda.current_stream(self._device)
        drawing.wait_event(slot.copied)  # what was drawn here before has left
        draw(first, count, slot.address)
        slot.drawn.record(drawing)
        self._copies.wait_event(slot.drawn)
        with torch.cuda.stream(self._copies):
            slot.host.copy_(slot.made, non_blocking=True)
        slot.copied.record(self._copies)
