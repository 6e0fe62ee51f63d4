"""A scene's frames as the fused portrait kernel draws them, prepared a stretch at a time."""

from __future__ import annotations

from collections.abc import Callable

from nldf_engine.ops import PortraitFrames

# Frames that are prepared at once: enough that a frame's share is nothing, and few enough that an hour's
# biases do not lie in memory.
STRETCH = 512


class OnePass:
    """F frames, each found in the stretch that it was prepared with.

    Args:
        prepare: makes the stretch of the frames first ... last - 1.
        first: the stretch that begins with frame 0.
        frames: F.
    """

    def __init__(
        self, prepare: Callable[[int, int], PortraitFrames], first: PortraitFrames, frames: int
    ) -> None:
        self._prepare, self._frames = prepare, frames
        self._kept = 0, first  # replaced as a whole: several threads may ask

    @property
    def device_type(self) -> str:
        """Of the device that draws."""
        return self._kept[1].device.type

    def at(self, number: int) -> tuple[PortraitFrames, int]:
        """The stretch that frame `number` is in, and the frame's place there."""
        begin = number - number % STRETCH
        kept = self._kept
        if kept[0] != begin:
            kept = self._kept = begin, self._prepare(begin, min(begin + STRETCH, self._frames))
        return kept[1], number - begin

    def draw(self, first: int, count: int, address: int) -> None:
        """Draws the frames first ... first + count - 1 to bytes at an address; see `PortraitFrames.draw`."""
        while count:
            frames, place = self.at(first)
            now = min(count, frames.shape[0] - place)
            frames.draw(place, now, address)
            address += now * frames.shape[1] * frames.shape[2] * 3
            first, count = first + now, count - now
