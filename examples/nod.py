"""Poses of one's own: the head says yes. python examples/nod.py avatars/me speech.wav nod.mp4

A pose is camera-to-head [4, 4]: the head is fixed, and a head that tilts is a camera that moves the
other way about it.
"""

import sys

import numpy as np

from nldf_engine import Engine


def nod(still: np.ndarray, frames: int, degrees: float = 6.0, seconds: float = 1.2) -> np.ndarray:
    """[frames, 4, 4]: the pose `still` [4, 4], tilted about the head's x axis up and down."""
    angles = np.radians(degrees) * np.sin(2 * np.pi * np.arange(frames) / (25 * seconds))
    turns = np.tile(np.eye(4, dtype=np.float32), (frames, 1, 1))
    turns[:, 1, 1] = turns[:, 2, 2] = np.cos(angles)
    turns[:, 2, 1], turns[:, 1, 2] = np.sin(angles), -np.sin(angles)
    return turns @ still


def main(avatar: str, audio: str, out: str) -> None:
    """Renders the avatar nodding to `out`."""
    engine = Engine.load(avatar)
    frames = len(engine.render(audio))  # nothing is rendered before the frames are read
    still = engine.avatar.poses[0].numpy()
    engine.render(audio, nod(still, frames), background="#203040").save(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
