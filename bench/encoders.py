"""What each preset of the H.264 encoder takes and leaves, of an avatar's own pictures.

    python -m bench.encoders avatars/me speech.wav --size 512

For each preset: milliseconds of all cores a frame in `VideoWriter`, RGB to the file's colours included; bytes
of a frame; and the PSNR of what is read back to what was drawn. Presets take turns, and times are medians.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nldf_engine.base.memory import keep_freed_memory
from nldf_engine.engine import Engine
from nldf_engine.media.video import VideoWriter, frames_at
from nldf_engine.media.video_writer import PRESETS

ROUNDS = 5


@dataclass(frozen=True)
class Encoded:
    """What a preset made of frames.

    Args:
        milliseconds: of all cores a frame.
        size: bytes a frame.
        psnr: dB, of all frames' mean squared error.
    """

    milliseconds: float
    size: float
    psnr: float


def encode(frames: np.ndarray, path: Path, preset: str) -> float:
    """Writes frames uint8 [T, H, W, 3] to a file; the seconds of all cores that it took."""
    began = time.process_time()
    with VideoWriter(path, frames.shape[2], frames.shape[1], preset=preset) as writer:
        for frame in frames:
            writer.write(frame)
    return time.process_time() - began


def measure(frames: np.ndarray, presets: Sequence[str] = PRESETS, rounds: int = ROUNDS) -> dict[str, Encoded]:
    """What presets make of frames uint8 [T, H, W, 3]."""
    seconds: dict[str, list[float]] = {preset: [] for preset in presets}
    with tempfile.TemporaryDirectory() as folder:
        paths = {preset: Path(folder) / f"{preset}.mp4" for preset in presets}
        for _ in range(rounds):
            for preset in presets:
                seconds[preset].append(encode(frames, paths[preset], preset))
        found = {}
        for preset, path in paths.items():
            pairs = zip(frames_at(path, None), frames, strict=True)
            error = np.mean([np.square(read.astype(np.float32) - drawn).mean() for read, drawn in pairs])
            psnr = math.inf if error == 0 else 10 * math.log10(255**2 / error)
            took = 1000 * statistics.median(seconds[preset]) / len(frames)
            found[preset] = Encoded(took, path.stat().st_size / len(frames), psnr)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see the module."""
    parser = argparse.ArgumentParser("python -m bench.encoders", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("avatar", metavar="AVATAR", type=Path, help="folder written by nldf train")
    parser.add_argument("sound", metavar="SOUND", type=Path, help="what is said")
    parser.add_argument("--size", metavar="N", type=int, help="width of the frames (the avatar's)")
    parser.add_argument("--frames", metavar="N", type=int, default=150, help="how many (150)")
    given = parser.parse_args(arguments)
    if given.frames < 1:
        parser.error(f"--frames must be at least 1; it is {given.frames}")
    keep_freed_memory()
    clip = Engine.load(given.avatar).render(given.sound, size=given.size)
    frames = np.asarray(clip.frames[: given.frames])
    _, height, width, _ = frames.shape
    print(f"{len(frames)} frames of {width} x {height}, crf 16, medians of {ROUNDS} rounds")
    for preset, made in measure(frames).items():
        print(f"  {preset:<10} {made.milliseconds:6.2f} ms  {made.size:7.0f} bytes  {made.psnr:6.2f} dB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
