"""Opening any file of sound or pictures, and reading its sound."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from nldf_engine.base.errors import FileProblem

LARGEST_LOSS = 0.05  # share of packets that may fail to decode
COVER = 0x400  # FFmpeg's flag of a still picture beside the sound
GROWTH = 1 << 20  # samples by which a sound that is being read grows at least
SOUND_AGAIN = "record or export the sound again (WAV is a safe choice)"
RECORD_AGAIN = "record or export the video again (MP4 with H.264 is a safe choice)"


def check_file(path: str | Path, remedy: str = RECORD_AGAIN) -> Path:
    """`path` as a Path; FileProblem when it is missing, a folder, empty, or may not be read."""
    path = Path(path)
    if path.is_dir():
        raise FileProblem(path, "it is a folder, and a file was expected", "name a file in it")
    if not path.is_file():
        raise FileProblem(path, "there is no such file", "check the spelling of the path")
    if path.stat().st_size == 0:
        raise FileProblem(path, "it is empty (0 bytes)", remedy)
    if not os.access(path, os.R_OK):
        raise FileProblem(path, "it can't be read (no permission)", "give yourself the right to read it")
    return path


@contextlib.contextmanager
def opened(path: str | Path, remedy: str = RECORD_AGAIN) -> Iterator[Any]:
    """An av container for reading; FFmpeg's errors, also those inside the block, become FileProblem."""
    import av

    path = check_file(path, remedy)
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            yield container
    except av.error.FFmpegError as error:
        raise FileProblem(path, f"it can't be read as audio or video ({error.strerror})", remedy) from error


def read_audio_track(path: str | Path) -> tuple[np.ndarray, int]:
    """The sound of any audio or video file: (float32 [N, channels] in about [-1, 1], samples a second).

    Sample 0 is the moment of the first picture, where there is one: a track that begins later is padded
    with silence, one that begins earlier is cut.

    Raises:
        FileProblem: the file is missing or damaged, or has no sound.
    """
    import av

    path = Path(path)
    with opened(path, SOUND_AGAIN) as container:
        if not container.streams.audio:
            raise FileProblem(path, "it has no audio track", "give a file with sound, or add a track to it")
        stream = container.streams.audio[0]
        pictures = [s for s in container.streams.video if not int(s.disposition) & COVER]
        zero = Fraction(0)
        if pictures and pictures[0].start_time is not None:
            zero = pictures[0].start_time * Fraction(pictures[0].time_base)
        rate = stream.codec_context.sample_rate
        resampler, collected, begin = av.AudioResampler(format="fltp"), _Samples(path), None
        bad = packets = 0
        for packet in container.demux(stream):
            packets += 1
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                bad += 1
                continue
            for frame in frames:
                if begin is None:
                    begin = Fraction(frame.pts * frame.time_base) if frame.pts is not None else zero
                    rate = frame.sample_rate
                for piece in resampler.resample(frame):
                    collected.add(piece.to_ndarray())
        if not collected.count or bad > max(2, LARGEST_LOSS * packets):
            raise FileProblem(path, f"{bad} of the {packets} packets of its sound are damaged", SOUND_AGAIN)
    samples = collected.take()
    if pictures and begin is not None:
        shift = round(float(begin - zero) * rate)
        if shift > 0:
            samples = np.concatenate([np.zeros((shift, samples.shape[1]), np.float32), samples])
        elif shift < 0:
            samples = samples[-shift:]
    return np.ascontiguousarray(samples), int(rate)


class _Samples:
    """Samples of a sound that is being decoded, in one array that grows: an hour is held once, not twice.

    Args:
        path: the file, for errors.

    Attributes:
        count: samples so far.
    """

    def __init__(self, path: Path) -> None:
        self._path, self.count = path, 0
        self._held = np.empty((0, 0), np.float32)

    def add(self, piece: np.ndarray) -> None:
        """Appends a piece [channels, n]; what is no number becomes zero.

        Raises:
            FileProblem: it has another number of channels than the pieces before.
        """
        channels, more = piece.shape
        if not self.count:
            self._held = np.empty((GROWTH, channels), np.float32)
        if channels != self._held.shape[1]:
            changed = f"its sound changes from {self._held.shape[1]} channels to {channels} on the way"
            raise FileProblem(self._path, changed, SOUND_AGAIN)
        end = self.count + more
        if end > len(self._held):
            # Moves pages instead of copying them, where the array is large.
            self._held.resize((end + max(GROWTH, end // 8), channels), refcheck=False)
        self._held[self.count : end] = np.nan_to_num(piece.T, copy=False)
        self.count = end

    def take(self) -> np.ndarray:
        """[N, channels] float32 of all pieces."""
        self._held.resize((self.count, self._held.shape[1]), refcheck=False)
        return self._held
