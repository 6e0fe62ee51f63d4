"""Which part of a microphone's sound is a voice: the rest is the room, and lips must not follow it."""

from __future__ import annotations

import numpy as np

# A block of sound is a voice where it is so much louder than the room, and at least so loud at all (dB of
# full scale). The room is what is quiet in the last seconds; words are never without a pause for so long.
OVER_ROOM_DB, QUIETEST_DB = 9.0, -55.0
QUIET_SHARE = 0.05
ROOM_SECONDS = 3.0
# What follows a voice belongs to it for a while: the ends of words are quiet.
HOLD_SECONDS = 0.2
BLOCK_SECONDS = 0.01
SILENT_DB = -120.0


class VoiceGate:
    """Lets a voice pass and replaces what is between by silence; block by block, without delay.

    Args:
        rate: samples a second.
    """

    def __init__(self, rate: int) -> None:
        self._block = max(1, round(rate * BLOCK_SECONDS))
        self._recent = np.full(round(ROOM_SECONDS / BLOCK_SECONDS), SILENT_DB)
        self._count = 0
        self._held = 0

    def __call__(self, mono: np.ndarray) -> np.ndarray:
        """Samples [n] float32 with zeros in the place of those that are no voice."""
        kept = mono.copy()
        for first in range(0, len(mono), self._block):
            piece = mono[first : first + self._block]
            if not self._passes(piece):
                kept[first : first + self._block] = 0
        return kept

    def _passes(self, piece: np.ndarray) -> bool:
        power = float(np.square(piece, dtype=np.float64).mean())
        level = max(SILENT_DB, 10 * np.log10(power + 1e-12))
        if np.count_nonzero(piece) > 0.9 * len(piece):  # silence that fills a gap says nothing of the room
            self._recent[self._count % len(self._recent)] = level
            self._count += 1
        known = np.sort(self._recent[: min(self._count, len(self._recent))])
        room = float(known[int(QUIET_SHARE * len(known))]) if len(known) else SILENT_DB
        if level > max(QUIETEST_DB, room + OVER_ROOM_DB):
            self._held = round(HOLD_SECONDS / BLOCK_SECONDS)
            return True
        self._held = max(0, self._held - 1)
        return self._held > 0
