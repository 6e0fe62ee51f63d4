"""Frames while the sound is still arriving: python examples/stream.py avatars/me speech.wav

A wav file stands in for a microphone: it is read 20 ms at a time, as fast as frames are taken.
"""

import sys
import time
from collections.abc import Iterator

import numpy as np

from nldf_engine import Engine
from nldf_engine.audio import SAMPLE_RATE, load_audio


def microphone(path: str, seconds: float = 0.02) -> Iterator[np.ndarray]:
    """The sound of a file, in pieces of `seconds`."""
    samples, step = load_audio(path), round(seconds * SAMPLE_RATE)
    for first in range(0, len(samples), step):
        yield samples[first : first + step]


def main(avatar: str, audio: str) -> None:
    """Renders as the pieces come, and prints how far behind the sound and how fast."""
    engine = Engine.load(avatar)
    print(f"a frame needs the sound up to {1000 * engine.latency:.0f} ms behind its moment")
    spent = []
    with engine.stream(microphone(audio)) as frames:
        start = time.perf_counter()
        for frame in frames:
            now = time.perf_counter()
            spent.append(now - start)
            if frames.number % 25 == 0:
                print(f"{frames.time:6.2f} s: frame {frames.number}, {frame.shape[1]}x{frame.shape[0]}")
            start = now
    usual, slow = np.percentile(spent[1:] or spent, [50, 95])
    print(
        f"{len(spent)} frames, {len(spent) / sum(spent):.1f} frames/s; "
        f"{1000 * usual:.1f} ms a frame, 95 % within {1000 * slow:.1f} ms, the first {1000 * spent[0]:.0f} ms"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
