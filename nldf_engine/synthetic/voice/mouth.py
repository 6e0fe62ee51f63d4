"""Mouth curves from a phoneme timeline, with co-articulation.

Every sound pulls jaw and lips towards its targets with a strength that fades before and after it; the
mouth is at the weighted mean. Closures (b, p, m, f, v, silence) are laid over it, so that they are reached.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nldf_engine.synthetic.shapes import smoothstep
from nldf_engine.synthetic.voice.phonemes import PHONEMES, SILENCE

REACH = 0.052  # seconds over which a sound's pull falls by e
LOOK = 0.8  # seconds beyond which it is left out
CLOSING, OPENING = 0.060, 0.050  # seconds before and after a closure
SETTLE = 0.09  # seconds into a silence after which the lips have met
CHUNK = 250


def mouth_curves(phonemes: Sequence[tuple[str, float, float]], times: np.ndarray) -> np.ndarray:
    """float32 [T, 4] in 0..1: jaw_open, lip_width, lip_round, lip_close.

    Args:
        phonemes: (name, start, end) in seconds.
        times: [T] seconds, ascending.
    """
    start = np.array([p[1] for p in phonemes])
    end = np.array([p[2] for p in phonemes])
    sounds = [PHONEMES[p[0]] for p in phonemes]
    target = np.array([s.mouth for s in sounds])
    grip = np.array([s.grip for s in sounds])
    close = np.array([s.close for s in sounds])
    quiet = np.array([p[0] == SILENCE for p in phonemes])
    # A silence closes the lips a little after it begins and lets go just before it ends.
    before_it = np.concatenate([[1.0], close[:-1]]) == 1  # nothing opens between two closures
    after_it = np.concatenate([close[1:], [1.0]]) == 1
    shut_from = np.where(quiet & ~before_it, np.minimum(start + SETTLE, (start + end) / 2), start)
    shut_to = np.where(quiet & ~after_it, np.maximum(end - CLOSING, (start + end) / 2), end)
    opens = np.where(quiet, SETTLE, CLOSING)
    made = np.zeros((len(times), 4))
    for first in range(0, len(times), CHUNK):
        t = times[first : first + CHUNK, None]
        near = np.flatnonzero((end > t[0] - LOOK) & (start < t[-1] + LOOK))
        away = np.maximum(np.maximum(start[near] - t, t - end[near]), 0)
        inside = np.minimum(t - start[near], end[near] - t)
        # At its edges a sound holds the mouth less than at its middle.
        firm = 0.45 + 0.55 * smoothstep(0.0, 0.035, inside)
        pull = grip[near] * np.where(inside >= 0, firm, 0.45 * np.exp(-away / REACH))
        made[first : first + CHUNK, :3] = pull @ target[near] / (pull.sum(1, keepdims=True) + 1e-9)
        before, after = shut_from[near] - t, t - shut_to[near]
        ramp = smoothstep(1, 0, before / opens[near]) * smoothstep(1, 0, after / OPENING)
        made[first : first + CHUNK, 3] = (close[near] * ramp).max(1)
    return np.clip(made, 0, 1).astype(np.float32)
